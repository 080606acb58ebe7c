"""Reliance lines: an office says on which certificates it relies, in which case, until when.

Nothing in a line is free text. The case and the clerk are keyed hashes that only the office can
make again, so neither the ledger nor who reads its topics learns a case number or a name.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

from . import canonical, identity, times
from .errors import LedgerError, Malformed
from .event import CORRECTED, ISSUED, REVOKED, read_line

TYPE_PREFIX = "certledger.reliance."
TYPE_SUFFIX = ".v1"
RELIED, ENDED = "relied", "ended"
DECISION, ENTITLEMENT = "decision", "entitlement"
LASTS = (DECISION, ENTITLEMENT)
MAX_CERTIFICATES = 64
MAX_MEETS = 16  # demands that one certificate meets
MAX_TREE_SIZE = canonical.MAX_INTEGER
NOTICE_TYPE = "certledger.reliance.recalled.v1"

_KINDS = {TYPE_PREFIX + kind + TYPE_SUFFIX: kind for kind in (RELIED, ENDED)}
_ENDS = tuple(f'"type":"{name}"}}'.encode() for name in _KINDS)
_ENVELOPE = {"data", "id", "source", "specversion", "time", "type"}
_COMMON = frozenset({"office", "service", "case"})
_RELIED = _COMMON | {"certificates", "tree_size", "lasts", "use_for", "clerk"}
_ID = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_SOURCE = re.compile(r"[!-~]{1,255}")
_RECALL_TAG = b"certledger recall v1\n"
_HOLD_TAG = b"certledger hold v1\n"

Meets = tuple[str, str]  # code of a requirement, of the evidence type in it
Relied = tuple[bytes, int, tuple[Meets, ...]]  # map key, version, what it stands for


class Reliance(NamedTuple):
    """A checked reliance line; an `ended` one names the case alone."""

    id: str
    kind: str  # relied, ended
    source: str
    time: str
    office: str  # department id
    service: str
    case: str  # hidden, in hex
    certificates: tuple[Relied, ...]  # ascending by map key
    tree_size: int  # of the checkpoint that the answers were under; 0 where ended
    lasts: str
    use_for: str
    clerk: str  # hidden, in hex
    catalogue: str | None  # root of the one whose codes are named, in hex
    line_hash: bytes  # leaf hash of the line in its bundle
    key: bytes  # of the reliance: office, service and case


def is_reliance(line: bytes) -> bool:
    """Whether a line says by its type that it is about a reliance."""
    return line.endswith(_ENDS)  # `type` is the last member of the canonical form


def reliance_key(office: str, service: str, case: str) -> bytes:
    """What a reliance is known by, of which only those behind the access rules hear."""
    return identity.map_key(b"R", office.encode(), service.encode(), bytes.fromhex(case))


def hide_case(key: bytes, service: str, case: str) -> str:
    """A case number as reliances have it: the office finds it again, nobody else can try it."""
    said = identity.map_key(b"S", service.encode(), case.encode())
    return hmac.digest(key, b"certledger case v1\n" + said, "sha256").hex()


def hide_clerk(key: bytes, clerk: str) -> str:
    """A clerk's name as reliances have it."""
    return hmac.digest(key, b"certledger clerk v1\n" + clerk.encode(), "sha256").hex()


def parse_reliance(
    line: bytes,
    line_hash: bytes,
    load: Callable[[bytes], Any] = canonical.loads,
    dump: canonical.Dump = canonical.encode,
) -> Reliance:
    """The reliance in `line`; Malformed: `line-too-large`, `not-canonical`, `malformed-reliance`.

    As with events the code does not depend on who parses.
    """
    return read_line(line, lambda value: _reliance(value, line_hash), load, dump)


def format_reliance(
    *, kind: str, reliance_id: str, source: str, time: str, data: Mapping[str, Any]
) -> bytes:
    """The canonical line; Malformed when it would not be admitted as a line."""
    value = {
        "data": dict(data),
        "id": reliance_id,
        "source": source,
        "specversion": "1.0",
        "time": time,
        "type": TYPE_PREFIX + kind + TYPE_SUFFIX,
    }
    line = canonical.format(value)
    parse_reliance(line, b"")
    return line


def _reliance(value: Any, line_hash: bytes) -> Reliance:
    if type(value) is not dict or value.keys() != _ENVELOPE:
        raise _malformed(f"a reliance line has the members {', '.join(sorted(_ENVELOPE))}")
    _match(value, "id", _ID, "32 lower-case hex digits")
    _match(value, "source", _SOURCE, "1 to 255 printable ASCII characters")
    kind = _KINDS.get(value["type"]) if type(value["type"]) is str else None
    if value["specversion"] != "1.0" or kind is None:
        raise _malformed("specversion is 1.0, type that of a reliance")
    data = value["data"]
    if type(data) is not dict:
        raise _malformed("data is an object")
    wanted = _COMMON if kind == ENDED else _RELIED
    if data.keys() - {"catalogue"} != wanted or (kind == ENDED and "catalogue" in data):
        raise _malformed(f"data of {kind} has the members {', '.join(sorted(wanted))}")
    try:
        times.parse_moment(_text(value, "time"))
        identity.check_department(_text(data, "office"))
        identity.check_type(_text(data, "service"))
    except LedgerError as err:
        raise _malformed(err.message) from err
    case = _match(data, "case", _HASH, "64 hex digits, the hidden case number")
    said: tuple[Any, ...] = ((), 0, "", "", "", None)
    if kind == RELIED:
        said = _said(data)
    office, service = data["office"], data["service"]
    head = (value["id"], kind, value["source"], value["time"], office, service, case)
    return Reliance._make((*head, *said, line_hash, reliance_key(office, service, case)))


