"""RFC 6962 Merkle trees (RFC 9162 section 2.1): the only proof machinery of the ledger.

Lines in a bundle, entries in the log, deltas in an entry, records in the registry all use it.
A slow twin straight from the RFC is the oracle in tests/property/test_merkle.py; published
vectors run in tests/vectors/test_merkle.py. Hashes are 32 raw bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

from .errors import ProofError

EMPTY_ROOT = sha256(b"").digest()
HASH_SIZE = 32

Subtree = Callable[[int, int], bytes]
"""(level, index) to the hash of the complete subtree over leaves index*2^level onwards."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf (RFC 9162 section 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def levels(leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
    """All complete subtrees over the leaves: element l holds level l's hashes, leaves first."""
    rows = [list(leaf_hashes)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append(
            [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row) - 1, 2)]
        )
    return rows


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over `leaf_hashes`; SHA-256 of nothing for no leaves."""
    if not leaf_hashes:
        return EMPTY_ROOT
    return fold(leaf_hashes, (len(leaf_hashes) - 1).bit_length())[0]


def fold(hashes: Sequence[bytes], height: int) -> list[bytes]:
    """The roots over each 2^height of `hashes`, the last over what is left: their own root is that
    over all.
    """
    row = list(hashes)
    for _ in range(height):
        if len(row) == 1:
            break
        odd = row[-1:] if len(row) % 2 else []
        pairs = iter(row)
        row = [sha256(b"\x01" + a + b).digest() for a, b in zip(pairs, pairs, strict=False)] + odd
    return row


def in_memory(leaf_hashes: Sequence[bytes]) -> Subtree:
    """A reader of complete subtrees over a list of leaf hashes."""
    rows = levels(leaf_hashes)
    return lambda level, index: rows[level][index]


Known = dict[tuple[int, int], bytes]
"""Roots that were hashed already, by their first leaf and the one after their last."""


def subtree_root(begin: int, end: int, subtree: Subtree, known: Known | None = None) -> bytes:
    """The hash over leaves `begin` to `end` - 1, which must be a node of some tree's shape."""
    size = end - begin
    if size & (size - 1) == 0 and begin % size == 0:
        level = size.bit_length() - 1
        return subtree(level, begin >> level)
    if known is not None and (begin, end) in known:
        return known[begin, end]
    split = begin + _split(size)
    root = node_hash(
        subtree_root(begin, split, subtree, known), subtree_root(split, end, subtree, known)
    )
    if known is not None:
        known[begin, end] = root
    return root


def tree_root(size: int, subtree: Subtree) -> bytes:
    """The root of the tree of `size` leaves read through `subtree`."""
    return subtree_root(0, size, subtree) if size else EMPTY_ROOT


def prove_inclusion(
    index: int, size: int, subtree: Subtree, known: Known | None = None
) -> list[bytes]:
    """PATH(index, D[size]) of RFC 9162 section 2.1.3.1, leaf's sibling first.

    `known` makes many proofs in one tree cheaper: it is handed from each to the next.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        split = begin + _split(end - begin)
        if index < split:
            path.append(subtree_root(split, end, subtree, known))
            end = split
        else:
            path.append(subtree_root(begin, split, subtree, known))
            begin = split
    path.reverse()
    return path


def prove_consistency(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 9162 section 2.1.4.1; empty for equal sizes; old is at least 1."""
    if not 1 <= old <= new:
        raise ValueError(f"no consistency proof from {old} to {new}")
    proof: list[bytes] = []
    begin, end, whole = 0, new, True
    while end != old:
        split = begin + _split(end - begin)
        if old <= split:
            proof.append(subtree_root(split, end, subtree))
            end = split
        else:
            proof.append(subtree_root(begin, split, subtree))
            begin, whole = split, False
    if not whole:
        proof.append(subtree_root(begin, end, subtree))
    proof.reverse()
    return proof


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """None when leaf hash `leaf` is number `index` of the tree (RFC 9162 section 2.1.3.2)."""
    _check_hashes([expected_root])
    if _known_root(leaf, index, size, tuple(proof)) != expected_root:
        raise ProofError("proof-failed", "the inclusion proof leads to another root")


