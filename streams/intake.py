"""Steps 4 and 5 behind the Faust agent: raw records in, one transaction per batch out.

Decides nothing: `ledger.postgres.store.Store` checks every record and accounts for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from hashlib import sha256

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer import fetcher
from kafka.errors import KafkaError

from ledger import fast_events, kafka_batches, topics
from ledger.admission import MAX_FOLDED, Line, Opened, Skipped
from ledger.errors import Conflict, Unavailable
from ledger.event import CORRECTED, Event
from ledger.kafka_address import client_settings
from ledger.lifecycle import MAX_CORRECTABLE, MAX_TRANSITIONS
from ledger.logs import get_log
from ledger.postgres.connection import connect
from ledger.postgres.migrate import check_schema
from ledger.postgres.store import Checked, Fetched, Store
from ledger.reliance import Reliance

from .kafka_topics import TopicWatch, describe_topic, reading_failed
from .opener import Opener
from .settings import Settings

log = get_log(__name__)
kafka_batches.guard(fetcher)

MAX_EVENTS_PER_TURN = 8192
MAX_RECORDS_PER_TURN = 256
SKIP_SECONDS = 30  # to read again what was passed over
# Transitions that the corrections and reliances of one turn may fold: about half a second.
MAX_FOLDED_PER_TURN = 2 * MAX_FOLDED


class Intake:
    """One worker's way into the ledger. `open` and `apply` may run in two threads, one each."""

    def __init__(self, settings: Settings, opener: Opener | None = None) -> None:
        """Without an `opener` this process opens records itself."""
        self._opener = opener
        self._kafka = settings.kafka
        self.topic_id, self.partitions = describe_topic(settings.kafka, topics.EVENTS)
        self._watch = TopicWatch(settings.kafka, topics.EVENTS)
        connection = connect(settings.postgres, "worker", writes=True)
        check_schema(connection)
        self._store = Store(connection, fast_events.parse_lines)
        self._records = 1  # that the next turn takes at most
        self._next: dict[int, int] = {}  # offset per partition, of what `apply` takes

    def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """Where to read on, per partition: PostgreSQL's next offset, checked against the topic,
        after what was declared lost.

        Conflict `topic-changed` or `offset-jump` when the topic is not the one that was read.
        """
        wanted = sorted(partitions)
        topic_id, _ = describe_topic(self._kafka, topics.EVENTS)
        self._check_id(topic_id)
        found = self._check_positions(self._store.offsets(topic_id, wanted))
        self._next |= found
        return found

    def _make_consumer(self) -> KafkaConsumer:
        """A consumer beside the worker's own, of another library, that moves no group's offsets."""
        return KafkaConsumer(
            **client_settings(self._kafka),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )

    def _check_positions(self, offsets: dict[int, tuple[int, bytes | None]]) -> dict[int, int]:
        found = {}
        places = {TopicPartition(topics.EVENTS, p): value for p, value in offsets.items()}
        try:
            consumer = self._make_consumer()
            try:
                consumer.assign(list(places))
                begins = consumer.beginning_offsets(list(places))
                ends = consumer.end_offsets(list(places))
                for place, (wanted, last) in places.items():
                    offset = self._take_lost(place.partition, wanted, begins[place])
                    found[place.partition] = offset
                    if not begins[place] <= offset <= ends[place]:
                        raise Conflict(
                            "offset-jump",
                            f"partition {place.partition}: want offset {offset}, the topic holds "
                            f"{begins[place]} to {ends[place]}",
                        )
                    if last is not None and offset - 1 >= begins[place]:
                        self._check_last(consumer, place, offset - 1, last)
            finally:
                consumer.close()
        except KafkaError as err:
            raise reading_failed(err) from err
        return found

    def _take_lost(self, partition: int, offset: int, begin: int) -> int:
        """The next offset after what an operator declared lost from `offset` on, which is accounted
        for here. The topic, which begins at `begin`, must hold nothing of it.
        """
        for index, loss in self._store.losses(self.topic_id, partition):
            if loss.first <= offset <= loss.last < begin:
                log.warning("records-lost", partition=partition, first=offset, last=loss.last)
                for first in range(offset, loss.last + 1, MAX_RECORDS_PER_TURN):
                    offset = min(first + MAX_RECORDS_PER_TURN, loss.last + 1)
                    self._store.take_lost(self.topic_id, partition, range(first, offset), index)
        return offset

    def _check_last(
        self, consumer: KafkaConsumer, place: TopicPartition, offset: int, last: bytes
    ) -> None:
        consumer.assign([place])
        consumer.seek(place, offset)
        for _ in range(20):
            for records in consumer.poll(timeout_ms=500, max_records=1).values():
                if records[0].offset != offset:
                    return  # the record itself is gone by now, or there never was one
                if sha256(records[0].value or b"").digest() != last:
                    raise Conflict(
                        "topic-changed",
                        f"partition {place.partition}: the record at {offset} is not the one taken",
                    )
                return
            if consumer.position(place) > offset:
                return  # nothing but what is skipped
        raise Unavailable("unreachable", f"Kafka does not give the record at {offset}")

    def check_topic(self) -> None:
        """None when the topic is still the one we read: ids never come back, so what was received
        before this call came from it. Conflict `topic-changed` otherwise. A thread of its own.
        """
        self._check_id(self._watch.topic_id())

    def check_store(self) -> None:
        """None while the database answers: Unavailable otherwise. Where `apply` runs."""
        self._store.check()

    def _check_id(self, topic_id: str) -> None:
        if topic_id != self.topic_id:
            raise Conflict("topic-changed", f"topic id changed: {self.topic_id} became {topic_id}")

    def open(self, records: Sequence[Fetched]) -> list[Checked]:
        """Step 4 for a batch."""
        if self._opener is None:
            return [self._store.open(record) for record in records]
        index, registry = self._store.registry
        opened = self._opener.open([record.value for record in records], index, registry)
        return [
            Checked(record, said, index, chunks)
            for record, (said, chunks) in zip(records, opened, strict=True)
        ]

    def apply(self, batch: Sequence[Checked]) -> None:
        """Step 5 for a batch, in turns of bounded size.

        The first turns are small: should one take longer than PostgreSQL allows and end this
        process, the next process gets on record by record.
        """
        rest = self._with_skipped(batch)
        while rest:
            part = rest[: turn_length(rest, self._records)]
            rest = rest[len(part) :]
            done = self._store.apply(self.topic_id, part)
            self._records = min(2 * self._records, MAX_RECORDS_PER_TURN)
            unusual = {k: n for k, n in done.outcomes.items() if k != "logged"}
            if unusual:
                log.warning("records-not-logged", outcomes=unusual)

    def _with_skipped(self, batch: Sequence[Checked]) -> list[Checked]:
        """The batch, and before each record what was passed over on the way to it.

        Conflict `offset-jump` where anything but markers and aborted records was passed over.
        """
        filled: list[Checked] = []
        for checked in batch:
            partition, offset = checked.fetched.partition, checked.fetched.offset
            want = self._next.get(partition, offset)
            if offset > want:
                self._check_skipped(partition, want, offset)
                log.info("records-skipped", partition=partition, first=want, last=offset - 1)
                filled += [
                    Checked(Fetched(partition, n, None), Skipped(), checked.registry_index)
                    for n in range(want, offset)
                ]
            self._next[partition] = max(want, offset + 1)
            filled.append(checked)
        return filled

    def _check_skipped(self, partition: int, begin: int, end: int) -> None:
        """None when Kafka, asked again by another client, holds no committed record in between.

        Between what is there and what is delivered lie only transactions' markers and what was
        aborted; where records are missing because the topic lost them, it begins later than
        `begin`, or does not pass over them.
        """
        place = TopicPartition(topics.EVENTS, partition)
        jump = Conflict("offset-jump", f"partition {partition}: want offset {begin}, got {end}")
        try:
            consumer = self._make_consumer()
            try:
                consumer.assign([place])
                if consumer.beginning_offsets([place])[place] > begin:
                    raise jump
                consumer.seek(place, begin)
                stop = time.monotonic() + SKIP_SECONDS
                while consumer.position(place) < end:
                    for record in consumer.poll(timeout_ms=500, max_records=1).get(place, ()):
                        if record.offset < end:
                            raise jump
                    if time.monotonic() > stop:
                        raise Unavailable("unreachable", f"Kafka gives nothing from {begin} on")
            finally:
                consumer.close()
        except KafkaError as err:
            raise reading_failed(err) from err


def _folds(lines: Iterable[Line]) -> int:
    """How many transitions lines may make the turn fold: of what is relied on few are many."""
    return sum(
        len(line.certificates) * MAX_CORRECTABLE if isinstance(line, Reliance) else MAX_TRANSITIONS
        for line in lines
        if type(line) is Reliance or (type(line) is Event and line.kind == CORRECTED)
    )


def turn_length(batch: Sequence[Checked], records: int) -> int:
    """How many records of a batch, at least one and at most `records`, one turn takes."""
    events = folded = 0
    for number, checked in enumerate(batch[:records]):
        opened = checked.opened
        if isinstance(opened, Opened):
            events += len(opened.events)
            folded += min(_folds(opened.events), MAX_FOLDED)
        else:
            events += 1
        if number and (events > MAX_EVENTS_PER_TURN or folded > MAX_FOLDED_PER_TURN):
            return number
    return min(len(batch), records)
