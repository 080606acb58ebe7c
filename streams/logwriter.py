"""`certledger.log.v1`: written before anything is published, read at every start (D12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from ledger import logtopic, merkle, topics
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import Conflict, LedgerError, Refused, Unavailable
from ledger.kafka_address import client_settings
from ledger.note import CheckingKey
from ledger.postgres.sequencing import Head, LogTopic, Sequencing

from .kafka_topics import describe_topic, reading_failed

BATCH_BYTES = 512 * 1024
LINGER_MS = 50
SEND_TIMEOUT_SECONDS = 60


def make_producer(bootstrap: str, client: str) -> KafkaProducer:
    """An idempotent producer that waits for all replicas."""
    try:
        return KafkaProducer(
            **client_settings(bootstrap),
            client_id=f"certledger-{client}",
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_request_size=2 * 1024 * 1024,
            # Whoever sends flushes: until then records gather, and wake no thread.
            linger_ms=LINGER_MS,
            batch_size=BATCH_BYTES,
            reconnect_backoff_max_ms=1_000,  # a broker that comes back is found at once
        )
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka at {bootstrap}: {err}") from err


@dataclass(frozen=True, slots=True)
class Batch:
    """What one record carries: its Kafka key and value, and how far it brings the topic."""

    key: bytes
    value: bytes
    entries: int
    outbox: int


class LogWriter:
    """Writes what the topic lacks and remembers what it acknowledged."""

    def __init__(self, bootstrap: str, store: Sequencing) -> None:
        self._bootstrap = bootstrap
        self._store = store
        self._producer = make_producer(bootstrap, "sequencer")

    def check(self, head: Head, subtree: merkle.Subtree, keys: Iterable[CheckingKey]) -> None:
        """The start-up comparison: Refused `going-back` unless this database is at least what
        the topic says was signed; then the topic's position is remembered.

        Of a log topic that an operator declared lost, what is left and what is in its place are
        compared all the same; then everything is written again.
        """
        topic_id, _ = describe_topic(self._bootstrap, topics.LOG)
        known = self._store.log_topic()
        lost = self._store.lost_log(topic_id, read_end(self._bootstrap))
        if lost is not None:
            known = None
        if known is not None and known.topic_id != topic_id and known.last_offset >= 0:
            raise Refused("going-back", f"the log topic was {known.topic_id} and now is {topic_id}")
        known_keys = list(keys)
        start = 0 if known is None else max(known.last_offset, 0)
        largest: tuple[Checkpoint, int] | None = None
        end = 0
        for offset, record_key, value in read_topic(self._bootstrap, start):
            end = offset + 1
            if record_key != logtopic.CHECKPOINT:
                continue
            checkpoint = signed_checkpoint(value, known_keys)
            if checkpoint is not None and (largest is None or checkpoint.size > largest[0].size):
                largest = checkpoint, offset
        if known is not None and known.last_offset >= end:
            raise Refused(
                "going-back",
                f"the log topic ends at {end}, offset {known.last_offset} was acknowledged",
            )
        if largest is not None:
            checkpoint, offset = largest
            if checkpoint.size > head.size:
                raise Refused(
                    "going-back",
                    f"a checkpoint of size {checkpoint.size} was signed (log topic offset "
                    f"{offset}), this database has {head.size} leaves",
                )
            if merkle.tree_root(checkpoint.size, subtree) != checkpoint.root:
                raise Refused(
                    "going-back",
                    f"the checkpoint of size {checkpoint.size} at log topic offset {offset} has "
                    "another root than this database",
                )
        if lost is not None:
            self._store.forget_log_topic(lost)
            # A crash here begins with an empty position: it is compared and written all the same.
        if known is None or known.last_offset < 0:
            self._store.begin_log_topic(topic_id)

    def write(self, size: int, checkpoint: bytes) -> None:
        """Write entries below `size`, accounting and then the checkpoint; return when all of it
        is acknowledged and remembered. A crash before that writes the same again: readers keep
        the first record per index.
        """
        known = self._store.log_topic()
        if known is None:
            raise Conflict("going-back", "the log topic was not compared at start-up")
        futures = []
        entries, outbox = known.entries, known.outbox
        try:
            for batch in self._lacking(known, size):
                futures.append(self._send(batch.key, batch.value))
                entries, outbox = max(entries, batch.entries), max(outbox, batch.outbox)
            futures.append(self._send(logtopic.CHECKPOINT, checkpoint))
            self._producer.flush(timeout=SEND_TIMEOUT_SECONDS)
            last = max(f.get(timeout=SEND_TIMEOUT_SECONDS).offset for f in futures)
        except KafkaError as err:
            raise reading_failed(err) from err
        if last <= known.last_offset:
            raise Refused(
                "going-back",
                f"the log topic acknowledged offset {last} after {known.last_offset}: it was "
                "deleted and created again, or lost its end",
            )
        self._store.acknowledged(last, entries, outbox)

    def _lacking(self, known: LogTopic, size: int) -> Iterator[Batch]:
        first = known.entries
        held: list[bytes] = []
        room = BATCH_BYTES
        for begin in range(known.entries, size, 256):
            for entry in self._store.entries(begin, min(begin + 256, size)):
                if held and len(entry) > room:
                    yield self._entries(first, held)
                    first, held, room = first + len(held), [], BATCH_BYTES
                held.append(entry)
                room -= len(entry)
        if held:
            yield self._entries(first, held)
        number = known.outbox
        while rows := self._store.outbox(number, 500):
            listed = [
                logtopic.Row(
                    r["number"],
                    r["outcome"],
                    r["topic_id"],
                    r["partition"],
                    r["record_offset"],
                    r["code"],
                    r["log_index"],
                )
                for r in rows
            ]
            number += len(rows)
            yield Batch(logtopic.ACCOUNTING, logtopic.format_accounting(listed), 0, number)

    def _entries(self, first: int, entries: list[bytes]) -> Batch:
        value = logtopic.format_entries(first, entries)
        return Batch(logtopic.ENTRIES, value, first + len(entries), 0)

    def _send(self, key: bytes, value: bytes) -> Any:
        return self._producer.send(topics.LOG, key=key, value=value, partition=0)

    def close(self) -> None:
        """Give up the connection; everything that counts was flushed before."""
        self._producer.close(timeout=5)


def signed_checkpoint(value: bytes | None, keys: Iterable[CheckingKey]) -> Checkpoint | None:
    """The checkpoint, when any of the ledger's keys signed it; anybody with write access could put
    noise there.
    """
    for key in keys:
        try:
            checkpoint, note = parse_checkpoint(value or b"")
            if checkpoint.origin == key.name:
                note.check_signed_by(key)
                return checkpoint
        except LedgerError:
            continue
    return None


def read_end(bootstrap: str) -> int:
    """The offset after the log topic's last record."""
    place = TopicPartition(topics.LOG, 0)
    try:
        consumer = KafkaConsumer(**client_settings(bootstrap), enable_auto_commit=False)
        try:
            return int(consumer.end_offsets([place])[place])
        finally:
            consumer.close()
    except KafkaError as err:
        raise reading_failed(err) from err


def read_topic(bootstrap: str, start: int) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of the log topic's records from `start` to its present end."""
    place = TopicPartition(topics.LOG, 0)
    try:
        consumer = KafkaConsumer(
            **client_settings(bootstrap),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        try:
            consumer.assign([place])
            begin = max(start, consumer.beginning_offsets([place])[place])
            end = consumer.end_offsets([place])[place]
            consumer.seek(place, begin)
            while consumer.position(place) < end:
                for records in consumer.poll(timeout_ms=500).values():
                    for record in records:
                        if record.offset < end:
                            yield record.offset, record.key, record.value
        finally:
            consumer.close()
    except KafkaError as err:
        raise reading_failed(err) from err
