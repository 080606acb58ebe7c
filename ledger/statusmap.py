"""The status map: a Merkle tree over 2^k buckets of (map key, record hash), one map per kind.

The leading k bits of a map key say which bucket it belongs to, so a bucket with its path proves
what the map says of a key, absence included. A bucket of more than 64 pairs is a Merkle tree
itself, and one pair or two neighbours of it do, however many keys somebody grinds into it. Here is
the form with its proofs; `mapfold` keeps the maps of a whole ledger. FORMATS.md, section 14.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple

from . import merkle
from .errors import ProofError

CERTIFICATES, HOLDERS = b"C", b"H"  # the kind byte of the map keys too
TAG = b"certledger bucket v1\n"
KEY_SIZE = 32
PAIR = 64  # bytes of a map key and its record hash
MAX_K = 32
MEAN = 8  # records per bucket at most, on average
SMALL = 64  # pairs of a bucket that is hashed and shown whole
GROUP = 2  # levels below which a reader hashes neighbouring buckets itself


@dataclass(frozen=True, slots=True)
class MapHead:
    """What a status entry says of one map: its k, and its root over all that the entry reflects."""

    k: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """Where the pairs shown of a large bucket stand: `first` and on, of `count`; a path for each
    to the root over all pairs.
    """

    count: int
    first: int
    paths: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """A bucket's pairs and its path of k hashes: what the map says of every key of the bucket.

    Of a large bucket (`part`), the pair of one key, or the one or two between which it would be.
    """

    bucket: bytes
    path: tuple[bytes, ...]
    part: Part | None = None


def next_k(k: int, records: int) -> int:
    """The k of a map that had `k` and has so many records: at most 8 a bucket, never shrinking."""
    return max(k, min(MAX_K, (max(records - 1, 0) // MEAN).bit_length()))


def bucket_of(key: bytes, k: int) -> int:
    """The number of the key's bucket: its leading k bits."""
    return int.from_bytes(key[:4], "big") >> (MAX_K - k)


def key_range(k: int, number: int) -> tuple[bytes, bytes]:
    """The first and the last key of a bucket; with k - n and number >> n, of 2^n neighbours."""
    width = 8 * KEY_SIZE - k
    first = number << width
    return first.to_bytes(KEY_SIZE, "big"), (first + (1 << width) - 1).to_bytes(KEY_SIZE, "big")


def group_range(k: int, key: bytes) -> tuple[bytes, bytes]:
    """The first and the last key of the records that `prove` needs for `key`."""
    upper = max(k - GROUP, 0)
    return key_range(upper, bucket_of(key, upper))


def leaf_prefix(kind: bytes, k: int) -> bytes:
    """What every bucket of a map hashes before its number and how many pairs it has (4 bytes each,
    big-endian), and its `content`.
    """
    return b"\x00" + TAG + kind + bytes([k])


def content(bucket: bytes) -> bytes:
    """What a bucket hashes of its pairs: themselves, of a large one the root over them."""
    return bucket if len(bucket) <= SMALL * PAIR else merkle.root(_leaves(bucket))


