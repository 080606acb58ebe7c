"""The status map: a Merkle tree over 2^k buckets of (map key, record hash), one map per kind.

The leading k bits of a map key say which bucket it belongs to, so a bucket with its path proves
what the map says of a key, absence included. Here is the form with its proofs; `mapfold` keeps the
maps of a whole ledger. FORMATS.md, section 14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from . import merkle
from .errors import ProofError

CERTIFICATES, HOLDERS = b"C", b"H"  # the kind byte of the map keys too
TAG = b"certledger bucket v1\n"
KEY_SIZE = 32
PAIR = 64  # bytes of a map key and its record hash
MAX_K = 32
MEAN = 16  # records per bucket at most, on average
GROUP = 2  # levels below which a reader hashes neighbouring buckets itself


@dataclass(frozen=True, slots=True)
class MapHead:
    """What a status entry says of one map: its k, and its root over all that the entry reflects."""

    k: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Membership:
    """A bucket's pairs and its path of k hashes: what the map says of every key of the bucket."""

    bucket: bytes
    path: tuple[bytes, ...]


def next_k(k: int, records: int) -> int:
    """The k of a map that had `k` and has so many records: at most 16 a bucket, never shrinking."""
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
    """What every bucket of a map hashes before its number (4 bytes, big-endian) and its pairs."""
    return b"\x00" + TAG + kind + bytes([k])


def bucket_hash(kind: bytes, k: int, number: int, bucket: bytes) -> bytes:
    """The leaf hash of a bucket."""
    return sha256(leaf_prefix(kind, k) + number.to_bytes(4, "big") + bucket).digest()


def check_bucket(k: int, number: int, bucket: bytes) -> None:
    """None when `bucket` is pairs in strictly ascending order of keys that belong there."""
    if len(bucket) % PAIR:
        raise ProofError("proof-failed", "a bucket is pairs of 64 bytes")
    keys = [bucket[i : i + KEY_SIZE] for i in range(0, len(bucket), PAIR)]
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
    bucket: bytes,
    path: Sequence[bytes],
) -> None:
    """None when the map with this root and k says `record` of `key`: a record hash, or nothing.

    The bucket's number comes from the key, never from the proof. ProofError `proof-failed`
    otherwise.
    """
    if not 0 <= k <= MAX_K or len(key) != KEY_SIZE or len(path) != k:
        raise ProofError("proof-failed", f"not a path in a map of k = {k}")
    number = bucket_of(key, k)
    check_bucket(k, number, bucket)
    merkle.check_inclusion(bucket_hash(kind, k, number, bucket), number, 1 << k, path, root)
    found = find(bucket, key)
    if found != record:
        raise ProofError(
            "proof-failed",
            "the map holds no record of this key" if found is None
            else "the map holds a record of this key" if record is None
            else "the map holds another record of this key",
        )  # fmt: skip


def find(bucket: bytes, key: bytes) -> bytes | None:
    """The record hash that a bucket lists for a key."""
    for i in range(0, len(bucket), PAIR):
        if bucket[i : i + KEY_SIZE] == key:
            return bucket[i + KEY_SIZE : i + PAIR]
    return None


def prove(kind: bytes, k: int, key: bytes, records: bytes, upper: merkle.Subtree) -> Membership:
    """The bucket of `key` with its path.

    `records` are the pairs of all keys in `group_range`, ascending; `upper` gives the nodes above
    groups of 2^GROUP buckets as the subtrees of a tree of its own, and is asked for none when k is
    smaller. ProofError `stored-bytes-damaged` when the two do not belong together.
    """
    low = min(k, GROUP)
    number = bucket_of(key, k)
    first = number >> low << low
    buckets = [b""] * (1 << low)
    for i in range(0, len(records), PAIR):
        pair = records[i : i + PAIR]
        place = bucket_of(pair, k) - first
        if not 0 <= place < len(buckets):
            raise ProofError("stored-bytes-damaged", "records of other buckets of the status map")
        buckets[place] += pair
    rows = merkle.levels([bucket_hash(kind, k, first + n, b) for n, b in enumerate(buckets)])
    if k >= GROUP and rows[low][0] != upper(0, first >> low):
        raise ProofError("stored-bytes-damaged", f"buckets from {first} of the status map, k = {k}")

    def subtree(level: int, index: int) -> bytes:
        if level < low:
            return rows[level][index - (first >> level)]
        return upper(level - low, index)

    path = merkle.prove_inclusion(number, 1 << k, subtree)
    return Membership(buckets[number - first], tuple(path))
