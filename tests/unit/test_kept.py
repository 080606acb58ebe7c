"""What readers keep is bounded."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from ledger import merkle, tiles
from ledger.linetree import HEIGHT, line_tree
from ledger.postgres.kept import BUNDLES, Kept, Recent

HASHES = [sha256(b"%d" % n).digest() for n in range(1000)]


def taken(kept: Any, items: int, make: Callable[[int], Any]) -> int:
    """Bytes that are there for items kept by numbers above all small ones."""
    gc.collect()
    tracemalloc.start()
    try:
        for n in range(items):
            kept[1_000_000 + n] = make(n)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_what_was_used_last_is_kept_within_its_weight() -> None:
    kept: Recent[int, bytes] = Recent(10, len)
    for n in range(4):
        kept[n] = bytes(3)
    assert [kept.get(n) is None for n in range(4)] == [True, False, False, False]
    kept.get(1)
    kept[4] = bytes(4)  # 2 was not asked for since
    assert [kept.get(n) is None for n in range(5)] == [True, False, True, False, False]
    kept[4] = bytes(1)
    kept[5] = bytes(3)
    assert [kept.get(n) is None for n in range(6)] == [True, False, True, False, False, False]
    kept[6] = bytes(11)  # too heavy alone
    assert all(kept.get(n) is None for n in range(7))


@pytest.mark.parametrize("lines", [1, 100, 1000, 4096])
def test_trees_take_what_they_may(lines: int) -> None:
    roots = merkle.fold((HASHES * 5)[:lines], HEIGHT)
    assert BUNDLES * 0.5 < taken(Kept().bundles, 8000, lambda _: line_tree(roots)) < BUNDLES * 1.1


def test_folded_tiles_take_little_more_than_their_hashes() -> None:
    leaves = HASHES[: tiles.WIDTH]
    data, rows = b"".join(leaves), merkle.levels(leaves)
    folded: dict[tuple[int, int], list[bytes]] = {}
    subtree = tiles.subtree_reader(lambda level, index: data, folded)
    gc.collect()
    tracemalloc.start()
    try:
        for index in range(64):
            subtree(0, index << tiles.HEIGHT)
        assert tracemalloc.get_traced_memory()[0] / 64 < 1.1 * 32 * sum(map(len, rows))
    finally:
        tracemalloc.stop()
    for level, row in enumerate(rows[: tiles.HEIGHT]):
        assert [subtree(level, n) for n in range(len(row))] == row
