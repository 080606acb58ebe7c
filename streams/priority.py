"""Which programs the others go before, where processors are few."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

NICENESS = 10
_AUTOGROUP = Path("/proc/self/autogroup")
_ATTEMPTS = 20  # the kernel takes ten changes a second from all programs together


def stand_back() -> None:
    """Let other programs go first when all want the processor.

    Linux first shares a core among sessions, then among the processes of each (sched(7), "The
    autogroup feature"): where a program leads a session of its own, as the supervisor starts it,
    its niceness alone would say nothing.
    """
    with contextlib.suppress(OSError):  # where that is forbidden
        os.nice(NICENESS)
    if os.getsid(0) != os.getpid():
        return  # the session is not this program's to speak for
    for _ in range(_ATTEMPTS):
        try:
            _AUTOGROUP.write_text(str(NICENESS), "ascii")
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            return  # a kernel without it, or another system
        else:
            return
