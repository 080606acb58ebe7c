"""What is said of a certificate changes at turning points and nowhere else."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import doubt, expiry, lifecycle, statuslist, times
from ledger.errors import LedgerError
from ledger.event import OPEN, UNKNOWN
from ledger.lifecycle import Transition, turning_points
from ledger.outlook import EVER, look, next_look, statuses_of

from .test_deciders import live
from .test_two_times import instants

KINDS = [kind for _, kind in lifecycle.TABLE]
ZERO = times.parse_moment("2026-01-01T00:00:00Z")


def day(number: int) -> str:
    moment = ZERO + (number % 400) * times.DAY
    return times.format_moment(moment)[:10] + "+08:00"


days = st.integers(0, 60).map(day)
starts = st.none() | days | st.just(UNKNOWN)
ends = st.none() | days | st.just(UNKNOWN) | st.just(OPEN)


@st.composite
def histories(draw: Any) -> list[Transition]:
    """Possible life cycles: what the rules refuse is left out."""
    history: list[Transition] = []
    for number in range(draw(st.integers(1, 9))):
        standing = lifecycle.fold(history)
        kind = "issued" if not history else draw(st.sampled_from([*KINDS, "corrected"] * 2))
        members: dict[str, Any] = {}
        if kind in ("issued", "renewed", "amended", "suspended"):
            members = {"valid_from": draw(starts), "valid_until": draw(ends)}
        elif kind == "revoked":
            members = {"valid_from": draw(starts), "revocation": "annulled"}
        elif kind == "corrected":
            members = {
                "corrects": draw(st.sampled_from(history)).id,
                "correction": draw(st.sampled_from(["void", "restate", "rewind"])),
            }
            if members["correction"] == "restate":
                members |= {"valid_from": draw(starts), "valid_until": draw(ends)}
        if kind == "suspended" and members["valid_from"] == UNKNOWN:
            members["valid_from"] = None
        t = Transition(
            kind=kind,
            id=f"{number:032x}",
            by="a",
            key="k",
            time=times.format_moment(ZERO + draw(st.integers(0, 40)) * times.DAY + number),
            version=lifecycle.next_version(standing, kind),
            **members,
        )
        try:
            if kind == "corrected":
                lifecycle.correct(history, t)
            else:
                lifecycle.fold([*history, t])
                lifecycle.step(standing, t)
            lifecycle.answer([*history, t], ZERO)
        except LedgerError:
            continue
        history.append(t)
    return history or [Transition("issued", "0" * 32, "a", "k", times.format_moment(ZERO), 1)]


def slow_status(history: list[Transition], version: int, at: int) -> int:
    """What the entry of one version says, by asking about this version alone."""
    whole = lifecycle.answer(history, at)
    found = lifecycle.answer(history, at, version)
    corrected = any(t.kind == "corrected" for t in history)
    if whole.reason == "voided" or whole.reason.startswith("revoked-"):
        return statuslist.INVALID
    if whole.reason == "start-unknown":
        kept = [t for t in lifecycle.effective(history) if t.kind in lifecycle.VERSION_ACTS]
        is_kept = version in {t.version for t in kept}
        return statuslist.UNDECIDED if is_kept else statuslist.INVALID
    if found.reason == "expired":
        stated = {t.id for t in history if t.kind == "expired"} & set(found.deciding)
        return statuslist.INVALID if stated or corrected else statuslist.VALID
    return {
        "in-force": statuslist.VALID,
        "not-yet-valid": statuslist.UNDECIDED if corrected else statuslist.VALID,
        "suspended": statuslist.SUSPENDED,
        "transferred": statuslist.UNDECIDED,
        "end-unknown": statuslist.UNDECIDED,
        "superseded": statuslist.SUPERSEDED,
        "no-such-version": statuslist.INVALID,
    }[found.reason]


@given(histories(), st.lists(st.integers(-5 * 24, 80 * 24), min_size=1, max_size=20))
def test_statuses_hold_from_turn_to_turn(history: list[Transition], hours: list[int]) -> None:
    points = turning_points(history)
    moments = [ZERO + hour * 3600 * times.SECOND for hour in hours]
    for moment in (*moments, *points, *(p - 1 for p in points)):
        seen = look(history, moment, None, 0, ())
        assert seen.statuses == {
            t.version: slow_status(history, t.version, moment)
            for t in history
            if t.kind in lifecycle.VERSION_ACTS
        }
        assert seen.holds_from <= moment
        assert seen.due_at is None or moment < seen.due_at
        last = moment + 999 * times.DAY if seen.due_at is None else seen.due_at - 1
        for other in (seen.holds_from, moment, (moment + last) // 2, last):
            assert statuslist.statuses(history, other) == seen.statuses


@given(histories(), st.lists(st.integers(-40 * 24, 80 * 24), max_size=30), st.integers(-40, 60))
def test_each_step_is_due_once_whatever_the_clock_does(
    history: list[Transition], hours: list[int], known: int
) -> None:
    end = expiry.find_end(history)
    known_at = ZERO + known * times.DAY
    announced: list[int] = []
    due_at: int | None = -(2**62)
    for hour in [*hours, 500 * 24]:
        now = ZERO + hour * 3600 * times.SECOND
        if due_at is None or due_at > now:
            continue
        seen = look(history, now, end, known_at, announced)
        assert not set(seen.due) & set(announced)
        if end is not None:
            assert all(known_at <= end.at(step) <= now for step in seen.due)
        announced += seen.due
        due_at = look(history, now, end, known_at, announced).due_at
    wanted = [] if end is None else [s for s in expiry.STEPS if end.at(s) >= known_at]
    assert sorted(announced) == sorted(wanted)
    if end is not None:
        last = max(end.instant, *turning_points(history))
        assert lifecycle.answer(history, last).answer != "valid"


@given(histories(), st.integers(-5, 500))
def test_an_outlook_is_what_the_whole_rules_say(history: list[Transition], days: int) -> None:
    now = ZERO + days * times.DAY
    found = look(history, now, None, 0, ())
    points = turning_points(history)
    assert found.statuses == statuslist.statuses(history, now)
    assert found.due_at == min((at for at in points if at > now), default=None)
    assert found.holds_from == max((at for at in points if at <= now), default=EVER)


@given(histories(), st.data())
def test_what_is_doubtful_is_undecided_from_turn_to_turn(
    history: list[Transition], data: Any
) -> None:
    stolen = data.draw(st.sets(st.sampled_from(range(len(history)))))
    steps = [(n, t._replace(key="s") if n in stolen else t) for n, t in enumerate(history)]
    doubts = {"s": range(data.draw(st.integers(0, len(history))), len(history))}
    for begin, end in pairwise([EVER, *turning_points(history), -EVER]):
        said = [
            statuslist.under_doubt(statuslist.statuses(history, at), steps, at, doubts)
            for at in (begin, (begin + end) // 2, end - 1)
        ]
        assert said[0] == said[1] == said[2]
        for version, value in said[0].items():
            found = lifecycle.answer(history, begin, version)
            if doubt.settle(found, steps, len(steps), doubts).reason == doubt.COMPROMISED:
                assert value == statuslist.UNDECIDED
            else:
                assert value == slow_status(history, version, begin)


def test_next_look_is_what_the_whole_rules_say() -> None:
    for first in ("2026-01-05+08:00", "2026-03-05Z", None, UNKNOWN):
        for until in ("2026-05-05+08:00", None, OPEN, UNKNOWN):
            t = Transition("issued", "0" * 32, "a", "k", "2026-01-01T08:00:00Z", 1, first, until)
            end = expiry.find_end([t])
            for days in range(-3, 200):
                now = ZERO + days * times.DAY
                found = next_look(first, until, now)
                wanted = look([t], now, end, ZERO, ())
                if found is not None:
                    assert found == (wanted.due_at,)
                    assert wanted.statuses == {1: statuslist.VALID}
                    assert not wanted.due


def by_rows(drawn: random.Random, lives: int) -> Counter[str]:
    """What rows say of whole lives, held against the histories at all instants up to the next
    look.
    """
    seen: Counter[str] = Counter()
    while seen["lives"] < lives:
        seen["lives"] += 1
        for acts, history, standing, kept in live(drawn):
            edges = instants(acts)
            end = expiry.find_end(history)
            for now in drawn.sample(edges, min(3, len(edges))):
                found = statuses_of(kept, standing, now)
                if found is None:
                    seen["by the history"] += 1
                    continue
                statuses, points = found
                due_at = min((at for at in points if at > now), default=2**62)
                for at in (now, *(at for at in edges if now < at < due_at)):
                    assert statuses == statuslist.statuses(history, at), (history, now, at)
                known_by = max(n for n, t in kept if t.kind in lifecycle.VERSION_ACTS)
                assert expiry.end_of(standing, known_by) == end
                seen["by the row"] += 1
                seen.update(f"says {said}" for said in statuses.values())
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_rows_say_what_histories_say(seed: int) -> None:
    seen = by_rows(random.Random(seed), 400)
    assert set(seen) >= {"by the history", "by the row", *(f"says {said}" for said in range(5))}
