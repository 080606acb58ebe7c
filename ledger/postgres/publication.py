"""Being woken when a checkpoint is published, which saves looking again and again."""

from __future__ import annotations

import select

import psycopg2
from psycopg2.extensions import connection as Connection

from ..errors import Unavailable
from .connection import transaction
from .statements import sql


def listen_to_publication(connection: Connection) -> None:
    """From now on this connection is told of published checkpoints."""
    with transaction(connection) as cursor:
        cursor.execute(sql("listen_to_publication"))


def wait_for_publication(connection: Connection, seconds: float) -> None:
    """Return when one was published since the last call, at the latest after `seconds`."""
    try:
        if not connection.notifies:
            select.select([connection], [], [], seconds)
            connection.poll()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
        raise Unavailable("unreachable", f"PostgreSQL: {str(err).strip()}") from err
    connection.notifies.clear()
