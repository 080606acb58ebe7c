"""The one command line, composed of the rooms' commands."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.environment import Environment, default_data
from deploy.errors import StackError
from deploy.passphrases import unlock
from ledger.errors import CODES, LedgerError

_DESCRIPTION = """\
A shared ledger in place of repeated paper proofs: departments publish certificate events, anybody
asks whether a certificate is valid and gets an answer that can be checked offline."""

_EPILOG = """\
a first round:
  certledger up --detach                 start Kafka, PostgreSQL and the ledger (--data DIR: there)
  certledger simulate --events 2000      publish a generated town's events
  certledger status                      what the ledger holds
  certledger verify NUMBER               is it valid? with the reasons
  certledger evidence NUMBER -o F        the answer as a file for anybody
  certledger verify F                    check such a file, offline
  certledger down                        stop; the data stays

exit code 70: a fault of certledger's own; what it printed says where"""

BUG = 70  # the exit code of a fault of the program's own: `EX_SOFTWARE` of sysexits.h

# Where each command is: to import all of them takes most of a second.
MODULES = {
    "deploy.stack_commands": ("up", "down", "status"),
    "deploy.doctor": ("doctor",),
    "deploy.demo": ("demo",),
    "deploy.backups": ("backup", "restore"),
    "deploy.signer_command": ("signer",),
    "deploy.registry_commands": ("department", "key", "type", "pseudonym-secret"),
    "deploy.catalogue_commands": ("catalogue", "simulate-sharing"),
    "deploy.relying_commands": ("service", "rely", "case-sheet", "recalls"),
    "deploy.dead_letter_commands": ("dead-letter",),
    "deploy.losses": ("accept-loss",),
    "producers.commands": ("import", "correct", "publish", "simulate", "pseudonym"),
    "producers.outbox_commands": ("outbox",),
    "consumers.commands": ("verify", "evidence", "holder", "history", "receipt"),
    "consumers.bulk_commands": ("bulk",),
    "consumers.assess_commands": ("assess",),
    "consumers.savings_commands": ("savings",),
    "consumers.sheet_commands": ("sheet",),
    "consumers.status_commands": ("status-list",),
    "consumers.fsck_commands": ("fsck",),
    "consumers.audit_commands": ("audit",),
    "consumers.witness.commands": ("witness",),
}


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """The command line of one command, or the whole of it where there is no such command."""
    parser = argparse.ArgumentParser(
        prog="certledger",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = [module for module, names in MODULES.items() if command in names]
    for module in one or MODULES:
        importlib.import_module(module).add_commands(commands)
    for leaf in _leaves(parser):
        if not any(action.dest == "data" for action in leaf._actions):
            leaf.add_argument(
                "--data",
                type=Path,
                metavar="DIR",
                default=None,
                help="the stack's folder (default: $CERTLEDGER_DATA, else "
                "~/.local/share/certledger)",
            )
    return parser


def _leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [leaf for child in action.choices.values() for leaf in _leaves(child)]
    return [parser]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code: 2 usage, 4 cannot reach, 70 a bug, 130 Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    args: Any = build_parser(words[0] if words else "").parse_args(words)
    try:
        env = Environment(Path(args.data or default_data()).expanduser().resolve())
        unlock(os.environ.get("CERTLEDGER_PASSPHRASE_FILE"))
        code = int(args.run(args, env))
        sys.stdout.flush()
    except LedgerError as err:
        code = _refuse(args, err.code, err.message, CODES[err.code].exit)
    except StackError as err:
        code = _refuse(args, "stack", str(err), 4)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception:
        traceback.print_exc()  # Python's own 1 would say *not valid*, or *refused*
        code = BUG
    sys.exit(code)


def _refuse(args: Any, code: str, message: str, exit_code: int) -> int:
    print(f"certledger: {message}", file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": code, "message": message}, ensure_ascii=False))
    return exit_code


if __name__ == "__main__":
    main()
