"""The log's tree kept as tiles of 256 hashes (C2SP tlog-tiles), extended at its right edge.

Tile (level L, index N) holds up to 256 hashes of complete subtrees of 256^L leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from . import merkle
from .errors import ProofError

HEIGHT = 8
WIDTH = 1 << HEIGHT

TileReader = Callable[[int, int], bytes]
"""(level, index) to the concatenated hashes stored in that tile, 32 bytes each, empty if none."""


class Folded(Protocol):
    """Where folded tiles are kept by (level, index), each level's hashes joined, 17 kB a tile (one
    by one they take 42); it may forget.
    """

    def get(self, place: tuple[int, int], /) -> list[bytes] | None: ...
    def __setitem__(self, place: tuple[int, int], rows: list[bytes], /) -> None: ...


def subtree_reader(read: TileReader, folded: Folded | None = None) -> merkle.Subtree:
    """Complete subtrees out of tiles; each tile is read once and folded once per reader, or where
    `folded` keeps it, once for all. A tile that has grown since is read again.

    ProofError `stored-bytes-damaged` where a tile lacks what it should hold.
    """
    folded = {} if folded is None else folded

    def subtree(level: int, index: int) -> bytes:
        tile_level, inner = divmod(level, HEIGHT)
        tile_index, position = divmod(index, WIDTH >> inner)
        for rows in (folded.get((tile_level, tile_index)), None):
            if rows is None:
                data = read(tile_level, tile_index)
                leaves = [data[i : i + 32] for i in range(0, len(data), 32)]
                rows = list(map(b"".join, merkle.levels(leaves)))
                folded[tile_level, tile_index] = rows
            if inner < len(rows) and position * 32 < len(rows[inner]):
                return rows[inner][position * 32 : position * 32 + 32]
        raise _too_short(tile_level, tile_index)

    return subtree


def extend(
    size: int, leaf_hashes: Sequence[bytes], read: TileReader
) -> dict[tuple[int, int], bytes]:
    """The tiles that change when `leaf_hashes` follow the first `size` leaves: whole new contents.

    Reads only the partial tiles at the right edge; ProofError `stored-bytes-damaged` where one
    holds less than `size` leaves need.
    """
    changed: dict[tuple[int, int], bytes] = {}
    level, start, hashes = 0, size, list(leaf_hashes)
    while hashes:
        upper: list[bytes] = []
        position = start
        for chunk in _by_tile(start, hashes):
            index, filled = divmod(position, WIDTH)
            content = read(level, index)[: filled * 32] if filled else b""
            if len(content) != filled * 32:
                raise _too_short(level, index)
            content += b"".join(chunk)
            changed[level, index] = content
            if len(content) == WIDTH * 32:
                upper.append(merkle.root([content[i : i + 32] for i in range(0, WIDTH * 32, 32)]))
            position += len(chunk)
        level, start, hashes = level + 1, start // WIDTH, upper
    return changed


def _too_short(level: int, index: int) -> ProofError:
    return ProofError("stored-bytes-damaged", f"tile {level}/{index} is too short")


def _by_tile(start: int, hashes: list[bytes]) -> Iterator[list[bytes]]:
    at = 0
    while at < len(hashes):
        room = WIDTH - (start + at) % WIDTH
        yield hashes[at : at + room]
        at += room
