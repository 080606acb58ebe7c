"""How long `certledger catalogue lint` takes over a large generated catalogue: processor time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 20181
_RING = 50  # services in a circle


@dataclass(frozen=True, slots=True)
class Linted:
    """One run of the command, from its start to its end."""

    size: int  # bytes of the file
    seconds: float  # of processor time
    peak_mb: float
    findings: int


def run(requirements: int, runs: int, say: Callable[[str], None]) -> list[Linted]:
    """`runs` runs over one catalogue of about so many requirements."""
    data = make(requirements)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.json"
        path.write_bytes(data)
        command = [sys.executable, "-m", "deploy.cli", "catalogue", "lint", str(path), "--json"]
        for number in range(1, runs + 1):
            with (Path(folder) / "findings.json").open("w+b") as out:
                process = subprocess.Popen(command, stdout=out)
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode not in (0, 1):
                    raise RuntimeError(f"lint ended with {process.returncode}")
                out.seek(0)
                count = len(json.load(out))
            seconds = used.ru_utime + used.ru_stime
            found.append(Linted(len(data), seconds, used.ru_maxrss / 1024, count))
            say(f"run {number} of {runs}: {seconds:.2f} s")
    return found


def make(requirements: int) -> bytes:
    """A catalogue of services of ten demands, absurd in all ways, a tenth of them in circles of 50
    services, and one demand of 10,000 alternatives.
    """
    draw = random.Random(SEED)
    services = max(1, requirements // 10)
    kinds = services * 3
    evidence = [_evidence(draw, n) for n in range(kinds)]
    made = []
    for n in range(services):
        demands = [_demand(draw, m, kinds) for m in range(10)]
        outputs = [f"o{n}"]
        place = n % (10 * _RING)
        if n % 10 == 0 and n - place + 10 * _RING <= services:
            following = n - place + (place + 10) % (10 * _RING)
            demands[0]["evidence_type_lists"] = [[{"evidence_type": f"o{following}"}]]
        made.append(
            {
                "code": f"s{n}",
                "names": {"zh": f"服务{n}", "en": f"service {n}"},
                "competent_authority": f"a{n % 50}",
                "legal_resources": [f"law {n % 300}"],
                "requirements": demands,
                "outputs": outputs,
            }
        )
    wide = [[{"evidence_type": f"e{n}"}] for n in range(min(kinds, 10_000))]
    made[-1]["requirements"][1]["evidence_type_lists"] = wide
    evidence += [
        {"code": f"o{n}", "names": {"zh": f"产出{n}"}, "source": "issued"} for n in range(services)
    ]
    value = {
        "format": "certledger catalogue v1",
        "code": "bench",
        "publisher": "a",
        "version": 1,
        "replaces": None,
        "names": {"en": "bench"},
        "public_organisations": [
            {"code": f"a{n}", "names": {"zh": f"机关{n}"}, "channels": ["online"] if n % 9 else []}
            for n in range(50)
        ],
        "evidence_types": evidence,
        "public_services": made,
    }
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def _evidence(draw: random.Random, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "code": f"e{number}",
        "names": {"zh": f"材料{number}", "en": f"evidence {number}"},
        "facts": [f"f{draw.randrange(2000)}" for _ in range(draw.randrange(2))],
    }
    if draw.random() < 0.5:
        made["issuers"] = [] if draw.random() < 0.01 else [f"a{draw.randrange(50)}"]
    if draw.random() < 0.1:
        made["certificate_type"] = f"T{number % 40}"
    for name in ("checkable_online", "commitment_suffices"):
        if draw.random() < 0.05:
            made[name] = True
    if draw.random() < 0.3:
        made["validity_days"] = 90
    return made


def _demand(draw: random.Random, number: int, kinds: int) -> dict[str, Any]:
    lists = []
    for _ in range(1 + draw.randrange(3)):
        codes = {f"e{draw.randrange(kinds)}" for _ in range(1 + draw.randrange(2))}
        lists.append([_material(draw, code) for code in sorted(codes)])
    return {
        "code": f"r{number}",
        "names": {"zh": f"要求{number}", "en": f"demand {number}"},
        "evidence_type_lists": lists,
    }


def _material(draw: random.Random, code: str) -> dict[str, Any]:
    made: dict[str, Any] = {"evidence_type": code}
    if draw.random() < 0.2:
        made["paper_copies"] = 1
    if draw.random() < 0.1:
        made["max_age_days"] = 30
    return made
