"""Step 5: one transaction per batch under the allocation row's turn, and registry changes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest
from typing import Any

import psycopg2.errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import admission, merkle, times
from ..admission import (
    Accounted,
    DeadLetter,
    Lane,
    Lost,
    Opened,
    Skipped,
    Turn,
)
from ..dead_letter import Rehearsed
from ..entry import ADMITTED, Source, format_genesis, format_registry
from ..errors import Conflict, Refused, Unavailable
from ..event import CORRECTED
from ..fast_turn import FastTurn
from ..loss import LostIntake, LostLog, LostRecords, parse_loss
from ..receipt import format_notice
from ..registry import Registry, apply_note, format_record, genesis_records
from ..reliance import ENDED, RELIED
from ..topics import lane_key
from .connection import transaction, turn
from .copying import bigint, copy, integer
from .relying import write_reliances
from .rows import (
    Chunk,
    keep_catalogue,
    open_value,
    read_blinding_secret,
    read_intake_topic,
    read_lanes,
    read_origin,
    read_registry,
)
from .statements import sql
from .turn_writing import Beside, Numbers, Pieces, WaitingCursor
from .view import Known, LetGo, NotNew, View, read_known

ATTEMPTS = 5  # before that no longer counts
MANY = 1024  # events
WARY = 64  # turns that take nothing for granted, once one had to be begun again
_MORE = {CORRECTED, RELIED, ENDED}  # kinds of lines that ask for more than rows
PART = 1000  # events, at least, whose rows are read while the part before is judged


@dataclass(frozen=True, slots=True)
class Fetched:
    """One Kafka record as consumed: its place and raw bytes (None for a tombstone)."""

    partition: int
    offset: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Checked:
    """A record after step 4, and which registry (log index of its last change) it was opened by;
    `chunks` are a bundle's lines as they will be stored.
    """

    fetched: Fetched
    opened: Opened | DeadLetter | Skipped | Lost
    registry_index: int
    chunks: Sequence[Chunk] = ()


_Todo = tuple[Fetched, Opened | DeadLetter | Skipped | Lost]


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
        parse: admission.Parse = admission.parse_lines,
    ) -> None:
        self.connection = connection
        self._parse = parse
        # They have no threads before they have work.
        self._writer = ThreadPoolExecutor(1, "write")
        self._cleaner = ThreadPoolExecutor(1, "clean")
        self._signers = Numbers("read_signers", "insert_signer")
        self._kinds = Numbers("read_kinds", "insert_kind")
        # turns to come that read all they need first, and look for certificates that they issue
        self._wary = 0
        self.prepare(connection)
        with transaction(connection) as cursor:
            origin = read_origin(cursor)
            cursor.execute(sql("read_allocation"))
            row = cursor.fetchone()
            if row is None:
                raise Unavailable("not-initialised")
            self._blinding_secret = read_blinding_secret(cursor)
            # (log index of the last change, registry): replaced as a whole, so that `open` may
            # read it beside `apply` without touching the connection.
            self._registry = (int(row[3]), read_registry(cursor, origin))

    @staticmethod
    def prepare(connection: Connection) -> None:
        """Make the session's own tables, which the turn writes through."""
        with transaction(connection) as cursor:
            cursor.execute(sql("create_changed"))
            cursor.execute(sql("create_bound"))

    def offsets(
        self, topic_id: str, partitions: Sequence[int]
    ) -> dict[int, tuple[int, bytes | None]]:
        """(next offset, SHA-256 of the last record taken) of partitions, begun at 0 when new.

        Conflict `topic-changed` when records were taken from a topic of another id, and no
        operator declared that this one is in its place.
        """
        with transaction(self.connection) as cursor:
            known = read_intake_topic(cursor, self._registry[1])
            if known is not None and known != topic_id:
                raise Conflict(
                    "topic-changed",
                    f"records were taken from topic id {known}, this topic's id is {topic_id}",
                )
            for partition in partitions:
                cursor.execute(sql("insert_intake"), {"topic_id": topic_id, "partition": partition})
            cursor.execute(sql("read_intake"), {"topic_id": topic_id})
            return {
                partition: (offset, None if last is None else bytes(last))
                for partition, offset, last in cursor.fetchall()
                if partition in partitions
            }

    def losses(self, topic_id: str, partition: int) -> list[tuple[int, LostRecords]]:
        """(log index, loss) of what operators declared lost of a partition, in order."""
        return [
            (index, loss)
            for index, loss in self._registry[1].losses
            if isinstance(loss, LostRecords)
            and (loss.topic_id, loss.partition) == (topic_id, partition)
        ]

    def take_lost(self, topic_id: str, partition: int, offsets: Sequence[int], index: int) -> None:
        """Step 5 for offsets that entry `index` declares lost."""
        lost = [Checked(Fetched(partition, offset, None), Lost(index), 0) for offset in offsets]
        self.apply(topic_id, lost)

    def check(self) -> None:
        """None while the database answers and holds a ledger; Unavailable otherwise."""
        with transaction(self.connection) as cursor:
            read_origin(cursor)

    @property
    def registry(self) -> tuple[int, Registry]:
        """(log index of the last change, registry) as last seen; may be read beside `apply`."""
        return self._registry

    def open(self, fetched: Fetched) -> Checked:
        """Step 4 for one record, by the registry as last seen; may run beside `apply`."""
        index, registry = self._registry
        opened, chunks = open_value(fetched.value, registry, self._parse)
        return Checked(fetched, opened, index, chunks)

    def apply(self, topic_id: str, batch: Sequence[Checked]) -> Applied:
        """Step 5: record a batch, all of it or nothing. Records below the next offset are passed
        over; one above it is Conflict `offset-jump`.

        What repeated ids and corrections need of older event lines is read before the turn where
        it is much: lines never change. Certificates that the batch only issues are taken for new.
        Where one is not, or lines are to be read, this turn is begun again, and it and the next
        ones look at everything before they judge.
        """
        known: dict[int, Known] = {}
        for left in range(ATTEMPTS, 0, -1):
            try:
                done = self._apply(topic_id, batch, known, left)
                self._wary = max(self._wary - 1, 0)
                return done
            except LetGo as let_go:
                self._read_ahead(let_go.places, known)
            except (NotNew, psycopg2.errors.UniqueViolation) as err:
                if self._wary or not _is_not_new(err):
                    raise
            self._wary = WARY
        raise AssertionError("the last attempt lets nothing go")

    def _read_ahead(self, places: Sequence[int], known: dict[int, Known]) -> None:
        for begin in range(0, len(places), 1024):
            with transaction(self.connection) as cursor:
                known.update(read_known(cursor, places[begin : begin + 1024]))

    def _apply(
        self, topic_id: str, batch: Sequence[Checked], known: dict[int, Known], left: int
    ) -> Applied:
        self.begin_numbers()
        with turn(self.connection) as (cursor, row):
            origin, next_index, ledger_time, registry_index, next_outbox, clock = row
            if self._registry[0] != registry_index:
                self._registry = (registry_index, read_registry(cursor, origin))
            registry = self._registry[1]
            if topic_id in registry.lost_intakes:
                raise Conflict("topic-changed", f"the topic {topic_id} was declared gone")
            accepted, moves = self._accept(cursor, topic_id, batch)
            todo = [
                (
                    c.fetched,
                    c.opened
                    if c.registry_index == registry_index or isinstance(c.opened, Skipped | Lost)
                    else admission.open_record(c.fetched.value, registry, self._parse),
                )
                for c in accepted
            ]
            bundles = _bundles(todo)
            chunks = {
                c.opened.bundle.note_hash: c.chunks
                for c in accepted
                if isinstance(c.opened, Opened)
            }
            with (
                self.connection.cursor(cursor_factory=WaitingCursor) as reading,
                Beside(self._writer, sum(len(b.events) for b in bundles)) as beside,
            ):
                reading.beside = beside
                secret, new = self._blinding_secret, not self._wary
                view = View(reading, registry, bundles, secret, known, left > 1, new)
                pieces = Pieces(cursor, beside, self._signers, self._kinds, chunks)
                taken = FastTurn(view, next_index, max(clock, ledger_time))
                outbox = []
                parts = [todo] if self._wary else _parts(todo)
                rows = beside.do(view.read, cursor, _bundles(parts[0]))
                for part, following in zip_longest(parts, parts[1:]):
                    beside.wait(rows)
                    if following:
                        rows = beside.do(view.read, cursor, _bundles(following))
                    for fetched, opened in part:
                        pieces.go_on(taken, view)
                        source = Source(topic_id, fetched.partition, fetched.offset)
                        outbox.append((taken.take(source, opened), fetched))
                if new:
                    view.check_new(taken)
                next_outbox = self._write(cursor, taken, view, outbox, next_outbox, pieces)
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
        self.keep_numbers()
        outcomes: dict[str, int] = {}
        for one in taken.accounted:
            outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
        admitted = sum(b.codes.count(ADMITTED) for b in taken.logged)
        refused = sum(len(b.codes) for b in taken.logged) - admitted
        done = Applied(outcomes, admitted, refused, taken.next_index)
        if admitted >= MANY:  # freeing so many objects takes milliseconds, for which none wait
            self._cleaner.submit([view, taken, pieces, reading, todo, bundles, outbox].clear)
        return done

    def rehearse(self, values: Sequence[bytes | None]) -> tuple[list[Rehearsed], int]:
        """What the next turn would make of records, one after the other, and the log's next index.

        Nothing is written, and nobody waits: the next turn may find another state.
        """
        with transaction(self.connection) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(sql("read_allocation"))
            ((origin, next_index, ledger_time, _, _),) = cursor.fetchall()
            cursor.execute("SELECT microseconds_now()")
            ((clock,),) = cursor.fetchall()
            registry = read_registry(cursor, origin)
            opened = [admission.open_record(value, registry, self._parse) for value in values]
            bundles = [each for each in opened if isinstance(each, Opened)]
            view = View(cursor, registry, bundles, self._blinding_secret, {}, False)
            view.read(cursor, bundles)
            taken = Turn(view, next_index, max(clock, ledger_time))
            found = []
            for offset, each in enumerate(opened):
                fits = True
                if isinstance(each, Opened):
                    header = each.bundle.header
                    place = (header.department, header.lane)
                    lane = taken.lanes.get(place) or view.lane(*place)
                    fits = header.epoch != lane.epoch or header.previous == lane.previous
                logged = len(taken.logged)
                done = taken.take(Source("rehearsal", 0, offset), each)
                codes = taken.logged[-1].codes if len(taken.logged) > logged else ()
                found.append(Rehearsed(done, codes, fits))
            return found, next_index

    def begin_numbers(self) -> None:
        """A turn begins that may give numbers to signers and kinds of certificates."""
        self._signers.begin()
        self._kinds.begin()

    def keep_numbers(self) -> None:
        """That turn was committed."""
        self._signers.keep()
        self._kinds.keep()

    def _accept(
        self, cursor: Cursor, topic_id: str, batch: Sequence[Checked]
    ) -> tuple[list[Checked], dict[int, tuple[int, int, bytes]]]:
        """The records that are next on their partitions, and how the offsets move."""
        partitions = sorted({c.fetched.partition for c in batch})
        cursor.execute(sql("lock_intake"), {"topic_id": topic_id, "partitions": partitions})
        wanted = {partition: offset for partition, offset, _ in cursor.fetchall()}
        begun = dict(wanted)
        todo: list[Checked] = []
        last: dict[int, Fetched] = {}
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
            last[fetched.partition] = fetched
            todo.append(checked)
        return todo, {
            partition: (begun[partition], fetched.offset + 1, sha256(fetched.value or b"").digest())
            for partition, fetched in last.items()
        }

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
        taken: FastTurn,
        view: View,
        accounted: Sequence[tuple[Accounted, Fetched]],
        next_outbox: int,
        pieces: Pieces,
    ) -> int:
        """Write what `pieces` have left, and all else: the number of the next outbox row."""
        pieces.finish(taken, view)
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

        A note that publishes a catalogue comes with that file, which is kept with it. A loss must
        be just what is missing (`no-such-loss`). Refused, Malformed or ProofError as
        `registry.apply_note` says; nothing is written then.
        """
        with turn(self.connection) as (cursor, row):
            origin, index, ledger_time, _, next_outbox, clock = row
            registry = read_registry(cursor, origin)
            now = max(clock, ledger_time) if at is None else at
            change = apply_note(registry, note, index, now)
            if change is None:
                return None
            if at is None and change.record["name"].startswith("loss/"):
                _check_loss(cursor, registry, change.record["value"])
            entry = format_registry(note, times.format_moment(now))
            cursor.execute(sql("insert_entry"), {"log_index": index, "data": entry})
            name = change.record["name"]
            for record in change.records:
                cursor.execute(
                    sql("upsert_registry_record"),
                    {"name": record["name"], "data": format_record(record), "log_index": index},
                )
            if catalogue is not None:
                version = change.record["value"]["versions"][-1]["version"]
                keep_catalogue(cursor, name, version, catalogue)
            if change.opens_lanes:
                department = name.removeprefix("department/")
                was = registry.lanes(department)
                leaf = merkle.leaf_hash(entry)
                _begin_lanes(cursor, department, was, change.opens_lanes, leaf, index)
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


def _begin_lanes(
    cursor: Cursor, department: str, was: int, count: int, leaf: bytes, index: int
) -> None:
    before = {
        number: lane for (owner, number), lane in read_lanes(cursor).items() if owner == department
    }
    lanes = admission.begin_lanes(before, was, count, leaf, index)
    _move_lanes(cursor, {(department, n): lanes[n] for n in lanes if n in before})
    for number, lane in lanes.items():
        if number not in before:
            cursor.execute(
                sql("insert_lane"),
                {
                    "department": department,
                    "lane": number,
                    "epoch": lane.epoch,
                    "next_sequence": lane.next_sequence,
                    "previous": lane.previous,
                    "signing_time": lane.signing_time,
                    "signed_at": lane.signed_at,
                    "log_index": lane.index,
                },
            )


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


def _check_loss(cursor: Cursor, registry: Registry, value: Mapping[str, Any]) -> None:
    """None when a declared loss begins just where this ledger stands; Refused `no-such-loss`.

    The turn is held, so that nobody takes a record meanwhile.
    """
    loss = parse_loss(value)
    if isinstance(loss, LostLog):
        cursor.execute(sql("read_log_topic"))
        found = cursor.fetchall()
        cursor.execute(sql("read_head"))
        ((size, _),) = cursor.fetchall()
        fits = size == loss.size and [row[:2] for row in found] == [(loss.topic_id, loss.offset)]
    else:
        cursor.execute(sql("read_intake"), {"topic_id": loss.topic_id})
        taken = {partition: offset for partition, offset, _ in cursor.fetchall()}
        fits = loss.topic_id == read_intake_topic(cursor, registry)
        if isinstance(loss, LostIntake):
            cursor.execute(sql("read_intake"), {"topic_id": loss.became})
            fits = fits and taken == dict(loss.taken) and not cursor.fetchall()
        else:
            fits = fits and taken.get(loss.partition) == loss.first
    if not fits:
        raise Refused("no-such-loss", f"that is not where this ledger stands: {loss.words()}")


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
    _move_lanes(cursor, turn.lanes)


def _move_lanes(cursor: Cursor, lanes: Mapping[tuple[str, int], Lane]) -> None:
    """All in one statement: a turn of small bundles moves as many lanes as it has bundles."""
    moved = lanes.values()
    cursor.execute(
        sql("move_lanes"),
        {
            "department": [department for department, _ in lanes],
            "lane": [number for _, number in lanes],
            "epoch": [lane.epoch for lane in moved],
            "producer": [lane.producer for lane in moved],
            "next_sequence": [lane.next_sequence for lane in moved],
            "previous": [lane.previous for lane in moved],
            "signing_time": [lane.signing_time for lane in moved],
            "signed_at": [lane.signed_at for lane in moved],
            "log_index": [lane.index for lane in moved],
        },
    )
    if cursor.rowcount != len(lanes):
        raise Conflict(
            "registry-conflict", f"lanes: {cursor.rowcount} rows moved, {len(lanes)} expected"
        )


def _is_not_new(err: Exception) -> bool:
    """Whether a certificate that was to be issued is there."""
    return isinstance(err, NotNew) or (
        isinstance(err, psycopg2.errors.UniqueViolation)
        and err.diag.constraint_name == "certificate_pkey"
    )


def _add_tallies(cursor: Cursor, turn: FastTurn, view: View) -> None:
    counts = Counter(code for bundle in turn.logged for code in bundle.codes)
    new = turn.certificates.keys() - view.certificates.keys()
    counts["certificates"] = len(new) + len(turn.issued)
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


def _bundles(todo: Sequence[_Todo]) -> list[Opened]:
    return [opened for _, opened in todo if isinstance(opened, Opened)]


def _parts(todo: Sequence[_Todo]) -> list[Sequence[_Todo]]:
    """A batch in parts of PART events, then twice as many, each read when the one before is judged;
    in one where lines ask for more than rows (corrections, reliances).
    """
    parts: list[list[_Todo]] = [[]]
    events = 0
    for one in todo:
        if events >= PART << len(parts) - 1:
            parts.append([])
            events = 0
        parts[-1].append(one)
        if isinstance(one[1], Opened):
            if not _MORE.isdisjoint([line[1] for line in one[1].events]):
                return [todo]
            events += len(one[1].events)
    return list(parts)


def _check_one(cursor: Cursor, what: str) -> None:
    if cursor.rowcount != 1:
        raise Conflict("registry-conflict", f"{what}: {cursor.rowcount} rows moved, 1 expected")
