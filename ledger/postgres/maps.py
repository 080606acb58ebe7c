"""Step 6, the status maps: both kept in memory, folded from the log, loaded again at a start.

What is folded was read back and hashed before: no damaged delta list gets into a root.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from ..entry import map_heads
from ..errors import ProofError
from ..lifecycle import holder_record_hash
from ..logs import get_log
from ..mapfold import StatusMap, without
from ..sequencing import Stored, check_deltas, parse_stored
from ..statusmap import CERTIFICATES, KEY_SIZE, PAIR, MapHead, next_k
from .connection import transaction
from .map_reading import KINDS, certificate_record, some_records_at
from .rows import read_blinding_secret
from .statements import sql

log = get_log(__name__)

ENTRIES = 64  # read back in one transaction
PENDING = 4096  # delta lists kept unfolded, and entries kept until they are read back
KEYS = 10_000  # rolled back by one statement
_COPY_HEADER = 19  # bytes before the first row of a binary COPY
_CERTIFICATE = struct.Struct("!hi16si16si")  # the state follows
_HOLDER = struct.Struct("!hi16si16siqi32s")
_PORTION = 1 << 23  # bytes

Tiles = dict[tuple[bytes, int, int], bytes]
"""(kind, level, index) to a tile's contents."""


class Maps:
    """Certificates' and holders' map after the first `size` entries."""

    def __init__(self) -> None:
        self.size = 0
        self.state = -1  # the last status entry known to carry the maps, -1 for none
        self._maps = {kind: StatusMap(kind) for kind in KINDS}
        self._pending: list[tuple[bytes, bytes]] = []
        self._heads: dict[bytes, MapHead] | None = None
        # by index: the digest of what `read` held against its entry, and what that says
        self._checked: dict[int, tuple[bytes, Stored]] = {}

    @property
    def records(self) -> int:
        """How many records both maps hold together."""
        return sum(folded.records for folded in self._maps.values())

    def take(self, index: int, entry: bytes, deltas: tuple[bytes, bytes] | None) -> None:
        """Take in entry `index`, read back; those taken before are passed over.

        ProofError `stored-bytes-damaged` for a status entry with other maps than these.
        """
        if index < self.size:
            return
        if index > self.size:
            raise ValueError(f"entry {index} is not the next one, {self.size} is")
        said = map_heads(_parse(index, entry)) if deltas is None else None
        if said is not None:
            if said != self.heads():
                raise ProofError(
                    "stored-bytes-damaged", f"entry {index} carries other maps than the log gives"
                )
            self.state = index
        self.size += 1
        if deltas is not None:
            self._pending.append(deltas)
            self._heads = None
            if len(self._pending) >= PENDING:
                self.fold()

    def read(self, cursor: Cursor, end: int) -> None:
        """Take in the entries below `end`, through an open transaction."""
        cursor.execute(sql("read_logged_deltas"), {"begin": self.size, "end": end})
        rows = cursor.fetchall()
        secret = read_blinding_secret(cursor)
        for index, data, *deltas in rows:
            if index != self.size:
                break
            lists = None if deltas[0] is None else (bytes(deltas[0]), bytes(deltas[1]))
            stored = parse_stored(index, bytes(data))
            check_deltas(index, stored, lists, secret)
            if lists is not None and len(self._checked) < PENDING:
                self._checked[index] = _digest(bytes(data), lists), stored
            self.take(index, bytes(data), lists)
        if self.size < end:
            raise ProofError("stored-bytes-damaged", f"entry {self.size} is missing")

    def checked(
        self, index: int, entry: bytes, deltas: tuple[bytes, bytes] | None
    ) -> Stored | None:
        """What the entry says, if `read` held these very bytes against each other; None otherwise.
        Asked once, before `take`.
        """
        digest, stored = self._checked.pop(index, (b"", None))
        return stored if deltas is not None and digest == _digest(entry, deltas) else None

    def catch_up(self, connection: Connection, end: int) -> None:
        """Take in the entries below `end`, which are committed."""
        while self.size < end:
            with transaction(connection) as cursor:
                self.read(cursor, min(self.size + ENTRIES, end))

    def fold(self) -> bool:
        """Fold what was taken in; whether a map is to grow now, which takes long."""
        for number, folded in enumerate(self._maps.values()):
            folded.fold(b"".join(deltas[number] for deltas in self._pending))
        self._pending.clear()
        return any(next_k(m.k, m.records) != m.k for m in self._maps.values())

    def heads(self) -> dict[bytes, MapHead]:
        """What a status entry at index `size` says of the maps."""
        if self._heads is None:
            self.fold()
            for folded in self._maps.values():
                if (k := next_k(folded.k, folded.records)) != folded.k:
                    folded.grow(k)
            self._heads = {kind: MapHead(m.k, m.root()) for kind, m in self._maps.items()}
        return self._heads

    def changed_tiles(self) -> Tiles:
        """The tiles that changed since they were stored, as of `heads`."""
        return {
            (kind, *place): data
            for kind, folded in self._maps.items()
            for place, data in folded.changed_tiles().items()
        }

    def settle(self) -> None:
        """The changed tiles are stored; everything below was read back."""
        self._checked.clear()
        for folded in self._maps.values():
            folded.settle()

    @classmethod
    def load(cls, connection: Connection) -> Maps:
        """The maps as the last status entry that carries them has them, out of the current states.

        ProofError `stored-bytes-damaged` when these do not give its roots. Tiles that are not
        stored as they should be count as changed: the next status entry writes them all.
        """
        maps = cls()
        with transaction(connection) as cursor:
            cursor.execute(sql("scan_snapshot"))
            cursor.execute(sql("read_last_state"))
            index, data, next_index = cursor.fetchone() or (None, None, 0)
            if index is None:
                return maps
            said = None if data is None else map_heads(_parse(index, bytes(data)))
            if said is None:
                raise ProofError("stored-bytes-damaged", f"entry {index} does not carry the maps")
            cursor.execute(sql("lift_timeouts"))
            changed = _changed_keys(cursor, index, next_index)
            for (kind, loaded), keys in zip(maps._maps.items(), changed, strict=True):
                _fold_current(cursor, loaded, keys)
                for begin in range(0, len(keys), KEYS * KEY_SIZE):
                    some = keys[begin : begin + KEYS * KEY_SIZE]
                    listed = [some[i : i + KEY_SIZE] for i in range(0, len(some), KEY_SIZE)]
                    then = some_records_at(cursor, kind, listed, index)
                    loaded.fold(b"".join(key + record for key, record in then.items()))
            if maps.heads() != said:
                raise ProofError(
                    "stored-bytes-damaged", f"the current states do not give the maps of {index}"
                )
            maps.size, maps.state = index + 1, index
            if maps._stored_tiles(cursor, index) == maps.changed_tiles():
                maps.settle()
            else:
                log.warning("map-tiles-missing", log_index=index)
        return maps

    def _stored_tiles(self, cursor: Cursor, index: int) -> Tiles:
        found = {}
        for kind in self._maps:
            cursor.execute(sql("read_map_tiles"), {"kind": kind.decode(), "log_index": index})
            found.update({(kind, level, n): bytes(data) for level, n, data in cursor.fetchall()})
        return found


