"""The evidence file, `certledger evidence v1`: everything a verifier needs but the trust file.

Canonical JSON. Proof hashes stand once in `nodes`, in the order of their first use; a proof is a
list of numbers into it and, expanded, exactly what `checkpoint.format_proof` prints. Nothing in a
parsed file is proven yet: `checking.check` does that. FORMATS.md, section 13.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from . import canonical, identity, times
from .bundle import MAX_EVENTS as MAX_BUNDLE_EVENTS
from .checkpoint import format_proof
from .errors import LedgerError, Malformed
from .lifecycle import Transition, parse_transition
from .note import decode_base64, decode_hash
from .question import Question, format_instant
from .statusmap import Membership, Part

FORM = "certledger evidence v1"
MAX_EVIDENCE = 4 * 1024 * 1024
MAX_PATH = 63  # hashes: a tree of 2^63 leaves
MAX_EVENTS = 256  # shown in full


@dataclass(frozen=True, slots=True)
class CertificateId:
    """What the map key is made of; `issuer` is the original one, for ever."""

    type_code: str
    issuer: str
    number: str

    @property
    def key(self) -> bytes:
        return identity.certificate_key(self.type_code, self.issuer, self.number)

    def members(self) -> dict[str, str]:
        """The parts by the names that files and answers give them."""
        return {"type": self.type_code, "issuer": self.issuer, "number": self.number}


@dataclass(frozen=True, slots=True)
class Step:
    """One element of the certificate's history."""

    index: int
    position: int
    line_hash: bytes
    transition: Transition


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """The line of history element `ordinal` with its path to the root in its bundle's note."""

    ordinal: int
    line: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A leaf with its path: a log entry at its index, or a registry record at its place."""

    index: int
    data: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Since:
    """That the log under the checkpoint begins with the one of `size` leaves: the consistency proof
    (RFC 9162 section 2.1.4) for who saw that one.
    """

    size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """The entry at `index`, which registered the key whose record is from there on: what of it
    does not follow from the record, and its path.
    """

    index: int
    time: str
    signatures: bytes  # the lines below the note's text
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A parsed evidence file; of its claims nothing is proven yet."""

    origin: str
    certificate: CertificateId
    question: Question
    history: tuple[Step, ...]  # complete, in ledger order; none for an absent certificate
    events: tuple[ShownEvent, ...]  # ascending ordinals
    entries: tuple[Shown, ...]  # ascending log indexes: entry 0, those of the events
    bucket: Membership  # of the certificate's map key under the status entry
    registry_size: int
    records: tuple[Shown, ...]  # ascending places in the registry's tree
    registrations: tuple[Registration, ...]  # ascending log indexes: those of the keys in `records`
    status: Shown  # the checkpoint's last leaf
    status_then: Shown | None  # the last status entry known at `known_at`
    checkpoint: bytes
    since: Since | None = None

    def entry(self, index: int) -> Shown | None:
        """The shown entry at a log index."""
        return next((e for e in self.entries if e.index == index), None)

    def proof(self, shown: Shown) -> bytes:
        """The C2SP tlog-proof of a shown log entry."""
        return format_proof(shown.index, shown.path, self.checkpoint)


# --- printing ------------------------------------------------------------------------------------


class Nodes:
    """Hashes by their number, in the order of first use."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}

    def path(self, hashes: Iterable[bytes]) -> list[int]:
        """A path as numbers of nodes."""
        return [self.numbers.setdefault(value, len(self.numbers)) for value in hashes]

    def text(self) -> str:
        """All nodes, joined."""
        return base64.b64encode(b"".join(self.numbers)).decode()


def format_evidence(evidence: Evidence) -> bytes:
    """The evidence file's bytes."""
    nodes = Nodes()
    question = evidence.question
    keys: dict[str, int] = {}
    for step in evidence.history:
        keys.setdefault(step.transition.key, len(keys))
    then = evidence.status_then
    value = {
        "format": FORM,
        "origin": evidence.origin,
        "certificate": evidence.certificate.members(),
        "question": {
            "asked_at": format_instant(question.asked_at),
            "at": _optional(question.at),
            "known_at": _optional(question.known_at),
            "version": question.version,
        },
        "keys": list(keys),
        "history": [
            {
                "index": step.index,
                "position": step.position,
                "line": base64.b64encode(step.line_hash).decode(),
                "transition": {**step.transition.members(), "key": keys[step.transition.key]},
            }
            for step in evidence.history
        ],
        "events": [
            {"ordinal": e.ordinal, "line": canonical.loads(e.line), "path": nodes.path(e.path)}
            for e in evidence.events
        ],
        "entries": [shown_members(e, nodes) for e in evidence.entries],
        "bucket": bucket_members(evidence.bucket, nodes),
        "registry_size": evidence.registry_size,
        "records": [shown_members(r, nodes) for r in evidence.records],
        "registrations": [
            {
                "index": r.index,
                "time": r.time,
                "signatures": r.signatures.decode(),
                "path": nodes.path(r.path),
            }
            for r in evidence.registrations
        ],
        "status": shown_members(evidence.status, nodes),
        "status_then": then and shown_members(then, nodes),
        "checkpoint": evidence.checkpoint.decode(),
    }
    if (since := evidence.since) is not None:
        value["since"] = {"size": since.size, "path": nodes.path(since.path)}
    value["nodes"] = nodes.text()
    return canonical.format(value)


