"""`certledger up`, `down`, `status`: the stack on one machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from consumers.http.settings import LOG_PREFIX
from consumers.intake_ends import IntakeEnds
from deploy.embedded.supervisor import Program
from deploy.environment import Environment
from deploy.errors import StackError
from deploy.stack import Stack, worker_programs
from deploy.witnesses import policy_path, set_policy, witness_programs
from ledger.errors import LedgerError, Unavailable
from ledger.kafka_address import servers
from ledger.policy import parse_policy
from ledger.postgres.connection import connect, transaction
from ledger.postgres.rows import read_lanes, read_origin, read_registry
from ledger.postgres.sequencing import read_head, read_published, read_tally, read_witnesses
from ledger.postgres.statements import sql
from ledger.silence import silences
from streams.disk import DEFAULT, VARIABLE, find_full, parse_reserve

_OWN = ("certificates", "admitted")


def add_commands(commands: Any) -> None:
    """Add the stack's commands to the command line."""
    up = commands.add_parser(
        "up",
        help="start Kafka, PostgreSQL and the ledger in a folder",
        description="Runs until Ctrl-C, or in the background with --detach. Everything listens on "
        "the\nloopback address only. CERTLEDGER_KAFKA and CERTLEDGER_POSTGRES replace the "
        "embedded servers,\nCERTLEDGER_HTTP_LISTEN (HOST:PORT) the address for HTTP. "
        "CERTLEDGER_POSTGRES_ADMISSION, _SEQUENCER,\n_RELAY, _FOLLOWER, _READER, _AUDITOR and "
        "_MIGRATOR give the roles accounts of their own\n(deploy/postgres-roles.sql).",
        epilog="examples:\n  certledger up\n  certledger up --detach --data town --workers 2\n"
        "  CERTLEDGER_POSTGRES=postgresql://… CERTLEDGER_KAFKA=host:9092 certledger up",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    up.add_argument("--detach", action="store_true", help="return when everything is ready")
    up.add_argument("--workers", type=int, default=1, help="admission workers (default 1)")
    for name, server in (("kafka", "Kafka"), ("postgres", "PostgreSQL")):
        up.add_argument(
            f"--{name}-port",
            type=int,
            metavar="PORT",
            help=f"of the embedded {server} (default: a free one, the same at every start)",
        )
    up.add_argument(
        "--witnesses",
        type=int,
        metavar="N",
        help="run N witnesses beside it, the last with its state outside the folder",
    )
    up.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="VKEY@URL",
        help="ask this witness too, repeatable; kept in DIR/policy, as --quorum is",
    )
    up.add_argument(
        "--quorum", type=int, metavar="N", help="of all witnesses (default: more than half)"
    )
    up.set_defaults(run=run_up)
    down = commands.add_parser(
        "down",
        help="stop what runs in a folder; the data stays",
        description="Stop what runs in a folder and wait until all of it is gone. The data stays.",
        epilog="example:\n  certledger down --data town",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    down.set_defaults(run=run_down)
    status = commands.add_parser(
        "status",
        help="what runs, and what the ledger holds",
        description="What runs in a folder and where, and what the ledger holds.",
        epilog="exit: 0 it runs, 4 it does not\nexamples:\n  certledger status\n"
        "  certledger status --data town --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    status.add_argument("--json", action="store_true", help="as JSON on standard output")
    status.set_defaults(run=run_status)


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


def run_up(args: argparse.Namespace, env: Environment) -> int:
    """certledger up"""
    if not 1 <= args.workers <= 64:
        raise StackError(f"--workers {args.workers}: a number from 1 to 64 is needed")
    stated = {"kafka": args.kafka_port, "postgres": args.postgres_port}
    ports = {name: port for name, port in stated.items() if port is not None}
    for name, port in ports.items():
        if not 1 <= port <= 65_535:
            raise StackError(f"--{name}-port {port}: a number from 1 to 65535 is needed")

    def beside(data: Path) -> list[Program]:
        set_policy(data, args.witnesses, args.witness, args.quorum)
        return witness_programs(data)

    stack = Stack(
        env.data,
        worker_programs(args.workers),
        progress=say,
        http=True,
        beside=beside,
        ports=ports,
    )
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


def status(env: Environment, ledger: bool = True) -> dict[str, Any]:
    """What runs and, unless it is not to be asked, what the ledger holds; what cannot be reached is
    null.
    """
    stack = Stack(env.data).status()
    report: dict[str, Any] = {
        **stack,
        "log_url": stack["url"] and f"{stack['url']}{LOG_PREFIX}",
        "origin": None,
        "vkey": None,
        "tree_size": None,
        "signed_size": None,
        "entries": None,
        "receipts_sent": None,
        "witnesses": [],
        "quorum": None,
        "certificates": None,
        "events": None,
        "refused": {},
        "lag": None,
        "taken": None,
        "disk_full": find_full(env.data, parse_reserve(os.environ.get(VARIABLE) or DEFAULT)),
        "departments": [],
    }
    if ledger:
        try:
            report |= ledger_status(env)
        except LedgerError as err:
            report["problem"] = err.message
    report["running"] = bool(report["running"]) or report["origin"] is not None
    return report


def ledger_status(env: Environment) -> dict[str, Any]:
    """What the ledger holds; Unavailable when the database cannot be reached, `lag` is None when
    only Kafka cannot.
    """
    connection = connect(env.postgres_url, "status")
    try:
        with transaction(connection) as cursor:
            origin = read_origin(cursor)
            published = read_published(cursor)
            tally = read_tally(cursor)
            registry = read_registry(cursor, origin)
            lanes = read_lanes(cursor)
            head = read_head(cursor)
            witnesses = read_witnesses(cursor)
            cursor.execute(sql("read_all_intake"))
            intake = cursor.fetchall()
            cursor.execute(sql("read_allocation"))
            ((_, entries, *_),) = cursor.fetchall()
            cursor.execute(sql("scan_relays"))
            relays = dict(cursor.fetchall())
    finally:
        connection.close()
    held = {
        "origin": origin,
        "vkey": registry.checkpoint_vkey,
        "tree_size": None if published is None else published[0],
        "signed_size": head.size,
        "entries": entries,
        "receipts_sent": relays.get("receipts", 0),
        "witnesses": [
            {"name": name, "size": size, "cosigned_at": seconds, "problem": problem}
            for name, size, seconds, problem in witnesses
        ],
        "quorum": _has_quorum(env.data, witnesses),
        "certificates": tally.get("certificates", 0),
        "events": tally.get("admitted", 0),
        "refused": {code: n for code, n in sorted(tally.items()) if code not in _OWN},
        "taken": sum(offset for _, _, offset in intake),
        "departments": silences(registry, lanes, time.time_ns() // 1000),
    }
    taken = {(topic_id, partition): offset for topic_id, partition, offset in intake}
    try:
        with closing(IntakeEnds(env.kafka)) as ends:
            lag = sum(ends.read().lag(taken).values())
    except Unavailable as err:
        return {**held, "lag": None, "problem": err.message}
    return {**held, "lag": lag}


def _has_quorum(data: Path, witnesses: Iterable[tuple[str, Any, Any, str | None]]) -> bool:
    """Whether the witnesses without a problem make the quorum."""
    sound = {name: problem is None for name, _, _, problem in witnesses}
    path = policy_path(data)
    if not path.exists():
        return all(sound.values())
    return parse_policy(path.read_bytes()).is_met([name for name in sound if sound[name]])


def shown_address(url: str) -> str:
    """HOST:PORT of a database's URL, without what is secret in it."""
    place = urlsplit(url)
    return f"{place.hostname or 'its default place'}:{place.port or 5432}"


def _print(report: dict[str, Any]) -> None:
    state = "not run from here"
    if report["pid"] is not None or not report["running"]:
        state = "ready" if report["ready"] else "starting" if report["running"] else "stopped"
    print(f"{state}  {report['data_dir']}")
    if report["running"]:
        kafka = ",".join(servers(report["kafka"]))
        print(f"  kafka at {kafka}, postgres at {shown_address(report['postgres'])}")
    if report["disk_full"]:
        print(f"  INTAKE WAITS the disk is nearly full: {report['disk_full']}")
    for name, program in report["programs"].items():
        pid = program["pid"] or "-"
        mark = "ready" if program["ready"] else "not ready"
        often = "once" if program["starts"] == 1 else f"{program['starts']} times"
        ended = f"; {program['last_exit']}, see logs/{name}.log" if program["last_exit"] else ""
        print(f"  {name:12} pid {pid:<8} {mark}, started {often}{ended}")
    if report["url"] is not None:
        print(f"http          {report['url']}")
        print(f"  log         {report['log_url']}")
    if report["origin"] is not None:
        size = report["tree_size"] or 0
        print(f"ledger        {report['origin']}")
        print(f"  leaves        {size:,}")
        waiting = report["signed_size"] - size
        if waiting and not report["quorum"]:
            print(f"  NOT PUBLISHED {waiting:,} leaves wait for the quorum of witnesses")
        for witness in report["witnesses"]:
            cosigned = f"cosigned {witness['size'] or 0:,} leaves"
            print(f"  witness       {witness['name']}: {witness['problem'] or cosigned}")
        print(f"  certificates  {report['certificates']:,}")
        print(f"  events        {report['events']:,} admitted")
        for code, number in report["refused"].items():
            print(f"                {number:,} refused: {code}")
        if report["lag"] is not None:
            print(f"  lag           {report['lag']:,} records not yet taken")
        print("departments by silence, on the most silent of their lanes")
        for row in report["departments"]:
            print(f"  {row['department']:<24} {_silence(row)}")
    if "problem" in report:
        print(f"  {report['problem']}")


def _silence(row: Mapping[str, Any]) -> str:
    limit = row["silence_limit_seconds"]
    state = row["state"] if limit is None else f"{row['state']} (limit {_span(limit)})"
    if row["signed_at"] is None:
        return f"{state}, nothing yet on lane {row['lane']}"
    return f"{state}, {_span(row['silent_seconds'])} on lane {row['lane']}"


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
