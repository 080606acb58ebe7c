"""Status lists say of what a stolen key signed what answers say, over a real PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.asking import Asked
from consumers.unproven import answer_unproven
from ledger import statuslist, times
from ledger.checkpoint_keys import TrustedKey
from ledger.errors import LedgerError
from ledger.event import parse_event
from ledger.note import MemorySigner
from ledger.postgres import following
from ledger.postgres.connection import connect
from ledger.postgres.doubt_reading import read_doubts
from ledger.postgres.reader import Reader
from ledger.postgres.store import read_genesis
from ledger.trust import Trust
from tests import world
from tests.stored_ledger import StoredLedger, damage

from .test_following import SIGNER, Machine
from .test_registry_acts import NEW, OWNER, STOLEN, correction, send

VALID, INVALID, UNDECIDED = statuslist.VALID, statuslist.INVALID, statuslist.UNDECIDED


class Robbed(Machine):
    """A follower of a ledger in which a's key may be stolen."""

    def log(self, *lines: bytes, key: MemorySigner | None = None) -> int:
        """One bundle, published: the size of the log before it."""
        before = self.size()
        assert set(send(self.ledger, *lines, key=key)) == {"admitted"}
        self.ledger.checkpoint()
        return before

    def size(self) -> int:
        return int(self.ledger.rows("SELECT next_index FROM allocation")[0][0])

    def rotate(self) -> None:
        change = world.key_change(NEW, "bundle", "a")
        self.ledger.registrar.change(f"key/{NEW.key.key_id}", change, OWNER, NEW, STOLEN)

    def doubt(self, since: int, key: MemorySigner = STOLEN) -> None:
        change = world.key_change(key, "bundle", "a", since)
        self.ledger.registrar.change(f"key/{key.key.key_id}", change, OWNER)
        self.ledger.checkpoint()

    def said(self, *numbers: str) -> dict[str, dict[int, int]]:
        """What the lists say once they are made anew, which is what answers say; fsck is clean."""
        self.run(self.clock + 20 * times.SECOND)
        self.check()
        said = {number: self.statuses(number) for number in numbers}
        undecided = {
            number: {v: self.answer(number, v) == "cannot-decide" for v in versions}
            for number, versions in said.items()
        }
        assert undecided == {
            number: {v: value == UNDECIDED for v, value in versions.items()}
            for number, versions in said.items()
        }
        return said

    def answer(self, number: str, version: int) -> str:
        connection = connect(self.ledger.url, "test-reader")
        try:
            key = TrustedKey(world.CHECKPOINT.key, 0, None)
            genesis = read_genesis(connection)[1]
            trust = Trust(world.ORIGIN, genesis, (key,), operator=world.OPERATOR.key)
            with Reader(connection).open() as view:
                asked = [Asked(number, version=version)]
                (found,) = answer_unproven(view, asked, trust, self.ledger.now())
        finally:
            connection.close()
        assert not isinstance(found, LedgerError)
        return found.answer


@pytest.fixture
def machine(ledger: StoredLedger) -> Iterator[Robbed]:
    made = Robbed(ledger)
    yield made
    made.stop()


def test_lists_say_what_answers_say(machine: Robbed) -> None:
    event = machine.ledger.event
    machine.log(*machine.ledger.issued("early", "renewed", "ended"))
    lates = machine.ledger.issued("confirmed", "voided", "restated", "left")
    since = machine.log(*lates)
    machine.log(event("amended", "renewed"), event("revoked", "ended", revocation_kind="penalty"))
    numbers = ("early", "renewed", "ended", "confirmed", "voided", "restated", "left")
    before = machine.said(*numbers)
    assert before == {
        **{key: {1: VALID} for key in numbers},
        "renewed": {1: INVALID, 2: VALID},
        "ended": {1: INVALID},
    }
    places = machine.places()
    machine.rotate()
    machine.doubt(since)
    after = machine.said(*numbers)
    assert after == {
        **{key: {1: UNDECIDED} for key in numbers},
        "early": {1: VALID},
        "renewed": {1: UNDECIDED, 2: UNDECIDED},
    }
    (row,) = machine.ledger.rows("SELECT revocation, suspension, refresh FROM status_list")
    counts = [
        len(statuslist.parse_credential(data, purpose, world.ORIGIN, SIGNER.key)[2])
        for purpose, data in zip(statuslist.PURPOSES, row, strict=True)
    ]
    assert counts == [0, 7, 0]
    restating = event(
        "corrected",
        "restated",
        corrects=parse_event(lates[2], b"").id,
        correction="restate",
        valid_until="2036-12-31+08:00",
        reason_code="key-stolen",
    )
    machine.log(
        correction(machine.ledger, "confirmed", lates[0], "confirm"),
        correction(machine.ledger, "voided", lates[1], "void"),
        restating,
        key=NEW,
    )
    settled = {"confirmed": {1: VALID}, "voided": {1: INVALID}, "restated": {1: VALID}}
    assert machine.said(*numbers) == {**after, **settled}
    machine.stop()
    machine.start()
    assert machine.said(*numbers) == {**after, **settled}
    assert machine.places() == places


