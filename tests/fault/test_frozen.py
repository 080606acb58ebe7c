"""Processes that stop and wake again, at the worst moments: nobody waits for them for long, and
what they do when they wake does no harm.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from ledger import topics
from ledger.kafka_address import client_settings
from tests import world
from tests.running_stack import ROOT, Department, Load, RunningStack, wait_until

pytestmark = pytest.mark.workers(2)  # one for each partition


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "f", lanes=2)
    stack.registrar.set_type(("f", world.ALL_ACTS, "own"))
    yield made
    made.close()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def check(stack: RunningStack, department: Department) -> None:
    department.settle()
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    stack.check()


def test_a_frozen_worker_is_replaced_and_writes_nothing_when_it_wakes(
    stack: RunningStack, department: Department
) -> None:
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        for name in ("worker-1", "worker-2"):
            with frozen(stack.pid(name)):
                moment = time.monotonic()
                # both partitions, also that of the frozen one, go on
                wait_until(lambda since=moment: lanes_heard(department, since) == {0, 1}, 60)
            load.gap_after(time.monotonic())
    finally:
        load.stop()
    check(stack, department)


def lanes_heard(department: Department, since: float) -> set[int]:
    """Lanes of which a bundle sent after a moment has its receipt."""
    found = set()
    for name, sent in list(department.sent_at.items()):
        if sent > since and name in department.inbox.heard_at:
            found |= {r.header.lane for r in department.inbox.receipts[name]}
    return found


def test_a_worker_frozen_in_the_turn_holds_nobody_up(
    stack: RunningStack, department: Department
) -> None:
    """PostgreSQL ends its transaction, and what it had written is gone."""
    load = Load(department)
    try:
        stack.freeze_at("before commit")
        stopped = stack.wait_for_crash()
        load.gap_after(stopped)
        (pid,) = (p for p in map(stack.pid, ("worker-1", "worker-2")) if is_stopped(p))
        os.kill(pid, signal.SIGCONT)
        load.gap_after(time.monotonic())
    finally:
        load.stop()
    check(stack, department)


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def test_a_frozen_sequencer_loses_the_lead_and_signs_nothing_when_it_wakes(
    stack: RunningStack, department: Department
) -> None:
    """A second one takes over; the first one's late writes do no harm."""
    second = subprocess.Popen(
        [sys.executable, "-m", "streams.sequencer"],
        env={**os.environ, **stack.stack.settings().environment("sequencer")},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        stack.freeze_at("signed")
        stopped = stack.wait_for_crash()
        first = stack.pid("sequencer")
        assert is_stopped(first)
        load.gap_after(stopped)  # the second one leads
        after = len(stack.log("sequencer"))
        os.kill(first, signal.SIGCONT)
        stack.wait_for_log("sequencer", "unreachable: PostgreSQL", after)
        stack.wait_for_log("sequencer", "another-leads", after)
        load.gap_after(time.monotonic())
        second.terminate()
        second.communicate(timeout=30)
        load.gap_after(time.monotonic())  # the first one's next start leads again
    finally:
        load.stop()
        second.kill()
        second.communicate()
    check(stack, department)


def test_records_that_the_topic_lost_stop_the_worker_and_are_named(
    stack: RunningStack, department: Department
) -> None:
    """Retention has passed before they were taken: nothing is passed over in silence."""
    pids = [stack.pid("worker-1"), stack.pid("worker-2")]
    with contextlib.ExitStack() as both:
        for pid in pids:
            both.enter_context(frozen(pid))
        time.sleep(1.5)  # what they had asked Kafka for is answered by now, with nothing
        name, record = department.make([department.event("issued", "lost")], lane=0)
        sent = department.send(record).get(60)
        department.producer.send(topics.EVENTS, value=b"behind it", partition=sent.partition)
        department.producer.flush()
        admin = KafkaAdminClient(**client_settings(stack.kafka))
        admin.delete_records({TopicPartition(topics.EVENTS, sent.partition): sent.offset + 1})
        admin.close()
        ends = {n: len(stack.log(n)) for n in ("worker-1", "worker-2")}
    said = f"partition {sent.partition}: want offset {sent.offset}"
    wait_until(lambda: any(said in stack.log(n)[end:] for n, end in ends.items()), 60)
    assert name not in department.inbox.receipts
    assert stack.rows("SELECT next_offset FROM intake WHERE partition = %s", sent.partition) == [
        (sent.offset,)
    ]
