"""What passes on the topics is what the AsyncAPI document says; bundles that come over HTTP."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

import jsonschema
import pytest
from kafka import KafkaConsumer, TopicPartition

from consumers.http.asyncapi import DOCUMENT, SCHEMAS
from ledger import logtopic, topics
from ledger.bundle import parse_record
from ledger.receipt import RECEIPT_FORM, parse_receipt
from tests import world
from tests.http_serving import Answer, Served, serving
from tests.promised import check
from tests.running_stack import Department, RunningStack, client_settings, wait_until


def read(stack: RunningStack, topic: str) -> list[Any]:
    """All records of a topic by now."""
    settings = client_settings(stack.kafka)
    consumer: Any = KafkaConsumer(**settings, group_id=None, enable_auto_commit=False)
    found: list[Any] = []
    try:
        for partition in sorted(consumer.partitions_for_topic(topic) or ()):
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek_to_beginning()
            end = consumer.end_offsets([place])[place]
            while consumer.position(place) < end:
                for records in consumer.poll(timeout_ms=500).values():
                    found += records
    finally:
        consumer.close()
    return found


def send(served: Served, record: bytes) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        connection.request("POST", "/v1/bundles", record)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())
    finally:
        connection.close()


def test_a_bundle_over_http_gets_its_receipt_and_all_topics_say_what_was_promised(
    stack: RunningStack,
) -> None:
    department = Department(stack, "by-http")
    stack.registrar.set_type(("by-http", world.ALL_ACTS, "own"))
    try:
        soon = time.strftime("%Y-%m-%d+08:00", time.gmtime(time.time() + 20 * 86_400))
        lines = [
            department.event("issued", "1", valid_until=soon),
            department.event("reinstated", "never issued"),
        ]
        with serving(stack.postgres, CERTLEDGER_KAFKA=stack.kafka) as served:
            _, record = department.make(lines)
            answer = send(served, record)
            assert answer.status == 202, answer
            place = answer.headers["location"]
            wait_until(lambda: served.ask(place).status == 200)
            receipt = parse_receipt(served.get(place), world.CHECKPOINT_KEYS)
            assert receipt.outcome == {"admitted": [0, 1], "not-issued": [1, 1]}
            assert send(served, record).status == 202  # a repeat, and its receipt again
            first = department.lanes[0]
            stranger = world.Producer("by-http", 0, bytes(32), "f" * 32)
            assert send(served, stranger.make(lines, time.time_ns() // 1000)).status == 202
            assert first.sequence == 1
        department.send(b"no bundle at all")
        department.settle()
        wait_until(lambda: len(read(stack, topics.DEAD_LETTERS)) > 0)
        department.publish([department.event("issued", "2")])
        department.settle()  # published, and with it what became of the records before
        stack.set_clock(19 * 86_400)
        wait_until(lambda: len(read(stack, topics.EXPIRY)) > 0)
        wait_until(lambda: any(b"notice" in r.value for r in read(stack, topics.RECEIPTS)))
    finally:
        stack.set_clock(0)
        department.close()
    seen: set[str] = set()
    for record in read(stack, topics.EVENTS):
        try:
            parsed = parse_record(record.value)
        except Exception:
            continue
        for line in parsed.lines:
            check("EventLine", json.loads(line))
            seen.add("EventLine")
    for record in read(stack, topics.RECEIPTS):
        value = json.loads(record.value)
        name = "Receipt" if value["format"] == RECEIPT_FORM else "Notice"
        check(name, value)
        seen.add(name)
    for record in read(stack, topics.LANES):
        check("Lane", json.loads(record.value))
        seen.add("Lane")
    for record in read(stack, topics.LOG):
        if record.key == logtopic.ENTRIES:
            for entry in logtopic.parse_entries(record.value)[1]:
                check("Entry", json.loads(entry))
            seen.add("Entry")
        elif record.key == logtopic.CHECKPOINT:
            check("Checkpoint", record.value.decode())
            seen.add("Checkpoint")
        else:
            check("Accounting", json.loads(record.value))
            seen.add("Accounting")
    for record in read(stack, topics.DEAD_LETTERS):
        check("DeadLetterHeaders", {name: value.decode() for name, value in record.headers})
        seen.add("DeadLetterHeaders")
    for record in read(stack, topics.EXPIRY):
        check("Expiry", json.loads(record.value))
        seen.add("Expiry")
    assert seen == SCHEMAS.keys() - {"Recall"}  # tests/fault/test_recalls.py has those
    assert DOCUMENT["channels"].keys() == {
        value for name, value in vars(topics).items() if name.isupper()
    }
    stack.check()


def test_a_schema_refuses_what_is_not_so() -> None:
    for name, value in (("Lane", {"format": "certledger lane v1"}), ("Receipt", {})):
        with pytest.raises(jsonschema.ValidationError):
            check(name, value)
