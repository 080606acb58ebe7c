"""`certledger up`, `down`, `status`: the stack on one machine."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from consumers.http.settings import LOG_PREFIX
from deploy.environment import Environment
from deploy.errors import StackError
from deploy.stack import Stack, worker_programs
from ledger import topics
from ledger.errors import LedgerError, Unavailable
from ledger.postgres.connection import connect, transaction
from ledger.postgres.rows import read_origin, read_registry
from ledger.postgres.sequencing import read_published, read_tally
from ledger.postgres.statements import sql

_OWN = ("certificates", "admitted")


def add_commands(commands: Any) -> None:
    """Add the stack's commands to the command line."""
    up = commands.add_parser(
        "up",
        help="start Kafka, PostgreSQL and the ledger in a folder",
        description="Runs until Ctrl-C, or in the background with --detach. Everything listens on "
        "the loopback address only. CERTLEDGER_KAFKA and CERTLEDGER_POSTGRES replace the "
        "embedded servers, CERTLEDGER_HTTP_LISTEN (HOST:PORT) the address for HTTP.",
    )
    up.add_argument("--detach", action="store_true", help="return when everything is ready")
    up.add_argument("--workers", type=int, default=1, help="admission workers (default 1)")
    up.set_defaults(run=run_up)
    down = commands.add_parser("down", help="stop what runs in a folder; the data stays")
    down.set_defaults(run=run_down)
    status = commands.add_parser("status", help="what runs, and what the ledger holds")
    status.add_argument("--json", action="store_true", help="as JSON on standard output")
    status.set_defaults(run=run_status)


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


def run_up(args: argparse.Namespace, env: Environment) -> int:
    """certledger up"""
    if not 1 <= args.workers <= 64:
        raise StackError(f"--workers {args.workers}: a number from 1 to 64 is needed")
    stack = Stack(env.data, worker_programs(args.workers), progress=say, http=True)
    stack.up(detach=args.detach)
    if args.detach:
        say(
            f"the ledger runs in {env.data}; `certledger status` shows it, `certledger down` "
            "stops it"
        )
    return 0


def run_down(args: argparse.Namespace, env: Environment) -> int:
    """certledger down"""
    say("stopped" if Stack(env.data).down() else f"nothing runs in {env.data}")
    return 0


def run_status(args: argparse.Namespace, env: Environment) -> int:
    """certledger status"""
    report = status(env)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _print(report)
    return 0 if report["running"] else 4


def status(env: Environment) -> dict[str, Any]:
    """What runs and what the ledger holds; what cannot be reached is null."""
    stack = Stack(env.data).status()
    report: dict[str, Any] = {
        **stack,
        "log_url": stack["url"] and f"{stack['url']}{LOG_PREFIX}",
        "origin": None,
        "vkey": None,
        "tree_size": None,
        "certificates": None,
        "events": None,
        "refused": {},
        "lag": None,
    }
    try:
        report |= ledger_status(env)
    except LedgerError as err:
        report["problem"] = err.message
    report["running"] = bool(report["running"]) or report["tree_size"] is not None
    return report


def ledger_status(env: Environment) -> dict[str, Any]:
    """What the ledger holds; Unavailable when it cannot be reached."""
    connection = connect(env.postgres_url, "status")
    try:
        with transaction(connection) as cursor:
            origin = read_origin(cursor)
            published = read_published(cursor)
            tally = read_tally(cursor)
            ledger = read_registry(cursor, origin).value("ledger") or {}
            cursor.execute(sql("read_all_intake"))
            intake = cursor.fetchall()
    finally:
        connection.close()
    return {
        "origin": origin,
        "vkey": ledger.get("checkpoint_vkey"),
        "tree_size": None if published is None else published[0],
        "certificates": tally.get("certificates", 0),
        "events": tally.get("admitted", 0),
        "refused": {code: n for code, n in sorted(tally.items()) if code not in _OWN},
        "lag": _lag(env.kafka, {partition: offset for _, partition, offset in intake}),
    }


def _lag(kafka: str, taken: dict[int, int]) -> int:
    """Records in the intake topic that were not taken yet."""
    try:
        consumer = KafkaConsumer(bootstrap_servers=kafka.split(","), enable_auto_commit=False)
        try:
            partitions = consumer.partitions_for_topic(topics.EVENTS) or set()
            ends = consumer.end_offsets([TopicPartition(topics.EVENTS, p) for p in partitions])
        finally:
            consumer.close()
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka at {kafka}: {err}") from err
    return sum(end - taken.get(place.partition, 0) for place, end in ends.items())


def _print(report: dict[str, Any]) -> None:
    state = "ready" if report["ready"] else "starting" if report["running"] else "stopped"
    print(f"{state}  {report['data_dir']}")
    for name, program in report["programs"].items():
        pid = program["pid"] or "-"
        mark = "ready" if program["ready"] else "not ready"
        print(f"  {name:12} pid {pid:<8} {mark}, started {program['starts']} times")
    if report["url"] is not None:
        print(f"http          {report['url']}")
        print(f"  log         {report['log_url']}")
    if report["tree_size"] is not None:
        print(f"ledger        {report['origin']}")
        print(f"  leaves        {report['tree_size']:,}")
        print(f"  certificates  {report['certificates']:,}")
        print(f"  events        {report['events']:,} admitted")
        for code, number in report["refused"].items():
            print(f"                {number:,} refused: {code}")
        print(f"  lag           {report['lag']:,} records not yet taken")
    if "problem" in report:
        print(f"  {report['problem']}")
