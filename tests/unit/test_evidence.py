"""Evidence: what a true file answers, and that nothing altered is ever believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.words import describe
from ledger import (
    canonical,
    checkpoint,
    cosignature,
    identity,
    lifecycle,
    merkle,
    statusmap,
    times,
    verdict,
)
from ledger.admission import Turn
from ledger.bundle import AHEAD
from ledger.checking import check, check_file
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner
from ledger.entry import format_registry
from ledger.errors import Malformed, ProofError, Unavailable
from ledger.event import parse_event
from ledger.evidence import Evidence, Shown, format_evidence, parse_evidence
from ledger.lifecycle import Transition
from ledger.note import MemorySigner, parse_note, sign
from ledger.policy import Witness, simple_policy
from ledger.proving import show_entry
from ledger.registry import RECORD_FORM, Registry, registration_text
from ledger.short_forms import decode_hashes
from ledger.statusmap import Membership
from ledger.trust import Trust, TrustedKey, TrustedQuorum, format_trust, parse_trust
from ledger.verdict import Answer
from ledger.witnessing import add_signatures
from tests import world
from tests.ledger_builder import LedgerBuilder, MapState

DAY = 86_400
GRANTS = (
    ("a", world.ALL_ACTS, "own"),
    ("b", world.ALL_ACTS, "own"),
    ("c", ("corrected", "revoked"), "any"),
)


def moment(text: str) -> int:
    return times.parse_moment(text)


def make_ledger() -> LedgerBuilder:
    """Departments a and b who own, c who oversees; begins on 2026-03-01."""
    return LedgerBuilder({"a": 1, "b": 2, "c": 1}, GRANTS)


@cache
def suspended() -> tuple[bytes, Trust, int]:
    """Evidence of a certificate issued, suspended, reinstated, renewed; (file, trust, now)."""
    ledger = make_ledger()
    ledger.publish([ledger.event("issued", f"other {n}", change="x") for n in range(20)])
    ledger.admit("issued", "N1", valid_from="2026-02-01+08:00", valid_until="2027-01-31+08:00")
    ledger.status()
    for kind, members in (
        ("suspended", {"reason_code": "inspection"}),
        ("reinstated", {}),
        ("renewed", {"valid_from": "2026-03-02+08:00", "valid_until": "2028-01-31+08:00"}),
    ):
        ledger.advance(DAY)
        time = times.format_moment(ledger.now - times.SECOND)
        ledger.publish(
            [
                *(ledger.event("issued", f"{kind} {n}") for n in range(5)),
                ledger.event(kind, "N1", time=time, **members),
            ]
        )
        ledger.status()
    ledger.advance(DAY)
    ledger.publish([])
    data = format_evidence(ledger.evidence("N1", known_at=ledger.now - DAY * times.SECOND))
    return data, ledger.trust(), ledger.now


def failed(answer: Answer) -> list[str]:
    return [c.name for c in answer.checks if c.result == verdict.FAILED]


def ask(ledger: LedgerBuilder, number: str, **question: Any) -> Answer:
    """Through the file's bytes, as anybody would."""
    data = format_evidence(ledger.evidence(number, **question))
    return check_file(data, ledger.trust(), ledger.now, as_asked=True)


# --- true files ---


def test_checks_have_their_names_order_and_sentences() -> None:
    data, trust, now = suspended()
    answer = check_file(data, trust, now)
    assert answer.answer == "valid"
    assert [c.name for c in answer.checks] == [
        "event-signature",
        "authority",
        "inclusion",
        "checkpoint",
        "status",
        "freshness",
        "disclosures",
    ]
    assert [c.result for c in answer.checks] == ["passed"] * 6 + ["not-checked"]
    assert "complete history" in answer.checks[4].why
    assert all(c.why for c in answer.checks)


def test_json_has_the_names_that_were_fixed() -> None:
    data, trust, now = suspended()
    value = json.loads(json.dumps(check_file(data, trust, now).members()))
    assert value.keys() >= {
        "answer",
        "reason",
        "since",
        "certificate",
        "checks",
        "tree_size",
        "ledger_time",
    }
    assert set(value["certificate"]) >= {
        "type",
        "issuer",
        "number",
        "version",
        "valid_from",
        "valid_until",
    }
    assert value["certificate"]["version"] == 2
    assert all({"name", "result", "why"} <= set(c) for c in value["checks"])


def test_file_is_printed_again_to_the_same_bytes() -> None:
    data, _, _ = suspended()
    evidence = parse_evidence(data)
    assert format_evidence(evidence) == data
    assert parse_evidence(data + b"\n") == evidence


def test_no_line_is_shown_for_two_elements_of_the_history() -> None:
    data, trust, now = suspended()
    value = canonical.loads(data)
    shown = [n for n, step in enumerate(value["history"]) if "line" in step]
    value["history"].insert(shown[0], value["history"][shown[0]])
    answer = check_file(canonical.format(value), trust, now)
    assert answer.reason == verdict.REFUSED
    assert "two elements" in answer.why


def test_expanded_proofs_are_c2sp_tlog_proofs() -> None:
    data, trust, _ = suspended()
    evidence = parse_evidence(data)
    for shown in (*evidence.entries, evidence.status):
        index, hashes, signed = checkpoint.parse_proof(evidence.proof(shown))
        assert (index, tuple(hashes)) == (shown.index, shown.path)
        trust.check_checkpoint(signed)


def test_hashes_stand_once_and_none_that_others_give() -> None:
    value, evidence = json.loads(suspended()[0]), parse_evidence(suspended()[0])
    joined = [value["log"], value["registry"]["path"], *(b["path"] for b in value["bundles"])]
    hashes = [each for text in joined for each in decode_hashes(text)]
    assert len(set(hashes)) == len(hashes) > 10
    shown = (*evidence.entries, *evidence.registrations, evidence.status, evidence.genesis)
    assert sum(len(each.path) for each in shown) > 2 * len(decode_hashes(value["log"]))


def build_cases() -> Iterator[tuple[str, Callable[[LedgerBuilder], Answer], str, str]]:
    def issued(ledger: LedgerBuilder, **members: Any) -> None:
        given = {"valid_from": "2026-02-01+08:00", "valid_until": "2026-12-31+08:00", **members}
        ledger.admit("issued", "N", **{k: v for k, v in given.items() if v is not None})

    def case(*acts: tuple[str, dict[str, Any]], **question: Any) -> Callable[..., Answer]:
        def run(ledger: LedgerBuilder) -> Answer:
            issued(ledger, **question.pop("issued", {}))
            for kind, members in acts:
                ledger.advance(60)
                department = members.pop("department", "a")
                time = times.format_moment(ledger.now)
                ledger.admit(kind, "N", department, **{"time": time, **members})
            return ask(ledger, "N", **question)

        return run

    suspend = ("suspended", {"reason_code": "inspection"})
    yield "issued", case(), "valid", "in-force"
    yield "future", case(issued={"valid_from": "2026-06-01+08:00"}), "not-valid", "not-yet-valid"
    yield "before", case(at=moment("2026-01-01T00:00:00Z")), "not-valid", "not-yet-valid"
    yield "after", case(at=moment("2027-01-01T00:00:00+08:00")), "not-valid", "expired"
    yield "last", case(at=moment("2026-12-31T23:59:59+08:00")), "valid", "in-force"
    yield "suspended", case(suspend), "not-valid", "suspended"
    yield "reinstated", case(suspend, ("reinstated", {})), "valid", "in-force"
    for kind in ("annulled", "penalty", "deregistered"):
        revoke = ("revoked", {"revocation_kind": kind})
        yield kind, case(revoke), "not-valid", f"revoked-{kind}"
    by_other = ("revoked", {"revocation_kind": "annulled", "department": "c"})
    yield "by another", case(by_other), "not-valid", "revoked-annulled"
    yield (
        "no end",
        case(issued={"valid_until": None}, at=moment("9999-12-31T00:00:00Z")),
        "valid",
        "in-force",
    )
    for_ever = case(issued={"valid_until": "9999-12-31Z"}, at=moment("9999-12-31T23:00:00Z"))
    yield "a register's for ever", for_ever, "valid", "in-force"
    unknown = {"valid_from": "unknown"}
    early = moment("2026-02-15T00:00:00Z")
    yield "unknown start", case(issued=unknown, at=early), "cannot-decide", "start-unknown"
    moved = ("transferred-out", {"transfer_to": "b"})
    yield "moved out", case(moved), "not-valid", "transferred"
    arrived = ("transferred-in", {"department": "b"})
    yield "moved in", case(moved, arrived), "valid", "in-force"
    renewed = ("renewed", {"valid_until": "2027-12-31+08:00"})
    yield "old version", case(renewed, version=1), "not-valid", "superseded"
    yield "new version", case(renewed, version=2), "valid", "in-force"


