"""The SDK against real Kafka and the real admission rules: kills, take-overs, forgeries."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from ledger import event as events
from ledger import identity, keys, times, topics
from ledger.bundle import Header, format_record, parse_record
from ledger.checkpoint_keys import TrustedKey
from ledger.errors import Conflict, LedgerError, Malformed, Refused, Unavailable
from ledger.kafka_address import client_settings
from ledger.note import MemorySigner, sign
from producers import commands, town
from producers.config import PublisherConfig
from producers.link import Link
from producers.publisher import Publisher
from producers.relying import CASES, ReliedOn
from producers.spool import Spool
from tests.memory_view import check_log
from tests.mini_ledger import MiniLedger
from tests.producing import TestEnvironment, department_with_type, enrol_all
from tests.running_stack import wait_until
from tests.world import SERVICE, TYPE, Book

_ROOT = Path(__file__).parents[2]


@dataclass
class Place:
    """A department, the ledger it publishes to, and where its folder is."""

    kafka: str
    data: Path
    config: PublisherConfig
    ledger: MiniLedger

    def publisher(self, **options: Any) -> Publisher:
        """A publisher, without heartbeats unless they are asked for."""
        given = {"linger_seconds": 0.01, "heartbeat_seconds": math.inf, **options}
        return Publisher(self.config, self.kafka, **given)


@pytest.fixture
def place(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Place]:
    book = Book()
    config = department_with_type(book, tmp_path, lanes=2)
    with MiniLedger(kafka_bootstrap, book) as ledger:
        yield Place(kafka_bootstrap, tmp_path, config, ledger)
    check_log(ledger.view)


def test_an_office_says_on_what_it_relies(place: Place) -> None:
    book = place.ledger.book
    book.set_service(SERVICE, place.config.department)
    place.ledger.view.registry = book.registry
    place.ledger.view.status_times[10_000] = times.parse_moment("2026-06-01T00:00:00Z")
    with place.publisher() as office:
        assert issue(office, "1").result(60).code == "admitted"
        one = ReliedOn(TYPE, place.config.department, "1", 1)
        said: dict[str, Any] = {"tree_size": 10_001, "use_for": "licence", "clerk": "ann"}
        first = office.relied(SERVICE, "2026-1", [one], **said, change_id="1").result(60)
        assert first.code == "admitted"
        assert (
            office.relied(SERVICE, "2026-2", [one], **{**said, "tree_size": 9}).result(60).code
            == "unknown-checkpoint"
        )
        assert office.ended(SERVICE, "2026-1").result(60).code == "admitted"
        assert office.ended(SERVICE, "2026-1").result(60).code == "reliance-ended"
        assert office.ended(SERVICE, "2026-3").result(60).code == "unknown-case"
    kept = [json.loads(line) for line in (place.config.folder / CASES).read_bytes().splitlines()]
    assert [k["business_code"] for k in kept] == ["2026-1", "2026-2", *["2026-1"] * 2, "2026-3"]
    assert kept[0]["act"] == first.event_id
    acts = place.ledger.view.reliance_acts
    assert [a.item.kind for a in acts] == ["relied", "ended"]
    assert {a.item.case for a in acts} == {kept[0]["case"]}
    refused = (place.config.folder / "refused.ndjson").read_text().splitlines()
    assert [json.loads(line)["code"] for line in refused] == [
        "unknown-checkpoint",
        "reliance-ended",
        "unknown-case",
    ]


def issue(publisher: Publisher, number: str, **members: Any) -> Any:
    return publisher.issued(
        TYPE, number, change_id=f"issue {number}", time=datetime(2026, 3, 1, tzinfo=UTC), **members
    )


def test_every_typed_call_is_admitted(place: Place) -> None:
    with place.publisher() as p:
        first = p.issued(
            TYPE,
            "川A-1",
            valid_from=date(2026, 1, 1),
            valid_until=date(2030, 12, 31),
            holder=("001", "91510100MA61RQ5X0J"),
            claims={"name": "甲"},
            private={"owner": "王伟"},
            identifier=None,
            change_id="1",
        ).result(60)
        assert first.code == "admitted"
        calls = [
            p.suspended(TYPE, "川A-1", reason="inspection"),
            p.reinstated(TYPE, "川A-1"),
            p.amended(TYPE, "川A-1", claims={"name": "乙"}),
            p.renewed(TYPE, "川A-1", valid_until="open"),
            p.expired(TYPE, "川A-1"),
            p.corrected(
                TYPE,
                "川A-1",
                first.event_id,
                "restate",
                reason="typing-error",
                valid_from=date(2025, 12, 1),
            ),
            p.revoked(TYPE, "川A-1", "penalty", reason="grave-offence"),
            p.issued(TYPE, "川A-2", valid_from="unknown"),
            p.transferred_out(TYPE, "川A-2", "elsewhere"),
        ]
        assert not any(call.cancel() for call in calls)  # what was said is said
        assert [call.result(60).code for call in calls] == ["admitted"] * 9
        stranger = p.transferred_in(TYPE, "川A-2", issuer=place.config.department).result(60)
        assert stranger.code == "transfer-mismatch"
    refused = (place.config.folder / "refused.ndjson").read_text().splitlines()
    assert [json.loads(line)["code"] for line in refused] == ["transfer-mismatch"]


def test_days_carry_the_departments_offset_and_private_facts_do_not_travel(place: Place) -> None:
    with place.publisher() as p:
        p.issued(
            TYPE,
            "1",
            valid_from=date(2026, 1, 1),
            private={"owner": "王伟"},
            holder=("111", "11010519491231002X"),
            change_id="x",
        ).result(60)
    line = place.ledger.view.logged[0].opened.bundle.lines[0]
    data = json.loads(line)["data"]
    assert data["valid_from"] == "2026-01-01+08:00"
    assert "王伟" not in line.decode()
    assert "11010519491231002X" not in line.decode()
    path = place.config.folder / "disclosures.ndjson"
    assert path.stat().st_mode & 0o777 == 0o600
    shown = json.loads(path.read_text())
    commitment = events.make_commitment(bytes.fromhex(shown["salt"]), "owner", shown["value"])
    assert data["commitments"] == {"owner": commitment}


def test_what_can_be_no_line_is_refused_at_the_call(place: Place) -> None:
    with place.publisher() as p:
        with pytest.raises(Malformed, match="needs reason_code"):
            p.suspended(TYPE, "1")
        with pytest.raises(Malformed, match="needs its time zone"):
            p.issued(TYPE, "1", time=datetime(2026, 1, 1))
        with pytest.raises(Malformed, match="no day"):
            p.issued(TYPE, "1", valid_from="2026-02-30")
        with pytest.raises(Malformed) as caught:
            p.issued(TYPE, "1", claims={"text": "x" * 70_000})
        assert caught.value.code == "line-too-large"
    assert place.ledger.outcomes == []


def test_large_lines_close_bundles_by_size(place: Place) -> None:
    with place.publisher(linger_seconds=1.0) as p:
        calls = [p.issued(TYPE, f"{n}", claims={"text": "字" * 20_000}) for n in range(60)]
        assert {call.result(60).code for call in calls} == {"admitted"}
    assert len(place.ledger.view.logged) >= 4


def test_saying_it_again_is_a_repeat(place: Place) -> None:
    with place.publisher() as p:
        assert issue(p, "1").result(60).code == "admitted"
    with place.publisher() as p:
        receipt = issue(p, "1").result(60)
        assert (receipt.code, receipt.admitted) == ("repeat", True)


def test_heartbeats_keep_lanes_fresh(place: Place) -> None:
    with place.publisher(heartbeat_seconds=0.2):
        deadline = time.monotonic() + 60
        while len(place.ledger.view.logged) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    heartbeats = [bundle.opened.bundle.header for bundle in place.ledger.view.logged]
    assert {header.lane for header in heartbeats} == {0, 1}
    assert {header.count for header in heartbeats} == {0}


def test_a_lane_that_was_silent_for_long_is_heard_of_at_once(place: Place) -> None:
    """By default: whoever publishes once a day keeps all lanes fresh, not only those he uses."""
    with place.publisher(heartbeat_seconds=None):
        wait_until(lambda: len(place.ledger.view.logged) == 2)
    with place.publisher(heartbeat_seconds=None) as p:  # both have just been heard of
        issue(p, "1").result(60)
    headers = [bundle.opened.bundle.header for bundle in place.ledger.view.logged]
    assert sorted((header.lane, header.count) for header in headers[:2]) == [(0, 0), (1, 0)]
    assert [header.count for header in headers[2:]] == [1]


def test_heartbeats_are_a_quarter_of_the_declared_limit(place: Place) -> None:
    for limit, seconds in ((None, 300.0), (60, 15.0), (1, 0.25), (86_400, 300.0)):
        config = dataclasses.replace(place.config, silence_limit_seconds=limit)
        assert config.heartbeat_seconds == seconds
    config = dataclasses.replace(place.config, silence_limit_seconds=2)
    with Publisher(config, place.kafka, linger_seconds=0.01):
        wait_until(lambda: len(place.ledger.view.logged) >= 6)
    lanes = [bundle.opened.bundle.header.lane for bundle in place.ledger.view.logged]
    assert min(lanes.count(0), lanes.count(1)) >= 2


def test_an_unregistered_department_hears_why(place: Place, tmp_path: Path) -> None:
    stranger = department_with_type(Book(), tmp_path / "other")
    with pytest.raises(Unavailable, match="is the department registered"):
        Publisher(stranger, place.kafka, start_seconds=0.5)


def test_no_kafka_is_said_so(place: Place) -> None:
    with pytest.raises(Unavailable) as caught:
        Link("127.0.0.1:1")
    assert caught.value.code == "unreachable"


# --- kills ---------------------------------------------------------------------------------------

_CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from datetime import UTC, datetime
from pathlib import Path
from producers.config import load_publisher_config
from producers.link import Link
from producers.publisher import Publisher
from producers.spool import Spool

data, department, kafka, step = Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
done = 0
if step == "before-fsync":
    Spool._sync = lambda self: die()
elif step == "before-send":
    Link.send = lambda self, *args: die()
elif step == "after-send":
    real = Link.send
    def send(self, *args):
        real(self, *args)
        self.flush(10)
        die()
    Link.send = send
elif step == "before-release":
    Spool.release = lambda self, hashes: die()
publisher = Publisher(load_publisher_config(data, department), kafka, linger_seconds=0.05,
                      heartbeat_seconds=float("inf"))
calls = [
    publisher.issued(
        sys.argv[6], f"K{n}", change_id=f"issue K{n}", time=datetime(2026, 3, 1, tzinfo=UTC)
    )
    for n in range(20)
]
for call in calls:
    print(call.result(60).code, flush=True)
publisher.close()
"""


