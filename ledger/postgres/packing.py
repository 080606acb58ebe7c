"""What is stored compressed, as zstd frames that say how long they are.

Each thread keeps its contexts: to make one takes several times what a line of 600 bytes does.
"""

from __future__ import annotations

import threading

import zstandard

MAX_BYTES = 256 * 1024 * 1024  # far above all that is stored; a damaged length must ask for no more


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.unpacker = zstandard.ZstdDecompressor()
        self.packers: dict[int, zstandard.ZstdCompressor] = {}


_mine = _Contexts()


def pack(data: bytes, level: int = 1) -> bytes:
    """`data` as one frame."""
    packer = _mine.packers.get(level)
    if packer is None:
        packer = _mine.packers[level] = zstandard.ZstdCompressor(level=level)
    return packer.compress(data)


def unpack(frame: bytes) -> bytes:
    """What `pack` was given; ValueError where `frame` is not one frame, whole and of its length."""
    try:
        if zstandard.frame_content_size(frame) > MAX_BYTES:
            raise ValueError("a frame of more bytes than anything stored has")
        return _mine.unpacker.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as err:
        raise ValueError(str(err)) from err
