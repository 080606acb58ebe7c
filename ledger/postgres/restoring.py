"""Bringing a restored database up to what the log topic says (D12): nothing is decided again.

Order, outcomes, times and registry changes are those of the log; states, histories and delta lists
follow from the lines, and every entry has to come out byte for byte, or the restore stops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg2.extensions import connection as Connection

from .. import admission, merkle, times
from ..admission import Accounted, Lost, Opened, Skipped
from ..entry import ADMITTED, REGISTRY, code_at, format_registry, format_status, map_heads
from ..errors import CODES, ProofError
from ..fast_turn import FastTurn
from ..replaying import Step
from .connection import transaction, turn
from .rows import read_leaves, read_placed, read_registry, write_registry_snapshot
from .sequencing import LogTopic
from .statements import sql
from .store import Checked, Fetched, Store
from .turn_writing import Beside, Pieces
from .view import View


@dataclass(frozen=True, slots=True)
class Position:
    """How far a database has come."""

    next_index: int
    next_outbox: int
    offsets: dict[tuple[str, int], int]  # (topic id, partition): next offset
    log_topic: LogTopic | None


def read_position(connection: Connection) -> Position:
    """How far the ledger in a database has come."""
    with transaction(connection) as cursor:
        cursor.execute(sql("read_allocation"))
        ((_, next_index, _, _, next_outbox),) = cursor.fetchall()
        cursor.execute(sql("read_all_intake"))
        offsets = {(topic_id, partition): offset for topic_id, partition, offset in cursor}
        cursor.execute(sql("read_log_topic"))
        row = cursor.fetchone()
    return Position(next_index, next_outbox, offsets, None if row is None else LogTopic(*row))


class Restoring:
    """A restored database that is being brought forward; nobody else works in it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._store = Store(connection)

    def take(self, step: Step, record: bytes | None) -> None:
        """One step in a transaction of its own; `record` is the Kafka record at its source.

        ProofError `stored-bytes-damaged` when the entry does not come out of it.
        """
        if step.source is not None:
            self._take_record(step, record)
        elif step.value is not None and step.value["kind"] == REGISTRY:
            self._take_registry(step)
        else:
            self._take_status(step)
        # A crash after any of them leaves a shorter ledger, and the restore begins anew.

    def _take_record(self, step: Step, record: bytes | None) -> None:
        assert step.source is not None
        topic_id, partition, offset = (
            step.source.topic_id,
            step.source.partition,
            step.source.offset,
        )
        store = self._store
        store.begin_numbers()
        with turn(self.connection) as (cursor, allocation):
            origin, next_index, ledger_time, registry_index, next_outbox, _ = allocation
            registry = read_registry(cursor, origin)
            now = _moment(step) or ledger_time
            said = None if step.row is None else step.row.outcome
            opened: Opened | admission.DeadLetter | Skipped | Lost
            if said == admission.SKIPPED:
                opened = Skipped()
            elif step.row is not None and said == admission.LOST:
                opened = Lost(step.row.log_index or 0)
            else:
                opened = admission.open_record(record, registry)
            if isinstance(opened, Opened) and step.row is None:
                opened = _as_logged(step, opened)
            fetched = Fetched(partition, offset, record)
            cursor.execute(sql("insert_intake"), {"topic_id": topic_id, "partition": partition})
            _, moves = store._accept(cursor, topic_id, [Checked(fetched, opened, registry_index)])
            bundles = [opened] if isinstance(opened, Opened) else []
            view = View(cursor, registry, bundles, store._blinding_secret, {}, may_let_go=False)
            pieces = Pieces(cursor, Beside(), store._signers, store._kinds, {})
            view.read(cursor, bundles)
            taken = FastTurn(view, next_index, now)
            done = taken.take(step.source, opened)
            wanted = [] if step.index is None else [(step.index, step.entry)]
            if taken.entries != wanted or (step.row is None and done.outcome != admission.LOGGED):
                raise _differs(step, f"it is {done.outcome} {done.code or ''}")
            accounted = [(_as_said(step, done), fetched)]
            next_outbox = store._write(cursor, taken, view, accounted, next_outbox, pieces)
            store._move_intake(cursor, topic_id, moves)
            self._move(cursor, next_index, taken.next_index, now, registry_index, next_outbox)
        store.keep_numbers()

    def _take_registry(self, step: Step) -> None:
        note = str(step.value["note"]).encode() if step.value else b""
        now = _moment(step)
        if format_registry(note, times.format_moment(now)) != step.entry:
            raise _differs(step, "its note gives other bytes")
        index = self._store.change_registry(note, at=now)
        if index != step.index:
            raise _differs(step, f"its change got index {index}")

    def _take_status(self, step: Step) -> None:
        with turn(self.connection) as (cursor, allocation):
            _, index, _, registry_index, next_outbox, _ = allocation
            leaves = read_leaves(cursor, read_placed(cursor))
            now = _moment(step)
            heads = None if step.value is None else map_heads(step.value)
            root = merkle.root(list(map(merkle.leaf_hash, leaves)))
            entry = format_status(index, root, times.format_moment(now), heads)
            if (index, entry) != (step.index, step.entry):
                raise _differs(step, "the registry has another root")
            cursor.execute(sql("insert_entry"), {"log_index": index, "data": entry})
            said = {"log_index": index, "ledger_time": now, "maps": heads is not None}
            cursor.execute(sql("insert_status"), said)
            write_registry_snapshot(cursor, index, leaves)
            self._move(cursor, index, index + 1, now, registry_index, next_outbox)

    def _move(
        self, cursor: object, was: int, index: int, now: int, registry: int, outbox: int
    ) -> None:
        cursor.execute(  # type: ignore[attr-defined]
            sql("move_allocation"),
            {
                "was": was,
                "next_index": index,
                "ledger_time": now,
                "registry_index": registry,
                "next_outbox": outbox,
            },
        )

    def finish(self, topic_id: str, last_offset: int, entries: int, outbox: int) -> None:
        """Remember that the log topic, up to its last record, holds what is here."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("insert_log_topic"), {"topic_id": topic_id})
            cursor.execute(
                sql("move_log_topic"),
                {"last_offset": last_offset, "entries": entries, "outbox": outbox},
            )


def _moment(step: Step) -> int:
    return 0 if step.value is None else times.parse_moment(step.value["time"])


def _as_logged(step: Step, opened: Opened) -> Opened:
    """The bundle whose refused events carry the codes that the log says."""
    outcome: Mapping[str, Sequence[int]] = {} if step.value is None else step.value["outcome"]
    codes = [code_at(outcome, position) for position in range(len(opened.events))]
    events = tuple(
        event if code == ADMITTED else str(code)
        for event, code in zip(opened.events, codes, strict=True)
    )
    return replace(opened, events=events)


def _as_said(step: Step, done: Accounted) -> Accounted:
    """What became of a record that was not logged, as its row says."""
    row = step.row
    if row is None or (row.outcome, row.code, row.log_index) == (
        done.outcome,
        done.code,
        done.index,
    ):
        return done
    message = None if row.code is None else CODES[row.code].sentence
    return Accounted(
        done.source, row.outcome, row.code, message, row.log_index, getattr(done, "bundle", None)
    )


def _differs(step: Step, why: str) -> ProofError:
    return ProofError(
        "stored-bytes-damaged",
        f"entry {step.index} of the log topic (record at {step.source}) does not come out of what "
        f"is here: {why}",
    )
