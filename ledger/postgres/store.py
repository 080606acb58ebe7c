"""Step 5: one transaction per batch under the allocation row's turn, and registry changes."""

from __future__ import annotations

import os
import struct
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import admission, identity, lifecycle, merkle, staterow, times
from ..admission import (
    Accounted,
    Certificate,
    DeadLetter,
    Lane,
    Lost,
    Opened,
    Recorded,
    Skipped,
    Turn,
)
from ..dead_letter import Rehearsed
from ..entry import ADMITTED, Source, format_genesis, format_registry
from ..errors import Conflict, ProofError, Refused, Unavailable
from ..event import CORRECTED, Event
from ..evidence import Step
from ..fast_turn import FastTurn
from ..lifecycle import Transition
from ..loss import LostIntake, LostLog, LostRecords, parse_loss
from ..receipt import format_notice
from ..registry import Registry, apply_note, format_record, genesis_records
from ..reliance import Reliance
from ..staterow import NO_HOLDER
from ..topics import lane_key
from .connection import transaction, turn
from .copying import bigint, copy, copy_packed, integer
from .history_reading import chunk_of, read_events
from .relying import Reliances, write_reliances
from .rows import (
    keep_catalogue,
    pack_lines,
    read_blinding_secret,
    read_intake_topic,
    read_lanes,
    read_origin,
    read_registry,
)
from .statements import sql

# Rows of binary COPY: the number of fields, then each field behind its length.
_new_row = struct.Struct("!hi16si16siiiii").pack  # state, the history's length and it follow
_changed_row = struct.Struct("!hi16si").pack  # likewise
_length = struct.Struct("!i").pack
_holder_row = struct.Struct("!hi16si16siqi32si").pack  # the recent acts follow
_act_row = struct.Struct("!hi16siqi").pack  # the acts follow
_act = struct.Struct(">Q").pack

CHUNKS_IN_TURN = 64  # of event lines that are read while others wait
ACTS = 64  # of a holder in one row of older ones
ACTS_SIZE = 8 * ACTS  # bytes
ATTEMPTS = 4  # before that no longer counts


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
    chunks: Sequence[bytes] = ()


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
        self._signers = _Numbers("read_signers", "insert_signer")
        self._kinds = _Numbers("read_kinds", "insert_kind")
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

    def open(self, fetched: Fetched) -> Checked:
        """Step 4 for one record, by the registry as last seen; may run beside `apply`."""
        index, registry = self._registry
        opened = admission.open_record(fetched.value, registry, self._parse)
        chunks = pack_lines(opened.bundle.lines) if isinstance(opened, Opened) else ()
        return Checked(fetched, opened, index, chunks)

    def apply(self, topic_id: str, batch: Sequence[Checked]) -> Applied:
        """Step 5: record a batch, all of it or nothing. Records below the next offset are passed
        over; one above it is Conflict `offset-jump`.

        What repeated ids and corrections need of older event lines is read before the turn where
        it is much: lines never change.
        """
        known: dict[int, _Known] = {}
        for left in range(ATTEMPTS, 0, -1):
            try:
                return self._apply(topic_id, batch, known, left > 1)
            except _LetGo as let_go:
                self._read_ahead(let_go.places, known)
        raise AssertionError("the last attempt lets nothing go")

    def _read_ahead(self, places: Sequence[int], known: dict[int, _Known]) -> None:
        for begin in range(0, len(places), 1024):
            with transaction(self.connection) as cursor:
                known.update(_read_known(cursor, places[begin : begin + 1024]))

    def _apply(
        self, topic_id: str, batch: Sequence[Checked], known: dict[int, _Known], may_let_go: bool
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
            bundles = [o for _, o in todo if isinstance(o, Opened)]
            view = _View(cursor, registry, bundles, self._blinding_secret, known, may_let_go)
            taken = FastTurn(view, next_index, max(clock, ledger_time))
            outbox = []
            for fetched, opened in todo:
                source = Source(topic_id, fetched.partition, fetched.offset)
                outbox.append((taken.take(source, opened), fetched))
            chunks = {
                c.opened.bundle.note_hash: c.chunks
                for c in accepted
                if isinstance(c.opened, Opened)
            }
            next_outbox = self._write(cursor, taken, view, outbox, next_outbox, chunks)
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
        for done in taken.accounted:
            outcomes[done.outcome] = outcomes.get(done.outcome, 0) + 1
        admitted = sum(b.codes.count(ADMITTED) for b in taken.logged)
        refused = sum(len(b.codes) for b in taken.logged) - admitted
        return Applied(outcomes, admitted, refused, taken.next_index)

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
            view = _View(cursor, registry, bundles, self._blinding_secret, {}, False)
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
        taken: Turn,
        view: _View,
        accounted: Sequence[tuple[Accounted, Fetched]],
        next_outbox: int,
        chunks: Mapping[bytes, Sequence[bytes]],
    ) -> int:
        """`chunks`: the lines of bundles as they are stored, by the hash of the note."""
        _copy_entries(cursor, taken, self._signers, chunks)
        _copy_certificates(cursor, taken, view, self._kinds)
        _copy_holders(cursor, taken, view)
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


