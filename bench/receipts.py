"""Where a bundle's time goes between `send` and the arrival of its receipt, step by step.

The programs are the real ones, run by `bench.traced`, which writes down when each step was taken.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from deploy.embedded.supervisor import Program
from deploy.stack import worker_programs
from ledger.postgres.connection import transaction

from .end_to_end import Paced, Receipts, Sent, pace
from .ledgers import Ledger, fresh_ledger, stack_costs
from .loading import make_producer, send
from .processes import Cost, spent
from .town import Plan
from .traced import trace_file

# what ends each stage, in the order in which a bundle goes through them
WORKER = ("fetched", "handed over", "opening begun", "opened", "turn begun", "committed")
STEPS = ("status appended", "head moved", "signed", "log topic written")
STAGES = (*WORKER, "round begun", *STEPS, "published", "relay begun", "relayed", "seen")


@dataclass(frozen=True, slots=True)
class Result:
    """Of one pace: seconds of every bundle by stage, in all, and what the processes cost."""

    bundles: int
    stages: dict[str, list[float]]
    total: list[float]
    costs: dict[str, Cost]
    rounds: int  # of the sequencer
    turns: int

    def of(self, process: str) -> float:
        """Processor microseconds of a process for each bundle."""
        cost = self.costs.get(process)
        return 0.0 if cost is None else cost.seconds / self.bundles * 1e6

    def percentiles(self, stage: str | None = None) -> tuple[float, float, float]:
        """Mean, median and 99th percentile of a stage, or of all, seconds."""
        values = self.total if stage is None else self.stages[stage]
        cut = quantiles(values, n=100)
        return sum(values) / len(values), cut[49], cut[98]


def run(
    plan: Plan, paces: Sequence[Paced], worker: str, say: Callable[[str], None]
) -> list[Result]:
    """Paces one after the other in a fresh ledger, a few hundred bundles before them."""
    with fresh_ledger(plan.departments, plan.lanes, _programs(worker)) as ledger:
        signed = ledger.sign(plan.bundles)
        producer = make_producer(ledger.settings.kafka)
        receipts = Receipts(ledger.settings.kafka)
        try:
            warm = len(signed) - sum(paced.bundles for paced in paces)
            send(producer, signed[:warm])
            receipts.wait_for(signed[:warm])
            found = []
            for paced in paces:
                records = signed[warm : warm + paced.bundles]
                warm += paced.bundles
                before = stack_costs(ledger)
                sent = pace(producer, receipts, records, paced)
                own = spent(before, stack_costs(ledger))
                found.append(_result(ledger, worker, sent, receipts, own))
                _, median, most = found[-1].percentiles()
                say(f"{paced.per_second:.0f}/s: median {median:.3f} s, 99 % {most:.3f} s")
            return found
        finally:
            receipts.close()
            producer.close()


def _programs(worker: str) -> list[Program]:
    env = {"PYTHONPATH": str(Path(__file__).parents[1])}
    out = []
    for program in worker_programs(1):
        kind = program.name.partition("-")[0]
        if kind in ("worker", "sequencer", "relay"):
            what = worker if kind == "worker" else kind
            program = replace(program, argv=[sys.executable, "-m", "bench.traced", what], env=env)
        out.append(program)
    return out


def _trace(ledger: Ledger, program: str) -> list[list[Any]]:
    text = trace_file(ledger.settings.data_dir, program).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


class _Worker:
    """When a record of the intake topic came to a step."""

    def __init__(self, lines: Sequence[Sequence[Any]]) -> None:
        self._ends: dict[tuple[str, int], tuple[list[int], list[float]]] = {}
        for name, at, spans in lines:
            for partition, _, last in spans:
                lasts, times = self._ends.setdefault((name, partition), ([], []))
                lasts.append(last)
                times.append(at)

    def at(self, step: str, partition: int, offset: int) -> float:
        """The second of a step."""
        lasts, times = self._ends[step, partition]
        return times[bisect_left(lasts, offset)]


def _rounds(lines: Sequence[Sequence[Any]]) -> list[dict[str, float]]:
    """The sequencer's rounds that made a head: their steps, and `size`."""
    rounds: list[dict[str, float]] = []
    begun = 0.0
    current: dict[str, float] = {}
    published: list[tuple[int, float]] = []
    for name, at, *about in lines:
        if name == "round begun":
            begun = at
        elif name == "status appended":
            current = {"round begun": begun, name: at, "size": about[0]}
            rounds.append(current)
        elif name == "step":
            current.setdefault(about[0], at)
        elif name == "published":
            published.append((about[0], at))
    sizes = [size for size, _ in published]
    for one in rounds:
        found = bisect_left(sizes, one["size"])
        if found < len(sizes):
            one["published"] = published[found][1]
    return [one for one in rounds if "published" in one]


