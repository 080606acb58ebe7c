"""How the streams' programs end: on a signal, or with the reason and an exit code."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import CODES, LedgerError, Unavailable
from ledger.logs import Events

from .settings import SettingsError


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def exit_with_reason(log: Events, event: str) -> Iterator[None]:
    """End the process: 1 for wrong settings, 75 for what may be there later, 70 for the rest, at
    the code's log level as `event`.
    """
    try:
        yield
    except SettingsError as err:
        sys.exit(str(err))
    except Unavailable as err:
        log.warning(event, error=err)
        sys.exit(75)
    except LedgerError as err:
        log.log(logging.getLevelName(CODES[err.code].level), event, error=err)
        sys.exit(70)
