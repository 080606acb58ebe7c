"""`python -m streams.worker`: one admission worker."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time

import faust

from ledger.logs import FORMAT_VARIABLE, set_up

from .app import build_app, die
from .settings import Settings, SettingsError

GARBAGE_SECONDS = 2  # between two looks for cycles
SWITCH_SECONDS = 0.001
MAPPED_BYTES = 256 * 1024  # of a block that is mapped by itself
TRIMMED_BYTES = 16 * 1024 * 1024  # that are free at the heap's end before it is shortened
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's malloc.h


def collect_seldom() -> None:
    """Look for objects in cycles by the clock, those that are there already left out.

    A turn makes tens of thousands of small objects, none in cycles: looking among them whenever so
    many were made takes a third of the worker's time, still a tenth at every 200,000.
    """
    gc.freeze()
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    while True:
        time.sleep(GARBAGE_SECONDS)
        gc.collect()


def map_large_blocks() -> None:
    """Have large blocks mapped by themselves, to be given back as soon as they are freed.

    glibc raises that limit with each such block that is freed: records, and what is copied of them,
    then lie among event lines and leave holes. Other C libraries have no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_TRIM_THRESHOLD, TRIMMED_BYTES)


def main() -> None:
    """Run until a signal comes; exit 70 on any surprise, for the supervisor to start anew."""
    set_up("worker", os.environ.get(FORMAT_VARIABLE))
    map_large_blocks()
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    try:
        app = build_app(settings)
    except Exception as err:
        die(err)
    collect_seldom()
    # Each answer of PostgreSQL's waits for the interpreter while other threads compute.
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=app.ledger.watch, name="watch", daemon=True).start()
    worker = faust.Worker(app, quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # which would write between the log's lines
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
