"""Two switches at each numbered step: did it fail, and was it done all the same?

The steps are not written down here. A round of everything behind the SDK (worker, sequencer, relay,
follower) is watched once, and each transaction that wrote and each record that went to Kafka in it
is a step. Each is then made to fail, with and without having been done, and what was at work goes
on in one of three ways. Afterwards everything is run to its end, and nothing is lost or doubled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg2
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError
from psycopg2.extensions import connection as Connection

from consumers import fsck
from ledger import statuslist, times, topics
from ledger.errors import LedgerError
from ledger.kafka_address import client_settings
from ledger.postgres import connection as connections
from ledger.postgres.connection import connect
from ledger.postgres.following import Following
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Fetched, Store
from streams import logwriter
from streams.follower import Clock, Follower, system_clock
from streams.intake import Intake
from streams.kafka_topics import create_topics
from streams.logwriter import LogWriter, make_producer
from streams.relay import Relay
from streams.sequencer import Sequencer
from streams.settings import Settings
from tests import world
from tests.stored_ledger import RING, Registrar, make_ledger, query, unwitnessed
from tests.switching import Step, Switch

STATUS_LIST_KEY = world.signer(statuslist.key_name(world.ORIGIN))


SWITCH = Switch()


def who_asks() -> str:
    """The method of ours that commits or sends."""
    frame = sys._getframe(2)
    while True:
        name, code = frame.f_globals["__name__"], frame.f_code
        ours = name.startswith(("ledger.postgres.", "streams.")) and code.co_name != "__call__"
        if ours and name != connections.__name__:
            return code.co_qualname
        assert frame.f_back is not None
        frame = frame.f_back


class Breaking(Connection):
    """A connection whose commits are steps, when they commit anything."""

    def commit(self) -> None:
        with self.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
            (writes,) = cursor.fetchone() or (False,)
        if writes:
            SWITCH.reach(who_asks(), super().commit, super().rollback, psycopg2.OperationalError)
        else:
            super().commit()


class BreakingProducer:
    """A real producer whose sends are steps: acknowledged, or not sent at all."""

    def __init__(self, *args: Any) -> None:
        self._real = make_producer(*args)

    def send(self, topic: str, **record: Any) -> Any:
        def do() -> Any:
            future = self._real.send(topic, **record)
            if SWITCH.on:
                future.get(60)
            return future

        name = f"{who_asks()} to {topic.split('.')[1]}"
        return SWITCH.reach(name, do, lambda: None, KafkaTimeoutError)

    def flush(self, **options: Any) -> None:
        self._real.flush(**options)

    def close(self, **options: Any) -> None:
        self._real.close(**options)


class Place:
    """A ledger, its topics, and a department that publishes."""

    def __init__(self, postgres: str, kafka: str) -> None:
        self.settings = Settings.from_environment(
            {
                "CERTLEDGER_KAFKA": kafka,
                "CERTLEDGER_POSTGRES": postgres,
                "CERTLEDGER_DATA": "unused",
            }
        )
        make_ledger(postgres)
        create_topics(kafka, 1)
        self.registrar = Registrar(Store(connect(postgres, "test")))
        self.lane = self.registrar.add_department("a")[0]
        self.registrar.set_type(("a", world.ALL_ACTS, "own"))
        self.producer: Any = make_producer(kafka, "test")
        self.events = self.bundles = 0
        self.making: dict[str, Callable[[], Actor]] = {
            "worker": lambda: Worker(self.settings),
            "sequencer": lambda: Signs(self.settings),
            "relay": lambda: Relays(self.settings),
            "follower": lambda: Follows(self.settings, self.clock),
        }

    def close(self) -> None:
        self.producer.close()
        self.registrar.store.connection.close()

    def clock(self) -> int:
        """The follower's: each bundle is an hour later, so that its list is due to be signed."""
        return system_clock() + self.bundles * 3600 * times.SECOND

    def publish(self) -> None:
        """A bundle, a record that is none, and the bundle again."""
        now = system_clock()
        lines = [
            world.make_event("issued", f"n{self.events + n}", change=f"c{self.events + n}")
            for n in range(3)
        ]
        record = self.lane.make(lines, now)
        for value in (record, b"no bundle", record):
            self.producer.send(topics.EVENTS, key=b"a/0", value=value).get(60)
        self.events += len(lines)
        self.bundles += 1

    def run(self, names: Iterable[str]) -> None:
        """New programs, each until there is nothing left to do."""
        for name in names:
            actor = self.making[name]()
            actor.run()
            actor.close()

    def check(self) -> None:
        connection = connect(self.settings.postgres, "fsck")
        try:
            assert query(connection, "SELECT count FROM tally WHERE name = 'admitted'") == [
                (self.events,)
            ]
            assert query(
                connection, "SELECT outcome, count(*) FROM accounting GROUP BY 1 ORDER BY 1"
            ) == [
                ("dead-letter", self.bundles),
                ("logged", self.bundles),
                ("repeat", self.bundles),
            ]
            checked: dict[str, int] = {}
            assert fsck.run(connection, self.settings.kafka, checked=checked) == []
            # a receipt may come twice, never less than once for the bundle and for its repeat
            assert checked["receipts"] >= self.bundles
        finally:
            connection.close()


