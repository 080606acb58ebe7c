"""Keys revoked with effect from earlier: what is doubtful, what settles it, what is untouched."""

from __future__ import annotations

from typing import Any

import pytest

from consumers.words import describe
from ledger import canonical, doubt, identity, lifecycle, registry, statuslist, times
from ledger.checking import check_file
from ledger.entry import parse_entry
from ledger.errors import LedgerError, Malformed
from ledger.event import parse_event
from ledger.evidence import format_evidence, parse_evidence
from ledger.note import MemorySigner
from ledger.verdict import Answer
from tests import world
from tests.ledger_builder import LedgerBuilder

OWNER = world.registry_signer("a")
STOLEN, NEW = world.bundle_signer("a"), world.bundle_signer("a", "2")
DAYS = {"valid_from": "2026-02-01+08:00", "valid_until": "2027-01-31+08:00"}
DECIDED = {"early": "valid", "late": "cannot-decide", "renewed": "cannot-decide"}


def rotate(ledger: LedgerBuilder, old: MemorySigner, new: MemorySigner) -> None:
    """A new bundle key of a, with which it goes on."""
    change = world.key_change(new, "bundle", "a")
    ledger.change(f"key/{new.key.key_id}", change, OWNER, new, old)
    ledger.keys["a"] = new


def doubt_key(ledger: LedgerBuilder, key: MemorySigner, since: int) -> int:
    change = world.key_change(key, "bundle", "a", since)
    return ledger.change(f"key/{key.key.key_id}", change, OWNER)


def make_ledger() -> tuple[LedgerBuilder, int]:
    """(a ledger whose first bundle key of a is doubted, from which entry on): `early` came before,
    `late` after, `renewed` before and was renewed after.
    """
    ledger = LedgerBuilder()
    ledger.admit("issued", "early", **DAYS)
    ledger.admit("issued", "renewed", **DAYS)
    ledger.status()
    ledger.advance(60)
    since = len(ledger.entries)
    ledger.admit("issued", "late", **DAYS)
    time = times.format_moment(ledger.now)
    ledger.admit("renewed", "renewed", time=time, valid_until="2028-01-31+08:00")
    ledger.status()
    ledger.advance(60)
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    ledger.publish([])
    return ledger, since


def event_id(ledger: LedgerBuilder, number: str, kind: str = "issued") -> str:
    key = identity.certificate_key(world.TYPE, "a", number)
    return next(t.id for t in ledger.view.histories[key] if t.kind == kind)


def correction(
    ledger: LedgerBuilder, number: str, corrects: str, how: str, **members: Any
) -> bytes:
    return ledger.event(
        "corrected",
        number,
        corrects=corrects,
        correction=how,
        reason_code="key-stolen",
        time=times.format_moment(ledger.now),
        **members,
    )


def codes(ledger: LedgerBuilder, *lines: bytes) -> list[str]:
    done = ledger.publish(lines)
    assert done.index is not None
    return list(ledger.view.logged[-1].codes)


def ask(ledger: LedgerBuilder, number: str, **question: Any) -> Answer:
    data = format_evidence(ledger.evidence(number, **question))
    assert format_evidence(parse_evidence(data)) == data
    return check_file(data, ledger.trust(), ledger.now, as_asked=True)


def test_what_came_before_is_untouched_and_what_came_after_decides_nothing() -> None:
    ledger, since = make_ledger()
    for number, answer in DECIDED.items():
        found = ask(ledger, number)
        assert found.answer == answer, number
        assert [c.result for c in found.checks[:6]] == ["passed"] * 6
        assert f"compromised from log index {since} on" in describe(found)
        if answer == "cannot-decide":
            assert found.reason == doubt.COMPROMISED
            assert "neither confirmed nor corrected" in found.why


def test_it_is_doubted_whenever_it_was_known() -> None:
    """Nobody knew of the theft then; now it is known that nobody knows who said it."""
    ledger, _ = make_ledger()
    known = ledger.now - 30 * times.SECOND
    assert ask(ledger, "late", known_at=known).reason == doubt.COMPROMISED
    assert ask(ledger, "renewed", known_at=known).reason == doubt.COMPROMISED
    before = ledger.now - 90 * times.SECOND
    assert ask(ledger, "renewed", known_at=before).answer == "valid"
    assert ask(ledger, "late", known_at=before).reason == "not-known-then"


def test_evidence_from_before_says_what_was_known_then() -> None:
    ledger, _ = make_ledger()
    size = max(n for n in ledger.states if n < len(ledger.entries) - 3) + 1
    assert ask(ledger, "late", size=size).answer == "valid"


