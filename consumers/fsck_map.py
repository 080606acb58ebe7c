"""fsck, the status maps: both folded again by code of its own, beside what the entries say.

Plain dictionaries and lists, no arrays: slower than `ledger/mapfold.py` and sharing nothing with it
but the bytes of FORMATS.md, section 14. What changed between two status entries is hashed again,
the rest is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Protocol

_TAG = b"certledger bucket v1\n"
MEAN, _GROUP, _TILE = 8, 2, 8  # records a bucket at most; levels below and of a tile
_SMALL = 64  # pairs of a bucket that is hashed whole


class AnyMap(Protocol):
    """A map that takes delta lists, whoever folds it."""

    @property
    def k(self) -> int: ...
    def take(self, deltas: bytes) -> None: ...
    def root(self) -> bytes: ...
    def tile(self, level: int, index: int) -> bytes: ...


class Map:
    """One map, of certificates (`C`) or holders (`H`), after the entries taken so far."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.k = 0
        self._taken: dict[bytes, bytes] = {}  # records that are in no bucket yet
        self._records = 0  # in buckets
        self._buckets: list[dict[bytes, bytes]] = [{}]
        self._levels: list[list[bytes]] = [[bytes(32)]]
        self._hash([0])

    def take(self, deltas: bytes) -> None:
        """Take in an entry's delta list."""
        for at in range(0, len(deltas), 64):
            self._taken[deltas[at : at + 32]] = deltas[at + 32 : at + 64]

    def root(self) -> bytes:
        """The root over everything taken in; `k` is what it must be by then."""
        touched = {self._put(key, record) for key, record in self._taken.items()}
        self._taken.clear()
        k = self.k
        while self._records > MEAN << k and k < 32:
            k += 1
        if k != self.k:
            before, self.k = self._buckets, k
            self._buckets = [{} for _ in range(1 << k)]
            self._levels = [[bytes(32)] * (1 << level) for level in range(k, -1, -1)]
            self._records = 0
            for bucket in before:
                for key, record in bucket.items():
                    self._put(key, record)
            touched = set(range(1 << k))
        self._hash(sorted(touched))
        return self._levels[-1][0]

    def _put(self, key: bytes, record: bytes) -> int:
        """Put a record into its bucket, whose number it returns."""
        number = self._number(key)
        bucket = self._buckets[number]
        self._records += key not in bucket
        bucket[key] = record
        return number

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile, nothing for one outside the tree."""
        height = _GROUP + _TILE * level
        row = self._levels[height] if height <= self.k else []
        return b"".join(row[256 * index : 256 * index + 256])

    def _number(self, key: bytes) -> int:
        return int.from_bytes(key, "big") >> (256 - self.k)

    def _hash(self, touched: list[int]) -> None:
        head = b"\x00" + _TAG + self.kind.encode() + bytes([self.k])
        for number in touched:
            pairs = [key + record for key, record in sorted(self._buckets[number].items())]
            place = number.to_bytes(4, "big") + len(pairs).to_bytes(4, "big")
            said = b"".join(pairs) if len(pairs) <= _SMALL else _root(pairs)
            self._levels[0][number] = sha256(head + place + said).digest()
        for below, row in zip(self._levels, self._levels[1:], strict=False):
            touched = sorted({number >> 1 for number in touched})
            for number in touched:
                pair = below[2 * number] + below[2 * number + 1]
                row[number] = sha256(b"\x01" + pair).digest()


def _root(pairs: list[bytes]) -> bytes:
    """The Merkle tree's root, as RFC 9162 section 2.1.1 words it, over a large bucket's pairs."""
    if len(pairs) == 1:
        return sha256(b"\x00" + pairs[0]).digest()
    split = 1 << ((len(pairs) - 1).bit_length() - 1)
    return sha256(b"\x01" + _root(pairs[:split]) + _root(pairs[split:])).digest()


class StoredTiles:
    """The newest version of each stored tile, as far as the log was played."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int], bytes] = {}

    def take(self, kind: str, level: int, index: int, data: bytes) -> None:
        """Take in one version."""
        self._found[kind, level, index] = data

    def missing(self, maps: Mapping[str, AnyMap]) -> Iterator[tuple[str, int, int]]:
        """The tiles (kind, level, index) of the maps that are not what a reader finds now."""
        for kind, folded in maps.items():
            for level, index in _tiles(folded.k):
                if self._found.get((kind, level, index)) != folded.tile(level, index):
                    yield kind, level, index


def _tiles(k: int) -> Iterator[tuple[int, int]]:
    """(level, index) of every tile of a tree over 2^k buckets."""
    for level, height in enumerate(range(_GROUP, k + 1, _TILE)):
        for index in range(((1 << (k - height)) + 255) // 256):
            yield level, index
