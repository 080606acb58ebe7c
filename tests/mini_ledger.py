"""A ledger in a thread: real Kafka on both sides, the real admission rules, states in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from ledger import merkle, topics
from ledger.admission import Accounted, open_record
from ledger.checkpoint import Checkpoint, format_proof
from ledger.entry import Source
from ledger.kafka_address import client_settings
from ledger.note import MemorySigner, sign
from ledger.receipt import format_lane, format_notice, format_receipt
from ledger.registry import DEPARTMENT_MEMBERS
from tests.memory_view import MemoryView
from tests.world import CHECKPOINT, OPERATOR, ORIGIN, Book

_TOPIC_ID = "A" * 22


def create_topics(bootstrap: str) -> None:
    """The ledger's topics, where they are missing."""
    admin = KafkaAdminClient(**client_settings(bootstrap))
    try:
        for name in (topics.EVENTS, topics.RECEIPTS, topics.LANES):
            configs = {"max.message.bytes": str(2 * 1024 * 1024)}
            if name == topics.LANES:
                configs["cleanup.policy"] = "compact"
            try:
                admin.create_topics([NewTopic(name, 2, 1, topic_configs=configs)])
            except TopicAlreadyExistsError:
                continue
            time.sleep(0.5)
    finally:
        admin.close()


class MiniLedger:
    """Admits what arrives from now on, into `outcomes`; `mute` keeps receipts and notices back."""

    def __init__(self, bootstrap: str, book: Book) -> None:
        self.book = book
        self.view = MemoryView(book.registry, book.index)
        self.outcomes: list[Accounted] = []
        self.mute = threading.Event()
        self.deaf = threading.Event()  # records are left in the topic
        self._leaves = [bytes(32)] * book.index
        self._stop = threading.Event()
        create_topics(bootstrap)
        self._producer: Any = KafkaProducer(
            **client_settings(bootstrap), max_request_size=2 * 1024 * 1024
        )
        self._consumer: Any = KafkaConsumer(
            **client_settings(bootstrap),
            group_id=None,
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        self._consumer.assign([TopicPartition(topics.EVENTS, n) for n in (0, 1)])
        self._consumer.seek_to_end()
        for partition in self._consumer.assignment():
            self._consumer.position(partition)
        for place in self.view.lanes:
            self._tell_lane(*place)
        self._producer.flush()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def admitted(self) -> int:
        """How many events are in the log as admitted."""
        return sum(len(bundle.admitted()) for bundle in self.view.logged)

    def codes(self) -> list[str]:
        """The codes of all logged events, in order."""
        return [code for bundle in self.view.logged for code in bundle.codes]

    def wait_for(self, outcome: str, seconds: float = 60) -> Accounted:
        """The first record accounted for with this outcome."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for done in list(self.outcomes):
                if done.outcome == outcome:
                    return done
            time.sleep(0.02)
        raise AssertionError(f"no {outcome} in {[o.outcome for o in self.outcomes]}")

    def change_lanes(self, department: str, lanes: int, owner: MemorySigner) -> None:
        """Another number of lanes for a department, by an entry that is not in the log here. Only
        while the ledger is deaf.
        """
        assert self.deaf.is_set()
        time.sleep(0.2)  # the round that was under way is over
        name = f"department/{department}"
        value = self.book.registry.value(name) or {}
        was = self.book.registry.lanes(department)
        self.book.index = self.view.next_index
        change = {member: value[member] for member in DEPARTMENT_MEMBERS}
        self.book.change(name, {**change, "lanes": lanes}, owner, OPERATOR)
        self.view.registry = self.book.registry
        self.view.begin_lanes(department, was, lanes, bytes(32), self.view.next_index)
        for owner_of, number in self.view.lanes:
            if owner_of == department:
                self._tell_lane(department, number)
        self._producer.flush()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close()
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self.deaf.is_set():
                time.sleep(0.02)
                continue
            for partition, records in self._consumer.poll(timeout_ms=50).items():
                self._admit(partition.partition, records)

    def _admit(self, partition: int, records: Sequence[Any]) -> None:
        now = time.time_ns() // 1000
        turn = self.view.turn(now)
        for record in records:
            source = Source(_TOPIC_ID, partition, record.offset)
            turn.take(source, open_record(record.value, self.book.registry))
        self.view.commit(turn)
        self._leaves += [merkle.leaf_hash(entry) for _, entry in turn.entries]
        self.outcomes += turn.accounted
        if not self.mute.is_set():
            checkpoint = sign(
                Checkpoint(ORIGIN, len(self._leaves), merkle.root(self._leaves)).text(),
                [CHECKPOINT],
            )
            subtree = merkle.in_memory(self._leaves)
            for done in turn.accounted:
                self._answer(done, subtree, checkpoint)
        for place in turn.lanes:
            self._tell_lane(*place)
        self._producer.flush()

    def _answer(self, done: Accounted, subtree: merkle.Subtree, checkpoint: bytes) -> None:
        if done.bundle is None:
            return
        header = done.bundle.header
        if done.outcome in ("logged", "repeat"):
            assert done.index is not None
            path = merkle.prove_inclusion(done.index, len(self._leaves), subtree)
            entry = self.view.entries[done.index - self.view.first_index]
            value = format_receipt(entry, format_proof(done.index, path, checkpoint))
        else:
            want = None
            if done.want_epoch is not None and done.want_sequence is not None:
                want = (done.want_epoch, done.want_sequence)
            value = format_notice(
                header,
                done.bundle.note_hash,
                done.outcome,
                done.code or "",
                done.message or "",
                want,
            )
        self._send(topics.RECEIPTS, header.department, header.lane, value)

    def _tell_lane(self, department: str, number: int) -> None:
        lane = self.view.lanes[department, number]
        if number >= self.book.registry.lanes(department):
            self._send(topics.LANES, department, number, None)
            return
        state = {**lane.value(), "producer": lane.producer}
        value = format_lane(department, number, state)
        self._send(topics.LANES, department, number, value)

    def _send(self, topic: str, department: str, lane: int, value: bytes | None) -> None:
        self._producer.send(topic, key=topics.lane_key(department, lane), value=value)
