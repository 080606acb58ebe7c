"""Step 6, the pure part: what was stored is re-hashed by code of its own before signing.

One flipped bit between hashing and storing has killed whole logs (5-faults: Yeti 2022, Nessie
2024); here it stops the signing.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from . import merkle
from .bundle import parse_header
from .entry import BUNDLE, outcome_count, parse_entry
from .errors import LedgerError, ProofError
from .note import parse_note

_PAIR = 64  # bytes of a delta: map key and record hash


def check_stored(
    index: int, entry: bytes, lines: Sequence[bytes], deltas: tuple[bytes, bytes] | None
) -> bytes:
    """The leaf hash of an entry read back with its lines and delta lists.

    ProofError `stored-bytes-damaged` when they are not what the entry commits to.
    """
    try:
        value = parse_entry(entry)
        if value["kind"] == BUNDLE:
            header = parse_header(parse_note(value["note"].encode()).text)
            if header.count != len(lines) or outcome_count(value["outcome"]) != header.count:
                raise ProofError("stored-bytes-damaged", f"{len(lines)} of {header.count} lines")
            if merkle.root([sha256(b"\x00" + line).digest() for line in lines]) != header.root:
                raise ProofError("stored-bytes-damaged", "the event lines")
            if deltas is None:
                raise ProofError("stored-bytes-damaged", "its delta lists are missing")
            for name, data in zip(("certificates", "holders"), deltas, strict=True):
                pairs = [
                    sha256(b"\x00" + data[i : i + _PAIR]).digest()
                    for i in range(0, len(data), _PAIR)
                ]
                if merkle.root(pairs).hex() != value[name]:
                    raise ProofError("stored-bytes-damaged", f"the {name} delta list")
        elif lines or deltas is not None:
            raise ProofError("stored-bytes-damaged", "lines or deltas beside an entry without any")
    except LedgerError as err:
        raise ProofError("stored-bytes-damaged", f"entry {index}: {err.message}") from err
    return merkle.leaf_hash(entry)
