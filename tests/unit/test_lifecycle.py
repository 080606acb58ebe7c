"""The life cycle as tables: what may follow what, and what held when, by what was known then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from ledger import lifecycle, times
from ledger.errors import LedgerError, ProofError, Refused
from ledger.lifecycle import Finding, Standing, Transition, answer, correct, fold, step

KEY = "0" * 64


@dataclass
class History:
    """A history written down as it is learned; every act must be admitted."""

    acts: list[Transition] = field(default_factory=list)

    def act(self, kind: str, time: str, by: str = "a", **members: Any) -> History:
        standing = fold(self.acts) if self.acts else Standing()
        t = Transition(
            kind=kind,
            id=f"{len(self.acts):032x}",
            by=by,
            key=KEY,
            time=f"{time}T12:00:00+08:00" if len(time) == 10 else time,
            version=lifecycle.next_version(standing, kind),
            **members,
        )
        if kind == "corrected":
            t = t._replace(version=correct(self.acts, t).version)
        else:
            step(standing, t)
        self.acts.append(t)
        return self

    def void(self, which: int, time: str = "2026-01-01") -> History:
        return self.act("corrected", time, corrects=f"{which:032x}", correction="void", reason="e")

    def restate(self, which: int, time: str = "2026-01-01", **days: str) -> History:
        return self.act(
            "corrected", time, corrects=f"{which:032x}", correction="restate", reason="e", **days
        )

    def at(self, day: str, known: int | None = None, version: int | None = None) -> Finding:
        """What the first `known` acts say about 12:00 of a day."""
        return answer(self.acts[:known], moment(day), version)

    def says(self, day: str, known: int | None = None, version: int | None = None) -> str:
        found = self.at(day, known, version)
        return found.answer if found.answer == "valid" else f"{found.answer} {found.reason}"


def moment(day: str) -> int:
    return times.parse_moment(f"{day}T12:00:00+08:00" if len(day) == 10 else day)


def day(text: str) -> str:
    return f"{text}+08:00"


def issued(time: str = "2020-01-01", **days: str) -> History:
    return History().act(
        "issued", time, **{n: d if d in ("unknown", "open") else day(d) for n, d in days.items()}
    )


# --- what may follow what

NEEDED: dict[str, dict[str, str]] = {
    "suspended": {"reason": "r"},
    "revoked": {"revocation": "penalty"},
    "transferred-out": {"transfer_to": "b"},
}
WAYS: dict[str, list[str]] = {  # how each state is reached
    "none": [],
    "valid": ["issued"],
    "suspended": ["issued", "suspended"],
    "revoked": ["issued", "revoked"],
    "expired": ["issued", "expired"],
    "transferred": ["issued", "transferred-out"],
}
ALLOWED = {
    "none": {"issued": "valid"},
    "valid": {
        "renewed": "valid",
        "amended": "valid",
        "suspended": "suspended",
        "revoked": "revoked",
        "expired": "expired",
        "transferred-out": "transferred",
    },
    "suspended": {
        "amended": "suspended",
        "reinstated": "valid",
        "revoked": "revoked",
        "expired": "expired",
    },
    "revoked": {},
    "expired": {"renewed": "valid", "revoked": "revoked"},
    "transferred": {"transferred-in": "valid", "revoked": "revoked"},
}
KINDS = sorted({kind for _, kind in lifecycle.TABLE})


@pytest.mark.parametrize("state", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_each_state(state: str, kind: str) -> None:
    history = History()
    for number, before in enumerate(WAYS[state]):
        history.act(before, f"2020-01-0{number + 1}", **NEEDED.get(before, {}))
    assert (fold(history.acts).state if history.acts else "none") == state
    after = ALLOWED[state].get(kind)
    if after is None:
        with pytest.raises(Refused) as refused:
            history.act(kind, "2020-02-01", **NEEDED.get(kind, {}))
        assert refused.value.code == (
            "not-issued"
            if state == "none"
            else "already-issued"
            if kind == "issued"
            else "invalid-transition"
        )
    else:
        history.act(kind, "2020-02-01", **NEEDED.get(kind, {}))
        assert fold(history.acts).state == after


def test_after_a_void_the_certificate_can_be_issued_again() -> None:
    history = issued().void(0)
    assert fold(history.acts).state == "void"
    assert fold(history.acts).responsible == "a"
    for kind in set(KINDS) - {"issued"}:
        with pytest.raises(Refused, match="not-issued"):
            history.act(kind, "2026-02-01", **NEEDED.get(kind, {}))
    history.act("issued", "2026-02-01")
    assert fold(history.acts).version == 2, "a version is never given twice"


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("issued", {"valid_from": day("2020-06-01"), "valid_until": day("2020-05-31")}),
        ("issued", {"valid_until": day("2019-12-31")}),  # begins at its own time
        ("issued", {"valid_from": "2020-06-01-10:00", "valid_until": "2020-05-31-10:00"}),
    ],
)
def test_reversed_dates_of_an_issue(kind: str, members: dict[str, str]) -> None:
    with pytest.raises(Refused, match="dates-reversed"):
        History().act(kind, "2020-01-01", **members)


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("renewed", {"valid_from": day("2021-01-01"), "valid_until": day("2020-12-31")}),
        ("renewed", {"valid_until": day("2020-02-01")}),
        ("amended", {"valid_until": day("2019-12-31")}),
        ("amended", {"valid_from": day("2021-01-01")}),  # the last day stays 2020-12-31
        ("suspended", {"valid_from": day("2020-03-02"), "valid_until": day("2020-03-01")}),
        ("suspended", {"valid_until": day("2020-02-01")}),
    ],
)
def test_reversed_dates_of_a_change(kind: str, members: dict[str, str]) -> None:
    history = issued(valid_from="2020-01-01", valid_until="2020-12-31")
    with pytest.raises(Refused, match="dates-reversed"):
        history.act(kind, "2020-03-01", **members)


def test_one_day_is_enough() -> None:
    assert issued(valid_from="2020-01-01", valid_until="2020-01-01").says("2020-01-01") == "valid"
    assert issued("2020-01-01", valid_until="2020-01-01").says("2020-01-01") == "valid"


# --- what held when


def test_days_are_whole_and_half_open() -> None:
    history = issued(valid_from="2020-01-01", valid_until="2020-12-31")
    for instant, says in (
        ("2019-12-31T23:59:59+08:00", "not-valid not-yet-valid"),
        ("2020-01-01T00:00:00+08:00", "valid"),
        ("2020-12-31T23:59:59.999999+08:00", "valid"),
        ("2021-01-01T00:00:00+08:00", "not-valid expired"),
    ):
        assert history.says(instant) == says
    expired = history.at("2022-01-01")
    assert expired.since == times.parse_moment("2021-01-01T00:00:00+08:00")
    assert history.at("2019-01-01").since == times.parse_moment("2020-01-01T00:00:00+08:00")


def test_without_dates_the_time_of_the_event_counts_and_it_stays_open() -> None:
    history = issued("2020-01-01")
    assert history.says("2020-01-01T11:59:59+08:00") == "not-valid not-yet-valid"
    assert history.says("2020-01-01T12:00:00+08:00") == "valid"
    assert history.says("2999-01-01") == "valid"


# (history, [(at, known acts, what it says)])
Rows = Sequence[tuple[str, int | None, str]]
STORIES: dict[str, tuple[History, Rows]] = {
    "late issue: learned in 2020, valid since 2015": (
        issued("2020-06-01", valid_from="2015-01-01"),
        [("2014-06-01", None, "not-valid not-yet-valid"), ("2016-01-01", None, "valid")],
    ),
    "revocation back-dated before a suspension": (
        issued()
        .act("suspended", "2020-06-01", reason="r")
        .act("revoked", "2020-09-01", revocation="annulled", valid_from=day("2020-03-01")),
        [
            ("2020-04-01", 2, "valid"),
            ("2020-04-01", 3, "not-valid revoked-annulled"),
            ("2020-02-01", 3, "valid"),
            ("2020-07-01", 2, "not-valid suspended"),
            ("2020-07-01", 3, "not-valid revoked-annulled"),
        ],
    ),
    "revocation back-dated before the issue": (
        issued().act("revoked", "2020-02-01", revocation="annulled", valid_from=day("2019-06-01")),
        [
            ("2019-01-01", None, "not-valid not-yet-valid"),
            ("2019-07-01", None, "not-valid revoked-annulled"),
            ("2020-01-15", None, "not-valid revoked-annulled"),
            ("2020-01-15", 1, "valid"),
        ],
    ),
    "revocation from a day to come": (
        issued().act(
            "revoked", "2020-02-01", revocation="deregistered", valid_from=day("2020-12-01")
        ),
        [("2020-11-30", None, "valid"), ("2020-12-01", None, "not-valid revoked-deregistered")],
    ),
    "suspended before it begins: the start does not lift it": (
        issued("2020-01-01", valid_from="2020-06-01").act("suspended", "2020-02-01", reason="r"),
        [
            ("2020-03-01", None, "not-valid not-yet-valid"),
            ("2020-07-01", None, "not-valid suspended"),
            ("2020-07-01", 1, "valid"),
        ],
    ),
    "suspension back-dated before the first day": (
        issued("2020-03-01", valid_from="2020-02-01").act(
            "suspended", "2020-04-01", reason="r", valid_from=day("2019-01-01")
        ),
        [("2020-05-01", None, "not-valid suspended")],
    ),
    "an earlier reinstatement does not lift a later, back-dated suspension": (
        issued()
        .act("suspended", "2020-06-01", reason="r")
        .act("reinstated", "2020-09-01")
        .act("suspended", "2020-10-01", reason="r", valid_from=day("2020-07-01")),
        [
            ("2020-12-01", 3, "valid"),
            ("2020-12-01", 4, "not-valid suspended"),
            ("2020-09-15", 4, "not-valid suspended"),
            ("2020-05-01", 4, "valid"),
        ],
    ),
    "reinstatement back-dated before the suspension": (
        issued()
        .act("suspended", "2020-06-01", reason="r")
        .act("reinstated", "2020-09-01", valid_from=day("2020-05-01")),
        [("2020-07-01", 2, "not-valid suspended"), ("2020-07-01", 3, "valid")],
    ),
    "a suspension with a stated end ends by itself": (
        issued().act("suspended", "2020-06-01", reason="r", valid_until=day("2020-06-30")),
        [
            ("2020-06-15", None, "not-valid suspended"),
            ("2020-06-30", None, "not-valid suspended"),
            ("2020-07-01", None, "valid"),
        ],
    ),
    "a suspension after one that ended by itself": (
        issued()
        .act("suspended", "2020-06-01", reason="r", valid_until=day("2020-06-30"))
        .act("suspended", "2020-08-01", reason="r"),
        [
            ("2020-06-15", None, "not-valid suspended"),
            ("2020-07-15", None, "valid"),
            ("2020-08-15", None, "not-valid suspended"),
        ],
    ),
    "renewal before expiry": (
        issued(valid_from="2020-01-01", valid_until="2020-12-31").act(
            "renewed",
            "2020-11-01",
            valid_from=day("2021-01-01"),
            valid_until=day("2021-12-31"),
        ),
        [
            ("2020-12-01", None, "valid"),
            ("2021-06-01", None, "valid"),
            ("2021-06-01", 1, "not-valid expired"),
            ("2022-01-01", None, "not-valid expired"),
        ],
    ),
    "renewal after a gap": (
        issued(valid_from="2020-01-01", valid_until="2020-12-31").act(
            "renewed", "2021-03-01", valid_from=day("2021-03-01")
        ),
        [("2021-02-01", None, "not-valid expired"), ("2021-04-01", None, "valid")],
    ),
    "renewal known late heals the statement of expiry": (
        issued(valid_from="2020-01-01", valid_until="2020-12-31")
        .act("expired", "2021-01-01")
        .act("renewed", "2021-03-01", valid_from=day("2021-01-01")),
        [("2021-02-01", 2, "not-valid expired"), ("2021-02-01", 3, "valid")],
    ),
    "expiry stated for a day before the renewal begins": (
        issued()
        .act("renewed", "2020-06-01")
        .act("expired", "2020-09-01", valid_from=day("2020-05-01")),
        [("2020-07-01", 2, "valid"), ("2020-07-01", 3, "not-valid expired")],
    ),
    "an amendment before the start does not bring the start forward": (
        issued("2020-01-01", valid_from="2020-06-01").act("amended", "2020-02-01"),
        [("2020-03-01", None, "not-valid not-yet-valid"), ("2020-07-01", None, "valid")],
    ),
    "an amendment that says so does": (
        issued("2020-01-01", valid_from="2020-06-01").act(
            "amended", "2020-02-01", valid_from=day("2020-03-01")
        ),
        [("2020-03-01", None, "valid"), ("2020-03-01", 1, "not-valid not-yet-valid")],
    ),
    "an amendment after an early renewal does not start the renewal early": (
        issued(valid_from="2020-01-01", valid_until="2020-12-31")
        .act("renewed", "2020-11-01", valid_from=day("2021-01-01"), valid_until=day("2021-12-31"))
        .act("amended", "2020-12-01"),
        [("2020-12-15", None, "valid"), ("2021-12-31", None, "valid")],
    ),
    "amended while suspended stays suspended": (
        issued().act("suspended", "2020-06-01", reason="r").act("amended", "2020-07-01"),
        [("2020-08-01", None, "not-valid suspended")],
    ),
    "unknown start": (
        issued("2020-06-01", valid_from="unknown"),
        [("2015-01-01", None, "cannot-decide start-unknown"), ("2020-06-02", None, "valid")],
    ),
    "unknown start, but over": (
        issued("2020-06-01", valid_from="unknown", valid_until="2020-12-31"),
        [("2021-06-02", None, "not-valid expired")],
    ),
    "issue of unknown start, and certainly revoked": (
        issued("2020-06-01", valid_from="unknown").act(
            "revoked", "2020-06-02", revocation="penalty", valid_from=day("2020-03-01")
        ),
        [
            ("2020-02-01", None, "cannot-decide start-unknown"),
            ("2020-04-01", 1, "cannot-decide start-unknown"),
            ("2020-04-01", 2, "not-valid revoked-penalty"),
        ],
    ),
    "revocation of unknown start": (
        issued("2020-01-01").act(
            "revoked", "2020-06-01", revocation="annulled", valid_from="unknown"
        ),
        [
            ("2019-06-01", None, "not-valid not-yet-valid"),
            ("2020-03-01", None, "cannot-decide start-unknown"),
            ("2020-06-02", None, "not-valid revoked-annulled"),
        ],
    ),
    "reinstatement of unknown start": (
        issued()
        .act("suspended", "2020-03-01", reason="r")
        .act("reinstated", "2020-06-01", valid_from="unknown"),
        [
            ("2020-04-01", 2, "not-valid suspended"),
            ("2020-04-01", 3, "cannot-decide start-unknown"),
            ("2020-07-01", 3, "valid"),
        ],
    ),
    "expiry and renewal of unknown start": (
        issued()
        .act("expired", "2020-06-01", valid_from="unknown")
        .act("renewed", "2020-09-01", valid_from="unknown"),
        [
            ("2020-03-01", None, "cannot-decide start-unknown"),
            ("2020-07-01", None, "cannot-decide start-unknown"),
            ("2020-10-01", None, "valid"),
        ],
    ),
    "unknown end": (
        issued("2020-01-01", valid_until="unknown"),
        [("2020-01-01", None, "valid"), ("2020-06-01", None, "cannot-decide end-unknown")],
    ),
    "unknown end, but revoked": (
        issued("2020-01-01", valid_until="unknown").act(
            "revoked", "2020-02-01", revocation="penalty"
        ),
        [("2020-06-01", None, "not-valid revoked-penalty")],
    ),
    "transfer": (
        issued()
        .act("transferred-out", "2020-06-01", transfer_to="b")
        .act("transferred-in", "2020-07-01", by="b"),
        [
            ("2020-06-15", None, "not-valid transferred"),
            ("2020-07-15", None, "valid"),
            ("2020-07-15", 2, "not-valid transferred"),
        ],
    ),
    "annulled by another department while it moves": (
        issued()
        .act("transferred-out", "2020-06-01", transfer_to="b")
        .act("revoked", "2020-06-15", by="court", revocation="annulled"),
        [
            ("2020-06-10", None, "not-valid transferred"),
            ("2020-07-01", None, "not-valid revoked-annulled"),
        ],
    ),
    "void of a revocation": (
        issued().act("revoked", "2020-06-01", revocation="penalty").void(1),
        [("2020-07-01", 2, "not-valid revoked-penalty"), ("2020-07-01", 3, "valid")],
    ),
    "void of the void": (
        issued().act("revoked", "2020-06-01", revocation="penalty").void(1).void(2),
        [("2020-07-01", 3, "valid"), ("2020-07-01", 4, "not-valid revoked-penalty")],
    ),
    "void of the issue": (
        issued().void(0),
        [("2020-07-01", 1, "valid"), ("2020-07-01", 2, "not-valid voided")],
    ),
    "restated last day": (
        issued(valid_until="2020-12-31").restate(0, valid_until=day("2025-12-31")),
        [("2021-06-01", 1, "not-valid expired"), ("2021-06-01", 2, "valid")],
    ),
    "restated to open": (
        issued(valid_until="2020-12-31").restate(0, valid_until="open"),
        [("2999-01-01", None, "valid")],
    ),
    "void of a restatement": (
        issued(valid_until="2020-12-31").restate(0, valid_until="open").void(1),
        [("2021-06-01", 2, "valid"), ("2021-06-01", 3, "not-valid expired")],
    ),
    "restated start of a suspension": (
        issued()
        .act("suspended", "2020-06-01", reason="r")
        .restate(1, valid_from=day("2020-03-01")),
        [("2020-04-01", 2, "valid"), ("2020-04-01", 3, "not-valid suspended")],
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    history, rows = STORIES[name]
    for at, known, says in rows:
        assert history.says(at, known) == says, (at, known)


@pytest.mark.parametrize("name", STORIES)
def test_at_the_far_end_the_answer_is_the_standing(name: str) -> None:
    history, _ = STORIES[name]
    for known in range(1, len(history.acts) + 1):
        standing = fold(history.acts[:known])
        found = history.at("2999-01-01", known)
        if standing.state in ("revoked", "transferred", "void"):
            assert found.answer == "not-valid"
        if found.answer == "valid":
            assert standing.state == "valid" or standing.suspended_until is not None
            assert found.responsible == standing.responsible
            assert found.version == standing.version
            assert found.valid_until == standing.valid_until
            if standing.valid_from is not None:
                assert found.valid_from == standing.valid_from


def test_a_suspension_after_one_that_ended_by_itself_is_the_standing() -> None:
    history = (
        issued()
        .act("suspended", "2020-06-01", reason="first", valid_until=day("2020-06-30"))
        .act("suspended", "2020-08-01", reason="second", valid_until=day("2020-12-31"))
    )
    standing = fold(history.acts)
    assert (standing.reason, standing.suspended_until) == ("second", day("2020-12-31"))
    assert standing.since == history.acts[2].time
    assert fold(history.act("reinstated", "2020-09-01").acts).state == "valid"


# --- ends of validity that have not begun


def revoked_from_2099() -> History:
    return issued().act(
        "revoked", "2020-02-01", revocation="deregistered", valid_from=day("2099-01-01")
    )


def test_a_revocation_to_come_shields_from_none_today() -> None:
    """It would be a way to keep a certificate valid against everybody else's acts."""
    h = revoked_from_2099().act("revoked", "2020-03-01", by="b", revocation="penalty")
    assert h.says("2020-03-02") == "not-valid revoked-penalty"
    assert h.at("2099-06-01").since == moment("2020-03-01")
    h = revoked_from_2099().act("suspended", "2020-03-01", by="b", reason="fraud")
    assert h.says("2020-02-20") == "valid"
    assert h.says("2020-03-02") == "not-valid suspended"
    assert h.says("2099-06-01") == "not-valid revoked-deregistered"
    assert fold(h.acts).state == "revoked"