CASES = list(build_cases())


@pytest.mark.parametrize("case", CASES, ids=[c[0] for c in CASES])
def test_answers(case: tuple[str, Callable[[LedgerBuilder], Answer], str, str]) -> None:
    _, run, answer, reason = case
    found = run(make_ledger())
    assert (found.answer, found.reason, failed(found)) == (answer, reason, [])
    codes = {"valid": 0, "not-valid": 1, "not-found": 3, "cannot-decide": 4}
    assert found.exit == codes[answer]


def test_voided_and_restated_history() -> None:
    ledger = make_ledger()
    ledger.admit("issued", "N", change="wrong")
    wrong = world.make_event("issued", "N", change="wrong")
    event_id = json.loads(wrong)["id"]
    correction = {"corrects": event_id, "reason_code": "clerical-error"}
    ledger.admit(
        "corrected",
        "N",
        correction="restate",
        valid_until="2026-02-01+08:00",
        valid_from="2026-01-01+08:00",
        **correction,
    )
    assert ask(ledger, "N").reason == "expired"
    ledger.admit("corrected", "N", correction="void", change="2", **correction)
    assert (ask(ledger, "N").answer, ask(ledger, "N").reason) == ("not-valid", "voided")


@pytest.mark.parametrize(
    ("days", "events", "limit"),
    [
        ({"valid_from": "2026-02-01+08:00", "valid_until": "2028-01-31+08:00"}, 1, 8_200),
        ({"valid_until": "2028-01-31+08:00"}, 2, 10_000),  # not before what it renews, shown too
    ],
    ids=["days of its own", "days taken over"],
)
def test_size_of_evidence_in_a_large_ledger(days: dict[str, Any], events: int, limit: int) -> None:
    """For a history of four events in a log of 130,000 entries, by how many of them decide; with
    ten million records in the map, where a bucket's path is longer by 43 bytes a level.
    """
    ledger = make_ledger()
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("issued", {"valid_from": "2026-02-01+08:00", "valid_until": "2027-01-31+08:00"}),
        ("suspended", {"reason_code": "inspection"}),
        ("reinstated", {}),
        ("renewed", days),
    ]
    for kind, members in kinds:
        ledger.fill(32_768)
        ledger.advance(60)
        time = times.format_moment(ledger.now)
        others = [ledger.event("issued", f"{kind} {n}") for n in range(400)]
        ledger.publish([*others, ledger.event(kind, "N", time=time, **members), *others[:99]])
    evidence = ledger.evidence("N")
    data = format_evidence(evidence)
    assert check_file(data, ledger.trust(), ledger.now).answer == "valid"
    more_levels = statusmap.next_k(0, 10_000_000) - ledger.k[statusmap.CERTIFICATES]
    assert more_levels == 13
    size = len(data) + 43 * more_levels
    assert (len(evidence.events), size < limit) == (events, True), size


# --- what decides is signed by departments ---


Forge = Callable[[Transition], Transition]


def forged_ledger(
    monkeypatch: pytest.MonkeyPatch, forge: Forge, *acts: tuple[str, dict[str, Any]]
) -> tuple[Evidence, LedgerBuilder]:
    """A ledger whose operator alters transitions before they are linked, with its evidence."""
    real = lifecycle.make_transition
    ledger = make_ledger()
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "make_transition", lambda *said: forge(real(*said)))
        for n, (kind, members) in enumerate(acts):
            ledger.admit(kind, "N", change=str(n), **members)
    return ledger.evidence("N"), ledger


def as_files_say(evidence: Evidence) -> Evidence:
    """The same where transitions are read from the lines that are shown."""
    history = list(evidence.history)
    for event in evidence.events:
        step = history[event.ordinal]
        item, t = parse_event(event.line, step.line_hash), step.transition
        read = lifecycle.make_transition(item, t.by, t.key, t.version)
        history[event.ordinal] = replace(step, transition=read)
    return replace(evidence, history=tuple(history))


ISSUED = ("issued", {"valid_from": "2025-01-01+08:00"})
ENDING = ("issued", {"valid_from": "2025-01-01+08:00", "valid_until": "2026-02-01+08:00"})
LATER = ("issued", {"valid_from": "2027-01-01+08:00"})
ADDRESS, NAME = ("amended", {"reason_code": "address"}), ("amended", {"reason_code": "name"})
SUSPENDED = ("suspended", {"valid_from": "2026-02-01+08:00", "reason_code": "hygiene"})


def event_id(change: str, kind: str) -> str:
    return str(json.loads(world.make_event(kind, "N", change=change))["id"])


