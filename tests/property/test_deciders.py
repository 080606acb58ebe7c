"""What a row keeps of a life answers as the whole history does, or says that it cannot."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from ledger import deciders, expiry, lifecycle, staterow, statuslist
from ledger.deciders import Kept
from ledger.errors import ProofError
from ledger.lifecycle import Standing, Transition
from tests import slow_life
from tests.slow_life import Act, No

from .test_two_times import HOUR, admit, draw_act, instants, transition

KEY = bytes(range(32))
VERSIONS = (None, None, None, 1, 2, 3, 9)


def live(drawn: random.Random) -> list[tuple[list[Act], list[Transition], Standing, Kept]]:
    """A life as admission lets it grow: after each act all of them, the standing, what is kept."""
    acts: list[Act] = []
    history: list[Transition] = []
    standing, kept = Standing(), ()
    grown = []
    likely = drawn.choice((0.0, 0.3, 1.0))  # lives without corrections are most
    for _ in range(drawn.randrange(3, 22)):
        act = draw_act(drawn, acts)
        if not acts:
            act = Act("issued", act.id, act.by, act.time, 0, act.valid_from, act.valid_until)
        if act.kind == "corrected" and drawn.random() >= likely:
            continue
        try:
            act = slow_life.admit(acts, act)
        except No:
            continue
        t, after = admit(history, standing, act)
        assert t == transition(act)
        kept = deciders.follow(kept, len(history), t)
        standing = after._replace(count=len(history) + 1)
        acts.append(act)
        history.append(t)
        grown.append((list(acts), list(history), standing, kept))
    return grown


def packed(history: list[Transition]) -> bytes:
    return b"".join(
        staterow.pack_item(n + 7, n, bytes.fromhex(t.id)) for n, t in enumerate(history)
    )


@pytest.mark.parametrize("seed", range(3))
def test_first_acts_are_the_history_before_or_nothing(seed: int) -> None:
    drawn = random.Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(300):
        for _, history, standing, kept in live(drawn):
            items = packed(history)
            row = staterow.pack_row(KEY, standing, bytes(32), bytes(16), kept, items)
            opened = staterow.open_row(KEY, row, items).kept
            for count in range(1, len(history)):
                found = deciders.first_acts(opened, count)
                before = history[:count]
                if found is None:
                    assert not {n for n, _ in kept}.issuperset(range(count))
                    seen["none"] += 1
                    continue
                seen[f"{count} of {len(history)}"] += 1
                assert [t.version for t in found] == [t.version for t in before]
                assert expiry.find_end(found) == expiry.find_end(before)
                assert lifecycle.turning_points(found) == lifecycle.turning_points(before)
                for at in drawn.sample(lifecycle.turning_points(before), 1):
                    assert statuslist.statuses(found, at) == statuslist.statuses(before, at)
    assert set(seen) >= {"none", "1 of 2", "1 of 3", "2 of 3", "2 of 4"}


def ask(drawn: random.Random, questions: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    while seen["asked"] < questions:
        for acts, history, standing, kept in live(drawn):
            items = packed(history)
            row = staterow.pack_row(KEY, standing, bytes(32), bytes(16), kept, items)
            opened = staterow.open_row(KEY, row, items)
            assert opened[:3] == (standing, bytes(32), bytes(16))
            assert staterow.pack_row(KEY, *opened, items) == row
            assert [n for n, _ in opened.kept] == [n for n, _ in kept]
            edges = instants(acts)
            for at in drawn.sample(edges, min(4, len(edges))):
                at += drawn.choice((0, 0, HOUR, -HOUR, 9999 * HOUR))
                version = drawn.choice(VERSIONS)
                expected = lifecycle.answer(history, at, version)
                seen["asked"] += 1
                for each in (kept, opened.kept):
                    found = deciders.answer(each, standing, at, version)
                    if found is None:
                        seen["by the history"] += 1
                        continue
                    assert set(found.deciding) == set(expected.deciding), (history, at, version)
                    found = replace(found, deciding=expected.deciding)
                    assert found == expected, (history, at, version)
                    seen[expected.reason] += 1
                    seen[f"{len(kept)} of {min(len(history), deciders.MOST + 1)}"] += 1
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_kept_acts_answer_as_the_history_does(seed: int) -> None:
    seen = ask(random.Random(seed), 8_000)
    reasons = {
        *("in-force", "not-yet-valid", "expired", "suspended", "transferred", "superseded"),
        *("revoked-annulled", "revoked-penalty", "start-unknown", "end-unknown"),
        *("no-such-version", "by the history", "1 of 1", "2 of 2", "2 of 3", "3 of 3", "3 of 4"),
        *("4 of 5", "5 of 5", "5 of 6"),
    }
    assert set(seen) >= reasons, seen


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_million_questions_to_rows(seed: int) -> None:
    ask(random.Random(seed), 100_000)


@pytest.mark.parametrize("at", [0, -1])
def test_rows_that_leave_nothing_out_say_the_same(at: int) -> None:
    """Versions before the short form wrote them, for certificates with one event too."""
    drawn = random.Random(6)
    for _ in range(50):
        _, history, standing, kept = live(drawn)[at]
        items = packed(history)
        said = (standing, bytes(32), bytes(16), kept)
        short, whole = (
            pack(KEY, *said, items) for pack in (staterow.pack_row, staterow.pack_whole_row)
        )
        assert len(whole) - len(short) in ((0, 11) if len(history) == 1 else (0,)), standing
        assert staterow.open_row(KEY, short, items) == staterow.open_row(KEY, whole, items)
        assert staterow.row_record(KEY, short, items) == staterow.row_record(KEY, whole, items)
        assert staterow.unpack_state(whole) == staterow.unpack_state(short) == said[:3]
        if at == 0:
            assert staterow.issued_days(KEY, short, items) == staterow.issued_days(
                KEY, whole, items
            )


def test_rows_that_kept_three_acts_at_most_keep_the_same_or_none_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As versions before wrote them: whoever checks knows only today's and those that keep none."""
    drawn, seen = random.Random(7), Counter[tuple[int, int]]()
    for _ in range(300):
        former: Kept = ()
        since = drawn.randrange(22)  # the first act that today's version takes
        for n, (_, history, _, kept) in enumerate(live(drawn)):
            with monkeypatch.context() as patch:
                patch.setattr(deciders, "MOST", 3 if n < since else deciders.MOST)
                former = deciders.follow(former, n, history[n])
            assert former in (kept, ())
            seen[len(former), len(kept)] += 1
    assert {(0, 4), (3, 3), (4, 4)} <= set(seen), seen


def test_a_changed_bit_or_another_row_is_no_answer() -> None:
    drawn = random.Random(4)
    for _ in range(20):
        _, history, standing, kept = live(drawn)[-1]
        items = packed(history)
        row = staterow.pack_row(KEY, standing, bytes(32), bytes(16), kept, items)
        damaged = [
            (bytes([1]) + KEY[1:], row, items),
            (KEY, row, items[:-12]),
            (KEY, row, items + items[-12:]),
            (KEY, row[:-1], items),
            (KEY, row + b"\x00", items),
            *((KEY, flip(row, bit), items) for bit in range(len(row) * 8)),
            *((KEY, row, flip(items, bit)) for bit in range(len(items) * 8)),
        ]
        for each in damaged:
            with pytest.raises(ProofError, match="stored-bytes-damaged"):
                staterow.open_row(*each)


def test_rows_of_earlier_versions_are_read_and_decide_nothing() -> None:
    _, history, standing, _ = live(random.Random(5))[-1]
    row = staterow.pack_state(standing, bytes(32), bytes(16))
    assert staterow.open_row(KEY, row, packed(history)) == (standing, bytes(32), bytes(16), ())
    assert deciders.answer((), standing, 0, None) is None


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
