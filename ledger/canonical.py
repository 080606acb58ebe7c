"""Canonical JSON: the only form in which the ledger hashes, signs and stores JSON.

Profile (FORMATS.md, section 1): UTF-8, NFC text, no floats, integers within +-(2^53 - 1), ASCII
member names, members sorted, no white space. Within it the standard library's sorted compact
dump, orjson's and RFC 8785 agree (tests/property/test_canonical.py).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from .errors import Malformed
from .unassigned import first_unassigned

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 32
_ASCII = bytes(range(128))
# Any but a steady character: one assigned in Unicode 14.0, of combining class 0, that composes with
# nothing before it. Nearly all CJK text, Hangul, Latin and Cyrillic letters are steady.
_UNSTEADY = re.compile(
    "[^\u0000-\u02ff\u0400-\u0482\u2010-\u2027\u2030-\u205e\u3001-\u3029\u3041-\u3096\u30a1-\u30fa"
    "\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff5e]"
)

Dump = Callable[[Any], bytes]
"""Prints a value of the profile canonically."""

_encoder = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def _make_encode() -> Callable[[Any], str]:
    """What `_encoder.encode` does, without making the C encoder anew for every value: that costs
    more than the encoding of a small one.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    escape = getattr(json.encoder, "c_encode_basestring", None)
    if make is None or escape is None:
        return _encoder.encode
    encode = make(None, _encoder.default, escape, None, ":", ",", True, False, False)
    return lambda value: "".join(encode(value, 0))


_encode = _make_encode()


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text!r} is not an integer")


_decode = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float).decode


def loads(data: bytes) -> Any:
    """The value that UTF-8 `data` says, floats and NaN excluded; ValueError or RecursionError."""
    return _decode(data.decode())


def format(value: Any) -> bytes:
    """The canonical bytes of `value`, which must be within the profile (Malformed otherwise)."""
    check_profile(value)
    text = _encode(value)
    check_text(text)  # an escape's last letter and a combining mark after it would compose
    return text.encode()


def encode(value: Any) -> bytes:
    """The canonical bytes of a value that is known to be within the profile."""
    return _encode(value).encode()


def format_typed(value: Any, dump: Dump = encode) -> bytes:
    """As `format`, for a caller that checked the type of every member itself (no floats, small
    integers, ASCII names, bounded depth); `dump` may be a faster library's.
    """
    try:
        data = dump(value)
        if is_steady_text(data):
            return data
    except (ValueError, TypeError):  # a lone surrogate
        pass
    return format(value)


def parse(
    data: bytes, limit: int, load: Callable[[bytes], Any] = loads, dump: Dump = encode
) -> Any:
    """The value of canonical `data` of at most `limit` bytes; anything else is Malformed. `load`
    and `dump` may be a faster library's, as in `parse_typed`.
    """
    value = parse_typed(data, limit, load, dump)
    check_profile(value)
    return value


def parse_printed(data: bytes, limit: int) -> Any:
    """As `parse`, for a caller that prints what it made of the value and compares with `data`."""
    value = parse_typed(data, limit, dump=lambda _: data)
    check_profile(value)
    return value


def parse_typed(
    data: bytes, limit: int, load: Callable[[bytes], Any] = loads, dump: Dump = encode
) -> Any:
    """As `parse`, for a caller that checks the type of every member itself (no floats, small
    integers, ASCII names, bounded depth).

    `load` and `dump` may be a faster library's (orjson, members sorted): what `load` gives is
    printed again and compared, so that duplicate members, escapes and white space cannot pass.
    """
    if len(data) > limit:
        raise Malformed("too-large", f"{len(data)} bytes, at most {limit} are allowed")
    try:
        check_form(data)
        value = load(data)
        same = dump(value) == data
    except RecursionError as err:
        raise Malformed("not-json", f"nested deeper than {MAX_DEPTH}") from err
    except (ValueError, TypeError) as err:  # TypeError: orjson cannot print it
        # no library's words: readers in other languages say the same of the same bytes
        raise Malformed("not-json") from err
    if not same:
        raise Malformed("not-canonical")
    return value


def check_profile(value: Any, depth: int = MAX_DEPTH) -> None:
    """None when `value` is within the profile, Malformed with what is wrong otherwise."""
    kind = type(value)
    if kind is str:
        check_text(value)
    elif kind is dict or kind is list:
        if depth == 0:
            raise Malformed("not-json", f"nested deeper than {MAX_DEPTH}")
        members: Iterable[Any] = value
        if kind is dict:
            for name in value:
                if type(name) is not str or not name.isascii():
                    raise Malformed("not-json", f"member name {name!r} is not ASCII")
            members = value.values()
        for member in members:
            if type(member) is str:  # most are
                if not member.isascii():
                    check_text(member)
            else:
                check_profile(member, depth - 1)
    elif kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise Malformed("not-json", "an integer is beyond 2^53 - 1")
    elif value is not None and kind is not bool:
        raise Malformed("not-json", f"{kind.__name__} is not in the ledger's profile")


def check_text(text: str) -> None:
    """None when `text` is in form C, of Unicode 14.0, and encodes as UTF-8 (no lone surrogate)."""
    if text.isascii():
        return
    try:
        beyond = text.encode().translate(None, _ASCII).decode()
    except UnicodeEncodeError as err:
        raise Malformed("not-json", "text holds a lone surrogate") from err
    if not is_steady(beyond):
        _check_form(text, beyond)


def check_form(data: bytes) -> None:
    """None for UTF-8 text in form C, of Unicode 14.0; Malformed or UnicodeDecodeError otherwise."""
    if data.isascii():
        return
    beyond = data.translate(None, _ASCII).decode()
    if not is_steady(beyond):
        _check_form(data.decode(), beyond)


def is_steady(text: str) -> bool:
    """Whether text is in form C and of Unicode 14.0 whatever ASCII stands in between."""
    return _UNSTEADY.search(text) is None


def is_steady_text(data: bytes) -> bool:
    """Whether UTF-8 text is, wherever between ASCII it stands, too."""
    return data.isascii() or is_steady(data.translate(None, _ASCII).decode())


def _check_form(text: str, beyond: str) -> None:
    """None for text in form C, of Unicode 14.0; `beyond` are its characters beyond ASCII."""
    unassigned = first_unassigned(beyond)  # first: newer libraries normalise these in other ways
    if unassigned is not None:
        raise Malformed("not-canonical", f"U+{ord(unassigned):04X} is no character of Unicode 14.0")
    if not unicodedata.is_normalized("NFC", text):
        raise Malformed("not-canonical", "text is not in Unicode normalisation form C")
