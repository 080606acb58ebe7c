"""Checking an evidence file from the command line: what `certledger verify` and the zipapp share.

Imports the standard library, `cryptography` and our own code only (tests/unit/test_offline.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from consumers import since
from consumers.words import describe, describe_holder, plain
from ledger.checking import check_file
from ledger.errors import CODES, Malformed
from ledger.evidence import Evidence, parse_evidence
from ledger.holder_checking import HolderAnswer, check_holder_file
from ledger.holder_evidence import MAX_HOLDER_EVIDENCE, is_holder_evidence
from ledger.identity import normalise_number
from ledger.misbehaviour import (
    check_misbehaviour,
    format_misbehaviour,
    is_misbehaviour,
    parse_misbehaviour,
)
from ledger.note import parse_decimal
from ledger.sheet import PREFIX, check_sheet
from ledger.trust import MAX_TRUST, Trust, parse_trust
from ledger.verdict import Answer

SUFFIX, HOLDER_SUFFIX = ".evidence.json", ".holder-evidence.json"
_CLOCK_TOLERANCE = 1_000_000  # microseconds
MISBEHAVIOUR_SUFFIX = ".misbehaviour.json"
EXIT_CODES = (
    "exit: 0 valid, 1 not valid, 2 usage, 3 not found, 4 cannot decide or cannot reach,\n"
    "5 the ledger signed what contradicts itself or its rules; of a holder's evidence 0 listed,\n"
    "3 nothing bound"
)


def add_arguments(parser: argparse.ArgumentParser, subject: str, trust_help: str) -> None:
    """The arguments of checking: the subject, the moments, the trust file, the output."""
    parser.add_argument("subject", metavar=subject)
    parser.add_argument("--type", metavar="T", help="certificate type code")
    parser.add_argument("--issuer", metavar="I", help="issuing department")
    parser.add_argument(
        "--at",
        metavar="WHEN",
        help="the moment in the world: 2016-12-01 (00:00 in the issuer's zone), "
        "2016-12-01T08:30:00+08:00, or now",
    )
    parser.add_argument(
        "--known-at", metavar="WHEN", help="what the ledger knew then (default: all it shows)"
    )
    parser.add_argument(
        "--version", metavar="N", help="ask about this version (default: whichever holds)"
    )
    parser.add_argument(
        "--relied-at", metavar="WHEN", help="judge freshness as of then (for archived evidence)"
    )
    since.add_arguments(parser)
    parser.add_argument("--trust", type=Path, metavar="FILE", help=trust_help)
    parser.add_argument("--json", action="store_true", help="the answer as JSON on stdout")


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that only checking a file has."""
    parser.add_argument(
        "--number",
        metavar="NUMBER",
        help="the certificate asked about: a file about another number, --type or --issuer "
        "decides nothing",
    )
    parser.add_argument(
        "--as-asked",
        action="store_true",
        help="ask the question that the file was made for, instead of about now, all that is "
        "known and any version; --at, --known-at and --version still replace its parts",
    )


def is_file(subject: str) -> bool:
    """Whether the subject is an evidence file rather than a number."""
    if subject.endswith((SUFFIX, HOLDER_SUFFIX, MISBEHAVIOUR_SUFFIX)):
        return True
    try:
        return Path(subject).is_file()
    except (OSError, ValueError):
        return False


def load_trust(path: Path) -> Trust:
    """The trust file at `path`; Malformed `malformed-trust` when there is none or it is none."""
    return parse_trust(_read(path, MAX_TRUST, "malformed-trust", "trust file"))


def check_path_and_show(args: Any, trust: Trust) -> int:
    """Check the file named in the arguments, of a certificate, a holder or misbehaviour: the file
    says which; the exit code.
    """
    path = Path(args.subject)
    data = _read(path, MAX_HOLDER_EVIDENCE + 1, "usage", "evidence file")
    if is_misbehaviour(data):
        return _show_misbehaviour(data, trust, args.json)
    if data.startswith(PREFIX.encode()):
        return show_sheet(data.decode(errors="replace").removesuffix("\n"), args, trust)
    moment = now()
    if is_holder_evidence(data):
        for_others = (args.at, args.known_at, args.version, args.number, args.since)
        if any(value is not None for value in for_others):
            why = "holder evidence is of its checkpoint and of a holder: only --relied-at is for it"
            raise Malformed("usage", why)
        return show(check_holder_file(data, trust, moment, args.relied_at), args.json)
    answer = check_file(
        data,
        trust,
        moment,
        at=args.at,
        known_at=args.known_at,
        version=asked_version(args),
        relied_at=args.relied_at,
        as_asked=args.as_asked,
        type_code=args.type,
        issuer=args.issuer,
        number=args.number,
    )
    answer = note_future(answer, moment)
    evidence = None if answer.refused or args.since is None else parse_evidence(data)
    return show_since(answer, evidence, args, trust)


