"""Checkpoints (C2SP tlog-checkpoint) without extension lines, proofs under them (tlog-proof)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .errors import Malformed
from .note import Note, decode_hash, format_text, parse_decimal, parse_note

_SMALL = 16 * 1024  # bytes of a checkpoint that is worth remembering


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a ledger signs about its log: `size` leaves hash to `root`."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """The note text that is signed."""
        return format_text([self.origin, str(self.size), base64.b64encode(self.root).decode()])


def parse_checkpoint(data: bytes, extensions: bool = False) -> tuple[Checkpoint, Note]:
    """The checkpoint in a signed note, its signatures not yet checked; Malformed otherwise.

    Our own have no extension lines; those of other logs may, where `extensions` says so.
    """
    return _parse_known(data, extensions) if len(data) <= _SMALL else _parse(data, extensions)


def _parse(data: bytes, extensions: bool) -> tuple[Checkpoint, Note]:
    note = parse_note(data)
    lines = note.text.decode().split("\n")
    if len(lines) < 4 or not all(lines[:-1]) or (len(lines) > 4 and not extensions):
        raise Malformed("malformed-note", "a checkpoint has three lines: origin, size, root")
    size = parse_decimal(lines[1])
    checkpoint = Checkpoint(lines[0], size, decode_hash(lines[2]))
    return checkpoint, note


_parse_known = lru_cache(maxsize=16)(_parse)  # many are answered or checked under one


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The C2SP tlog-proof of leaf `index` under a signed `checkpoint`."""
    lines = ["c2sp.org/tlog-proof@v1", f"index {index}"]
    lines += [base64.b64encode(value).decode() for value in hashes]
    return format_text(lines) + b"\n" + checkpoint


def parse_proof(data: bytes) -> tuple[int, list[bytes], bytes]:
    """(index, hashes, signed checkpoint) of a tlog-proof; Malformed otherwise."""
    head, found, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as err:
        raise Malformed("malformed-proof", "a proof is ASCII") from err
    if not found or lines[0] != "c2sp.org/tlog-proof@v1" or len(lines) < 2:
        raise Malformed("malformed-proof", "not a tlog-proof@v1")
    if not lines[1].startswith("index ") or len(lines) > 2 + 63:
        raise Malformed("malformed-proof", "a proof has an index line and at most 63 hashes")
    index = parse_decimal(lines[1][6:], "malformed-proof")
    return index, [decode_hash(line, "malformed-proof") for line in lines[2:]], checkpoint
