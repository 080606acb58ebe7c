"""Rows to values: what several stores read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor

from .. import admission, canonical, fast_json, times
from ..admission import DeadLetter, Lane, Opened
from ..bundle import Bundle
from ..entry import Source, parse_entry
from ..errors import Conflict, Unavailable
from ..linetree import GROUP
from ..registry import Registry, lane_record, tree_place
from .packing import pack, unpack
from .statements import sql

CHUNK = 128  # event lines per row


def read_registry(cursor: Cursor, origin: str) -> Registry:
    """The current registry, lanes excepted."""
    cursor.execute(sql("read_registry"))
    return Registry(
        origin, {name: canonical.loads(bytes(data)) for name, data in cursor.fetchall()}
    )


def read_intake_topic(cursor: Cursor, registry: Registry) -> str | None:
    """The id of the topic that records come from: of those taken from, the one that no operator
    declared gone, or what he said is in its place. None before the first; Conflict `topic-changed`
    for several.
    """
    gone = registry.lost_intakes
    cursor.execute(sql("intake_topics"))
    found = {row[0] for row in cursor.fetchall()} - gone.keys()
    found |= {loss.became for loss in [*gone.values()][-1:]}
    if len(found) > 1:
        raise Conflict("topic-changed", f"records were taken from {len(found)} intake topics")
    return next(iter(found), None)


def read_source(cursor: Cursor, bundle: Bundle) -> Source | None:
    """Where the record came from with which a bundle was logged; None while it is not."""
    header = bundle.header
    place = {"department": header.department, "lane": header.lane}
    cursor.execute(sql("read_note"), {**place, "epoch": header.epoch, "sequence": header.sequence})
    row = cursor.fetchone()
    if row is None or bytes(row[1]) != bundle.note_hash:
        return None
    cursor.execute(sql("read_entries"), {"begin": row[2], "end": row[2] + 1})
    ((_, data),) = cursor.fetchall()
    source = parse_entry(bytes(data))["source"]
    return Source(source["topic_id"], source["partition"], source["offset"])


def read_lanes(cursor: Cursor) -> dict[tuple[str, int], Lane]:
    """All lanes by department and number."""
    cursor.execute(sql("read_lanes"))
    return {
        (department, number): Lane(epoch, producer, after, bytes(previous), time, at, index)
        for department, number, epoch, producer, after, previous, time, at, index in cursor
    }


def read_lane_records(cursor: Cursor) -> list[dict[str, Any]]:
    """The records under the registry root that no note changes: one per lane."""
    return [
        lane_record(department, number, lane.index, lane.value())
        for (department, number), lane in read_lanes(cursor).items()
    ]


Placed = list[tuple[bytes, bytes]]
"""Registry records: where they stand in the registry's tree, and as its leaves have them."""


def read_placed(cursor: Cursor) -> Placed:
    """The records that notes change."""
    cursor.execute(sql("read_registry"))
    return [(tree_place(canonical.loads(bytes(data))), bytes(data)) for _, data in cursor]


def read_leaves(cursor: Cursor, placed: Placed) -> list[bytes]:
    """The leaves under the registry root in its order: `placed`, and one per lane."""
    lanes = [
        (tree_place(record), canonical.format_typed(record, fast_json.dump))
        for record in read_lane_records(cursor)
    ]
    return [leaf for _, leaf in sorted([*placed, *lanes])]


def keep_catalogue(cursor: Cursor, name: str, version: int, data: bytes) -> None:
    """Keep the file of a published catalogue, unless it is kept already."""
    packed = pack(data, level=3)
    cursor.execute(sql("insert_catalogue"), {"name": name, "version": version, "data": packed})


def read_catalogue(cursor: Cursor, name: str, version: int) -> bytes | None:
    """The file of a version of a catalogue, None where it is not kept here."""
    cursor.execute(sql("read_catalogue"), {"name": name, "version": version})
    row = cursor.fetchone()
    return None if row is None else unpack(bytes(row[0]))


