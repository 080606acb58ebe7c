"""What the QR code on a sheet of paper says of a certificate: a compact statement, signed by the
ledger's sheet key, under a signed checkpoint. FORMATS.md, section 19.

A statement is no proof: it has no history, no paths and no department's signature, and says so in
its checks. It holds while the trust file's owner would take a checkpoint of that age for the
present, and not beyond the moment at which its own answer may change. Pure; `now` is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from . import lifecycle, statusmap, times
from .checking import ANOTHER, judge, judge_age, judge_witness_times, passed
from .checkpoint import Checkpoint, parse_checkpoint
from .cosignature import ML_DSA_44, CosignerKey, short_name
from .errors import LedgerError, Malformed, ProofError, Refused
from .event import UNKNOWN
from .evidence import CertificateId, Evidence, parse_certificate
from .note import (
    Note,
    Signature,
    Signer,
    VerifierKey,
    decode_hash,
    format_note,
    format_text,
    parse_decimal,
)
from .policy import NONE as NO_QUORUM
from .question import Question, format_instant
from .trust import Trust
from .verdict import (
    AUTHORITY,
    CHECKPOINT,
    EVENT_SIGNATURE,
    FAILED,
    FRESHNESS,
    INCLUSION,
    NOT_CHECKED,
    NOT_VALID,
    PASSED,
    STATUS,
    VALID,
    Answer,
    Check,
    Found,
    decide,
    undecided,
    unread,
)

FORM = "certledger sheet v1"
PREFIX = "CERTLEDGER1:"
MAX_TEXT = 1853  # characters: a QR code of version 25, error correction L, alphanumeric
NOTHING = "-"
STALE = "checkpoint-stale"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"  # RFC 9285
_REFERENCE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_REASONS = {
    VALID: {"in-force"},
    NOT_VALID: {
        "not-yet-valid",
        "expired",
        "suspended",
        "revoked-annulled",
        "revoked-penalty",
        "revoked-deregistered",
        "transferred",
        "voided",
    },
}
_NO_EVENT = "a sheet shows no event: ask for the evidence"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})")


def key_name(origin: str) -> str:
    """The name of the key that signs sheets and nothing else."""
    return f"{origin}/sheet"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a sheet says. Moments in microseconds; `since` None where nobody knows."""

    origin: str
    certificate: CertificateId
    responsible: str
    answer: str  # valid, not-valid
    reason: str
    version: int
    valid_from: str | None
    valid_until: str | None
    since: int | None
    holds_until: int
    record: bytes  # the record hash in the status map, which evidence proves
    size: int
    root: bytes
    ledger_time: int

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint under which it was said."""
        return Checkpoint(self.origin, self.size, self.root)

    def text(self) -> bytes:
        """The note text that the sheet key signs."""
        size, root = self.checkpoint.text().decode().split("\n")[1:3]
        record = Checkpoint(self.origin, 0, self.record).text().decode().split("\n")[2]
        since = NOTHING if self.since is None else format_instant(self.since)
        return format_text(
            [
                key_name(self.origin),
                FORM,
                self.certificate.type_code,
                f"{self.certificate.issuer} {self.responsible}",
                self.certificate.number,
                f"{self.answer} {self.reason} {self.version}",
                f"{self.valid_from or NOTHING} {self.valid_until or NOTHING}",
                f"{since} {format_instant(self.holds_until)}",
                record,
                size,
                root,
                format_instant(self.ledger_time),
            ]
        )

    @property
    def reference(self) -> str:
        """Twelve characters by which people tell sheets apart: they stand beside the QR code."""
        number = int.from_bytes(sha256(self.text()).digest()[:8], "big") >> 4
        letters = "".join(_REFERENCE[number >> shift & 31] for shift in range(55, -1, -5))
        return "-".join(letters[n : n + 4] for n in range(0, 12, 4))


@dataclass(frozen=True, slots=True)
class Sheet:
    """A parsed QR code; nothing in it is proven yet. `signature` is the sheet key's, `cosigned`
    are signature lines of the checkpoint without their names, both as key hash and bytes.
    """

    statement: Statement
    signature: tuple[bytes, bytes]
    cosigned: tuple[tuple[bytes, bytes], ...]


# --- making ---


def is_said(answer: Answer) -> bool:
    """Whether a sheet can say an answer: of a certificate that there is, and decided."""
    return answer.found is not None and answer.reason in _REASONS.get(answer.answer, ())


def make_sheet(evidence: Evidence, answer: Answer, trust: Trust, signer: Signer) -> str:
    """The QR code's text for an answer about now that evidence gave when it was checked.

    Refused `evidence-incomplete` for an answer that no sheet says; Malformed `too-large` where a
    certificate number does not fit into a QR code.
    """
    found = answer.found
    at = None if answer.question is None else answer.question.at
    if found is None or at is None or not is_said(answer):
        raise Refused(
            "evidence-incomplete",
            f"a sheet says valid or not valid, and the answer is {answer.answer}: {answer.reason}",
        )
    checkpoint, note = parse_checkpoint(evidence.checkpoint)
    record = statusmap.find(evidence.bucket.bucket, evidence.certificate.key)
    assert record is not None  # as the checks passed
    assert answer.ledger_time is not None
    statement = Statement(
        evidence.origin,
        evidence.certificate,
        str(found.responsible),
        answer.answer,
        answer.reason,
        int(found.version or 0),
        found.valid_from,
        found.valid_until,
        found.since,
        _holds_until(evidence, answer, trust, at, answer.ledger_time),
        record,
        checkpoint.size,
        checkpoint.root,
        answer.ledger_time,
    )
    known = {(key.name, key.key_hash) for key in _checkpoint_keys(trust, checkpoint.size)}
    lines = [(s.key_hash, s.signature) for s in note.signatures if (s.name, s.key_hash) in known]
    signature = (signer.key.key_hash, signer.sign(statement.text()))
    text = format_sheet(Sheet(statement, signature, tuple(line for line in lines if _fits(line))))
    if len(text) > MAX_TEXT:
        raise Malformed(
            "too-large",
            f"the number is too long for a QR code: {len(text)} characters, at most {MAX_TEXT}",
        )
    return text


def _holds_until(
    evidence: Evidence, answer: Answer, trust: Trust, at: int, ledger_time: int
) -> int:
    """Until when the answer holds without news: the policy's age, the next turn by the dates, the
    end of the issuer's limit of silence.
    """
    history = [step.transition for step in evidence.history]
    ends = [ledger_time + trust.max_checkpoint_age_seconds * times.SECOND]
    ends += [point for point in lifecycle.turning_points(history) if point > at][:1]
    heard = answer.issuer_freshness
    if heard is not None and heard["silence_limit_seconds"] is not None and heard["signed_at"]:
        limit = heard["silence_limit_seconds"] * times.SECOND
        ends.append(times.parse_moment(heard["signed_at"]) + limit)
    return min(ends)


def _checkpoint_keys(trust: Trust, size: int) -> Iterable[VerifierKey | CosignerKey]:
    yield from trust.required(size)
    for policy in trust.policies(size):
        yield from policy.logs
        yield from (witness.key for witness in policy.witnesses)


def _fits(line: tuple[bytes, bytes]) -> bool:
    return len(line[0] + line[1]) < 256  # an ML-DSA-44 signature has 2,420 bytes


# --- forms ---


def format_sheet(sheet: Sheet) -> str:
    """The QR code's text: capitals, digits and signs of its alphanumeric mode."""
    data = sheet.statement.text() + b"\0" + b"".join(sheet.signature)
    for key_hash, signature in sheet.cosigned:
        line = key_hash + signature
        data += bytes([len(line)]) + line
    return PREFIX + encode_base45(data)


