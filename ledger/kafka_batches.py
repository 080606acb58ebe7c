"""Kafka's record batches as every reader of ours takes them, whatever compressed them.

Kafka takes four codecs and looks only at a batch's compressed size: 2 MB may burst to gigabytes.
Readers that know different codecs would not read the same. So before a client's library sees what
was fetched: a batch by another codec than lz4, or by lz4 where it may be too large, is replaced by
the same records uncompressed; one that comes out larger than MAX_BATCH, or by no codec of Kafka's,
by as many records without a value, which become dead letters at their offsets. More than
MAX_UNREADABLE of them are left out, as an aborted transaction's are.

Batches: https://kafka.apache.org/documentation/#recordbatch (magic 2).
"""

from __future__ import annotations

import gzip
import io
import mmap
import struct
from collections.abc import Callable
from typing import Any

import cramjam
import crc32c

MAX_BATCH = 64 * 1024 * 1024  # bytes, uncompressed
MAX_UNREADABLE = 65_536  # records
Bytes = bytes | bytearray | memoryview
_LZ4_RATIO = 255  # at most
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_CODECS = 0b111
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16

_head = struct.Struct(">qiibI")  # base offset, length from there on, leader epoch, magic, CRC
_AFTER_LENGTH = 12
_ATTRIBUTES = _head.size
_body = struct.Struct(">hi")  # attributes, last offset's delta
_RECORDS = 57  # int32, the number of records; they follow
_HEADER = 61


def guard(fetcher: Any) -> None:
    """Have a library's module `fetcher` (kafka-python's or aiokafka's) read `tame` bytes only."""
    real = fetcher.MemoryRecords
    if getattr(real, "is_tame", False):
        return

    def records(data: Bytes | None) -> Any:
        return real(tame(data) if data else data)

    records.is_tame = True  # type: ignore[attr-defined]
    fetcher.MemoryRecords = records


def tame(data: Bytes) -> Bytes:
    """Batches as fetched, the last of which may be incomplete, with those replaced that no reader
    of ours should open; a batch with a wrong CRC stays, for the library to refuse.
    """
    view = memoryview(data)
    found: list[Bytes] = []
    at = begin = 0
    while len(view) - at >= _HEADER:
        _, length, _, magic, _ = _head.unpack_from(view, at)
        end = at + _AFTER_LENGTH + length
        if length < _HEADER - _AFTER_LENGTH or end > len(view):
            break
        if magic == 2 and not _is_plain(view[at:end]):
            found += [view[begin:at], _plain(view[at:end])]
            begin = end
        at = end
    return b"".join([*found, view[begin:]]) if found else data


def _is_plain(batch: memoryview) -> bool:
    codec = _body.unpack_from(batch, _ATTRIBUTES)[0] & _CODECS
    return codec == 0 or (codec == _LZ4 and len(batch) * _LZ4_RATIO <= MAX_BATCH)


def _plain(batch: memoryview) -> bytes:
    *_, crc = _head.unpack_from(batch)
    if crc32c.crc32c(batch[_ATTRIBUTES:]) != crc:
        return bytes(batch)
    attributes, last = _body.unpack_from(batch, _ATTRIBUTES)
    try:
        records = _CODEC[attributes & _CODECS](batch[_HEADER:])
        if not records:
            raise ValueError("nothing in it")
        (count,) = struct.unpack_from(">i", batch, _RECORDS)
    except (KeyError, ValueError, OSError, EOFError, struct.error, cramjam.DecompressionError):
        count = last + 1 if last < MAX_UNREADABLE else 0
        records = b"".join(map(_without_value, range(count)))
    body = bytearray(batch[_ATTRIBUTES:_HEADER])
    _body.pack_into(body, 0, attributes & ~_CODECS, last)
    struct.pack_into(">i", body, _RECORDS - _ATTRIBUTES, count)
    body += records
    base, _, epoch, magic, _ = _head.unpack_from(batch)
    length = _ATTRIBUTES - _AFTER_LENGTH + len(body)
    return _head.pack(base, length, epoch, magic, crc32c.crc32c(body)) + body


def _without_value(delta: int) -> bytes:
    """A record with neither key nor value."""
    record = b"\x00\x00" + _varint(delta) + _varint(-1) + _varint(-1) + _varint(0)
    return _varint(len(record)) + record


def _varint(value: int) -> bytes:
    """Zigzag, as in protocol buffers."""
    left = (value << 1) ^ (value >> 63)
    found = bytearray()
    while left > 0x7F:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])


def _into(decompress: Callable[[Any, Any], int]) -> Callable[[memoryview], bytes]:
    def run(data: memoryview) -> bytes:
        with mmap.mmap(-1, MAX_BATCH) as room:  # memory that is used where it is written to alone
            return room[: decompress(data, room)]

    return run


def _gunzip(data: memoryview) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        found = file.read(MAX_BATCH + 1)
    if len(found) > MAX_BATCH:
        raise ValueError("too large")
    return found


def _unsnap(data: memoryview) -> bytes:
    if data[: len(_XERIAL)] != _XERIAL:
        return _unsnap_block(data, MAX_BATCH)
    found = bytearray()
    at = _XERIAL_HEADER
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found += _unsnap_block(data[at + 4 : at + 4 + size], MAX_BATCH - len(found))
        at += 4 + size
    return bytes(found)


def _unsnap_block(data: memoryview, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > room:
        raise ValueError("too large")
    return bytes(cramjam.snappy.decompress_raw(data))


_CODEC: dict[int, Callable[[memoryview], bytes]] = {
    _GZIP: _gunzip,
    _SNAPPY: _unsnap,
    _LZ4: _into(cramjam.lz4.decompress_into),
    _ZSTD: _into(cramjam.zstd.decompress_into),
}
