"""How many records of a batch one turn takes."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.admission import MAX_FOLDED, open_record
from ledger.lifecycle import MAX_CORRECTABLE, MAX_TRANSITIONS
from ledger.postgres.store import Checked, Fetched
from ledger.reliance import MAX_CERTIFICATES
from streams.intake import MAX_EVENTS_PER_TURN, MAX_FOLDED_PER_TURN, turn_length
from tests import world
from tests.world import make_reliance


def checked(lines: Sequence[bytes]) -> Checked:
    book = world.Book()
    book.add_department("a")
    record = world.make_record(lines)
    return Checked(Fetched(0, 0, record), open_record(record, book.registry), 0)


def test_records_and_events_are_bounded() -> None:
    small = checked([b"x"])
    assert turn_length([small] * 5, 256) == 5
    assert turn_length([small] * 5, 1) == 1
    large = checked([b"x"] * 1000)
    assert turn_length([large] * 20, 256) == MAX_EVENTS_PER_TURN // 1000


def test_corrections_are_bounded_by_what_they_may_fold() -> None:
    words = {"corrects": "0" * 32, "correction": "void", "reason_code": "x"}
    many = MAX_FOLDED // MAX_CORRECTABLE + 1
    bundle = checked([world.make_event("corrected", f"{n}", **words) for n in range(many)])
    assert turn_length([bundle] * 9, 256) == MAX_FOLDED_PER_TURN // MAX_FOLDED
    few = checked([world.make_event("corrected", "1", **words)])
    assert turn_length([few] * 100, 256) == MAX_FOLDED_PER_TURN // MAX_TRANSITIONS


def test_reliances_are_bounded_by_what_they_may_fold() -> None:
    """Each certificate that a line names may have a history as long as one that is corrected."""
    numbers = [f"{n}" for n in range(MAX_CERTIFICATES)]
    many = MAX_FOLDED // MAX_CORRECTABLE // MAX_CERTIFICATES
    lines = [make_reliance("relied", f"{n}", *numbers, tree_size=8) for n in range(many)]
    assert turn_length([checked(lines)] * 9, 256) == MAX_FOLDED_PER_TURN // MAX_FOLDED
    small = checked([make_reliance("relied", "1", "1", tree_size=8), make_reliance("ended", "1")])
    assert turn_length([small] * 100, 256) == 100


def test_a_record_that_is_too_much_goes_alone() -> None:
    words = {"corrects": "0" * 32, "correction": "void", "reason_code": "x"}
    heavy = checked([world.make_event("corrected", f"{n}", **words) for n in range(1500)])
    assert turn_length([heavy], 256) == 1
    dead = Checked(Fetched(0, 0, b""), open_record(b"", world.Book().registry), 0)
    assert turn_length([dead, heavy], 256) == 2
