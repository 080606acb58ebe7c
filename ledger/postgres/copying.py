"""PostgreSQL's binary COPY: rows of fields that are encoded already."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence

from psycopg2.extensions import cursor as Cursor

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_NULL = b"\xff\xff\xff\xff"
_length = struct.Struct("!i").pack
_count = struct.Struct("!h").pack
bigint = struct.Struct("!q").pack
integer = struct.Struct("!i").pack


def copy(
    cursor: Cursor, table: str, columns: str, rows: Iterable[Sequence[bytes | None]]
) -> None:
    """COPY `rows` into a table; `bigint` and `integer` encode numbers, text is UTF-8 bytes."""
    parts = [_HEADER]
    add = parts.append
    for row in rows:
        add(_count(len(row)))
        for field in row:
            if field is None:
                add(_NULL)
            else:
                add(_length(len(field)))
                add(field)
    if len(parts) == 1:
        return
    add(b"\xff\xff")
    data = io.BytesIO(b"".join(parts))
    cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)", data, 1 << 20)
