"""Steps 6 and 7 in the store: status entries, read-back, tiles, tree head, what was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import canonical, merkle, times
from .. import registry as registries
from ..admission import Lane
from ..checkpoint_keys import TrustedKey, parse_keys
from ..entry import format_status
from ..errors import Conflict, ProofError, Unavailable
from ..loss import LostLog
from ..note import parse_note
from ..registry import Registry
from ..sequencing import check_deltas, check_lines, parse_stored
from ..tiles import TileReader
from .connection import transaction, turn
from .copying import bigint, copy, integer
from .rows import (
    Placed,
    read_blinding_secret,
    read_lane_records,
    read_lanes,
    read_leaves,
    read_origin,
    read_placed,
    read_registry,
    unpack_lines,
    write_registry_snapshot,
)
from .statements import sql

if TYPE_CHECKING:  # whoever only reads needs no numpy
    from .maps import Maps

_LEAD_LOCK = 0x6365727400000002
STATUS_INTERVAL = 600 * times.SECOND  # without news
READ_BACK_ENTRIES = 64
FOLD_IN_TURN = 1 << 20  # bytes of delta lists: what is folded while others wait
FOLD_ATTEMPTS = 5
CLOCK_TOLERANCE = 5 * times.SECOND


@dataclass(frozen=True, slots=True)
class Head:
    """The tree head as stored: all below `size` was read back and hashed."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class LogTopic:
    """How far certledger.log.v1 holds what is here."""

    topic_id: str
    last_offset: int
    entries: int
    outbox: int


WitnessRow = tuple[str, int | None, int | None, str | None]
"""A witness's name, the size that it cosigned last, when in seconds, and its problem."""


