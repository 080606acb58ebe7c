"""The offline verifier: an evidence file, a trust file, an answer; no server and no network."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from consumers.verifier import (
    EXIT_CODES,
    add_arguments,
    add_file_arguments,
    check_path_and_show,
    load_trust,
    print_safely,
)
from ledger.errors import CODES, LedgerError


def main(argv: Sequence[str] | None = None) -> int:
    """Check one file; the exit code of `certledger verify`."""
    parser = argparse.ArgumentParser(
        prog="certledger-verify",
        description="Checks a certledger evidence file offline against a trust file.",
        epilog=EXIT_CODES,
    )
    add_arguments(parser, "FILE", "what to trust (default: trust.json beside the evidence file)")
    add_file_arguments(parser)
    args = parser.parse_args(argv)
    try:
        trust = load_trust(args.trust or Path(args.subject).parent / "trust.json")
        return check_path_and_show(args, trust)
    except LedgerError as err:
        print_safely(f"certledger-verify: {err.message}")
        if args.json:
            print(json.dumps({"error": err.code, "message": err.message}))
        return CODES[err.code].exit


if __name__ == "__main__":
    sys.exit(main())
