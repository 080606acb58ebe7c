"""What Kafka lost: everything stops, the operator's logged word goes on, and nothing else does.

The tests run in their order.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from ledger import logtopic, topics
from ledger.kafka_address import client_settings
from streams.kafka_topics import create_topics
from streams.logwriter import read_topic
from tests import world
from tests.running_stack import ROOT, Department, RunningStack, wait_until

pytestmark = pytest.mark.workers(2)  # one for each partition
WORKERS = ("worker-1", "worker-2")


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "l", lanes=2)
    stack.registrar.set_type(("l", world.ALL_ACTS, "own"))
    yield made
    made.close()


def accept_loss(stack: RunningStack, *words: str) -> tuple[int, Any]:
    """(exit code, what it says as JSON) of `certledger accept-loss`."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deploy.cli", "accept-loss"),
            *("--json", "--data", str(stack.data), *words),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@contextlib.contextmanager
def admin_of(stack: RunningStack) -> Iterator[KafkaAdminClient]:
    made = KafkaAdminClient(**client_settings(stack.kafka))
    try:
        yield made
    finally:
        made.close()


def on_lane(stack: RunningStack, lane: int, count: int) -> list[str]:
    """Numbers of certificates that belong on a lane."""
    registry = stack.registrar.book.registry
    numbers = (f"lost-{n}" for n in range(64))
    found = [n for n in numbers if world.lane_of("l", n, registry, issuer="l") == lane]
    return found[:count]


def make_again(stack: RunningStack, topic: str) -> None:
    with admin_of(stack) as admin:
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.list_topics())
    assert create_topics(stack.kafka, 2) == [topic]


def check(stack: RunningStack, department: Department) -> dict[str, int]:
    department.settle(120)
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    return stack.check()


def test_nothing_is_missing_and_nothing_can_be_declared(
    stack: RunningStack, department: Department
) -> None:
    department.publish_issued(5)
    department.settle()
    assert accept_loss(stack) == (0, {"lost": [], "declared": []})
    ((topic_id, partition, offset),) = stack.rows(
        "SELECT topic_id, partition, next_offset FROM intake ORDER BY next_offset DESC LIMIT 1"
    )
    for first, last in ((offset, offset), (offset - 1, offset - 1)):
        words = f"records:{topic_id}:{partition}:{first}:{last}"
        code, said = accept_loss(stack, words, "--reason", "I would like it so")
        assert (code, said["error"]) == (2, "no-such-loss")


def test_records_that_retention_took_are_declared_and_accounted_for(
    stack: RunningStack, department: Department
) -> None:
    """Just those; the publisher still has them and sends them again."""
    pids = [stack.pid(name) for name in WORKERS]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1.5)  # what they had asked Kafka for is answered by now, with nothing
        for number in on_lane(stack, 0, 3):
            _, record = department.make([department.event("issued", number)], lane=0)
            sent = department.send(record).get(60)
        first = sent.offset - 2
        department.producer.send(topics.EVENTS, value=b"behind it", partition=sent.partition)
        department.producer.flush()
        with admin_of(stack) as admin:
            admin.delete_records({TopicPartition(topics.EVENTS, sent.partition): sent.offset + 1})
        ends = {n: len(stack.log(n)) for n in WORKERS}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    said = f"partition {sent.partition}: want offset {first}"
    wait_until(lambda: any(said in stack.log(n)[end:] for n, end in ends.items()), 60)

    code, found = accept_loss(stack)
    (lost,) = found["lost"]
    assert (code, lost["first"], lost["last"]) == (1, first, sent.offset)
    for words in (
        lost["loss"][: -len(str(sent.offset))] + str(sent.offset + 1),
        lost["loss"][: -len(str(sent.offset))] + str(sent.offset - 1),
    ):
        code, refused = accept_loss(stack, words, "--reason", "a guess")
        assert (code, refused["error"]) == (2, "no-such-loss")
    code, refused = accept_loss(stack, lost["loss"])
    assert (code, refused["error"]) == (2, "usage")
    code, done = accept_loss(stack, lost["loss"], "--reason", "retention of a test")
    assert (code, done["reason"]) == (0, "retention of a test")
    checked = check(stack, department)
    assert (checked["declared losses"], checked["records declared lost"]) == (1, 3)
    assert stack.rows(
        "SELECT min(record_offset), max(record_offset), count(*), min(log_index), max(log_index)"
        " FROM accounting WHERE outcome = 'lost'"
    ) == [(first, sent.offset, 3, done["log_index"], done["log_index"])]
    code, refused = accept_loss(stack, lost["loss"], "--reason", "again")
    assert (code, refused["error"]) == (2, "no-such-loss")
    assert accept_loss(stack)[1]["declared"] == [done]