class Actor:
    """One running program: `run` does all that is due."""

    def run(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Worker(Actor):
    def __init__(self, settings: Settings) -> None:
        self.intake = Intake(settings)
        self.kafka = settings.kafka

    def run(self) -> None:
        (begin,) = self.intake.positions([0]).values()
        self.intake.apply(self.intake.open(fetch(self.kafka, begin)))

    def close(self) -> None:
        self.intake._store.connection.close()
        self.intake._watch._admin.close()


class Signs(Actor):
    def __init__(self, settings: Settings) -> None:
        self.store = Sequencing(connect(settings.postgres, "test"))
        self.writer = LogWriter(settings.kafka, self.store)
        self.sequencer = Sequencer(self.store, self.writer, RING, unwitnessed(), world.ORIGIN)
        self.store.lead()
        self.sequencer.start()

    def run(self) -> None:
        while self.sequencer.round() is not None:
            pass

    def close(self) -> None:
        self.writer.close()
        self.store.connection.close()


class Relays(Actor):
    def __init__(self, settings: Settings) -> None:
        self.store = Sequencing(connect(settings.postgres, "test"))
        self.producer: Any = logwriter.make_producer(settings.kafka, "test")
        self.relay = Relay(self.store, self.producer)

    def run(self) -> None:
        while self.relay.round():
            pass

    def close(self) -> None:
        self.producer.close()
        self.store.connection.close()


class Follows(Actor):
    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.store = Following(connect(settings.postgres, "test"), bytes(32), "")
        self.store.lead()
        self.follower = Follower(self.store, STATUS_LIST_KEY, clock)

    def run(self) -> None:
        while self.follower.round():
            pass

    def close(self) -> None:
        self.store.connection.close()


def fetch(kafka: str, begin: int) -> list[Fetched]:
    """All intake records from an offset on."""
    place = TopicPartition(topics.EVENTS, 0)
    consumer: Any = KafkaConsumer(**client_settings(kafka), enable_auto_commit=False)
    try:
        consumer.assign([place])
        (end,) = consumer.end_offsets([place]).values()
        consumer.seek(place, begin)
        found: list[Fetched] = []
        while begin + len(found) < end:
            for record in consumer.poll(timeout_ms=200).get(place, []):
                found.append(Fetched(0, record.offset, record.value))
        return found
    finally:
        consumer.close()


@pytest.fixture(scope="module")
def place(module_database_url: str, own_topics: str) -> Iterator[Place]:
    real = psycopg2.connect

    def connect_breaking(*args: Any, **options: Any) -> Connection:
        return real(*args, connection_factory=Breaking, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections.psycopg2, "connect", connect_breaking)
        patch.setattr(logwriter, "make_producer", BreakingProducer)
        made = Place(module_database_url, own_topics)
        made.run(made.making)
        yield made
        made.close()


@pytest.fixture(scope="module")
def steps(place: Place) -> dict[str, list[Step]]:
    """By program, what one undisturbed round of everything does, in order."""
    place.publish()
    found = {}
    for name, make in place.making.items():
        actor = make()
        SWITCH.watch()
        actor.run()
        SWITCH.on = False
        actor.close()
        found[name] = SWITCH.steps()
    place.check()
    return found


def test_every_program_has_its_steps(steps: dict[str, list[Step]]) -> None:
    """What the tests below go through, so that a step which is not watched any more is missed."""
    assert {name: {what for what, _ in found} for name, found in steps.items()} == {
        "worker": {"Store._apply"},
        "sequencer": {
            "Sequencing._try_status",
            "Sequencing.advance",
            "Sequencing.keep_checkpoint",
            "LogWriter._send to log",
            "Sequencing.acknowledged",
            "Sequencing.publish",
        },
        "relay": {
            "Relay._send to receipts",
            "Relay._send to lanes",
            "Relay._send to dead-letters",
            "Sequencing.move_relay",
        },
        "follower": {"Following._take", "Following.make_list"},
    }


@pytest.mark.parametrize("how", ["same retry", "other retry", "restart"])
@pytest.mark.parametrize("stored", [False, True], ids=["failed", "failed but stored"])
@pytest.mark.parametrize("program", ["worker", "sequencer", "relay", "follower"])
def test_a_step_that_fails_loses_and_doubles_nothing(
    place: Place, steps: dict[str, list[Step]], program: str, stored: bool, how: str
) -> None:
    before = list(place.making)[: list(place.making).index(program)]
    for step in steps[program]:
        place.publish()
        place.run(before)
        actor = place.making[program]()
        SWITCH.watch(step, stored)
        with pytest.raises(LedgerError, match="injected"):
            actor.run()
        SWITCH.on = False
        if how == "other retry":
            place.run([program])
        if how != "restart":  # it may refuse to go on, and must not do harm
            go_on(actor)
        actor.close()
        place.run([program])
    place.run(place.making)
    place.check()


def go_on(actor: Actor) -> None:
    try:
        actor.run()
    except LedgerError:
        return
