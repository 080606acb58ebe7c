"""Step 5: one transaction per batch under the allocation row's turn, and registry changes."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import admission, canonical, identity, lifecycle, merkle, times
from ..admission import (
    Accounted,
    Certificate,
    DeadLetter,
    Lane,
    Opened,
    Recorded,
    Skipped,
    Turn,
)
from ..entry import ADMITTED, Source, format_genesis, format_registry
from ..errors import Conflict, Refused, Unavailable
from ..event import CORRECTED, Event
from ..lifecycle import Transition, parse_transition
from ..receipt import format_notice
from ..registry import Registry, apply_note, format_record, genesis_records
from ..topics import lane_key
from .connection import transaction, turn
from .copying import bigint, copy, copy_packed, integer
from .relying import Reliances, write_reliances
from .rows import (
    keep_catalogue,
    pack_lines,
    read_blinding_secret,
    read_origin,
    read_registry,
)
from .statements import sql

# Rows of binary COPY: the number of fields, then each field behind its length.
_transition_row = struct.Struct("!hi32siiiqiii16si32si").pack  # `data` follows
_act_row = struct.Struct("!hi32siiiqiii32si?").pack
_holder_row = struct.Struct("!hi32siqi32s").pack


@dataclass(frozen=True, slots=True)
class Fetched:
    """One Kafka record as consumed: its place and raw bytes (None for a tombstone)."""

    partition: int
    offset: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Checked:
    """A record after step 4, and which registry (log index of its last change) it was opened by."""

    fetched: Fetched
    opened: Opened | DeadLetter | Skipped
    registry_index: int


@dataclass(frozen=True, slots=True)
class Applied:
    """What one batch did: records by outcome, entries and events written."""

    outcomes: dict[str, int]
    admitted: int
    refused: int
    next_index: int


class Store:
    """The admission side's connection to the ledger; one thread at a time, `open` excepted.

    Unavailable `not-initialised` when the database holds no ledger.
    """

    def __init__(
        self,
        connection: Connection,
        load: Callable[[bytes], Any] = canonical.loads,
        dump: canonical.Dump = canonical.encode,
        parse: admission.Parse = admission.parse_lines,
    ) -> None:
        self.connection = connection
        self._library = (load, dump)
        self._parse = parse
        with transaction(connection) as cursor:
            cursor.execute(sql("create_changed"))
            cursor.execute(sql("create_bound"))
            origin = read_origin(cursor)
            cursor.execute(sql("read_allocation"))
            row = cursor.fetchone()
            if row is None:
                raise Unavailable("not-initialised")
            self._blinding_secret = read_blinding_secret(cursor)
            # (log index of the last change, registry): replaced as a whole, so that `open` may
            # read it beside `apply` without touching the connection.
            self._registry = (int(row[3]), read_registry(cursor, origin))

    def offsets(
        self, topic_id: str, partitions: Sequence[int]
    ) -> dict[int, tuple[int, bytes | None]]:
        """(next offset, SHA-256 of the last record taken) of partitions, begun at 0 when new.

        Conflict `topic-changed` when records were taken from a topic of another id.
        """
        with transaction(self.connection) as cursor:
            cursor.execute(sql("intake_topics"))
            others = [row[0] for row in cursor.fetchall() if row[0] != topic_id]
            if others:
                raise Conflict(
                    "topic-changed",
                    f"records were taken from topic id {others[0]}, this topic's id is {topic_id}",
                )
            for partition in partitions:
                cursor.execute(sql("insert_intake"), {"topic_id": topic_id, "partition": partition})
            cursor.execute(sql("read_intake"), {"topic_id": topic_id})
            return {
                partition: (offset, None if last is None else bytes(last))
                for partition, offset, last in cursor.fetchall()
                if partition in partitions
            }

    def check(self) -> None:
        """None while the database answers and holds a ledger; Unavailable otherwise."""
        with transaction(self.connection) as cursor:
            read_origin(cursor)

    def open(self, fetched: Fetched) -> Checked:
        """Step 4 for one record, by the registry as last seen; may run beside `apply`."""
        index, registry = self._registry
        return Checked(fetched, admission.open_record(fetched.value, registry, self._parse), index)

    def apply(self, topic_id: str, batch: Sequence[Checked]) -> Applied:
        """Step 5: record a batch, all of it or nothing. Records below the next offset are passed
        over; one above it is Conflict `offset-jump`.
        """
        with turn(self.connection) as (cursor, row):
            origin, next_index, ledger_time, registry_index, next_outbox, clock = row
            if self._registry[0] != registry_index:
                self._registry = (registry_index, read_registry(cursor, origin))
            registry = self._registry[1]
            accepted, moves = self._accept(cursor, topic_id, batch)
            todo = [
                (
                    c.fetched,
                    c.opened
                    if c.registry_index == registry_index or isinstance(c.opened, Skipped)
                    else admission.open_record(c.fetched.value, registry, self._parse),
                )
                for c in accepted
            ]
            bundles = [o for _, o in todo if isinstance(o, Opened)]
            view = _View(cursor, registry, bundles, self._library, self._blinding_secret)
            taken = Turn(view, next_index, max(clock, ledger_time))
            outbox = []
            for fetched, opened in todo:
                source = Source(topic_id, fetched.partition, fetched.offset)
                outbox.append((taken.take(source, opened), fetched))
            next_outbox = self._write(cursor, taken, view, outbox, next_outbox)
            self._move_intake(cursor, topic_id, moves)
            cursor.execute(
                sql("move_allocation"),
                {
                    "was": next_index,
                    "next_index": taken.next_index,
                    "ledger_time": taken.now,
                    "registry_index": registry_index,
                    "next_outbox": next_outbox,
                },
            )
            _check_one(cursor, "allocation")
            # A crash before this commit leaves nothing; after it the records count as consumed.
        outcomes: dict[str, int] = {}
        for done in taken.accounted:
            outcomes[done.outcome] = outcomes.get(done.outcome, 0) + 1
        admitted = sum(b.codes.count(ADMITTED) for b in taken.logged)
        refused = sum(len(b.codes) for b in taken.logged) - admitted
        return Applied(outcomes, admitted, refused, taken.next_index)

    def _accept(
        self, cursor: Cursor, topic_id: str, batch: Sequence[Checked]
    ) -> tuple[list[Checked], dict[int, tuple[int, int, bytes]]]:
        """The records that are next on their partitions, and how the offsets move."""
        partitions = sorted({c.fetched.partition for c in batch})
        cursor.execute(sql("lock_intake"), {"topic_id": topic_id, "partitions": partitions})
        wanted = {partition: offset for partition, offset, _ in cursor.fetchall()}
        begun = dict(wanted)
        todo: list[Checked] = []
        last: dict[int, bytes] = {}
        for checked in batch:
            fetched = checked.fetched
            want = wanted.get(fetched.partition)
            if want is None or fetched.offset > want:
                raise Conflict(
                    "offset-jump",
                    f"partition {fetched.partition}: want offset {want}, got {fetched.offset}",
                )
            if fetched.offset < want:
                continue
            wanted[fetched.partition] = want + 1
            last[fetched.partition] = sha256(fetched.value or b"").digest()
            todo.append(checked)
        return todo, {p: (begun[p], wanted[p], digest) for p, digest in last.items()}

    def _move_intake(
        self, cursor: Cursor, topic_id: str, moves: dict[int, tuple[int, int, bytes]]
    ) -> None:
        for partition, (was, offset, digest) in moves.items():
            cursor.execute(
                sql("move_intake"),
                {
                    "topic_id": topic_id,
                    "partition": partition,
                    "was": was,
                    "next_offset": offset,
                    "last_record": digest,
                },
            )
            _check_one(cursor, "intake")

    def _write(
        self,
        cursor: Cursor,
        taken: Turn,
        view: _View,
        accounted: Sequence[tuple[Accounted, Fetched]],
        next_outbox: int,
    ) -> int:
        _copy_entries(cursor, taken)
        _copy_certificates(cursor, taken, view)
        _copy_holders(cursor, taken)
        _copy_lanes(cursor, taken)
        _add_tallies(cursor, taken, view)
        write_reliances(cursor, taken.relying)
        rows = []
        for done, fetched in accounted:
            number = None
            if done.outcome != admission.LOGGED:
                number = next_outbox
                next_outbox += 1
                cursor.execute(sql("insert_outbox"), _outbox_row(number, done, fetched))
                if done.outcome == admission.EQUIVOCATION and done.index is not None:
                    _insert_equivocation(cursor, done)
            rows.append(
                (
                    done.source.topic_id.encode(),
                    integer(done.source.partition),
                    bigint(done.source.offset),
                    done.outcome.encode(),
                    None if done.index is None else bigint(done.index),
                    None if number is None else bigint(number),
                )
            )
        copy(
            cursor,
            "accounting",
            "topic_id, partition, record_offset, outcome, log_index, outbox_number",
            rows,
        )
        return next_outbox

    # --- the registry ----------------------------------------------------------------------------

    def change_registry(
        self, note: bytes, catalogue: bytes | None = None, at: int | None = None
    ) -> int | None:
        """Apply a registry note in a turn of its own: its log index, None when in force already.
        `at` is the ledger time that a restore takes from the log.

        A note that publishes a catalogue comes with that file, which is kept with it. Refused,
        Malformed or ProofError as `registry.apply_note` says; nothing is written then.
        """
        with turn(self.connection) as (cursor, row):
            origin, index, ledger_time, _, next_outbox, clock = row
            change = apply_note(read_registry(cursor, origin), note, index)
            if change is None:
                return None
            now = max(clock, ledger_time) if at is None else at
            entry = format_registry(note, times.format_moment(now))
            cursor.execute(sql("insert_entry"), {"log_index": index, "data": entry})
            name = change.record["name"]
            cursor.execute(
                sql("upsert_registry_record"),
                {"name": name, "data": format_record(change.record), "log_index": index},
            )
            if catalogue is not None:
                version = change.record["value"]["versions"][-1]["version"]
                keep_catalogue(cursor, name, version, catalogue)
            for lane in range(change.opens_lanes):
                cursor.execute(
                    sql("insert_lane"),
                    {
                        "department": name.removeprefix("department/"),
                        "lane": lane,
                        "previous": merkle.leaf_hash(entry),
                        "log_index": index,
                    },
                )
            cursor.execute(
                sql("move_allocation"),
                {
                    "was": index,
                    "next_index": index + 1,
                    "ledger_time": now,
                    "registry_index": index,
                    "next_outbox": next_outbox,
                },
            )
            _check_one(cursor, "allocation")
        return int(index)

    def keep_catalogue(self, name: str, version: int, data: bytes) -> None:
        """Keep the file of a published version of a catalogue, unless it is kept already."""
        with transaction(self.connection) as cursor:
            keep_catalogue(cursor, name, version, data)


def create_ledger(
    connection: Connection,
    origin: str,
    checkpoint_vkey: str,
    operator_vkey: str,
    cosigner_vkey: str | None = None,
) -> bytes:
    """Entry 0 in a migrated, empty database; its leaf hash. Refused when there is a ledger."""
    with transaction(connection) as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM entry), microseconds_now()")
        exists, now = cursor.fetchone() or (True, 0)
        if exists:
            raise Refused("registry-refused", "this database holds a ledger already")
        records = genesis_records(origin, checkpoint_vkey, operator_vkey, cosigner_vkey)
        time = times.format_moment(now)
        entry = format_genesis(origin, checkpoint_vkey, operator_vkey, time, cosigner_vkey)
        cursor.execute(sql("insert_entry"), {"log_index": 0, "data": entry})
        for name, record in records.items():
            cursor.execute(
                sql("upsert_registry_record"),
                {"name": name, "data": format_record(record), "log_index": 0},
            )
        cursor.execute(sql("insert_allocation"), {"origin": origin, "ledger_time": now})
        cursor.execute(sql("insert_head"), {"root": merkle.EMPTY_ROOT})
        cursor.execute(sql("insert_blinding_secret"), {"secret": os.urandom(32)})
    return merkle.leaf_hash(entry)


def read_genesis(connection: Connection) -> tuple[str, bytes]:
    """(origin, leaf hash of entry 0); Unavailable `not-initialised` when there is none."""
    with transaction(connection) as cursor:
        origin = read_origin(cursor)
        cursor.execute(sql("read_entries"), {"begin": 0, "end": 1})
        return origin, merkle.leaf_hash(bytes(cursor.fetchall()[0][1]))


class _View:
    """`admission.View` over the open transaction, with what the batch needs read at once."""

    def __init__(
        self,
        cursor: Cursor,
        registry: Registry,
        batch: Sequence[Opened],
        library: tuple[Callable[[bytes], Any], canonical.Dump],
        blinding_secret: bytes,
    ) -> None:
        self.blinding_secret = blinding_secret
        self._cursor = cursor
        self._library = library
        self.registry = registry
        self._lanes: dict[tuple[str, int], Lane] = {}
        events = [e for opened in batch for e in opened.events if isinstance(e, Event)]
        self.certificates = self._read_certificates(sorted({e.key for e in events}))
        self._histories = self._read_histories(self._corrected(batch))
        holders = {e.holder for e in events if e.holder is not None}
        if holders:
            holders |= {c.holder for c in self.certificates.values() if c.holder}
        self._holders = self._read_holders([identity.holder_key(h) for h in holders])
        self.relying = Reliances(cursor, batch, self.certificates, library[0])

    def _read_certificates(self, keys: list[bytes]) -> dict[bytes, Certificate]:
        found: dict[bytes, Certificate] = {}
        if not keys:
            return found
        self._cursor.execute(sql("read_certificates"), _joined(keys))
        for key, record, holder in self._cursor.fetchall():
            standing, link = lifecycle.parse_record(bytes(record), *self._library)
            found[bytes(key)] = Certificate(standing, link, holder)
        if found:
            self._cursor.execute(sql("read_event_ids"), _joined(list(found)))
            for key, event_id, line_hash in self._cursor.fetchall():
                found[bytes(key)].event_ids[bytes(event_id).hex()] = bytes(line_hash)
        return found

    def _corrected(self, batch: Sequence[Opened]) -> list[bytes]:
        """The certificates that the batch corrects, as far as its bundles may fold histories."""
        found: set[bytes] = set()
        for opened in batch:
            folded = 0
            for event in opened.events:
                if not isinstance(event, Event) or event.kind != CORRECTED:
                    continue
                known = self.certificates.get(event.key)
                if known is None or known.standing.count > lifecycle.MAX_CORRECTABLE:
                    continue
                folded += known.standing.count
                if folded > admission.MAX_FOLDED:
                    break
                found.add(event.key)
        return sorted(found)

    def _read_histories(self, keys: list[bytes]) -> dict[bytes, list[Transition]]:
        found: dict[bytes, list[Transition]] = {}
        if keys:
            self._cursor.execute(sql("read_histories"), _joined(keys))
            for key, data in self._cursor.fetchall():
                transition = parse_transition(self._library[0](bytes(data)))
                found.setdefault(bytes(key), []).append(transition)
        return found

    def _read_holders(self, keys: list[bytes]) -> dict[bytes, tuple[int, bytes]]:
        if not keys:
            return {}
        self._cursor.execute(sql("read_holders"), _joined(keys))
        return {bytes(key): (acts, bytes(link)) for key, acts, link in self._cursor.fetchall()}

    def lane(self, department: str, lane: int) -> Lane:
        known = self._lanes.get((department, lane))
        if known is None:
            self._cursor.execute(sql("read_lane"), {"department": department, "lane": lane})
            row = self._cursor.fetchone()
            if row is None:
                raise Unavailable("not-initialised", f"lane {department}/{lane} has no row")
            epoch, producer, after, previous, time, at, index = row
            known = Lane(epoch, producer, after, bytes(previous), time, at, index)
            self._lanes[department, lane] = known
        return known

    def note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None:
        self._cursor.execute(
            sql("read_note"),
            {"department": department, "lane": lane, "epoch": epoch, "sequence": seq},
        )
        row = self._cursor.fetchone()
        return None if row is None else Recorded(row[0], bytes(row[1]), row[2])

    def is_note_of_epoch(self, department: str, lane: int, epoch: int, note: bytes) -> bool:
        self._cursor.execute(
            sql("is_note_of_epoch"),
            {"department": department, "lane": lane, "epoch": epoch, "note_hash": note},
        )
        return self._cursor.fetchone() == (True,)

    def is_equivocation_logged(self, department: str, lane: int, note: bytes) -> bool:
        self._cursor.execute(
            sql("is_equivocation_logged"),
            {"department": department, "lane": lane, "note_hash": note},
        )
        return self._cursor.fetchone() == (True,)

    def certificate(self, key: bytes) -> Certificate | None:
        return self.certificates.get(key)

    def history(self, key: bytes) -> list[Transition]:
        if key not in self._histories:
            self._histories |= self._read_histories([key])
        return self._histories.get(key, [])

    def holder(self, key: bytes) -> tuple[int, bytes]:
        return self._holders.get(key, (0, b""))


def _joined(keys: Sequence[bytes]) -> dict[str, Any]:
    """Map keys as one value, which the statement cuts: thousands of literals cost more to print
    and to parse than the rows to read.
    """
    return {"keys": b"".join(keys), "count": len(keys)}


def _copy_entries(cursor: Cursor, turn: Turn) -> None:
    copy(
        cursor,
        "entry",
        "log_index, data",
        ((bigint(index), entry) for index, entry in turn.entries),
    )
    copy(
        cursor,
        "lines",
        "log_index, chunk, data",
        (
            (bigint(b.index), integer(number), chunk)
            for b in turn.logged
            for number, chunk in enumerate(pack_lines(b.opened.bundle.lines))
        ),
    )
    copy(
        cursor,
        "delta",
        "log_index, certificates, holders",
        (
            (
                bigint(b.index),
                b"".join(key + record for key, record in b.certificates),
                b"".join(key + record for key, record in b.holders),
            )
            for b in turn.logged
        ),
    )
    parts: list[bytes] = []
    for b in turn.logged:
        for a in b.admitted:
            event, data = a.event, a.transition
            head = _transition_row(
                7, 32, a.key, 4, a.ordinal, 8, b.index, 4, a.position,
                16, bytes.fromhex(event.id), 32, event.line_hash, len(data),
            )  # fmt: skip
            parts += (head, data)
    copy_packed(
        cursor,
        "transition",
        "map_key, ordinal, log_index, position, event_id, line_hash, data",
        parts,
    )
    copy_packed(
        cursor,
        "holder_act",
        "map_key, ordinal, log_index, position, certificate, bound",
        [
            _act_row(
                6, 32, a.holder, 4, a.ordinal, 8, b.index, 4, a.position, 32, a.certificate,
                1, a.bound,
            )
            for b in turn.logged
            for a in b.acts
        ],
    )  # fmt: skip


def _copy_certificates(cursor: Cursor, turn: Turn, view: _View) -> None:
    new: list[tuple[bytes | None, ...]] = []
    changed: list[tuple[bytes | None, ...]] = []
    for key, (item, certificate) in turn.certificates.items():
        record = turn.records[key]
        holder = None if certificate.holder is None else certificate.holder.encode()
        if key in view.certificates:
            changed.append((key, record, holder))
        else:
            identity_ = (item.type_code.encode(), item.issuer.encode(), item.number.encode())
            new.append((key, *identity_, record, holder))
    copy(cursor, "certificate", "map_key, type_code, issuer, number, record, holder", new)
    if changed:
        copy(cursor, "changed", "map_key, record, holder", changed)
        cursor.execute(sql("update_changed"))
        if cursor.rowcount != len(changed):
            raise Conflict("registry-conflict", "a current state vanished under the turn")


def _copy_holders(cursor: Cursor, turn: Turn) -> None:
    if turn.holders:
        parts = [
            _holder_row(3, 32, key, 8, acts, 32, link) for key, (acts, link) in turn.holders.items()
        ]
        copy_packed(cursor, "bound", "map_key, acts, link", parts)
        cursor.execute(sql("upsert_holders"))
        if cursor.rowcount != len(parts):
            raise Conflict("registry-conflict", "holders' records were not all written")


def _copy_lanes(cursor: Cursor, turn: Turn) -> None:
    copy(
        cursor,
        "lane_note",
        "department, lane, epoch, sequence, producer, note_hash, log_index",
        (
            (
                department.encode(),
                integer(lane),
                integer(epoch),
                bigint(sequence),
                note.producer.encode(),
                note.note_hash,
                bigint(note.index),
            )
            for (department, lane, epoch, sequence), note in turn.notes.items()
        ),
    )
    for (department, lane), state in turn.lanes.items():
        cursor.execute(
            sql("move_lane"),
            {
                "department": department,
                "lane": lane,
                "epoch": state.epoch,
                "producer": state.producer,
                "next_sequence": state.next_sequence,
                "previous": state.previous,
                "signing_time": state.signing_time,
                "signed_at": state.signed_at,
                "log_index": state.index,
            },
        )
        _check_one(cursor, "lane")


def _add_tallies(cursor: Cursor, turn: Turn, view: _View) -> None:
    counts = Counter(code for bundle in turn.logged for code in bundle.codes)
    counts["certificates"] = len(turn.certificates.keys() - view.certificates.keys())
    for name, count in sorted(counts.items()):
        if count:
            cursor.execute(sql("add_tally"), {"name": name, "count": count})


def _outbox_row(number: int, done: Accounted, fetched: Fetched) -> dict[str, Any]:
    notice = key = None
    if done.bundle is not None:
        header = done.bundle.header
        key = lane_key(header.department, header.lane)
        if done.outcome != admission.REPEAT:
            want = None
            if done.want_epoch is not None and done.want_sequence is not None:
                want = (done.want_epoch, done.want_sequence)
            notice = format_notice(
                header,
                done.bundle.note_hash,
                done.outcome,
                done.code or done.outcome,
                done.message or "",
                want,
            )
    return {
        "number": number,
        "outcome": done.outcome,
        "topic_id": done.source.topic_id,
        "partition": done.source.partition,
        "record_offset": done.source.offset,
        "code": done.code,
        "message": done.message,
        "log_index": done.index,
        "key": key,
        "notice": notice,
        "record": fetched.value if done.outcome == admission.DEAD_LETTER else None,
    }


def _insert_equivocation(cursor: Cursor, done: Accounted) -> None:
    if done.bundle is not None:
        header = done.bundle.header
        cursor.execute(
            sql("insert_equivocation"),
            {
                "department": header.department,
                "lane": header.lane,
                "note_hash": done.bundle.note_hash,
                "log_index": done.index,
            },
        )


def _check_one(cursor: Cursor, what: str) -> None:
    if cursor.rowcount != 1:
        raise Conflict("registry-conflict", f"{what}: {cursor.rowcount} rows moved, 1 expected")
