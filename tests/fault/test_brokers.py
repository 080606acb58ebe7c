"""Servers that are away for long, stand still, end in the middle of turns, change or rot."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, NewPartitions

from consumers import fsck
from ledger import topics
from ledger.kafka_address import client_settings
from ledger.postgres.connection import connect
from tests import world
from tests.fault.test_losses import accept_loss, make_again
from tests.running_stack import Department, Load, RunningStack, wait_until

pytestmark = pytest.mark.workers(2)  # one for each partition
AWAY_SECONDS = 60
FROZEN_SECONDS = 20
GOES_ON_SECONDS = 60  # 15 on a quiet machine
LANES = 8


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "b", lanes=LANES)
    stack.registrar.set_type(("b", world.ALL_ACTS, "own"))
    yield made
    made.close()


def check(stack: RunningStack, department: Department) -> None:
    department.settle(120)
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    assert stack.rows("SELECT count(*) FROM certificate") == [(department.events,)]
    stack.check()


def under_load(
    stack: RunningStack,
    department: Department,
    fault: Callable[[], None],
    record: Callable[[str, object], None],
) -> None:
    """Something happens while bundles come in; how long it takes until the next receipts."""
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        fault()
        seconds = load.gap_after(time.monotonic(), 180)
    finally:
        load.stop()
    record("recovered_seconds", round(seconds, 1))
    print(f"goes on after {seconds:.1f} s")
    assert seconds < GOES_ON_SECONDS
    check(stack, department)


def test_the_broker_is_away_for_a_minute(
    stack: RunningStack,
    department: Department,
    record_property: Callable[[str, object], None],
) -> None:
    """Killed as often as it comes back; everything goes on by itself when it may stay."""

    def away() -> None:
        end = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < end:
            pid = stack.stack.status()["programs"]["kafka"]["pid"]
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)

    under_load(stack, department, away, record_property)


@pytest.mark.parametrize("server", ["kafka", "postgres"])
def test_a_server_stands_still(
    stack: RunningStack,
    department: Department,
    record_property: Callable[[str, object], None],
    server: str,
) -> None:
    def still() -> None:
        pid = stack.kill(server, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        os.kill(pid, signal.SIGCONT)

    under_load(stack, department, still, record_property)


def test_postgresql_is_restarted_in_the_middle_of_turns(
    stack: RunningStack,
    department: Department,
    record_property: Callable[[str, object], None],
) -> None:
    """As an administrator does: what is under way is rolled back, what was answered is there."""

    def restart() -> None:
        for _ in range(3):
            stack.kill("postgres", signal.SIGINT)
            time.sleep(2)

    under_load(stack, department, restart, record_property)


def test_the_intake_topic_gets_more_partitions(stack: RunningStack, department: Department) -> None:
    """Lanes move to other partitions, the order on each is the lane's numbers: what comes before
    its turn there is sent again.
    """
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        admin = KafkaAdminClient(**client_settings(stack.kafka))
        admin.create_partitions({topics.EVENTS: NewPartitions(3)})
        admin.close()
        load.gap_after(time.monotonic())
    finally:
        load.stop()
    department.close()
    department.resume(stack)  # and publishes by the new number of partitions
    for lane in range(LANES):
        department.publish([], lane)
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        wait_until(
            lambda: (
                stack.rows("SELECT next_offset > 0 FROM intake WHERE partition = 2") == [(True,)]
            )
        )
    finally:
        load.stop()
    check(stack, department)


def flip(stack: RunningStack, topic: str, partition: int) -> None:
    """One bit in the last record of a partition, in Kafka's own file."""
    path = max((stack.data / "kafka" / "log" / f"{topic}-{partition}").glob("*.log"))
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_damaged_record_of_the_intake_topic_is_not_taken(
    stack: RunningStack, department: Department
) -> None:
    """Kafka's own check finds it; the operator lets it go, its publisher still has it."""
    pids = [stack.pid("worker-1"), stack.pid("worker-2")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3)  # what they had asked Kafka for (1.5 s at most) is answered by now, with nothing
    sent = department.producer.send(
        topics.EVENTS, key=topics.lane_key("b", 0), value=b"one of its bits will flip"
    ).get(60)
    flip(stack, topics.EVENTS, sent.partition)
    ends = {n: len(stack.log(n)) for n in ("worker-1", "worker-2")}
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    place = f"partition={sent.partition}"
    wait_until(
        lambda: any(
            "stored-bytes-damaged" in stack.log(n)[end:] and place in stack.log(n)[end:]
            for n, end in ends.items()
        ),
        90,
    )
    admin = KafkaAdminClient(**client_settings(stack.kafka))
    admin.delete_records({TopicPartition(topics.EVENTS, sent.partition): sent.offset + 1})
    admin.close()
    (lost,) = accept_loss(stack)[1]["lost"]
    assert (lost["partition"], lost["first"], lost["last"]) == (
        *(sent.partition, sent.offset),
        sent.offset,
    )
    assert accept_loss(stack, lost["loss"], "--reason", "a segment rotted")[0] == 0
    taken = f"SELECT next_offset > {sent.offset} FROM intake WHERE partition = {sent.partition}"
    wait_until(lambda: stack.rows(taken) == [(True,)])  # the worker is back
    department.publish_issued(8)
    check(stack, department)


def test_damage_in_the_log_topic_stops_signing_until_it_is_written_again(
    stack: RunningStack, department: Department
) -> None:
    department.publish_issued(3)
    department.settle()
    wait_until(lambda: stack.rows("SELECT size = entries FROM head, log_topic") == [(True,)])
    os.kill(stack.pid("sequencer"), signal.SIGSTOP)
    connection = connect(stack.postgres, "fsck")
    flip(stack, topics.LOG, 0)
    assert {found.kind for found in fsck.run(connection, stack.kafka)} == {"topic"}
    connection.close()
    after = len(stack.log("sequencer"))
    stack.kill("sequencer")
    said = stack.wait_for_log("sequencer", "stored-bytes-damaged", after, 90)
    assert topics.LOG in said
    make_again(stack, topics.LOG)
    (lost,) = accept_loss(stack)[1]["lost"]
    assert accept_loss(stack, lost["loss"], "--reason", "a segment rotted")[0] == 0
    department.publish_issued(3)
    check(stack, department)
