"""The holder evidence file, `certledger holder evidence v1`: everything a holder has, to be checked
with nothing but the trust file.

Canonical JSON in the ways of `evidence`. Nothing in a parsed file is proven yet:
`holder_checking.check_holder` does that. FORMATS.md, section 15.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from . import canonical, identity, times
from .bundle import MAX_EVENTS as MAX_BUNDLE_EVENTS
from .errors import LedgerError, Malformed
from .evidence import (
    MAX_PATH,
    CertificateId,
    Shown,
    parse_certificate,
    parse_count,
    parse_list,
    parse_members,
    parse_text,
)
from .note import decode_base64, decode_hash
from .question import format_instant
from .statusmap import Membership, Part

FORM = "certledger holder evidence v1"
MAX_HOLDER_EVIDENCE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Act:
    """A certificate bound to the pseudonym or unbound from it, by the event at this place."""

    index: int
    position: int
    certificate: bytes  # map key
    bound: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A pseudonym with all its acts in log order, and what the holders' map says of it."""

    pseudonym: str
    acts: tuple[Act, ...]
    membership: Membership

    @property
    def version(self) -> int:
        """The version of the secret that made the pseudonym."""
        return identity.parse_pseudonym(self.pseudonym)[0]

    @property
    def bound(self) -> tuple[bytes, ...]:
        """The map keys of what is bound after all acts, in the order of binding."""
        found: dict[bytes, None] = {}
        for act in self.acts:
            if act.bound:
                found[act.certificate] = None
            else:
                found.pop(act.certificate, None)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class HolderEvidence:
    """A parsed holder evidence file; of its claims nothing is proven yet."""

    origin: str
    asked_at: int
    pseudonyms: tuple[Held, ...]  # ascending versions
    certificates: Mapping[bytes, CertificateId]  # by map key: what is still bound
    registry_size: int
    records: tuple[Shown, ...]  # ascending places in the registry's tree
    genesis: Shown  # entry 0
    status: Shown  # the checkpoint's last leaf
    checkpoint: bytes


def is_holder_evidence(data: bytes) -> bool:
    """Whether the bytes say that they are a holder evidence file. Inside a text the quotes would
    be escaped.
    """
    return f'"format":"{FORM}"'.encode() in data


def format_holder_evidence(evidence: HolderEvidence) -> bytes:
    """The file's bytes."""
    nodes = _Nodes()
    keys: dict[bytes, int] = {}
    pseudonyms = [
        {
            "pseudonym": held.pseudonym,
            "acts": [
                {
                    "index": act.index,
                    "position": act.position,
                    "certificate": keys.setdefault(act.certificate, len(keys)),
                    "bound": act.bound,
                }
                for act in held.acts
            ],
            "bucket": _bucket_members(held.membership, nodes),
        }
        for held in evidence.pseudonyms
    ]
    value = {
        "format": FORM,
        "origin": evidence.origin,
        "asked_at": format_instant(evidence.asked_at),
        "certificates": [_certificate(evidence.certificates.get(key), key) for key in keys],
        "pseudonyms": pseudonyms,
        "registry_size": evidence.registry_size,
        "records": [_shown_members(record, nodes) for record in evidence.records],
        "genesis": _shown_members(evidence.genesis, nodes),
        "status": _shown_members(evidence.status, nodes),
        "checkpoint": evidence.checkpoint.decode(),
        "nodes": nodes.text(),
    }
    return canonical.format(value)


def _certificate(certificate: CertificateId | None, key: bytes) -> Any:
    return base64.b64encode(key).decode() if certificate is None else certificate.members()


def parse_holder_evidence(data: bytes) -> HolderEvidence:
    """The evidence in `data`, which must be what `format_holder_evidence` prints, a newline at its
    end allowed; Malformed `malformed-evidence` otherwise.
    """
    data = data.removesuffix(b"\n")
    try:
        evidence = _evidence(canonical.parse(data, MAX_HOLDER_EVIDENCE))
    except LedgerError as err:
        raise Malformed("malformed-evidence", err.message) from err
    if format_holder_evidence(evidence) != data:
        raise Malformed("malformed-evidence", "not printed as a holder evidence file is")
    return evidence


def _evidence(value: Any) -> HolderEvidence:
    if type(value) is not dict or value.get("format") != FORM:
        raise Malformed("malformed-evidence", f"a holder evidence file says format {FORM!r}")
    parse_members(
        value,
        "format origin asked_at certificates pseudonyms registry_size records genesis status "
        "checkpoint nodes",
    )
    nodes = _parse_nodes(value["nodes"])
    certificates: dict[bytes, CertificateId] = {}
    keys: list[bytes] = []
    for item in parse_list(value["certificates"]):
        if type(item) is str:
            keys.append(_parse_hash(item))
        else:
            certificate = parse_certificate(item)
            keys.append(certificate.key)
            certificates[certificate.key] = certificate
    pseudonyms = tuple(_held(item, keys, nodes) for item in parse_list(value["pseudonyms"]))
    records = tuple(_parse_shown(record, nodes) for record in parse_list(value["records"]))
    if not pseudonyms:
        raise Malformed("malformed-evidence", "a holder has at least one pseudonym")
    _check_ascending(held.version for held in pseudonyms)
    _check_ascending(record.index for record in records)
    if len(set(keys)) != len(keys):
        raise Malformed("malformed-evidence", "a certificate stands twice")
    return HolderEvidence(
        origin=parse_text(value["origin"]),
        asked_at=times.parse_moment(parse_text(value["asked_at"])),
        pseudonyms=pseudonyms,
        certificates=certificates,
        registry_size=parse_count(value["registry_size"]),
        records=records,
        genesis=_parse_shown(value["genesis"], nodes),
        status=_parse_shown(value["status"], nodes),
        checkpoint=parse_text(value["checkpoint"]).encode(),
    )


