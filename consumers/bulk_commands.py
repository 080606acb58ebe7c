"""`certledger bulk`: a table of certificate numbers, back with answers."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from consumers.asking import Asked, ask
from consumers.bulk import answer_rows
from consumers.commands import Env, open_view
from consumers.progress import Progress
from consumers.unproven import answer_unproven
from consumers.verifier import load_trust
from ledger.errors import LedgerError, Malformed, Refused
from ledger.evidence import format_evidence
from ledger.verdict import Answer

_DESCRIPTION = """\
Answer a whole table. The column called number or identifier, else the first one, is asked about;
columns type, issuer, at and known_at belong to the question. The table comes back with the answers
in columns after its own; cells that a spreadsheet would take for formulas get an apostrophe.
"""
_EXAMPLES = """\
examples:
  certledger bulk suppliers.csv -o answers.csv
  certledger bulk suppliers.csv -o answers.csv --evidence evidence.zip
"""


def add_commands(subparsers: Any) -> None:
    """Add the command to a command line."""
    bulk = subparsers.add_parser(
        "bulk",
        help="answer a CSV of certificate numbers, with an archive of evidence",
        description=_DESCRIPTION,
        epilog=f"exit: 0 answered, 2 usage or no table, 4 cannot reach\n{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bulk.add_argument("table", metavar="FILE.csv", help="- for stdin")
    bulk.add_argument("-o", "--output", required=True, metavar="OUT.csv", help="- for stdout")
    bulk.add_argument(
        "--evidence", type=Path, metavar="OUT.zip", help="keep the evidence of each row there"
    )
    bulk.add_argument(
        "--trust", type=Path, metavar="FILE", help="what to trust (default: the stack's trust.json)"
    )
    bulk.set_defaults(run=run)


def run(args: Any, env: Env) -> int:
    """Answer the table; the exit code."""
    trust = load_trust(args.trust or env.trust)
    progress = Progress() if sys.stderr.isatty() else None
    with contextlib.ExitStack() as stack:
        text = stack.enter_context(_reading(args.table))
        total = _lines(args.table) if progress is not None and args.table != "-" else 0
        out = stack.enter_context(_writing(args.output))
        archive = None
        if args.evidence is not None:
            file = stack.enter_context(_new(args.evidence))
            archive = stack.enter_context(zipfile.ZipFile(file, "w"))
        view = stack.enter_context(open_view(env))

        def answer(questions: Sequence[Asked]) -> Sequence[Answer | LedgerError]:
            return answer_unproven(view, questions, trust, time.time_ns() // 1000)

        def prove(asked: Asked) -> bytes:
            _, evidence = ask(view, asked, trust, time.time_ns() // 1000)
            if evidence is None:
                raise Refused("ambiguous")
            return format_evidence(evidence) + b"\n"

        done = 0
        for piece in answer_rows(text, answer, archive, prove):
            out.write(piece.encode())
            done += piece.count("\n")
            if progress is not None:
                progress("rows", done, max(total, done))
        if progress is not None:
            progress.clear()
    return 0


def _lines(name: str) -> int:
    with open(name, "rb") as file:
        return sum(1 for _ in file)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[io.TextIOWrapper]:
    if name == "-":
        yield io.TextIOWrapper(sys.stdin.buffer, "utf-8", newline="")
        return
    try:
        file = open(name, encoding="utf-8", newline="")  # noqa: SIM115
    except OSError as err:
        raise Malformed("usage", f"{name} cannot be read: {err.strerror}") from err
    with file:
        yield file


@contextlib.contextmanager
def _writing(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdout.buffer
        return
    with _new(Path(name)) as file:
        file.write(b"\xef\xbb\xbf")  # or spreadsheets take UTF-8 for something else
        yield file


@contextlib.contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        file = unfinished.open("wb")
    except OSError as err:
        raise Malformed("usage", f"{path} cannot be written: {err.strerror}") from err
    try:
        with file:
            yield file
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
