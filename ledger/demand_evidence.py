"""Evidence of what a public service demanded, from when until when: made here, checked offline.

The registry's record under the checkpoint names the root of every version of the catalogue and the
log index from which it held; the service's leaf leads to that root; the entries at these indexes
say the ledger times (FORMATS.md, section 17).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import canonical, merkle, times
from .catalogue import Catalogue, prove_service
from .checking import check_records, judge_checkpoint, read_status_entry
from .checkpoint import Checkpoint, parse_checkpoint
from .entry import REGISTRY, parse_entry
from .errors import LedgerError, Malformed, ProofError, Refused, Unavailable
from .evidence import Beginning, Shown, parse_count, parse_list, parse_members, parse_text
from .note import decode_hash, parse_note
from .proving import Source, show_beginning, show_entry
from .records import parse_record
from .trust import Trust
from .verdict import PASSED

FORM = "certledger demand evidence v1"
MAX_DEMAND_EVIDENCE = 8 * 1024 * 1024
_KIND = "public_service"


@dataclass(frozen=True, slots=True)
class DemandEvidence:
    """A parsed file; of its claims nothing is proven yet."""

    origin: str
    catalogue: str  # DEPARTMENT/CODE
    version: int
    service: Shown  # in the catalogue's tree
    registry_size: int
    record: Shown
    entries: tuple[Shown, ...]  # that published this version and, where there is one, the next
    genesis: Beginning
    status: Shown  # the checkpoint's last leaf
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Demanded:
    """What is proven: the service as the catalogue had it, and the ledger times in between."""

    catalogue: str
    version: int
    service: dict[str, Any]
    since: int
    until: int | None  # None: it holds under this checkpoint
    tree_size: int
    ledger_time: int  # of the checkpoint's status entry


def prove_demand(source: Source, catalogue: Catalogue, service: str) -> DemandEvidence:
    """Evidence of what a service demanded by a published catalogue; Refused `unknown-service`,
    `unknown-catalogue`.
    """
    if service not in catalogue.services:
        raise Refused("unknown-service", f"the catalogue has no service {service[:128]!r}")
    records = source.records()
    record = records.show(catalogue.record_name)
    value = records.value(catalogue.record_name)
    if record is None or value is None or len(value["versions"]) < catalogue.version:
        raise Refused("unknown-catalogue", f"{catalogue.record_name} is not published")
    held = value["versions"][catalogue.version - 1 :][:2]
    return DemandEvidence(
        origin=source.origin,
        catalogue=catalogue.record_name.removeprefix("catalogue/"),
        version=catalogue.version,
        service=_shown(*prove_service(catalogue, service)),
        registry_size=len(records.leaves),
        record=record,
        entries=tuple(show_entry(source, item["from"]) for item in held),
        genesis=show_beginning(source),
        status=show_entry(source, source.size - 1),
        checkpoint=source.checkpoint,
    )


def _shown(index: int, leaf: bytes, path: Sequence[bytes]) -> Shown:
    return Shown(index, leaf, tuple(path))


def check_demand(evidence: DemandEvidence, trust: Trust) -> Demanded:
    """What the evidence proves under a trust file; ProofError or Unavailable where it proves
    nothing.
    """
    try:
        return _check(evidence, trust)
    except Malformed as err:
        raise ProofError("evidence-refused", err.message) from err


def _check(evidence: DemandEvidence, trust: Trust) -> Demanded:
    judged = judge_checkpoint(
        evidence.origin, evidence.checkpoint, evidence.genesis, evidence.status, trust
    )
    if judged.result != PASSED:
        raise Unavailable("signature-unsupported", judged.why)
    checkpoint = parse_checkpoint(evidence.checkpoint)[0]
    status = read_status_entry(evidence.status, checkpoint)
    check_records((evidence.record,), evidence.registry_size, status)
    record = parse_record(evidence.record.data)
    name = f"catalogue/{evidence.catalogue}"
    if record["name"] != name:
        raise ProofError("proof-failed", f"the record shown is not that of {name}")
    held = record["value"]["versions"][evidence.version - 1 :][:2]
    if not held or held[0]["version"] != evidence.version:
        raise ProofError("proof-failed", f"the registry names no version {evidence.version}")
    if len(evidence.entries) != len(held):
        raise ProofError("proof-failed", f"{len(held)} entries bound the time that it held")
    shown = evidence.service
    merkle.check_inclusion(
        merkle.leaf_hash(shown.data),
        shown.index,
        held[0]["size"],
        shown.path,
        bytes.fromhex(held[0]["root"]),
    )
    said = canonical.parse(shown.data, MAX_DEMAND_EVIDENCE)
    if type(said) is not list or len(said) != 2 or said[0] != _KIND:
        raise ProofError("proof-failed", "the leaf shown is no public service")
    moments = [
        _published(entry, item, name, checkpoint)
        for entry, item in zip(evidence.entries, held, strict=True)
    ]
    return Demanded(
        catalogue=evidence.catalogue,
        version=evidence.version,
        service=said[1],
        since=moments[0],
        until=moments[1] if len(moments) > 1 else None,
        tree_size=checkpoint.size,
        ledger_time=times.parse_moment(status["time"]),
    )


def _published(shown: Shown, item: dict[str, Any], name: str, checkpoint: Checkpoint) -> int:
    """The ledger time of the entry that published a version."""
    leaf = merkle.leaf_hash(shown.data)
    merkle.check_inclusion(leaf, shown.index, checkpoint.size, shown.path, checkpoint.root)
    entry = parse_entry(shown.data)
    lines = parse_note(entry["note"].encode()).text.decode().split("\n") if "note" in entry else []
    change = {member: item[member] for member in ("version", "root", "size")}
    if (
        shown.index != item["from"]
        or entry["kind"] != REGISTRY
        or len(lines) != 5
        or lines[0] != f"{checkpoint.origin}/registry/{name}"
        or lines[3].encode() != canonical.format(change)
    ):
        raise ProofError("proof-failed", f"entry {shown.index} did not publish this version")
    return times.parse_moment(entry["time"])


# --- the file ---


def format_demand_evidence(evidence: DemandEvidence) -> bytes:
    """The file's bytes."""
    return canonical.format(
        {
            "format": FORM,
            "origin": evidence.origin,
            "catalogue": evidence.catalogue,
            "version": evidence.version,
            "service": _print_shown(evidence.service),
            "registry_size": evidence.registry_size,
            "record": _print_shown(evidence.record),
            "entries": [_print_shown(entry) for entry in evidence.entries],
            "genesis": {
                "leaf_hash": _base64(evidence.genesis.leaf_hash),
                "path": [_base64(value) for value in evidence.genesis.path],
            },
            "status": _print_shown(evidence.status),
            "checkpoint": evidence.checkpoint.decode(),
        }
    )


