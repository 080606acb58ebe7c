"""A ledger in a real PostgreSQL, filled through the real store by seeded departments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import psycopg2
from psycopg2.extensions import connection as Connection

from consumers import fsck
from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.errors import Unavailable
from ledger.note import sign
from ledger.policy import NONE, Policy
from ledger.postgres.connection import connect
from ledger.postgres.maps import Maps
from ledger.postgres.migrate import migrate
from ledger.postgres.sequencing import Head, Sequencing
from ledger.postgres.store import Fetched, Store, create_ledger
from ledger.tiles import extend, subtree_reader
from streams.logwriter import LogWriter
from streams.sequencer import Sequencer
from streams.signing import KeyRing
from streams.witnesses import Witnesses
from tests import world

TOPIC = "T" * 22
RING = KeyRing([world.CHECKPOINT])


def make_ledger(url: str, origin: str = world.ORIGIN) -> None:
    """Migrations and genesis by the keys of `tests.world`."""
    connection = connect(url, "test")
    migrate(connection)
    create_ledger(connection, origin, *world.first_keys(origin))
    connection.close()


def query(connection: Connection, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement in a transaction of its own, bytea as bytes."""
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        if cursor.description is None:
            return []
        return [
            tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
            for row in cursor.fetchall()
        ]


def unwitnessed() -> Witnesses:
    """No witness at all: everything signed is published at once."""
    return Witnesses(Policy((), (), {}, NONE), lambda old, new: [], lambda size: None)


class Registrar:
    """Changes the registry of a running ledger with the seeded keys."""

    def __init__(self, store: Store, origin: str = world.ORIGIN) -> None:
        self.store = store
        self.book = world.Book(world.first_registry(origin))

    def apply(self) -> list[int]:
        """Apply what was changed in the book since the last time: the log indexes."""
        done = [self.store.change_registry(note) for note in self.book.notes]
        self.book.notes.clear()
        assert None not in done
        return [index for index in done if index is not None]

    def change(self, name: str, value: Any, *signers: Any) -> int:
        """One change at the ledger's present index."""
        self._sync()
        self.book.change(name, value, *signers)
        return self.apply()[0]

    def add_department(self, name: str, lanes: int = 1) -> dict[int, world.Producer]:
        """A department with its keys; a producer for each of its lanes."""
        self._sync()
        self.book.add_department(name, lanes)
        self.apply()
        rows = query(
            self.store.connection,
            "SELECT lane, previous FROM lane WHERE department = %s ORDER BY lane",
            name,
        )
        return {
            lane: world.Producer(
                name, lane, previous, f"{ord(name[0]) * 100 + lane:032x}", origin=self.book.origin
            )
            for lane, previous in rows
        }

    def set_type(self, *grants: tuple[str, Sequence[str], str]) -> None:
        """Who may do what to certificates of `world.TYPE`."""
        self._sync()
        self.book.set_type(grants)
        self.apply()

    def _sync(self) -> None:
        row = query(self.store.connection, "SELECT next_index FROM allocation")[0]
        self.book.index = row[0]


