"""Everything in the ledger's tables, streamed in one consistent picture: what fsck reads.

Reads tables as they are and decides nothing; shares no code with the store. Memory is bounded by
what a server-side cursor fetches at once.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import new_type, register_type

from ..errors import Unavailable
from .connection import transaction
from .statements import sql

Row = tuple[Any, ...]

_LARGE, _SMALL = 256, 4096  # rows fetched at once: with bodies, without
_WITH_BODIES = frozenset(
    {
        "scan_entries",
        "scan_lines",
        "scan_deltas",
        "scan_snapshots",
        "scan_map_tiles",
        "scan_outbox",
        "scan_accounted_records",
        "scan_expiry_notices",
        "scan_catalogues",
        "scan_outlooks",
        "scan_status_changes",
    }
)

# Bytea values as bytes; psycopg2's own memory views would have to be copied one by one.
_BYTES = new_type((17,), "BYTES", lambda text, _: None if text is None else unhexlify(text[2:]))


class Scan:
    """The tables as they stood when the scan began. All bytea values come as bytes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._streams = 0

    def stream(self, name: str, **parameters: object) -> Iterator[Row]:
        """The rows of statement NAME, through a cursor of its own on the server."""
        self._streams += 1
        with self._connection.cursor(f"{name}_{self._streams}") as cursor:
            cursor.itersize = _LARGE if name in _WITH_BODIES else _SMALL
            register_type(_BYTES, cursor)
            cursor.execute(sql(name), parameters or None)
            yield from cursor

    def rows(self, name: str, **parameters: object) -> list[Row]:
        """All rows of statement NAME, which gives few."""
        with self._connection.cursor() as cursor:
            register_type(_BYTES, cursor)
            cursor.execute(sql(name), parameters or None)
            return cursor.fetchall()

    def row(self, name: str, **parameters: object) -> Row | None:
        """The first row of statement NAME, None where there is none."""
        found = self.rows(name, **parameters)
        return found[0] if found else None


@contextmanager
def scan(connection: Connection) -> Iterator[Scan]:
    """A scan in one read-only transaction; Unavailable `not-initialised` where there is no ledger.

    Holds back vacuum for as long as it takes, and blocks nobody.
    """
    with transaction(connection) as cursor:
        cursor.execute(sql("scan_snapshot"))
        cursor.execute(sql("scan_settings"))
        cursor.execute("SELECT to_regclass('allocation') IS NOT NULL")
        if cursor.fetchone() != (True,):
            raise Unavailable("not-initialised")
        yield Scan(connection)
