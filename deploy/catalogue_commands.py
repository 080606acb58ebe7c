"""`certledger catalogue`: what public services demand, checked, published and shown."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consumers.lint_report import format_json, format_sarif, format_text, is_failing
from consumers.verifier import load_trust
from deploy.environment import Environment
from ledger.catalogue import Catalogue, PublicService, parse_catalogue, read_catalogue
from ledger.demand_evidence import (
    check_demand,
    format_demand_evidence,
    parse_demand_evidence,
    prove_demand,
)
from ledger.errors import Malformed, Refused
from ledger.lint import ERROR, NOTE, RULES, WARNING, lint, name_of
from ledger.positions import Positions
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.question import format_instant
from ledger.revision import REVISION_CODES, compare
from ledger.sharing import rank_gains
from producers.cataloguing import SOURCES, Head, import_catalogue

_LANGUAGES = ("en", "zh")

_CATALOGUE = """\
Public services and what each demands, in the words of CCCEV and CPSV-AP: a service has
requirements, a requirement is met by any one of its evidence type lists, a list by everything in
it. A catalogue is a JSON file, described in ledger/FORMATS.md; each published version's root is an
entry of the log, so that what was demanded when can be proven."""
_LINT = """\
Find what is absurd in a catalogue, each finding with its line, in English and Chinese. With
--against, find what a new version demands that an earlier one did not. Exit 0, 1 with findings
(--fail-on), 2 when the file is no catalogue.