def inclusion_root(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof of leaf hash `leaf` leads to."""
    _check_hashes([leaf, *proof])
    if not 0 <= index < size:
        raise ProofError("proof-failed", f"no leaf {index} in a tree of {size} leaves")
    fn, sn, running = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            raise ProofError("proof-failed", "the inclusion proof is too long")
        if fn & 1 or fn == sn:
            running = sha256(b"\x01" + sibling + running).digest()
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            running = sha256(b"\x01" + running + sibling).digest()
        fn >>= 1
        sn >>= 1
    if sn:
        raise ProofError("proof-failed", "the inclusion proof is too short")
    return running


# Much that is checked under one checkpoint is the same each time; at most some 2 MB.
_known_root = lru_cache(maxsize=1024)(inclusion_root)


def join_paths(paths: Mapping[int, Sequence[bytes]], size: int) -> list[bytes]:
    """The inclusion paths of several leaves as one list: going through the tree from left to right,
    the hash of each largest subtree that holds none of them. ProofError where two paths disagree
    or one is of another tree's shape.
    """
    places = sorted(paths)
    if not places or places[0] < 0 or places[-1] >= size:
        raise ProofError("proof-failed", f"no paths of leaves of a tree of {size}")
    return _join(paths, places, 0, size, 0)


def _join(
    paths: Mapping[int, Sequence[bytes]], places: list[int], begin: int, end: int, depth: int
) -> list[bytes]:
    """That of the subtree over leaves `begin` to `end` - 1, `depth` steps below the root. (A
    closure that calls itself would stay until somebody looks for cycles.)
    """
    if len(places) == 1:
        path, turns = paths[places[0]], _turns(places[0], begin, end)
        if len(path) != depth + len(turns):
            raise ProofError("proof-failed", "a path has another tree's length")
        rest = path[len(turns) - 1 :: -1] if turns else ()
        return [
            *(h for h, is_left in zip(rest, turns, strict=True) if not is_left),
            *(h for h, is_left in zip(path, reversed(turns), strict=False) if is_left),
        ]
    split = begin + _split(end - begin)
    middle = bisect_left(places, split)
    joined = []
    for part, first, after in ((places[:middle], begin, split), (places[middle:], split, end)):
        if part:
            joined += _join(paths, part, first, after, depth + 1)
        else:
            joined.append(_sibling(paths, places, depth))
    return joined


def _turns(place: int, begin: int, end: int) -> list[bool]:
    """Whether one goes left at each node on the way from that over leaves `begin` to `end` - 1 down
    to one of them.
    """
    turns = []
    while end - begin > 1:
        split = begin + _split(end - begin)
        turns.append(place < split)
        begin, end = (begin, split) if place < split else (split, end)
    return turns


def _sibling(paths: Mapping[int, Sequence[bytes]], places: Sequence[int], depth: int) -> bytes:
    """The hash that all paths of these leaves have `depth` steps below the root."""
    found = {paths[place][-1 - depth] for place in places if len(paths[place]) > depth}
    if len(found) != 1:
        raise ProofError("proof-failed", "two paths of one tree disagree")
    return found.pop()


def split_paths(
    leaves: Mapping[int, bytes], size: int, joined: Sequence[bytes]
) -> dict[int, tuple[bytes, ...]]:
    """The inclusion path of each leaf (place to leaf hash) out of `join_paths`; whether they lead
    to any root is not asked. ProofError where the list has not the length that it must have.
    """
    places = sorted(leaves)
    if not places or places[0] < 0 or places[-1] >= size:
        raise ProofError("proof-failed", f"no paths of leaves of a tree of {size}")
    paths: dict[int, list[bytes]] = {place: [] for place in places}
    rest = iter(joined)
    _split_joined(paths, leaves, places, 0, size, rest)
    if next(rest, None) is not None:
        raise ProofError("proof-failed", "the joined paths are too long")
    return {place: tuple(path) for place, path in paths.items()}


def _split_joined(
    paths: dict[int, list[bytes]],
    leaves: Mapping[int, bytes],
    places: list[int],
    begin: int,
    end: int,
    rest: Iterator[bytes],
) -> bytes:
    """The hash of the subtree over leaves `begin` to `end` - 1; those below it go to the paths."""
    if not places:
        return _take(rest)
    if len(places) == 1:
        place = places[0]
        turns = _turns(place, begin, end)
        before = [_take(rest) for is_left in turns if not is_left]
        running = leaves[place]
        for is_left in reversed(turns):
            sibling = _take(rest) if is_left else before.pop()
            paths[place].append(sibling)
            pair = running + sibling if is_left else sibling + running
            running = sha256(b"\x01" + pair).digest()
        return running
    split = begin + _split(end - begin)
    middle = bisect_left(places, split)
    left = _split_joined(paths, leaves, places[:middle], begin, split, rest)
    right = _split_joined(paths, leaves, places[middle:], split, end, rest)
    for place in places[:middle]:
        paths[place].append(right)
    for place in places[middle:]:
        paths[place].append(left)
    return sha256(b"\x01" + left + right).digest()


def _take(rest: Iterator[bytes]) -> bytes:
    value = next(rest, None)
    if value is None:
        raise ProofError("proof-failed", "the joined paths are too short")
    return value


def check_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """None when the tree of `old` leaves is a prefix of the one of `new` (section 2.1.4.2).

    Size 0 is an error here: a caller for whom every tree extends the empty one says so itself.
    """
    _check_hashes([old_root, new_root, *proof])
    if not 1 <= old <= new:
        raise ProofError("proof-failed", f"no consistency from size {old} to size {new}")
    if old == new:
        if proof:
            raise ProofError("proof-failed", "equal sizes need an empty proof")
        if old_root != new_root:
            raise ProofError("proof-failed", "equal sizes with different roots")
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if consistency_roots(old, new, path) != (old_root, new_root):
        raise ProofError("proof-failed", "the consistency proof leads to another root")


def consistency_roots(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """(root of the first `old` leaves, root) of the tree of `new` leaves that `path` is out of.

    The path is a consistency proof with the root of the first `old` leaves in front where `old` is
    a power of two: so it also shows that a tree does not begin with another one.
    """
    _check_hashes(path)
    if not 1 <= old < new:
        raise ProofError("proof-failed", f"no consistency from size {old} to size {new}")
    if not path:
        raise ProofError("proof-failed", "the consistency proof is empty")
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    first = second = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise ProofError("proof-failed", "the consistency proof is too long")
        if fn & 1 or fn == sn:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            second = node_hash(second, sibling)
        fn >>= 1
        sn >>= 1
    if sn:
        raise ProofError("proof-failed", "the consistency proof is too short")
    return first, second


def prove_prefix(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """The path for `consistency_roots`; old is below new."""
    path = prove_consistency(old, new, subtree)
    return [tree_root(old, subtree), *path] if old & (old - 1) == 0 else path


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError("proof-failed", "a hash is not 32 bytes long")


def _split(size: int) -> int:
    """The largest power of two below `size` (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)
