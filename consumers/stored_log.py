"""The published log straight out of PostgreSQL, for an auditor who may read the database."""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from ledger.errors import Malformed, Unavailable
from ledger.logbundle import format_deltas, format_entries
from ledger.postgres.connection import transaction
from ledger.postgres.sequencing import read_published
from ledger.postgres.tile_reading import certificate_deltas, published_entries, published_hashes

from .http.tile_paths import TilePath


class StoredLog:
    """`log_client.Log` over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def checkpoint(self) -> bytes:
        with transaction(self._connection) as cursor:
            published = read_published(cursor)
        if published is None:
            raise Unavailable("not-initialised", "no checkpoint has been published yet")
        return bytes(published[1])

    def resource(self, path: TilePath, limit: int) -> bytes | None:
        begin, end = path.begin, path.begin + path.width
        with transaction(self._connection) as cursor:
            if path.is_hashes:
                data = published_hashes(
                    cursor, path.level, path.index, path.width, path.needed_size
                )
            elif path.kind == "delta":
                found = certificate_deltas(cursor, begin, end)
                data = format_deltas([found.get(index, b"") for index in range(begin, end)])
            else:
                entries = published_entries(cursor, begin, end)
                data = None if entries is None else format_entries(entries)
        if data is not None and len(data) > limit:
            raise Malformed("too-large", f"{path} has over {limit} bytes")
        return data
