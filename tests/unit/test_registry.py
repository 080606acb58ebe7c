"""Registry notes: what is accepted, and every refusal with its code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from deploy.registration import parse_grants
from ledger import canonical, merkle
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner
from ledger.errors import LedgerError, Malformed, Refused
from ledger.event import FIELDS
from ledger.note import MAX_NOTE, MemorySigner, sign
from ledger.records import parse_record
from ledger.registry import (
    BUNDLE_ROLE,
    NO_RECORD,
    RECORD_FORM,
    REGISTRY_ROLE,
    Registry,
    apply_note,
    format_record,
    genesis_records,
    granted,
    key_active,
    lane_record,
    note_text,
)
from tests.world import (
    CHECKPOINT,
    OPERATOR,
    ORIGIN,
    TYPE,
    Book,
    bundle_signer,
    department_change,
    key_change,
    leaves,
    registry_signer,
    signer,
    tree_root,
    type_change,
)


def make_book() -> Book:
    book = Book()
    book.add_department("a", lanes=2)
    book.add_department("b")
    book.set_type([("a", ["issued"], "own")], name="T")
    return book


OWNER, BUNDLER = registry_signer("a"), bundle_signer("a")
NEW = bundle_signer("a", "second")
NEW_OWNER = registry_signer("a", "second")
OTHER = registry_signer("b")


def key_note(
    book: Book,
    key: MemorySigner,
    *signers: MemorySigner,
    role: str = BUNDLE_ROLE,
    department: str = "a",
    revoked: Any = False,
    name: str | None = None,
) -> bytes:
    change = key_change(key, role, department, revoked)
    return book.note(name or f"key/{key.key.key_id}", change, *signers)


def raw(*lines: str, by: MemorySigner = OPERATOR) -> bytes:
    return sign("".join(line + "\n" for line in lines).encode(), [by])


def with_change(**changes: Any) -> Callable[[Book], bytes]:
    return lambda book: book.note("department/c", {**department_change("c"), **changes}, OPERATOR)


def with_grant(**changes: Any) -> Callable[[Book], bytes]:
    grant = {"department": "a", "acts": ["issued"], "scope": "own", **changes}
    return lambda book: book.note("type/U", {**type_change([]), "grants": [grant]}, OPERATOR)


def version_note(book: Book, version: Any, check: Any = "0" * 64) -> bytes:
    return book.note("pseudonyms", {"version": version, "check": check}, OPERATOR)


def with_versions(book: Book, *versions: int) -> Book:
    for version in versions:
        book.change("pseudonyms", {"version": version, "check": f"{version:064x}"}, OPERATOR)
    return book


def catalogue_change(version: Any, size: Any = 9) -> dict[str, Any]:
    return {"version": version, "root": f"{int(version):064x}", "size": size}


def with_catalogues(book: Book, count: int) -> Book:
    """The book with `count` versions of a catalogue, as if they had been published."""
    name = "catalogue/a/town"
    versions = [{**catalogue_change(n), "from": n} for n in range(1, count + 1)]
    record = {"form": RECORD_FORM, "name": name, "since": 1, "value": {"versions": versions}}
    book.registry = Registry(ORIGIN, {**book.registry.records, name: record})
    return book


NAME = f"{ORIGIN}/registry/department/c"
FORM = "certledger registry v1"
NONE = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
BODY = canonical.format(department_change("c")).decode()

REFUSED: dict[str, tuple[str, Callable[[Book], bytes]]] = {
    "no note": ("malformed-note", lambda b: b"hello\n"),
    "five lines": ("malformed-note", lambda b: raw(NAME, FORM, NONE, BODY, "more")),
    "three lines": ("malformed-note", lambda b: raw(NAME, FORM, NONE)),
    "another form": ("malformed-note", lambda b: raw(NAME, "certledger bundle v1", NONE, BODY)),
    "another ledger": (
        "foreign-ledger",
        lambda b: raw("x/registry/department/c", FORM, NONE, BODY),
    ),
    "a checkpoint's origin": ("foreign-ledger", lambda b: raw(ORIGIN, FORM, NONE, BODY)),
    "short hash": ("malformed-note", lambda b: raw(NAME, FORM, "AAAA", BODY)),
    "hash with junk bits": ("malformed-note", lambda b: raw(NAME, FORM, NONE[:-2] + "B=", BODY)),
    "spaced JSON": ("not-canonical", lambda b: raw(NAME, FORM, NONE, BODY.replace(":", ": ", 1))),
    "no JSON": ("not-json", lambda b: raw(NAME, FORM, NONE, "{")),
    "JSON list": ("malformed-note", lambda b: raw(NAME, FORM, NONE, "[]")),
    "huge change": (
        "too-large",
        lambda b: raw(NAME, FORM, NONE, canonical.format({"a": "x" * 17_000}).decode()),
    ),
    "huge note": ("malformed-note", lambda b: raw("x" * MAX_NOTE)),
    "wrong predecessor": (
        "registry-conflict",
        lambda b: sign(
            note_text(ORIGIN, "department/a", NO_RECORD, department_change("a")), [OWNER]
        ),
    ),
    "predecessor of a new record": (
        "registry-conflict",
        lambda b: sign(
            note_text(ORIGIN, "department/c", b"1" * 32, department_change("c")), [OPERATOR]
        ),
    ),
    "the ledger's record": ("malformed-note", lambda b: b.note("ledger", {}, OPERATOR)),
    "below the ledger's record": (
        "registry-refused",
        lambda b: b.note("ledger/x", {}, OPERATOR),
    ),
    "the operator's record": ("registry-refused", lambda b: b.note("operator", {}, OPERATOR)),
    "a lane's record": ("registry-refused", lambda b: b.note("lane/a/0", {}, OPERATOR)),
    "no record": ("registry-refused", lambda b: b.note("", {}, OPERATOR)),
    # versions of the pseudonym secret
    "version signed by a department": (
        "registry-signature",
        lambda b: b.note("pseudonyms", {"version": 1, "check": "0" * 64}, OWNER),
    ),
    "version of a record of its own": (
        "registry-refused",
        lambda b: b.note("pseudonyms/1", {"version": 1, "check": "0" * 64}, OPERATOR),
    ),
    "versions beside the record": (
        "registry-refused",
        lambda b: b.note("pseudonyms/", {"version": 1, "check": "0" * 64}, OPERATOR),
    ),
    "version nothing": ("malformed-note", lambda b: version_note(b, 0)),
    "version true": ("malformed-note", lambda b: version_note(b, True)),
    "version a million": ("malformed-note", lambda b: version_note(b, 1_000_000)),
    "version with a short check": ("malformed-note", lambda b: version_note(b, 1, "0" * 63)),
    "version with a check in capitals": ("malformed-note", lambda b: version_note(b, 1, "A" * 64)),
    "version with a number for a check": ("malformed-note", lambda b: version_note(b, 1, 1)),
    "version with more": (
        "malformed-note",
        lambda b: b.note("pseudonyms", {"version": 1, "check": "0" * 64, "from": 1}, OPERATOR),
    ),
    "version again": (
        "registry-refused",
        lambda b: version_note(with_versions(b, 1, 2), 2, "1" * 64),
    ),
    "version before the last": ("registry-refused", lambda b: version_note(with_versions(b, 2), 1)),
    "versions without end": (
        "registry-refused",
        lambda b: version_note(with_versions(b, *range(1, 65)), 65),
    ),
    # catalogues
    "catalogue of no department": (
        "unknown-department",
        lambda b: b.note("catalogue/z/town", catalogue_change(1), OWNER),
    ),
    "catalogue without a code": (
        "unknown-department",
        lambda b: b.note("catalogue/a", catalogue_change(1), OWNER),
    ),
    "catalogue of a bad code": (
        "malformed-number",
        lambda b: b.note("catalogue/a/b/c", catalogue_change(1), OWNER),
    ),
    "catalogue by another": (
        "registry-signature",
        lambda b: b.note("catalogue/a/town", catalogue_change(1), OTHER),
    ),
    "catalogue by a bundle key": (
        "registry-signature",
        lambda b: b.note("catalogue/a/town", catalogue_change(1), BUNDLER),
    ),
    "catalogue that begins with 2": (
        "registry-refused",
        lambda b: b.note("catalogue/a/town", catalogue_change(2), OWNER),
    ),
    "catalogue of version true": (
        "registry-refused",
        lambda b: b.note("catalogue/a/town", catalogue_change(True), OWNER),
    ),
    "catalogue of the same version": (
        "registry-refused",
        lambda b: with_catalogues(b, 1).note("catalogue/a/town", catalogue_change(1, 2), OWNER),
    ),
    "catalogue of too many versions": (
        "registry-refused",
        lambda b: with_catalogues(b, 1024).note("catalogue/a/town", catalogue_change(1025), OWNER),
    ),
    "catalogue with a short root": (
        "malformed-note",
        lambda b: b.note("catalogue/a/town", {**catalogue_change(1), "root": "0" * 63}, OWNER),
    ),
    "catalogue without leaves": (
        "malformed-note",
        lambda b: b.note("catalogue/a/town", catalogue_change(1, 0), OWNER),
    ),
    "catalogue with more": (
        "malformed-note",
        lambda b: b.note("catalogue/a/town", {**catalogue_change(1), "from": 1}, OWNER),
    ),
    # departments
    "department of a bad name": (
        "malformed-note",
        lambda b: b.note("department/a b", department_change("c"), OPERATOR),
    ),
    "department in a folder": (
        "malformed-note",
        lambda b: b.note("department/a/b", department_change("c"), OPERATOR),
    ),
    "department without lanes": ("malformed-note", with_change(lanes=0)),
    "department with true lanes": ("malformed-note", with_change(lanes=True)),
    "department with many lanes": ("malformed-note", with_change(lanes=1025)),
    "department with a listed zone": ("malformed-note", with_change(time_zone=["Asia/Shanghai"])),
    "department in another zone": ("malformed-note", with_change(time_zone="../etc/passwd")),
    "department of no silence": ("malformed-note", with_change(silence_limit_seconds=0)),
    "department of true silence": ("malformed-note", with_change(silence_limit_seconds=True)),
    "department without names": ("malformed-note", with_change(names={})),
    "department of a numbered name": ("malformed-note", with_change(names={"zh": 1})),
    "department of a long language": ("malformed-note", with_change(names={"zho": "x"})),
    "department with more": ("malformed-note", with_change(more=1)),
    "department with a numbered code": ("malformed-note", with_change(authority_code=1)),
    "department not by the operator": (
        "registry-signature",
        lambda b: b.note("department/c", department_change("c"), OWNER),
    ),
    "department changed by another": (
        "registry-signature",
        lambda b: b.note("department/a", department_change("a", 2), OTHER),
    ),
    "department changed by its bundle key": (
        "registry-signature",
        lambda b: b.note("department/a", department_change("a", 2), BUNDLER),
    ),
    "department changed by the operator": (
        "registry-signature",
        lambda b: b.note("department/a", department_change("a", 2), OPERATOR),
    ),
    "lanes changed": (
        "registry-signature",
        lambda b: b.note("department/a", department_change("a", 3), OWNER),
    ),
    # keys
    "key of no department": (
        "unknown-department",
        lambda b: key_note(b, bundle_signer("z"), OWNER, department="z"),
    ),
    "key of a listed department": (
        "malformed-note",
        lambda b: b.note("key/x", {**key_change(NEW, "bundle", "a"), "department": ["a"]}, OWNER),
    ),
    "key of a listed role": (
        "malformed-note",
        lambda b: b.note("key/x", {**key_change(NEW, "bundle", "a"), "role": ["bundle"]}, OWNER),
    ),
    "key of another role": (
        "malformed-note",
        lambda b: key_note(b, NEW, OWNER, NEW, BUNDLER, role="witness"),
    ),
    "key that is none": (
        "malformed-key",
        lambda b: b.note("key/x", {**key_change(NEW, "bundle", "a"), "vkey": "x+y+z"}, OWNER),
    ),
    "key that is a number": (
        "malformed-note",
        lambda b: b.note("key/x", {**key_change(NEW, "bundle", "a"), "vkey": 7}, OWNER),
    ),
    "key under another id": (
        "malformed-note",
        lambda b: key_note(b, NEW, OWNER, NEW, BUNDLER, name="key/" + "0" * 64),
    ),
    "bundle key as registry key": (
        "registry-refused",
        lambda b: key_note(b, NEW, OWNER, NEW, role=REGISTRY_ROLE),
    ),
    "another department's key name": (
        "registry-refused",
        lambda b: key_note(b, bundle_signer("b", "second"), OWNER, department="a"),
    ),
    "the operator's own key": (
        "key-in-use",
        lambda b: key_note(b, _renamed(OPERATOR), OWNER, BUNDLER),
    ),
    "the checkpoint key": (
        "key-in-use",
        lambda b: key_note(b, _renamed(CHECKPOINT), OWNER, BUNDLER),
    ),
    "another department's key": (
        "key-in-use",
        lambda b: key_note(b, _renamed(bundle_signer("b")), OWNER, BUNDLER),
    ),
    "no proof of possession": ("registry-signature", lambda b: key_note(b, NEW, OWNER, BUNDLER)),
    "new key not by the department": (
        "registry-signature",
        lambda b: key_note(b, NEW, OTHER, NEW, BUNDLER),
    ),
    "new key by the operator": (
        "registry-signature",
        lambda b: key_note(b, NEW, OPERATOR, NEW, BUNDLER),
    ),
    "new key without the previous": ("registry-signature", lambda b: key_note(b, NEW, OWNER, NEW)),
    "new key revoked": (
        "malformed-note",
        lambda b: key_note(b, NEW, OWNER, NEW, BUNDLER, revoked=True),
    ),
    "first registry key without the operator": (
        "registry-signature",
        lambda b: _first_registry_key(b),
    ),
    "revoked by another": (
        "registry-signature",
        lambda b: key_note(b, BUNDLER, OTHER, revoked=True),
    ),
    "doubted from before it was": (
        "registry-refused",
        lambda b: key_note(b, BUNDLER, OWNER, revoked=2),
    ),
    "doubted by another": (
        "registry-signature",
        lambda b: key_note(b, BUNDLER, OTHER, revoked=4),
    ),
    "doubted by itself": ("registry-signature", lambda b: key_note(b, BUNDLER, BUNDLER, revoked=4)),
    "doubted by the operator": (
        "registry-signature",
        lambda b: key_note(b, BUNDLER, OPERATOR, revoked=4),
    ),
    "doubted from below zero": (
        "malformed-note",
        lambda b: key_note(b, BUNDLER, OWNER, revoked=-1),
    ),
    "a registry key doubted": (
        "registry-refused",
        lambda b: key_note(b, OWNER, OWNER, role=REGISTRY_ROLE, revoked=4),
    ),
    "doubted from the same entry": ("registry-refused", lambda b: _doubted(b, 5, 5)),
    "doubted from a later entry": ("registry-refused", lambda b: _doubted(b, 5, 6)),
    "doubted from after it was revoked": ("registry-refused", lambda b: _doubted(b, True, 11)),
    "revoked from later": ("malformed-note", lambda b: key_note(b, BUNDLER, OWNER, revoked=999)),
    "not revoked": ("malformed-note", lambda b: key_note(b, BUNDLER, OWNER, revoked=False)),
    "the last registry key revoked": (
        "registry-refused",
        lambda b: key_note(b, OWNER, OWNER, role=REGISTRY_ROLE, revoked=True),
    ),
    "revoked twice": ("registry-refused", lambda b: _revoked_twice(b)),
    # types
    "type of a bad name": (
        "malformed-number",
        lambda b: b.note("type/a b", type_change([]), OPERATOR),
    ),
    "type not by the operator": (
        "registry-signature",
        lambda b: b.note("type/U", type_change([]), OWNER),
    ),
    "type granted to nobody": ("unknown-department", with_grant(department="z")),
    "type granted to a number": ("malformed-note", with_grant(department=5)),
    "type granted to a list": ("malformed-note", with_grant(department=["a"])),
    "type for no acts": ("malformed-note", with_grant(acts=[])),
    "type for unsorted acts": ("malformed-note", with_grant(acts=["renewed", "issued"])),
    "type for doubled acts": ("malformed-note", with_grant(acts=["issued", "issued"])),
    "type for unknown acts": ("malformed-note", with_grant(acts=["destroyed"])),
    "type for numbered acts": ("malformed-note", with_grant(acts=[1, "issued"])),
    "type for listed acts": ("malformed-note", with_grant(acts=[["issued"]])),
    "type for mapped acts": ("malformed-note", with_grant(acts=[{}])),
    "type of another scope": ("malformed-note", with_grant(scope="all")),
    "type of a listed scope": ("malformed-note", with_grant(scope=["own"])),
    "type with a longer grant": ("malformed-note", with_grant(until=None)),
    "type with a grant twice": (
        "malformed-note",
        lambda b: b.note("type/U", type_change([("a", ["issued"], "own")] * 2), OPERATOR),
    ),
    "type with a number of grants": (
        "malformed-note",
        lambda b: b.note("type/U", {**type_change([]), "grants": 1}, OPERATOR),
    ),
    "type with too many grants": (
        "malformed-note",
        lambda b: b.note("type/U", {**type_change([]), "grants": [1] * 513}, OPERATOR),
    ),
}


def _renamed(key: MemorySigner) -> MemorySigner:
    """The same private key under the name of a's bundle keys."""
    return MemorySigner(BUNDLER.key.name, key._private)