class _Numbers:
    """Numbers, from 1, of pairs of words that rows would otherwise repeat. One turn's new ones
    count for the next turn only when it was committed.
    """

    def __init__(self, read: str, insert: str) -> None:
        self._read, self._insert = read, insert
        self._known: dict[tuple[str, str], int] = {}
        self._fresh: dict[tuple[str, str], int] = {}

    def begin(self) -> None:
        """A turn begins."""
        self._fresh = {}

    def keep(self) -> None:
        """The turn was committed."""
        self._known |= self._fresh
        self._fresh = {}

    def number(self, cursor: Cursor, first: str, second: str) -> int:
        """The number of a pair, given now if it has none."""
        pair = (first, second)
        number = self._known.get(pair) or self._fresh.get(pair)
        if number is None and not self._fresh:  # another writer may have given it
            cursor.execute(sql(self._read))
            self._known = {(one, other): each for one, other, each in cursor.fetchall()}
            number = self._known.get(pair)
        if number is None:
            number = self._fresh[pair] = len(self._known) + len(self._fresh) + 1
            cursor.execute(sql(self._insert), {"number": number, "first": first, "second": second})
        return number


class _Known(NamedTuple):
    """What an older event line says that the turn needs."""

    line_hash: bytes
    transition: Transition  # but for its version


