"""The status map of a whole ledger, kept in memory: folds delta lists, gives roots and proofs.

Records lie as they came, 64 bytes each, in *regions*: anonymous mappings of their own, of which
only what is written takes memory (out of malloc's hands, which kept half as much again). Beside
them lie the first 8 bytes of their keys, ascending, and where each record is: what a new record
moves is 12 bytes for each after it, and what a root reads are the records of touched buckets. The
tree of 2^(k+1) hashes is there too. Nothing is on disk: what is here can be read again from the
current states or folded again from the log. For the sequencer, fsck and audits; the verifying path
has no numpy.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from . import merkle, statusmap, tiles
from .statusmap import (
    GROUP,
    KEY_SIZE,
    MAX_K,
    PAIR,
    Membership,
    bucket_hash,
    bucket_of,
    key_range,
    leaf_prefix,
    show,
)

_RECORD = np.dtype([("key", "S32"), ("record", "S32")])
# At one width S32 compares as 32 bytes do; only an element taken out loses zeros at its end.
_PART, _NODE = np.dtype("V32"), np.dtype("V65")
_REGION = 13  # a region has at most 2^13 buckets

Records = npt.NDArray[np.void]
Numbers = npt.NDArray[np.int64]
Heads = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint8]  # (count, 32)


class _Region:
    """The records of a range of keys."""

    def __init__(self) -> None:
        self.count = 0
        self.heads: Heads = np.empty(0, np.uint64)  # ascending, as the whole keys are
        self._order = np.empty(0, np.uint32)  # where the records are, likewise
        self._records = _map_records(0)

    def merge(self, pairs: Records) -> None:
        """Take in pairs with ascending keys, each once."""
        heads, count = _heads(pairs), self.count
        at = np.searchsorted(self.heads, heads)
        known = np.zeros(len(pairs), bool)
        if count:
            found = np.minimum(at, count - 1)
            known = self.heads[found] == heads
            held = self._records["key"][self._order[found[known]]]
            if not np.array_equal(held, pairs["key"][known]):  # keys with one beginning
                keys = _keys(self.take(np.arange(count)))
                at = np.searchsorted(keys, _keys(pairs))
                known = keys[np.minimum(at, count - 1)] == pairs["key"]
            self._records["record"][self._order[at[known]]] = pairs["record"][known]
        new = ~known
        added = pairs[new]
        if len(added):
            self.count = count + len(added)
            if self.count > len(self._records):
                records = _map_records(self.count)
                records[:count] = self._records[:count]
                self._records = records
            self._records[count : self.count] = added
            places = np.arange(count, self.count, dtype=np.uint32)
            self._order = np.insert(self._order, at[new], places)
            self.heads = np.insert(self.heads, at[new], heads[new])

    def find(self, buckets: Numbers, k: int) -> tuple[Numbers, Numbers]:
        """The number of the first record of each of 2^k buckets, and how many it has."""
        firsts = buckets.astype(np.uint64) << np.uint64(64 - k)  # none is left of k = 0
        lasts = firsts | ~np.uint64(0) >> np.uint64(k)
        found = np.searchsorted(self.heads, firsts)
        return found, np.searchsorted(self.heads, lasts, "right") - found

    def split(self, first: int, bits: int) -> list[_Region]:
        """Two regions of keys that begin with `bits` bits, `first` and one more."""
        middle = int(self.find(np.array([first + 1]), bits)[0][0])
        halves = [_Region(), _Region()]
        halves[0].merge(self.take(np.arange(middle)))
        halves[1].merge(self.take(np.arange(middle, self.count)))
        return halves

    def take(self, numbers: Numbers) -> Records:
        """The records with these numbers in the order of keys."""
        return self._records.take(self._order[numbers])

    def between(self, first: bytes, last: bytes) -> bytes:
        """All pairs with keys from `first` to `last`, ascending."""
        begin = np.searchsorted(self.heads, np.uint64(int.from_bytes(first[:8], "big")))
        end = np.searchsorted(self.heads, np.uint64(int.from_bytes(last[:8], "big")), "right")
        records = self.take(np.arange(begin, end))
        keys = _keys(records)
        within = (keys >= np.frombuffer(first, "S32")) & (keys <= np.frombuffer(last, "S32"))
        return records[within].tobytes()


class StatusMap:
    """One map, certificates' or holders'. Not safe for several threads at once."""

    def __init__(self, kind: bytes, k: int = 0) -> None:
        """An empty map. `k` may be that of the records to come, which spares growing."""
        self.kind = kind
        self.records = 0
        self._plant(k)
        self._regions = [_Region() for _ in range(1 << self._region_bits)]

    def _plant(self, k: int) -> None:
        """Begin a tree of 2^k buckets, nothing of it hashed yet."""
        self.k = k
        self._region_bits = max(k - _REGION, 0)
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
        pairs = _last_of_each(np.frombuffer(deltas, _RECORD))
        self._touched[_buckets(pairs, self.k)] = True
        for place, begin, end in _runs(_buckets(pairs, self._region_bits)):
            region = self._regions[place]
            self.records -= region.count
            region.merge(pairs[begin:end])
            self.records += region.count

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
            children[:, 1:] = self._tree[level - 1].reshape(-1, 64).take(touched, 0)
            nodes = map(sha256, children.view(_NODE).ravel().tolist())
            self._tree[level][touched] = _hashes([node.digest() for node in nodes])
        if self.k >= GROUP and (self.k - GROUP) % tiles.HEIGHT == 0:
            self._note_tiles((self.k - GROUP) // tiles.HEIGHT, touched)
        return self._tree[self.k].tobytes()

    def _hash_buckets(self, touched: Numbers) -> None:
        hashes: list[bytes] = []
        for place, begin, end in _runs(touched >> (self.k - self._region_bits)):
            hashes += self._hash_region(self._regions[place], touched[begin:end])
        self._tree[0][touched] = _hashes(hashes)

    def _hash_region(self, region: _Region, numbers: Numbers) -> list[bytes]:
        """The hashes of buckets of one region, ascending."""
        firsts, counts = region.find(numbers, self.k)
        ends = np.cumsum(counts)
        taken = np.repeat(firsts - ends + counts, counts) + np.arange(ends[-1])
        # What buckets hash, one after the other in parts as long as a key: the prefix with number
        # and count is one, each pair two.
        prefix = leaf_prefix(self.kind, self.k)
        heads = np.empty((len(numbers), KEY_SIZE), np.uint8)
        heads[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
        heads[:, len(prefix) :] = np.stack([numbers, counts], 1).astype(">u4").view(np.uint8)
        begins = 2 * (ends - counts) + np.arange(len(numbers))
        parts = np.empty(len(numbers) + 2 * len(taken), _PART)
        parts[begins] = heads.view(_PART).ravel()
        is_pair = np.ones(len(parts), bool)
        is_pair[begins] = False
        parts[is_pair] = region.take(taken).view(_PART)
        data = parts.tobytes()
        spans = [*(begins * KEY_SIZE).tolist(), len(data)]
        hashes = [sha256(data[begin:end]).digest() for begin, end in pairwise(spans)]
        for n in np.flatnonzero(counts > statusmap.SMALL).tolist():
            bucket = data[spans[n] + KEY_SIZE : spans[n + 1]]
            hashes[n] = bucket_hash(self.kind, self.k, int(numbers[n]), bucket)
        return hashes

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
        regions, self._regions = self._regions[::-1], []
        while regions:  # one at a time: twice the memory for one region only
            self._regions += regions.pop().split(len(self._regions), bits)

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
        places = range(bucket_of(first, bits), bucket_of(last, bits) + 1)
        return b"".join(self._regions[place].between(first, last) for place in places)

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


def _last_of_each(pairs: Records) -> Records:
    """The last pair of each key, with keys ascending."""
    heads = _heads(pairs)
    order = np.argsort(heads, kind="stable")
    heads = heads[order]
    twice = np.flatnonzero(heads[1:] == heads[:-1])
    if not np.array_equal(pairs["key"][order[twice]], pairs["key"][order[twice + 1]]):
        keys = _keys(pairs)  # some have one beginning
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        twice = np.flatnonzero(keys[1:] == keys[:-1])
    last = np.ones(len(pairs), bool)
    last[twice] = False
    return pairs[order[last]]


def _map_records(records: int) -> Records:
    """Room for so many records and an eighth more; untouched pages take no memory."""
    room = records + records // 8 + 8
    return np.frombuffer(mmap.mmap(-1, room * PAIR), _RECORD)


def _keys(pairs: Records) -> npt.NDArray[np.bytes_]:
    return np.ascontiguousarray(pairs["key"])


def _heads(pairs: Records) -> Heads:
    """The first 8 bytes of each key."""
    heads = np.ascontiguousarray(pairs.view(np.uint8).reshape(-1, PAIR)[:, :8])
    return heads.view(">u8").ravel().astype(np.uint64)


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
