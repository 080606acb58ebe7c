"""Every parser, fed random and mutated bytes: a value that prints them again, or a LedgerError."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import producers
from ledger import (
    canonical,
    identity,
    keys,
    lifecycle,
    logbundle,
    logtopic,
    merkle,
    misbehaviour,
    times,
    trust,
)
from ledger.admission import DeadLetter, Opened, open_record
from ledger.bundle import format_record, parse_header, parse_record
from ledger.checkpoint import Checkpoint, format_proof, parse_checkpoint, parse_proof
from ledger.checkpoint_keys import TrustedKey
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner, parse_checkpoint_key
from ledger.entry import (
    Source,
    format_bundle,
    format_equivocation,
    format_genesis,
    format_registry,
    format_status,
    parse_entry,
)
from ledger.errors import LedgerError, Malformed
from ledger.event import FIELDS, parse_event
from ledger.fast_events import parse_lines
from ledger.note import format_note, parse_note, parse_vkey, sign
from ledger.policy import format_policy, parse_policy
from ledger.question import parse_when
from ledger.receipt import (
    Receipts,
    format_lane,
    format_notice,
    format_receipt,
    parse_message,
    parse_receipt,
)
from ledger.registry import Registry, apply_note, genesis_records
from ledger.reliance import parse_reliance
from ledger.statusmap import MapHead
from ledger.witnessing import format_request, parse_request, parse_size
from producers import calendars
from producers.mapping import parse_mapping
from tests.world import (
    CHECKPOINT,
    CHECKPOINT_KEYS,
    OPERATOR,
    ORIGIN,
    Book,
    bundle_signer,
    department_change,
    make_event,
    make_header,
    make_note,
    make_record,
    make_reliance,
    type_change,
)

TIME = "2026-03-01T00:00:00Z"
EVENT = make_event(
    "issued",
    "湘J20230403 / 7",
    valid_from="2026-03-01+08:00",
    valid_until="2031-02-28+08:00",
    holder_pseudonym="1:" + "ab" * 32,
    claims={"area_code": "430000"},
    commitments={"holder_name": "cd" * 32},
    salt_key_version=1,
)
HEADER = make_header([EVENT])
NOTE = make_note(HEADER)
SIGNED = sign(Checkpoint(ORIGIN, 1, bytes(32)).text(), [CHECKPOINT])
ENTRY = format_bundle(
    NOTE, {"admitted": [0, 1]}, Source("A" * 22, 0, 7), TIME, bytes(32), bytes(32)
)
PROOF = format_proof(
    0, [], sign(Checkpoint(ORIGIN, 1, merkle.leaf_hash(ENTRY)).text(), [CHECKPOINT])
)
TRANSITION = canonical.format(
    {"event": "issued", "id": "0" * 32, "by": "a", "key": "0" * 64, "time": TIME, "version": 1}
)
GOOD_BOOK = Book()
GOOD_BOOK.add_department("a")
REGISTRY_NOTE = GOOD_BOOK.note(
    "department/b", {**department_change("b"), "contact": 'quotes " and \\'}, OPERATOR
)
TYPE_NOTE = GOOD_BOOK.note("type/T", type_change([("a", ["issued"], "own")]), OPERATOR)


PQ = Cosigner(ORIGIN, ML_DSA_44, bytes(32))
WITNESS = Cosigner("witness.example/w", COSIGNATURE_V1, bytes(32))
MAPPING = (Path(producers.__file__).parent / "mappings" / "taiwan-fda.json").read_bytes()
POLICY = f"witness w {WITNESS.key} http://w.example\ngroup g 1 w\nquorum g\n".encode()


def _text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode(errors="surrogateescape"))


def _same(parse: Callable[[bytes], bytes]) -> Callable[[bytes], None]:
    def check(data: bytes) -> None:
        assert parse(data) == data

    return check


def _note(data: bytes) -> bytes:
    note = parse_note(data)
    return format_note(note.text, note.signatures)


def _record(data: bytes) -> bytes:
    bundle = parse_record(data)
    return format_record(bundle.note_bytes, bundle.lines)


def _checkpoint(data: bytes) -> bytes:
    checkpoint, note = parse_checkpoint(data)
    return format_note(checkpoint.text(), note.signatures)


def _transition(data: bytes) -> bytes:
    return lifecycle.parse_transition(canonical.parse(data, 65_536)).format()


def _opened(data: bytes) -> None:
    assert isinstance(open_record(data, GOOD_BOOK.registry, parse_lines), Opened | DeadLetter)


def _apply(data: bytes) -> None:
    done = apply_note(GOOD_BOOK.registry, data, 9, 0)
    assert done is not None
    canonical.format(done.record)


def _misbehaviour(data: bytes) -> None:
    found = misbehaviour.parse_misbehaviour(data)
    assert misbehaviour.format_misbehaviour(found) == data.removesuffix(b"\n")


def _two_entries(data: bytes) -> bytes:
    return logbundle.format_entries(logbundle.parse_entries(data, 2))


def _two_lists(data: bytes) -> bytes:
    return logbundle.format_deltas(logbundle.parse_deltas(data, 2))


MISBEHAVIOUR = misbehaviour.Misbehaviour(
    ORIGIN,
    "entry",
    "a claim",
    (SIGNED, SIGNED),
    (bytes(32),),
    (misbehaviour.ShownEntry(0, ENTRY, (bytes(32),)),),
    b"{}",
    b"{}",
)


# name: (parser, a good input)
PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "misbehaviour": (_misbehaviour, misbehaviour.format_misbehaviour(MISBEHAVIOUR)),
    "entry bundle": (_same(_two_entries), logbundle.format_entries([ENTRY, b"x"])),
    "delta bundle": (_same(_two_lists), logbundle.format_deltas([bytes(128), b""])),
    "canonical": (_same(lambda d: canonical.format(canonical.parse(d, 65_536))), ENTRY),
    "note": (_same(_note), SIGNED),
    "vkey": (_same(_text(lambda t: str(parse_vkey(t)).encode())), str(CHECKPOINT.key).encode()),
    "checkpoint key": (
        _same(_text(lambda t: str(parse_checkpoint_key(t)).encode())),
        str(PQ.key).encode(),
    ),
    "cosigner": (_text(keys.parse_cosigner), keys.format_key("n", b"\x01" * 32, 4).encode()),
    "policy": (lambda d: format_policy(parse_policy(d)), POLICY),
    "witness request": (parse_request, format_request(0, [], SIGNED)),
    "witness size": (parse_size, b"17\n"),
    "key": (_text(keys.parse_key), keys.format_key("n", b"\x01" * 32).encode()),
    "checkpoint": (_same(_checkpoint), SIGNED),
    "proof": (_same(lambda d: format_proof(*parse_proof(d))), PROOF),
    "header": (_same(lambda d: parse_header(d).text()), HEADER.text()),
    "record": (_same(_record), make_record([EVENT])),
    "open_record": (_opened, make_record([EVENT])),
    "event": (lambda d: parse_event(d, bytes(32)), EVENT),
    "reliance": (
        lambda d: parse_reliance(d, bytes(32)),
        make_reliance("relied", "2026-1", "A-1", "B-2", tree_size=8),
    ),
    "entry": (_same(lambda d: canonical.format(parse_entry(d))), ENTRY),
    "transition": (_same(_transition), TRANSITION),
    "lifecycle record": (
        _same(lambda d: lifecycle.parse_record(d)[0].record(lifecycle.parse_record(d)[1])),
        lifecycle.Standing(state="valid", version=1).record(bytes(32)),
    ),
    "receipt": (lambda d: parse_receipt(d, CHECKPOINT_KEYS), format_receipt(ENTRY, PROOF)),
    "message": (
        _same(lambda d: canonical.format(parse_message(d))),
        format_notice(HEADER, bytes(32), "fenced", "fenced", "why", (1, 2)),
    ),
    "identifier": (
        _same(_text(lambda t: str(identity.parse_identifier(t)).encode())),
        b"1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
    ),
    "pseudonym": (_text(identity.parse_pseudonym), b"1:" + b"ab" * 32),
    "number": (_text(identity.check_number), "湘J 7/8".encode()),
    "moment": (_text(times.parse_moment), b"2016-12-01T08:30:00.25+08:00"),
    "day": (_text(times.parse_day), b"2016-12-01+08:00"),
    "registry note": (_apply, REGISTRY_NOTE),
    "type note": (_apply, TYPE_NOTE),
    "log entries": (
        _same(lambda d: logtopic.format_entries(*logtopic.parse_entries(d))),
        logtopic.format_entries(5, [b"a", b"bc"]),
    ),
    "accounting": (
        _same(lambda d: logtopic.format_accounting(logtopic.parse_accounting(d))),
        logtopic.format_accounting([logtopic.Row(3, "fenced", "A" * 22, 0, 1, "fenced", None)]),
    ),
    "mapping": (_text(parse_mapping), MAPPING),
    "when": (_text(lambda t: parse_when(t, "Asia/Taipei")), b"2016-12-01"),
    "calendar day": (_text(lambda t: calendars.parse_day(t, tuple(calendars.DAYS))), b"1051201"),
    "calendar moment": (
        _text(lambda t: calendars.parse_moment(t, (calendars.MOMENT, "iso"), UTC)),
        b"20161201083000",
    ),
    "trust": (
        trust.parse_trust,
        trust.format_trust(
            trust.Trust(
                ORIGIN,
                bytes(32),
                (*CHECKPOINT_KEYS, TrustedKey(PQ.key, 0, 9, 1)),
                quorums=(trust.TrustedQuorum(parse_policy(POLICY), 5, None),),
            )
        ),
    ),
}
HOSTILE = [
    b"",
    b"\n",
    b"\x00",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 100_000,
    b"-" + b"1" * 20,
    b'"\\ud800"',
    "٣".encode(),
    b"1_000",
    b"1e999",
    b"NaN",
    b"+1",
    b"01",
]


@pytest.mark.parametrize("name", PARSERS)
def test_the_good_input_is_good(name: str) -> None:
    parse, good = PARSERS[name]
    parse(good)


TOLERANT = {  # some of these inputs are what they parse
    "canonical", "message", "misbehaviour", "note", "number", "policy", "proof", "trust",
    "open_record", "mapping", "calendar day",
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
def test_hostile_inputs_are_refused(name: str) -> None:
    parse, good = PARSERS[name]
    changed = [good + b"\n", good[:-1], good * 2]
    free_start = ("note", "checkpoint", "header")  # an origin may be any text
    prefixed = [] if name in free_start else [b" " + good, b"\xef\xbb\xbf" + good]
    for data in [*HOSTILE, *changed, *prefixed]:
        if name in TOLERANT:
            _tolerate(parse, data)
        else:
            with pytest.raises(LedgerError):
                parse(data)


def _tolerate(parse: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(LedgerError):
        parse(data)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=30)
@given(data=st.data())
def test_random_and_mutated_bytes(name: str, data: st.DataObject) -> None:
    parse, good = PARSERS[name]
    way = data.draw(st.integers(0, 3))
    if way == 0:
        given_ = data.draw(st.binary(max_size=200))
    else:
        given_ = good
        for _ in range(way):
            at = data.draw(st.integers(0, len(given_)))
            cut = data.draw(st.integers(0, 3))
            put = data.draw(
                st.binary(max_size=3)
                | st.sampled_from(
                    [b"\n", b"-1", b"true", b"null", b"[]", b"{}", b"1.5", b"\xc3\xa9"]
                )
                | st.sampled_from(["e\u0301".encode(), b"\\u0000", b"99999999999999999999", b'"'])
            )
            given_ = given_[:at] + put + given_[at + cut :]
    _tolerate(parse, given_)


def test_nothing_follows_the_sixth_line_of_a_bundle_note() -> None:
    text = HEADER.text()
    assert parse_header(text) == HEADER
    for tail in (b"\x00", b"more", b" "):
        with pytest.raises(Malformed, match="malformed-note"):
            parse_header(text + tail)


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**53 - 1)
    | st.text("aZ09-+:. \u00e9\u3000\x00", max_size=6)
    | st.sampled_from(["unknown", "open", "2026-03-01+08:00", "9999-12-31Z", "0001-01-01+14:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab_", max_size=3), inner),
    max_leaves=4,
)
MEMBERS = sorted({name for allowed, _ in FIELDS.values() for name in allowed})


@given(
    st.sampled_from(sorted(FIELDS)), st.dictionaries(st.sampled_from(MEMBERS), any_json), any_json
)
@settings(max_examples=150)
def test_events_of_any_members(kind: str, data: dict[str, Any], time: Any) -> None:
    value = {
        "data": {**canonical.parse(EVENT, 65_536)["data"], **data},
        "id": "0" * 32,
        "source": "s",
        "specversion": "1.0",
        "time": time if type(time) is str else TIME,
        "type": f"certledger.certificate.{kind}.v1",
    }
    line = canonical_or_none(value)
    if line is None:
        return
    outcomes = [_code(line, canonical.loads), _code(line, orjson.loads)]
    assert outcomes[0] == outcomes[1]


def canonical_or_none(value: Any) -> bytes | None:
    try:
        return canonical.format(value)
    except LedgerError:
        return None


def _code(line: bytes, load: Callable[[bytes], Any]) -> str:
    try:
        parse_event(line, bytes(32), load)
    except LedgerError as err:
        return err.code
    return "admitted"


@given(st.data())
@settings(max_examples=100)
def test_the_code_of_a_line_does_not_depend_on_the_parser(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(EVENT)))
    put = data.draw(
        st.sampled_from([b"1.5", b"1E2", b"1" * 30, b"NaN", b"\\ud800", b"\xed\xa0\x80", b"[" * 40])
        | st.binary(max_size=3)
    )
    line = EVENT[:at] + put + EVENT[at + data.draw(st.integers(0, 3)) :]
    assert _code(line, canonical.loads) == _code(line, orjson.loads)


def _with(member: bytes) -> bytes:
    return EVENT.replace(b'"salt_key_version":1', member)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (_with(b'"salt_key_version":1.5'), "not-canonical"),
        (_with(b'"salt_key_version":1.5,"salt_key_version":1'), "not-canonical"),
        (_with(b'"salt_key_version":"\\ud800","salt_key_version":1'), "not-canonical"),
        (_with(b'"salt_key_version":' + b"[" * 40 + b"]" * 40), "not-canonical"),
        (_with(b'"salt_key_version":' + b"[" * 2000 + b"]" * 2000), "not-canonical"),
        (_with(b'"salt_key_version":' + b"[" * 20 + b"]" * 20), "malformed-event"),
        (_with(b'"salt_key_version":true'), "malformed-event"),
        (_with(b'"salt_key_version":' + b"1" * 5000), "not-canonical"),
        (_with(b'"salt_key_version":9007199254740992'), "not-canonical"),
        (_with(b'"salt_key_version":9007199254740991'), "malformed-event"),
        (
            EVENT.replace(b"2026-03-01T08:00:00+08:00", b"2026-03-01T08:00:60+08:00"),
            "malformed-event",
        ),
        (EVENT.replace("湘J".encode(), "e\u0301J".encode()), "not-canonical"),
        (EVENT.replace("湘J".encode(), "\u0085J".encode()), "malformed-event"),
        (b"\xff" + EVENT, "not-canonical"),
        (b"[]", "malformed-event"),
        (b" " * 65_537, "line-too-large"),
    ],
)
def test_each_bad_line_has_one_code(line: bytes, code: str) -> None:
    assert _code(line, canonical.loads) == _code(line, orjson.loads) == code


@pytest.mark.parametrize("depth", [31, 200, 330, 500, 900, 960, 980, 990, 1000, 1030, 2000])
@pytest.mark.parametrize("name", [b"type", b"id", b"time", b"specversion", b"data", b"source"])
def test_deep_members_are_refused_alike(name: bytes, depth: int) -> None:
    value = canonical.parse(EVENT, 65_536)
    value[name.decode()] = "@"
    line = canonical.format(value).replace(b'"@"', b"[" * depth + b"]" * depth)
    code = "malformed-event" if depth < canonical.MAX_DEPTH else "not-canonical"
    assert _code(line, canonical.loads) == _code(line, orjson.loads) == code


@given(st.binary(max_size=40))
@example(b"\xed\xa0\x80")
def test_names_from_a_command_line_are_refused_or_taken(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for parse in (
        parse_vkey,
        identity.check_number,
        identity.check_type,
        identity.check_department,
    ):
        _tolerate(lambda d, parse=parse: parse(text), b"")  # type: ignore[misc]
    assert identity.normalise_number(identity.normalise_number(text)) == (
        identity.normalise_number(text)
    )


def test_moments_print_back() -> None:
    for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", TIME):
        assert times.format_moment(times.parse_moment(text)) == text


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_every_moment_has_one_utc_spelling(moment: int) -> None:
    assert times.parse_moment(times.format_moment(moment)) == moment


def test_a_junk_signature_line_cannot_stop_the_log() -> None:
    """A stranger may add signature lines to a good record: it must still become an entry."""
    for junk in ("e\u0301", "\u212b"):
        line = f"\u2014 {junk} {base64.b64encode(bytes(68)).decode()}\n".encode()
        with pytest.raises(Malformed):
            parse_note(NOTE + line)
        with pytest.raises(Malformed):
            parse_record(format_record(NOTE + line, [EVENT]))
    fine = NOTE + f"\u2014 \u00e9\u3042 {base64.b64encode(bytes(68)).decode()}\n".encode()
    bundle = parse_record(format_record(fine, [EVENT]))
    source = Source("A" * 22, 0, 0)
    parse_entry(
        format_bundle(bundle.note_bytes, {"admitted": [0, 1]}, source, TIME, bytes(32), bytes(32))
    )


def test_other_entries_parse() -> None:
    for entry in (
        format_genesis(ORIGIN, str(CHECKPOINT.key), str(OPERATOR.key), TIME),
        format_genesis(ORIGIN, str(CHECKPOINT.key), str(OPERATOR.key), TIME, str(PQ.key)),
        format_registry(REGISTRY_NOTE, TIME),
        format_status(7, bytes(32), TIME),
        format_status(7, bytes(32), TIME, {k: MapHead(5, bytes(32)) for k in (b"C", b"H")}),
        format_equivocation(NOTE, Source("A" * 22, 0, 1), 5, TIME),
    ):
        assert canonical.format(parse_entry(entry)) == entry
    parse_message(format_lane("a", 0, {"epoch": 0, "next_sequence": 1, "previous": "00"}))
    registry = Registry(ORIGIN, genesis_records(ORIGIN, str(CHECKPOINT.key), str(OPERATOR.key)))
    assert registry.value("ledger") is not None
    assert bundle_signer("a").key.name == f"{ORIGIN}/department/a/bundle"


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 2**40))
def test_receipts_printed_in_parts_are_those_printed_whole(
    entry: str, checkpoint: str, index: int
) -> None:
    path = [bytes(32), b"\xff" * 32]
    proof = format_proof(index, path, checkpoint.encode())
    try:
        whole = format_receipt(entry.encode(), proof)
    except Malformed:
        return
    assert Receipts(checkpoint.encode()).format(entry.encode(), index, path) == whole