class Sequencing:
    """The sequencer's connection. One at a time leads; compare-and-swap makes sure of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.lines_read = 0  # event lines that were read back so far
        self._silence: tuple[int, int | None] = (-1, None)  # as of a size: when a lane's begins
        # as of its last change, a log index
        self._placed: tuple[int, Placed] = (-1, [])
        self._registry = (-1, Registry(""))

    def lead(self) -> bool:
        """Whether this session is now the one that sequences, until its connection ends."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("try_lead"), {"lock": _LEAD_LOCK})
            return cursor.fetchone() == (True,)

    def head(self) -> Head:
        """The tree head."""
        with transaction(self.connection) as cursor:
            return read_head(cursor)

    def has_news(self, head: Head) -> bool:
        """Whether the log has entries above the head, a lane has been silent for its department's
        limit since the last one, or none came for 10 minutes.
        """
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_allocation"))
            origin, next_index, ledger_time, registry_index, _ = _one(cursor)
            if next_index != head.size:
                return True
            if self._silence[0] != head.size:
                registry = self._read_registry(cursor, origin, registry_index)
                records = [*registry.records.values(), *read_lane_records(cursor)]
                self._silence = head.size, registries.next_silence(records, ledger_time)
            cursor.execute("SELECT microseconds_now()")
            (clock,) = _one(cursor)
            silence = self._silence[1]
            due = ledger_time + STATUS_INTERVAL
            return bool(clock >= (due if silence is None else min(due, silence + 1)))

    def append_status(self, maps: Maps | None = None) -> int:
        """Append a status entry, with the roots of `maps` if they are given: the new log size.

        Unavailable `clock-behind` when the clock stands behind the ledger's time: waiting is better
        than lying.
        """
        left = FOLD_ATTEMPTS
        while True:
            if maps is not None:
                with transaction(self.connection) as cursor:
                    cursor.execute(sql("read_allocation"))
                    end = _one(cursor)[1]
                maps.catch_up(self.connection, end)
                maps.heads()
            left -= 1
            size = self._try_status(maps, left > 0)
            if size is not None:
                return size

    def _try_status(self, maps: Maps | None, may_let_go: bool) -> int | None:
        """The status entry in one turn; None when it is let go, as too much is still to fold."""
        with turn(self.connection) as (cursor, row):
            _, index, ledger_time, registry_index, next_outbox, clock = row
            if clock < ledger_time - CLOCK_TOLERANCE:
                raise Unavailable(
                    "clock-behind",
                    f"the clock says {times.format_moment(clock)}, the ledger has been at "
                    f"{times.format_moment(ledger_time)}",
                )
            now = max(clock, ledger_time)
            if maps is not None and not _fold_rest(cursor, maps, index, may_let_go):
                return None
            if self._placed[0] != registry_index:
                self._placed = registry_index, read_placed(cursor)
            leaves = read_leaves(cursor, self._placed[1])
            entry = format_status(
                index,
                merkle.root(list(map(merkle.leaf_hash, leaves))),
                times.format_moment(now),
                None if maps is None else maps.heads(),
            )
            cursor.execute(sql("insert_entry"), {"log_index": index, "data": entry})
            cursor.execute(
                sql("insert_status"),
                {"log_index": index, "ledger_time": now, "maps": maps is not None},
            )
            write_registry_snapshot(cursor, index, leaves)
            cursor.execute(
                sql("move_allocation"),
                {
                    "was": index,
                    "next_index": index + 1,
                    "ledger_time": now,
                    "registry_index": registry_index,
                    "next_outbox": next_outbox,
                },
            )
            if cursor.rowcount != 1:
                raise Conflict("head-moved", "the allocation row moved under its lock")
            # A crash here leaves an entry above the head: the next round begins with it.
        return int(index) + 1

    def read_back(self, begin: int, end: int, maps: Maps | None = None) -> Iterator[bytes]:
        """Leaf hashes of entries `begin` to `end` - 1, each re-hashed with its lines and deltas,
        which `maps` then takes in.

        ProofError `stored-bytes-damaged` otherwise: nothing may be signed over it.
        """
        for first in range(begin, end, READ_BACK_ENTRIES):
            span = {"begin": first, "end": min(first + READ_BACK_ENTRIES, end)}
            with transaction(self.connection) as cursor:
                cursor.execute(sql("read_entries"), span)
                entries = cursor.fetchall()
                lines: dict[int, list[bytes]] = {}
                cursor.execute(sql("read_lines"), span)
                for index, _, data in cursor.fetchall():
                    lines.setdefault(index, []).extend(_unpack(index, data))
                cursor.execute(sql("read_deltas"), span)
                deltas = {i: (bytes(c), bytes(h)) for i, c, h in cursor.fetchall()}
                secret = read_blinding_secret(cursor)
            if [index for index, _ in entries] != list(range(first, span["end"])):
                raise ProofError("stored-bytes-damaged", f"entries from {first} are not all there")
            for index, data in entries:
                entry, changed = bytes(data), deltas.get(index)
                stored = None if maps is None else maps.checked(index, entry, changed)
                if stored is None:
                    stored = parse_stored(index, entry)
                    check_deltas(index, stored, changed, secret)
                check_lines(index, stored, lines.get(index, []))
                if maps is not None:
                    maps.take(index, entry, changed)
                self.lines_read += len(lines.get(index, []))
                yield merkle.leaf_hash(entry)

    def tile(self, level: int, index: int) -> bytes:
        """One tile as stored, empty where there is none."""
        with transaction(self.connection) as cursor:
            return tile_reader(cursor)(level, index)

    def advance(
        self,
        was: Head,
        now: Head,
        tiles: Mapping[tuple[int, int], bytes],
        map_tiles: Mapping[tuple[bytes, int, int], bytes] | None = None,
    ) -> None:
        """Write tiles and move the head in one transaction; Conflict `head-moved` when another
        was first. A crash after it leaves a head without checkpoint: signing goes on there.

        `map_tiles` are those of the status maps that changed up to the last entry.
        """
        with transaction(self.connection) as cursor:
            for (level, index), data in tiles.items():
                cursor.execute(sql("upsert_tile"), {"level": level, "index": index, "data": data})
            if map_tiles:
                _write_map_tiles(cursor, now.size - 1, map_tiles)
            cursor.execute(
                sql("move_head"),
                {"size": now.size, "root": now.root, "was_size": was.size, "was_root": was.root},
            )
            if cursor.rowcount != 1:
                raise Conflict("head-moved")

    def lanes(self) -> tuple[Registry, dict[tuple[str, int], Lane]]:
        """The registry, and where all lanes stand."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_allocation"))
            origin, _, _, registry_index, _ = _one(cursor)
            return self._read_registry(cursor, origin, registry_index), read_lanes(cursor)

    def _read_registry(self, cursor: Cursor, origin: str, index: int) -> Registry:
        """The registry, whose last change has this log index."""
        if self._registry[0] != index:
            self._registry = index, read_registry(cursor, origin)
        return self._registry[1]

    def checkpoint_keys(self) -> tuple[TrustedKey, ...]:
        """The keys that have to sign checkpoints, by the registry, with the sizes of each."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_registry_record"), {"name": "ledger"})
            record = canonical.loads(bytes(_one(cursor)[0]))
            return parse_keys(record["value"]["checkpoint_keys"])

    def largest_checkpoint(self) -> tuple[int, bytes] | None:
        """(size, note) of the largest checkpoint that was signed, published or not."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_largest_checkpoint"))
            row = cursor.fetchone()
            return None if row is None else (int(row[0]), bytes(row[1]))

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        """Keep a signed checkpoint before it leaves: the kept one, which is an earlier one of the
        same text where there is one (cosignatures differ each time). Conflict for another text.
        """
        with transaction(self.connection) as cursor:
            cursor.execute(sql("insert_checkpoint"), {"size": size, "note": note})
            cursor.execute(sql("read_checkpoint"), {"size": size})
            kept = bytes(_one(cursor)[0])
            if parse_note(kept).text != parse_note(note).text:
                raise Conflict("head-moved", f"another checkpoint of size {size} is stored")
            return kept

    def publish(self, size: int, note: bytes | None = None) -> None:
        """Publish the checkpoint of a size: from here on answers and receipts rest on it. `note` is
        the kept one with the witnesses' signatures, where there are any.
        """
        with transaction(self.connection) as cursor:
            cursor.execute(sql("publish_checkpoint"), {"size": size, "note": note})
            cursor.execute(sql("notify_publication"))

    def write_witnesses(self, states: Sequence[WitnessRow]) -> None:
        """Show how the witnesses stand."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("delete_witnesses"), {"names": [state[0] for state in states]})
            for name, size, seconds, problem in states:
                cursor.execute(
                    sql("upsert_witness"),
                    {"name": name, "size": size, "seconds": seconds, "problem": problem},
                )

    def published(self) -> tuple[int, bytes] | None:
        """(size, note) of the largest published checkpoint."""
        with transaction(self.connection) as cursor:
            return read_published(cursor)

    def log_topic(self) -> LogTopic | None:
        """What certledger.log.v1 is known to hold; None before anything was written."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_log_topic"))
            row = cursor.fetchone()
            return None if row is None else LogTopic(*row)

    def lost_log(self, topic_id: str, end: int) -> LostLog | None:
        """The loss of the log topic as it is known here that an operator declared, when `topic_id`
        is what is in its place; when that is the same topic, it must end just where he said.
        """
        known = self.log_topic()
        if known is None:
            return None
        with transaction(self.connection) as cursor:
            losses = read_registry(cursor, read_origin(cursor)).losses
        for _, loss in losses:
            if (
                isinstance(loss, LostLog)
                and (loss.topic_id, loss.offset) == (known.topic_id, known.last_offset)
                and loss.became == topic_id
                and (loss.became != loss.topic_id or loss.end == end)
            ):
                return loss
        return None

    def forget_log_topic(self, lost: LostLog) -> None:
        """Remember that the log topic in the place of a lost one holds nothing yet."""
        with transaction(self.connection) as cursor:
            cursor.execute(
                sql("forget_log_topic"),
                {"topic_id": lost.topic_id, "offset": lost.offset, "became": lost.became},
            )
            if cursor.rowcount != 1:
                raise Conflict("head-moved", "the log topic's position moved")

    def begin_log_topic(self, topic_id: str) -> LogTopic:
        """Remember the topic's id before the first record is written to it."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("insert_log_topic"), {"topic_id": topic_id})
        return LogTopic(topic_id, -1, 0, 0)

    def acknowledged(self, last_offset: int, entries: int, outbox: int) -> None:
        """Remember what the topic acknowledged."""
        with transaction(self.connection) as cursor:
            cursor.execute(
                sql("move_log_topic"),
                {"last_offset": last_offset, "entries": entries, "outbox": outbox},
            )

    def entries(self, begin: int, end: int) -> list[bytes]:
        """Entries `begin` to `end` - 1."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_entries"), {"begin": begin, "end": end})
            return [bytes(data) for _, data in cursor.fetchall()]

    def outbox(self, begin: int, limit: int) -> list[dict[str, Any]]:
        """Queued messages from a number on, in order, without the records of dead letters."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_outbox"), {"begin": begin, "limit": limit})
            names = [column.name for column in cursor.description or ()]
            return [
                {
                    name: bytes(value) if isinstance(value, memoryview) else value
                    for name, value in zip(names, row, strict=True)
                }
                for row in cursor.fetchall()
            ]

    def outbox_record(self, number: int, limit: int) -> tuple[bytes | None, int, bytes | None]:
        """A dead letter's first `limit` bytes, its length and, when it is longer, its SHA-256."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_outbox_record"), {"number": number, "limit": limit})
            record, length, digest = _one(cursor)
            return (
                None if record is None else bytes(record),
                length or 0,
                None if digest is None else bytes(digest),
            )

    def expiry_notices(self, begin: int, limit: int) -> list[tuple[bytes, bytes]]:
        """(map key, notice) of notices of ends from a number on, in order without a gap."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_expiry_notices"), {"begin": begin, "limit": limit})
            rows = cursor.fetchall()
        if [number for number, _, _ in rows] != list(range(begin, begin + len(rows))):
            raise ProofError("stored-bytes-damaged", f"notices of ends from {begin} on are missing")
        return [(bytes(key), bytes(notice)) for _, key, notice in rows]

    def is_relay_due(self, recalls: str, receipts: str, outbox: str, ends: str) -> bool:
        """Whether any of the relays with these names may have something to send."""
        names = {"recalls": recalls, "receipts": receipts, "outbox": outbox, "ends": ends}
        with transaction(self.connection) as cursor:
            cursor.execute(sql("is_relay_due"), names)
            return bool(_one(cursor)[0])

    def relay_position(self, name: str) -> int:
        """How far a relay has come, 0 at first."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_relay"), {"name": name})
            row = cursor.fetchone()
            return 0 if row is None else int(row[0])

    def move_relay(self, name: str, position: int) -> None:
        """Remember how far a relay has come; before this, it sends the same again (same ids)."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("move_relay"), {"name": name, "position": position})


