"""Fixtures: a small ledger in a real PostgreSQL, filled through the real store; a whole stack."""

import uuid
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, make_dsn, parse_dsn

from tests.running_stack import RunningStack, running
from tests.stored_ledger import StoredLedger, reset


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str) -> Iterator[str]:
    """The address of a database that the tests of one module share; each empties it first."""
    name = f"test_{uuid.uuid4().hex}"
    admin = psycopg2.connect(postgres_url)
    try:
        admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield make_dsn(**{**parse_dsn(postgres_url), "dbname": name})
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        admin.close()


@pytest.fixture
def ledger(module_database_url: str) -> Iterator[StoredLedger]:
    """A new ledger with departments a and b."""
    reset(module_database_url)
    made = StoredLedger(module_database_url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """A whole stack that the tests of one module share, with as many workers as its mark says."""
    mark = request.node.get_closest_marker("workers")
    with running(tmp_path_factory.mktemp("stack"), *(mark.args if mark else ())) as made:
        yield made
