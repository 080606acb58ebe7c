"""`certledger outbox run`: a department's own PostgreSQL beside the running stack, with kills at
each step; the ledger holds what the table says, once, in the order of the commits.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from deploy.environment import Environment
from ledger.event import FIELDS
from producers.outbox_table import sql
from tests.running_stack import RunningStack, wait_until

ROOT = Path(__file__).parents[2]
TYPE = "taxi"

_CHILD = """
import math, os, signal, sys
from deploy import cli
from ledger.errors import Unavailable
from producers import outbox_table
from producers.config import PublisherConfig
from producers.link import Link
from producers.outbox_table import OutboxTable
from producers.spool import Spool

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, only=lambda done: True):
    real = getattr(owner, name)
    def called(self, *args):
        done = real(self, *args)
        if only(done):
            die()
        return done
    setattr(owner, name, called)

step = sys.argv[1]
if step:  # a heartbeat before the rows would be what it dies at
    PublisherConfig.heartbeat_seconds = math.inf
if step == "before take's commit":
    after(outbox_table._Judged, "write")
elif step == "after take":
    after(OutboxTable, "take", lambda taken: taken.lines)
elif step == "before fsync":
    real_write = Spool.write
    def write(self, *args):
        Spool._sync = die
        real_write(self, *args)
    Spool.write = write
elif step == "after fsync":
    after(Spool, "write")
elif step == "after sending":
    real_send = Link.send
    def send(self, *args):
        real_send(self, *args)
        self.flush(10)
        die()
    Link.send = send
elif step == "before the outcome":
    OutboxTable.answer = die
elif step == "after the outcome":
    after(OutboxTable, "answer", bool)
elif step == "after release":
    after(Spool, "release")
elif step == "reply lost":
    real_answer, lost = OutboxTable.answer, []
    def answer(self, *args):
        done = real_answer(self, *args)
        if done and not lost:
            lost.append(done)
            raise Unavailable("unreachable", "the reply to COMMIT is lost")
        return done
    OutboxTable.answer = answer
cli.main(["outbox", "run", *sys.argv[2:]])
"""

_SESSIONS = (
    "FROM pg_stat_activity WHERE application_name = 'certledger-outbox' "
    "AND datname = current_database()"
)


class Department:
    """A department with an outbox in a database of its own."""

    def __init__(self, stack: RunningStack, url: str) -> None:
        self.stack, self.url = stack, url
        self.name = f"d{secrets.token_hex(4)}"
        self.type = f"taxi-{self.name}"
        grant = {"departments": [self.name], "acts": sorted(FIELDS), "scope": "own"}
        grants = [{"department": self.name, "scope": "own", "acts": grant["acts"]}]
        Environment(stack.data).register(
            [{"id": self.name, "names": {"en": "Taxis"}, "time_zone": "Asia/Shanghai"}],
            [{"code": self.type, "names": {"en": "Taxi"}, "grants": grants}],
        )
        self.connection = self.connect()
        self.connection.autocommit = True
        self.rows(sql("outbox"))

    def connect(self) -> Connection:
        return psycopg2.connect(self.url)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def insert(self, *said: tuple[str, str], into: Connection | None = None, **more: Any) -> None:
        """A row for each (event, number), all with these members besides."""
        rows = [
            {
                "change_id": f"{event} {number} {secrets.token_hex(2)}",
                "event": event,
                "certificate_type_code": self.type,
                "certificate_number": number,
                **({"reason_code": "x"} if event == "suspended" else {}),
                **more,
            }
            for event, number in said
        ]
        with (into or self.connection).cursor() as cursor:
            for row in rows:
                names = ", ".join(row)
                holes = ", ".join(["%s"] * len(row))
                cursor.execute(
                    f"INSERT INTO certledger.outbox ({names}) VALUES ({holes})", [*row.values()]
                )

    def start(self, *options: str, step: str = "", url: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-c", _CHILD, step, "--department", self.name),
                *("--data", str(self.stack.data), *options),
            ],
            env={**os.environ, "CERTLEDGER_OUTBOX": url or self.url},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, step: str = "", url: str = "", code: int = 0) -> tuple[dict[str, Any], str]:
        """(report, what it said) of `certledger outbox run --once`."""
        process = self.start("--once", "--json", step=step, url=url)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, (process.returncode, out, err)
        if code < 0:
            # what it had asked for may still be committed, until the server sees that it is gone
            wait_until(lambda: self.rows(f"SELECT count(*) {_SESSIONS}") == [(0,)])
        return json.loads(out) if code >= 0 else {}, err

    def outcomes(self) -> dict[str | None, int]:
        return dict(self.rows("SELECT outcome, count(*) FROM certledger.outbox GROUP BY 1"))

    def codes_of(self, number: str) -> list[str | None]:
        """The outcomes of a certificate's rows, in the order of the log, then of the table."""
        found = self.rows(
            "SELECT outcome FROM certledger.outbox WHERE certificate_number = %s "
            "ORDER BY log_index, log_position, id",
            number,
        )
        return [code for (code,) in found]

    def check(self) -> None:
        """The ledger holds just what the table says is admitted; fsck is clean."""
        admitted = self.rows("SELECT count(*) FROM certledger.outbox WHERE outcome = 'admitted'")
        taken = self.rows(
            "SELECT count(*), count(DISTINCT (log_index, log_position)) FROM certledger.outbox "
            "WHERE log_index IS NOT NULL"
        )
        assert taken[0][0] == taken[0][1], "two rows in one place"
        held = self.stack.rows(
            "SELECT coalesce(sum(octet_length(c.history) / 12), 0) FROM certificate AS c "
            "JOIN certificate_kind AS k ON k.number = c.kind WHERE k.issuer = %s",
            self.name,
        )
        assert held == admitted
        self.stack.check()


