"""What PostgreSQL refuses to each role: tried on every table, verb and column of a real ledger."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn

from ledger.errors import Malformed, Unavailable
from ledger.postgres.connection import connect, turn, user_of
from ledger.postgres.migrate import migrate
from ledger.postgres.roles import MIGRATOR, PROGRAMS, grant_privileges, make_role_users
from ledger.postgres.store import create_ledger
from tests import world
from tests.stored_ledger import query

SECRETS = {"blinding_secret", "status_secret"}
TURN = {"next_index", "ledger_time", "registry_index", "next_outbox"}
ALL = {"*"}  # every column

# What each role may write, written down a second time: verbs, and columns for UPDATE.
WRITES: Mapping[str, Mapping[str, Mapping[str, set[str]]]] = {
    "admission": {
        **{
            table: {"INSERT": ALL}
            for table in (
                *(
                    "entry",
                    "lines",
                    "signer",
                    "delta",
                    "certificate_kind",
                    "holder_act",
                    "lane_note",
                ),
                *("equivocation", "accounting", "outbox", "catalogue", "reliance_act", "recall"),
            )
        },
        **{
            table: {"INSERT": ALL, "UPDATE": ALL}
            for table in (
                *("certificate", "holder", "lane", "intake", "registry_record", "tally"),
                "reliance",
            )
        },
        "reliance_hold": {"INSERT": ALL, "UPDATE": {"end_index", "end_position"}},
        "allocation": {"UPDATE": TURN},
    },
    "sequencer": {
        "entry": {"INSERT": ALL},
        "status": {"INSERT": ALL},
        "tile": {"INSERT": ALL, "UPDATE": ALL},
        "registry_snapshot": {"INSERT": ALL, "DELETE": ALL},
        "map_tile": {"INSERT": ALL, "DELETE": ALL},
        "witness": {"INSERT": ALL, "UPDATE": ALL, "DELETE": ALL},
        "log_topic": {"INSERT": ALL, "UPDATE": ALL},
        "checkpoint": {"INSERT": ALL, "UPDATE": {"note", "published_at"}},
        "head": {"UPDATE": {"size", "root"}},
        "allocation": {"UPDATE": TURN},
    },
    "relay": {"relay": {"INSERT": ALL, "UPDATE": ALL}},
    "follower": {
        "status_secret": {"INSERT": ALL},
        "status_list": {
            "INSERT": ALL,
            "UPDATE": {
                *("is_changed", "vkey", "tree_size", "issued_at"),
                *("jwt", "cwt", "revocation", "suspension", "refresh"),
            },
        },
        "expiry_notice": {"INSERT": ALL},
        "outlook": {"INSERT": ALL, "UPDATE": {"seen_at", "due_at", "dues"}},
        "status_change": {"INSERT": ALL},
        "relay": {"INSERT": ALL, "UPDATE": ALL},
    },
    "reader": {},
    "auditor": {},
}
HIDDEN = {
    "admission": {"status_secret"},
    "sequencer": {"status_secret"},
    "follower": {"blinding_secret"},
    "reader": SECRETS,
    "auditor": set(),
}
RELAY_READS = {
    *("allocation", "head", "entry", "checkpoint", "tile", "lane", "outbox"),
    *("expiry_notice", "relay", "registry_record", "migration"),
    *("reliance", "reliance_hold", "recall"),
}
APPEND_ONLY = {
    *(
        "entry",
        "lines",
        "signer",
        "delta",
        "certificate_kind",
        "holder_act",
        "lane_note",
        "equivocation",
    ),
    *("accounting", "outbox", "status", "blinding_secret", "expiry_notice", "status_secret"),
    *("reliance_act", "recall", "status_change"),
}


class Roles:
    """A ledger whose tables belong to the migrator, and a connection per role."""

    def __init__(self, url: str) -> None:
        self.url = url
        passwords = {role: secrets.token_urlsafe(16) for role in (MIGRATOR, *PROGRAMS)}
        with closing(psycopg2.connect(url)) as admin:
            migrate(admin)  # as an earlier version did: the tables are the superuser's
            self.users = make_role_users(admin, passwords)
            assert make_role_users(admin, passwords) == self.users
        self.urls = {
            role: make_dsn(
                **{**parse_dsn(url), "passfile": "/dev/null", "user": user},
                password=passwords[role],
            )
            for role, user in self.users.items()
        }
        with closing(self.connect(MIGRATOR)) as owner:
            migrate(owner)
            grant_privileges(owner, self.users)
            grant_privileges(owner, self.users)
            create_ledger(owner, world.ORIGIN, str(world.CHECKPOINT.key), str(world.OPERATOR.key))
            self.columns: dict[str, list[str]] = {}
            for table, column in query(
                owner,
                "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
                " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0"
                " AND NOT attisdropped ORDER BY relname, attnum",
            ):
                self.columns.setdefault(table, []).append(column)

    def connect(self, role: str) -> Connection:
        return psycopg2.connect(self.urls[role])


@pytest.fixture(scope="module")
def roles(module_database_url: str) -> Roles:
    return Roles(module_database_url)


def refusal(connection: Connection, statement: str, *names: str) -> type[Exception] | None:
    """How PostgreSQL refuses a statement; None where it does it. Nothing stays of it."""
    composed = sql.SQL(statement).format(*map(sql.Identifier, names))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ WRITE")  # the role's default is not the point
            cursor.execute(composed)
        return None
    except psycopg2.Error as err:
        return type(err)
    finally:
        connection.rollback()


def attempts(table: str, columns: list[str]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(verb, column, statement, its names): each changes no row where it is allowed."""
    yield "SELECT", "", "SELECT 1 FROM {} LIMIT 0", (table,)
    yield "INSERT", "", "INSERT INTO {} SELECT (NULL::{}).* WHERE false", (table, table)
    for column in columns:
        yield "SELECT", column, "SELECT {} FROM {} LIMIT 0", (column, table)
        yield "UPDATE", column, "UPDATE {} SET {} = NULL WHERE false", (table, column)
    yield "DELETE", "", "DELETE FROM {} WHERE false", (table,)
    yield "TRUNCATE", "", "TRUNCATE {}", (table,)
    yield "LOCK", "", "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", (table,)
    yield "ALTER", "", "ALTER TABLE {} DISABLE TRIGGER ALL", (table,)
    yield "DROP", "", "DROP TABLE {}", (table,)
    yield (
        "TRIGGER",
        "",
        ("CREATE TRIGGER t BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse_change()"),
        (table,),
    )
    yield "GRANT", "", "ALTER TABLE {} OWNER TO CURRENT_USER", (table,)


