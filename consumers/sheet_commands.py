"""`certledger sheet`: a certificate's status on a sheet of paper, with a signed QR code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Protocol

from ledger.errors import Conflict, Malformed, ProofError, Unavailable
from ledger.keys import load_key
from ledger.question import format_instant
from ledger.sheet import is_said, make_sheet, parse_sheet
from ledger.verdict import undecided

from .asking import Asked, ask
from .commands import open_view, write_file
from .sheet_page import draw_html, draw_pdf, draw_svg, lay_out
from .verifier import load_trust, now, print_safely, show
from .words import plain

_DESCRIPTION = """\
Print what the ledger says of a certificate now on one A4 page, in Chinese and English, with a QR
code that the ledger's sheet key signs. Whoever has the trust file can check the code without a
network, for as long as the policy in it says; the page says what it does not prove."""
_EXAMPLES = """\
examples:
  certledger sheet 川A-000123 -o taxi.pdf
  certledger sheet 川A-000123 --type taxi -o taxi.svg
  certledger verify --qr photo-of-the-sheet.jpg --trust trust.json"""


class Env(Protocol):
    """What this command needs to know about where it runs."""

    @property
    def data(self) -> Path: ...
    @property
    def postgres_url(self) -> str: ...
    @property
    def trust(self) -> Path: ...


def add_commands(subparsers: Any) -> None:
    """Add `sheet` to a command line."""
    parser = subparsers.add_parser(
        "sheet",
        help="a certificate's status on a sheet of paper, with a signed QR code",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\n\nexit: 0 written, 2 usage, 4 nothing to print; otherwise as verify",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", metavar="NUMBER")
    parser.add_argument("--type", metavar="T", help="certificate type code, when several match")
    parser.add_argument("--issuer", metavar="I", help="issuing department, when several match")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="its name ends in .pdf, .svg or .html"
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="the sheet key (default: keys/sheet.key)"
    )
    parser.add_argument("--trust", type=Path, metavar="FILE", help="(default: trust.json)")
    parser.add_argument("--json", action="store_true", help="what was printed, as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: Any, env: Env) -> int:
    """certledger sheet"""
    form = Path(args.output).suffix
    if form not in (".pdf", ".svg", ".html"):
        raise Malformed("usage", f"-o {args.output}: the name ends in .pdf, .svg or .html")
    trust = load_trust(args.trust or env.trust)
    signer = load_key(args.key or env.data / "keys" / "sheet.key")
    if signer.key not in trust.sheet_keys:
        raise Malformed(
            "usage",
            f"the trust file names no sheet key {signer.key}: nobody would believe the sheet",
        )
    asked = Asked(args.subject, args.type, args.issuer)
    try:
        with open_view(env) as view:
            answer, evidence = ask(view, asked, trust, now())
    except (Unavailable, ProofError, Conflict) as err:
        return show(undecided(err.code, err.message), args.json)
    if evidence is None or not is_said(answer):
        return show(answer, args.json)
    qr = make_sheet(evidence, answer, trust, signer)
    items = lay_out(qr, answer, trust)
    title = f"certledger {answer.number}"
    data = {
        ".pdf": lambda: draw_pdf(items, title),
        ".svg": lambda: draw_svg(items, title).encode(),
        ".html": lambda: draw_html(items, title).encode(),
    }[form]()
    write_file(args.output, data)
    statement = parse_sheet(qr).statement
    until = format_instant(statement.holds_until)
    if args.json:
        told = {"reference": statement.reference, "holds_until": until, "qr": qr}
        print(json.dumps({**told, "answer": answer.members()}, indent=2))
    else:
        print_safely(
            f"{args.output}: sheet {statement.reference} says {answer.answer} of "
            f"{plain(statement.certificate.number)} until {until}"
        )
    return 0
