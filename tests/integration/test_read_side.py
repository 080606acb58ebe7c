"""The read side over a real PostgreSQL: look-ups, answers, evidence files, damage, publication."""

from __future__ import annotations

import json
import shutil
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from consumers import commands, offline
from consumers.verifier import load_trust
from ledger import canonical, identity, proving, times
from ledger.checking import check
from ledger.errors import Malformed, ProofError, Unavailable
from ledger.evidence import Evidence
from ledger.postgres.maps import Maps
from ledger.postgres.migrate import migrate
from ledger.postgres.pool import Pool
from ledger.postgres.reader import Reader, View, neighbours
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Fetched, Store, create_ledger
from ledger.question import Question
from ledger.trust import Trust, TrustedKey, format_trust
from tests import world
from tests.stored_ledger import publish, sequence

TOPIC = "R" * 22
OTHER_TYPE = "11100000000013338W032"
TIME = "2026-03-01T08:00:00+08:00"
NUMBER = "衛部粧廣字10507075"


class StoredLedger:
    """A small ledger through the real store and the sequencer's steps, one department `a`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.connection = psycopg2.connect(url)
        migrate(self.connection)
        keys = (str(world.CHECKPOINT.key), str(world.OPERATOR.key))
        genesis = create_ledger(self.connection, world.ORIGIN, *keys)
        self.store = Store(self.connection)
        self.sequencing = Sequencing(self.connection)
        self.store.offsets(TOPIC, [0])
        self.offset = 0
        self.book = world.Book()
        self.book.add_department("a", 1)
        grants = [("a", world.ALL_ACTS, "own")]
        self.book.set_type(grants)
        self.book.set_type(grants, OTHER_TYPE)
        for note in self.book.notes:
            assert self.store.change_registry(note) is not None
        previous = self.one("SELECT previous FROM lane")
        self.producer = world.Producer("a", 0, bytes(previous), "f" * 32)
        self.trust_file = folder / "trust.json"
        trusted = TrustedKey(world.CHECKPOINT.key, 0, None)
        trust = Trust(world.ORIGIN, genesis, (trusted,), operator=world.OPERATOR.key)
        self.trust_file.write_bytes(format_trust(trust))

    def one(self, statement: str) -> Any:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement)
            return (cursor.fetchone() or (None,))[0]

    def admit(self, *lines: bytes) -> None:
        record = self.producer.make(lines, self.one("SELECT microseconds_now()"))
        checked = self.store.open(Fetched(0, self.offset, record))
        self.offset += 1
        applied = self.store.apply(TOPIC, [checked])
        assert applied.admitted == len(lines), applied

    def publish(self, with_maps: bool = True) -> int:
        maps = Maps.load(self.sequencing.connection) if with_maps else None
        head = sequence(self.sequencing, maps)
        assert head is not None
        publish(self.sequencing, head)
        return head.size

    def damage(self, statement: str) -> None:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(statement)
            assert cursor.rowcount >= 1


@dataclass
class Env:
    postgres_url: str
    trust: Path


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[StoredLedger]:
    made = StoredLedger(database_url, tmp_path)
    made.admit(
        *(world.make_event("issued", f"filler {n}", time=TIME) for n in range(300)),
        world.make_event(
            "issued",
            NUMBER,
            time=TIME,
            valid_from="2016-01-01+08:00",
            valid_until="2016-12-31+08:00",
        ),
        world.make_event("issued", "20230000403", time=TIME),
        world.make_event("issued", "TWIN", time=TIME),
        world.make_event("issued", "TWIN", time=TIME, type_code=OTHER_TYPE),
    )
    made.publish()
    yield made
    made.connection.close()


def run(ledger: StoredLedger, *argv: str) -> int:
    parser = ArgumentParser()
    commands.add_commands(parser.add_subparsers(dest="command", required=True))
    args = parser.parse_args(argv)
    code: int = args.run(args, Env(ledger.url, ledger.trust_file))
    return code


def ask(ledger: StoredLedger, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any]:
    code = run(ledger, *argv, "--json")
    return code, json.loads(capsys.readouterr().out)


def test_an_expired_certificate_was_valid_on_its_days(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    code, value = ask(ledger, capsys, "verify", NUMBER)
    assert (code, value["answer"], value["reason"]) == (1, "not-valid", "expired")
    assert value["since"] == "2016-12-31T16:00:00Z"
    code, value = ask(ledger, capsys, "verify", NUMBER, "--at", "2016-12-01")
    assert (code, value["answer"], value["at"]) == (0, "valid", "2016-11-30T16:00:00Z")
    code, value = ask(ledger, capsys, "verify", NUMBER, "--at", "2015-12-31")
    assert (code, value["reason"]) == (1, "not-yet-valid")


def test_words_go_to_stderr(ledger: StoredLedger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ledger, "verify", f"  {NUMBER} ", "--at", "2016-12-01") == 0
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith(f"VALID 有效  {NUMBER}")


def test_not_found_names_near_numbers(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    code, value = ask(ledger, capsys, "verify", NUMBER[:-1] + "6")
    assert (code, value["answer"]) == (3, "not-found")
    assert [near["number"] for near in value["near_misses"]] == [NUMBER]
    code, value = ask(ledger, capsys, "verify", "no such thing")
    assert (code, value["answer"], value.get("near_misses")) == (3, "not-found", None)
    assert [c["result"] for c in value["checks"]][3:6] == ["passed"] * 3


def test_identifiers_are_looked_up_and_mended(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer = world.department_change("a")["authority_code"]
    identifier = str(identity.Identifier(world.TYPE, issuer, "20230000403", 1))
    assert ask(ledger, capsys, "verify", identifier)[0] == 0
    full_width = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in identifier)
    assert ask(ledger, capsys, "verify", full_width)[0] == 0
    wrong = identifier[:-1] + ("A" if identifier[-1] != "A" else "B")
    code, value = ask(ledger, capsys, "verify", wrong)
    assert (code, value["near_misses"][0]["number"]) == (3, identifier)
    assert f"{identifier[-1]} expected" in value["near_misses"][0]["why"]


def test_several_matches_are_listed(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    code, value = ask(ledger, capsys, "verify", "TWIN")
    assert (code, value["answer"], value["reason"]) == (4, "cannot-decide", "ambiguous")
    assert {m["type"] for m in value["matches"]} == {world.TYPE, OTHER_TYPE}
    assert ask(ledger, capsys, "verify", "TWIN", "--type", OTHER_TYPE)[0] == 0
    assert ask(ledger, capsys, "history", "TWIN")[0] == 4


def test_evidence_is_checked_in_another_folder(
    ledger: StoredLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one.evidence.json"
    assert run(ledger, "evidence", NUMBER, "-o", str(file), "--at", "2016-12-01") == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(file, elsewhere)
    shutil.copy(ledger.trust_file, elsewhere)
    capsys.readouterr()
    assert offline.main([str(elsewhere / file.name), "--json", "--as-asked"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "valid"
    assert run(ledger, "verify", str(file), "--at", "2016-12-01") == 0
    assert run(ledger, "verify", str(file)) == 1  # of now nothing was asked when it was made
    assert run(ledger, "verify", str(file), "--type", "another") == 4
    with pytest.raises(Malformed, match="for evidence files"):
        run(ledger, "verify", NUMBER, "--as-asked")
    assert file.stat().st_size < 10_000
    forged = file.read_bytes().replace(b"2016-12-31", b"2036-12-31")
    file.write_bytes(forged)
    assert run(ledger, "verify", str(file)) == 4


def test_absence_is_proven_and_kept_as_a_file(
    ledger: StoredLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, value = ask(ledger, capsys, "verify", "no such thing")
    assert (code, value["checks"][4]["result"]) == (3, "passed")
    assert "under 2 types and issuers" in value["why"]
    assert value["certificate"]["type"] is None
    file = tmp_path / "none.evidence.json"
    named = ("no such thing", "--type", world.TYPE, "--issuer", "a")
    assert run(ledger, "evidence", "no such thing", "-o", str(file)) == 3
    assert not file.exists()
    assert run(ledger, "evidence", *named, "-o", str(file)) == 0
    capsys.readouterr()
    assert offline.main([str(file), "--trust", str(ledger.trust_file), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["answer"], told["certificate"]["issuer"]) == ("not-found", "a")
    assert ask(ledger, capsys, "verify", *named, "--at", "2016-12-01")[0] == 3
    assert run(ledger, "verify", "no such thing", "--issuer", "nobody") == 3
    assert run(ledger, "verify", "no such thing", "--type", "T", "--issuer", "nobody") == 3
    assert run(ledger, "verify", NUMBER, "--issuer", "nobody") == 3
    ledger.admit(world.make_event("issued", "no such thing", time=TIME))
    assert ask(ledger, capsys, "verify", *named)[0] == 3  # not published yet
    ledger.publish()
    assert ask(ledger, capsys, "verify", *named)[0] == 0
    assert run(ledger, "verify", str(file)) == 3  # as of its own checkpoint


@pytest.mark.parametrize("name", ["--type", "--issuer"])
def test_names_that_cannot_be_are_said_to_be_so(ledger: StoredLedger, name: str) -> None:
    for text in ("a b", "", "a" * 70_000, "\udcff"):
        with pytest.raises(Malformed):
            run(ledger, "verify", "no such thing", name, text)


def test_state_evidence_rests_on_the_last_maps(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    line = world.make_event("suspended", "20230000403", time=TIME, reason_code="x")
    ledger.admit(line)
    size = ledger.publish(with_maps=False)
    assert ask(ledger, capsys, "verify", "20230000403")[1]["tree_size"] < size
    ledger.admit()
    size = ledger.publish()
    value = ask(ledger, capsys, "verify", "20230000403")[1]
    assert (value["tree_size"], value["reason"]) == (size, "suspended")


def test_what_is_not_published_is_not_seen(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    line = world.make_event("suspended", "20230000403", time=TIME, reason_code="x")
    ledger.admit(line, world.make_event("issued", "newborn", time=TIME))
    assert ask(ledger, capsys, "verify", "20230000403")[1]["answer"] == "valid"
    assert ask(ledger, capsys, "verify", "newborn")[0] == 3
    ledger.publish()
    assert ask(ledger, capsys, "verify", "20230000403")[1]["reason"] == "suspended"
    assert ask(ledger, capsys, "verify", "newborn")[0] == 0


def test_known_at_an_earlier_checkpoint(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    then = times.format_moment(ledger.one("SELECT max(ledger_time) FROM status"))
    ledger.admit(world.make_event("suspended", "20230000403", time=TIME, reason_code="x"))
    ledger.publish()
    number = "20230000403"
    assert ask(ledger, capsys, "verify", number)[1]["reason"] == "suspended"
    assert ask(ledger, capsys, "verify", number, "--known-at", then)[1]["answer"] == "valid"
    code, value = ask(ledger, capsys, "verify", number, "--known-at", "2020-01-01")
    assert (code, value["reason"]) == (3, "not-known-then")
    assert run(ledger, "verify", number, "--at", "9999-12-31", "--known-at", "0001-01-01") == 3


def test_history_shows_both_times(ledger: StoredLedger, capsys: pytest.CaptureFixture[str]) -> None:
    line = world.make_event("suspended", "20230000403", time=TIME, reason_code="x")
    event_id = json.loads(line)["id"]
    ledger.admit(line)
    ledger.admit(
        world.make_event(
            "corrected",
            "20230000403",
            time=TIME,
            corrects=event_id,
            correction="void",
            reason_code="mistake",
        )
    )
    ledger.publish()
    code, value = ask(ledger, capsys, "history", "20230000403")
    assert code == 0
    told = value["events"]
    assert [e["event"] for e in told] == ["issued", "suspended", "corrected"]
    assert [e["voided"] for e in told] == [False, True, False]
    assert all(e["time"] == TIME and e["learned_at"] > "2026" for e in told)
    assert run(ledger, "history", "20230000403") == 0
    assert "VOIDED" in capsys.readouterr().out


def test_receipts_are_made_again(
    ledger: StoredLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, by_place = ask(ledger, capsys, "receipt", "a/0/0/0")
    assert (code, by_place["outcome"]) == (0, {"admitted": [0, 304]})
    event_id = json.loads(world.make_event("issued", "TWIN", time=TIME))["id"]
    for name in (str(by_place["log_index"]), event_id):
        assert ask(ledger, capsys, "receipt", name) == (0, by_place)
    assert run(ledger, "receipt", "a/0/0/0", "-o", str(tmp_path / "receipt.json")) == 0
    assert canonical.loads((tmp_path / "receipt.json").read_bytes())["entry"]


DAMAGE = {
    "an event line": "UPDATE lines SET data = set_byte(data, 40, get_byte(data, 40) # 1)",
    "an entry": "UPDATE entry SET data = set_byte(data, 90, get_byte(data, 90) # 1)"
    " WHERE log_index > 1",
    "a tile": "UPDATE tile SET data = set_byte(data, 8, get_byte(data, 8) # 1)",
    "a map's tile": "UPDATE map_tile SET data = set_byte(data, 8, get_byte(data, 8) # 1)"
    " WHERE kind = 'C'",
    "a current state": "UPDATE certificate SET state = set_byte(state, 3, 0)",
    "a history": "UPDATE certificate SET history = set_byte(history, 7, get_byte(history, 7) # 1)",
    "a history's order": "UPDATE certificate SET history = history || history",
    "a signer": "UPDATE signer SET department = department || 'x'",
    "a snapshot": "UPDATE registry_snapshot SET data = set_byte(data, 60, get_byte(data, 60) # 1)",
    "a checkpoint": "UPDATE checkpoint SET note = set_byte(note, 60, get_byte(note, 60) # 1)",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_storage_never_answers(
    ledger: StoredLedger, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.damage(DAMAGE[what])
    code, value = ask(ledger, capsys, "verify", NUMBER, "--at", "2016-12-01")
    assert (code, value["answer"]) == (4, "cannot-decide"), value
    assert value["reason"] in ("evidence-refused", "stored-bytes-damaged")


def test_an_unreachable_server_is_4(
    ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.url = "postgresql://nobody@127.0.0.1:1/none"
    code, value = ask(ledger, capsys, "verify", NUMBER)
    assert (code, value["answer"], value["reason"]) == (4, "cannot-decide", "unreachable")


def test_snapshots_are_pruned_and_the_published_one_stays(ledger: StoredLedger) -> None:
    for n in range(70):
        ledger.admit(world.make_event("issued", f"more {n}", time=TIME))
        ledger.publish()
    kept = ledger.one("SELECT count(*) FROM registry_snapshot")
    assert 64 <= kept <= 65
    assert ledger.one(
        "SELECT max(log_index) = (SELECT max(size) - 1 FROM checkpoint) FROM registry_snapshot"
    )


def test_readers_during_writes_always_answer(ledger: StoredLedger) -> None:
    """Lanes move with every bundle; the registry shown is that of the published checkpoint."""
    stop = threading.Event()
    wrong: list[str] = []
    asked = 0

    def read() -> None:
        nonlocal asked
        connection = psycopg2.connect(ledger.url)
        reader = Reader(connection)
        trust = load_trust(ledger.trust_file)
        while not stop.is_set():
            with reader.open() as view:
                found = view.find("20230000403").matches[0]
                evidence = view.evidence(found, Question(times.parse_moment(TIME)))
            moment = times.parse_moment(canonical.loads(evidence.status.data)["time"])
            answer = check(evidence, trust, moment)
            asked += 1
            if answer.answer != "valid":
                wrong.append(answer.why)
        connection.close()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(60):
        ledger.admit(world.make_event("issued", f"busy {n}", time=TIME))
        if n % 3 == 0:
            ledger.publish()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert asked > 3


def test_who_reads_a_database_that_was_not_migrated_hears_so(ledger: StoredLedger) -> None:
    pool = Pool(ledger.url, "test")
    for statement in ("ALTER TABLE lines RENAME groups TO of_later", "DROP TABLE lines CASCADE"):
        with ledger.connection, ledger.connection.cursor() as cursor:
            cursor.execute(statement)
        with pytest.raises(Unavailable, match="lacks what this version reads") as refused:
            pool.view(lambda view: view.evidence(view.find("20230000403").matches[0], Question(0)))
        assert refused.value.code == "not-initialised"
    pool.close()


def test_what_is_kept_in_the_process_hides_no_damage_and_follows_the_log(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence of many questions to one pool, as a server makes it: the log grows by whole tiles,
    and lines are damaged after their bundle's tree is known.
    """
    trust = load_trust(ledger.trust_file)
    pool = Pool(ledger.url, "test")
    monkeypatch.setattr(proving, "MOST_PATHS", 3)

    def verdict(number: str) -> str:
        def make(view: View) -> Evidence:
            (found,) = view.find(number).matches
            return view.evidence(found, Question(times.parse_moment(TIME)))

        evidence = pool.view(make)
        moment = times.parse_moment(canonical.loads(evidence.status.data)["time"])
        return check(evidence, trust, moment).answer

    numbers = ["20230000403", "filler 0", "filler 127", "filler 128", "filler 299"]
    for n in range(6):
        assert [verdict(number) for number in numbers] == ["valid"] * len(numbers)
        for m in range(50):
            ledger.admit(world.make_event("issued", f"more {n} {m}", time=TIME))
        ledger.publish()
        numbers.append(f"more {n} 7")
    ledger.damage("UPDATE lines SET data = set_byte(data, 40, get_byte(data, 40) # 1)")
    for number in numbers:
        with pytest.raises(ProofError, match="stored-bytes-damaged"):
            verdict(number)
    pool.close()


def test_neighbours_are_one_slip_away() -> None:
    assert {"A1", "1A", "B2", "A"} & neighbours("A2") == {"A1", "B2", "A"}
    assert "2A" in neighbours("A2")
    assert len(neighbours("A" * 64)) < 5000
