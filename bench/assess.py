"""How many assessments a core makes: one service, random holders, a ledger of its size.

Counted is the processor time of this process and of its PostgreSQL backend together.
"""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from consumers.assessing import Catalogues, assess_proven, assess_stored
from consumers.verifier import load_trust
from deploy.registration import Registration
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.postgres.sequencing import Sequencing
from streams.logwriter import LogWriter
from streams.sequencer import Sequencer
from streams.signing import KeyRing

from .ledgers import Ledger, fresh_ledger, unwitnessed
from .maps import DEPARTMENTS, LANES, SIZE, Way
from .processes import costs, spent
from .town import TYPES, Town

OF_HOLDER = 5  # certificates, in the mean
BACKEND = "certledger-assess"


@dataclass(frozen=True, slots=True)
class Result:
    """Assessments per processor second; certificates in the ledger, and of a holder in the mean."""

    certificates: int
    of_holder: float
    stored: list[float]
    proven: list[float]


def catalogue() -> bytes:
    """One service that demands ten things, in fifteen lists."""
    names = {"en": "x", "zh": "某"}
    kinds: list[dict[str, Any]] = [
        {"code": code, "names": names, "certificate_type": code} for code in TYPES
    ]
    kinds += [{"code": f"paper-{n}", "names": names} for n in range(6)]
    codes = [kind["code"] for kind in kinds]
    requirements = []
    for n in range(10):
        ways = [[codes[n]], [codes[(n + 5) % 12], codes[(n + 7) % 12]]][: 1 + n % 2]
        lists = [[{"evidence_type": code} for code in way] for way in ways]
        requirements.append({"code": f"r{n}", "names": names, "evidence_type_lists": lists})
    value = {
        "format": "certledger catalogue v1", "code": "town", "publisher": "bench-01", "version": 1,
        "replaces": None, "names": names, "evidence_types": kinds,
        "public_organisations": [{"code": "market", "names": names}],
        "public_services": [
            {"code": "open", "names": names, "competent_authority": "market",
             "requirements": requirements},
        ],
    }  # fmt: skip
    return json.dumps(value).encode()


def run(certificates: int, count: int, runs: int, say: Callable[[str], None]) -> Result:
    """Fill a ledger, publish a catalogue, assess."""
    names = [f"bench-{number:02d}" for number in range(1, DEPARTMENTS + 1)]
    with fresh_ledger(names, LANES, ()) as ledger:
        settings = ledger.settings
        store = Sequencing(connect(settings.postgres, "sequencer", writes=True))
        store.lead()
        writer = LogWriter(settings.kafka, store)
        keys = settings.data_dir / "keys"
        ring = KeyRing.of_files(keys / "checkpoint.key", keys / "cosigner.key")
        sequencer = Sequencer(store, writer, ring, unwitnessed(), ledger.origin)
        sequencer.start()
        people = certificates // OF_HOLDER
        way = Way(ledger, Town(names, LANES, people=people).bundles(SIZE))
        for patient in (store.connection, way.store.connection):  # how long it takes is no matter
            with patient, patient.cursor() as cursor:
                cursor.execute(
                    "SET SESSION transaction_timeout = 0;"
                    "SET SESSION idle_in_transaction_session_timeout = 0; SET lock_timeout = 0"
                )
        begun = 0
        while begun < certificates:
            fetched, begins = way.ready(64)
            way.go(fetched, sequencer)
            begun += begins
        with closing(Registration(settings.postgres, settings.data_dir)) as registration:
            registration.publish_catalogue(catalogue())
        while sequencer.round() is not None:
            pass
        writer.close()
        say(f"{begun} certificates are in")
        del way, fetched
        gc.collect()
        gc.freeze()  # the town's own objects are no part of what is measured
        return Result(begun, *_measure(ledger, people, count, runs, say))


def _measure(
    ledger: Ledger, people: int, count: int, runs: int, say: Callable[[str], None]
) -> tuple[float, list[float], list[float]]:
    draw = random.Random(7)
    connection = connect(ledger.settings.postgres, "assess")
    trust = load_trust(ledger.settings.data_dir / "trust.json")
    reader, known = Reader(connection), Catalogues()
    held = 0

    def stored(pseudonym: str, now: int) -> int:
        with reader.open() as view:
            catalogue = known.find(view, "open", "bench-01/town")
            done = assess_stored(view, catalogue, "open", [pseudonym], now)
        return sum(len(one.met) + len(one.unfit) for one in done.assessment.judged)

    def proven(pseudonym: str, now: int) -> int:
        with reader.open() as view:
            catalogue = known.find(view, "open", "bench-01/town")
            done = assess_proven(view, catalogue, "open", [pseudonym], trust, now)
        return 0 if done.proven is None else len(done.proven.listed.certificates)

    rates: dict[str, list[float]] = {"stored": [], "proven": []}
    for _ in range(runs):
        for name, ask, times in (("stored", stored, count), ("proven", proven, count // 50)):
            before = _costs(ledger)
            for _ in range(times):
                pseudonym = f"1:{sha256(b'%d' % draw.randrange(people)).hexdigest()}"
                found = ask(pseudonym, time.time_ns() // 1000)
                held += found if name == "proven" else 0
            own = sum(cost.seconds for cost in spent(before, _costs(ledger)).values())
            rates[name].append(times / own)
            say(f"{name}: {times / own:.0f} assessments per processor second")
    return held / (runs * (count // 50)), rates["stored"], rates["proven"]


def _costs(ledger: Ledger) -> dict[str, Any]:
    """What this process and its own backend have cost."""
    programs = ledger.stack.status()["programs"]
    pids = {name: program["pid"] for name, program in programs.items() if name == "postgres"}
    found = costs(pids, ledger.connection)
    ours = ("load and receipts (bench)", f"postgres: {BACKEND}")
    return {name: cost for name, cost in found.items() if name in ours}