def _digest(entry: bytes, deltas: tuple[bytes, bytes]) -> bytes:
    return sha256(b"".join(sha256(part).digest() for part in (entry, *deltas))).digest()


def _parse(index: int, entry: bytes) -> Mapping[str, Any]:
    """The members of an entry without delta lists, as stored."""
    stored = parse_stored(index, entry)
    check_deltas(index, stored, None, b"")
    return stored.value


def _changed_keys(cursor: Cursor, begin: int, end: int) -> tuple[bytes, bytes]:
    """The map keys of certificates and of holders that entries `begin` to `end` - 1 changed."""
    found: tuple[set[bytes], set[bytes]] = (set(), set())
    for first in range(begin, end, ENTRIES):
        span = {"begin": first, "end": min(first + ENTRIES, end)}
        cursor.execute(sql("read_deltas"), span)
        for _, *lists in cursor.fetchall():
            for keys, pairs in zip(found, map(bytes, lists), strict=True):
                keys.update(pairs[i : i + KEY_SIZE] for i in range(0, len(pairs), PAIR))
    return b"".join(found[0]), b"".join(found[1])


def _fold_current(cursor: Cursor, folded: StatusMap, left_out: bytes) -> None:
    """Fold all pairs as they are now, but those of the keys `left_out`, joined."""
    portions = _Portions(folded, left_out)
    cursor.copy_expert(
        f"COPY ({sql(KINDS[folded.kind].copy)}) TO STDOUT (FORMAT binary)", portions, _PORTION
    )
    portions.flush()


class _Portions:
    """A file that a binary COPY of records is written to, to be folded portion by portion."""

    def __init__(self, folded: StatusMap, left_out: bytes) -> None:
        self._folded, self._left_out = folded, left_out
        self._rows = bytearray()
        self._skip = _COPY_HEADER
        self._read = _certificates if folded.kind == CERTIFICATES else _holders

    def write(self, data: bytes) -> int:
        self._rows += data
        if len(self._rows) >= _PORTION:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Fold all whole rows; what ends the COPY is less than one."""
        pairs, end = self._read(bytes(self._rows), self._skip)
        self._folded.fold(without(b"".join(pairs), self._left_out))
        self._folded.grow(next_k(self._folded.k, self._folded.records))
        del self._rows[:end]
        self._skip = 0


def _certificates(rows: bytes, at: int) -> tuple[list[bytes], int]:
    """The pairs of whole rows from `at` on, and where they end."""
    pairs = []
    while at + _CERTIFICATE.size <= len(rows):
        _, _, head, _, rest, length = _CERTIFICATE.unpack_from(rows, at)
        end = at + _CERTIFICATE.size + length
        if end > len(rows):
            break
        pairs.append(head + rest + certificate_record(rows[end - length : end]))
        at = end
    return pairs, at


def _holders(rows: bytes, at: int) -> tuple[list[bytes], int]:
    end = at + (len(rows) - at) // _HOLDER.size * _HOLDER.size
    pairs = [
        head + rest + holder_record_hash(acts, link)
        for _, _, head, _, rest, _, acts, _, link in _HOLDER.iter_unpack(rows[at:end])
    ]
    return pairs, end
