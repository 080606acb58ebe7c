"""Step 5 over a real PostgreSQL: one transaction per batch, one turn at a time, one row each."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, make_dsn, parse_dsn

from ledger import admission, identity, lifecycle, staterow
from ledger.bundle import format_record, note_hash
from ledger.errors import Conflict, LedgerError, ProofError, Refused, Unavailable
from ledger.event import make_event_id
from ledger.fast_turn import FastTurn
from ledger.identity import certificate_key, holder_key
from ledger.lifecycle import holder_link
from ledger.postgres import migrate as migrations_module
from ledger.postgres import store as store_module
from ledger.postgres import turn_writing
from ledger.postgres import view as view_module
from ledger.postgres.connection import connect, transaction
from ledger.postgres.map_reading import acts_of
from ledger.postgres.migrate import (
    SchemaGap,
    check_schema,
    enough_to_know,
    migrate,
    migrations,
    schema_gap,
)
from ledger.postgres.statements import sql
from ledger.postgres.store import Fetched, Store, create_ledger
from ledger.staterow import unpack_state
from streams.intake import turn_length
from tests import world
from tests.stored_ledger import TOPIC, StoredLedger, damage, query

NUMBER = "京A-1"


# --- migrations ----------------------------------------------------------------------------------

CATALOGUE = {
    "tables": "SELECT relname, relkind, reloptions FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    "columns": "SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod),"
    " attnotnull, attstorage, attcompression, pg_get_expr(adbin, adrelid)"
    " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
    " WHERE attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r'"
    " AND relnamespace = 'public'::regnamespace) AND attnum > 0 AND NOT attisdropped"
    " ORDER BY 1, 2",
    "constraints": "SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid)"
    " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    " ORDER BY 1, 2",
    "triggers": "SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid)"
    " FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    "functions": "SELECT proname, pg_get_functiondef(oid) FROM pg_proc"
    " WHERE pronamespace = 'public'::regnamespace ORDER BY 1",
}


def catalogue(url: str) -> dict[str, list[tuple[Any, ...]]]:
    connection = psycopg2.connect(url)
    try:
        return {name: query(connection, text) for name, text in CATALOGUE.items()}
    finally:
        connection.close()


@pytest.fixture
def second_database_url(postgres_url: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    admin = psycopg2.connect(postgres_url)
    admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        yield make_dsn(**{**parse_dsn(postgres_url), "dbname": name})
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    admin.close()


def test_migrations_from_nothing_equal_the_schema(
    database_url: str, second_database_url: str
) -> None:
    connection = connect(database_url, "test")
    assert migrate(connection) == [name for _, name, _ in migrations()]
    query(connection, "DROP TABLE migration")
    connection.close()
    whole = psycopg2.connect(second_database_url)
    query(whole, sql("schema"))
    whole.close()
    migrated, stated = catalogue(database_url), catalogue(second_database_url)
    for name in CATALOGUE:
        assert migrated[name] == stated[name], name
    assert len(stated["triggers"]) >= 10


def statements(text: str) -> list[str]:
    """Of a migration, in order; what is quoted, or a comment, has no boundary."""
    found = [""]
    for number, part in enumerate(
        re.split(r"(\$\$.*?\$\$|'[^']*'|--[^\n]*)", text, flags=re.DOTALL)
    ):
        ended = [part] if number % 2 else part.split(";")
        found[-1] += ended[0]
        found += ended[1:]
    assert not found[-1].strip()
    return found[:-1]


def test_every_migration_goes_on_where_it_was_interrupted(
    database_url: str, second_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server process ends after each of its statements, the last included."""
    real = migrations()
    asked: list[tuple[int, str, str]] = []
    monkeypatch.setattr(migrations_module, "migrations", lambda: asked)
    interrupted = 0
    for place, (number, name, text) in enumerate(real):
        before = catalogue(database_url)
        parts = statements(text)
        for count in range(1, len(parts) + 1):
            ends = "SELECT pg_terminate_backend(pg_backend_pid())"
            asked[:] = [*real[:place], (number, name, ";".join([*parts[:count], ends]))]
            connection = connect(database_url, "test")
            with pytest.raises(Unavailable, match="unreachable"):
                migrate(connection)
            connection.close()
            interrupted += 1
            if place:
                assert catalogue(database_url) == before, (name, count)
        asked[:] = real[: place + 1]
        connection = connect(database_url, "test")
        assert migrate(connection) == [name]
        assert migrate(connection) == []
        connection.close()
    assert interrupted > 2 * len(real)
    connection = connect(second_database_url, "test")
    assert migrate(connection) == [name for _, name, _ in real]
    connection.close()
    assert catalogue(database_url) == catalogue(second_database_url)


def test_a_later_versions_database_is_left_alone(database_url: str) -> None:
    connection = connect(database_url, "test")
    migrate(connection)
    before = catalogue(database_url)
    query(connection, "INSERT INTO migration (number, name, hash) VALUES (999, 'to_come', 'x')")
    with pytest.raises(Conflict, match=r"another version of the program \(999 to_come\)"):
        migrate(connection)
    connection.close()
    assert catalogue(database_url) == before


def test_a_program_writes_only_to_the_schema_that_it_knows(database_url: str) -> None:
    connection = connect(database_url, "test")
    with pytest.raises(Unavailable, match="no ledger yet"):
        check_schema(connection)
    migrate(connection)
    check_schema(connection)
    last, name, _ = migrations()[-1]
    query(connection, "DELETE FROM migration WHERE number = %s", last)
    with pytest.raises(Conflict, match=f"lacks the migration {last} {name}"):
        check_schema(connection)
    query(connection, "INSERT INTO migration (number, name, hash) VALUES (999, 'to_come', 'x')")
    with pytest.raises(Conflict, match=r"another version of the program \(999 to_come\)"):
        check_schema(connection)
    connection.close()


