"""What an operator wants to know of a running ledger, read without counting what grows for ever."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import cursor as Cursor

from ..bundle import place_of
from ..entry import ADMITTED, BUNDLE, map_heads, parse_entry
from ..errors import Unavailable
from ..silence import silences
from .rows import read_lanes, read_registry
from .sequencing import WitnessRow, read_tally, read_witnesses
from .statements import sql

PROGRAMS = ("worker", "sequencer", "relay", "follower")
"""What must be connected to the database while the ledger runs."""

CERTIFICATES = "certificates"  # in the tally beside `admitted` and the codes of refusals
DEAD_LETTER = "dead-letter"
_OUTBOX_STEP = 500_000  # rows counted by one statement, below its time limit
_SEARCHED = 100_000  # rows of the outbox in which dead letters are looked for
_ENTRIES = 512  # of the log in which examples of refusals are looked for, at most
_ENTRIES_AT_ONCE = 64
_EXAMPLES = 3  # of each code


@dataclass(frozen=True, slots=True)
class Progress:
    """How far each part has come: sizes in entries, moments in microseconds since 1970."""

    origin: str
    next_index: int
    next_outbox: int
    next_notice: int
    next_recall: int
    head_size: int
    signed_size: int | None
    signed_time: int | None
    published_size: int | None
    published_at: int | None
    maps_index: int | None
    database_bytes: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A ledger at one moment."""

    now: int  # microseconds since 1970, by the database's clock
    progress: Progress
    tally: dict[str, int]
    unlogged: dict[tuple[str, str], int]  # records by outcome and code
    offsets: dict[tuple[str, int], int]  # of the intake: next by topic id and partition
    relays: dict[str, int]
    witnesses: list[WitnessRow]
    departments: list[dict[str, Any]]  # ledger.silence
    sessions: dict[str, int]
    map_bits: dict[str, int]  # k by the map's kind: a map has 2^k buckets

    @property
    def refused(self) -> dict[str, int]:
        """Events of logged bundles that were not admitted, by code."""
        own = (ADMITTED, CERTIFICATES)
        return {code: n for code, n in sorted(self.tally.items()) if code not in own}

    @property
    def behind(self) -> dict[str, int]:
        """What each relay has still to send, and the follower to look at."""
        at, published = self.progress, self.progress.published_size or 0
        ends = {
            "receipts": published,
            "outbox": at.next_outbox,
            "expiry": at.next_notice,
            "recalls": at.next_recall,
            "follower": published,
        }
        return {name: max(end - self.relays.get(name, 0), 0) for name, end in ends.items()}


@dataclass(frozen=True, slots=True)
class Example:
    """An event that was refused: its bundle's place in the log, its line's in the bundle."""

    log_index: int
    position: int
    department: str
    lane: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read as a bundle: where it lies, never what is in it."""

    number: int
    partition: int
    offset: int
    code: str


class Operating:
    """Reads the standing again and again; the outbox never changes, so each row is counted once.

    For one thread at a time.
    """

    def __init__(self) -> None:
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._counted = 0
        self._looked = 0
        self._examples: dict[str, list[Example]] = {}

    def read(self, cursor: Cursor) -> Standing:
        """How the ledger stands now; Unavailable `not-initialised` before genesis."""
        cursor.execute(sql("read_progress"))
        row = cursor.fetchone()
        if row is None:
            raise Unavailable("not-initialised")
        progress = Progress(*row)
        cursor.execute("SELECT microseconds_now()")
        ((now,),) = cursor.fetchall()
        registry, lanes = read_registry(cursor, progress.origin), read_lanes(cursor)
        cursor.execute(sql("read_all_intake"))
        offsets = {(topic, partition): offset for topic, partition, offset in cursor.fetchall()}
        cursor.execute(sql("scan_relays"))
        relays = {name: int(position) for name, position in cursor.fetchall()}
        cursor.execute(sql("read_sessions"))
        sessions = {name: int(count) for name, count in cursor.fetchall()}
        return Standing(
            now,
            progress,
            read_tally(cursor),
            self._count_outbox(cursor, progress.next_outbox),
            offsets,
            relays,
            read_witnesses(cursor),
            silences(registry, lanes, now),
            sessions,
            _read_map_bits(cursor, progress.maps_index),
        )

    def _count_outbox(self, cursor: Cursor, end: int) -> dict[tuple[str, str], int]:
        while self._counted < end:
            upto = min(self._counted + _OUTBOX_STEP, end)
            cursor.execute(sql("count_outbox"), {"begin": self._counted, "end": upto})
            self._unlogged.update({(outcome, code): n for outcome, code, n in cursor.fetchall()})
            self._counted = upto
        return dict(self._unlogged)

    def examples(self, cursor: Cursor, end: int) -> dict[str, list[Example]]:
        """The newest refused events of each code, among the last entries before `end` and what
        was found there before.
        """
        begin = max(self._looked, end - _ENTRIES)
        for first in range(begin, end, _ENTRIES_AT_ONCE):
            span = {"begin": first, "end": min(first + _ENTRIES_AT_ONCE, end)}
            cursor.execute(sql("read_entries"), span)
            for index, data in cursor.fetchall():
                for code, found in _refused(int(index), bytes(data)):
                    self._examples[code] = [found, *self._examples.get(code, [])][:_EXAMPLES]
        self._looked = max(end, self._looked)
        return dict(self._examples)


def read_dead_letters(cursor: Cursor, end: int, limit: int) -> list[DeadLetter]:
    """The newest dead letters among the last rows of an outbox whose next number is `end`."""
    span = {"begin": max(end - _SEARCHED, 0), "limit": limit}
    cursor.execute(sql("read_newest_dead_letters"), span)
    return [DeadLetter(*row) for row in cursor.fetchall()]


def _read_map_bits(cursor: Cursor, index: int | None) -> dict[str, int]:
    if index is None:
        return {}
    cursor.execute(sql("read_entries"), {"begin": index, "end": index + 1})
    ((_, data),) = cursor.fetchall()
    heads = map_heads(parse_entry(bytes(data))) or {}
    return {kind.decode(): head.k for kind, head in heads.items()}


def _refused(index: int, data: bytes) -> list[tuple[str, Example]]:
    """The first event of each code but `admitted` in a bundle's entry, none in other entries."""
    entry = parse_entry(data)
    if entry["kind"] != BUNDLE:
        return []
    department, lane = place_of(entry["note"])
    return [
        (code, Example(index, runs[0], department, lane))
        for code, runs in entry["outcome"].items()
        if code != ADMITTED and runs
    ]
