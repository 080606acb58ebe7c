"""What the benchmark draws and writes, without running it."""

from __future__ import annotations

import random
from datetime import date
from itertools import islice
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.growth import milestones
from bench.growth_plot import plot
from bench.town import Town
from ledger.event import ISSUED, parse_event
from ledger.merkle import leaf_hash

NAMES = ["bench-01", "bench-02", "bench-03"]


def point(certificates: int, rate: float, seconds: float) -> dict[str, Any]:
    return {
        "certificates": certificates,
        "rate": rate,
        "question": {"p50": seconds / 2, "p99": seconds},
        "evidence": {"p50": seconds, "p99": seconds * 3},
    }


@pytest.mark.parametrize("count", [1, 4])
def test_the_plot_of_growth_shows_every_milestone(count: int) -> None:
    points = [point(10 ** (5 + n), 18_000 - 900 * n, 0.003 + n / 1000) for n in range(count)]
    root = ElementTree.fromstring(plot(points))
    told = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    for each in points:
        assert f"{each['certificates']:,} certificates: {each['rate']:,.1f}" in told
    assert len(told) == 1 + 3 * count


def test_milestones_end_at_the_scale() -> None:
    assert milestones(1)[-2:] == [3_000_000, 10_000_000]
    assert milestones(0.3) == [100_000, 300_000, 1_000_000, 3_000_000]
    assert milestones(0.05) == [100_000, 300_000, 500_000]


def test_a_town_is_the_same_again_and_follows_from_numbers() -> None:
    towns = [Town(NAMES, 2, people=50, per_day=3) for _ in range(2)]
    assert towns[0]._day(3000) > date(2028, 2, 29)  # a leap day lies between
    made = [list(islice(town.write(), 3000)) for town in towns]
    assert made[0] == made[1]
    events = [parse_event(written.line, leaf_hash(written.line)) for written in made[0]]
    for at, (written, event) in enumerate(zip(made[0], events, strict=True), 1):
        assert written.begins == (event.kind == ISSUED)
        if written.begins:
            known = towns[0].certificate(at)
            assert (known.department, known.lane) == (written.department, written.lane)
            assert known.number.encode() in written.line
    draw = random.Random(2)
    chosen = [towns[0].choose(draw, 1000) for _ in range(50)]
    assert {c.number.encode() for c in chosen} <= {_number(w.line) for w in made[0][:1000]}


def _number(line: bytes) -> bytes:
    return line.partition(b'"certificate_number":"')[2].partition(b'"')[0]