def read_head(cursor: Cursor) -> Head:
    """The tree head in an open transaction."""
    cursor.execute(sql("read_head"))
    row = cursor.fetchone()
    if row is None:
        raise Unavailable("not-initialised")
    return Head(row[0], bytes(row[1]))


def read_witnesses(cursor: Cursor) -> list[WitnessRow]:
    """How the witnesses stand, in an open transaction."""
    cursor.execute(sql("read_witnesses"))
    return list(cursor.fetchall())


def read_tally(cursor: Cursor) -> dict[str, int]:
    """Running counts by name: `certificates`, `admitted`, codes of refusals."""
    cursor.execute(sql("read_tally"))
    return {name: int(count) for name, count in cursor.fetchall()}


def tile_reader(cursor: Cursor) -> TileReader:
    """Tiles as stored, read through an open transaction; empty where there is none."""

    def read(level: int, index: int) -> bytes:
        cursor.execute(sql("read_tile"), {"level": level, "index": index})
        row = cursor.fetchone()
        return b"" if row is None else bytes(row[0])

    return read


def read_published(cursor: Cursor) -> tuple[int, bytes] | None:
    """(size, note) of the largest published checkpoint in an open transaction."""
    cursor.execute(sql("read_published"))
    row = cursor.fetchone()
    return None if row is None else (int(row[0]), bytes(row[1]))


