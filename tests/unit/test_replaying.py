"""Whatever turns made a log, the order of a restore respects what they respected."""

from __future__ import annotations

import random

from ledger.entry import Source, format_bundle, format_equivocation, format_status
from ledger.logtopic import Row
from ledger.replaying import in_order

ID, TIME = "A" * 22, "2026-11-26T00:00:00Z"
NOTE = b"text\n\n\xe2\x80\x94 name AAAAAA==\n"


def made(rng: random.Random, count: int) -> tuple[dict[int, bytes], dict[int, Row], list[Source]]:
    """Entries and rows of records that were taken in some order of four partitions."""
    entries: dict[int, bytes] = {}
    rows: dict[int, Row] = {}
    taken: list[Source] = []
    offsets = dict.fromkeys(range(4), 0)
    for _ in range(count):
        if rng.random() < 0.1:
            entries[len(entries)] = format_status(len(entries), bytes(32), TIME)
            continue
        partition = rng.randrange(4)
        source = Source(ID, partition, offsets[partition])
        offsets[partition] += 1
        taken.append(source)
        what = rng.choice(["logged", "logged", "repeat", "equivocation", "fenced"])
        if what == "logged":
            entries[len(entries)] = format_bundle(NOTE, {}, source, TIME, bytes(32), bytes(32))
            continue
        index = 0 if what == "repeat" else None
        if what == "equivocation" and rng.random() < 0.5:
            index = len(entries)
            entries[index] = format_equivocation(NOTE, source, 0, TIME)
        rows[len(rows)] = Row(len(rows), what, ID, partition, source.offset, None, index)
    return entries, rows, taken


def test_every_order_that_can_have_been_is_gone_through_to_its_end() -> None:
    for seed in range(300):
        entries, rows, taken = made(random.Random(seed), 60)
        steps = list(in_order(entries, rows, 0, 0, {}))
        assert [s.index for s in steps if s.index is not None] == list(range(len(entries)))
        assert [s.row.number for s in steps if s.row is not None] == list(range(len(rows)))
        sources = [s.source for s in steps if s.source is not None]
        assert sorted(map(str, sources)) == sorted(map(str, taken))
        for partition in range(4):
            offsets = [s.offset for s in sources if s.partition == partition]
            assert offsets == list(range(len(offsets)))


def test_it_ends_where_something_is_missing() -> None:
    entries, rows, _ = made(random.Random(7), 60)
    lost = max(rows) // 2
    whole = list(in_order(entries, rows, 0, 0, {}))
    del rows[lost]
    steps = list(in_order(entries, rows, 0, 0, {}))
    assert len(steps) < len(whole)
    assert all(step.row is None or step.row.number < lost for step in steps)
    # a position in the middle, as a backup has it
    middle = whole[20:]
    entries, rows, _ = made(random.Random(7), 60)
    index = min(s.index for s in middle if s.index is not None)
    number = min(s.row.number for s in middle if s.row is not None)
    offsets: dict[tuple[str, int], int] = {}
    for step in whole[:20]:
        if step.source is not None:
            offsets[ID, step.source.partition] = step.source.offset + 1
    assert len(list(in_order(entries, rows, index, number, offsets))) == len(middle)
