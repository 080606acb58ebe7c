"""What is asked of the ledger: a moment in the world, and the ledger's knowledge at another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from . import times
from .errors import Malformed

NOW = "now"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST = times.parse_moment("0001-01-01T00:00:00Z")
_LAST = times.parse_moment("9999-12-31T23:59:59.999999Z")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked: moments in microseconds. `at` None means now, `known_at` None all that the
    checkpoint covers, `version` None the certificate whatever its version.
    """

    asked_at: int
    at: int | None = None
    known_at: int | None = None
    version: int | None = None

    @property
    def asks(self) -> tuple[int | None, int | None, int | None]:
        """What it asks, whenever that was."""
        return self.at, self.known_at, self.version

    def options(self) -> str:
        """The command line options that ask this; none for now, all that is known, any version."""
        words = [
            f"{name} {format_instant(moment)}"
            for name, moment in (("--at", self.at), ("--known-at", self.known_at))
            if moment is not None
        ]
        if self.version is not None:
            words.append(f"--version {self.version}")
        return " ".join(words)


def clamp(moment: int) -> int:
    """The moment, or the nearest that RFC 3339 can write in UTC: years 1 to 9999."""
    return min(max(moment, _FIRST), _LAST)


@lru_cache(maxsize=4096)  # days begin at the same instants
def format_instant(moment: int) -> str:
    """The moment in UTC, whatever its year."""
    return times.format_moment(clamp(moment))


def parse_when(text: str, zone: str | None) -> int:
    """The instant that a person means: an RFC 3339 moment, a day with offset (its first instant),
    or a bare date, which is 00:00 of that day in `zone`, the issuer's. Malformed otherwise.
    """
    if text.startswith("0000-"):
        raise Malformed("malformed-time", f"{text[:60]!r}: the ledger's calendar begins in year 1")
    if is_bare_date(text):
        start = times.day_start(f"{text}Z")
        return clamp(start - _offset(text, zone))
    if "T" in text:
        return clamp(times.parse_moment(text))
    if _DATE.match(text):
        return clamp(times.day_start(text))
    raise Malformed(
        "malformed-time",
        f"{text[:60]!r} is neither a date like 2016-12-01 nor a moment like "
        "2016-12-01T08:30:00+08:00",
    )


def is_bare_date(text: str) -> bool:
    """Whether `text` is written as a date that needs a time zone to be an instant."""
    return _DATE.fullmatch(text) is not None


def _offset(text: str, zone: str | None) -> int:
    if zone is None:
        raise Malformed(
            "malformed-time",
            f"the issuer's time zone is not known here: give a full moment like {text}T00:00:00Z",
        )
    try:
        midnight = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
        offset = midnight.utcoffset()
    except (ZoneInfoNotFoundError, ValueError, OSError, OverflowError) as err:
        raise Malformed(
            "malformed-time",
            f"this machine's time zone database lacks {zone}: give a full moment like "
            f"{text}T00:00:00+08:00",
        ) from err
    return (offset or timedelta()) // timedelta(microseconds=1)
