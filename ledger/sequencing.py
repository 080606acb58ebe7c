"""Step 6, the pure part: what was stored is re-hashed by code of its own before signing.

One flipped bit between hashing and storing has killed whole logs (5-faults: Yeti 2022, Nessie
2024); here it stops the signing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from . import fast_json, merkle
from .bundle import note_hash, parse_header
from .entry import BUNDLE, blind, make_blinding, outcome_count, parse_entry
from .errors import LedgerError, ProofError
from .note import parse_note
from .statusmap import PAIR

SHARE = 24
MOST_SECONDS = 8.0
ROUND_SECONDS, BUSY_ROUND_SECONDS = 0.2, 0.5
BUSY_LINES = 8000  # in a second


@dataclass(frozen=True, slots=True)
class Stored:
    """What an entry that was read back says."""

    value: Mapping[str, Any]
    text: bytes  # of a bundle's note; else empty


def parse_stored(index: int, entry: bytes) -> Stored:
    """An entry that was read back; ProofError `stored-bytes-damaged` where it is none."""
    try:
        value = parse_entry(entry, fast_json.load, fast_json.dump)
        text = parse_note(value["note"].encode()).text if value["kind"] == BUNDLE else b""
    except LedgerError as err:
        raise ProofError("stored-bytes-damaged", f"entry {index}: {err.message}") from err
    return Stored(value, text)


def check_lines(index: int, stored: Stored, lines: Sequence[bytes]) -> None:
    """None when the lines read back with an entry are what it commits to, ProofError
    `stored-bytes-damaged` otherwise.
    """
    try:
        if stored.value["kind"] != BUNDLE:
            if lines:
                raise ProofError("stored-bytes-damaged", "lines beside an entry without any")
            return
        header = parse_header(stored.text)
        if header.count != len(lines) or outcome_count(stored.value["outcome"]) != header.count:
            raise ProofError("stored-bytes-damaged", f"{len(lines)} of {header.count} lines")
        if merkle.root([sha256(b"\x00" + line).digest() for line in lines]) != header.root:
            raise ProofError("stored-bytes-damaged", "the event lines")
    except LedgerError as err:
        raise ProofError("stored-bytes-damaged", f"entry {index}: {err.message}") from err


def check_deltas(
    index: int, stored: Stored, deltas: tuple[bytes, bytes] | None, secret: bytes
) -> None:
    """None when the delta lists read back with an entry are what it commits to, ProofError
    `stored-bytes-damaged` otherwise; `secret` blinds the root over that of the holders.
    """
    where = f"entry {index}: "
    if (stored.value["kind"] == BUNDLE) != (deltas is not None):
        raise ProofError("stored-bytes-damaged", where + "delta lists are missing, or too many")
    if deltas is None:
        return
    roots = [
        merkle.root(
            [sha256(b"\x00" + data[i : i + PAIR]).digest() for i in range(0, len(data), PAIR)]
        )
        for data in deltas
    ]
    if roots[0].hex() != stored.value["certificates"]:
        raise ProofError("stored-bytes-damaged", where + "the certificates delta list")
    blinding = make_blinding(secret, note_hash(stored.text))
    if blind(blinding, roots[1]).hex() != stored.value["holders"]:
        raise ProofError("stored-bytes-damaged", where + "the holders delta list")


def round_seconds(lines: int, seconds: float) -> float:
    """How long after the beginning of a round the next begins: under load, where it read back more
    than 8,000 event lines a second, `lines` in so many `seconds`, later. A round costs the
    sequencer, PostgreSQL, Kafka and the relay some 15 ms, however few lines it has.
    """
    return BUSY_ROUND_SECONDS if lines > BUSY_LINES * seconds else ROUND_SECONDS


class Cadence:
    """When the next status entry carries the maps: at once while there is nothing else to do, under
    load so seldom that keeping them takes a twenty-fifth of one processor, yet every 8 seconds.
    """

    def __init__(self) -> None:
        self._begun = -math.inf
        self._cost = 0.0

    def is_due(self, now: float) -> bool:
        """Whether under load the maps are due at `now`, seconds on a clock that never goes back."""
        return now - self._begun >= min(SHARE * self._cost, MOST_SECONDS)

    def took(self, begun: float, cost: float) -> None:
        """Remember when the last status entry with maps was begun, and its processor seconds."""
        self._begun, self._cost = begun, cost
