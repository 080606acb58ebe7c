"""Steps 6 and 7 over a real PostgreSQL: status entries, read-back, tiles, head, signature."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import cast

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import canonical, times
from ledger.checkpoint import Checkpoint
from ledger.errors import Conflict, LedgerError, ProofError, Unavailable
from ledger.note import MemorySigner, sign
from ledger.postgres.connection import connect
from ledger.postgres.maps import Maps
from ledger.postgres.publication import listen_to_publication, wait_for_publication
from ledger.postgres.sequencing import Head, Sequencing
from streams.logwriter import LogWriter
from streams.sequencer import Sequencer
from tests import world
from tests.stored_ledger import (
    RING,
    StoredLedger,
    Topic,
    advance,
    damage,
    query,
    sequence,
    sequencer,
    unwitnessed,
)

MINUTE = 60 * times.SECOND
HOLDER = f"1:{7:064x}"


def rest(rounds: Sequencer) -> None:
    """Without news the maps at most are still due."""
    rounds.round()
    assert rounds.round() is None


def published(ledger: StoredLedger) -> list[tuple[int, bytes]]:
    return [
        (size, note)
        for size, note in ledger.rows(
            "SELECT size, note FROM checkpoint WHERE published_at IS NOT NULL ORDER BY size"
        )
    ]


# --- another implementation, straight from the RFCs ----------------------------------------------


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of RFC 9162 section 2.1.1 over leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def tiles_of(leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """All tiles of C2SP tlog-tiles."""
    found = {}
    level, row = 0, list(leaves)
    while row:
        for at in range(0, len(row), 256):
            found[level, at // 256] = b"".join(row[at : at + 256])
        row = [tree_hash(row[at : at + 256]) for at in range(0, len(row) // 256 * 256, 256)]
        level += 1
    return found


def check_checkpoint(note: bytes, leaves: Sequence[bytes], signer: MemorySigner) -> None:
    """A signed checkpoint of C2SP tlog-checkpoint over these leaves."""
    text, _, signatures = note.rpartition(b"\n\n")
    origin, size, root = text.decode().split("\n")
    assert (origin, int(size)) == (world.ORIGIN, len(leaves))
    assert base64.b64decode(root) == tree_hash(leaves)
    (line,) = signatures.decode().splitlines()
    dash, name, blob = line.split(" ")
    assert (dash, name) == ("—", world.ORIGIN)
    vkey_name, vkey_hash, vkey = str(signer.key).split("+", 2)
    public = base64.b64decode(vkey)
    assert vkey_name == name
    assert public[0] == 1
    assert sha256(name.encode() + b"\n" + public).digest()[:4].hex() == vkey_hash
    raw = base64.b64decode(blob)
    assert raw[:4].hex() == vkey_hash
    key = Ed25519PublicKey.from_public_bytes(public[1:])
    key.verify(raw[4:], text + b"\n")
    with pytest.raises(InvalidSignature):
        key.verify(raw[4:], text)


def leaf_hashes(ledger: StoredLedger) -> list[bytes]:
    rows = ledger.rows("SELECT data FROM entry ORDER BY log_index")
    return [sha256(b"\x00" + row[0]).digest() for row in rows]


def check_tree(ledger: StoredLedger) -> None:
    """Tiles and head are those of the entries below the head."""
    head = ledger.sequencing.head()
    leaves = leaf_hashes(ledger)[: head.size]
    stored = {(level, n): data for level, n, data in ledger.rows("SELECT * FROM tile")}
    assert stored == tiles_of(leaves)
    assert head.root == tree_hash(leaves)


# --- status entries ------------------------------------------------------------------------------


def test_the_first_round_publishes_all_that_is_there(ledger: StoredLedger) -> None:
    ledger.send(ledger.make(ledger.issued("n1", "n2")))
    topic = Topic()
    rounds = sequencer(ledger, topic)
    head = rounds.round()
    assert head is not None
    assert rounds._store.lines_read == 2
    entries = [canonical.loads(r[0]) for r in ledger.rows("SELECT data FROM entry ORDER BY 1")]
    last = canonical.loads(
        ledger.rows("SELECT data FROM entry ORDER BY log_index DESC LIMIT 1")[0][0]
    )
    assert len(entries) == head.size
    assert (last["kind"], last["reflects"]) == ("status", head.size - 1)
    assert topic.written == [head.size]
    ((size, note),) = published(ledger)
    assert size == head.size
    check_checkpoint(note, leaf_hashes(ledger), world.CHECKPOINT)
    check_tree(ledger)
    ledger.check()


def test_no_news_no_entry(ledger: StoredLedger) -> None:
    rounds = sequencer(ledger)
    assert rounds.round() is not None
    assert rounds.round() is None
    assert rounds.round() is None
    ledger.send(b"a dead letter is no entry")
    assert rounds.round() is None
    ledger.send(ledger.make([]))  # a heartbeat is one
    assert rounds.round() is not None
    rest(rounds)
    check_tree(ledger)
    ledger.check()


def test_a_status_entry_every_ten_minutes_without_news(ledger: StoredLedger) -> None:
    rounds = sequencer(ledger)
    assert rounds.round() is not None
    back = "UPDATE allocation SET ledger_time = ledger_time - %s"
    ledger.rows(back, 10 * MINUTE - 5 * times.SECOND)
    assert rounds.round() is None
    ledger.rows(back, 5 * times.SECOND)
    first = rounds.round()
    assert first is not None
    rest(rounds)
    check_tree(ledger)


def test_a_status_entry_once_a_lane_has_been_silent_for_too_long(ledger: StoredLedger) -> None:
    change = {**world.department_change("a"), "silence_limit_seconds": 1}
    ledger.registrar.change("department/a", change, world.registry_signer("a"))
    ledger.send(ledger.make([]))
    ((signed_at,),) = ledger.rows("SELECT signing_time FROM lane WHERE department = 'a'")
    rounds = sequencer(ledger)
    assert rounds.round() is not None
    deadline = time.monotonic() + 60
    while True:
        rounds.round()
        ((ledger_time,),) = ledger.rows("SELECT ledger_time FROM allocation")
        if ledger_time - signed_at > times.SECOND:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    rest(rounds)
    ledger.check()


@pytest.mark.parametrize("seconds", [1, 4])
def test_the_ledger_time_never_goes_back(ledger: StoredLedger, seconds: int) -> None:
    ledger.rows("UPDATE allocation SET ledger_time = ledger_time + %s", seconds * times.SECOND)
    ((before,),) = ledger.rows("SELECT ledger_time FROM allocation")
    ledger.send(ledger.make(ledger.issued("n1")))
    assert sequencer(ledger).round() is not None
    times_ = [
        times.parse_moment(canonical.loads(row[0])["time"])
        for row in ledger.rows("SELECT data FROM entry ORDER BY log_index")
    ]
    assert times_ == sorted(times_)
    assert times_[-1] >= before
    ledger.check()


def test_a_clock_behind_stops_signing_and_not_intake(ledger: StoredLedger) -> None:
    rounds = sequencer(ledger)
    assert rounds.round() is not None
    ledger.rows("UPDATE allocation SET ledger_time = ledger_time + %s", 3600 * times.SECOND)
    assert rounds.round() is None  # no news, nothing to sign
    assert ledger.send(ledger.make(ledger.issued("n1"))) == {"logged": 1}
    with pytest.raises(Unavailable) as caught:
        rounds.round()
    assert caught.value.code == "clock-behind"
    assert len(published(ledger)) == 1


# --- read-back -----------------------------------------------------------------------------------

FLIPS = {
    "entry": "UPDATE entry SET data = set_bit(data, %s, 1 - get_bit(data, %s))"
    " WHERE log_index = (SELECT max(log_index) FROM lines)",
    "lines": "UPDATE lines SET data = set_bit(data, %s, 1 - get_bit(data, %s))"
    " WHERE (log_index, chunk) = (SELECT log_index, chunk FROM lines ORDER BY 1 DESC, 2 LIMIT 1)",
    "certificates": "UPDATE delta SET certificates = set_bit(certificates, %s,"
    " 1 - get_bit(certificates, %s)) WHERE log_index = (SELECT max(log_index) FROM lines)",
    "holders": "UPDATE delta SET holders = set_bit(holders, %s, 1 - get_bit(holders, %s))"
    " WHERE log_index = (SELECT max(log_index) FROM lines)",
}
OTHERS = {
    "no entry": "DELETE FROM entry WHERE log_index = (SELECT max(log_index) FROM lines)",
    "no lines": "DELETE FROM lines WHERE (log_index, chunk) ="
    " (SELECT log_index, chunk FROM lines ORDER BY 1 DESC, 2 LIMIT 1)",
    "no delta": "DELETE FROM delta WHERE log_index = (SELECT max(log_index) FROM delta)",
    "one chunk twice": "INSERT INTO lines SELECT log_index, 99, data, signer FROM lines"
    " WHERE chunk = 0 ORDER BY log_index DESC LIMIT 1",
    "lines of another": "INSERT INTO lines SELECT 1, 0, data, signer FROM lines LIMIT 1",
    "a delta of another": "INSERT INTO delta SELECT 1, certificates, holders FROM delta LIMIT 1",
    "a shorter delta": "UPDATE delta SET certificates = ''"
    " WHERE log_index = (SELECT max(log_index) FROM delta)",
    "another's entry": "UPDATE entry SET data = (SELECT data FROM entry WHERE log_index = 1)"
    " WHERE log_index = (SELECT max(log_index) FROM lines)",
}


def check_stops(ledger: StoredLedger, rounds: Sequencer, what: object = None) -> None:
    head = ledger.sequencing.head()
    before = published(ledger)
    with pytest.raises(ProofError) as caught:
        rounds.round()
    assert caught.value.code == "stored-bytes-damaged", what
    assert ledger.sequencing.head() == head, what
    assert published(ledger) == before, what
    assert ledger.rows("SELECT count(*) FROM checkpoint") == [(len(before),)], what


def fill(ledger: StoredLedger) -> None:
    ledger.send(ledger.make(ledger.issued(*(f"n{i}" for i in range(150)), holder_pseudonym=HOLDER)))


def test_one_flipped_bit_stops_signing(ledger: StoredLedger) -> None:
    fill(ledger)
    rounds = sequencer(ledger)
    for place, statement in FLIPS.items():
        column = {"entry": "data", "lines": "data"}.get(place, place)
        table = {"certificates": "delta", "holders": "delta"}.get(place, place)
        ((size,),) = ledger.rows(
            f"SELECT length({column}) FROM {table} WHERE log_index ="
            f" (SELECT max(log_index) FROM lines) LIMIT 1"
        )
        # Not every bit of an entry is covered by a bundle's own hashes: those that the tree alone
        # covers (the ledger's time, the outcome's numbers) are hashed here for the first time.
        for bit in {"entry": (3, 300)}.get(place, (0, 8 * size // 2, 8 * size - 1)):
            damage(ledger.url, statement, bit, bit)
            check_stops(ledger, rounds, (place, bit))
            damage(ledger.url, statement, bit, bit)
    assert rounds.round() is not None
    check_tree(ledger)
    ledger.check()


def test_damage_stops_signing(ledger: StoredLedger) -> None:
    fill(ledger)
    rounds = sequencer(ledger)
    tables = ("entry", "lines", "delta")
    for what, statement in OTHERS.items():
        for table in tables:
            ledger.rows(f"CREATE TABLE saved_{table} AS SELECT * FROM {table}")
        damage(ledger.url, statement)
        check_stops(ledger, rounds, what)
        for table in reversed(tables):  # status entries of the rounds stay
            ledger.rows(
                f"SET LOCAL session_replication_role = replica;"
                f"DELETE FROM {table} WHERE log_index <= (SELECT max(log_index) FROM saved_entry);"
                f"INSERT INTO {table} SELECT * FROM saved_{table}; DROP TABLE saved_{table}"
            )
    assert rounds.round() is not None
    check_tree(ledger)
    ledger.check()


@pytest.mark.parametrize("what", ["tile", "a tile that is gone", "head"])
def test_a_damaged_tree_stops_signing(ledger: StoredLedger, what: str) -> None:
    """The right edge that the tree grows from is read back as well: no fork is ever signed."""
    fill(ledger)
    rounds = sequencer(ledger)
    assert rounds.round() is not None
    ledger.send(ledger.make(ledger.issued("later")))
    statement = {
        "tile": "UPDATE tile SET data = set_bit(data, 3, 1 - get_bit(data, 3))",
        "a tile that is gone": "DELETE FROM tile",
        "head": "UPDATE head SET root = set_bit(root, 3, 1 - get_bit(root, 3))",
    }
    damage(ledger.url, statement[what])
    check_stops(ledger, rounds)


def test_a_damaged_head_is_not_signed_at_the_start(ledger: StoredLedger) -> None:
    fill(ledger)
    sequence(ledger.sequencing)  # a crash between head and signature
    damage(ledger.url, "UPDATE head SET root = set_bit(root, 3, 1 - get_bit(root, 3))")
    with pytest.raises(LedgerError) as caught:
        sequencer(ledger).start()
    assert caught.value.code == "stored-bytes-damaged"
    assert published(ledger) == []


# --- one head, one checkpoint per size -----------------------------------------------------------


def test_one_of_two_sequencers_wins(ledger: StoredLedger) -> None:
    other = Sequencing(connect(ledger.url, "second", writes=True))
    assert ledger.sequencing.lead()
    assert not other.lead()
    fill(ledger)
    was = ledger.sequencing.head()
    sizes = [store.append_status() for store in (ledger.sequencing, other)]
    assert sizes[1] == sizes[0] + 1
    first = advance(ledger.sequencing, was, sizes[0])
    with pytest.raises(Conflict) as caught:
        advance(other, was, sizes[1])
    assert caught.value.code == "head-moved"
    assert other.head() == first
    check_tree(ledger)
    ledger.sequencing.connection.close()
    end = time.monotonic() + 60
    while not other.lead():  # the server notices the end of a session a moment later
        assert time.monotonic() < end
        time.sleep(0.05)
    ledger.sequencing = other
    assert ledger.checkpoint().size == sizes[1] + 1
    check_tree(ledger)
    ledger.check()


def test_many_rounds_at_once_give_one_line_of_checkpoints(ledger: StoredLedger) -> None:
    stores = [Sequencing(connect(ledger.url, f"racer-{n}", writes=True)) for n in range(2)]
    failures: list[str] = []

    def run(store: Sequencing) -> None:
        rounds = Sequencer(store, cast(LogWriter, Topic()), RING, unwitnessed(), world.ORIGIN)
        for _ in range(12):
            try:
                rounds.round()
            except LedgerError as err:
                failures.append(err.code)

    threads = [threading.Thread(target=run, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for number in range(12):
        ledger.send(ledger.make(ledger.issued(f"n{number}")))
    for thread in threads:
        thread.join()
    for store in stores:
        store.connection.close()
    assert set(failures) <= {"head-moved"}
    sequencer(ledger).round()
    sequencer(ledger).start()
    leaves = leaf_hashes(ledger)
    for size, note in published(ledger):
        check_checkpoint(note, leaves[:size], world.CHECKPOINT)
    check_tree(ledger)
    ledger.check()


def test_another_checkpoint_of_one_size_is_refused(ledger: StoredLedger) -> None:
    head = ledger.checkpoint()
    ((_, note),) = published(ledger)
    ledger.sequencing.keep_checkpoint(head.size, note)
    other = Checkpoint(world.ORIGIN, head.size, bytes(32)).text()
    with pytest.raises(Conflict, match="another checkpoint"):
        ledger.sequencing.keep_checkpoint(head.size, sign(other, [world.CHECKPOINT]))
    assert published(ledger) == [(head.size, note)]


def test_what_a_crash_leaves_is_finished(ledger: StoredLedger) -> None:
    """The five places, by hand; tests/fault kills real processes there."""
    fill(ledger)
    store = ledger.sequencing
    store.append_status(Maps.load(store.connection))  # status appended
    assert sequencer(ledger).round() is not None
    ledger.send(ledger.make(ledger.issued("more")))
    head = sequence(store, Maps.load(store.connection))  # head moved
    assert head is not None
    topic = Topic()
    sequencer(ledger, topic).start()
    assert topic.written == [head.size]
    ledger.send(ledger.make(ledger.issued("even more")))
    with pytest.raises(Unavailable):  # signed, and the topic is away
        sequencer(ledger, Topic(fails=True)).round()
    assert published(ledger)[-1][0] == head.size
    sequencer(ledger, topic).start()
    assert published(ledger)[-1][0] == store.head().size
    ledger.check()


# --- tiles at every edge -------------------------------------------------------------------------

BULK = """
INSERT INTO entry (log_index, data)
SELECT n, convert_to('{"format":"certledger entry v1","kind":"status","reflects":' || n
    || ',"registry_root":"' || repeat('0', 64) || '","time":"2026-03-01T00:00:00Z"}', 'UTF8')