@pytest.fixture
def department(stack: RunningStack, database_url: str) -> Iterator[Department]:
    made = Department(stack, database_url)
    yield made
    made.connection.close()


def test_rows_are_published_and_what_became_of_them_stands_beside(department: Department) -> None:
    department.insert(
        ("issued", "川A-1"),
        valid_from="2026-01-05",
        valid_until="2030-12-31",
        holder_scheme="001",
        holder_number="91510100MA61RQ5X0J",
        claims=json.dumps({"name": "甲"}),
        private=json.dumps({"owner": "王伟"}),
        time="2026-01-04T09:00:00+08:00",
    )
    department.insert(("suspended", "川A-1"), ("suspended", "川A-2"))
    report, said = department.run(code=1)
    assert report == {
        "published": 3,
        "admitted": 2,
        "refused": {"not-issued": 1},
        "held": 0,
        "waiting": 0,
    }
    assert "was refused, not-issued: No such certificate" in said
    rows = department.rows(
        "SELECT outcome, reason, length(event_id), log_index > 0, log_position, answered_at "
        "IS NOT NULL FROM certledger.outbox ORDER BY id"
    )
    sentence = "No such certificate was issued before."
    assert rows == [
        ("admitted", None, 32, True, 0, True),
        ("admitted", None, 32, True, 1, True),
        ("not-issued", sentence, 32, True, 2, True),
    ]
    assert department.run() == ({**report, "published": 0, "admitted": 0, "refused": {}}, "")
    department.check()


@pytest.mark.parametrize(
    "step",
    [
        "before take's commit",
        "after take",
        "before fsync",
        "after fsync",
        "after sending",
        "before the outcome",
        "after the outcome",
        "after release",
    ],
)
def test_a_kill_at_each_step_loses_and_doubles_nothing(department: Department, step: str) -> None:
    """What was refused is not judged again: said after the issue it would be admitted."""
    numbers = [f"K-{n}" for n in range(600)]
    for event in ("suspended", "issued"):
        department.insert(*((event, number) for number in numbers))
        department.run(step, code=-signal.SIGKILL)
    left = 600 - department.outcomes().get("not-issued", 0)
    report, _ = department.run(code=1 if left else 0)
    assert report["refused"] == ({"not-issued": left} if left else {})
    assert department.outcomes() == {"not-issued": 600, "admitted": 600}
    department.check()


def test_what_was_refused_counts_where_the_reply_to_its_commit_is_lost(
    department: Department,
) -> None:
    department.insert(("issued", "L-1"), ("suspended", "L-2"))
    report, said = department.run("reply lost", code=1)
    assert "the reply to COMMIT is lost; trying again" in said
    assert (report["admitted"], report["refused"]) == (1, {"not-issued": 1})
    assert department.outcomes() == {"admitted": 1, "not-issued": 1}
    department.check()


def test_rows_go_out_in_the_order_of_their_commits(department: Department) -> None:
    """The later id, transaction and clock may be the earlier decision."""
    late, early = department.connect(), department.connect()
    try:
        department.insert(("suspended", "O-1"), into=late)
        department.insert(("issued", "O-1"), into=early)
        early.commit()
        late.commit()
        report, _ = department.run()
        assert report["admitted"] == 2
        department.insert(("issued", "O-2"), into=late)
        department.insert(("issued", "O-3"), into=early)
        early.commit()
        assert department.run()[0]["published"] == 1, "what is not committed waits"
        late.commit()
        assert department.run()[0]["published"] == 1, "and is not passed over"
    finally:
        late.close()
        early.close()
    assert department.outcomes() == {"admitted": 4}
    department.check()


