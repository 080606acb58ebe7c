"""Which keys are doubted as of a position in the log, read from the registry's records and entries.

A record says what holds now. Where a position lies before its last change, the entries say it.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from .. import canonical
from ..doubt import Doubts
from ..entry import REGISTRY, parse_entry
from ..registry import doubts_of, told_doubt
from .statements import sql

Told = Sequence[tuple[int, str, int]]
"""(log index, key id, log index from which on it is doubted) of registry entries, in order."""


def read_doubts(cursor: Cursor, origin: str, position: int) -> Doubts:
    """The doubts after the first `position` entries. Reads entries only where a doubted key's
    record changed later: from that key's first one on.
    """
    cursor.execute(sql("read_doubted_keys"))
    records = [(canonical.loads(bytes(data)), index) for data, index in cursor.fetchall()]
    known = doubts_of(record for record, index in records if index < position)
    later = [record["value"]["from"] for record, index in records if index >= position]
    if not later:
        return known
    return add_told(known, read_told(cursor, origin, min(later), position))


def read_told(cursor: Cursor, origin: str, begin: int, end: int) -> Told:
    """What entries `begin` to `end` - 1 say of doubted keys."""
    cursor.execute(sql("read_registry_entries"), {"begin": begin, "end": end})
    found = []
    for index, data in cursor.fetchall():
        value = parse_entry(bytes(data))
        told = value["kind"] == REGISTRY and told_doubt(value["note"].encode(), origin)
        if told:
            found.append((index, *told))
    return found


def add_told(doubts: Doubts, told: Told) -> Doubts:
    """The doubts after some more entries. A key signs nothing from its first one on."""
    found = dict(doubts)
    for index, key_id, since in told:
        before = found.get(key_id, range(since, index))
        found[key_id] = range(min(since, before.start), before.stop)
    return found