FROM generate_series(%s::bigint, %s::bigint - 1) AS n
"""


def grow(ledger: StoredLedger, size: int) -> Head:
    """Cheap entries up to `size`, the last one a real status entry."""
    was = ledger.sequencing.head()
    ((begin,),) = ledger.rows("SELECT next_index FROM allocation")
    if size - 1 > begin:
        connection = connect(ledger.url, "bulk")
        query(connection, BULK, begin, size - 1)
        query(connection, "UPDATE allocation SET next_index = %s", size - 1)
        connection.close()
    maps = Maps.load(ledger.sequencing.connection)
    assert ledger.sequencing.append_status(maps) == size
    return advance(ledger.sequencing, was, size, maps)


def test_tiles_around_256(ledger: StoredLedger) -> None:
    for size in (254, 255, 256, 257, 258, 511, 512, 513, 1023, 1025):
        ledger.rows("UPDATE allocation SET ledger_time = ledger_time - %s", 11 * MINUTE)
        assert grow(ledger, size).size == size
        check_tree(ledger)


def test_tiles_around_65536(ledger: StoredLedger) -> None:
    seen = []
    for size in (65_535, 65_536, 65_537):
        ledger.rows("UPDATE allocation SET ledger_time = ledger_time - %s", 11 * MINUTE)
        head = grow(ledger, size)
        seen.append((head, {(row[0], row[1]): row[2] for row in ledger.rows("TABLE tile")}))
    leaves = leaf_hashes(ledger)
    for head, stored in seen:
        assert head.root == tree_hash(leaves[: head.size])
        assert stored == tiles_of(leaves[: head.size])
    sequencer(ledger).start()
    ((size, note),) = published(ledger)
    check_checkpoint(note, leaves[:size], world.CHECKPOINT)


def test_who_waits_for_a_checkpoint_is_woken_by_it(ledger: StoredLedger) -> None:
    waiting = connect(ledger.url, "waiting")
    listen_to_publication(waiting)
    wait_for_publication(waiting, 0)  # nothing came: back at once

    def publish_later() -> None:
        time.sleep(0.2)
        sequencer(ledger).round()

    thread = threading.Thread(target=publish_later)
    begun = time.monotonic()
    thread.start()
    wait_for_publication(waiting, 60)
    assert 0.2 <= time.monotonic() - begun < 30
    thread.join()
    assert published(ledger)
    ledger.send(ledger.make(ledger.issued("n1")))
    sequencer(ledger).round()
    begun = time.monotonic()
    wait_for_publication(waiting, 60)  # told between two waits
    assert time.monotonic() - begun < 30
    waiting.close()
    ledger.check()


def test_a_relay_is_due_for_each_kind_alone(ledger: StoredLedger) -> None:
    rounds, names = sequencer(ledger), ("recalls", "receipts", "outbox", "ends")
    store = rounds._store
    assert not store.is_relay_due(*names)

    def news(relay: str) -> None:
        """Due until this relay stands behind what came."""
        assert store.is_relay_due(*names)
        tables = {"recalls": "recall", "outbox": "outbox", "ends": "expiry_notice"}
        size = rounds._store.published()
        if relay in tables:
            ((end,),) = ledger.rows(f"SELECT max(number) + 1 FROM {tables[relay]}")
        else:
            assert size is not None
            end = size[0]
        store.move_relay(relay, end - 1)
        assert store.is_relay_due(*names)
        store.move_relay(relay, end)
        assert not store.is_relay_due(*names)

    assert rounds.round() is not None
    news("receipts")
    ledger.send(b"a dead letter")
    news("outbox")
    ledger.rows(
        "INSERT INTO expiry_notice VALUES (0, %s, 1, 30, ''), (1, %s, 1, 7, '') RETURNING 1",
        bytes(32), bytes(32),
    )  # fmt: skip
    news("ends")
    ledger.rows(
        "INSERT INTO recall VALUES (0, 1, 0, %s, 1, 0, NULL, 'revoked') RETURNING 1", bytes(32)
    )
    news("recalls")
