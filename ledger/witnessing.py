"""The witness protocol (C2SP tlog-witness): bodies of add-checkpoint, what a witness decides.

A request is `old SIZE`, up to 63 hashes that prove consistency, an empty line, the checkpoint; the
answer to a good one is the witness's cosignature lines.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import merkle
from .checkpoint import Checkpoint, parse_checkpoint
from .cosignature import CosignerKey, read_time
from .errors import Conflict, LedgerError, Malformed, ProofError, Refused
from .note import (
    MAX_NOTE,
    CheckingKey,
    Note,
    Signature,
    decode_hash,
    format_lines,
    format_note,
    format_text,
    parse_decimal,
    parse_note,
)

MAX_HASHES = 63
MAX_REQUEST = MAX_NOTE + 64 * (MAX_HASHES + 1)
MAX_ANSWER = MAX_NOTE
SIZE_TYPE = "text/x.tlog.size"  # media type of the body of a 409: the size cosigned last


@dataclass(frozen=True, slots=True)
class Request:
    """An add-checkpoint request; `data` is the signed checkpoint as it came."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: Note
    data: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """The largest tree of a log that a witness cosigned; size 0 before the first."""

    size: int = 0
    root: bytes = merkle.EMPTY_ROOT


def format_request(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The body that asks for a cosignature of a signed checkpoint."""
    lines = [f"old {old}", *(base64.b64encode(value).decode() for value in proof)]
    return format_text(lines) + b"\n" + checkpoint


def parse_request(data: bytes) -> Request:
    """The request in a body, nothing proven yet; Malformed otherwise."""
    if len(data) > MAX_REQUEST:
        raise Malformed("too-large", f"a request has at most {MAX_REQUEST} bytes")
    head, found, signed = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as err:
        raise Malformed("malformed-proof", "old size and hashes are ASCII") from err
    if not found or not lines[0].startswith("old ") or len(lines) > 1 + MAX_HASHES:
        raise Malformed(
            "malformed-proof", f"a request is `old SIZE`, at most {MAX_HASHES} hashes, a checkpoint"
        )
    old = parse_decimal(lines[0][4:], "malformed-proof")
    proof = tuple(decode_hash(line, "malformed-proof") for line in lines[1:])
    checkpoint, note = parse_checkpoint(signed, extensions=True)
    if old > checkpoint.size:
        raise Malformed("malformed-proof", f"old size {old} of a tree of {checkpoint.size} leaves")
    return Request(old, proof, checkpoint, note, signed)


def check_log(request: Request, keys: Sequence[CheckingKey]) -> None:
    """None when one of the log's keys signed, and no line in any of their names is false:
    Refused `bad-signature`, or `unknown-log` where there are no keys, otherwise.
    """
    if not keys:
        raise Refused("unknown-log")
    known = [key for key in keys if request.note.by(key) is not None]
    if not known:
        raise Refused("bad-signature", "no key of this log signed the checkpoint")
    for key in known:
        try:
            request.note.check_signed_by(key)
        except ProofError as err:
            raise Refused("bad-signature", err.message) from err


def check_advance(seen: Seen, request: Request) -> None:
    """None when a witness that has `seen` this may cosign: never smaller, never another history.

    Conflict `witness-size` where the old size is not the one seen, ProofError otherwise.
    """
    checkpoint = request.checkpoint
    if request.old != seen.size:
        raise Conflict("witness-size", f"the size cosigned last is {seen.size}")
    if checkpoint.size == 0 and checkpoint.root != merkle.EMPTY_ROOT:
        raise ProofError("proof-failed", "this is not the root of the empty tree")
    if seen.size == 0:
        if request.proof:
            raise ProofError("proof-failed", "from size 0 there is nothing to prove")
        return
    merkle.check_consistency(seen.size, checkpoint.size, request.proof, seen.root, checkpoint.root)


def parse_answer(data: bytes, text: bytes, key: CosignerKey, now: int, tolerance: int) -> Signature:
    """The witness's own cosignature of a checkpoint's `text` in an answer; lines by other keys
    are passed over. `now` and `tolerance` in seconds: how far its time may be off.

    ProofError `witness-refused` otherwise; Unavailable where it cannot be checked here.
    """
    try:
        note = parse_note(format_note(text, ()) + data)
        note.check_signed_by(key)
        line = note.by(key)
        assert line is not None
        seconds = read_time(line.signature)
    except (Malformed, ProofError) as err:
        raise ProofError("witness-refused", err.message) from err
    if note.text != text:
        raise ProofError("witness-refused", "the answer is more than signature lines")
    if abs(seconds - now) > tolerance:
        raise ProofError("witness-refused", f"its time is {seconds - now} s from ours")
    return line


def parse_size(data: bytes) -> int:
    """The size in the body of a 409; ProofError `witness-refused` otherwise."""
    try:
        text = data.decode("ascii")
        if not text.endswith("\n"):
            raise Malformed("malformed-proof", "a size ends in a newline")
        return parse_decimal(text[:-1], "malformed-proof")
    except (UnicodeDecodeError, LedgerError) as err:
        raise ProofError("witness-refused", "its 409 does not say a size") from err


def add_signatures(checkpoint: bytes, signatures: Iterable[Signature]) -> bytes:
    """A signed checkpoint with more signature lines at its end."""
    return checkpoint + format_lines(signatures)
