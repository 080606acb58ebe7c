"""What a turn writes of the bundles that it logs: entries, lines, delta lists, states of
certificates and holders. A piece of them is packed where the rules judge, and on its way to
PostgreSQL, in a thread of its own, while they judge the next bundles, all in the turn's one
transaction.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor

from .. import staterow
from ..admission import Certificate, LoggedBundle
from ..errors import Conflict
from ..event import Event
from ..fast_turn import Act, FastTurn, Issued
from ..staterow import NO_HOLDER
from .copying import bigint, copy_packed, integer, pack_rows
from .rows import Chunk, pack_lines
from .statements import sql
from .view import View

_ITEM_LENGTH = struct.pack("!i", staterow.ITEM)
PIECE = 512  # events, at least

ACTS = 64  # of a holder in one row of older ones
ACTS_SIZE = 8 * ACTS  # bytes

# Rows of binary COPY: the number of fields, then each field behind its length.
_new_row = struct.Struct("!hi16si16siii4si").pack  # state, the history's length and it follow
_changed_row = struct.Struct("!hi16siii").pack  # likewise
_changed_there = struct.Struct("!hi16si6siii").pack  # where the row is; likewise
_length = struct.Struct("!i").pack
_new_holder = struct.Struct("!hi16si16siqi32si").pack  # the recent acts follow
_moved_holder = struct.Struct("!hi16siiiqi32si").pack  # likewise
_moved_there = struct.Struct("!hi16si6siiiqi32si").pack  # where the row is; likewise
_act_row = struct.Struct("!hi16siqi").pack  # the acts follow
_act = struct.Struct(">Q").pack


class Numbers:
    """Numbers, from 1, of pairs of words that rows would otherwise repeat. One turn's new ones
    count for the next turn only when it was committed.
    """

    def __init__(self, read: str, insert: str) -> None:
        self._read, self._insert = read, insert
        self._known: dict[tuple[str, str], int] = {}
        self._fresh: dict[tuple[str, str], int] = {}

    def begin(self) -> None:
        """A turn begins."""
        self._fresh = {}

    def keep(self) -> None:
        """The turn was committed."""
        self._known |= self._fresh
        self._fresh = {}

    def number(self, cursor: Cursor, beside: Beside, first: str, second: str) -> int:
        """The number of a pair, given now if it has none."""
        pair = (first, second)
        number = self._known.get(pair) or self._fresh.get(pair)
        if number is not None:
            return number
        beside.wait()
        if not self._fresh:  # another writer may have given it
            cursor.execute(sql(self._read))
            self._known = {(one, other): each for one, other, each in cursor.fetchall()}
            number = self._known.get(pair)
        if number is None:
            number = self._fresh[pair] = len(self._known) + len(self._fresh) + 1
            cursor.execute(sql(self._insert), {"number": number, "first": first, "second": second})
        return number


class Beside:
    """Statements of a turn that run beside its rules, one after the other on its one connection, in
    a thread of its own; at once where there is none, or the turn is too small to gain by it. No
    other may run between `do` and `wait`.
    """

    def __init__(self, executor: Executor | None = None, events: int = 0) -> None:
        self._executor = executor if events > PIECE else None
        self._under_way: deque[Future[None]] = deque()
        self._done = 0

    @property
    def is_apart(self) -> bool:
        """Whether they run in that thread."""
        return self._executor is not None

    def do(self, work: Callable[..., None], *arguments: Any) -> int:
        """Have some statements run; the number to wait for."""
        if self._executor is None:
            work(*arguments)
        else:
            self._under_way.append(self._executor.submit(work, *arguments))
        return self._done + len(self._under_way)

    def wait(self, number: int | None = None) -> None:
        """Wait for them all, or up to a number, and raise what became of the first that failed, as
        often as this is asked.
        """
        while self._under_way and (number is None or self._done < number):
            self._under_way[0].result()
            self._under_way.popleft()
            self._done += 1

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is on its way any more, so that the transaction can end."""
        try:
            if kind is None:
                self.wait()
        finally:
            for future in self._under_way:
                future.cancel()
            wait(self._under_way)
            self._under_way.clear()  # what failed knows all that the turn knew


class WaitingCursor(Cursor):
    """Each of its statements waits for what runs beside."""

    beside: Beside

    def execute(self, query: Any, parameters: Any = None) -> None:
        self.beside.wait()
        super().execute(query, parameters)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        self.beside.wait()
        super().copy_expert(sql, file, size)


class _Piece(NamedTuple):
    """Some bundles that a turn logged, and the states that they lead to."""

    entries: Sequence[tuple[int, bytes]]
    logged: Sequence[LoggedBundle]
    issued: Mapping[bytes, Issued]
    acts: list[Act]  # on other certificates
    certificates: dict[bytes, tuple[Event, Certificate]]  # and what these are now
    holders: Mapping[bytes, tuple[int, bytes]]