@pytest.mark.parametrize("how", ["confirm", "restate", "void"])
def test_a_department_settles_it(how: str) -> None:
    ledger, _ = make_ledger()
    known = ledger.now
    ledger.status()
    ledger.advance(60)
    days = {"valid_until": "2026-12-31+08:00"} if how == "restate" else {}
    line = correction(ledger, "late", event_id(ledger, "late"), how, **days)
    assert codes(ledger, line) == ["admitted"]
    found = ask(ledger, "late")
    assert (found.answer, found.reason) == (
        ("not-valid", "voided") if how == "void" else ("valid", "in-force")
    )
    if how == "restate":
        assert found.found is not None
        assert found.found.valid_until == "2026-12-31+08:00"
    # what stood then is confirmed by it now; what was found to be false is not proven by that
    then = ask(ledger, "late", known_at=known)
    assert then.answer == ("valid" if how == "confirm" else "cannot-decide")
    assert ask(ledger, "renewed").reason == doubt.COMPROMISED


def test_only_what_is_doubtful_is_confirmed_and_once() -> None:
    ledger, _ = make_ledger()
    late, early = event_id(ledger, "late"), event_id(ledger, "early")
    confirm = correction(ledger, "late", late, "confirm")
    again = correction(ledger, "late", late, "confirm", change="2")
    assert codes(
        ledger,
        correction(ledger, "early", early, "confirm"),
        correction(ledger, "late", "0" * 32, "confirm"),
        correction(ledger, "renewed", event_id(ledger, "renewed"), "confirm"),
        confirm,
        confirm,
        again,
    ) == [
        "nothing-to-confirm",
        "unknown-event",
        "nothing-to-confirm",
        "admitted",
        "repeat",
        "nothing-to-confirm",
    ]
    renewal = event_id(ledger, "renewed", "renewed")
    assert codes(ledger, correction(ledger, "renewed", renewal, "confirm")) == ["admitted"]
    assert [ask(ledger, number).answer for number in DECIDED] == ["valid"] * 3


def test_nothing_is_confirmed_where_no_key_is_doubted() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    line = correction(ledger, "N", event_id(ledger, "N"), "confirm")
    assert codes(ledger, line) == ["nothing-to-confirm"]


def test_a_confirmation_that_is_voided_settles_nothing_and_a_new_one_does() -> None:
    ledger, _ = make_ledger()
    late = event_id(ledger, "late")
    confirm = correction(ledger, "late", late, "confirm")
    void = correction(ledger, "late", parse_event(confirm, bytes(32)).id, "void", change="2")
    assert codes(ledger, confirm, void) == ["admitted", "admitted"]
    assert ask(ledger, "late").reason == doubt.COMPROMISED
    assert codes(ledger, correction(ledger, "late", late, "confirm", change="3")) == ["admitted"]
    assert ask(ledger, "late").answer == "valid"


def test_a_confirmation_by_a_key_that_is_doubted_too_settles_nothing() -> None:
    ledger, _ = make_ledger()
    late, since = event_id(ledger, "late"), len(ledger.entries)
    assert codes(ledger, correction(ledger, "late", late, "confirm")) == ["admitted"]
    third = world.bundle_signer("a", "3")
    rotate(ledger, NEW, third)
    doubt_key(ledger, NEW, since)
    assert ask(ledger, "late").reason == doubt.COMPROMISED
    assert codes(ledger, correction(ledger, "late", late, "confirm", change="2")) == ["admitted"]
    found = ask(ledger, "late")  # its first confirmation decides too, and nobody knows whose it is
    assert found.reason == doubt.COMPROMISED
    first = event_id(ledger, "late", "corrected")
    assert codes(ledger, correction(ledger, "late", first, "confirm", change="3")) == ["admitted"]
    assert ask(ledger, "late").answer == "valid"


def test_only_who_signed_confirms_wherever_the_certificate_moved() -> None:
    """The thief forges a certificate and gives it away: whoever has it now cannot speak for a."""
    grants = [(name, world.ALL_ACTS, "own") for name in ("a", "b")]
    ledger = LedgerBuilder({"a": 1, "b": 1}, grants)
    since = ledger.admit("issued", "N", **DAYS)
    time = times.format_moment(ledger.now)
    ledger.admit("transferred-out", "N", time=time, transfer_to="b")
    ledger.admit("transferred-in", "N", "b", time=time)
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    issued = event_id(ledger, "N")
    taken = correction(ledger, "N", issued, "confirm")
    ledger.publish([taken], "b")
    assert ledger.view.logged[-1].codes == ("not-responsible",)
    assert ask(ledger, "N").reason == doubt.COMPROMISED
    assert codes(ledger, taken) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"


