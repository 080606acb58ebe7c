"""A quarter of an hour of full load, and an hour of 2,000 events a second: the memory of every
process stays flat and within its limit, nothing is lost. Only by `make soak`.

CERTLEDGER_SOAK_SHARE=0.1 takes a tenth of the time, and says so.

Flat: the line through the samples of the last two thirds of the time rises by at most SLACK
megabytes and a twentieth of what the process holds. So much comes and goes with pages that an
allocator keeps and with caches that have a bound; a leak of 4 bytes per event shows in a quarter
of an hour of full load. A session of PostgreSQL keeps what its largest statement took, which may
come late: it is to be flat, or to hold less than SESSION.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from statistics import linear_regression, median
from urllib.parse import urlencode, urlsplit

import pytest
from psycopg2.extensions import connection as Connection

from bench.end_to_end import check_counts, check_fsck, published
from bench.growth import RESERVE
from bench.ledgers import Ledger, fresh_ledger, stack_costs
from bench.loading import Load
from bench.processes import Cost
from bench.town import Town
from deploy.stack import worker_programs
from ledger.postgres.connection import connect, transaction
from streams.disk import find_full

MINUTES = {"full load": 15, "2,000 events a second": 60}
SHARE = float(os.environ.get("CERTLEDGER_SOAK_SHARE") or 1)
STEADY = 2000  # events per second
SAMPLES = 240
LIMITS = {"worker-1": 300, "http": 250}  # megabytes at the most
SEQUENCER, RECORD = 150, 140  # megabytes, and bytes for each record of the maps
LIST = 9 * 2**20 / 1e6  # megabytes that the follower keeps of a status list, a million versions
KAFKA = 512 + 384  # its heap (`deploy.embedded.kafka.HEAP`), code, threads and buffers
SLACK, RISE = 6.0, 0.05
SESSION = 16.0  # megabytes; its contexts have 2, the rest is free in its heap
TELL_SECONDS = 30
BATCH, BATCH_EVERY = 500, 500  # numbers of a batch; questions between two
PAUSE = 0.01  # seconds between two questions: what the server keeps is full in the first third
PROGRAMS = ("worker-1", "sequencer", "relay", "follower", "http")
OURS = (*PROGRAMS, "postgres: ")

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def printed(text: str) -> None:
        with capsys.disabled():
            print(f"\n{time.strftime('%H:%M:%S')} {text}", end="", flush=True)

    return printed


@pytest.mark.soak
@pytest.mark.parametrize("kind", MINUTES)
def test_memory_stays_flat_and_nothing_is_lost(kind: str, say: Say) -> None:
    seconds = MINUTES[kind] * 60 * SHARE
    if SHARE != 1:
        say(
            f"CERTLEDGER_SOAK_SHARE={SHARE}: {seconds:.0f} s of {kind}, not {MINUTES[kind]} minutes"
        )
    names = ["bench-01", "bench-02", "bench-03", "bench-04"]
    size = 1000 if kind == "full load" else 100
    town = Town(names, 2, people=1_000_000, per_day=50_000)
    with fresh_ledger(names, 2, worker_programs(), http=True) as ledger:
        load = Load(ledger, town, size)
        watch = Watch(ledger, load, town, seconds, say)
        try:
            if kind == "full load":
                while watch.goes_on():
                    load.go_on()
            else:
                _steadily(load, watch)
        finally:
            watch.stop()
            load.close()
        say(f"{load.events:,} events were sent; waiting until all is published")
        published(ledger, load.bundles)
        watch.check()
        check_counts(ledger, load.bundles, load.events, load.certificates)
        say("the counts are right; fsck")
        begin = time.monotonic()
        check_fsck(ledger)
        say(f"fsck took {time.monotonic() - begin:.0f} s")


def _steadily(load: Load, watch: Watch) -> None:
    begin = time.monotonic()
    while watch.goes_on():
        for one in load.take(1):
            time.sleep(max(0.0, begin + load.events / STEADY - time.monotonic()))
            load.send([one])


class Watch:
    """Samples memory and asks questions, beside the load, in threads of its own."""

    def __init__(self, ledger: Ledger, load: Load, town: Town, seconds: float, say: Say) -> None:
        self._ledger, self._load, self._town, self._say = ledger, load, town, say
        self._seconds, self._begin = seconds, time.monotonic()
        # time, costs, records of the maps, status lists
        self._samples: list[tuple[float, dict[str, Cost], int, int]] = []
        self._pids = self._programs()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._asked = 0
        self._threads = [
            threading.Thread(target=self._guard, args=(work,)) for work in (self._sample, self._ask)
        ]
        for thread in self._threads:
            thread.start()

    def goes_on(self) -> bool:
        """Whether there is time and room left; raises what a thread of this met."""
        if self._error is not None:
            raise self._error
        full = find_full(self._ledger.settings.data_dir, RESERVE)
        if full is not None:
            self._say(f"stopped early: {full}")
        return full is None and time.monotonic() - self._begin < self._seconds

    def stop(self) -> None:
        """End the threads."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """AssertionError unless every process stayed the same, flat and within its limit."""
        if self._error is not None:
            raise self._error
        measured = self._samples[-1][0] - self._samples[0][0]
        assert measured > self._seconds / 2, f"only {measured:.0f} s could be measured"
        pids = self._programs()
        assert pids == self._pids, f"started anew: {self._ends(pids)}"
        _, last, records, _ = self._samples[-1]
        limits = {**LIMITS, "kafka": KAFKA, "sequencer": SEQUENCER + RECORD * records / 1e6}
        found = [f"{self._asked:,} questions were asked, {records:,} records are in the maps"]
        wrong = []
        for name in sorted(last):
            rise, allowed = self._rise(name)
            limit = limits.get(name)
            shown = f"{name}: {last[name].peak:.0f} MB at most"
            shown += f" of {limit:.0f}" if limit else ""
            found.append(
                f"{shown}, {last[name].own:.0f} MB at the end, {rise:+.1f} of {allowed:.1f}"
            )
            if limit and last[name].peak > limit:
                wrong.append(f"{name} had {last[name].peak:.0f} MB, {limit:.0f} are allowed")
            is_small = name.startswith("postgres: ") and last[name].own < SESSION
            if name.startswith(OURS) and rise > allowed and not is_small:
                wrong.append(f"{name} grew by {rise:.1f} MB, {allowed:.1f} are allowed")
        self._say("\n  ".join(found))
        assert not wrong, "\n".join(wrong)

    def _rise(self, name: str) -> tuple[float, float]:
        """Megabytes by which a process grew in the last two thirds, and how many are allowed."""
        kept = self._samples[len(self._samples) // 3 :]
        there = [(at, costs[name].own) for at, costs, *_ in kept if name in costs]
        if len(there) < 3:
            return 0.0, 0.0
        times, sizes = zip(*there, strict=True)
        allowed = SLACK + RISE * median(sizes)
        if name == "sequencer":
            allowed += RECORD * (kept[-1][2] - kept[0][2]) / 1e6
        if name == "follower":
            allowed += LIST * (kept[-1][3] - kept[0][3])
        return linear_regression(times, sizes).slope * (times[-1] - times[0]), allowed

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as err:
            self._error = err

    def _sample(self) -> None:
        told = time.monotonic()
        with closing(connect(self._ledger.settings.postgres, "soak")) as connection:
            while not self._ended.wait(max(0.5, self._seconds / SAMPLES)):
                records = _records(connection)
                costs = stack_costs(self._ledger, connection)
                self._samples.append((time.monotonic(), costs, records, _lists(connection)))
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    sizes = (f"{name} {costs[name].own:.0f}" for name in PROGRAMS)
                    self._say(f"{self._load.events:,} events; MB: {', '.join(sizes)}")

    def _ask(self) -> None:
        draw, is_open = random.Random(1), False
        asking = http.client.HTTPConnection(urlsplit(self._url()).netloc, timeout=60)
        for turn in count():
            if self._ended.wait(PAUSE):
                break
            if not self._load.known > 0:
                continue
            if is_open and turn % BATCH_EVERY == 0:
                body = "".join(json.dumps(self._question(draw)) + "\n" for _ in range(BATCH))
                asking.request("POST", "/v1/batch", body)
                self._asked += BATCH
            else:
                path = ("evidence", "history", "certificates")[min(turn % 5, 2)]
                asking.request("GET", f"/v1/{path}?{urlencode(self._question(draw))}")
                self._asked += 1
            answer = asking.getresponse()
            said = answer.read()
            if answer.status == 503 and not is_open:  # no checkpoint is published yet
                continue
            is_open = True
            # the history of what is not in the ledger yet is not found
            assert answer.status in (200, 404), (answer.status, said[:300])
        asking.close()

    def _question(self, draw: random.Random) -> dict[str, str]:
        of = self._town.choose(draw, self._load.known)
        return {"number": of.number, "type": of.type_code, "issuer": of.department}

    def _url(self) -> str:
        return str(self._ledger.stack.status()["url"])

    def _ends(self, pids: dict[str, int]) -> str:
        """How programs ended, and what they said before."""
        logs = self._ledger.settings.data_dir / "logs"
        programs = self._ledger.stack.status()["programs"]
        return "".join(
            f"{name}, {programs[name]['last_exit']}:\n"
            f"{(logs / f'{name}.log').read_text()[-3000:]}\n"
            for name, pid in self._pids.items()
            if pids[name] != pid
        )

    def _programs(self) -> dict[str, int]:
        programs = self._ledger.stack.status()["programs"]
        return {name: program["pid"] for name, program in programs.items()}


def _records(connection: Connection) -> int:
    """Records of both maps, as PostgreSQL's statistics have them: a little late, so too few."""
    with transaction(connection) as cursor:
        cursor.execute(
            "SELECT coalesce(sum(n_live_tup), 0)::bigint FROM pg_stat_user_tables"
            " WHERE relname IN ('certificate', 'holder')"
        )
        return int((cursor.fetchone() or (0,))[0])


def _lists(connection: Connection) -> int:
    """Status lists that were opened."""
    with transaction(connection) as cursor:
        cursor.execute("SELECT count(*) FROM status_list")
        return int((cursor.fetchone() or (0,))[0])
