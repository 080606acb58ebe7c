"""Receipts, notices and lane states: what a department hears of its bundles.

A receipt is a proof: the entry, its inclusion and a signed checkpoint; its operator cannot deny it
later. A notice says why a record did not become an entry; it proves nothing and is signed by none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import canonical, merkle
from .bundle import Header, note_hash, parse_header
from .checkpoint import format_proof, parse_checkpoint, parse_proof
from .checkpoint_keys import TrustedKey, check_signed
from .entry import BUNDLE, outcome_count, parse_entry
from .errors import LedgerError, Malformed, ProofError
from .note import parse_note

RECEIPT_FORM = "certledger receipt v1"
NOTICE_FORM = "certledger notice v1"
LANE_FORM = "certledger lane v1"
_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """A checked receipt: bundle `header` is entry `index` with this `outcome` by code."""

    header: Header
    note_hash: bytes
    index: int
    outcome: Mapping[str, Any]
    size: int  # of the tree it was proven in


def format_receipt(entry: bytes, proof: bytes) -> bytes:
    """The receipt out of a bundle's entry and its tlog-proof."""
    return canonical.format(
        {"format": RECEIPT_FORM, "entry": entry.decode(), "proof": proof.decode()}
    )


class Receipts:
    """Formats receipts under one checkpoint, most of each of which is the checkpoint. `dump` is
    that of `canonical.format_typed`.
    """

    def __init__(self, checkpoint: bytes, dump: canonical.Dump = canonical.encode) -> None:
        self._dump = dump
        self._checkpoint = checkpoint
        self._steady = canonical.is_steady_text(checkpoint)
        self._printed = canonical.format(checkpoint.decode())[1:]

    def format(self, entry: bytes, index: int, path: Sequence[bytes]) -> bytes:
        """What `format_receipt` gives for a bundle's entry as it is stored."""
        head = format_proof(index, path, b"")
        if not (self._steady and canonical.is_steady_text(entry)):  # what meets might compose
            return format_receipt(entry, head + self._checkpoint)
        return b'{"entry":%b,"format":"%b","proof":%b%b}' % (
            self._dump(entry.decode()),
            RECEIPT_FORM.encode(),
            self._dump(head.decode())[:-1],
            self._printed,
        )


def parse_receipt(data: bytes, keys: Iterable[TrustedKey]) -> Receipt:
    """The receipt in `data`, its proof and the ledger's own signatures of the checkpoint checked:
    `keys` says which ones its size needs.
    """
    value = _parse(data, RECEIPT_FORM, {"entry", "proof"})
    entry_bytes = value["entry"].encode()
    entry = parse_entry(entry_bytes)
    if entry["kind"] != BUNDLE:
        raise Malformed("malformed-receipt", "a receipt is for a bundle")
    index, hashes, signed = parse_proof(value["proof"].encode())
    checkpoint, note = parse_checkpoint(signed)
    check_signed(keys, checkpoint, note)
    text = parse_note(entry["note"].encode()).text
    header = parse_header(text)
    if checkpoint.origin != header.origin:
        raise ProofError("proof-failed", "receipt and checkpoint are of different ledgers")
    if outcome_count(entry["outcome"]) != header.count:
        raise Malformed("malformed-receipt", "the outcome does not cover the bundle's events")
    merkle.check_inclusion(
        merkle.leaf_hash(entry_bytes), index, checkpoint.size, hashes, checkpoint.root
    )
    return Receipt(header, note_hash(text), index, entry["outcome"], checkpoint.size)


def format_notice(
    header: Header,
    note: bytes,
    outcome: str,
    code: str,
    message: str,
    want: tuple[int, int] | None = None,
) -> bytes:
    """The notice that a record did not become an entry; `want` is the lane's next (epoch, number);
    `note` is SHA-256 of the note's text. `message` may quote what a stranger sent: what is not
    ASCII in it is escaped.
    """
    value: dict[str, Any] = {
        "format": NOTICE_FORM,
        "department": header.department,
        "lane": header.lane,
        "epoch": header.epoch,
        "sequence": header.sequence,
        "note_hash": note.hex(),
        "outcome": outcome,
        "code": code,
        "message": message.encode("ascii", "backslashreplace").decode(),
    }
    if want is not None:
        value["want_epoch"], value["want_sequence"] = want
    return canonical.format(value)


def format_lane(department: str, lane: int, state: Mapping[str, Any]) -> bytes:
    """A lane's state for the compacted topic: a hint, harmless when stale. `state`: epoch,
    next_sequence, previous (hex), signed_at, producer (hex or null).
    """
    return canonical.format({"format": LANE_FORM, "department": department, "lane": lane, **state})


def parse_message(data: bytes) -> dict[str, Any]:
    """The members of a receipt, notice or lane state as they stand, unchecked but for canonical
    form and `format`; Malformed otherwise.
    """
    try:
        value = canonical.parse(data, _MAX)
    except LedgerError as err:
        raise Malformed("malformed-receipt", err.message) from err
    forms = (RECEIPT_FORM, NOTICE_FORM, LANE_FORM)
    if type(value) is not dict or value.get("format") not in forms:
        raise Malformed("malformed-receipt", f"format is one of {json.dumps(forms)}")
    return dict(value)


def _parse(data: bytes, form: str, members: set[str]) -> dict[str, str]:
    value = parse_message(data)
    if value["format"] != form or value.keys() != members | {"format"}:
        raise Malformed("malformed-receipt", f"not a {form}")
    if any(type(value[name]) is not str for name in members):
        raise Malformed("malformed-receipt", "its members are strings")
    return value
