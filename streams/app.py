"""The Faust application: `3-kafka-and-faust.md` of the design, rule by rule.

Faust's own offsets are never the truth: every assignment seeks to the offsets in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import faust
from aiokafka.errors import CorruptRecordException
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from ledger import topics
from ledger.errors import ProofError, Unavailable
from ledger.kafka_address import client_settings, servers
from ledger.logs import get_log
from ledger.postgres.store import Checked, Fetched

from .disk import LOOK_SECONDS, DiskWatch
from .intake import MAX_RECORDS_PER_TURN, Intake
from .settings import Settings

log = get_log(__name__)

EXIT_SURPRISE = 70
BATCH = 64  # records per take()
PART_BYTES = 4 * 1024 * 1024  # of records opened and applied at once
GATHER_SECONDS = 0.02  # Faust looks so often whether there is anything to take
SESSION_TIMEOUT_SECONDS = 6.0
METADATA_SECONDS = 5  # a topic that was not there for a moment is seen again after this
WATCH_SECONDS = 2.0


def die(err: BaseException) -> None:
    """End the process at once: an exception in a Faust agent would freeze it with its lag."""
    log.critical("the-worker-stops", error=err, exc_info=None if hasattr(err, "code") else err)
    logging.shutdown()
    os._exit(EXIT_SURPRISE)


class App(faust.App):
    """A Faust app that knows its ledger."""

    ledger: Pipeline


class _Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # aborted transactions are never delivered
        return consumer

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._fetch_records(*args, **kwargs)
        except CorruptRecordException as err:  # the next fetch would pass it over
            die(ProofError("stored-bytes-damaged", f"Kafka: {err}"))
            raise


class _Consumer(driver.Consumer):
    """Faust's consumer, reading from where PostgreSQL says."""

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned intake partition to its next offset in PostgreSQL."""
        mine = {tp for tp in self.assignment() if tp.topic == topics.EVENTS}
        try:
            offsets = await cast(App, self.app).ledger.positions({tp.partition for tp in mine})
        except Exception as err:
            die(err)
            raise
        found = {tp: offsets[tp.partition] for tp in mine}
        for tp, offset in found.items():
            await self.seek(tp, offset)
        return found


class _Transport(driver.Transport):
    Consumer = _Consumer


class Pipeline:
    """Opens records while others are applied; each in a thread of its own.

    What was opened while a turn was under way goes into the next one together: the more there is to
    do, the longer the turns.
    """

    def __init__(self, intake: Intake, disk: DiskWatch | None = None) -> None:
        self._intake = intake
        self._disk = disk
        self._opener = ThreadPoolExecutor(1, "open")
        self._writer = ThreadPoolExecutor(1, "apply")
        self._watcher = ThreadPoolExecutor(1, "topic")
        self._pending: asyncio.Future[None] | None = None  # what is being applied
        self._opened: list[Checked] = []  # what is applied next
        self._bytes = 0  # of it

    async def positions(self, partitions: set[int]) -> dict[int, int]:
        """PostgreSQL's next offsets, after what is under way."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._intake.positions, partitions)

    async def take(self, records: Sequence[Fetched]) -> None:
        """Steps 4 and 5 for a batch; any surprise ends the process."""
        loop = asyncio.get_running_loop()
        try:
            # Records of a topic that was made anew must not pass for the old one's.
            same = loop.run_in_executor(self._watcher, self._intake.check_topic)
            for part in _parts(records):
                await self._room()
                opened = await loop.run_in_executor(self._opener, self._intake.open, part)
                await same
                await self._give(opened)
        except BaseException as err:
            if isinstance(err, asyncio.CancelledError):
                raise
            die(err)

    async def _room(self) -> None:
        """Wait while the disk is nearly full: what is not taken in stays in Kafka."""
        while self._disk is not None and self._disk.is_full():
            await asyncio.sleep(LOOK_SECONDS)

    async def _give(self, opened: list[Checked]) -> None:
        """Have records applied after what was given before, once there is room for them."""
        size = _size(opened)
        while self._pending is not None and (
            len(self._opened) + len(opened) > MAX_RECORDS_PER_TURN
            or self._bytes + size > PART_BYTES
        ):
            await asyncio.wait([self._pending])
        self._opened += opened
        self._bytes += size
        if self._pending is None:
            self._apply_next()

    def _apply_next(self, done: object = None) -> None:
        self._pending = None
        if self._opened:
            batch, self._opened, self._bytes = self._opened, [], 0
            loop = asyncio.get_running_loop()
            self._pending = loop.run_in_executor(self._writer, self._apply, batch)
            self._pending.add_done_callback(self._apply_next)

    def watch(self) -> None:
        """End the process when topic or database are not those it works for, batch or no batch.

        Runs in a thread of its own: Faust ignores a topic that was deleted, and an idle worker
        does not hear that its database is gone.
        """
        while True:
            time.sleep(WATCH_SECONDS)
            try:
                with contextlib.suppress(Unavailable):  # aiokafka connects again by itself
                    self._watcher.submit(self._intake.check_topic).result()
                self._writer.submit(self._intake.check_store).result()
            except RuntimeError:
                return  # the executors are closed: the process is ending
            except BaseException as err:
                die(err)

    def _apply(self, batch: list[Checked]) -> None:
        try:
            self._intake.apply(batch)
        except BaseException as err:
            die(err)


def _size(opened: Sequence[Checked]) -> int:
    return sum(len(checked.fetched.value or b"") for checked in opened)


def _parts(records: Sequence[Fetched]) -> Iterator[list[Fetched]]:
    """A batch in parts of bounded size, so that opened ones need bounded memory."""
    part: list[Fetched] = []
    size = 0
    for record in records:
        if part and size + len(record.value or b"") > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record.value or b"")
    if part:
        yield part


def _credentials(kafka: str) -> faust.SASLCredentials | None:
    found = client_settings(kafka)
    if "sasl_mechanism" not in found:
        return None
    ca = found.get("ssl_cafile")
    return faust.SASLCredentials(
        mechanism=found["sasl_mechanism"],
        username=found["sasl_plain_username"],
        password=found["sasl_plain_password"],
        ssl_context=None if ca is None else ssl.create_default_context(cafile=ca),
    )


def build_app(settings: Settings) -> App:
    """The admission worker: one topic, one agent, concurrency 1, no state in Faust."""
    app = App(
        settings.group,
        broker=[f"kafka://{place}" for place in servers(settings.kafka)],
        broker_credentials=_credentials(settings.kafka),
        datadir=settings.data / "faust",
        store="memory://",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        worker_redirect_stdouts=False,
        broker_session_timeout=SESSION_TIMEOUT_SECONDS,
        broker_heartbeat_interval=SESSION_TIMEOUT_SECONDS / 4,
        consumer_metadata_max_age_ms=METADATA_SECONDS * 1000,
        broker_max_poll_records=BATCH,
        stream_buffer_maxsize=BATCH,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",  # out of range becomes a jump, which stops us
        consumer_max_fetch_size=2 * 1024 * 1024,
        broker_commit_interval=5.0,
    )
    app.transport = _Transport(app.conf.broker_consumer, app, loop=app.loop)
    app.ledger = Pipeline(Intake(settings), DiskWatch(settings.data, settings.reserve))
    intake = app.topic(topics.EVENTS, value_type=bytes, value_serializer="raw", internal=False)

    @app.agent(intake, concurrency=1)
    async def admit(stream: Any) -> None:
        async for events in stream.take_events(BATCH, within=GATHER_SECONDS):
            await app.ledger.take(
                [Fetched(e.message.partition, e.message.offset, e.value) for e in events]
            )

    return app
