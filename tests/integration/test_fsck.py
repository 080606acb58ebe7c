"""fsck finds and names what is wrong with a ledger in a real PostgreSQL, and nothing when it is
whole: every table is damaged once, bit by bit, row by row.
"""

from __future__ import annotations

import copy
import io
import json
import re
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn

from consumers import fsck, fsck_commands
from consumers.fsck_lines import Beside
from consumers.fsck_report import KINDS, Finding
from ledger import logtopic, merkle, staterow, times, topics
from ledger.bundle import format_record, parse_header
from ledger.checkpoint import Checkpoint
from ledger.entry import parse_entry
from ledger.errors import ProofError
from ledger.identity import certificate_key
from ledger.note import parse_note, sign
from ledger.postgres.maps import Maps
from ledger.postgres.migrate import migrate
from ledger.postgres.reader import Reader
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Fetched, Store, create_ledger
from ledger.statusmap import MapHead
from streams.kafka_topics import create_topics, describe_topic
from streams.logwriter import LogWriter, make_producer
from streams.relay import Relay
from streams.sequencer import Sequencer
from streams.signing import KeyRing
from tests import world
from tests.stored_ledger import advance, publish, sequence, unwitnessed

TOPIC = "T" * 22
HOLDERS = tuple(f"1:{number:064x}" for number in range(8))


class Ledger:
    """A small ledger through the real store and the sequencer's steps."""

    def __init__(self, url: str, topic_id: str = TOPIC) -> None:
        self.topic_id = topic_id
        self.tap: Callable[[int, bytes | None], None] = lambda partition, value: None
        connection = psycopg2.connect(url)
        migrate(connection)
        keys = (str(world.CHECKPOINT.key), str(world.OPERATOR.key))
        create_ledger(connection, world.ORIGIN, *keys)
        connection.close()
        self.connect(url)
        self.offsets = [0, 0]
        self.store.offsets(topic_id, [0, 1])
        self.book = world.Book()
        self.producers: dict[tuple[str, int], world.Producer] = {}
        self.change = 0

    def connect(self, url: str) -> None:
        self.url = url
        self.connection = psycopg2.connect(url)
        self.store = Store(self.connection)
        self.sequencing = Sequencing(self.connection)

    def sync_registry(self) -> None:
        for note in self.book.notes:
            assert self.store.change_registry(note) is not None
        self.book.notes.clear()

    def add_department(self, name: str, lanes: int) -> None:
        begin = self.next_index()
        self.book.index = begin
        self.book.add_department(name, lanes)
        self.sync_registry()
        for lane in range(lanes):
            row = self.one(
                "SELECT previous FROM lane WHERE department = %s AND lane = %s", name, lane
            )
            self.producers[name, lane] = world.Producer(
                name, lane, bytes(row[0]), f"{len(self.producers):032x}"
            )

    def set_type(self, grants: Any) -> None:
        self.book.index = self.next_index()
        self.book.set_type(grants)
        self.sync_registry()

    def next_index(self) -> int:
        return int(self.one("SELECT next_index FROM allocation")[0])

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...]:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            row = cursor.fetchone()
            assert row is not None, statement
            return tuple(row)

    def send(self, *values: bytes | None, partition: int = 0) -> dict[str, int]:
        batch = []
        for value in values:
            batch.append(self.store.open(Fetched(partition, self.offsets[partition], value)))
            self.offsets[partition] += 1
            self.tap(partition, value)
        return self.store.apply(self.topic_id, batch).outcomes

    def publish(self, lines: list[bytes], department: str = "a") -> bytes:
        """One bundle on lane 0 of a department; its record."""
        now = int(self.one("SELECT microseconds_now()")[0])
        record = self.producers[department, 0].make(lines, now)
        assert self.send(record, partition=0 if department == "a" else 1) == {"logged": 1}
        return record

    def event(self, kind: str, number: str, **members: Any) -> bytes:
        self.change += 1
        return world.make_event(kind, number, change=str(self.change), **members)

    def checkpoint(self) -> None:
        """Steps 6 and 7 but for the log topic; what is published."""
        head = sequence(self.sequencing, Maps.load(self.sequencing.connection))
        assert head is not None
        publish(self.sequencing, head)

    def damage(self, *statements: str) -> None:
        """Change rows behind the triggers' backs, each statement exactly one row."""
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                cursor.execute(statement)
                assert cursor.rowcount == 1, (statement, cursor.rowcount)


