"""Places in status lists: which event's version has which, and what is said there, in memory.

What the store keeps are two rows of bytes. Of an entry (`outlook`): 8 bytes for each version that
it gave, position of the event, version, list and place in one number. Of a list (`status_change`):
4 bytes for each change of what is said at a place. In memory a list takes 9 MB: places are found by
drawing again, as whoever has a place stands there.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence

from psycopg2.extensions import cursor as Cursor

from .. import staterow, statuslist
from ..errors import ProofError
from ..identity import HEAD
from .copying import bigint, copy, integer, read_rows
from .statements import sql

LIST_CAPACITY = 1_000_000  # of the 2^20 places; the last ones would be drawn in vain too often
_ROWS = 512  # read at once
_PLACE_BITS = 20
_LISTS = 1 << 12  # a list's number and a place are one number of 32 bits
_VERSION_BITS = 12
_given = struct.Struct(">HHI")  # position, version, list and place
_change = struct.Struct(">I")  # place, what is said

Given = tuple[int, int, int, int]
"""(position, version, list, place) of a version that an entry gave."""


def pack_given(position: int, version: int, number: int, idx: int) -> bytes:
    """What an entry's row keeps, among others in order, of a version that it gave."""
    return _given.pack(position, version, number << _PLACE_BITS | idx)


def unpack_given(data: bytes) -> Iterator[Given]:
    """All of an entry's row, back."""
    for position, version, place in _given.iter_unpack(data):
        yield position, version, place >> _PLACE_BITS, place & (1 << _PLACE_BITS) - 1


def unpack_changes(data: bytes) -> Iterator[tuple[int, int]]:
    """(place, what is said there from now on) of each change in a list's row."""
    for (number,) in _change.iter_unpack(data):
        yield number >> 8, number & 0xFF


def read_places(cursor: Cursor, key: bytes) -> list[tuple[int, int, int]]:
    """(version, list, place) of each version of a certificate that has one, ascending."""
    cursor.execute(sql("read_certificates"), {"heads": key[:HEAD], "count": 1})
    row = cursor.fetchone()
    if row is None:
        return []
    placed = [staterow.placed(place) for place in staterow.places(bytes(row[2]))]
    cursor.execute(sql("read_given_places"), {"indexes": [index for index, _ in placed]})
    found = {index: bytes(data) for index, data in cursor.fetchall()}
    return sorted(
        (version, number, idx)
        for index, data in found.items()
        for position, version, number, idx in unpack_given(data)
        if (index, position) in placed
    )


class _List:
    """One list: who has each place (0 for nobody), what is said there."""

    def __init__(self) -> None:
        self.owners = array("Q", (0,)) * statuslist.ENTRIES
        self.says = bytearray(statuslist.ENTRIES)
        self.count = 0
        self.first, self.last = 2**64, 0  # owners
        self.rows = 0  # of changes

    def take(self, idx: int, owner: int) -> None:
        self.owners[idx] = owner
        self.count += 1
        if owner < self.first:
            self.first = owner
        if owner > self.last:
            self.last = owner


class Places:
    """All places, as of one position of the follower."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._lists: dict[int, _List] = {}
        self.filled = 0  # the list that is being filled, 0 before there is any
        self._changes: dict[int, list[bytes]] = {}

    @classmethod
    def load(cls, cursor: Cursor, secret: bytes) -> Places:
        """The places as they are stored: some 0.3 s for a million."""
        places = cls(secret)
        index = -1
        while rows := list(read_rows(cursor, sql("read_given"), {"after": index, "limit": _ROWS})):
            for number, data in rows:
                index = int.from_bytes(number, "big")
                for position, version, number_, idx in unpack_given(data):
                    owner = _owner(staterow.place(index, position), version)
                    places._open(number_).take(idx, owner)
        after = {"list": 0, "number": -1}
        while rows := list(read_rows(cursor, sql("read_changes"), {**after, "limit": _ROWS})):
            for one, number, data in rows:
                after = {
                    "list": int.from_bytes(one, "big"),
                    "number": int.from_bytes(number, "big"),
                }
                changed = places._lists.get(after["list"])
                if changed is None:
                    raise ProofError("stored-bytes-damaged", f"status list {after['list']}")
                changed.rows = after["number"] + 1
                for idx, said in unpack_changes(data):
                    changed.says[idx] = said
        return places

    def draw(self, wanted: Sequence[tuple[bytes, int, int]]) -> list[tuple[int, int]]:
        """For each (map key, version, place of the event that gave it), in their order: the list
        that is being filled, a new one where that is full, and the first free place drawn in it,
        which from now on is that version's.
        """
        drawn = []
        one = self._lists.get(self.filled)
        for key, version, place in wanted:
            if one is None or one.count >= LIST_CAPACITY:
                if self.filled + 1 >= _LISTS:
                    raise ValueError("no room for another status list")
                one = self._open(self.filled + 1)
            attempt = 0
            while one.owners[idx := statuslist.draw_place(self._secret, key, version, attempt)]:
                attempt += 1
            one.take(idx, _owner(place, version))
            drawn.append((self.filled, idx))
        return drawn

    def _open(self, number: int) -> _List:
        """A list, begun now if there is none; the last one is being filled."""
        found = self._lists.get(number)
        if found is None:
            found = self._lists[number] = _List()
            self.filled = max(self.filled, number)
        return found

    def find(self, key: bytes, version: int, places: Sequence[int]) -> tuple[int, int]:
        """(list, place) of the version that the event at one of `places`, ascending, gave;
        ProofError `stored-bytes-damaged` where it has none.
        """
        owners = {_owner(place, version) for place in places}
        for number, one in self._lists.items():
            if not places or max(owners) < one.first or min(owners) > one.last:
                continue
            for n in range(statuslist.ENTRIES):
                idx = statuslist.draw_place(self._secret, key, version, n)
                if one.owners[idx] in owners:
                    return number, idx
                if not one.owners[idx]:
                    break
        raise ProofError(
            "stored-bytes-damaged", f"version {version} of certificate {key.hex()} has no place"
        )

    def say(self, number: int, idx: int, said: int) -> None:
        """Say this at a place from now on."""
        one = self._lists[number]
        if one.says[idx] != said:
            one.says[idx] = said
            self._changes.setdefault(number, []).append(_change.pack(idx << 8 | said))

    def said(self, number: int) -> bytes:
        """What is said at each place of a list, a byte each."""
        one = self._lists.get(number)
        return bytes(statuslist.ENTRIES) if one is None else bytes(one.says)

    def write_changes(self, cursor: Cursor) -> list[int]:
        """Store what was said anew: the numbers of the lists that changed by it."""
        rows = []
        for number, changes in sorted(self._changes.items()):
            one = self._lists[number]
            rows.append((integer(number), bigint(one.rows), b"".join(changes)))
            one.rows += 1
        copy(cursor, "status_change", "list, number, changes", rows)
        changed = sorted(self._changes)
        self._changes = {}
        return changed


def _owner(place: int, version: int) -> int:
    return place << _VERSION_BITS | version & (1 << _VERSION_BITS) - 1
