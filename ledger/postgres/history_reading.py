"""Histories, read where they lie: in the stored event lines, by the places that rows keep.

Nothing is proven here. What is read is an event line of the ledger's own form, or ProofError
`stored-bytes-damaged`; that it is the right one, the links over it say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec
from psycopg2.extensions import cursor as Cursor

from .. import fast_events, lifecycle, merkle, staterow
from ..errors import LedgerError, ProofError
from ..event import TYPE_PREFIX, TYPE_SUFFIX, Event
from ..evidence import CertificateId, Step
from ..identity import HEAD
from ..lifecycle import Transition
from .copying import read_rows
from .rows import CHUNK, ChunkLines
from .statements import sql

_AT_ONCE = 128  # chunks

Chunks = dict[tuple[int, int], ChunkLines]
"""The lines of chunks by (log index, chunk)."""


class _Type(msgspec.Struct, gc=False):
    type: str


_decode_type = msgspec.json.Decoder(_Type).decode_lines


class Logged(NamedTuple):
    """An event where it lies, and who signed it."""

    event: Event
    department: str
    key_id: str

    def transition(self) -> Transition:
        """What it says, but for the version after it (`lifecycle.retrace`)."""
        return lifecycle.make_transition(self.event, self.department, self.key_id, 0)


def chunk_of(place: int) -> tuple[int, int]:
    """(log index, chunk) of the stored row that holds the line at a place."""
    index, position = staterow.placed(place)
    return index, position // CHUNK


def read_events(
    cursor: Cursor, places: Iterable[int], keep: Chunks | None = None
) -> Iterator[tuple[int, Logged]]:
    """(place, event) of each place, chunk by chunk; some 0.2 ms for a chunk. `keep` gets the
    chunks.
    """
    for some in _read_lines(cursor, places, keep):
        lines = [line for _, line, _, _ in some]
        hashes = [merkle.leaf_hash(line) for line in lines]
        try:
            events = fast_events.read_events(lines, hashes)
        except LedgerError as err:
            raise ProofError("stored-bytes-damaged", "an event line is no event") from err
        for event, (place, _, department, key_id) in zip(events, some, strict=True):
            yield place, Logged(event, department, key_id)


def read_kinds(cursor: Cursor, places: Iterable[int]) -> dict[int, str]:
    """The kinds of the events at some places: nothing else of them is looked at."""
    found = {}
    for some in _read_lines(cursor, places):
        try:
            kinds = _decode_type(b"\n".join(line for _, line, _, _ in some))
        except msgspec.MsgspecError as err:
            raise ProofError("stored-bytes-damaged", "an event line is no event") from err
        for (place, *_), one in zip(some, kinds, strict=True):
            found[place] = one.type.removeprefix(TYPE_PREFIX).removesuffix(TYPE_SUFFIX)
    return found


def _read_lines(
    cursor: Cursor, places: Iterable[int], keep: Chunks | None = None
) -> Iterator[list[tuple[int, bytes, str, str]]]:
    """(place, line, department that signed it, key id) of each place, some chunks at once."""
    wanted: dict[tuple[int, int], list[int]] = {}
    for place in places:
        wanted.setdefault(chunk_of(place), []).append(place)
    chunks = iter(sorted(wanted))
    while some := list(islice(chunks, _AT_ONCE)):
        found: list[tuple[int, bytes, str, str]] = []
        numbers = {"indexes": [i for i, _ in some], "chunks": [c for _, c in some]}
        for fields in read_rows(cursor, sql("read_chunks"), numbers):
            index, chunk, department, key_id, data = fields
            which = int.from_bytes(index, "big"), int.from_bytes(chunk, "big")
            by, key = department.decode(), key_id.hex()
            at = {place: staterow.placed(place)[1] % CHUNK for place in wanted.pop(which)}
            lines = open_chunk(which[0], data)
            if keep is not None:
                keep[which] = lines
            for place, position in at.items():
                line = lines.line(position)
                if line is None:
                    raise ProofError(
                        "stored-bytes-damaged", f"entry {which[0]} lacks an event line"
                    )
                found.append((place, line, by, key))
        for gone in some:
            if gone in wanted:
                raise ProofError(
                    "stored-bytes-damaged", f"lines of entry {gone[0]}, chunk {gone[1]} are missing"
                )
        yield found


def read_steps(
    cursor: Cursor,
    histories: dict[bytes, list[int]],
    keep: Chunks | None = None,
) -> dict[bytes, list[Step]]:
    """The steps of some certificates by map key, out of the places of all events of each."""
    everything = [place for places in histories.values() for place in places]
    found = {
        place: (logged.event.line_hash, logged.transition())
        for place, logged in read_events(cursor, everything, keep)
    }
    return {
        key: staterow.steps([(p, *found[p]) for p in places]) for key, places in histories.items()
    }


def read_identities(cursor: Cursor, keys: Collection[bytes]) -> dict[bytes, CertificateId]:
    """What map keys of certificates are made of, out of each one's first event."""
    heads = {"heads": b"".join(key[:HEAD] for key in keys), "count": len(keys)}
    cursor.execute(sql("read_certificates"), heads)
    firsts = [staterow.places(bytes(history))[0] for *_, history in cursor.fetchall()]
    return {
        logged.event.key: CertificateId(
            logged.event.type_code, logged.event.issuer, logged.event.number
        )
        for _, logged in read_events(cursor, firsts)
    }


def sample_certificates(cursor: Cursor, limit: int) -> list[CertificateId]:
    """Some certificates, in no meaningful order."""
    cursor.execute(sql("sample_certificates"), {"limit": limit})
    return list(read_identities(cursor, [bytes(key) for (key,) in cursor.fetchall()]).values())


def open_chunk(index: int, data: bytes) -> ChunkLines:
    """The lines of a stored chunk of the bundle at a log index."""
    try:
        return ChunkLines(data)
    except ValueError as err:
        raise ProofError("stored-bytes-damaged", f"lines of entry {index} do not unpack") from err
