"""Keys that come without the previous one: announced, objected to, due, and shown in answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consumers.words import describe
from ledger import canonical, merkle, times
from ledger.checking import check_file
from ledger.entry import format_registry
from ledger.errors import LedgerError
from ledger.evidence import format_evidence, parse_evidence
from ledger.note import MemorySigner, sign
from ledger.registry import (
    MIN_DELAY,
    RECORD_FORM,
    Registry,
    apply_note,
    key_active,
    registration_text,
)
from ledger.verdict import Answer
from tests import world
from tests.ledger_builder import LedgerBuilder

OPERATOR, OWNER, BUNDLER = world.OPERATOR, world.registry_signer("a"), world.bundle_signer("a")
NEW_OWNER, NEW_BUNDLER = world.registry_signer("a", "2"), world.bundle_signer("a", "2")
STRANGER = world.registry_signer("b")
DAY = 86_400
DAYS = {"valid_from": "2026-02-01+08:00"}


def make_ledger() -> LedgerBuilder:
    ledger = LedgerBuilder({"a": 1, "b": 1})
    ledger.admit("issued", "N", **DAYS)
    return ledger


def recovery(key: MemorySigner, role: str, delay: Any = MIN_DELAY) -> dict[str, Any]:
    return {"recover": {"role": role, "vkey": str(key.key), "delay_seconds": delay}}


def announce(
    ledger: LedgerBuilder,
    key: MemorySigner,
    role: str,
    *signers: MemorySigner,
    delay: Any = MIN_DELAY,
) -> int:
    signers = signers or (OPERATOR,)
    return ledger.change("department/a", recovery(key, role, delay), *signers, key)


def register(ledger: LedgerBuilder, key: MemorySigner, role: str, *signers: MemorySigner) -> int:
    change = world.key_change(key, role, "a")
    return ledger.change(f"key/{key.key.key_id}", change, *(signers or (OPERATOR,)), key)


def refused(make: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(LedgerError) as err:
        make()
    return err.value.code, err.value.message


def ask(ledger: LedgerBuilder, number: str = "N", **question: Any) -> Answer:
    data = format_evidence(ledger.evidence(number, **question))
    assert format_evidence(parse_evidence(data)) == data
    return check_file(data, ledger.trust(), ledger.now)


def authority(answer: Answer) -> dict[str, Any]:
    return dict(answer.checks[1].values)


def recovered() -> tuple[LedgerBuilder, list[int]]:
    """(a ledger whose department a lost both keys and got new ones, the entries of that)."""
    ledger = make_ledger()
    begun = [announce(ledger, NEW_OWNER, "registry"), announce(ledger, NEW_BUNDLER, "bundle")]
    ledger.advance(MIN_DELAY)
    done = [register(ledger, NEW_OWNER, "registry"), register(ledger, NEW_BUNDLER, "bundle")]
    ledger.keys["a"] = NEW_BUNDLER
    ledger.publish([])
    return ledger, begun + done


def test_an_announced_recovery_takes_no_effect_and_every_answer_says_so() -> None:
    ledger = make_ledger()
    assert "recoveries" not in authority(ask(ledger))
    announced = announce(ledger, NEW_OWNER, "registry")
    ledger.publish([])
    answer = ask(ledger)
    assert answer.answer == "valid"
    begin = times.format_moment(ledger.now + MIN_DELAY * times.SECOND)
    told = {"department": "a", "role": "registry", "announced": announced, "from": begin}
    assert authority(answer)["recoveries"] == [told]
    assert f"entry {announced} announced that a gets a registry key" in describe(answer)
    assert authority(ask(ledger, "nobody has it"))["recoveries"] == [told]
    change = world.department_change("a")
    with pytest.raises(LedgerError, match="registry-signature"):
        ledger.change("department/a", {**change, "contact": "elsewhere"}, NEW_OWNER)
    # the department goes on, and so does the announcement
    ledger.change("department/a", {**change, "contact": "elsewhere"}, OWNER)
    ledger.publish([])
    assert authority(ask(ledger))["recoveries"] == [told]


def test_it_is_due_after_the_delay_and_shown_for_good() -> None:
    ledger = make_ledger()
    announced = announce(ledger, NEW_OWNER, "registry")
    begin = ledger.now + MIN_DELAY * times.SECOND
    for seconds in (0, MIN_DELAY - 1):
        ledger.now = begin - (MIN_DELAY - seconds) * times.SECOND
        code, message = refused(lambda: register(ledger, NEW_OWNER, "registry"))
        assert code == "recovery-not-due"
        assert times.format_moment(begin) in message
        assert times.format_moment(ledger.now) in message
    ledger.now = begin
    index = register(ledger, NEW_OWNER, "registry")
    value = ledger.book.registry.value(f"key/{NEW_OWNER.key.key_id}")
    assert value is not None
    assert (value["from"], value["recovered"]) == (index, announced)
    assert "recovery" not in (ledger.book.registry.value("department/a") or {})
    # the recovered key brings the next ones, and each answer that rests on them says so
    register(ledger, NEW_BUNDLER, "bundle", NEW_OWNER, BUNDLER)
    ledger.keys["a"] = NEW_BUNDLER
    ledger.admit("issued", "later", **DAYS)
    for number, is_resting in (("N", False), ("later", True)):
        answer = ask(ledger, number)
        assert answer.answer == "valid"
        said = f"a got the key of entry {index} without the previous one, as entry {announced}"
        assert (said in describe(answer)) == is_resting
        keys = authority(answer)["keys"]
        assert [k.get("recovered") for k in keys if k["role"] == "registry"][-1] == (
            announced if is_resting else None
        )


def test_a_department_that_lost_everything() -> None:
    ledger, (first, second, owner, bundler) = recovered()
    ledger.admit("renewed", "N", time=times.format_moment(ledger.now))
    ledger.change(
        f"key/{OWNER.key.key_id}", world.key_change(OWNER, "registry", "a", True), NEW_OWNER
    )
    value = ledger.book.registry.value(f"key/{OWNER.key.key_id}")
    assert value is not None
    assert not key_active(value, len(ledger.entries))
    answer = ask(ledger)
    assert answer.answer == "valid"
    told = {k["entry"]: (k["vouched_by"], k.get("recovered")) for k in authority(answer)["keys"]}
    assert told[bundler] == ("operator", second)
    assert owner not in told  # the operator alone brought the bundle key; the answer says so
    assert f"key of entry {bundler} without the previous one, as entry {second}" in describe(answer)
    assert first < second


def test_a_bundle_key_is_the_departments_own_to_recover() -> None:
    ledger = make_ledger()
    announced = announce(ledger, NEW_BUNDLER, "bundle", OWNER)
    ledger.advance(MIN_DELAY)
    index = register(ledger, NEW_BUNDLER, "bundle", OWNER)
    ledger.keys["a"] = NEW_BUNDLER
    ledger.admit("renewed", "N", time=times.format_moment(ledger.now))
    answer = ask(ledger)
    assert answer.answer == "valid"
    found = {k["entry"]: k for k in authority(answer)["keys"]}
    assert found[index]["vouched_by"] == OWNER.key.key_id
    assert found[index]["recovered"] == announced


@pytest.mark.parametrize(
    ("role", "signer"),
    [("registry", OWNER), ("registry", OPERATOR), ("bundle", OWNER), ("bundle", BUNDLER)],
)
def test_who_may_object(role: str, signer: MemorySigner) -> None:
    ledger = make_ledger()
    key = NEW_OWNER if role == "registry" else NEW_BUNDLER
    announce(ledger, key, role)
    ledger.change("department/a", {"object": role}, signer)
    assert "recovery" not in (ledger.book.registry.value("department/a") or {})
    ledger.advance(2 * MIN_DELAY)
    assert refused(lambda: register(ledger, key, role))[0] == "registry-signature"
    assert "recoveries" not in authority(ask(ledger))
    announce(ledger, key, role)  # a second time, with the whole delay before it
    assert refused(lambda: register(ledger, key, role))[0] == "recovery-not-due"


def test_one_objection_leaves_the_other_recovery() -> None:
    ledger = make_ledger()
    announce(ledger, NEW_OWNER, "registry")
    announce(ledger, NEW_BUNDLER, "bundle")
    ledger.change("department/a", {"object": "registry"}, OWNER)
    value = ledger.book.registry.value("department/a")
    assert value is not None
    assert value["recovery"].keys() == {"bundle"}


REFUSED: dict[str, tuple[str, Callable[[LedgerBuilder], Any]]] = {
    "by the operator without the key": (
        "registry-signature",
        lambda b: b.change("department/a", recovery(NEW_OWNER, "registry"), OPERATOR),
    ),
    "by the key without the operator": (
        "registry-signature",
        lambda b: b.change("department/a", recovery(NEW_OWNER, "registry"), NEW_OWNER),
    ),
    "a registry key by the department": (
        "registry-signature",
        lambda b: announce(b, NEW_OWNER, "registry", OWNER),
    ),
    "a bundle key by a stranger": (
        "registry-signature",
        lambda b: announce(b, NEW_BUNDLER, "bundle", STRANGER),
    ),
    "a delay that is short": (
        "registry-refused",
        lambda b: announce(b, NEW_OWNER, "registry", delay=MIN_DELAY - 1),
    ),
    "a delay that is long": (
        "registry-refused",
        lambda b: announce(b, NEW_OWNER, "registry", delay=366 * DAY),
    ),
    "a true delay": ("malformed-note", lambda b: announce(b, NEW_OWNER, "registry", delay=True)),
    "no delay": ("malformed-note", lambda b: announce(b, NEW_OWNER, "registry", delay=None)),
    "of another role": ("malformed-note", lambda b: announce(b, NEW_OWNER, "witness")),
    "of the other role": ("registry-refused", lambda b: announce(b, NEW_OWNER, "bundle")),
    "another department's key": ("registry-refused", lambda b: announce(b, STRANGER, "registry")),
    "a key that is there": ("key-in-use", lambda b: announce(b, OWNER, "registry")),
    "the operator's own": (
        "key-in-use",
        lambda b: announce(
            b, MemorySigner(OWNER.key.name, OPERATOR._private), "registry", OPERATOR
        ),
    ),
    "of no department": (
        "unknown-department",
        lambda b: b.change("department/z", recovery(NEW_OWNER, "registry"), OPERATOR, NEW_OWNER),
    ),
    "of a department without keys": ("registry-refused", lambda b: _keyless(b)),
    "twice": ("registry-refused", lambda b: [announce(b, NEW_OWNER, "registry"), _another(b)]),
    "with more": (
        "malformed-note",
        lambda b: b.change(
            "department/a", {**recovery(NEW_OWNER, "registry"), "object": "bundle"}, OPERATOR
        ),
    ),
    "with nothing": ("malformed-note", lambda b: b.change("department/a", {}, OPERATOR)),
    "objected to where none stands": (
        "registry-refused",
        lambda b: b.change("department/a", {"object": "registry"}, OWNER),
    ),
    "objected to by a stranger": (
        "registry-signature",
        lambda b: [
            announce(b, NEW_OWNER, "registry"),
            b.change("department/a", {"object": "registry"}, STRANGER),
        ],
    ),
    "objected to by a bundle key": (
        "registry-signature",
        lambda b: [
            announce(b, NEW_OWNER, "registry"),
            b.change("department/a", {"object": "registry"}, BUNDLER),
        ],
    ),
    "objected to in another role": (
        "registry-refused",
        lambda b: [
            announce(b, NEW_OWNER, "registry"),
            b.change("department/a", {"object": "bundle"}, OWNER),
        ],
    ),
    "another key than announced": (
        "registry-signature",
        lambda b: [announce(b, NEW_OWNER, "registry"), b.advance(MIN_DELAY), _stranger_comes(b)],
    ),
    "completed by itself": (
        "registry-signature",
        lambda b: [
            announce(b, NEW_OWNER, "registry"),
            b.advance(MIN_DELAY),
            register(b, NEW_OWNER, "registry", STRANGER),
        ],
    ),
}


def _keyless(ledger: LedgerBuilder) -> None:
    ledger.change("department/c", world.department_change("c"), OPERATOR)
    key = world.registry_signer("c")
    ledger.change("department/c", recovery(key, "registry"), OPERATOR, key)


def _another(ledger: LedgerBuilder) -> None:
    announce(ledger, world.registry_signer("a", "3"), "registry")


def _stranger_comes(ledger: LedgerBuilder) -> None:
    register(ledger, world.registry_signer("a", "3"), "registry")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, make = REFUSED[name]
    ledger = make_ledger()
    assert refused(lambda: make(ledger))[0] == code


def test_notes_of_a_recovery_do_not_count_twice() -> None:
    ledger = make_ledger()
    book = ledger.book
    announce(ledger, NEW_OWNER, "registry")
    first = sign(parse_note_text(ledger.entries[-1]), [OPERATOR, NEW_OWNER])
    assert apply_note(book.registry, first, len(ledger.entries), ledger.now) is None
    ledger.change("department/a", {"object": "registry"}, OWNER)
    late = ledger.now + 2 * MIN_DELAY * times.SECOND
    assert refused(lambda: apply_note(book.registry, first, len(ledger.entries), late))[0] == (
        "registry-conflict"
    )
    announce(ledger, NEW_OWNER, "registry")
    ledger.advance(MIN_DELAY)
    register(ledger, NEW_OWNER, "registry")
    again = sign(parse_note_text(ledger.entries[-1]), [OPERATOR, NEW_OWNER])
    assert apply_note(book.registry, again, len(ledger.entries), ledger.now) is None


def parse_note_text(entry: bytes) -> bytes:
    note = str(canonical.loads(entry)["note"])
    return note[: note.rindex("\n\n") + 1].encode()


def test_the_announced_key_may_come_the_usual_way_after_all() -> None:
    ledger = make_ledger()
    announce(ledger, NEW_OWNER, "registry")
    register(ledger, NEW_OWNER, "registry", OWNER)
    value = ledger.book.registry.value(f"key/{NEW_OWNER.key.key_id}")
    assert value is not None
    assert "recovered" not in value
    assert "recovery" not in (ledger.book.registry.value("department/a") or {})


# --- what an operator who lies can do with evidence ---


def forge(
    ledger: LedgerBuilder,
    key: MemorySigner,
    role: str,
    voucher: MemorySigner = OPERATOR,
    **value: Any,
) -> None:
    """A key's registration and record as the operator alone writes them, rules or none."""
    index, name = len(ledger.entries), f"key/{key.key.key_id}"
    text = registration_text(world.ORIGIN, key.key, role, "a")
    note = sign(text, [voucher, key])
    ledger.entries.append(format_registry(note, times.format_moment(ledger.now)))
    record = {
        "form": RECORD_FORM,
        "name": name,
        "since": index,
        "note": merkle.leaf_hash(text).hex(),
        "value": {**world.key_change(key, role, "a"), "from": index, "revoked": None, **value},
    }
    records = {**ledger.book.registry.records, name: record}
    ledger.book.registry = ledger.view.registry = Registry(world.ORIGIN, records)
    ledger.keys["a"] = key