def bucket_hash(kind: bytes, k: int, number: int, bucket: bytes) -> bytes:
    """The leaf hash of a bucket."""
    return _leaf(kind, k, number, len(bucket) // PAIR, content(bucket))


def _leaf(kind: bytes, k: int, number: int, count: int, content: bytes) -> bytes:
    place = number.to_bytes(4, "big") + count.to_bytes(4, "big")
    return sha256(leaf_prefix(kind, k) + place + content).digest()


def _leaves(bucket: bytes) -> list[bytes]:
    return [merkle.leaf_hash(bucket[i : i + PAIR]) for i in range(0, len(bucket), PAIR)]


def _keys(bucket: bytes) -> list[bytes]:
    return [bucket[i : i + KEY_SIZE] for i in range(0, len(bucket), PAIR)]


def show(key: bytes, bucket: bytes, path: Sequence[bytes]) -> Membership:
    """What a whole bucket with its path says of a key that belongs there."""
    count = len(bucket) // PAIR
    if count <= SMALL:
        return Membership(bucket, tuple(path))
    keys = _keys(bucket)
    place = bisect_left(keys, key)
    if place < count and keys[place] == key:
        first, end = place, place + 1
    else:
        first, end = max(place - 1, 0), min(place + 1, count)
    subtree = merkle.in_memory(_leaves(bucket))
    paths = tuple(tuple(merkle.prove_inclusion(n, count, subtree)) for n in range(first, end))
    return Membership(bucket[first * PAIR : end * PAIR], tuple(path), Part(count, first, paths))


def check_bucket(k: int, number: int, bucket: bytes) -> None:
    """None when `bucket` is pairs in strictly ascending order of keys that belong there."""
    if len(bucket) % PAIR:
        raise ProofError("proof-failed", "a bucket is pairs of 64 bytes")
    keys = _keys(bucket)
    if any(a >= b for a, b in pairwise(keys)):
        raise ProofError("proof-failed", "a bucket's keys are not strictly ascending")
    if keys and (bucket_of(keys[0], k), bucket_of(keys[-1], k)) != (number, number):
        raise ProofError("proof-failed", "a bucket lists a key of another bucket")


def check_membership(
    root: bytes,
    kind: bytes,
    k: int,
    key: bytes,
    record: bytes | None,
    shown: Membership,
) -> None:
    """None when the map with this root and k says `record` of `key`: a record hash, or nothing.

    The bucket's number comes from the key, never from the proof. ProofError `proof-failed`
    otherwise.
    """
    if not 0 <= k <= MAX_K or len(key) != KEY_SIZE or len(shown.path) != k:
        raise ProofError("proof-failed", f"not a path in a map of k = {k}")
    number = bucket_of(key, k)
    check_bucket(k, number, shown.bucket)
    if shown.part is not None:
        leaf = _leaf(kind, k, number, shown.part.count, _part_root(shown.part, key, shown.bucket))
    elif len(shown.bucket) <= SMALL * PAIR:
        leaf = bucket_hash(kind, k, number, shown.bucket)
    else:
        raise ProofError("proof-failed", f"a bucket of more than {SMALL} pairs is shown in part")
    merkle.check_inclusion(leaf, number, 1 << k, shown.path, root)
    found = find(shown.bucket, key)
    if found != record:
        raise ProofError(
            "proof-failed",
            "the map holds no record of this key" if found is None
            else "the map holds a record of this key" if record is None
            else "the map holds another record of this key",
        )  # fmt: skip


def _part_root(part: Part, key: bytes, bucket: bytes) -> bytes:
    """The root over all pairs of a large bucket, when what is shown of it settles what it says of
    `key`: its pair, or that there is none between two neighbours, before the first or after the
    last.
    """
    keys, last = _keys(bucket), part.first + len(part.paths) - 1
    if not SMALL < part.count < 1 << 32 or not 0 <= part.first <= last < part.count:
        raise ProofError("proof-failed", "no such part of a large bucket")
    if len(keys) != len(part.paths) or not (
        keys == [key]
        or (len(keys) == 1 and part.first == 0 and key < keys[0])
        or (len(keys) == 1 and last == part.count - 1 and key > keys[0])
        or (len(keys) == 2 and keys[0] < key < keys[1])
    ):
        raise ProofError("proof-failed", "neither the key's pair nor the pairs it would be between")
    roots = {
        merkle.inclusion_root(leaf, place, part.count, path)
        for place, (leaf, path) in enumerate(
            zip(_leaves(bucket), part.paths, strict=True), part.first
        )
    }
    if len(roots) != 1:
        raise ProofError("proof-failed", "two pairs of a bucket lead to two roots")
    return roots.pop()


def find(bucket: bytes, key: bytes) -> bytes | None:
    """The record hash that a bucket lists for a key."""
    for i in range(0, len(bucket), PAIR):
        if bucket[i : i + KEY_SIZE] == key:
            return bucket[i + KEY_SIZE : i + PAIR]
    return None


class Group(NamedTuple):
    """2^GROUP neighbouring buckets of a map under one status entry, their tree, and the path of its
    root to the map's.
    """

    first: int  # number of the first bucket
    buckets: tuple[bytes, ...]
    rows: list[list[bytes]]
    path: list[bytes]

    def prove(self, k: int, key: bytes) -> Membership:
        """What the map says of `key`: its bucket with the path."""
        place = bucket_of(key, k) - self.first
        path = [row[place >> level ^ 1] for level, row in enumerate(self.rows[:-1])]
        return show(key, self.buckets[place], [*path, *self.path])

    def weight(self) -> int:
        """Bytes of memory, about."""
        hashes = len(self.path) + 2 * len(self.buckets)
        return sum(map(len, self.buckets)) + 40 * len(self.buckets) + 72 * hashes + 300


def fold_group(kind: bytes, k: int, key: bytes, records: bytes, upper: merkle.Subtree) -> Group:
    """The group of a key's bucket.

    `records` are the pairs of all keys in `group_range`, ascending; `upper` gives the nodes above
    groups of 2^GROUP buckets as the subtrees of a tree of its own, and is asked for none when k is
    smaller. ProofError `stored-bytes-damaged` when the two do not belong together.
    """
    low = min(k, GROUP)
    first = bucket_of(key, k) >> low << low
    buckets = [b""] * (1 << low)
    for i in range(0, len(records), PAIR):
        pair = records[i : i + PAIR]
        place = bucket_of(pair, k) - first
        if not 0 <= place < len(buckets):
            raise ProofError("stored-bytes-damaged", "records of other buckets of the status map")
        buckets[place] += pair
    rows = merkle.levels([bucket_hash(kind, k, first + n, b) for n, b in enumerate(buckets)])
    path: list[bytes] = []
    if k >= GROUP:
        if rows[low][0] != upper(0, first >> low):
            raise ProofError(
                "stored-bytes-damaged", f"buckets from {first} of the status map, k = {k}"
            )
        path = merkle.prove_inclusion(first >> low, 1 << (k - low), upper)
    return Group(first, tuple(buckets), rows, path)
