"""How soon an office hears: from the entry of a revocation to the record of its notice.

Counted from the entry's ledger time, which is before its commit, to the notice's Kafka timestamp,
all on the same clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import quantiles

from kafka import KafkaConsumer, TopicPartition

from deploy.registration import Registration
from deploy.stack import worker_programs
from ledger import times, topics
from ledger.kafka_address import client_settings
from producers.config import load_publisher_config
from producers.publisher import Publisher
from producers.relying import ReliedOn

from .ledgers import Ledger, fresh_ledger

ISSUER, OFFICE, SERVICE, TYPE = "bench-01", "bench-02", "open", "business-licence"
PER_SECOND = 20
PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds from entry to record of each notice."""

    seconds: list[float]

    def percentile(self, n: int) -> float:
        """The n-th percentile."""
        return quantiles(self.seconds, n=100)[n - 1]


def run(cases: int, say: Callable[[str], None]) -> Result:
    """Issue, rely, revoke one after the other, and read the topic."""
    with fresh_ledger([ISSUER, OFFICE], 1, worker_programs(1)) as ledger:
        data, kafka = ledger.settings.data_dir, ledger.settings.kafka
        with closing(Registration(ledger.settings.postgres, data)) as registration:
            registration.add_service(SERVICE, {"en": "Open"}, [OFFICE])
        numbers = [f"B-{n}" for n in range(cases)]
        with (
            Publisher(load_publisher_config(data, ISSUER), kafka) as issuer,
            Publisher(load_publisher_config(data, OFFICE), kafka) as office,
        ):
            issued = [
                issuer.issued(TYPE, n, time=datetime(2026, 1, 1, tzinfo=UTC)) for n in numbers
            ]
            for future in issued:
                future.result(PATIENCE_SECONDS)
            size = _published(ledger)
            relied = [
                office.relied(
                    SERVICE,
                    n,
                    [ReliedOn(TYPE, ISSUER, n, 1)],
                    tree_size=size,
                    use_for="bench",
                    clerk="bench",
                )
                for n in numbers
            ]
            if any(future.result(PATIENCE_SECONDS).code != "admitted" for future in relied):
                raise AssertionError("not all reliances were admitted")
            say(f"{cases} cases rely on {cases} certificates")
            begin = time.monotonic()
            for n, number in enumerate(numbers):
                issuer.revoked(TYPE, number, "annulled")
                time.sleep(max(0.0, begin + (n + 1) / PER_SECOND - time.monotonic()))
            found = Result(_latencies(kafka, cases))
        say(f"all {cases} notices came, the slowest after {max(found.seconds) * 1000:.0f} ms")
        return found


def _published(ledger: Ledger) -> int:
    with ledger.connection, ledger.connection.cursor() as cursor:
        cursor.execute("SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL")
        return int((cursor.fetchone() or (0,))[0])


def _latencies(kafka: str, count: int) -> list[float]:
    """Of the notices, each id once."""
    consumer = KafkaConsumer(**client_settings(kafka), enable_auto_commit=False)
    partitions = consumer.partitions_for_topic(topics.RECALLS)
    consumer.assign([TopicPartition(topics.RECALLS, n) for n in sorted(partitions)])
    consumer.seek_to_beginning()
    found: dict[str, float] = {}
    end = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count and time.monotonic() < end:
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                notice = json.loads(record.value)
                entered = times.parse_moment(notice["time"]) / times.SECOND
                found.setdefault(notice["id"], record.timestamp / 1000 - entered)
    consumer.close()
    if len(found) != count:
        raise AssertionError(f"{len(found)} notices of {count}")
    return list(found.values())
