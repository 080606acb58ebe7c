"""Where the intake topic ends, asked of Kafka over one connection that is kept."""

from __future__ import annotations

import base64
import socket
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError

from ledger import topics
from ledger.errors import Unavailable
from ledger.kafka_address import open_admin, servers

_CONNECT_SECONDS = 2.0
_MILLISECONDS = 3_000  # for one answer: nobody waits longer to see numbers


@dataclass(frozen=True, slots=True)
class Ends:
    """The offset after the last record of each partition of the topic with this id."""

    topic_id: str
    offsets: dict[int, int]

    def lag(self, taken: Mapping[tuple[str, int], int]) -> dict[int, int]:
        """Records that were not taken yet, by partition; `taken`: next offsets by topic id and
        partition, former topics' too.
        """
        return {
            partition: max(end - taken.get((self.topic_id, partition), 0), 0)
            for partition, end in sorted(self.offsets.items())
        }


class IntakeEnds:
    """Asks for the ends; connects when first asked, and again after an error."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def read(self) -> Ends:
        """The ends now; Unavailable `unreachable` where Kafka does not say them in time."""
        with self._lock:
            try:
                if self._admin is None:
                    _check_listening(servers(self._bootstrap))
                    self._admin = open_admin(
                        KafkaAdminClient,
                        self._bootstrap,
                        client_id="certledger-lag",
                        request_timeout_ms=_MILLISECONDS,
                        bootstrap_timeout_ms=_MILLISECONDS,
                    )
                (found,) = self._admin.describe_topics([topics.EVENTS])
                numbers = [p["partition_index"] for p in found.get("partitions") or []]
                if found.get("error_code") or not numbers:
                    raise Unavailable("unreachable", f"Kafka does not describe {topics.EVENTS}")
                places = [TopicPartition(topics.EVENTS, number) for number in numbers]
                ends = self._admin.list_partition_offsets(
                    dict.fromkeys(places, OffsetSpec.LATEST), timeout_ms=_MILLISECONDS
                )
            except KafkaError as err:
                self._forget()
                raise Unavailable("unreachable", f"Kafka: {err}") from err
        # as Kafka's own tools print it, and as the worker keeps it
        topic_id = base64.urlsafe_b64encode(uuid.UUID(str(found["topic_id"])).bytes).decode()
        offsets = {place.partition: int(end.offset) for place, end in ends.items()}
        return Ends(topic_id.rstrip("="), offsets)

    def _forget(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._forget()


def _check_listening(places: list[str]) -> None:
    """None when one of the addresses takes a connection: Kafka's client tries for long."""
    problem = "no address"
    for place in places:
        host, _, port = place.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        except (OSError, ValueError, OverflowError) as err:
            problem = f"{place}: {err}"
        else:
            return
    raise Unavailable("unreachable", f"no Kafka answers at {problem}")