def test_a_lost_log_topic_is_declared_and_written_again(
    stack: RunningStack, department: Department
) -> None:
    after = len(stack.log("sequencer"))
    make_again(stack, topics.LOG)
    department.publish_issued(3)
    stack.wait_for_log("sequencer", "and now is", after)
    code, found = accept_loss(stack)
    (lost,) = found["lost"]
    assert (code, lost["kind"]) == (1, "log")
    assert lost["topic_id"] != lost["became"]
    code, done = accept_loss(stack, lost["loss"], "--reason", "deleted by a test")
    assert code == 0, done
    checked = check(stack, department)
    assert checked["log topic records"] > 0
    ((entries,),) = stack.rows("SELECT entries FROM log_topic")
    assert entries > done["log_index"]
    assert entries == len(written(stack))
    assert accept_loss(stack)[0] == 0


def written(stack: RunningStack) -> set[int]:
    """Indexes of the entries that the log topic holds."""
    found: set[int] = set()
    for _, key, value in read_topic(stack.kafka, 0):
        if key == logtopic.ENTRIES:
            first, entries = logtopic.parse_entries(value or b"")
            found |= set(range(first, first + len(entries)))
    return found


def test_an_intake_topic_that_is_gone_is_declared_and_another_taken(
    stack: RunningStack, department: Department
) -> None:
    """What was on the way is sent again by who published it."""
    ends = {n: len(stack.log(n)) for n in WORKERS}
    make_again(stack, topics.EVENTS)
    for _ in range(4):
        department.publish_issued(2)
    wait_until(lambda: any("topic" in stack.log(n)[end:] for n, end in ends.items()), 60)
    code, found = accept_loss(stack)
    (lost,) = found["lost"]
    assert (code, lost["kind"]) == (1, "intake")
    before = dict(stack.rows("SELECT partition, next_offset FROM intake"))
    assert dict(lost["taken"]) == before
    code, done = accept_loss(stack, lost["loss"], "--reason", "deleted by a test")
    assert code == 0, done
    checked = check(stack, department)
    assert checked["declared losses"] == 3
    rows = stack.rows(
        "SELECT partition, next_offset FROM intake WHERE topic_id = %s", lost["topic_id"]
    )
    assert dict(rows) == before
    status = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "status", "--json", "--data", str(stack.data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(status.stdout)["lag"] == 0


def test_what_was_signed_is_never_given_up(stack: RunningStack, department: Department) -> None:
    """A log topic lost, and a database that knows less than was signed: no word helps."""
    pid = stack.kill("sequencer", signal.SIGSTOP)
    make_again(stack, topics.LOG)
    # what an older copy would say: more than it knows of was signed, and is in receipts
    ((size,),) = stack.rows("SELECT size FROM head")
    ((older,),) = stack.rows("SELECT max(size) FROM checkpoint WHERE size < %s", size - 8)
    stack.rows("UPDATE head SET size = %s", older)
    try:
        code, found = accept_loss(stack)
        (lost,) = found["lost"]
        assert (code, lost["size"]) == (1, older)
        code, refused = accept_loss(stack, lost["loss"], "--reason", "it should not matter")
        assert (code, refused["error"]) == (4, "going-back")
    finally:
        stack.rows("UPDATE head SET size = %s", size)
        os.kill(pid, signal.SIGCONT)
    code, found = accept_loss(stack)
    (lost,) = found["lost"]
    assert accept_loss(stack, lost["loss"], "--reason", "deleted by a test")[0] == 0
    department.publish_issued(2)  # its receipt stands under what the new topic holds
    check(stack, department)