class Pieces:
    """Packs what a turn writes piece by piece, and has it written beside the rules."""

    def __init__(
        self,
        cursor: Cursor,
        beside: Beside,
        signers: Numbers,
        kinds: Numbers,
        chunks: Mapping[bytes, Sequence[Chunk]],
    ) -> None:
        """`chunks`: the lines of bundles as they are stored, by the hash of the note."""
        self._cursor, self._beside = cursor, beside
        self._signers, self._kinds, self._chunks = signers, kinds, chunks
        self._entries = self._logged = 0  # handed over
        self._piece = 0  # how many were begun
        # What rows hold after the pieces so far: histories, and recent acts of holders
        self._histories: dict[bytes, bytes] = {}
        self._recent: dict[bytes, bytes] = {}

    def go_on(self, turn: FastTurn, view: View) -> None:
        """Write the next piece, if there is one and it can be written meanwhile."""
        if (
            self._beside.is_apart
            and sum(len(b.codes) for b in turn.logged[self._logged :]) >= PIECE
        ):
            self._write(self._next(turn), view)

    def finish(self, turn: FastTurn, view: View) -> None:
        """Write what is left, and wait until all is written."""
        self._write(self._next(turn), view)
        self._beside.wait()

    def _next(self, turn: FastTurn) -> _Piece:
        """What was logged since the piece before, and the states as the rules left them by now."""
        entries, logged = turn.entries[self._entries :], turn.logged[self._logged :]
        self._entries, self._logged = len(turn.entries), len(turn.logged)
        issued, acts = turn.unwritten()
        return _Piece(
            entries,
            logged,
            issued,
            acts,
            {key: turn.certificates[key] for key, *_ in acts},
            {key: turn.holders[key] for b in logged for key, _ in b.holders},
        )

    def _write(self, piece: _Piece, view: View) -> None:
        self._piece += 1
        self._copy_entries(piece)
        if piece.certificates or piece.issued:
            self._copy_certificates(piece, view)
        if piece.holders:
            self._copy_holders(piece, view)

    def _copy_entries(self, piece: _Piece) -> None:
        self._copy(
            "entry",
            "log_index, data",
            ((bigint(index), entry) for index, entry in piece.entries),
        )
        rows: list[tuple[bytes | None, ...]] = []
        for b in piece.logged:
            bundle = b.opened.bundle
            department, key_id = bundle.header.department, b.opened.key.key_id
            signer = integer(self._signers.number(self._cursor, self._beside, department, key_id))
            chunks = self._chunks.get(bundle.note_hash) or pack_lines(bundle)
            rows += [
                (bigint(b.index), integer(number), data, signer, groups)
                for number, (data, groups) in enumerate(chunks)
            ]
        self._copy("lines", "log_index, chunk, data, signer, groups", rows)
        self._copy(
            "delta",
            "log_index, certificates, holders",
            (
                (
                    bigint(b.index),
                    b"".join(chain.from_iterable(b.certificates)),
                    b"".join(chain.from_iterable(b.holders)),
                )
                for b in piece.logged
            ),
        )

    def _copy_certificates(self, piece: _Piece, view: View) -> None:
        new = self._pack_issued(piece)
        added: dict[bytes, bytes] = {}
        for key, index, position, event_id in piece.acts:
            packed = staterow.pack_item(index, position, bytes.fromhex(event_id[:8]))
            added[key] = added[key] + packed if key in added else packed
        histories, kinds = self._histories, self._kinds
        pack_row, number_digest, no_holder = staterow.pack_row, staterow.number_digest, NO_HOLDER
        there: list[bytes] = []  # changed ones whose rows are where they were read
        changed: list[bytes] = []  # those that this turn changed before
        for key, (item, certificate) in piece.certificates.items():
            head, more, whole = key[:16], added[key], certificate.holder
            again = key in histories
            before = histories[key] if again else view.histories.get(key, b"")
            history = histories[key] = before + more
            holder = no_holder if whole is None else whole[:16]
            state = pack_row(
                key, certificate.standing, certificate.link, holder, certificate.kept, history
            )
            if again:
                row = _changed_row(4, 16, head, 4, self._piece, len(state))
                changed += (row, state, _length(len(more)), more)
            elif before:
                row = _changed_there(5, 16, head, 6, view.places[key], 4, self._piece, len(state))
                there += (row, state, _length(len(more)), more)
            else:
                kind = kinds.number(self._cursor, self._beside, item.type_code, item.issuer)
                number = number_digest(item.number)
                row = _new_row(6, 16, head, 16, key[16:], 4, kind, 4, number, len(state))
                new += (row, state, _length(len(more)), more)
        columns = "map_key, rest, kind, number_hash, state, history"
        self._copy_packed("certificate", columns, new)
        lost = "a current state vanished under the turn"
        columns, update = "map_key, at, piece, state, added", sql("update_changed_there")
        self._update("changed", columns, there, update, len(there) // 4, lost)
        columns, update = "map_key, piece, state, added", sql("update_changed")
        self._update("changed", columns, changed, update, len(changed) // 4, lost)

    def _pack_issued(self, piece: _Piece) -> list[bytes]:
        """The rows of certificates that were issued plainly; those whose rows are not go to the
        others.
        """
        histories, kinds = self._histories, self._kinds
        cursor, beside = self._cursor, self._beside
        ids = bytes.fromhex("".join([each.event.id for each in piece.issued.values()]))
        rows: list[bytes] = []
        for at, (key, each) in enumerate(piece.issued.items()):
            event, link, plain, _, index, position = each
            _, _, _, since, _, type_code, issuer, number, _, whole, *_ = event
            words = staterow.issued_words(*plain.days, issuer, since[:10] + since[19:])
            if words is None:
                piece.certificates[key] = (event, each.open()[0])
                piece.acts.append((key, index, position, event.id))
                continue
            event_id = ids[16 * at : 16 * at + 16]
            item = histories[key] = staterow.pack_item(index, position, event_id)
            holder = NO_HOLDER if whole is None else whole[:16]
            state = staterow.pack_issued(key, link, holder, words, since, event_id, item)
            kind = kinds.number(cursor, beside, type_code, issuer)
            digest = staterow.number_digest(number)
            row = _new_row(6, 16, key[:16], 16, key[16:], 4, kind, 4, digest, len(state))
            rows += (row, state, _ITEM_LENGTH, item)
        return rows

    def _copy_holders(self, piece: _Piece, view: View) -> None:
        recent = self._recent
        fresh = piece.holders.keys() - recent.keys()
        for key in fresh:
            recent[key] = view.holders[key][2] if key in view.holders else b""
        for b in piece.logged:
            first = staterow.place(b.index, 0)
            for holder, _, position, _, bound in b.acts:
                recent[holder] += _act((first + position) << 1 | bound)
        new: list[bytes] = []
        there: list[bytes] = []  # moved ones whose rows are where they were read
        moved: list[bytes] = []  # those that this turn moved before
        older: list[bytes] = []
        for key, (acts, link) in piece.holders.items():
            data = recent[key]
            whole = len(data) // ACTS_SIZE
            if whole:
                first = acts - len(data) // 8
                for n in range(whole):
                    part = data[n * ACTS_SIZE : (n + 1) * ACTS_SIZE]
                    older += (_act_row(3, 16, key[:16], 8, first + n * ACTS, ACTS_SIZE), part)
                data = recent[key] = data[whole * ACTS_SIZE :]
            size = len(data)
            if key not in fresh:
                row = _moved_holder(5, 16, key[:16], 4, self._piece, 8, acts, 32, link, size)
                moved += (row, data)
            elif key in view.holders:
                at = view.holders[key][3]
                row = _moved_there(6, 16, key[:16], 6, at, 4, self._piece, 8, acts, 32, link, size)
                there += (row, data)
            else:
                new += (_new_holder(5, 16, key[:16], 16, key[16:], 8, acts, 32, link, size), data)
        self._copy_packed("holder_act", "map_key, ordinal, acts", older)
        self._copy_packed("holder", "map_key, rest, acts, link, recent", new)
        lost = "a holder's record vanished under the turn"
        columns, update = "map_key, at, piece, acts, link, recent", sql("update_bound_there")
        self._update("bound", columns, there, update, len(there) // 2, lost)
        columns, update = "map_key, piece, acts, link, recent", sql("update_bound")
        self._update("bound", columns, moved, update, len(moved) // 2, lost)

    def _copy(self, table: str, columns: str, rows: Iterable[Sequence[bytes | None]]) -> None:
        self._copy_packed(table, columns, pack_rows(rows))

    def _copy_packed(self, table: str, columns: str, parts: list[bytes]) -> None:
        if parts:
            self._beside.do(copy_packed, self._cursor, table, columns, parts)

    def _update(
        self, table: str, columns: str, parts: list[bytes], update: str, rows: int, lost: str
    ) -> None:
        """Update what is stored from a table of the session."""
        if rows:
            self._copy_packed(table, columns, parts)
            self._beside.do(self._update_from, update, self._piece, rows, lost)

    def _update_from(self, update: str, piece: int, rows: int, lost: str) -> None:
        self._cursor.execute(update, {"piece": piece})
        if self._cursor.rowcount != rows:
            raise Conflict("registry-conflict", lost)
