"""Topics as the ledger needs them: made by us, with everything stated; their ids (KIP-516)."""

from __future__ import annotations

import base64
import time
import uuid
from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from ledger import topics
from ledger.errors import Conflict, LedgerError, ProofError, Unavailable
from ledger.kafka_address import open_admin

_MAX_MESSAGE = str(2 * 1024 * 1024)
_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
_SAFE = {
    "max.message.bytes": _MAX_MESSAGE,
    "compression.type": "producer",
    "message.timestamp.type": "LogAppendTime",
}


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How a topic is made."""

    name: str
    partitions: int
    config: dict[str, str]


def plan(partitions: int) -> list[TopicPlan]:
    """The ledger's topics; `partitions` for the intake and what goes back to departments.

    Retention of the intake is unlimited here: a deployment that shortens it keeps it longer than
    its oldest backup (D12).
    """
    return [
        TopicPlan(topics.EVENTS, partitions, {**_SAFE, **_FOR_EVER}),
        TopicPlan(topics.LOG, 1, {**_SAFE, **_FOR_EVER}),
        TopicPlan(topics.RECEIPTS, partitions, {**_SAFE, **_FOR_EVER}),
        TopicPlan(topics.LANES, 1, {**_SAFE, "cleanup.policy": "compact"}),
        TopicPlan(topics.DEAD_LETTERS, 1, {**_SAFE, **_FOR_EVER}),
        TopicPlan(topics.EXPIRY, partitions, {**_SAFE, **_FOR_EVER}),
        TopicPlan(topics.RECALLS, partitions, {**_SAFE, **_FOR_EVER}),
    ]


def create_topics(bootstrap: str, partitions: int, replication: int = 1) -> list[str]:
    """Make the topics that are missing; their names. Existing ones are left as they are."""
    made = []
    admin = _admin(bootstrap)
    try:
        there = set(admin.list_topics())
        for item in plan(partitions):
            if item.name in there:
                continue
            new = NewTopic(
                name=item.name,
                num_partitions=item.partitions,
                replication_factor=replication,
                topic_configs=item.config,
            )
            try:
                admin.create_topics([new])
            except TopicAlreadyExistsError:
                continue
            made.append(item.name)
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka at {bootstrap}: {err}") from err
    finally:
        admin.close()
    for name in made:
        describe_topic(bootstrap, name)
    return made


def describe_topic(bootstrap: str, name: str, wait_seconds: float = 10.0) -> tuple[str, list[int]]:
    """(topic id as 22 characters, partitions) of a topic whose partitions all have a leader."""
    admin = _admin(bootstrap)
    try:
        end = time.monotonic() + wait_seconds
        while True:
            (found,) = admin.describe_topics([name])
            partitions = found.get("partitions") or []
            if (
                not found.get("error_code")
                and partitions
                and all(not p.get("error_code") for p in partitions)
            ):
                numbers = sorted(p["partition_index"] for p in partitions)
                return topic_id_text(found["topic_id"]), numbers
            if time.monotonic() > end:
                raise Unavailable("unreachable", f"Kafka at {bootstrap} has no topic {name}")
            time.sleep(0.1)
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka at {bootstrap}: {err}") from err
    finally:
        admin.close()


class TopicWatch:
    """Asks for one topic's id again and again, over one connection; not for several threads."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._admin = _admin(bootstrap)
        self._bootstrap, self._name = bootstrap, name

    def topic_id(self) -> str:
        """The topic's id now; Conflict `topic-changed` when there is no such topic."""
        try:
            (found,) = self._admin.describe_topics([self._name])
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka at {self._bootstrap}: {err}") from err
        error = found.get("error_code")
        if error == UnknownTopicOrPartitionError.errno:
            raise Conflict("topic-changed", f"the topic {self._name} is gone")
        if error:
            raise Unavailable("unreachable", f"Kafka does not describe {self._name}: error {error}")
        return topic_id_text(found["topic_id"])


def reading_failed(err: KafkaError) -> LedgerError:
    """What it means for us that Kafka's records could not be read: later, or not these."""
    if isinstance(err, CorruptRecordError):
        return ProofError("stored-bytes-damaged", f"Kafka: {err}")
    return Unavailable("unreachable", f"Kafka: {err}")


def topic_id_text(topic_id: Any) -> str:
    """A topic id as Kafka's own tools print it: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(uuid.UUID(str(topic_id)).bytes).decode().rstrip("=")


def _admin(bootstrap: str) -> KafkaAdminClient:
    try:
        return open_admin(KafkaAdminClient, bootstrap)
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka at {bootstrap}: {err}") from err
