"""Declared losses in the store: only where the ledger stands, only what the entry says, seen by
fsck from both sides.
"""

from __future__ import annotations

from typing import Any

import pytest

from consumers import fsck
from ledger.errors import Conflict, LedgerError
from ledger.loss import Loss, LostIntake, LostLog, LostRecords, loss_members
from ledger.postgres.connection import connect
from ledger.postgres.store import Fetched, Store
from tests import world
from tests.stored_ledger import TOPIC, StoredLedger, damage

OTHER = "U" * 22


def declare(ledger: StoredLedger, number: int, loss: Loss) -> int:
    return ledger.registrar.change(f"loss/{number}", loss_members(loss), world.OPERATOR)


def refused(ledger: StoredLedger, number: int, loss: Loss) -> str:
    ledger.registrar._sync()
    note = ledger.registrar.book.note(f"loss/{number}", loss_members(loss), world.OPERATOR)
    with pytest.raises(LedgerError) as caught:
        ledger.registrar.store.change_registry(note)
    return caught.value.code


def findings(ledger: StoredLedger) -> set[tuple[str, str]]:
    connection = connect(ledger.url, "fsck")
    try:
        return {(found.kind, found.message) for found in fsck.run(connection)}
    finally:
        connection.close()


def test_what_is_declared_is_accounted_for_and_nothing_else(ledger: StoredLedger) -> None:
    ledger.send(*(ledger.make(ledger.issued(f"n{n}")) for n in range(3)))
    for first, topic in ((2, TOPIC), (4, TOPIC), (3, OTHER)):
        assert refused(ledger, 1, LostRecords(topic, 0, first, 9, "x")) == "no-such-loss"
    assert refused(ledger, 1, LostRecords(TOPIC, 7, 0, 9, "x")) == "no-such-loss"
    index = declare(ledger, 1, LostRecords(TOPIC, 0, 3, 5, "retention"))
    store = Store(connect(ledger.url, "test-worker", writes=True))
    assert store.losses(TOPIC, 0) == [(index, LostRecords(TOPIC, 0, 3, 5, "retention"))]
    assert store.losses(TOPIC, 1) == []
    store.take_lost(TOPIC, 0, range(3, 6), index)
    store.take_lost(TOPIC, 0, range(3, 6), index)  # a second worker: passed over
    store.connection.close()
    assert [ledger.outcome(offset)[:2] for offset in (2, 3, 5)] == [
        ("logged", ledger.outcome(2)[1]),
        ("lost", index),
        ("lost", index),
    ]
    ledger.offsets[0] = 6
    assert ledger.send(ledger.make(ledger.issued("later"))) == {"logged": 1}
    ledger.checkpoint()
    ledger.check()
    damage(
        ledger.url,
        "UPDATE accounting SET outcome = 'skipped', log_index = NULL"
        " WHERE outcome = 'lost' AND record_offset = 4",
    )
    assert ("accounting", f"lost by entry None: entry {index} does") in findings(ledger)


def test_what_nobody_declared_is_found(ledger: StoredLedger) -> None:
    """A worker that takes for lost what no entry says."""
    index = declare(ledger, 1, LostRecords(TOPIC, 0, 0, 1, "retention"))
    ledger.store.take_lost(TOPIC, 0, range(3), index)
    ledger.checkpoint()
    assert findings(ledger) == {("accounting", f"lost by entry {index}: no entry declares it lost")}


