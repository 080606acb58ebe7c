"""Another number of lanes: no event is lost, doubled, reordered, or on two lanes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ledger import identity
from ledger.admission import FENCED, LOGGED, OUT_OF_SEQUENCE, REPEAT, Lane, begin_lanes
from ledger.bundle import MAX_EPOCH
from ledger.checking import check_file
from ledger.errors import LedgerError
from ledger.evidence import format_evidence
from ledger.note import MemorySigner
from ledger.registry import MAX_LANE_CHANGES, lanes_at
from ledger.verdict import Answer
from tests import world
from tests.ledger_builder import LedgerBuilder

OWNER, OPERATOR = world.registry_signer("a"), world.OPERATOR
NUMBERS = [f"N{n}" for n in range(24)]
DAYS = {"valid_from": "2026-02-01+08:00"}


def make_ledger(lanes: int) -> LedgerBuilder:
    ledger = LedgerBuilder({"a": lanes})
    for number in NUMBERS:
        ledger.admit("issued", number, **DAYS)
    return ledger


def change_lanes(ledger: LedgerBuilder, lanes: int, *signers: MemorySigner) -> int:
    signers = signers or (OWNER, OPERATOR)
    return ledger.change("department/a", world.department_change("a", lanes), *signers)


def ask(ledger: LedgerBuilder, number: str) -> Answer:
    data = format_evidence(ledger.evidence(number))
    return check_file(data, ledger.trust(), ledger.now)


def lane_of(number: str, lanes: int) -> int:
    return identity.lane_of(identity.certificate_key(world.TYPE, "a", number), lanes)


def heartbeat(ledger: LedgerBuilder, lanes: int) -> None:
    for lane in range(lanes):
        assert ledger.publish([], "a", lane).outcome == LOGGED


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (3, 2), (2, 3), (1, 1024), (5, 4)])
def test_certificates_go_on_on_their_new_lanes(before: int, after: int) -> None:
    ledger = make_ledger(before)
    index = change_lanes(ledger, after)
    for number in NUMBERS:
        if after < 8 or lane_of(number, after) < 64:
            ledger.admit("renewed", number, valid_until="2028-01-31+08:00")
    heartbeat(ledger, min(after, 8))
    value = ledger.book.registry.value("department/a")
    assert value is not None
    assert (value["lanes"], value["former_lanes"]) == (after, [{"lanes": before, "until": index}])
    assert (lanes_at(value, index - 1), lanes_at(value, index)) == (before, after)
    for number in NUMBERS[:8]:
        answer = ask(ledger, number)
        assert [c.result for c in answer.checks[:5]] == ["passed"] * 5, answer.why
        if after < 8:
            assert answer.answer == "valid"


def test_what_was_under_way_is_fenced_and_comes_again_on_the_new_lanes() -> None:
    ledger = make_ledger(4)
    number = next(n for n in NUMBERS if lane_of(n, 4) != lane_of(n, 3))
    old = lane_of(number, 4)
    producer = ledger.producers["a", old]
    lines = [
        ledger.event("suspended", number, reason_code="x"),
        ledger.event("reinstated", number),
        ledger.event("renewed", number),
    ]
    under_way = [producer.make([line], ledger.now) for line in lines]
    change_lanes(ledger, 3)
    assert [ledger.take(record).outcome for record in reversed(under_way)] == [FENCED] * 3
    done = ledger.publish(lines, "a", lane_of(number, 3))
    assert done.outcome == LOGGED
    assert ledger.view.logged[-1].codes == ("admitted",) * 3
    kinds = [
        t.kind for t in ledger.view.histories[identity.certificate_key(world.TYPE, "a", number)]
    ]
    assert kinds == ["issued", "suspended", "reinstated", "renewed"]
    assert [ledger.take(record).outcome for record in under_way] == [FENCED] * 3
    heartbeat(ledger, 3)
    assert ask(ledger, number).answer == "valid"


def test_events_by_the_old_number_are_on_the_wrong_lane() -> None:
    ledger = make_ledger(2)
    number = next(n for n in NUMBERS if lane_of(n, 2) != lane_of(n, 3))
    change_lanes(ledger, 3)
    ledger.publish([ledger.event("renewed", number)], "a", lane_of(number, 2))
    assert ledger.view.logged[-1].codes == ("wrong-lane",)


def test_what_was_logged_is_a_repeat_on_a_closed_lane_too() -> None:
    """Whoever lost the receipt sends it again, and is not told that it was refused."""
    ledger = LedgerBuilder({"a": 2})
    producer = world.Producer("a", 1, bytes(32), "f" * 32)
    number = next(n for n in NUMBERS if lane_of(n, 2) == 1)
    record = producer.make([ledger.event("issued", number)], ledger.now)
    index = ledger.take(record).index
    change_lanes(ledger, 1)
    done = ledger.take(record)
    assert (done.outcome, done.index) == (REPEAT, index)


def test_nothing_new_comes_through_a_closed_lane_until_it_is_opened_again() -> None:
    ledger = make_ledger(2)
    change_lanes(ledger, 1)
    closed = ledger.view.lanes["a", 1]
    assert (closed.epoch, closed.producer, closed.signed_at) == (1, None, "")
    for epoch in (1, 2):
        stray = world.Producer("a", 1, closed.previous, "e" * 32, epoch=epoch)
        done = ledger.take(stray.make([], ledger.now))
        assert (done.outcome, done.want_epoch) == (FENCED, None)
        assert done.message == "a has 1 lanes now, lane 1 is closed"
    assert ledger.publish([ledger.event("renewed", NUMBERS[0])], "a", 0).outcome == LOGGED
    change_lanes(ledger, 2)
    assert ledger.view.lanes["a", 1].epoch == 2
    assert ledger.take(stray.make([], ledger.now)).outcome != LOGGED
    heartbeat(ledger, 2)
    stranger = world.Producer("a", 2, bytes(32), "d" * 32)
    assert ledger.take(stranger.make([], ledger.now)).code == "unknown-lane"


def test_a_lane_begun_anew_wants_the_entry_that_began_it() -> None:
    ledger = make_ledger(1)
    last = ledger.view.lanes["a", 0].previous
    change_lanes(ledger, 2)
    wrong = world.Producer("a", 0, last, "e" * 32, epoch=1)
    assert ledger.take(wrong.make([], ledger.now)).outcome == LOGGED
    line = ledger.event("renewed", NUMBERS[0])
    ledger = make_ledger(1)
    change_lanes(ledger, 2)
    wrong = world.Producer("a", lane_of(NUMBERS[0], 2), last, "e" * 32, epoch=1)
    ledger.take(wrong.make([line], ledger.now))
    assert ledger.view.logged[-1].codes == ("wrong-previous",)
    skipping = world.Producer("a", 1, last, "d" * 32, epoch=2)
    assert ledger.take(skipping.make([], ledger.now)).outcome == OUT_OF_SEQUENCE


def test_freshness_begins_at_the_lane_that_was_furthest_behind() -> None:
    """A certificate's former lane may have been silent while its new one was heard."""
    ledger = LedgerBuilder({"a": 2})
    for lane in (0, 1):
        ledger.publish([], "a", lane)
    ledger.advance(80_000)
    ledger.publish([], "a", 0)
    behind = ledger.view.lanes["a", 1].signed_at
    change_lanes(ledger, 3)
    assert {lane.signed_at for lane in ledger.view.lanes.values()} == {behind}
    ledger.advance(10_000)
    ledger.status()
    assert ask(ledger, "nobody has it").reason == "issuer-silent"
    heartbeat(ledger, 3)
    assert ask(ledger, "nobody has it").reason == "not-found"
    unheard = begin_lanes(
        {0: ledger.view.lanes["a", 0], 1: Lane(0, None, 0, bytes(32), 0, "", 1)}, 2, 2, b"x", 9
    )
    assert {lane.signed_at for lane in unheard.values()} == {""}


