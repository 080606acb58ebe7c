"""The data folder of a previous version under this one, and both versions at the same work.

PREVIOUS has versions and commits, the oldest first whose data folders are promised to go on: tags
do not survive every way in which a repository is handed on, its history does. CERTLEDGER_PREVIOUS
names another commit in their place. The old code runs with the installed libraries of the new one.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient

from deploy.embedded import postgres
from deploy.stack import Stack
from ledger.kafka_address import client_settings
from ledger.postgres.connection import connect
from ledger.postgres.migrate import enough_to_know
from streams.settings import Settings
from tests.running_stack import wait_until
from tests.stored_ledger import query

ROOT = Path(__file__).parents[2]
PREVIOUS = [
    line.split()[1] for line in Path(__file__).with_name("PREVIOUS").read_text().splitlines()
]
if named := os.environ.get("CERTLEDGER_PREVIOUS"):
    PREVIOUS = [named]
ROOMS = ("ledger", "streams", "producers", "consumers", "deploy")
PARTITIONS = 2
MIGRATIONS = Path("ledger/postgres/sql/migrations")
_NOTHING = {"CERTLEDGER_POSTGRES": "unused", "CERTLEDGER_DATA": "unused"}
TAKEN = "SELECT partition, next_offset FROM intake ORDER BY 1"
CHECKPOINTS = (
    "SELECT size, decode(split_part(convert_from(note, 'UTF8'), chr(10), 3), 'base64') "
    "FROM checkpoint ORDER BY size"
)


def certledger(code: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A version's command."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *words],
        cwd=code,
        env=environment(code),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(code: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(code), "CERTLEDGER_PARTITIONS": str(PARTITIONS)}


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The code of a version, by its commit."""
    found: dict[str, Path] = {}

    def code(commit: str) -> Path:
        if commit not in found:
            found[commit] = checked_out(commit, tmp_path_factory.mktemp("previous"))
        return found[commit]

    return code


