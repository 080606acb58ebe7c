"""The wire to Kafka that publishers of one process share: records out, receipts and notices in.

Receipts are read from where the topic ended when the link was made: whatever a publisher still
waits for it sends again, and a repeat is answered with the same receipt.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from ledger import topics
from ledger.errors import LedgerError, Malformed, Unavailable
from ledger.kafka_address import client_settings, credentials_file, servers
from ledger.logs import get_log
from ledger.receipt import LANE_FORM, parse_message

from .closing import Closing

log = get_log(__name__)
# kafka-python reports each lost connection as an error; who wants to see that sets logging up.
logging.getLogger("kafka").addHandler(logging.NullHandler())

MAX_REQUEST = 2 * 1024 * 1024
_POLL_SECONDS = 0.2
_BLOCK_SECONDS = 10
_CONNECT_SECONDS = 5

Listener = Callable[[bytes], None]


class Link(Closing):
    """Connected to `bootstrap` (`ledger.kafka_address`); Unavailable `unreachable` otherwise."""

    def __init__(self, bootstrap: str, *, client_id: str = "certledger-publisher") -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._listeners: dict[bytes, Listener] = {}
        self._stop = threading.Event()
        self._producer: Any = None
        self._producer_lock = threading.Lock()
        self._consumer: Any = None
        self._thread: threading.Thread | None = None
        check_reachable(servers(bootstrap))
        try:
            self._producer = self._make_producer()
            self._consumer = self._make_consumer(topics.RECEIPTS)
            self._consumer.seek_to_end()
            for partition in self._consumer.assignment():
                self._consumer.position(partition)  # fixed now, before anything is sent
        except BaseException as err:
            self.close()
            if isinstance(err, KafkaError):
                raise Unavailable("unreachable", _why(bootstrap, err)) from err
            raise
        self._thread = threading.Thread(target=self._listen, name="receipts", daemon=True)
        self._thread.start()

    def listen(self, department: str, listener: Listener) -> None:
        """Hand every receipt and notice about a department's lanes to `listener`, in one thread."""
        self._listeners[department.encode()] = listener

    def forget(self, department: str) -> None:
        """Stop handing over a department's receipts."""
        self._listeners.pop(department.encode(), None)

    def send(
        self, department: str, lane: int, record: bytes, failed: Callable[[Exception], None]
    ) -> None:
        """Send a record; `failed` is called, maybe in another thread, when it did not arrive."""
        try:
            with self._producer_lock:
                sent = self._producer.send(
                    topics.EVENTS, key=topics.lane_key(department, lane), value=record
                )
        except KafkaTimeoutError as err:
            failed(err)
        except (KafkaError, AssertionError) as err:
            # A producer that met an error it cannot recover from refuses everything from then on.
            self._renew_producer()
            failed(err)
        else:
            sent.add_errback(failed)

    def flush(self, timeout_seconds: float) -> None:
        """Wait until what was sent is acknowledged by Kafka or failed."""
        try:
            self._producer.flush(timeout=timeout_seconds)
        except KafkaError as err:
            log.debug("flush-failed", error=err)

    def lanes(self, department: str) -> dict[int, dict[str, Any]]:
        """The last known states of a department's lanes (receipt.format_lane); maybe stale."""
        prefix = topics.lane_key(department, 0)[:-1]
        last = {
            key: value
            for key, value in self.read_all(topics.LANES)
            if key is not None and key.startswith(prefix)
        }
        found = [_lane_state(value, department) for value in last.values()]
        return {state["lane"]: state for state in found if state is not None}

    def read_all(self, topic: str) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Key and value of every record of a topic, to where it ends now."""
        consumer = None
        try:
            consumer = self._make_consumer(topic)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(list(consumer.assignment()))
            deadline = time.monotonic() + _BLOCK_SECONDS
            while any(consumer.position(p) < end for p, end in ends.items()):
                if time.monotonic() > deadline:
                    raise Unavailable("unreachable", f"{topic} cannot be read to its end")
                for records in consumer.poll(timeout_ms=200).values():
                    deadline = time.monotonic() + _BLOCK_SECONDS
                    yield from ((record.key, record.value) for record in records)
        except KafkaError as err:
            raise Unavailable("unreachable", f"{topic}: {err}") from err
        finally:
            if consumer is not None:
                consumer.close()

    def close(self) -> None:
        """Send nothing more, listen no more."""
        self._stop.set()
        if self._thread is None:
            if self._consumer is not None:
                self._consumer.close()
        elif self._thread is not threading.current_thread():
            # It closes its own consumer: nobody waits for Kafka's client without a limit.
            self._thread.join(timeout=_BLOCK_SECONDS)
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _make_producer(self) -> Any:
        return KafkaProducer(
            **client_settings(self._bootstrap),
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_request_size=MAX_REQUEST,
            batch_size=256 * 1024,
            max_block_ms=_BLOCK_SECONDS * 1000,
            delivery_timeout_ms=60_000,
            request_timeout_ms=20_000,
            reconnect_backoff_max_ms=2_000,
            bootstrap_timeout_ms=_BLOCK_SECONDS * 1000,
            allow_auto_create_topics=False,
        )

    def _renew_producer(self) -> None:
        with self._producer_lock:
            try:
                self._producer.close(timeout=0)
                self._producer = self._make_producer()
            except KafkaError as err:
                log.warning("no-producer-yet", error=err)

    def _make_consumer(self, topic: str) -> Any:
        consumer = KafkaConsumer(
            **client_settings(self._bootstrap),
            client_id=self._client_id,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=MAX_REQUEST,
            reconnect_backoff_max_ms=2_000,
            bootstrap_timeout_ms=_BLOCK_SECONDS * 1000,
            allow_auto_create_topics=False,
        )
        try:
            deadline = time.monotonic() + _BLOCK_SECONDS
            while not (partitions := consumer.partitions_for_topic(topic)):
                if time.monotonic() > deadline:
                    raise Unavailable("unreachable", f"Kafka has no topic {topic}")
                time.sleep(_POLL_SECONDS)
            consumer.assign([TopicPartition(topic, number) for number in sorted(partitions)])
        except BaseException:
            consumer.close()
            raise
        return consumer

    def _listen(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    polled = self._consumer.poll(timeout_ms=int(_POLL_SECONDS * 1000))
                except KafkaError as err:
                    log.warning("receipts-unreadable", error=err)
                    self._stop.wait(1)
                    continue
                for records in polled.values():
                    for record in records:
                        self._hand_over(record)
        finally:
            self._consumer.close()

    def _hand_over(self, record: Any) -> None:
        department = (record.key or b"").partition(b"/")[0]
        listener = self._listeners.get(department)
        if listener is not None and record.value is not None:
            listener(record.value)


def _why(bootstrap: str, err: KafkaError) -> str:
    """What to look at; kafka-python does not say when a password was refused."""
    path = credentials_file(bootstrap)
    if path is None or not isinstance(err, KafkaTimeoutError):
        return f"Kafka at {bootstrap}: {err}"
    return (
        f"Kafka at {', '.join(servers(bootstrap))} answers and lets nobody in by {path}: "
        "`certledger department credentials` makes new ones"
    )


def check_reachable(bootstrap: list[str]) -> None:
    """None when one of the addresses takes a connection, in less time than Kafka's client needs."""
    problem = "no address"
    for place in bootstrap:
        host, _, port = place.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, ValueError, OverflowError) as err:
            problem = f"{place}: {err}"
        else:
            return
    raise Unavailable("unreachable", f"no Kafka answers at {problem}")


def _lane_state(data: bytes | None, department: str) -> dict[str, Any] | None:
    """The lane state in a record of the topic when it is one of the department's."""
    if data is None:
        return None
    try:
        value = parse_message(data)
        _check_lane_state(value)
    except LedgerError as err:
        log.warning("no-lane-state", topic=topics.LANES, error=err)
        return None
    return value if value["department"] == department else None


def _check_lane_state(value: dict[str, Any]) -> None:
    numbers = ("lane", "epoch", "next_sequence")
    texts = ("department", "previous", "signed_at")
    good = (
        value["format"] == LANE_FORM
        and all(type(value.get(name)) is int for name in numbers)
        and all(type(value.get(name)) is str for name in texts)
        and type(value.get("producer")) in (str, type(None))
    )
    try:
        good = good and len(bytes.fromhex(value["previous"])) == 32
    except ValueError:
        good = False
    if not good:
        raise Malformed("malformed-receipt", "not a lane state")
