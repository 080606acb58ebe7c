"""Event lines: one canonical JSON object per life-cycle event (CloudEvents 1.0 attributes).

`data` uses the English names of GB/T 36903. What each kind may say is the table `FIELDS`.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from . import canonical, identity, times
from .errors import LedgerError, Malformed

MAX_LINE = 64 * 1024
Read = TypeVar("Read")
UNKNOWN = "unknown"
OPEN = "open"
TYPE_PREFIX = "certledger.certificate."
TYPE_SUFFIX = ".v1"

ISSUED, RENEWED, AMENDED = "issued", "renewed", "amended"
SUSPENDED, REINSTATED, REVOKED = "suspended", "reinstated", "revoked"
EXPIRED, CORRECTED = "expired", "corrected"
TRANSFERRED_OUT, TRANSFERRED_IN = "transferred-out", "transferred-in"

REVOCATION_KINDS = ("annulled", "penalty", "deregistered")
CORRECTIONS = ("void", "restate", "confirm", "rewind")

_ALWAYS = frozenset(
    {
        "certificate_type_code",
        "issuing_authority_code",
        "certificate_number",
        "claims",
        "commitments",
        "salt_key_version",
        "certificate_identifier",
    }
)
REQUIRED = ("certificate_type_code", "issuing_authority_code", "certificate_number")

# kind: (members beside those of _ALWAYS, those of them that must be there)
FIELDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    kind: (_ALWAYS | set(allowed.split()), frozenset(needed.split()))
    for kind, allowed, needed in (
        (ISSUED, "valid_from valid_until holder_pseudonym", ""),
        (RENEWED, "valid_from valid_until holder_pseudonym", ""),
        (AMENDED, "valid_from valid_until holder_pseudonym reason_code", ""),
        (SUSPENDED, "valid_from valid_until reason_code", "reason_code"),
        (REINSTATED, "valid_from reason_code", ""),
        (REVOKED, "valid_from revocation_kind reason_code", "revocation_kind"),
        (EXPIRED, "valid_from reason_code", ""),
        (TRANSFERRED_OUT, "valid_from transfer_to reason_code", "transfer_to"),
        (TRANSFERRED_IN, "valid_from reason_code", ""),
        (
            CORRECTED,
            "corrects correction reason_code valid_from valid_until",
            "corrects correction reason_code",
        ),
    )
}

MEMBERS = frozenset().union(*(allowed for allowed, _ in FIELDS.values()))

_ID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SOURCE = re.compile(r"[!-~]{1,255}")
MAX_SALT_KEY_VERSION = 999_999
_ENVELOPE = {"data", "id", "source", "specversion", "time", "type"}
_WITH_RECORDED = _ENVELOPE | {"recordedtime"}
_NEEDED = {kind: frozenset((*REQUIRED, *needed)) for kind, (_, needed) in FIELDS.items()}
_KINDS = {TYPE_PREFIX + kind + TYPE_SUFFIX: kind for kind in FIELDS}


class Event(NamedTuple):
    """A checked event line, claims and commitments left in it. Days and moments keep the
    department's own spelling.
    """

    id: str
    kind: str
    source: str
    time: str
    recordedtime: str | None
    type_code: str
    issuer: str
    number: str
    holder: str | None  # pseudonym
    holder_key: bytes | None  # its map key
    identifier: str | None  # of GB/T 36904
    line_hash: bytes  # leaf hash of the line in its bundle
    key: bytes  # the certificate's map key
    said: Said


Said = tuple[str | None, str | None, str | None, str | None, str | None, str | None, str | None]
"""What of an event its transition repeats: the members of `SAID`."""

SAID = (
    "valid_from",
    "valid_until",
    "reason_code",
    "revocation_kind",
    "corrects",
    "correction",
    "transfer_to",
)


def parse_event(
    line: bytes,
    line_hash: bytes,
    load: Callable[[bytes], Any] = canonical.loads,
    dump: canonical.Dump = canonical.encode,
) -> Event:
    """The event in `line`; Malformed: `line-too-large`, `not-canonical`, `malformed-event`."""
    return read_line(line, lambda value: _event(value, line_hash), load, dump)


parse_shown = lru_cache(maxsize=16)(parse_event)  # that is looked at twice


def read_line(
    line: bytes,
    read: Callable[[Any], Read],
    load: Callable[[bytes], Any],
    dump: canonical.Dump,
) -> Read:
    """What `read` makes of the value in a line; Malformed: `line-too-large`, `not-canonical`, and
    what `read` raises.

    The code goes into the log, so it must not depend on who parses: whatever is not the canonical
    form of some value, for whichever reason `load` finds first, is `not-canonical`.
    """
    if len(line) > MAX_LINE:
        raise Malformed("line-too-large")
    try:
        return read(canonical.parse_typed(line, MAX_LINE, load, dump))
    except LedgerError:
        pass  # the code is found slowly, by one parser, with every limit of the profile
    try:
        value = canonical.parse(line, MAX_LINE)
    except LedgerError as err:
        raise Malformed("not-canonical", err.message) from err
    return read(value)


def _event(value: Any, line_hash: bytes) -> Event:
    if type(value) is not dict:
        raise Malformed("malformed-event", "an event line is a JSON object")
    names = value.keys()
    if names != _ENVELOPE and names != _WITH_RECORDED:
        wrong = sorted((names ^ _ENVELOPE) - {"recordedtime"})
        raise Malformed("malformed-event", f"members missing or not allowed: {wrong[:6]}")
    event_id = _match(value, "id", _ID, "32 lower-case hex digits")
    source = _text(value, "source")
    if not is_source(source):
        raise Malformed("malformed-event", "source is 1 to 255 printable ASCII characters")
    if value["specversion"] != "1.0":
        raise Malformed("malformed-event", "specversion is 1.0")
    kind = _kind(value["type"])
    data = value["data"]
    if type(data) is not dict:
        raise Malformed("malformed-event", "data is an object")
    check_data(kind, data)
    _check_moment(value, "time")
    if "recordedtime" in value:
        _check_moment(value, "recordedtime")
    type_code = data["certificate_type_code"]
    issuer = data["issuing_authority_code"]
    number = data["certificate_number"]
    holder = data.get("holder_pseudonym")
    return Event(
        event_id,
        kind,
        source,
        value["time"],
        value.get("recordedtime"),
        type_code,
        issuer,
        number,
        holder,
        None if holder is None else identity.holder_key(holder),
        data.get("certificate_identifier"),
        line_hash,
        identity.certificate_key(type_code, issuer, number),
        tuple(map(data.get, SAID)),  # type: ignore[arg-type]
    )


def check_data(kind: str, data: dict[str, Any]) -> None:
    """None when `data` says what an event of this kind may and must say."""
    allowed, _ = FIELDS[kind]
    needed = _NEEDED[kind]
    names = data.keys()
    if not names <= allowed:
        raise Malformed(
            "malformed-event", f"{kind} does not take {', '.join(sorted(names - allowed)[:6])}"
        )
    if not names >= needed:
        missing = sorted(needed - names)
        raise Malformed("malformed-event", f"{kind} needs {', '.join(missing)}")
    try:
        identity.check_type(_text(data, "certificate_type_code"))
        identity.check_department(_text(data, "issuing_authority_code"))
        identity.check_number(_text(data, "certificate_number"))
        for name in data:
            if name not in REQUIRED:
                _CHECKS[name](data, name)
    except LedgerError as err:
        raise Malformed("malformed-event", err.message) from err
    if "commitments" in data and "salt_key_version" not in data:
        raise Malformed("malformed-event", "commitments need salt_key_version")
    if data.get("valid_from") == OPEN or (kind == SUSPENDED and data.get("valid_from") == UNKNOWN):
        raise Malformed("malformed-event", "valid_from is a day here")
    correction = data.get("correction")
    if correction not in (None, "restate") and names & {"valid_from", "valid_until"}:
        raise Malformed("malformed-event", f"a {correction} correction states no dates")


def format_event(
    *,
    kind: str,
    event_id: str,
    source: str,
    time: str,
    recordedtime: str | None,
    data: Mapping[str, Any],
    form: canonical.Dump = canonical.format,
) -> bytes:
    """The canonical event line; Malformed when it would not be admitted as a line. `form` may take
    on trust what `check_data` saw.
    """
    value: dict[str, Any] = {
        "data": dict(data),
        "id": event_id,
        "source": source,
        "specversion": "1.0",
        "time": time,
        "type": TYPE_PREFIX + kind + TYPE_SUFFIX,
    }
    if recordedtime is not None:
        value["recordedtime"] = recordedtime
    line = form(value)
    if len(line) > MAX_LINE:
        raise Malformed("line-too-large", f"{len(line)} bytes, at most {MAX_LINE} are allowed")
    return line


def make_event_id(department: str, source: str, record_key: str, kind: str, change: str) -> str:
    """The deterministic event id: the same fact read twice from a source has the same id."""
    parts = [part.encode() for part in (department, source, record_key, kind)]
    body = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    return sha256(b"certledger event id v1\n" + body + change.encode()).hexdigest()[:32]


def hide_change(key: bytes, change: str) -> str:
    """A change as event ids have it: without the department's event id key it cannot be tried."""
    return hmac.digest(key, b"certledger change v1\n" + change.encode(), "sha256").hex()