class _LetGo(Exception):
    """The turn is let go: it needs the event lines at these places."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"{len(places)} event lines to read")
        self.places = places


def _read_known(cursor: Cursor, places: Iterable[int]) -> dict[int, _Known]:
    return {
        place: _Known(logged.event.line_hash, logged.transition())
        for place, logged in read_events(cursor, places)
    }


class _View:
    """`admission.View` over the open transaction, with what the batch needs read at once."""

    def __init__(
        self,
        cursor: Cursor,
        registry: Registry,
        batch: Sequence[Opened],
        blinding_secret: bytes,
        known: dict[int, _Known],
        may_let_go: bool,
    ) -> None:
        """`known`: what was read before of older event lines, by place; the rest is read here, or
        _LetGo raised where that is much.
        """
        self.blinding_secret = blinding_secret
        self._cursor = cursor
        self.registry = registry
        self._known = known
        self._batch, self._may_let_go = batch, may_let_go
        self._chunks = 0  # read in this turn
        self._lanes = self._read_lanes(batch)
        self.histories: dict[bytes, bytes] = {}  # as rows have them
        self._steps: dict[bytes, list[Step]] = {}  # of those that were asked for
        self._taken: set[bytes] = set()  # map keys whose head is another's
        self.holders: dict[bytes, tuple[int, bytes, bytes]] = {}  # acts, link, recent acts
        events = [e for opened in batch for e in opened.events if isinstance(e, Event)]
        acts = [e for opened in batch for e in opened.events if isinstance(e, Reliance)]
        relied = {key for act in acts for key, _, _ in act.certificates}
        self.certificates = self._read_certificates({e.key for e in events} | relied)
        # Weakly: in a cycle, all that the turn knew would stay until the next search for cycles.
        view = weakref.proxy(self)
        self.relying = Reliances(
            cursor, registry, batch, self.certificates, lambda key: list(view.steps(key))
        )
        alike = self._alike(events)
        places = {place for _, found in alike for place in found}
        if any(event.kind == CORRECTED for event in events):
            places |= self._corrected(batch)
        if acts:
            places |= self._relied(batch)
        self._read_lines(places, list)
        for event, found in alike:
            for place in found:
                said = self._known[place]
                ids = self.certificates[event.key].event_ids
                ids[said.transition.id] = said.line_hash
        holders = {e.holder_key for e in events if e.holder_key is not None}
        if holders:
            self._read_holders(holders)

    def _read_certificates(self, keys: set[bytes]) -> dict[bytes, Certificate]:
        found: dict[bytes, Certificate] = {}
        if not keys:
            return found
        self._cursor.execute(sql("read_certificates"), _joined(keys))
        for data, state, history in self._cursor.fetchall():
            key = bytes(data)
            self.histories[key] = bytes(history)
            row = staterow.open_row(key, bytes(state), self.histories[key])
            holder = None if row.holder == NO_HOLDER else row.holder
            found[key] = Certificate(row.standing, row.link, holder, {}, row.kept)
        strangers = found.keys() - keys
        if strangers:
            heads = {key[: identity.HEAD] for key in strangers}
            self._taken |= {key for key in keys if key[: identity.HEAD] in heads}
        return found

    def _alike(self, events: Iterable[Event]) -> list[tuple[Event, list[int]]]:
        """The events that may have the id of an older one, and the places of those."""
        histories = self.histories
        known = [event for event in events if event.key in histories]
        found = [(event, staterow.alike(histories[event.key], event.id)) for event in known]
        return [(event, places) for event, places in found if places]

    def _corrected(self, batch: Sequence[Opened]) -> set[int]:
        """The places of all events of the certificates that the batch corrects, as far as its
        bundles may fold histories.
        """
        found: set[int] = set()
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
                found.update(staterow.places(self.histories[event.key]))
        return found

    def _relied(self, batch: Sequence[Opened]) -> set[int]:
        """The places of all events of the certificates that the batch relies on, likewise."""
        keys = self.relying.judged(batch)
        return {p for key in keys for p in staterow.places(self.histories[key])}

    def _read_lines(
        self, places: Iterable[int], ahead: Callable[[list[int]], Sequence[int]]
    ) -> None:
        """Read what is not known; _LetGo with what `ahead` makes of it, where it is much."""
        missing = [place for place in places if place not in self._known]
        self._chunks += len({chunk_of(place) for place in missing})
        if missing and self._may_let_go and self._chunks > CHUNKS_IN_TURN:
            raise _LetGo(ahead(missing))
        self._known.update(_read_known(self._cursor, missing))

    def _from(self, key: bytes) -> list[int]:
        """The unknown places of the histories that lines may ask for from this certificate's on, as
        many as one bundle may fold: those before were refused, or are known.
        """
        asked: dict[bytes, None] = {}
        for opened in self._batch:
            for item in opened.events:
                if isinstance(item, Reliance):
                    asked.update(dict.fromkeys(key for key, _, _ in item.certificates))
                elif isinstance(item, Event) and item.kind == CORRECTED:
                    known = self.certificates.get(item.key)
                    if known and known.standing.count <= lifecycle.MAX_CORRECTABLE:
                        asked[item.key] = None
        asked.setdefault(key)
        keys, found = list(asked), list[int]()
        for other in keys[keys.index(key) :]:
            history = self.histories.get(other)
            places = [] if history is None else staterow.places(history)
            found += [place for place in places if place not in self._known]
            if len(found) >= admission.MAX_FOLDED:
                break
        return found

    def _read_holders(self, keys: set[bytes]) -> None:
        """Read holders' records by their whole map keys, and who holds the batch's certificates."""
        before = {c.holder for c in self.certificates.values() if c.holder is not None}
        whole: dict[bytes, bytes] = {}
        self._cursor.execute(sql("read_holders"), _joined(keys | before))
        for data, acts, link, recent in self._cursor.fetchall():
            key = bytes(data)
            whole[key[: identity.HEAD]] = key
            self.holders[key] = (acts, bytes(link), bytes(recent))
        self._taken |= {key for key in keys if whole.get(key[: identity.HEAD], key) != key}
        for certificate in self.certificates.values():
            if certificate.holder is not None:
                if certificate.holder not in whole:
                    raise ProofError("stored-bytes-damaged", "a holder's record is missing")
                certificate.holder = whole[certificate.holder]

    def _read_lanes(self, batch: Sequence[Opened]) -> dict[tuple[str, int], Lane]:
        headers = [opened.bundle.header for opened in batch]
        places = sorted({(header.department, header.lane) for header in headers})
        self._cursor.execute(
            sql("read_turn_lanes"),
            {"departments": [name for name, _ in places], "lanes": [lane for _, lane in places]},
        )
        return {
            (department, number): Lane(epoch, producer, after, bytes(previous), time, at, index)
            for department, number, epoch, producer, after, previous, time, at, index
            in self._cursor.fetchall()
        }  # fmt: skip

    def lane(self, department: str, lane: int) -> Lane:
        known = self._lanes.get((department, lane))
        if known is None:
            raise Unavailable("not-initialised", f"lane {department}/{lane} has no row")
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
        if key in self._taken:
            raise Refused("key-taken")
        return self.certificates.get(key)

    def history(self, key: bytes) -> list[Transition]:
        return [step.transition for step in self.steps(key)]

    def steps(self, key: bytes) -> list[Step]:
        """A certificate's history with its places."""
        if key in self._steps:
            return self._steps[key]
        data = self.histories.get(key)
        if data is None:
            return []
        places = staterow.places(data)
        self._read_lines(places, lambda _: self._from(key))
        history = staterow.steps([(place, *self._known[place]) for place in places])
        if staterow.link_over(key, history) != self.certificates[key].link:
            raise ProofError("stored-bytes-damaged", f"the history of certificate {key.hex()}")
        self._steps[key] = history
        return history

    def holder(self, key: bytes) -> tuple[int, bytes]:
        if key in self._taken:
            raise Refused("key-taken")
        return self.holders.get(key, (0, b""))[:2]


