"""Rows that are read before the turn: used where nothing else can have changed them, else not."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ledger import identity
from ledger.admission import Opened
from ledger.event import Event
from ledger.postgres import reading_ahead, store
from ledger.postgres import view as view_module
from ledger.postgres.connection import connect
from ledger.postgres.store import Checked, Store
from tests import world
from tests.stored_ledger import TOPIC, StoredLedger, sequence

HOLDERS = [f"1:{number:064x}" for number in range(4)]


class Worker:
    """A worker that reads ahead: what it has opened waits for its turn."""

    def __init__(self, ledger: StoredLedger, department: str, partition: int) -> None:
        self.ledger, self.department, self.partition = ledger, department, partition
        connections = [connect(ledger.url, "test-worker", writes=True) for _ in range(2)]
        self.store = Store(connections[0], ahead=connections[1])
        self._connections = connections
        self.waiting: list[list[Checked]] = []

    def open(self, *bundles: list[bytes]) -> None:
        records = [self.ledger.make(lines, self.department) for lines in bundles]
        opened = [self.store.open(self.ledger.fetched(r, self.partition)) for r in records]
        self.waiting.append(self.store.read_ahead(opened))

    def apply(self) -> dict[str, int]:
        return self.store.apply(TOPIC, self.waiting.pop(0)).outcomes

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Reads:
    """What turns still read themselves, by heads: certificates and holders."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.certificates: set[bytes] = set()
        self.holders: set[bytes] = set()
        for name, asked in (
            ("read_certificates", self.certificates),
            ("read_holders", self.holders),
        ):
            patch.setattr(view_module, name, self._noting(getattr(view_module, name), asked))

    @staticmethod
    def _noting(read: Any, found: set[bytes]) -> Any:
        def noting(cursor: Any, asked: Collection[bytes]) -> Any:
            found.update(asked)
            return read(cursor, asked)

        return noting


@pytest.fixture
def workers(ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Worker]]:
    """One of department `a`, one of `b`, which may act on certificates of `a`."""
    monkeypatch.setattr(store, "ENOUGH", 1)
    may = ["suspended", "reinstated", "renewed", "amended", "revoked"]
    ledger.registrar.set_type(("a", world.ALL_ACTS, "own"), ("b", may, "any"))
    made = [Worker(ledger, "a", 0), Worker(ledger, "b", 1)]
    yield made
    for worker in made:
        worker.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def head(number: str) -> bytes:
    return identity.certificate_key(world.TYPE, "a", number)[: identity.HEAD]


def holder_head(pseudonym: str) -> bytes:
    return identity.holder_key(pseudonym)[: identity.HEAD]


def renewed(ledger: StoredLedger, number: str, until: str = "2030-01-01+08:00") -> bytes:
    return ledger.event("renewed", number, valid_until=until)


def begin(ledger: StoredLedger, worker: Worker) -> None:
    worker.open(
        ledger.issued("n0", "n1", holder_pseudonym=HOLDERS[0]),
        ledger.issued("n2", holder_pseudonym=HOLDERS[1]),
    )
    assert worker.apply() == {"logged": 2}


def test_what_was_read_ahead_is_not_read_again(
    ledger: StoredLedger, workers: list[Worker], reads: Reads
) -> None:
    worker, _ = workers
    begin(ledger, worker)
    worker.open(
        [renewed(ledger, "n0"), ledger.event("amended", "n1", holder_pseudonym=HOLDERS[1])],
        ledger.issued("n3", holder_pseudonym=HOLDERS[2]),
    )
    sequence(ledger.sequencing)  # a status entry changes none of it
    reads.certificates.clear()
    reads.holders.clear()
    assert worker.apply() == {"logged": 2}
    assert (reads.certificates, reads.holders) == (set(), set())
    ledger.checkpoint()
    ledger.check()


def test_what_an_own_turn_changed_is_read_again(
    ledger: StoredLedger, workers: list[Worker], reads: Reads
) -> None:
    worker, _ = workers
    begin(ledger, worker)
    worker.open([renewed(ledger, "n0")], ledger.issued("n3", "n4", holder_pseudonym=HOLDERS[2]))
    worker.open(
        [renewed(ledger, "n0"), renewed(ledger, "n2"), renewed(ledger, "n3")],
        ledger.issued("n4", "n5", holder_pseudonym=HOLDERS[2]),
    )
    assert worker.apply() == {"logged": 2}
    reads.certificates.clear()
    reads.holders.clear()
    assert worker.apply() == {"logged": 2}
    assert reads.certificates == {head("n0"), head("n3"), head("n4")}
    assert reads.holders == {holder_head(HOLDERS[2])}
    refused = {code: n for code, n in ledger.counts().items() if code != "admitted"}
    assert sum(refused.values()) == 1  # n4 was issued already
    ledger.checkpoint()
    ledger.check()


