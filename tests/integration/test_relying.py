"""Reliances in a real PostgreSQL: written in the turn that admits them, judged again by fsck."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumers import fsck
from ledger.identity import certificate_key
from ledger.postgres.connection import connect
from ledger.postgres.relying import Reliances
from ledger.reliance import parse_reliance
from tests import world
from tests.stored_ledger import StoredLedger, damage
from tests.world import SERVICE, TYPE, make_reliance

LICENCE, PERMIT = "A-1", "B-2"


@pytest.fixture
def town(ledger: StoredLedger) -> StoredLedger:
    """Two certificates under a checkpoint, and an office with a service."""
    for lane, producer in ledger.registrar.add_department("office").items():
        ledger.producers["office", lane] = producer
    ledger.registrar.change(
        f"service/{SERVICE}",
        {"names": {"zh": "开办餐饮店"}, "offices": ["office"]},
        world.OPERATOR,
    )
    ledger.send(ledger.make(ledger.issued(LICENCE, PERMIT, valid_until="2099-12-31+08:00")))
    ledger.checkpoint()
    return ledger


def size_of(town: StoredLedger) -> int:
    return town.sequencing.head().size


def relied(town: StoredLedger, case: str, *numbers: str, **members: object) -> bytes:
    members.setdefault("tree_size", size_of(town))
    return make_reliance("relied", case, *numbers, **members)  # type: ignore[arg-type]


def holds(town: StoredLedger) -> int:
    ((count,),) = town.rows("SELECT count(*) FROM reliance_hold WHERE end_index IS NULL")
    return int(count)


def marks(town: StoredLedger) -> list[tuple[object, ...]]:
    return town.rows(
        "SELECT certificate, cause_position, reliance_key IS NULL FROM recall ORDER BY number"
    )


def test_a_turn_keeps_what_offices_rely_on(town: StoredLedger) -> None:
    first, second = relied(town, "1", LICENCE, PERMIT), relied(town, "2", LICENCE)
    town.send(town.make([first, second, relied(town, "3", "C-3")], "office"))
    assert (town.counts()["admitted"], town.counts()["not-issued"]) == (4, 1)
    assert holds(town) == 3
    town.send(town.make([make_reliance("ended", "1"), first], "office"))
    assert holds(town) == 1
    assert town.counts()["repeat"] == 1
    again = relied(town, "2", LICENCE, lasts="entitlement", change="2")
    town.send(town.make([again], "office"))
    assert holds(town) == 1, "the later act takes the earlier one's place"
    town.checkpoint()
    town.check()


def test_a_turn_reads_what_is_named_and_not_all_that_a_case_holds(
    town: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case may hold ten thousands: lines that are refused must not make every writer wait."""
    numbers = [f"held-{n}" for n in range(9)]
    town.send(town.make(town.issued(*numbers, valid_until="2099-12-31+08:00")))
    town.checkpoint()
    town.send(town.make([relied(town, "1", *numbers), relied(town, "2", LICENCE)], "office"))
    read = 0
    real = Reliances._rows

    def count(self: Reliances, cursor: Any, name: str, keys: Any) -> Any:
        nonlocal read
        rows = real(self, cursor, name, keys)
        read += len(rows) if "holds" in name else 0
        return rows

    monkeypatch.setattr(Reliances, "_rows", count)
    again = relied(town, "1", numbers[0], change="2")
    stranger = make_reliance("ended", "1", change="3", office="other")
    conflict = make_reliance("ended", "1", reliance_id=json.loads(again)["id"])
    town.send(town.make([again, stranger], "office"))
    town.send(town.make([conflict], "office"))
    assert (town.counts()["act-not-authorised"], town.counts()["event-id-conflict"]) == (1, 1)
    assert (read, holds(town)) == (1, 10)
    town.send(town.make([make_reliance("ended", "1")], "office"))
    assert (read, holds(town)) == (10, 1)
    town.checkpoint()
    town.check()


def test_the_turns_order_decides_who_is_told_how(town: StoredLedger) -> None:
    key = certificate_key(TYPE, "a", LICENCE)
    before, after = relied(town, "1", LICENCE), relied(town, "2", LICENCE)
    fall = town.event("revoked", LICENCE, revocation_kind="annulled")
    town.send(town.make([before], "office"), town.make([fall]), town.make([after], "office"))
    assert marks(town) == [(key, 0, True), (key, 0, False)], "all before it; and the one after it"
    town.checkpoint()
    late = relied(town, "3", LICENCE)
    town.send(town.make([late], "office"))
    assert town.counts()["not-valid-then"] == 1
    town.send(town.make([town.event("issued", "D-4")]))
    assert len(marks(town)) == 2
    town.checkpoint()
    town.check()


def test_a_change_of_what_nobody_ever_relied_on_leaves_no_mark(town: StoredLedger) -> None:
    town.send(town.make([relied(town, "1", LICENCE)], "office"))
    town.send(town.make([town.event("suspended", PERMIT, reason_code="inspection")]))
    assert marks(town) == []
    town.send(town.make([make_reliance("ended", "1")], "office"))
    town.send(town.make([town.event("suspended", LICENCE, reason_code="inspection")]))
    assert len(marks(town)) == 1, "one that concerns nobody any more"
    town.checkpoint()
    town.check()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE reliance SET is_ended = true", "reliance"),
        ("UPDATE reliance SET office = 'b'", "reliance"),
        ("DELETE FROM reliance_act", "reliance"),
        ("UPDATE reliance_act SET line_hash = sha256('')", "reliance"),
        ("UPDATE reliance_hold SET lasts = 'entitlement'", "reliance"),
        ("UPDATE reliance_hold SET end_index = 99, end_position = 0", "reliance"),
        ("DELETE FROM reliance_hold", "reliance"),
        ("DELETE FROM recall", "recall"),
        ("UPDATE recall SET cause_position = 7", "recall"),
        ("UPDATE recall SET log_index = 0", "recall"),
    ],
)
def test_fsck_finds_what_was_changed_behind_the_log(
    town: StoredLedger, statement: str, kind: str
) -> None:
    town.send(town.make([relied(town, "1", LICENCE)], "office"))
    town.send(town.make([town.event("revoked", LICENCE, revocation_kind="annulled")]))
    town.checkpoint()
    town.check()
    damage(town.url, statement)
    connection = connect(town.url, "fsck")
    try:
        found = fsck.run(connection)
    finally:
        connection.close()
    assert {finding.kind for finding in found} == {kind}


def test_fsck_passes_over_what_rests_on_a_damaged_history(town: StoredLedger) -> None:
    line = relied(town, "1", LICENCE)
    town.send(town.make([line, relied(town, "2", PERMIT)], "office"))
    town.checkpoint()
    damage(
        town.url,
        "UPDATE lines SET data = data || '!' WHERE log_index = (SELECT min(log_index) FROM lines)",
    )
    connection = connect(town.url, "fsck")
    try:
        found = fsck.run(connection)
    finally:
        connection.close()
    kinds = {finding.kind for finding in found}
    assert "lines" in kinds
    assert not kinds & {"reliance", "outcome"}, parse_reliance(line, b"").key.hex()
