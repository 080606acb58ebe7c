"""Moments and days: RFC 3339 moments in microseconds, calendar days with their offset.

A moment is an int, microseconds since 1970-01-01T00:00:00Z. A day is written as an xsd:date with
its offset (`2016-12-01+08:00`): it says by itself which half-open interval of instants it is, so
that no rule depends on a time zone database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from .errors import Malformed

SECOND = 1_000_000
DAY = 86_400 * SECOND
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST = (date.min.toordinal() - _EPOCH_DAY) * DAY
_LAST = (date.max.toordinal() - _EPOCH_DAY + 1) * DAY - 1
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FRACTION = re.compile(r"\.([0-9]{0,5}[1-9])(.*)", re.DOTALL)
_OFFSET = re.compile(r"Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9]")
# Tables, as every event has a moment: nothing but these digits is found in them.
_MINUTES = {f"T{m // 60:02d}:{m % 60:02d}:": m * 60 * SECOND for m in range(1440)}
_SECONDS = {f"{s:02d}": s * SECOND for s in range(60)}


def parse_moment(text: str) -> int:
    """Microseconds of an RFC 3339 moment: capital T and Z, at most 6 fraction digits, the last
    not 0, no leap second, offsets to 14:00 and never -00:00. Otherwise Malformed.
    """
    minutes, seconds = _MINUTES.get(text[10:17]), _SECONDS.get(text[17:19])
    if minutes is None or seconds is None:
        raise Malformed(
            "malformed-time", f"{text[:40]!r} is no moment like 2016-12-01T08:30:00+08:00"
        )
    offset, micros = text[19:], 0
    if offset[:1] == ".":
        match = _FRACTION.fullmatch(offset)
        if not match:
            raise Malformed(
                "malformed-time",
                f"{text[:40]!r}: a fraction has 1 to 6 digits, the last of which is not 0",
            )
        micros, offset = int(match[1].ljust(6, "0")), match[2]
    moment = _ordinal(text[:10]) * DAY + minutes + seconds + micros - _offset(offset)
    if not _FIRST <= moment <= _LAST:
        raise Malformed("malformed-time", f"{text} is not within the years 0001 to 9999 of UTC")
    return moment


def check_moments(texts: Iterable[str]) -> None:
    """None when `parse_moment` takes every one; for many, whose parts are mostly the same."""
    texts = set(texts)
    days = {text[:10] for text in texts}
    for text in {text[17:] for text in texts}:
        parse_moment(f"2000-01-01T00:00:{text}")
    whole = (
        _MINUTES.keys() >= {text[10:17] for text in texts}
        and not any(day.startswith(("0001", "9999")) for day in days)  # near the limits
    )
    if not whole:
        for text in texts:
            parse_moment(text)
    for day in days:
        _ordinal(day)


def format_moment(moment: int) -> str:
    """The moment in UTC, with as many fraction digits as it needs."""
    whole, micros = divmod(moment, SECOND)
    return _second(whole) + (f".{micros:06d}".rstrip("0") if micros else "") + "Z"


@lru_cache(maxsize=64)  # a department says many events in one
def _second(whole: int) -> str:
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)).strftime(
        "%Y-%m-%dT%H:%M:%S"
    )
    return text.rjust(19, "0")  # strftime does not pad years before 1000 on every platform


@lru_cache(maxsize=8192)  # registers repeat their days
def parse_day(text: str) -> tuple[int, int]:
    """(first instant, first instant after) of a day with offset, in microseconds.

    A day's edge may lie beyond what a moment in UTC can say: registers write 9999-12-31 for ever.
    """
    start = _ordinal(text[:10]) * DAY - _offset(text[10:])
    return start, start + DAY


def day_start(text: str) -> int:
    """The instant at which a day begins: 00:00 at its offset."""
    return parse_day(text)[0]


def day_end(text: str) -> int:
    """The instant at which a day is over: 24:00 at its offset."""
    return parse_day(text)[1]


@lru_cache(maxsize=8192)
def _ordinal(text: str) -> int:
    if not _DATE.fullmatch(text):
        raise Malformed("malformed-time", f"{text!r} is no day like 2016-12-01")
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError as err:
        raise Malformed("malformed-time", f"{text!r} is no day of the calendar") from err


@lru_cache(maxsize=256)
def _offset(text: str) -> int:
    if not _OFFSET.fullmatch(text):
        raise Malformed("malformed-time", f"{text[:40]!r} is no offset like +08:00 or Z")
    if text == "Z":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    if minutes > 14 * 60 or (text[0] == "-" and minutes == 0):
        raise Malformed("malformed-time", f"{text!r} is no offset (UTC is Z or +00:00)")
    return (minutes if text[0] == "+" else -minutes) * 60 * SECOND