def _optional(moment: int | None) -> str | None:
    return None if moment is None else format_instant(moment)


def shown_members(shown: Shown, nodes: Nodes) -> dict[str, Any]:
    """A leaf with its path, as a file has it."""
    data = canonical.loads(shown.data)
    return {"index": shown.index, "data": data, "path": nodes.path(shown.path)}


def bucket_members(bucket: Membership, nodes: Nodes) -> dict[str, Any]:
    """What a status map says of a key, as a file has it."""
    pairs = base64.b64encode(bucket.bucket).decode()
    value: dict[str, Any] = {"pairs": pairs, "path": nodes.path(bucket.path)}
    if bucket.part is not None:
        value["count"], value["first"] = bucket.part.count, bucket.part.first
        value["paths"] = [nodes.path(path) for path in bucket.part.paths]
    return value


# --- parsing -------------------------------------------------------------------------------------


def parse_evidence(data: bytes) -> Evidence:
    """The evidence in `data`, which must be what `format_evidence` prints, a newline at its end
    allowed; Malformed `malformed-evidence` otherwise. Shared nodes cost nothing twice.
    """
    data = data.removesuffix(b"\n")
    try:
        evidence = _evidence(canonical.parse(data, MAX_EVIDENCE))
    except LedgerError as err:
        raise Malformed("malformed-evidence", err.message) from err
    if format_evidence(evidence) != data:
        raise Malformed("malformed-evidence", "not printed as an evidence file is")
    return evidence


def _evidence(value: Any) -> Evidence:
    if type(value) is not dict or value.get("format") != FORM:
        raise Malformed("malformed-evidence", f"an evidence file says format {FORM!r}")
    parse_members(
        {name: member for name, member in value.items() if name != "since"},
        "format origin certificate question keys history events entries bucket "
        "registry_size records registrations status status_then checkpoint nodes",
    )
    nodes = parse_nodes(value["nodes"])
    keys = [parse_text(key) for key in parse_list(value["keys"])]
    history = tuple(_step(step, keys) for step in parse_list(value["history"]))
    events = tuple(_event(event, nodes) for event in parse_list(value["events"]))
    entries = tuple(parse_shown(entry, nodes) for entry in parse_list(value["entries"]))
    records = tuple(parse_shown(record, nodes) for record in parse_list(value["records"]))
    registrations = tuple(_registration(each, nodes) for each in parse_list(value["registrations"]))
    for numbers in (
        [event.ordinal for event in events],
        [entry.index for entry in entries],
        [record.index for record in records],
        [registration.index for registration in registrations],
    ):
        if any(a >= b for a, b in pairwise(numbers)):
            raise Malformed("malformed-evidence", "what is shown of each kind is ascending")
    if len(events) > MAX_EVENTS:
        raise Malformed("malformed-evidence", f"at most {MAX_EVENTS} events are shown in full")
    if any(event.ordinal >= len(history) for event in events):
        raise Malformed("malformed-evidence", "an event is not in the history")
    then = value["status_then"]
    return Evidence(
        origin=parse_text(value["origin"]),
        certificate=parse_certificate(value["certificate"]),
        question=_question(value["question"]),
        history=history,
        events=events,
        entries=entries,
        bucket=parse_bucket(value["bucket"], nodes),
        registry_size=parse_count(value["registry_size"]),
        records=records,
        registrations=registrations,
        status=parse_shown(value["status"], nodes),
        status_then=None if then is None else parse_shown(then, nodes),
        checkpoint=parse_text(value["checkpoint"]).encode(),
        since=_since(value["since"], nodes) if "since" in value else None,
    )


def parse_certificate(value: Any) -> CertificateId:
    """The certificate whose parts these are."""
    parse_members(value, "type issuer number")
    identity.check_type(parse_text(value["type"]))
    identity.check_department(parse_text(value["issuer"]))
    identity.check_number(parse_text(value["number"]))
    return CertificateId(value["type"], value["issuer"], value["number"])


