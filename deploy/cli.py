"""The one command line, composed of the rooms' commands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import consumers.assess_commands
import consumers.audit_commands
import consumers.bulk_commands
import consumers.commands
import consumers.fsck_commands
import consumers.savings_commands
import consumers.sheet_commands
import consumers.status_commands
import consumers.witness.commands
import producers.commands
import producers.outbox_commands
from deploy import (
    backups,
    catalogue_commands,
    dead_letter_commands,
    demo,
    doctor,
    losses,
    registry_commands,
    relying_commands,
    signer_command,
    stack_commands,
)
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
  certledger down                        stop; the data stays"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="certledger",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    stack_commands.add_commands(commands)
    doctor.add_commands(commands)
    demo.add_commands(commands)
    backups.add_commands(commands)
    signer_command.add_commands(commands)
    registry_commands.add_commands(commands)
    catalogue_commands.add_commands(commands)
    relying_commands.add_commands(commands)
    dead_letter_commands.add_commands(commands)
    losses.add_commands(commands)
    producers.commands.add_commands(commands)
    producers.outbox_commands.add_commands(commands)
    consumers.commands.add_commands(commands)
    consumers.bulk_commands.add_commands(commands)
    consumers.assess_commands.add_commands(commands)
    consumers.savings_commands.add_commands(commands)
    consumers.sheet_commands.add_commands(commands)
    consumers.status_commands.add_commands(commands)
    consumers.fsck_commands.add_commands(commands)
    consumers.audit_commands.add_commands(commands)
    consumers.witness.commands.add_commands(commands)
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
    """Run one command and exit with its code: 2 usage, 4 cannot reach, 130 Ctrl-C."""
    args: Any = build_parser().parse_args(argv)
    env = Environment(Path(args.data or default_data()).expanduser().resolve())
    unlock(os.environ.get("CERTLEDGER_PASSPHRASE_FILE"))
    try:
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
    sys.exit(code)


def _refuse(args: Any, code: str, message: str, exit_code: int) -> int:
    print(f"certledger: {message}", file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": code, "message": message}, ensure_ascii=False))
    return exit_code


if __name__ == "__main__":
    main()
