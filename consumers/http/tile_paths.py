"""The names of the log's immutable resources (C2SP tlog-tiles), read strictly and printed again."""

from __future__ import annotations

import re
from dataclasses import dataclass

WIDTH = 256
MAX_LEVEL = 63
_ENTRIES, _DELTAS = "tile/entries", "delta"
_PATH = re.compile(
    rb"(tile/(?:0|[1-9][0-9]?|entries)|delta)/((?:x[0-9]{3}/){0,6}[0-9]{3})"
    rb"(?:\.p/([1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class TilePath:
    """Hashes of one level, or entries or delta lists of 256 log indexes: the first `width`."""

    kind: str  # "tile/0" to "tile/63", "tile/entries", "delta"
    index: int
    width: int = WIDTH

    @property
    def level(self) -> int:
        """The tree level of a tile of hashes; 0 for entries and delta lists."""
        name = self.kind.removeprefix("tile/")
        return int(name) if name.isdigit() else 0

    @property
    def is_hashes(self) -> bool:
        """Whether it is a tile of hashes."""
        return self.kind not in (_ENTRIES, _DELTAS)

    @property
    def begin(self) -> int:
        """The index of the first hash in its level, or of the first entry."""
        return self.index * WIDTH

    @property
    def needed_size(self) -> int:
        """The smallest tree that has it, in leaves."""
        return (self.begin + self.width) << (8 * self.level)

    def __str__(self) -> str:
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        path = "/".join([self.kind, *(f"x{group}" for group in groups[:-1]), groups[-1]])
        return path if self.width == WIDTH else f"{path}.p/{self.width}"


def entries_path(index: int, width: int = WIDTH) -> TilePath:
    """Entry bundle number `index`."""
    return TilePath(_ENTRIES, index, width)


def deltas_path(index: int, width: int = WIDTH) -> TilePath:
    """Delta bundle number `index` (ledger/FORMATS.md, section 10)."""
    return TilePath(_DELTAS, index, width)


def tile_path(raw: bytes) -> TilePath | None:
    """What a path below the log's prefix names; None for any other spelling of it.

    Percent signs, leading zeros, signs, empty parts and indexes beyond 2^63 entries name nothing.
    """
    match = _PATH.fullmatch(raw)
    if match is None:
        return None
    kind, index, width = match.groups()
    path = TilePath(
        kind.decode(),
        int(index.replace(b"x", b"").replace(b"/", b"")),
        WIDTH if width is None else int(width),
    )
    if width is not None and path.width >= WIDTH:
        return None
    if path.level > MAX_LEVEL or path.begin + path.width > 2**63 - 1:
        return None
    return path if str(path).encode() == raw else None