def parse_sheet(text: str) -> Sheet:
    """The sheet in a QR code's text; Malformed `malformed-evidence` otherwise."""
    try:
        sheet = _parse(text)
    except LedgerError as err:
        raise Malformed("malformed-evidence", err.message) from err
    if format_sheet(sheet) != text:
        raise Malformed("malformed-evidence", "not printed as a sheet is")
    return sheet


def _parse(text: str) -> Sheet:
    if not text.startswith(PREFIX) or len(text) > MAX_TEXT:
        raise Malformed("malformed-evidence", f"a sheet's QR code begins with {PREFIX}")
    said, found, rest = decode_base45(text[len(PREFIX) :]).partition(b"\0")
    if not found or len(rest) < 68:
        raise Malformed("malformed-evidence", "a sheet is signed")
    lines, at = [], 68
    while at < len(rest):
        line = rest[at + 1 : at + 1 + rest[at]]
        if len(line) < 5 or len(line) < rest[at]:
            raise Malformed("malformed-evidence", "a signature is a 4-byte key hash and more")
        lines.append((line[:4], line[4:]))
        at += 1 + rest[at]
    if len({key_hash for key_hash, _ in lines}) < len(lines):
        raise Malformed("malformed-evidence", "two signatures by one key hash")
    return Sheet(_parse_statement(said), (rest[:4], rest[4:68]), tuple(lines))


