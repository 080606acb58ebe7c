"""Random life cycles, learned late and out of order, against the slow model, at random moments."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from ledger import doubt, lifecycle
from ledger.errors import LedgerError
from ledger.lifecycle import Standing, Transition
from tests import slow_life
from tests.slow_life import Act, No, Said

KINDS = [
    *("issued", "renewed", "renewed", "amended", "amended", "suspended", "suspended"),
    *("reinstated", "reinstated", "revoked", "expired", "transferred-out", "transferred-in"),
    *("corrected", "corrected", "corrected"),
]
OFFSETS = ("+08:00", "+08:00", "+08:00", "-05:00", "+14:00", "Z")
DAYS = [f"2020-{month:02}-{day:02}" for month in (1, 2, 3) for day in (1, 2, 9, 10, 28)]
HOUR = 3_600_000_000


def draw_day(drawn: random.Random) -> str:
    return drawn.choice(DAYS) + drawn.choice(OFFSETS)


def draw_act(drawn: random.Random, history: list[Act]) -> Act:
    kind = drawn.choice(KINDS)
    members: dict[str, Any] = {}
    if drawn.random() < 0.6:
        members["valid_from"] = draw_day(drawn)
    elif drawn.random() < 0.3 and kind != "suspended":
        members["valid_from"] = "unknown"
    if kind in ("issued", "renewed", "amended", "suspended") and drawn.random() < 0.6:
        members["valid_until"] = drawn.choice((draw_day(drawn), draw_day(drawn), "unknown", "open"))
    if kind == "revoked":
        members["revocation"] = drawn.choice(("annulled", "penalty", "deregistered"))
    if kind == "transferred-out":
        members["transfer_to"] = drawn.choice("ab")
    if kind == "corrected":
        members.pop("valid_from", None)
        target = drawn.choice(history).id if history else "f" * 32
        members |= {"corrects": target, "correction": "void", "reason": "error"}
        if drawn.random() < 0.3:
            members["correction"] = "rewind"
        elif drawn.random() < 0.6:
            members["correction"] = "restate"
            if drawn.random() < 0.7:
                members["valid_from"] = drawn.choice((draw_day(drawn), "unknown"))
            if drawn.random() < 0.5:
                members["valid_until"] = drawn.choice((draw_day(drawn), "unknown", "open"))
        elif drawn.random() < 0.5:
            members["correction"] = "confirm"
    moment = f"{drawn.choice(DAYS)}T{drawn.choice(('00:00:00', '12:30:00.000001'))}+08:00"
    return Act(kind, f"{drawn.getrandbits(128):032x}", drawn.choice("ab"), moment, **members)


def transition(act: Act) -> Transition:
    return Transition(
        **{name: getattr(act, name) for name in Act.__dataclass_fields__}, key="0" * 64
    )


def admit(history: list[Transition], standing: Standing, act: Act) -> tuple[Transition, Standing]:
    """As admission does it: a step, or for a correction the whole fold."""
    t = transition(act)
    if act.kind == "corrected":
        if not history:
            raise LedgerError("not-issued")
        after = lifecycle.correct(history, t)
        return t._replace(version=after.version), after
    t = t._replace(version=lifecycle.next_version(standing, t.kind))
    return t, lifecycle.step(standing, t)


def grow(drawn: random.Random, counts: Counter[str]) -> tuple[list[Act], list[Transition]]:
    """One life: every act is offered to the rules and to the model, which must agree."""
    acts: list[Act] = []
    history: list[Transition] = []
    standing = Standing()
    for _ in range(drawn.randrange(3, 22)):
        act = draw_act(drawn, acts)
        if not acts and act.kind not in ("issued", "corrected") and drawn.random() < 0.9:
            act = Act("issued", act.id, act.by, act.time, valid_from=act.valid_from)
        try:
            expected: Act | str = slow_life.admit(acts, act)
        except No as err:
            expected = str(err)
        code = None
        try:
            t, after = admit(history, standing, act)
        except LedgerError as err:
            code = err.code
        assert (code or expected) == expected, (code, expected, acts, act)
        if not isinstance(expected, Act):
            assert code, (expected, acts, act)
            counts[code] += 1
            continue
        assert t == transition(expected), (acts, act)
        acts.append(expected)
        history.append(t)
        standing = after
        counts[act.correction or act.kind] += 1
    assert lifecycle.retrace(t._replace(version=0) for t in history) == history
    return acts, history


def said(history: list[Transition], at: int) -> Said:
    found = lifecycle.answer(history, at)
    return Said(found.answer, found.reason, found.version, found.since, found.responsible)


def instants(acts: list[Act]) -> list[int]:
    """The moments at which something may change, and those just before."""
    edges = set()
    for act in acts:
        edges.add(slow_life.micro(act.time))
        if act.valid_from not in (None, "unknown"):
            edges.add(slow_life.first_instant(act.valid_from))
        if act.valid_until not in (None, "unknown", "open"):
            edges.add(slow_life.last_instant(act.valid_until))
    return sorted(edges | {edge - 1 for edge in edges})


def compare(seed: int, questions: int) -> Counter[str]:
    """Ask `questions` questions at random (at, known_at); what was seen."""
    drawn = random.Random(seed)
    seen: Counter[str] = Counter()
    asked = 0
    while asked < questions:
        acts, history = grow(drawn, seen)
        if not acts:
            continue
        # What the ledger knew at some moment is what it had recorded by then: a part from the
        # beginning, in ledger order.
        for _ in range(12):
            known = drawn.randrange(1, len(acts) + 1)
            edges = instants(acts[:known])
            at = drawn.choice(edges) + drawn.choice((0, 0, 0, HOUR, -HOUR, 24 * HOUR))
            expected = slow_life.what_held(acts[:known], at)
            assert said(history[:known], at) == expected, (seed, acts[:known], at)
            seen[f"{expected.answer} {expected.reason}"] += 1
            check_doubt(drawn, acts, history, known, at, seen)
            asked += 1
    return seen


def check_doubt(
    drawn: random.Random,
    acts: list[Act],
    history: list[Transition],
    known: int,
    at: int,
    seen: Counter[str],
) -> None:
    """Some events are by a key that is doubted from one of them on."""
    since = drawn.randrange(len(acts))
    by = {n for n in range(len(acts)) if drawn.random() < 0.5}
    steps = [(n, t._replace(key="1" * 64) if n in by else t) for n, t in enumerate(history)]
    doubts = {"1" * 64: range(since, len(acts))}
    expected = slow_life.doubtful(acts, known, {n for n in by if n >= since})
    assert doubt.find_doubtful(steps, known, doubts).keys() == expected, (acts, known, by, since)
    finding = lifecycle.answer(history[:known], at)
    settled = doubt.settle(finding, steps, known, doubts)
    rests = expected & set(finding.deciding)
    assert (settled.reason == doubt.COMPROMISED) == bool(rests)
    assert rests or settled == finding
    seen[settled.reason] += 1


ALL_REASONS = {
    doubt.COMPROMISED,
    *("valid in-force", "not-valid not-yet-valid", "not-valid expired", "not-valid suspended"),
    *("not-valid revoked-annulled", "not-valid revoked-penalty", "not-valid revoked-deregistered"),
    *("not-valid transferred", "not-valid voided"),
    *("cannot-decide start-unknown", "cannot-decide end-unknown"),
    *("void", "restate", "confirm", "rewind"),
}


@pytest.mark.parametrize("seed", range(3))
def test_random_lives_are_answered_as_the_slow_model_does(seed: int) -> None:
    seen = compare(seed, 10_000)
    assert set(seen) >= ALL_REASONS, seen


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_million_questions(seed: int) -> None:
    compare(seed, 100_000)