@pytest.mark.parametrize("seconds", [0, MIN_DELAY - 1])
def test_a_recovery_before_its_time_proves_nothing(seconds: int) -> None:
    ledger = make_ledger()
    announced = announce(ledger, NEW_BUNDLER, "bundle")
    ledger.advance(seconds)
    forge(ledger, NEW_BUNDLER, "bundle", recovered=announced)
    ledger.admit("issued", "NEVER")
    answer = ask(ledger, "NEVER")
    assert answer.reason == "evidence-refused"
    assert "announced it with a delay" in answer.why


def test_a_bundle_key_by_the_operator_alone_without_announcement_proves_nothing() -> None:
    ledger = make_ledger()
    forge(ledger, NEW_BUNDLER, "bundle")
    ledger.admit("issued", "NEVER")
    assert ask(ledger, "NEVER").reason == "evidence-refused"


def test_a_department_has_one_first_key() -> None:
    """An operator who brings a registry key alone, unannounced, and by it a bundle key."""
    ledger = make_ledger()
    forge(ledger, NEW_OWNER, "registry")
    forge(ledger, NEW_BUNDLER, "bundle", voucher=NEW_OWNER)
    ledger.admit("renewed", "N", time=times.format_moment(ledger.now))
    ledger.admit("suspended", "N", **DAYS, reason_code="x", time=times.format_moment(ledger.now))
    answer = ask(ledger)
    assert answer.reason == "evidence-refused"
    assert "two first keys of a" in answer.why


