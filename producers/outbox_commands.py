"""`certledger outbox`: publish from a table in the department's own PostgreSQL."""

from __future__ import annotations

import argparse
import json
import os
import signal
import textwrap
from typing import Any

from ledger.errors import CODES, Malformed

from .feeding import Environment
from .outbox import OutboxRun, Session
from .outbox_table import sql

VARIABLE = "CERTLEDGER_OUTBOX"

_DDL = """\
Print the SQL that makes the outbox in a department's own PostgreSQL (14 or newer): the schema
certledger with one table, whose comments say what its columns mean. The application inserts a row
in the transaction of the decision itself; `certledger outbox run` publishes it.
"""
_DDL_EXAMPLES = """\
examples:
  certledger outbox ddl | psql licences
  certledger outbox ddl > migrations/0042_outbox.sql
"""
_RUN = """\
Publish the rows of certledger.outbox in the department's own PostgreSQL, in the order in which
their transactions commit, until Ctrl-C; with --once until every row there has its outcome.

Beside each row is written what became of it: event_id, outcome (admitted, repeat, or the code of a
refusal with its reason), log_index and log_position (its place in the ledger's log), answered_at.
A kill anywhere, or a server that goes away, loses and doubles nothing: it goes on by itself, or
with the next start. One process works on an outbox at a time.

A row that can be no event (a day that does not exist, say) is told here and in its row, and stops
no other certificate. Later rows of its own certificate wait, as they may rest on it, until it is
mended or deleted, in SQL:

%s

What the ledger refused was an event that its rules do not allow; later rows were judged without it.
It is said again, mended, by a new row with a change_id of its own. Rows with an outcome may be
deleted; their change_ids must not be used for anything else.

Where the database is: --database, or CERTLEDGER_OUTBOX, which does not stand in the list of
processes. A password is better kept in ~/.pgpass. It is the server itself: poolers that share
sessions let two processes work on one outbox.

Exit code: 0, or 1 when a row was refused in this run or any can be no event.
"""
_RUN_EXAMPLES = """\
examples:
  certledger outbox run --department transport --database postgresql://certledger@db/licences
  certledger outbox run --department transport --once --json

in SQL:
%s
"""


def add_commands(commands: Any) -> None:
    """Add the outbox's commands to the command line."""
    form = argparse.RawDescriptionHelpFormatter
    outbox = commands.add_parser("outbox", help="publish from a table in a department's database")
    verbs = outbox.add_subparsers(dest="verb", required=True, metavar="VERB")
    ddl = verbs.add_parser(
        "ddl",
        help="the SQL that makes the table",
        description=_DDL,
        epilog=_DDL_EXAMPLES,
        formatter_class=form,
    )
    ddl.set_defaults(run=run_ddl)
    run = verbs.add_parser(
        "run",
        help="publish what is in the table",
        description=_RUN % _shown("mend_row", "drop_row"),
        epilog=_RUN_EXAMPLES % _shown("find_unadmitted"),
        formatter_class=form,
    )
    run.add_argument("--department", metavar="DEPT", required=True, help="who publishes")
    run.add_argument(
        "--database",
        metavar="URL",
        help=f"the department's PostgreSQL, as libpq takes it (default: ${VARIABLE})",
    )
    run.add_argument("--once", action="store_true", help="stop when every row has its outcome")
    run.add_argument(
        "--take-over",
        action="store_true",
        help="the department published from another machine before, or its spool was lost: nobody "
        "publishes for it there any more",
    )
    run.add_argument("--json", action="store_true", help="print the counts as JSON at the end")
    run.set_defaults(run=run_run)


def _shown(*names: str) -> str:
    """Statements for people to run, as help shows them."""
    return textwrap.indent("\n".join(f"{sql(name).rstrip()};" for name in names), "  ")


def run_ddl(args: Any, env: Environment) -> int:
    """`certledger outbox ddl`."""
    print(sql("outbox"), end="")
    return 0


def run_run(args: Any, env: Environment) -> int:
    """`certledger outbox run`."""
    url = args.database or os.environ.get(VARIABLE)
    if not url:
        raise Malformed("usage", f"name the department's database: --database or {VARIABLE}")
    config = env.publisher_config(args.department)
    kafka = env.kafka

    def open_session(answer: Any, first: bool) -> Session:
        return Session(config, kafka, url, answer, take_over=args.take_over and first)

    work = OutboxRun(open_session)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work.run(args.once)
    except KeyboardInterrupt:
        _report(work, args.json)
        raise
    _report(work, args.json)
    return 1 if work.refused or work.held else 0


def _report(work: OutboxRun, as_json: bool) -> None:
    counts = {
        "published": work.published,
        "admitted": work.admitted,
        "refused": work.refused,
        "held": work.held,
        "waiting": work.waiting,
    }
    if as_json:
        print(json.dumps(counts), flush=True)
        return
    print(
        f"{work.published:,} published, {work.admitted:,} admitted, "
        f"{sum(work.refused.values()):,} refused, {work.held:,} can be no event, "
        f"{work.waiting:,} wait for these"
    )
    for code, count in work.refused.items():
        print(f"{count:>9,} refused  {code}: {CODES[code].sentence}")