def _first_registry_key(book: Book) -> bytes:
    book.change("department/c", department_change("c"), OPERATOR)
    key = registry_signer("c")
    return key_note(book, key, key, role=REGISTRY_ROLE, department="c")


def _revoked_twice(book: Book) -> bytes:
    change = key_change(BUNDLER, BUNDLE_ROLE, "a", True)
    book.change(f"key/{BUNDLER.key.key_id}", change, OWNER)
    return key_note(book, BUNDLER, OWNER, revoked=True)


def _doubted(book: Book, *revoked: Any) -> bytes:
    """The last of several notes, one after the other, that say since when a key is no more."""
    book.add_department("c")
    for since in revoked[:-1]:
        book.change(
            f"key/{BUNDLER.key.key_id}", key_change(BUNDLER, BUNDLE_ROLE, "a", since), OWNER
        )
    book.add_department("d")
    return key_note(book, BUNDLER, OWNER, revoked=revoked[-1])


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, make = REFUSED[name]
    book = make_book()
    note = make(book)
    before = tree_root(book.registry.records.values())
    with pytest.raises(LedgerError) as refused:
        apply_note(book.registry, note, book.index, book.now)
    assert refused.value.code == code, refused.value.message
    assert tree_root(book.registry.records.values()) == before


def test_the_same_note_again_changes_nothing_and_an_older_one_conflicts() -> None:
    book = make_book()
    first = book.note("department/a", department_change("a", 2), OWNER)
    book.change("department/a", department_change("a", 2), OWNER)
    assert apply_note(book.registry, first, book.index, book.now) is None
    book.change("department/a", {**department_change("a", 2), "contact": "elsewhere"}, OWNER)
    with pytest.raises(Refused, match="registry-conflict"):
        apply_note(book.registry, first, book.index, book.now)


