"""Connections that only read, for a program with several threads: apart from the writers'."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from ..errors import Unavailable
from .connection import connect
from .kept import Kept
from .reader import Reader, View
from .statements import sql

STATEMENT_SECONDS = 5.0

T = TypeVar("T")


class Pool:
    """Kept connections: as many as threads have read at the same time."""

    def __init__(
        self, url: str, program: str, statement_seconds: float = STATEMENT_SECONDS
    ) -> None:
        """Nothing connects before the first question. `url` is libpq's, `program` a name."""
        self._url = url
        self._program = program
        self._statement_seconds = statement_seconds
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._kept = Kept()

    def read(self, work: Callable[[Cursor], T]) -> T:
        """What `work` returns; each of its statements is a read-only transaction of its own.

        Unavailable `unreachable` without PostgreSQL and for statements over the time limit,
        `not-initialised` where the database is not migrated. Where PostgreSQL has ended a kept
        connection meanwhile, `work` is called again with another.
        """
        return self._run(work, "DEFAULT", autocommit=True)

    def _run(self, work: Callable[[Cursor], T], isolation: str, *, autocommit: bool) -> T:
        """Connections stay as their last work had them: to change them takes two statements."""
        while True:
            try:
                connection, is_kept = self._idle.get_nowait(), True
            except queue.Empty:
                connection, is_kept = self._connect(), False
            try:
                if connection.autocommit != autocommit:
                    connection.set_session(isolation, readonly=True, autocommit=autocommit)
                with connection.cursor() as cursor:
                    return work(cursor)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
                if not (is_kept and connection.closed):
                    raise Unavailable("unreachable", f"PostgreSQL: {str(err).strip()}") from err
            except (errors.UndefinedTable, errors.UndefinedColumn) as err:
                raise Unavailable(
                    "not-initialised",
                    f"the database lacks what this version reads ({err.diag.message_primary}): "
                    "`certledger up` of this version, or its set-up, migrates it",
                ) from err
            finally:
                if not connection.closed:
                    self._idle.put(connection)

    def view(self, work: Callable[[View], T]) -> T:
        """What `work` returns of the published ledger: all its statements see one moment."""

        def look(cursor: Cursor) -> T:
            with Reader(cursor.connection, self._kept).open() as view:
                return work(view)

        return self._run(look, "REPEATABLE READ", autocommit=False)

    def close(self) -> None:
        """End the connections that nobody uses now."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _connect(self) -> Connection:
        connection = connect(self._url, self._program)
        connection.set_session(readonly=True, autocommit=True)
        with connection.cursor() as cursor:
            milliseconds = f"{self._statement_seconds * 1000:.0f}"
            cursor.execute(sql("limit_statements"), {"milliseconds": milliseconds})
        return connection
