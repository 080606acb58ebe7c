"""A standby, a second PostgreSQL that follows the first: the HTTP server there answers the same."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import make_dsn, parse_dsn

from deploy.embedded import postgres
from deploy.embedded.files import free_port
from ledger.checking import check_file
from ledger.postgres.roles import MIGRATOR, PROGRAMS, grant_privileges, make_role_users
from ledger.trust import parse_trust
from tests import page_ledger
from tests.http_serving import Served, serving
from tests.running_stack import SHIM, wait_until
from tests.stored_ledger import StoredLedger, query, reset

REFUSALS = (errors.FeatureNotSupported, errors.ReadOnlySqlTransaction)


@dataclass(frozen=True)
class Both:
    """A ledger, its trust file, and an HTTP server on each PostgreSQL."""

    ledger: StoredLedger
    trust: Path
    first: Served
    standby: Served
    standby_url: str  # the reader's


@pytest.fixture(scope="module")
def both(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    reset(module_database_url)
    ledger, trust = page_ledger.make_page_ledger(
        module_database_url, tmp_path_factory.mktemp("standby")
    )
    password = secrets.token_urlsafe(16)
    with closing(psycopg2.connect(module_database_url)) as admin:
        users = make_role_users(admin, dict.fromkeys((MIGRATOR, *PROGRAMS), password))
        grant_privileges(admin, users)
    home = postgres.prepare(Path(parse_dsn(module_database_url)["passfile"]).parents[1])
    port = free_port()
    reader = {**parse_dsn(module_database_url), "passfile": "/dev/null", "user": users["reader"]}
    urls = [
        make_dsn(**{**reader, **changes}, password=password) for changes in ({}, {"port": port})
    ]
    process = start_standby(home, module_database_url, port)
    try:
        wait_until(lambda: is_answering(urls[1]))
        options = {"CERTLEDGER_TRUST": str(trust), "CERTLEDGER_HTTP_RATE": "0"}
        with serving(urls[0], **options) as first, serving(urls[1], **options) as standby:
            yield Both(ledger, trust, first, standby, urls[1])
        ledger.check()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        ledger.close()


def start_standby(home: postgres.Home, url: str, port: int) -> subprocess.Popen[bytes]:
    """A copy of the server that follows it, under the same account, gone with this process."""
    copy = replace(home, folder=home.folder / "standby")
    copy.folder.mkdir(mode=0o711)
    subprocess.run(
        [
            str(postgres.client_program("pg_basebackup")),
            *(f"--dbname={url}", f"--pgdata={copy.data}"),
            *("--wal-method=stream", "--checkpoint=fast"),
        ],
        check=True,
    )
    (_, password) = Path(parse_dsn(url)["passfile"]).read_text().strip().rsplit(":", 1)
    where = {name: parse_dsn(url)[name] for name in ("host", "port", "user")}
    primary = make_dsn(**where, password=password)
    with (copy.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{primary}'\n")
    (copy.data / "standby.signal").touch()
    account = ["-1", "-1"]
    if home.uid is not None:
        account = [str(home.uid)] * 2
        for folder, _, files in os.walk(copy.data):
            for path in (folder, *(os.path.join(folder, name) for name in files)):
                os.chown(path, home.uid, home.uid, follow_symlinks=False)
    argv, env = postgres.command(copy, port)
    tied = [str(os.getpid()), str(int(postgres.DEATH_SIGNAL)), *account]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(SHIM), *tied, *argv],
        cwd=copy.folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def is_answering(url: str) -> bool:
    try:
        with closing(psycopg2.connect(url)) as connection:
            return query(connection, "SELECT pg_is_in_recovery()") == [(True,)]
    except psycopg2.OperationalError:
        return False


def follows(both: Both) -> bool:
    """Whether the standby has all that the first one has."""
    return both.standby.get("/log/checkpoint") == both.first.get("/log/checkpoint")


def members(answer: bytes) -> dict[str, Any]:
    """What does not change with the moment of the question."""
    value = json.loads(answer)
    return {n: v for n, v in value.items() if n not in ("at", "issuer_freshness", "checks")}


def proven(both: Both, number: str) -> str:
    """What the evidence from the standby says, checked offline."""
    data = both.standby.get(f"/v1/evidence?number={quote(number)}")
    return check_file(data, parse_trust(both.trust.read_bytes()), time.time_ns() // 1000).answer


def test_a_standby_answers_as_the_first(both: Both) -> None:
    wait_until(lambda: follows(both))
    for number in (page_ledger.VALID, page_ledger.LONG_LIFE, page_ledger.TWICE, "nobody has it"):
        path = f"/v1/certificates?number={quote(number)}"
        assert members(both.standby.get(path)) == members(both.first.get(path))
    number = quote(page_ledger.LONG_LIFE)
    size = int(both.standby.get("/log/checkpoint").splitlines()[1])
    for path in (
        f"/v1/history?number={number}",
        f"/log/tile/0/000.p/{size}",
        f"/log/tile/entries/000.p/{size}",
        f"/log/delta/000.p/{size}",
        "/v1/lanes?department=a",
        "/readyz",
    ):
        mine, theirs = (served.ask(path) for served in (both.standby, both.first))
        assert (mine.status, mine.body) == (theirs.status, theirs.body), path
        assert mine.status == 200, (path, mine)
    for path in (f"/?number={number}", "/metrics"):
        assert both.standby.ask(path).status == 200, path
    assert proven(both, page_ledger.VALID) == "valid"


def test_what_is_published_reaches_the_standby(both: Both) -> None:
    ledger = both.ledger
    ledger.send(ledger.make(ledger.issued("standby-1")))
    ledger.checkpoint()
    wait_until(lambda: follows(both))
    answer = json.loads(both.standby.get("/v1/certificates?number=standby-1"))
    assert answer["answer"] == "valid"
    assert proven(both, "standby-1") == "valid"


def test_nothing_can_be_written_on_a_standby(both: Both) -> None:
    with closing(psycopg2.connect(both.standby_url)) as connection:
        for statement in ("SET TRANSACTION READ WRITE", "UPDATE tally SET count = 0"):
            with pytest.raises(psycopg2.Error) as refused:
                query(connection, statement)
            connection.rollback()
            assert refused.type in REFUSALS, statement