def _said(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """What `relied` says beside the case, in the order of the fields of `Reliance`."""
    size = data["tree_size"]
    if type(size) is not int or not 1 <= size <= MAX_TREE_SIZE:
        raise _malformed("tree_size is a number from 1")
    if data["lasts"] not in LASTS:
        raise _malformed(f"lasts is one of {', '.join(LASTS)}")
    catalogue = None
    if "catalogue" in data:
        catalogue = _match(data, "catalogue", _HASH, "64 hex digits, a catalogue's root")
    listed = data["certificates"]
    if type(listed) is not list or not 1 <= len(listed) <= MAX_CERTIFICATES:
        raise _malformed(f"certificates is a list of 1 to {MAX_CERTIFICATES}")
    certificates = tuple(_relied(item, catalogue is not None) for item in listed)
    if any(a[0] >= b[0] for a, b in pairwise(certificates)):
        raise _malformed("certificates ascend by map key, each once")
    return (
        certificates,
        size,
        data["lasts"],
        _match(data, "use_for", _CODE, "a-z, 0-9 and inner hyphens"),
        _match(data, "clerk", _HASH, "64 hex digits, the hidden name"),
        catalogue,
    )


def _relied(item: Any, in_catalogue: bool) -> Relied:
    wanted = {"map_key", "version"} | ({"meets"} if in_catalogue else set())
    if type(item) is not dict or item.keys() != wanted:
        raise _malformed("a certificate has map_key, version, and beside a catalogue meets")
    key = bytes.fromhex(_match(item, "map_key", _HASH, "64 hex digits"))
    version = item["version"]
    if type(version) is not int or not 1 <= version <= canonical.MAX_INTEGER:
        raise _malformed("version is a number from 1")
    pairs = item.get("meets", [])
    if type(pairs) is not list or len(pairs) > MAX_MEETS or bool(pairs) != in_catalogue:
        raise _malformed(f"meets is a list of 1 to {MAX_MEETS}")
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2 or any(type(code) is not str for code in pair):
            raise _malformed("what is met is a requirement's code and an evidence type's")
        try:
            for code in pair:
                identity.check_type(code)
        except LedgerError as err:
            raise _malformed(err.message) from err
    if any(a >= b for a, b in pairwise(pairs)):
        raise _malformed("meets ascends, each once")
    return key, version, tuple((requirement, evidence) for requirement, evidence in pairs)


def _malformed(message: str) -> Malformed:
    return Malformed("malformed-reliance", message)


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value[name]
    if type(text) is not str:
        raise _malformed(f"{name} is a string")
    return text


def _match(value: Mapping[str, Any], name: str, pattern: re.Pattern[str], form: str) -> str:
    text = _text(value, name)
    if not pattern.fullmatch(text):
        raise _malformed(f"{name} is {form}")
    return text


# --- recalls ---


def is_recalled(lasts: str, kind: str, revocation: str | None) -> bool:
    """Whether an event of this kind on a certificate is news to a reliance that lasts so long: a
    decision that was taken hears of annulment and correction, an entitlement of every change.
    `issued` is none: it comes first, or after all was voided, which was news.
    """
    if lasts == ENTITLEMENT:
        return kind != ISSUED
    return kind == CORRECTED or (kind == REVOKED and revocation == "annulled")


def recall_id(case: str, act: str, number: int, index: int, position: int) -> str:
    """The one id of the notice that certificate `number` of a case's act changed by the event at
    this place. Neither map key nor service is in it: the reader of a notice could try them all.
    """
    place = number.to_bytes(4, "big") + index.to_bytes(8, "big") + position.to_bytes(4, "big")
    return sha256(_RECALL_TAG + bytes.fromhex(case + act) + place).hexdigest()[:32]


def hold_id(case: str, certificate: bytes) -> str:
    """How a notice names a certificate (map key) in a hidden case: who knows both finds it again,
    nobody else can tell that two certificates are one case's.
    """
    return sha256(_HOLD_TAG + bytes.fromhex(case) + certificate).hexdigest()[:32]


class Recall(NamedTuple):
    """What a notice of recall says to an office."""

    id: str
    office: str
    case: str  # hidden, in hex
    certificate: bytes  # map key
    log_index: int  # place of the event that changed it
    position: int
    kind: str
    revocation: str | None
    reason: str | None
    time: str  # ledger time of its entry


def format_recall(origin: str, recall: Recall) -> bytes:
    """The notice as canonical JSON: CloudEvents 1.0, structured. It proves nothing: the office asks
    the ledger about the certificate, which its own line names. All offices may read it, so nothing
    in it is the same for two certificates of a case.
    """
    change = {"event": recall.kind, "revocation_kind": recall.revocation, "reason": recall.reason}
    return canonical.format(
        {
            "data": {
                "change": {name: said for name, said in change.items() if said is not None},
                "hold": hold_id(recall.case, recall.certificate),
                "log_index": recall.log_index,
                "office": recall.office,
                "position": recall.position,
            },
            "datacontenttype": "application/json",
            "id": recall.id,
            "source": origin,
            "specversion": "1.0",
            "time": recall.time,
            "type": NOTICE_TYPE,
        }
    )