def make_salt(salt_key: bytes, event_id: str, field: str) -> bytes:
    """The 16-byte salt of one private field of one event."""
    return hmac.digest(salt_key, f"certledger salt v1\n{event_id}\n{field}".encode(), "sha256")[:16]


def make_commitment(salt: bytes, field: str, value: str) -> str:
    """The commitment to a private field's value under its salt: hex of SHA-256."""
    body = json.dumps([field, value], ensure_ascii=False, separators=(",", ":")).encode()
    return sha256(b"certledger commitment v1\n" + salt + body).hexdigest()


def _kind(text: Any) -> str:
    kind = _KINDS.get(text) if type(text) is str else None
    if kind is not None:
        return kind
    shown = text[:80] if type(text) is str else type(text).__name__  # a deep list has no str()
    raise Malformed("malformed-event", f"unknown event type {shown!r}")


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value[name]
    if type(text) is not str:
        raise Malformed("malformed-event", f"{name} is a string")
    return text


def _check_moment(value: Mapping[str, Any], name: str) -> None:
    try:
        times.parse_moment(_text(value, name))
    except LedgerError as err:
        raise Malformed("malformed-event", f"{name}: {err.message}") from err


def _match(value: Mapping[str, Any], name: str, pattern: re.Pattern[str], form: str) -> str:
    text = _text(value, name)
    if not pattern.fullmatch(text):
        raise Malformed("malformed-event", f"{name} is {form}")
    return text


