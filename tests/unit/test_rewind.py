"""A certificate rewound to before what a stolen key said of it, however much that is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from ledger import doubt, identity, lifecycle, times
from ledger.event import parse_event
from ledger.evidence import MAX_EVIDENCE, format_evidence
from ledger.lifecycle import MAX_CORRECTABLE, MAX_HISTORY, MAX_LATE, MAX_TRANSITIONS
from tests import world
from tests.ledger_builder import LedgerBuilder
from tests.unit.test_doubt import (
    DAYS,
    NEW,
    STOLEN,
    ask,
    codes,
    correction,
    doubt_key,
    event_id,
    rotate,
)

PAUSE = ("suspended", "reinstated")
WHY = {kind: {"reason_code": "theft"} for kind in (*PAUSE, "revoked", "corrected", "amended")}


def id_of(line: bytes) -> str:
    return parse_event(line, bytes(32)).id


def said(ledger: LedgerBuilder, kind: str, change: object, **members: Any) -> bytes:
    now = times.format_moment(ledger.now)
    return ledger.event(kind, "N", time=now, change=str(change), **(WHY.get(kind, {}) | members))


def steal(ledger: LedgerBuilder, since: int) -> None:
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    ledger.advance(60)


def admitted(ledger: LedgerBuilder, lines: Sequence[bytes]) -> int:
    """How many are admitted; a bundle folds some 32,000 transitions at most."""
    some = [lines[n : n + 20] for n in range(0, len(lines), 20)]
    return sum(codes(ledger, *each).count("admitted") for each in some)


def corrections(ledger: LedgerBuilder, count: int) -> list[bytes]:
    """Voids of a suspension, of that void, of that one, …: all by the key in use."""
    lines = [said(ledger, "suspended", "first")]
    for n in range(count):
        lines.append(correction(ledger, "N", id_of(lines[-1]), "void", change=str(n)))
    return lines


def test_what_a_thief_filled_is_rewound_by_one_correction_and_goes_on() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    lines = corrections(ledger, MAX_CORRECTABLE)
    assert admitted(ledger, lines[:MAX_CORRECTABLE]) == MAX_CORRECTABLE
    assert codes(ledger, lines[MAX_CORRECTABLE]) == ["history-too-long"]
    steal(ledger, since)
    void = correction(ledger, "N", id_of(lines[0]), "void", change="ours")
    assert codes(ledger, void) == ["history-too-long"]
    data = format_evidence(ledger.evidence("N"))
    assert len(data) < 100_000  # its transitions, and of the thief's lines three
    found = ask(ledger, "N")
    assert (found.answer, found.reason) == ("cannot-decide", doubt.COMPROMISED)
    assert [c.result for c in found.checks[:6]] == ["passed"] * 6
    rewind = correction(ledger, "N", id_of(lines[0]), "rewind", change="ours")
    assert codes(ledger, rewind) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"
    assert len(format_evidence(ledger.evidence("N"))) < 110_000
    restated = {"valid_until": "2026-12-31+08:00"}
    issued = event_id(ledger, "N")
    assert codes(ledger, correction(ledger, "N", issued, "restate", change="true", **restated)) == [
        "admitted"
    ]
    found = ask(ledger, "N")
    assert (found.answer, found.found and found.found.valid_until) == (
        "valid",
        "2026-12-31+08:00",
    )
    assert codes(ledger, said(ledger, "suspended", "ours")) == ["admitted"]
    assert ask(ledger, "N").reason == "suspended"


def test_evidence_fits_whatever_a_thief_wrote() -> None:
    """Lines of 64 KiB: neither what cannot be decided nor what was rewound shows them all."""
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    target, first = event_id(ledger, "N"), ""
    for n in range(0, 200, 10):
        lines = []
        for change in range(n, n + 10):
            lines.append(
                ledger.event(
                    "corrected",
                    "N",
                    corrects=target,
                    correction="restate",
                    valid_until="2028-01-31+08:00",
                    reason_code="theft",
                    time=times.format_moment(ledger.now),
                    change=str(change),
                )
            )
            value = lines[-1].replace(b'"claims":{', b'"claims":{"a":"' + b"x" * 63_000 + b'",', 1)
            lines[-1] = value
            first = first or id_of(value)
        assert set(codes(ledger, *lines)) == {"admitted"}
    steal(ledger, since)
    assert len(format_evidence(ledger.evidence("N"))) < MAX_EVIDENCE // 16
    assert ask(ledger, "N").reason == doubt.COMPROMISED
    assert codes(ledger, correction(ledger, "N", first, "rewind", change="ours")) == ["admitted"]
    assert len(format_evidence(ledger.evidence("N"))) < MAX_EVIDENCE // 16
    assert ask(ledger, "N").answer == "valid"


def test_a_history_that_is_full_is_rewound_and_no_key_takes_the_others_room() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    lines = [said(ledger, PAUSE[n % 2], n) for n in range(MAX_HISTORY)]
    done = codes(ledger, *lines)
    assert done == ["admitted"] * (MAX_HISTORY - 1) + ["history-too-long"]
    first = id_of(lines[0])
    late = [said(ledger, "corrected", f"late {n}", corrects=first, correction="rewind")
            for n in range(MAX_LATE + 1)]  # fmt: skip
    assert admitted(ledger, late) == MAX_LATE
    revoked = said(ledger, "revoked", "late", revocation_kind="penalty")
    assert codes(ledger, revoked) == ["history-too-long"]
    steal(ledger, since)
    assert ask(ledger, "N").reason == doubt.COMPROMISED
    assert codes(ledger, correction(ledger, "N", first, "rewind", change="ours")) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"
    begun = time.perf_counter()
    ours = [said(ledger, PAUSE[n % 2], f"ours {n}") for n in range(MAX_LATE)]
    assert codes(ledger, *ours[:20]) == ["admitted"] * 20
    assert time.perf_counter() - begun < 5
    assert ask(ledger, "N").answer == "valid"
    key = identity.certificate_key(world.TYPE, "a", "N")
    assert len(ledger.view.histories[key]) < MAX_TRANSITIONS
    assert len(format_evidence(ledger.evidence("N"))) < MAX_EVIDENCE // 4


def test_a_revocation_is_not_said_again_for_ever() -> None:
    """Each begins before the one before it, which the life cycle allows: 65,536 of them would not
    fit into a row.
    """
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    day = [f"{2999 - n // 12}-{12 - n % 12:02}-01+08:00" for n in range(MAX_HISTORY + MAX_LATE)]
    lines = [
        said(ledger, "revoked", n, revocation_kind="penalty", valid_from=first)
        for n, first in enumerate(day)
    ]
    assert admitted(ledger, lines) == MAX_HISTORY - 1 + MAX_LATE


def test_a_rewind_takes_back_a_rewind() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    ledger.admit("amended", "N", valid_until="2026-12-31+08:00", time="2026-03-01T00:00:00Z")
    since = len(ledger.entries)
    theft = correction(ledger, "N", event_id(ledger, "N"), "rewind")
    assert codes(ledger, theft) == ["admitted"]
    assert ask(ledger, "N").reason == "voided"
    steal(ledger, since)
    assert ask(ledger, "N").reason == doubt.COMPROMISED
    rewind = correction(ledger, "N", id_of(theft), "rewind", change="ours")
    assert codes(ledger, rewind) == ["admitted"]
    found = ask(ledger, "N")
    assert (found.answer, found.found and found.found.version) == ("valid", 2)


def test_what_was_rewound_is_neither_voided_nor_restated_nor_confirmed() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    theft = said(ledger, "suspended", "1")
    assert codes(ledger, theft) == ["admitted"]
    steal(ledger, since)
    rewind = correction(ledger, "N", id_of(theft), "rewind")
    assert codes(ledger, rewind) == ["admitted"]
    for target in (id_of(theft), id_of(rewind)):
        for how in ("void", "restate"):
            line = correction(ledger, "N", target, how, change=how)
            assert codes(ledger, line) == ["unknown-event"]
        again = correction(ledger, "N", target, "confirm", change="3")
        assert codes(ledger, again) == ["nothing-to-confirm"]


def test_nobody_rewinds_over_anothers_act() -> None:
    grants = [("a", world.ALL_ACTS, "own"), ("b", ["revoked"], "any"), ("b", ["corrected"], "own")]
    ledger = LedgerBuilder({"a": 1, "b": 1}, grants)
    ledger.admit("issued", "N", **DAYS)
    theft = said(ledger, "suspended", "1")
    assert codes(ledger, theft) == ["admitted"]
    revoked = said(ledger, "revoked", "b", revocation_kind="penalty")
    ledger.publish([revoked], "b")
    assert ledger.view.logged[-1].codes == ("admitted",)
    rewind = correction(ledger, "N", id_of(theft), "rewind")
    assert codes(ledger, rewind) == ["not-responsible"]
    issued = correction(ledger, "N", event_id(ledger, "N"), "rewind", change="b")
    ledger.publish([issued], "b")
    assert ledger.view.logged[-1].codes == ("not-responsible",)
    own = correction(ledger, "N", id_of(revoked), "rewind", change="b2")
    ledger.publish([own], "b")
    assert ledger.view.logged[-1].codes == ("admitted",)
    assert codes(ledger, rewind) == ["admitted"]
    ledger.publish([said(ledger, "revoked", "b2", revocation_kind="penalty")], "b")
    assert ask(ledger, "N").reason == "revoked-penalty"


@pytest.mark.parametrize("how", ["void", "rewind"])
@pytest.mark.parametrize("is_true", [False, True])
def test_a_rewind_does_not_settle_what_anothers_stolen_key_took_back(
    how: str, is_true: bool
) -> None:
    """A thief with b's key takes back b's penalty, then a rewinds to before it: with b's words away
    nothing is b's any more.
    """
    grants = [("a", world.ALL_ACTS, "own"), ("b", ["revoked"], "any"), ("b", ["corrected"], "own")]
    ledger = LedgerBuilder({"a": 1, "b": 1}, grants)
    ledger.admit("issued", "N", **DAYS)
    penalty = said(ledger, "revoked", "b", revocation_kind="penalty")
    ledger.publish([penalty], "b")
    since = len(ledger.entries)
    taken = correction(ledger, "N", id_of(penalty), how, change="b")
    ledger.publish([taken], "b")
    rewind = correction(ledger, "N", id_of(penalty), "rewind", change="a")
    assert codes(ledger, rewind) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"
    owner, old, new = (
        world.registry_signer("b"), world.bundle_signer("b"), world.bundle_signer("b", "2")
    )  # fmt: skip
    change = world.key_change(new, "bundle", "b")
    ledger.change(f"key/{new.key.key_id}", change, owner, new, old)
    ledger.keys["b"] = new
    change = world.key_change(old, "bundle", "b", since)
    ledger.change(f"key/{old.key.key_id}", change, owner)
    ledger.advance(60)
    answer = ask(ledger, "N")
    assert answer.reason == doubt.COMPROMISED
    assert f"event {id_of(taken)} was signed" in answer.why
    confirm = correction(ledger, "N", id_of(rewind), "confirm", change="a2")
    assert codes(ledger, confirm) == ["nothing-to-confirm"]
    if not is_true:  # a takes its rewind back, b what the thief said
        back = correction(ledger, "N", id_of(rewind), "rewind", change="a3")
        assert codes(ledger, back) == ["admitted"]
        assert ask(ledger, "N").reason == doubt.COMPROMISED
        ledger.publish([correction(ledger, "N", id_of(taken), "rewind", change="b2")], "b")
        assert ask(ledger, "N").reason == "revoked-penalty"
    else:
        ledger.publish([correction(ledger, "N", id_of(taken), "confirm", change="b2")], "b")
        assert ledger.view.logged[-1].codes == ("admitted",)
        assert ask(ledger, "N").answer == "valid"


def test_evidence_of_a_rewind_over_anothers_act_proves_nothing() -> None:
    """A ledger that admits against its rules: what it shows is refused."""
    grants = [("a", world.ALL_ACTS, "any"), ("b", ["revoked"], "any")]
    ledger = LedgerBuilder({"a": 1, "b": 1}, grants)
    ledger.admit("issued", "N", **DAYS)
    revoked = said(ledger, "revoked", "b", revocation_kind="penalty")
    ledger.publish([revoked], "b")
    assert codes(ledger, correction(ledger, "N", id_of(revoked), "rewind")) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"
    record = f"type/{world.TYPE}"
    value = ledger.book.registry.value(record) or {}
    scopes = {"a": "own", "b": "any"}
    ledger.doctor(record, grants=[{**g, "scope": scopes[g["department"]]} for g in value["grants"]])
    ledger.publish([])
    answer = ask(ledger, "N")
    assert answer.reason == "evidence-refused"
    assert "b's to make" in answer.why


@pytest.mark.parametrize("together", [False, True])
def test_the_holder_of_then_is_the_holder_again(together: bool) -> None:
    one, two = (f"1:{n * 64}" for n in "12")
    ledger = LedgerBuilder()
    first = ledger.event("issued", "N", holder_pseudonym=one, **DAYS)
    theft = said(ledger, "amended", "1", holder_pseudonym=two)
    rewind = correction(ledger, "N", id_of(theft), "rewind")
    if together:
        assert codes(ledger, first, theft, rewind) == ["admitted"] * 3
    else:
        for line in (first, theft, rewind):
            assert codes(ledger, line) == ["admitted"]
    key = identity.certificate_key(world.TYPE, "a", "N")
    assert ledger.view.certificates[key].holder == identity.holder_key(one)
    acts = {p: [a.bound for a in ledger.acts[identity.holder_key(p)]] for p in (one, two)}
    assert acts == {one: [True, False, True], two: [True, False]}
    none = correction(ledger, "N", id_of(first), "rewind", change="2")
    assert codes(ledger, none) == ["admitted"]
    assert ledger.view.certificates[key].holder is None
    assert [a.bound for a in ledger.acts[identity.holder_key(one)]] == [True, False, True, False]


def test_what_was_known_before_a_rewind_is_answered_as_then() -> None:
    """Without doubts; with them a rewind settles what is known, as any correction but a confirm."""
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    theft = said(ledger, "suspended", "1")
    assert codes(ledger, theft) == ["admitted"]
    ledger.status()
    known = ledger.now
    ledger.advance(60)
    assert codes(ledger, correction(ledger, "N", id_of(theft), "rewind")) == ["admitted"]
    assert ask(ledger, "N", known_at=known).reason == "suspended"
    assert ask(ledger, "N").answer == "valid"
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    assert codes(ledger, theft) == ["admitted"]
    ledger.status()
    steal(ledger, since)
    assert codes(ledger, correction(ledger, "N", id_of(theft), "rewind")) == ["admitted"]
    assert ask(ledger, "N", known_at=known).reason == doubt.COMPROMISED
    assert ask(ledger, "N").answer == "valid"


def test_a_transition_is_made_again_whatever_was_rewound() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    renewed = said(ledger, "renewed", "1", valid_until="2028-01-31+08:00")
    paused = said(ledger, "suspended", "2")
    rewind = correction(ledger, "N", id_of(renewed), "rewind")
    assert (
        codes(ledger, renewed, paused, rewind, said(ledger, "suspended", "3")) == ["admitted"] * 4
    )
    history = ledger.view.histories[identity.certificate_key(world.TYPE, "a", "N")]
    assert [t.version for t in history] == [1, 2, 2, 1, 1]
    assert lifecycle.retrace(t._replace(version=0) for t in history) == history