def _relayed(lines: Sequence[Sequence[Any]]) -> list[tuple[int, float, float]]:
    """(log index below which receipts were out, when that round began, when it ended)."""
    found = []
    begun = 0.0
    for name, at, *about in lines:
        if name == "relay begun":
            begun = at
        elif about[0] == "receipts":
            found.append((about[1], begun, at))
    return found


def _result(
    ledger: Ledger,
    program: str,
    sent: dict[tuple[str, int, int], Sent],
    receipts: Receipts,
    own: dict[str, Cost],
) -> Result:
    worker_lines = _trace(ledger, program)
    worker = _Worker(worker_lines)
    rounds = _rounds(_trace(ledger, "sequencer"))
    sizes = [int(one["size"]) for one in rounds]
    relayed = _relayed(_trace(ledger, "relay"))
    ends = [end for end, _, _ in relayed]
    with transaction(ledger.connection) as cursor:
        cursor.execute("SELECT partition, record_offset, log_index FROM accounting")
        indexes = {(partition, offset): index for partition, offset, index in cursor}
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    total = []
    for place, (begin, future) in sent.items():
        metadata = future.get(timeout=1)
        partition, offset = metadata.partition, metadata.offset
        index = indexes[partition, offset]
        steps = {step: worker.at(step, partition, offset) for step in WORKER}
        steps |= rounds[bisect_right(sizes, index)]
        _, steps["relay begun"], steps["relayed"] = relayed[bisect_right(ends, index)]
        steps["seen"] = receipts.at[place]
        before = begin
        for stage in STAGES:
            stages[stage].append(steps[stage] - before)
            before = steps[stage]
        total.append(steps["seen"] - begin)
    first, last = min(s.at for s in sent.values()), max(receipts.at[p] for p in sent)
    return Result(
        len(sent),
        stages,
        total,
        own,
        sum(first <= one["round begun"] <= last for one in rounds),
        sum(name == "committed" and first <= at <= last for name, at, _ in worker_lines),
    )


def report(
    found: dict[str, list[Result]], table: Callable[[list[tuple[str, ...]]], str]
) -> list[str]:
    """Stages in milliseconds, and processor time, each of the last run; a column for each pace."""
    last = {name: results[-1] for name, results in found.items()}
    rows: list[tuple[str, ...]] = [("until, mean / median / 99 % ms", *last)]
    for stage in (*STAGES, None):
        cells = [" / ".join(f"{v * 1000:.0f}" for v in r.percentiles(stage)) for r in last.values()]
        rows.append((stage or "from `send` to the receipt", *cells))
    counts = [f"{r.bundles / r.turns:.1f}, {r.rounds}" for r in last.values()]
    rows.append(("bundles in a turn, checkpoints", *counts))
    own: list[tuple[str, ...]] = [("processor µs/bundle", *last)]
    for name in sorted({name for result in last.values() for name in result.costs}):
        spent_by = [r.of(name) for r in last.values()]
        if max(spent_by) >= 5:
            own.append((name, *(f"{one:.0f}" for one in spent_by)))
    own.append(("all", *(f"{sum(map(r.of, r.costs)):.0f}" for r in last.values())))
    return [table(rows), table(own)]