def _fold_rest(cursor: Cursor, maps: Maps, end: int, may_let_go: bool) -> bool:
    """Fold what came in since `maps` caught up, in the turn; False where that is too much."""
    if may_let_go:
        cursor.execute(sql("measure_deltas"), {"begin": maps.size, "end": end})
        if _one(cursor)[0] > FOLD_IN_TURN:
            return False
    maps.read(cursor, end)
    return not (maps.fold() and may_let_go)


def _write_map_tiles(
    cursor: Cursor, log_index: int, tiles: Mapping[tuple[bytes, int, int], bytes]
) -> None:
    """Store versions of tiles; those go that no published state needs any more."""
    copy(
        cursor,
        "map_tile",
        "kind, level, tile_index, log_index, data",
        (
            (kind, integer(level), bigint(index), bigint(log_index), data)
            for (kind, level, index), data in tiles.items()
        ),
    )
    cursor.execute(sql("read_published_state"))
    published = cursor.fetchone()
    if published is not None:
        cursor.execute(sql("prune_map_tiles"), {"size": published[0]})


def _one(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise Unavailable("not-initialised")
    return row


def _unpack(index: int, data: Any) -> list[bytes]:
    try:
        return unpack_lines(bytes(data))
    except ValueError as err:
        raise ProofError("stored-bytes-damaged", f"entry {index}: lines do not unpack") from err
