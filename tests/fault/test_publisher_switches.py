"""Two switches at each step of the SDK and of a department's outbox, as `test_switches` has them
for what lies behind.

Again the steps are not written down: a round (rows taken, signed, spooled, sent, answered) is
watched once, and each write and sync of a file, each transaction that wrote and each record that
went to Kafka in it is a step. The ledger of the other side is real admission in a thread.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError
from psycopg2.extensions import connection as Connection

from ledger.errors import Conflict, LedgerError
from producers import link, outbox_table, publisher, spool
from producers.outbox import Session
from producers.outbox_table import sql
from tests.memory_view import check_log
from tests.mini_ledger import MiniLedger
from tests.producing import department_with_type
from tests.switching import Step, Switch
from tests.world import TYPE, Book

SWITCH = Switch()
ROUND = ["not-issued", "admitted", "admitted"]  # what becomes of the rows of one round


def who_asks() -> str:
    """The two innermost functions of producers/ that are at work here; empty for others."""
    names: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(names) < 2:
        code = frame.f_code
        if frame.f_globals["__name__"].startswith("producers.") and code.co_name != "_transaction":
            names.insert(0, code.co_qualname)
        frame = frame.f_back  # type: ignore[assignment]
    return " > ".join(names)


def broken_file(text: str) -> OSError:
    return OSError(errno.EIO, text)


class BreakingOs:
    """The module `os`, where writing and syncing are steps."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, handle: int, data: Any) -> int:
        name = f"{who_asks()} writes"
        written: int = SWITCH.reach(name, lambda: os.write(handle, data), int, broken_file)
        return written

    def fsync(self, handle: int) -> None:
        SWITCH.reach(f"{who_asks()} syncs", lambda: os.fsync(handle), int, broken_file)


class Breaking(Connection):
    """A connection whose commits are steps, when they commit anything."""

    def commit(self) -> None:
        with self.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
            (writes,) = cursor.fetchone() or (False,)
        name = who_asks()
        if writes and name:
            SWITCH.reach(name, super().commit, super().rollback, psycopg2.OperationalError)
        else:
            super().commit()


class BreakingProducer(KafkaProducer):  # type: ignore[misc]
    """A producer whose sends are steps: acknowledged, or not sent at all."""

    def send(self, *args: Any, **record: Any) -> Any:
        def do() -> Any:
            future = super(BreakingProducer, self).send(*args, **record)
            if SWITCH.on:
                future.get(60)
            return future

        return SWITCH.reach(who_asks(), do, lambda: None, KafkaTimeoutError)


class Place:
    """A department with an outbox, and the ledger that it publishes to."""

    def __init__(self, kafka: str, url: str, folder: Path) -> None:
        self.kafka, self.url = kafka, url
        book = Book()
        self.config = department_with_type(book, folder)
        self.ledger = MiniLedger(kafka, book)
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True
        self.rounds = 0
        self.rows(sql("outbox"))

    def close(self) -> None:
        self.connection.close()
        self.ledger.close()

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def insert(self) -> None:
        """The rows of a round: the first is refused, and must not be judged again when it could be
        possible; the second has private facts.
        """
        self.rounds += 1
        certificate = f"n{self.rounds}"
        private = json.dumps({"owner": "王伟"})
        for event, number, reason, facts in (
            ("suspended", certificate, "x", None),
            ("issued", certificate, None, private),
            ("issued", f"m{self.rounds}", None, None),
        ):
            self.rows(
                "INSERT INTO certledger.outbox (change_id, event, certificate_type_code, "
                "certificate_number, reason_code, private) VALUES (%s, %s, %s, %s, %s, %s)",
                *(f"{event} {number}", event, TYPE, number, reason, facts),
            )

    def open(self) -> Session:
        return Session(
            self.config,
            self.kafka,
            self.url,
            lambda table, results: table.answer(results, ()),
            linger_seconds=0.2,
        )

    def run(self, session: Session) -> None:
        """All that is due, to its end."""
        session.resume()
        end = time.monotonic() + 40
        while self.rows("SELECT id FROM certledger.outbox WHERE outcome IS NULL"):
            session.round()
            assert time.monotonic() < end
            time.sleep(0.02)
        while not session.publisher.wait(0.02):  # the spool lets go after the outcome
            assert time.monotonic() < end

    def check(self) -> None:
        found = self.rows("SELECT outcome FROM certledger.outbox ORDER BY number")
        assert [code for (code,) in found] == ROUND * self.rounds
        places = "SELECT count(DISTINCT (log_index, log_position)) FROM certledger.outbox"
        assert self.rows(places) == [(3 * self.rounds,)]
        assert self.ledger.admitted() == 2 * self.rounds
        assert {done.outcome for done in self.ledger.outcomes} <= {"logged", "repeat"}
        check_log(self.ledger.view)
        refused = (self.config.folder / "refused.ndjson").read_text().splitlines()
        assert len({json.loads(line)["line"]["id"] for line in refused}) == self.rounds
        shown = (self.config.folder / "disclosures.ndjson").read_text().splitlines()
        assert len(set(shown)) == self.rounds