def write_registry_snapshot(cursor: Cursor, log_index: int, listed: Sequence[bytes]) -> None:
    """Keep the registry's leaves under the status entry at `log_index`, in its transaction.

    The last 64 stay, and all since the published checkpoint.
    """
    data = pack(b"\n".join(listed))
    cursor.execute(sql("insert_registry_snapshot"), {"log_index": log_index, "data": data})
    cursor.execute(sql("prune_registry_snapshots"))


def read_registry_snapshot(cursor: Cursor, log_index: int) -> list[bytes] | None:
    """The registry's leaves under a recent status entry, in the tree's order; None when gone."""
    cursor.execute(sql("read_registry_snapshot"), {"log_index": log_index})
    row = cursor.fetchone()
    return None if row is None else unpack(bytes(row[0])).split(b"\n")


Chunk = tuple[bytes, bytes | None]
"""Up to 128 lines as they are stored: joined by newlines, zstd level 1; and the roots over each 32
of them (`ledger.linetree`), None where a bundle has no others.
"""


def pack_lines(bundle: Bundle) -> list[Chunk]:
    """A bundle's event lines as they are stored."""
    lines, groups = bundle.lines, bundle.groups
    is_long = len(lines) > CHUNK
    return [
        (
            pack(b"\n".join(lines[i : i + CHUNK])),
            b"".join(groups[i // GROUP : (i + CHUNK) // GROUP]) if is_long else None,
        )
        for i in range(0, len(lines), CHUNK)
    ]


def open_value(
    value: bytes | None, registry: Registry, parse: admission.Parse
) -> tuple[Opened | DeadLetter, Sequence[Chunk]]:
    """Step 4 for a record's value: what it says, and a bundle's lines as they will be stored."""
    opened = admission.open_record(value, registry, parse)
    return opened, pack_lines(opened.bundle) if isinstance(opened, Opened) else ()


def unpack_lines(chunk: bytes) -> list[bytes]:
    """The lines of one stored chunk; ValueError where it is damaged."""
    return unpack(chunk).split(b"\n")


class ChunkLines:
    """The lines of one stored chunk, taken apart by groups as they are asked for: one line and its
    group are mostly all.
    """

    __slots__ = ("_data", "_groups")

    def __init__(self, chunk: bytes) -> None:
        """ValueError where it is damaged."""
        self._data = unpack(chunk)
        self._groups: dict[int, list[bytes]] = {}

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._data.split(b"\n"))

    def line(self, position: int) -> bytes | None:
        """The line at a position, None behind the last one."""
        group = self.group(position // GROUP)
        return group[position % GROUP] if position % GROUP < len(group) else None

    def group(self, number: int) -> list[bytes]:
        """The lines of one group of those that have a root of their own (`ledger.linetree`)."""
        found = self._groups.get(number)
        if found is None:
            first, end = number * GROUP, (number + 1) * GROUP
            found = self._groups[number] = self._data.split(b"\n", end)[first:end]
        return found


def read_blinding_secret(cursor: Cursor) -> bytes:
    """What blinds the holders' delta roots in entries; Unavailable `not-initialised` without it."""
    cursor.execute(sql("read_blinding_secret"))
    row = cursor.fetchone()
    if row is None:
        raise Unavailable("not-initialised", "the ledger's blinding secret is missing")
    return bytes(row[0])


def read_time(cursor: Cursor, index: int) -> int:
    """The ledger time of the entry at a log index, in microseconds."""
    cursor.execute(sql("read_entries"), {"begin": index, "end": index + 1})
    ((_, data),) = cursor.fetchall()
    return times.parse_moment(parse_entry(bytes(data))["time"])


def read_origin(cursor: Cursor) -> str:
    """The ledger's origin; Unavailable `not-initialised` before genesis."""
    cursor.execute("SELECT to_regclass('allocation') IS NOT NULL")
    if cursor.fetchone() != (True,):
        raise Unavailable("not-initialised")
    cursor.execute(sql("read_allocation"))
    row = cursor.fetchone()
    if row is None:
        raise Unavailable("not-initialised")
    return str(row[0])
