"""That a program stands back by its session where it leads one, and else alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streams.priority import NICENESS

PROGRAM = (
    "import os; from pathlib import Path; from streams.priority import stand_back; stand_back();"
    " print(os.nice(0), Path('/proc/self/autogroup').read_text().split()[-1])"
)


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel has no scheduling by sessions"
)
@pytest.mark.parametrize("leads", [True, False])
def test_a_session_stands_back_with_the_program_that_leads_it(leads: bool) -> None:
    shell = f"{sys.executable} -c {PROGRAM!r}; true"  # the shell leads the session, if anybody
    command = [sys.executable, "-c", PROGRAM] if leads else ["sh", "-c", shell]
    done = subprocess.run(
        command, start_new_session=True, capture_output=True, text=True, check=True, timeout=30
    )
    niceness, session = map(int, done.stdout.split())
    assert (niceness, session) == (NICENESS, NICENESS if leads else 0)
