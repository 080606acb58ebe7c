"""Expiry works by itself, to the microsecond; what is announced of it, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ledger import canonical, expiry, times
from ledger.checking import check
from ledger.evidence import CertificateId
from ledger.expiry import End, find_end, format_notice, notice_id, open_steps
from ledger.lifecycle import Transition, turning_points
from tests import world
from tests.ledger_builder import LedgerBuilder

HALF_DAY = 43_200  # seconds


@pytest.mark.parametrize("offset", ["+08:00", "Z", "+14:00", "-14:00", "-03:30"])
def test_one_file_says_valid_to_the_last_microsecond_and_then_expired(offset: str) -> None:
    """The same evidence, no event and no new checkpoint in between."""
    ledger = LedgerBuilder()
    until = f"2026-04-30{offset}"
    end = times.day_end(until)
    ledger.admit("issued", "x", valid_until=until)
    ledger.now = end - HALF_DAY * times.SECOND
    ledger.publish([])  # a heartbeat: the issuer is not silent
    evidence = ledger.evidence("x")

    def says(now: int, at: int | None = None) -> tuple[str, str, int | None]:
        asked = replace(evidence, question=replace(evidence.question, asked_at=now, at=at))
        found = check(asked, ledger.trust(), now)
        return found.answer, found.reason, found.found.since if found.found else None

    assert says(end - 1)[:2] == ("valid", "in-force")
    assert says(end) == ("not-valid", "expired", end)
    assert says(end - 1, at=end) == ("not-valid", "expired", end)
    assert says(end + 1, at=end - 1)[:2] == ("valid", "in-force")


def history(*acts: tuple[str, dict[str, Any]]) -> list[Transition]:
    """Acts in ledger order, one a day."""
    made = []
    version = 0
    for number, (kind, members) in enumerate(acts):
        version += kind in ("issued", "renewed", "amended")
        time = f"2026-01-{number + 1:02}T00:00:00Z"
        made.append(Transition(kind, f"{number:032x}", "a", "k", time, version, **members))
    return made


UNTIL = {"valid_until": "2026-06-30Z"}
LATER = {"valid_until": "2027-06-30Z"}
VOID = {"corrects": f"{1:032x}", "correction": "void"}


@pytest.mark.parametrize(
    ("acts", "end"),
    [
        ([("issued", UNTIL)], End(1, "2026-06-30Z", "a", 0)),
        ([("issued", UNTIL), ("suspended", {})], End(1, "2026-06-30Z", "a", 0)),
        ([("issued", UNTIL), ("renewed", LATER)], End(2, "2027-06-30Z", "a", 1)),
        (
            [("issued", UNTIL), ("renewed", LATER), ("corrected", VOID)],
            End(1, "2026-06-30Z", "a", 2),
        ),
        ([("issued", UNTIL), ("amended", {})], End(2, "2026-06-30Z", "a", 1)),
        ([("issued", UNTIL), ("amended", {"valid_until": "open"})], None),
        ([("issued", {})], None),
        ([("issued", {"valid_until": "unknown"})], None),
        ([("issued", UNTIL), ("revoked", {"revocation": "penalty"})], None),
        ([("issued", UNTIL), ("expired", {})], None),
    ],
)
def test_what_ends_by_its_date(acts: list[tuple[str, dict[str, Any]]], end: End | None) -> None:
    assert find_end(history(*acts)) == end


def test_steps_that_passed_before_the_end_was_known_are_left_out() -> None:
    end = End(1, "2026-06-30Z", "a", 0)
    day = times.DAY
    assert open_steps(end, end.instant - 31 * day, ()) == [30, 7, 3, 0]
    assert open_steps(end, end.instant - 30 * day, ()) == [30, 7, 3, 0]
    assert open_steps(end, end.instant - 30 * day + 1, ()) == [7, 3, 0]
    assert open_steps(end, end.instant, ()) == [0]
    assert open_steps(end, end.instant + 1, ()) == []
    assert open_steps(end, end.instant - 31 * day, {7, 0}) == [30, 3]


def test_a_notice_is_a_cloud_event_with_one_id() -> None:
    certificate = CertificateId(world.TYPE, "a", "川A-000123")
    end = End(3, "2026-06-30+08:00", "b", 0)
    data = format_notice(world.ORIGIN, certificate, end, 7)
    value = canonical.parse(data, 8192)
    assert value["specversion"] == "1.0"
    assert value["time"] == "2026-06-23T16:00:00Z"
    assert value["id"] == notice_id(certificate.key, 3, 7)
    assert format_notice(world.ORIGIN, certificate, end, 7) == data
    ids = {notice_id(k, v, s) for k in (b"a" * 32, b"b" * 32) for v in (1, 2) for s in expiry.STEPS}
    assert len(ids) == 16


def test_an_end_beyond_all_years_never_comes_due() -> None:
    (first, end) = turning_points(history(("issued", {"valid_until": "9999-12-31Z"})))
    assert first < end == times.day_end("9999-12-31Z")
