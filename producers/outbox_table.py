"""The outbox in a department's own PostgreSQL: what is to be published, and what became of it.

`sql/outbox.sql` makes the table and says what its columns mean. A row is *untaken*, then *taken*
(it has an event id), then answered (an outcome beside it). A row that can be no event is *held*: it
has an outcome and no event id, and later rows of its certificate wait for it until somebody mends
it (and sets its outcome to NULL) or deletes it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from ledger import identity
from ledger.entry import ADMITTED
from ledger.errors import CODES, Conflict, Malformed, Unavailable

from .lines import Line, parse_plain
from .publisher import REPEAT, EventReceipt

_BATCH = 500  # rows in one transaction
_MOST_ROW = 256 * 1024  # characters of a row as JSON
_LOCK_SECONDS = 3.0
# The server ends sessions that nobody is behind any more, and with them their locks.
_OPTIONS = (
    "-c timezone=UTC -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s "
    "-c synchronous_commit=on -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 "
    "-c tcp_keepalives_count=3"
)
_NO_TABLE = (
    "this database has no table certledger.outbox as this version needs it (%s): "
    "`certledger outbox ddl` prints what makes it, for psql"
)

Maker = Callable[[Mapping[str, Any]], Line]


@cache
def sql(name: str) -> str:
    """The statement in sql/NAME.sql; its first line says what it does."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text()


@dataclass(frozen=True, slots=True)
class Answered:
    """A row and its outcome."""

    id: int
    change_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What one transaction took: lines in order, rows that can be none, how many more wait."""

    lines: list[Line]
    held: list[Answered]
    waiting: int

    def __bool__(self) -> bool:
        return bool(self.lines or self.held or self.waiting)


class OutboxTable:
    """The table at `url` (libpq), for one runner alone; answers are written from another thread.

    Unavailable `unreachable` when PostgreSQL does not answer, Conflict `relay-moved` while another
    process has it, Malformed `usage` when the table is not there as it must be.
    """

    def __init__(self, url: str, department: str) -> None:
        self._department = department
        self._answers: Connection | None = None
        self._rows = _connect(url)
        try:
            self._rows.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ)
            self._check()
            self._lock()
            self._answers = _connect(url)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the table free for another runner."""
        for connection in (self._rows, self._answers):
            if connection is not None:
                connection.close()

    def _check(self) -> None:
        with _transaction(self._rows) as cursor:
            cursor.execute(sql("check_outbox"))
            numbered, encoding = cursor.fetchone() or (False, "")
        if not numbered:
            raise Malformed("usage", _NO_TABLE % "trigger number_at_commit is missing or disabled")
        if encoding == "SQL_ASCII":
            raise Malformed("usage", "this database's encoding, SQL_ASCII, does not say characters")

    def _lock(self) -> None:
        """Take the outbox; waits a moment for the session of one that has just ended."""
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            with _transaction(self._rows) as cursor:
                cursor.execute(sql("lock_outbox"))
                if cursor.fetchone() == (True,):
                    return
            if time.monotonic() > end:
                raise Conflict(
                    "relay-moved", "another `certledger outbox run` works on this outbox"
                )
            time.sleep(0.1)

    def forget_taken(self) -> None:
        """Let rows without an outcome be taken again: for when the spool has nothing of theirs."""
        with _transaction(self._rows) as cursor:
            cursor.execute(sql("forget_taken"))

    def held(self) -> tuple[int, int]:
        """(rows that can be no event, rows that wait for them)."""
        with _transaction(self._rows) as cursor:
            cursor.execute(sql("count_held"))
            held, waiting = cursor.fetchone() or (0, 0)
            return held, waiting

    def take(self, make: Maker) -> Taken:
        """Take the next rows in the order of their commits. Until this returns none is taken."""
        while True:
            try:
                return self._take(make)
            except errors.SerializationFailure:
                continue  # the application changed one of them meanwhile

    def _take(self, make: Maker) -> Taken:
        with _transaction(self._rows) as cursor:
            cursor.execute(sql("release_waiting"))
            cursor.execute(sql("read_untaken"), {"length": _MOST_ROW + 1, "limit": _BATCH})
            rows = [_Row(*row) for row in cursor.fetchall()]
            if not rows:
                return Taken([], [], 0)
            keys = [row.key(self._department) for row in rows]
            cursor.execute(sql("read_held"), {"keys": keys})
            held = {bytes(key): row for key, row in cursor.fetchall()}
            judged = _judge(zip(rows, keys, strict=True), held, make)
            judged.write(cursor)
        return Taken([line for _, line in judged.made], judged.bad, len(judged.waiting))

    def answer(self, results: Sequence[EventReceipt], again: Collection[str]) -> list[Answered]:
        """Write down what became of events; the rows of those that had no outcome before, or whose
        event ids are in `again`.
        """
        assert self._answers is not None
        given = {
            "events": [result.event_id for result in results],
            "codes": [result.code for result in results],
            "reasons": ["" if r.admitted else CODES[r.code].sentence for r in results],
            "indexes": [result.index for result in results],
            "positions": [result.position for result in results],
        }
        with _transaction(self._answers) as cursor:
            rows = []
            if again:
                cursor.execute(sql("read_outcomes"), {"events": sorted(again)})
                rows = cursor.fetchall()
            cursor.execute(sql("write_outcomes"), given)
            rows += cursor.fetchall()
        return [Answered(row[0], row[1], row[2], row[3] or "") for row in rows]


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    change_id: str
    type_code: str
    issuer: str | None
    number: str
    text: str

    def key(self, department: str) -> bytes:
        """Its certificate, however wrong what it says of it is."""
        number = identity.normalise_number(self.number)
        said = json.dumps([self.type_code, self.issuer or department, number])
        return sha256(said.encode()).digest()

    def plain(self) -> dict[str, Any]:
        """The plain event (`lines.PLAIN`) that the row says."""
        if len(self.text) > _MOST_ROW:
            raise Malformed("line-too-large", f"the row has over {_MOST_ROW:,} characters")
        said = parse_plain(self.text.encode())
        plain = {name: value for name, value in said.items() if value is not None}
        holder = {
            part: plain.pop(f"holder_{part}")
            for part in ("scheme", "number")
            if f"holder_{part}" in plain
        }
        if len(holder) == 1:
            (part,) = holder
            raise Malformed(
                "malformed-event",
                f"holder_scheme and holder_number are needed, here is only {part}",
            )
        return plain | ({"holder": holder} if holder else {})


