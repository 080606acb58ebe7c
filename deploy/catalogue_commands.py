"""`certledger catalogue`: what public services demand, checked, published and shown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.environment import Environment
from ledger.catalogue import Catalogue, PublicService, parse_catalogue, read_catalogue
from ledger.errors import Malformed, Refused
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader

_CATALOGUE = """\
Public services and what each demands, in the words of CCCEV and CPSV-AP: a service has
requirements, a requirement is met by any one of its evidence type lists, a list by everything in
it. A catalogue is a JSON file, described in ledger/FORMATS.md; each published version's root is an
entry of the log, so that what was demanded when can be proven."""


def add_commands(commands: Any) -> None:
    """Add `catalogue` to the command line."""
    parser = commands.add_parser(
        "catalogue", help="what public services demand", description=_CATALOGUE
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
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
    authority = name_of(made.organisations[service.competent_authority].names)
    lines = [f"\n{service.code}  {name_of(service.names)}  ({authority})"]
    if not service.stated:
        lines.append("  what it demands is not stated")
    for requirement in service.requirements:
        lines.append(f"  {requirement.code}  {name_of(requirement.names)}")
        for number, one in enumerate(requirement.lists):
            names = []
            for material in one:
                said = name_of(made.evidence_types[material.evidence_type].names)
                if material.paper_copies:
                    said += f", {material.paper_copies} on paper"
                if material.max_age_days is not None:
                    said += f", at most {material.max_age_days} days old"
                names.append(said)
            lines.append(f"    {'or ' if number else '   '}{' + '.join(names)}")
        if requirement.commitment:
            lines.append("    or a written commitment")
    return lines


def name_of(names: Any) -> str:
    """A name in one language: English, else Chinese, else the first."""
    return str(names.get("en") or names.get("zh") or next(iter(names.values())))
