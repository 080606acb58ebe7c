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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from ledger import kafka_batches, topics
from ledger.errors import ProofError, Unavailable
from ledger.kafka_address import client_settings, servers
from ledger.logs import get_log
from ledger.postgres.store import Checked, Fetched

from .disk import LOOK_SECONDS, DiskWatch
from .intake import MAX_RECORDS_PER_TURN, Intake
from .opener import Opener
from .settings import Settings

log = get_log(__name__)
kafka_batches.guard(fetcher)

T = TypeVar("T")

EXIT_SURPRISE = 70
BATCH = 256  # records that a look into what was fetched takes
GATHER_BYTES, GATHER_MILLISECONDS = 32 * 1024, 40
IDLE_MILLISECONDS = 1500
PART_BYTES = 4 * 1024 * 1024  # of records handed over, opened and applied at once
HANDED_OVER = 4  # parts that wait for the agent
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


def gather(consumer: AIOKafkaConsumer, is_busy: bool) -> None:
    """Have the next fetch bring what comes within GATHER_MILLISECONDS while records do come, and
    the first record at once otherwise: under load each fetch costs as much as opening a bundle.
    """
    fetches = consumer._fetcher
    fetches._fetch_min_bytes = GATHER_BYTES if is_busy else 1
    fetches._fetch_max_wait_ms = GATHER_MILLISECONDS if is_busy else IDLE_MILLISECONDS


class _Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # aborted transactions are never delivered
        return consumer

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = await super()._fetch_records(consumer, *args, **kwargs)
            if consumer._fetcher is not None:  # it was started
                gather(consumer, bool(found))
            return found
        except CorruptRecordException as err:  # the next fetch would pass it over
            die(ProofError("stored-bytes-damaged", f"Kafka: {err}"))
            raise


class _Consumer(driver.Consumer):
    """Faust's consumer, reading from where PostgreSQL says.

    A message of Faust's is what was fetched of a partition at once, not one record: what Faust does
    for each (two tasks, an event, four sensors) costs as much as opening a bundle of one event.
    """

    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: Any, timeout: float) -> dict[TP, list[Any]]:
        """Parts of what was fetched, by partition."""
        found = await super()._getmany(active_partitions, timeout)
        return {tp: list(parts(records)) for tp, records in found.items()}

    def _to_message(self, tp: TP, part: Any) -> Any:
        """A message with the offset of the part's last record, and all records for its value."""
        message: Any = super()._to_message(tp, part[-1])
        message.key = None
        message.value = [Fetched(tp.partition, r.offset, r.value) for r in part]
        return message

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: between two messages lie records of the second; the store counts them all."""

    def _new_offset(self, tp: TP) -> int | None:
        """What the group is told: behind the last part that was taken, as they come in order."""
        taken = self._acked[tp]
        if not taken:
            return None
        last = max(taken)
        taken.clear()
        self._acked_index[tp].clear()
        return last + 1

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing, as handing over waits by itself: with nothing to fetch Faust sleeps a second."""

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


class _Stage(Generic[T]):
    """Works on everything that came in while it worked on what came before: the more there is to
    do, the more at once. Who brings more than fits waits.
    """

    def __init__(self, work: Callable[[list[T]], Awaitable[None]], most: int) -> None:
        self._work = work
        self._most = most  # records
        self._held: list[T] = []  # what is worked on next
        self._bytes = 0  # of it
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def bring(self, records: Sequence[T], size: int) -> None:
        """Have records of `size` bytes worked on; return when they are the next."""
        while self._held and (
            len(self._held) + len(records) > self._most or self._bytes + size > PART_BYTES
        ):
            self._room.clear()
            await self._room.wait()
        self._held += records
        self._bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._held:
            records, self._held, self._bytes = self._held, [], 0
            self._room.set()
            await self._work(records)
        self._task = None


class Pipeline:
    """Opens records while others are applied: in a process and in a thread of its own."""

    def __init__(self, intake: Intake, disk: DiskWatch | None = None) -> None:
        self._intake = intake
        self._disk = disk
        self._opener = ThreadPoolExecutor(1, "open")
        self._writer = ThreadPoolExecutor(1, "apply")
        self._watcher = ThreadPoolExecutor(1, "topic")
        self._open = _Stage[Fetched](self._open_all, BATCH)
        # and whether the topic was asked for after they came
        self._apply = _Stage[tuple[Checked, bool]](self._apply_all, MAX_RECORDS_PER_TURN)

    async def positions(self, partitions: set[int]) -> dict[int, int]:
        """PostgreSQL's next offsets, after what is under way."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._intake.positions, partitions)

    async def take(self, records: Sequence[Fetched]) -> None:
        """Steps 4 and 5 for at most PART_BYTES, or one record; any surprise ends the process."""
        try:
            while self._disk is not None and self._disk.is_full():
                await asyncio.sleep(LOOK_SECONDS)  # what is not taken in stays in Kafka
            await self._open.bring(records, _size(records))
        except Exception as err:
            die(err)

    async def _open_all(self, records: list[Fetched]) -> None:
        try:
            loop = asyncio.get_running_loop()
            size = _size(records)
            opening = loop.run_in_executor(self._opener, self._intake.open, records)
            asks = size > PART_BYTES // 2  # a turn's worth, which need not wait for it then
            if asks:
                await loop.run_in_executor(self._watcher, self._intake.check_topic)
            await self._apply.bring([(one, asks) for one in await opening], size)
        except Exception as err:
            die(err)

    async def _apply_all(self, opened: list[tuple[Checked, bool]]) -> None:
        try:
            loop = asyncio.get_running_loop()
            # Records of a topic that was made anew must not pass for the old one's.
            if not all(asked for _, asked in opened):
                await loop.run_in_executor(self._watcher, self._intake.check_topic)
            batch = [checked for checked, _ in opened]
            await loop.run_in_executor(self._writer, self._intake.apply, batch)
            self._watcher.submit(opened.clear)  # takes milliseconds, for which no turn need wait
        except Exception as err:
            die(err)

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


def _size(records: Iterable[Any]) -> int:
    return sum(len(record.value or b"") for record in records)


def parts(records: Sequence[Any]) -> Iterator[list[Any]]:
    """Records in parts of bounded size, so that opened ones need bounded memory."""
    part: list[Any] = []
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
        stream_buffer_maxsize=HANDED_OVER,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",  # out of range becomes a jump, which stops us
        consumer_max_fetch_size=2 * 1024 * 1024,
        broker_commit_interval=5.0,
    )
    app.transport = _Transport(app.conf.broker_consumer, app, loop=app.loop)
    app.ledger = Pipeline(Intake(settings, Opener()), DiskWatch(settings.data, settings.reserve))
    intake = app.topic(topics.EVENTS, value_type=bytes, value_serializer="raw", internal=False)

    @app.agent(intake, concurrency=1)
    async def admit(stream: Any) -> None:
        async for event in stream.events():
            await app.ledger.take(event.value)

    return app
