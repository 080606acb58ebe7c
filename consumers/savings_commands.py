"""`certledger savings`: proofs not demanded, copies not made, windows not visited."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any, Protocol

from consumers.savings_plot import plot
from consumers.verifier import print_safely
from consumers.words import plain
from ledger import merkle
from ledger.catalogue import Catalogue, parse_catalogue
from ledger.errors import LedgerError, Malformed
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader, View
from ledger.reliance import Reliance, parse_reliance
from ledger.savings import COUNTED, DEFINITIONS, Row, by_month, count, total

_SAVINGS = """\
Count what reuse saved, from the receipts of offices and the catalogue versions that they name and
nothing else: whoever has these gets the same numbers. With --receipts and --catalogue they are
counted out of files, without a ledger.

Definitions:
""" + "".join(
    textwrap.fill(said, 96, initial_indent=f"  {name:<10} ", subsequent_indent=" " * 13)
    + f"\n{'':<13}{zh}\n"
    for name, (said, zh) in DEFINITIONS.items()
)


class Env(Protocol):
    """What this command needs to know about where it runs."""

    @property
    def postgres_url(self) -> str: ...


def add_commands(commands: Any) -> None:
    """Add `savings` to a command line."""
    parser = commands.add_parser(
        "savings",
        help="proofs not demanded, copies not made, windows not visited",
        description=_SAVINGS,
        epilog="examples:\n  certledger savings\n  certledger savings --json --svg savings.svg\n"
        "  certledger savings --export receipts.ndjson\n"
        "  certledger savings --receipts receipts.ndjson --catalogue town-1.json town-2.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--receipts", metavar="FILE", type=Path, help="reliance lines, one a line")
    parser.add_argument(
        "--catalogue", metavar="FILE", type=Path, nargs="+", default=[], help="with --receipts"
    )
    parser.add_argument(
        "--export", metavar="FILE", type=Path, help="write the lines that were counted"
    )
    parser.add_argument("--svg", metavar="FILE", type=Path, help="draw the months")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: Any, env: Env) -> int:
    """certledger savings"""
    if args.receipts is not None:
        lines = _read_lines(args.receipts)
        catalogues = {made.root.hex(): made for made in map(_read_catalogue, args.catalogue)}
    else:
        connection = connect(env.postgres_url, "savings")
        try:
            with Reader(connection).open() as view:
                lines = view.reliance_lines()
                catalogues = named_catalogues(view, lines)
        finally:
            connection.close()
    parsed = parse(lines)
    rows = count(parsed, catalogues)
    if args.export is not None:
        args.export.touch(mode=0o600)
        args.export.write_bytes(b"".join(line + b"\n" for line in lines))
    if args.svg is not None:
        args.svg.write_text(plot(by_month(rows)), encoding="utf-8")
    if args.json:
        print(json.dumps(members(rows), indent=1))
    else:
        print_safely(_describe(rows))
    return 0


def parse(lines: list[bytes]) -> list[Reliance]:
    """The lines as they were admitted."""
    return [parse_reliance(line, merkle.leaf_hash(line)) for line in lines]


def named_catalogues(view: View, lines: list[bytes]) -> dict[str, Catalogue]:
    """The published catalogues that lines name, by root; those whose file is gone are left out."""
    wanted = {item.catalogue for item in parse(lines)}
    found = {}
    for name, versions in view.catalogues().items():
        for version in versions:
            if version["root"] in wanted:
                try:
                    found[version["root"]] = view.catalogue(name, version["version"])[0]
                except LedgerError as err:
                    print_safely(f"{name} version {version['version']}: {err.message}")
    return found


def members(rows: list[Row]) -> dict[str, Any]:
    """The numbers and what they mean, as JSON."""
    return {
        "definitions": {name: {"en": en, "zh": zh} for name, (en, zh) in DEFINITIONS.items()},
        "rows": [row.members() for row in rows],
        "months": by_month(rows),
        "total": total(rows),
    }


def _describe(rows: list[Row]) -> str:
    lines = []
    for name, (said, zh) in DEFINITIONS.items():
        lines.append(f"{name}: {said}\n    {zh}")
    head = ("month", "service", "office", *COUNTED)
    body = [
        (row.month, plain(row.service), row.office, *(f"{getattr(row, n):,}" for n in COUNTED))
        for row in sorted(rows, key=lambda row: (row.month, row.service, row.office))
    ]
    body.append(("all", "", "", *(f"{number:,}" for number in total(rows).values())))
    widths = [max(len(row[n]) for row in (head, *body)) for n in range(len(head))]
    for row in (head, *body):
        lines.append("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines)


def _read_lines(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as err:
        raise Malformed("usage", f"{path}: {err.strerror or err}") from err
    found = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            parse_reliance(line, b"")
        except LedgerError as err:
            raise Malformed("malformed-reliance", f"{path} line {number}: {err.message}") from err
        found.append(line)
    return found


def _read_catalogue(path: Path) -> Catalogue:
    try:
        return parse_catalogue(path.read_bytes())
    except OSError as err:
        raise Malformed("usage", f"{path}: {err.strerror or err}") from err
