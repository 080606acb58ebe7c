"""Fixtures: the real embedded servers, started once per test session.

Their supervisor is a process of its own that dies with this one: nothing outlives the session,
however it ends.
"""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from deploy.embedded import postgres
from deploy.embedded.files import free_port
from deploy.embedded.supervisor import Program, Supervisor
from deploy.stack import kafka_program, postgres_program
from ledger import topics

START_SECONDS = 180
_ROOT = Path(__file__).parent.parent
_SHIM = _ROOT / "deploy" / "embedded" / "child.py"


@dataclass(frozen=True)
class Server:
    """One running server."""

    address: str
    process: subprocess.Popen[str]


def start_server(which: str, data_dir: Path) -> Server:
    """Start one server under a supervisor of its own and wait until it answers."""
    shim = [sys.executable, "-I", "-S", str(_SHIM)]
    tied = [str(os.getpid()), str(int(signal.SIGTERM)), "-1", "-1"]
    process = subprocess.Popen(
        [*shim, *tied, sys.executable, str(Path(__file__)), which, str(data_dir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        process.wait()
        process.stdout.close()
        pytest.fail(f"the embedded {which} did not start; see what it printed", pytrace=False)
    return Server(address, process)


def stop_server(server: Server) -> None:
    """Stop a server and wait until it is gone."""
    server.process.terminate()
    try:
        server.process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka; topics are the test's own, under unique names."""
    server = start_server("kafka", tmp_path_factory.mktemp("kafka"))
    try:
        yield server.address
    finally:
        stop_server(server)


@pytest.fixture(scope="module")
def own_topics(kafka_bootstrap: str) -> Iterator[str]:
    """The address of the real Kafka, in which this module's topics of the ledger have names of
    their own: nobody else's records are in them.
    """
    suffix = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vars(topics).items():
            if name.isupper():
                patch.setattr(topics, name, f"{value}.{suffix}")
        yield kafka_bootstrap


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The superuser's address of a real PostgreSQL, as a libpq URL."""
    data_dir = tmp_path_factory.mktemp("postgres")
    try:
        server = start_server("postgres", data_dir)
        try:
            yield server.address
        finally:
            stop_server(server)
    finally:
        postgres.remove(data_dir)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """The address of a fresh, empty database, dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(postgres_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    finally:
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        _execute(postgres_url, drop)


def _execute(url: str, statement: sql.Composable) -> None:
    connection = psycopg2.connect(url)
    try:
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def supervise(which: str, data_dir: Path) -> None:
    """Run one server until a signal comes; print its address when it is ready."""
    port = free_port()
    program: Program
    if which == "kafka":
        program, address = kafka_program(data_dir, port, free_port(taken={port}))
    else:
        program, _ = postgres_program(data_dir, port)
        address = postgres.dsn(postgres.prepare(data_dir), port, "postgres")
    supervisor = Supervisor(
        [program], data_dir / "logs", on_ready=lambda: print(address, flush=True)
    )
    supervisor.run()


if __name__ == "__main__":
    supervise(sys.argv[1], Path(sys.argv[2]))
