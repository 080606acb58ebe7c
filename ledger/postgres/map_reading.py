"""The status maps as of a status entry, read while admission moves on.

Tables hold what is now. Of a record that changed since, the delta list of the last entry before
says what it was: no history is folded again, and nothing is stored twice. Nothing is proven here:
`statusmap.prove` compares with the stored tiles, the verifier with the status entry.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from ..errors import ProofError
from ..lifecycle import HOLDER_RECORD_TAG, RECORD_TAG
from ..statusmap import CERTIFICATES, HOLDERS
from ..tiles import TileReader
from .statements import sql

_BATCH = 256  # delta lists read at once
_PAIR = struct.Struct("32s32s")


@dataclass(frozen=True, slots=True)
class Kind:
    """Where the records of one map lie: the statements that read them."""

    pairs: str  # of a range of keys, as they are now
    copy: str  # of all keys
    changes: str  # the last entry below a size that changed a key
    delta: int  # which of an entry's two lists
    tag: bytes  # of a record hash


KINDS = {
    CERTIFICATES: Kind(
        "read_certificate_pairs",
        "copy_certificate_pairs",
        "read_certificate_changes",
        0,
        RECORD_TAG,
    ),
    HOLDERS: Kind(
        "read_holder_pairs", "copy_holder_pairs", "read_holder_changes", 1, HOLDER_RECORD_TAG
    ),
}


def pairs_at(cursor: Cursor, kind: bytes, first: bytes, last: bytes, size: int) -> bytes:
    """The pairs of a map with keys from `first` to `last`, ascending, after `size` entries."""
    source = KINDS[kind]
    cursor.execute(
        sql(source.pairs), {"first": first, "last": last, "size": size, "tag": source.tag}
    )
    rows = [(bytes(key), bytes(record), changed) for key, record, changed in cursor.fetchall()]
    then = records_at(cursor, kind, [key for key, _, changed in rows if changed], size)
    return b"".join(
        key + (then[key] if changed else record)
        for key, record, changed in rows
        if not changed or key in then
    )


def records_at(cursor: Cursor, kind: bytes, keys: Sequence[bytes], size: int) -> dict[bytes, bytes]:
    """The record hashes that keys had after `size` entries; those born later are left out."""
    source = KINDS[kind]
    wanted: dict[int, list[bytes]] = {}
    if keys:
        cursor.execute(
            sql(source.changes), {"keys": b"".join(keys), "count": len(keys), "size": size}
        )
        for key, index in cursor.fetchall():
            if index is not None:
                wanted.setdefault(index, []).append(bytes(key))
    found: dict[bytes, bytes] = {}
    indexes = sorted(wanted)
    for begin in range(0, len(indexes), _BATCH):
        cursor.execute(sql("read_some_deltas"), {"indexes": indexes[begin : begin + _BATCH]})
        for index, *lists in cursor.fetchall():
            records = dict(_PAIR.iter_unpack(bytes(lists[source.delta])))
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