@pytest.mark.parametrize("what", ["another worker", "the registry", "a turn nobody remembers"])
def test_after_anybody_elses_entry_all_is_read_in_the_turn(
    ledger: StoredLedger,
    workers: list[Worker],
    reads: Reads,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    worker, other = workers
    begin(ledger, worker)
    if what == "a turn nobody remembers":
        worker.open([ledger.event("suspended", "n0", reason_code="r1")])
    worker.open([renewed(ledger, "n0"), renewed(ledger, "n2")])
    if what == "another worker":
        other.open([ledger.event("revoked", "n0", revocation_kind="penalty", reason_code="r1")])
        assert other.apply() == {"logged": 1}
    elif what == "the registry":
        ledger.registrar.add_department("c")
    else:  # its commit was not heard of
        unheard(worker, monkeypatch)
    reads.certificates.clear()
    assert worker.apply() == {"logged": 1}
    assert reads.certificates == {head("n0"), head("n2")}
    ledger.checkpoint()
    ledger.check()


def unheard(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that is committed, of which its worker does not know."""

    def fail() -> None:
        raise OSError("unheard")

    with monkeypatch.context() as patch:
        patch.setattr(worker.store, "keep_numbers", fail)
        with pytest.raises(OSError, match="unheard"):
            worker.apply()


def test_another_history_of_the_same_length_is_not_believed(
    ledger: StoredLedger, workers: list[Worker], reads: Reads
) -> None:
    worker, _ = workers
    begin(ledger, worker)
    worker.open([renewed(ledger, "n0")])
    (checked,) = worker.waiting.pop()
    assert checked.ahead is not None
    worker.waiting.append([replace(checked, ahead=checked.ahead._replace(last=b"other"))])
    reads.certificates.clear()
    assert worker.apply() == {"logged": 1}
    assert reads.certificates == {head("n0")}
    ledger.check()


def test_few_events_are_not_read_ahead(
    ledger: StoredLedger, workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ENOUGH", reading_ahead.ENOUGH)
    worker, _ = workers
    worker.open(ledger.issued("n0"))
    assert [checked.ahead for checked in worker.waiting[0]] == [None]


def test_a_second_key_with_the_first_ones_head_is_refused(
    ledger: StoredLedger, workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in one batch, so that the row's own key is asked for as well."""
    worker, _ = workers
    begin(ledger, worker)
    lines = [renewed(ledger, "n0"), *ledger.issued("n7")]
    checked = worker.store.open(ledger.fetched(ledger.make(lines)))
    assert isinstance(checked.opened, Opened)
    first, second = checked.opened.events
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    twin = second._replace(key=first.key[: identity.HEAD] + second.key[identity.HEAD :])
    opened = replace(checked, opened=replace(checked.opened, events=(first, twin)))
    worker.waiting.append(worker.store.read_ahead([opened]))
    assert worker.apply() == {"logged": 1}
    assert ledger.counts()["key-taken"] == 1


@pytest.mark.parametrize("seed", range(8))
def test_two_workers_in_turns_say_what_the_log_says(
    ledger: StoredLedger, workers: list[Worker], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Anything may lie between reading and turn; fsck judges the whole log again."""
    used: list[bool] = []
    follows = reading_ahead.OwnTurns._follows

    def noting(own: Any, *args: Any) -> bool:
        used.append(follows(own, *args))
        return used[-1]

    monkeypatch.setattr(reading_ahead.OwnTurns, "_follows", noting)
    chance = random.Random(seed)
    numbers = [f"n{n}" for n in range(8)]

    def line(department: str) -> bytes:
        number = chance.choice(numbers)
        if department == "a" and chance.random() < 0.4:
            return ledger.issued(number, holder_pseudonym=chance.choice(HOLDERS))[0]
        kind = chance.choice(["renewed", "amended", "suspended", "reinstated"])
        data: dict[str, str] = {}
        if kind == "amended" and chance.random() < 0.5:
            data = {"holder_pseudonym": chance.choice(HOLDERS)}
        if kind == "renewed":
            data = {"valid_until": f"20{chance.randrange(30, 60)}-01-01+08:00"}
        if kind == "suspended":
            data = {"reason_code": "r1"}
        return ledger.event(kind, number, **data)

    def publish(worker: Worker) -> None:
        if len(worker.waiting) < 3:
            worker.open(
                *(
                    [line(worker.department) for _ in range(chance.randrange(1, 4))]
                    for _ in range(chance.randrange(1, 3))
                )
            )

    for number in range(60):
        worker = chance.choice(workers)
        step = chance.choice(["open", "open", "apply", "apply", "status", "rare"])
        if step == "open":
            publish(worker)
        elif step == "apply" and worker.waiting:
            worker.apply()
        elif step == "status":
            sequence(ledger.sequencing)
        elif step == "rare" and chance.random() < 0.2:
            if chance.random() < 0.5:
                ledger.registrar.add_department(f"d{number}")
            elif worker.waiting:
                unheard(worker, monkeypatch)
    for worker in workers:
        while worker.waiting:
            worker.apply()
    assert {True, False} == set(used)
    sequence(ledger.sequencing)
    ledger.check()
