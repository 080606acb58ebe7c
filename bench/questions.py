"""How many questions one HTTP server answers: without evidence, with it, in batches; and how long
one takes while ingest runs at half its speed.

The askers are a process of their own (`bench.asking`), the server is the ledger's own program.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import quote

from deploy.stack import worker_programs

from .end_to_end import published
from .ledgers import Ledger, fresh_ledger, stack_costs
from .loading import Load
from .processes import spent
from .town import Town

SIZE, DEPARTMENTS, LANES = 1000, 4, 2
OF_HOLDER = 5  # certificates of a person, in the mean
DIFFERENT = 20_000  # certificates that are asked about
IN_BATCH = 2000  # of them
WINDOW = 64  # bundles that say how fast ingest is
QUIET_SECONDS = 5
WARM_SECONDS = 2.0  # of the same questions before those that count
SERVER, BACKENDS = "http", "postgres: certledger-http"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """Certificates per second, by the clock and per second of the server's and its PostgreSQL
    backends' processor time; microseconds of each per certificate; seconds that a request took.
    """

    connections: int
    rate: float
    per_processor_second: float
    us: dict[str, float]
    p50: float
    p99: float
    peak_mb: float


def run(certificates: int, seconds: float, say: Say) -> dict[str, Any]:
    """What one ledger with so many certificates answered, each kind for some seconds."""
    names = [f"bench-{number:02d}" for number in range(1, DEPARTMENTS + 1)]
    town = Town(names, LANES, people=max(1000, certificates // OF_HOLDER))
    with fresh_ledger(names, LANES, worker_programs(1), http=True) as ledger:
        load = Load(ledger, town, SIZE)
        try:
            while load.certificates < certificates:
                load.go_on()
            published(ledger, load.bundles)
            say(f"{load.certificates} certificates are in")
            window = load.take(WINDOW)
            begin = time.time()
            load.send(window)
            pace = WINDOW / (published(ledger, load.bundles) - begin)
            time.sleep(QUIET_SECONDS)
            numbers = _numbers(town, load.known)
            found: dict[str, Any] = {"certificates": load.certificates, "ingest": pace * SIZE}
            for name, connections, lines, each in (
                ("without evidence, one asker", 1, _paths("certificates", numbers), 1),
                ("without evidence", 32, _paths("certificates", numbers), 1),
                ("with evidence", 8, _paths("evidence", numbers), 1),
                (f"batches of {IN_BATCH:,}", 2, _batches(numbers), IN_BATCH),
            ):
                found[name] = _ask(ledger, connections, seconds, lines, each)
                say(f"{name}: {found[name].rate:.0f}/s, {found[name].us}")
            with _Half(load, pace / 2):
                lines = _paths("certificates", numbers)
                found["while ingest runs at half its speed"] = _ask(ledger, 1, seconds, lines, 1)
            return found
        finally:
            load.close()


class _Half:
    """Bundles at a steady pace, by a thread."""

    def __init__(self, load: Load, per_second: float) -> None:
        self._load, self._pace = load, per_second
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        begin, sent = time.monotonic(), 0
        while not self._ended.is_set():
            for one in self._load.take(1):
                self._load.send([one])
                sent += 1
                self._ended.wait(max(0.0, begin + sent / self._pace - time.monotonic()))


def _numbers(town: Town, before: int) -> list[str]:
    draw = random.Random(before)
    return [town.choose(draw, before).number for _ in range(DIFFERENT)]


def _paths(kind: str, numbers: list[str]) -> list[str]:
    return [f"/v1/{kind}?number={quote(number)}" for number in numbers]


def _batches(numbers: list[str]) -> list[str]:
    lines = [json.dumps(number) for number in numbers]
    return [json.dumps(lines[i : i + IN_BATCH]) for i in range(0, len(lines), IN_BATCH)]


def _ask(ledger: Ledger, connections: int, seconds: float, lines: list[str], each: int) -> Answered:
    url = ledger.stack.status()["url"]
    _run_askers(url, connections, WARM_SECONDS, lines)
    before = stack_costs(ledger)
    told = _run_askers(url, connections, seconds, lines)
    used = spent(before, stack_costs(ledger))
    if set(told["statuses"]) != {"200"}:
        raise AssertionError(f"{lines[0][:80]}: {told['statuses']}")
    count = len(told["times"]) * each
    own = {name: used[name].seconds for name in (SERVER, BACKENDS)}
    cuts = quantiles(told["times"], n=100)
    return Answered(
        connections,
        count / told["seconds"],
        count / sum(own.values()),
        {name: s / count * 1e6 for name, s in {**own, "askers": told["processor"]}.items()},
        cuts[49],
        cuts[98],
        used[SERVER].peak,
    )


def _run_askers(url: str, connections: int, seconds: float, lines: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.asking", url, str(connections), str(seconds)],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told
