"""The status maps as of a status entry, read while admission moves on.

Tables hold what is now. Of a record that changed since, the delta list of the last entry before
says what it was: no history is folded again, and nothing is stored twice. Nothing is proven here:
`statusmap.fold_group` compares with the stored tiles, the verifier with the status entry.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from psycopg2.extensions import cursor as Cursor

from .. import staterow
from ..errors import ProofError
from ..identity import HEAD
from ..lifecycle import format_record, holder_record_hash, record_hash
from ..statusmap import CERTIFICATES, HOLDERS
from ..tiles import TileReader
from .copying import read_rows
from .statements import sql

_BATCH = 256  # delta lists read at once
_PAIR = struct.Struct("32s32s")
_ACTS = struct.Struct(">Q")


class Row(NamedTuple):
    """What a table holds of one map key."""

    key: bytes
    record: bytes  # its hash, as of now
    last: int  # the log index of the last change
    before: Callable[[int], int | None]  # of the last change in the first N entries


@dataclass(frozen=True, slots=True)
class Kind:
    """Where the records of one map lie, and how its rows are read."""

    in_ranges: str  # the statement for ranges of keys
    some: str  # for some keys
    copy: str  # for all of them, for COPY
    delta: int  # which of an entry's two lists
    read: Callable[[Cursor, Sequence[bytes]], Row]


def certificate_record(state: bytes) -> bytes:
    """The record hash of a packed state."""
    standing, link, _ = staterow.unpack_state(state)
    return record_hash(format_record(standing, link))


def acts_of(cursor: Cursor, key: bytes) -> list[tuple[int, int, bool]]:
    """(log index, position, bound) of all of a holder's acts in log order."""
    return acts_and_link(cursor, key)[0]


def acts_and_link(cursor: Cursor, key: bytes) -> tuple[list[tuple[int, int, bool]], bytes]:
    """The same, and the link over them that the holder's row has: the map key where none is."""
    cursor.execute(sql("read_holder_acts"), {"head": key[:HEAD]})
    rows = cursor.fetchall()
    numbers = _ACTS.iter_unpack(b"".join(bytes(acts) for _, acts, _ in rows))
    acts = [(*staterow.placed(number >> 1), bool(number & 1)) for (number,) in numbers]
    return acts, next((bytes(link) for *_, link in rows if link is not None), key)


def _certificate(cursor: Cursor, row: Sequence[bytes]) -> Row:
    key, state, history = row
    record = record_hash(staterow.row_record(key, state, history))
    last = staterow.index_at(history, -1)
    return Row(key, record, last, lambda size: staterow.last_below(history, size))


def _holder(cursor: Cursor, row: Sequence[bytes]) -> Row:
    key, acts, link, recent = row
    count = int.from_bytes(acts, "big")

    def before(size: int) -> int | None:
        return max((index for index, *_ in acts_of(cursor, key) if index < size), default=None)

    if recent:
        last, _ = staterow.placed(_ACTS.unpack(recent[-8:])[0] >> 1)
    else:
        last = acts_of(cursor, key)[-1][0]
    return Row(key, holder_record_hash(count, link), last, before)


KINDS = {
    CERTIFICATES: Kind(
        "read_certificate_pairs", "read_certificates", "copy_certificates", 0, _certificate
    ),
    HOLDERS: Kind("read_holder_pairs", "read_holders", "copy_holders", 1, _holder),
}


def pairs_at(
    cursor: Cursor, kind: bytes, ranges: Sequence[tuple[bytes, bytes]], size: int
) -> list[bytes]:
    """The pairs of a map with keys in each range (first and last key), ascending, after `size`
    entries. Ranges do not overlap.

    Only the first 16 bytes of keys are looked at: no range of buckets ends within the others.
    """
    source = KINDS[kind]
    firsts, lasts = ([each[n][:HEAD].hex() for each in ranges] for n in (0, 1))
    wanted = {"firsts": firsts, "lasts": lasts}
    rows = [source.read(cursor, row) for row in read_rows(cursor, sql(source.in_ranges), wanted)]
    then = _records_at(cursor, kind, rows, size)
    keys = sorted(then)
    found = []
    for first, last in ranges:
        within = keys[bisect_left(keys, first) : bisect_right(keys, last)]
        found.append(b"".join([part for key in within for part in (key, then[key])]))
    return found


def some_records_at(
    cursor: Cursor, kind: bytes, keys: Sequence[bytes], size: int
) -> dict[bytes, bytes]:
    """The record hashes that keys had after `size` entries; those born later are left out."""
    source = KINDS[kind]
    heads = {"heads": b"".join(key[:HEAD] for key in keys), "count": len(keys)}
    rows = [source.read(cursor, row) for row in read_rows(cursor, sql(source.some), heads)]
    return _records_at(cursor, kind, rows, size)


def _records_at(cursor: Cursor, kind: bytes, rows: Iterable[Row], size: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    wanted: dict[int, list[bytes]] = {}
    for row in rows:
        if row.last < size:
            found[row.key] = row.record
        elif (index := row.before(size)) is not None:
            wanted.setdefault(index, []).append(row.key)
    indexes = sorted(wanted)
    for begin in range(0, len(indexes), _BATCH):
        cursor.execute(sql("read_some_deltas"), {"indexes": indexes[begin : begin + _BATCH]})
        for index, *lists in cursor.fetchall():
            records = dict(_PAIR.iter_unpack(bytes(lists[KINDS[kind].delta])))
            for key in wanted.pop(index):
                if key not in records:
                    raise _damaged(index)
                found[key] = records[key]
    if wanted:
        raise _damaged(min(wanted))
    return found


def map_tile_reader(cursor: Cursor, kind: bytes, log_index: int) -> TileReader:
    """A map's tiles as of the status entry at `log_index`; empty where there is none."""

    def read(level: int, index: int) -> bytes:
        cursor.execute(
            sql("read_map_tile"),
            {"kind": kind.decode(), "level": level, "index": index, "log_index": log_index},
        )
        row = cursor.fetchone()
        return b"" if row is None else bytes(row[0])

    return read


def _damaged(index: int) -> ProofError:
    return ProofError("stored-bytes-damaged", f"the delta list of entry {index} lacks a map key")
