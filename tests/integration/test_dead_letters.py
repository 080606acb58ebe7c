"""Dead letters of a running stack: listed, shown, explained, and sent again without doubling."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import build_parser
from deploy.dead_letter_commands import prospects_of
from deploy.environment import Environment
from ledger import times
from ledger.bundle import format_record, note_hash
from ledger.errors import Malformed, Refused
from ledger.registry import BUNDLE_ROLE
from tests import world
from tests.running_stack import Department, RunningStack, wait_until

SECOND = world.bundle_signer("a", "second")


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "a")
    stack.registrar.set_type(("a", world.ALL_ACTS, "own"))
    yield made
    made.close()


class Command:
    """`certledger dead-letter` on the stack, and what it prints as JSON."""

    def __init__(self, stack: RunningStack, capsys: pytest.CaptureFixture[str]) -> None:
        self._env, self._capsys = Environment(stack.data), capsys
        self.exit = 0

    def __call__(self, *argv: str) -> list[dict[str, Any]]:
        self._capsys.readouterr()
        args: Any = build_parser().parse_args(["dead-letter", *argv, "--json"])
        self.exit = int(args.run(args, self._env))
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


@pytest.fixture
def command(stack: RunningStack, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(stack, capsys)


def by_second_key(department: Department, lines: Sequence[bytes]) -> bytes:
    """The lane's next record, by a key that the registry does not know yet."""
    lane = department.lanes[0]
    header = lane.header(lines, time.time_ns() // 1000)
    lane.previous = note_hash(header.text())
    lane.sequence += 1
    return format_record(world.make_note(header, SECOND), lines)


def send_in_vain(stack: RunningStack, department: Department, *records: bytes | None) -> list[int]:
    """Send what becomes dead letters: their numbers."""
    last = [department.send(record).get(30) for record in records]
    found = []
    for place in last:
        statement = (
            "SELECT outbox_number FROM accounting WHERE partition = %s AND record_offset = %s"
        )
        taken = (statement, place.partition, place.offset)
        wait_until(lambda taken=taken: bool(stack.rows(*taken)))  # type: ignore[misc]
        found.append(stack.rows(*taken)[0][0])
    return found


def count_records(stack: RunningStack) -> int:
    return int(stack.rows("SELECT sum(next_offset) FROM intake")[0][0])


def test_a_bundle_by_an_unknown_key_is_logged_once(
    stack: RunningStack, department: Department, command: Command, tmp_path: Path
) -> None:
    department.publish_issued(2)
    department.settle()
    records = [
        by_second_key(department, [department.event("issued", f"replay-{n}")]) for n in (1, 2)
    ]
    numbers = send_in_vain(stack, department, *records, records[0])

    listed = command("list", "--code", "unknown-key", "--department", "a")
    assert [row["number"] for row in listed] == numbers
    assert listed[0]["note"]["department"] == "a"
    assert listed[0]["bytes"] == len(records[0])
    assert command("list", "--department", "b") == []

    (shown,) = command("show", str(numbers[0]), "-o", str(tmp_path / "record"))
    assert (tmp_path / "record").read_bytes() == records[0]
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o600
    assert shown["sha256"] == sha256(records[0]).hexdigest()
    assert "replay-1" not in json.dumps(shown), "lines are nobody's to read"

    (explained,) = command("explain", str(numbers[0]))
    assert explained["state"] == "mend"
    assert "certledger key add" in explained["todo"]
    assert [row["state"] for row in command("replay", "--all")] == ["mend", "mend", "mend"]
    assert command.exit == 1

    stack.registrar.change(
        f"key/{SECOND.key.key_id}",
        world.key_change(SECOND, BUNDLE_ROLE, "a"),
        world.registry_signer("a"),
        world.bundle_signer("a"),
        SECOND,
    )
    assert prospects_of(Environment(stack.data)) == {"ready": 2, "same": 1}
    before = count_records(stack)
    rehearsed = command("replay", "--code", "unknown-key", "--dry-run")
    assert [row["state"] for row in rehearsed] == ["ready", "same", "ready"]
    assert count_records(stack) == before
    done = command("replay", "--code", "unknown-key")
    assert command.exit == 0
    assert [row["outcome"] for row in done if "outcome" in row] == ["logged", "logged"]

    again = command("replay", "--all")
    assert command.exit == 0
    assert [row["state"] for row in again] == ["repeat"] * 3
    assert again[0]["entry"] is not None
    sent = command("replay", "--number", str(numbers[0]), "--repeats")
    assert [row.get("outcome") for row in sent] == [None, "repeat"]
    department.publish_issued(1)  # the lane goes on behind them
    department.settle()
    (logged,) = stack.rows("SELECT count(*) FROM accounting WHERE outcome = 'logged'")[0]
    assert logged == 4
    stack.check()


def test_what_can_never_become_an_entry_is_not_sent(
    stack: RunningStack, department: Department, command: Command
) -> None:
    begun = times.format_moment(time.time_ns() // 1000)
    early = world.Producer("z", 0, bytes(32), "7" * 32).make(
        [world.make_event("issued", "too-early", issuer="z")], time.time_ns() // 1000
    )
    huge = bytes(2_000_000)  # cut on its topic, whole in PostgreSQL
    numbers = send_in_vain(stack, department, b"no record at all", None, huge, early)
    wait_until(lambda: [row["number"] for row in command("list", "--since", begun)] == numbers)
    (shown,) = command("show", str(numbers[2]))
    assert shown["bytes"] == len(huge)
    assert shown["sha256"] == sha256(huge).hexdigest()
    states = {row["number"]: row["state"] for row in command("replay", "--since", begun)}
    assert states == dict.fromkeys(numbers, "never")
    assert command.exit == 1

    # What was signed before its lane was opened cannot name what opened it: sent again, it would
    # use up the lane's first number with all its events refused.
    stack.registrar.add_department("z")
    before = count_records(stack)
    (refused,) = command("replay", "--code", "unknown-department")
    assert refused["state"] == "never"
    assert "wrong-previous" in refused["words"]
    assert count_records(stack) == before
    assert command.exit == 1
    with pytest.raises(Refused, match="no dead letter"):
        command("show", "999999")
    with pytest.raises(Malformed, match="say which"):
        command("replay")
    stack.check()