rules (the last six are the reasons of 2018 to cancel a proof, 六个一律):
"""


def add_commands(commands: Any) -> None:
    """Add `catalogue` to the command line."""
    parser = commands.add_parser(
        "catalogue", help="what public services demand", description=_CATALOGUE
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_simulation(commands)
    check = _add(
        verbs,
        "check",
        "check catalogue files",
        "Check catalogue files, each problem with its line. Given several versions of one\n"
        "catalogue, check that they follow each other. Exit 0, or 2 with problems.",
        "certledger catalogue check town.json",
        "certledger catalogue check town-1.json town-2.json --json",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="problems as JSON on standard output")
    check.set_defaults(run=run_check)
    importing = _add(
        verbs,
        "import",
        "make a catalogue of a published list of services",
        "Make a catalogue of published lists of services. france: the CSV files of services and\n"
        "of required proofs of service-public.fr (only rows marked `pieces` or `titled`), and,\n"
        "for the legal basis, the fiches as JSON lines; guangan: the CSV file of a district's\n"
        "items, which says nothing of what they demand. Files may be .gz.",
        "certledger catalogue import --from france services.csv.gz required_proofs.csv.gz \\\n"
        "      raw_fiches.jsonl.gz --publisher dila -o france.json",
        "certledger catalogue import --from guangan items.csv --publisher guangan -o items.json",
    )
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE")
    importing.add_argument("--from", dest="source", required=True, choices=sorted(SOURCES))
    importing.add_argument("--publisher", required=True, metavar="DEPARTMENT")
    importing.add_argument("--code", help="of the catalogue (default: the source's name)")
    importing.add_argument(
        "--after", type=Path, metavar="OLD", help="the version before: this one follows it"
    )
    importing.add_argument(
        "--certificate",
        action="append",
        default=[],
        metavar="CONCEPT=TYPE",
        help="evidence that is a certificate type of the ledger, repeatable (france): "
        "identity-card=T",
    )
    importing.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    importing.set_defaults(run=run_import)
    publish = _add(
        verbs,
        "publish",
        "publish a version of a catalogue",
        "Publish a version: the registry key of its publisher signs its root, which becomes an\n"
        "entry of the log; the file is kept in the ledger's database. The departments and\n"
        "certificate types that it names must be registered.",
        "certledger catalogue publish town.json",
    )
    publish.add_argument("file", type=Path)
    publish.set_defaults(run=run_publish)
    show = _add(
        verbs,
        "show",
        "list published catalogues, or show one",
        "List published catalogues, or show what one demands, as of the published checkpoint.",
        "certledger catalogue show",
        "certledger catalogue show welfare/town --version 1 --service birth-grant",
        "certledger catalogue show welfare/town --json > town.json",
    )
    show.add_argument("name", nargs="?", metavar="DEPARTMENT/CODE")
    show.add_argument("--version", type=int, help="default: the last one")
    show.add_argument("--service", metavar="CODE", help="only this service")
    show.add_argument("--json", action="store_true", help="the file as published, or the list")
    show.set_defaults(run=run_show)
    prove = _add(
        verbs,
        "prove",
        "write evidence of what a service demanded, from when until when",
        "Write a file that proves what a service demanded by a published version, and from when\n"
        "until when that held, to anybody who has the ledger's trust file.",
        "certledger catalogue prove welfare/town --service birth-grant -o grant.demand.json",
    )
    prove.add_argument("name", metavar="DEPARTMENT/CODE")
    prove.add_argument("--service", required=True, metavar="CODE")
    prove.add_argument("--version", type=int, help="default: the last one")
    prove.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    prove.set_defaults(run=run_prove)
    verify = _add(
        verbs,
        "verify",
        "check such a file, offline",
        "Check a file that `prove` wrote, offline. Exit 0, or 4 when it proves nothing.",
        "certledger catalogue verify grant.demand.json --trust trust.json",
    )
    verify.add_argument("file", type=Path)
    verify.add_argument(
        "--trust", type=Path, metavar="FILE", help="what to trust (default: the stack's trust.json)"
    )
    verify.add_argument("--json", action="store_true", help="what is proven, as JSON")
    verify.set_defaults(run=run_verify)
    linting = _add(
        verbs,
        "lint",
        "find absurd and circular demands",
        _LINT + "".join(f"  {rule.code:<27} {rule.en}\n" for rule in RULES.values()),
        "certledger catalogue lint town.json",
        "certledger catalogue lint town.json --only circular-demand,own-evidence --json",
        "certledger catalogue lint town.json --sarif > town.sarif",
        "certledger catalogue lint town-2.json --against town-1.json",
    )
    linting.add_argument("file", type=Path)
    linting.add_argument(
        "--against",
        type=Path,
        metavar="OLD",
        help="show instead what FILE demands and this earlier version did not; exit 1 if anything",
    )
    linting.add_argument("--only", metavar="CODES", help="rules, separated by commas")
    linting.add_argument(
        "--fail-on",
        choices=(ERROR, WARNING, NOTE, "never"),
        default=ERROR,
        help="exit 1 when there is a finding of this level or above (default: error)",
    )
    form = linting.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="findings as JSON")
    form.add_argument("--sarif", action="store_true", help="findings as SARIF 2.1.0")
    linting.set_defaults(run=run_lint)


def _add_simulation(commands: Any) -> None:
    parser = _add(
        commands,
        "simulate-sharing",
        "which demands would fall if an office published what it issues",
        "For every evidence type that is no certificate of the ledger yet: if its office\n"
        "published it, how many demands of how many services would fall, the largest first. A\n"
        "demand falls when one of its lists can be had whole from the ledger.",
        "certledger simulate-sharing town.json",
        "certledger simulate-sharing town.json --top 5 --json",
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--top", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--json", action="store_true", help="as JSON on standard output")
    parser.set_defaults(run=run_simulate_sharing)


def _add(
    verbs: Any, name: str, help_text: str, description: str, *examples: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=help_text,
        description=description,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def read_file(path: Path) -> bytes:
    """The bytes of a file that somebody named; Malformed `usage` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as err:
        raise Malformed("usage", f"{path}: {err.strerror}") from err


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue in a file; Malformed names file and lines."""
    try:
        return parse_catalogue(read_file(path))
    except Malformed as err:
        if err.code == "usage":
            raise
        raise Malformed(err.code, f"{path}\n{err.message}") from err


def run_check(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue check"""
    found: list[dict[str, Any]] = []
    good: list[tuple[Path, Catalogue]] = []
    for path in args.files:
        made, problems = read_catalogue(read_file(path))
        found += [
            {"file": str(path), "line": p.line, "path": p.path, "problem": p.text} for p in problems
        ]
        if made is not None:
            good.append((path, made))
    found += _contradictions(good)
    if args.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    for item in found:
        where = f"{item['file']}:{item['line']}: "
        print(
            where + (item["path"] + ": " if item["path"] else "") + item["problem"], file=sys.stderr
        )
    for path, made in good:
        print(
            f"{path}: {made.record_name} version {made.version}, {len(made.services):,} services, "
            f"{made.requirement_count:,} requirements, {len(made.evidence_types):,} evidence "
            f"types, root {made.root.hex()}",
            file=sys.stderr,
        )
    return 2 if found else 0


