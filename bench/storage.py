"""Bytes on disk per event, table by table, and the floor: what PostgreSQL takes of the same rows.

Storage: a ledger filled through store, sequencer and relay, the follower caught up, then VACUUM;
Kafka's log and the WAL are left out, the rest of the database is not.

Floor: every row and byte that the store wrote for each bundle, written again in the same way into
an empty database of the same server by one connection, a transaction a bundle, nothing else
running.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, cursor, make_dsn
from psycopg2.extensions import connection as Connection

from ledger import topics
from ledger.fast_events import parse_lines
from ledger.postgres.connection import connect, transaction
from ledger.postgres.following import Following
from ledger.postgres.migrate import migrate
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Fetched, Store
from streams.kafka_topics import describe_topic
from streams.logwriter import LogWriter
from streams.relay import Relay, make_producer
from streams.sequencer import Sequencer
from streams.signing import KeyRing

from .ledgers import Ledger, fresh_ledger, unwitnessed
from .processes import Cost, cost
from .town import Plan

Say = Callable[[str], None]
PER_TURN = 8  # bundles
_SIZES = (
    "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)
_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)
_WHOLE = "SELECT pg_database_size(current_database())"
_MOVED = ("allocation", "lane", "intake", "tally")  # rows that a bundle moves


@dataclass(frozen=True, slots=True)
class Stored:
    """What a ledger of so many events takes."""

    events: int
    certificates: int
    mean_line: float
    tables: dict[str, float]  # bytes per event, indexes and TOAST included
    whole: float  # bytes per event by which the whole database grew


@dataclass(frozen=True, slots=True)
class Floor:
    """What one connection sustains, and what that costs client and server per event."""

    rate: float  # events per second
    client_us: float
    server_us: float


def measure(plan: Plan, say: Say) -> Stored:
    """Bytes per event of a plan's ledger."""
    with fresh_ledger(plan.departments, plan.lanes, ()) as ledger:
        before = _sizes(ledger)
        _fill(ledger, plan, say)
        connection = psycopg2.connect(ledger.settings.postgres)
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as vacuum:
            vacuum.execute("VACUUM")
        connection.close()
        after = _sizes(ledger)
    grown = {name: (size - before[name]) / plan.events for name, size in after.items()}
    whole = grown.pop("")
    return Stored(plan.events, plan.certificates, plan.mean_line, grown, whole)


def _sizes(ledger: Ledger) -> dict[str, int]:
    """Bytes of each table, of the database under the empty name."""
    with transaction(ledger.connection) as reading:
        reading.execute(_SIZES)
        found = dict(reading.fetchall())
        reading.execute(_WHOLE)
        ((found[""],),) = reading.fetchall()
    return found


def _fill(ledger: Ledger, plan: Plan, say: Say) -> None:
    """Steps 4 to 7 in this process, then the follower."""
    settings = ledger.settings
    store = Store(connect(settings.postgres, "worker", writes=True), parse_lines)
    topic_id, _ = describe_topic(settings.kafka, topics.EVENTS)
    store.offsets(topic_id, [0])
    sequencing = Sequencing(connect(settings.postgres, "sequencer", writes=True))
    sequencing.lead()
    writer = LogWriter(settings.kafka, sequencing)
    keys = settings.data_dir / "keys"
    ring = KeyRing.of_files(keys / "checkpoint.key", keys / "cosigner.key")
    sequencer = Sequencer(sequencing, writer, ring, unwitnessed(), ledger.origin)
    sequencer.start()
    relay = Relay(
        Sequencing(connect(settings.postgres, "relay")), make_producer(settings.kafka, "relay")
    )
    for first in range(0, len(plan.bundles), PER_TURN):
        signed = ledger.sign(plan.bundles[first : first + PER_TURN])
        batch = [store.open(Fetched(0, first + n, each.value)) for n, each in enumerate(signed)]
        done = store.apply(topic_id, batch)
        if done.refused or done.outcomes != {"logged": len(batch)}:
            raise AssertionError(f"{done}")
        sequencer.round()
        while relay.round():
            pass
        if first % 80 == 0:
            say(f"{first * plan.size:,} of {plan.events:,} events stored")
    writer.close()
    follower = Following(connect(settings.postgres, "follower"), os.urandom(32))
    follower.lead()
    now = time.time_ns() // 1000
    while follower.follow(now):
        pass
    say("followed")


