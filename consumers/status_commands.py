"""`certledger status-list`: where a certificate stands in the status lists, and the lists."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ledger import statuslist
from ledger.errors import Malformed, Refused

from .asking import Asked, find
from .commands import Env, open_view, write_file
from .verifier import print_safely
from .words import plain

FORMS = ("jwt", "cwt", "w3c")


def add_commands(subparsers: Any) -> None:
    """Add `status-list` to a command line."""
    parser = subparsers.add_parser(
        "status-list",
        help="where a certificate stands in the status lists, or a list as a file",
        description="With NUMBER: what a wallet's credential about this certificate carries, for\n"
        "each version of it. With --list: the signed list.",
        epilog="examples:\n  certledger status-list 川A-000123\n"
        "  certledger status-list --list 1 --form cwt -o list.cwt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", metavar="NUMBER", nargs="?")
    parser.add_argument("--type", metavar="T", help="certificate type code, when several match")
    parser.add_argument("--issuer", metavar="I", help="issuing department, when several match")
    parser.add_argument("--list", type=int, metavar="N", help="write list N")
    parser.add_argument(
        "--form", choices=FORMS, default="jwt", help="of the list (default jwt: IETF; w3c: vc+jwt)"
    )
    parser.add_argument(
        "--purpose",
        choices=tuple(statuslist.PURPOSES),
        default="revocation",
        help="of a W3C list (default revocation)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="- for stdout")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    parser.set_defaults(run=run)


def run(args: Any, env: Env) -> int:
    """certledger status-list"""
    if (args.subject is None) == (args.list is None):
        raise Malformed("usage", "name a certificate NUMBER, or a list with --list")
    if args.list is None:
        return _show(args, env)
    if not 1 <= args.list < 2**31:
        raise Malformed("usage", f"--list {args.list}: lists are numbered from 1")
    if args.output is None:
        raise Malformed("usage", "-o FILE is needed with --list; - for stdout")
    with open_view(env) as view:
        data = view.status_list(args.list, args.purpose if args.form == "w3c" else args.form)
    if data is None:
        raise Refused("not-found", f"there is no status list {args.list} yet")
    write_file(args.output, data)
    return 0


def _show(args: Any, env: Env) -> int:
    with open_view(env) as view:
        looked = find(view, Asked(args.subject, args.type, args.issuer))
        if not looked.matches:
            raise Refused("not-found", f"the ledger holds no certificate {looked.number!r}")
        if len(looked.matches) > 1:
            choices = [f"--type {m.type_code} --issuer {m.issuer}" for m in looked.matches]
            raise Refused("ambiguous", f"several certificates match: {'; '.join(choices)}")
        (certificate,) = looked.matches
        places = view.status_places(certificate)
    if not places:
        raise Refused("not-found", "it has no place in a status list yet: ask again in a while")
    if args.json:
        found = [
            {"version": version, **statuslist.references(uri, idx)} for version, uri, idx in places
        ]
        print(json.dumps({"number": certificate.number, "versions": found}, indent=2))
    else:
        print_safely(plain(certificate.number))
        for version, uri, idx in places:
            print_safely(f"  version {version}: {plain(uri)} index {idx}")
    return 0
