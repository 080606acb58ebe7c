"""The room's commands: import, publish, simulate, pseudonym."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import secrets
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from ledger.errors import CODES, Malformed, Refused

from . import town
from .config import load_secret, pseudonym_secrets
from .correcting import COLUMNS, CorrectingEnvironment, correct, read_wanted, wanted_of_import
from .correcting import explain_report as explain_corrections
from .feeding import Environment, Feed, Progress
from .holders import make_pseudonym
from .importing import (
    Register,
    Sheet,
    dry_run,
    explain_report,
    import_register,
    leftover_path,
    open_journal,
)
from .lines import PLAIN, parse_plain, unfold
from .mapping import EXPLANATION, builtin, load_mapping, mapping_text

_SEEDS = 1_000_000
_MOST_LINE = 256 * 1024

_IMPORT = """\
Publish a register's CSV file (plain or .gz) by a mapping.

The whole file is read once before anything is published. Departments and certificate types that
the mapping declares and the ledger lacks are registered. Ctrl-C or a kill loses and doubles
nothing: the same command again goes on. Rows that give no event go to NAME.unmapped.csv, rows
whose event the ledger refused to NAME.refused.csv, each with its line, its number among equal
rows and the reason before its own columns; mended, such a file is imported alone, by the same
mapping.

Exit code: 0, or 1 when rows gave no event.
"""
_IMPORT_EXAMPLES = """\
examples:
  certledger import events.csv.gz --mapping taiwan-fda --dry-run   what would be published
  certledger import events.csv.gz --mapping taiwan-fda --wait      publish, wait for the outcomes
  certledger import pharmacies.csv --mapping mine.json --wait      a mapping of your own
  certledger import pharmacies.unmapped.csv --mapping mine.json    rows that were mended
  certledger import --explain                                      how a mapping is written
"""
_CORRECT = (
    """\
Put right many events of one mistake in one act: each becomes a `corrected` event that voids or
restates it, or rewinds the certificate to before it: that and all that came since falls. Nothing
is deleted; what the ledger said before stays answerable with --known-at.

--file names a CSV file (plain or .gz) with a header line and any of these columns:

"""
    + "".join(f"  {name:<24} {what}\n" for name, what in COLUMNS.items())
    + """
--import names a register's file that was imported by mistake: all events that this import added
are voided, as long as its journal lies in the data folder. It has to be over: an import that was
stopped is finished first (the same command with --wait), or what it left in its spool would stay.

All rows are looked up and tried first; nothing is published unless every row can be used. Later
events of a certificate are corrected before earlier ones. Ctrl-C or a kill loses and doubles
nothing: the same command again goes on. Rows that the ledger refused all the same go to
NAME.refused.csv.

Exit code: 0, or 1 when a row cannot be used or was refused.
"""
)
_CORRECT_EXAMPLES = """\
examples:
  certledger correct --file wrong.csv --dry-run
  certledger correct --file wrong.csv
  certledger correct --import clinics.csv --mapping clinics.json --reason wrong-file --dry-run

example of a file:
  certificate_type_code,issuing_authority_code,certificate_number,event,correction,valid_until,reason_code
  taxi,transport,川A-000123,revoked,void,,wrong-certificate
  taxi,transport,川A-000124,issued,restate,2027-12-31,typing-error
"""
_PUBLISH = (
    """\
Publish events that a department already writes, one JSON object a line (- is standard input).

Members:
"""
    + "".join(
        textwrap.fill(what, 96, initial_indent=f"  {name:<24} ", subsequent_indent=" " * 27) + "\n"
        for name, what in PLAIN.items()
    )
    + """
A CloudEvents object ({"specversion": "1.0", "type": …, "time": …, "data": {…}}) is taken too, so
that lines of refused.ndjson can be mended and given again. A line of a file without id and
change_id gets an id from the file's content and its place, so that the same command again after a
kill doubles nothing; a line of standard input gets a new one.
"""
)
_PUBLISH_EXAMPLES = """\
example of a line:
  {"event": "issued", "department": "linjiang-market", "certificate_type_code": "business-licence",
   "certificate_number": "2026-0001", "valid_from": "2026-01-05", "valid_until": "2030-12-31",
   "holder": {"scheme": "001", "number": "91510100MA61RQ5X0J"}, "change_id": "A-17"}

