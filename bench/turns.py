"""How much of the time the turn is held, and waited for: the limit of several workers."""

from __future__ import annotations

import threading
from contextlib import closing

from ledger.postgres.connection import connect, transaction

EVERY_SECONDS = 0.1
_SQL = (
    "SELECT bool_or(wait_event_type IS DISTINCT FROM 'Lock'), bool_or(wait_event_type = 'Lock')"
    " FROM pg_stat_activity WHERE application_name = 'certledger-worker' AND xact_start IS NOT NULL"
)


class Turns:
    """Looks at the workers' sessions while it runs."""

    def __init__(self, postgres: str) -> None:
        self._looks = self._held = self._waited = 0
        self._url = postgres
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turns", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with closing(connect(self._url, "bench-turns")) as connection:
            while not self._ended.wait(EVERY_SECONDS):
                with transaction(connection) as cursor:
                    cursor.execute(_SQL)
                    held, waited = cursor.fetchone() or (None, None)
                self._looks += 1
                self._held += bool(held)
                self._waited += bool(waited)

    def close(self) -> tuple[float, float]:
        """The shares of the time in which a worker held the turn, and in which one waited."""
        self._ended.set()
        self._thread.join()
        looks = max(1, self._looks)
        return self._held / looks, self._waited / looks
