"""Migrations: forward only, each in its own transaction under one advisory lock, with its hash.

A migration that only adds says so in a line of its own, and earlier programs go on beside it:
`-- Enough to know: migration 16.` Such a line stands in the database too, where programs that do
not have the file read it. Without it only programs that have the migration write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from ..errors import Conflict, Unavailable
from .connection import transaction

_LOCK = 0x6365727400000001  # "cert" and a number
_ENOUGH = re.compile(r"^-- Enough to know: migration (\d+)\.$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SchemaGap:
    """Between a database's migrations and those of this program, as `NUMBER NAME`."""

    lacking: tuple[str, ...] = ()  # by the database
    later: tuple[str, ...] = ()  # that this program does not have
    refused: tuple[str, ...] = ()  # the later ones beside which it must not write


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, text) of all migrations in order."""
    folder = files(__package__) / "sql" / "migrations"
    found = []
    for path in folder.iterdir():
        if path.name.endswith(".sql"):
            number, _, name = path.name.removesuffix(".sql").partition("_")
            found.append((int(number), name, path.read_text()))
    return sorted(found)


def migrate(connection: Connection) -> list[str]:
    """Apply what is missing; the names of what was applied. Interrupted, it goes on where it was.

    Conflict `registry-conflict` when the database was migrated by other text than ours, or by a
    later version beside which ours must not write. A later version's database stays as it is.
    """
    applied = []
    with transaction(connection) as cursor:
        # two at once both find no table, and IF NOT EXISTS fails for the second
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS migration (number integer PRIMARY KEY, name text NOT NULL,"
            " hash text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), enough integer)"
        )
        if not _says_enough(cursor):  # an earlier version made it
            cursor.execute("ALTER TABLE migration ADD COLUMN enough integer")
    gap = schema_gap(connection)
    if gap.later:
        _check_goes_on(gap)
        return []
    for number, name, text in migrations():
        digest = sha256(text.encode()).hexdigest()
        with transaction(connection) as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor.execute("SELECT hash FROM migration WHERE number = %s", (number,))
            row = cursor.fetchone()
            if row is not None:
                if row[0] != digest:
                    raise Conflict(
                        "registry-conflict",
                        f"migration {number} of this database has other text than {name}",
                    )
                continue
            cursor.execute(text)
            cursor.execute(
                "INSERT INTO migration (number, name, hash, enough) VALUES (%s, %s, %s, %s)",
                (number, name, digest, enough_to_know(text)),
            )
            applied.append(name)
    return applied


def enough_to_know(text: str) -> int | None:
    """The migration that a program must have to write beside this one; None: this one itself."""
    found = _ENOUGH.search(text)
    return int(found[1]) if found else None


def check_schema(connection: Connection) -> None:
    """None when the database has the migrations that this program has, and no others beside which
    it must not write; for programs that write, before they write anything.

    Conflict `registry-conflict` otherwise, Unavailable `not-initialised` before any migration.
    """
    with transaction(connection) as cursor:
        cursor.execute("SELECT to_regclass('migration')")
        if cursor.fetchone() == (None,):
            raise Unavailable("not-initialised")
    _check_goes_on(schema_gap(connection))


def _check_goes_on(gap: SchemaGap) -> None:
    if gap.refused:
        known = max(number for number, _, _ in migrations())
        raise Conflict(
            "registry-conflict",
            f"this database was migrated by another version of the program ({gap.refused[0]}), "
            f"this one knows migrations up to {known}: start that version, or a later one",
        )
    if gap.lacking:
        raise Conflict(
            "registry-conflict",
            f"this database lacks the migration {gap.lacking[0]}: `certledger up` of this version, "
            "or its set-up, makes it, when no program of an earlier version runs any more",
        )


def schema_gap(connection: Connection) -> SchemaGap:
    """What the database and this program do not have in common; the table `migration` is there."""
    known = {number: name for number, name, _ in migrations()}
    with transaction(connection) as cursor:
        enough = "enough" if _says_enough(cursor) else "NULL"
        cursor.execute(f"SELECT number, name, {enough} FROM migration ORDER BY number")
        rows = cursor.fetchall()
    found = {number for number, _, _ in rows}
    later = [(f"{number} {name}", least) for number, name, least in rows if number not in known]
    return SchemaGap(
        lacking=tuple(f"{n} {name}" for n, name in known.items() if n not in found),
        later=tuple(text for text, _ in later),
        refused=tuple(text for text, least in later if least is None or least > max(known)),
    )


def _says_enough(cursor: Cursor) -> bool:
    """Whether the table `migration` has that column: earlier versions made it without."""
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_attribute"
        " WHERE attrelid = 'migration'::regclass AND attname = 'enough')"
    )
    return cursor.fetchone() == (True,)
