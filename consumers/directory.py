"""The directory of ledgers: names, where each answers, and what to trust of it.

Another ledger's answer is its evidence, checked here as any evidence file is: nothing of its data
is kept, and its server is not trusted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ledger.checking import check_file
from ledger.errors import CODES, LedgerError, Malformed
from ledger.evidence import MAX_EVIDENCE, Evidence, parse_evidence
from ledger.trust import Trust
from ledger.verdict import Answer, undecided

from .log_client import HttpClient
from .verifier import asked_version, load_trust, note_future

FORM = "certledger directory v1"
_MAX_DIRECTORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OtherLedger:
    """A ledger by its name here."""

    name: str
    url: str  # of its HTTP
    trust: Trust


def load_ledger(path: Path, name: str) -> OtherLedger:
    """The ledger of this name in a directory file; Malformed `usage` otherwise."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_DIRECTORY)
        value = json.loads(data)
    except (OSError, ValueError, RecursionError) as err:
        raise Malformed("usage", f"no directory of ledgers can be read at {path}: {err}") from err
    ledgers = value.get("ledgers") if type(value) is dict else None
    if type(ledgers) is not dict or value.keys() != {"format", "ledgers"}:
        raise Malformed("usage", f"{path}: a directory has format and ledgers")
    if value["format"] != FORM:
        raise Malformed("usage", f"{path}: the format is {FORM!r}")
    found = ledgers.get(name)
    if found is None:
        raise Malformed("usage", f"{path} names {', '.join(ledgers) or 'no ledger'}, not {name!r}")
    if type(found) is not dict or found.keys() != {"url", "trust"}:
        raise Malformed("usage", f"{path}: {name} has url and trust")
    if not all(type(member) is str for member in found.values()):
        raise Malformed("usage", f"{path}: url and trust of {name} are strings")
    return OtherLedger(name, found["url"], load_trust(path.parent / found["trust"]))


def ask(other: OtherLedger, args: Any, now: int) -> tuple[Answer, Evidence | None]:
    """What another ledger proves about the certificate in the arguments."""
    asked = {
        name: value
        for name, value in (
            ("number", args.subject),
            ("type", args.type),
            ("issuer", args.issuer),
            ("at", args.at),
            ("known_at", args.known_at),
        )
        if value is not None
    }
    client = HttpClient(other.url)
    try:
        status, data = client.get(f"v1/evidence?{urlencode(asked)}", MAX_EVIDENCE + 1)
    except LedgerError as err:
        return undecided(err.code, f"{other.name}: {err.message}", number=args.subject), None
    finally:
        client.close()
    if status != 200:
        return _problem(other, args, status, data), None
    answer = check_file(
        data,
        other.trust,
        now,
        at=args.at,
        known_at=args.known_at,
        version=asked_version(args),
        relied_at=args.relied_at,
        type_code=args.type,
        issuer=args.issuer,
        number=args.subject,
    )
    return note_future(answer, now), None if answer.refused else _parsed(data)


def _parsed(data: bytes) -> Evidence | None:
    try:
        return parse_evidence(data)
    except LedgerError:
        return None


def _problem(other: OtherLedger, args: Any, status: int, data: bytes) -> Answer:
    """What a problem document says, as far as it is one of ours."""
    try:
        value = json.loads(data)
        code = value["code"] if value["code"] in CODES else "unreachable"
        why = str(value["detail"])[:500]
    except (ValueError, LookupError, TypeError, RecursionError):
        code, why = "unreachable", f"it answers {status}"
    if code in CODES and CODES[code].error is Malformed:
        raise Malformed(code, f"{other.name}: {why}")
    return undecided(code, f"{other.name}: {why}", number=args.subject)
