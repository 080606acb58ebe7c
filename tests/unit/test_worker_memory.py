"""Large blocks are mapped by themselves, whatever was freed before, or kept, as asked for."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_SCRIPT = """
import ctypes
from streams.memory import MAPPED_BYTES, keep_large_blocks, map_large_blocks

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2

def mapped():
    before = libc.mallinfo2().hblkhd
    block = bytes(2 * MAPPED_BYTES)
    return libc.mallinfo2().hblkhd - before >= 2 * MAPPED_BYTES

{call}
first = mapped()
for _ in range(3):
    bytes(8 * MAPPED_BYTES)  # freed at once: by itself glibc keeps blocks of that size from now on
print(first, mapped())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("", "True False"),
        ("map_large_blocks()", "True True"),
        ("keep_large_blocks()", "False False"),
    ],
)
def test_a_large_block_is_mapped_by_itself(call: str, expected: str) -> None:
    script = _SCRIPT.replace("{call}", call)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{expected}\n"


_TRIMMED = """
import resource
from streams.memory import keep_large_blocks, trim

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

keep_large_blocks()
kept = []
large = []
for _ in range(200):
    large.append(bytearray(b"x") * 1_000_000)
    kept.append(bytes(5000))  # lies between them, so that no end of the heap is free
before = resident()
large.clear()
freed = resident()
trim()
print(before - freed < 20, freed - resident() > 150)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_what_a_busy_time_took_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TRIMMED], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True True\n"