def fill(ledger: Ledger) -> None:
    """Every kind of entry, every outcome of a record, holders that change, a correction."""
    ledger.add_department("a", 1)
    ledger.add_department("b", 1)
    ledger.set_type([("a", world.ALL_ACTS, "own"), ("b", ["revoked"], "any")])
    for index in range(0, 300, 150):
        ledger.publish(
            [
                ledger.event(
                    "issued", f"N{n}", holder_pseudonym=HOLDERS[n % 4], valid_from="unknown"
                )
                for n in range(index, index + 150)
            ]
        )
        ledger.checkpoint()
    suspended = ledger.event("suspended", "N1", reason_code="audit", valid_from="2026-01-05+08:00")
    event_id = json.loads(suspended)["id"]
    record = ledger.publish(
        [
            suspended,
            ledger.event("renewed", "N2", valid_until="2030-01-01+08:00"),
            ledger.event("renewed", "M2"),
            ledger.event("amended", "N3", holder_pseudonym=HOLDERS[5]),
        ]
    )
    ledger.publish(
        [
            ledger.event(
                "corrected", "N1", corrects=event_id, correction="void", reason_code="mistake"
            )
        ]
    )
    ledger.publish([ledger.event("revoked", "N4", revocation_kind="penalty")], "b")
    ledger.publish([])
    producer = ledger.producers["a", 0]
    now = int(ledger.one("SELECT microseconds_now()")[0])
    other = [ledger.event("issued", "N900")]
    second = format_record(world.make_note(producer.header(other, now, sequence=1)), other)
    gap = format_record(world.make_note(producer.header(other, now, sequence=99)), other)
    fenced = world.make_record(
        other, producer="f" * 32, sequence=producer.sequence, previous=producer.previous
    )
    forged = format_record(
        world.make_note(producer.header(other, now), world.bundle_signer("a", "thief")), other
    )
    damaged = bytearray(record)
    damaged[-9] ^= 1
    outcomes = ledger.send(
        record, second, second, gap, fenced, forged, bytes(damaged), b"poison", None
    )
    assert outcomes == {
        "repeat": 1, "equivocation": 2, "out-of-sequence": 1, "fenced": 1, "dead-letter": 4
    }  # fmt: skip
    ledger.checkpoint()
    for number in range(300):
        ledger.publish([ledger.event("issued", f"P{number}")])
    ledger.checkpoint()
    ledger.publish([ledger.event("issued", "LAST")])


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[Ledger]:
    """The filled ledger that each test gets a copy of; nobody is connected to it."""
    name = f"fsck_{uuid.uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        made = Ledger(make_dsn(postgres_url, dbname=name))
        fill(made)
        made.connection.close()
        yield made
    finally:
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def mended(template: Ledger, postgres_url: str) -> Iterator[Ledger]:
    """A copy of the filled ledger for tests that undo what they do."""
    yield from copied(template, postgres_url)


@pytest.fixture
def ledger(template: Ledger, postgres_url: str) -> Iterator[Ledger]:
    """A copy of the filled ledger in a database of its own."""
    yield from copied(template, postgres_url)


def copied(template: Ledger, postgres_url: str) -> Iterator[Ledger]:
    name = f"fsck_{uuid.uuid4().hex}"
    source = parse_dsn(template.url)["dbname"]
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {source}")
    made = copy.copy(template)
    made.connect(make_dsn(postgres_url, dbname=name))
    try:
        yield made
    finally:
        made.connection.close()
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, statement: str) -> None:
    """One statement outside any transaction."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[Beside]:
    """The process that opens lines for every second run of this module's."""
    global _beside
    with closing(Beside("slow")) as _beside:
        yield _beside


def check(connection: Connection) -> list[Finding]:
    """What fsck finds, the same with a process beside that opens the lines, as without."""
    found = fsck.run(connection)
    assert all(f.kind in KINDS for f in found)
    if not any(f.kind == "storage" for f in found):  # which ends a run before its time
        assert fsck.run(connection, beside=_beside) == found
    return found


def tables_in(statements: list[str]) -> list[str]:
    """The tables that statements change."""
    found = re.findall(r"(?:UPDATE|DELETE FROM|INSERT INTO) ([a-z_]+)", " ".join(statements))
    return list(dict.fromkeys(found))


def copy_tables(ledger: Ledger, *names: str) -> Callable[[], None]:
    """What puts tables back as they are now."""

    def execute_all(statements: list[str]) -> None:
        with ledger.connection, ledger.connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                cursor.execute(statement)

    execute_all([f"CREATE TEMPORARY TABLE kept_{n} AS SELECT * FROM {n}" for n in names])
    back = [
        statement
        for n in names
        for statement in (
            f"DELETE FROM {n}",
            f"INSERT INTO {n} SELECT * FROM kept_{n}",
            f"DROP TABLE kept_{n}",
        )
    ]
    return lambda: execute_all(back)


