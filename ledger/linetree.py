"""The tree over a bundle's lines from groups of 32 upwards: a line is proven out of its own group,
without the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import merkle
from .errors import ProofError

HEIGHT = 5
GROUP = 1 << HEIGHT  # lines


class LineTree(NamedTuple):
    """How many lines there are, the complete subtrees over whole groups by level, 32 bytes each,
    and the root over the lines after the last whole group.
    """

    size: int
    rows: tuple[bytes, ...]
    rest: bytes

    def root(self) -> bytes:
        """The root over all lines."""
        return merkle.subtree_root(0, self.size, self._upper, self._known())

    def weight(self) -> int:
        """Bytes of memory, about, where it is kept by a number."""
        return sum(map(len, self.rows)) + 64 * len(self.rows) + 320

    def prove(self, position: int, group: Sequence[bytes]) -> list[bytes]:
        """The path of the line at `position` to the root, out of the leaf hashes of its group;
        ProofError `stored-bytes-damaged` where that is another group.
        """
        own = position >> HEIGHT
        said = self._upper(HEIGHT, own) if own < self.size >> HEIGHT else self.rest
        lower = merkle.levels(group)
        top = lower[-1][0] if len(group) == GROUP else merkle.root(group)
        if position >= self.size or top != said:
            raise ProofError("stored-bytes-damaged", f"line {position} is not in its group")

        def subtree(level: int, index: int) -> bytes:
            if level >= HEIGHT or index << level >> HEIGHT != own:
                return self._upper(level, index)
            return lower[level][index - (own << HEIGHT >> level)]

        known = self._known() if own < self.size >> HEIGHT else None
        return merkle.prove_inclusion(position, self.size, subtree, known)

    def _upper(self, level: int, index: int) -> bytes:
        if level < HEIGHT:  # what is left over is one subtree
            return self.rest
        return self.rows[level - HEIGHT][index * 32 : index * 32 + 32]

    def _known(self) -> merkle.Known:
        return {(self.size >> HEIGHT << HEIGHT, self.size): self.rest}


def line_tree(leaf_hashes: Sequence[bytes]) -> LineTree:
    """The tree over lines."""
    whole = len(leaf_hashes) >> HEIGHT << HEIGHT
    rows = merkle.levels(leaf_hashes[:whole])[HEIGHT:] if whole else []
    rest = merkle.root(leaf_hashes[whole:])
    return LineTree(len(leaf_hashes), tuple(map(b"".join, rows)), rest)