def test_what_is_rewound_is_decided_again(machine: Robbed) -> None:
    event = machine.ledger.event
    machine.log(*machine.ledger.issued("true", "other"))
    theft = event("amended", "true")
    since = machine.log(theft, *machine.ledger.issued("false"))
    machine.log(event("revoked", "true", revocation_kind="penalty"))
    numbers = ("true", "other", "false")
    assert machine.said(*numbers) == {
        "true": {1: INVALID, 2: INVALID},
        "other": {1: VALID},
        "false": {1: VALID},
    }
    machine.rotate()
    machine.doubt(since)
    assert machine.said("true")["true"] == {1: UNDECIDED, 2: UNDECIDED}
    machine.log(correction(machine.ledger, "true", theft, "rewind"), key=NEW)
    assert machine.said(*numbers) == {
        "true": {1: VALID, 2: INVALID},
        "other": {1: VALID},
        "false": {1: UNDECIDED},
    }


def test_a_doubt_begins_earlier_and_confirmations_become_doubtful(machine: Robbed) -> None:
    first = machine.log(*machine.ledger.issued("first"))
    lates = machine.ledger.issued("second")
    second = machine.log(*lates)
    machine.rotate()
    machine.doubt(second)
    assert machine.said("first", "second") == {"first": {1: VALID}, "second": {1: UNDECIDED}}
    confirmed = machine.log(
        correction(machine.ledger, "second", lates[0], "confirm"),
        *machine.ledger.issued("third"),
        key=NEW,
    )
    numbers = ("first", "second", "third")
    assert machine.said(*numbers) == {key: {1: VALID} for key in numbers}
    machine.doubt(first)
    assert machine.said(*numbers) == {
        **{key: {1: VALID} for key in numbers},
        "first": {1: UNDECIDED},
    }
    machine.doubt(confirmed, NEW)
    assert machine.said(*numbers) == {key: {1: UNDECIDED} for key in numbers}


def test_what_comes_by_time_alone_stays_undecided(machine: Robbed) -> None:
    until = times.format_moment(machine.clock + 40 * times.DAY)[:10] + "+08:00"
    since = machine.log(*machine.ledger.issued("late", valid_until=until))
    machine.log(machine.ledger.event("suspended", "late", valid_until=until, reason_code="why"))
    machine.run()
    machine.rotate()
    machine.doubt(since)
    now = machine.clock + 20 * times.SECOND
    for at in (now, times.day_end(until), now + 20 * times.SECOND):  # and back
        machine.run(at)
        machine.check()
        assert machine.statuses("late") == {1: UNDECIDED}


def robbed(machine: Robbed, count: int = 5) -> list[str]:
    """Certificates that were followed while they were valid; then their key is doubted twice."""
    numbers = [f"n{i}" for i in range(count)]
    sizes = [machine.log(*machine.ledger.issued(number)) for number in numbers]
    machine.log(machine.ledger.event("amended", numbers[-1]))
    assert machine.said(*numbers[:-1]) == {key: {1: VALID} for key in numbers[:-1]}
    machine.rotate()
    machine.doubt(sizes[2])
    machine.doubt(sizes[1])
    return numbers


def undecided(numbers: list[str]) -> dict[str, dict[int, int]]:
    said = {number: {1: UNDECIDED} for number in numbers}
    return {**said, numbers[0]: {1: VALID}, numbers[-1]: {1: UNDECIDED, 2: UNDECIDED}}