def test_a_topic_that_was_declared_gone_is_taken_from_no_more(ledger: StoredLedger) -> None:
    ledger.send(ledger.make(ledger.issued("n")))
    batch = [ledger.store.open(ledger.fetched(ledger.make(ledger.issued("late"))))]
    for taken in (((0, 1),), ((0, 2), (1, 0)), ((0, 1), (1, 1))):
        assert refused(ledger, 1, LostIntake(TOPIC, OTHER, taken, "x")) == "no-such-loss"
    assert refused(ledger, 1, LostIntake(OTHER, TOPIC, ((0, 1), (1, 0)), "x")) == "no-such-loss"
    with pytest.raises(Conflict, match="topic-changed"):
        ledger.store.offsets(OTHER, [0, 1])
    declare(ledger, 1, LostIntake(TOPIC, OTHER, ((0, 1), (1, 0)), "disks burnt"))
    with pytest.raises(Conflict, match="topic-changed"):  # a worker that still has the old one
        ledger.store.apply(TOPIC, batch)
    store = Store(connect(ledger.url, "test-worker", writes=True))
    with pytest.raises(Conflict, match="topic-changed"):
        store.offsets(TOPIC, [0, 1])
    assert store.offsets(OTHER, [0, 1]) == {0: (0, None), 1: (0, None)}
    assert store.apply(OTHER, [store.open(Fetched(0, 0, batch[0].fetched.value))]).outcomes == {
        "logged": 1
    }
    store.connection.close()
    assert refused(ledger, 2, LostIntake(OTHER, TOPIC, ((0, 0), (1, 0)), "x")) == "no-such-loss"
    ledger.checkpoint()
    ledger.check()
    asked = "UPDATE intake SET next_offset = 2 WHERE topic_id = %s AND partition = 0"
    damage(ledger.url, asked, TOPIC)
    assert ("intake", "was declared gone, taken up to {0: 1, 1: 0}") in findings(ledger)


def test_a_log_topic_that_is_not_lost_like_that(ledger: StoredLedger) -> None:
    loss: dict[str, Any] = {"topic_id": TOPIC, "offset": 9, "became": OTHER, "end": 0}
    head = ledger.checkpoint()
    assert refused(ledger, 1, LostLog(**loss, size=head.size, reason="x")) == "no-such-loss"
    ledger.sequencing.begin_log_topic(TOPIC)
    ledger.sequencing.acknowledged(9, head.size, 0)
    for change in ({"offset": 8}, {"topic_id": "V" * 22}):
        made = LostLog(**{**loss, **change}, size=head.size, reason="x")
        assert refused(ledger, 1, made) == "no-such-loss"
    for size in (head.size - 1, head.size + 1):
        assert refused(ledger, 1, LostLog(**loss, size=size, reason="x")) == "no-such-loss"
    declare(ledger, 1, LostLog(**loss, size=head.size, reason="deleted"))
    lost = ledger.sequencing.lost_log(OTHER, 0)
    assert lost is not None
    assert ledger.sequencing.lost_log(OTHER, 7) == lost  # something was written there meanwhile
    assert ledger.sequencing.lost_log(TOPIC, 0) is None
    ledger.sequencing.forget_log_topic(lost)
    found = ledger.sequencing.log_topic()
    assert found is not None
    assert (found.topic_id, found.last_offset, found.entries) == (OTHER, -1, 0)
    assert ledger.sequencing.lost_log(OTHER, 0) is None


def test_a_log_topic_that_lost_its_end_is_given_up_once(ledger: StoredLedger) -> None:
    """The same topic: only as it was found, and not when it comes by that offset again."""
    head = ledger.checkpoint()
    ledger.sequencing.begin_log_topic(TOPIC)
    ledger.sequencing.acknowledged(9, head.size, 0)
    declare(ledger, 1, LostLog(TOPIC, 9, TOPIC, 4, head.size, reason="a disk was full"))
    assert [ledger.sequencing.lost_log(TOPIC, end) for end in (3, 5, 10)] == [None] * 3
    lost = ledger.sequencing.lost_log(TOPIC, 4)
    assert lost is not None
    ledger.sequencing.forget_log_topic(lost)
    with pytest.raises(Conflict):
        ledger.sequencing.forget_log_topic(lost)
    ledger.sequencing.acknowledged(9, head.size, 0)
    assert ledger.sequencing.lost_log(TOPIC, 10) is None