def _parse_statement(said: bytes) -> Statement:
    try:
        lines = said.decode().split("\n")
    except UnicodeDecodeError as err:
        raise Malformed("malformed-evidence", "a sheet is UTF-8") from err
    if len(lines) != 13 or lines[12] or lines[1] != FORM:
        raise Malformed("malformed-evidence", f"a sheet has 12 lines, the second {FORM!r}")
    if not lines[0].endswith("/sheet"):
        raise Malformed("malformed-evidence", "a sheet's first line is ORIGIN/sheet")
    parts = [line.split(" ") for line in lines]
    if any(len(parts[n]) != count for n, count in ((3, 2), (5, 3), (6, 2), (7, 2))):
        raise Malformed("malformed-evidence", "a line of the sheet lacks a word")
    answer, reason, version = parts[5]
    if reason not in _REASONS.get(answer, ()):
        raise Malformed("malformed-evidence", f"no sheet says {answer[:20]} {reason[:40]}")
    certificate = parse_certificate(
        {"type": lines[2], "issuer": parts[3][0], "number": lines[4]},
    )
    parse_certificate({"type": lines[2], "issuer": parts[3][1], "number": lines[4]})
    first, last = (None if day == NOTHING else day for day in parts[6])
    for day in (first, last):
        if day is not None and day != UNKNOWN:
            (times.parse_day if _DAY.fullmatch(day) else times.parse_moment)(day)
    since, until = parts[7]
    return Statement(
        lines[0].removesuffix("/sheet"),
        certificate,
        parts[3][1],
        answer,
        reason,
        parse_decimal(version, limit=999_999),
        first,
        last,
        None if since == NOTHING else times.parse_moment(since),
        times.parse_moment(until),
        decode_hash(lines[8]),
        parse_decimal(lines[9], limit=2**53 - 1),
        decode_hash(lines[10]),
        times.parse_moment(lines[11]),
    )


def encode_base45(data: bytes) -> str:
    """Base45 (RFC 9285): three characters for two bytes, two for a last one."""
    text = ""
    for n in range(0, len(data), 2):
        pair = data[n : n + 2]
        number = int.from_bytes(pair, "big")
        for _ in range(len(pair) + 1):
            number, digit = divmod(number, 45)
            text += _ALPHABET[digit]
    return text


def decode_base45(text: str) -> bytes:
    """The bytes of base45; Malformed for anything that no encoder prints."""
    data = b""
    for n in range(0, len(text), 3):
        digits = [_ALPHABET.find(char) for char in text[n : n + 3]]
        number = sum(digit * 45**place for place, digit in enumerate(digits))
        size = len(digits) - 1
        if size == 0 or min(digits) < 0 or number >= 256**size:
            raise Malformed("malformed-evidence", "not base45")
        data += number.to_bytes(size, "big")
    return data


# --- checking ---


def check_sheet(
    text: str,
    trust: Trust,
    now: int,
    *,
    type_code: str | None = None,
    issuer: str | None = None,
    number: str | None = None,
) -> Answer:
    """What a QR code's text says at `now`, where a trust file lets it count; any text gives an
    answer. About a certificate of another type, issuer or number nothing is decided.
    """
    try:
        sheet = parse_sheet(text)
    except LedgerError as err:
        return unread(err.message)
    own = sheet.statement.certificate
    told = (("type", type_code), ("issuer", issuer), ("number", number))
    wrong = [(name, asked) for name, asked in told if asked not in (None, own.members()[name])]
    if wrong:
        why = "; ".join(
            f"asked about {name} {asked}, the sheet is of {own.members()[name]}"
            for name, asked in wrong
        )
        said = dict(zip(("type_code", "issuer", "number"), own.members().values(), strict=True))
        return undecided(ANOTHER, why, **said)
    return _Look(sheet, trust, now).answer()


