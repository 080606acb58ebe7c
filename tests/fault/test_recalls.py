"""Recalls through the whole stack with two workers: counted under kills, and where they cross."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from ledger import topics
from ledger.kafka_address import client_settings
from ledger.reliance import hold_id, parse_reliance
from tests import world
from tests.promised import check
from tests.running_stack import Department, RunningStack, wait_until
from tests.world import SERVICE, make_reliance

pytestmark = pytest.mark.workers(2)


class Town:
    """Issuer `a` and an office with a service; their lanes lie on different partitions."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        self.issuer = Department(stack, "a")
        self.office = Department(stack, "office")
        stack.registrar.set_type(("a", world.ALL_ACTS, "own"))
        stack.registrar.change(
            f"service/{SERVICE}",
            {"names": {"zh": "开办餐饮店"}, "offices": ["office"]},
            world.OPERATOR,
        )

    def close(self) -> None:
        self.issuer.close()
        self.office.close()

    def issue(self, *numbers: str) -> int:
        """Certificates under a published checkpoint: its size."""
        self.issuer.publish([self.issuer.event("issued", n) for n in numbers])
        self.issuer.settle()
        ((size,),) = self.stack.rows(
            "SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL"
        )
        return int(size)

    def relied(self, case: str, number: str, size: int, lasts: str = "decision") -> bytes:
        return make_reliance("relied", case, number, tree_size=size, lasts=lasts)

    def annulled(self, number: str) -> bytes:
        return self.issuer.event("revoked", number, revocation_kind="annulled")

    def settle(self) -> None:
        """All receipts are there, and every mark's notices are out."""
        self.issuer.settle()
        self.office.settle()
        query = (
            "SELECT (SELECT coalesce(max(number) + 1, 0) FROM recall),"
            " (SELECT coalesce(max(position), 0) FROM relay WHERE name = 'recalls')"
        )
        wait_until(lambda: len(set(self.stack.rows(query)[0])) == 1, 60)


@pytest.fixture(scope="module")
def town(stack: RunningStack) -> Iterator[Town]:
    made = Town(stack)
    yield made
    made.close()


def read_topic(stack: RunningStack) -> list[tuple[bytes, bytes]]:
    """Key and value of every notice of recall."""
    consumer: Any = KafkaConsumer(
        **client_settings(stack.kafka), group_id=None, enable_auto_commit=False
    )
    found = []
    for partition in (0, 1):
        place = TopicPartition(topics.RECALLS, partition)
        consumer.assign([place])
        consumer.seek_to_beginning()
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for records in consumer.poll(timeout_ms=500).values():
                found += [(record.key, record.value) for record in records]
    consumer.close()
    return found


def told(stack: RunningStack, *cases: str) -> Counter[tuple[str, str]]:
    """(case, kind of event) of the notices about these cases, each id once."""
    hidden = {parse_reliance(make_reliance("ended", case), b"").case: case for case in cases}
    query = (
        "SELECT DISTINCT encode(case_hash, 'hex'), certificate"
        " FROM reliance JOIN reliance_hold USING (reliance_key)"
    )
    holds = {hold_id(case, bytes(key)): hidden.get(case) for case, key in stack.rows(query)}
    by_id: dict[str, bytes] = {}
    for key, value in read_topic(stack):
        notice = json.loads(value)
        check("Recall", notice)
        assert key == notice["data"]["office"].encode()
        assert by_id.setdefault(notice["id"], value) == value, "one id, two notices"
    data = [json.loads(value)["data"] for value in by_id.values()]
    return Counter((case, d["change"]["event"]) for d in data if (case := holds[d["hold"]]))


def test_recalls_are_counted_through_kills_of_relay_and_workers(
    stack: RunningStack, town: Town
) -> None:
    count = 30
    numbers = [f"killed-{n}" for n in range(count)]
    size = town.issue(*numbers)
    lines = []
    for n, number in enumerate(numbers):
        lines.append(town.relied(f"d{n}", number, size))
        lines.append(town.relied(f"e{n}", number, size, "entitlement"))
    ended = [make_reliance("ended", f"e{n}") for n in range(0, count, 2)]
    for line in (*lines, *ended):
        check("EventLine", json.loads(line))
    town.office.publish(lines)
    town.office.publish(ended)
    town.settle()
    kills = ["recalls sent", "before commit", "after commit"]
    for step, part in zip(kills, (numbers[:10], numbers[10:20], numbers[20:]), strict=True):
        suspended = [town.issuer.event("suspended", n, reason_code="fire") for n in part]
        stack.crash_at(step)
        town.issuer.publish([*suspended, *map(town.annulled, part)])
        stack.wait_for_crash()
        town.settle()
    cases = [f"{kind}{n}" for kind in "de" for n in range(count)]
    expected = Counter({(f"d{n}", "revoked"): 1 for n in range(count)})
    for n in range(1, count, 2):
        expected.update({(f"e{n}", "suspended"): 1, (f"e{n}", "revoked"): 1})
    assert told(stack, *cases) == expected
    assert len(read_topic(stack)) > sum(expected.values()), "the killed relay sent some twice"
    checked = stack.check()
    assert checked["sent notices of recall"] > sum(expected.values())


