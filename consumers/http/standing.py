"""How the ledger stands as its parts say it: PostgreSQL, Kafka, the disk; kept for a moment."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor

from consumers.intake_ends import Ends, IntakeEnds
from ledger.errors import LedgerError
from ledger.postgres.operating import Example, Operating, Standing

from .database import Database
from .problems import log_error

T = TypeVar("T")

KEPT_SECONDS = 3.0  # who asks more often gets the same again


@dataclass(frozen=True, slots=True)
class Seen:
    """What could be read; what could not is None."""

    standing: Standing | None
    ends: Ends | None
    disk: tuple[int, int] | None  # bytes: of all, free for us

    @property
    def lag(self) -> dict[int, int] | None:
        """Records that were not taken yet, by partition of the intake topic as it is now."""
        if self.standing is None or self.ends is None:
            return None
        return self.ends.lag(self.standing.offsets)


class Watch:
    """Looks when asked, once for all who ask within KEPT_SECONDS."""

    def __init__(self, database: Database, kafka: str | None, data: Path | None) -> None:
        """Nothing is connected before somebody asks; without `kafka` no lag is known."""
        self._database = database
        self._operating = Operating()
        self._lock = asyncio.Lock()  # around `_operating`, which is one thread's at a time
        self.has_kafka = kafka is not None
        self._ends = None if kafka is None else IntakeEnds(kafka)
        self._data = data
        self._threads = ThreadPoolExecutor(1, "watch")
        self._kept: tuple[float, Seen] | None = None

    async def look(self) -> Seen:
        """How it stands now, or did a moment ago."""
        async with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
                seen = Seen(
                    *await asyncio.gather(self._standing(), self._read_ends()), self._disk()
                )
                self._kept = (time.monotonic(), seen)
            return self._kept[1]

    async def look_closely(
        self, more: Callable[[Cursor, Standing], T]
    ) -> tuple[Seen, dict[str, list[Example]], T | None]:
        """The same with examples of refused events, and what `more` reads."""
        seen = await self.look()
        standing = seen.standing
        if standing is None:
            return seen, {}, None
        operating = self._operating

        def read(cursor: Cursor) -> tuple[dict[str, list[Example]], T]:
            found = operating.examples(cursor, standing.progress.next_index)
            return found, more(cursor, standing)

        async with self._lock:
            try:
                return seen, *await self._database.read(read)
            except LedgerError as err:
                log_error(err, "standing")
                return seen, {}, None

    async def _standing(self) -> Standing | None:
        try:
            return await self._database.read(self._operating.read)
        except LedgerError as err:
            log_error(err, "standing")
            return None

    async def _read_ends(self) -> Ends | None:
        if self._ends is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._ends.read)
        except LedgerError as err:
            log_error(err, "standing")
            return None

    def _disk(self) -> tuple[int, int] | None:
        if self._data is None:
            return None
        try:
            found = os.statvfs(self._data)
        except OSError:
            return None
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def close(self) -> None:
        """End the connection to Kafka."""
        self._threads.shutdown()
        if self._ends is not None:
            self._ends.close()
