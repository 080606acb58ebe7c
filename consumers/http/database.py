"""The blocking database behind the event loop: a few threads, a queue that is not endless."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor

from ledger.errors import Unavailable
from ledger.postgres.pool import Pool
from ledger.postgres.reader import View

MAX_WAITING = 256

T = TypeVar("T")


class Database:
    """Reads on as many threads as there may be connections."""

    def __init__(self, url: str, connections: int) -> None:
        self._pool = Pool(url, "http")
        self._threads = ThreadPoolExecutor(connections, "database")
        self._waiting = 0

    async def read(self, work: Callable[[Cursor], T]) -> T:
        """What `work` returns on its thread; Unavailable where too many wait already."""
        return await self._run(lambda: self._pool.read(work))

    async def view(self, work: Callable[[View], T]) -> T:
        """The same for questions to the published ledger as of one moment."""
        return await self._run(lambda: self._pool.view(work))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("unreachable", f"{MAX_WAITING} questions wait already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish what runs and end the connections."""
        self._threads.shutdown(cancel_futures=True)
        self._pool.close()
