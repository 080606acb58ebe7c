"""What is opened and applied together, and in which order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from ledger.admission import Skipped
from ledger.postgres.store import Checked, Fetched
from streams.app import PART_BYTES, Pipeline, parts
from streams.intake import MAX_RECORDS_PER_TURN, Intake


class SlowIntake:
    """Opens at once; applies when it is let, and remembers in which pieces."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.opened: list[list[int]] = []
        self.applied: list[list[int]] = []
        self.came: set[int] = set()
        self.asked_topic = 0
        self.asked_after: set[int] = set()  # these came

    def check_topic(self) -> None:
        came = set(self.came)
        self.asked_topic += 1
        self.asked_after = came

    def open(self, records: Sequence[Fetched]) -> list[Checked]:
        self.opened.append([record.offset for record in records])
        return [Checked(record, Skipped(), 0) for record in records]

    def apply(self, batch: Sequence[Checked]) -> None:
        assert self.asked_after.issuperset(checked.fetched.offset for checked in batch)
        self.begun.set()
        assert self.go.wait(20)
        self.applied.append([checked.fetched.offset for checked in batch])


def record(offset: int, size: int = 1) -> Fetched:
    return Fetched(0, offset, bytes(size))


def flat(pieces: Sequence[Sequence[Any]]) -> list[Any]:
    return [each for piece in pieces for each in piece]


async def settled(intake: SlowIntake, records: int) -> None:
    for _ in range(1000):
        if len(flat(intake.applied)) == records:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(intake.applied)


def run_pipeline(sizes: Sequence[int], waits: bool) -> SlowIntake:
    """Records of these sizes, taken one by one; whether taking all of them waits for the turn."""

    async def run() -> SlowIntake:
        intake = SlowIntake()
        pipeline = Pipeline(cast(Intake, intake))

        async def take_all() -> None:
            for offset, size in enumerate(sizes):
                intake.came.add(offset)
                await pipeline.take([record(offset, size)])
                await asyncio.to_thread(intake.begun.wait, 20)  # the first is applied alone

        taking = asyncio.create_task(take_all())
        await asyncio.to_thread(intake.begun.wait, 20)
        done, _ = await asyncio.wait([taking], timeout=0.5)
        assert bool(done) != waits
        while not waits and len(flat(intake.opened)) < len(sizes):
            await asyncio.sleep(0.01)  # all but the last opened wait for the next turn by now
        intake.go.set()
        await taking
        await settled(intake, len(sizes))
        return intake

    return asyncio.run(run())


def test_what_comes_in_during_a_turn_goes_into_the_next_together() -> None:
    intake = run_pipeline([1] * 50, waits=False)
    assert flat(intake.applied) == list(range(50))
    assert intake.applied[0] == [0]
    assert len(intake.applied) <= 3
    assert intake.asked_topic == len(intake.applied)


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        pytest.param([1] * 5 * MAX_RECORDS_PER_TURN, MAX_RECORDS_PER_TURN, id="records"),
        pytest.param([PART_BYTES // 2 + 1] * 8, 1, id="bytes"),
    ],
)
def test_more_than_fits_waits(sizes: list[int], most: int) -> None:
    intake = run_pipeline(sizes, waits=True)
    assert flat(intake.applied) == list(range(len(sizes)))
    assert max(map(len, intake.applied)) <= most
    assert max(map(len, intake.opened)) <= most
    assert intake.asked_topic <= len(intake.opened)


def test_a_small_record_beside_a_large_one_is_asked_for_as_well() -> None:
    intake = run_pipeline([1, PART_BYTES // 2 + 1, 1, 1], waits=False)
    assert flat(intake.applied) == list(range(4))
    assert intake.applied[0] == [0]
    assert len(intake.applied) < 4


def test_parts_are_of_bounded_size_and_lose_nothing() -> None:
    records = [record(offset, PART_BYTES // 3) for offset in range(7)]
    records.insert(2, record(100, PART_BYTES + 1))
    made = list(parts(records))
    assert flat(made) == records
    assert all(
        len(part) == 1 or sum(len(r.value or b"") for r in part) <= PART_BYTES for part in made
    )