@pytest.mark.parametrize("kind", ["expired", "suspended", "transferred-out"])
def test_another_end_to_come_shields_from_none_today(kind: str) -> None:
    members = {"reason": "x"} if kind == "suspended" else {}
    members |= {"transfer_to": "b"} if kind == "transferred-out" else {}
    for act in (
        {"kind": "suspended", "reason": "fraud"},
        {"kind": "revoked", "revocation": "penalty"},
    ):
        h = issued().act(kind, "2020-02-01", valid_from=day("2099-01-01"), **members)
        h.act(time="2020-03-01", by="b", **act)
        assert h.says("2020-02-20") == "valid"
        assert h.at("2020-03-02").answer == "not-valid"
        assert h.at("2099-06-01").answer == "not-valid"


@pytest.mark.parametrize("kind", ["renewed", "amended", "reinstated", "expired", "transferred-out"])
def test_nothing_else_comes_before_a_revocation_to_come(kind: str) -> None:
    members = {"transfer_to": "b"} if kind == "transferred-out" else {}
    with pytest.raises(Refused, match="invalid-transition"):
        revoked_from_2099().act(kind, "2020-03-01", **members)


def test_a_suspension_learned_late_is_lifted_by_no_revocation_and_lifts_none() -> None:
    h = issued().act("revoked", "2020-03-01", revocation="annulled")
    h.act("suspended", "2020-05-01", reason="x", valid_from=day("2020-02-01"))
    assert h.says("2020-02-15") == "not-valid suspended"
    assert h.says("2020-06-01") == "not-valid revoked-annulled"


