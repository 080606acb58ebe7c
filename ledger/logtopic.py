"""Records of `certledger.log.v1`: log entries, signed checkpoints, accounting (D12).

The Kafka key says which. `ENTRIES`: `CLG1`, first log index (8 bytes, big-endian), count (4), then
per entry its length (2) and its bytes. `CHECKPOINT`: the signed note. `ACCOUNTING`: canonical JSON,
one row per Kafka record that was not logged. Readers keep the first record per index.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import canonical
from .entry import MAX_ENTRY
from .errors import CODES, LedgerError, Malformed

ENTRIES, CHECKPOINT, ACCOUNTING = b"entries", b"checkpoint", b"accounting"
MAGIC = b"CLG1"
ACCOUNTING_FORM = "certledger accounting v1"
OUTCOMES = (
    *("repeat", "out-of-sequence", "fenced", "equivocation", "dead-letter", "skipped"),
    "lost",
)
MAX_RECORD = 1024 * 1024
_HEAD = 16  # bytes before the first entry
_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{22}")


class Row(NamedTuple):
    """What became of one Kafka record that was not logged. `number` is the outbox's."""

    number: int
    outcome: str
    topic_id: str
    partition: int
    offset: int
    code: str | None
    log_index: int | None


def entries_size(entries: Sequence[bytes]) -> int:
    """Bytes of the record that holds `entries`; one of over MAX_RECORD must be split."""
    return _HEAD + sum(2 + len(entry) for entry in entries)


def format_entries(first: int, entries: Sequence[bytes]) -> bytes:
    """The record of `entries`, the first of which has log index `first`."""
    if not entries or entries_size(entries) > MAX_RECORD:
        raise Malformed("malformed-record", f"entries for one record: 1 to {MAX_RECORD} bytes")
    if not all(1 <= len(entry) <= MAX_ENTRY for entry in entries):
        raise Malformed("malformed-record", f"an entry has 1 to {MAX_ENTRY} bytes")
    head = MAGIC + first.to_bytes(8, "big") + len(entries).to_bytes(4, "big")
    return head + b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def parse_entries(data: bytes) -> tuple[int, list[bytes]]:
    """(log index of the first, entries), the entries themselves unchecked; Malformed otherwise."""
    if not _HEAD < len(data) <= MAX_RECORD or data[:4] != MAGIC:
        raise Malformed("malformed-record", "a record of entries begins with CLG1")
    first = int.from_bytes(data[4:12], "big")
    count = int.from_bytes(data[12:_HEAD], "big")
    entries: list[bytes] = []
    at = _HEAD
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or end < at + 3:
            raise Malformed("malformed-record", f"entry {len(entries)} does not end in the record")
        entries.append(data[at + 2 : end])
        at = end
    if len(entries) != count or first + count > 2**63:
        raise Malformed("malformed-record", f"{len(entries)} entries, {count} said")
    return first, entries


def format_accounting(rows: Sequence[Row]) -> bytes:
    """The record of accounting `rows`, numbered without a gap; Malformed when they are not."""
    first = rows[0].number if rows else 0
    listed = [list(row) for row in rows]
    _check_rows(first, listed)
    data = canonical.format({"format": ACCOUNTING_FORM, "first": first, "rows": listed})
    if len(data) > MAX_RECORD:
        raise Malformed("too-large", f"{len(data)} bytes of accounting, at most {MAX_RECORD}")
    return data


def parse_accounting(data: bytes) -> list[Row]:
    """The rows in a record of accounting; Malformed otherwise."""
    try:
        value = canonical.parse(data, MAX_RECORD)
    except LedgerError as err:
        raise Malformed("malformed-record", err.message) from err
    if (
        type(value) is not dict
        or value.keys() != {"format", "first", "rows"}
        or value["format"] != ACCOUNTING_FORM
    ):
        raise Malformed("malformed-record", f"not a {ACCOUNTING_FORM!r}")
    _check_rows(value["first"], value["rows"])
    return [Row(*row) for row in value["rows"]]


def _check_rows(first: Any, rows: Any) -> None:
    if not _is_count(first) or type(rows) is not list or not rows:
        raise Malformed("malformed-record", "accounting has a first number and rows")
    for number, row in enumerate(rows, first):
        if type(row) is not list or len(row) != len(Row._fields):
            raise Malformed("malformed-record", f"a row has {', '.join(Row._fields)}")
        if row[0] != number or type(row[0]) is not int:
            raise Malformed("malformed-record", f"row {number} is numbered {str(row[0])[:24]!r}")
        _, outcome, topic_id, partition, offset, code, log_index = row
        if (
            outcome not in OUTCOMES
            or type(topic_id) is not str
            or not _TOPIC_ID.fullmatch(topic_id)
            or not _is_count(partition)
            or not _is_count(offset)
            or not (code is None or (type(code) is str and code in CODES))
            or not (log_index is None or _is_count(log_index))
        ):
            raise Malformed("malformed-record", f"row {number} is not of its form")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
