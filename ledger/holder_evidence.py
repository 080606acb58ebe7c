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
    CertificateId,
    Nodes,
    Shown,
    bucket_members,
    parse_bucket,
    parse_certificate,
    parse_count,
    parse_hash,
    parse_list,
    parse_members,
    parse_nodes,
    parse_shown,
    parse_text,
    shown_members,
)
from .question import format_instant
from .statusmap import Membership

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
    nodes = Nodes()
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
            "bucket": bucket_members(held.membership, nodes),
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
        "records": [shown_members(record, nodes) for record in evidence.records],
        "genesis": shown_members(evidence.genesis, nodes),
        "status": shown_members(evidence.status, nodes),
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
    nodes = parse_nodes(value["nodes"])
    certificates: dict[bytes, CertificateId] = {}
    keys: list[bytes] = []
    for item in parse_list(value["certificates"]):
        if type(item) is str:
            keys.append(parse_hash(item))
        else:
            certificate = parse_certificate(item)
            keys.append(certificate.key)
            certificates[certificate.key] = certificate
    pseudonyms = tuple(_held(item, keys, nodes) for item in parse_list(value["pseudonyms"]))
    records = tuple(parse_shown(record, nodes) for record in parse_list(value["records"]))
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
        genesis=parse_shown(value["genesis"], nodes),
        status=parse_shown(value["status"], nodes),
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
        parse_bucket(value["bucket"], nodes),
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
