"""What readers of the published ledger keep from question to question: what never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from ..linetree import LineTree
from ..proving import Records

ENTRIES, LONGEST_ENTRY = 2048, 8 * 1024  # bytes
TILES = 512  # folded tiles, some 40 kB each, of the log and of both maps
BUNDLES = 32_768  # some 0.5 kB each

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping of at most `most` items: those used last. For several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
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
            self._items[key] = value
            self._items.move_to_end(key)
            if len(self._items) > self._most:
                self._items.popitem(last=False)


class Kept:
    """Of any thread. Of what a checkpoint changes the last is kept, and replaced whole."""

    def __init__(self) -> None:
        self.origin: str | None = None  # a database holds one ledger
        self.records: tuple[int, Records] | None = None  # index of the status entry, registry
        self.entries: Recent[int, bytes] = Recent(ENTRIES)
        self.tiles: Recent[tuple[int, int], list[list[bytes]]] = Recent(TILES)
        # by kind of map and log index of the status entry
        self.map_tiles: dict[tuple[bytes, int], Recent[tuple[int, int], list[list[bytes]]]] = {}
        self.bundles: Recent[int, LineTree] = Recent(BUNDLES)

    def map_tiles_at(self, kind: bytes, index: int) -> Recent[tuple[int, int], list[list[bytes]]]:
        """The folded tiles of a map as of the status entry at `index`; those of others go."""
        kept = self.map_tiles.get((kind, index))
        if kept is None:
            kept = Recent(TILES)
            others = {k: v for k, v in self.map_tiles.items() if k[0] != kind}
            self.map_tiles = {**others, (kind, index): kept}
        return kept
