"""Dead letters as PostgreSQL keeps them: whole, whatever was cut on their topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from ..bundle import Header
from ..dead_letter import HEAD_BYTES, seen_header
from ..errors import Conflict, Refused
from .rows import read_intake_topic, read_origin, read_registry
from .statements import sql

_PAGE = 256
_WHOLE = 2**30  # no bytea is longer


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter without its bytes; `header` is what its note says, unproven."""

    number: int  # in the outbox
    topic_id: str
    partition: int
    offset: int
    code: str
    message: str
    length: int | None  # None: a record without a value
    header: Header | None


def read_dead_letters(
    cursor: Cursor, begin: int = 0, code: str | None = None, department: str | None = None
) -> Iterator[DeadLetter]:
    """Dead letters in their order from a number on; of a code, and seemingly of a department."""
    while True:
        cursor.execute(
            sql("read_dead_letter_heads"),
            {"begin": begin, "code": code, "head": HEAD_BYTES, "limit": _PAGE},
        )
        rows = cursor.fetchall()
        for number, topic, partition, offset, found, message, length, head in rows:
            header = None if head is None else seen_header(bytes(head))
            if department is None or (header is not None and header.department == department):
                yield DeadLetter(
                    number, topic, partition, offset, found, message or "", length, header
                )
        if len(rows) < _PAGE:
            return
        begin = rows[-1][0] + 1


def read_dead_letter(cursor: Cursor, number: int) -> DeadLetter:
    """The dead letter of a number; Refused `not-found` when there is none."""
    found = next(read_dead_letters(cursor, number), None)
    if found is None or found.number != number:
        raise Refused("not-found", f"there is no dead letter of number {number}")
    return found


def read_bytes(cursor: Cursor, number: int) -> bytes | None:
    """The whole record of a dead letter, None where it had no value."""
    cursor.execute(sql("read_outbox_record"), {"number": number, "limit": _WHOLE})
    row = cursor.fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def number_of(cursor: Cursor, topic_id: str, partition: int, offset: int) -> int | None:
    """The number of what is said about a Kafka record; None where nothing is."""
    place = {"topic_id": topic_id, "partition": partition, "offset": offset}
    cursor.execute(sql("read_dead_letter_from"), place)
    row = cursor.fetchone()
    return None if row is None else row[0]


def read_accounted(
    cursor: Cursor, topic_id: str, partition: int, offset: int
) -> tuple[str, int | None, str | None] | None:
    """(outcome, entry, code) of a Kafka record; None until it is taken."""
    place = {"topic_id": topic_id, "partition": partition, "offset": offset}
    cursor.execute(sql("read_accounted"), place)
    row = cursor.fetchone()
    return None if row is None else (row[0], row[1], row[2])


def intake_topic(cursor: Cursor) -> str:
    """The id of the topic that records come from; Conflict `topic-changed` without just one."""
    found = read_intake_topic(cursor, read_registry(cursor, read_origin(cursor)))
    if found is None:
        raise Conflict("topic-changed", "no records were taken yet")
    return found
