"""How ingest and answers change while one ledger grows: measured at 100,000 certificates, 300,000,
a million, three, ten.

Everything goes the whole way, by Kafka and the ledger's own programs. Between milestones the load
is made and signed while it is sent; a measured window's bundles are made before, and nothing is
made meanwhile. Then questions are asked over HTTP, one after the other, about random certificates
of the whole ledger. The follower, which takes a share of one core whatever comes in, works all the
time.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from deploy.stack import worker_programs
from ledger.postgres.connection import transaction
from ledger.postgres.following import FOLLOWER
from streams.disk import Reserve, find_full

from .end_to_end import published
from .ledgers import Ledger, fresh_ledger, stack_costs
from .loading import Load
from .processes import spent
from .town import UPDATES, Town

SIZE = 1000  # events of a bundle
WINDOWS = 3  # at a milestone; the median counts
DEPARTMENTS, LANES = 4, 2
MILESTONES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)  # certificates
OF_HOLDER = 5  # certificates of a person, in the mean
DAYS = 300  # of the town's life: no licence ends meanwhile
RESERVE = Reserve(0, 15 * 10**9)  # bytes of the disk that stay free
_ANSWERING = ("http", "postgres: certledger-http")
QUIET_SECONDS = 5  # before questions
SAY_SECONDS = 10
SHORT_HISTORY, SHORT_BYTES = 4, 14_000  # events of a history, and its evidence's limit

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured at a milestone."""

    bundles: int  # of a window, of which there are three
    questions: int  # without evidence
    files: int  # evidence


class Enough(Exception):
    """No time or no room is left."""


def milestones(scale: float) -> list[int]:
    """Those below `scale` times the last one, and that."""
    most = max(1000, int(MILESTONES[-1] * scale))
    return [*(at for at in MILESTONES if at < most), most]


