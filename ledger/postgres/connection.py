"""Connections to the ledger's database, and what PostgreSQL's errors mean to us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn

from ..errors import Malformed, Unavailable
from .statements import sql

# A frozen writer must not hold the turn: PostgreSQL ends its transaction after this long, and
# whoever waits for the turn ends one that is frozen where these timeouts do not reach.
IDLE_TIMEOUT_SECONDS = 3
TURN_TIMEOUT_SECONDS = 5
PATIENCE = 10  # times as long for a program that stands back: for what it holds nobody waits
LOCK_TIMEOUT_SECONDS = 1  # before a waiter looks at who holds the turn
TURN_ATTEMPTS = 30


def writer_timeouts(stands_back: bool = False) -> dict[str, str]:
    """PostgreSQL's settings by which it ends what a writer's session leaves open; longer for a
    program that others go before.
    """
    times = PATIENCE if stands_back else 1
    return {
        "transaction_timeout": f"{times * TURN_TIMEOUT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{times * IDLE_TIMEOUT_SECONDS}s",
    }


def connect(
    url: str,
    program: str,
    *,
    writes: bool = False,
    stands_back: bool = False,
    idle_seconds: int | None = None,
) -> Connection:
    """A connection to the database at `url` (libpq), shown in PostgreSQL as `program`.

    PostgreSQL ends it when nothing is asked for `idle_seconds`. `stands_back`: see
    `writer_timeouts`.

    Unavailable `unreachable` when there is none, Malformed `usage` for what is no such URL.
    """
    options = ["-c timezone=UTC", "-c bytea_output=hex"]
    if writes:
        options += [
            *(f"-c {name}={value}" for name, value in writer_timeouts(stands_back).items()),
            f"-c lock_timeout={LOCK_TIMEOUT_SECONDS}s",
            "-c synchronous_commit=on",
            # Rows are looked for by keys: no plan reads a whole table for the sake of a turn, which
            # the planner else prefers up to some 100,000 rows.
            *(f"-c enable_{way}=off" for way in ("hashjoin", "mergejoin", "seqscan")),
        ]
    if idle_seconds is not None:
        options.append(f"-c idle_session_timeout={idle_seconds}s")
    try:
        return psycopg2.connect(
            url,
            application_name=f"certledger-{program}",
            options=" ".join(options),
            connect_timeout=5,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
    except psycopg2.OperationalError as err:
        raise Unavailable("unreachable", f"PostgreSQL: {str(err).strip()}") from err
    except psycopg2.ProgrammingError as err:
        raise Malformed("usage", f"not the address of a PostgreSQL: {str(err).strip()}") from err


def user_of(url: str) -> str:
    """The account that an address names; Malformed `usage` where it names none."""
    try:
        user = parse_dsn(url).get("user")
    except psycopg2.ProgrammingError as err:
        raise Malformed("usage", f"not the address of a PostgreSQL: {str(err).strip()}") from err
    if not user:
        raise Malformed("usage", "the address of a role must name its user: postgresql://USER@…")
    return str(user)


@contextmanager
def transaction(connection: Connection) -> Iterator[Cursor]:
    """One transaction: committed at the end, rolled back on any exception."""
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
        raise Unavailable("unreachable", f"PostgreSQL: {str(err).strip()}") from err
    except psycopg2.InternalError as err:
        if not connection.closed:
            raise
        # its timeouts for whole transactions end the session
        raise Unavailable("unreachable", f"PostgreSQL: {str(err).strip()}") from err


@contextmanager
def turn(connection: Connection) -> Iterator[tuple[Cursor, tuple[Any, ...]]]:
    """A transaction that holds the turn, and the allocation row with PostgreSQL's clock.

    Unavailable `not-initialised` when there is no ledger.
    """
    for _ in range(TURN_ATTEMPTS):
        with transaction(connection) as cursor:
            try:
                cursor.execute(sql("lock_allocation"))
            except errors.LockNotAvailable:
                connection.rollback()
            else:
                row = cursor.fetchone()
                if row is None:
                    raise Unavailable("not-initialised")
                yield cursor, row
                return
        with transaction(connection) as cursor:
            cursor.execute(sql("end_frozen_turn"))
    raise Unavailable("unreachable", f"PostgreSQL: no turn in {TURN_ATTEMPTS} attempts")
