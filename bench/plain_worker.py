"""`python -m bench.plain_worker`: the worker's own handler under a plain aiokafka loop.

What Faust costs is the difference. For measuring alone: it takes all partitions, does not watch the
topic and leaves skipped offsets to Faust's consumer, of which the bench makes none.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition

from ledger import topics
from ledger.kafka_address import client_settings
from ledger.postgres.store import Fetched
from streams.app import BATCH, Pipeline, gather, parts
from streams.intake import Intake
from streams.memory import collect_seldom
from streams.opener import Opener
from streams.settings import Settings
from streams.worker import SWITCH_SECONDS


async def work(settings: Settings) -> None:
    """Take batches for ever."""
    intake = Intake(settings, Opener())
    pipeline = Pipeline(intake)
    consumer = AIOKafkaConsumer(
        **client_settings(settings.kafka),
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await consumer.start()
    found = await pipeline.positions(set(intake.partitions))
    places = {number: TopicPartition(topics.EVENTS, number) for number in intake.partitions}
    consumer.assign(list(places.values()))
    for number, offset in found.items():
        consumer.seek(places[number], offset)
    while True:
        batches = await consumer.getmany(timeout_ms=100, max_records=BATCH)
        gather(consumer, bool(batches))
        for batch in batches.values():
            for part in parts(batch):
                await pipeline.take([Fetched(r.partition, r.offset, r.value) for r in part])


def main() -> None:
    """Work until a signal comes."""
    logging.basicConfig(level=logging.WARNING)
    collect_seldom()
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(work(Settings.from_environment()))


if __name__ == "__main__":
    main()
