"""The clock of the database's machine jumps under running programs: the function that every time
of the ledger comes from is moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from tests import world
from tests.running_stack import Department, Load, RunningStack, wait_until
from tests.stored_ledger import query

AHEAD = 20  # seconds that are waited for; beyond the leeway of `ledger/postgres/sequencing.py`


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "t", lanes=2)
    stack.registrar.set_type(("t", world.ALL_ACTS, "own"))
    yield made
    made.close()


class Clock:
    """The database's clock, moved by seconds."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._true = self._run("SELECT pg_get_functiondef('microseconds_now'::regproc)")[0][0]
        assert "* 1000000)::bigint" in self._true

    def _run(self, statement: str) -> list[tuple[str, ...]]:
        with closing(psycopg2.connect(self._stack.postgres)) as connection:
            found = query(connection, statement)
            connection.commit()
            return found

    def move(self, seconds: int) -> None:
        moved = f"* 1000000)::bigint + {seconds * 1_000_000}"
        self._run(self._true.replace("* 1000000)::bigint", moved))


def test_the_clock_jumps_ahead_and_back(stack: RunningStack, department: Department) -> None:
    """Ahead: that is what is signed. Back again: signing stops with its cause, intake goes on, and
    when time has caught up everything does, by itself.
    """
    clock = Clock(stack)
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        clock.move(AHEAD)
        load.gap_after(time.monotonic())
        after = len(stack.log("sequencer"))
        clock.move(0)
        back = time.monotonic()
        stack.wait_for_log("sequencer", "clock-behind", after, AHEAD)
        ((taken,),) = stack.rows("SELECT sum(next_offset) FROM intake")
        wait_until(
            lambda: stack.rows("SELECT sum(next_offset) > %s FROM intake", taken) == [(True,)]
        )
        assert time.monotonic() < back + AHEAD, "too slow to see anything"
        load.gap_after(time.monotonic(), 2 * AHEAD)
    finally:
        clock.move(0)
        load.stop()
    department.settle()
    times = stack.rows("SELECT ledger_time FROM status ORDER BY log_index")
    assert times == sorted(times)
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    assert stack.rows("SELECT count(*) FROM certificate") == [(department.events,)]
    stack.check()


def test_the_clock_is_behind(stack: RunningStack, department: Department) -> None:
    """By an hour: nothing is signed meanwhile, nothing is lost, and it is said what to do."""
    clock = Clock(stack)
    department.publish_issued(5)
    department.settle()
    after = len(stack.log("sequencer"))
    ((size,),) = stack.rows("SELECT max(size) FROM checkpoint")
    try:
        clock.move(-3600)
        department.publish_issued(5)
        said = stack.wait_for_log("sequencer", "clock-behind", after)
        assert "the clock says" in said
        time.sleep(3)
        assert department.pending
        assert stack.rows("SELECT max(size) FROM checkpoint") == [(size,)]
    finally:
        clock.move(0)
    department.settle()
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    stack.check()