@pytest.mark.parametrize(
    ("acts", "forge", "true"),
    [
        (
            (ENDING, ADDRESS, NAME),
            lambda t: t._replace(valid_until="2099-12-31Z") if t.reason == "address" else t,
            "expired",
        ),
        (
            (LATER, ("renewed", {}), NAME),
            lambda t: t._replace(valid_from="2025-01-01Z") if t.kind == "issued" else t,
            "not-yet-valid",
        ),
        (
            (ISSUED, SUSPENDED, ADDRESS),
            lambda t: t._replace(valid_until="2026-02-01Z") if t.kind == "suspended" else t,
            "suspended",
        ),
        (
            (ISSUED, SUSPENDED, ADDRESS),
            lambda t: t._replace(valid_from="2099-01-01Z") if t.kind == "suspended" else t,
            "suspended",
        ),
        (
            (
                ISSUED,
                ("suspended", {"valid_from": "2026-01-01Z", "reason_code": "one"}),
                ("reinstated", {"valid_from": "2026-01-02Z"}),
                SUSPENDED,
                (
                    "corrected",
                    {
                        "corrects": event_id("2", "reinstated"),
                        "correction": "restate",
                        "valid_from": "2026-01-03Z",
                        "reason_code": "typing",
                    },
                ),
                ADDRESS,
            ),
            lambda t: t._replace(valid_until="2026-02-02Z") if t.reason == "hygiene" else t,
            "suspended",
        ),
    ],
    ids=[
        "a last day taken over",
        "a first day taken over",
        "a suspension over",
        "a suspension to come",
        "among corrections",
    ],
)
def test_every_value_that_was_read_is_shown_as_signed(
    acts: tuple[tuple[str, dict[str, Any]], ...],
    forge: Forge,
    true: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, ledger = forged_ledger(monkeypatch, lambda t: t, *acts)
    honest = ask(ledger, "N")
    assert (honest.answer, honest.reason) == ("not-valid", true)
    forged, ledger = forged_ledger(monkeypatch, forge, *acts)
    assert refused_by(forged, ledger) == ["event-signature"]
    with pytest.raises(Malformed, match="no file can say this"):
        format_evidence(forged)
    assert refused_by(as_files_say(forged), ledger) == ["status"]


def test_what_a_correction_leaves_out_is_shown_too() -> None:
    """Or another act could bear the id that it names."""
    ledger = make_ledger()
    ledger.admit("issued", "N")
    ledger.admit("suspended", "N", reason_code="wrong-firm")
    void = {"corrects": event_id("1", "suspended"), "correction": "void"}
    ledger.admit("corrected", "N", reason_code="wrong-firm", **void)
    evidence = ledger.evidence("N")
    assert check(evidence, ledger.trust(), ledger.now).answer == "valid"
    assert [event.ordinal for event in evidence.events] == [0, 1, 2]


def moved_ledger() -> LedgerBuilder:
    """Issued by a, directed to c."""
    grants = [(name, world.ALL_ACTS, "own") for name in "abc"]
    ledger = LedgerBuilder({"a": 1, "b": 1, "c": 1}, grants)
    ledger.admit("issued", "N")
    ledger.admit("transferred-out", "N", transfer_to="c")
    return ledger


def test_a_transfer_taken_in_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = moved_ledger()
    monkeypatch.setattr(Turn, "_check_authority", lambda *_: "own")  # a dishonest operator's
    ledger.admit("transferred-in", "N", "b")
    monkeypatch.undo()
    answer = ask(ledger, "N")
    assert (answer.reason, "was not to b" in answer.why) == ("evidence-refused", True)
    ledger = moved_ledger()
    ledger.admit("transferred-in", "N", "c")
    assert ask(ledger, "N").answer == "valid"


@pytest.mark.parametrize("version", [1, 3, 900])
def test_versions_numbered_at_will(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make_ledger()
    ledger.admit("issued", "N")
    monkeypatch.setattr(lifecycle, "next_version", lambda *_: version)
    ledger.admit("renewed", "N")
    monkeypatch.undo()
    answer = ask(ledger, "N")
    assert (answer.reason, failed(answer)[:2]) == ("evidence-refused", ["authority", "status"])
    assert answer.why.endswith(f"gives version {version}, not 2")


def test_an_event_on_another_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LedgerBuilder({"a": 2}, GRANTS[:1])
    number = next(f"{n}" for n in range(99) if world.lane_of("a", f"{n}", ledger.view.registry))
    monkeypatch.setattr(identity, "lane_of", lambda key, lanes: 0)
    ledger.publish([ledger.event("issued", number)], lane=0)
    monkeypatch.undo()
    answer = ask(ledger, number)
    assert (failed(answer)[0], "wrong lane" in answer.why) == ("authority", True)


def test_an_identifier_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make_ledger()
    monkeypatch.setattr(Turn, "_check_identifier", lambda *_: None)
    said = identity.Identifier(world.TYPE, "11430000006122244L", "N", 2)
    ledger.admit("issued", "N", certificate_identifier=str(said))
    monkeypatch.undo()
    assert failed(ask(ledger, "N")) == ["event-signature"]


def test_an_event_id_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make_ledger()
    same = event_id("1", "amended")
    ledger.admit("issued", "N")
    ledger.admit("amended", "N", event_id=same)
    for certificate in ledger.view.certificates.values():
        certificate.event_ids.clear()
    ledger.admit("amended", "N", change="2", event_id=same)
    answer = ask(ledger, "N")
    assert (answer.reason, "two events have the id" in answer.why) == ("evidence-refused", True)


# --- two times and freshness ---


def late_ledger() -> LedgerBuilder:
    """Issued 03-01; a revocation of 03-02 becomes known on 03-05."""
    ledger = make_ledger()
    ledger.admit("issued", "N", valid_from="2026-03-01+08:00")
    ledger.status()
    ledger.advance(4 * DAY)
    ledger.admit(
        "revoked",
        "N",
        revocation_kind="annulled",
        valid_from="2026-03-02+08:00",
        time="2026-03-05T07:00:00+08:00",
    )
    ledger.status()
    ledger.advance(DAY)
    ledger.publish([])
    return ledger


@pytest.mark.parametrize(
    ("at", "known_at", "answer"),
    [
        ("2026-03-01T12:00:00+08:00", None, "valid"),
        ("2026-03-03T00:00:00+08:00", None, "not-valid"),
        ("2026-03-03T00:00:00+08:00", "2026-03-04T00:00:00+08:00", "valid"),
        ("2026-03-06T00:00:00+08:00", "2026-03-05T12:00:00+08:00", "not-valid"),
        ("2026-03-03T00:00:00+08:00", "2026-02-01T00:00:00+08:00", "not-found"),
    ],
)
def test_two_times(at: str, known_at: str | None, answer: str) -> None:
    known = None if known_at is None else moment(known_at)
    assert ask(late_ledger(), "N", at=moment(at), known_at=known).answer == answer


def test_evidence_of_one_moment_offered_for_another() -> None:
    ledger = late_ledger()
    data = format_evidence(ledger.evidence("N", at=moment("2026-03-01T12:00:00Z")))
    again = check_file(data, ledger.trust(), ledger.now, known_at="2026-03-04T00:00:00Z")
    assert (again.answer, again.reason) == ("cannot-decide", "evidence-incomplete")
    assert "ask again" in again.why


def test_a_state_known_earlier_is_not_passed_off_as_the_last_one() -> None:
    """An older status entry hides an event that was known by then: not believed."""
    ledger = late_ledger()
    then = moment("2026-03-05T12:00:00+08:00")
    true = ledger.evidence("N", at=then, known_at=then)
    older = ledger.evidence("N", at=then, known_at=moment("2026-03-02T00:00:00Z"))
    forged = replace(older, question=true.question)
    found = check(forged, ledger.trust(), ledger.now)
    assert (found.answer, found.reason) == ("cannot-decide", "known-at-unclear")


def test_ledger_times_that_go_back() -> None:
    """An unwelcome entry is stamped later than the state that covers it: not known then?"""
    ledger = make_ledger()
    ledger.admit("issued", "N")
    ledger.advance(60)
    first = ledger.status()
    then = ledger.now
    ledger.advance(4 * 3600)
    ledger.admit("revoked", "N", revocation_kind="penalty", time="2026-03-01T08:01:00+08:00")
    ledger.advance(-2 * 3600)
    ledger.status()
    true = ledger.evidence("N", known_at=then + 3600 * times.SECOND)
    from ledger.proving import show_entry

    earlier = replace(true, status_then=show_entry(ledger.source(), first))
    assert "status" in refused_by(earlier, ledger)
    assert "status" in refused_by(true, ledger)


def test_bare_dates_are_days_of_the_issuers_zone() -> None:
    data, trust, now = suspended()
    day = check_file(data, trust, now, at="2026-02-01")
    assert day.question is not None
    assert day.question.at == moment("2026-01-31T16:00:00Z")
    assert day.answer in ("valid", "cannot-decide")


@pytest.mark.parametrize("at", ["9999-12-31", "0001-01-01", "9999-12-31T23:59:59Z"])
def test_distant_moments_have_answers(at: str) -> None:
    data, trust, now = suspended()
    assert check_file(data, trust, now, at=at, known_at=at).exit in (1, 3, 4)


@pytest.mark.parametrize("at", ["2026-02-30", "yesterday", "", "0000-01-01", "2026-1-1"])
def test_impossible_moments_are_said_to_be_so(at: str) -> None:
    data, trust, now = suspended()
    with pytest.raises(Malformed, match="malformed-time"):
        check_file(data, trust, now, at=at)


def test_old_evidence_goes_stale_and_keeps_its_meaning() -> None:
    ledger = make_ledger()
    ledger.admit("issued", "N")
    data = format_evidence(ledger.evidence("N"))
    later = ledger.now + 2 * DAY * times.SECOND
    stale = check_file(data, ledger.trust(), later)
    assert (stale.answer, stale.reason, failed(stale)) == (
        "cannot-decide",
        "checkpoint-stale",
        ["freshness"],
    )
    relied = check_file(data, ledger.trust(), later, relied_at=times.format_moment(ledger.now))
    assert relied.answer == "valid"
    past = check_file(data, ledger.trust(), later, at="2026-03-01T00:00:00Z")
    assert past.answer == "valid"


REVOKE = ("revoked", {"revocation_kind": "penalty"})
STALE_CASES: dict[str, tuple[tuple[tuple[str, dict[str, Any]], ...], int | None, str, bool]] = {
    "revoked": ((REVOKE,), None, "revoked-penalty", True),
    "revoked, of a version": ((REVOKE,), 1, "revoked-penalty", True),
    "superseded": ((("renewed", {}),), 1, "superseded", True),
    "expired": ((("amended", {"valid_until": "2026-03-01+08:00"}),), None, "expired", False),
    "expired, of a version": ((("amended", {"valid_until": "2026-03-01Z"}),), 2, "expired", True),
    "said to have expired": ((("expired", {}),), None, "expired", False),
    "suspended": ((("suspended", {"reason_code": "x"}),), None, "suspended", False),
    "transferred": ((("transferred-out", {"transfer_to": "b"}),), None, "transferred", False),
    "no such version": ((), 2, "no-such-version", False),
    "not yet valid": ((("amended", {"valid_from": "2030-01-01Z"}),), 2, "not-yet-valid", False),
    "voided": (
        (
            (
                "corrected",
                {"corrects": event_id("0", "issued"), "correction": "void", "reason_code": "x"},
            ),
        ),
        None,
        "voided",
        False,
    ),
}


@pytest.mark.parametrize("name", STALE_CASES)
def test_staleness_takes_nothing_but_from_what_may_have_changed(name: str) -> None:
    acts, version, reason, is_over = STALE_CASES[name]
    ledger = make_ledger()
    ledger.admit("issued", "N", change="0")
    ledger.advance(2 * DAY)
    for kind, members in acts:
        ledger.admit(kind, "N", time=times.format_moment(ledger.now), **members)
    ledger.publish([])
    data = format_evidence(ledger.evidence("N", version=version))
    fresh = check_file(data, ledger.trust(), ledger.now, version=version)
    assert (fresh.answer, fresh.reason, failed(fresh)) == ("not-valid", reason, [])
    later = ledger.now + 307 * DAY * times.SECOND
    stale = check_file(data, ledger.trust(), later, version=version)
    assert failed(stale) == ["freshness"]
    assert (stale.answer, stale.reason) == (
        ("not-valid", reason) if is_over else ("cannot-decide", "checkpoint-stale")
    )


def test_what_was_not_known_then_stays_so() -> None:
    ledger = late_ledger()
    then = moment("2026-02-01T00:00:00+08:00")
    data = format_evidence(ledger.evidence("N", known_at=then))
    later = ledger.now + 307 * DAY * times.SECOND
    answer = check_file(data, ledger.trust(), later, as_asked=True)
    assert (answer.answer, answer.reason) == ("not-found", "not-known-then")


def test_a_silent_issuer_leaves_no_valid_answer() -> None:
    ledger = make_ledger()
    ledger.admit("issued", "N")
    ledger.advance(DAY + 1)
    answer = ask(ledger, "N")
    assert (answer.answer, answer.reason) == ("cannot-decide", "issuer-silent")
    ledger.doctor("department/a", silence_limit_seconds=None)
    ledger.status()
    assert ask(ledger, "N").answer == "valid"


@pytest.mark.parametrize(
    ("after", "answer"), [(0, "valid"), (DAY, "valid"), (DAY + 1, "cannot-decide")]
)
@pytest.mark.parametrize("known", [False, True], ids=["", "known then"])
def test_an_issuer_silent_for_long_leaves_the_past_open_too(
    after: int, answer: str, known: bool
) -> None:
    """Its acts of then may be withheld: its word counts up to its last signature and the limit."""
    ledger = make_ledger()
    ledger.admit("issued", "N")
    signed = ledger.now
    ledger.advance(90 * DAY)
    ledger.status()
    at = times.format_moment(signed + after * times.SECOND)
    known_at = times.format_moment(ledger.now) if known else None
    evidence = ledger.evidence("N", at=moment(at), known_at=known_at and moment(known_at))
    data = format_evidence(evidence)
    found = check_file(data, ledger.trust(), ledger.now + 1, at=at, known_at=known_at)
    assert (found.answer, failed(found)) == (answer, [] if answer == "valid" else ["freshness"])
    assert found.reason == ("in-force" if answer == "valid" else "issuer-silent")


# --- whose question it is ---


def revoked_ledger() -> tuple[LedgerBuilder, int]:
    """Issued, published, revoked an hour later; (ledger, the moment before the revocation)."""
    ledger = make_ledger()
    ledger.admit("issued", "N")
    ledger.advance(60)
    ledger.status()
    before = ledger.now
    ledger.advance(3600)
    time = times.format_moment(ledger.now)
    ledger.admit("revoked", "N", revocation_kind="penalty", time=time)
    ledger.advance(60)
    return ledger, before


@pytest.mark.parametrize("member", ["at", "known_at"])
@pytest.mark.parametrize("at", [None, "now"])
def test_the_file_does_not_choose_the_moment(member: str, at: str | None) -> None:
    """A revoked certificate's bearer makes a file for a question from before the revocation."""
    ledger, before = revoked_ledger()
    data = format_evidence(ledger.evidence("N", **{member: before}))
    answer = check_file(data, ledger.trust(), ledger.now + times.SECOND, at=at)
    assert answer.answer in ("not-valid", "cannot-decide")
    assert answer.members()["file_question"][member] == times.format_moment(before)
    asked = check_file(data, ledger.trust(), ledger.now, as_asked=True)
    assert (asked.answer, asked.file_question) == ("valid", None)
    assert "file_question" not in asked.members()


def test_the_file_does_not_choose_the_version() -> None:
    ledger = plain_ledger()
    data = format_evidence(ledger.evidence("N", version=99))
    answer = check_file(data, ledger.trust(), ledger.now)
    assert answer.answer == "valid"
    assert answer.members()["file_question"]["options"] == "--version 99"
    asked = check_file(data, ledger.trust(), ledger.now, version=99)
    assert (asked.reason, asked.file_question) == ("no-such-version", None)


def test_the_options_of_the_files_question_ask_it() -> None:
    ledger, before = revoked_ledger()
    data = format_evidence(ledger.evidence("N", at=before - times.SECOND, known_at=before))
    own = check_file(data, ledger.trust(), ledger.now).file_question
    assert own is not None
    assert own.options() == "--at 2026-03-01T00:00:59Z --known-at 2026-03-01T00:01:00Z"
    at, known_at = own.options().split()[1::2]
    again = check_file(data, ledger.trust(), ledger.now, at=at, known_at=known_at)
    assert (again.answer, again.file_question) == ("valid", None)


def test_what_a_file_does_not_show_is_asked_for() -> None:
    ledger = make_ledger()
    ledger.admit("issued", "N")
    ledger.status()
    then = ledger.now
    for kind, members in (("suspended", {"reason_code": "x"}), ("reinstated", {})):
        ledger.advance(60)
        ledger.admit(kind, "N", time=times.format_moment(ledger.now), **members)
    data = format_evidence(ledger.evidence("N", known_at=then))
    answer = check_file(data, ledger.trust(), ledger.now)
    assert (answer.answer, answer.reason) == ("cannot-decide", "evidence-incomplete")
    assert "`certledger evidence 'N'`" in answer.why
    assert "or --as-asked asks" in describe(answer)


@pytest.mark.parametrize(
    ("asked", "exit_code"),
    [
        ({"type_code": world.TYPE, "issuer": "a", "number": " Ｎ "}, 0),
        ({"type_code": "SURGEON-LICENCE"}, 4),
        ({"issuer": "ministry-of-health"}, 4),
        ({"number": "M"}, 4),
        ({"number": ""}, 4),
        ({"type_code": world.TYPE, "issuer": "b"}, 4),
    ],
)
def test_a_file_about_another_certificate_decides_nothing(
    asked: dict[str, str], exit_code: int
) -> None:
    ledger = plain_ledger()
    data = format_evidence(ledger.evidence("N"))
    answer = check_file(data, ledger.trust(), ledger.now, **asked)
    assert answer.exit == exit_code
    if exit_code:
        name, wanted = list(asked.items())[-1]
        assert answer.reason == "another-certificate"
        own = answer.members()["certificate"][name.removesuffix("_code")]
        assert f"{wanted}, the file is of {own}" in answer.why


# --- untrue files ---


def refused_by(evidence: Evidence, ledger: LedgerBuilder, trust: Trust | None = None) -> list[str]:
    answer = check(evidence, trust or ledger.trust(), ledger.now)
    assert (answer.answer, answer.reason, answer.exit) == ("cannot-decide", "evidence-refused", 4)
    try:
        data = format_evidence(evidence)
    except Malformed:
        return failed(answer)  # no file can say this
    again = check_file(data, trust or ledger.trust(), ledger.now)
    assert (again.answer, again.reason) == (answer.answer, answer.reason)
    return failed(answer)


def plain_ledger() -> LedgerBuilder:
    ledger = make_ledger()
    ledger.admit("issued", "N")
    ledger.admit("issued", "M")
    ledger.status()
    return ledger


def test_another_ledgers_file() -> None:
    ledger = plain_ledger()
    trust = ledger.trust(origin="other.example")
    assert refused_by(ledger.evidence("N"), ledger, trust) == ["checkpoint"]


def test_a_ledger_begun_again_under_the_same_name_and_key() -> None:
    ledger = plain_ledger()
    evidence = ledger.evidence("N")
    assert refused_by(evidence, ledger, ledger.trust(genesis=b"\xff" * 32)) == ["checkpoint"]
    absent = ledger.evidence("none")
    assert refused_by(absent, ledger, ledger.trust(genesis=b"\xff" * 32)) == ["checkpoint"]
    moved = replace(evidence.genesis, path=evidence.entries[0].path)
    assert refused_by(replace(evidence, genesis=moved), ledger) == ["checkpoint"]
    named = replace(evidence.genesis, leaf_hash=b"\xff" * 32)
    trust = ledger.trust(genesis=named.leaf_hash)
    assert refused_by(replace(evidence, genesis=named), ledger, trust) == ["checkpoint"]


def test_another_key_in_the_trust_file() -> None:
    ledger = plain_ledger()
    trust = ledger.trust(keys=(TrustedKey(world.OPERATOR.key, 0, None),))
    assert refused_by(ledger.evidence("N"), ledger, trust) == ["checkpoint"]


def test_nothing_is_looked_at_under_a_checkpoint_that_nobody_trusts() -> None:
    ledger = plain_ledger()
    trust = ledger.trust(keys=(TrustedKey(world.OPERATOR.key, 0, None),))
    answer = check(ledger.evidence("N"), trust, ledger.now)
    others = [c for c in answer.checks if c.name != "checkpoint"]
    assert [c.name for c in answer.checks] == list(verdict.NAMES)
    assert {(c.result, c.why) for c in others} == {("not-checked", "the checkpoint is not trusted")}
    assert answer.why.startswith("checkpoint: ")


def test_a_required_signature_stripped() -> None:
    ledger = plain_ledger()
    keys = (TrustedKey(world.CHECKPOINT.key, 0, None), TrustedKey(world.OPERATOR.key, 5, None))
    assert refused_by(ledger.evidence("N"), ledger, ledger.trust(keys=keys)) == ["checkpoint"]
    evidence = ledger.evidence("N")
    text, _ = checkpoint.parse_checkpoint(evidence.checkpoint)
    both = sign(text.text(), [world.CHECKPOINT, world.OPERATOR])
    answer = check(replace(evidence, checkpoint=both), ledger.trust(keys=keys), ledger.now)
    assert answer.answer == "valid"


PQ = Cosigner(world.ORIGIN, ML_DSA_44, bytes(32))
WITNESSES = [Cosigner(f"w{n}", COSIGNATURE_V1, bytes([n]) * 32) for n in range(3)]
TWO_SIGNATURES = (TrustedKey(world.CHECKPOINT.key, 0, None), TrustedKey(PQ.key, 0, None))


def cosigned(evidence: Evidence, seconds: int, *cosigners: Cosigner) -> Evidence:
    text = parse_note(evidence.checkpoint).text
    lines = [cosigner.cosign(text, seconds) for cosigner in cosigners]
    return replace(evidence, checkpoint=add_signatures(evidence.checkpoint, lines))


def quorum_trust(ledger: LedgerBuilder) -> Trust:
    policy = simple_policy([Witness(c.key.name, c.key, "") for c in WITNESSES], 2)
    return ledger.trust(keys=TWO_SIGNATURES, quorums=(TrustedQuorum(policy, 0, None),))


def test_two_signatures_and_a_quorum() -> None:
    ledger = plain_ledger()
    trust = quorum_trust(ledger)
    now = ledger.now // times.SECOND
    full = cosigned(ledger.evidence("N"), now, PQ, *WITNESSES[:2])
    answer = check(full, trust, ledger.now)
    assert answer.answer == "valid"
    found = next(c for c in answer.checks if c.name == "checkpoint")
    assert "2 did" in found.why
    assert set(found.values["witnesses"]) == {"w0", "w1"}
    for fewer in (WITNESSES[:2], [PQ, WITNESSES[0]], [PQ]):
        stripped = cosigned(ledger.evidence("N"), now, *fewer)
        assert refused_by(stripped, ledger, trust) == ["checkpoint"]
    elsewhere = Cosigner("w1", COSIGNATURE_V1, bytes(32))
    forged = cosigned(ledger.evidence("N"), now, PQ, WITNESSES[0], elsewhere)
    assert refused_by(forged, ledger, trust) == ["checkpoint"]


def test_witnesses_of_another_time_leave_only_what_is_over() -> None:
    ledger = plain_ledger()
    trust = quorum_trust(ledger)
    for late in (-301, 301):
        seconds = ledger.now // times.SECOND + late
        evidence = cosigned(ledger.evidence("N"), seconds, PQ, *WITNESSES[:2])
        answer = check(evidence, trust, ledger.now)
        assert (answer.answer, answer.reason) == ("cannot-decide", "witness-times-disagree")
    one = cosigned(ledger.evidence("N"), seconds, PQ, WITNESSES[0])
    two = cosigned(one, ledger.now // times.SECOND, *WITNESSES[1:])
    assert check(two, trust, ledger.now).answer == "valid"


def test_what_cannot_be_checked_here_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = plain_ledger()
    trust = ledger.trust(keys=TWO_SIGNATURES)
    evidence = cosigned(ledger.evidence("N"), ledger.now // times.SECOND, PQ)
    assert check(evidence, trust, ledger.now).answer == "valid"

    def lacking() -> object:
        raise Unavailable("signature-unsupported")

    monkeypatch.setattr(cosignature, "_ml_dsa", lacking)
    answer = check(evidence, trust, ledger.now)
    assert (answer.answer, answer.reason) == ("cannot-decide", "signature-unsupported")
    found = next(c for c in answer.checks if c.name == "checkpoint")
    assert found.result == "not-checked"
    assert "cryptography" in found.why
    assert answer.exit == 4
    assert (answer.tree_size, answer.ledger_time, answer.found) == (None, None, None)
    no_status = replace(evidence, status=replace(evidence.status, data=b"{}"))
    assert check(no_status, trust, ledger.now).reason == "signature-unsupported"


def test_keys_count_for_their_sizes_only() -> None:
    ledger = plain_ledger()
    keys = (TrustedKey(world.CHECKPOINT.key, 0, 3),)
    assert refused_by(ledger.evidence("N"), ledger, ledger.trust(keys=keys)) == ["checkpoint"]


@pytest.mark.parametrize(("seconds", "answer"), [(1, "valid"), (0, None), (-DAY, None)])
def test_a_retired_key_says_nothing_of_later_times(seconds: int, answer: str | None) -> None:
    """Whoever stole it signs a small tree, with today's ledger time."""
    ledger = plain_ledger()
    until = ledger.now + seconds * times.SECOND
    old = TrustedKey(world.CHECKPOINT.key, 0, 1000, until)
    trust = ledger.trust(keys=(old, TrustedKey(world.OPERATOR.key, 1000, None)))
    if answer is None:
        assert refused_by(ledger.evidence("N"), ledger, trust) == ["checkpoint"]
    else:
        assert check(ledger.evidence("N"), trust, ledger.now).answer == answer


def test_an_old_status_entry_under_todays_checkpoint() -> None:
    ledger = plain_ledger()
    old = ledger.entries[-1]
    index = len(ledger.entries) - 1
    ledger.admit("revoked", "M", revocation_kind="annulled")
    ledger.status()
    source = ledger.source()
    shown = show_entry(source, index)
    assert shown.data == old
    evidence = replace(ledger.evidence("N"), status=shown)
    assert "status" in refused_by(evidence, ledger)


def test_a_status_entry_that_does_not_reflect_the_entry_before_it() -> None:
    ledger = plain_ledger()
    ledger.admit("suspended", "M", reason_code="late")
    ledger.status(reflects=len(ledger.entries) - 1)
    assert "status" in refused_by(ledger.evidence("N"), ledger)


def test_a_suspension_left_out_of_the_middle() -> None:
    data, trust, now = suspended()
    evidence = parse_evidence(data)
    history = (evidence.history[0], *evidence.history[2:])
    events = tuple(replace(e, ordinal=e.ordinal - 1) for e in evidence.events if e.ordinal > 1)
    index = evidence.history[1].index
    entries = tuple(e for e in evidence.entries if e.index != index)
    forged = replace(evidence, history=history, events=events, entries=entries)
    answer = check(forged, trust, now)
    assert (answer.reason, answer.exit, "status" in failed(answer)) == ("evidence-refused", 4, True)


def bucket_ledger() -> LedgerBuilder:
    """Enough certificates for buckets of several records, N among them."""
    ledger = plain_ledger()
    ledger.publish([ledger.event("issued", f"more {n}") for n in range(30)])
    ledger.status()
    assert ledger.k[statusmap.CERTIFICATES] == 2
    return ledger


def with_bucket(evidence: Evidence, pairs: bytes) -> Evidence:
    return replace(evidence, bucket=Membership(pairs, evidence.bucket.path))


def pairs_of(evidence: Evidence) -> list[bytes]:
    pairs = evidence.bucket.bucket
    return [pairs[i : i + 64] for i in range(0, len(pairs), 64)]


def test_what_has_not_begun_says_when_it_begins() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", valid_from="2030-01-01+08:00")
    ledger.status()
    assert "尚未生效, begins 2029-12-31T16:00:00Z" in describe(ask(ledger, "N"))
    assert ask(ledger, "N").members()["since"] is None


def test_an_old_but_true_event_of_a_since_revoked_certificate() -> None:
    ledger = plain_ledger()
    old = ledger.evidence("N")
    assert check(old, ledger.trust(), ledger.now).answer == "valid"
    ledger.advance(60)
    ledger.admit("revoked", "N", revocation_kind="annulled")
    true = ledger.evidence("N")
    assert check(true, ledger.trust(), ledger.now).reason == "revoked-annulled"
    source = ledger.source()
    entries = (show_entry(source, old.history[0].index),)
    forged = replace(true, history=old.history, events=old.events, entries=entries)
    assert refused_by(forged, ledger) == ["status"]
    with_old_bucket = replace(forged, bucket=old.bucket)
    assert refused_by(with_old_bucket, ledger) == ["status"]


def test_another_certificates_bucket() -> None:
    ledger = bucket_ledger()
    true = ledger.evidence("N")
    others = (ledger.evidence(f"more {n}") for n in range(30))
    other = next(o for o in others if o.bucket != true.bucket)
    assert refused_by(replace(true, bucket=other.bucket), ledger) == ["status"]
    absent = replace(true, bucket=other.bucket, history=(), events=(), entries=())
    assert refused_by(absent, ledger) == ["status"]


def test_a_bucket_with_one_record_left_out() -> None:
    ledger = bucket_ledger()
    true = ledger.evidence("N")
    pairs = pairs_of(true)
    assert len(pairs) > 2
    for n in range(len(pairs)):
        forged = with_bucket(true, b"".join(pairs[:n] + pairs[n + 1 :]))
        assert refused_by(forged, ledger) == ["status"]
        own = pairs[n][:32] == true.certificate.key
        if own:  # and the certificate said to be none
            gone = replace(forged, history=(), events=(), entries=())
            assert refused_by(gone, ledger) == ["status"]


def test_a_bucket_with_one_record_added() -> None:
    ledger = bucket_ledger()
    true = ledger.evidence("N")
    pairs = pairs_of(true)
    added = pairs[0][:31] + bytes([pairs[0][31] ^ 1]) + bytes(32)
    forged = with_bucket(true, b"".join(sorted([*pairs, added])))
    assert refused_by(forged, ledger) == ["status"]


@pytest.mark.parametrize("by", [-1, 1])
def test_another_k(by: int) -> None:
    """A true bucket of a map of another k, with its path."""
    ledger = bucket_ledger()
    true = ledger.evidence("N")
    records = ledger.maps[statusmap.CERTIFICATES]
    other = MapState(statusmap.CERTIFICATES, 2 + by, records).membership(true.certificate.key)
    forged = replace(true, bucket=other)
    assert refused_by(forged, ledger) == ["status"]
    value = json.loads(true.status.data)
    value["certificates_map"]["k"] += by
    status = replace(true.status, data=canonical.format(value))
    assert "status" in refused_by(replace(forged, status=status), ledger)


def test_a_path_with_one_hash_altered() -> None:
    ledger = bucket_ledger()
    true = ledger.evidence("N")
    for n in range(len(true.bucket.path)):
        path = list(true.bucket.path)
        path[n] = bytes(32)
        bucket = Membership(true.bucket.bucket, tuple(path))
        assert refused_by(replace(true, bucket=bucket), ledger) == ["status"]


def test_a_bucket_of_many_is_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many numbers somebody grinds into a bucket: one pair or two, with paths."""
    monkeypatch.setattr(statusmap, "SMALL", 3)
    ledger = bucket_ledger()
    for number, said in (("N", "valid"), ("nobody has it", "not-found")):
        evidence = ledger.evidence(number)
        part = evidence.bucket.part
        assert part is not None
        assert len(evidence.bucket.bucket) <= 128 < 64 * part.count
        data = format_evidence(evidence)
        assert parse_evidence(data) == evidence
        assert check_file(data, ledger.trust(), ledger.now).answer == said
        for changed in (
            replace(part, count=part.count + 1),
            replace(part, first=part.first + 1),
            replace(part, paths=(part.paths[0][:-1], *part.paths[1:])),
            None,
        ):
            forged = replace(evidence, bucket=replace(evidence.bucket, part=changed))
            assert refused_by(forged, ledger) == ["status"]
    with pytest.raises(Malformed, match="malformed-evidence"):
        parse_evidence(data.replace(b'"first":', b'"furst":'))


def test_a_status_entry_without_maps() -> None:
    ledger = plain_ledger()
    ledger.status(with_maps=False)
    assert refused_by(ledger.evidence("N"), ledger) == ["status"]


def test_a_certificate_said_to_be_absent_and_an_absent_one_said_to_be_there() -> None:
    ledger = plain_ledger()
    true = ledger.evidence("N")
    gone = replace(true, history=(), events=(), entries=())
    assert refused_by(gone, ledger) == ["status"]
    absent = ledger.evidence("nobody has it")
    there = replace(true, certificate=absent.certificate, bucket=absent.bucket)
    assert "status" in refused_by(there, ledger)


# --- absence ---


def test_absence_is_proven() -> None:
    ledger = bucket_ledger()
    data = format_evidence(ledger.evidence("nobody has it"))
    answer = check_file(data, ledger.trust(), ledger.now)
    assert (answer.answer, answer.reason, answer.exit) == ("not-found", "not-found", 3)
    assert [c.result for c in answer.checks] == [
        "not-checked", "passed", "not-checked", "passed", "passed", "passed", "not-checked"
    ]  # fmt: skip
    assert "holds no such certificate" in answer.checks[4].why
    assert answer.members()["certificate"]["number"] == "nobody has it"
    past = check_file(data, ledger.trust(), ledger.now, at="2020-01-01T00:00:00Z")
    assert past.answer == "not-found"
    then = check_file(data, ledger.trust(), ledger.now, known_at="2026-03-01T00:00:00Z")
    assert then.answer == "not-found"


def test_absence_goes_stale() -> None:
    ledger = plain_ledger()
    data = format_evidence(ledger.evidence("nobody has it"))
    later = ledger.now + 2 * DAY * times.SECOND
    stale = check_file(data, ledger.trust(), later)
    assert (stale.answer, stale.reason) == ("cannot-decide", "checkpoint-stale")
    relied = check_file(data, ledger.trust(), later, relied_at=times.format_moment(ledger.now))
    assert relied.answer == "not-found"


def test_nothing_is_absent_while_the_issuer_is_silent() -> None:
    ledger = plain_ledger()
    ledger.advance(DAY + 1)
    ledger.status()
    answer = ask(ledger, "nobody has it")
    assert (answer.answer, answer.reason) == ("cannot-decide", "issuer-silent")
    never = ask(ledger, "nobody has it", issuer="b")
    assert (never.answer, never.reason) == ("cannot-decide", "issuer-silent")
    assert "never signed" in never.why
    ledger.doctor("department/a", silence_limit_seconds=None)
    ledger.status()
    assert ask(ledger, "nobody has it").answer == "not-found"


def test_nobody_of_this_name_can_have_issued_it() -> None:
    ledger = plain_ledger()
    for issuer in ("0", "aa", "zz"):
        evidence = ledger.evidence("N", issuer=issuer)
        answer = check(evidence, ledger.trust(), ledger.now)
        assert (answer.answer, answer.reason, failed(answer)) == ("not-found", "not-found", [])
        for n in range(len(evidence.records)):
            left = evidence.records[:n] + evidence.records[n + 1 :]
            fewer = check(replace(evidence, records=left), ledger.trust(), ledger.now)
            if fewer.answer != "not-found":
                assert (fewer.answer, fewer.reason) == ("cannot-decide", "evidence-incomplete")
        none = replace(evidence, records=(), registry_size=0)
        assert check(none, ledger.trust(), ledger.now).reason == "evidence-incomplete"


def test_a_registered_issuer_is_not_passed_off_as_unknown() -> None:
    """Its silence counts, so its record cannot be left out."""
    ledger = plain_ledger()
    ledger.advance(DAY + 1)
    ledger.status()
    true = ledger.evidence("nobody has it")
    unknown = ledger.evidence("nobody has it", issuer="aa")
    for records in ((), unknown.records, true.records[:1], true.records[1:]):
        forged = check(replace(true, records=records), ledger.trust(), ledger.now)
        assert forged.answer == "cannot-decide"
    merged = {r.index: r for r in (*true.records, *unknown.records)}
    both = replace(true, records=tuple(merged[n] for n in sorted(merged)))
    assert check(both, ledger.trust(), ledger.now).answer == "cannot-decide"


def test_another_certificates_history() -> None:
    ledger = plain_ledger()
    other = ledger.evidence("M")
    evidence = replace(ledger.evidence("N"), certificate=other.certificate)
    assert {"event-signature", "status"} <= set(refused_by(evidence, ledger))


def test_an_event_by_a_revoked_key() -> None:
    ledger = plain_ledger()
    evidence = ledger.evidence("N")
    step = evidence.history[0]
    ledger.doctor(f"key/{step.transition.key}", revoked=step.index)
    ledger.status()
    assert refused_by(ledger.evidence("N"), ledger) == ["authority"]


def test_a_revocation_left_out() -> None:
    """What the registry said of the key before, as proven then, and as proven now."""
    ledger = plain_ledger()
    before = ledger.evidence("N")
    assert check(before, ledger.trust(), ledger.now).answer == "valid"
    key, index = world.bundle_signer("a"), before.history[0].index
    name = f"key/{key.key.key_id}"
    ledger.change(name, world.key_change(key, "bundle", "a", index), world.registry_signer("a"))
    ledger.status()
    true = ledger.evidence("N")
    answer = check(true, ledger.trust(), ledger.now)
    assert (answer.answer, answer.reason) == ("cannot-decide", "key-compromised")

    def with_record(data: bytes, path: tuple[bytes, ...] | None = None) -> Evidence:
        records = [
            Shown(r.index, data, r.path if path is None else path)
            if json.loads(r.data)["name"] == name
            else r
            for r in true.records
        ]
        assert records != list(true.records)
        return replace(true, records=tuple(records))

    (was,) = (r for r in before.records if json.loads(r.data)["name"] == name)
    (now,) = (r for r in true.records if json.loads(r.data)["name"] == name)
    softer = json.loads(now.data)
    softer["value"] = json.loads(was.data)["value"]
    left_out = replace(true, records=tuple(r for r in true.records if r is not now))
    for forged in (
        with_record(was.data),
        with_record(was.data, was.path),
        with_record(canonical.format(softer)),
        left_out,
        replace(true, records=before.records),
    ):
        assert "authority" in refused_by(forged, ledger)
    # all as it was, under today's checkpoint
    assert "checkpoint" in refused_by(replace(before, checkpoint=true.checkpoint), ledger)


def test_the_key_of_another_department() -> None:
    ledger = plain_ledger()
    key = ledger.evidence("N").history[0].transition.key
    ledger.doctor(f"key/{key}", department="b")
    ledger.status()
    assert refused_by(ledger.evidence("N"), ledger) == ["authority"]


def test_a_type_that_was_not_granted() -> None:
    ledger = plain_ledger()
    grants = [
        {**g, "from": len(ledger.entries)}
        for g in ledger.book.registry.records[f"type/{world.TYPE}"]["value"]["grants"]
    ]
    ledger.doctor(f"type/{world.TYPE}", grants=grants)
    ledger.status()
    assert refused_by(ledger.evidence("N"), ledger) == ["authority"]


def enter(ledger: LedgerBuilder, key: MemorySigner, role: str, *signers: MemorySigner) -> int:
    """A dishonest operator's entry of a key for department a; its index."""
    index, name = len(ledger.entries), f"key/{key.key.key_id}"
    text = registration_text(world.ORIGIN, key.key, role, "a")
    ledger.entries.append(format_registry(sign(text, signers), times.format_moment(ledger.now)))
    put_key(ledger, key, role, index)
    assert ledger.book.registry.records[name]["since"] == index
    return index


def put_key(ledger: LedgerBuilder, key: MemorySigner, role: str, index: int) -> None:
    """A key's record in the registry's tree, entry or none."""
    name = f"key/{key.key.key_id}"
    value = {**world.key_change(key, role, "a"), "from": index, "revoked": None}
    note = merkle.leaf_hash(registration_text(world.ORIGIN, key.key, role, "a")).hex()
    record = {"form": RECORD_FORM, "name": name, "since": index, "note": note, "value": value}
    records = {**ledger.book.registry.records, name: record}
    ledger.book.registry = ledger.view.registry = Registry(world.ORIGIN, records)
    ledger.keys["a"] = key


FAKE = world.bundle_signer("a", "the operator made this up")


def vouched(answer: Answer) -> list[tuple[int, str]]:
    keys = answer.checks[1].values["keys"]
    return [(key["entry"], key["vouched_by"]) for key in keys]


def test_answers_say_who_vouched_for_the_keys() -> None:
    ledger = plain_ledger()
    answer = ask(ledger, "N")
    owner = world.registry_signer("a").key.key_id
    assert vouched(answer) == [(2, "operator"), (3, owner)]
    assert answer.checks[1].why.endswith("the first by the operator alone: a in entry 2")
    assert "operator alone: a in entry 2" in describe(answer)


def test_keys_that_came_by_rotation() -> None:
    ledger = plain_ledger()
    old, new = world.registry_signer("a"), world.registry_signer("a", "2")
    bundler = world.bundle_signer("a", "2")
    for key, role, *signers in (
        (new, "registry", old),
        (bundler, "bundle", new, world.bundle_signer("a")),
    ):
        name = f"key/{key.key.key_id}"
        index = ledger.change(name, world.key_change(key, role, "a"), *signers, key)
    ledger.change(f"key/{old.key.key_id}", world.key_change(old, "registry", "a", True), new)
    ledger.keys["a"] = bundler
    ledger.admit("renewed", "N")
    ids = [old.key.key_id, new.key.key_id]
    answer = ask(ledger, "N")
    assert answer.answer == "valid"
    assert vouched(answer)[-2:] == [(index - 1, ids[0]), (index, ids[1])]
    assert [entry for entry, by in vouched(answer) if by == "operator"] == [2]


def test_a_key_that_no_entry_registered() -> None:
    """Put into the registry's tree by whoever holds the checkpoint key."""
    ledger = plain_ledger()
    put_key(ledger, FAKE, "bundle", 3)  # another key's entry
    ledger.admit("issued", "NEVER")
    assert refused_by(ledger.evidence("NEVER"), ledger) == ["authority"]
    put_key(ledger, FAKE, "bundle", ledger.view.logged[0].index)  # no registry entry at all
    ledger.status()
    with pytest.raises(ProofError, match="did not register"):
        ledger.evidence("NEVER")


@pytest.mark.parametrize(
    "signers",
    [
        (FAKE,),
        (FAKE, world.OPERATOR),
        (FAKE, world.registry_signer("b")),
        (world.registry_signer("a"),),
        (FAKE, world.bundle_signer("a")),
    ],
    ids=["nobody", "the operator", "another department", "not itself", "no registry key"],
)
def test_a_bundle_key_that_no_registry_key_vouches_for(signers: tuple[MemorySigner, ...]) -> None:
    ledger = plain_ledger()
    enter(ledger, FAKE, "bundle", *signers)
    ledger.admit("issued", "NEVER")
    assert refused_by(ledger.evidence("NEVER"), ledger) == ["authority"]


def test_a_revoked_registry_key_vouches_for_nothing() -> None:
    ledger = plain_ledger()
    owner = world.registry_signer("a")
    ledger.doctor(f"key/{owner.key.key_id}", revoked=len(ledger.entries))
    enter(ledger, FAKE, "bundle", FAKE, owner)
    ledger.admit("issued", "NEVER")
    assert refused_by(ledger.evidence("NEVER"), ledger) == ["authority"]


def test_a_registry_key_by_the_operator_alone_is_shown_in_the_answer() -> None:
    ledger = plain_ledger()
    second = world.registry_signer("a", "by the operator")
    recovery = enter(ledger, second, "registry", second, world.OPERATOR)
    index = enter(ledger, FAKE, "bundle", FAKE, second)
    ledger.admit("issued", "NEVER")
    answer = ask(ledger, "NEVER")
    assert answer.answer == "valid"
    assert vouched(answer) == [(recovery, "operator"), (index, second.key.key_id)]
    assert f"operator alone: a in entry {recovery}" in describe(answer)


def test_another_departments_act_without_the_right_to_it() -> None:
    ledger = plain_ledger()
    ledger.admit("revoked", "N", "c", revocation_kind="annulled")
    grants = [
        {**g, "scope": "own"}
        for g in ledger.book.registry.records[f"type/{world.TYPE}"]["value"]["grants"]
    ]
    ledger.doctor(f"type/{world.TYPE}", grants=grants)
    ledger.status()
    assert refused_by(ledger.evidence("N"), ledger) == ["authority"]


def test_a_registry_record_that_is_not_in_the_registry() -> None:
    ledger = plain_ledger()
    evidence = ledger.evidence("N")
    records = []
    for record in evidence.records:
        value = json.loads(record.data)
        if value["name"] == "department/a":
            value["value"]["silence_limit_seconds"] = None
        records.append(Shown(record.index, canonical.format(value), record.path))
    assert refused_by(replace(evidence, records=tuple(records)), ledger) == ["authority"]


def test_a_refused_event_offered_as_admitted() -> None:
    ledger = make_ledger()
    done = ledger.publish([ledger.event("issued", "N"), ledger.event("renewed", "unknown")])
    assert done.index is not None
    ledger.status()
    evidence = ledger.evidence("N")
    line = ledger.lines[done.index][1]
    from ledger.lifecycle import make_transition

    item = parse_event(line, merkle.leaf_hash(line))
    key = evidence.history[0].transition.key
    path = merkle.prove_inclusion(
        1, 2, merkle.in_memory([merkle.leaf_hash(x) for x in ledger.lines[done.index]])
    )
    step = replace(
        evidence.history[0],
        position=1,
        line_hash=item.line_hash,
        transition=make_transition(item, "a", key, 1),
    )
    event = replace(evidence.events[0], line=line, path=tuple(path))
    certificate = replace(evidence.certificate, number="unknown")
    forged = replace(evidence, history=(step,), events=(event,), certificate=certificate)
    assert {"inclusion", "status"} <= set(refused_by(forged, ledger))


# --- mutations ---


def same_or_refused(mutated: bytes) -> None:
    """A mutated file answers as the true one, or decides nothing."""
    data, trust, now = suspended()
    true, found = check_file(data, trust, now), check_file(mutated, trust, now)
    if found.answer != "cannot-decide":
        assert stated(found) == stated(true)


def stated(answer: Answer) -> dict[str, Any]:
    members = answer.members()
    return {name: members[name] for name in members if name not in ("checks", "names")}


def question_span(data: bytes) -> tuple[int, int]:
    """Where the question stands: it is the asker's own and proves nothing."""
    begin = data.index(b'"question":')
    return begin, data.index(b"}", begin) + 1


def test_every_flipped_region_is_noticed() -> None:
    data, _, _ = suspended()
    begin, end = question_span(data)
    for position in range(0, len(data), 29):
        if not begin <= position < end:
            mutated = bytearray(data)
            mutated[position] ^= 1
            same_or_refused(bytes(mutated))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 255), st.integers(0, 3))
def test_any_flipped_bits_are_noticed(place: int, mask: int, more: int) -> None:
    data, _, _ = suspended()
    begin, end = question_span(data)
    mutated = bytearray(data)
    for n in range(more + 1):
        position = (place * (n + 1)) % len(data)
        if not begin <= position < end:
            mutated[position] ^= mask
    same_or_refused(bytes(mutated))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every member and list item of a JSON value."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        if key != "question":
            yield (*at, key)
            yield from places(inner, (*at, key))


PLACES = list(places(json.loads(suspended()[0])))


def parent_of(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        value = value[key]
    return value


def test_everything_dropped_is_noticed() -> None:
    for place in PLACES:
        value = json.loads(suspended()[0])
        del parent_of(value, place)[place[-1]]
        same_or_refused(canonical.format(value))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(PLACES), st.booleans())
def test_everything_swapped_or_doubled_is_noticed(
    one: tuple[Any, ...], other: tuple[Any, ...], double: bool
) -> None:
    value = json.loads(suspended()[0])
    a, b = parent_of(value, one), parent_of(value, other)
    if double:
        if isinstance(a, list):
            a.insert(one[-1], a[one[-1]])
    else:
        a[one[-1]], b[other[-1]] = b[other[-1]], a[one[-1]]
    try:
        mutated = canonical.format(value)
    except (RecursionError, Malformed):
        return  # one was inside the other
    same_or_refused(mutated)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**53 - 1),
    st.just([]),
    st.just({}),
    st.sampled_from(["", "A" * 44, "unknown", "9999-12-31+00:00", "\u202e", "a/b"]),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), SCALARS)
