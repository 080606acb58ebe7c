"""`certledger fsck`: the oracle on the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from typing import Any, Protocol

from ledger.errors import CODES, LedgerError
from ledger.postgres.connection import connect

from .fsck import run as check
from .fsck_lines import Beside, rare_garbage
from .fsck_report import KINDS, Finding
from .progress import Progress


class Environment(Protocol):
    """What the command line knows: the data folder and where the servers are."""

    @property
    def data(self) -> Any: ...
    @property
    def auditor_url(self) -> str: ...
    @property
    def kafka(self) -> str | None: ...


def add_commands(subparsers: Any) -> None:
    """Add `fsck` to the command line's parsers."""
    kinds = "\n".join(f"  {kind:18} {sentence}" for kind, sentence in KINDS.items())
    parser = subparsers.add_parser(
        "fsck",
        help="check the whole ledger: nothing lost, doubled, forged or damaged",
        description="Check the whole ledger. Exit 0 when it is clean, 1 with findings.",
        epilog="examples:\n  certledger fsck\n  certledger fsck --no-kafka --json\n\n"
        f"kinds of findings, the root cause first:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-kafka", action="store_true", help="check the database alone")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    """Check and print; 0 clean, 1 with findings, else the exit code of what was in the way."""
    checked: dict[str, int] = {}
    progress = Progress() if sys.stderr.isatty() and not args.json else None
    begun = time.monotonic()
    try:
        with (
            closing(connect(env.auditor_url, "fsck")) as connection,
            closing(Beside("slow")) as beside,
            rare_garbage(),
        ):
            found = check(
                connection,
                None if args.no_kafka else env.kafka,
                progress=progress,
                checked=checked,
                beside=beside,
            )
    except LedgerError as err:
        print(f"certledger fsck: {err.message} ({err.code})", file=sys.stderr)
        return CODES[err.code].exit
    finally:
        if progress is not None:
            progress.clear()
    if args.json:
        print(json.dumps(to_json(found, checked), ensure_ascii=False))
    else:
        _print(found, checked, time.monotonic() - begun)
    return 1 if found else 0


def to_json(found: list[Finding], checked: dict[str, int]) -> dict[str, Any]:
    """The object that --json prints."""
    return {
        "clean": not found,
        "findings": [{"kind": f.kind, "place": f.place, "message": f.message} for f in found],
        "checked": checked,
    }


def _print(found: list[Finding], checked: dict[str, int], seconds: float) -> None:
    for finding in found:
        print(f"{finding.place}: {finding.message} [{finding.kind}]")
    counts = ", ".join(f"{number} {name}" for name, number in checked.items())
    verdict = "clean" if not found else f"{len(found)} findings"
    print(f"fsck: {verdict}; checked {counts} in {seconds:.1f} s")