def _check_day(data: Mapping[str, Any], name: str) -> None:
    text = _text(data, name)
    if text != UNKNOWN and text != OPEN:
        times.parse_day(text)


def _check_claims(data: Mapping[str, Any], name: str) -> None:
    members = data[name]
    if type(members) is not dict or not members:
        raise Malformed("malformed-event", f"{name} is an object with members, or left out")
    for key, value in members.items():
        if type(value) is not str or len(key) > 64 or not is_name(key):
            raise Malformed("malformed-event", f"{name}.{key[:64]} is a string")


def _check_commitments(data: Mapping[str, Any], name: str) -> None:
    _check_claims(data, name)
    for key, value in data[name].items():
        if not _HASH.fullmatch(value):
            raise Malformed("malformed-event", f"{name}.{key[:64]} is 64 hex digits")


@lru_cache(maxsize=4096)  # registers repeat their columns
def is_name(key: str) -> bool:
    """Whether claims and commitments may have a member of this name."""
    return _NAME.fullmatch(key) is not None


@lru_cache(maxsize=1024)
def is_source(text: str) -> bool:
    """Whether an event may have this source."""
    return _SOURCE.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def is_code(text: str) -> bool:
    """Whether this may be a reason's code."""
    return _CODE.fullmatch(text) is not None


def _check_code(data: Mapping[str, Any], name: str) -> None:
    if not is_code(_text(data, name)):
        raise Malformed("malformed-event", f"{name} is a-z, 0-9 and inner hyphens")


def _check_version(data: Mapping[str, Any], name: str) -> None:
    if type(data[name]) is not int or not 1 <= data[name] <= MAX_SALT_KEY_VERSION:
        raise Malformed("malformed-event", f"{name} is a number from 1")


def _one_of(*choices: str) -> Callable[[Mapping[str, Any], str], None]:
    def check(data: Mapping[str, Any], name: str) -> None:
        if _text(data, name) not in choices:
            raise Malformed("malformed-event", f"{name} is one of {', '.join(choices)}")

    return check


_CHECKS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "valid_from": _check_day,
    "valid_until": _check_day,
    "reason_code": _check_code,
    "corrects": lambda data, name: _match(data, name, _ID, "an event id"),
    "correction": _one_of(*CORRECTIONS),
    "revocation_kind": _one_of(*REVOCATION_KINDS),
    "transfer_to": lambda data, name: identity.check_department(_text(data, name)),
    "holder_pseudonym": lambda data, name: identity.parse_pseudonym(_text(data, name)),
    "certificate_identifier": lambda data, name: identity.parse_identifier(_text(data, name)),
    "claims": _check_claims,
    "commitments": _check_commitments,
    "salt_key_version": _check_version,
}