def flip(table: str, column: str, where: str, byte: int = 12) -> str:
    """One bit of one row's column."""
    return (
        f"UPDATE {table} SET {column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # 1) "
        f"WHERE {where}"
    )


def row_of(number: str) -> str:
    """Which certificate's row it is."""
    return f"map_key = '{certificate_key(world.TYPE, 'a', number)[:16].hex()}'"


def reword(index: int, old: str, new: str) -> str:
    """Other words in an entry."""
    text = f"replace(convert_from(data, 'UTF8'), '{old}', '{new}')"
    return f"UPDATE entry SET data = convert_to({text}, 'UTF8') WHERE log_index = {index}"


@dataclass(frozen=True)
class Env:
    auditor_url: str
    kafka: str | None = None
    data: Any = None


def test_whole_ledger_is_clean(ledger: Ledger) -> None:
    checked: dict[str, int] = {}
    assert fsck.run(ledger.connection, checked=checked) == []
    assert checked["entries"] == ledger.next_index()
    assert checked["certificates"] == 601
    assert checked["checkpoints"] == 4
    assert checked["records"] == sum(ledger.offsets)
    out = io.StringIO()
    with redirect_stdout(out):
        assert fsck_commands.run(Namespace(json=True, no_kafka=True), Env(ledger.url)) == 0
    said = json.loads(out.getvalue())
    assert said["clean"] is True
    assert said["findings"] == []


def test_ledger_without_checkpoints_is_clean(database_url: str) -> None:
    made = Ledger(database_url)
    assert check(made.connection) == []
    made.add_department("a", 1)
    made.set_type([("a", world.ALL_ACTS, "own")])
    made.publish([made.event("issued", "N1")])
    assert check(made.connection) == []
    made.connection.close()


def test_lines_are_proven_with_and_without_the_roots_beside_them(ledger: Ledger) -> None:
    gone = "UPDATE lines SET groups = NULL WHERE log_index = 8 AND chunk = "
    other = "UPDATE lines SET groups = decode(repeat('00', 32), 'hex') WHERE log_index = 8"
    with closing(psycopg2.connect(ledger.url)) as connection:
        for earlier in (False, True):
            if earlier:  # as versions before migration 22 stored them
                ledger.damage(gone + "0", gone + "1")
            with Reader(connection).open() as view:
                lines = view.lines(8)
                note = parse_note(parse_entry(view.entry(8))["note"].encode())
                for position in (0, 31, 127, 128, len(lines) - 1):
                    line, path = view.line(8, position)
                    assert line == lines[position]
                    leaf, root = merkle.leaf_hash(line), parse_header(note.text).root
                    merkle.check_inclusion(leaf, position, len(lines), path, root)
            assert check(ledger.connection) == []
        ledger.damage(*(f"{other} AND chunk = {chunk}" for chunk in (0, 1)))
        with Reader(connection).open() as view, pytest.raises(ProofError, match="lines of entry 8"):
            view.line(8, 0)


@pytest.mark.parametrize("leaves_out", ["nothing", "what decides"])
def test_rows_of_earlier_versions_are_clean(ledger: Ledger, leaves_out: str) -> None:
    """Versions before the short form wrote them, or where more than three acts decided."""
    changed = 0
    with ledger.connection, ledger.connection.cursor() as cursor:
        cursor.execute(
            "SELECT uuid_send(map_key) || uuid_send(rest), state, history FROM certificate"
        )
        for key, state, history in [tuple(map(bytes, row)) for row in cursor.fetchall()]:
            said = staterow.open_row(key, state, history)
            if leaves_out == "nothing":
                former = staterow.pack_whole_row(key, *said, history)
            else:
                former = staterow.pack_row(key, *said._replace(kept=()), history)
            changed += former != state
            cursor.execute(
                "UPDATE certificate SET state = %s WHERE uuid_send(map_key) = %s",
                (former, key[:16]),
            )
    assert changed > 300
    assert check(ledger.connection) == []


