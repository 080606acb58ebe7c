"""What the worker reads events and prints records with says the same as what decides."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import admission, canonical, fast_events, fast_json, identity, lifecycle, merkle
from ledger.bundle import Bundle
from ledger.errors import Malformed
from ledger.event import FIELDS, REVOCATION_KINDS, Event, format_event, parse_event
from ledger.lifecycle import Standing, make_transition
from ledger.note import Note
from ledger.reliance import format_reliance
from ledger.unassigned import first_unassigned
from tests.world import make_header

IDENTIFIER = str(identity.Identifier("11100000000013338W011", "11430000006122244L", "A123", 1))
_DAYS = st.sampled_from(["2026-03-01+08:00", "2024-02-29Z", "9999-12-31+00:00"])
_WORDS = st.sampled_from(
    ["成都（青羊）", 'Jade "Lotus" \\ Foods', "\u2028\x7f\b\x00", "Nguyễn Thị", "パン屋", "한국어"]
)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | _WORDS
_NUMBERS = st.sampled_from(
    ["川A-000123", "JY15101010001", "衛部粧廣字 10507075", "1/2", "Ж-1", "é"]
)
_CLAIMS = st.dictionaries(st.sampled_from(["name_zh", "a", "z_9"]), _WORDS, min_size=1)
_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "certificate_identifier": st.just(IDENTIFIER),
    "claims": _CLAIMS,
    "commitments": st.dictionaries(st.sampled_from(["phone", "b"]), st.just("ab" * 32), min_size=1),
    "corrects": st.just("0f" * 16),
    "correction": st.sampled_from(["void", "restate", "rewind"]),
    "holder_pseudonym": st.just("12:" + "0d" * 32),
    "reason_code": st.sampled_from(["r1", "late-fee"]),
    "revocation_kind": st.sampled_from(REVOCATION_KINDS),
    "salt_key_version": st.integers(1, 999_999),
    "transfer_to": st.sampled_from(["b", "Dept.9"]),
    "valid_from": _DAYS | st.just("unknown"),
    "valid_until": _DAYS | st.sampled_from(["unknown", "open"]),
}
_MOMENTS = st.sampled_from(
    ["2026-03-01T08:00:00+08:00", "2026-03-01T08:00:59.25Z", "0001-01-01T00:00:00Z"]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """An event line with whatever its kind may say."""
    kind = draw(st.sampled_from(sorted(FIELDS)))
    allowed, needed = FIELDS[kind]
    data = {
        "certificate_type_code": "road-permit",
        "issuing_authority_code": draw(st.sampled_from(["demo", "b"])),
        "certificate_number": draw(_NUMBERS),
    }
    for name in sorted(allowed & _OPTIONS.keys()):
        if name in needed or draw(st.integers(0, 2)) == 0:
            data[name] = draw(_OPTIONS[name])
    if "commitments" in data:
        data.setdefault("salt_key_version", 7)
    if data.get("correction") in ("void", "rewind"):
        data = {n: v for n, v in data.items() if n not in ("valid_from", "valid_until")}
    if kind == "suspended" and data.get("valid_from") == "unknown":
        del data["valid_from"]
    return format_event(
        kind=kind,
        event_id=draw(st.sampled_from(["0" * 32, "0f" * 16])),
        source=draw(st.sampled_from(["s", "urn:register:demo"])),
        time=draw(_MOMENTS),
        recordedtime=draw(st.none() | _MOMENTS),
        data=data,
    )


_PIECES = [
    *(b"1.5", b"1E2", b"1" * 30, b"NaN", b"-0", b"0", b"true", b"null", b"[" * 40, b"{}", b"[]"),
    *(b"\\u0041", b"\\ud800", b"\\u0000", b"\\/", b"\\u007f", b"\x7f", b"\xed\xa0\x80", b"\x00"),
    *(b'"a":1,"a":2', b" ", b",", b"},{", b'"', b'","', b"A", b"unknown", b"open", b"1 ", b" 1"),
    *(text.encode() for text in ("e\u0301", "\u1100\u1161", "は\u309a", "\u0378", "！", "\u3000")),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A line with something put in, taken out or written over."""
    line = draw(lines())
    at = draw(st.integers(0, len(line)))
    put = draw(st.sampled_from(_PIECES) | st.binary(max_size=3))
    return (line[:at] + put + line[at + draw(st.integers(0, 3)) :]).replace(b"\n", b"")