def show_sheet(text: str, args: Any, trust: Trust) -> int:
    """Check what a sheet's QR code says; the exit code."""
    for_evidence = (args.at, args.known_at, args.version, args.relied_at, args.since)
    if any(value is not None for value in for_evidence) or args.as_asked:
        raise Malformed("usage", "a sheet speaks of now alone: of --type, --issuer and --number")
    number = None if args.number is None else normalise_number(args.number)
    answer = check_sheet(text, trust, now(), type_code=args.type, issuer=args.issuer, number=number)
    return show(answer, args.json)


def show_since(answer: Answer, evidence: Evidence | None, args: Any, trust: Trust) -> int:
    """Print the answer, held against what was seen before where there is any; the exit code. What
    proves two histories is written beside the subject, or here for a number.
    """
    if args.since is None or evidence is None:
        return show(answer, args.json)
    seen = since.load_seen(args.since, trust)
    answer, guilt = since.hold(answer, evidence, seen, args.log, trust)
    code = show(answer, args.json)
    if guilt is None:
        return code
    base = Path(args.subject) if is_file(args.subject) else Path("verify")
    target = base.with_name(f"{base.name.removesuffix(SUFFIX)}{MISBEHAVIOUR_SUFFIX}")
    target.write_bytes(format_misbehaviour(guilt) + b"\n")
    print_safely(f"  the ledger signed two histories: {target} proves it")
    return CODES["misbehaviour"].exit


def _show_misbehaviour(data: bytes, trust: Trust, as_json: bool) -> int:
    found = parse_misbehaviour(data)
    judgement = check_misbehaviour(found, trust)
    if as_json:
        members = {"kind": found.kind, "origin": found.origin, "claim": found.claim}
        print(json.dumps({**members, "proven": judgement.proven, "why": judgement.why}, indent=2))
    else:
        head = "MISBEHAVIOUR PROVEN 账本违规" if judgement.proven else "NOT PROVEN 未能证明"
        print_safely(f"{head}  {plain(found.origin)}\n  {plain(judgement.why)}")
        print_safely(f"  claimed: {plain(found.claim)}")
    return CODES["misbehaviour" if judgement.proven else "proof-failed"].exit


def note_future(answer: Answer, moment: int) -> Answer:
    """The answer, with a note where it is about a moment that is yet to come."""
    at = None if answer.question is None else answer.question.at
    if answer.found is None or at is None or at <= moment + _CLOCK_TOLERANCE:
        return answer
    note = "that moment is yet to come: this is what the ledger knows by now, events may follow"
    return replace(answer, notes=(*answer.notes, note))


def asked_version(args: Any) -> int | None:
    """The version asked about, None for any."""
    return None if args.version is None else parse_decimal(args.version, "usage")


def show(answer: Answer | HolderAnswer, as_json: bool) -> int:
    """Print the answer, JSON to stdout or words to stderr; the exit code."""
    if as_json:
        print(json.dumps(answer.members(), ensure_ascii=True, indent=2))
    else:
        colour = in_colour()
        print_safely(
            describe(answer, colour)
            if isinstance(answer, Answer)
            else describe_holder(answer, colour)
        )
    return answer.exit


def in_colour() -> bool:
    """Whether answers are shown in colour."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def print_safely(text: str, to: Any = None) -> None:
    """Print for people, whatever their terminal's encoding."""
    stream = sys.stderr if to is None else to
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def now() -> int:
    """The machine's time in microseconds."""
    return time.time_ns() // 1000


def _read(path: Path, limit: int, code: str, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        raise Malformed(code, f"no {what} can be read at {str(path)!r}: {reason}") from err
