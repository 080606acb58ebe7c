"""The doctor's table: every finding can be found, and says what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import build_parser
from deploy.doctor import ADVICE, OpenTransaction, Seen, _last_words, examine, look
from deploy.environment import Environment
from ledger.errors import Malformed
from ledger.postgres.migrate import SchemaGap
from streams.disk import DEFAULT, parse_reserve

RUNBOOKS = Path(__file__).parents[2] / "deploy" / "runbooks"
LINE = "2026-11-26T02:53:12.101Z {} worker streams.app {}"


def report(**members: Any) -> dict[str, Any]:
    """Of a stack that is well."""
    program = {"pid": 7, "ready": True, "starts": 1, "last_exit": ""}
    return {
        "running": True,
        "data_dir": "town",
        "origin": "ledger.example",
        "programs": {"worker-1": program},
        "witnesses": [],
        "quorum": True,
        "lag": 0,
        "tree_size": 9,
        "signed_size": 9,
        "entries": 9,
        "receipts_sent": 9,
        "disk_full": None,
        "departments": [],
        **members,
    }


def ended(said: str, **members: Any) -> Seen:
    program = {"pid": None, "ready": False, "starts": 4, "last_exit": "it ended with exit code 70"}
    return Seen(report(programs={"worker-1": program | members}), said={"worker-1": said})


def stopped(code: str) -> Seen:
    return ended(LINE.format("CRITICAL", f"the worker stops: {code}: partition 0: want 5, got 9"))


def away(*servers: str, **members: Any) -> Seen:
    """A program ended for a server that it did not reach, and these servers are away."""
    said = "relaying-stops: unreachable: PostgreSQL: connection already closed"
    return replace(ended(said, **members), **{name: f"{name}: refused" for name in servers})


def silent(seconds: int) -> dict[str, Any]:
    return {
        "department": "a",
        "state": "silent too long",
        "silent_seconds": seconds,
        "silence_limit_seconds": 60,
    }


AWAY = [{"name": "w1", "problem": "does not answer"}]
CASES: dict[str, Seen] = {
    "stack-down": Seen(report(running=False)),
    "postgres-away": Seen(report(), postgres="PostgreSQL: refused"),
    "kafka-away": Seen(report(), kafka="Kafka: refused"),
    "disk-nearly-full": Seen(report(disk_full="1.9 of 30.0 GB are free at town")),
    "program-ends": ended("ValueError: what nobody expected"),
    "offset-jump": stopped("offset-jump"),
    "topic-changed": stopped("topic-changed"),
    "going-back": stopped("going-back"),
    "stored-bytes-damaged": stopped("stored-bytes-damaged"),
    "clock-behind": stopped("clock-behind"),
    "key-missing": stopped("key-missing"),
    "quorum-missing": Seen(report(quorum=False, witnesses=AWAY)),
    "witness-away": Seen(report(witnesses=AWAY)),
    "department-silent": Seen(report(departments=[silent(61)])),
    "dead-letters-mended": Seen(report(), prospects={"ready": 2, "never": 9, "repeat": 3}),
    "dead-letters-waiting": Seen(report(), prospects={"mend": 2}),
    "intake-behind": Seen(report(lag=10_000), taken=400),
    "intake-stands": Seen(report(lag=3), taken=0),
    "signing-stands": Seen(report(entries=12), signed=0),
    "receipts-stand": Seen(report(receipts_sent=7), told=0),
    "open-transaction": Seen(report(), transactions=[OpenTransaction(1, 50, 60)]),
    "key-files-open": Seen(report(), open_files=["keys/operator.key"]),
    "schema-older": Seen(report(), schema=SchemaGap(lacking=("13 outlooks",))),
    "schema-newer": Seen(report(), schema=SchemaGap(later=("14 later",), refused=("14 later",))),
}


def test_every_finding_has_a_case_here() -> None:
    assert CASES.keys() == ADVICE.keys()


@pytest.mark.parametrize("name", ADVICE)
def test_a_fault_is_found_and_nothing_else(name: str) -> None:
    (finding,) = examine(CASES[name])
    assert finding.name == name
    assert finding.detail
    members = finding.members()
    assert members["words"].endswith(".")
    assert members["todo"].endswith(".")
    runbook = ADVICE[name].runbook
    assert runbook is None or (RUNBOOKS / runbook).is_file()


def test_programs_that_end_for_a_server_that_is_away_are_no_findings() -> None:
    for servers in (["postgres"], ["kafka"], ["postgres", "kafka"]):
        assert [each.name for each in examine(away(*servers))] == [f"{n}-away" for n in servers]
    assert [each.name for each in examine(away())] == ["program-ends"]
    killed = away("postgres", last_exit="it was ended by SIGKILL")
    assert [each.name for each in examine(killed)] == ["postgres-away", "program-ends"]


WELL = {
    "nothing": Seen(report()),
    "a program that ended long ago": Seen(
        report(
            programs={
                "relay": {"pid": 7, "ready": True, "starts": 2, "last_exit": "it was ended by 9"}
            }
        ),
        ages={"relay": 60.0},
    ),
    "a short transaction": Seen(report(), transactions=[OpenTransaction(0, 1, 59)]),
    "settled dead letters": Seen(report(), prospects={"never": 5, "repeat": 2, "same": 1}),
    "some lag that shrinks": Seen(report(lag=9_999), taken=1),
    "entries that are being signed": Seen(report(entries=12), signed=2),
    "receipts under way": Seen(report(receipts_sent=7), told=1),
}


@pytest.mark.parametrize("name", WELL)
def test_what_is_well_is_no_finding(name: str) -> None:
    assert examine(WELL[name]) == []


def test_last_words(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    assert _last_words(path) == ""
    reason = LINE.format("WARNING", "clock-behind: the clock stands 9 s behind")
    noise = LINE.format("WARNING", "password in the clear") + "\n" + LINE.format("INFO", "starting")
    path.write_text(f"{LINE.format('ERROR', 'older')}\n{reason}\n{noise}\n+table+\n")
    assert _last_words(path) == reason
    value = {"event": "the-worker-stops", "error": "offset-jump: want 5, got 9"}
    structured = [
        json.dumps(
            {"time": "2026-11-26T02:53:12.101Z", "level": level, "program": "worker", **more}
        )
        for level, more in (
            ("CRITICAL", value),
            ("INFO", {"event": "Joined group"}),
            ("WARNING", {"event": "kafka", "message": "password in the clear"}),
        )
    ]
    path.write_text("\n".join([reason, *structured]))
    assert _last_words(path) == "the-worker-stops: offset-jump: want 5, got 9"
    value = {"event": "relaying-stops", "error": "unreachable: PostgreSQL: closed\n\tbefore that"}
    path.write_text(json.dumps({"level": "WARNING", **value}) + "\n")
    assert _last_words(path) == "relaying-stops: unreachable: PostgreSQL: closed before that"
    path.write_text(f"{reason}\n" + LINE.format("CRITICAL", "crashed ValueError ['x.py:1 f']"))
    assert _last_words(path).endswith("crashed ValueError ['x.py:1 f']")


def test_a_folder_where_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CERTLEDGER_POSTGRES", raising=False)
    env = Environment(tmp_path)
    assert [finding.name for finding in examine(look(env))] == ["stack-down"]
    args: Any = build_parser().parse_args(["doctor", "--json"])
    assert args.run(args, env) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["healthy"], said["findings"][0]["finding"]) == (False, "stack-down")


def test_the_reserve_is_a_share_and_a_size() -> None:
    reserve = parse_reserve(DEFAULT)
    assert reserve.is_reached(49, 1000)
    assert reserve.is_reached(1_999_999_999, 3_000_000_000)
    assert not reserve.is_reached(2_000_000_000, 40_000_000_000)
    for text in ("", "5%", "2GB", "5%,2", "105%,2GB", "5%,-1GB", "5%, 2GB"):
        with pytest.raises(Malformed):
            parse_reserve(text)