def test_a_false_signature_beside_a_true_one_is_refused() -> None:
    book = make_book()
    good = book.note("department/c", department_change("c"), OPERATOR)
    line = good.split(b"\n")[-2]
    false = line[:-10] + (b"A" if line[-10:-9] != b"A" else b"B") + line[-9:]
    with pytest.raises(Malformed, match="two signatures"):
        apply_note(book.registry, good + false + b"\n", book.index, book.now)


def test_keys_rotate_and_are_valid_by_index() -> None:
    book = make_book()
    made = book.index
    book.change(f"key/{NEW.key.key_id}", key_change(NEW, BUNDLE_ROLE, "a"), OWNER, NEW, BUNDLER)
    value = book.registry.value(f"key/{NEW.key.key_id}")
    assert value is not None
    assert not key_active(value, made - 1)
    assert key_active(value, made)
    revoked = book.index
    book.change(f"key/{NEW.key.key_id}", key_change(NEW, BUNDLE_ROLE, "a", True), OWNER)
    value = book.registry.value(f"key/{NEW.key.key_id}")
    assert value is not None
    assert key_active(value, revoked - 1)
    assert not key_active(value, revoked)


def test_a_registry_key_is_rotated_before_it_is_revoked() -> None:
    book = make_book()
    name = f"key/{NEW_OWNER.key.key_id}"
    book.change(name, key_change(NEW_OWNER, REGISTRY_ROLE, "a"), OWNER, NEW_OWNER)
    book.change(f"key/{OWNER.key.key_id}", key_change(OWNER, REGISTRY_ROLE, "a", True), OWNER)
    with pytest.raises(Refused, match="registry-signature"):
        apply_note(
            book.registry,
            book.note("department/a", department_change("a", 2), OWNER),
            book.index,
            book.now,
        )
    book.change("department/a", department_change("a", 2), NEW_OWNER)


