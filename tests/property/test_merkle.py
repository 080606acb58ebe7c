"""Trees, proofs and tiles against a slow twin written straight from RFC 9162 section 2.1."""

from __future__ import annotations

import gc
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle, tiles
from ledger.errors import ProofError
from ledger.linetree import GROUP, HEIGHT, line_tree

LEAVES = [merkle.leaf_hash(b"%d" % n) for n in range(70_000)]
sizes = st.integers(1, 300) | st.integers(300, 2000)


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH(D[n]), section 2.1.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def slow_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]), section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*slow_path(m, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(m - k, leaves[k:]), slow_root(leaves[:k])]


def slow_consistency(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b), section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [slow_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*slow_consistency(m, leaves[:k], whole), slow_root(leaves[k:])]
    return [*slow_consistency(m - k, leaves[k:], False), slow_root(leaves[:k])]


def slow_joined(shown: set[int], leaves: list[bytes], begin: int = 0) -> list[bytes]:
    """The subtrees from left to right that hold none of the leaves (FORMATS.md, section 13)."""
    if not shown & set(range(begin, begin + len(leaves))):
        return [slow_root(leaves)]
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    return [*slow_joined(shown, leaves[:k], begin), *slow_joined(shown, leaves[k:], begin + k)]


@given(st.integers(1, 200), st.data())
def test_joined_paths(size: int, data: st.DataObject) -> None:
    leaves = LEAVES[:size]
    places = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=6))
    paths = {n: tuple(slow_path(n, leaves)) for n in places}
    joined = merkle.join_paths(paths, size)
    assert joined == slow_joined(places, leaves)
    assert merkle.split_paths({n: leaves[n] for n in places}, size, joined) == paths
    # of whatever hashes: what was split is joined to the same
    other = [bytes([n % 256]) * 32 for n, _ in enumerate(joined)]
    forged = merkle.split_paths({n: leaves[n] for n in places}, size, other)
    assert merkle.join_paths(forged, size) == other
    for damaged in (joined[:-1], [*joined, bytes(32)]):
        if damaged != joined:
            with pytest.raises(ProofError, match="joined paths"):
                merkle.split_paths({n: leaves[n] for n in places}, size, damaged)


def test_joined_paths_that_cannot_be() -> None:
    paths = {n: slow_path(n, LEAVES[:5]) for n in (1, 4)}
    for wrong, size in (
        ({}, 5),
        ({5: paths[4]}, 5),
        ({-1: paths[4]}, 5),
        ({**paths, 1: paths[1][:-1]}, 5),
        ({**paths, 0: [LEAVES[1], bytes(32), LEAVES[4]]}, 5),
        ({0: paths[1][:2]}, 5),
        (paths, 9),
    ):
        with pytest.raises(ProofError):
            merkle.join_paths(wrong, size)
    for places in ((), (5,), (-1,)):
        with pytest.raises(ProofError):
            merkle.split_paths(dict.fromkeys(places, bytes(32)), 5, [bytes(32)] * 3)


def test_joining_paths_leaves_nothing_in_cycles() -> None:
    paths = {n: tuple(slow_path(n, LEAVES[:5])) for n in (1, 4)}
    gc.collect()
    gc.disable()
    try:
        merkle.split_paths({n: LEAVES[n] for n in paths}, 5, merkle.join_paths(paths, 5))
        assert gc.collect() == 0
    finally:
        gc.enable()