def checked_out(commit: str, code: Path) -> Path:
    """A version's code, from this repository's history."""
    done = subprocess.run(
        ["git", "archive", "--format=zip", commit], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode != 0:
        why = done.stderr.decode(errors="replace").strip()
        pytest.skip(f"this copy has no history with {commit[:12]}, a previous version: {why}")
    with zipfile.ZipFile(io.BytesIO(done.stdout)) as archive:
        archive.extractall(code)
    return code


class Ledger:
    """A data folder, under one version after the other."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.published = 0  # events, each admitted or refused once

    def run(self, code: Path, *words: str) -> str:
        done = certledger(code, *words, "--data", str(self.data))
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout or done.stderr

    def publish(self, code: Path, events: int, seed: int) -> None:
        self.run(code, "simulate", "--events", str(events), "--seed", str(seed))
        self.published += events

    def status(self, code: Path) -> dict[str, Any]:
        return dict(json.loads(self.run(code, "status", "--json")))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = connect(Stack(self.data).settings().postgres, "test")
        try:
            return query(connection, statement)
        finally:
            connection.close()

    def entries(self) -> list[tuple[Any, ...]]:
        """All entries, once they are signed."""
        wait_until(
            lambda: (
                self.rows(
                    "SELECT size = (SELECT next_index FROM allocation) AND size = "
                    "(SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL) FROM head"
                )
                == [(True,)]
            ),
            60,
        )
        return self.rows("SELECT log_index, data FROM entry ORDER BY 1")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "data")
    yield made
    Stack(made.data).down()
    postgres.remove(made.data)


def migrations(code: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (code / MIGRATIONS).glob("*.sql")}


@pytest.mark.parametrize("commit", PREVIOUS[:1])
def test_the_previous_ledger_goes_on_and_both_versions_make_the_same_of_it(
    codes: Callable[[str], Path], commit: str, ledger: Ledger, tmp_path: Path
) -> None:
    """Each version makes the whole ledger again from what the other left in Kafka; a restore ends
    with an error at the first entry that does not come out byte for byte, and says size and root.
    """
    previous = codes(commit)
    backup, evidence = tmp_path / "backup", tmp_path / "old.evidence.json"
    ledger.run(previous, "up", "--detach")
    ledger.publish(previous, 300, 1)
    ledger.run(previous, "backup", str(backup))
    ledger.publish(previous, 300, 2)
    data = ("--data", str(ledger.data))
    certledger(previous, "evidence", a_number(previous), "-o", str(evidence), *data)
    was, before = ledger.status(previous), ledger.entries()
    checkpoints = ledger.rows(CHECKPOINTS)
    ledger.run(previous, "down")

    ledger.run(ROOT, "up", "--detach", "--workers", "2")
    ledger.publish(ROOT, 600, 3)
    now, after = ledger.status(ROOT), ledger.entries()
    assert (now["origin"], now["vkey"]) == (was["origin"], was["vkey"])
    assert now["events"] > was["events"] > 0
    assert after[: len(before)] == before
    assert ledger.rows(CHECKPOINTS)[: len(checkpoints)] == checkpoints
    trust = ("--trust", str(ledger.data / "trust.json"))
    done = certledger(ROOT, "verify", str(evidence), *trust)
    assert done.returncode in (0, 1), done.stderr
    check(ledger, ROOT)
    signed = dict(ledger.rows(CHECKPOINTS))
    ledger.run(ROOT, "down")

    for code in (previous, ROOT):
        size, root = restored(code, ledger, backup)
        assert size >= max(signed)
        assert root == signed.get(size, root)  # a later one is compared by the restore itself
        ledger.run(code, "up", "--detach")
        assert signed.items() <= dict(ledger.rows(CHECKPOINTS)).items()
        assert ledger.rows("SELECT log_index, data FROM entry ORDER BY 1")[: len(after)] == after
        check(ledger, code)
        ledger.run(code, "down")


def check(ledger: Ledger, code: Path) -> None:
    """The whole oracle of a version, and the counts against what was published."""
    assert json.loads(ledger.run(code, "fsck", "--json"))["clean"]
    said = ledger.status(code)
    assert said["events"] + sum(said["refused"].values()) == ledger.published


def a_number(code: Path) -> str:
    """A certificate that the version's simulation from seed 1 issues."""
    script = "from producers import town; print(next(town.events(1, 300))['certificate_number'])"
    words = [sys.executable, "-c", script]
    return subprocess.run(
        words, cwd=code, env=environment(code), capture_output=True, text=True, check=True
    ).stdout.strip()


_DECIDES = """
import sys
from deploy import cli
from ledger.postgres import restoring

def as_said(step, done):
    said = step.row is None or (step.row.outcome, step.row.code, step.row.log_index)
    assert said is True or said == (done.outcome, done.code, done.index), (step, done)
    return done

restoring._as_logged = lambda step, opened: opened
restoring._as_said = as_said
cli.main(sys.argv[1:])
"""


def restored(code: Path, ledger: Ledger, backup: Path, decides: bool = False) -> tuple[int, bytes]:
    """(size, root) that a version makes of a backup and what Kafka holds; with `decides` it goes by
    its own rules in everything, as one worker alone that takes the records in the log's order.
    """
    done = subprocess.run(
        [
            *(sys.executable, *(["-c", _DECIDES] if decides else ["-m", "deploy.cli"])),
            *("restore", str(backup), "--replace", "--data", str(ledger.data)),
        ],
        cwd=code,
        env=environment(code),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) leaves, root ([0-9a-f]{64})", done.stderr)
    assert found, done.stderr
    return int(found[1]), bytes.fromhex(found[2])


_INTERRUPTED = """
import sys
from deploy import cli
from ledger.postgres import migrate

real = migrate.migrations()

def migrations():
    yield from real[:-1]
    print("now", flush=True)
    number, name, text = real[-1]
    yield number, name, text + "; SELECT pg_sleep(3600)"

migrate.migrations = migrations
cli.main(sys.argv[1:])
"""


def interrupt_migration(ledger: Ledger) -> None:
    """Kill this version's `up` in the middle of its last migration."""
    words = [sys.executable, "-c", _INTERRUPTED, "up", "--data", str(ledger.data)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for _ in range(2):  # it looks at all of them before it begins
            assert process.stdout.readline() == "now\n"
        time.sleep(2)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        Stack(ledger.data).down()


def goes_on(old: Path, new: Path) -> bool:
    """Whether a version's programs may work beside those of a later one."""
    known, later = migrations(old), migrations(new)
    if not known.items() <= later.items():
        return False
    if len(known) == len(later):
        return True
    if "enough_to_know" not in (old / "ledger" / "postgres" / "migrate.py").read_text():
        return False
    enough = [enough_to_know(later[name]) for name in later.keys() - known.keys()]
    return all(number is not None and number <= len(known) for number in enough)


@pytest.fixture
def to_come(tmp_path: Path) -> Path:
    """This code with a migration more, which only adds."""
    code = tmp_path / "to-come"
    for room in ROOMS:
        shutil.copytree(ROOT / room, code / room)
    last = len(migrations(ROOT))
    (code / MIGRATIONS / f"{last + 1:04}_more.sql").write_text(
        f"-- More is kept.\n-- Enough to know: migration {last}.\n"
        "CREATE TABLE more (one integer);\n"
        "ALTER TABLE intake ADD COLUMN more integer;\n"
    )
    return code


@pytest.mark.parametrize("version", [*PREVIOUS, "to-come"])
def test_old_and_new_workers_side_by_side(
    codes: Callable[[str], Path], version: str, ledger: Ledger, to_come: Path, tmp_path: Path
) -> None:
    """Where the later schema allows it they share the partitions, and agree on every byte; else the
    old version leaves the database alone.
    """
    old, new = (ROOT, to_come) if version == "to-come" else (codes(version), ROOT)
    if goes_on(old, new):
        work_side_by_side(old, new, ledger, tmp_path / "backup")
    else:
        leave_alone(old, new, ledger)


def work_side_by_side(old: Path, new: Path, ledger: Ledger, backup: Path) -> None:
    ledger.run(old, "up", "--detach")
    ledger.publish(old, 200, 1)
    ledger.run(old, "backup", str(backup))
    ledger.run(old, "down")
    ledger.run(new, "up", "--detach")
    for seed in (2, 3):  # each time by an old worker that is started anew
        with old_worker(old, ledger):
            before = dict(ledger.rows(TAKEN))
            ledger.publish(new if seed == 2 else old, 1500, seed)
            assert all(taken > before[n] for n, taken in ledger.rows(TAKEN)), "one took nothing"
    ledger.entries()
    for code in (old, new):
        check(ledger, code)
    signed = dict(ledger.rows(CHECKPOINTS))
    ledger.run(new, "down")
    alone = {restored(code, ledger, backup, decides=True) for code in (old, new)}
    assert len(alone) == 1
    ((size, root),) = alone
    assert size >= max(signed)
    assert signed.get(size, root) == root
    ledger.run(new, "up", "--detach")  # refuses to sign unless all that was signed is the same
    assert signed.items() <= dict(ledger.rows(CHECKPOINTS)).items()
    check(ledger, new)


def leave_alone(old: Path, new: Path, ledger: Ledger) -> None:
    """Once the migration, interrupted here, has been gone on with."""
    ledger.run(old, "up", "--detach")
    ledger.publish(old, 200, 1)
    ledger.run(old, "down")
    interrupt_migration(ledger)
    ledger.run(new, "up", "--detach")
    ledger.run(new, "down")
    done = certledger(old, "up", "--detach", "--data", str(ledger.data))
    assert done.returncode == 4, done.stderr
    assert "this database was migrated by another version of the program" in done.stderr
    ledger.run(new, "up", "--detach")
    ledger.publish(new, 400, 2)
    check(ledger, new)


@contextmanager
def old_worker(code: Path, ledger: Ledger) -> Iterator[None]:
    """A worker of the previous version beside the one that runs, which has its partitions too."""
    settings = Stack(ledger.data).settings()
    log = ledger.data / "logs" / "old-worker.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streams.worker"],
            cwd=code,
            env={**environment(code), **settings.environment("worker-2")},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: workers(settings.kafka) == PARTITIONS, 90)
            yield
            assert process.poll() is None, log.read_text()[-3000:]
        finally:
            process.terminate()
            process.wait(30)


def workers(kafka: str) -> int:
    """How many workers share the partitions now."""
    group = Settings.from_environment({"CERTLEDGER_KAFKA": kafka, **_NOTHING}).group
    admin = KafkaAdminClient(**client_settings(kafka))
    try:
        found = admin.describe_groups([group])[group]
    finally:
        admin.close()
    return len(found["members"]) if found["group_state"] == "Stable" else 0
