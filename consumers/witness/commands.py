"""`certledger witness`: have a department witness this ledger and other logs."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

from consumers.http.server import serve
from ledger.errors import Malformed
from ledger.logs import FORMAT_VARIABLE, set_up
from ledger.note import is_name

from .app import Witness, build_app
from .config import STATE, Logs, add_log, create, drop_log, load_cosigners
from .state import State

DEFAULT_LISTEN = "127.0.0.1:8490"


def add_commands(commands: Any) -> None:
    """Add the witness's commands to the command line."""
    parser = commands.add_parser(
        "witness",
        help="witness ledgers and other logs: cosign what only ever grows",
        description="A witness cosigns a log's checkpoints when each extends the last one it saw "
        "(C2SP tlog-witness). It needs a folder of its own and nothing else of the ledger; the "
        "folder must never be restored from an older copy.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    init = verbs.add_parser(
        "init",
        help="make the folder and the keys of a new witness",
        description="Make the folder and the keys of a new witness; prints its verifier keys.",
        epilog="example:\n  certledger witness init --name witness.example/health --folder w",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    init.add_argument("--name", required=True, help="like witness.example/health: for ever")
    init.add_argument("--ml-dsa", action="store_true", help="cosign with ML-DSA-44 too")
    init.set_defaults(run=run_init)
    add = verbs.add_parser(
        "add-log",
        help="know one more key of a log",
        description="Have the witness know one more key of a log; one that runs need not restart.",
        epilog="example:\n  certledger witness add-log VKEY --folder w",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("vkey", help="NAME+HASH+BASE64; its name is the log's origin")
    add.set_defaults(run=run_add_log)
    drop = verbs.add_parser(
        "drop-log",
        help="know a key of a log no longer",
        description="Have the witness know a key no longer. After a rotation, whoever has the\n"
        "retired key could otherwise have it cosign another history, never again the true one.",
        epilog="example:\n  certledger witness drop-log VKEY --folder w",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    drop.add_argument("vkey", help="NAME+HASH+BASE64, as it was added")
    drop.set_defaults(run=run_drop_log)
    run = verbs.add_parser(
        "run",
        help="answer until a signal comes",
        description="Answer C2SP tlog-witness over HTTP until a signal comes.",
        epilog="example:\n  certledger witness run --folder w --listen 127.0.0.1:8490",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help=f"default {DEFAULT_LISTEN}"
    )
    run.set_defaults(run=run_run)
    for verb in (init, add, drop, run):
        verb.add_argument(
            "--folder", type=Path, required=True, metavar="DIR", help="the witness's own folder"
        )


def run_init(args: argparse.Namespace, env: Any) -> int:
    """certledger witness init"""
    if not is_name(args.name):
        raise Malformed("usage", f"{args.name[:80]!r}: a name without spaces and plus is needed")
    for cosigner in create(args.folder, args.name, args.ml_dsa):
        print(cosigner.key)
    return 0


def run_add_log(args: argparse.Namespace, env: Any) -> int:
    """certledger witness add-log"""
    load_cosigners(args.folder)
    add_log(args.folder, args.vkey)
    return 0


def run_drop_log(args: argparse.Namespace, env: Any) -> int:
    """certledger witness drop-log"""
    load_cosigners(args.folder)
    drop_log(args.folder, args.vkey)
    return 0


def run_run(args: argparse.Namespace, env: Any) -> int:
    """certledger witness run"""
    host, _, port = args.listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Malformed("usage", f"--listen {args.listen!r}: HOST:PORT is needed")
    set_up("witness", os.environ.get(FORMAT_VARIABLE))
    folder: Path = args.folder
    witness = Witness(load_cosigners(folder), Logs(folder), State(folder / STATE))
    asyncio.run(serve(build_app(witness), host.strip("[]"), int(port)))
    return 0