class Growth:
    """One ledger that grows, and what was measured of it so far."""

    def __init__(self, scale: float, amount: Amount, minutes: float, say: Say) -> None:
        self.points: list[dict[str, Any]] = []  # see `_measure`
        self.stopped: str | None = None  # why before the last milestone
        self._wanted, self._amount, self._say = milestones(scale), amount, say
        self._began = time.monotonic()
        self._end = self._began + minutes * 60

    def run(self, workers: int, keep: Callable[[], None]) -> None:
        """Fill and measure; `keep` is called after each milestone."""
        last = self._wanted[-1]
        events = (
            int(last / (1 - UPDATES)) + len(self._wanted) * WINDOWS * self._amount.bundles * SIZE
        )
        names = [f"bench-{number:02d}" for number in range(1, DEPARTMENTS + 1)]
        people, per_day = max(1000, last // OF_HOLDER), max(3000, events // DAYS)
        town = Town(names, LANES, people=people, per_day=per_day)
        with fresh_ledger(names, LANES, worker_programs(workers), http=True) as ledger:
            load = Load(ledger, town, SIZE)
            try:
                for at in self._wanted:
                    self._fill(ledger, load, at)
                    self.points.append(self._measure(ledger, load, town))
                    keep()
            except Enough as why:
                self.stopped = f"{why}, at {load.certificates:,} certificates"
                self._say(self.stopped)
            finally:
                load.close()

    def _fill(self, ledger: Ledger, load: Load, certificates: int) -> None:
        begun, said = time.monotonic(), time.monotonic()
        before = load.certificates
        while load.certificates < certificates:
            load.go_on()
            now = time.monotonic()
            if now - said > SAY_SECONDS:
                said = now
                rate = (load.certificates - before) / (now - begun)
                left = (certificates - load.certificates) / rate
                self._say(
                    f"{load.certificates:,} of {certificates:,} certificates, "
                    f"{rate:,.0f}/s, about {left:,.0f} s to go"
                )
            self._check_limits(ledger)
        published(ledger, load.bundles)

    def _check_limits(self, ledger: Ledger) -> None:
        if time.monotonic() > self._end:
            raise Enough("MINUTES are over")
        full = find_full(ledger.settings.data_dir, RESERVE)
        if full is not None:
            raise Enough(full)

    def _measure(self, ledger: Ledger, load: Load, town: Town) -> dict[str, Any]:
        """Rates in events per second, times in seconds, sizes in bytes."""
        at, wal, events = load.certificates, _wal(ledger), load.events
        rates, used = [], []
        for _ in range(WINDOWS):
            window = load.take(self._amount.bundles)
            load.rest()
            begin, before = time.time(), stack_costs(ledger)
            load.send(window)
            rates.append(SIZE * len(window) / (published(ledger, load.bundles) - begin))
            used.append(spent(before, stack_costs(ledger)))
        events = load.events - events
        costs = {name: sum(u[name].seconds for u in used if name in u) for name in used[-1]}
        self._say(f"{at:,} certificates: {', '.join(f'{rate:,.0f}' for rate in rates)} events/s")
        time.sleep(QUIET_SECONDS)
        wal = _wal(ledger) - wal
        answers, question_us = self._ask(
            ledger, town, load.known, "/v1/certificates", self._amount.questions
        )
        files, evidence_us = self._ask(ledger, town, load.known, "/v1/evidence", self._amount.files)
        short = [
            len(body) for _, body in files if len(orjson.loads(body)["history"]) <= SHORT_HISTORY
        ]
        point: dict[str, Any] = {
            "certificates": at,
            "rate": median(rates),
            "rates": rates,
            "cores": len(os.sched_getaffinity(0)),
            "us_per_event": {name: seconds / events * 1e6 for name, seconds in costs.items()},
            "peak_mb": {name: cost.peak for name, cost in used[-1].items()},
            "follower_behind": _follower_behind(ledger),
            "question": _percentiles([seconds for seconds, _ in answers]),
            "us_per_question": question_us,
            "evidence": _percentiles([seconds for seconds, _ in files]),
            "us_per_evidence": evidence_us,
            "evidence_bytes": _spread([len(body) for _, body in files]),
            "evidence_bytes_of_short_histories": {
                **_spread(short),
                "over_limit": sum(size > SHORT_BYTES for size in short) / len(short),
            },
            "events": load.events,
            "wal_per_event": wal / events,
            **_sizes(ledger),
            "after_seconds": time.monotonic() - self._began,
        }
        self._say(
            f"{at:,} certificates: question {point['question']['p50'] * 1000:.1f} ms, 99 % "
            f"{point['question']['p99'] * 1000:.1f} ms"
        )
        return point

    def _ask(
        self, ledger: Ledger, town: Town, before: int, path: str, count: int
    ) -> tuple[list[tuple[float, bytes]], float]:
        """(seconds, body) of answers about certificates that began before an event's number, and
        microseconds of processor for one: the HTTP server's and its database sessions'.
        """
        draw, times = random.Random(before), []
        asking = http.client.HTTPConnection(urlsplit(ledger.stack.status()["url"]).netloc)
        for number in range(-count // 10, count):  # the first ones open connections and files
            if number == 0:
                costs = stack_costs(ledger)
            of = town.choose(draw, before)
            begin = time.perf_counter()
            asking.request("GET", f"{path}?number={quote(of.number)}")
            answer = asking.getresponse()
            body = answer.read()
            if number >= 0:
                times.append((time.perf_counter() - begin, body))
            if answer.status != 200 or orjson.loads(body).get("answer") == "not-found":
                raise AssertionError(f"{path} {of}: {answer.status} {body[:300]!r}")
        used = spent(costs, stack_costs(ledger))
        asking.close()
        return times, sum(used[name].seconds for name in _ANSWERING if name in used) / count * 1e6


def _follower_behind(ledger: Ledger) -> int:
    """Entries that the follower has not looked at."""
    with transaction(ledger.connection) as cursor:
        cursor.execute(
            "SELECT (SELECT size FROM head) - position FROM relay WHERE name = %s", (FOLLOWER,)
        )
        (behind,) = cursor.fetchone() or (0,)
    return int(behind)


def _wal(ledger: Ledger) -> int:
    """Bytes of WAL that were ever written."""
    with transaction(ledger.connection) as cursor:
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        return int((cursor.fetchone() or (0,))[0])


def _percentiles(values: list[float] | list[int]) -> dict[str, float]:
    cuts = quantiles(values, n=100)
    return {"p50": cuts[49], "p99": cuts[98]}


def _spread(values: list[int]) -> dict[str, float]:
    return {"mean": mean(values), **_percentiles(values), "max": max(values)}


def _sizes(ledger: Ledger) -> dict[str, float]:
    """Bytes on disk: the database as it is, the WAL that is kept, Kafka's folder."""
    with transaction(ledger.connection) as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        (database,) = cursor.fetchone() or (0,)
        cursor.execute("SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()")
        (wal,) = cursor.fetchone() or (0,)
    kafka = _disk_bytes(ledger.settings.data_dir / "kafka")
    return {"database_bytes": database, "wal_bytes": wal, "kafka_bytes": kafka}


def _disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # Kafka takes files away meanwhile
            total += path.stat().st_blocks * 512
    return total