def test_findings_on_the_command_line(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.damage(flip("certificate", "state", row_of("N7")))
    assert fsck_commands.run(Namespace(json=False, no_kafka=True), Env(ledger.url)) == 1
    out = capsys.readouterr().out
    assert f"certificate {world.TYPE}/a/N7: its state is not what the log gives" in out
    assert fsck_commands.run(Namespace(json=True, no_kafka=True), Env(ledger.url)) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["kind"] == "certificate"


FIRST_HOLDER = "(SELECT map_key FROM holder ORDER BY acts DESC, map_key LIMIT 1)"
CERTIFICATE = f"certificate {world.TYPE}/a/"

NEWEST_TILES = "log_index = (SELECT max(log_index) FROM map_tile)"

DAMAGE: dict[str, tuple[list[str], str, str]] = {
    "bit in an event line": (
        [flip("lines", "data", "log_index = 8 AND chunk = 1", 40)], "lines", "entry 8"
    ),
    "event lines swapped": (
        [
            "UPDATE lines SET chunk = 7 WHERE log_index = 8 AND chunk = 0",
            "UPDATE lines SET chunk = 0 WHERE log_index = 8 AND chunk = 1",
            "UPDATE lines SET chunk = 1 WHERE log_index = 8 AND chunk = 7",
        ],
        "lines",
        "entry 8",
    ),
    "bit in a bundle note": (
        [flip("entry", "data", "log_index = 8", 300)], "bundle-note", "entry 8"
    ),
    "bit in a bundle's outcome": (
        [reword(8, "[0,150]", "[0,15]")], "entry", "entry 8"
    ),
    "bit in a status entry": ([flip("entry", "data", "log_index = 9", 60)], "entry", "entry 9"),
    "bit in a registry entry": ([flip("entry", "data", "log_index = 2", 150)], "entry", "entry 2"),
    "bit in the genesis": ([flip("entry", "data", "log_index = 0", 100)], "entry", "entry 0"),
    "bit in an entry above the head": (
        [flip("entry", "data", "log_index = (SELECT max(log_index) FROM entry)", 300)],
        "bundle-note", "entry 319",
    ),
    "bit in a tile": (
        [flip("tile", "data", "level = 0 AND tile_index = 0", 300)], "tile", "tile 0/0"
    ),
    "bit in the last tile": (
        [flip("tile", "data", "level = 0 AND tile_index = 1", 33)], "tile", "tile 0/1"
    ),
    "bit in an upper tile": ([flip("tile", "data", "level = 1", 3)], "tile", "tile 1/0"),
    "bit in a checkpoint's root": (
        [flip("checkpoint", "note", "size = 12", 40)], "checkpoint", "checkpoint 12"
    ),
    "bit in a checkpoint's signature": (
        [flip("checkpoint", "note", "size = 12", 170)], "checkpoint", "checkpoint 12"
    ),
    "head root": ([flip("head", "root", "one", 5)], "head", "head"),
    "head size": (["UPDATE head SET size = size - 1"], "head", "head"),
    "current state": (
        [flip("certificate", "state", row_of("N5"), 51)], "certificate", CERTIFICATE + "N5"
    ),
    "current holder": (
        [flip("certificate", "state", row_of("N5"), 35)], "certificate", CERTIFICATE + "N5"
    ),
    "certificate's number": (
        [f"UPDATE certificate SET number_hash = 7 WHERE {row_of('N5')}"],
        "certificate", CERTIFICATE + "N5",
    ),
    "certificate's kind": (
        [f"UPDATE certificate SET kind = 7 WHERE {row_of('N5')}"],
        "certificate", CERTIFICATE + "N5",
    ),
    "the rest of a map key": (
        [f"UPDATE certificate SET rest = map_key WHERE {row_of('N5')}"],
        "certificate", "certificate ",
    ),
    "history": (
        [flip("certificate", "history", row_of("N5"), 7)], "history", CERTIFICATE + "N5"
    ),
    "history's ids": (
        [flip("certificate", "history", row_of("N5"), 9)], "history", CERTIFICATE + "N5"
    ),
    "history's end": (
        [f"UPDATE certificate SET history = history || history WHERE {row_of('N5')}"],
        "history", CERTIFICATE + "N5",
    ),
    "history before a correction": (
        [flip("certificate", "history", row_of("N1"), 7)], "history", CERTIFICATE + "N1"
    ),
    "lines of another signer": (
        ["UPDATE lines SET signer = 2 WHERE log_index = 8 AND chunk = 1"], "lines", "entry 8"
    ),
    "roots over groups of lines": (
        [flip("lines", "groups", "log_index = 8 AND chunk = 1")], "lines", "entry 8"
    ),
    "roots of another height": (
        [
            r"UPDATE lines SET groups = sha256('\x01'::bytea || substr(groups, 1, 64)) ||"
            r" sha256('\x01'::bytea || substr(groups, 65)) WHERE log_index = 8 AND chunk = 0"
        ],
        "lines",
        "entry 8",
    ),
    "roots over some groups gone": (
        ["UPDATE lines SET groups = NULL WHERE log_index = 8 AND chunk = 1"], "lines", "entry 8"
    ),
    "certificate gone": (
        [f"DELETE FROM certificate WHERE {row_of('N5')}"], "certificate", CERTIFICATE + "N5"
    ),
    "holder's link": (
        [flip("holder", "link", f"map_key = {FIRST_HOLDER}", 1)], "holder", "holder "
    ),
    "holder's acts": (
        [f"UPDATE holder SET acts = acts + 64 WHERE map_key = {FIRST_HOLDER}"],
        "holder", "holder ",
    ),
    "holder gone": (
        [f"DELETE FROM holder WHERE map_key = {FIRST_HOLDER}"], "holder", "holder "
    ),
    "holder's act": (
        [flip("holder", "recent", f"map_key = {FIRST_HOLDER}", 15)], "holder-act", "holder "
    ),
    "holder's older act turned": (
        [flip("holder_act", "acts", f"map_key = {FIRST_HOLDER}", 15)], "holder-act", "holder "
    ),
    "holder's acts gone": (
        [f"DELETE FROM holder_act WHERE map_key = {FIRST_HOLDER}"], "holder-act", "holder "
    ),
    "holder's acts added": (
        ["INSERT INTO holder_act SELECT map_key, 640, acts FROM holder_act"
         f" WHERE map_key = {FIRST_HOLDER}"],
        "holder-act", "holder ",
    ),
    "acts of nobody": (
        ["INSERT INTO holder_act SELECT gen_random_uuid(), 0, acts FROM holder_act LIMIT 1"],
        "holder-act", "holder ",
    ),
    "delta": ([flip("delta", "certificates", "log_index = 8")], "delta", "entry 8"),
    "holder delta": ([flip("delta", "holders", "log_index = 8", 40)], "delta", "entry 8"),
    "accounting row's outcome": (
        ["UPDATE accounting SET outcome = 'fenced' WHERE outcome = 'out-of-sequence'"], "outbox", ""
    ),
    "accounting row's index": (
        ["UPDATE accounting SET log_index = 10 WHERE log_index = 8 AND outcome = 'logged'"],
        "accounting", "entry 8",
    ),
    "accounting row doubled by another offset": (
        ["INSERT INTO accounting SELECT topic_id, partition, 5000, outcome, log_index FROM "
         "accounting WHERE log_index = 8 AND outcome = 'logged'"],
        "accounting", TOPIC,
    ),
    "next offset moved": (
        ["UPDATE intake SET next_offset = next_offset + 1 WHERE partition = 0"],
        "intake", f"{TOPIC}/0",
    ),
    "next offset moved back": (
        ["UPDATE intake SET next_offset = next_offset - 1 WHERE partition = 1"],
        "intake", f"{TOPIC}/1",
    ),
    "dead letter": ([flip("outbox", "record", "code = 'unknown-key'")], "outbox", "outbox"),
    "notice": ([flip("outbox", "notice", "outcome = 'out-of-sequence'", 100)], "outbox", "outbox"),
    "lane's number": (
        ["UPDATE lane SET next_sequence = next_sequence - 1 WHERE department = 'a'"],
        "lane", "lane a/0",
    ),
    "lane's previous note": ([flip("lane", "previous", "department = 'b'")], "lane", "lane b/0"),
    "lane note": ([flip("lane_note", "note_hash", "log_index = 8")], "lane-note", "entry 8"),
    "equivocation": ([flip("equivocation", "note_hash", "true")], "equivocation", "entry "),
    "registry record": (
        [flip("registry_record", "data", "name = 'department/b'", 90)],
        "registry-record", "registry record department/b",
    ),
    "registry record's index": (
        ["UPDATE registry_record SET log_index = 3 WHERE name = 'department/b'"],
        "registry-record", "registry record department/b",
    ),
    "registry snapshot": (
        [flip("registry_snapshot", "data", "log_index = 11", 60)], "registry-snapshot", "entry 11"
    ),
    "status row": (
        ["UPDATE status SET ledger_time = ledger_time - 1 WHERE log_index = 9"], "status", "entry 9"
    ),
    "status row's maps": (
        ["UPDATE status SET maps = false WHERE log_index = 9"], "status", "entry 9"
    ),
    "bit in a map's tile": (
        [flip("map_tile", "data", f"kind = 'C' AND {NEWEST_TILES}")],
        "map-tile", "map tile C/0/0 as of entry 318",
    ),
    "map's tile gone": (
        [f"DELETE FROM map_tile WHERE kind = 'C' AND {NEWEST_TILES}"],
        "map-tile", "map tile C/0/0 as of entry 318",
    ),
    "map's tile of an entry without maps": (
        [f"UPDATE map_tile SET log_index = 317 WHERE kind = 'C' AND {NEWEST_TILES}"],
        "map-tile", "entry 317",
    ),
    "map's tile outside the tree": (
        ["INSERT INTO map_tile SELECT kind, 1, 7, log_index, data FROM map_tile "
         f"WHERE kind = 'C' AND {NEWEST_TILES}"],
        "map-tile", "map tile C/1/7 as of entry 318",
    ),
    "tally": (
        ["UPDATE tally SET count = count + 1 WHERE name = 'admitted'"], "tally", "tally admitted"
    ),
    "allocation's registry index": (
        ["UPDATE allocation SET registry_index = 3"], "allocation", "allocation"
    ),
    "allocation's time": (["UPDATE allocation SET ledger_time = 5"], "time", "allocation"),
    "allocation's origin": (["UPDATE allocation SET origin = 'x.example'"], "genesis", "entry 0"),
    "next index moved": (
        ["UPDATE allocation SET next_index = next_index + 1"], "entry", "entry 320"
    ),
    "next index moved back": (
        ["UPDATE allocation SET next_index = next_index - 1"], "allocation", "allocation"
    ),
    "published beyond the head": (
        ["INSERT INTO checkpoint SELECT 999, note FROM checkpoint WHERE size = 12"],
        "checkpoint", "checkpoint 999",
    ),
    "entry gone": (["DELETE FROM entry WHERE log_index = 8"], "entry", "entry 8"),
    "last entry gone": (["DELETE FROM entry WHERE log_index = 319"], "entry", "entry 319"),
    "lines gone": (["DELETE FROM lines WHERE log_index = 8 AND chunk = 1"], "lines", "entry 8"),
    "delta gone": (["DELETE FROM delta WHERE log_index = 8"], "delta", "entry 8"),
    "lane note gone": (["DELETE FROM lane_note WHERE log_index = 8"], "lane-note", "entry 8"),
    "equivocation gone": (["DELETE FROM equivocation"], "equivocation", "entry "),
    "accounting row gone": (
        ["DELETE FROM accounting WHERE log_index = 8 AND outcome = 'logged'"],
        "accounting", "entry 8",
    ),
    "accounting row of a repeat gone": (
        ["DELETE FROM accounting WHERE outcome = 'repeat'"], "accounting", TOPIC
    ),
    "outbox row gone": (["DELETE FROM outbox WHERE number = 2"], "outbox", "outbox 2"),
    "last outbox row gone": (["DELETE FROM outbox WHERE number = 8"], "outbox", "outbox 8"),
    "status row gone": (["DELETE FROM status WHERE log_index = 9"], "status", "entry 9"),
    "tile gone": (["DELETE FROM tile WHERE level = 0 AND tile_index = 0"], "tile", "tile 0/0"),
    "registry record gone": (
        ["DELETE FROM registry_record WHERE name = 'department/b'"],
        "registry-record", "registry record department/b",
    ),
    "lane gone": (["DELETE FROM lane WHERE department = 'b'"], "lane", "lane b/0"),
    "checkpoint gone that the log topic holds": (
        ["INSERT INTO log_topic SELECT true, repeat('L', 22), 5, 12, 0",
         "DELETE FROM checkpoint WHERE size = 12"],
        "checkpoint", "checkpoint 12",
    ),
    "relay ahead": (["INSERT INTO relay VALUES ('receipts', 5000)"], "position", "relay receipts"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(mended: Ledger, name: str) -> None:
    statements, kind, place = DAMAGE[name]
    undo = copy_tables(mended, *tables_in(statements))
    mended.damage(*statements)
    try:
        found = check(mended.connection)
    finally:
        undo()
    named = [f for f in found if f.kind == kind and f.place.startswith(place)]
    assert named, f"{kind} at {place} not among {found}"
    assert len(found) <= 8, f"{len(found)} findings for one damage: {found}"
    first = found[0]
    assert first.kind == kind or first.place == place, f"the first is {first} of {found}"


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        (flip("blinding_secret", "secret", "one"), "entry 8"),
        ("DELETE FROM blinding_secret", "ledger"),
    ],
)
def test_a_lost_blinding_secret_is_found(mended: Ledger, statement: str, place: str) -> None:
    """Then no holders' list can be held against its entry."""
    undo = copy_tables(mended, "blinding_secret")
    mended.damage(statement)
    try:
        found = check(mended.connection)
    finally:
        undo()
    assert {f.kind for f in found} == {"delta", "delta-root"}
    assert place in [f.place for f in found if f.kind == "delta"]


class LyingMaps(Maps):
    """What a sequencer gone wrong says: other heads than it has."""

    lie: Callable[[dict[bytes, MapHead]], dict[bytes, MapHead]]

    def heads(self) -> dict[bytes, MapHead]:
        return self.lie(super().heads())


LIES: dict[str, Callable[[dict[bytes, MapHead]], dict[bytes, MapHead]]] = {
    "another root of certificates": lambda h: {**h, b"C": MapHead(h[b"C"].k, bytes(32))},
    "another root of holders": lambda h: {**h, b"H": MapHead(h[b"H"].k, bytes(32))},
    "another k": lambda h: {**h, b"C": MapHead(h[b"C"].k + 1, h[b"C"].root)},
    "the maps exchanged": lambda h: {b"C": h[b"H"], b"H": h[b"C"]},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_status_entry_with_other_maps_than_the_log_gives(ledger: Ledger, lie: str) -> None:
    """Signed and in the tree: only who folds the log again can tell."""
    maps = Maps.load(ledger.sequencing.connection)
    maps.__class__ = LyingMaps
    maps.lie = LIES[lie]  # type: ignore[attr-defined]
    was = ledger.sequencing.head()
    size = ledger.sequencing.append_status(maps)
    publish(ledger.sequencing, advance(ledger.sequencing, was, size))
    found = check(ledger.connection)
    assert ("status-map", f"entry {size - 1}") in {(f.kind, f.place) for f in found}
    assert {f.kind for f in found} <= {"status-map", "map-tile"}
    with pytest.raises(ProofError, match="stored-bytes-damaged"):
        Maps.load(ledger.sequencing.connection)


def test_a_delta_list_that_does_not_matter_to_later_maps_is_all_that_is_found(
    ledger: Ledger,
) -> None:
    ledger.damage("DELETE FROM delta WHERE log_index = (SELECT max(log_index) FROM delta)")
    assert [f.kind for f in check(ledger.connection)] == ["delta"]


def test_all_damages_together_are_each_named(ledger: Ledger) -> None:
    ledger.damage(
        flip("lines", "data", "log_index = 8 AND chunk = 1", 40),
        flip("entry", "data", "log_index = 200", 60),
        flip("tile", "data", "level = 0 AND tile_index = 0", 300),
        flip("certificate", "state", row_of("P9"), 51),
        flip("certificate", "history", row_of("P40"), 7),
        flip("checkpoint", "note", "size = 12", 170),
        "DELETE FROM accounting WHERE outcome = 'fenced'",
    )
    places = {(f.kind, f.place.split(" event")[0]) for f in check(ledger.connection)}
    assert places >= {
        ("lines", "entry 8"),
        ("entry", "entry 200"),
        ("tile", "tile 0/0"),
        ("certificate", CERTIFICATE + "P9"),
        ("history", CERTIFICATE + "P40"),
        ("checkpoint", "checkpoint 12"),
    }
    assert "outbox" in {kind for kind, _ in places}


def test_many_findings_of_a_kind_are_capped(ledger: Ledger) -> None:
    with ledger.connection, ledger.connection.cursor() as cursor:
        cursor.execute("UPDATE certificate SET state = state || ' '::bytea")
    found = check(ledger.connection)
    assert len(found) == 21
    assert found[-1] == Finding("certificate", "more", "and 581 more of this kind")


def test_forged_entry_is_found_even_when_the_tree_was_made_over_it(ledger: Ledger) -> None:
    """An operator who rewrites the last entry and signs it: the rules say otherwise."""
    data = bytes(ledger.one("SELECT data FROM entry WHERE log_index = 319")[0])
    ledger.damage(reword(319, '{"admitted":[0,1]}', '{"not-issued":[0,1]}'))
    assert b"admitted" in data
    ledger.checkpoint()
    found = check(ledger.connection)
    assert found[0] == Finding(
        "outcome", "entry 319 event 0", "recorded as not-issued, the rules give admitted"
    )


def test_time_that_goes_back_is_found(ledger: Ledger) -> None:
    last = ledger.one("SELECT data FROM entry WHERE log_index = 319")[0]
    time = json.loads(bytes(last))["time"]
    earlier = times.format_moment(times.parse_moment(time) - 3600 * times.SECOND)
    ledger.damage(reword(319, time, earlier))
    assert "time" in [f.kind for f in check(ledger.connection)]


# --- with Kafka ----------------------------------------------------------------------------------


class PublishedLedger(Ledger):
    """The same ledger with its records in Kafka, and the sequencer and relay behind it."""

    def __init__(self, url: str, bootstrap: str) -> None:
        create_topics(bootstrap, 2)
        super().__init__(url, describe_topic(bootstrap, topics.EVENTS)[0])
        self.producer: Any = make_producer(bootstrap, "test")
        self.tap = self.produce
        self.sequencer = Sequencer(
            self.sequencing,
            LogWriter(bootstrap, self.sequencing),
            KeyRing([world.CHECKPOINT]),
            unwitnessed(),
            world.ORIGIN,
        )
        self.sequencer.start()
        self.relay = Relay(self.sequencing, self.producer)

    def produce(self, partition: int, value: bytes | None) -> None:
        self.producer.send(topics.EVENTS, key=b"k", value=value, partition=partition).get(60)

    def checkpoint(self) -> None:
        assert self.sequencer.round() is not None
        while self.relay.round():
            pass


@pytest.fixture(scope="module")
def published(postgres_url: str, own_topics: str) -> Iterator[PublishedLedger]:
    name = f"fsck_{uuid.uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    made = None
    try:
        made = PublishedLedger(make_dsn(postgres_url, dbname=name), own_topics)
        fill(made)
        yield made
    finally:
        if made is not None:
            made.producer.close(timeout=5)
            made.connection.close()
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_ledger_with_kafka_is_clean(published: PublishedLedger, kafka_bootstrap: str) -> None:
    checked: dict[str, int] = {}
    assert fsck.run(published.connection, kafka_bootstrap, checked=checked) == []
    assert checked["intake records"] == sum(published.offsets)
    assert checked["receipts"] == 307  # 306 bundles below the head, one of them repeated
    assert checked["log topic checkpoints"] == 4


KAFKA_DAMAGE: dict[str, tuple[str, str, str]] = {
    "last record's hash": (
        flip("intake", "last_record", "partition = 0"), "intake", "/0"
    ),
    "dead letter": (flip("outbox", "record", "code = 'lines-do-not-match-note'", 300),
                    "intake-record", "/0/"),
    "out of sequence, said to be fenced": (
        "WITH a AS (UPDATE accounting SET outcome = 'fenced' WHERE outcome = 'out-of-sequence' "
        "RETURNING 1) UPDATE outbox SET outcome = 'fenced' WHERE outcome = 'out-of-sequence'",
        "intake-record", "/0/",
    ),
    "checkpoint gone": ("DELETE FROM checkpoint WHERE size = 10", "checkpoint", "checkpoint 10"),
    "next offset beyond the topic": (
        "UPDATE intake SET next_offset = next_offset + 5 WHERE partition = 0", "intake", "/0"
    ),
    "rolled-back head": (
        "UPDATE head SET size = 12, root = (SELECT root FROM head)", "log-topic", ""
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KAFKA_DAMAGE)
def test_damage_is_found_beside_kafka(
    published: PublishedLedger, kafka_bootstrap: str, name: str
) -> None:
    statement, kind, place = KAFKA_DAMAGE[name]
    undo = copy_tables(published, *tables_in([statement]))
    published.damage(statement)
    try:
        found = fsck.run(published.connection, kafka_bootstrap)
    finally:
        undo()
    assert [f for f in found if f.kind == kind and place in f.place], found


def test_noise_in_the_log_topic_is_found(published: PublishedLedger, kafka_bootstrap: str) -> None:
    send = published.producer.send
    entry = bytes(published.one("SELECT data FROM entry WHERE log_index = 8")[0])
    forged = Checkpoint(world.ORIGIN, 12, bytes(32)).text()
    send(topics.LOG, key=logtopic.ENTRIES, value=logtopic.format_entries(7, [entry])).get(60)
    send(topics.LOG, key=logtopic.ENTRIES, value=logtopic.format_entries(8, [entry])).get(60)
    send(topics.LOG, key=logtopic.CHECKPOINT, value=sign(forged, [world.CHECKPOINT])).get(60)
    send(topics.LOG, key=logtopic.CHECKPOINT, value=sign(forged, [world.OPERATOR])).get(60)
    found = fsck.run(published.connection, kafka_bootstrap)
    assert [f.kind for f in found] == ["log-topic"] * 3
    assert [f.message for f in found] == [
        "entry 7: a later record says otherwise",
        "another root was signed for size 12",
        f"{world.ORIGIN}: no signature by {world.ORIGIN} ({world.CHECKPOINT.key.key_hash.hex()})",
    ]
