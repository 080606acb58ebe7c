"""The tree over a bundle's lines from groups of 32 upwards: a line is proven out of its own group
and the roots of all, without the other lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import merkle
from .errors import ProofError

HEIGHT = 5
GROUP = 1 << HEIGHT  # lines


def root_over(roots: bytes) -> bytes:
    """The root over a bundle's lines, out of those of its groups, 32 bytes each."""
    return merkle.root(_split(roots))


def prove_line(position: int, group: Sequence[bytes], roots: bytes) -> list[bytes]:
    """The path of the line at `position` to the root over its bundle, out of the leaf hashes of
    its group and the roots of all; ProofError `stored-bytes-damaged` where that is another group.
    """
    number, place = divmod(position, GROUP)
    said = _split(roots)
    lower, upper = merkle.levels(group), merkle.levels(said)
    root = lower[-1][0] if len(group) == GROUP else merkle.root(group)
    if place >= len(group) or said[number : number + 1] != [root]:
        raise ProofError("stored-bytes-damaged", f"line {position} is not in its group")
    return [
        *merkle.prove_inclusion(place, len(group), lambda level, index: lower[level][index]),
        *merkle.prove_inclusion(number, len(said), lambda level, index: upper[level][index]),
    ]


def _split(roots: bytes) -> list[bytes]:
    return [roots[at : at + 32] for at in range(0, len(roots), 32)]
