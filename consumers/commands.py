"""The read side's commands: verify, evidence, holder, history, receipt."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from consumers import directory
from consumers.asking import Asked, ambiguous, ask, find, moment
from consumers.directory import load_ledger
from consumers.pictures import read_sheet
from consumers.since import load_seen
from consumers.verifier import (
    EXIT_CODES,
    HOLDER_SUFFIX,
    SUFFIX,
    add_arguments,
    add_file_arguments,
    asked_version,
    check_path_and_show,
    in_colour,
    is_file,
    load_trust,
    now,
    print_safely,
    show,
    show_sheet,
    show_since,
)
from consumers.words import describe_holder, plain, reason_words
from ledger.checking import check
from ledger.errors import Conflict, Malformed, ProofError, Refused, Unavailable
from ledger.evidence import CertificateId, Evidence, format_evidence
from ledger.holder_checking import check_holder, undecided_holder
from ledger.holder_evidence import format_holder_evidence
from ledger.identity import parse_pseudonym
from ledger.lifecycle import effective
from ledger.postgres.connection import connect
from ledger.postgres.reader import HistoryStep, Reader, View
from ledger.question import Question
from ledger.receipt import parse_receipt
from ledger.verdict import NOT_FOUND, REFUSED, Answer, undecided

# What keeps an answer from being given, while the question was a good one.
_HINDERED = (Unavailable, ProofError, Conflict)
_MAX_PSEUDONYMS = 64 * 80  # characters

_VERIFY_EXAMPLES = """\
examples:
  certledger verify 川A-000123                                   now
  certledger verify 川A-000123 --at 2016-12-01                   on that day
  certledger verify 川A-000123 --known-at 2016-12-01             as the ledger knew it then
  certledger verify 川A-000123 --type taxi --issuer transport    when several have the number
  certledger verify taxi.evidence.json --trust trust.json       a file, offline
  certledger verify --qr photo.jpg --trust trust.json           a sheet of paper, offline
"""
_EVIDENCE_EXAMPLES = """\
examples:
  certledger evidence 川A-000123 -o taxi.evidence.json
  certledger evidence 川A-000123 --at 2016-12-01 -o then.evidence.json
"""
_HOLDER = """\
List what is bound to a holder's pseudonyms, with what each certificate is now, and write the
evidence. A holder has one pseudonym for each version of the secret that the registry names
(`certledger pseudonym` prints them); the proof needs all of them, and says: all that admitted
events bound to these pseudonyms, none withheld. `certledger verify FILE` checks it offline.
"""
_HOLDER_EXAMPLES = f"""\
examples:
  certledger holder 1:5f0c… 2:a17b…
  certledger pseudonym --scheme 111 | certledger holder - -o mine{HOLDER_SUFFIX}
"""
_HISTORY_EXAMPLES = """\
examples:
  certledger history 川A-000123
  certledger history 川A-000123 --type taxi --issuer transport --json
"""
_RECEIPT_EXAMPLES = """\
examples:
  certledger receipt transport/0/0/17                           department, lane, epoch, number
  certledger receipt 993 -o bundle.receipt.json                 a log index
  certledger receipt b50b5046e89d625653f9b7cf7c1f010f --json    an event