@dataclass(slots=True)
class _Judged:
    made: list[tuple[int, Line]]
    bad: list[Answered]
    keys: list[bytes]  # of the bad ones
    waiting: list[tuple[int, int]]  # ids: the row, the one it waits for

    def write(self, cursor: Cursor) -> None:
        if self.made:
            taken = {"ids": [i for i, _ in self.made], "events": [m.id for _, m in self.made]}
            cursor.execute(sql("take_rows"), taken)
        if self.bad:
            held = {
                "ids": [row.id for row in self.bad],
                "codes": [row.code for row in self.bad],
                "reasons": [row.reason for row in self.bad],
                "keys": self.keys,
            }
            cursor.execute(sql("hold_rows"), held)
        if self.waiting:
            wait = {"ids": [i for i, _ in self.waiting], "held": [held for _, held in self.waiting]}
            cursor.execute(sql("let_wait"), wait)


def _judge(rows: Iterable[tuple[_Row, bytes]], held: dict[bytes, int], make: Maker) -> _Judged:
    """Which rows become lines, which can be none, which wait; `held` are rows by certificate."""
    judged = _Judged([], [], [], [])
    for row, key in rows:
        if key in held:
            judged.waiting.append((row.id, held[key]))
            continue
        try:
            judged.made.append((row.id, make(row.plain())))
        except Malformed as err:
            held[key] = row.id
            judged.bad.append(Answered(row.id, row.change_id, err.code, err.message))
            judged.keys.append(key)
    return judged


def _connect(url: str) -> Connection:
    try:
        connection = psycopg2.connect(
            url,
            application_name="certledger-outbox",
            options=_OPTIONS,
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
        connection.set_client_encoding("UTF8")
    except psycopg2.OperationalError as err:
        raise Unavailable("unreachable", f"the outbox's PostgreSQL: {str(err).strip()}") from err
    except psycopg2.ProgrammingError as err:
        raise Malformed("usage", f"not the address of a PostgreSQL: {str(err).strip()}") from err
    return connection


@contextmanager
def _transaction(connection: Connection) -> Iterator[Cursor]:
    """One transaction; Unavailable says that it is as if it had not been, or that nobody knows."""
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as err:
        raise Malformed("usage", _NO_TABLE % str(err).splitlines()[0]) from err
    except errors.InsufficientPrivilege as err:
        raise Malformed(
            "usage",
            f"{str(err).strip()}: the outbox's account needs USAGE on schema certledger, SELECT "
            "and UPDATE on certledger.outbox",
        ) from err
    except errors.SerializationFailure:
        raise
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
        raise Unavailable("unreachable", f"the outbox's PostgreSQL: {str(err).strip()}") from err


def is_refused(code: str) -> bool:
    """Whether an outcome is a refusal."""
    return code not in (ADMITTED, REPEAT)
