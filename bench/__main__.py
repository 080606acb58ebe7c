"""`python -m bench`: events per second, latency, stage times, the SDK's rate, as tables.

ONLY=bundles-1000,stages picks parts (bundles-1000, bundles-32, small, floor, storage, stages,
stages-small, receipts, tessera, maps, audit, assess, questions, evidence, recalls, sdk, lint),
RUNS=3 the number of runs (5), WORKERS=2 the number of workers, SCALE=0.1 makes it smaller,
JSON=file keeps all numbers.
`growth`, only when named, fills one ledger to ten million certificates, or until MINUTES=60 are
over or 15 GB of disk are left, and draws SVG=file.
`small` sends bundles of one event by Faust's worker and by a plain loop over aiokafka, `receipts`
says where their time goes from `send` to the receipt; `tessera` measures Tessera's POSIX log.
Every run has a ledger of its own in a fresh temporary folder,
everything (Kafka, PostgreSQL, workers, sequencer, relay, load) on this machine.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from deploy.embedded.supervisor import Program
from deploy.stack import worker_programs

from . import (
    assess,
    audit,
    end_to_end,
    evidence,
    growth,
    growth_plot,
    lint,
    maps,
    questions,
    recalls,
    receipts,
    sdk,
    stages,
    storage,
    tessera,
)
from .end_to_end import Paced
from .town import Plan, plan

# size: bundles, departments, lanes of each, paces for latency
SIZES = {
    32: (2_500, 4, 2, (Paced(30, 10),)),
    1000: (1_020, 4, 2, (Paced(2, 10),)),
}
SMALL = (12_000, 50, 1, (Paced(10, 20), Paced(1000, 15)))
TESSERA_WRITERS, TESSERA_SECONDS = (256, 512, 1024, 2048), 10
STAGE_BUNDLES, SMALL_STAGE_BUNDLES = 32, 3072
SDK_EVENTS = 50_000
AUDIT_BUNDLES = 300
EVIDENCE_FILES = 1000
ASSESSMENTS = 2000
LINT_REQUIREMENTS = 100_000
RECALLS = 400
QUESTION_SECONDS = 20
FLOOR_BUNDLES = 100
STORAGE_BUNDLES = 400
MIXES = {"4 events per certificate": 0.75, "every event issues": 0.0}  # share of updates
PARTS = (
    *("bundles-1000", "bundles-32", "small", "floor", "storage"),
    *("stages", "stages-small", "receipts", "tessera"),
    *("maps", "audit", "assess", "questions", "evidence", "recalls", "sdk", "lint"),
)
NAMED_PARTS = ("growth",)  # take too long to be part of everything
GROWTH = growth.Amount(bundles=80, questions=3000, files=1000)
GROWTH_MINUTES = 60
MAP_CERTIFICATES, MAP_BUNDLES = 1_000_000, 200  # in the ledger; in one phase


class Bench:
    """What was asked for, and what was measured."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.runs = int(environ.get("RUNS") or 5)
        self.workers = int(environ.get("WORKERS") or 1)
        self.scale = float(environ.get("SCALE") or 1)
        self.parts = [p for p in (environ.get("ONLY") or ",".join(PARTS)).split(",") if p]
        unknown = [p for p in self.parts if p not in PARTS + NAMED_PARTS]
        if unknown:
            sys.exit(f"ONLY={','.join(unknown)}: the parts are {', '.join(PARTS + NAMED_PARTS)}")
        self.minutes = float(environ.get("MINUTES") or GROWTH_MINUTES)
        self.json, self.svg = environ.get("JSON"), environ.get("SVG")
        self.begin = time.monotonic()
        self.out: dict[str, Any] = {"machine": machine(), "workers": self.workers}

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"[{time.monotonic() - self.begin:6.1f} s] {text}", file=sys.stderr, flush=True)

    def end_to_end(self, size: int) -> None:
        """Runs with bundles of one size."""
        count, departments, lanes, paces = SIZES[size]
        programs = worker_programs(self.workers)
        self.out.setdefault("bundles", {})[str(size)] = self._runs(
            size, count, departments, lanes, paces, programs, f"bundles of {size}"
        )

    def small(self) -> None:
        """Runs with bundles of one event: by Faust, and by a plain loop that calls the same."""
        here = {"PYTHONPATH": str(Path(__file__).parents[1])}
        plain = [
            Program(p.name, [sys.executable, "-m", "bench.plain_worker"], env=here)
            if p.name.startswith("worker")
            else p
            for p in worker_programs(1)
        ]
        found = self.out.setdefault("small", {})
        for name, programs in (("Faust", worker_programs(1)), ("plain aiokafka", plain)):
            found[name] = self._runs(1, *SMALL, programs, f"bundles of 1, {name}")

    def _runs(
        self,
        size: int,
        count: int,
        departments: int,
        lanes: int,
        paces: Sequence[Paced],
        programs: list[Program],
        title: str,
    ) -> dict[str, Any]:
        seconds = min(1.0, self.scale * 2)
        paces = [Paced(p.per_second, max(1.0, p.seconds * seconds)) for p in paces]
        extra = sum(paced.bundles for paced in paces)
        made = self.plan(size, int(count * self.scale) + extra, departments, lanes)
        results = []
        for number in range(1, self.runs + 1):
            name = f"{title}, run {number} of {self.runs}"
            results.append(
                end_to_end.run(made, paces, programs, lambda t, n=name: self.say(f"{n}: {t}"))
            )
        self.out["settings"] = results[0].settings
        return {
            "events": results[0].events,
            "mean_line": made.mean_line,
            "rate": spread([r.rate for r in results]),
            "turn_held": spread([r.turn[0] for r in results]),
            "turn_waited": spread([r.turn[1] for r in results]),
            "paced": [
                {
                    "pace": paced.per_second * size,
                    "p50": spread([r.percentile(50, n) for r in results]),
                    "p99": spread([r.percentile(99, n) for r in results]),
                }
                for n, paced in enumerate(paces)
            ],
            "processes": {
                name: {
                    "us_per_event": spread(
                        [r.costs[name].seconds / r.events * 1e6 for r in results if name in r.costs]
                    ),
                    "peak_mb": max(r.costs[name].peak for r in results if name in r.costs),
                }
                for name in sorted({n for r in results for n in r.costs})
            },
        }

    def receipts(self) -> None:
        """Stages of latency, by Faust and by a plain loop in turns; shown are the last runs."""
        _, departments, lanes, paces = SMALL
        seconds = min(1.0, self.scale * 2)
        paces = tuple(Paced(p.per_second, max(1.0, p.seconds * seconds)) for p in paces)
        warm = max(200, int(1000 * seconds))
        made = self.plan(1, warm + sum(paced.bundles for paced in paces), departments, lanes)
        found = self.out.setdefault("receipts", {})
        for number in range(1, self.runs + 1):
            for name, worker in (("Faust", "worker"), ("plain aiokafka", "plain")):
                title = f"receipts, {name}, run {number} of {self.runs}"
                results = receipts.run(
                    made, paces, worker, lambda t, title=title: self.say(f"{title}: {t}")
                )
                for paced, result in zip(paces, results, strict=True):
                    title = f"{name}, {paced.per_second:.0f}/s"
                    found.setdefault(title, []).append(result)

    def tessera(self) -> None:
        """Tessera's log under its own load, entries as long as events are."""
        length = round(self.plan(1000, 1, 4, 2).mean_line)
        seconds = max(2.0, TESSERA_SECONDS * min(1.0, self.scale))
        runs: list[list[tessera.Result]] = []
        try:
            for number in range(1, self.runs + 1):
                name = f"tessera, run {number} of {self.runs}"
                runs.append(
                    tessera.run(
                        length, TESSERA_WRITERS, seconds, lambda t, n=name: self.say(f"{n}: {t}")
                    )
                )
        except tessera.Missing as why:
            self.out["tessera"] = {"missing": str(why)}
            return
        best = max(zip(*runs, strict=True), key=lambda of: median(r.rate for r in of))
        self.out["tessera"] = {
            "entry_bytes": length,
            "writers": best[0].writers,
            "rate": spread([r.rate for r in best]),
            "server_us": spread([r.server for r in best]),
            "load_us": spread([r.load for r in best]),
        }

    def plan(self, size: int, count: int, departments: int, lanes: int) -> Plan:
        """The bundles of one size, made once for all runs."""
        self.say(f"writing {count * size} events for bundles of {size}")
        return plan(size, count, departments, lanes)

    def floor(self) -> None:
        """What PostgreSQL takes of the same rows, beside what the whole way does."""
        if "1000" not in self.out.get("bundles", {}):
            self.end_to_end(1000)
        made = self.plan(1000, max(8, int(FLOOR_BUNDLES * self.scale)), 4, 2)
        found = []
        for number in range(1, self.runs + 1):
            name = f"floor, run {number} of {self.runs}"
            found.append(storage.floor(made, lambda t, n=name: self.say(f"{n}: {t}")))
        self.out["floor"] = {
            "rate": spread([f.rate for f in found]),
            "client_us": spread([f.client_us for f in found]),
            "server_us": spread([f.server_us for f in found]),
        }

    def storage(self) -> None:
        """Bytes on disk, once for each mix."""
        count = max(8, int(STORAGE_BUNDLES * self.scale))
        for name, updates in MIXES.items():
            self.say(f"writing {count * 1000} events, {name}")
            made = plan(1000, count, 4, 2, updates=updates)
            found = storage.measure(made, lambda t, n=name: self.say(f"storage, {n}: {t}"))
            self.out.setdefault("storage", {})[name] = asdict(found)

    def stages(self, size: int = 1000) -> None:
        """The stage times per event, of bundles of one size."""
        if size == 1000:
            made = self.plan(size, max(8, int(STAGE_BUNDLES * self.scale)), 4, 2)
        else:
            made = self.plan(size, max(256, int(SMALL_STAGE_BUNDLES * self.scale)), 50, 1)
        found = []
        for number in range(1, self.runs + 1):
            found.append(stages.run(made))
            total = sum(own for _, own in found[-1].values())
            self.say(f"stages, run {number} of {self.runs}: {total:.1f} µs of Python per event")
        self.out.setdefault("stages", {})[str(size)] = {
            name: {
                "wall_us": spread([f[name][0] for f in found]),
                "own_us": spread([f[name][1] for f in found]),
            }
            for name in found[0]
        }

    def maps(self) -> None:
        """What the status maps cost, one ledger for all runs."""
        certificates = max(2000, int(MAP_CERTIFICATES * self.scale))
        phase = max(16, int(MAP_BUNDLES * min(1.0, self.scale * 2)))
        found = maps.run(certificates, phase, self.runs, lambda t: self.say(f"maps: {t}"))
        self.out["maps"] = {
            "records": found.records,
            **{
                name: {
                    "rate": spread([phase.rate for phase in phases]),
                    "us_per_event": spread([phase.cost for phase in phases]),
                }
                for name, phases in (("with", found.with_maps), ("without", found.without))
            },
            "states": found.states,
            "load_seconds": found.load_seconds,
            "bytes_per_record": found.bytes_per_record,
        }

    def growth(self) -> None:
        """Rates and answers of one ledger as it grows; kept and drawn after each milestone."""
        scale = min(1.0, self.scale * 10)
        amount = growth.Amount(*(max(16, int(n * scale)) for n in asdict(GROWTH).values()))
        grown = growth.Growth(self.scale, amount, self.minutes, lambda t: self.say(f"growth: {t}"))

        def keep() -> None:
            self.out["growth"] = {"points": grown.points, "stopped": grown.stopped}
            self.keep()
            if self.svg:
                Path(self.svg).write_text(growth_plot.plot(grown.points))

        grown.run(self.workers, keep)
        keep()

    def keep(self) -> None:
        """Write all numbers so far to the file that JSON names."""
        self.out["seconds"] = time.monotonic() - self.begin
        if self.json:
            Path(self.json).write_text(
                json.dumps(self.out, indent=1, ensure_ascii=False, default=asdict)
            )

    def audit(self) -> None:
        """Audits of one ledger, bundles of 1,000."""
        made = self.plan(1000, max(8, int(AUDIT_BUNDLES * self.scale)), 4, 2)
        found = audit.run(made, self.runs, lambda t: self.say(f"audit: {t}"))
        self.out["audit"] = {
            "events": found[0].events,
            "outside": spread([r.events / r.outside for r in found]),
            "with_lines": spread([r.events / r.with_lines for r in found]),
        }

    def assess(self) -> None:
        """Assessments of a service's demands, one ledger for all runs."""
        certificates = max(2000, int(MAP_CERTIFICATES * self.scale))
        count = max(100, int(ASSESSMENTS * min(1.0, self.scale * 5)))
        found = assess.run(certificates, count, self.runs, lambda t: self.say(f"assess: {t}"))
        self.out["assess"] = {
            "certificates": found.certificates,
            "of_holder": round(found.of_holder, 1),
            "stored": spread(found.stored),
            "proven": spread(found.proven),
        }

    def questions(self) -> None:
        """Answers of one HTTP server."""
        certificates = max(2000, int(MAP_CERTIFICATES * self.scale))
        seconds = max(3.0, QUESTION_SECONDS * min(1.0, self.scale * 2))
        found = questions.run(certificates, seconds, lambda t: self.say(f"questions: {t}"))
        self.out["questions"] = {
            name: asdict(value) if isinstance(value, questions.Answered) else value
            for name, value in found.items()
        }

    def recalls(self) -> None:
        """From a revocation's entry to the notice's record."""
        found = recalls.run(max(20, int(RECALLS * self.scale)), lambda t: self.say(f"recalls: {t}"))
        self.out["recalls"] = {
            "cases": len(found.seconds),
            "p50": found.percentile(50),
            "p99": found.percentile(99),
            "most": max(found.seconds),
        }

    def evidence(self) -> None:
        """Sizes at ten million certificates, and checking offline."""
        found = []
        for number in range(1, self.runs + 1):
            found.append(evidence.checking(max(100, int(EVIDENCE_FILES * self.scale))))
            self.say(f"evidence, run {number} of {self.runs}: {found[-1][0]:.0f} files/s")
        self.out["evidence"] = {
            "sizes": [asdict(size) for size in evidence.sizes(self.say)],
            "one_checkpoint": spread([one for one, _ in found]),
            "one_each": spread([each for _, each in found]),
        }

    def sdk(self) -> None:
        """The SDK's own rate."""
        found = []
        for number in range(1, self.runs + 1):
            found.append(sdk.run(max(2000, int(SDK_EVENTS * self.scale) // 1000 * 1000)))
            self.say(f"sdk, run {number} of {self.runs}: {found[-1][0]:.0f} events/s")
        self.out["sdk"] = {
            "rate": spread([rate for rate, _ in found]),
            "us_per_event": spread([own for _, own in found]),
        }

    def lint(self) -> None:
        """Lint of half a catalogue and of a whole one."""
        whole = max(1000, int(LINT_REQUIREMENTS * self.scale))
        for count in (whole // 2, whole):
            found = lint.run(count, self.runs, lambda t, n=count: self.say(f"lint of {n:,}: {t}"))
            self.out.setdefault("lint", {})[str(count)] = {
                "seconds": spread([one.seconds for one in found]),
                "peak_mb": max(one.peak_mb for one in found),
                "megabytes": found[0].size / 1e6,
                "findings": found[0].findings,
            }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def machine() -> dict[str, Any]:
    """What this was measured on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [n for n in cpuinfo.read_text().splitlines() if n.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else ""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model or platform.processor(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = rows
    lines = [head, tuple("---" if i == 0 else "---:" for i in range(len(head))), *rest]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def show(value: dict[str, float], form: Callable[[float], str]) -> str:
    """`median (min–max)`."""
    return f"{form(value['median'])} ({form(value['min'])}–{form(value['max'])})"


def report(out: dict[str, Any]) -> str:
    """The tables."""
    whole, tenth = "{:,.0f}".format, "{:.1f}".format
    parts = []
    on = out["machine"]
    parts.append(
        f"{on['cores']} cores ({on['processor']}), Python {on['python']}, {out['workers']} "
        f"worker(s), load before {on['load']:.1f}"
    )
    if "settings" in out:
        parts.append("PostgreSQL: " + ", ".join(f"{k} {v}" for k, v in out["settings"].items()))
    measured = {f"{int(size):,}": found for size, found in out.get("bundles", {}).items()}
    measured |= {f"1, {name}": found for name, found in out.get("small", {}).items()}
    if measured:
        rows: list[tuple[str, ...]] = [
            ("bundles of", "events/s", "paced at events/s", "receipt median ms", "99 % ms")
        ]
        for name, found in measured.items():
            rate = show(found["rate"], whole)
            title = f"{name} ({found['events']:,} events of {found['mean_line']:.0f} B)"
            for paced in found["paced"]:
                rows.append(
                    (
                        title,
                        rate,
                        whole(paced["pace"]),
                        show(paced["p50"], lambda s: whole(s * 1000)),
                        show(paced["p99"], lambda s: whole(s * 1000)),
                    )
                )
                title = rate = ""
        parts.append(table(rows))
    if "receipts" in out:
        parts += receipts.report(out["receipts"], table)
    if "tessera" in out:
        parts.append(tessera_report(out))
    for name, found in measured.items():
        parts.append(processes_report(name, found, on["cores"]))
    if "floor" in out:
        found = out["floor"]
        share = out["bundles"]["1000"]["rate"]["median"] / found["rate"]["median"]
        parts.append(
            f"Floor, one connection writing the same rows, 1,000 events a transaction: "
            f"{show(found['rate'], whole)} events/s, {show(found['server_us'], tenth)} µs of "
            f"PostgreSQL's processor time per event and {show(found['client_us'], tenth)} of the "
            f"client's; published to proven is {share:.0%} of it"
        )
    if "storage" in out:
        parts.append(storage_table(out["storage"]))
    for size, stage in out.get("stages", {}).items():
        rows = [(f"stage, bundles of {int(size):,}", "wall µs/event", "of it Python µs/event")]
        for name, found in stage.items():
            rows.append((name, show(found["wall_us"], tenth), show(found["own_us"], tenth)))
        rows.append(
            (
                "all",
                tenth(sum(f["wall_us"]["median"] for f in stage.values())),
                tenth(sum(f["own_us"]["median"] for f in stage.values())),
            )
        )
        parts.append(table(rows))
    if "evidence" in out:
        found = out["evidence"]
        rows = [("evidence at ten million certificates", "events shown", "bytes", "with ML-DSA")]
        rows += [
            (s["case"], str(s["shown"]), whole(s["ed25519"]), whole(s["with_ml_dsa"]))
            for s in found["sizes"]
        ]
        parts.append(table(rows))
        parts.append(
            "Checked offline, in a second of processor time: "
            f"{show(found['one_checkpoint'], whole)} files under one checkpoint, "
            f"{show(found['one_each'], whole)} under a different one each"
        )
    if "maps" in out:
        found = out["maps"]
        share = (
            1 - found["without"]["us_per_event"]["median"] / found["with"]["us_per_event"]["median"]
        )
        rows = [("status maps, one process, steps 4 to 7", "events/s", "processor µs/event")]
        for name in ("with", "without"):
            one = found[name]
            rows.append((name, show(one["rate"], whole), show(one["us_per_event"], tenth)))
        parts.append(table(rows))
        parts.append(
            f"{found['records']:,} records in both maps, {found['states']} roots: keeping them "
            f"takes {share:.1%} of the processor time. A start loads them in "
            f"{found['load_seconds']:.1f} s, {found['bytes_per_record']:.0f} bytes a record"
        )
    if "growth" in out:
        parts.append(growth_report(out["growth"]))
    if "audit" in out:
        found = out["audit"]
        parts.append(
            f"Audit of {found['events']:,} events in bundles of 1,000 from nothing: "
            f"{show(found['outside'], whole)} events/s from outside over HTTP, "
            f"{show(found['with_lines'], whole)} with event lines (admission run again)"
        )
    if "assess" in out:
        found = out["assess"]
        parts.append(
            f"Assessments of ten demands, {found['of_holder']} certificates of a holder, "
            f"{found['certificates']:,} in the ledger: {show(found['stored'], whole)} in a second "
            f"of a core by the tables, {show(found['proven'], whole)} by evidence made and checked"
        )
    if "questions" in out:
        parts.append(questions_report(out["questions"]))
    if "lint" in out:
        rows = [("lint of requirements", "MB", "findings", "processor s", "peak MB")]
        for count, found in out["lint"].items():
            rows.append(
                (
                    f"{int(count):,}",
                    whole(found["megabytes"]),
                    whole(found["findings"]),
                    show(found["seconds"], tenth),
                    whole(found["peak_mb"]),
                )
            )
        parts.append(table(rows))
    if "recalls" in out:
        found = out["recalls"]
        parts.append(
            f"Recalls of {found['cases']} cases, from the revocation's entry to the notice's "
            f"record: median {found['p50'] * 1000:.0f} ms, 99 % {found['p99'] * 1000:.0f} ms, "
            f"all within {found['most'] * 1000:.0f} ms"
        )
    if "sdk" in out:
        parts.append(
            f"SDK, typed call to signed and spooled bundle: {show(out['sdk']['rate'], whole)} "
            f"events/s, {show(out['sdk']['us_per_event'], tenth)} µs of processor per event"
        )
    return "\n\n".join(parts)


def processes_report(name: str, found: dict[str, Any], cores: int) -> str:
    """What each process takes, and how much of a core that is at the rate that was reached: what
    has most of one is what limits.
    """
    rows: list[tuple[str, ...]] = [
        (f"bundles of {name}", "processor µs/event", "of a core", "peak MB")
    ]
    per_second = found["rate"]["median"] / 1e6
    costs = {
        process: cost["us_per_event"]["median"] for process, cost in found["processes"].items()
    }
    for process, cost in found["processes"].items():
        if cost["us_per_event"]["max"] >= 0.05:
            share = f"{costs[process] * per_second:.0%}"
            spent = show(cost["us_per_event"], "{:.1f}".format)
            rows.append((process, spent, share, f"{cost['peak_mb']:,.0f}"))
    total = sum(costs.values())
    rows.append((f"all, on {cores} cores", f"{total:.1f}", f"{total * per_second:.0%}", ""))
    held, waited = (show(found[name], "{:.0%}".format) for name in ("turn_held", "turn_waited"))
    return f"{table(rows)}\n\nA worker held the turn {held} of the time, others waited {waited}."


def growth_report(found: dict[str, Any]) -> str:
    """A row for each milestone."""
    heads = (
        *("certificates", "events/s", "processor µs/event", "question ms", "99 % ms"),
        *("processor µs", "evidence ms", "99 % ms", "processor µs", "evidence bytes", "99 %"),
        *("of up to 4 events, 99 %", "over 14 KB"),
        *("database bytes/event", "WAL", "Kafka", "follower behind, entries"),
        *("sequencer MB", "worker MB", "HTTP MB"),
    )
    rows: list[tuple[str, ...]] = [heads]
    for at in found["points"]:
        peak, short = at["peak_mb"], at["evidence_bytes_of_short_histories"]
        times = [
            shown
            for kind in ("question", "evidence")
            for shown in (
                *(f"{at[kind][name] * 1000:.1f}" for name in ("p50", "p99")),
                f"{at[f'us_per_{kind}']:,.0f}",
            )
        ]
        rows.append(
            (
                *(f"{at['certificates']:,}", f"{at['rate']:,.0f}"),
                f"{sum(at['us_per_event'].values()):.1f}",
                *times,
                *(f"{at['evidence_bytes'][name]:,.0f}" for name in ("p50", "p99")),
                *(f"{short['p99']:,.0f}", f"{short['over_limit']:.1%}"),
                f"{at['database_bytes'] / at['events']:.0f}",
                f"{at['wal_per_event']:.0f}",
                f"{at['kafka_bytes'] / at['events']:.0f}",
                f"{at['follower_behind']:,}",
                *(f"{peak[name]:.0f}" for name in ("sequencer", "worker-1", "http")),
            )
        )
    said = f" It ended early: {found['stopped']}." if found["stopped"] else ""
    first, last = found["points"][0], found["points"][-1]
    us = [sum(at["us_per_event"].values()) for at in (first, last)]
    rate, slower = last["rate"] / first["rate"], last["question"]["p99"] / first["question"]["p99"]
    return table(rows) + (
        f"\n\nFrom {first['certificates']:,} to {last['certificates']:,} certificates ingest "
        f"changes by {rate - 1:+.0%}, by processor time {us[0] / us[1] - 1:+.0%}; a question's "
        f"99 % by {slower - 1:+.0%}.{said}"
    )


def questions_report(found: dict[str, Any]) -> str:
    """A row for each way of asking."""
    rows: list[tuple[str, ...]] = [
        (
            f"questions, {found['certificates']:,} certificates",
            *("askers", "certificates/s", "in a second of processor", "server µs"),
            *("PostgreSQL µs", "askers' µs", "median ms", "99 % ms", "server MB"),
        )
    ]
    for name, one in found.items():
        if isinstance(one, dict):
            costs = (f"{us:.0f}" for us in one["us"].values())
            rows.append(
                (
                    *(name, str(one["connections"]), f"{one['rate']:,.0f}"),
                    *(f"{one['per_processor_second']:,.0f}", *costs),
                    *(f"{one[n] * 1000:.1f}" for n in ("p50", "p99")),
                    f"{one['peak_mb']:.0f}",
                )
            )
    return table(rows)


def tessera_report(out: dict[str, Any]) -> str:
    """What Tessera did, and what ours did beside it in the same run."""
    found = out["tessera"]
    if "missing" in found:
        return f"Tessera was not measured: {found['missing']}"
    said = (
        f"Tessera's POSIX conformance log under its hammer, {found['entry_bytes']} bytes an entry, "
        f"{found['writers']} writers (the best number): {show(found['rate'], '{:,.0f}'.format)} "
        f"entries/s, {show(found['server_us'], '{:.0f}'.format)} µs of processor per entry for the "
        f"server, {show(found['load_us'], '{:.0f}'.format)} for the load."
    )
    rates = {f"bundles of {n}": f["rate"] for n, f in out.get("bundles", {}).items()}
    rates |= {f"bundles of 1, {n}": f["rate"] for n, f in out.get("small", {}).items()}
    for name, rate in rates.items():
        said += f" Ours in {name}: {rate['median'] / found['rate']['median']:.2f} times as many."
    return said


def storage_table(mixes: dict[str, Any]) -> str:
    """Bytes per event by table; tables below a byte together."""
    tables = {name for found in mixes.values() for name in found["tables"]}
    most = {name: max(found["tables"][name] for found in mixes.values()) for name in tables}
    kept = [name for name in sorted(tables, key=lambda n: -most[n]) if most[name] >= 1]
    rows: list[tuple[str, ...]] = [("bytes per event after VACUUM", *mixes)]
    for name in kept:
        rows.append((name, *(f"{found['tables'][name]:.1f}" for found in mixes.values())))
    rows.append(
        (
            "all other tables",
            *(
                f"{sum(found['tables'][name] for name in tables - set(kept)):.1f}"
                for found in mixes.values()
            ),
        )
    )
    rows.append(
        ("all tables", *(f"{sum(found['tables'].values()):.1f}" for found in mixes.values()))
    )
    rows.append(("the whole database", *(f"{found['whole']:.1f}" for found in mixes.values())))
    rows.append(
        (
            "of events, certificates, bytes of a line",
            *(
                f"{found['events']:,}, {found['certificates']:,}, {found['mean_line']:.0f}"
                for found in mixes.values()
            ),
        )
    )
    return table(rows)


def main() -> None:
    """Measure what was asked for and print it."""
    bench = Bench(dict(os.environ))
    parts: dict[str, Callable[[], None]] = {
        "bundles-1000": lambda: bench.end_to_end(1000),
        "bundles-32": lambda: bench.end_to_end(32),
        "small": bench.small,
        "floor": bench.floor,
        "storage": bench.storage,
        "stages": bench.stages,
        "stages-small": lambda: bench.stages(1),
        "receipts": bench.receipts,
        "tessera": bench.tessera,
        "maps": bench.maps,
        "audit": bench.audit,
        "assess": bench.assess,
        "questions": bench.questions,
        "evidence": bench.evidence,
        "recalls": bench.recalls,
        "growth": bench.growth,
        "lint": bench.lint,
        "sdk": bench.sdk,
    }
    for part in bench.parts:
        parts[part]()
    bench.keep()
    print(report(bench.out))


if __name__ == "__main__":
    main()
