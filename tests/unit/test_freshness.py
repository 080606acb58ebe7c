"""Freshness by the lane of the certificate in question, and departments by their silence."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.words import describe
from ledger import identity, times
from ledger.checking import check_file
from ledger.evidence import format_evidence
from ledger.silence import silences
from ledger.verdict import FAILED, Answer
from tests import world
from tests.ledger_builder import LedgerBuilder

LIMIT = world.department_change("a")["silence_limit_seconds"]
HOUR = 3_600


def numbers_by_lane(prefix: str = "N") -> dict[int, str]:
    """A certificate number of each of the two lanes."""
    found: dict[int, str] = {}
    for n in range(100):
        key = identity.certificate_key(world.TYPE, "a", f"{prefix}{n}")
        found.setdefault(identity.lane_of(key, 2), f"{prefix}{n}")
    return found


SPOKEN, SILENT = numbers_by_lane().values()
LANE = {number: lane for lane, number in numbers_by_lane().items()}


def ledger_with_a_silent_lane(silence: int = LIMIT + 1) -> LedgerBuilder:
    """Both lanes have a certificate; then only the lane of SPOKEN is heard of."""
    ledger = LedgerBuilder({"a": 2})
    ledger.admit("issued", SPOKEN)
    ledger.admit("issued", SILENT)
    ledger.advance(silence)
    ledger.publish([], lane=LANE[SPOKEN])  # a heartbeat
    ledger.status()
    return ledger


def ask(ledger: LedgerBuilder, number: str, *, now: int | None = None, **options: Any) -> Answer:
    data = format_evidence(ledger.evidence(number))
    return check_file(data, ledger.trust(), ledger.now if now is None else now, **options)


def freshness(answer: Answer) -> str:
    return next(c.result for c in answer.checks if c.name == "freshness")


def test_a_lane_is_silent_while_the_departments_other_lane_is_fresh() -> None:
    ledger = ledger_with_a_silent_lane()
    assert ask(ledger, SPOKEN).answer == "valid"
    answer = ask(ledger, SILENT)
    assert (answer.answer, answer.reason) == ("cannot-decide", "issuer-silent")
    assert f"on this certificate's lane, {LANE[SILENT]}" in answer.why


def test_the_limit_itself_is_still_fresh() -> None:
    assert ask(ledger_with_a_silent_lane(LIMIT), SILENT).answer == "valid"


def test_what_is_proven_over_stays_over_however_silent() -> None:
    ledger = LedgerBuilder({"a": 2})
    ledger.admit("issued", SILENT)
    ledger.admit("revoked", SILENT, revocation_kind="penalty")
    ledger.advance(50 * LIMIT)
    ledger.status()
    answer = ask(ledger, SILENT)
    assert (answer.answer, freshness(answer)) == ("not-valid", FAILED)


def test_absence_on_a_silent_lane_cannot_be_decided() -> None:
    ledger = ledger_with_a_silent_lane()
    absent = {
        identity.lane_of(identity.certificate_key(world.TYPE, "a", number), 2): number
        for number in numbers_by_lane("absent").values()
    }
    assert ask(ledger, absent[LANE[SPOKEN]]).answer == "not-found"
    answer = ask(ledger, absent[LANE[SILENT]])
    assert (answer.answer, answer.reason) == ("cannot-decide", "issuer-silent")


def test_a_lane_that_never_spoke_cannot_be_decided() -> None:
    ledger = LedgerBuilder({"a": 2})
    ledger.admit("issued", SPOKEN)
    answer = ask(ledger, SILENT)
    assert (answer.answer, answer.reason) == ("cannot-decide", "issuer-silent")
    assert "never signed anything" in answer.why


def test_questions_about_the_past_need_no_freshness() -> None:
    ledger = ledger_with_a_silent_lane()
    answer = ask(ledger, SILENT, at="2026-03-01T00:00:00Z")
    assert (answer.answer, freshness(answer)) == ("valid", "passed")


def test_freshness_is_judged_as_of_the_moment_of_reliance() -> None:
    ledger = ledger_with_a_silent_lane(HOUR)
    then = times.format_moment(ledger.now)
    late = ledger.now + 100 * LIMIT * times.SECOND
    assert ask(ledger, SILENT, now=late).reason == "checkpoint-stale"
    assert ask(ledger, SILENT, now=late, relied_at=then).answer == "valid"
    silent = ledger_with_a_silent_lane()
    then = times.format_moment(silent.now)
    assert ask(silent, SILENT, now=late, relied_at=then).reason == "issuer-silent"


def test_every_answer_has_its_lanes_watermark() -> None:
    ledger = ledger_with_a_silent_lane(HOUR)
    answer = ask(ledger, SILENT)
    heard = answer.members()["issuer_freshness"]
    assert heard == {
        "department": "a",
        "lane": LANE[SILENT],
        "signed_at": times.format_moment(world.START),
        "silent_seconds": HOUR,
        "silence_limit_seconds": LIMIT,
    }
    said = f"a last heard of on lane {LANE[SILENT]}: 2026-03-01T00:00:00Z, {HOUR} s before"
    assert said in describe(answer)
    assert f"it declared a limit of {LIMIT} s" in describe(answer)
    absent = ask(ledger, "absent1").members()
    assert absent["answer"] == "not-found"
    assert absent["issuer_freshness"]["department"] == "a"


def test_a_department_without_a_limit_is_silent_by_nature() -> None:
    ledger = ledger_with_a_silent_lane(400 * LIMIT)
    ledger.doctor("department/a", silence_limit_seconds=None)
    ledger.status()
    answer = ask(ledger, SILENT)
    assert (answer.answer, freshness(answer)) == ("valid", "passed")
    assert "(silent by nature)" in describe(answer)
    assert answer.members()["issuer_freshness"]["silence_limit_seconds"] is None


# --- all departments


def test_departments_are_listed_by_how_long_they_have_been_silent() -> None:
    ledger = LedgerBuilder({"a": 2, "b": 1, "c": 1, "d": 1})
    ledger.doctor("department/d", silence_limit_seconds=None)
    ledger.publish([], lane=0)
    ledger.publish([], "d")
    ledger.advance(LIMIT)
    ledger.publish([], "b")
    ledger.publish([], lane=1)
    ledger.advance(HOUR)
    rows = silences(ledger.view.registry, ledger.view.lanes, ledger.now)
    told = [(r["department"], r["state"], r["silent_seconds"], r["lane"]) for r in rows]
    assert told == [
        ("c", "never heard of", None, 0),
        ("a", "silent too long", LIMIT + HOUR, 0),
        ("d", "silent by nature", LIMIT + HOUR, 0),
        ("b", "fresh", HOUR, 0),
    ]


@pytest.mark.parametrize("ahead", [0, 30])
def test_a_department_whose_clock_is_ahead_is_not_silent(ahead: int) -> None:
    ledger = LedgerBuilder({"a": 1})
    ledger.publish([])
    now = ledger.now - ahead * times.SECOND
    (row,) = silences(ledger.view.registry, ledger.view.lanes, now)
    assert (row["state"], row["silent_seconds"]) == ("fresh", 0)
