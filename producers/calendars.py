"""The ways in which registers write days and moments."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, tzinfo

from ledger.errors import LedgerError, Malformed

from .lines import format_datetime

_ROC_FIRST_YEAR = 1911  # year 1 of the Republic of China is 1912
_PARTS = re.compile(r"([0-9]{1,4})\s?[-/.年]\s?([0-9]{1,2})\s?[-/.月]\s?([0-9]{1,4})日?")
_DIGITS = re.compile(r"[0-9]+")
_COMPACT = re.compile(r"[0-9]{14}")
_MOMENT = re.compile(  # `fromisoformat` alone reads 2021010112300 as 23:00
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_EXCEL_DAY_0 = date(1899, 12, 30)


def _iso(text: str) -> date:
    if len(text) != 10:
        raise ValueError(text)
    return date.fromisoformat(text)


def _yyyymmdd(text: str) -> date:
    if len(text) != 8 or not _DIGITS.fullmatch(text):
        raise ValueError(text)
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _roc(text: str) -> date:
    if _DIGITS.fullmatch(text) and len(text) in (6, 7):
        year, month, day = int(text[:-4]), int(text[-4:-2]), int(text[-2:])
    else:
        year, month, day = _parts(text.removeprefix("民國"))
        if year > 999:
            raise ValueError(text)
    return date(year + _ROC_FIRST_YEAR, month, day)


def _ymd(text: str) -> date:
    year, month, day = _parts(text)
    if year < 1000:
        raise ValueError(text)
    return date(year, month, day)


def _dmy(text: str) -> date:
    day, month, year = _parts(text)
    if year < 1000:
        raise ValueError(text)
    return date(year, month, day)


def _mdy(text: str) -> date:
    month, day, year = _parts(text)
    if year < 1000:
        raise ValueError(text)
    return date(year, month, day)


def _excel(text: str) -> date:
    if not _DIGITS.fullmatch(text) or len(text) > 6:
        raise ValueError(text)
    return _EXCEL_DAY_0 + timedelta(days=int(text))


def _parts(text: str) -> tuple[int, int, int]:
    match = _PARTS.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return int(match[1]), int(match[2]), int(match[3])


DAYS: dict[str, tuple[Callable[[str], date], str]] = {
    "iso": (_iso, "2016-12-01"),
    "yyyymmdd": (_yyyymmdd, "20161201"),
    "roc": (_roc, "1051201, 105/12/1 or 民國105年12月1日, years since 1911"),
    "ymd": (_ymd, "2016/12/1, 2016.12.1 or 2016年12月1日"),
    "dmy": (_dmy, "1/12/2016"),
    "mdy": (_mdy, "12/1/2016"),
    "excel": (_excel, "42705, the day's number in a spreadsheet"),
}
MOMENT = "moment"
NAMES = (*DAYS, MOMENT)


def parse_day(text: str, calendars: tuple[str, ...]) -> date:
    """The day that the first fitting calendar reads in `text`; Malformed when none does."""
    for name in calendars:
        try:
            return DAYS[name][0](text)
        except (ValueError, OverflowError):
            continue
    wanted = " or ".join(DAYS[name][1] for name in calendars)
    raise Malformed("unmapped-row", f"{text[:40]!r} is no day like {wanted}")


def parse_moment(text: str, calendars: tuple[str, ...], zone: tzinfo) -> str:
    """The RFC 3339 moment in `text`; without an offset it is the zone's, a day is its 00:00."""
    if MOMENT in calendars:
        try:
            if _COMPACT.fullmatch(text):
                moment = datetime.strptime(text, "%Y%m%d%H%M%S")
            elif _MOMENT.fullmatch(text):
                moment = datetime.fromisoformat(text)
            else:
                raise ValueError(text)
            return format_datetime(moment if moment.tzinfo else moment.replace(tzinfo=zone), zone)
        except (ValueError, OverflowError, LedgerError):
            pass
    days = tuple(name for name in calendars if name != MOMENT)
    if not days:
        raise Malformed(
            "unmapped-row", f"{text[:40]!r} is no moment like 2016-12-01T08:30:00+08:00"
        )
    day = parse_day(text, days)
    return format_datetime(datetime(day.year, day.month, day.day, tzinfo=zone), zone)
