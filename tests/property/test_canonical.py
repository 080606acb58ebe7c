"""Canonical JSON: three printers agree within the profile, and no bytes surprise the parser."""

from __future__ import annotations

import json
import sys
import unicodedata
from functools import partial
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import canonical, fast_json
from ledger.errors import LedgerError, Malformed
from ledger.unassigned import first_unassigned

LIMIT = 65_536
names = st.text(st.characters(max_codepoint=127), max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12).map(
    lambda text: unicodedata.normalize("NFC", text)
)
numbers = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_printers_agree(value: Any) -> None:
    data = canonical.format(value)
    assert data == orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    assert data == rfc8785.dumps(value)
    assert canonical.encode(value) == data
    assert canonical.parse(data, LIMIT) == value
    assert canonical.parse_typed(data, LIMIT, orjson.loads) == value


any_texts = st.text(st.characters(), max_size=12)  # of any form, surrogates too


@given(st.dictionaries(names, any_texts | numbers | st.dictionaries(names, any_texts), max_size=4))
@example({"a": "\n\u0338"})  # the escape's letter and the mark would compose
@example({"a": "\ud800"})
@example({"a": "\u0338"})
@example({"a": "e\u0301"})
@example({"a": "\u0378"})  # no character of Unicode 14.0
@example({"a": "青羊区"})
def test_what_was_typed_before_is_printed_or_refused_alike(value: Any) -> None:
    wanted = outcome(canonical.format, value)
    assert outcome(canonical.format_typed, value) == wanted
    assert outcome(partial(canonical.format_typed, dump=fast_json.dump), value) == wanted


def outcome(form: canonical.Dump, value: Any) -> tuple[str, Any]:
    try:
        return "printed", form(value)
    except LedgerError as err:
        return err.code, err.message


@given(st.binary(max_size=64) | values.map(lambda v: json.dumps(v).encode()))
@example(b"[" * 60_000)
@example(b'{"a":' * 3_000 + b"1" + b"}" * 3_000)
@example(b"9" * 5_000)
@example(b"-0")
@example(b"1e5")
@example(b"NaN")
@example(b'"\\ud800"')
@example(b'"\xed\xa0\x80"')
@example(b"\xef\xbb\xbf1")
@example(b'{"a":1,"a":1}')
@example('"e\u0301"'.encode())
@example('{"\u00e9":1}'.encode())
@example(b'{"b":1,"a":2}')
@example(b" 1")
@example(b"1\n")
def test_any_bytes_give_their_value_or_a_refusal(data: bytes) -> None:
    try:
        value = canonical.parse(data, LIMIT)
    except LedgerError:
        return
    assert canonical.format(value) == data == rfc8785.dumps(value)


@given(values.map(canonical.format) | values.map(lambda v: json.dumps(v).encode()), st.binary())
def test_what_is_printed_again_by_the_caller_is_within_the_profile(
    data: bytes, more: bytes
) -> None:
    """`parse_printed` leaves the comparison to its caller, and nothing else."""
    for some in (data, more):
        try:
            value = canonical.parse_printed(some, LIMIT)
        except LedgerError:
            with pytest.raises(LedgerError):
                canonical.parse(some, LIMIT)
            continue
        if canonical.format(value) == some:
            assert canonical.parse(some, LIMIT) == value


def _exact(value: Any) -> str:
    """Text that tells 1 from true, whatever the order of members."""
    return json.dumps(value, sort_keys=True)


@given(values, st.integers(0, 2**31), st.binary(min_size=1, max_size=2))
def test_mutated_bytes_have_one_meaning(value: Any, place: int, put: bytes) -> None:
    data = canonical.format(value)
    at = place % (len(data) + 1)
    changed = data[:at] + put + data[at + 1 :]
    try:
        other = canonical.parse(changed, LIMIT)
    except LedgerError:
        return
    assert canonical.format(other) == changed
    assert (changed == data) == (_exact(other) == _exact(value))


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        b"bytes",
        (1, 2),
        {1: 2},
        {None: 1},
        {"\u00e9": 1},
        "e\u0301",
        "\ud800",
        ["\ud800"],
        {"a": {"b": 2**60}},
        {1, 2},
    ],
    ids=repr,
)
def test_values_outside_the_profile_are_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        canonical.format(value)


def test_depth_and_size_are_limited() -> None:
    deep: Any = 1
    for _ in range(canonical.MAX_DEPTH):
        deep = [deep]
    assert canonical.parse(canonical.format(deep), LIMIT) == deep
    with pytest.raises(Malformed, match="deeper"):
        canonical.format([deep])
    with pytest.raises(Malformed, match="deeper"):
        canonical.parse(b"[" * 33 + b"]" * 33, LIMIT)
    with pytest.raises(Malformed) as refused:
        canonical.parse(b"1" * 11, 10)
    assert refused.value.code == "too-large"


def test_an_escape_and_a_combining_mark_would_compose() -> None:
    """Each string is in form C; their printed text is not, and no reader would take it."""
    for text in ("\n\u0303", "\t\u030c", "\x0c\u0307"):
        with pytest.raises(Malformed, match="normalisation"):
            canonical.format({"a": text})


@pytest.mark.parametrize("char", ["\u0378", "\U00010efd", "\U000323af", "\U000e0000", "\uffff"])
def test_characters_that_unicode_14_does_not_assign_are_refused(char: str) -> None:
    """Assigned later, they normalise in newer readers and not in older ones."""
    for value in (char, {"a": [char]}, f"x\u0301{char}"):
        with pytest.raises(Malformed):
            canonical.format(value)
        with pytest.raises(Malformed):
            canonical.parse(canonical.encode(value), 1000)


def test_what_is_assigned_is_what_unicode_14_assigns() -> None:
    same = unicodedata.unidata_version == "14.0.0"
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if category == "Cs":
            continue
        refused = first_unassigned(char) is not None
        assert refused or category != "Cn", f"U+{code:04X} became unassigned"
        assert not (same and refused) or category == "Cn", f"U+{code:04X} is assigned"
