"""What lies beside the tiles of hashes, 256 log indexes at a time: entries, and their deltas.

Entry bundles are those of C2SP tlog-tiles; delta bundles give the certificates' delta lists in the
same pieces. FORMATS.md, section 10.
"""

from __future__ import annotations

from collections.abc import Sequence

from .bundle import MAX_EVENTS
from .entry import MAX_ENTRY
from .errors import Malformed
from .statusmap import PAIR

MAX_ENTRIES_BYTES = 256 * (2 + MAX_ENTRY)
MAX_DELTAS_BYTES = 256 * (2 + MAX_EVENTS * PAIR)


def format_entries(entries: Sequence[bytes]) -> bytes:
    """Entries, each after its length as a big-endian uint16."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_entries(data: bytes, count: int) -> list[bytes]:
    """The `count` entries of a bundle; Malformed `malformed-entry` for any other number of them."""
    return _split(data, count, 1, "malformed-entry")


def format_deltas(lists: Sequence[bytes]) -> bytes:
    """Delta lists, pairs joined, each after its number of pairs as a big-endian uint16."""
    return b"".join((len(pairs) // PAIR).to_bytes(2, "big") + pairs for pairs in lists)


def parse_deltas(data: bytes, count: int) -> list[bytes]:
    """The `count` delta lists of a bundle, pairs joined; Malformed `malformed-deltas` otherwise."""
    lists = _split(data, count, PAIR, "malformed-deltas")
    if any(len(pairs) > MAX_EVENTS * PAIR for pairs in lists):
        raise Malformed("malformed-deltas", f"a delta list has at most {MAX_EVENTS} pairs")
    return lists


def _split(data: bytes, count: int, unit: int, code: str) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) < count:
        length = int.from_bytes(data[at : at + 2], "big") * unit
        at += 2 + length
        found.append(data[at - length : at])
    if at != len(data) or len(found) != count:
        raise Malformed(code, f"{len(data)} bytes are not exactly {count} of them")
    return found