def test_evidence_of_a_confirmation_by_another_proves_nothing() -> None:
    """A ledger that admits against its rules: what it shows is refused."""
    grants = [(name, world.ALL_ACTS, scope) for name, scope in (("a", "own"), ("b", "any"))]
    ledger = LedgerBuilder({"a": 1, "b": 1}, grants)
    since = ledger.admit("issued", "N", **DAYS)
    time = times.format_moment(ledger.now)
    ledger.admit("transferred-out", "N", time=time, transfer_to="b")
    ledger.admit("transferred-in", "N", "b", time=time)
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    ledger.publish([correction(ledger, "N", event_id(ledger, "N"), "confirm")], "b")
    assert ledger.view.logged[-1].codes == ("admitted",)
    assert ask(ledger, "N").answer == "valid"
    record = f"type/{world.TYPE}"
    own = [{**grant, "scope": "own"} for grant in ledger.book.registry.value(record)["grants"]]
    ledger.doctor(record, grants=own)
    ledger.publish([])
    answer = ask(ledger, "N")
    assert answer.reason == "evidence-refused"
    assert "a's to make" in answer.why


def test_words_that_were_restated_are_nobodys_for_what_was_known_before() -> None:
    """The thief wrote 2099, the department 2026: nothing proves that it ever said 2099."""
    ledger = LedgerBuilder()
    since = ledger.admit("issued", "N", **(DAYS | {"valid_until": "2099-01-31+08:00"}))
    ledger.status()
    known = ledger.now
    ledger.advance(60)
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    days = {"valid_until": "2026-12-31+08:00"}
    restated = correction(ledger, "N", event_id(ledger, "N"), "restate", **days)
    assert codes(ledger, restated) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"
    later = times.day_start("2027-06-01+08:00")
    assert ask(ledger, "N", at=later, known_at=known).reason == doubt.COMPROMISED


def test_a_doubtful_void_brings_no_confirmation_back() -> None:
    """Neither for what is known now nor for what was known before all corrections."""
    ledger, _ = make_ledger()
    known = ledger.now
    ledger.status()
    ledger.advance(60)
    confirm = correction(ledger, "late", event_id(ledger, "late"), "confirm")
    taken = parse_event(confirm, bytes(32)).id
    void = correction(ledger, "late", taken, "void", change="2")
    assert codes(ledger, confirm, void) == ["admitted", "admitted"]
    since = len(ledger.entries)
    theft = correction(ledger, "late", parse_event(void, bytes(32)).id, "void", change="3")
    assert codes(ledger, theft) == ["admitted"]
    assert ask(ledger, "late", known_at=known).answer == "valid"
    rotate(ledger, NEW, world.bundle_signer("a", "3"))
    doubt_key(ledger, NEW, since)
    ledger.publish([])
    assert ask(ledger, "late").reason == doubt.COMPROMISED
    assert ask(ledger, "late", known_at=known).reason == doubt.COMPROMISED


def test_a_thief_undoes_nothing_for_good() -> None:
    """A void of a sound event by a doubted key is voided in its turn."""
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    theft = correction(ledger, "N", event_id(ledger, "N"), "void")
    assert codes(ledger, theft) == ["admitted"]
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    ledger.advance(1)
    assert ask(ledger, "N").reason == doubt.COMPROMISED
    mend = correction(ledger, "N", parse_event(theft, bytes(32)).id, "void", change="2")
    assert codes(ledger, mend) == ["admitted"]
    assert ask(ledger, "N").answer == "valid"


def test_a_revocation_by_a_doubted_key_is_doubted_however_old_the_evidence() -> None:
    ledger = LedgerBuilder()
    ledger.admit("issued", "N", **DAYS)
    since = len(ledger.entries)
    ledger.admit("revoked", "N", revocation_kind="penalty", time=times.format_moment(ledger.now))
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    data = format_evidence(ledger.evidence("N"))
    late = ledger.now + 99 * 86_400 * times.SECOND
    assert check_file(data, ledger.trust(), late).reason == doubt.COMPROMISED


def test_doubt_begins_earlier_later_on_and_the_record_says_what_was_said_last() -> None:
    ledger, since = make_ledger()
    key = ledger.book.registry.value(f"key/{STOLEN.key.key_id}")
    assert key is not None
    assert (key["doubted_from"], key["revoked"]) == (since, len(ledger.entries) - 2)
    doubt_key(ledger, STOLEN, key["from"])
    ledger.publish([])
    earlier = ledger.book.registry.value(f"key/{STOLEN.key.key_id}")
    assert earlier == {**key, "doubted_from": key["from"]}
    for number in DECIDED:
        assert ask(ledger, number).reason == doubt.COMPROMISED


def test_a_key_revoked_before_is_doubted_from_earlier() -> None:
    ledger = LedgerBuilder()
    since = ledger.admit("issued", "N", **DAYS)
    rotate(ledger, STOLEN, NEW)
    name = f"key/{STOLEN.key.key_id}"
    revoked = ledger.change(name, world.key_change(STOLEN, "bundle", "a", True), OWNER)
    doubt_key(ledger, STOLEN, since)
    value = ledger.book.registry.value(name)
    assert value is not None
    assert (value["revoked"], value["doubted_from"]) == (revoked, since)
    assert ask(ledger, "N").reason == doubt.COMPROMISED


