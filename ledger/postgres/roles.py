"""Who may do what in the ledger's database: one account per program, and what each is granted.

What a role is granted stands in sql/privileges/ROLE.sql; everything else is refused to it, and the
triggers refuse changes of what is append-only to the tables' owner as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import psycopg2
from psycopg2 import sql as compose
from psycopg2.extensions import connection as Connection

from ..errors import Unavailable
from .connection import transaction, writer_timeouts
from .statements import sql

MIGRATOR = "migrator"
PROGRAMS = ("admission", "sequencer", "relay", "follower", "reader", "auditor")
"""The roles that are granted something; the migrator owns the tables."""

_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "admission": writer_timeouts(),
    "sequencer": writer_timeouts(),
    "relay": writer_timeouts(),
    "follower": writer_timeouts(stands_back=True),
    "reader": {"default_transaction_read_only": "on"},
    "auditor": {"default_transaction_read_only": "on"},
}
# They wait for the turn, and end a session that holds it and is frozen: by a function of the
# migrator, who therefore has to be a member of both.
_TURN_TAKERS = ("admission", "sequencer")


def make_role_users(connection: Connection, passwords: Mapping[str, str]) -> dict[str, str]:
    """Make or renew the accounts certledger_ROLE with these passwords; the user name of each role.

    `connection` is a superuser's in the ledger's database, whose tables then belong to the
    migrator. Repeating it changes passwords only.
    """
    users = {role: f"certledger_{role}" for role in passwords}
    migrator = compose.Identifier(users[MIGRATOR])
    with transaction(connection) as cursor:
        for role, user in users.items():
            name = compose.Identifier(user)
            cursor.execute(sql("is_role"), {"name": user})
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            cursor.execute(
                compose.SQL(verb + " ROLE {} LOGIN PASSWORD %s").format(name), (passwords[role],)
            )
            for setting, value in _SETTINGS.get(role, {}).items():
                cursor.execute(
                    compose.SQL("ALTER ROLE {} SET {} = %s").format(
                        name, compose.Identifier(setting)
                    ),
                    (value,),
                )
            if role in _TURN_TAKERS:
                cursor.execute(compose.SQL("GRANT {} TO {}").format(name, migrator))
        cursor.execute(sql("give_to_migrator"), {"migrator": users[MIGRATOR]})
    return users


def grant_privileges(connection: Connection, users: Mapping[str, str]) -> None:
    """Give each program's user what its role may do in this database, and nothing else.

    `connection` is the tables' owner's; a role whose user is the owner itself is left out: that is
    a deployment with one account for everything. Unavailable `unreachable` where there is no such
    user.
    """
    with transaction(connection) as cursor:
        cursor.execute(sql("read_session"))
        ((owner, database),) = cursor.fetchall()
        for role in PROGRAMS:
            user = users.get(role, owner)
            if user == owner:
                continue
            text = (files(__package__) / "sql" / "privileges" / f"{role}.sql").read_text()
            names = {"role": compose.Identifier(user), "database": compose.Identifier(database)}
            try:
                for statement in (sql("grant_nothing"), text):
                    cursor.execute(compose.SQL(statement).format(**names))
            except psycopg2.errors.UndefinedObject as err:
                raise Unavailable(
                    "unreachable", f"PostgreSQL has no account {user} for the role {role}"
                ) from err
