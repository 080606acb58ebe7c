"""`certledger backup` and `certledger restore`: a base backup of the database, brought up to date
from Kafka when it is restored (D12).

The base backup is one pg_dump of one moment: made while the ledger runs, by an account that only
reads, from any PostgreSQL. The private keys are not in it: they are kept, and stolen, apart.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from deploy.embedded import postgres
from deploy.embedded.files import read_json, write_json
from deploy.environment import Environment
from deploy.errors import StackError
from deploy.stack import Settings, Stack
from ledger.errors import LedgerError, Unavailable
from ledger.postgres.connection import connect, user_of
from ledger.postgres.migrate import migrate, schema_gap
from ledger.postgres.restoring import read_position
from ledger.postgres.roles import MIGRATOR, PROGRAMS, grant_privileges
from ledger.postgres.store import read_genesis
from streams.restoring import replay

FORM = "certledger backup v1"
_SAY_SECONDS = 5.0


def add_commands(commands: Any) -> None:
    """Add `backup` and `restore` to the command line."""
    backup = commands.add_parser(
        "backup",
        help="write a base backup of the ledger's database into a new folder",
        description="A base backup of the ledger's database, made while the ledger runs. With the\n"
        "log topic and the intake topic it gives the whole ledger again, so the intake topic's\n"
        "retention must exceed the age of the oldest backup. The private keys (DIR/keys, and\n"
        "DIR/departments) are not in it: keep a copy of them elsewhere.",
        epilog="example:\n  certledger backup /backups/2026-11-26 --data town",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    backup.add_argument("folder", type=Path, help="a new folder")
    backup.set_defaults(run=run_backup)
    restore = commands.add_parser(
        "restore",
        help="make the ledger's database anew from a backup and what Kafka holds",
        description="Stop the ledger first. The database of the backup is brought forward to the\n"
        "largest checkpoint that was signed: order, outcomes, registry and status entries come\n"
        "from the log topic, lines from the intake topic, and every entry must come out byte for\n"
        "byte. Where the intake topic no longer holds a record it stops and names the offset.",
        epilog="examples:\n  certledger restore /backups/2026-11-26 --data town\n"
        "  certledger restore /backups/2026-11-26 --data town --replace",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    restore.add_argument("folder", type=Path, help="what `certledger backup` wrote")
    restore.add_argument(
        "--replace",
        action="store_true",
        help="put the embedded database that is there aside, under another name",
    )
    restore.set_defaults(run=run_restore)


def run_backup(args: argparse.Namespace, env: Environment) -> int:
    """certledger backup"""
    said = back_up(env.postgres_of("auditor"), args.folder)
    print(f"{said['entries']} entries of {said['origin']} in {args.folder}")
    return 0


def back_up(url: str, folder: Path) -> dict[str, Any]:
    """Write a base backup into a new folder; what backup.json says of it."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as err:
        raise StackError(f"cannot make the folder {folder}: {err.strerror}") from err
    dump = folder / "ledger.dump"
    with closing(connect(url, "backup")) as connection:
        origin, genesis = read_genesis(connection)
        position = read_position(connection)
        # Taken before the dump: it holds at least this.
        _run("pg_dump", url, "--format=custom", "--compress=1", f"--file={dump}")
    os.chmod(dump, 0o600)
    with dump.open("rb") as file:
        os.fsync(file.fileno())
        digest = sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    said = {
        "format": FORM,
        "origin": origin,
        "genesis": genesis.hex(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "entries": position.next_index,
        "intake": [[t, p, offset] for (t, p), offset in sorted(position.offsets.items())],
        "sha256": digest.hexdigest(),
    }
    # Written last: a folder without it is no backup.
    write_json(folder / "backup.json", said)
    return said


def run_restore(args: argparse.Namespace, env: Environment) -> int:
    """certledger restore"""
    said = read_backup(args.folder)

    def step(settings: Settings) -> None:
        try:
            restore(settings, args.folder, said, args.replace, lambda text: stack.progress(text))
        except LedgerError as err:
            raise StackError(f"{err.message} ({err.code})") from err

    stack = Stack(env.data, setup=step, progress=_say, beside=lambda data: [])
    with _interruptible():
        try:
            stack.up(detach=True)
        except KeyboardInterrupt:
            print("stopping; begin the restore anew", file=sys.stderr, flush=True)
            stack.down()  # its servers would go on, and the restore in them
            raise
        stack.down()
    print(f"restored from {args.folder}: `certledger up` goes on from there")
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM is taken as Ctrl-C is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_backup(folder: Path) -> dict[str, Any]:
    """What a backup's folder says of itself, its dump as it was written; StackError otherwise."""
    said = read_json(folder / "backup.json")
    if said is None or said.get("format") != FORM:
        raise StackError(f"{folder} holds no backup.json of {FORM!r}: it is no whole backup")
    digest = sha256()
    with (folder / "ledger.dump").open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    if digest.hexdigest() != said["sha256"]:
        raise StackError(f"{folder / 'ledger.dump'} is not what was backed up: its SHA-256 differs")
    return said


def restore(
    settings: Settings,
    folder: Path,
    said: dict[str, Any],
    replace: bool,
    say: Callable[[str], None],
) -> None:
    """The database from a backup, brought forward; nothing else may work in it meanwhile."""
    origin = settings.data_dir / "origin"
    if origin.exists() and origin.read_text().strip() != said["origin"]:
        raise StackError(
            f"{folder} is a backup of {said['origin']}, {settings.data_dir} is another ledger's"
        )
    url = settings.postgres_of(MIGRATOR)
    _make_room(settings, url, replace)
    _run(
        "pg_restore",
        url,
        *("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"),
        str(folder / "ledger.dump"),
    )
    with closing(connect(url, "restore")) as connection:
        migrate(connection)
        if not schema_gap(connection).later:  # as at set-up
            users = {r: user_of(settings.postgres_of(r)) for r in PROGRAMS if r in settings.roles}
            grant_privileges(connection, users)
        if read_genesis(connection)[1].hex() != said["genesis"]:
            raise StackError(f"{folder} does not begin with the entry that its backup.json names")
    told = time.monotonic()

    def progress(now: int, end: int) -> None:
        nonlocal told
        if time.monotonic() - told > _SAY_SECONDS:
            told = time.monotonic()
            say(f"{now} of {end} entries")

    head = replay(url, settings.kafka, progress)
    say(f"{head.size} leaves, root {head.root.hex()}")
    if not origin.exists():
        origin.write_text(said["origin"] + "\n")


def _make_room(settings: Settings, url: str, replace: bool) -> None:
    with closing(connect(url, "restore")) as connection:
        try:
            read_genesis(connection)
        except Unavailable:
            return
    embedded = settings.postgres_of(MIGRATOR) != settings.postgres and not os.environ.get(
        "CERTLEDGER_POSTGRES"
    )
    if not replace or not embedded:
        raise StackError(
            "the database holds a ledger already: "
            + (
                "--replace puts it aside"
                if embedded
                else "name an empty one in CERTLEDGER_POSTGRES and the roles' addresses"
            )
        )
    postgres.put_aside(settings.postgres, f"before_{time.strftime('%Y%m%d_%H%M%S')}")


def _run(program: str, url: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database; StackError with what it said."""
    done = subprocess.run(
        [str(postgres.client_program(program)), f"--dbname={url}", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(f"{program}: {done.stderr.strip()[-2000:]}")