def test_a_transfer_does_not_arrive_before_it_begins() -> None:
    """Else a suspension that the transfer waits for would be escaped."""
    h = issued().act("suspended", "2020-02-01", reason="x", valid_until=day("2020-12-31"))
    h.act("transferred-out", "2020-02-02", valid_from=day("2021-01-01"), transfer_to="b")
    with pytest.raises(Refused, match="dates-reversed"):
        h.act("transferred-in", "2020-02-03", by="b")
    h.act("transferred-in", "2020-02-03", by="b", valid_from=day("2021-01-01"))
    assert h.says("2020-06-01") == "not-valid suspended"
    assert h.says("2021-01-02") == "valid"


def test_versions() -> None:
    history = (
        issued(valid_from="2020-01-01")
        .act("amended", "2020-06-01")
        .act("renewed", "2020-11-01", valid_from=day("2021-01-01"))
    )
    assert [t.version for t in history.acts] == [1, 2, 3]
    assert history.says("2020-03-01", version=1) == "valid"
    assert history.says("2020-07-01", version=1) == "not-valid superseded"
    assert history.says("2020-07-01", version=2) == "valid"
    assert history.says("2020-07-01", version=3) == "not-valid not-yet-valid"
    assert history.says("2020-07-01", known=1, version=2) == "not-valid no-such-version"
    assert history.at("2021-02-01", version=1).since == history.acts[2].start