def test_everything_replaced_is_noticed(place: tuple[Any, ...], new: Any) -> None:
    value = json.loads(suspended()[0])
    parent_of(value, place)[place[-1]] = new
    same_or_refused(canonical.format(value))


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)))
def test_any_bytes_give_an_answer(data: bytes) -> None:
    _, trust, now = suspended()
    answer = check_file(data, trust, now, at="2026-01-01T00:00:00Z")
    assert (answer.answer, answer.reason, answer.exit) == ("cannot-decide", "evidence-refused", 4)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b"9" * 100_000,
        b'{"format":"certledger evidence v1"}',
        b"\xff\xfe",
        b"null",
        b" " * (5 * 1024 * 1024),
    ],
    ids=["empty", "object", "nested", "digits", "format", "not utf-8", "null", "too large"],
)
def test_poison_gives_an_answer(data: bytes) -> None:
    _, trust, now = suspended()
    assert check_file(data, trust, now).reason == "evidence-refused"


# --- the table and the trust file ---


def test_only_what_was_checked_is_valid() -> None:
    """With any one needed check missing there is no positive answer."""
    found = verdict.Found("valid", "in-force")
    results = dict.fromkeys(verdict.NAMES, verdict.PASSED)

    def decide(**changed: str) -> str:
        merged = {**results, **{k.replace("_", "-"): v for k, v in changed.items()}}
        return verdict.decide([verdict.Check(n, r, "w") for n, r in merged.items()], found)[0]

    assert decide() == "valid"
    assert decide(disclosures=verdict.NOT_CHECKED) == "valid"
    for name in verdict.NAMES:
        assert decide(**{name: verdict.FAILED}) == "cannot-decide", name
    for name in verdict.NEEDED["valid"]:
        assert decide(**{name: verdict.NOT_CHECKED}) == "cannot-decide", name


