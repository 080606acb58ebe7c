"""Published to proven: pre-signed bundles through Kafka, worker, sequencer and relay.

The clock runs from the first send to the publication of the checkpoint that covers the last
bundle. Latency is measured afterwards in the same ledger at a steady pace: from `send` to the
arrival of the receipt at a consumer.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.embedded.supervisor import Program
from ledger import topics
from ledger.kafka_address import client_settings
from ledger.postgres.connection import transaction

from .ledgers import Ledger, Signed, fresh_ledger, stack_costs
from .loading import make_producer, send
from .processes import Cost, spent
from .town import Plan
from .turns import Turns

PATIENCE_SECONDS = 300
_BUNDLE = re.compile(rb"/bundle/([^/]+)/([0-9]+)/[0-9]+/([0-9]+)")
_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "server_version")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Paced:
    """How latency is measured: bundles per second for some seconds."""

    per_second: float
    seconds: float

    @property
    def bundles(self) -> int:
        """How many bundles that takes."""
        return max(4, int(self.per_second * self.seconds))


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    events: int
    seconds: float
    latencies: list[list[float]]  # seconds, by pace
    costs: dict[str, Cost]
    settings: dict[str, str]
    turn: tuple[float, float]  # shares of the time, see `turns`

    @property
    def rate(self) -> float:
        """Events per second, published to proven."""
        return self.events / self.seconds

    def percentile(self, n: int, pace: int = 0) -> float:
        """The n-th percentile of a pace's latencies, seconds."""
        return quantiles(self.latencies[pace], n=100)[n - 1]


class Sent(NamedTuple):
    """When a record was sent, and Kafka's answer."""

    at: float
    future: Any


class Receipts:
    """Notes when each bundle's receipt arrives, in a thread of its own."""

    def __init__(self, bootstrap: str) -> None:
        self.at: dict[tuple[str, int, int], float] = {}
        self._consumer = KafkaConsumer(
            **client_settings(bootstrap),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        partitions = self._consumer.partitions_for_topic(topics.RECEIPTS)
        self._consumer.assign([TopicPartition(topics.RECEIPTS, n) for n in sorted(partitions)])
        self._consumer.seek_to_beginning()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for records in self._consumer.poll(timeout_ms=100).values():
                now = time.time()
                for record in records:
                    found = _BUNDLE.search(record.value)
                    if found:
                        place = (found[1].decode(), int(found[2]), int(found[3]))
                        self.at.setdefault(place, now)

    def wait_for(self, records: Sequence[Signed]) -> None:
        """Wait until all these have their receipts; TimeoutError after a while without any."""
        missing = {(r.department, r.lane, r.sequence) for r in records}
        end = time.monotonic() + PATIENCE_SECONDS
        while missing:
            missing = {place for place in missing if place not in self.at}
            if time.monotonic() > end:
                raise TimeoutError(f"{len(missing)} receipts did not come")
            time.sleep(0.05)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()


def run(plan: Plan, paces: Sequence[Paced], programs: Sequence[Program], say: Say) -> Result:
    """One run on a fresh ledger, its counts checked; the last bundles of the plan are the paced."""
    with fresh_ledger(plan.departments, plan.lanes, programs) as ledger:
        measured = ledger.sign(plan.bundles)
        later: list[list[Signed]] = []
        for paced in reversed(paces):
            later.insert(0, measured[-paced.bundles :])
            del measured[-paced.bundles :]
        say("ledger is up, bundles are signed")
        producer = make_producer(ledger.settings.kafka)
        receipts = Receipts(ledger.settings.kafka)
        try:
            warm = max(1, len(measured) // 50)
            send(producer, measured[:warm])
            receipts.wait_for(measured[:warm])
            turns = Turns(ledger.settings.postgres)
            before = stack_costs(ledger)
            begin = time.time()
            send(producer, measured[warm:])
            last = time.time()
            end = published(ledger, len(measured))
            after, turn = stack_costs(ledger), turns.close()
            receipts.wait_for(measured)
            events = sum(r.events for r in measured[warm:])
            say(
                f"{events} events sent in {last - begin:.1f} s, proven in {end - begin:.1f} s: "
                f"{events / (end - begin):.0f}/s"
            )
            latencies = []
            for paced, records in zip(paces, later, strict=True):
                sent = pace(producer, receipts, records, paced)
                latencies.append([receipts.at[place] - s.at for place, s in sent.items()])
            check_counts(ledger, len(plan.bundles), plan.events, plan.certificates)
            used = spent(before, after)
            return Result(events, end - begin, latencies, used, _settings(ledger), turn)
        finally:
            receipts.close()
            producer.close()


def published(ledger: Ledger, bundles: int) -> float:
    """When the checkpoint over all `bundles` was published, by PostgreSQL's clock (the same)."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with transaction(ledger.connection) as cursor:
            cursor.execute("SELECT count(*), max(log_index) FROM accounting")
            done, last = cursor.fetchone() or (0, 0)
            if done >= bundles:
                cursor.execute("SELECT min(published_at) FROM checkpoint WHERE size > %s", (last,))
                (at,) = cursor.fetchone() or (None,)
                if at is not None:
                    return float(at) / 1e6
        time.sleep(0.1)
    raise TimeoutError(f"{done} of {bundles} bundles are accounted for")


def pace(
    producer: KafkaProducer, receipts: Receipts, records: Sequence[Signed], paced: Paced
) -> dict[tuple[str, int, int], Sent]:
    """Send records at a steady pace and wait for their receipts: how each was sent."""
    sent = {}
    begin = time.time()
    for number, record in enumerate(records):
        time.sleep(max(0.0, begin + number / paced.per_second - time.time()))
        at = time.time()
        future = producer.send(topics.EVENTS, key=record.key, value=record.value)
        sent[record.department, record.lane, record.sequence] = Sent(at, future)
    producer.flush()
    receipts.wait_for(records)
    return sent


def check_counts(ledger: Ledger, bundles: int, events: int, certificates: int) -> None:
    """AssertionError unless every bundle and event is accounted for exactly."""
    queries = {
        "accounting": (
            "SELECT outcome, count(*) FROM accounting GROUP BY outcome",
            {"logged": bundles},
        ),
        "tally": (
            "SELECT name, count FROM tally",
            {"admitted": events, "certificates": certificates},
        ),
        "certificate": ("SELECT 'rows', count(*) FROM certificate", {"rows": certificates}),
        "history": (
            "SELECT 'events', sum(length(history)) / 12 FROM certificate",
            {"events": events},
        ),
        "intake": (
            "SELECT 'next', sum(next_offset)::bigint FROM intake",
            {"next": bundles},
        ),
    }
    with transaction(ledger.connection) as cursor:
        for what, (query, expected) in queries.items():
            cursor.execute(query)
            found = dict(cursor.fetchall())
            if found != expected:
                raise AssertionError(f"{what}: {found}, expected {expected}")


def check_fsck(ledger: Ledger) -> None:
    """AssertionError unless `certledger fsck` finds nothing."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deploy.cli", "fsck"),
            *("--data", str(ledger.settings.data_dir)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)


def _settings(ledger: Ledger) -> dict[str, str]:
    with transaction(ledger.connection) as cursor:
        out = {}
        for name in _SETTINGS:
            cursor.execute(f"SHOW {name}")
            out[name] = str((cursor.fetchone() or ("?",))[0])
        return out
