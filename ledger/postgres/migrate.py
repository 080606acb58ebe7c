"""Migrations: forward only, each in its own transaction under one advisory lock, with its hash."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

from psycopg2.extensions import connection as Connection

from ..errors import Conflict, Unavailable
from .connection import transaction

_LOCK = 0x6365727400000001  # "cert" and a number


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
    later version: nothing is changed then.
    """
    applied = []
    known = {number for number, _, _ in migrations()}
    with transaction(connection) as cursor:
        # two at once both find no table, and IF NOT EXISTS fails for the second
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS migration (number integer PRIMARY KEY, name text NOT NULL,"
            " hash text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        cursor.execute("SELECT number, name FROM migration ORDER BY number")
        later = [f"{number} {name}" for number, name in cursor if number not in known]
        if later:
            raise _migrated_by_another(later[0])
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
                "INSERT INTO migration (number, name, hash) VALUES (%s, %s, %s)",
                (number, name, digest),
            )
            applied.append(name)
    return applied


def _migrated_by_another(later: str) -> Conflict:
    known = max(number for number, _, _ in migrations())
    return Conflict(
        "registry-conflict",
        f"this database was migrated by another version of the program ({later}), this one knows "
        f"migrations up to {known}: start that version, or a later one",
    )


def check_schema(connection: Connection) -> None:
    """None when the database has just the migrations that this program knows; for programs that
    write, before they write anything.

    Conflict `registry-conflict` otherwise, Unavailable `not-initialised` before any migration.
    """
    with transaction(connection) as cursor:
        cursor.execute("SELECT to_regclass('migration')")
        if cursor.fetchone() == (None,):
            raise Unavailable("not-initialised")
    lacking, unknown = schema_gap(connection)
    if unknown:
        raise _migrated_by_another(unknown[0])
    if lacking:
        raise Conflict(
            "registry-conflict",
            f"this database lacks the migration {lacking[0]}: `certledger up` of this version, or "
            "its set-up, makes it, when no program of an earlier version runs any more",
        )


def schema_gap(connection: Connection) -> tuple[list[str], list[str]]:
    """(migrations that the database lacks, those that this program does not know)."""
    known = {number: name for number, name, _ in migrations()}
    with transaction(connection) as cursor:
        cursor.execute("SELECT number, name FROM migration ORDER BY number")
        found = {int(number): str(name) for number, name in cursor}
    lacking = [f"{number} {name}" for number, name in known.items() if number not in found]
    return lacking, [f"{number} {name}" for number, name in found.items() if number not in known]
