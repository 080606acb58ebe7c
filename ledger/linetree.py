"""The tree over a bundle's lines from groups of 32 upwards: a line is proven out of its own group
and the roots of all, without the other lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from . import merkle
from .errors import ProofError

HEIGHT = 5
GROUP = 1 << HEIGHT  # lines


class LineTree(NamedTuple):
    """How many groups there are, and the complete subtrees over them level by level, their roots
    first, 32 bytes each.
    """

    groups: int
    nodes: bytes

    def is_over(self, lines: int, root: bytes) -> bool:
        """Whether this is the tree over so many lines with this root; nodes above have it too."""
        return self.groups == -(-lines // GROUP) and root == merkle.tree_root(
            self.groups, self._subtree
        )

    def weight(self) -> int:
        """Bytes of memory, about, where it is kept by a number."""
        return len(self.nodes) + 320

    def prove(self, position: int, group: Sequence[bytes]) -> list[bytes]:
        """The path of the line at `position` to the root, out of the leaf hashes of its group;
        ProofError `stored-bytes-damaged` where that is another group.
        """
        number, place = divmod(position, GROUP)
        lower = merkle.levels(group)
        root = lower[-1][0] if len(group) == GROUP else merkle.root(group)
        if place >= len(group) or number >= self.groups or self._subtree(0, number) != root:
            raise ProofError("stored-bytes-damaged", f"line {position} is not in its group")
        return [
            *merkle.prove_inclusion(place, len(group), lambda level, index: lower[level][index]),
            *merkle.prove_inclusion(number, self.groups, self._subtree),
        ]

    def _subtree(self, level: int, index: int) -> bytes:
        at = 32 * (_begins(self.groups)[level] + index)
        return self.nodes[at : at + 32]


@lru_cache(maxsize=256)
def _begins(groups: int) -> list[int]:
    """Where each level's nodes begin, counted in nodes."""
    begins = [0]
    while groups:
        begins.append(begins[-1] + groups)
        groups >>= 1
    return begins


def line_tree(roots: Sequence[bytes]) -> LineTree:
    """The tree over groups with these roots."""
    return LineTree(len(roots), b"".join(chain.from_iterable(merkle.levels(roots))))


def split_roots(roots: bytes) -> list[bytes]:
    """Of groups, as they are stored."""
    return [roots[at : at + 32] for at in range(0, len(roots), 32)]
