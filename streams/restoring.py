"""From a restored database to what was signed: the log topic and the intake topic, replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer import fetcher
from kafka.errors import KafkaError

from ledger import kafka_batches, logtopic, merkle, tiles, topics
from ledger.admission import LOST, SKIPPED
from ledger.checkpoint import Checkpoint
from ledger.entry import Source
from ledger.errors import Conflict, ProofError, Refused
from ledger.kafka_address import client_settings
from ledger.note import CheckingKey
from ledger.postgres.connection import connect
from ledger.postgres.maps import Maps
from ledger.postgres.restoring import Position, Restoring, read_position
from ledger.postgres.sequencing import Head, Sequencing
from ledger.replaying import Step, in_order

from .kafka_topics import describe_topic, reading_failed
from .logwriter import read_topic, signed_checkpoint
from .sequencer import advance

kafka_batches.guard(fetcher)

Progress = Callable[[int, int], None]
"""Told how many entries there are now, and how many there will be."""


@dataclass(slots=True)
class _Topic:
    """What the log topic holds from a position on; the first record counts for each index."""

    topic_id: str
    entries: dict[int, bytes] = field(default_factory=dict)
    rows: dict[int, logtopic.Row] = field(default_factory=dict)
    notes: list[bytes] = field(default_factory=list)
    last_offset: int = -1


def replay(postgres: str, kafka: str, progress: Progress = lambda now, end: None) -> Head:
    """Take what the log topic has beyond the ledger in a database; the head, which is then that of
    the largest checkpoint ever signed.

    Refused `going-back` for another log topic or history, Conflict `offset-jump` naming the first
    offset that the intake topic holds no more, ProofError `stored-bytes-damaged` for an entry that
    does not come out as it was logged.
    """
    with closing(connect(postgres, "restore")) as connection:
        position = read_position(connection)
        store = Sequencing(connection)
        topic = _read(kafka, position, store)
        end = max([position.next_index, *(index + 1 for index in topic.entries)])
        restoring = Restoring(connection)
        taken, rows = position.next_index, position.next_outbox
        steps = in_order(topic.entries, topic.rows, taken, rows, position.offsets)
        with closing(_Intake(kafka)) as intake:
            for step in steps:
                restoring.take(step, intake.record(step))
                taken += step.index is not None
                rows += step.row is not None
                progress(taken, end)
        known = position.log_topic
        held = (0, 0) if known is None else (known.entries, known.outbox)
        restoring.finish(
            topic.topic_id,
            topic.last_offset,
            _contiguous(topic.entries, held[0]),
            _contiguous(topic.rows, held[1]),
        )
        return _advance(store, topic, taken)


def _contiguous(found: dict[int, Any], end: int) -> int:
    while end in found:
        end += 1
    return end


def _read(kafka: str, position: Position, store: Sequencing) -> _Topic:
    topic_id, _ = describe_topic(kafka, topics.LOG)
    known = position.log_topic
    if known is not None and known.last_offset >= 0 and known.topic_id != topic_id:
        raise Refused("going-back", f"the log topic was {known.topic_id} and now is {topic_id}")
    topic = _Topic(topic_id, last_offset=-1 if known is None else known.last_offset)
    begin = 0 if known is None else known.last_offset + 1
    for offset, key, value in read_topic(kafka, begin):
        topic.last_offset = max(topic.last_offset, offset)
        if key == logtopic.ENTRIES:
            first, entries = logtopic.parse_entries(value or b"")
            for index, entry in enumerate(entries, first):
                topic.entries.setdefault(index, entry)
        elif key == logtopic.ACCOUNTING:
            for row in logtopic.parse_accounting(value or b""):
                topic.rows.setdefault(row.number, row)
        elif key == logtopic.CHECKPOINT:
            topic.notes.append(value or b"")
    if known is not None and topic.last_offset < known.last_offset:
        raise Refused("going-back", f"the log topic ends before offset {known.last_offset}")
    both = sorted(index for index in topic.entries if index < position.next_index)
    for index in both:
        if store.entries(index, index + 1) != [topic.entries[index]]:
            raise Refused("going-back", f"entry {index} of the log topic is another than here")
    return topic


def _advance(store: Sequencing, topic: _Topic, size: int) -> Head:
    """The head moved to the largest checkpoint, and all of them kept."""
    keys: list[CheckingKey] = [trusted.key for trusted in store.checkpoint_keys()]
    signed: dict[int, tuple[Checkpoint, bytes]] = {}
    for note in topic.notes:
        found = signed_checkpoint(note, keys)
        if found is not None:
            signed.setdefault(found.size, (found, note))
    head = store.head()
    if signed and max(signed) > size:
        raise Conflict(
            "offset-jump",
            f"{max(signed)} entries were signed, the log topic leads to {size} of them",
        )
    if signed and max(signed) > head.size:
        maps = Maps.load(store.connection)
        maps.catch_up(store.connection, head.size)
        head = advance(store, maps, head, max(signed))
    subtree = tiles.subtree_reader(store.tile)
    for checkpoint, note in (signed[at] for at in sorted(signed)):
        if merkle.tree_root(checkpoint.size, subtree) != checkpoint.root:
            raise ProofError(
                "stored-bytes-damaged",
                f"the checkpoint of {checkpoint.size} leaves has another root than what is here",
            )
        store.keep_checkpoint(checkpoint.size, note)
    return head


class _Intake:
    """Records of the intake topic, asked for in each partition's order."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._topic_id, self.partitions = describe_topic(kafka, topics.EVENTS)
        self._read: dict[int, Iterator[tuple[int, bytes | None]]] = {}
        self._consumers: list[Any] = []

    def close(self) -> None:
        """Give up the connections."""
        for consumer in self._consumers:
            consumer.close()

    def record(self, step: Step) -> bytes | None:
        """The Kafka record that a step came from, None where it has none."""
        said = None if step.row is None else step.row.outcome
        if step.source is None or said in (SKIPPED, LOST):
            return None
        try:
            return self._find(step.source)
        except KafkaError as err:
            raise reading_failed(err) from err

    def _find(self, source: Source) -> bytes | None:
        if source.topic_id != self._topic_id:
            raise Conflict(
                "topic-changed", f"the intake topic was {source.topic_id}, it is {self._topic_id}"
            )
        if source.partition not in self._read:
            self._read[source.partition] = self._from(source.partition, source.offset)
        for offset, value in self._read[source.partition]:
            if offset == source.offset:
                return value
            if offset > source.offset:
                break
        raise Conflict(
            "offset-jump",
            f"intake partition {source.partition}: want offset {source.offset}, the topic holds "
            "it no more: retention has passed it",
        )

    def _from(self, partition: int, offset: int) -> Iterator[tuple[int, bytes | None]]:
        consumer: Any = KafkaConsumer(
            **client_settings(self._kafka),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        self._consumers.append(consumer)
        place = TopicPartition(topics.EVENTS, partition)
        consumer.assign([place])
        begin = consumer.beginning_offsets([place])[place]
        end = consumer.end_offsets([place])[place]
        if not begin <= offset < end:
            raise Conflict(
                "offset-jump",
                f"intake partition {partition}: want offset {offset}, the topic holds {begin} to "
                f"{end}: what lies before the first is gone",
            )
        consumer.seek(place, offset)
        while consumer.position(place) < end:
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    yield record.offset, record.value
