"""Worker, sequencer and relay as real processes on real Kafka and PostgreSQL, in one stack.

The tests run in their order: the last ones take topics and database away.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from prometheus_client.parser import text_string_to_metric_families
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, make_dsn, parse_dsn

from ledger import topics
from ledger.bundle import bundle_key_name, format_record
from ledger.checkpoint import parse_checkpoint
from ledger.kafka_address import SCRAM, client_settings, format_credentials, with_credentials
from ledger.note import MemorySigner, sign
from ledger.postgres.connection import connect
from ledger.postgres.roles import MIGRATOR, PROGRAMS
from ledger.postgres.sequencing import Sequencing
from ledger.staterow import number_hash
from streams.kafka_topics import create_topics
from streams.kafka_users import department_user, set_department_user
from tests import world
from tests.http_serving import ROOT, serving
from tests.running_stack import Department, RunningStack, wait_until
from tests.stored_ledger import sequence


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "a", lanes=2)
    stack.registrar.set_type(("a", world.ALL_ACTS, "own"))
    yield made
    made.close()


def read_dead_letters(stack: RunningStack) -> dict[str, tuple[dict[str, bytes], bytes | None]]:
    """Headers and bytes by source."""
    consumer: Any = KafkaConsumer(
        **client_settings(stack.kafka),
        group_id=None,
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    place = TopicPartition(topics.DEAD_LETTERS, 0)
    consumer.assign([place])
    consumer.seek_to_beginning()
    end = consumer.end_offsets([place])[place]
    found = {}
    while consumer.position(place) < end:
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                found[record.key.decode()] = dict(record.headers), record.value
    consumer.close()
    return found


def test_publish_and_receipt(stack: RunningStack, department: Department) -> None:
    names = [department.publish_issued(count) for count in (1, 40, 3)]
    names.append(department.publish([]))  # a heartbeat
    department.settle()
    for name in names:
        # one that was slow to come was asked for again, and then comes twice
        (index,) = {receipt.index for receipt in department.inbox.receipts[name]}
        receipt = department.inbox.receipts[name][0]
        assert set(receipt.outcome) <= {"admitted"}
        assert receipt.size > index
    begun = time.monotonic()
    department.publish_issued(5)
    department.settle()
    assert time.monotonic() - begun < 30
    stack.check()


def test_metrics_are_read_under_the_servers_own_accounts(
    stack: RunningStack, department: Department
) -> None:
    """As PostgreSQL's reader and Kafka's account for HTTP; all that rules and dashboard name."""
    department.publish_issued(3)
    department.settle()
    settings = stack.stack.settings()
    environ = settings.environment("http")
    del environ["CERTLEDGER_HTTP_LISTEN"]
    with serving(environ.pop("CERTLEDGER_POSTGRES"), **environ) as running:
        text = running.get("/metrics").decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    lag = {
        s.labels["partition"]: s.value for s in families["certledger_intake_lag_records"].samples
    }
    assert lag == {"0": 0, "1": 0}
    sessions = families["certledger_program_sessions"].samples
    assert {s.labels["program"] for s in sessions} == {"worker", "sequencer", "relay", "follower"}
    assert all(s.value >= 1 for s in sessions)
    given = {
        # as queries name it
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families.values()
    }
    for path in ("prometheus/certledger.rules.yml", "grafana/certledger.json"):
        named = set(re.findall(r"\bcertledger_[a-z_]+", (ROOT / "deploy" / path).read_text()))
        assert len(named) > 10
        assert named <= given, path
    stack.check()


def test_each_program_works_as_its_own_role(stack: RunningStack) -> None:
    def found() -> dict[str, Any]:
        return dict(
            stack.rows(
                "SELECT DISTINCT application_name, usename FROM pg_stat_activity"
                " WHERE application_name LIKE 'certledger-%' AND application_name NOT LIKE '%test%'"
            )
        )

    wanted = {
        f"certledger-{program}": f"certledger_{role}"
        for program, role in (
            ("worker", "admission"),
            ("sequencer", "sequencer"),
            ("relay", "relay"),
            ("follower", "follower"),
        )
    }
    end = time.monotonic() + 90
    while not wanted.items() <= found().items():
        assert time.monotonic() < end, found()
        time.sleep(0.1)
    for role in (MIGRATOR, *PROGRAMS):
        path = stack.data / "postgres" / f"{role}.passfile"
        assert path.stat().st_mode & 0o777 == 0o600


def test_poison_does_not_stop_the_partition(stack: RunningStack, department: Department) -> None:
    _, record = department.make([department.event("issued", "poisoned")])
    flipped = bytearray(record)
    flipped[-9] ^= 1
    bomb = bytes(10_000_000)
    rng = os.urandom
    poison: dict[str, tuple[bytes | None, str]] = {
        "not a bundle": (b"hello", "malformed-record"),
        "empty": (b"", "malformed-record"),
        "random": (rng(1000), "malformed-record"),
        "tombstone": (None, "malformed-record"),
        "damaged": (bytes(flipped), "lines-do-not-match-note"),
        "a note without its lines": (record[: record.index(b"\n\n")], "malformed-record"),
        "large": (rng(1_500_000), "too-large"),
        "inflates": (bomb, "too-large"),
        "magic and nothing": (b"CLR1" + bytes(4), "malformed-record"),
        "json": (b'{"id":' + b"[" * 100_000, "malformed-record"),
    }
    places = {}
    for name, (value, _) in poison.items():
        sent = department.send(value)
        places[name] = sent.get(30)
    department.send(record)
    department.settle()
    wait_until(lambda: len(read_dead_letters(stack)) >= len(poison))
    letters = read_dead_letters(stack)
    ((topic_id,),) = stack.rows("SELECT DISTINCT topic_id FROM intake")
    for name, (value, code) in poison.items():
        source = f"{topic_id}/{places[name].partition}/{places[name].offset}"
        headers, kept = letters[source]
        assert headers["code"].decode() == code, name
        assert headers["source"].decode() == source
        assert headers["message"]
        if name == "inflates":
            assert kept == bomb[: 1536 * 1024]
            assert headers["length"] == b"10000000"
            assert headers["sha256"].decode() == sha256(bomb).hexdigest()
        else:
            assert kept == value, name
            assert "length" not in headers
    stack.check()


def test_one_departments_credentials_do_nothing_in_anothers_name(
    stack: RunningStack, department: Department, tmp_path: Path
) -> None:
    """What b may write into the intake topic as a: refused at admission, a's lane goes on."""
    stack.registrar.add_department("b")
    set_department_user(stack.kafka, "b", "a password", 1_000_000)
    path = tmp_path / "kafka.json"
    path.touch(mode=0o600)
    path.write_text(format_credentials(SCRAM, department_user("b"), "a password"))
    lines = [department.event("issued", "not mine")]
    text = department.lanes[0].header(lines, time.time_ns() // 1000).text()
    signer = world.signer(bundle_key_name(world.ORIGIN, "b"))
    as_a = MemorySigner.from_seed(bundle_key_name(world.ORIGIN, "a"), bytes(32))
    before = len(read_dead_letters(stack))
    producer: Any = KafkaProducer(**client_settings(with_credentials(stack.kafka, path)))
    for stranger in (signer, as_a):
        record = format_record(sign(text, [stranger]), lines)
        producer.send(topics.EVENTS, key=topics.lane_key("a", 0), value=record).get(30)
    producer.close()
    wait_until(lambda: len(read_dead_letters(stack)) >= before + 2)
    codes = [headers["code"] for headers, _ in list(read_dead_letters(stack).values())[before:]]
    assert codes == [b"unknown-key", b"unknown-key"]
    department.publish([department.event("issued", "mine")])
    department.settle()
    asked = "SELECT count(*) FROM certificate WHERE number_hash = %s"
    assert stack.rows(asked, number_hash("not mine")) == [(0,)]
    stack.check()


def wait_for_receipts(department: Department, name: bytes, count: int) -> None:
    end = time.monotonic() + 90
    while len(department.inbox.receipts.get(name, ())) < count:
        assert time.monotonic() < end
        department.poll()


def test_a_repeat_gets_the_same_entry_again(stack: RunningStack, department: Department) -> None:
    name, record = department.make([department.event("issued", "again")])
    for _ in range(3):
        department.send(record)
    department.settle()
    wait_for_receipts(department, name, 3)
    assert len({r.index for r in department.inbox.receipts[name]}) == 1
    department.send(record)  # and once more, long after
    wait_for_receipts(department, name, 4)
    stack.check()


def test_the_groups_offsets_follow(stack: RunningStack, department: Department) -> None:
    """They decide nothing, and are what shows on others' dashboards."""
    for number in range(5):
        department.publish([department.event("issued", f"followed {number}")])
    department.settle()
    admin: Any = KafkaAdminClient(**client_settings(stack.kafka))

    def follows() -> bool:
        group = "certledger-admission"
        told = admin.list_group_offsets({group: None})[group]
        next_offsets = dict(stack.rows("SELECT partition, next_offset FROM intake"))
        return {place.partition: at.offset for place, at in told.items()} == {
            partition: offset for partition, offset in next_offsets.items() if offset
        }

    try:
        wait_until(follows)
    finally:
        admin.close()


def test_what_a_transaction_aborted_is_skipped(stack: RunningStack, department: Department) -> None:
    """Records of aborted transactions are not admitted, and neither they nor the markers of any
    transaction stand in the way.
    """
    count = "SELECT count(*) FROM accounting WHERE outcome = 'skipped'"
    producer: Any = KafkaProducer(
        **client_settings(stack.kafka), transactional_id="test", transaction_timeout_ms=5000
    )
    producer.init_transactions()
    key = topics.lane_key(department.name, 0)
    name, record = department.make([department.event("issued", "in a transaction")])
    producer.begin_transaction()
    offset = producer.send(topics.EVENTS, key=key, value=record).get(60).offset
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send(topics.EVENTS, key=key, value=record)
    producer.commit_transaction()
    producer.close()
    department.settle()
    receipt = department.inbox.receipts[name][0]
    assert stack.rows(
        "SELECT record_offset FROM accounting WHERE outcome = 'logged' AND log_index = %s",
        receipt.index,
    ) == [(offset + 2,)]
    assert stack.rows(count) == [(2,)]  # the first record and its marker
    department.publish([])  # passes over the second marker
    department.settle()
    assert stack.rows(count) == [(3,)]
    stack.check()


def test_notices(stack: RunningStack, department: Department) -> None:
    lane = department.lanes[0]
    lines = [department.event("issued", "noticed")]
    now = time.time_ns() // 1000

    def send(**members: Any) -> bytes:
        header = lane.header(lines, now, **members)
        department.send(format_record(world.make_note(header), lines))
        return sha256(header.text()).digest()

    notice = department.wait_for_notice("out-of-sequence", send(sequence=lane.sequence + 7))
    assert (notice["want_epoch"], notice["want_sequence"]) == (0, lane.sequence)
    second = send(sequence=0, previous=bytes(32))
    department.wait_for_notice("equivocation", second)
    own, lane.producer = lane.producer, "e" * 32
    fenced = send()
    lane.producer = own
    department.wait_for_notice("fenced", fenced)
    entries = "SELECT count(*) FROM equivocation"
    assert stack.rows(entries) == [(1,)]
    department.send(
        format_record(
            world.make_note(lane.header(lines, now, sequence=0, previous=bytes(32))), lines
        )
    )
    wait_until(
        lambda: (
            stack.rows("SELECT count(*) FROM accounting WHERE outcome = 'equivocation'") == [(2,)]
        )
    )
    assert stack.rows(entries) == [(1,)]
    department.publish_issued(3)
    department.settle()
    stack.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program", ["worker-1", "sequencer", "relay"])
def test_a_program_ends_soon_when_told(
    stack: RunningStack, department: Department, program: str, number: signal.Signals
) -> None:
    before = len(stack.log(program))
    pid = stack.kill(program, number)
    begun = time.monotonic()
    wait_until(lambda: stack.stack.status()["programs"][program]["pid"] != pid)
    assert time.monotonic() - begun < 15, "what the supervisor gives it"
    department.publish_issued(2)
    department.settle()
    said = stack.log(program)[before:]
    assert "Traceback" not in said, said[-3000:]


def test_little_is_said(stack: RunningStack) -> None:
    for program in ("worker-1", "sequencer", "relay"):
        assert len(stack.log(program)) < 100_000, stack.log(program)[-2000:]


# --- what must not go on -------------------------------------------------------------------------


class Databases:
    """Copies and swaps the ledger's database while nobody is connected."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._name = parse_dsn(stack.postgres)["dbname"]
        url = make_dsn(**{**parse_dsn(stack.postgres), "dbname": "postgres"})
        self._admin = psycopg2.connect(url)
        self._admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)

    def do(self, *statements: str) -> None:
        with self._admin.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (self._name,),
            )
            wait_until(self._is_alone)
            for statement in statements:
                cursor.execute(statement.format(ledger=self._name))
            cursor.execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    def _is_alone(self) -> bool:
        with self._admin.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (self._name,)
            )
            return cursor.fetchone() == (0,)


def test_a_later_versions_database_is_written_to_by_none_of_ours(
    stack: RunningStack, department: Department
) -> None:
    stack.rows("INSERT INTO migration (number, name, hash) VALUES (999, 'to_come', '') RETURNING 1")
    for program in ("worker-1", "sequencer", "relay", "follower"):
        begin = len(stack.log(program))
        stack.kill(program)
        stack.wait_for_log(program, "another version of the program (999 to_come)", begin)
    department.publish_issued(5)
    stack.rows("DELETE FROM migration WHERE number = 999 RETURNING 1")
    department.settle()
    stack.check()


def test_an_older_database_is_not_signed_for(stack: RunningStack, department: Department) -> None:
    databases = Databases(stack)
    databases.do("CREATE DATABASE older TEMPLATE {ledger}")
    for _ in range(4):
        department.publish_issued(2)
        department.settle()
    ((published,),) = stack.rows("SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL")
    ((taken,),) = stack.rows("SELECT sum(next_offset)::int FROM intake")
    after = len(stack.log("sequencer"))
    databases.do(
        "ALTER DATABASE {ledger} RENAME TO newer",
        "ALTER DATABASE older RENAME TO {ledger}",
        "ALTER DATABASE newer ALLOW_CONNECTIONS false",
    )
    said = stack.wait_for_log("sequencer", "going-back", after)
    assert f"a checkpoint of size {published} was signed" in said

    # the worker reads the intake again: the older database grows, still nothing is signed
    wait_until(lambda: stack.rows("SELECT sum(next_offset)::int FROM intake")[0][0] >= taken, 40)
    grown = Sequencing(connect(stack.postgres, "test", writes=True))
    while grown.head().size <= published:
        stack.rows("UPDATE allocation SET ledger_time = ledger_time - 700 * 1000000")
        assert sequence(grown) is not None
    grown.connection.close()
    after = len(stack.log("sequencer"))
    stack.wait_for_log("sequencer", "has another root than this database", after)
    ((signed,),) = stack.rows("SELECT max(size) FROM checkpoint")
    assert signed < published

    databases.do(
        "ALTER DATABASE {ledger} RENAME TO forked", "ALTER DATABASE newer RENAME TO {ledger}"
    )
    stack.reconnect()
    department.publish_issued(2)
    department.settle()
    stack.check()


def delete_and_make_again(stack: RunningStack, topic: str) -> None:
    admin = KafkaAdminClient(**client_settings(stack.kafka))
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.list_topics())
    admin.close()
    assert create_topics(stack.kafka, 2) == [topic]


def test_another_log_topic_is_not_written_to(stack: RunningStack, department: Department) -> None:
    after = len(stack.log("sequencer"))
    published = stack.rows("SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL")
    delete_and_make_again(stack, topics.LOG)
    department.publish_issued(2)
    said = stack.wait_for_log("sequencer", "going-back", after)
    assert "the log topic" in said
    time.sleep(1)
    assert published == stack.rows(
        "SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL"
    )
    # nothing is signed at a later start either
    after = len(stack.log("sequencer"))
    assert "and now is" in stack.wait_for_log("sequencer", "going-back", after)
    consumer: Any = KafkaConsumer(**client_settings(stack.kafka), group_id=None)
    place = TopicPartition(topics.LOG, 0)
    assert consumer.end_offsets([place])[place] <= 2
    consumer.close()
    for (note,) in stack.rows("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1"):
        assert parse_checkpoint(note)[0].origin == world.ORIGIN


def test_another_intake_topic_is_not_consumed(stack: RunningStack, department: Department) -> None:
    accounted = stack.rows("SELECT count(*) FROM accounting")
    ((most,),) = stack.rows("SELECT max(next_offset) FROM intake")
    delete_and_make_again(stack, topics.EVENTS)
    after = len(stack.log("worker-1"))
    producer: Any = KafkaProducer(**client_settings(stack.kafka), acks="all")
    for partition in (0, 1):  # so many that offsets alone would not show it
        for _ in range(most + 5):
            producer.send(topics.EVENTS, value=b"of another topic", partition=partition)
    producer.flush()
    producer.close()
    stack.wait_for_log("worker-1", "topic-changed", after)
    time.sleep(3)
    assert stack.rows("SELECT count(*) FROM accounting") == accounted
    assert "this topic's id is" in stack.log("worker-1")[after:] or (
        "topic id changed" in stack.log("worker-1")[after:]
    )
