"""How programs that make many short-lived objects give their memory back."""

from __future__ import annotations

import ctypes
import gc
import threading
import time

SECONDS = 10  # between two looks for cycles
MAPPED_BYTES = 256 * 1024  # of a block that is mapped by itself
TRIMMED_BYTES = 16 * 1024 * 1024  # that are free at the heap's end before it is shortened
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's malloc.h


def collect_seldom() -> None:
    """Look for objects in cycles by the clock, those that are there already left out.

    A turn, or what follows it, makes tens of thousands of small objects, none in cycles: looking
    among them whenever so many were made takes a third of the worker's time, still a tenth at every
    200,000.
    """
    gc.freeze()
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    while True:
        time.sleep(SECONDS)
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
