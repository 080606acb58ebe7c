"""`certledger service`, `rely`, `recalls`: an office relies on answers, and hears of changes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from consumers.assessing import Catalogues
from consumers.verifier import load_trust, now, print_safely
from deploy.environment import Environment
from deploy.registration import parse_names
from ledger.checking import check_file
from ledger.entry import ADMITTED
from ledger.errors import CODES, Malformed, Refused
from ledger.evidence import MAX_EVIDENCE
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.reliance import DECISION, ENDED, LASTS
from ledger.verdict import Answer
from producers.case_sheet import format_sheet
from producers.link import Link
from producers.publisher import Publisher
from producers.relying import ReliedOn, read_acts, read_recalls

RECEIPT_SECONDS = 60
_RELY = """\
Say in a signed event that an office relies on the ledger's answers, in place of paper copies: the
evidence files are checked here, the office signs, and the ledger admits it when every certificate
was valid at the checkpoint of the evidence. All files are under one checkpoint: get them together.

The case number, the clerk and the certificates' numbers stay on this machine, in
DIR/departments/OFFICE/cases.ndjson; what leaves it are keyed hashes. When one of the certificates
changes later, `certledger recalls` says which case it concerns. A decision that was taken hears of
annulment and correction alone, an entitlement that goes on of every change, until
`certledger rely SERVICE CASE --office OFFICE --end`.

Exit code: 0, or 1 when the ledger refused it.
"""


def add_commands(commands: Any) -> None:
    """Add the commands to the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("service", help="say which offices offer a service, list services")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser(
        "add",
        help="register a service, or change its offices",
        description="Register a public service with the offices that offer it: they may rely on\n"
        "certificates for it. Offices that are left out may not any more.",
        epilog="example:\n  certledger service add open-restaurant --name zh=开办餐饮店 "
        "--office linjiang-market",
        formatter_class=form,
    )
    add.add_argument("code", help="as in the catalogue")
    add.add_argument("--name", action="append", required=True, metavar="LANG=TEXT")
    add.add_argument("--office", action="append", default=[], metavar="DEPT", help="repeatable")
    add.set_defaults(run=run_service_add)
    listing = verbs.add_parser(
        "list",
        help="list services and their offices",
        description="List services and their offices.",
        epilog="example:\n  certledger service list --json",
        formatter_class=form,
    )
    listing.add_argument("--json", action="store_true", help="as JSON on standard output")
    listing.set_defaults(run=run_service_list)

    rely = commands.add_parser(
        "rely",
        help="an office relies on answers in a case, and says so in a signed event",
        description=_RELY,
        epilog="examples:\n"
        "  certledger evidence 2026-0001 -o licence.evidence.json\n"
        "  certledger rely open-restaurant 2026-000123 licence.evidence.json \\\n"
        "      --office linjiang-market --use-for licence-application --clerk ann\n"
        "  certledger rely open-restaurant 2026-000123 licence.evidence.json \\\n"
        "      --office linjiang-market --check\n"
        "  certledger rely open-restaurant 2026-000123 --office linjiang-market --end",
        formatter_class=form,
    )
    rely.add_argument("service", metavar="SERVICE")
    rely.add_argument("case", metavar="CASE", help="the case's number with the office")
    rely.add_argument("files", metavar="FILE", nargs="*", type=Path, help="evidence files")
    rely.add_argument("--office", metavar="DEPT", required=True, help="who relies")
    rely.add_argument("--use-for", metavar="CODE", help="what for: a-z, 0-9 and hyphens")
    rely.add_argument("--clerk", metavar="NAME", help="who decides; published as a keyed hash")
    rely.add_argument("--lasts", choices=LASTS, default=DECISION, help=f"default: {DECISION}")
    rely.add_argument(
        "--catalogue",
        metavar="DEPT/CODE",
        help="say which demands are met: `savings` counts them",
    )
    rely.add_argument("--end", action="store_true", help="the case rests on nothing any more")
    rely.add_argument(
        "--check",
        action="store_true",
        help="say nothing: is each file about what the case relies on? exit 0 or 1",
    )
    rely.add_argument("--trust", type=Path, metavar="FILE", help="default: the stack's trust.json")
    rely.add_argument("--json", action="store_true", help="the receipt as JSON on stdout")
    rely.set_defaults(run=run_rely)

    sheet = commands.add_parser(
        "case-sheet",
        help="the page that the clerk archives in place of copies",
        description="Write a page to print or file: the case, the certificates it rests on, and\n"
        "the receipts, out of the office's own list. With the evidence files beside it, it needs\n"
        "no ledger: each file's SHA-256 stands on it.",
        epilog="example:\n  certledger case-sheet open-shop 2026-123 licence.evidence.json \\\n"
        "      --office linjiang-market -o 2026-123.html",
        formatter_class=form,
    )
    sheet.add_argument("service", metavar="SERVICE")
    sheet.add_argument("case", metavar="CASE")
    sheet.add_argument("files", metavar="FILE", nargs="*", type=Path, help="evidence on file")
    sheet.add_argument("--office", metavar="DEPT", required=True)
    sheet.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    sheet.set_defaults(run=run_sheet)

    recalls = commands.add_parser(
        "recalls",
        help="what an office's cases rest on and has changed",
        description="List the notices of recall to an office, with its own case numbers. A notice\n"
        "proves nothing: ask the ledger about the certificate.",
        epilog="example:\n  certledger recalls --office linjiang-market",
        formatter_class=form,
    )
    recalls.add_argument("--office", metavar="DEPT", required=True)
    recalls.add_argument("--json", action="store_true", help="a line of JSON each on stdout")
    recalls.set_defaults(run=run_recalls)


