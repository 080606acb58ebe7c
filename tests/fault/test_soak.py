"""Hours of bundles: memory and open files stay flat, nothing is lost. Only by `make soak`.

CERTLEDGER_SOAK_MINUTES says how long (30).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deploy.embedded import postgres
from tests import world
from tests.running_stack import Department, Load, RunningStack

PROGRAMS = ("worker-1", "sequencer", "relay")
MEBIBYTE = 1024 * 1024
GROWTH = 48 * MEBIBYTE  # of resident memory, after the first quarter of the time


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(stack: RunningStack) -> dict[str, tuple[int, int, int]]:
    """(process, bytes of memory, open files) of each of our programs."""
    pids = {name: stack.pid(name) for name in PROGRAMS}
    return {
        name: (pid, resident(pid), len(list(Path(f"/proc/{pid}/fd").iterdir())))
        for name, pid in pids.items()
    }


@pytest.mark.soak
def test_a_long_run_stays_flat(tmp_path: Path) -> None:
    seconds = float(os.environ.get("CERTLEDGER_SOAK_MINUTES") or 30) * 60
    data = tmp_path / "stack"
    stack = RunningStack(data)
    try:
        department = Department(stack, "s", lanes=2)
        stack.registrar.set_type(("s", world.ALL_ACTS, "own"))
        load = Load(department, events=50, pause=0.02)
        try:
            time.sleep(seconds / 4)
            before = measure(stack)
            end = time.monotonic() + seconds * 3 / 4
            while time.monotonic() < end:
                time.sleep(min(5, seconds / 20))
                load.gap_after(time.monotonic())
            after = measure(stack)
        finally:
            load.stop()
        department.settle()
        department.close()
        for name in PROGRAMS:
            (pid, memory, files), (now, memory_now, files_now) = before[name], after[name]
            assert now == pid, f"{name} was started anew"
            assert memory_now - memory < GROWTH, f"{name}: {memory} to {memory_now} bytes"
            assert files_now <= files + 4, f"{name}: {files} to {files_now} open files"
        admitted = stack.rows("SELECT count FROM tally WHERE name = 'admitted'")
        assert admitted == [(department.events,)]
        stack.check()
    finally:
        stack.close()
        postgres.remove(data)