@given(sizes, st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    leaves = LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    subtree = merkle.in_memory(leaves)
    path = merkle.prove_inclusion(index, size, subtree)
    root = merkle.root(leaves)
    assert root == slow_root(leaves) == merkle.tree_root(size, subtree)
    assert path == slow_path(index, leaves)
    merkle.check_inclusion(leaves[index], index, size, path, root)
    other = data.draw(
        st.integers(0, size - 1).filter(lambda n: n != index) if size > 1 else st.just(size)
    )
    with pytest.raises(ProofError):
        merkle.check_inclusion(leaves[index], other, size, path, root)
    for broken in (path[:-1], [*path, root], [*path, path[-1]] if path else [root]):
        if broken != path:
            with pytest.raises(ProofError):
                merkle.check_inclusion(leaves[index], index, size, broken, root)


@given(sizes)
def test_many_proofs_in_one_tree_share_what_was_hashed(size: int) -> None:
    leaves = LEAVES[:size]
    subtree, known = merkle.in_memory(leaves), merkle.Known()
    for index in range(0, size, max(1, size // 7)):
        path = merkle.prove_inclusion(index, size, subtree, known)
        assert path == merkle.prove_inclusion(index, size, subtree)


@given(sizes, st.data())
def test_consistency(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    leaves = LEAVES[:new]
    proof = merkle.prove_consistency(old, new, merkle.in_memory(leaves))
    old_root, new_root = merkle.root(leaves[:old]), merkle.root(leaves)
    assert proof == slow_consistency(old, leaves)
    merkle.check_consistency(old, new, proof, old_root, new_root)
    forged = merkle.leaf_hash(b"forged")
    with pytest.raises(ProofError):
        merkle.check_consistency(old, new, proof, forged, new_root)
    with pytest.raises(ProofError):
        merkle.check_consistency(old, new, proof, old_root, forged)
    for n in range(len(proof)):
        with pytest.raises(ProofError):
            merkle.check_consistency(
                old, new, [*proof[:n], forged, *proof[n + 1 :]], old_root, new_root
            )


@given(
    st.integers(-3, 2**70),
    st.integers(-3, 2**70),
    st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    st.binary(min_size=31, max_size=33),
)
def test_any_proof_is_checked_or_refused(a: int, b: int, proof: list[bytes], value: bytes) -> None:
    with pytest.raises(ProofError):
        merkle.check_inclusion(value, a, b, proof, bytes(32))
    with pytest.raises(ProofError):
        merkle.check_consistency(a, b, proof, value, bytes(32))


@given(st.lists(st.sampled_from([1, 2, 3, 100, 254, 255, 256, 257, 511, 700]), max_size=8))
def test_tiles_grow_as_the_tree(steps: list[int]) -> None:
    _grow(steps)


def test_tiles_grow_over_a_third_level() -> None:
    _grow([65_530, 3, 3, 1, 300])


def _grow(steps: list[int]) -> None:
    stored: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int) -> bytes:
        return stored.get((level, index), b"")

    size = 0
    for step in steps:
        changed = tiles.extend(size, LEAVES[size : size + step], read)
        for place, content in changed.items():
            assert content.startswith(read(*place)), "a tile only grows"
        stored.update(changed)
        size += step
        leaves = LEAVES[:size]
        reader = tiles.subtree_reader(read)
        assert merkle.tree_root(size, reader) == merkle.root(leaves)
        for index in {0, size // 2, size - 1}:
            path = merkle.prove_inclusion(index, size, reader)
            merkle.check_inclusion(leaves[index], index, size, path, merkle.root(leaves))
    for (level, index), content in stored.items():
        for n in range(len(content) // 32):
            begin = (index * 256 + n) * 256**level
            assert content[n * 32 : n * 32 + 32] == merkle.root(LEAVES[begin : begin + 256**level])


@given(st.integers(1, 600), st.integers(1, 31))
def test_a_tile_cut_short_is_never_extended_or_read(size: int, missing: int) -> None:
    stored = tiles.extend(0, LEAVES[:size], lambda level, index: b"")

    def damaged(level: int, index: int) -> bytes:
        return stored.get((level, index), b"")[:-missing]

    if size % 256:
        with pytest.raises(ProofError, match="too short"):
            tiles.extend(size, LEAVES[size : size + 1], damaged)
    try:
        root = merkle.tree_root(size, tiles.subtree_reader(damaged))
    except ProofError:
        return
    assert root != merkle.root(LEAVES[:size])


@given(st.integers(1, 700), st.data())
def test_a_line_is_proven_out_of_its_group(count: int, data: st.DataObject) -> None:
    hashes = [merkle.leaf_hash(b"%d" % n) for n in range(count)]
    position = data.draw(st.integers(0, count - 1))
    first = position // GROUP * GROUP
    tree, group = line_tree(merkle.fold(hashes, HEIGHT)), hashes[first : first + GROUP]
    path = tree.prove(position, group)
    assert path == merkle.prove_inclusion(position, count, merkle.in_memory(hashes))
    assert tree.is_over(count, merkle.root(hashes))
    assert not tree.is_over(count + GROUP, merkle.root(hashes))
    assert not tree.is_over(count, bytes(32))
    for other in ([*group[1:], bytes(32)], group[: position % GROUP], []):
        with pytest.raises(ProofError, match="not in its group"):
            tree.prove(position, other)
    with pytest.raises(ProofError, match="not in its group"):
        tree.prove(count + GROUP, group)