@pytest.mark.parametrize("change", ["leave out", "another delay", "another time", "unsigned"])
def test_what_a_file_says_of_the_announcement_is_what_was_logged(change: str) -> None:
    ledger, _ = recovered()
    ledger.admit("renewed", "N", time=times.format_moment(ledger.now))
    value = canonical.loads(format_evidence(ledger.evidence("N")))
    key = next(k for k in value["keys"] if "announced" in k)
    if change == "leave out":
        del key["announced"]
    elif change == "another delay":
        key["announced"][2] += 1
    elif change == "another time":
        key["announced"][0] = times.format_moment(ledger.now - 9 * MIN_DELAY * times.SECOND)
    else:
        del key["announced"][4:]
    answer = check_file(canonical.format(value), ledger.trust(), ledger.now)
    assert answer.reason == "evidence-refused"


def test_a_file_cannot_hide_an_announcement_or_that_a_key_was_recovered() -> None:
    ledger, _ = recovered()
    ledger.admit("renewed", "N", time=times.format_moment(ledger.now))
    announce(ledger, world.registry_signer("a", "3"), "registry")
    ledger.publish([])
    for member in ("recovered", "recovery"):
        value = canonical.loads(format_evidence(ledger.evidence("N")))
        for key in value["keys"]:
            if member in key:
                del key["recovered"], key["announced"]
        for record in value["registry"]["records"]:
            record["value"].pop(member, None)
        answer = check_file(canonical.format(value), ledger.trust(), ledger.now)
        assert answer.reason == "evidence-refused", member