def test_grants_are_closed_and_never_forgotten() -> None:
    book = make_book()
    begun = book.index - 1
    book.set_type([("b", ["issued"], "any"), ("b", ["revoked"], "own")], name="T")
    value = book.registry.value("type/T")
    assert value is not None
    ended = book.index - 1
    assert granted(value, "a", "issued", begun - 1) is None
    assert granted(value, "a", "issued", begun) == "own"
    assert granted(value, "a", "issued", ended - 1) == "own"
    assert granted(value, "a", "issued", ended) is None
    assert granted(value, "b", "issued", ended) == "any"
    assert granted(value, "b", "revoked", ended) == "own"
    assert granted(value, "b", "renewed", ended) is None
    book.set_type([("b", ["issued"], "any"), ("b", ["revoked"], "own")], name="T")
    same = book.registry.value("type/T")
    assert same is not None
    assert same["grants"] == value["grants"], "a grant that stays keeps its first index"


def test_versions_of_the_pseudonym_secret_are_added_and_never_forgotten() -> None:
    book = make_book()
    assert book.registry.pseudonym_versions is None
    first = book.index
    with_versions(book, 1, 7)
    assert book.registry.pseudonym_versions == {1, 7}
    assert book.registry.value("pseudonyms") == {
        "versions": [
            {"version": 1, "check": f"{1:064x}", "from": first},
            {"version": 7, "check": f"{7:064x}", "from": first + 1},
        ]
    }


