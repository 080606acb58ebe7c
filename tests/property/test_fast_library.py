"""What the worker parses and prints with says the same of every line as the standard library."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import canonical
from ledger.errors import LedgerError
from ledger.event import parse_event
from ledger.fast_json import dump, load

LINE = canonical.format(
    {
        "data": {
            "certificate_number": "川A-000123",
            "certificate_type_code": "road-permit",
            "claims": {"name_zh": "成都\u2028\x7f\b餐饮", "name_en": 'Jade "Lotus" \\ Foods'},
            "commitments": {"phone": "ab" * 32},
            "issuing_authority_code": "demo",
            "salt_key_version": 1,
            "valid_from": "2026-03-01+08:00",
        },
        "id": "0" * 32,
        "source": "s",
        "specversion": "1.0",
        "time": "2026-03-01T08:00:00+08:00",
        "type": "certledger.certificate.issued.v1",
    }
)
_PIECES = [b"1.5", b"1E2", b"1" * 30, b"NaN", b"\\u0041", b"\\ud800", b"\xed\xa0\x80", b"[" * 40]
_ESCAPES = [b"\x00", b"\\u0000", b"\\/", b"\\u007f", b"\x7f", b'"a":1,"a":2', b"true", b"-0", b" "]


def _said(line: bytes, *library: Any) -> Any:
    try:
        return parse_event(line, bytes(32), *library)
    except LedgerError as err:
        return err.code


def test_the_line_itself_is_an_event() -> None:
    assert _said(LINE) == _said(LINE, load, dump)
    assert not isinstance(_said(LINE), str)


@given(st.data())
@settings(max_examples=500)
def test_damaged_lines(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(LINE)))
    put = data.draw(st.sampled_from(_PIECES + _ESCAPES) | st.binary(max_size=3))
    line = LINE[:at] + put + LINE[at + data.draw(st.integers(0, 3)) :]
    assert _said(line) == _said(line, load, dump)


_TEXT = st.text(max_size=12)
_VALUES = _TEXT | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.floats()


@given(
    st.dictionaries(_TEXT, _VALUES | st.dictionaries(_TEXT, _VALUES, max_size=3), max_size=4),
    st.booleans(),
)
@settings(max_examples=500)
def test_lines_that_say_anything(members: dict[str, Any], escaped: bool) -> None:
    value = canonical.loads(LINE)
    value["data"]["claims"] = members
    try:
        line = canonical.encode(value) if not escaped else dump(value)
    except (ValueError, TypeError):
        return
    assert _said(line) == _said(line, load, dump)
