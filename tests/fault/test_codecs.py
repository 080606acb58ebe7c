"""Records compressed in every way that Kafka knows, in ways that it does not, and to burst."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import crc32c
import pytest
from aiokafka import AIOKafkaProducer

from ledger import topics
from ledger.kafka_address import client_settings
from tests import world
from tests.running_stack import Department, RunningStack, wait_until

CODECS = ("gzip", "snappy", "lz4", "zstd")


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "z")
    stack.registrar.set_type(("z", world.ALL_ACTS, "own"))
    yield made
    made.close()


def send(stack: RunningStack, codec: str, *records: bytes) -> list[tuple[int, int]]:
    """(partition, offset) of records that a stranger's client sends in one batch."""

    async def run() -> list[tuple[int, int]]:
        producer = AIOKafkaProducer(
            **client_settings(stack.kafka),
            compression_type=codec,
            max_request_size=1 << 31,
            max_batch_size=1 << 31,
            linger_ms=100,
        )
        await producer.start()
        try:
            sent = [await producer.send(topics.EVENTS, r, key=b"z/0") for r in records]
            places = await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return [(place.partition, place.offset) for place in places]

    return asyncio.run(run())


def check(stack: RunningStack, department: Department) -> None:
    department.settle()
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    assert stack.rows("SELECT count(*) FROM certificate") == [(department.events,)]
    stack.check()


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_department_compressed_is_read_by_all(
    stack: RunningStack, department: Department, codec: str
) -> None:
    """By workers, also at their start, and by whoever reads the topic again afterwards."""
    name, record = department.make([department.event("issued", codec)])
    send(stack, codec, record)
    wait_until(lambda: department.poll() or name not in department.pending)
    stack.kill("worker-1")
    department.publish([department.event("issued", f"{codec} and on")])
    check(stack, department)


BURST = 600 * 1024 * 1024  # bytes, which become fewer than a topic's 2 MB


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_what_bursts_becomes_a_dead_letter_and_the_partition_goes_on(
    stack: RunningStack, department: Department, codec: str
) -> None:
    worker = stack.pid("worker-1")
    ((partition, offset),) = send(stack, codec, bytes(BURST))
    name, record = department.make([department.event("issued", f"{codec} after a burst")])
    department.producer.send(topics.EVENTS, value=record, partition=partition)
    wait_until(lambda: department.poll() or name not in department.pending)
    assert stack.pid("worker-1") == worker, "the worker died of it"
    peak = next(
        int(line.split()[1]) // 1024
        for line in Path(f"/proc/{worker}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    assert peak < 300, f"{peak} MB"
    where = "record_offset = %s AND partition = %s"
    assert stack.rows(f"SELECT outcome FROM accounting WHERE {where}", offset, partition) == [
        ("dead-letter",)
    ]
    stack.kill("worker-1")
    check(stack, department)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_a_codec_that_nobody_knows_becomes_a_dead_letter_and_the_partition_goes_on(
    stack: RunningStack, department: Department, codec: int
) -> None:
    """The broker takes none of these in: the byte is set in its file, and the CRC made to fit."""
    pid = stack.pid("worker-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(3)  # what it had asked Kafka for is answered by now, with nothing
        place = department.producer.send(topics.EVENTS, value=b"by a codec to come").get(60)
        set_codec(stack, place.partition, place.offset, codec)
    finally:
        os.kill(pid, signal.SIGCONT)
    where = "record_offset = %s AND partition = %s"
    wait_until(
        lambda: (
            stack.rows(
                f"SELECT outcome FROM accounting WHERE {where}", place.offset, place.partition
            )
            == [("dead-letter",)]
        ),
        60,
    )
    department.publish([department.event("issued", f"after codec {codec}")])
    stack.kill("worker-1")
    check(stack, department)


def set_codec(stack: RunningStack, partition: int, offset: int, codec: int) -> None:
    """Of the batch at an offset, in the segment's file."""
    path = max((stack.data / "kafka" / "log" / f"{topics.EVENTS}-{partition}").glob("*.log"))
    with path.open("r+b") as file:
        data = file.read()
        at = 0
        while struct.unpack_from(">q", data, at) != (offset,):
            at += 12 + struct.unpack_from(">i", data, at + 8)[0]
        batch = bytearray(data[at : at + 12 + struct.unpack_from(">i", data, at + 8)[0]])
        batch[22] = batch[22] & ~7 | codec
        struct.pack_into(">I", batch, 17, crc32c.crc32c(batch[21:]))
        file.seek(at)
        file.write(batch)