def test_versions_of_a_catalogue_follow_each_other_and_are_all_kept() -> None:
    book = make_book()
    first = book.index
    book.change("catalogue/a/town", catalogue_change(1), OWNER)
    book.change("catalogue/a/town", catalogue_change(2), OWNER)
    assert book.registry.value("catalogue/a/town") == {
        "versions": [
            {**catalogue_change(1), "from": first},
            {**catalogue_change(2), "from": first + 1},
        ]
    }
    full = with_catalogues(book, 1024).registry.records["catalogue/a/town"]
    assert parse_record(format_record(full)) == full


def test_a_types_record_always_fits_into_evidence() -> None:
    """Grants that are closed stay in it; what would make it too large is refused, closing never."""
    book = Book()
    names = [f"department-number-{n:03d}-of-a-large-country" for n in range(150)]
    for name in names:
        book.change(f"department/{name}", department_change(name), OPERATOR)
    changes = 0
    with suppress(Refused):
        while changes < 100:
            book.set_type([(name, ["issued"], ("own", "any")[changes % 2]) for name in names])
            changes += 1
    assert 3 < changes < 100
    book.set_type([])
    record = book.registry.records[f"type/{TYPE}"]
    assert all(grant["until"] is not None for grant in record["value"]["grants"])
    parse_record(format_record(record))


