"""What a Kafka batch comes to before a client's library sees it."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable

import cramjam
import crc32c
import pytest
from aiokafka.record.memory_records import MemoryRecords as AioRecords
from kafka.record import MemoryRecords, MemoryRecordsBuilder

from ledger import kafka_batches
from ledger.kafka_batches import MAX_UNREADABLE, tame

ATTRIBUTES, HEADER = 21, 61
MAX_BATCH = 1 << 20


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_batches, "MAX_BATCH", MAX_BATCH)


def batch(values: list[bytes], first: int = 0) -> bytes:
    """Uncompressed, from an offset on."""
    builder = MemoryRecordsBuilder(2, 0, 1 << 30)
    for value in values:
        builder.append(timestamp=1, key=b"k", value=value)
    builder.close()
    return struct.pack(">q", first) + bytes(builder.buffer())[8:]


def with_records(plain: bytes, records: bytes, codec: int, last: int | None = None) -> bytes:
    """A batch's header over other bytes of records, with a true CRC."""
    body = bytearray(plain[ATTRIBUTES:HEADER]) + records
    body[1] = body[1] & ~7 | codec
    if last is not None:
        struct.pack_into(">i", body, 2, last)
        struct.pack_into(">i", body, HEADER - ATTRIBUTES - 4, last + 1)
    length = ATTRIBUTES - 12 + len(body)
    return plain[:8] + struct.pack(">iibI", length, 0, 2, crc32c.crc32c(body)) + body


def xerial(data: bytes) -> bytes:
    found = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    for at in range(0, len(data), 1 << 20):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + (1 << 20)]))
        found += struct.pack(">i", len(block)) + block
    return found


CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (1, gzip.compress),
    "snappy": (2, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy in blocks": (2, xerial),
    "lz4": (3, lambda data: bytes(cramjam.lz4.compress(data))),
    "zstd": (4, lambda data: bytes(cramjam.zstd.compress(data))),
}


def read(data: bytes) -> list[tuple[int, bytes | None]]:
    """(offset, value) of all records, the same by both libraries."""
    found = []
    for library in (MemoryRecords, AioRecords):
        records, seen = library(tame(data)), []
        while records.has_next():
            one = records.next_batch()
            assert one.validate_crc()
            seen += [(record.offset, record.value) for record in one]
        found.append(seen)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_gives_the_same_records(name: str) -> None:
    codec, compress = CODECS[name]
    drawn = random.Random(name)
    values = [drawn.randbytes(drawn.randrange(3000)) for _ in range(200)]
    plain = batch(values, 7)
    packed = with_records(plain, compress(plain[HEADER:]), codec)
    other = batch([b"after it"], 207)
    expected = [*enumerate(values, 7), (207, b"after it")]
    assert read(packed + other) == expected
    assert read(plain + other) == expected
    assert read(packed + packed[: len(packed) // 2]) == expected[:-1]  # the second is cut off
    assert tame(plain + other) == plain + other


@pytest.mark.parametrize("name", CODECS)
def test_what_bursts_is_read_as_records_without_a_value(name: str) -> None:
    codec, compress = CODECS[name]
    plain = batch([b"one", b"two", b"three"], 5)
    for size, is_read in ((MAX_BATCH, True), (MAX_BATCH + 1, False)):
        value = bytes(size - 30)
        value = bytes(2 * size - 30 - len(batch([value])[HEADER:]))
        records = batch([value])[HEADER:]
        assert len(records) == size
        found = read(with_records(batch([b""]), compress(records), codec))
        assert found == [(0, value if is_read else None)]
    bomb = with_records(plain, compress(bytes(MAX_BATCH + 1)), codec)
    assert read(bomb) == [(5, None), (6, None), (7, None)]
    many = with_records(plain, compress(bytes(MAX_BATCH + 1)), codec, MAX_UNREADABLE)
    assert read(many + batch([b"after it"], 9)) == [(9, b"after it")]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 6, 7])
def test_codecs_that_are_none(codec: int) -> None:
    """An unknown one, or one whose bytes are no stream of its."""
    junk = random.Random(codec).randbytes(400_000)
    plain = batch([b"one", b"two"], 5)
    shorts = () if codec == 3 else (b"", junk[:50])  # of lz4 only what may be large is looked at
    for records in (*shorts, junk, b"\x82SNAPPY\x00" + junk):
        assert read(with_records(plain, records, codec)) == [(5, None), (6, None)]


def test_a_damaged_batch_is_left_for_the_library_to_refuse() -> None:
    plain = batch([b"one", b"two"])
    packed = bytearray(with_records(plain, gzip.compress(plain[HEADER:]), 1))
    for place in range(ATTRIBUTES, len(packed)):
        packed[place] ^= 1
        assert tame(bytes(packed)) == packed
        packed[place] ^= 1


def test_any_bytes_are_passed_on() -> None:
    drawn = random.Random(1)
    for size in range(300):
        data = drawn.randbytes(size)
        assert tame(data) == data
        head = struct.pack(">qiib", 0, drawn.randrange(-9, 400), 0, 2) + data
        assert tame(head) == head
