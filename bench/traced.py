"""`python -m bench.traced PROGRAM`: a program of the ledger that notes when its steps were taken.

PROGRAM is worker, plain (bench.plain_worker), sequencer or relay. A file in the ledger's folder
gets a line of JSON for each step: its name, the second, and what it was about.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Fetched, Store
from streams import app, relay, sequencer, worker
from streams.intake import Intake


class Trace:
    """Steps as they are taken, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def note(self, name: str, *about: Any) -> None:
        """A step, now."""
        self._file.write(json.dumps([name, time.time(), *about]) + "\n")

    def around(
        self,
        owner: Any,
        method: str,
        before: Callable[..., tuple[Any, ...]] | None,
        after: Callable[..., tuple[Any, ...]] | None,
    ) -> None:
        """Note a method's begin and end; what is noted follows from its arguments (and result)."""
        call = getattr(owner, method)

        def traced(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                self.note(*before(*args, **kwargs))
            result = call(*args, **kwargs)
            if after is not None:
                self.note(*after(result, *args, **kwargs))
            return result

        setattr(owner, method, traced)


def trace_file(data: Path, program: str) -> Path:
    """Where a traced program's steps are."""
    return data / f"{program}.trace"


def _spans(records: Sequence[Fetched]) -> list[list[int]]:
    """(partition, first, last) of records."""
    found: dict[int, list[int]] = {}
    for record in records:
        span = found.setdefault(record.partition, [record.partition, record.offset, record.offset])
        span[2] = record.offset
    return list(found.values())


def _fetching(trace: Trace, getmany: Callable[..., Any]) -> Callable[..., Any]:
    async def fetched(*args: Any, **kwargs: Any) -> Any:
        found = await getmany(*args, **kwargs)
        if found:
            spans = []
            for tp, records in found.items():
                first, last = records[0], records[-1]
                if isinstance(first, list):  # parts, as Faust's consumer gives them
                    first, last = first[0], last[-1]
                spans.append([tp.partition, first.offset, last.offset])
            trace.note("fetched", spans)
        return found

    return fetched


def _trace_worker(trace: Trace) -> None:
    take = app.Pipeline.take

    async def taken(self: app.Pipeline, records: Sequence[Fetched]) -> None:
        trace.note("handed over", _spans(records))
        await take(self, records)

    app.Pipeline.take = taken  # type: ignore[method-assign]
    for consumer, method in ((app._Consumer, "_getmany"), (AIOKafkaConsumer, "getmany")):
        setattr(consumer, method, _fetching(trace, getattr(consumer, method)))
    trace.around(
        Intake,
        "open",
        lambda _, records: ("opening begun", _spans(records)),
        lambda _r, _s, records: ("opened", _spans(records)),
    )
    trace.around(
        Store,
        "apply",
        lambda _, _t, batch: ("turn begun", _spans([c.fetched for c in batch])),
        lambda _r, _s, _t, batch: ("committed", _spans([c.fetched for c in batch])),
    )


def main(program: str) -> None:
    """Run the program, traced."""
    trace = Trace(trace_file(Path(os.environ["CERTLEDGER_DATA"]), program))
    if program in ("worker", "plain"):
        _trace_worker(trace)
        if program == "worker":
            worker.main()
        else:
            from . import plain_worker

            plain_worker.main()
    elif program == "sequencer":
        trace.around(sequencer.Sequencer, "round", lambda _: ("round begun",), None)
        trace.around(Sequencing, "append_status", None, lambda size, *_: ("status appended", size))
        trace.around(Sequencing, "publish", None, lambda _r, _s, size, *_: ("published", size))
        sequencer.main(lambda name: trace.note("step", name))
    elif program == "relay":
        trace.around(
            relay.Relay, "_send_receipts", lambda _, size, *_n: ("relay begun", size), None
        )
        trace.around(
            Sequencing,
            "move_relay",
            lambda _, name, position: ("relayed", name, position),
            None,
        )
        relay.main()


if __name__ == "__main__":
    main(sys.argv[1])
