"""Where the time goes: the steps of the way of one event, one after the other in one process.

Nothing runs beside it, so a step's share of the wall clock that is not this process's processor
time is PostgreSQL's, Kafka's, or the disk's.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ledger import topics
from ledger.admission import Turn
from ledger.fast_events import parse_lines
from ledger.postgres.connection import connect
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Checked, Fetched, Store
from ledger.postgres.turn_writing import Pieces
from ledger.postgres.view import View
from streams import sequencer as steps
from streams.kafka_topics import describe_topic
from streams.logwriter import LogWriter, make_producer
from streams.relay import Relay
from streams.sequencer import Sequencer
from streams.signing import KeyRing

from .ledgers import fresh_ledger, unwitnessed
from .town import Plan

EVENTS_PER_TURN, BUNDLES_PER_TURN = 8000, 128  # at most

# stage: what is timed; a stage inside another is taken off the outer one
_TIMED: dict[str, tuple[Any, str]] = {
    "step 4: open (note, root, lines, events)": (Store, "open"),
    "step 5: apply, the rest (turn's lock, offsets, commit with fsync)": (Store, "apply"),
    "step 5: current states read": (View, "__init__"),
    "step 5: rules, event by event": (Turn, "take"),
    "step 5: bundles and states to PostgreSQL": (Pieces, "_write"),
    "step 5: lanes, tallies, accounting, and waiting for the former": (Store, "_write"),
    "step 6: status entry": (Sequencing, "append_status"),
    "step 6: read-back and re-hash": (Sequencing, "read_back"),
    "step 6: tiles and head": (steps, "advance"),
    "step 7: sign, log topic, publish": (Sequencer, "_sign"),
    "step 7: receipts and lanes": (Relay, "round"),
}


class Clock:
    """Wall and processor seconds per stage, stages inside others of the same thread taken off."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {name: [0.0, 0.0] for name in _TIMED}
        self._of_thread = threading.local()

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, own = time.perf_counter(), time.thread_time()
            nested: list[list[float]] = self._of_thread.__dict__.setdefault("nested", [])
            nested.append([0.0, 0.0])
            try:
                result = call(*args, **kwargs)
                return list(result) if isinstance(result, Iterator) else result
            finally:
                inner = nested.pop()
                spent = [time.perf_counter() - wall, time.thread_time() - own]
                for i in range(2):
                    self.stages[name][i] += spent[i] - inner[i]
                    if nested:
                        nested[-1][i] += spent[i]

        return timed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the stages while this lasts."""
        kept = [(owner, name, getattr(owner, name)) for owner, name in _TIMED.values()]
        for stage, (owner, name) in _TIMED.items():
            setattr(owner, name, self.wrap(stage, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, call in kept:
                setattr(owner, name, call)


def run(plan: Plan, around: Callable[[], Any] | None = None) -> dict[str, tuple[float, float]]:
    """(wall, processor of this process) in microseconds per event, by stage."""
    with fresh_ledger(plan.departments, plan.lanes, ()) as ledger:
        signed = ledger.sign(plan.bundles)
        settings = ledger.settings
        store = Store(connect(settings.postgres, "worker", writes=True), parse_lines)
        topic_id, partitions = describe_topic(settings.kafka, topics.EVENTS)
        store.offsets(topic_id, partitions)
        sequencing = Sequencing(connect(settings.postgres, "sequencer", writes=True))
        sequencing.lead()
        writer = LogWriter(settings.kafka, sequencing)
        keys = settings.data_dir / "keys"
        ring = KeyRing.of_files(keys / "checkpoint.key", keys / "cosigner.key")
        sequencer = Sequencer(sequencing, writer, ring, unwitnessed(), ledger.origin)
        sequencer.start()
        relay = Relay(
            Sequencing(connect(settings.postgres, "relay")), make_producer(settings.kafka, "relay")
        )
        clock = Clock()
        per_turn = max(1, min(EVENTS_PER_TURN // plan.size, BUNDLES_PER_TURN))
        with clock.running(), _without_garbage(), around() if around else _nothing():
            for first in range(0, len(signed), per_turn):
                batch: list[Checked] = [
                    store.open(Fetched(0, first + number, record.value))
                    for number, record in enumerate(signed[first : first + per_turn])
                ]
                done = store.apply(topic_id, batch)
                if done.refused or done.outcomes != {"logged": len(batch)}:
                    raise AssertionError(f"{done}")
                sequencer.round()
                while relay.round():
                    pass
        writer.close()
        return {
            name: (wall / plan.events * 1e6, own / plan.events * 1e6)
            for name, (wall, own) in clock.stages.items()
        }


@contextmanager
def _without_garbage() -> Iterator[None]:
    """No search for cycles, as in the worker between two looks."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def _nothing() -> Iterator[None]:
    yield
