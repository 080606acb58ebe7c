"""`python -m streams.follower`: what follows from the published log with time.

Gives every version of a certificate its place in a status list, keeps and signs the lists, and
writes down the notices of ends that the relay then sends. It decides by the clock, and takes
its time: ingest comes first.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable

from ledger import times
from ledger.keys import load_key, passphrase_in, unlock_with
from ledger.logs import FORMAT_VARIABLE, get_log, set_up
from ledger.note import Signer
from ledger.postgres.connection import connect
from ledger.postgres.following import Following, ListRow
from ledger.postgres.migrate import check_schema

from .ending import exit_with_reason, stop_on_signals
from .memory import collect_seldom, map_large_blocks
from .priority import stand_back
from .sequencer import LEAD_WAIT_SECONDS
from .settings import Settings

log = get_log(__name__)

INTERVAL_SECONDS = 0.5
IDLE_SECONDS = 120  # a frozen follower loses the lead, and its connection with it
REST = 3.0  # after work, as many times as long as the work took
LIST_SECONDS = 10  # a list that changed is signed anew at most so often
RENEW_SECONDS = 3600  # an unchanged list is signed anew so often: readers see that it is alive

Clock = Callable[[], int]
"""Microseconds since 1970."""


def system_clock() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


class Follower:
    """The loop's body. A round does what is due by its clock, and is safe to repeat."""

    def __init__(self, store: Following, signer: Signer, clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock

    def round(self) -> bool:
        """Do what is due; whether there may be more."""
        now = self._clock() // times.SECOND * times.SECOND  # lists state whole seconds
        more = self._store.follow(now)
        if self._store.overdue(now):
            return True
        for row in self._store.lists():
            if self._is_due(row, now // times.SECOND):
                self._store.make_list(row.number, row.uri, now, self._signer)
                log.info("status-list-signed", number=row.number)
        return more

    def _is_due(self, row: ListRow, now: int) -> bool:
        if row.tree_size is not None and self._store.position() < row.tree_size:
            return False  # made from more than is followed yet, after an upgrade
        if row.issued_at is None or row.vkey != str(self._signer.key):
            return True
        age = now - row.issued_at
        # below 0: the clock was ahead when it was made
        return age < 0 or age >= (LIST_SECONDS if row.is_changed else RENEW_SECONDS)


def run(settings: Settings, stop: threading.Event, clock: Clock = system_clock) -> None:
    """Wait for the lead, and follow until `stop`."""
    connection = connect(
        settings.postgres, "follower", writes=True, stands_back=True, idle_seconds=IDLE_SECONDS
    )
    check_schema(connection)
    if settings.passphrase_file is not None:
        unlock_with(passphrase_in(settings.passphrase_file))
    signer = load_key(settings.statuslist_key)
    store = Following(connection, secrets.token_bytes(32), settings.status_lists_uri)
    waiting = False
    try:
        while not store.lead():
            if not waiting:
                log.info("another-leads")
            waiting = True
            if stop.wait(LEAD_WAIT_SECONDS):
                return
        follower = Follower(store, signer, clock)
        log.info("started")
        while not stop.is_set():
            begun = time.monotonic()
            if follower.round():
                stop.wait(min((time.monotonic() - begun) * REST, IDLE_SECONDS / 4))
            else:
                stop.wait(INTERVAL_SECONDS)
    finally:
        connection.close()


def main(clock: Clock = system_clock) -> None:
    """Run until a signal comes; exit 70 with the reason on anything else."""
    stand_back()
    set_up("follower", os.environ.get(FORMAT_VARIABLE))
    stop = stop_on_signals()
    map_large_blocks()
    collect_seldom()
    with exit_with_reason(log, "following-stops"):
        run(Settings.from_environment(), stop, clock)


if __name__ == "__main__":
    main()
