"""Recalls as they leave: the marks of admission, and who held the certificate at their place.

What is read here never changes once it is there, but for the ends of holds, which come later in
the log than what they are compared with: the same mark gives the same notices for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from ..entry import parse_entry
from ..errors import ProofError
from ..reliance import Recall, is_recalled, recall_id
from ..relying import Mark
from .connection import transaction
from .statements import sql

HOLDS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Change:
    """A mark with the ledger time of its change's entry."""

    mark: Mark
    time: str


def read_changes(connection: Connection, begin: int, limit: int) -> list[Change]:
    """The marks from a number on, in order without a gap; ProofError where one is missing."""
    with transaction(connection) as cursor:
        cursor.execute(sql("read_recalls"), {"begin": begin, "limit": limit})
        rows = cursor.fetchall()
    if [row[0] for row in rows] != list(range(begin, begin + len(rows))):
        raise ProofError("stored-bytes-damaged", f"recalls from {begin} on are missing")
    found = []
    for _, index, position, certificate, cause, at, *said, reliance, entry in rows:
        reliance_key = None if reliance is None else bytes(reliance)
        event, revocation, reason = said
        place = (index, position, bytes(certificate), cause, at)
        mark = Mark(*place, event, revocation, reason, reliance_key)
        found.append(Change(mark, parse_entry(bytes(entry))["time"]))
    return found


def read_recalls(connection: Connection, change: Change) -> Iterator[Recall]:
    """Whom a change is told to, ascending by the reliance's key; some at once."""
    mark = change.mark
    after = b""
    # an act's own mark is read by its key: a certificate may be held by ever so many
    name = "read_recalled_holds" if mark.reliance is None else "read_recalled_act"
    while True:
        with transaction(connection) as cursor:
            cursor.execute(
                sql(name),
                {
                    "certificate": mark.certificate,
                    "cause_index": mark.cause_index,
                    "cause_position": mark.cause_position,
                    "reliance_key": mark.reliance,
                    "log_index": mark.log_index,
                    "position": mark.position,
                    "after": after,
                    "limit": HOLDS_AT_ONCE,
                },
            )
            rows = cursor.fetchall()
        for key, office, case_hash, event_id, number, lasts in rows:
            after = bytes(key)
            if is_recalled(lasts, mark.event, mark.revocation):
                case, act = bytes(case_hash).hex(), bytes(event_id).hex()
                index, position = mark.cause_index, mark.cause_position
                yield Recall(
                    recall_id(case, act, number, index, position),
                    office,
                    case,
                    mark.certificate,
                    index,
                    position,
                    mark.event,
                    mark.revocation,
                    mark.reason,
                    change.time,
                )
        if len(rows) < HOLDS_AT_ONCE:
            return
