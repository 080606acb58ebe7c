"""Many events of several departments into the ledger: in order, resumable, with every outcome.

Events about one certificate by different departments wait for each other's receipts, because
their lanes are independent. A journal remembers what became of each event, so that going on after
a kill judges nothing twice: an event that was refused might be possible by now.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TextIO

from ledger.entry import ADMITTED
from ledger.errors import LedgerError, Malformed, Unavailable

from .config import PublisherConfig
from .lines import Line
from .link import Link
from .publisher import REPEAT, EventReceipt, Publisher

_FORM = "certledger journal v1"
LOG_SECONDS = 10.0  # between lines of progress that go into a log


class Environment(Protocol):
    """What the command line's composer hands to each command."""

    @property
    def data(self) -> Path: ...
    @property
    def kafka(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def checkpoint_vkey(self) -> str: ...
    def register(
        self, departments: Sequence[dict[str, Any]], types: Sequence[dict[str, Any]]
    ) -> Sequence[str]: ...
    def publisher_config(self, department: str) -> PublisherConfig: ...


class Journal:
    """What became of the events of one input, by event id; survives a kill of the process.

    Lines `id code` after a first line with the moment of the first run, microseconds. About 100
    bytes of memory for each event that an earlier run got an answer for.
    """

    def __init__(self, path: Path, started: int) -> None:
        self.known: dict[str, str] = {}
        self.started = started
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(os.dup(self._file), "rb") as file:
            first = file.readline()
            whole = len(first)
            if first.endswith(b"\n"):
                self.started = self._first(first, path)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # torn by a kill
                    whole += len(line)
                    event_id, _, code = line.decode("ascii").rstrip().partition(" ")
                    self.known[event_id] = sys.intern(code)
            else:
                whole = 0
        os.ftruncate(self._file, whole)
        if not whole:
            os.write(self._file, f"{_FORM} {started}\n".encode())

    @staticmethod
    def _first(line: bytes, path: Path) -> int:
        form, _, moment = line.decode("ascii", "replace").strip().rpartition(" ")
        if form != _FORM or not moment.isdigit():
            raise Malformed("usage", f"{path} is no journal of ours")
        return int(moment)

    def write(self, results: Sequence[EventReceipt]) -> None:
        """Keep what became of these."""
        data = "".join(f"{r.event_id} {r.code}\n" for r in results).encode()
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(28, "no space left for the whole of it")
        except OSError as err:
            raise Unavailable("spool-failed", f"the journal cannot be written: {err}") from err

    def close(self) -> None:
        os.fsync(self._file)
        os.close(self._file)


@dataclass(slots=True)
class _Slot:
    """The events of one certificate that wait for receipts, and those that wait for them."""

    department: str
    waiting: int = 0
    later: deque[tuple[int, str, Line]] = field(default_factory=deque)


class Feed:
    """Publishes for any department of `env`; counts what becomes of it.

    `published`, `codes` (event counts by code) and `refused()` grow as receipts arrive.
    """

    def __init__(
        self,
        env: Environment,
        *,
        journal: Journal | None = None,
        window: int = 20_000,
        progress: Progress | None = None,
        linger_seconds: float = 0.05,
        max_events: int = 1000,
    ) -> None:
        self._env = env
        self._journal = journal
        self._window = window
        self._progress = progress
        self._options: dict[str, Any] = {
            "linger_seconds": linger_seconds,
            "max_events": max_events,
            "window": window,
            "take_over": True,
            "on_outcome": self._outcome,
        }
        self._link: Link | None = None
        self._publishers: dict[str, Publisher] = {}
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[int, bytes]] = {}
        self._slots: dict[bytes, _Slot] = {}
        self._released: deque[bytes] = deque()
        self._deferred = 0
        self._early: dict[str, str] = {}  # answered before this run read them
        self._code_names: list[str] = []
        self._refused_places = array("Q")
        self._refused_codes = array("B")
        self.published = 0
        self.codes: Counter[str] = Counter()

    def publisher(self, department: str) -> Publisher:
        """The publisher of a department, opened when first needed."""
        publisher = self._publishers.get(department)
        if publisher is None:
            config = self._env.publisher_config(department)
            if self._link is None:
                # One connection for all: their keys are in one folder, signatures tell them apart.
                self._link = Link(config.kafka_address(self._env.kafka))
            publisher = Publisher(config, link=self._link, **self._options)
            self._publishers[department] = publisher
        return publisher

    def put(self, place: int, department: str, made: Line) -> None:
        """Publish a line that stands at `place` in its input; waits while the window is full."""
        self._release()
        self._check()
        self.published += 1
        with self._lock:
            known = self._early.get(made.id)
            if known is None and self._journal is not None:
                known = self._journal.known.get(made.id)
            if known is not None:
                self._count(place, known)
                return
            twice = made.id in self._pending
            slot = self._slots.get(made.key)
            if slot is None:
                slot = self._slots[made.key] = _Slot(department)
            elif slot.department != department or slot.later:
                slot.later.append((place, department, made))
                self._deferred += 1
            if not slot.later and not twice:
                slot.waiting += 1
                self._pending[made.id] = (place, made.key)
            deferred = bool(slot.later)
        if deferred:
            while self._deferred >= self._window:
                self._idle()
        else:
            future = self.publisher(department).publish_line(made)
            if twice:
                future.add_done_callback(lambda done: self._count_future(place, done))
        if self._progress is not None:
            self._progress.show(self)

    @property
    def answered(self) -> int:
        """Events with an outcome."""
        return sum(self.codes.values())

    @property
    def admitted(self) -> int:
        """Events that the ledger holds, in this run or from before."""
        return self.codes[ADMITTED] + self.codes[REPEAT]

    def refused(self) -> dict[str, int]:
        """Event counts by refusal code."""
        return {
            code: count
            for code, count in sorted(self.codes.items())
            if code not in (ADMITTED, REPEAT)
        }

    def refused_places(self) -> list[tuple[int, str]]:
        """(place, code) of each refused event, ascending."""
        with self._lock:
            return sorted(
                (place, self._code_names[code])
                for place, code in zip(self._refused_places, self._refused_codes, strict=True)
            )

    def wait(self) -> None:
        """Return when every event has its receipt; raises what stopped a publisher."""
        while (
            self._pending
            or self._deferred
            or any(publisher.outstanding for publisher in self._publishers.values())
        ):
            self._idle()

    def flush(self) -> None:
        """Return when every event is in the spool and in Kafka."""
        while self._deferred:
            self._idle()
        for publisher in self._publishers.values():
            publisher.flush()

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Stop; events without a receipt stay in their spools."""
        for publisher in self._publishers.values():
            try:
                publisher.close(timeout_seconds)
            except LedgerError as err:
                if err.code != "unreachable":
                    print(f"certledger: {err.message}", file=sys.stderr)
        if self._link is not None:
            self._link.close()
        if self._journal is not None:
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._progress is not None:
            self._progress.end()

    def _check(self) -> None:
        for publisher in self._publishers.values():
            if publisher.rejected is not None:
                raise publisher.rejected

    def _idle(self) -> None:
        self._release()
        self._check()
        for publisher in self._publishers.values():
            publisher.wait(0)
        if self._progress is not None:
            self._progress.show(self)
        time.sleep(0.02)

    def _release(self) -> None:
        """Publish what waited for another department's receipt."""
        while self._released:
            ready: list[tuple[int, str, Line]] = []
            with self._lock:
                key = self._released.popleft()
                slot = self._slots[key]
                slot.department = slot.later[0][1]
                while slot.later and slot.later[0][1] == slot.department:
                    place, department, made = slot.later.popleft()
                    self._deferred -= 1
                    slot.waiting += 1
                    self._pending[made.id] = (place, key)
                    ready.append((place, department, made))
            for _, department, made in ready:
                self.publisher(department).publish_line(made)

    def _outcome(self, results: Sequence[EventReceipt]) -> None:
        with self._lock:
            if self._journal is not None:
                self._journal.write(results)
            for result in results:
                pending = self._pending.pop(result.event_id, None)
                if pending is None:
                    self._early[result.event_id] = sys.intern(result.code)
                    continue
                place, key = pending
                self._count(place, result.code)
                slot = self._slots[key]
                slot.waiting -= 1
                if not slot.waiting:
                    if slot.later:
                        self._released.append(key)
                    else:
                        del self._slots[key]

    def _count_future(self, place: int, done: Future[EventReceipt]) -> None:
        if done.exception() is None:
            with self._lock:
                self._count(place, done.result().code)

    def _count(self, place: int, code: str) -> None:
        self.codes[code] += 1
        if code not in (ADMITTED, REPEAT):
            if code not in self._code_names:
                self._code_names.append(code)
            self._refused_places.append(place)
            self._refused_codes.append(self._code_names.index(code))


