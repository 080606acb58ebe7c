"""The order in which a restore takes what the log topic holds: one in which it can have come about.

Log indexes, numbers of accounting rows and the offsets of each partition ascend without a gap, in
the turns that made them too. So to take whatever is next in all that it counts in never gets stuck,
and everything that a record's outcome depended on comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .entry import BUNDLE, EQUIVOCATION, Source, parse_entry
from .logtopic import Row


@dataclass(frozen=True, slots=True)
class Step:
    """An entry, an accounting row, or both: an equivocation that was logged."""

    source: Source | None = None  # the Kafka record that it came from, None for other entries
    index: int | None = None  # of the entry
    entry: bytes = b""
    value: Mapping[str, Any] | None = None  # the parsed entry
    row: Row | None = None


def in_order(
    entries: Mapping[int, bytes],
    rows: Mapping[int, Row],
    index: int,
    number: int,
    offsets: Mapping[tuple[str, int], int],
) -> Iterator[Step]:
    """The steps from log index `index` and row `number` on, where `offsets` are the next ones by
    (topic id, partition); to the first that is missing.
    """
    wanted = dict(offsets)
    while True:
        step = _next(entries, rows, index, number, wanted)
        if step is None:
            return
        if step.source is not None:
            wanted[step.source.topic_id, step.source.partition] = step.source.offset + 1
        index += step.index is not None
        number += step.row is not None
        yield step


def _next(
    entries: Mapping[int, bytes],
    rows: Mapping[int, Row],
    index: int,
    number: int,
    wanted: Mapping[tuple[str, int], int],
) -> Step | None:
    def is_next(source: Source) -> bool:
        return wanted.get((source.topic_id, source.partition), 0) == source.offset

    data = entries.get(index)
    value = None if data is None else parse_entry(data)
    if data is not None and value is not None:
        if value["kind"] == BUNDLE:
            source = Source(**value["source"])
            if is_next(source):
                return Step(source, index, data, value)
        elif value["kind"] != EQUIVOCATION:
            return Step(None, index, data, value)
    row = rows.get(number)
    if row is None or not is_next(of_row := Source(row.topic_id, row.partition, row.offset)):
        return None
    if row.outcome != EQUIVOCATION or row.log_index is None or row.log_index < index:
        return Step(of_row, row=row)
    if row.log_index > index or data is None or value is None or value["kind"] != EQUIVOCATION:
        return None
    return Step(of_row, index, data, value, row)