def _check_ascending(numbers: Iterable[int]) -> None:
    if any(a >= b for a, b in pairwise(numbers)):
        raise Malformed("malformed-evidence", "pseudonyms and records are ascending")


def _held(value: Any, keys: list[bytes], nodes: tuple[bytes, ...]) -> Held:
    parse_members(value, "pseudonym acts bucket")
    identity.parse_pseudonym(parse_text(value["pseudonym"]))
    return Held(
        value["pseudonym"],
        tuple(_act(act, keys) for act in parse_list(value["acts"])),
        _parse_bucket(value["bucket"], nodes),
    )


def _act(value: Any, keys: list[bytes]) -> Act:
    parse_members(value, "index position certificate bound")
    number, position = parse_count(value["certificate"]), parse_count(value["position"])
    if number >= len(keys):
        raise Malformed("malformed-evidence", "an act names no certificate of the list")
    if position >= MAX_BUNDLE_EVENTS:
        raise Malformed("malformed-evidence", f"a bundle has at most {MAX_BUNDLE_EVENTS} events")
    if type(value["bound"]) is not bool:
        raise Malformed("malformed-evidence", "bound is true or false")
    return Act(parse_count(value["index"]), position, keys[number], value["bound"])


# --- leaves and proofs, whose hashes stand once in `nodes`, in the order of their first use ---


class _Nodes:
    """Hashes by their number, in the order of first use."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}

    def path(self, hashes: Iterable[bytes]) -> list[int]:
        """A path as numbers of nodes."""
        return [self.numbers.setdefault(value, len(self.numbers)) for value in hashes]

    def text(self) -> str:
        """All nodes, joined."""
        return base64.b64encode(b"".join(self.numbers)).decode()


def _shown_members(shown: Shown, nodes: _Nodes) -> dict[str, Any]:
    """A leaf with its path, as a file has it."""
    data = canonical.loads(shown.data)
    return {"index": shown.index, "data": data, "path": nodes.path(shown.path)}


def _bucket_members(bucket: Membership, nodes: _Nodes) -> dict[str, Any]:
    """What a status map says of a key, as a file has it."""
    pairs = base64.b64encode(bucket.bucket).decode()
    value: dict[str, Any] = {"pairs": pairs, "path": nodes.path(bucket.path)}
    if bucket.part is not None:
        value["count"], value["first"] = bucket.part.count, bucket.part.first
        value["paths"] = [nodes.path(path) for path in bucket.part.paths]
    return value


def _parse_shown(value: Any, nodes: tuple[bytes, ...]) -> Shown:
    """What `shown_members` made."""
    parse_members(value, "index data path")
    data = canonical.format(value["data"])
    return Shown(parse_count(value["index"]), data, _parse_path(value["path"], nodes))


def _parse_nodes(value: Any) -> tuple[bytes, ...]:
    """What `Nodes.text` made."""
    joined = decode_base64(parse_text(value), "malformed-evidence")
    nodes = tuple(joined[n : n + 32] for n in range(0, len(joined), 32))
    if len(joined) % 32 or len(set(nodes)) != len(nodes):
        raise Malformed("malformed-evidence", "nodes are of 32 bytes, and none stands twice")
    return nodes


def _parse_bucket(value: Any, nodes: tuple[bytes, ...]) -> Membership:
    """What `bucket_members` made."""
    part = None
    if type(value) is dict and "count" in value:
        parse_members(value, "pairs path count first paths")
        paths = tuple(_parse_path(path, nodes) for path in parse_list(value["paths"]))
        part = Part(parse_count(value["count"]), parse_count(value["first"]), paths)
    else:
        parse_members(value, "pairs path")
    pairs = decode_base64(parse_text(value["pairs"]), "malformed-evidence")
    return Membership(pairs, _parse_path(value["path"], nodes), part)


def _parse_path(value: Any, nodes: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The hashes that a list of numbers of nodes means."""
    numbers = [parse_count(number) for number in parse_list(value)]
    if len(numbers) > MAX_PATH or any(number >= len(nodes) for number in numbers):
        raise Malformed("malformed-evidence", "a path is at most 63 numbers of nodes")
    return tuple(nodes[number] for number in numbers)


def _parse_hash(value: Any) -> bytes:
    """The 32 bytes of a base64 hash."""
    return decode_hash(parse_text(value), "malformed-evidence")
