"""How programs that make many short-lived objects give their memory back, or use it again."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Mapping

SECONDS = 10  # between two looks for cycles
QUIET = 0.5  # of a processor, in a time after which memory is given back
MAPPED_BYTES = 256 * 1024  # of a block that is mapped by itself
TRIMMED_BYTES = 16 * 1024 * 1024  # that are free at the heap's end before it is shortened
KEPT_BYTES = 4 * 1024 * 1024  # blocks below this are kept for the next ones
_c_library = ctypes.CDLL(None)
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # glibc's malloc.h


def collect_seldom() -> None:
    """Look for objects in cycles by the clock, those that are there already left out; give back
    what is free where there was little to do.

    A turn, or what follows it, makes tens of thousands of small objects, none in cycles: looking
    among them whenever so many were made takes a third of the worker's time, still a tenth at every
    200,000.
    """
    gc.freeze()
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    while True:
        before = time.process_time()
        time.sleep(SECONDS)
        gc.collect()
        if time.process_time() - before < SECONDS * QUIET:
            trim()


def trim() -> None:
    """Give back what a busier time took, free blocks between others included."""
    malloc_trim = getattr(_c_library, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def map_large_blocks() -> None:
    """Have large blocks mapped by themselves, to be given back as soon as they are freed.

    glibc raises that limit with each such block that is freed: what a round read then lies among
    what is kept and leaves holes.
    """
    _set({_MMAP_THRESHOLD: MAPPED_BYTES, _TRIM_THRESHOLD: TRIMMED_BYTES})


def keep_large_blocks() -> None:
    """Have records, and what is copied of them, use again the memory of those before, one heap for
    all threads: to map a block and touch it for the first time costs more than to fill it.

    To be called before there are threads. What lives long here is small, and lies elsewhere.
    """
    _set({_ARENA_MAX: 1, _MMAP_THRESHOLD: KEPT_BYTES, _TRIM_THRESHOLD: TRIMMED_BYTES})


def _set(options: Mapping[int, int]) -> None:
    mallopt = getattr(_c_library, "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)