def _joined(keys: Collection[bytes]) -> dict[str, Any]:
    """The heads of map keys as one value, which the statement cuts: thousands of literals cost
    more to print and to parse than the rows to read.
    """
    return {"heads": b"".join([key[: identity.HEAD] for key in keys]), "count": len(keys)}


def _copy_entries(
    cursor: Cursor, turn: Turn, signers: _Numbers, chunks: Mapping[bytes, Sequence[bytes]]
) -> None:
    copy(
        cursor,
        "entry",
        "log_index, data",
        ((bigint(index), entry) for index, entry in turn.entries),
    )
    rows: list[tuple[bytes, ...]] = []
    for b in turn.logged:
        bundle = b.opened.bundle
        department, key_id = bundle.header.department, b.opened.key.key_id
        signer = integer(signers.number(cursor, department, key_id))
        rows += [
            (bigint(b.index), integer(number), chunk, signer)
            for number, chunk in enumerate(chunks.get(bundle.note_hash) or pack_lines(bundle.lines))
        ]
    copy(cursor, "lines", "log_index, chunk, data, signer", rows)
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


def _copy_certificates(cursor: Cursor, turn: Turn, view: _View, kinds: _Numbers) -> None:
    added: dict[bytes, bytes] = {}
    for b in turn.logged:
        for a in b.admitted:
            packed = staterow.pack_item(b.index, a.position, a.event.id)
            added[a.key] = added[a.key] + packed if a.key in added else packed
    new: list[bytes] = []
    changed: list[bytes] = []
    for key, (item, certificate) in turn.certificates.items():
        holder = (certificate.holder or NO_HOLDER)[: identity.HEAD]
        state = staterow.pack_row(
            key,
            certificate.standing,
            certificate.link,
            holder,
            certificate.kept,
            view.histories.get(key, b"") + added[key],
        )
        rest = (state, _length(len(added[key])), added[key])
        if key in view.certificates:
            changed += (_changed_row(3, 16, key[:16], len(state)), *rest)
        else:
            kind = kinds.number(cursor, item.type_code, item.issuer)
            number = staterow.number_hash(item.number)
            head = _new_row(6, 16, key[:16], 16, key[16:], 4, kind, 4, number, len(state))
            new += (head, *rest)
    copy_packed(cursor, "certificate", "map_key, rest, kind, number_hash, state, history", new)
    if changed:
        copy_packed(cursor, "changed", "map_key, state, added", changed)
        cursor.execute(sql("update_changed"))
        if cursor.rowcount * 4 != len(changed):
            raise Conflict("registry-conflict", "a current state vanished under the turn")


def _copy_holders(cursor: Cursor, turn: Turn, view: _View) -> None:
    if not turn.holders:
        return
    recent = {key: view.holders[key][2] if key in view.holders else b"" for key in turn.holders}
    for b in turn.logged:
        for act in b.acts:
            place = staterow.place(b.index, act.position)
            recent[act.holder] += _act(place << 1 | act.bound)
    rows: list[bytes] = []
    older: list[bytes] = []
    for key, (acts, link) in turn.holders.items():
        data = recent[key]
        whole = len(data) // ACTS_SIZE
        first = acts - len(data) // 8
        for n in range(whole):
            part = data[n * ACTS_SIZE : (n + 1) * ACTS_SIZE]
            older += (_act_row(3, 16, key[:16], 8, first + n * ACTS, ACTS_SIZE), part)
        data = data[whole * ACTS_SIZE :]
        rows += (_holder_row(5, 16, key[:16], 16, key[16:], 8, acts, 32, link, len(data)), data)
    copy_packed(cursor, "holder_act", "map_key, ordinal, acts", older)
    copy_packed(cursor, "bound", "map_key, rest, acts, link, recent", rows)
    cursor.execute(sql("upsert_holders"))
    if cursor.rowcount != len(turn.holders):
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