def run_service_add(args: argparse.Namespace, env: Environment) -> int:
    """certledger service add"""
    registration = env.registration()
    index = registration.add_service(args.code, parse_names(args.name), args.office)
    said = "says this already" if index is None else f"is registered at log index {index}"
    print(f"service {args.code} {said}")
    return 0


def run_service_list(args: argparse.Namespace, env: Environment) -> int:
    """certledger service list"""
    rows = [
        {"code": name.removeprefix("service/"), **record["value"]}
        for name, record in sorted(env.registration().read().records.items())
        if name.startswith("service/")
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        offices = [office["department"] for office in row["offices"] if office["until"] is None]
        print(f"{row['code']}  {' / '.join(row['names'].values())}  {', '.join(offices) or '-'}")
    return 0


def run_rely(args: argparse.Namespace, env: Environment) -> int:
    """certledger rely"""
    if args.end and args.files:
        raise Malformed("usage", "--end takes no evidence files: it ends the whole case")
    if args.check and not args.end and args.files:
        return _recheck(args, env)
    if not args.end and not (args.files and args.use_for and args.clerk):
        raise Malformed("usage", "evidence files, --use-for and --clerk are needed")
    relied, size = ([], 0) if args.end else _check(args, env)
    root = None
    if args.catalogue is not None and not args.end:
        root, relied = _find_met(args, env, relied)
    config = env.publisher_config(args.office)
    with Publisher(config, env.kafka, take_over=True) as publisher:
        future = (
            publisher.ended(args.service, args.case)
            if args.end
            else publisher.relied(
                args.service,
                args.case,
                relied,
                tree_size=size,
                use_for=args.use_for,
                clerk=args.clerk,
                lasts=args.lasts,
                catalogue=root,
            )
        )
        receipt = future.result(RECEIPT_SECONDS)
    if args.json:
        members = {"code": receipt.code, "index": receipt.index, "position": receipt.position}
        print(json.dumps({"act": receipt.event_id, **members}))
    sentence = "admitted" if receipt.code == ADMITTED else CODES[receipt.code].sentence
    print_safely(f"{receipt.code} at log index {receipt.index}: {sentence}")
    return 0 if receipt.admitted else 1


def _recheck(args: argparse.Namespace, env: Environment) -> int:
    """Hold evidence files against what the office said in this case."""
    acts = read_acts(env.publisher_config(args.office), args.service, args.case)
    trust = load_trust(args.trust or env.trust)
    code = 0
    for path in args.files:
        said, is_same = _held_against(check_file(_read(path), trust, now(), as_asked=True), acts)
        print_safely(f"{path}: {said}")
        code = code if is_same else 1
    return code


def _held_against(answer: Answer, acts: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    members = answer.members()
    found = members["certificate"] or {}
    name = (found.get("type"), found.get("issuer"), found.get("number"))
    if answer.refused is not None or None in name:
        return f"proves nothing: {answer.why or answer.reason}", False
    version, size = found.get("version"), members["tree_size"]
    about = [
        (act, one["certificate_version"])
        for act in acts
        for one in act["certificates"]
        if name
        == (
            one["certificate_type_code"],
            one["issuing_authority_code"],
            one["certificate_number"],
        )
    ]
    if not about:
        return "the case does not rely on this certificate", False
    act, relied = about[-1]
    if acts[-1]["kind"] == ENDED:
        return f"the case ended its reliance at {acts[-1]['time']}", False
    if (relied, act["tree_size"]) != (version, size):
        return (
            f"the case relies on version {relied} at {act['tree_size']} entries, this is version "
            f"{version} at {size}: {members['answer']}",
            False,
        )
    return f"this is what the case relies on since {act['time']} (act {act['act']})", True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_EVIDENCE + 2)
    except OSError as err:
        raise Malformed("usage", f"{path}: {err.strerror or err}") from err
    if len(data) > MAX_EVIDENCE + 1:
        raise Malformed("usage", f"{path} is no evidence file")
    return data


def _check(args: argparse.Namespace, env: Environment) -> tuple[list[ReliedOn], int]:
    """The certificates of the evidence files, each valid now, and the size of their checkpoint."""
    trust = load_trust(args.trust or env.trust)
    relied: list[ReliedOn] = []
    sizes: set[int] = set()
    for path in args.files:
        answer = check_file(_read(path), trust, now())
        members = answer.members()
        found = members["certificate"]
        if members["answer"] != "valid" or found is None:
            said = f"{members['answer']} ({members['reason']})"
            raise Refused("not-valid-then", f"{path}: {said}: nobody can rely on it")
        number, version = found["number"], found["version"]
        relied.append(ReliedOn(found["type"], found["issuer"], number, version))
        sizes.add(int(members["tree_size"]))
    if len(sizes) != 1:
        said = ", ".join(map(str, sorted(sizes)))
        raise Malformed("usage", f"the files are under different checkpoints ({said} leaves)")
    return relied, sizes.pop()


def _find_met(
    args: argparse.Namespace, env: Environment, relied: list[ReliedOn]
) -> tuple[str, list[ReliedOn]]:
    """The root of the catalogue, and the certificates with what each stands for in its service."""
    connection = connect(env.postgres_url, "rely")
    try:
        with Reader(connection).open() as view:
            catalogue = Catalogues().find(view, args.service, args.catalogue)
    finally:
        connection.close()
    pairs: dict[str, set[tuple[str, str]]] = {}
    for requirement in catalogue.services[args.service].requirements:
        for material in (material for one in requirement.lists for material in one):
            kind = catalogue.evidence_types[material.evidence_type]
            if kind.certificate_type is not None:
                pair = (requirement.code, kind.code)
                pairs.setdefault(kind.certificate_type, set()).add(pair)
    strange = [one.number for one in relied if one.type_code not in pairs]
    if strange:
        raise Malformed("usage", f"{args.service} demands nothing like {', '.join(strange)}")
    found = [replace(one, meets=sorted(pairs[one.type_code])) for one in relied]
    return catalogue.root.hex(), found


def run_sheet(args: argparse.Namespace, env: Environment) -> int:
    """certledger case-sheet"""
    acts = read_acts(env.publisher_config(args.office), args.service, args.case)
    if not acts:
        raise Malformed("usage", f"{args.office} said nothing in case {args.case!r} here")
    files = {path.name: sha256(_read(path)).hexdigest() for path in args.files}
    page = format_sheet(env.origin, args.office, args.service, args.case, acts, files)
    args.output.touch(mode=0o600)
    args.output.write_text(page, encoding="utf-8")
    print_safely(f"{args.output}: {len(acts)} acts, {len(files)} evidence files")
    return 0


def run_recalls(args: argparse.Namespace, env: Environment) -> int:
    """certledger recalls"""
    config = env.publisher_config(args.office)
    with Link(config.kafka_address(env.kafka), client_id="certledger-recalls") as link:
        for found in read_recalls(config, link):
            if args.json:
                print(json.dumps(found, ensure_ascii=False))
                continue
            certificate = found["certificate"] or {}
            number = certificate.get("certificate_number", "(not in cases.ndjson)")
            change = " ".join(found["change"].values())
            case = found["business_code"] or "(not in cases.ndjson)"
            print(f"{found['time']}  case {case}  certificate {number}: {change}")
    return 0