def test_a_row_that_can_be_no_event_holds_back_its_certificate_alone(
    department: Department,
) -> None:
    department.insert(("issued", "B-1"), valid_until="2030-02-30", change_id="case 17")
    department.insert(("suspended", "B-1"), ("suspended", " Ｂ－１"), ("issued", "B-2"))
    department.insert(("issued", "B-3"), time="infinity")
    department.insert(("suspended", "B-3"))
    report, said = department.run(code=1)
    assert (report["admitted"], report["held"], report["waiting"]) == (1, 2, 3)
    assert "row 1 (case 17) can be no event, malformed-time: '2030-02-30' is no day like" in said
    assert department.codes_of("B-2") == ["admitted"]
    report, said = department.run(code=1)
    assert "2 rows can be no event and 3 wait for them" in said
    assert (report["published"], report["held"]) == (0, 2)
    department.insert(("reinstated", "B-1"))
    department.rows(sql("mend_row").replace("17", "1"))
    department.rows(sql("drop_row").replace("17", "5"))
    report, said = department.run(code=1)
    assert (report["published"], report["held"], report["waiting"]) == (5, 0, 0)
    assert department.codes_of("B-1") == ["admitted", "admitted", "admitted"]
    assert department.codes_of(" Ｂ－１") == ["invalid-transition"], "suspended already"
    assert department.codes_of("B-3") == ["not-issued"]
    department.check()


def test_poison_is_named_and_stops_nobody(department: Department) -> None:
    bad: list[dict[str, Any]] = [
        {"event": "destroyed"},
        {"valid_from": "yesterday"},
        {"claims": json.dumps(["no object"])},
        {"claims": '{"n": 1e100000}'},
        {"claims": json.dumps({"deep": "x" * 300_000})},
        {"claims": json.dumps({"a": None})},
        {"holder_number": "91510100MA61RQ5X0J"},
        {"holder_scheme": "001", "holder_number": "91510100MA61RQ5X0K"},
        {"certificate_number": "\u0007"},
        {"certificate_number": "x" * 100_000},
        {"certificate_type_code": "no type\n"},
        {"time": "infinity"},
        {"time": "0044-03-15 BC"},
        {"change_id": ""},
        {"reason_code": "nicht gut"},
        {"corrects": "17"},
    ]
    for n, members in enumerate(bad):
        department.insert(("issued", f"P-{n}"), **members)
        department.insert(("issued", f"good-{n}"))
    report, _ = department.run(code=1)
    outcomes = department.outcomes()
    assert outcomes.pop("admitted") == len(bad) + 1, "an empty change_id is one like others"
    assert None not in outcomes
    assert report["held"] == len(bad) - 1
    reasons = department.rows("SELECT reason FROM certledger.outbox WHERE held_key IS NOT NULL")
    assert all(reason for (reason,) in reasons)
    department.check()


def test_it_runs_until_it_is_stopped_and_outlives_its_database(department: Department) -> None:
    process = department.start()
    try:
        department.insert(("issued", "R-1"))
        wait_for(department, {"admitted": 1})
        refused = department.start("--once")
        _, said = refused.communicate(timeout=60)
        assert (refused.returncode, "another `certledger outbox run`" in said) == (4, True)
        department.rows(f"SELECT pg_terminate_backend(pid) {_SESSIONS}")
        department.insert(("issued", "R-2"), ("suspended", "R-1"))
        wait_for(department, {"admitted": 3})
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "trying again in 1 s" in said
    assert "it goes on" in said
    assert out.startswith("3 published, 3 admitted, 0 refused")
    assert "Traceback" not in said
    department.check()


def test_accounts_need_no_more_than_is_granted(department: Department) -> None:
    application, publisher = (f"{who}_{department.name}" for who in ("app", "runner"))
    for role in (application, publisher):
        department.rows(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        grants = [line[5:] for line in sql("outbox").splitlines() if line.startswith("--   GRANT")]
        text = "\n".join(grants).replace("licences", application)
        as_publisher = account_url(department.url, publisher)
        department.run(url=as_publisher, code=2)
        department.rows(re.sub(r"(TO |, )certledger;", rf"\g<1>{publisher};", text))
        with psycopg2.connect(account_url(department.url, application)) as connection:
            department.insert(("issued", "A-1"), into=connection)
        connection.close()
        assert department.run(url=as_publisher)[0]["admitted"] == 1
    finally:
        for role in (application, publisher):
            department.rows(f"DROP OWNED BY {role}")
            department.rows(f"DROP ROLE {role}")


def test_what_is_wrong_with_the_table_is_said(department: Department) -> None:
    alter = "ALTER TABLE certledger.outbox %s TRIGGER number_at_commit"
    for statement, words in (
        (alter % "DISABLE", "trigger number_at_commit is missing or disabled"),
        ("ALTER TABLE certledger.outbox RENAME reason TO why", "outbox ddl"),
        ("DROP SCHEMA certledger CASCADE", "`certledger outbox ddl` prints what makes it"),
    ):
        department.insert(("issued", f"W-{secrets.token_hex(2)}"))
        department.rows(statement)
        assert words in department.run(code=2)[1]
        if "DISABLE" in statement:
            department.rows(alter % "ENABLE")
        elif "RENAME" in statement:
            department.rows("ALTER TABLE certledger.outbox RENAME why TO reason")
    assert "not the address" in department.run(url="nonsense", code=2)[1]
    _, said = department.run(url="postgresql://127.0.0.1:1/x", code=4)
    assert "the outbox's PostgreSQL" in said


def account_url(url: str, role: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}").geturl()


def wait_for(department: Department, outcomes: dict[str | None, int]) -> None:
    wait_until(lambda: department.outcomes() == outcomes, 60)
