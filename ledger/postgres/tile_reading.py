"""The published log as it is stored: hashes, entries, certificates' delta lists.

What is not below the published checkpoint's size is not there: None. What was published and is
not in the store is ProofError `stored-bytes-damaged`. Nothing is hashed here: whoever reads the
log checks it against the checkpoint. Holders' delta lists are not read at all.
"""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import cursor as Cursor

from ..errors import ProofError
from .statements import sql

_HASH = 32
_LARGEST = 2**63 - 1


def published_hashes(
    cursor: Cursor, level: int, index: int, width: int, needed_size: int
) -> bytes | None:
    """The first `width` hashes of a tile, which a tree of `needed_size` leaves has."""
    if needed_size > _LARGEST:
        return None
    cursor.execute(
        sql("read_published_tile"),
        {"level": level, "index": index, "length": width * _HASH, "needed": needed_size},
    )
    row = cursor.fetchone()
    if row is None:
        return None
    data = bytes(row[0] or b"")
    if len(data) != width * _HASH:
        raise ProofError("stored-bytes-damaged", f"tile {level}/{index} is too short")
    return data


def published_entries(cursor: Cursor, begin: int, end: int) -> list[bytes] | None:
    """Entries `begin` to `end` - 1, of which there is at least one."""
    rows = _published_rows(cursor, "read_published_entries", begin, end)
    return None if rows is None else [bytes(data) for (data,) in rows]


def published_delta_lengths(cursor: Cursor, begin: int, end: int) -> list[int] | None:
    """Bytes of the certificates' delta list of each entry, 0 for an entry without one."""
    rows = _published_rows(cursor, "measure_published_deltas", begin, end)
    return None if rows is None else [length for (length,) in rows]


def certificate_deltas(cursor: Cursor, begin: int, end: int) -> dict[int, bytes]:
    """The certificates' delta lists of entries `begin` to `end` - 1 that have one, by index."""
    cursor.execute(sql("read_certificate_deltas"), {"begin": begin, "end": end})
    return {index: bytes(data) for index, data in cursor.fetchall()}


def _published_rows(
    cursor: Cursor, statement: str, begin: int, end: int
) -> list[tuple[Any, ...]] | None:
    cursor.execute(sql(statement), {"begin": begin, "end": end})
    rows = cursor.fetchall()
    if not rows:
        return None
    if len(rows) != end - begin or rows[0][0] is None:
        raise ProofError("stored-bytes-damaged", f"entries from {begin} are not all there")
    return rows