@pytest.fixture(scope="module")
def place(
    module_database_url: str, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    real = psycopg2.connect

    def connect_breaking(*args: Any, **options: Any) -> Connection:
        return real(*args, connection_factory=Breaking, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox_table.psycopg2, "connect", connect_breaking)
        patch.setattr(link, "KafkaProducer", BreakingProducer)
        for module in (spool, publisher):
            patch.setattr(module, "os", BreakingOs())
        made = Place(kafka_bootstrap, module_database_url, tmp_path_factory.mktemp("sdk"))
        made.insert()
        with made.open() as session:  # makes the spool, says its first heartbeat
            made.run(session)
        yield made
        made.close()


@pytest.fixture(scope="module")
def steps(place: Place) -> list[Step]:
    """What one undisturbed round does."""
    place.insert()
    SWITCH.watch()
    with place.open() as session:
        place.run(session)
    SWITCH.on = False
    place.check()
    return SWITCH.steps()


def test_the_sdk_has_its_steps(steps: list[Step]) -> None:
    """What the test below goes through, so that a step which is not watched any more is missed."""
    assert {what for what, _ in steps} == {
        "Spool.__init__ > Spool._open syncs",
        "OutboxTable.take > OutboxTable._take",
        "Publisher._send_new > Publisher._write_down writes",
        "Publisher._send_new > Publisher._write_down syncs",
        "Spool.write > Spool._append writes",
        "Spool.write > Spool._sync syncs",
        "Publisher._send > Link.send",
        "Publisher._take_receipt > Publisher._write_down writes",
        "Publisher._take_receipt > Publisher._write_down syncs",
        "Session._answer > OutboxTable.answer",
        "Spool.release > Spool._append writes",
    }


@pytest.mark.parametrize("how", ["same retry", "other retry", "restart"])
@pytest.mark.parametrize("stored", [False, True], ids=["failed", "failed but stored"])
def test_a_step_that_fails_loses_and_doubles_nothing(
    place: Place, steps: list[Step], stored: bool, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in steps:
        place.insert()
        SWITCH.watch(step, stored)
        session = opened(place)
        try_on(session, place)
        assert SWITCH.fails is None, f"{step} was not reached"
        SWITCH.on = False
        if session is not None and how == "other retry":  # nobody else may, while it is there
            with monkeypatch.context() as patch:
                patch.setattr(outbox_table, "_LOCK_SECONDS", 0.0)
                with pytest.raises(Conflict):
                    place.open()
        if session is not None and how != "restart":
            try_on(session, place)
        close(session)
        with place.open() as session:
            place.run(session)
        place.check()


def opened(place: Place) -> Session | None:
    try:
        return place.open()
    except LedgerError:
        return None


def try_on(session: Session | None, place: Place) -> None:
    """It may refuse to go on, or mend it by itself, and must not do harm."""
    if session is not None:
        try:
            place.run(session)
        except LedgerError:
            return


def close(session: Session | None) -> None:
    if session is not None:
        session.close()
