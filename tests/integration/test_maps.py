"""The status maps over a real PostgreSQL: kept, read while admission moves on, loaded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from psycopg2.extensions import connection as Connection

from consumers import fsck_map
from ledger import identity, statusmap
from ledger.entry import map_heads, parse_entry
from ledger.errors import ProofError
from ledger.postgres import sequencing
from ledger.postgres.connection import connect
from ledger.postgres.maps import Maps
from ledger.postgres.reader import Reader, View
from ledger.statusmap import CERTIFICATES, HOLDERS, MapHead, check_membership
from tests import slow_map, world
from tests.stored_ledger import StoredLedger, damage, publish, sequence, sequencer

KINDS = (CERTIFICATES, HOLDERS)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps grow with every few records, and buckets of more than three are shown in part."""
    monkeypatch.setattr(statusmap, "MEAN", 2)
    monkeypatch.setattr(fsck_map, "MEAN", 2)
    for module, name in ((statusmap, "SMALL"), (fsck_map, "_SMALL"), (slow_map, "SMALL")):
        monkeypatch.setattr(module, name, 3)


def pseudonym(n: int) -> str:
    return f"1:{n:064x}"


def issue(ledger: StoredLedger, *numbers: int) -> None:
    """One certificate a number, one holder for every three."""
    lines = [ledger.event("issued", f"n{n}", holder_pseudonym=pseudonym(n // 3)) for n in numbers]
    assert ledger.send(ledger.make(lines)) == {"logged": 1}


def suspend(ledger: StoredLedger, *numbers: int) -> None:
    lines = [ledger.event("suspended", f"n{n}", reason_code="x") for n in numbers]
    assert ledger.send(ledger.make(lines)) == {"logged": 1}


def rebind(ledger: StoredLedger, number: int, holder: int) -> None:
    line = ledger.event("amended", f"n{number}", holder_pseudonym=pseudonym(holder))
    assert ledger.send(ledger.make([line])) == {"logged": 1}


def certificate_key(n: int) -> bytes:
    return identity.certificate_key(world.TYPE, "a", f"n{n}")


def holder_key(n: int) -> bytes:
    return identity.holder_key(pseudonym(n))


def records(ledger: StoredLedger, size: int) -> dict[bytes, dict[bytes, bytes]]:
    """The maps as the delta lists of the first `size` entries give them."""
    found: dict[bytes, dict[bytes, bytes]] = {kind: {} for kind in KINDS}
    for _, *lists in ledger.rows("SELECT * FROM delta WHERE log_index < %s ORDER BY 1", size):
        for kind, pairs in zip(KINDS, lists, strict=True):
            for i in range(0, len(pairs), 64):
                found[kind][pairs[i : i + 32]] = pairs[i + 32 : i + 64]
    return found


def states(ledger: StoredLedger) -> dict[int, dict[bytes, MapHead]]:
    """Log index to heads of all status entries that carry maps."""
    rows = ledger.rows("SELECT log_index, data FROM entry JOIN status USING (log_index)")
    found = {index: map_heads(parse_entry(data)) for index, data in rows}
    return {index: heads for index, heads in found.items() if heads is not None}


def check_states(ledger: StoredLedger) -> None:
    """Every root is that of the slow model, every k what the rule says."""
    k = dict.fromkeys(KINDS, 0)
    for index, heads in sorted(states(ledger).items()):
        for kind, known in records(ledger, index).items():
            k[kind] = statusmap.next_k(k[kind], len(known))
            root = slow_map.root(kind.decode(), known, k[kind])
            assert heads[kind] == MapHead(k[kind], root), (index, kind)


@contextmanager
def view(ledger: StoredLedger) -> Iterator[View]:
    connection = connect(ledger.url, "test-reader")
    try:
        with Reader(connection).open() as opened:
            yield opened
    finally:
        connection.close()


def check_view(ledger: StoredLedger, size: int) -> None:
    """A reader sees the state of `size` entries: all keys ever and some others are proven."""
    with view(ledger) as opened:
        assert opened.size == size
        heads = states(ledger)[size - 1]
        for kind, known in records(ledger, size).items():
            make = certificate_key if kind == CERTIFICATES else holder_key
            for key in {*known, *(make(n) for n in range(60))}:
                made = opened.membership(kind, key)
                head = heads[kind]
                wanted = known.get(key)
                check_membership(head.root, kind, head.k, key, wanted, made)


def load(ledger: StoredLedger) -> Maps:
    return Maps.load(ledger.sequencing.connection)


def publish_with(ledger: StoredLedger, maps: Maps | None) -> int:
    head = sequence(ledger.sequencing, maps)
    assert head is not None
    publish(ledger.sequencing, head)
    return head.size


def test_roots_and_k_are_those_of_the_model(ledger: StoredLedger) -> None:
    maps = load(ledger)
    for n in range(0, 40, 8):
        issue(ledger, *range(n, n + 8))
        if n:
            suspend(ledger, n - 1, n - 5)
            rebind(ledger, n - 2, 100 + n)
        publish_with(ledger, maps)
    check_states(ledger)
    assert [h[CERTIFICATES].k for _, h in sorted(states(ledger).items())] == [2, 3, 4, 4, 5]
    check_view(ledger, ledger.sequencing.head().size)
    ledger.check()


def test_a_state_is_read_while_admission_moves_on(ledger: StoredLedger) -> None:
    maps = load(ledger)
    issue(ledger, *range(20))
    suspend(ledger, 3)
    size = publish_with(ledger, maps)
    check_view(ledger, size)
    issue(ledger, *range(20, 40))  # born later, holders among them
    suspend(ledger, 1, 2, 4)  # changed once
    rebind(ledger, 5, 77)
    rebind(ledger, 5, 78)  # changed twice
    rebind(ledger, 6, 1)  # a holder that was known gets an act
    check_view(ledger, size)
    publish_with(ledger, None)  # a newer checkpoint, but without maps
    suspend(ledger, 7)
    check_view(ledger, size)
    newest = publish_with(ledger, maps)
    check_view(ledger, newest)
    check_states(ledger)
    ledger.check()


def test_many_checkpoints_without_maps_leave_the_published_state_whole(
    ledger: StoredLedger,
) -> None:
    issue(ledger, *range(10))
    size = publish_with(ledger, load(ledger))
    for n in range(70):
        suspend(ledger, n % 10) if n < 10 else ledger.send(ledger.make([]))
        publish_with(ledger, None)
    check_view(ledger, size)
    with view(ledger) as opened:
        assert opened.records().value("department/a") is not None
    ledger.check()


def test_tiles_of_states_that_nobody_asks_for_are_dropped(ledger: StoredLedger) -> None:
    maps = load(ledger)
    for n in range(12):
        issue(ledger, *range(8 * n, 8 * n + 8))
        size = publish_with(ledger, maps)
        check_view(ledger, size)
    tiles = sum(1 for _ in maps.changed_tiles())
    assert tiles == 0
    rows = ledger.rows("SELECT kind, level, tile_index, count(*) FROM map_tile GROUP BY 1, 2, 3")
    assert rows
    assert max(row[3] for row in rows) <= 2
    ledger.check()


# --- a start -------------------------------------------------------------------------------------


def test_loaded_as_of_exactly_the_last_state(ledger: StoredLedger) -> None:
    kept = load(ledger)
    assert (kept.size, kept.state) == (0, -1)
    issue(ledger, *range(30))
    rebind(ledger, 4, 90)
    size = publish_with(ledger, kept)
    again = load(ledger)
    assert (again.size, again.state) == (size, size - 1)
    assert again.changed_tiles() == {}
    suspend(ledger, 1, 2)
    rebind(ledger, 5, 91)
    issue(ledger, *range(30, 60))
    publish_with(ledger, None)
    late = load(ledger)  # rolled back to the last state with maps
    assert (late.size, late.heads()) == (size, again.heads())
    assert late.changed_tiles() == {}
    suspend(ledger, 3)
    publish_with(ledger, late)
    check_states(ledger)
    check_view(ledger, late.size)
    ledger.check()


N7 = f"map_key = '{certificate_key(7)[:16].hex()}'"
DAMAGE = {
    "a current state": f"UPDATE certificate SET state = set_byte(state, 20, 1) WHERE {N7}",
    "a certificate gone": f"DELETE FROM certificate WHERE {N7}",
    "a holder's link": "UPDATE holder SET link = set_byte(link, 3, get_byte(link, 3) # 1)"
    " WHERE map_key = (SELECT map_key FROM holder ORDER BY map_key LIMIT 1)",
    "the status entry": "UPDATE entry SET data = convert_to(replace(convert_from(data, 'UTF8'),"
    " '\"k\":4', '\"k\":5'), 'UTF8') WHERE log_index = (SELECT max(log_index) FROM status)",
    "a maps flag too many": "UPDATE status SET maps = true"
    " WHERE log_index = (SELECT min(log_index) FROM status)",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_signing_stops_when_the_states_do_not_give_the_roots(
    ledger: StoredLedger, what: str
) -> None:
    publish_with(ledger, None)
    issue(ledger, *range(30))
    if what != "a maps flag too many":
        publish_with(ledger, load(ledger))
    damage(ledger.url, DAMAGE[what])
    with pytest.raises(ProofError, match="stored-bytes-damaged"):
        sequencer(ledger).start()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE map_tile SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE kind = 'C'",
     "DELETE FROM map_tile WHERE kind = 'H'"],
)  # fmt: skip
def test_damaged_tiles_are_not_believed_and_are_written_again(
    ledger: StoredLedger, statement: str
) -> None:
    issue(ledger, *range(30))
    publish_with(ledger, load(ledger))
    damage(ledger.url, statement)
    kind = CERTIFICATES if "'C'" in statement else HOLDERS
    with view(ledger) as opened, pytest.raises(ProofError, match="stored-bytes-damaged"):
        opened.membership(kind, bytes(32))
    maps = load(ledger)
    for n in (1, 2):  # the second drops what is older than what the first wrote
        suspend(ledger, n)
        check_view(ledger, publish_with(ledger, maps))
    ledger.check()


def test_an_entry_that_is_gone_shifts_nothing(ledger: StoredLedger) -> None:
    for n in range(3):
        issue(ledger, 4 * n, 4 * n + 1)
    gone = ledger.rows("SELECT max(log_index) - 1 FROM entry")[0][0]
    ledger.rows("CREATE TABLE kept AS SELECT * FROM entry WHERE log_index = %s", gone)
    damage(ledger.url, "DELETE FROM entry WHERE log_index = %s", gone)
    maps = load(ledger)
    with pytest.raises(ProofError, match=f"entry {gone} is missing"):
        maps.catch_up(ledger.sequencing.connection, gone + 2)
    assert maps.size == gone
    ledger.rows("INSERT INTO entry SELECT * FROM kept; DROP TABLE kept")
    publish_with(ledger, maps)
    check_states(ledger)
    ledger.check()


@pytest.mark.parametrize("grown", [False, True])
def test_a_crash_between_status_entry_and_head(ledger: StoredLedger, grown: bool) -> None:
    """The entry stands above the head, its tiles were never stored."""
    issue(ledger, *range(12))
    publish_with(ledger, load(ledger))
    suspend(ledger, 5)
    if grown:
        issue(ledger, *range(12, 50))
    above = ledger.sequencing.append_status(load(ledger))
    maps = load(ledger)
    assert (maps.size, maps.state) == (above, above - 1)
    rebind(ledger, 6, 99)
    check_view(ledger, publish_with(ledger, maps))
    check_states(ledger)
    ledger.check()


def test_maps_that_lag_behind_another_sequencer(ledger: StoredLedger) -> None:
    one, other = load(ledger), load(ledger)
    for n in range(6):
        issue(ledger, *range(6 * n, 6 * n + 6))
        suspend(ledger, 6 * n)
        maps = one if n % 2 else other
        maps.catch_up(ledger.sequencing.connection, ledger.sequencing.head().size)
        check_view(ledger, publish_with(ledger, maps))
    check_states(ledger)
    ledger.check()


# --- under the turn ------------------------------------------------------------------------------


class Late(Maps):
    """Somebody is admitted between the fold ahead and the turn."""

    then: Callable[[], None]

    def catch_up(self, connection: Connection, end: int) -> None:
        super().catch_up(connection, end)
        self.then()


@pytest.mark.parametrize(("in_turn", "turns"), [(1 << 20, 1), (0, 4), (-1, 5)])
def test_what_comes_in_before_the_turn_is_reflected(
    ledger: StoredLedger, in_turn: int, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folded in the turn where it is little, ahead of the next turn where it is much, and at last
    in any case.
    """
    monkeypatch.setattr(sequencing, "FOLD_IN_TURN", in_turn)
    issue(ledger, *range(40))
    publish_with(ledger, load(ledger))
    suspend(ledger, 0)
    maps = load(ledger)
    folds: list[int] = []

    def more() -> None:
        folds.append(len(folds))
        if len(folds) < 4 or in_turn < 0:
            suspend(ledger, len(folds))

    maps.__class__ = Late
    maps.then = more  # type: ignore[attr-defined]
    publish_with(ledger, maps)
    assert len(folds) == turns
    check_states(ledger)
    ledger.check()


def test_a_map_that_must_grow_is_hashed_before_the_turn(ledger: StoredLedger) -> None:
    issue(ledger, *range(8))
    maps = load(ledger)
    folds: list[int] = []

    def more() -> None:
        folds.append(1)
        if len(folds) == 1:
            issue(ledger, *range(8, 40))

    maps.__class__ = Late
    maps.then = more  # type: ignore[attr-defined]
    publish_with(ledger, maps)
    assert len(folds) == 2
    check_states(ledger)
    ledger.check()
