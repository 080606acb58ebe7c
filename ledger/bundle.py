"""Bundles: the unit on Kafka, in the log and under a department's signature.

A record is the bundle as it travels: its note and its lines. A note has six lines:
origin line, form, count, root, producer and previous note, signing time (FORMATS.md, section 5).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from . import merkle, times
from .errors import LedgerError, Malformed
from .identity import check_department
from .linetree import HEIGHT
from .note import Note, decode_hash, format_text, parse_decimal, parse_note

FORM = "certledger bundle v1"
MAGIC = b"CLR1"
MAX_EVENTS = 4096
MAX_RECORD = 1024 * 1024
MAX_BUNDLE_NOTE = 4096
MAX_LANES = 1024
MAX_EPOCH = 2**31 - 1
MAX_SEQUENCE = 2**53 - 1  # notices say it in canonical JSON
AHEAD = 60 * times.SECOND  # how far a signing time may be ahead of the ledger's
_PRODUCER = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle note says. `previous` is SHA-256 of the previous note's text on the lane."""

    origin: str
    department: str
    lane: int
    epoch: int
    sequence: int
    count: int
    root: bytes
    producer: str  # 128 random bits, hex, drawn per epoch taken
    previous: bytes
    signed_at: str  # moment

    def text(self) -> bytes:
        """The note text that the department signs."""
        return format_text(
            [
                f"{self.origin}/bundle/{self.department}/{self.lane}/{self.epoch}/{self.sequence}",
                FORM,
                str(self.count),
                base64.b64encode(self.root).decode(),
                f"{self.producer} {base64.b64encode(self.previous).decode()}",
                self.signed_at,
            ]
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A record whose lines hash to the root in its note; the signature is not yet checked."""

    header: Header
    note: Note
    note_bytes: bytes
    note_hash: bytes  # SHA-256 of the note's text
    lines: tuple[bytes, ...]
    line_hashes: tuple[bytes, ...]
    groups: tuple[bytes, ...] = ()  # roots over each 32 of them


def note_hash(text: bytes) -> bytes:
    """How a lane's next note names this one; other signatures over one text do not change it."""
    return sha256(text).digest()


def bundle_key_name(origin: str, department: str) -> str:
    """The name under which a department's bundle keys sign."""
    return f"{origin}/department/{department}/bundle"


def place_of(note: str) -> tuple[str, int]:
    """The department and the lane of a bundle's note that was parsed before."""
    _, department, lane, _, _ = note.partition("\n")[0].rsplit("/", 4)
    return department, int(lane)


def parse_header(text: bytes) -> Header:
    """The header in a note's text; Malformed otherwise."""
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError as err:
        raise Malformed("malformed-note", "a note is UTF-8") from err
    if len(lines) != 7 or lines[6] or lines[1] != FORM:
        raise Malformed("malformed-note", f"a bundle note has six lines, the second {FORM!r}")
    parts = lines[0].rsplit("/", 5)
    if len(parts) != 6 or parts[1] != "bundle":
        raise Malformed("malformed-note", "a bundle's origin line is ORIGIN/bundle/D/LANE/EPOCH/N")
    check_department(parts[2])
    producer, _, previous = lines[4].partition(" ")
    if not _PRODUCER.fullmatch(producer):
        raise Malformed("malformed-note", "a producer id is 32 hex digits")
    times.parse_moment(lines[5])
    if not lines[5].endswith("Z"):
        raise Malformed("malformed-note", "the signing time is in UTC, ending in Z")
    return Header(
        origin=parts[0],
        department=parts[2],
        lane=parse_decimal(parts[3], limit=MAX_LANES - 1),
        epoch=parse_decimal(parts[4], limit=MAX_EPOCH),
        sequence=parse_decimal(parts[5], limit=MAX_SEQUENCE),
        count=parse_decimal(lines[2], limit=MAX_EVENTS),
        root=decode_hash(lines[3]),
        producer=producer,
        previous=decode_hash(previous),
        signed_at=lines[5],
    )


def format_record(note: bytes, lines: Sequence[bytes]) -> bytes:
    """A bundle's Kafka record: CLR1, length of the note (4 bytes), note, lines with newlines."""
    body = b"".join(line + b"\n" for line in lines)
    return MAGIC + len(note).to_bytes(4, "big") + note + body


def parse_record(value: bytes) -> Bundle:
    """The bundle in a record; Malformed when it is none, `lines-do-not-match-note` when damaged."""
    if len(value) > MAX_RECORD:
        raise Malformed("too-large", f"a record of {len(value)} bytes, at most {MAX_RECORD}")
    if value[:4] != MAGIC or len(value) < 8:
        raise Malformed("malformed-record", "a record begins with CLR1 and the note's length")
    end = 8 + int.from_bytes(value[4:8], "big")
    if not 0 < end - 8 <= MAX_BUNDLE_NOTE or end > len(value):
        raise Malformed("malformed-record", f"a note has 1 to {MAX_BUNDLE_NOTE} bytes")
    note_bytes = value[8:end]
    try:
        note = parse_note(note_bytes)
        header = parse_header(note.text)
    except LedgerError as err:
        raise Malformed("malformed-record", err.message) from err
    if header.text() != note.text:
        raise Malformed("malformed-record", "the note is not in canonical form")
    lines = value[end:].split(b"\n")
    if lines.pop() != b"" or len(lines) != header.count:
        raise Malformed("lines-do-not-match-note", f"{len(lines)} lines, {header.count} signed")
    hashes = [sha256(b"\x00" + line).digest() for line in lines]
    groups = merkle.fold(hashes, HEIGHT)
    if merkle.root(groups) != header.root:
        raise Malformed("lines-do-not-match-note")
    digest = note_hash(note.text)
    return Bundle(header, note, note_bytes, digest, tuple(lines), tuple(hashes), tuple(groups))