def run_import(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue import"""
    pairs = [item.partition("=") for item in args.certificate]
    if not all(found and name and code for name, found, code in pairs):
        raise Malformed("usage", "write certificates as CONCEPT=TYPE")
    head = Head(
        args.publisher,
        args.code or args.source,
        None if args.after is None else load_catalogue(args.after),
        {name: code for name, _, code in pairs},
    )
    value = import_catalogue(args.source, args.files, head)
    data = json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n"
    made = parse_catalogue(data)
    try:
        args.output.write_bytes(data)
    except OSError as err:
        raise Malformed("usage", f"{args.output}: {err.strerror}") from err
    print(
        f"{args.output}: {made.record_name} version {made.version}, {len(made.services):,} "
        f"services, {made.requirement_count:,} requirements, {len(made.evidence_types):,} evidence "
        "types",
        file=sys.stderr,
    )
    return 0


def _contradictions(good: Sequence[tuple[Path, Catalogue]]) -> list[dict[str, Any]]:
    """What versions of one catalogue in several files say against each other."""
    found: list[dict[str, Any]] = []
    seen: dict[tuple[str, int], tuple[Path, Catalogue]] = {}
    for path, made in good:
        other = seen.setdefault((made.record_name, made.version), (path, made))
        if other[1].root != made.root:
            text = f"version {made.version} says other than in {other[0]}"
            found.append({"file": str(path), "line": 1, "path": "version", "problem": text})
    for (name, version), (path, made) in seen.items():
        before = seen.get((name, version - 1))
        if before is not None and made.replaces != before[1].root:
            text = f"version {version - 1} in {before[0]} has the root {before[1].root.hex()}"
            found.append({"file": str(path), "line": 1, "path": "replaces", "problem": text})
    return found


def run_publish(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue publish"""
    made = load_catalogue(args.file)
    registration = env.registration()
    try:
        index = registration.publish_catalogue(read_file(args.file))
    finally:
        registration.close()
    said = "is published already" if index is None else f"is published at log index {index}"
    print(f"{made.record_name} version {made.version} {said}; root {made.root.hex()}")
    return 0


def run_prove(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue prove"""
    connection = connect(env.postgres_url, "catalogue")
    try:
        with Reader(connection).open() as view:
            made, _ = view.catalogue(args.name.removeprefix("catalogue/"), args.version)
            evidence = prove_demand(view, made, args.service)
    finally:
        connection.close()
    try:
        args.output.write_bytes(format_demand_evidence(evidence) + b"\n")
    except OSError as err:
        raise Malformed("usage", f"{args.output}: {err.strerror}") from err
    print(f"{args.output}: under {evidence.status.index + 1} leaves", file=sys.stderr)
    return 0


def run_verify(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue verify"""
    evidence = parse_demand_evidence(read_file(args.file))
    found = check_demand(evidence, load_trust(args.trust or env.trust))
    since = format_instant(found.since)
    until = None if found.until is None else format_instant(found.until)
    if args.json:
        said = {**asdict(found), "since": since, "until": until}
        said["ledger_time"] = format_instant(found.ledger_time)
        print(json.dumps(said, ensure_ascii=False, indent=1))
        return 0
    print(
        f"proven: version {found.version} of {found.catalogue} held from {since} "
        + (f"until {until}" if until else f"on, as of {format_instant(found.ledger_time)}")
        + f", under {found.tree_size} leaves",
        file=sys.stderr,
    )
    print(json.dumps(found.service, ensure_ascii=False, indent=1))
    return 0


def run_lint(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue lint"""
    gc.disable()  # a large catalogue is millions of small objects, and the command ends soon
    made = load_catalogue(args.file)
    if args.against is None:
        findings = lint(made)
    else:
        old = load_catalogue(args.against)
        if old.record_name != made.record_name or old.version >= made.version:
            raise Refused(
                "usage",
                f"{args.against} is {old.record_name} version {old.version}, no earlier version of "
                f"{made.record_name} version {made.version}",
            )
        findings = compare(old, made)
    if args.only is not None:
        wanted = args.only.split(",")
        unknown = [code for code in wanted if code not in RULES and code not in REVISION_CODES]
        if unknown:
            raise Malformed("usage", f"no rule {unknown[0]!r}: the rules are {', '.join(RULES)}")
        findings = [finding for finding in findings if finding.code in wanted]
    positions = Positions(read_file(args.file).decode())
    if args.json:
        print(format_json(findings, str(args.file), positions))
    elif args.sarif:
        print(format_sarif(findings, str(args.file), positions))
    else:
        for line in format_text(findings, str(args.file), positions):
            print(line)
    return 1 if any(is_failing(finding, args.fail_on) for finding in findings) else 0


def run_simulate_sharing(args: argparse.Namespace, env: Environment) -> int:
    """certledger simulate-sharing"""
    made = load_catalogue(args.file)
    gains = rank_gains(made)[: max(0, args.top)]
    if args.json:
        print(json.dumps([asdict(gain) for gain in gains], ensure_ascii=False, indent=1))
        return 0
    total = made.requirement_count
    print(f"{made.code}: {total:,} demands of {len(made.services):,} services")
    print("demands  services  freed  paper copies  if")
    for gain in gains:
        office = (
            "whoever issues it (not stated)"
            if gain.organisation is None
            else name_of(made.organisations[gain.organisation].names, *_LANGUAGES)
        )
        what = name_of(made.evidence_types[gain.evidence_type].names, *_LANGUAGES)
        print(
            f"{gain.demands:>7,}  {gain.services:>8,}  {gain.freed:>5,}  {gain.copies:>12,}  "
            f"{office} published “{what}”"
        )
    return 0


def run_show(args: argparse.Namespace, env: Environment) -> int:
    """certledger catalogue show"""
    connection = connect(env.postgres_url, "catalogue")
    try:
        with Reader(connection).open() as view:
            if args.name is None:
                return _list(view.catalogues(), args.json)
            made, data = view.catalogue(args.name.removeprefix("catalogue/"), args.version)
    finally:
        connection.close()
    if args.service is not None and args.service not in made.services:
        raise Refused("unknown-service", f"{args.name} has no service {args.service!r}")
    if args.json:
        if args.service is None:
            sys.stdout.buffer.write(data)
        else:
            items = json.loads(data)["public_services"]
            one = next(item for item in items if item["code"] == args.service)
            print(json.dumps(one, ensure_ascii=False, indent=1))
        return 0
    print(f"{args.name} version {made.version}, root {made.root.hex()}")
    for service in made.services.values():
        if args.service in (None, service.code):
            print("\n".join(_tell(made, service)))
    return 0


def _list(found: dict[str, list[dict[str, Any]]], as_json: bool) -> int:
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    for name, versions in found.items():
        for item in versions:
            print(f"{name}  version {item['version']}  from {item['from']}  root {item['root']}")
    return 0


def _tell(made: Catalogue, service: PublicService) -> list[str]:
    authority = name_of(made.organisations[service.competent_authority].names, *_LANGUAGES)
    lines = [f"\n{service.code}  {name_of(service.names, *_LANGUAGES)}  ({authority})"]
    if not service.stated:
        lines.append("  what it demands is not stated")
    for requirement in service.requirements:
        lines.append(f"  {requirement.code}  {name_of(requirement.names, *_LANGUAGES)}")
        for number, one in enumerate(requirement.lists):
            names = []
            for material in one:
                said = name_of(made.evidence_types[material.evidence_type].names, *_LANGUAGES)
                if material.paper_copies:
                    said += f", {material.paper_copies} on paper"
                if material.max_age_days is not None:
                    said += f", at most {material.max_age_days} days old"
                names.append(said)
            lines.append(f"    {'or ' if number else '   '}{' + '.join(names)}")
        if requirement.commitment:
            lines.append("    or a written commitment")
    return lines