def test_whatever_is_decided_rests_on_the_whole_history_under_a_trusted_checkpoint() -> None:
    for kind, needed in verdict.NEEDED.items():
        assert kind == "cannot-decide" or {"authority", "checkpoint", "status"} <= set(needed)
    for found in (
        verdict.Found("not-found", "not-known-then"),
        verdict.Found("not-valid", "revoked-annulled"),
        verdict.Found("not-valid", "superseded", asked_version=1),
    ):
        assert set(found.rests_on) == set(verdict.PROVING) - {"disclosures"}


def test_trust_file_round_trip() -> None:
    trust = make_ledger().trust(
        keys=(
            TrustedKey(world.CHECKPOINT.key, 0, 10, world.START),
            TrustedKey(world.OPERATOR.key, 10, None),
        )
    )
    assert parse_trust(format_trust(trust)) == trust
    assert parse_trust(json.dumps(json.loads(format_trust(trust)), indent=2).encode()) == trust


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_a_trust_file_or_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="malformed-trust"):
        parse_trust(data)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("origin", ""),
        ("genesis", "00"),
        ("checkpoint_keys", []),
        ("max_checkpoint_age_seconds", 0),
        ("max_checkpoint_age_seconds", True),
        ("more", 1),
    ],
)
def test_trust_files_out_of_form(member: str, value: Any) -> None:
    members = json.loads(format_trust(make_ledger().trust()))
    with pytest.raises(Malformed, match="malformed-trust"):
        parse_trust(json.dumps({**members, member: value}).encode())


@pytest.mark.parametrize(
    "member",
    [
        {"until_size": 10},
        {"until_time": "2026-03-01T00:00:00Z"},
        {"until_size": 10, "until_time": "2026-03-01"},
        {"until_size": 10, "until_time": 0},
        {"from_size": 10, "until_size": 10, "until_time": "2026-03-01T00:00:00Z"},
    ],
)
def test_trusted_keys_out_of_form(member: dict[str, Any]) -> None:
    """A key retired by size alone would still sign for today."""
    members = json.loads(format_trust(make_ledger().trust()))
    members["checkpoint_keys"][0].update(member)
    with pytest.raises(Malformed, match="malformed-trust"):
        parse_trust(json.dumps(members).encode())


def test_the_clock_may_be_a_little_behind() -> None:
    ledger = make_ledger()
    ledger.admit("issued", "N", valid_from="2026-02-01+08:00")
    data = format_evidence(ledger.evidence("N"))
    assert check_file(data, ledger.trust(), ledger.now - AHEAD).answer == "valid"
    far = check_file(data, ledger.trust(), ledger.now - DAY * times.SECOND)
    assert (far.answer, failed(far)) == ("cannot-decide", ["freshness"])
