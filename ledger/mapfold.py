"""The status map of a whole ledger, kept in memory: folds delta lists, gives roots and proofs.

Records lie in ascending order, 64 bytes each, in *regions*: anonymous mappings of their own, of
which only what is written takes memory (out of malloc's hands, which kept half as much again). The
tree of 2^(k+1) hashes lies beside them. Nothing is on disk: what is here can be read again from the
current states or folded again from the log. For the sequencer, fsck and audits; the verifying path
has no numpy.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from . import merkle, tiles
from .statusmap import (
    GROUP,
    MAX_K,
    PAIR,
    Membership,
    bucket_of,
    content,
    key_range,
    leaf_prefix,
    show,
)

_RECORD = np.dtype([("key", "S32"), ("record", "S32")])
# At one width S32 compares as 32 bytes do; only an element taken out loses zeros at its end.

Records = npt.NDArray[np.void]
Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint8]  # (count, 32)


class StatusMap:
    """One map, certificates' or holders'. Not safe for several threads at once."""

    def __init__(self, kind: bytes, k: int = 0) -> None:
        """An empty map. `k` may be that of the records to come, which spares growing."""
        self.kind = kind
        self.records = 0
        self._plant(k)
        self._regions = [_region(0) for _ in range(1 << self._region_bits)]
        self._lengths = [0] * len(self._regions)

    def _plant(self, k: int) -> None:
        """Begin a tree of 2^k buckets, nothing of it hashed yet."""
        self.k = k
        self._region_bits = k // 2
        self._tree: list[Hashes] = [
            np.zeros((1 << level, 32), np.uint8) for level in range(k, -1, -1)
        ]
        self._touched = np.ones(1 << k, bool)
        self._changed: set[tuple[int, int]] = set()

    def fold(self, deltas: bytes) -> None:
        """Take in delta lists, joined in log order: a later record of a key overrules earlier ones.

        Hashes nothing: the next `root` does.
        """
        if len(deltas) % PAIR:
            raise ValueError("delta lists are pairs of 64 bytes")
        if not deltas:
            return
        pairs = np.frombuffer(deltas, _RECORD)
        keys = _keys(pairs)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        last = np.ones(len(keys), bool)
        last[:-1] = keys[1:] != keys[:-1]
        pairs = pairs[order[last]]
        self._touched[_buckets(pairs, self.k)] = True
        for place, begin, end in _runs(_buckets(pairs, self._region_bits)):
            self._merge(place, pairs[begin:end])

    def _merge(self, place: int, pairs: Records) -> None:
        length = self._lengths[place]
        region = self._regions[place][:length]
        keys, wanted = _keys(region), _keys(pairs)
        at = np.searchsorted(keys, wanted)
        known = np.zeros(len(pairs), bool)
        if length:
            known = keys[np.minimum(at, length - 1)] == wanted
        region["record"][at[known]] = pairs["record"][known]
        new = ~known
        merged = np.insert(region, at[new], pairs[new])
        if len(merged) > length:
            self.records += len(merged) - length
            self._put(place, merged)

    def _put(self, place: int, records: Records) -> None:
        if len(records) > len(self._regions[place]):
            self._regions[place] = _region(len(records))
        self._regions[place][: len(records)] = records
        self._lengths[place] = len(records)

    def root(self) -> bytes:
        """The map's root; hashes the touched buckets and the nodes above them."""
        touched = np.flatnonzero(self._touched)
        self._touched[:] = False
        if len(touched):
            self._hash_buckets(touched)
        for level in range(1, self.k + 1):
            if level > GROUP and (level - GROUP) % tiles.HEIGHT == 1:
                self._note_tiles((level - GROUP) // tiles.HEIGHT, touched)
            touched = _distinct(touched >> 1)
            children = np.ones((len(touched), 65), np.uint8)
            children[:, 1:] = self._tree[level - 1].reshape(-1, 64)[touched]
            data = children.tobytes()
            hashes = [sha256(data[i : i + 65]).digest() for i in range(0, len(data), 65)]
            self._tree[level][touched] = _hashes(hashes)
        if self.k >= GROUP and (self.k - GROUP) % tiles.HEIGHT == 0:
            self._note_tiles((self.k - GROUP) // tiles.HEIGHT, touched)
        return self._tree[self.k].tobytes()

    def _hash_buckets(self, touched: Numbers) -> None:
        prefix, hashes = leaf_prefix(self.kind, self.k), []
        for place, begin, end in _runs(touched >> (self.k - self._region_bits)):
            region, numbers = self._regions[place][: self._lengths[place]], touched[begin:end]
            buckets = _buckets(region, self.k)
            firsts = np.searchsorted(buckets, numbers)
            lasts = np.searchsorted(buckets, numbers, "right")
            places = np.stack([numbers, lasts - firsts], 1).astype(">u4").tobytes()
            data = region.tobytes()
            hashes += [
                sha256(prefix + places[at : at + 8] + content(data[first:last])).digest()
                for at, first, last in zip(
                    range(0, len(places), 8),
                    (firsts * PAIR).tolist(),
                    (lasts * PAIR).tolist(),
                    strict=True,
                )
            ]
        self._tree[0][touched] = _hashes(hashes)

    def _note_tiles(self, level: int, touched: Numbers) -> None:
        places = _distinct(touched // tiles.WIDTH)
        self._changed.update((level, place) for place in places.tolist())

    def grow(self, k: int) -> None:
        """Go on with 2^k buckets; the next `root` hashes all of them."""
        if not self.k <= k <= MAX_K:
            raise ValueError(f"a map of k = {self.k} does not become one of k = {k}")
        was = self._region_bits
        self._plant(k)
        for bits in range(was + 1, self._region_bits + 1):
            self._split(bits)

    def _split(self, bits: int) -> None:
        """Two regions out of each, so that there are 2^bits."""
        regions, lengths = self._regions[::-1], self._lengths[::-1]
        self._regions, self._lengths = [], []
        while regions:  # one at a time: twice the memory for one region only
            records = regions.pop()[: lengths.pop()]
            middle = int(np.searchsorted(_buckets(records, bits) & 1, 1))
            for half in (records[:middle], records[middle:]):
                self._regions.append(_region(len(half)))
                self._lengths.append(0)
                self._put(len(self._regions) - 1, half)

    def prove(self, key: bytes) -> Membership:
        """What the map said of a key at the last `root`; ValueError when it was touched since."""
        if self._touched.any():
            raise ValueError("folded since the last root")
        number = bucket_of(key, self.k)

        def subtree(level: int, index: int) -> bytes:
            return bytes(self._tree[level][index])

        path = merkle.prove_inclusion(number, 1 << self.k, subtree)
        return show(key, self.pairs(*key_range(self.k, number)), path)

    def pairs(self, first: bytes, last: bytes) -> bytes:
        """All pairs with keys from `first` to `last`, ascending."""
        bits = self._region_bits
        found = []
        for place in range(bucket_of(first, bits), bucket_of(last, bits) + 1):
            region = self._regions[place][: self._lengths[place]]
            begin = int(np.searchsorted(_keys(region), np.frombuffer(first, "S32"))[0])
            end = int(np.searchsorted(_keys(region), np.frombuffer(last, "S32"), "right")[0])
            found.append(region[begin:end].tobytes())
        return b"".join(found)

    def changed_tiles(self) -> dict[tuple[int, int], bytes]:
        """What changed since `settle`, as of the last `root`: tiles (level, index) of the form of
        `tiles.subtree_reader`, with groups of 2^GROUP buckets for leaves. None when k is smaller.
        """
        return {place: self.tile(*place) for place in self._changed}

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of one tile as of the last `root`, nothing for one outside the tree."""
        height = GROUP + level * tiles.HEIGHT
        if height > self.k:
            return b""
        return self._tree[height][index * tiles.WIDTH : (index + 1) * tiles.WIDTH].tobytes()

    def settle(self) -> None:
        """Forget which tiles changed: they are stored."""
        self._changed.clear()


def without(pairs: bytes, keys: bytes) -> bytes:
    """The pairs but those of `keys`, joined."""
    if not keys:
        return pairs
    found = np.frombuffer(pairs, _RECORD)
    return found[~np.isin(_keys(found), np.frombuffer(keys, "S32"))].tobytes()


def _region(records: int) -> Records:
    """Room for so many records and an eighth more; untouched pages take no memory."""
    room = records + records // 8 + 8
    return np.frombuffer(mmap.mmap(-1, room * PAIR), _RECORD)


def _keys(pairs: Records) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(pairs["key"])


def _hashes(hashes: list[bytes]) -> Hashes:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def _buckets(pairs: Records, k: int) -> Numbers:
    """The leading k bits of each key."""
    heads = np.ascontiguousarray(pairs.view(np.uint8).reshape(-1, PAIR)[:, :4])
    return heads.view(">u4").ravel().astype(np.int64) >> (MAX_K - k)


def _distinct(numbers: Numbers) -> Numbers:
    """Ascending numbers, each once."""
    kept = np.ones(len(numbers), bool)
    kept[1:] = numbers[1:] != numbers[:-1]
    return numbers[kept]


def _runs(numbers: Numbers) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of each run of equal ones in ascending numbers."""
    begins = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = np.append(begins[1:], len(numbers))
    return zip(numbers[begins].tolist(), begins.tolist(), ends.tolist(), strict=True)