class Counts(Protocol):
    """What a line of progress says."""

    @property
    def answered(self) -> int: ...
    @property
    def admitted(self) -> int: ...

    published: int


class Progress:
    """One line on a terminal, rewritten a few times a second; elsewhere a line now and then."""

    def __init__(self, label: str, total: int | None, out: TextIO = sys.stderr) -> None:
        self._label = label
        self._total = total
        self._out = out
        self._terminal = out.isatty()
        self._begin = time.monotonic()
        self._next = 0.0 if self._terminal else self._begin + LOG_SECONDS
        self._shown = False

    def show(self, feed: Counts) -> bool:
        """Rewrite the line when it is time to; whether it was."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + (0.2 if self._terminal else LOG_SECONDS)
        answered = feed.answered
        of = f" of {self._total:,}" if self._total is not None else ""
        rate = answered / max(now - self._begin, 0.1)
        refused = answered - feed.admitted
        line = (
            f"{self._label}: {feed.published:,}{of} published, {feed.admitted:,} admitted, "
            f"{refused:,} refused, {rate:,.0f}/s"
        )
        self._out.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._out.flush()
        self._shown = self._terminal
        return True

    def end(self) -> None:
        """Leave the line as it stands."""
        if self._shown:
            self._out.write("\n")
            self._out.flush()
            self._shown = False