def test_a_migration_says_which_earlier_programs_go_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier program goes on beside a later schema that only adds, and leaves it as it is."""
    real = migrations()
    last, _, _ = real[-1]
    says = f"-- More.\n-- Enough to know: migration {last}.\nCREATE TABLE more (one integer);\n"
    later = [*real, (9998, "more", says), (9999, "yet_more", says.replace(" more", " yet_more"))]
    connection = connect(database_url, "test")
    with monkeypatch.context() as patch:
        patch.setattr(migrations_module, "migrations", lambda: later)
        assert migrate(connection)[-2:] == ["more", "yet_more"]
        assert schema_gap(connection) == SchemaGap()
    before = catalogue(database_url)
    check_schema(connection)
    assert migrate(connection) == []
    assert catalogue(database_url) == before
    assert schema_gap(connection) == SchemaGap(later=("9998 more", "9999 yet_more"))
    only = max(number for number, _, text in real if enough_to_know(text) is None)
    monkeypatch.setattr(migrations_module, "migrations", lambda: real[: only - 1])
    with pytest.raises(Conflict, match=f"another version of the program \\({only} "):
        check_schema(connection)
    assert schema_gap(connection).refused == schema_gap(connection).later
    connection.close()


def test_a_database_from_before_migrations_said_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = migrations()
    connection = connect(database_url, "test")
    with monkeypatch.context() as patch:
        patch.setattr(migrations_module, "migrations", lambda: real[:-1])
        migrate(connection)
    query(connection, "ALTER TABLE migration DROP COLUMN enough")
    assert schema_gap(connection).lacking == (f"{real[-1][0]} {real[-1][1]}",)
    assert migrate(connection) == [real[-1][1]]
    query(connection, "INSERT INTO migration (number, name, hash) VALUES (999, 'to_come', 'x')")
    assert schema_gap(connection).refused == ("999 to_come",)
    connection.close()


def test_two_migrate_at_once(database_url: str) -> None:
    done: list[list[str] | BaseException] = []

    def run() -> None:
        connection = connect(database_url, "test")
        try:
            done.append(migrate(connection))
        except BaseException as err:
            done.append(err)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [d for d in done if isinstance(d, BaseException)]
    names = [name for d in done if not isinstance(d, BaseException) for name in d]
    assert sorted(names) == sorted(name for _, name, _ in migrations())


def test_a_migration_of_other_text_is_refused(database_url: str) -> None:
    connection = connect(database_url, "test")
    migrate(connection)
    query(connection, "UPDATE migration SET hash = 'x' WHERE number = 1")
    with pytest.raises(Conflict, match="other text"):
        migrate(connection)
    connection.close()


# --- what the database itself refuses ------------------------------------------------------------


APPEND_ONLY = [
    *("entry", "lines", "signer", "delta", "certificate_kind", "holder_act", "lane_note"),
    "equivocation",
    *("accounting", "outbox", "status", "blinding_secret"),
]


def test_append_only(ledger: StoredLedger) -> None:
    column = {"entry": "data", "lines": "data", "delta": "holders", "holder_act": "acts"}
    column |= {"blinding_secret": "secret", "signer": "number", "certificate_kind": "number"}
    for table in APPEND_ONLY:
        name = column.get(table, "log_index")
        for statement in (
            f"UPDATE {table} SET {name} = {name}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            with pytest.raises(psycopg2.errors.RestrictViolation, match="append-only"):
                ledger.rows(statement)
    for statement in ("DELETE FROM checkpoint", "TRUNCATE checkpoint"):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            ledger.rows(statement)


def test_a_second_genesis_is_refused(ledger: StoredLedger) -> None:
    keys = (str(world.CHECKPOINT.key), str(world.OPERATOR.key))
    with pytest.raises(Refused, match="holds a ledger already"):
        create_ledger(ledger.connection, world.ORIGIN, *keys)


def test_no_ledger(database_url: str) -> None:
    connection = connect(database_url, "test")
    with pytest.raises(Unavailable) as caught:
        Store(connection)
    assert caught.value.code == "not-initialised"
    migrate(connection)
    with pytest.raises(Unavailable) as caught:
        Store(connection)
    assert caught.value.code == "not-initialised"
    connection.close()


def test_unreachable() -> None:
    with pytest.raises(Unavailable, match="PostgreSQL"):
        connect("postgresql://127.0.0.1:1/none", "test")


# --- offsets -------------------------------------------------------------------------------------


def test_offsets_begin_at_nothing_and_follow(ledger: StoredLedger) -> None:
    record = ledger.make(ledger.issued(NUMBER))
    assert ledger.store.offsets(TOPIC, [0, 1]) == {0: (0, None), 1: (0, None)}
    assert ledger.send(record) == {"logged": 1}
    found = ledger.store.offsets(TOPIC, [0])
    assert found[0][0] == 1
    assert found[0][1] is not None
    assert len(found[0][1]) == 32
    ledger.check()


def test_records_below_the_next_offset_are_passed_over(ledger: StoredLedger) -> None:
    records = [ledger.make(ledger.issued(f"n{i}")) for i in range(4)]
    batch = [ledger.store.open(Fetched(0, i, r)) for i, r in enumerate(records)]
    assert ledger.store.apply(TOPIC, batch[:3]).outcomes == {"logged": 3}
    size = ledger.rows("SELECT next_index FROM allocation")
    assert ledger.store.apply(TOPIC, batch[:3]).outcomes == {}
    assert ledger.rows("SELECT next_index FROM allocation") == size
    # one batch with a repetition, as Faust may give after a rebalance
    assert ledger.store.apply(TOPIC, [batch[1], batch[3], batch[2]]).outcomes == {"logged": 1}
    assert ledger.rows("SELECT count(*) FROM accounting") == [(4,)]
    ledger.check()


def test_a_jump_takes_nothing(ledger: StoredLedger) -> None:
    for places in ([1], [0, 2], [0, 1, 3]):
        batch = [ledger.store.open(Fetched(0, o, b"x")) for o in places]
        message = f"partition 0: want offset {len(places) - 1}, got {places[-1]}"
        with pytest.raises(Conflict, match=message) as caught:
            ledger.store.apply(TOPIC, batch)
        assert caught.value.code == "offset-jump"
        assert ledger.store.offsets(TOPIC, [0])[0] == (0, None)
        assert ledger.rows("SELECT count(*) FROM accounting") == [(0,)]


def test_a_partition_nobody_began_is_a_jump(ledger: StoredLedger) -> None:
    with pytest.raises(Conflict, match="want offset None, got 0"):
        ledger.store.apply(TOPIC, [ledger.store.open(Fetched(7, 0, b"x"))])


def test_another_topic_id(ledger: StoredLedger) -> None:
    ledger.send(b"x")
    with pytest.raises(Conflict, match="this topic's id is U") as caught:
        ledger.store.offsets("U" * 22, [0])
    assert caught.value.code == "topic-changed"
    with pytest.raises(Conflict, match="want offset None"):
        ledger.store.apply("U" * 22, [ledger.store.open(Fetched(0, 0, b"x"))])


def test_a_zombie_doubles_nothing(ledger: StoredLedger) -> None:
    zombie = Store(connect(ledger.url, "zombie", writes=True))
    records = [ledger.make(ledger.issued(f"n{i}")) for i in range(9)]
    stores = [ledger.store, zombie]
    counted = 0
    for begin in range(0, 9, 3):
        for store in stores:
            batch = [
                store.open(Fetched(0, i, records[i])) for i in range(max(0, begin - 2), begin + 3)
            ]
            counted += store.apply(TOPIC, batch).outcomes.get("logged", 0)
        stores.reverse()
    assert counted == 9
    zombie.connection.close()
    assert ledger.counts() == {"admitted": 9}
    ledger.check()


def test_two_workers_apply_the_same_at_the_same_moment(ledger: StoredLedger) -> None:
    other = Store(connect(ledger.url, "other", writes=True))
    records = [ledger.make(ledger.issued(f"n{i}")) for i in range(24)]
    taken: list[int] = []
    failed: list[BaseException] = []

    def run(store: Store) -> None:
        try:
            for begin in range(0, 24, 4):
                batch = [store.open(Fetched(0, i, records[i])) for i in range(begin, begin + 4)]
                taken.append(store.apply(TOPIC, batch).outcomes.get("logged", 0))
        except BaseException as err:
            failed.append(err)

    threads = [threading.Thread(target=run, args=(s,)) for s in (ledger.store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.connection.close()
    # whoever is behind passes over; whoever falls out of step stops and reads on from the table
    assert all(isinstance(err, Conflict) and err.code == "offset-jump" for err in failed)
    assert sum(taken) <= 24
    done = ledger.store.offsets(TOPIC, [0])[0][0]
    assert done == sum(taken)
    ledger.offsets[0] = done
    if records[done:]:
        ledger.send(*records[done:])
    assert ledger.counts() == {"admitted": 24}
    ledger.check()


# --- the registry changes between open and apply -------------------------------------------------


def test_a_key_revoked_meanwhile(ledger: StoredLedger) -> None:
    opened = ledger.store.open(ledger.fetched(ledger.make(ledger.issued(NUMBER))))
    key, owner = world.bundle_signer("a"), world.registry_signer("a")
    ledger.registrar.change(
        f"key/{key.key.key_id}", world.key_change(key, "bundle", "a", revoked=True), owner
    )
    assert ledger.store.apply(TOPIC, [opened]).outcomes == {"dead-letter": 1}
    assert ledger.rows("SELECT code FROM outbox") == [("key-revoked",)]
    ledger.check()


def test_a_key_added_meanwhile(ledger: StoredLedger) -> None:
    new, owner, old = (
        world.bundle_signer("a", "new"),
        world.registry_signer("a"),
        world.bundle_signer("a"),
    )
    lines = ledger.issued(NUMBER)
    header = ledger.producers["a", 0].header(lines, ledger.now())
    record = format_record(world.make_note(header, new), lines)
    opened = ledger.store.open(ledger.fetched(record))
    before = ledger.store.open(ledger.fetched(record))
    ledger.registrar.change(
        f"key/{new.key.key_id}", world.key_change(new, "bundle", "a"), owner, old, new
    )
    assert ledger.store.apply(TOPIC, [opened]).outcomes == {"logged": 1}
    assert ledger.store.apply(TOPIC, [before]).outcomes == {"repeat": 1}
    ledger.check()


def test_a_type_changed_meanwhile(ledger: StoredLedger) -> None:
    opened = ledger.store.open(ledger.fetched(ledger.make(ledger.issued(NUMBER))))
    ledger.registrar.set_type(("a", ["renewed"], "own"))
    assert ledger.store.apply(TOPIC, [opened]).outcomes == {"logged": 1}
    assert ledger.counts() == {"act-not-authorised": 1}
    ledger.check()


# --- every record ends in exactly one outcome ----------------------------------------------------


def test_every_outcome_has_one_row_and_its_message(ledger: StoredLedger) -> None:
    producer = ledger.producers["a", 0]
    opened_by = producer.previous
    first = ledger.make(ledger.issued("n1"))
    second_lines = ledger.issued("n2")
    second = ledger.make(second_lines)
    late = world.make_record(
        ledger.issued("n3"), producer=producer.producer, sequence=9, previous=bytes(32)
    )
    same_number = world.make_record(
        ledger.issued("n4"), producer=producer.producer, previous=opened_by
    )
    stranger = world.make_record(ledger.issued("n5"), producer="f" * 32, previous=opened_by)
    damaged = first[:-2] + b"]\n"
    offsets = {}
    for name, record in {
        "logged": first,
        "repeat": first,
        "out-of-sequence": late,
        "equivocation": same_number,
        "fenced": stranger,
        "dead-letter": damaged,
    }.items():
        offsets[name] = ledger.offsets[0]
        assert ledger.send(record) == {name: 1}, name
    again = ledger.offsets[0]
    assert ledger.send(same_number, second) == {"equivocation": 1, "logged": 1}
    index = ledger.outcome(offsets["logged"])[1]
    assert index is not None
    assert ledger.outcome(offsets["logged"]) == ("logged", index, None)
    assert ledger.outcome(offsets["repeat"]) == ("repeat", index, 0)
    assert ledger.outcome(offsets["out-of-sequence"]) == ("out-of-sequence", None, 1)
    assert ledger.outcome(offsets["equivocation"]) == ("equivocation", index + 1, 2)
    assert ledger.outcome(offsets["fenced"]) == ("fenced", None, 3)
    assert ledger.outcome(offsets["dead-letter"]) == ("dead-letter", None, 4)
    assert ledger.outcome(again) == ("equivocation", None, 5)  # logged once
    box = ledger.rows("SELECT number, outcome, code, notice IS NULL, record FROM outbox ORDER BY 1")
    assert box == [
        (0, "repeat", None, True, None),  # its receipt is sent again, no notice
        (1, "out-of-sequence", "out-of-sequence", False, None),
        (2, "equivocation", "equivocation", False, None),
        (3, "fenced", "fenced", False, None),
        (4, "dead-letter", "lines-do-not-match-note", True, damaged),
        (5, "equivocation", "equivocation", False, None),
    ]
    notice = ledger.rows("SELECT notice FROM outbox WHERE number = 1")[0][0]
    assert b'"want_epoch":0,"want_sequence":1' in notice
    assert ledger.rows("SELECT count(*) FROM accounting") == [(8,)]
    assert ledger.rows("SELECT next_outbox FROM allocation") == [(6,)]
    ledger.check()


def test_one_batch_with_everything_in_it(ledger: StoredLedger) -> None:
    record = ledger.make(ledger.issued("n1", "n2"))
    other = ledger.make(ledger.issued("b1", issuer="b"), "b")
    batch = [b"", record, None, other, record, b"\x00" * 100, record]
    assert ledger.send(*batch) == {"dead-letter": 3, "logged": 2, "repeat": 2}
    ledger.check()


def test_hostile_bytes_are_all_accounted_for(ledger: StoredLedger) -> None:
    """Good records with bytes flipped, cut, doubled; nothing stops the store."""
    rng = random.Random(20261124)
    base = ledger.make(ledger.issued("n1", "n2", claims={"note": "甲\u202e乙"}))
    sent = 0
    for _ in range(8):
        batch: list[bytes | None] = []
        for _ in range(24):
            data = bytearray(base)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                match rng.randrange(4):
                    case 0:
                        data[at] ^= 1 << rng.randrange(8)
                    case 1:
                        del data[at : at + rng.randrange(40)]
                    case 2:
                        data[at:at] = rng.randbytes(rng.randrange(8))
                    case _:
                        data[at : at + 1] = b"\x00"
                if not data:
                    break
            batch.append(bytes(data))
        sent += len(batch)
        ledger.send(*batch)
    assert ledger.rows("SELECT count(*) FROM accounting") == [(sent,)]
    assert ledger.rows("SELECT count(*) FROM accounting WHERE outcome = 'logged'")[0][0] <= 1
    ledger.check()


# --- the turn ------------------------------------------------------------------------------------


def hold_idle(connection: Any) -> None:
    """Take the turn and freeze between two statements."""
    cursor = connection.cursor()
    cursor.execute(sql("lock_allocation"))


def hold_in_copy(connection: Any) -> None:
    """Take the turn and freeze in the middle of a COPY, as a stopped process would."""
    cursor = connection.cursor()
    cursor.execute(sql("lock_allocation"))

    class Frozen(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1, /) -> bytes:
            time.sleep(30)
            return b""

    thread = threading.Thread(target=_copy, args=(cursor, Frozen()), name="frozen", daemon=True)
    thread.start()
    time.sleep(0.2)


def _copy(cursor: Any, source: Any) -> None:
    with contextlib.suppress(psycopg2.Error):
        cursor.copy_expert("COPY entry (log_index, data) FROM STDIN (FORMAT binary)", source)


@pytest.mark.parametrize("freeze", [hold_idle, hold_in_copy])
def test_a_frozen_holder_of_the_turn_is_ended(
    ledger: StoredLedger, freeze: Callable[[Any], None]
) -> None:
    holder = connect(ledger.url, "frozen", writes=True)
    freeze(holder)
    begun = time.monotonic()
    assert ledger.send(ledger.make(ledger.issued(NUMBER))) == {"logged": 1}
    waited = time.monotonic() - begun
    assert waited < 6
    ledger.sequencing.append_status()
    holders = ledger.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'certledger-frozen'"
    )
    assert holders == [(0,)]
    ledger.check()


@pytest.mark.parametrize("table", ["certificate", "holder"])
@pytest.mark.parametrize("place", ["left", "another's"])
def test_rows_are_written_only_where_their_keys_are(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch, table: str, place: str
) -> None:
    """A row that is not where it was read, as only somebody beside the turn can move it, ends the
    turn, which finds it when it is begun again; another's row is left alone.
    """
    holders = [f"1:{n:064x}" for n in range(2)]
    issued = [ledger.issued(f"n{n}", holder_pseudonym=holders[n])[0] for n in range(2)]
    ledger.send(ledger.make(issued))
    renewed = [ledger.event("renewed", f"n{n}", valid_until="2031-01-01+08:00") for n in range(2)]
    bound = [ledger.issued(f"m{n}", holder_pseudonym=holders[n])[0] for n in range(2)]
    batch = [ledger.store.open(ledger.fetched(ledger.make([*renewed, *bound])))]
    before = [ledger.rows(statement) for statement in ROWS]
    finish = turn_writing.Pieces.finish

    def elsewhere(pieces: turn_writing.Pieces, turn: Any, view: Any) -> None:
        if place == "left":
            ledger.rows(f"UPDATE {table} SET rest = rest RETURNING 1")
        elif table == "certificate":
            one, other = view.places
            view.places[one], view.places[other] = view.places[other], view.places[one]
        else:
            one, other = view.holders
            at = view.holders[one][3], view.holders[other][3]
            view.holders[one], view.holders[other] = (
                (*view.holders[key][:3], where)
                for key, where in zip((one, other), reversed(at), strict=True)
            )
        finish(pieces, turn, view)

    with monkeypatch.context() as patch:
        patch.setattr(turn_writing.Pieces, "finish", elsewhere)
        with pytest.raises(Conflict, match="vanished"):
            ledger.store.apply(TOPIC, batch)
    assert [ledger.rows(statement) for statement in ROWS] == before
    assert ledger.store.apply(TOPIC, batch).outcomes == {"logged": 1}
    ledger.check()


def test_a_failure_in_the_middle_leaves_nothing(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.send(ledger.make(ledger.issued("n0")))
    tables = "entry lines delta certificate holder lane lane_note accounting outbox signer"
    before = {t: ledger.rows(f"SELECT * FROM {t} ORDER BY 1, 2") for t in tables.split()}
    registry, counts = ledger.store._registry, ledger.counts()
    batch = [
        ledger.store.open(Fetched(0, 1 + i, value))
        for i, value in enumerate(
            [ledger.make(ledger.issued("n1", holder_pseudonym=f"1:{7:064x}")), b"junk"]
        )
    ]
    for owner, name in (
        (turn_writing.Pieces, "_copy_entries"),
        (turn_writing.Pieces, "_copy_certificates"),
        (turn_writing.Pieces, "_copy_holders"),
        (store_module, "_copy_lanes"),
        (store_module, "_add_tallies"),
        (store_module, "copy"),
    ):
        real = getattr(owner, name)

        def fail(*args: Any, real: Any = real) -> None:
            real(*args)
            raise RuntimeError("injected")

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(RuntimeError, match="injected"):
                ledger.store.apply(TOPIC, batch)
        after = {t: ledger.rows(f"SELECT * FROM {t} ORDER BY 1, 2") for t in tables.split()}
        assert after == before, name
        assert (ledger.store._registry, ledger.counts()) == (registry, counts)
    # the same connection and the same opened records go on
    assert ledger.store.apply(TOPIC, batch).outcomes == {"logged": 1, "dead-letter": 1}
    ledger.check()


def test_a_lost_connection_is_unavailable(ledger: StoredLedger) -> None:
    pid = ledger.connection.info.backend_pid
    opened = ledger.store.open(ledger.fetched(ledger.make(ledger.issued(NUMBER))))
    ledger.rows("SELECT pg_terminate_backend(%s)", pid)
    with pytest.raises(Unavailable) as caught:
        ledger.store.apply(TOPIC, [opened])
    assert caught.value.code == "unreachable"
    store = Store(connect(ledger.url, "again", writes=True))
    assert store.apply(TOPIC, [opened]).outcomes == {"logged": 1}
    store.connection.close()
    ledger.check()


# --- events --------------------------------------------------------------------------------------


def test_refused_events(ledger: StoredLedger) -> None:
    issued = ledger.event("issued", NUMBER)
    lines = [
        issued,
        issued,
        ledger.event("issued", NUMBER),
        ledger.event("reinstated", NUMBER),
        ledger.event("renewed", "never-issued"),
        ledger.event("issued", "n2", type_code="no-such-type"),
        ledger.event("issued", "n3", issuer="b"),
        b'{"not":"an event"}',
        b"{}" * 40_000,
        b"\xff\xfe",
        ledger.event("suspended", NUMBER, reason_code="x"),
    ]
    assert ledger.send(ledger.make(lines)) == {"logged": 1}
    assert ledger.counts() == {
        "admitted": 2,
        "repeat": 1,
        "already-issued": 1,
        "invalid-transition": 1,
        "not-issued": 1,
        "unknown-type": 1,
        "act-not-authorised": 1,
        "malformed-event": 1,
        "line-too-large": 1,
        "not-canonical": 1,
    }
    again = world.make_event("issued", NUMBER, change="1", claims={"a": "b"})
    assert ledger.send(ledger.make([issued, again])) == {"logged": 1}
    assert ledger.counts()["repeat"] == 2
    assert ledger.counts()["event-id-conflict"] == 1
    ledger.check()


def test_a_wrong_previous_and_a_wrong_signing_time_refuse_all_and_use_the_number(
    ledger: StoredLedger,
) -> None:
    producer = ledger.producers["a", 0]
    lines = ledger.issued("n1", "n2")
    header = producer.header(lines, ledger.now(), previous=bytes(32))
    assert ledger.send(format_record(world.make_note(header), lines)) == {"logged": 1}
    assert ledger.counts() == {"wrong-previous": 2}
    producer.previous = note_hash(header.text())
    producer.sequence = 1
    ahead = producer.make(ledger.issued("n3"), ledger.now() + 3600 * 1_000_000)
    assert ledger.send(ahead) == {"logged": 1}
    assert ledger.counts()["signing-time"] == 1
    assert ledger.send(ledger.make(ledger.issued("n4"))) == {"logged": 1}
    assert ledger.counts()["admitted"] == 1
    ledger.check()


def test_holders_and_corrections(ledger: StoredLedger) -> None:
    one, two = (f"1:{n:064x}" for n in (1, 2))
    issued = ledger.event("issued", NUMBER, holder_pseudonym=one)
    wrong = ledger.event("suspended", NUMBER, reason_code="error")
    ledger.send(ledger.make([issued, wrong]))
    wrong_id = make_event_id("a", "test/register", NUMBER, "suspended", "2")
    ledger.send(
        ledger.make(
            [
                ledger.event(
                    "corrected", NUMBER, corrects=wrong_id, correction="void", reason_code="error"
                ),
                ledger.event("amended", NUMBER, holder_pseudonym=two),
                ledger.event(
                    "corrected", NUMBER, corrects="f" * 32, correction="void", reason_code="error"
                ),
            ]
        )
    )
    assert ledger.counts() == {"admitted": 4, "unknown-event": 1}
    assert sorted(r[0] for r in ledger.rows("SELECT acts FROM holder")) == [1, 2]
    assert holder_of(ledger) == holder_key(two)[:16]
    # what came back from the tables is what the rules left: a third act builds on it
    ledger.send(ledger.make([ledger.event("amended", NUMBER, holder_pseudonym=one)]))
    assert sorted(r[0] for r in ledger.rows("SELECT acts FROM holder")) == [2, 3]
    for pseudonym, expected in ((one, [True, False, True]), (two, [True, False])):
        key = holder_key(pseudonym)
        with transaction(ledger.connection) as cursor:
            acts = acts_of(cursor, key)
        assert [bound for _, _, bound in acts] == expected
        link = key
        for index, position, bound in acts:
            certificate = certificate_key(world.TYPE, "a", NUMBER)
            link = holder_link(link, bound, certificate, index, position)
        rows = ledger.rows("SELECT acts, link FROM holder WHERE rest = %s::uuid", key[16:].hex())
        assert rows == [(len(acts), link)]
    ledger.check()


def holder_of(ledger: StoredLedger) -> bytes:
    """The first half of the map key of who holds the only certificate."""
    ((state,),) = ledger.rows("SELECT state FROM certificate")
    return unpack_state(state)[2]


def test_many_acts_of_a_holder(ledger: StoredLedger) -> None:
    """64 to a row, whatever the turns were; each side of the edge."""
    pseudonym = f"1:{7:064x}"
    done = 0
    for count in (63, 1, 1, 200, 55):
        numbers = [f"n{n}" for n in range(done, done + count)]
        ledger.send(ledger.make(ledger.issued(*numbers, holder_pseudonym=pseudonym)))
        done += count
        with transaction(ledger.connection) as cursor:
            assert len(acts_of(cursor, holder_key(pseudonym))) == done
    assert ledger.rows("SELECT count(*), min(length(acts)) FROM holder_act") == [(5, 512)]
    assert ledger.rows("SELECT acts, recent FROM holder") == [(320, b"")]
    ledger.checkpoint()
    ledger.check()


def test_repeats_all_over_the_log(ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where their first lines lie is read before the turn when it is much; the codes are exact."""
    monkeypatch.setattr(view_module, "CHUNKS_IN_TURN", 2)
    lines = ledger.issued(*(f"n{n}" for n in range(6)))
    for line in lines:
        ledger.send(ledger.make([line]))
    conflict = ledger.event("renewed", "n5", event_id=json.loads(lines[5])["id"])
    turns: list[int] = []
    real = Store._apply

    def count(store: Store, topic: str, batch: Any, known: Any, left: int) -> Any:
        turns.append(left)
        return real(store, topic, batch, known, left)

    monkeypatch.setattr(Store, "_apply", count)
    ledger.send(ledger.make([*lines, conflict]))
    # the first took what it was to issue for new
    assert turns == [store_module.ATTEMPTS - n for n in range(3)]
    assert ledger.counts() == {"admitted": 6, "repeat": 6, "event-id-conflict": 1}
    alike = json.loads(lines[0])["id"][:8] + "0" * 24
    ledger.send(ledger.make([ledger.event("renewed", "n0", event_id=alike)]))
    assert ledger.counts()["admitted"] == 7
    ledger.check()