examples:
  certledger publish today.ndjson
  register-export | certledger publish - --json
"""
_PSEUDONYM = """\
Print the pseudonyms under which the ledger knows a holder, one a line for each version of the
secret that is here: everything a holder has is one proof for each.

The number is asked for without being shown, or read from standard input. As an argument it would
stand in the list of processes, where everybody on this machine sees it, and in your shell's
history. Without the secret nobody finds the pseudonym of a number; with it anybody can try all
numbers, so its file must be readable by its owner alone.
"""
_PSEUDONYM_EXAMPLES = """\
examples:
  certledger pseudonym --scheme 111
  certledger pseudonym --scheme 001 --secret /keys/pseudonym-2.key < number.txt
  certledger pseudonym --scheme 111 | certledger holder -
"""


def add_commands(commands: Any) -> None:
    """Add the room's commands to the command line's subparsers."""
    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "import",
        help="publish a register's CSV file by a mapping",
        description=_IMPORT,
        epilog=_IMPORT_EXAMPLES,
        formatter_class=form,
    )
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="CSV, plain or .gz")
    parser.add_argument(
        "--mapping",
        metavar="NAME|FILE",
        help=f"a mapping file, or one that comes with certledger: {', '.join(builtin())}",
    )
    parser.add_argument("--wait", action="store_true", help="wait for every receipt")
    parser.add_argument("--dry-run", action="store_true", help="publish nothing, only say what")
    parser.add_argument(
        "--from-start",
        action="store_true",
        help="publish every row again, also those that an earlier run got answers for: what was "
        "refused then is judged again and may be possible now",
    )
    parser.add_argument(
        "--report-dir",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="where files with unmapped and refused rows go (default: here)",
    )
    parser.add_argument("--explain", action="store_true", help="how a mapping is written")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run_import)

    parser = commands.add_parser(
        "correct",
        help="put right many events in one act",
        description=_CORRECT,
        epilog=_CORRECT_EXAMPLES,
        formatter_class=form,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--file", metavar="F", type=Path, help="CSV file that names the events")
    source.add_argument(
        "--import", metavar="FILE", dest="imported", type=Path, help="void what this import added"
    )
    parser.add_argument("--mapping", metavar="NAME|FILE", help="of --import: its mapping")
    parser.add_argument("--reason", metavar="CODE", help="of --import: the reason code")
    parser.add_argument("--dry-run", action="store_true", help="publish nothing, only say what")
    parser.add_argument(
        "--report-dir",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="where the file with refused rows goes (default: here)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run_correct)

    parser = commands.add_parser(
        "publish",
        help="publish events written as lines of JSON",
        description=_PUBLISH,
        epilog=_PUBLISH_EXAMPLES,
        formatter_class=form,
    )
    parser.add_argument("file", metavar="FILE", help="lines of JSON; - for standard input")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run_publish)

    parser = commands.add_parser(
        "simulate",
        help="publish a generated town's events",
        formatter_class=form,
        description="Publish the generated year of a town of five departments and wait for the "
        "receipts.\nOne seed gives the same events, always: the second time they are repeats.\n"
        "A few are impossible, to be refused.",
        epilog="example:\n  certledger simulate --events 20000 --seed 7",
    )
    parser.add_argument(
        "--events", metavar="N", type=_count, default=2000, help="how many (default 2000)"
    )
    parser.add_argument("--seed", metavar="S", type=int, help="default: drawn, and printed")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run_simulate)

    parser = commands.add_parser(
        "pseudonym",
        help="a holder's pseudonyms, by the secret that departments share",
        description=_PSEUDONYM,
        epilog=_PSEUDONYM_EXAMPLES,
        formatter_class=form,
    )
    parser.add_argument(
        "number",
        metavar="NUMBER",
        nargs="?",
        help="better left out: it is asked for, or read from standard input",
    )
    parser.add_argument(
        "--scheme",
        metavar="S",
        required=True,
        help="holder code type: 111 公民身份号码, 001 统一社会信用代码, …",
    )
    parser.add_argument(
        "--secret",
        metavar="FILE",
        type=Path,
        help="pseudonym-VERSION.key, mode 0600 (default: all versions in DIR)",
    )
    parser.set_defaults(run=run_pseudonym)


def run_import(args: Any, env: Environment) -> int:
    """`certledger import`."""
    if args.explain:
        print(EXPLANATION, end="")
        return 0
    if args.file is None or args.mapping is None:
        raise Malformed("usage", "name a FILE and a --mapping (certledger import --help)")
    if not args.report_dir.is_dir():
        raise Malformed("usage", f"--report-dir {args.report_dir} is no folder")
    register = Register(args.file, load_mapping(args.mapping))
    if args.dry_run:
        report, kinds = dry_run(register, args.report_dir)
        if args.json:
            print(json.dumps({**report.members(), "dry_run": True, "events": dict(kinds)}))
        else:
            print(f"{report.rows:,} rows would give {report.published:,} events:")
            for kind, count in kinds.most_common():
                print(f"{count:>9,} {kind}")
            if report.unmapped:
                path = leftover_path(args.report_dir, args.file, "unmapped")
                print(f"{report.unmapped:,} rows give none; rows and reasons: {path}")
        return 1 if report.unmapped else 0
    report = import_register(
        env,
        register,
        args.report_dir,
        wait=args.wait,
        from_start=args.from_start,
        mapping_text=mapping_text(args.mapping),
    )
    if args.json:
        print(json.dumps(report.members()))
    else:
        explain_report(report, args.report_dir, args.file)
    return 1 if report.unmapped else 0


def run_correct(args: Any, env: CorrectingEnvironment) -> int:
    """`certledger correct`."""
    if (args.imported is None) != (args.mapping is None and args.reason is None):
        raise Malformed("usage", "--mapping and --reason go with --import, and only with it")
    if not args.report_dir.is_dir():
        raise Malformed("usage", f"--report-dir {args.report_dir} is no folder")
    left = 0
    sheet: Sheet
    if args.file is not None:
        sheet = Sheet(args.file)
        _, digest = sheet.scan()
        wanted, unusable = read_wanted(sheet)
        name = ["file", digest]
    else:
        if args.mapping is None or args.reason is None:
            raise Malformed("usage", "--import needs its --mapping and a --reason")
        sheet = register = Register(args.imported, load_mapping(args.mapping))
        text = mapping_text(args.mapping)
        wanted, left = wanted_of_import(env, register, text, args.reason)
        unusable = []
        name = ["import", register.scan()[1], text, args.reason]
    report = correct(
        env,
        wanted,
        unusable,
        journal_name=name,
        dry_run=args.dry_run,
        sheet=sheet,
        report_folder=args.report_dir,
    )
    report.left = left
    if args.json:
        print(json.dumps({**report.members(), "dry_run": args.dry_run}))
    else:
        explain_corrections(report, sheet, args.report_dir, args.dry_run)
    return 1 if report.unusable or report.refused else 0


def run_publish(args: Any, env: Environment) -> int:
    """`certledger publish`."""
    begun = time.monotonic()
    unusable: list[tuple[int, str]] = []
    lines = 0
    with ExitStack() as stack:
        file, digest = _open_lines(args.file, stack)
        journal = open_journal(env, "publish", digest) if digest else None
        started = journal.started if journal else None
        feed = stack.enter_context(
            Feed(env, journal=journal, progress=Progress(f"publishing {args.file}", None))
        )
        for lines, text in _lines(file):
            try:
                if len(text) > _MOST_LINE:
                    raise Malformed("line-too-large", f"a line of over {_MOST_LINE} bytes")
                plain = parse_plain(text)
                if plain.keys() == {"department", "code", "index", "position", "line"}:
                    if type(plain["line"]) is not dict:
                        raise Malformed("malformed-event", "line is no event")
                    # as refused.ndjson has it
                    plain = {"department": plain["department"], **plain["line"]}
                if "specversion" in plain:
                    plain = unfold(plain)
                department = plain.get("department")
                if type(department) is not str:
                    raise Malformed("malformed-event", "department says who publishes it")
                if digest and not plain.keys() & {"id", "change_id"}:
                    plain["change_id"] = f"{digest}:{lines}"
                if started is not None:
                    plain.setdefault("time", started)
            except Malformed as err:
                unusable.append((lines, err.message))
                continue
            try:
                publisher = feed.publisher(department)
            except Refused as err:
                unusable.append((lines, err.message))
                continue
            try:
                made = publisher.make(plain)
            except Malformed as err:
                unusable.append((lines, err.message))
                continue
            feed.put(lines, department, made)
        feed.wait()
    report = {
        "lines": lines,
        "published": feed.published,
        "unusable": len(unusable),
        "admitted": feed.admitted,
        "refused": feed.refused(),
        "seconds": round(time.monotonic() - begun, 2),
    }
    for number, message in unusable[:100]:
        print(f"line {number}: {message}", file=sys.stderr)
    for number, code in feed.refused_places()[:100]:
        print(f"line {number}: refused {code}: {CODES[code].sentence}", file=sys.stderr)
    if args.json:
        print(json.dumps(report))
    else:
        print(
            f"{feed.published:,} published, {feed.admitted:,} admitted, "
            f"{sum(feed.refused().values()):,} refused, {len(unusable):,} unusable"
        )
    return 1 if unusable else 0


def run_simulate(args: Any, env: Environment) -> int:
    """`certledger simulate`."""
    begun = time.monotonic()
    seed = secrets.randbelow(_SEEDS) if args.seed is None else args.seed
    if not args.json:
        print(f"a town's year from seed {seed}", flush=True)
    env.register(town.departments(), town.types())
    with Feed(env, progress=Progress("publishing the town's year", args.events)) as feed:
        for place, plain in enumerate(town.events(seed, args.events), 1):
            department = str(plain["department"])
            feed.put(place, department, feed.publisher(department).make(plain))
        feed.wait()
    seconds = time.monotonic() - begun
    report = {
        "events": feed.published,
        "admitted": feed.admitted,
        "refused": feed.refused(),
        "seconds": round(seconds, 2),
        "seed": seed,
    }
    if args.json:
        print(json.dumps(report))
        return 0
    print(f"{feed.published:,} events in {seconds:.1f} s, {feed.admitted:,} admitted")
    for code, count in feed.refused().items():
        print(f"{count:>6,} refused  {code}: {CODES[code].sentence}")
    return 0


def run_pseudonym(args: Any, env: Environment) -> int:
    """`certledger pseudonym`."""
    secrets_ = pseudonym_secrets(env.data if args.secret is None else args.secret.parent)
    if args.secret is not None:
        secrets_ = {v: path for v, path in secrets_.items() if path.name == args.secret.name}
    if not secrets_:
        where = args.secret or env.data
        raise Malformed("usage", f"{where}: no file pseudonym-VERSION.key of a secret is there")
    number = args.number
    if number is None:
        if sys.stdin.isatty():
            number = getpass.getpass(f"number of the holder, scheme {args.scheme}: ")
        else:
            number = sys.stdin.readline()
    if not args.scheme or not number.strip():
        raise Malformed("usage", "a scheme and a holder's number are needed")
    for version, path in secrets_.items():
        print(make_pseudonym(load_secret(path), version, args.scheme, number))
    return 0


def _open_lines(name: str, stack: ExitStack) -> tuple[BinaryIO, str]:
    """The lines' file and the SHA-256 of its content; none for standard input."""
    if name == "-":
        return sys.stdin.buffer, ""
    try:
        file = stack.enter_context(Path(name).open("rb"))  # noqa: SIM115
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
    except OSError as err:
        raise Malformed("usage", f"{name}: {err.strerror or err}") from err
    return file, digest


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_MOST_LINE + 2):
        number += 1
        if not line.endswith(b"\n"):
            while len(rest := file.readline(_MOST_LINE)) and not rest.endswith(b"\n"):
                pass
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000_000:
        raise argparse.ArgumentTypeError("a number from 1")
    return int(text)
