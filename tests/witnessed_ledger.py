"""A ledger whose real sequencer asks witnesses, and older copies of its database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import cast
from urllib.parse import urlsplit

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from ledger.policy import Policy
from ledger.postgres.connection import connect
from ledger.postgres.sequencing import Sequencing
from streams.logwriter import LogWriter
from streams.sequencer import Sequencer, make_witnesses
from tests import world
from tests.stored_ledger import RING, TOPIC, StoredLedger, Topic


class Running:
    """A started sequencer over a database and a policy."""

    def __init__(self, url: str, policy: Policy) -> None:
        self.store = Sequencing(connect(url, "test-witnessed", writes=True))
        self.witnesses = make_witnesses(policy, url)
        writer = cast(LogWriter, Topic())
        self.sequencer = Sequencer(self.store, writer, RING, self.witnesses, world.ORIGIN)
        self.policy = policy

    def start(self) -> Running:
        self.sequencer.start()
        return self

    def publish(self, size: int, seconds: float = 60) -> bytes:
        """Wait until a checkpoint of at least this size is published; its note."""
        end = time.monotonic() + seconds
        while True:
            self.sequencer.publish_due()
            found = self.store.published()
            if found is not None and found[0] >= size:
                return found[1]
            assert time.monotonic() < end, self.witnesses.states()
            self.witnesses.wait(0.05)

    def stays_unpublished(self, size: int, seconds: float = 1.5) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.sequencer.publish_due()
            found = self.store.published()
            assert found is None or found[0] < size
            time.sleep(0.05)

    def problem(self, name: str, words: str, seconds: float = 60) -> None:
        """Wait until a witness stands there with a problem that has these words."""
        end = time.monotonic() + seconds
        while True:
            self.sequencer.publish_due()
            found = {s.name: s.problem or "" for s in self.witnesses.states()}
            if words in found[name]:
                return
            assert time.monotonic() < end, found
            time.sleep(0.05)

    def close(self) -> None:
        self.witnesses.close()
        for thread in self.witnesses._threads:
            if thread.ident is not None:
                thread.join(30)
        self.store.connection.close()


def grow(ledger: StoredLedger, *numbers: str) -> None:
    ledger.send(ledger.make(ledger.issued(*numbers)))


class Copied(StoredLedger):
    """A copy of a ledger's database, used as if it were the ledger."""

    def __init__(self, url: str, original: StoredLedger) -> None:
        self.url = url
        self.origin = original.origin
        self.connection = connect(url, "test-worker", writes=True)
        self.store = type(original.store)(self.connection)
        self.registrar = original.registrar
        self.producers = deepcopy(original.producers)
        self.sequencing = Sequencing(connect(url, "test-sequencer", writes=True))
        self.offsets = {n: o for n, (o, _) in self.store.offsets(TOPIC, [0, 1]).items()}
        self._changes = 10_000


@contextmanager
def copied(original: StoredLedger) -> Iterator[tuple[Copied, Copied]]:
    """A closed ledger, open again, and a copy of it as it is now, dropped at the end."""
    parts = urlsplit(original.url)
    name = f"{parts.path[1:]}_copy"
    admin = psycopg2.connect(parts._replace(path="/postgres").geturl())
    admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    try:
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {parts.path[1:]}")
        both = [
            Copied(url, original)
            for url in (original.url, parts._replace(path=f"/{name}").geturl())
        ]
        try:
            yield both[0], both[1]
        finally:
            for ledger in both:
                ledger.close()
            with admin.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        admin.close()