def test_a_file_cannot_leave_the_doubt_out() -> None:
    """The key's record is in the registry under the checkpoint as it is, or not at all."""
    ledger, _ = make_ledger()
    value = canonical.loads(format_evidence(ledger.evidence("late")))
    stolen = next(k for k in value["keys"] if "doubted" in k)
    del stolen["doubted"]
    found = check_file(canonical.format(value), ledger.trust(), ledger.now)
    assert found.reason == "evidence-refused"
    stolen["doubted"] = [1, 2]
    with pytest.raises(Malformed):
        parse_evidence(canonical.format(value))


def test_later_corrections_are_shown_where_they_may_settle_it() -> None:
    ledger, _ = make_ledger()
    known = ledger.now
    ledger.status()
    ledger.advance(60)
    late = event_id(ledger, "late")
    assert codes(ledger, correction(ledger, "late", late, "confirm")) == ["admitted"]
    ledger.admit("amended", "late", reason_code="x", time=times.format_moment(ledger.now))
    ledger.admit(
        "amended", "late", reason_code="x", time=times.format_moment(ledger.now), change="2"
    )
    confirmed = ledger.evidence("late", known_at=known)
    assert {event.ordinal for event in confirmed.events} == {0, 1}
    assert parse_entry(confirmed.entries[-1].data)["kind"] == "bundle"


def test_reliance_on_what_is_doubtful_is_refused() -> None:
    ledger = LedgerBuilder({"a": 1, "office": 1})
    ledger.book.set_service(world.SERVICE, "office")
    ledger.sync_registry()
    since = ledger.admit("issued", "N", **DAYS)
    size = ledger.status() + 1
    rely = {"tree_size": size}
    first = world.make_reliance("relied", "case 1", "N", **rely)
    assert ledger.publish([first], "office").index is not None
    rotate(ledger, STOLEN, NEW)
    doubt_key(ledger, STOLEN, since)
    second = world.make_reliance("relied", "case 2", "N", **rely)
    ledger.publish([second], "office")
    assert [b.codes for b in ledger.view.logged[-2:]] == [("admitted",), ("not-valid-then",)]
    confirm = correction(ledger, "N", event_id(ledger, "N"), "confirm")
    assert codes(ledger, confirm) == ["admitted"]
    ledger.publish([second], "office")
    assert ledger.view.logged[-1].codes == ("admitted",)


def test_lists_say_undecided_of_what_is_doubtful_alone() -> None:
    ledger, since = make_ledger()
    doubts = {STOLEN.key.key_id: range(since, since + 99)}

    def said(number: str) -> dict[int, int]:
        key = identity.certificate_key(world.TYPE, "a", number)
        steps = [(step.index, step.transition) for step in ledger.histories[key]]
        found = statuslist.statuses([t for _, t in steps], ledger.now)
        assert statuslist.under_doubt(found, steps, ledger.now, {}) == found
        return statuslist.under_doubt(found, steps, ledger.now, doubts)

    assert said("early") == {1: statuslist.VALID}
    assert said("late") == {1: statuslist.UNDECIDED}
    # whether version 1 is superseded is as doubtful as version 2
    assert said("renewed") == {1: statuslist.UNDECIDED, 2: statuslist.UNDECIDED}


def test_a_note_tells_which_key_is_doubted() -> None:
    ledger, since = make_ledger()
    entries = [parse_entry(data) for data in ledger.entries]
    notes = [entry["note"].encode() for entry in entries if entry["kind"] == "registry"]
    told = [registry.told_doubt(note, world.ORIGIN) for note in notes]
    assert told[-1] == (STOLEN.key.key_id, since)
    assert set(told[:-1]) == {None}
    with pytest.raises(LedgerError, match="foreign-ledger"):
        registry.told_doubt(notes[-1], "elsewhere.example")


def test_what_doubt_rests_on_is_what_decides() -> None:
    """A doubtful event that nothing reads changes no finding."""
    ledger, since = make_ledger()
    history = [(s.index, s.transition) for s in ledger.histories[_key("renewed")]]
    finding = lifecycle.answer([t for _, t in history], ledger.now)
    doubts = {STOLEN.key.key_id: range(since, since + 99)}
    assert doubt.settle(finding, history, 2, {}) == finding
    assert doubt.settle(finding, history, 2, {NEW.key.key_id: range(since, since + 99)}) == finding
    assert doubt.settle(finding, history, 2, doubts).reason == doubt.COMPROMISED
    before = lifecycle.answer([history[0][1]], ledger.now)
    assert doubt.settle(before, history, 1, doubts) == before


def _key(number: str) -> bytes:
    return identity.certificate_key(world.TYPE, "a", number)
