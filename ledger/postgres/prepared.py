"""What a turn will store of a bundle, as far as its lines alone say it: made where records are
opened, so that the turn has less to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .. import admission, staterow
from ..admission import DeadLetter, Opened
from ..event import ISSUED, Event
from ..fast_events import Columns
from ..fast_turn import plain_days
from ..registry import Registry
from .rows import pack_lines

_DIGEST = 4  # bytes


class Prepared(NamedTuple):
    """Chunks of lines as they will be stored, and for each line what `row_parts` takes apart; None
    where it does not issue a certificate plainly.
    """

    chunks: Sequence[bytes]
    rows: Sequence[bytes | None]


def prepare(lines: tuple[bytes, ...], columns: Columns, others: Iterable[int]) -> Prepared:
    """Of lines, the events among them as columns, and the positions of what is no event."""
    rows = _prepare_rows(columns) if columns else []
    for position in others:  # ascending
        rows.insert(position, None)
    return Prepared(tuple(pack_lines(lines)), tuple(rows))


def prepare_bundle(opened: Opened) -> Prepared:
    """The same of an opened bundle that has its lines."""
    events = [line for line in opened.events if isinstance(line, Event)]
    others = [n for n, line in enumerate(opened.events) if not isinstance(line, Event)]
    return prepare(opened.bundle.lines, list(zip(*events, strict=True)), others)


def open_value(
    value: bytes | None, registry: Registry, parse: admission.Parse
) -> tuple[Opened | DeadLetter, Prepared | None]:
    """Step 4 for a record's value: what it says, and what will be stored of a bundle."""
    opened = admission.open_record(value, registry, parse)
    return opened, prepare_bundle(opened) if isinstance(opened, Opened) else None


def row_parts(prepared: bytes) -> tuple[bytes, bytes]:
    """(digest of the certificate's number, what `staterow.pack_issued` wants)."""
    return prepared[:_DIGEST], prepared[_DIGEST:]


def _prepare_rows(columns: Columns) -> list[bytes | None]:
    ids, kinds, _, moments, _, _, issuers, numbers, _, holders, _, _, _, said = columns
    event_ids = bytes.fromhex("".join(ids))
    rows: list[bytes | None] = []
    for at, kind in enumerate(kinds):
        days = plain_days(said[at][0], said[at][1]) if kind == ISSUED else None
        state = days and staterow.prepare_issued(
            *days, issuers[at], moments[at], event_ids[16 * at : 16 * at + 16], holders[at]
        )
        rows.append(staterow.number_digest(numbers[at]) + state if state else None)
    return rows