"""


class Env(Protocol):
    """What these commands need to know about where they run."""

    @property
    def postgres_url(self) -> str: ...
    @property
    def trust(self) -> Path: ...


def add_commands(subparsers: Any) -> None:
    """Add the read side's commands to a command line."""
    verify = subparsers.add_parser(
        "verify",
        help="ask whether a certificate is valid, or check an evidence file",
        description="Is it valid, was it on that day? Or: what does an evidence file prove?",
        epilog=f"{EXIT_CODES}\n{_VERIFY_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(verify, "NUMBER|FILE", "what to trust (default: the stack's trust.json)")
    add_file_arguments(verify)
    verify.add_argument(
        "--qr", action="store_true", help="FILE is a picture with the QR code of a sheet"
    )
    verify.add_argument("--ledger", metavar="NAME", help="ask another ledger of the directory")
    verify.add_argument(
        "--directory",
        type=Path,
        metavar="FILE",
        help="names of ledgers, where they answer, what to trust (default: the stack's "
        "ledgers.json)",
    )
    verify.set_defaults(run=run, perform=_verify)

    evidence = subparsers.add_parser(
        "evidence",
        help="write the evidence for an answer to a file",
        description="Ask as `verify` does, and write what proves the answer to a file for anybody.",
        epilog=f"exit: 0 written, 2 usage, 3 not found, 4 nothing to write\n{_EVIDENCE_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(evidence, "NUMBER", "what to trust (default: the stack's trust.json)")
    evidence.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=f"like F{SUFFIX}; - for stdout"
    )
    evidence.set_defaults(run=run, perform=_evidence)

    holder = subparsers.add_parser(
        "holder",
        help="everything a holder has, with proof that nothing is left out",
        description=_HOLDER,
        epilog="exit: 0 listed, 2 usage, 3 proven that nothing is bound, 4 cannot decide or cannot "
        f"reach\n{_HOLDER_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    holder.add_argument(
        "pseudonyms", metavar="PSEUDONYM", nargs="+", help="VERSION:HEX; - reads them from stdin"
    )
    holder.add_argument("--at", metavar="WHEN", help="how each certificate stood then")
    holder.add_argument(
        "-o", "--output", metavar="FILE", help=f"the evidence, like F{HOLDER_SUFFIX}; - for stdout"
    )
    holder.add_argument(
        "--trust", type=Path, metavar="FILE", help="what to trust (default: the stack's trust.json)"
    )
    holder.add_argument("--json", action="store_true", help="the answer as JSON on stdout")
    holder.set_defaults(run=run, perform=_holder)

    history = subparsers.add_parser(
        "history",
        help="all events of a certificate, with both times of each",
        description="All events of a certificate: when they count in the world, and when the "
        "ledger\nlearned of them.",
        epilog=_HISTORY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    history.add_argument("subject", metavar="NUMBER")
    history.add_argument("--json", action="store_true", help="as JSON on stdout")
    history.add_argument("--type", metavar="T", help="certificate type code, when several match")
    history.add_argument("--issuer", metavar="I", help="issuing department, when several match")
    history.set_defaults(run=run, perform=_history)

    receipt = subparsers.add_parser(
        "receipt",
        help="make a department's receipt again and check it",
        description="Make the receipt of a bundle again, or of an event's bundle, and check it.",
        epilog=_RECEIPT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    receipt.add_argument(
        "subject",
        metavar="BUNDLE",
        help="DEPARTMENT/LANE/EPOCH/SEQUENCE, a log index, or an event id (32 hex digits)",
    )
    receipt.add_argument("-o", "--output", metavar="FILE", help="write the receipt; - for stdout")
    receipt.add_argument(
        "--trust", type=Path, metavar="FILE", help="what to trust (default: the stack's trust.json)"
    )
    receipt.add_argument("--json", action="store_true", help="what it says as JSON on stdout")
    receipt.set_defaults(run=run, perform=_receipt)


def run(args: Any, env: Env) -> int:
    """Perform the command that `add_commands` parsed; its exit code."""
    perform: Callable[[Any, Env], int] = args.perform
    return perform(args, env)


# --- verify and evidence ---


def _verify(args: Any, env: Env) -> int:
    if args.qr:
        return show_sheet(read_sheet(Path(args.subject)), args, load_trust(args.trust or env.trust))
    if is_file(args.subject):
        return check_path_and_show(args, load_trust(args.trust or env.trust))
    if args.as_asked or args.number is not None:
        raise Malformed("usage", "--as-asked and --number are for evidence files")
    if args.ledger is not None:
        other = load_ledger(args.directory or env.trust.with_name("ledgers.json"), args.ledger)
        answer, evidence = directory.ask(other, args, now())
        return show_since(answer, evidence, args, other.trust)
    answer, evidence = _ask(args, env)
    return show_since(answer, evidence, args, load_trust(args.trust or env.trust))


def _evidence(args: Any, env: Env) -> int:
    answer, evidence = _ask(args, env)
    if evidence is None or answer.refused is not None:
        return show(answer, args.json)
    data = format_evidence(evidence) + b"\n"
    write_file(args.output, data)
    if args.output != "-":
        show(answer, args.json)
        print_safely(f"  {len(data)} bytes of evidence in {args.output}")
    return 0


def _ask(args: Any, env: Env) -> tuple[Answer, Evidence | None]:
    """The answer from the ledger's store, checked as any evidence is, and its evidence."""
    asked = Asked(
        args.subject,
        args.type,
        args.issuer,
        args.at,
        args.known_at,
        asked_version(args),
        args.relied_at,
    )
    asked.check()  # what is no moment is said before anything is looked up
    try:
        with open_view(env) as view:
            trust = load_trust(args.trust or env.trust)
            seen = None if args.since is None else load_seen(args.since, trust).checkpoint.size
            return ask(view, asked, trust, now(), seen)
    except _HINDERED as err:
        return undecided(err.code, err.message), None


# --- holder ---


def _holder(args: Any, env: Env) -> int:
    pseudonyms = list(args.pseudonyms)
    if pseudonyms == ["-"]:
        pseudonyms = sys.stdin.read(_MAX_PSEUDONYMS).split()
    for pseudonym in pseudonyms:
        parse_pseudonym(pseudonym)
    Asked("", at=args.at).check()  # what is no moment is said before anything is looked up
    asked_at = now()
    present: dict[CertificateId, Answer] = {}
    try:
        with open_view(env) as view:
            trust = load_trust(args.trust or env.trust)
            evidence = view.holder_evidence(pseudonyms, asked_at)
            answer = check_holder(evidence, trust, asked_at)
            for certificate in answer.certificates:
                at = moment(args.at, view.zone(certificate.issuer))
                shown = view.evidence(certificate, Question(asked_at, at))
                present[certificate] = check(shown, trust, asked_at)
    except (*_HINDERED, Refused) as err:
        answer = undecided_holder(err.code, err.message)
        return show(answer, args.json)
    data = format_holder_evidence(evidence) + b"\n"
    if args.output and answer.reason != REFUSED:
        write_file(args.output, data)
    if args.json and args.output != "-":
        members = answer.members()
        for item, certificate in zip(members["certificates"], answer.certificates, strict=True):
            item["present"] = _present(present[certificate])
        print(json.dumps(members, indent=2))
    elif args.output != "-":
        print_safely(describe_holder(answer, in_colour(), present))
        if args.output and answer.reason != REFUSED:
            print_safely(f"  {len(data)} bytes of evidence in {args.output}")
    return answer.exit


def _present(answer: Answer) -> dict[str, Any]:
    members = answer.members()
    names = ("version", "valid_from", "valid_until")
    return {
        **{name: members[name] for name in ("answer", "reason", "since", "at")},
        **{name: (members["certificate"] or {}).get(name) for name in names},
    }


# --- history ---


def _history(args: Any, env: Env) -> int:
    with open_view(env) as view:
        looked = find(view, Asked(args.subject, args.type, args.issuer))
        if len(looked.matches) != 1:
            answer = (
                ambiguous(looked)
                if looked.matches
                else undecided(
                    "not-found",
                    f"looked up as {looked.number!r}",
                    number=looked.number,
                    near_misses=looked.near,
                    looked_up=looked.number,
                )
            )
            if not looked.matches:
                answer = replace(answer, answer=NOT_FOUND)
            return show(answer, args.json)
        certificate = looked.matches[0]
        told = view.told_history(certificate)
        size = view.size
    events = _told(told)
    if args.json:
        print(
            json.dumps(
                {"certificate": _certificate(certificate), "tree_size": size, "events": events},
                indent=2,
            )
        )
    else:
        print_safely(_table(certificate, events, size), sys.stdout)
    return 0


def _certificate(certificate: CertificateId) -> dict[str, str]:
    return {
        "type": certificate.type_code,
        "issuer": certificate.issuer,
        "number": certificate.number,
    }


def _told(told: list[HistoryStep]) -> list[dict[str, Any]]:
    """The events as JSON: what each says of the world, and when the ledger learned of it."""
    history = [item.step.transition for item in told]
    standing = {t.id: t for t in effective(history)}
    events = []
    for item in told:
        t = item.step.transition
        now_says = standing.get(t.id)
        events.append(
            {
                **t.members(),
                "learned_at": item.learned_at,
                "recordedtime": item.recordedtime,
                "log_index": item.step.index,
                "position": item.step.position,
                "voided": t.corrects is None and now_says is None,
                "restated": now_says is not None and now_says != t,
            }
        )
    return events


def _table(certificate: CertificateId, events: list[dict[str, Any]], size: int) -> str:
    lines = [
        f"{plain(certificate.number)}  type {plain(certificate.type_code)}  "
        f"issuer {plain(certificate.issuer)}  (tree size {size})"
    ]
    for number, event in enumerate(events):
        words = [f"{number:>3}  {event['event']}"]
        if event.get("revocation"):
            words.append(reason_words(f"revoked-{event['revocation']}"))
        if event["voided"]:
            words.append("VOIDED by a later correction 已作废")
        if event["restated"]:
            words.append("RESTATED by a later correction 已更正")
        lines.append("  ".join(words))
        lines.append(f"     in the world   {plain(event['time'])}{_dates(event)}")
        seen = event["recordedtime"]
        seen = f", the source recorded it at {plain(seen)}" if seen else ""
        lines.append(
            f"     in the ledger  {event['learned_at']} at log index {event['log_index']}, "
            f"position {event['position']}{seen}"
        )
        extra = [
            f"{label} {plain(event[name])}"
            for name, label in (
                ("by", "by"),
                ("version", "version"),
                ("reason", "reason"),
                ("correction", "correction:"),
                ("corrects", "corrects event"),
                ("transfer_to", "to"),
                ("id", "event"),
            )
            if event.get(name) is not None
        ]
        lines.append("     " + ", ".join(extra))
    return "\n".join(lines)


def _dates(event: dict[str, Any]) -> str:
    begin, end = event.get("valid_from"), event.get("valid_until")
    text = f", from {plain(begin)}" if begin else ""
    return text + (f" until {plain(end)}" if end else "")


# --- receipt ---


def _receipt(args: Any, env: Env) -> int:
    with open_view(env) as view:
        trust = load_trust(args.trust or env.trust)
        index = _bundle_index(args.subject, view)
        data = view.receipt(index)
        trust.check_checkpoint(view.checkpoint)
    receipt = parse_receipt(data, trust.keys)
    header = receipt.header
    if args.output:
        write_file(args.output, data + b"\n")
    place = f"{header.department}/{header.lane}/{header.epoch}/{header.sequence}"
    if args.json:
        print(
            json.dumps(
                {
                    "bundle": place,
                    "log_index": receipt.index,
                    "tree_size": receipt.size,
                    "events": header.count,
                    "outcome": dict(receipt.outcome),
                    "signed_at": header.signed_at,
                },
                indent=2,
            )
        )
    elif args.output != "-":
        counts = ", ".join(f"{sum(runs[1::2])} {code}" for code, runs in receipt.outcome.items())
        print_safely(
            f"bundle {place} is entry {receipt.index} of the log, proven under size "
            f"{receipt.size}: {header.count} events ({counts or 'a heartbeat'})"
        )
    return 0


def _bundle_index(text: str, view: View) -> int:
    parts = text.rsplit("/", 3)
    if len(parts) == 4 and all(_is_decimal(part) for part in parts[1:]):
        return view.index_of_bundle(parts[0], int(parts[1]), int(parts[2]), int(parts[3]))
    if len(text) == 32 and not set(text) - set("0123456789abcdef"):
        return view.index_of_event(text)
    if _is_decimal(text):
        return int(text)
    raise Malformed(
        "usage",
        f"{text[:80]!r} is no DEPARTMENT/LANE/EPOCH/SEQUENCE, no log index and no event id",
    )


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9 + 9


# --- shared ---


@contextmanager
def open_view(env: Env) -> Iterator[View]:
    """The ledger as of the published checkpoint."""
    connection = connect(env.postgres_url, "reader")
    try:
        with Reader(connection).open() as view:
            yield view
    finally:
        connection.close()


def write_file(output: str, data: bytes) -> None:
    """Write a file whole or not at all; `-` is stdout."""
    if output == "-":
        sys.stdout.buffer.write(data)
        return
    path = Path(output)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError as err:
        raise Malformed("usage", f"{output} cannot be written: {err.strerror}") from err
