"""How fast a whole ledger is audited: from outside over HTTP, and with event lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.stack import worker_programs

from .end_to_end import published
from .ledgers import fresh_ledger
from .loading import make_producer, send
from .town import Plan


@dataclass(frozen=True, slots=True)
class Result:
    """Events of the ledger, and seconds of `certledger audit` by its own clock."""

    events: int
    outside: float
    with_lines: float


def run(plan: Plan, runs: int, say: Callable[[str], None]) -> list[Result]:
    """Fill one ledger through Kafka, audit it from nothing again and again."""
    with fresh_ledger(plan.departments, plan.lanes, worker_programs(1), http=True) as ledger:
        records = ledger.sign(plan.bundles)
        producer = make_producer(ledger.settings.kafka)
        send(producer, records)
        producer.close()
        published(ledger, len(records))
        say(f"{sum(r.events for r in records)} events are published")
        data = ledger.settings.data_dir
        url = f"{ledger.stack.status()['url']}/log"
        found = []
        for _ in range(runs):
            outside = _audit(data, url, "--trust", str(data / "trust.json"))
            state = data / "audit.state"
            state.unlink(missing_ok=True)
            lines = _audit(data, "embedded")
            events = outside["checked"]["events"]
            found.append(Result(events, outside["seconds"], lines["seconds"]))
            say(
                f"audited: {events / outside['seconds']:.0f} events/s from outside, "
                f"{events / lines['seconds']:.0f} with lines"
            )
        return found


def _audit(data: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "deploy.cli", "audit", *words, "--json", "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    if not report.get("clean"):
        raise AssertionError(f"{done.stdout[:2000]}{done.stderr[-2000:]}")
    return dict(report)
