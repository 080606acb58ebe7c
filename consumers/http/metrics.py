"""`GET /metrics`: how the ledger stands, in the text format of Prometheus.

Everything is read from PostgreSQL, Kafka and the disk when somebody asks: nothing is counted in a
process, so a restart resets nothing and every server of a ledger says the same. Ages are for
whoever reads: there are moments (`_timestamp_seconds`), as Prometheus recommends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from ledger import times
from ledger.entry import ADMITTED
from ledger.postgres.operating import CERTIFICATES, DEAD_LETTER, PROGRAMS, Standing

from .operators import Operators
from .questions import FRESH
from .standing import Seen, Watch

METRICS_PATH = "/metrics"
_MAPS = {"C": "certificates", "H": "holders"}


class Metrics:
    """The endpoint."""

    def __init__(self, watch: Watch, operators: Operators) -> None:
        self._watch = watch
        self._operators = operators

    async def get(self, request: Request) -> Response:
        """The metrics, without those that could not be read."""
        refusal = self._operators.refusal(request)
        if refusal is not None:
            return refusal
        registry = CollectorRegistry()
        registry.register(_Kept(metrics(await self._watch.look(), self._watch.has_kafka)))
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), 200, {**FRESH, "Content-Type": media_type})


class _Kept(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def metrics(seen: Seen, has_kafka: bool) -> list[Metric]:
    """What is known, as metrics."""
    standing = seen.standing
    found: list[Metric] = [
        _gauge(
            "database_up", "Whether PostgreSQL answers and holds a ledger.", standing is not None
        )
    ]
    if has_kafka:
        found.append(
            _gauge("kafka_up", "Whether Kafka says where the intake ends.", seen.ends is not None)
        )
    if seen.disk is not None:
        size, free = seen.disk
        found.append(_gauge("data_size_bytes", "Size of the data folder's file system.", size))
        found.append(_gauge("data_free_bytes", "Free on the data folder's file system.", free))
    if seen.lag is not None:
        found.append(
            _gauges(
                "intake_lag_records",
                "Records of the intake topic that were not taken yet.",
                "partition",
                {str(partition): lag for partition, lag in seen.lag.items()},
            )
        )
    if standing is not None:
        found += _of_the_log(standing)
        found += _of_records(standing)
        found += _of_others(standing)
    return found


def _of_the_log(standing: Standing) -> Iterable[Metric]:
    at = standing.progress
    yield _gauge("log_entries", "Entries of the log, signed or not yet.", at.next_index)
    yield _gauge("database_size_bytes", "Size of the ledger's database.", at.database_bytes)
    for name, what, value in (
        ("checkpoint_entries", "Entries under the newest signed checkpoint.", at.signed_size),
        (
            "checkpoint_timestamp_seconds",
            "Ledger time of the newest signed checkpoint.",
            _seconds(at.signed_time),
        ),
        ("published_entries", "Entries under the newest published checkpoint.", at.published_size),
        (
            "published_timestamp_seconds",
            "When the newest published checkpoint was published.",
            _seconds(at.published_at),
        ),
    ):
        if value is not None:
            yield _gauge(name, what, value)
    yield _gauges(
        "status_map_buckets",
        "Buckets of a status map, at most 8 entries each on average.",
        "map",
        {_MAPS[kind]: 2**k for kind, k in standing.map_bits.items()},
    )
    yield _gauge(
        "certificates",
        "Certificates on the ledger: the entries of their status map.",
        standing.tally.get(CERTIFICATES, 0),
    )


def _of_records(standing: Standing) -> Iterable[Metric]:
    admitted = standing.tally.get(ADMITTED, 0)
    # beside the refused ones by code, of which each appears with its first
    every = admitted + sum(standing.refused.values())
    yield _counter("events", "Events of logged bundles, admitted or refused.", every)
    yield _counter("events_admitted", "Events that were admitted.", admitted)
    yield _counters(
        "events_refused", "Events of logged bundles that were refused.", "code", standing.refused
    )
    outcomes: dict[str, int] = {}
    letters: dict[str, int] = {}
    for (outcome, code), number in standing.unlogged.items():
        outcomes[outcome] = outcomes.get(outcome, 0) + number
        if outcome == DEAD_LETTER:
            letters[code] = letters.get(code, 0) + number
    yield _counters(
        "records_not_logged", "Records that became no entry, by outcome.", "outcome", outcomes
    )
    yield _counter("dead_letters", "Records that are no bundle.", sum(letters.values()))


def _of_others(standing: Standing) -> Iterable[Metric]:
    yield _gauges("relay_behind", "What a relay has still to do.", "relay", standing.behind)
    yield _gauges(
        "program_sessions",
        "Connections to the database of each program: none says that it does not run.",
        "program",
        {name: standing.sessions.get(name, 0) for name in PROGRAMS},
    )
    witnesses = standing.witnesses
    yield _gauges(
        "witness_up",
        "Whether a witness cosigned the last checkpoint that it was asked for.",
        "witness",
        {name: problem is None for name, _, _, problem in witnesses},
    )
    yield _gauges(
        "witness_entries",
        "Entries under the largest checkpoint that a witness cosigned.",
        "witness",
        {name: size for name, size, _, _ in witnesses if size is not None},
    )
    yield _gauges(
        "witness_timestamp_seconds",
        "When a witness says that it cosigned it.",
        "witness",
        {name: seconds for name, _, seconds, _ in witnesses if seconds is not None},
    )
    yield _gauges(
        "department_signed_timestamp_seconds",
        "When a department last signed on its most silent lane.",
        "department",
        {
            row["department"]: times.parse_moment(row["signed_at"]) / times.SECOND
            for row in standing.departments
            if row["signed_at"] is not None
        },
    )
    yield _gauges(
        "department_silence_limit_seconds",
        "How long a department says that it is silent at most.",
        "department",
        {
            row["department"]: row["silence_limit_seconds"]
            for row in standing.departments
            if row["silence_limit_seconds"] is not None
        },
    )


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / times.SECOND


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"certledger_{name}", what, value=value)


def _gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"certledger_{name}", what, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"certledger_{name}", what, value=value)


def _counters(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"certledger_{name}", what, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family
