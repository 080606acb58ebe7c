"""`certledger doctor` on a running stack: each fault that is cheap to make is found alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from kafka import KafkaProducer

from deploy.doctor import OPEN_SECONDS, Finding, examine, look
from deploy.environment import Environment
from ledger import topics
from ledger.kafka_address import client_settings
from streams.disk import LOOK_SECONDS, VARIABLE
from tests import world
from tests.running_stack import Department, RunningStack, wait_until


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "a")
    stack.registrar.set_type(("a", world.ALL_ACTS, "own"))
    made.publish_issued(2)
    made.settle()
    yield made
    made.close()


@pytest.fixture
def found(stack: RunningStack) -> Callable[[], list[Finding]]:
    return lambda: examine(look(Environment(stack.data)))


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def names_but(findings: list[Finding], thawed: list[str]) -> list[str]:
    """The findings but the ends of programs that were frozen: PostgreSQL ends their transactions,
    and they themselves when they go on. Whether one was amid a transaction is left to chance.
    """
    return [
        finding.name
        for finding in findings
        if not (
            finding.name == "program-ends"
            and finding.detail.partition(":")[0] in thawed
            and "unreachable: PostgreSQL" in finding.detail
        )
    ]


def test_faults_one_by_one(
    stack: RunningStack,
    department: Department,
    found: Callable[[], list[Finding]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found() == []

    key = stack.data / "keys" / "operator.key"
    key.chmod(0o640)
    (finding,) = found()
    assert (finding.name, finding.detail) == ("key-files-open", "keys/operator.key")
    key.chmod(0o600)

    monkeypatch.setenv(VARIABLE, "99%,2GB")
    assert names(found()) == ["disk-nearly-full"]
    monkeypatch.delenv(VARIABLE)

    moved = "UPDATE migration SET number = %s WHERE number = %s"
    # one with which no earlier program goes on
    ((last,),) = stack.rows("SELECT max(number) FROM migration WHERE enough IS NULL")
    stack.rows(moved, 9999, last)
    assert names(found())[:2] == ["schema-older", "schema-newer"]
    stack.rows(moved, last, 9999)
    assert found() == []


def test_a_transaction_left_open(stack: RunningStack, department: Department) -> None:
    producer: Any = KafkaProducer(
        **client_settings(stack.kafka), transactional_id="left-open", transaction_timeout_ms=10_000
    )
    producer.init_transactions()
    producer.begin_transaction()
    place = producer.send(topics.EVENTS, b"never committed", partition=0).get(30)
    seen = look(Environment(stack.data))
    (held,) = seen.transactions
    assert (held.partition, held.offset) == (0, place.offset)
    assert held.seconds < OPEN_SECONDS  # Kafka ends it after 10 s here, after hours elsewhere
    later = replace(seen, transactions=[replace(held, seconds=OPEN_SECONDS)])
    assert "open-transaction" in names(examine(later))
    producer.abort_transaction()
    producer.close()
    department.publish_issued(1)
    department.settle()
    assert look(Environment(stack.data)).transactions == []


def test_intake_waits_for_room_on_the_disk(stack: RunningStack, department: Department) -> None:
    taken = "SELECT sum(next_offset) FROM intake"
    before = stack.rows(taken)
    written = len(stack.log("worker-1"))
    path = stack.data / "disk"
    path.write_text("1000000000")
    time.sleep(2 * LOOK_SECONDS)  # what it saw before counts for so long
    department.publish_issued(3)
    department.producer.flush()
    waiting = stack.wait_for_log("worker-1", "intake-waits", written)
    assert "1.0 of " in waiting
    time.sleep(3)
    assert stack.rows(taken) == before
    assert department.pending
    pid = stack.pid("worker-1")
    path.unlink()
    department.settle()
    assert stack.rows(taken) > before
    assert "intake-goes-on" in stack.log("worker-1")[written:]
    assert stack.pid("worker-1") == pid, "nothing ended for it"
    stack.check()


def test_frozen_and_ended_programs(
    stack: RunningStack, department: Department, found: Callable[[], list[Finding]]
) -> None:
    with frozen(stack.pid("worker-1")):
        department.publish_issued(1)
        department.producer.flush()
        findings = found()
    assert names(findings) == ["intake-stands"], findings
    department.settle()
    thawed = ["worker-1"]
    for program, name in (("sequencer", "signing-stands"), ("relay", "receipts-stand")):
        with frozen(stack.pid(program)):
            department.publish_issued(1)
            department.producer.flush()
            wait_until(lambda n=name: n in names(found()))
            findings = found()
        # what an aborted transaction left at a partition's end waits for the next record there
        assert {*names_but(findings, thawed)} - {"intake-stands"} == {name}, findings
        department.settle()
        thawed.append(program)
    with frozen(stack.pid("kafka")), frozen(stack.pid("postgres")):
        findings = found()
    assert names(findings) == ["postgres-away", "kafka-away"], findings
    before = stack.kill("relay")
    wait_until(lambda: stack.pid("relay") != before)
    (finding,) = [each for each in found() if each.detail.startswith("relay")]
    assert finding.name == "program-ends"
    assert "SIGKILL" in finding.detail
    moved = "UPDATE intake SET next_offset = next_offset + %s"
    stack.rows(moved, 1000)
    stack.kill("worker-1")
    stack.wait_for_log("worker-1", "offset-jump", len(stack.log("worker-1")))
    wait_until(lambda: "offset-jump" in names(found()))
    stack.rows(moved, -1000)
    department.publish_issued(1)
    department.settle()
    stack.check()