def parse_demand_evidence(data: bytes) -> DemandEvidence:
    """The evidence in `data`, which must be what `format_demand_evidence` prints, a newline at its
    end allowed; Malformed `malformed-evidence` otherwise.
    """
    data = data.removesuffix(b"\n")
    try:
        evidence = _parse(canonical.parse(data, MAX_DEMAND_EVIDENCE))
    except LedgerError as err:
        raise Malformed("malformed-evidence", err.message) from err
    if format_demand_evidence(evidence) != data:
        raise Malformed("malformed-evidence", "not printed as a demand evidence file is")
    return evidence


def _parse(value: Any) -> DemandEvidence:
    if type(value) is not dict or value.get("format") != FORM:
        raise Malformed("malformed-evidence", f"a demand evidence file says format {FORM!r}")
    parse_members(
        value,
        "format origin catalogue version service registry_size record entries genesis status "
        "checkpoint",
    )
    genesis = parse_members(value["genesis"], "leaf_hash path")
    version = parse_count(value["version"])
    if version == 0:
        raise Malformed("malformed-evidence", "versions are counted from 1")
    return DemandEvidence(
        origin=parse_text(value["origin"]),
        catalogue=parse_text(value["catalogue"]),
        version=version,
        service=_parse_shown(value["service"]),
        registry_size=parse_count(value["registry_size"]),
        record=_parse_shown(value["record"]),
        entries=tuple(_parse_shown(entry) for entry in parse_list(value["entries"])),
        genesis=Beginning(
            decode_hash(parse_text(genesis["leaf_hash"])), _parse_path(genesis["path"])
        ),
        status=_parse_shown(value["status"]),
        checkpoint=parse_text(value["checkpoint"]).encode(),
    )


def _print_shown(shown: Shown) -> dict[str, Any]:
    return {
        "index": shown.index,
        "data": shown.data.decode(),
        "path": [_base64(value) for value in shown.path],
    }


def _parse_shown(value: Any) -> Shown:
    parse_members(value, "index data path")
    return Shown(
        parse_count(value["index"]), parse_text(value["data"]).encode(), _parse_path(value["path"])
    )


def _parse_path(value: Any) -> tuple[bytes, ...]:
    return tuple(decode_hash(parse_text(item)) for item in parse_list(value))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
