"""What readers of the published ledger keep from question to question: what never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from ..linetree import LineTree
from ..proving import Records
from ..statusmap import Group

ENTRIES, LONGEST_ENTRY = 2048, 8 * 1024  # bytes
TILES = 512  # folded tiles, some 17 kB each, of the log and of both maps
BUNDLES = 2 * 1024 * 1024  # bytes, some 2.3 kB for 1,000 lines
GROUPS = 16 * 1024 * 1024  # bytes, some 4 kB a group of buckets

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping of items that together weigh `most` at most: those used last. For several threads.
    `weigh` gives an item's bytes; without it each weighs 1.
    """

    def __init__(self, most: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._most = most
        self._weigh = weigh
        self._weight = 0
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """What is kept under a key."""
        with self._lock:
            value = self._items.get(key)
            if value is not None:
                self._items.move_to_end(key)
            return value

    def __setitem__(self, key: K, value: V) -> None:
        with self._lock:
            before = self._items.pop(key, None)
            self._weight += self._weigh(value) - (0 if before is None else self._weigh(before))
            self._items[key] = value
            while self._weight > self._most:
                self._weight -= self._weigh(self._items.popitem(last=False)[1])


class KeptMap:
    """Of a status map under one status entry."""

    def __init__(self) -> None:
        self.tiles: Recent[tuple[int, int], list[bytes]] = Recent(TILES)
        self.groups: Recent[bytes, Group] = Recent(GROUPS, Group.weight)  # by first map key


class Kept:
    """Of any thread. Of what a checkpoint changes the last is kept, and replaced whole."""

    def __init__(self) -> None:
        self.origin: str | None = None  # a database holds one ledger
        self.kinds: dict[int, tuple[str, str]] = {}  # (type, issuer) by number
        self.records: tuple[int, Records] | None = None  # index of the status entry, registry
        self.entries: Recent[int, bytes] = Recent(ENTRIES)
        self.tiles: Recent[tuple[int, int], list[bytes]] = Recent(TILES)
        self.maps: dict[tuple[bytes, int], KeptMap] = {}  # by kind and index of the status entry
        self.bundles: Recent[int, LineTree] = Recent(BUNDLES, LineTree.weight)  # by log index

    def map_at(self, kind: bytes, index: int) -> KeptMap:
        """What is kept of a map as of the status entry at `index`; that of others goes."""
        kept = self.maps.get((kind, index))
        if kept is None:
            kept = KeptMap()
            others = {k: v for k, v in self.maps.items() if k[0] != kind}
            self.maps = {**others, (kind, index): kept}
        return kept