def test_the_tree_does_not_depend_on_the_order_of_records() -> None:
    book = make_book()
    records = [*book.registry.records.values(), lane_record("a", 0, 5, {"epoch": 0})]
    assert leaves(records) == leaves(reversed(records))
    assert tree_root(records) == tree_root(list(reversed(records)))
    backwards = Registry(ORIGIN, dict(reversed(list(book.registry.records.items()))))
    assert backwards.keys("a", BUNDLE_ROLE) == book.registry.keys("a", BUNDLE_ROLE)
    assert tree_root([]) == merkle.EMPTY_ROOT


def test_genesis_needs_two_keys_under_their_roles() -> None:
    good = (str(CHECKPOINT.key), str(OPERATOR.key))
    genesis_records(ORIGIN, *good)
    shared = MemorySigner(OPERATOR.key.name, CHECKPOINT._private)
    for checkpoint, operator, code in (
        (*reversed(good), "registry-refused"),
        (str(signer("elsewhere").key), good[1], "registry-refused"),
        (good[0], str(shared.key), "key-in-use"),
        ("x", good[1], "malformed-key"),
    ):
        with pytest.raises(LedgerError) as refused:
            genesis_records(ORIGIN, checkpoint, operator)
        assert refused.value.code == code


def test_unknown_departments_have_no_lanes() -> None:
    book = make_book()
    assert book.registry.departments() == ["a", "b"]
    assert book.registry.lanes("a") == 2
    assert book.registry.lanes("z") == 0
    assert book.registry.keys("z", BUNDLE_ROLE) == []


# --- the ledger's own keys ------------------------------------------------------------------------

NEW_CHECKPOINT = signer(ORIGIN, "new")
PQ, NEW_PQ = (Cosigner(ORIGIN, ML_DSA_44, bytes([n]) * 32) for n in (1, 2))


def ledger_change(key: MemorySigner = NEW_CHECKPOINT, cosigner: Any = None) -> dict[str, Any]:
    return {
        "checkpoint_vkey": str(key.key),
        "cosigner_vkey": None if cosigner is None else str(cosigner.key),
    }