class _Recorder(cursor):
    """A cursor that remembers what it writes."""

    writes: list[tuple[bytes, bytes | None, int]]  # a statement, what it copies, rows it met

    def execute(self, query: Any, vars: Any = None) -> None:
        """Run a statement."""
        super().execute(query, vars)
        text = bytes(self.query or b"")
        verb = text.lstrip(b"-").partition(b"\n")[2] if text.startswith(b"--") else text
        if verb.startswith((b"INSERT", b"UPDATE")):
            # by key: rows lie elsewhere where nothing reads between the writes
            text = re.sub(rb"\w+\.ctid = (\w+\.at)", rb"\1 IS NOT NULL", text)
            self.writes.append((text, None, self.rowcount))

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a COPY."""
        if "FROM STDIN" not in sql:
            super().copy_expert(sql, file, size)
            return
        data = file.read()
        super().copy_expert(sql, io.BytesIO(data), size)
        self.writes.append((sql.encode(), data, self.rowcount))


def floor(plan: Plan, say: Say) -> Floor:
    """How fast the rows of a plan's bundles are written, by nothing but writing them."""
    with fresh_ledger(plan.departments, plan.lanes, ()) as ledger:
        settings = ledger.settings
        connection = connect(settings.postgres, "worker", writes=True)
        store = Store(connection, parse_lines)
        topic_id, _ = describe_topic(settings.kafka, topics.EVENTS)
        store.offsets(topic_id, [0])
        target = _empty_copy(ledger)
        empty = _count(ledger.connection), _count(target)
        turns = []
        for number, each in enumerate(ledger.sign(plan.bundles)):
            _Recorder.writes = []
            connection.cursor_factory = _Recorder
            store.apply(topic_id, [store.open(Fetched(0, number, each.value))])
            turns.append(_Recorder.writes)
        say(f"{sum(len(turn) for turn in turns):,} statements recorded for {len(turns)} bundles")
        with target.cursor() as reading:
            reading.execute("SELECT pg_backend_pid()")
            ((pid,),) = reading.fetchall()
        ours, theirs, begun = time.process_time(), cost(pid), time.perf_counter()
        for turn in turns:
            with target, target.cursor() as writing:
                for statement, data, met in turn:
                    if data is None:
                        writing.execute(statement)
                    else:
                        writing.copy_expert(statement.decode(), io.BytesIO(data), 1 << 20)
                    if writing.rowcount != met:
                        raise AssertionError(
                            f"met {writing.rowcount} rows, not {met}: {statement!r}"
                        )
        seconds = time.perf_counter() - begun
        client, server = time.process_time() - ours, _since(theirs, cost(pid))
        added = _count(target) - empty[1]
        if added != _count(ledger.connection) - empty[0]:
            raise AssertionError(f"the floor did not write the store's rows: {added}")
        target.close()
    return Floor(plan.events / seconds, client / plan.events * 1e6, server / plan.events * 1e6)


def _count(connection: Connection) -> Counter[str]:
    """The rows of every table."""
    counted: Counter[str] = Counter()
    with transaction(connection) as reading:
        reading.execute(_TABLES)
        for (name,) in reading.fetchall():
            reading.execute(f"SELECT count(*) FROM {name}")
            ((counted[name],),) = reading.fetchall()
    return counted


def _since(before: Cost, after: Cost) -> float:
    return after.seconds - before.seconds


def _empty_copy(ledger: Ledger) -> Connection:
    """A connection to a database as the ledger's was before the first bundle."""
    url = ledger.settings.postgres
    making = psycopg2.connect(url)
    making.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with making.cursor() as create:
        create.execute("CREATE DATABASE floor")
    making.close()
    target = connect(make_dsn(url, dbname="floor"), "floor", writes=True)
    migrate(target)
    with transaction(ledger.connection) as source, transaction(target) as copy:
        for table in _MOVED:
            data = io.BytesIO()
            source.copy_expert(f"COPY {table} TO STDOUT", data)
            data.seek(0)
            copy.copy_expert(f"COPY {table} FROM STDIN", data)
    Store.prepare(target)
    return target
