"""What keeping the status maps costs: the same ledger at its size, with them and without, in turns.

One process does steps 4 to 7 one after the other, as in `stages`, so that the two rates differ by
the maps alone: folding, hashing, what is folded in the turn, their tiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from psycopg2.extensions import connection as Connection

from ledger import topics
from ledger.fast_events import parse_lines
from ledger.postgres.connection import connect
from ledger.postgres.maps import Maps
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Fetched, Store
from ledger.sequencing import Cadence
from streams.kafka_topics import describe_topic
from streams.logwriter import LogWriter
from streams.sequencer import Sequencer
from streams.signing import KeyRing

from .ledgers import Ledger, fresh_ledger, stack_costs, unwitnessed
from .processes import spent
from .town import Town

SIZE = 1000  # events of a bundle
PER_TURN = 8  # bundles
DEPARTMENTS, LANES = 4, 2


@dataclass(frozen=True, slots=True)
class Phase:
    """Events per second, and processor microseconds per event of this process and the servers."""

    rate: float
    cost: float


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    records: int  # of both maps
    with_maps: list[Phase]
    without: list[Phase]
    states: int  # status entries with maps in the phases with them
    load_seconds: float
    bytes_per_record: float


class _NoMaps(Maps):
    """Takes nothing in."""

    def take(self, index: int, entry: bytes, deltas: tuple[bytes, bytes] | None) -> None:
        pass

    def catch_up(self, connection: Connection, end: int) -> None:
        pass


class _Never(Cadence):
    def is_due(self, now: float) -> bool:
        return False


class Way:
    """Steps 4 to 7 for portions of bundles; step 6 by any of several sequencers."""

    def __init__(self, ledger: Ledger, made: Iterator[tuple[str, int, list[bytes], int]]) -> None:
        self._ledger, self._made = ledger, made
        settings = ledger.settings
        self.store = Store(connect(settings.postgres, "worker", writes=True), parse_lines)
        self._topic_id, partitions = describe_topic(settings.kafka, topics.EVENTS)
        self.store.offsets(self._topic_id, partitions)
        self._offset = 0

    def ready(self, count: int) -> tuple[list[Fetched], int]:
        """The next `count` bundles, signed, and how many certificates they begin."""
        taken = list(islice(self._made, count))
        signed = self._ledger.sign([(d, lane, lines) for d, lane, lines, _ in taken])
        fetched = [Fetched(0, self._offset + n, s.value) for n, s in enumerate(signed)]
        self._offset += len(fetched)
        return fetched, sum(begins for *_, begins in taken)

    def go(self, fetched: list[Fetched], sequencer: Sequencer) -> Phase:
        """Take bundles through all steps."""
        begin, before = time.perf_counter(), stack_costs(self._ledger)
        for first in range(0, len(fetched), PER_TURN):
            batch = [self.store.open(one) for one in fetched[first : first + PER_TURN]]
            done = self.store.apply(self._topic_id, batch)
            if done.refused or done.outcomes != {"logged": len(batch)}:
                raise AssertionError(f"{done}")
            sequencer.round()
        seconds, events = time.perf_counter() - begin, len(fetched) * SIZE
        own = sum(cost.seconds for cost in spent(before, stack_costs(self._ledger)).values())
        return Phase(events / seconds, own / events * 1e6)


def run(certificates: int, phase_bundles: int, phases: int, say: Callable[[str], None]) -> Result:
    """Fill a ledger, then measure phases with and without maps in turns."""
    names = [f"bench-{number:02d}" for number in range(1, DEPARTMENTS + 1)]
    with fresh_ledger(names, LANES, ()) as ledger:
        settings = ledger.settings
        store = Sequencing(connect(settings.postgres, "sequencer", writes=True))
        store.lead()
        writer = LogWriter(settings.kafka, store)
        keys = settings.data_dir / "keys"
        ring = KeyRing.of_files(keys / "checkpoint.key", keys / "cosigner.key")
        keeping = Sequencer(store, writer, ring, unwitnessed(), ledger.origin)
        keeping.start()
        bare: Any = Sequencer(store, writer, ring, unwitnessed(), ledger.origin)
        bare._loaded, bare._cadence = _NoMaps(), _Never()
        way = Way(ledger, Town(names, LANES).bundles(SIZE))
        begun = 0
        while begun < certificates:
            fetched, begins = way.ready(64)
            way.go(fetched, keeping)
            begun += begins
        say(f"{begun} certificates are in")
        phases_done: dict[bool, list[Phase]] = {True: [], False: []}
        states = 0
        for number in range(2 * phases):
            with_maps = number % 2 == 0
            if with_maps:
                way.go(way.ready(1)[0], keeping)  # catches up with the phase before
                keeping._maps.heads()
            fetched, _ = way.ready(phase_bundles)
            before = _states(ledger)
            done = way.go(fetched, keeping if with_maps else bare)
            phases_done[with_maps].append(done)
            states += _states(ledger) - before
            say(
                f"{'with' if with_maps else 'without'} maps: {done.rate:.0f} events/s, "
                f"{done.cost:.1f} µs of processor per event"
            )
        way.go(way.ready(1)[0], keeping)
        while keeping.round() is not None:
            pass
        writer.close()
        resident = _resident()
        begin = time.perf_counter()
        loaded = Maps.load(store.connection)
        seconds = time.perf_counter() - begin
        records = loaded.records
        memory = (_resident() - resident) / records
        return Result(records, phases_done[True], phases_done[False], states, seconds, memory)


def _states(ledger: Ledger) -> int:
    with ledger.connection, ledger.connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM status WHERE maps")
        return int((cursor.fetchone() or (0,))[0])


def _resident() -> int:
    """This process's memory in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