class _Look:
    """One look at one sheet."""

    def __init__(self, sheet: Sheet, trust: Trust, now: int) -> None:
        self.sheet, self.trust, self.now = sheet, trust, now
        self.statement = sheet.statement

    def answer(self) -> Answer:
        said = self.statement
        checks = judge(
            {
                EVENT_SIGNATURE: lambda: Check(EVENT_SIGNATURE, NOT_CHECKED, _NO_EVENT),
                AUTHORITY: lambda: Check(AUTHORITY, NOT_CHECKED, _NO_EVENT),
                INCLUSION: lambda: Check(INCLUSION, NOT_CHECKED, _NO_EVENT),
                CHECKPOINT: self._checkpoint,
                STATUS: self._status,
                FRESHNESS: self._freshness,
            }
        )
        trusted = all(c.result == PASSED for c in checks if c.name in (CHECKPOINT, STATUS))
        found = Found(
            said.answer,
            said.reason,
            said.since,
            said.version,
            said.valid_from,
            said.valid_until,
            said.responsible,
        )
        answer, reason, why = decide(checks, found if trusted else None, stated=True)
        return Answer(
            answer=answer,
            reason=reason,
            checks=checks,
            why=why,
            type_code=said.certificate.type_code,
            issuer=said.certificate.issuer,
            number=said.certificate.number,
            found=found if trusted else None,
            question=Question(self.now, self.now),
            tree_size=said.size if trusted else None,
            ledger_time=said.ledger_time if trusted else None,
            notes=(f"sheet {said.reference}: a signed statement, its history is not shown",),
        )

    def _signed(self) -> bytes:
        """The checkpoint with the lines of those keys that the trust file knows."""
        lines = dict(self.sheet.cosigned)
        signatures = [
            Signature(key.name, key.key_hash, lines[key.key_hash])
            for key in dict.fromkeys(_checkpoint_keys(self.trust, self.statement.size))
            if key.key_hash in lines
        ]
        return format_note(self.statement.checkpoint.text(), signatures)

    def _checkpoint(self) -> Check:
        said, trust = self.statement, self.trust
        if said.origin != trust.origin:
            raise ProofError(
                "checkpoint-refused",
                f"the checkpoint is of {said.origin[:120]!r}, trusted is {trust.origin!r}",
            )
        needed = trust.required(said.size)
        if not needed:
            raise ProofError("checkpoint-refused", f"no key is named for size {said.size}")
        left_out = [k for k in needed if isinstance(k, CosignerKey) and k.kind == ML_DSA_44]
        if len(left_out) == len(needed):
            why = "this ledger's signatures do not fit on a sheet"
            return Check(CHECKPOINT, NOT_CHECKED, why, {}, "signature-unsupported")
        narrowed = replace(trust, keys=tuple(k for k in trust.keys if k.key not in left_out))
        narrowed.check_checkpoint(self._signed())
        until = trust.until_time(said.size)
        if until is not None and said.ledger_time >= until:
            time = format_instant(said.ledger_time)
            raise ProofError("checkpoint-refused", f"a key for this size was retired before {time}")
        cosigned = trust.cosignatures(self._signed())
        why = "signed by the ledger's key"
        if any(policy.quorum != NO_QUORUM for policy in trust.policies(said.size)):
            why += f", cosigned by the quorum of witnesses it asks for ({len(cosigned)} did)"
        values: dict[str, Any] = {
            "origin": said.origin,
            "size": said.size,
            "root": said.root.hex(),
            "keys": [short_name(key) for key in needed if key not in left_out],
            "witnesses": _instants(cosigned),
        }
        if left_out:
            why += "; ML-DSA-44: not checked (sheet)"
            values["not_checked"] = [short_name(key) for key in left_out]
        return passed(CHECKPOINT, why, **values)

    def _status(self) -> Check:
        said = self.statement
        key_hash, signature = self.sheet.signature
        key = next((k for k in self.trust.sheet_keys if k.key_hash == key_hash), None)
        if key is None:
            raise ProofError(
                "bad-signature", f"the trust file names no sheet key with hash {key_hash.hex()}"
            )
        if key.name != key_name(said.origin):
            raise ProofError("bad-signature", f"{key.name[:120]!r} does not sign sheets")
        Note(said.text(), (Signature(key.name, key_hash, signature),)).check_signed_by(key)
        return passed(
            STATUS,
            "the ledger's sheet key signed this state; its history is not shown: evidence proves "
            "it",
            reference=said.reference,
            key=short_name(key),
            record_hash=said.record.hex(),
            map_key=said.certificate.key.hex(),
            holds_until=format_instant(said.holds_until),
        )

    def _freshness(self) -> Check:
        said = self.statement
        disagreeing = judge_witness_times(self.trust, self._signed(), said.ledger_time)
        if disagreeing is not None:
            return disagreeing
        age = judge_age(said.ledger_time, self.now, self.trust.max_checkpoint_age_seconds)
        if age.result == FAILED or self.now < said.holds_until:
            return age
        why = f"the sheet says this until {format_instant(said.holds_until)}: ask again"
        return Check(FRESHNESS, FAILED, why, age.values, STALE)


def _instants(cosigned: Mapping[str, int]) -> dict[str, str]:
    return {name: format_instant(seconds * times.SECOND) for name, seconds in cosigned.items()}