def _question(value: Any) -> Question:
    parse_members(value, "asked_at at known_at version")
    version = value["version"]
    return Question(
        asked_at=times.parse_moment(parse_text(value["asked_at"])),
        at=_moment(value["at"]),
        known_at=_moment(value["known_at"]),
        version=None if version is None else parse_count(version),
    )


def _moment(value: Any) -> int | None:
    return None if value is None else times.parse_moment(parse_text(value))


def _step(value: Any, keys: list[str]) -> Step:
    parse_members(value, "index position line transition")
    members = value["transition"]
    if type(members) is not dict or "key" not in members:
        raise Malformed("malformed-evidence", "not a transition")
    number, position = parse_count(members["key"]), parse_count(value["position"])
    if position >= MAX_BUNDLE_EVENTS:
        raise Malformed("malformed-evidence", f"a bundle has at most {MAX_BUNDLE_EVENTS} events")
    if number >= len(keys):
        raise Malformed("malformed-evidence", "a transition names no key of the list")
    return Step(
        index=parse_count(value["index"]),
        position=position,
        line_hash=parse_hash(value["line"]),
        transition=parse_transition({**members, "key": keys[number]}),
    )


def _event(value: Any, nodes: tuple[bytes, ...]) -> ShownEvent:
    parse_members(value, "ordinal line path")
    return ShownEvent(
        parse_count(value["ordinal"]),
        canonical.format(value["line"]),
        parse_path(value["path"], nodes),
    )


def _registration(value: Any, nodes: tuple[bytes, ...]) -> Registration:
    parse_members(value, "index time signatures path")
    signatures = parse_text(value["signatures"]).encode()
    path = parse_path(value["path"], nodes)
    return Registration(parse_count(value["index"]), parse_text(value["time"]), signatures, path)


def parse_shown(value: Any, nodes: tuple[bytes, ...]) -> Shown:
    """What `shown_members` made."""
    parse_members(value, "index data path")
    data = canonical.format(value["data"])
    return Shown(parse_count(value["index"]), data, parse_path(value["path"], nodes))


def _since(value: Any, nodes: tuple[bytes, ...]) -> Since:
    parse_members(value, "size path")
    return Since(parse_count(value["size"]), parse_path(value["path"], nodes))


def parse_nodes(value: Any) -> tuple[bytes, ...]:
    """What `Nodes.text` made."""
    joined = decode_base64(parse_text(value), "malformed-evidence")
    nodes = tuple(joined[n : n + 32] for n in range(0, len(joined), 32))
    if len(joined) % 32 or len(set(nodes)) != len(nodes):
        raise Malformed("malformed-evidence", "nodes are of 32 bytes, and none stands twice")
    return nodes


def parse_bucket(value: Any, nodes: tuple[bytes, ...]) -> Membership:
    """What `bucket_members` made."""
    part = None
    if type(value) is dict and "count" in value:
        parse_members(value, "pairs path count first paths")
        paths = tuple(parse_path(path, nodes) for path in parse_list(value["paths"]))
        part = Part(parse_count(value["count"]), parse_count(value["first"]), paths)
    else:
        parse_members(value, "pairs path")
    pairs = decode_base64(parse_text(value["pairs"]), "malformed-evidence")
    return Membership(pairs, parse_path(value["path"], nodes), part)


def parse_path(value: Any, nodes: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The hashes that a list of numbers of nodes means."""
    numbers = [parse_count(number) for number in parse_list(value)]
    if len(numbers) > MAX_PATH or any(number >= len(nodes) for number in numbers):
        raise Malformed("malformed-evidence", "a path is at most 63 numbers of nodes")
    return tuple(nodes[number] for number in numbers)


def parse_members(value: Any, names: str) -> Mapping[str, Any]:
    """An object of exactly these members, named in one string."""
    if type(value) is not dict or value.keys() != set(names.split()):
        raise Malformed("malformed-evidence", f"the members here are: {names}")
    return value


def parse_list(value: Any) -> Iterator[Any]:
    """The elements of a list."""
    if type(value) is not list:
        raise Malformed("malformed-evidence", "a list is expected")
    return iter(value)


def parse_text(value: Any) -> str:
    """A string."""
    if type(value) is not str:
        raise Malformed("malformed-evidence", "a string is expected")
    return value


def parse_count(value: Any) -> int:
    """A number from 0."""
    if type(value) is not int or value < 0:
        raise Malformed("malformed-evidence", "a number from 0 is expected")
    return value


def parse_hash(value: Any) -> bytes:
    """The 32 bytes of a base64 hash."""
    return decode_hash(parse_text(value), "malformed-evidence")
