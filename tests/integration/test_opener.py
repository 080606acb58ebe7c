"""The process that opens records says what the worker itself would say, and ends with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledger import fast_events
from ledger.admission import DeadLetter, Opened
from ledger.errors import Unavailable
from ledger.postgres.rows import open_value
from ledger.registry import Registry
from streams.opener import PART_BYTES, Opener, Value
from tests import world

LINES = [
    world.make_event("issued", "n1"),
    world.make_reliance("relied", "case", "n1", "n2", office="a", tree_size=7),
    world.make_event("revoked", "n2", revocation_kind="penalty", reason_code="r1"),
    b"{}",
    world.make_event("issued", "n3", holder_pseudonym="1:" + "0d" * 32),
    b'{"a":1',
]


@pytest.fixture
def opener() -> Iterator[Opener]:
    made = Opener()
    yield made
    made.close()


@pytest.fixture(scope="module")
def registry() -> Registry:
    town = world.Book()
    town.add_department("a")
    return town.registry


def expected(value: bytes | None, registry: Registry) -> Value:
    """What this process says, without lines and their hashes."""
    opened, chunks = open_value(value, registry, fast_events.parse_lines)
    if opened.bundle is not None:
        opened = replace(opened, bundle=replace(opened.bundle, lines=(), line_hashes=(), groups=()))
    return opened, tuple(chunks)


def test_it_says_what_the_worker_would_say(opener: Opener, registry: Registry) -> None:
    whole = world.make_record(LINES)
    values = [
        whole,
        world.make_record([]),
        world.make_record(LINES[:1] * 300),
        world.make_record(LINES[:1], department="stranger"),
        whole[:-9] + b"XXXXXXXX\n",
        b"",
        None,
    ]
    found = opener.open(values, 1, registry)
    assert found == [expected(value, registry) for value in values]
    kinds = [DeadLetter if isinstance(opened, DeadLetter) else Opened for opened, _ in found]
    assert kinds == [Opened] * 3 + [DeadLetter] * 4
    first = found[0][0]
    assert isinstance(first, Opened)
    assert [type(line).__name__ for line in first.events] == [
        "Event", "Reliance", "Event", "str", "Event", "str",
    ]  # fmt: skip


def test_many_short_records_come_back_in_their_order(opener: Opener, registry: Registry) -> None:
    """They are answered in parts, some of which end within what a long one would be."""
    short = [world.make_record([world.make_event("issued", f"m{n}")]) for n in range(90)]
    values = [*short[:40], None, world.make_record(LINES[:1] * 300), b"", *short[40:]]
    assert sum(map(len, short[:40])) > PART_BYTES
    found = opener.open(values, 1, registry)
    assert found == [expected(value, registry) for value in values]


def test_it_opens_by_the_registry_that_it_was_told_last(opener: Opener, registry: Registry) -> None:
    record = world.make_record(LINES[:1])
    nobody = Registry(registry.origin)
    ((before, _),) = opener.open([record], 0, nobody)
    ((after, _),) = opener.open([record], 7, registry)
    ((again, _),) = opener.open([record], 7, registry)
    assert isinstance(before, DeadLetter)
    assert before.code == "unknown-department"
    assert isinstance(after, Opened)
    assert again == after


def test_signals_to_its_group_do_not_end_it(opener: Opener, registry: Registry) -> None:
    record = world.make_record(LINES[:1])
    opener.open([record], 1, registry)  # it has started
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(opener.pid, number)
    time.sleep(0.2)
    assert opener.open([record], 1, registry) == [expected(record, registry)]


def test_once_it_is_killed_nothing_is_opened(opener: Opener, registry: Registry) -> None:
    record = world.make_record(LINES[:1])
    opener.open([record], 1, registry)
    os.kill(opener.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="opens records"):
        opener.open([record], 1, registry)


def test_a_frozen_one_is_not_waited_for_for_ever(opener: Opener, registry: Registry) -> None:
    record = world.make_record(LINES[:1])
    opener.open([record], 1, registry)
    os.kill(opener.pid, signal.SIGSTOP)
    opener._socket.settimeout(0.5)
    try:
        with pytest.raises(Unavailable, match="timed out"):
            opener.open([record], 1, registry)
    finally:
        os.kill(opener.pid, signal.SIGCONT)