REFUSED: dict[str, tuple[str, Callable[[LedgerBuilder], Any]]] = {
    "by the department alone": ("registry-signature", lambda b: change_lanes(b, 3, OWNER)),
    "by the operator alone": ("registry-signature", lambda b: change_lanes(b, 3, OPERATOR)),
    "to none": ("malformed-note", lambda b: change_lanes(b, 0)),
    "to too many": ("malformed-note", lambda b: change_lanes(b, 1025)),
    "too often": (
        "registry-refused",
        lambda b: [change_lanes(b, 3 - n % 2) for n in range(MAX_LANE_CHANGES + 1)],
    ),
    "at the last epoch": ("registry-refused", lambda b: _at_the_last_epoch(b)),
}


def _at_the_last_epoch(ledger: LedgerBuilder) -> None:
    lane = ledger.view.lanes["a", 1]
    ledger.view.lanes["a", 1] = replace(lane, epoch=MAX_EPOCH)
    change_lanes(ledger, 1)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, make = REFUSED[name]
    ledger = LedgerBuilder({"a": 2})
    with pytest.raises(LedgerError) as refused:
        make(ledger)
    assert refused.value.code == code


def test_a_change_of_something_else_leaves_the_lanes_as_they_are() -> None:
    ledger = make_ledger(2)
    index = change_lanes(ledger, 3)
    heartbeat(ledger, 3)
    lanes = dict(ledger.view.lanes)
    value = {**world.department_change("a", 3), "contact": "elsewhere"}
    ledger.change("department/a", value, OWNER)
    assert ledger.view.lanes == lanes
    said = ledger.book.registry.value("department/a")
    assert said is not None
    assert said["former_lanes"] == [{"lanes": 2, "until": index}]


def test_evidence_of_one_number_does_not_pass_for_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ledger that let an event through on a lane of the former number is found out."""
    ledger = make_ledger(2)
    number = next(n for n in NUMBERS if lane_of(n, 2) != lane_of(n, 3))
    change_lanes(ledger, 3)
    old = lane_of(number, 2)
    monkeypatch.setattr("ledger.admission.identity.lane_of", lambda key, lanes: old)
    ledger.publish([ledger.event("renewed", number)], "a", old)
    monkeypatch.undo()
    assert ledger.view.logged[-1].codes == ("admitted",)
    answer = ask(ledger, number)
    assert answer.reason == "evidence-refused"
    assert "is on the wrong lane" in answer.why