def test_since_and_what_decides() -> None:
    history = STORIES["a suspension with a stated end ends by itself"][0]
    lifted = history.at("2020-08-01")
    assert lifted.since == times.parse_moment("2020-07-01T00:00:00+08:00")
    assert set(lifted.deciding) == {t.id for t in history.acts}  # the ended suspension too
    corrected = STORIES["void of a revocation"][0]
    assert corrected.acts[2].id in corrected.at("2020-07-01").deciding
    unknown = STORIES["revocation of unknown start"][0]
    found = unknown.at("2020-03-01")
    assert found.known_since == moment("2020-06-01")
    assert unknown.acts[1].id in found.deciding
    assert unknown.at("2020-07-01").since is None


# --- corrections


@pytest.mark.parametrize(
    ("correction", "which", "days", "code"),
    [
        ("void", 9, {}, "unknown-event"),
        ("void", 0, {}, "correction-breaks-history"),  # a renewal without an issue
        ("restate", 3, {"valid_from": day("2020-01-01")}, "unknown-event"),  # of a correction
        ("restate", 0, {"valid_until": day("2019-01-01")}, "correction-breaks-history"),
        ("restate", 2, {"valid_from": "unknown"}, "correction-breaks-history"),
        ("restate", 4, {"valid_until": day("2030-01-01")}, "correction-breaks-history"),
    ],
)
def test_refused_corrections(correction: str, which: int, days: dict[str, str], code: str) -> None:
    history = (
        issued(valid_from="2020-01-01")
        .act("renewed", "2020-02-01")
        .act("suspended", "2020-03-01", reason="r")
        .restate(0, valid_from=day("2020-01-02"))
        .act("reinstated", "2020-04-01")
    )
    t = Transition(
        "corrected",
        "f" * 32,
        "a",
        KEY,
        "2026-01-01T00:00:00Z",
        2,
        corrects=f"{which:032x}",
        correction=correction,
        reason="e",
        **days,
    )
    with pytest.raises(Refused) as refused:
        correct(history.acts, t)
    assert refused.value.code == code