def test_no_list_is_signed_before_all_was_looked_at(
    machine: Robbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a new process after each step, and fsck has nothing to say after any."""
    monkeypatch.setattr(following, "DUE_AT_ONCE", 1)
    numbers = robbed(machine)
    machine.clock += 20 * times.SECOND
    (before,) = machine.made()
    marked = "SELECT count(*) FROM outlook WHERE due_at = -1"
    seen = set()
    while machine.follower.round():
        ((waiting,),) = machine.ledger.rows(marked)
        seen.add(waiting)
        assert machine.made() == [before]
        machine.check()
        machine.stop()
        machine.start()
    assert seen == {0, 1, 2, 3, 4}
    assert machine.said(*numbers) == undecided(numbers)


def test_a_position_between_two_doubts_is_known_again(
    machine: Robbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a key says what is doubted now, the log what was then."""
    monkeypatch.setattr(following, "ENTRIES_AT_ONCE", 1)
    numbers = robbed(machine)
    starts = []
    while machine.store.follow(machine.clock):
        assert machine.store._loaded is not None
        position = machine.store.position()
        with machine.connection, machine.connection.cursor() as cursor:
            read = read_doubts(cursor, world.ORIGIN, position)
        now = machine.store._loaded.doubts
        assert {key: span.start for key, span in read.items()} == {
            key: span.start for key, span in now.items()
        }
        starts.append([span.start for span in now.values()])
    assert [starts[0], *starts[-1]] == [[], min(s for found in starts for s in found)]
    assert len({tuple(found) for found in starts}) == 3
    assert machine.said(*numbers) == undecided(numbers)


def test_a_follower_that_is_behind_says_the_same(machine: Robbed) -> None:
    """Events and doubts in one batch: nothing is to be looked at anew."""
    machine.log(*machine.ledger.issued("early"))
    since = machine.log(*machine.ledger.issued("late"))
    machine.rotate()
    machine.doubt(since)
    assert machine.store.follow(machine.clock)
    assert not machine.store.overdue(machine.clock)
    assert machine.said("early", "late") == {"early": {1: VALID}, "late": {1: UNDECIDED}}


_CHILD = """
import os, signal, sys
from ledger.postgres import following
from ledger.postgres.connection import connect
from ledger.postgres.status_places import Places

url, clock, writes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
following.DUE_AT_ONCE = 1
store = following.Following(connect(url, "follower", writes=True), bytes(32))
assert store.lead()
real, left = Places.write_changes, [writes]

def write_changes(self, cursor):
    found = real(self, cursor)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

Places.write_changes = write_changes
while store.follow(clock) | store.overdue(clock):
    pass
"""


@pytest.mark.parametrize("writes", [1, 2, 4])
def test_a_killed_follower_goes_on(machine: Robbed, writes: int) -> None:
    numbers = robbed(machine)
    machine.stop()
    said = [machine.ledger.url, str(machine.clock), str(writes)]
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _CHILD, *said], cwd=root, timeout=120)
    assert done.returncode == -signal.SIGKILL
    machine.check()
    machine.start()
    assert machine.said(*numbers) == undecided(numbers)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "DELETE FROM status_change WHERE number = (SELECT max(number) FROM status_change)",
            "other things are remembered of its versions",
        ),
        (
            "UPDATE outlook SET due_at = -1 WHERE log_index = (SELECT min(log_index) FROM outlook)",
            "it is to be looked at anew, and no key is doubted",
        ),
        ("UPDATE status_list SET tree_size = tree_size - 1", "JWT: it states other things"),
    ],
)
def test_fsck_finds_what_is_said_in_spite_of_a_doubt(
    machine: Robbed, statement: str, message: str
) -> None:
    numbers = robbed(machine)
    assert machine.said(*numbers) == undecided(numbers)
    damage(machine.ledger.url, statement)
    assert message in [found for _, found in machine.found()]


def test_fsck_finds_a_list_without_the_doubt(machine: Robbed) -> None:
    """Signed as if nothing had been said of the key."""
    numbers = robbed(machine)
    while machine.store.follow(machine.clock):
        pass
    ((number, uri),) = machine.ledger.rows("SELECT list, uri FROM status_list")
    machine.store.make_list(number, uri, machine.clock, SIGNER)
    assert {kind for kind, _ in machine.found()} == {"status-list"}
    assert machine.said(*numbers) == undecided(numbers)