def test_what_is_only_issued_is_looked_for_once_it_was_there(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates to issue are taken for new: the primary key says of those that were issued, a
    last look of those that were refused, that they are not, and the turn is begun again.
    """
    monkeypatch.setattr(store_module, "WARY", 2)
    turns: list[int] = []
    real = Store._apply

    def count(store: Store, *args: Any) -> Any:
        turns.append(store._wary)
        return real(store, *args)

    monkeypatch.setattr(Store, "_apply", count)

    def sent(*lines: bytes) -> list[int]:
        turns.clear()
        assert ledger.send(ledger.make(list(lines))) == {"logged": 1}
        return turns

    first = ledger.issued("n0", "n1")
    assert sent(*first) == [0]
    assert sent(*ledger.issued("n2", "n0", "n3")) == [0, 2]  # a row of this key is there
    assert sent(first[1], *ledger.issued("n4")) == [1]
    assert sent(first[1]) == [0, 2]
    assert sent(*ledger.issued("n5")) == [1]
    unknown = ledger.event("issued", "n5", type_code="OTHER")
    assert sent(unknown, *ledger.issued("n6")) == [0]  # refused, and new indeed
    refused = ledger.event("issued", "n5", valid_from="2031-01-01+08:00", valid_until="2030-01-01Z")
    assert sent(refused) == [0, 2]
    assert ledger.rows("SELECT count(*) FROM certificate") == [(7,)]
    counts = {"admitted": 7, "already-issued": 2, "repeat": 2, "unknown-type": 1}
    assert ledger.counts() == counts
    ledger.check()


def test_nobody_makes_a_turn_read_much(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that are refused before their histories are read use up what is read ahead of the turn;
    what the lines after them need is read ahead all the same, not while every writer waits.
    """
    monkeypatch.setattr(view_module, "CHUNKS_IN_TURN", 2)
    monkeypatch.setattr(admission, "MAX_FOLDED", 8)
    numbers = [f"n{n}" for n in range(5)]
    issued = ledger.issued(*numbers)
    renewed = [ledger.event("renewed", number) for number in numbers]
    for line in (*issued, *renewed):
        ledger.send(ledger.make([line]))
    taken = json.loads(issued[0])["id"]
    void = {"correction": "void", "reason_code": "error"}
    target = json.loads(renewed[0])["id"]
    refused = [
        ledger.event("corrected", "n0", event_id=taken, corrects=target, **void) for _ in range(5)
    ]
    corrected = [
        ledger.event("corrected", number, corrects=json.loads(line)["id"], **void)
        for number, line in zip(numbers[1:], renewed[1:], strict=True)
    ]
    turns: list[int] = []
    apply, ahead, read = Store._apply, Store._read_ahead, view_module.read_known

    def count_turn(*args: Any) -> Any:
        turns.append(0)
        return apply(*args)

    def count(cursor: Any, places: Any) -> Any:
        turns[-1] += len({view_module.chunk_of(place) for place in places})
        return read(cursor, places)

    def read_ahead(*args: Any) -> None:
        said = turns[-1]
        ahead(*args)
        turns[-1] = said

    monkeypatch.setattr(Store, "_apply", count_turn)
    monkeypatch.setattr(Store, "_read_ahead", read_ahead)
    monkeypatch.setattr(view_module, "read_known", count)
    ledger.send(ledger.make([*refused, *corrected]))
    assert ledger.counts() == {"admitted": 14, "event-id-conflict": 5}
    assert max(turns) <= 2
    assert len(turns) < store_module.ATTEMPTS
    ledger.check()


def test_half_a_map_key_is_nobody_elses(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can find two such numbers; if someone does, nothing stops, and only his is refused."""
    real = identity.certificate_key, identity.holder_key

    def alike(key: bytes) -> bytes:
        return key[:1] + bytes(15) + key[16:]

    monkeypatch.setattr(identity, "certificate_key", lambda *parts: alike(real[0](*parts)))
    monkeypatch.setattr(identity, "holder_key", lambda text: alike(real[1](text)))
    for n in range(0, 60, 20):
        numbers = [f"k{i}" for i in range(n, n + 20)]
        held = [
            ledger.event("issued", number, holder_pseudonym=f"1:{int(number[1:]):064x}")
            for number in numbers
        ]
        ledger.send(ledger.make(held))
    counts = ledger.counts()
    assert counts["key-taken"] > 0
    assert counts["admitted"] + counts["key-taken"] == 60
    firsts = {alike(real[0](world.TYPE, "a", f"k{n}"))[:1] for n in range(60)}
    assert counts["admitted"] <= len(firsts)
    # and where the turn reads the first one's row for its own sake as well
    renewed = [ledger.event("renewed", f"k{n}") for n in range(60)]
    others = [ledger.event("issued", f"k{n}") for n in range(60, 120)]
    ledger.send(ledger.make([*renewed, *others]))
    again = ledger.counts()
    assert again["admitted"] >= 2 * counts["admitted"]
    # whose holder's key was taken were not issued
    assert again["admitted"] + again["key-taken"] + again["not-issued"] == 180
    ledger.check()


def test_two_departments_act_on_one_certificate(ledger: StoredLedger) -> None:
    ledger.send(ledger.make(ledger.issued(NUMBER)))
    other = Store(connect(ledger.url, "other", writes=True))
    renewed = ledger.store.open(
        ledger.fetched(ledger.make([ledger.event("renewed", NUMBER)]), partition=0)
    )
    revoked = other.open(
        ledger.fetched(
            ledger.make([ledger.event("revoked", NUMBER, revocation_kind="penalty")], "b"),
            partition=1,
        )
    )
    begin = threading.Barrier(2)

    def run(store: Store, checked: Any) -> None:
        begin.wait()
        store.apply(TOPIC, [checked])

    threads = [
        threading.Thread(target=run, args=pair)
        for pair in ((ledger.store, renewed), (other, revoked))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.connection.close()
    # either the renewal came first, or the revocation and then the renewal is impossible
    counts = ledger.counts()
    assert counts in ({"admitted": 3}, {"admitted": 2, "invalid-transition": 1})
    ledger.send(ledger.make([ledger.event("renewed", NUMBER)]))
    assert ledger.counts()["invalid-transition"] == counts.get("invalid-transition", 0) + 1
    ledger.check()


def test_registry_changes_by_notes(ledger: StoredLedger) -> None:
    book = ledger.registrar.book
    note = book.note("department/c", world.department_change("c"), world.OPERATOR)
    index = ledger.store.change_registry(note)
    assert index is not None
    assert ledger.store.change_registry(note) is None
    other = book.note("department/c", world.department_change("c", 2), world.OPERATOR)
    size = ledger.rows("SELECT next_index FROM allocation")
    with pytest.raises(LedgerError) as caught:
        ledger.store.change_registry(other)
    assert caught.value.code == "registry-conflict"
    fresh = book.note("department/d", world.department_change("d"), world.OPERATOR)
    at = len(fresh) - 9
    with pytest.raises(LedgerError):
        ledger.store.change_registry(fresh[:at] + bytes([fresh[at] ^ 1]) + fresh[at + 1 :])
    assert ledger.rows("SELECT next_index FROM allocation") == size
    ledger.check()


def test_a_transaction_is_ended_after_its_time(ledger: StoredLedger) -> None:
    """What PostgreSQL does to a writer that takes too long reads as unavailable, not as a bug."""
    query(ledger.connection, "SET transaction_timeout = '100ms'")
    with pytest.raises(Unavailable), transaction(ledger.connection) as cursor:
        cursor.execute("SELECT pg_sleep(2)")


def test_corrections_of_long_histories_end_within_a_turn(ledger: StoredLedger) -> None:
    """What one turn may fold takes less than PostgreSQL allows: no department can stop intake."""
    certificates, length = 32, 200
    last = {}
    for n in range(certificates):
        lines = ledger.issued(f"L{n}")
        lines += [ledger.event("amended", f"L{n}") for _ in range(length - 1)]
        assert ledger.send(ledger.make(lines)) == {"logged": 1}
        last[n] = json.loads(lines[-1])["id"]
    words = {"correction": "restate", "reason_code": "x", "valid_until": "2030-01-01+08:00"}
    bundles = []
    for _ in range(2):
        numbers = [i % certificates for i in range(admission.MAX_FOLDED // length + 10)]
        lines = [ledger.event("corrected", f"L{n}", corrects=last[n], **words) for n in numbers]
        bundles.append(ledger.make(lines))
    batch = [ledger.store.open(ledger.fetched(bundle)) for bundle in bundles]
    assert turn_length(batch, 256) == 2
    assert ledger.store.apply(TOPIC, batch).outcomes == {"logged": 2}
    counts = ledger.counts()
    assert counts["history-too-long"] > 0
    assert counts["admitted"] > certificates * length + 250
    ledger.check()


def test_a_turn_leaves_nothing_for_the_garbage_collector(ledger: StoredLedger) -> None:
    """A worker looks for cycles rarely: what a turn leaves in one stays for thousands of turns."""
    assert ledger.send(ledger.make(ledger.issued(NUMBER, "京A-2"))) == {"logged": 1}
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        lines = [ledger.event("renewed", NUMBER, valid_until="2030-01-01+08:00"), b"{}"]
        assert ledger.send(ledger.make(lines + ledger.issued("京A-3"))) == {"logged": 1}
        gc.collect()
        left = {f"{type(item).__module__}.{type(item).__name__}" for item in gc.garbage}
        assert {name for name in left if name.startswith("ledger.")} == set()
    finally:
        gc.set_debug(0)
        gc.enable()
        gc.garbage.clear()


# --- pieces --------------------------------------------------------------------------------------

ROWS = (
    "SELECT map_key, rest, state, history FROM certificate ORDER BY 1",
    "SELECT map_key, rest, acts, link, recent FROM holder ORDER BY 1",
    "SELECT map_key, ordinal, acts FROM holder_act ORDER BY 1, 2",
)


def test_a_piece_that_fails_says_why_to_whoever_reads_after_it(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was taken for new is there: the rows read meanwhile only say that all is lost."""
    monkeypatch.setattr(store_module, "PART", 1)
    monkeypatch.setattr(turn_writing, "PIECE", 1)
    assert ledger.send(ledger.make(ledger.issued("n0"))) == {"logged": 1}
    numbers = ["n0", *(f"m{n}" for n in range(6))]
    lines = [
        ledger.issued(number, holder_pseudonym=f"1:{n:064x}") for n, number in enumerate(numbers)
    ]
    assert ledger.send(*map(ledger.make, lines)) == {"logged": 7}
    assert ledger.counts()["admitted"] == 7
    ledger.check()


def bundles_of_one_turn(ledger: StoredLedger) -> list[bytes]:
    """Certificates issued, changed, corrected and bound again and again, in forty bundles, two of
    them logged before: the rules read while pieces are written.
    """
    holders = [f"1:{n:064x}" for n in range(3)]
    records = []
    for n in range(40):
        lines = [
            ledger.event("issued", f"n{n}-{m}", holder_pseudonym=holders[m % 3]) for m in range(6)
        ]
        if n:
            lines.append(ledger.event("renewed", f"n{n - 1}-0", valid_until="2030-01-01+08:00"))
            lines.append(ledger.event("renewed", "n0-1", valid_until="2031-01-01+08:00"))
            lines.append(ledger.event("amended", f"n{n - 1}-2", holder_pseudonym=holders[n % 3]))
        if n > 2:
            last = json.loads(lines[-2])["id"]
            words = {"correction": "void", "reason_code": "x"}
            lines.append(ledger.event("corrected", "n0-1", corrects=last, **words))
            lines.append(ledger.event("renewed", "never issued", valid_until="2030-01-01+08:00"))
        records.append(ledger.make(lines))
    assert ledger.send(*records[:2]) == {"logged": 2}
    return [*records[2:20], records[0], *records[20:], records[1], b"no bundle"]


@pytest.mark.parametrize("events", [1, 30, 10_000])
def test_a_turn_in_pieces(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch, events: int
) -> None:
    monkeypatch.setattr(turn_writing, "PIECE", events)
    written: list[int] = []
    copied = turn_writing.Pieces._write

    def write(pieces: turn_writing.Pieces, piece: Any, view: Any) -> None:
        written.append(len(piece.logged))
        copied(pieces, piece, view)

    monkeypatch.setattr(turn_writing.Pieces, "_write", write)
    records = bundles_of_one_turn(ledger)
    written.clear()
    outcomes = ledger.send(*records)
    assert outcomes == {"logged": 38, "repeat": 2, "dead-letter": 1}
    assert sum(written) == 38
    assert (len(written) > 1) == (events < 10_000)
    assert ledger.counts()["not-issued"] == 37
    (acts,) = ledger.rows("SELECT sum(length(acts)) / 8 FROM holder_act")[0]
    assert acts == 64 * 3  # older acts in rows of their own
    ledger.checkpoint()
    ledger.check()


@pytest.mark.parametrize("fails", [False, True])
def test_a_turn_reads_in_parts(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Each part's rows are there before it is judged, while pieces of those before are written; a
    part that can't be read leaves nothing of the turn.
    """
    monkeypatch.setattr(store_module, "PART", 20)
    monkeypatch.setattr(turn_writing, "PIECE", 1)
    first = [
        ledger.make(ledger.issued(f"a{n}", f"b{n}", holder_pseudonym=f"1:{n % 3:064x}"))
        for n in range(30)
    ]
    assert ledger.send(*first) == {"logged": 30}
    said = [
        [ledger.event("renewed", f"{'ab'[n % 2]}{n // 2}", valid_until="2030-01-01+08:00")]
        for n in range(60)
    ]
    said += [[ledger.event("revoked", f"a{n}", revocation_kind="penalty")] for n in range(30)]
    batch = [ledger.store.open(ledger.fetched(ledger.make(lines))) for lines in said]
    before = [ledger.rows(statement) for statement in ROWS]
    parts: list[int] = []
    read = view_module.View.read

    def count(view: view_module.View, cursor: Any, bundles: Any) -> None:
        parts.append(len(bundles))
        if is_broken and len(parts) == 2:
            raise Conflict("registry-conflict", "here")
        read(view, cursor, bundles)

    monkeypatch.setattr(view_module.View, "read", count)
    is_broken = fails
    if fails:
        with pytest.raises(Conflict, match="here"):
            ledger.store.apply(TOPIC, batch)
        assert [ledger.rows(statement) for statement in ROWS] == before
        is_broken = False
        parts.clear()
    assert ledger.store.apply(TOPIC, batch).outcomes["logged"] == 90
    assert parts == [20, 40, 30]
    assert ledger.counts() == {"admitted": 150}
    ledger.checkpoint()
    ledger.check()


def test_damage_in_the_next_part_is_no_fault_of_a_line(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that reads in the turn waits for the next part's rows: that these can't be read ends
    the turn, and becomes nobody's code.
    """
    monkeypatch.setattr(turn_writing, "PIECE", 1)
    monkeypatch.setattr(store_module, "PART", 1)
    monkeypatch.setattr(lifecycle, "MAX_HISTORY", 2)
    ledger.send(ledger.make(ledger.issued("n0")))
    ledger.send(ledger.make(ledger.issued("n1")))
    damage(
        ledger.url,
        "UPDATE certificate SET state = set_byte(state, 5, get_byte(state, 5) # 1)"
        " WHERE number_hash = %s",
        staterow.number_hash("n1"),
    )
    reads = [ledger.event("amended", "n0") for _ in range(3)]  # the last asks for the history
    said = [reads, [ledger.event("renewed", "n1", valid_until="2031-01-01+08:00")]]
    batch = [ledger.store.open(ledger.fetched(ledger.make(lines))) for lines in said]
    with pytest.raises(ProofError, match="damaged"):
        ledger.store.apply(TOPIC, batch)
    assert ledger.counts() == {"admitted": 2}


def test_after_lines_had_to_be_read_turns_read_first(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has each turn judge twice what came before his lines."""
    monkeypatch.setattr(view_module, "CHUNKS_IN_TURN", 2)
    monkeypatch.setattr(turn_writing, "PIECE", 1)
    monkeypatch.setattr(store_module, "PART", 1)
    ledger.send(ledger.make(ledger.issued(*(f"n{n}" for n in range(6)))))
    said = [ledger.event("renewed", f"n{n}") for n in range(6)]
    for line in said:
        ledger.send(ledger.make([line]))
    judged: list[int] = []
    judge = FastTurn._judge

    def count(turn: FastTurn, opened: Any, *args: Any) -> Any:
        judged.append(len(opened.events))
        return judge(turn, opened, *args)

    monkeypatch.setattr(FastTurn, "_judge", count)
    for n in range(3):
        records = [ledger.make(ledger.issued(f"new-{n}-{each}")) for each in range(4)]
        ledger.send(*records, ledger.make(said))
    assert judged == [1, 1, 1, *[1, 1, 1, 1, 6] * 3]
    ledger.check()


@pytest.mark.parametrize("where", ["packing", "writing"])
def test_a_turn_whose_piece_fails_leaves_nothing(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """And says why: not what became of the statements that came after in the same transaction."""
    monkeypatch.setattr(turn_writing, "PIECE", 1)
    records = bundles_of_one_turn(ledger)
    batch = [ledger.store.open(ledger.fetched(record)) for record in records]
    before = [ledger.rows(statement) for statement in ROWS]
    copied, calls = turn_writing.Pieces._copy_holders, iter(range(100))

    def fail(pieces: turn_writing.Pieces, piece: Any, view: Any) -> None:
        copied(pieces, piece, view)
        if next(calls) == 1:
            if where == "packing":
                raise Conflict("registry-conflict", "here")
            pieces._copy_packed("nowhere", "map_key", [b"row"])

    with monkeypatch.context() as patch:
        patch.setattr(turn_writing.Pieces, "_copy_holders", fail)
        with pytest.raises((Conflict, psycopg2.errors.UndefinedTable), match="here"):
            ledger.store.apply(TOPIC, batch)
    assert [ledger.rows(statement) for statement in ROWS] == before
    assert ledger.store.apply(TOPIC, batch).outcomes["logged"] == 38
    ledger.check()