def run_child(place: Place, step: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            _CHILD,
            str(_ROOT),
            str(place.data),
            place.config.department,
            place.kafka,
            step,
            TYPE,
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize("step", ["before-fsync", "before-send", "after-send", "before-release"])
def test_a_killed_publisher_goes_on_where_it_was(place: Place, step: str) -> None:
    killed = run_child(place, step)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = run_child(place, "whole")
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == ["admitted"] * 20
    assert place.ledger.admitted() == 20
    outcomes = {done.outcome for done in place.ledger.outcomes}
    assert outcomes <= {"logged", "repeat"}
    assert "equivocation" not in outcomes


def test_what_an_earlier_process_spooled_resolves_by_itself(place: Place) -> None:
    assert run_child(place, "before-send").returncode == -signal.SIGKILL
    heard: list[str] = []
    with place.publisher(on_outcome=lambda results: heard.extend(r.code for r in results)) as p:
        assert p.wait(60)
    assert heard
    assert set(heard) == {"admitted"}
    assert place.ledger.admitted() == len(heard)


# --- the spool, other producers ------------------------------------------------------------------


def test_two_publishers_on_one_spool_are_refused(place: Place) -> None:
    with place.publisher(), pytest.raises(Conflict) as caught:
        place.publisher()
    assert caught.value.code == "spool-in-use"


def lose_spool(place: Place, name: str = "lost") -> Path:
    lost = place.config.folder / name
    (place.config.folder / "spool").rename(lost)
    return lost


def test_a_lost_spool_needs_a_take_over(place: Place) -> None:
    with place.publisher() as p:
        for call in [issue(p, f"{n}") for n in range(30)]:  # on both lanes
            call.result(60)
    lose_spool(place)
    with pytest.raises(Conflict, match="take it over") as caught:
        place.publisher()
    assert caught.value.code == "fenced"
    with place.publisher(take_over=True) as p:
        codes = [call.result(60).code for call in [issue(p, f"{n}") for n in range(35)]]
    assert codes == ["repeat"] * 30 + ["admitted"] * 5
    assert place.ledger.view.lanes[place.config.department, 0].epoch == 1


def test_an_older_copy_of_the_spool_is_not_gone_on_with(place: Place) -> None:
    import shutil

    with place.publisher() as p:
        for call in [issue(p, f"{n}") for n in range(30)]:
            call.result(60)
    shutil.copytree(place.config.folder / "spool", place.config.folder / "old")
    with place.publisher() as p:
        for call in [issue(p, f"{n}") for n in range(30, 60)]:
            call.result(60)
    shutil.rmtree(place.config.folder / "spool")
    (place.config.folder / "old").rename(place.config.folder / "spool")
    with pytest.raises(Conflict, match="older copy"):
        place.publisher()
    with place.publisher(take_over=True) as p:
        assert issue(p, "60").result(60).code == "admitted"
    assert "equivocation" not in {done.outcome for done in place.ledger.outcomes}


def test_a_take_over_fences_the_old_producer(place: Place) -> None:
    old = place.publisher()
    for call in [issue(old, f"{n}") for n in range(30)]:
        call.result(60)
    spool = old._spool.folder
    moved = spool.with_name("moved")
    spool.rename(moved)  # the old process goes on in its open files
    with place.publisher(take_over=True) as new:
        assert issue(new, "40").result(60).code == "admitted"
        late = [issue(old, f"late {n}") for n in range(8)]
        errors = [call.exception(20) for call in late]
        assert {getattr(err, "code", None) for err in errors} == {"fenced"}
        with pytest.raises(Conflict):
            issue(old, "more")
        with pytest.raises(Conflict):
            old.close()
        assert issue(new, "41").result(60).code == "admitted"
    # what it had spooled is not lost: a take-over with that spool bundles it again
    (place.config.folder / "spool").rename(place.config.folder / "newer")
    moved.rename(spool)
    with place.publisher(take_over=True) as p:
        assert p.wait(60)
    numbers = {event.number for b in place.ledger.view.logged for _, event in b.admitted()}
    assert {f"late {n}" for n in range(8)} & numbers
    assert "equivocation" not in {done.outcome for done in place.ledger.outcomes}


@pytest.mark.parametrize("lanes", [1, 3, 5])
def test_another_number_of_lanes(place: Place, lanes: int) -> None:
    """What had no receipt, logged or not, goes on on the new lanes, once and in its order."""
    ledger, department = place.ledger, place.config.department
    numbers = [f"川A-{n}" for n in range(12)]
    running = place.publisher()
    for number in numbers:
        issue(running, number)
    assert running.wait(60)
    ledger.mute.set()
    for number in numbers[:6]:
        running.suspended(TYPE, number, reason="x", change_id="s")
    end = time.monotonic() + 60
    while ledger.admitted() < 18:
        assert time.monotonic() < end
        time.sleep(0.05)
    ledger.deaf.set()
    time.sleep(0.3)  # the round that was under way is over
    for number in numbers:
        if number in numbers[:6]:
            running.reinstated(TYPE, number, change_id="r")
        running.amended(TYPE, number, change_id="a")
    running.flush(60)
    ledger.change_lanes(department, lanes, keys.load_key(place.config.folder / "registry.key"))
    ledger.mute.clear()
    ledger.deaf.clear()
    with pytest.raises(LedgerError, match="fenced"):
        running.wait(60)
    with pytest.raises(LedgerError, match="fenced"):
        running.close()
    if lanes > 2:
        with pytest.raises(Conflict, match=f"has {lanes} lanes, the settings of"):
            place.publisher(start_seconds=1)
    place.config = dataclasses.replace(place.config, lanes=lanes)
    with place.publisher() as p:
        assert p.wait(60)
        assert issue(p, "川A-99").result(60).code == "admitted"
    for number in numbers:
        key = identity.certificate_key(TYPE, department, number)
        kinds = [t.kind for t in ledger.view.histories[key]]
        more = ["suspended", "reinstated"] if number in numbers[:6] else []
        assert kinds == ["issued", *more, "amended"], number
    assert set(ledger.codes()) == {"admitted", "repeat"}
    assert ledger.codes().count("repeat") == 6
    assert ledger.admitted() == 12 + 6 + 6 + 12 + 1


def test_a_full_disk_rejects_and_recovers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Spool, frames: Any) -> list[int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with place.publisher() as p:
        issue(p, "1").result(60)
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "_append", full)
            with pytest.raises(Unavailable, match="No space left") as caught:
                issue(p, "2").result(60)
            assert caught.value.code == "spool-failed"
        assert issue(p, "2").result(60).code == "admitted"
    assert place.ledger.admitted() == 2