def test_where_reliance_and_revocation_cross_nobody_is_missed(
    stack: RunningStack, town: Town
) -> None:
    """Each pair goes to two partitions at the same moment; whichever is first in the log, the case
    hears once.
    """
    count = 40
    numbers = [f"crossing-{n}" for n in range(count)]
    size = town.issue(*numbers)
    for n, number in enumerate(numbers):
        pair = [
            lambda n=n, number=number: town.office.publish([town.relied(f"x{n}", number, size)]),
            lambda number=number: town.issuer.publish([town.annulled(number)]),
        ]
        for send in pair[:: 1 if n % 2 else -1]:
            send()
    town.settle()
    cases = [f"x{n}" for n in range(count)]
    assert told(stack, *cases) == Counter({(case, "revoked"): 1 for case in cases})
    stack.check()


@pytest.fixture(scope="module")
def second(stack: RunningStack, town: Town) -> Iterator[Department]:
    """Another issuer, whose lane lies on the other partition than the first one's."""
    made = Department(stack, "a2")
    stack.registrar.set_type(("a", world.ALL_ACTS, "own"), ("a2", world.ALL_ACTS, "any"))
    yield made
    made.close()


def partition_of(sent: Any) -> int:
    return int(sent.get(60).partition)


def test_a_certificate_leaves_and_arrives_at_the_same_moment(
    stack: RunningStack, town: Town, second: Department
) -> None:
    """Who is first in the log decides; what came too early is refused and can be sent again."""

    def counts() -> tuple[int, int]:
        """Events admitted, and refused."""
        tally = dict(stack.rows("SELECT name, count FROM tally WHERE name <> 'certificates'"))
        return tally.pop("admitted"), sum(tally.values())

    def arrives(number: str, again: str = "") -> None:
        change = f"arrives {number} {again}"
        second.publish([world.make_event("transferred-in", number, issuer="a", change=change)])

    count = 40
    numbers = [f"moves-{n}" for n in range(count)]
    town.issue(*numbers)
    admitted, refused = counts()
    for n, number in enumerate(numbers):
        pair = [
            lambda number=number: town.issuer.publish(
                [town.issuer.event("transferred-out", number, transfer_to="a2")]
            ),
            lambda number=number: arrives(number),
        ]
        for send in pair[:: 1 if n % 2 else -1]:
            send()
    town.settle()
    second.settle()
    assert sum(counts()) == admitted + refused + 2 * count
    early = counts()[1] - refused
    for number in numbers:
        arrives(number, "again")
    second.settle()
    # each left once and arrived once
    assert counts() == (admitted + 2 * count, refused + count)
    print(f"{early} of {count} came too early")
    stack.check()


def test_two_departments_bind_one_holder_at_the_same_moment(
    stack: RunningStack, town: Town, second: Department
) -> None:
    """On two partitions, so by two workers: the holder's record has every act."""
    holder, count = f"1:{7:064x}", 40
    ((was,),) = stack.rows("SELECT count FROM tally WHERE name = 'admitted'")
    ((acts,),) = stack.rows("SELECT coalesce(sum(acts), 0) FROM holder")
    begun = town.issuer.events + second.events
    for n in range(count):
        pair = [
            (who, who.event("issued", f"held-{n}-{who.name}", holder_pseudonym=holder))
            for who in (town.issuer, second)
        ]
        for who, line in pair[:: 1 if n % 2 else -1]:
            who.publish([line])
        if n % 4 == 3:  # one that was bound moments ago is bound no more, the other one goes on
            town.issuer.publish([town.annulled(f"held-{n}-a")])
    town.settle()
    second.settle()
    published = town.issuer.events + second.events - begun
    assert published == 2 * count + count // 4
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(was + published,)]
    assert stack.rows("SELECT sum(acts) - %s, max(acts) FROM holder", acts) == [
        (2 * count, 2 * count)
    ]
    heartbeats = [who.send(None) for who in (town.issuer, second)]
    assert {partition_of(sent) for sent in heartbeats} == {0, 1}
    stack.check()
