"""Current states by the heads of map keys: read in the turn, or ahead of it, while the turn before
is judged and written.

What was read ahead counts for what the log was then. In the turn, under its lock, the log must have
gone on from there by nothing but status entries and this worker's own turns; what those changed is
read again. Any other entry, another worker's or the registry's, and nothing of it is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import identity, staterow
from ..admission import Opened, Turn
from ..entry import STATUS, parse_entry
from ..event import Event
from ..reliance import Reliance
from ..staterow import NO_HOLDER
from .connection import transaction
from .statements import sql

ENOUGH = 1024  # events: for fewer the turn's own statements are quick
MAX_ENTRIES = 64  # between reading and turn
OWN_TURNS = 3  # that are remembered


class StoredCertificate(NamedTuple):
    """A certificate's row."""

    key: bytes
    row: staterow.Row
    history: bytes


class StoredHolder(NamedTuple):
    """A holder's row."""

    key: bytes
    acts: int
    link: bytes
    recent: bytes


class Rows(NamedTuple):
    """Rows by the heads of map keys, None where there is none."""

    certificates: dict[bytes, StoredCertificate | None]
    holders: dict[bytes, StoredHolder | None]


NO_ROWS = Rows({}, {})


class Ahead(NamedTuple):
    """Rows as of the log before `index`, whose last entry was `last`."""

    next_index: int
    last: bytes
    rows: Rows


class _Own(NamedTuple):
    """A turn of this worker's, committed: its entries, and the heads of what it changed."""

    entries: dict[int, bytes]
    certificates: frozenset[bytes]
    holders: frozenset[bytes]


class OwnTurns:
    """The last turns that this worker committed. One thread at a time."""

    def __init__(self) -> None:
        self._turns: deque[_Own] = deque(maxlen=OWN_TURNS)

    def add(self, done: Turn) -> None:
        """A turn that was committed just now."""
        if done.entries:
            changed = frozenset(heads(done.certificates)), frozenset(heads(done.holders))
            self._turns.append(_Own(dict(done.entries), *changed))

    def still_so(self, cursor: Cursor, aheads: Iterable[Ahead], next_index: int) -> Rows:
        """The rows that are still so in the turn that begins with `next_index`."""
        rows = Rows({}, {})
        for ahead in aheads:
            if self._follows(cursor, ahead, next_index):
                rows.certificates.update(ahead.rows.certificates)
                rows.holders.update(ahead.rows.holders)
        return rows

    def _follows(self, cursor: Cursor, ahead: Ahead, next_index: int) -> bool:
        """Whether this worker's turns alone changed states since; what they did is forgotten."""
        if not 0 <= next_index - ahead.next_index <= MAX_ENTRIES:
            return False
        cursor.execute(sql("read_entries"), {"begin": ahead.next_index - 1, "end": next_index})
        (_, last), *since = cursor.fetchall()
        if bytes(last) != ahead.last:
            return False
        wrote = {index: turn for turn in self._turns for index in turn.entries}
        for index, data in since:
            entry, turn = bytes(data), wrote.get(index)
            is_own = turn is not None and turn.entries[index] == entry
            if not is_own and parse_entry(entry)["kind"] != STATUS:
                return False
        for turn in self._turns:
            if any(index >= ahead.next_index for index in turn.entries):
                _forget(ahead.rows.certificates, turn.certificates)
                _forget(ahead.rows.holders, turn.holders)
        return True


def _forget(rows: dict[bytes, Any], changed: frozenset[bytes]) -> None:
    for head in rows.keys() & changed:
        del rows[head]


def read_ahead(connection: Connection, batch: Iterable[Opened]) -> Ahead:
    """The rows that a turn over these bundles needs, as of now, in a transaction of its own."""
    keys, holders = named(batch)
    with transaction(connection) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(sql("read_allocation"))
        ((_, index, _, _, _),) = cursor.fetchall()
        cursor.execute(sql("read_entries"), {"begin": index - 1, "end": index})
        ((_, last),) = cursor.fetchall()
        certificates = read_certificates(cursor, heads(keys))
        before = {one.row.holder for one in certificates.values() if one} - {NO_HOLDER}
        found = read_holders(cursor, heads(holders) | before)
        return Ahead(index, bytes(last), Rows(certificates, found))


def named(batch: Iterable[Opened]) -> tuple[set[bytes], set[bytes]]:
    """The map keys of the certificates that bundles are about, and of the holders they name."""
    keys: set[bytes] = set()
    holders: set[bytes] = set()
    for opened in batch:
        for item in opened.events:
            if isinstance(item, Event):
                keys.add(item.key)
                if item.holder_key is not None:
                    holders.add(item.holder_key)
            elif isinstance(item, Reliance):
                keys.update(key for key, _, _ in item.certificates)
    return keys, holders


def heads(keys: Iterable[bytes]) -> set[bytes]:
    """What rows are found by."""
    return {key[: identity.HEAD] for key in keys}


def read_certificates(
    cursor: Cursor, asked: Collection[bytes]
) -> dict[bytes, StoredCertificate | None]:
    """The certificates' rows with these heads."""
    found: dict[bytes, StoredCertificate | None] = dict.fromkeys(asked)
    if found:
        cursor.execute(sql("read_certificates"), _joined(asked))
        for data, state, history in cursor.fetchall():
            key, past = bytes(data), bytes(history)
            row = staterow.open_row(key, bytes(state), past)
            found[key[: identity.HEAD]] = StoredCertificate(key, row, past)
    return found


def read_holders(cursor: Cursor, asked: Collection[bytes]) -> dict[bytes, StoredHolder | None]:
    """The holders' rows with these heads."""
    found: dict[bytes, StoredHolder | None] = dict.fromkeys(asked)
    if found:
        cursor.execute(sql("read_holders"), _joined(asked))
        for data, acts, link, recent in cursor.fetchall():
            key = bytes(data)
            found[key[: identity.HEAD]] = StoredHolder(key, acts, bytes(link), bytes(recent))
    return found


def _joined(asked: Collection[bytes]) -> dict[str, Any]:
    """Heads as one value, which the statement cuts: thousands of literals cost more to print and to
    parse than the rows to read.
    """
    return {"heads": b"".join(asked), "count": len(asked)}