def may(role: str, table: str, verb: str, column: str) -> bool:
    if verb == "SELECT":
        return table in RELAY_READS if role == "relay" else table not in HIDDEN[role]
    columns = WRITES[role].get(table, {}).get(verb, set())
    if verb == "LOCK":  # PostgreSQL lets whoever may change whole rows lock the table
        return any(
            v in ("UPDATE", "DELETE") and c == ALL for v, c in WRITES[role].get(table, {}).items()
        )
    return columns == ALL or column in columns


@pytest.mark.parametrize("role", PROGRAMS)
def test_a_role_does_what_it_must_and_nothing_else(roles: Roles, role: str) -> None:
    assert set(roles.columns) >= APPEND_ONLY | WRITES[role].keys()
    tried = 0
    with closing(roles.connect(role)) as connection:
        for table, columns in roles.columns.items():
            for verb, column, statement, names in attempts(table, columns):
                found = refusal(connection, statement, *names)
                wanted = None if may(role, table, verb, column) else errors.InsufficientPrivilege
                assert found is wanted, (role, verb, table, column, found)
                tried += 1
    assert tried > 300


@pytest.mark.parametrize("role", [MIGRATOR, *PROGRAMS])
@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "CREATE ROLE another",
        "CREATE DATABASE another",
        "ALTER ROLE certledger_reader SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('PG_VERSION')",
        "SET ROLE postgres",
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_terminate_backend(min(pid)) FROM pg_stat_activity WHERE usename = 'postgres'",
    ],
)
def test_no_role_gets_round_the_rules(roles: Roles, role: str, statement: str) -> None:
    keeper = psycopg2.connect(roles.url)
    with closing(keeper), closing(roles.connect(role)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement)


@pytest.mark.parametrize("role", PROGRAMS)
def test_no_program_makes_anything(roles: Roles, role: str) -> None:
    with closing(roles.connect(role)) as connection:
        for statement in ("CREATE TABLE more (n integer)", "CREATE SCHEMA more"):
            assert refusal(connection, statement) is errors.InsufficientPrivilege
        found = refusal(connection, "CREATE TEMPORARY TABLE own (n integer)")
        assert found is (None if role == "admission" else errors.InsufficientPrivilege)


def test_even_the_owner_changes_nothing_that_is_append_only(roles: Roles) -> None:
    with closing(roles.connect(MIGRATOR)) as connection:
        for table in sorted(APPEND_ONLY | {"checkpoint"}):
            for verb, _, statement, names in attempts(table, roles.columns[table]):
                if verb in ("DELETE", "TRUNCATE") or (verb == "UPDATE" and table != "checkpoint"):
                    found = refusal(connection, statement, *names)
                    assert found is errors.RestrictViolation, (verb, table, found)


def test_roles_carry_their_timeouts_whatever_the_client_says(roles: Roles) -> None:
    for role in ("admission", "sequencer", "relay", "follower"):
        whole, idle = ("50s", "30s") if role == "follower" else ("5s", "3s")
        url, stands_back = roles.urls[role], role == "follower"
        for connection in (
            roles.connect(role),
            connect(url, "test", writes=True, stands_back=stands_back),
        ):
            with closing(connection):
                assert query(connection, "SHOW transaction_timeout") == [(whole,)]
                assert query(connection, "SHOW idle_in_transaction_session_timeout") == [(idle,)]
    for role in ("reader", "auditor"):
        with closing(roles.connect(role)) as connection:
            assert query(connection, "SHOW default_transaction_read_only") == [("on",)]


def test_a_turn_taker_ends_a_frozen_one_of_another_role(roles: Roles) -> None:
    with closing(roles.connect("sequencer")) as frozen:
        cursor = frozen.cursor()
        cursor.execute("SET idle_in_transaction_session_timeout = 0; SET transaction_timeout = 0")
        cursor.execute("SELECT 1 FROM allocation FOR UPDATE")
        cursor.execute("UPDATE allocation SET ledger_time = ledger_time")
        begun = time.monotonic()
        waiting = connect(roles.urls["admission"], "test", writes=True)
        with closing(waiting), turn(waiting) as (other, _):
            other.execute("SELECT 1")
        assert time.monotonic() - begun >= 2
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")


def test_a_role_without_an_account_is_named(roles: Roles) -> None:
    with closing(roles.connect(MIGRATOR)) as owner:
        with pytest.raises(Unavailable, match="no account nobody_knows for the role relay"):
            grant_privileges(owner, {**roles.users, "relay": "nobody_knows"})
        # one account for everything: nothing to grant
        grant_privileges(owner, dict.fromkeys(PROGRAMS, roles.users[MIGRATOR]))


def test_an_address_of_a_role_names_its_user() -> None:
    assert user_of("postgresql://some_role@db.example/x") == "some_role"
    for wrong in ("postgresql://db.example/x", "nonsense"):
        with pytest.raises(Malformed):
            user_of(wrong)
