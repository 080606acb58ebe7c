"""The tree over a bundle's lines by the roots of its chunks: a line is proven out of its own chunk,
without the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import merkle
from .errors import ProofError


class LineTree(NamedTuple):
    """How many lines there are, and the roots over their chunks, 32 bytes each."""

    size: int
    roots: bytes

    def root(self) -> bytes:
        """The root over all lines."""
        return merkle.root(self._hashes())

    def _hashes(self) -> list[bytes]:
        return [self.roots[i : i + 32] for i in range(0, len(self.roots), 32)]

    def prove(self, width: int, position: int, chunk: Sequence[bytes]) -> list[bytes]:
        """The path of the line at `position` to the root, out of the leaf hashes of its chunk;
        ProofError `stored-bytes-damaged` where that is another chunk.
        """
        height, hashes = width.bit_length() - 1, self._hashes()
        own, whole = position // width, self.size // width
        rows = merkle.levels(chunk)
        top = rows[-1][0] if len(chunk) == width else merkle.root(chunk)
        if position >= self.size or top != self.roots[own * 32 : own * 32 + 32]:
            raise ProofError("stored-bytes-damaged", f"line {position} is not in its chunk")
        upper = merkle.levels(hashes[:whole])
        last = (whole * width, self.size)

        def subtree(level: int, index: int) -> bytes:
            if level >= height:
                return upper[level - height][index]
            if index << level >> height == own:
                return rows[level][index - (own << height >> level)]
            assert (index << level, index + 1 << level) == last  # of another only the whole
            return hashes[whole]

        known = {last: hashes[whole]} if whole < len(hashes) and own != whole else None
        return merkle.prove_inclusion(position, self.size, subtree, known)


def line_tree(width: int, leaf_hashes: Sequence[bytes]) -> LineTree:
    """The tree over lines in chunks of `width`, a power of two."""
    chunks = (leaf_hashes[i : i + width] for i in range(0, len(leaf_hashes), width))
    return LineTree(len(leaf_hashes), b"".join(map(merkle.root, chunks)))