# --- what comes back -----------------------------------------------------------------------------


def forge(place: Place, record: bytes) -> bytes:
    """A copy of a record under another department's signature in the true key's name."""
    bundle = parse_record(record)
    forger = MemorySigner.from_seed(place.config.signer.key.name, secrets.token_bytes(32))

    class Liar:
        key = place.config.signer.key

        def sign(self, text: bytes) -> bytes:
            return forger.sign(text)

    return format_record(sign(bundle.note.text, [Liar()]), bundle.lines)


def test_a_forged_copy_does_not_stop_the_publisher(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer: Any = KafkaProducer(**client_settings(place.kafka))
    real = Link.send

    def forged_first(self: Link, department: str, lane: int, record: bytes, failed: Any) -> None:
        key = topics.lane_key(department, lane)
        producer.send(topics.EVENTS, key=key, value=forge(place, record)).get(60)
        real(self, department, lane, record, failed)

    monkeypatch.setattr(Link, "send", forged_first)
    with place.publisher(grace_seconds=3) as p:
        assert issue(p, "1").result(60).code == "admitted"
        time.sleep(3.5)
        assert issue(p, "2").result(60).code == "admitted"
    producer.close()
    assert "dead-letter" in {done.outcome for done in place.ledger.outcomes}


def test_a_bundle_that_is_refused_for_good_stops_the_publisher(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Link.send

    def forged(self: Link, department: str, lane: int, record: bytes, failed: Any) -> None:
        real(self, department, lane, forge(place, record), failed)

    monkeypatch.setattr(Link, "send", forged)
    p = place.publisher(grace_seconds=1)
    with pytest.raises(LedgerError) as caught:
        issue(p, "1").result(60)
    assert caught.value.code == "bad-signature"
    with pytest.raises(LedgerError):
        p.close()


def test_a_lost_record_is_sent_again_in_order(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Link.send
    lost: list[Header] = []

    def leaky(self: Link, department: str, lane: int, record: bytes, failed: Any) -> None:
        header = parse_record(record).header
        if header.sequence == 1 and header.lane not in [h.lane for h in lost]:
            lost.append(header)
        else:
            real(self, department, lane, record, failed)

    monkeypatch.setattr(Link, "send", leaky)
    with place.publisher(max_events=2) as p:
        calls = [issue(p, f"{n}") for n in range(40)]
        assert {call.result(60).code for call in calls} == {"admitted"}
    assert lost
    assert place.ledger.admitted() == 40
    assert "out-of-sequence" in {done.outcome for done in place.ledger.outcomes}


def test_a_muted_ledger_leaves_the_events_in_the_spool(place: Place) -> None:
    place.ledger.mute.set()
    p = place.publisher()
    call = issue(p, "1")
    with pytest.raises(Unavailable, match="have no receipt yet"):
        p.close(2)
    with pytest.raises(Unavailable):
        call.result(1)
    place.ledger.mute.clear()
    with place.publisher() as again:
        assert issue(again, "1").result(60).code == "admitted"
    assert [done.outcome for done in place.ledger.outcomes].count("logged") == 1


def test_receipts_of_another_ledger_prove_nothing(place: Place) -> None:
    other = MemorySigner.from_seed("ledger.example/certificates", bytes(32)).key
    config = dataclasses.replace(place.config, checkpoint_keys=(TrustedKey(other, 0, None),))
    p = Publisher(config, place.kafka, linger_seconds=0.01)
    call = issue(p, "1")
    with pytest.raises(Unavailable):
        p.close(3)
    with pytest.raises(Unavailable):
        call.result(0)
    assert place.ledger.admitted() == 1


# --- the commands --------------------------------------------------------------------------------


def run_command(env: TestEnvironment, capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers())
    parsed = parser.parse_args([*args, "--json"])
    code = parsed.run(parsed, env)
    return code, json.loads(capsys.readouterr().out)


def test_simulate_is_a_repeat_the_second_time(
    kafka_bootstrap: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    book = Book()
    enrol_all(book, tmp_path, town.departments(), town.types())
    env = TestEnvironment(tmp_path, kafka_bootstrap)
    with MiniLedger(kafka_bootstrap, book) as ledger:
        code, first = run_command(env, capsys, "simulate", "--events", "600", "--seed", "3")
        assert code == 0
        assert first["events"] == 600
        assert first["admitted"] + sum(first["refused"].values()) == 600
        assert 0 < sum(first["refused"].values()) < 30
        admitted = ledger.admitted()
        assert admitted == first["admitted"]
        _, second = run_command(env, capsys, "simulate", "--events", "600", "--seed", "3")
        assert {**second, "seconds": 0} == {**first, "seconds": 0}
        assert ledger.admitted() == admitted
    assert env.registered[: len(town.departments())] == [d["id"] for d in town.departments()]
    check_log(ledger.view)


_MAPPING = {
    "format": "certledger mapping v1",
    "name": "pharmacies",
    "time_zone": "Asia/Shanghai",
    "department": {"fixed": "PHARMACY"},
    "type": {"fixed": "pharmacy"},
    "number": {"columns": ["no"]},
    "time": {"column": "day", "calendar": ["iso", "yyyymmdd"]},
    "rules": [
        {
            "when": {"what": ["new"]},
            "event": "issued",
            "valid_from": {"column": "day", "calendar": ["iso", "yyyymmdd"]},
        },
        {"when": {"what": ["gone"]}, "event": "revoked", "revocation_kind": "deregistered"},
        {"when": {"what": ["held"]}, "event": "suspended", "reason_code": "x"},
    ],
    "departments": [{"id": "PHARMACY", "names": {"en": "Pharmacies"}}],
    "types": [
        {
            "code": "pharmacy",
            "names": {"en": "Pharmacy"},
            "grants": [{"departments": ["PHARMACY"], "acts": "all"}],
        }
    ],
}


@dataclass
class Import:
    env: TestEnvironment
    ledger: MiniLedger
    folder: Path
    mapping: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, path: Path, *options: str) -> Any:
        return run_command(
            self.env,
            self.capsys,
            "import",
            str(path),
            "--mapping",
            str(self.mapping),
            "--report-dir",
            str(self.folder),
            *options,
        )


@pytest.fixture
def pharmacies(
    kafka_bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Import]:
    department = f"p{secrets.token_hex(4)}"
    text = json.dumps(_MAPPING).replace("PHARMACY", department)
    mapping = tmp_path / "mapping.json"
    mapping.write_text(text)
    value = json.loads(text)
    book = Book()
    types = [
        {
            **kind,
            "grants": [{"department": department, "scope": "own", "acts": sorted(events.FIELDS)}],
        }
        for kind in value["types"]
    ]
    departments = [{"time_zone": "Asia/Shanghai", **d} for d in value["departments"]]
    enrol_all(book, tmp_path, departments, types)
    env = TestEnvironment(tmp_path, kafka_bootstrap)
    with MiniLedger(kafka_bootstrap, book) as ledger:
        yield Import(env, ledger, tmp_path, mapping, capsys)
    check_log(ledger.view)


def test_import_reports_and_its_leftovers_can_be_mended(pharmacies: Import) -> None:
    path = pharmacies.folder / "list.csv"
    path.write_text(
        "no,what,day\nA1,new,2020-01-01\nA2,new,2020-13-01\nA1,gone,2021-01-01\n"
        "A3,gone,2021-01-01\nA4,odd,2021-01-01\nA1,held,2021-02-01\nA9,new,2020-01-01\n"
        "A9,new,2020-01-01\n"
    )
    code, report = pharmacies.run(path, "--wait")
    assert code == 1
    assert (report["rows"], report["published"], report["unmapped"]) == (8, 6, 2)
    assert report["admitted"] == 3
    assert report["refused"] == {
        "already-issued": 1,
        "invalid-transition": 1,
        "not-issued": 1,
    }
    unmapped = pharmacies.folder / "list.unmapped.csv"
    lines = unmapped.read_text().splitlines()
    assert lines[0] == "line,occurrence,reason,no,what,day"
    assert lines[1].startswith("3,0,")
    assert "no day like" in lines[1]
    assert lines[2].startswith("6,0,")
    refused = (pharmacies.folder / "list.refused.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in refused] == ["line", "5", "7", "9"]
    assert "not-issued" in refused[1]

    code, same = pharmacies.run(path, "--wait")  # again: nothing is published, the same report
    assert {**same, "seconds": 0} == {**report, "seconds": 0}
    assert pharmacies.ledger.admitted() == 3

    mended = pharmacies.folder / "mended.csv"
    mended.write_text(unmapped.read_text().replace("2020-13-01", "20201201").replace("odd", "new"))
    code, report = pharmacies.run(mended, "--wait")
    assert code == 0
    assert (report["rows"], report["admitted"], report["unmapped"]) == (2, 2, 0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-12], "truncated or damaged"),
        (lambda data: b"no,what,day\n\xff\xfe,new,2020-01-01\n", "line 2: bytes"),
        (lambda data: b"no,what\nA1,new\n", "no column 'day'"),
        (lambda data: b"", "is empty"),
        (lambda data: b'no,what,day\n"A1,new,2020-01-01\n', "not CSV"),
    ],
)
def test_an_unreadable_file_publishes_nothing(
    pharmacies: Import, damage: Any, message: str
) -> None:
    import gzip

    rows = b"".join(b"A%d,new,2020-01-01\n" % n for n in range(3000))
    path = pharmacies.folder / "list.csv.gz"
    path.write_bytes(damage(gzip.compress(b"no,what,day\n" + rows)))
    with pytest.raises(Malformed, match=message):
        pharmacies.run(path, "--wait")
    assert pharmacies.ledger.outcomes == []


_IMPORTER = """
import argparse, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.producing import TestEnvironment
from producers import commands
parser = argparse.ArgumentParser()
commands.add_commands(parser.add_subparsers())
args = parser.parse_args(sys.argv[4:])
sys.exit(args.run(args, TestEnvironment(Path(sys.argv[2]), sys.argv[3])))
"""


def test_a_killed_import_goes_on_and_counts_the_same(pharmacies: Import) -> None:
    path = pharmacies.folder / "list.csv"
    rows = ["no,what,day"]
    for n in range(1500):
        # held while revoked is refused; said once more after a new issue it would be admitted
        rows += [f"B{n},held,2020-01-01", f"B{n},new,2020-01-02", f"B{n},held,2020-01-03"]
    path.write_text("\n".join(rows) + "\n")
    command = [
        sys.executable,
        "-c",
        _IMPORTER,
        str(_ROOT),
        str(pharmacies.env.data),
        pharmacies.env.kafka,
        "import",
        str(path),
        "--mapping",
        str(pharmacies.mapping),
        "--report-dir",
        str(pharmacies.folder),
        "--wait",
        "--json",
    ]
    for moment in (600, 1800, 3200):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while (
            sum(len(bundle.codes) for bundle in pharmacies.ledger.view.logged) < moment
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        process.kill()
        process.communicate()
    code, report = pharmacies.run(path, "--wait")
    assert code == 0
    assert report["published"] == 4500
    assert report["admitted"] == 3000
    assert report["refused"] == {"not-issued": 1500}
    assert pharmacies.ledger.admitted() == 3000


def test_publish_takes_lines_and_gives_refused_ones_back(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    env = TestEnvironment(place.data, place.kafka)
    base = {
        "department": place.config.department,
        "certificate_type_code": TYPE,
    }
    lines = [
        json.dumps({"event": "issued", "certificate_number": "1", **base}),
        json.dumps({"event": "suspended", "certificate_number": "2", "reason_code": "x", **base}),
        "{not json",
        json.dumps({"event": "issued", "certificate_number": "3", "surprise": 1, **base}),
    ]
    path = place.data / "day.ndjson"
    path.write_text("\n".join(lines) + "\n")
    code, report = run_command(env, capsys, "publish", str(path))
    assert code == 1
    assert (report["published"], report["admitted"], report["unusable"]) == (2, 1, 2)
    assert report["refused"] == {"not-issued": 1}
    code, again = run_command(env, capsys, "publish", str(path))
    assert {**again, "seconds": 0} == {**report, "seconds": 0}
    mended = place.data / "mended.ndjson"
    mended.write_text(
        (place.config.folder / "refused.ndjson")
        .read_text()
        .replace("suspended", "issued")
        .replace('"reason_code":"x"', '"claims":{"a":"b"}')
    )
    code, report = run_command(env, capsys, "publish", str(mended))
    assert (code, report["admitted"]) == (0, 1)


def test_an_unknown_department_stops_no_other_line(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"event": "issued", "certificate_type_code": TYPE}
    path = place.data / "two.ndjson"
    own = place.config.department
    path.write_text(
        json.dumps({**line, "certificate_number": "u1", "department": "nobody"})
        + "\n"
        + json.dumps({**line, "certificate_number": "u2", "department": own})
        + "\n"
    )
    code = run_command(TestEnvironment(place.data, place.kafka), capsys, "publish", str(path))
    assert code[0] == 1
    assert (code[1]["admitted"], code[1]["unusable"]) == (1, 1)


def test_a_row_of_an_unknown_department_is_put_aside(pharmacies: Import) -> None:
    value = json.loads(pharmacies.mapping.read_text())
    pharmacies.mapping.write_text(json.dumps({**value, "department": {"column": "by"}}))
    own = value["departments"][0]["id"]
    path = pharmacies.folder / "by.csv"
    path.write_text(f"no,what,day,by\nU1,new,2020-01-01,nobody\nU2,new,2020-01-01,{own}\n")
    code, report = pharmacies.run(path, "--wait")
    assert (code, report["admitted"], report["unmapped"]) == (1, 1, 1)
    assert "nobody" in (pharmacies.folder / "by.unmapped.csv").read_text()


def test_a_key_file_that_others_can_read_is_refused(place: Place) -> None:
    key = place.config.folder / "salt-1.key"
    key.chmod(0o644)
    env = TestEnvironment(place.data, place.kafka)
    with pytest.raises(Malformed, match="0644"):
        env.publisher_config(place.config.department)
    with pytest.raises(Refused, match="certledger department add"):
        env.publisher_config("nobody")
    (place.config.folder / "bundle.key").unlink()
    with pytest.raises(Malformed, match=r"bundle\.key cannot be read: No such file"):
        env.publisher_config(place.config.department)