def test_a_long_history_is_not_corrected() -> None:
    """A correction folds the history while every other writer waits."""
    history = issued()
    for n in range(lifecycle.MAX_CORRECTABLE // 2):
        for kind, extra in (("suspended", {"reason": "r"}), ("reinstated", {})):
            version = fold(history.acts[:1]).version
            history.acts.append(
                Transition(kind, f"{n}{kind}", "a", KEY, "2020-02-01T00:00:00Z", version, **extra)
            )
    with pytest.raises(Refused, match="history-too-long"):
        history.void(0)


def test_versions_of_voided_events_are_not_given_again() -> None:
    history = issued().act("renewed", "2020-02-01").void(1).act("renewed", "2020-03-01")
    assert [t.version for t in history.acts] == [1, 2, 1, 3]


# --- bytes


def test_no_history_gives_no_answer() -> None:
    t = Transition("suspended", "0" * 32, "a", KEY, "2020-01-01T00:00:00Z", 1)
    for history in ([], [t], [t._replace(kind="reinstated")]):
        with pytest.raises(ProofError):
            answer(history, 0)


GOOD = issued().acts[0].members()


@pytest.mark.parametrize(
    "change",
    [
        {"event": "destroyed"},
        {"event": "revoked"},
        {"event": "corrected"},
        {"event": "corrected", "corrects": "0" * 32, "correction": "undo"},
        {"revocation": "penalty"},
        {"correction": "void", "corrects": "0" * 32},
        {"version": True},
        {"version": -1},
        {"version": "1"},
        {"version": 2**53},
        {"time": "2020-01-01"},
        {"valid_from": "open"},
        {"valid_from": "2020-02-30+08:00"},
        {"valid_until": "forever"},
        {"valid_until": None},
        {"holder": "1:00"},
        {"id": 7},
    ],
    ids=str,
)
def test_a_transition_of_another_form_is_refused(change: dict[str, Any]) -> None:
    lifecycle.parse_transition(GOOD)
    with pytest.raises(LedgerError):
        lifecycle.parse_transition({**GOOD, **change})


@pytest.mark.parametrize("missing", ["event", "id", "by", "key", "time", "version"])
def test_a_transition_lacks_nothing(missing: str) -> None:
    with pytest.raises(LedgerError):
        lifecycle.parse_transition({n: v for n, v in GOOD.items() if n != missing})


def test_links_bind_order_place_and_words() -> None:
    first = lifecycle.link(bytes(32), 7, 0, bytes(32), b"{}")
    others = [
        lifecycle.link(first, 7, 0, bytes(32), b"{}"),
        lifecycle.link(bytes(32), 8, 0, bytes(32), b"{}"),
        lifecycle.link(bytes(32), 7, 1, bytes(32), b"{}"),
        lifecycle.link(bytes(32), 7, 0, b"\x01" * 32, b"{}"),
        lifecycle.link(bytes(32), 7, 0, bytes(32), b"{} "),
        lifecycle.holder_link(bytes(32), True, bytes(32), 7, 0),
        lifecycle.holder_link(bytes(32), False, bytes(32), 7, 0),
        lifecycle.holder_record_hash(7, bytes(32)),
        lifecycle.record_hash(b"{}"),
    ]
    assert len({first, *others}) == len(others) + 1


def test_a_record_commits_to_the_standing_and_the_link() -> None:
    standing = fold(issued(valid_until="2020-12-31").acts)
    record = standing.record(b"\x01" * 32)
    assert lifecycle.parse_record(record) == (standing, b"\x01" * 32)
    for damaged in (record[:-1], record + b" ", b"{}", b"[]", record.replace(b'"link"', b'"lunk"')):
        with pytest.raises(ProofError, match="stored-bytes-damaged"):
            lifecycle.parse_record(damaged)