class StoredLedger:
    """One department `a` with one lane, `b` with one lane; records go to partition 0 by default."""

    def __init__(self, url: str, origin: str = world.ORIGIN) -> None:
        make_ledger(url, origin)
        self.url = url
        self.origin = origin
        self.connection = connect(url, "test-worker", writes=True)
        self.store = Store(self.connection)
        self.registrar = Registrar(Store(connect(url, "test-registry", writes=True)), origin)
        self.producers = {
            (name, lane): producer
            for name in ("a", "b")
            for lane, producer in self.registrar.add_department(name).items()
        }
        self.registrar.set_type(("a", world.ALL_ACTS, "own"), ("b", ["revoked"], "any"))
        self.sequencing = Sequencing(connect(url, "test-sequencer", writes=True))
        self.offsets = {n: o for n, (o, _) in self.store.offsets(TOPIC, [0, 1]).items()}
        self._changes = 0

    def close(self) -> None:
        self.connection.close()
        self.registrar.store.connection.close()
        self.sequencing.connection.close()

    def now(self) -> int:
        return int(self.rows("SELECT microseconds_now()")[0][0])

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows read beside the store, so that its own connection stays as it is."""
        connection = psycopg2.connect(self.url)
        try:
            return query(connection, statement, *parameters)
        finally:
            connection.close()

    def event(self, kind: str, number: str, **members: Any) -> bytes:
        self._changes += 1
        return world.make_event(kind, number, change=str(self._changes), **members)

    def issued(self, *numbers: str, **members: Any) -> list[bytes]:
        return [self.event("issued", number, **members) for number in numbers]

    def make(self, lines: Sequence[bytes], department: str = "a") -> bytes:
        """The department's next record."""
        return self.producers[department, 0].make(lines, self.now())

    def fetched(self, value: bytes | None, partition: int = 0) -> Fetched:
        """A record at the partition's next place."""
        offset = self.offsets[partition]
        self.offsets[partition] += 1
        return Fetched(partition, offset, value)

    def send(self, *values: bytes | None, partition: int = 0) -> dict[str, int]:
        """Records in one batch: how many had which outcome."""
        batch = [self.store.open(self.fetched(value, partition)) for value in values]
        return self.store.apply(TOPIC, batch).outcomes

    def outcome(self, offset: int, partition: int = 0) -> tuple[str, int | None, int | None]:
        """(outcome, log index, outbox number) of a record."""
        ((outcome, index, number),) = self.rows(
            "SELECT outcome, log_index, outbox_number FROM accounting"
            " WHERE partition = %s AND record_offset = %s",
            partition,
            offset,
        )
        return outcome, index, number

    def counts(self) -> dict[str, int]:
        """Events of logged bundles by code."""
        return {
            name: count
            for name, count in self.rows("SELECT name, count FROM tally")
            if name != "certificates"
        }

    def checkpoint(self) -> Head:
        """Steps 6 and 7 without the log topic: the head under its published checkpoint."""
        head = sequence(self.sequencing, Maps.load(self.sequencing.connection))
        assert head is not None
        publish(self.sequencing, head, self.origin)
        return head

    def check(self) -> None:
        """The oracle over the database."""
        connection = connect(self.url, "fsck")
        try:
            found = fsck.run(connection)
        finally:
            connection.close()
        assert found == []


def sequence(store: Sequencing, maps: Maps | None = None) -> Head | None:
    """A status entry, read-back, tiles and head: what the sequencer does before it signs."""
    was = store.head()
    return advance(store, was, store.append_status(maps), maps) if store.has_news(was) else None


def advance(store: Sequencing, was: Head, size: int, maps: Maps | None = None) -> Head:
    """Read-back, tiles and head for the entries from `was` to `size`."""
    changed = extend(was.size, list(store.read_back(was.size, size, maps)), store.tile)

    def read(level: int, index: int) -> bytes:
        found = changed.get((level, index))
        return store.tile(level, index) if found is None else found

    head = Head(size, merkle.tree_root(size, subtree_reader(read)))
    store.advance(was, head, changed, None if maps is None else maps.changed_tiles())
    if maps is not None:
        maps.settle()
    return head


class Topic:
    """A log topic that takes everything, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.written: list[int] = []
        self.fails = fails

    def check(self, *args: Any) -> None:
        pass

    def write(self, size: int, note: bytes) -> None:
        if self.fails:
            raise Unavailable("unreachable", "Kafka: injected")
        self.written.append(size)


def sequencer(ledger: StoredLedger, topic: Topic | None = None) -> Sequencer:
    writer = cast(LogWriter, topic or Topic())
    return Sequencer(ledger.sequencing, writer, RING, unwitnessed(), world.ORIGIN)


def publish(store: Sequencing, head: Head, origin: str = world.ORIGIN) -> None:
    """Step 7 without the log topic."""
    text = Checkpoint(origin, head.size, head.root).text()
    store.keep_checkpoint(head.size, sign(text, [world.signer(origin)]))
    store.publish(head.size)


def damage(url: str, statement: str, *parameters: Any) -> None:
    """Change exactly one row behind the triggers' backs."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(statement, parameters or None)
            assert cursor.rowcount == 1, (statement, cursor.rowcount)
    finally:
        connection.close()


def reset(url: str) -> None:
    """An empty database again, much quicker than making a new one; nobody is left connected."""
    connection = psycopg2.connect(url)
    try:
        query(
            connection,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        query(connection, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        connection.close()