def cosigning_book() -> Book:
    records = genesis_records(ORIGIN, str(CHECKPOINT.key), str(OPERATOR.key), str(PQ.key))
    return Book(Registry(ORIGIN, records))


def test_new_keys_sign_from_the_first_checkpoint_that_holds_the_change() -> None:
    book = cosigning_book()
    first = book.registry.checkpoint_keys
    assert [(k.key, k.from_size, k.until_size) for k in first] == [
        (CHECKPOINT.key, 0, None),
        (PQ.key, 0, None),
    ]
    book.index = 7
    signers = (OPERATOR, CHECKPOINT, NEW_CHECKPOINT)
    book.change("ledger", ledger_change(cosigner=NEW_PQ), *signers)
    assert [(k.key, k.from_size, k.until_size) for k in book.registry.checkpoint_keys] == [
        (CHECKPOINT.key, 0, 8),
        (PQ.key, 0, 8),
        (NEW_CHECKPOINT.key, 8, None),
        (NEW_PQ.key, 8, None),
    ]
    assert book.registry.checkpoint_vkey == str(NEW_CHECKPOINT.key)
    assert apply_note(book.registry, book.notes[-1], 9, book.now) is None


@pytest.mark.parametrize("missing", [OPERATOR, CHECKPOINT, NEW_CHECKPOINT])
def test_operator_old_and_new_key_sign_the_change(missing: MemorySigner) -> None:
    book = cosigning_book()
    signers = [s for s in (OPERATOR, CHECKPOINT, NEW_CHECKPOINT) if s is not missing]
    note = book.note("ledger", ledger_change(cosigner=NEW_PQ), *signers)
    with pytest.raises(Refused) as refused:
        apply_note(book.registry, note, book.index, book.now)
    assert refused.value.code == "registry-signature"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (ledger_change(), "registry-refused"),  # a ledger that cosigns does not stop to
        (ledger_change(cosigner=PQ), "key-in-use"),
        (ledger_change(CHECKPOINT, NEW_PQ), "key-in-use"),
        (ledger_change(signer("other.example"), NEW_PQ), "registry-refused"),
        (
            ledger_change(cosigner=Cosigner("other.example", ML_DSA_44, bytes(32))),
            "registry-refused",
        ),
        (ledger_change(cosigner=Cosigner(ORIGIN, COSIGNATURE_V1, bytes(32))), "registry-refused"),
        ({**ledger_change(cosigner=NEW_PQ), "from_size": 1}, "malformed-note"),
        ({"checkpoint_vkey": 1, "cosigner_vkey": None}, "malformed-note"),
        ({"checkpoint_vkey": str(NEW_PQ.key), "cosigner_vkey": str(NEW_PQ.key)}, "malformed-key"),
    ],
)
def test_keys_that_cannot_be_the_ledger_s(change: dict[str, Any], code: str) -> None:
    book = cosigning_book()
    note = book.note("ledger", change, OPERATOR, CHECKPOINT, NEW_CHECKPOINT)
    with pytest.raises(LedgerError) as refused:
        apply_note(book.registry, note, book.index, book.now)
    assert refused.value.code == code


def test_a_department_cannot_take_a_key_of_the_ledger() -> None:
    book = cosigning_book()
    book.change("ledger", ledger_change(cosigner=NEW_PQ), OPERATOR, CHECKPOINT, NEW_CHECKPOINT)
    book.add_department("a")
    for taken in (CHECKPOINT, NEW_CHECKPOINT):
        key = MemorySigner(BUNDLER.key.name, taken._private)
        change = key_change(key, BUNDLE_ROLE, "a")
        note = book.note(f"key/{key.key.key_id}", change, registry_signer("a"), key)
        with pytest.raises(Refused) as refused:
            apply_note(book.registry, note, book.index, book.now)
        assert refused.value.code == "key-in-use"


def test_grants_as_the_command_line_has_them() -> None:
    one, all_, other = parse_grants(["a:revoked,issued", "b:all", "c:revoked:any"])
    assert one == {"department": "a", "acts": ["issued", "revoked"], "scope": "own"}
    assert all_["acts"] == sorted(FIELDS)
    assert (other["department"], other["scope"]) == ("c", "any")
    for item in ("a", "a:", "a:isued", "a:issued,,revoked"):
        with pytest.raises(Malformed, match=r"is no event|write grants as"):
            parse_grants([item])