@st.composite
def strange(draw: st.DrawFn) -> bytes:
    """A line whose members are of any type or name."""
    value = json.loads(draw(lines()))
    anything = st.recursive(
        _TEXTS | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.floats(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=3),
        max_leaves=4,
    )
    within = draw(st.sampled_from([value, value["data"]]))
    name = draw(st.sampled_from([*within, *_OPTIONS, "recordedtime", "x"]) | _TEXTS)
    if draw(st.booleans()):
        within.pop(name, None)
    else:
        within[name] = draw(anything | st.dictionaries(_TEXTS, _TEXTS))
    if draw(st.integers(0, 3)) == 0:
        return json.dumps(value).encode()
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def bundle(said: Sequence[bytes]) -> Bundle:
    """What the lines of a bundle are read from."""
    hashes = tuple(map(merkle.leaf_hash, said))
    return Bundle(make_header(said), Note(b"", ()), b"", b"", tuple(said), hashes)


def check_same(said: Sequence[bytes]) -> None:
    """AssertionError unless both read the same out of a bundle."""
    assert fast_events.parse_lines(bundle(said)) == admission.parse_lines(bundle(said))


@given(st.lists(lines(), max_size=4))
@settings(max_examples=200)
def test_good_lines_are_read_at_once_and_alike(said: list[bytes]) -> None:
    check_same(said)
    hashes = [merkle.leaf_hash(line) for line in said]
    assert all(type(e) is Event for e in fast_events.read_lines(said, hashes))


RELIANCE = format_reliance(
    kind="ended",
    reliance_id="0" * 32,
    source="s",
    time="2026-03-01T08:00:00+08:00",
    data={"office": "demo", "service": "permit", "case": "ab" * 32},
)


@given(st.lists(lines() | damaged() | strange() | st.just(RELIANCE), min_size=1, max_size=4))
@settings(max_examples=1000)
def test_lines_that_say_anything(said: list[bytes]) -> None:
    check_same(said)


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_the_largest_line(size: int) -> None:
    value = json.loads(LINE)
    value["data"]["claims"] = {"a": "x"}
    value["data"]["claims"]["a"] += "x" * (size - len(canonical.encode(value)))
    line = canonical.encode(value)
    assert len(line) == size
    check_same([LINE, line])


def test_lines_that_are_events_only_when_joined() -> None:
    half = LINE.index(b',"id"')
    check_same([LINE + b"," + LINE, LINE[:half], LINE[half + 1 :]])
    check_same([b"[" + LINE, LINE + b"]"])
    check_same([LINE, b"", LINE])


LINE = format_event(
    kind="issued",
    event_id="0" * 32,
    source="s",
    time="2026-03-01T08:00:00+08:00",
    recordedtime=None,
    data={
        "certificate_type_code": "road-permit",
        "issuing_authority_code": "demo",
        "certificate_number": "1",
    },
)


def test_every_character_is_printed_alike() -> None:
    """Only then is what `fast_events` finds printed the same the canonical form."""
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for first in range(0, len(characters), 4096):
        value = {"a": "".join(characters[first : first + 4096])}
        assert fast_events.printed([value]) == canonical.encode(value) + b"\n"
        assert fast_json.dump(value) == canonical.encode(value)


def test_steady_characters_are_assigned_and_compose_with_nothing_before_them() -> None:
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    composing = {chr(c) for c in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # of Hangul
    for character in characters:
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            composing.add(chr(int(parts[1], 16)))
    steady = [c for c in characters if canonical.is_steady(c)]
    assert len(steady) > 40_000
    assert not composing.intersection(steady)
    for character in steady:
        assert unicodedata.combining(character) == 0
        assert unicodedata.normalize("NFC", character) == character
    assert first_unassigned("".join(steady)) is None


@given(lines(), st.integers(0, 2**53 - 1))
def test_transitions_are_printed_alike(line: bytes, version: int) -> None:
    transition = make_transition(parse_event(line, bytes(32)), "demo", "ab" * 32, version)
    assert lifecycle.format_transition(transition) == transition.format()


_DATES = st.none() | _DAYS | st.just("unknown")
_STANDINGS = st.builds(
    Standing,
    st.sampled_from(["none", "valid", "suspended", "revoked", "expired", "transferred", "void"]),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
    st.sampled_from(["", "demo"]),
    _DATES,
    _DATES,
    st.just("") | _MOMENTS,
    st.none() | _OPTIONS["reason_code"],
    st.none() | _OPTIONS["revocation_kind"],
    _DATES,
    st.none() | _OPTIONS["transfer_to"],
    _DATES,
    st.integers(0, 2**53 - 1),
)


@given(_STANDINGS, st.binary(min_size=32, max_size=32))
def test_records_are_printed_alike(standing: Standing, link: bytes) -> None:
    assert lifecycle.format_record(standing, link) == standing.record(link)


@given(st.text(max_size=3) | st.from_regex(r"[0-9]{0,7}:[0-9a-fA-F ]{62,66}"))
def test_pseudonyms_have_one_spelling(text: str) -> None:
    try:
        version, digest = identity.parse_pseudonym(text)
    except Malformed:
        return
    assert f"{version}:{digest.hex()}" == text
