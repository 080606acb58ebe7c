"""A small world for tests: seeded keys, a registry made by its own notes, events, producers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ledger import identity, merkle, times
from ledger.bundle import Header, bundle_key_name, format_record, note_hash, parse_record
from ledger.checkpoint_keys import TrustedKey
from ledger.event import FIELDS, format_event, make_event_id
from ledger.note import MemorySigner, sign
from ledger.registry import (
    BUNDLE_ROLE,
    NO_RECORD,
    REGISTRY_ROLE,
    Change,
    Registry,
    apply_note,
    genesis_records,
    key_name,
    note_text,
    operator_key_name,
    record_hash,
    tree_place,
)
from ledger.registry import format_record as format_registry_record
from ledger.reliance import format_reliance, hide_case, hide_clerk

ORIGIN = "ledger.example/certificates"
TYPE = "11100000000013338W011"
SERVICE = "open-restaurant"
START = times.parse_moment("2026-03-01T00:00:00Z")
ALL_ACTS = tuple(sorted(FIELDS))


def leaves(records: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """The leaves of the registry's tree in its order."""
    return [format_registry_record(r) for r in sorted(records, key=tree_place)]


def tree_root(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The registry root that a status entry carries."""
    return merkle.root([merkle.leaf_hash(leaf) for leaf in leaves(records)])


def signer(name: str, label: str = "") -> MemorySigner:
    """The key of a name; `label` tells several keys of one name apart."""
    return MemorySigner.from_seed(name, sha256(f"test key {name} {label}".encode()).digest())


CHECKPOINT = signer(ORIGIN)
CHECKPOINT_KEYS = (TrustedKey(CHECKPOINT.key, 0, None),)
OPERATOR = signer(operator_key_name(ORIGIN))


def bundle_signer(department: str, label: str = "", origin: str = ORIGIN) -> MemorySigner:
    return signer(bundle_key_name(origin, department), label)


def registry_signer(department: str, label: str = "", origin: str = ORIGIN) -> MemorySigner:
    return signer(key_name(origin, department, REGISTRY_ROLE), label)


def first_keys(origin: str) -> tuple[str, str]:
    """A ledger's checkpoint key and its operator's, as genesis names them."""
    return str(signer(origin).key), str(signer(operator_key_name(origin)).key)


def department_change(name: str, lanes: int = 1) -> dict[str, Any]:
    return {
        "names": {"zh": f"{name}市场监督管理局", "en": f"Department {name}"},
        "authority_code": "11430000006122244L",
        "time_zone": "Asia/Shanghai",
        "contact": "tel:+86-731-0000",
        "silence_limit_seconds": 86_400,
        "lanes": lanes,
    }


def type_change(grants: Sequence[tuple[str, Sequence[str], str]]) -> dict[str, Any]:
    return {
        "names": {"zh": "营业执照"},
        "code": TYPE,
        "grants": [
            {"department": department, "acts": sorted(acts), "scope": scope}
            for department, acts, scope in grants
        ],
    }


def key_change(
    key: MemorySigner, role: str, department: str, revoked: Any = False
) -> dict[str, Any]:
    return {"vkey": str(key.key), "role": role, "department": department, "revoked": revoked}


def first_registry(origin: str) -> Registry:
    """What genesis says."""
    return Registry(origin, genesis_records(origin, *first_keys(origin)))


@dataclass
class Book:
    """A registry that grows by notes, one log index each; `notes` keeps what changed it."""

    registry: Registry = field(default_factory=lambda: first_registry(ORIGIN))
    index: int = 1
    notes: list[bytes] = field(default_factory=list)
    now: int = START

    @property
    def origin(self) -> str:
        return self.registry.origin

    @property
    def operator(self) -> MemorySigner:
        return signer(operator_key_name(self.origin))

    def note(self, name: str, change: Mapping[str, Any], *signers: MemorySigner) -> bytes:
        """The signed note that changes a record as it now stands."""
        current = self.registry.records.get(name)
        replaces = NO_RECORD if current is None else record_hash(current)
        return sign(note_text(self.origin, name, replaces, change), signers)

    def change(self, name: str, change: Mapping[str, Any], *signers: MemorySigner) -> Change:
        """Apply a note that must be accepted."""
        note = self.note(name, change, *signers)
        done = apply_note(self.registry, note, self.index, self.now)
        assert done is not None
        changed = {record["name"]: record for record in done.records}
        self.registry = Registry(self.origin, {**self.registry.records, **changed})
        self.notes.append(note)
        self.index += 1
        return done

    def add_department(self, name: str, lanes: int = 1) -> None:
        """A department with its first registry key and its first bundle key."""
        self.change(f"department/{name}", department_change(name, lanes), self.operator)
        owner = registry_signer(name, origin=self.origin)
        bundler = bundle_signer(name, origin=self.origin)
        self.change(
            f"key/{owner.key.key_id}", key_change(owner, REGISTRY_ROLE, name), self.operator, owner
        )
        self.change(
            f"key/{bundler.key.key_id}", key_change(bundler, BUNDLE_ROLE, name), owner, bundler
        )

    def set_service(self, name: str, *offices: str) -> None:
        """A service with the offices that offer it."""
        change = {"names": {"zh": "开办餐饮店"}, "offices": sorted(offices)}
        self.change(f"service/{name}", change, self.operator)

    def set_type(self, grants: Sequence[tuple[str, Sequence[str], str]], name: str = TYPE) -> None:
        self.change(f"type/{name}", type_change(grants), self.operator)


def make_event(
    kind: str,
    number: str,
    *,
    issuer: str = "a",
    time: str = "2026-03-01T08:00:00+08:00",
    change: str = "1",
    type_code: str = TYPE,
    event_id: str | None = None,
    **data: Any,
) -> bytes:
    """A canonical event line."""
    made = make_event_id(issuer, "test/register", number, kind, change)
    return format_event(
        kind=kind,
        event_id=made if event_id is None else event_id,
        source="test/register",
        time=time,
        recordedtime=None,
        data={
            "certificate_type_code": type_code,
            "issuing_authority_code": issuer,
            "certificate_number": number,
            **data,
        },
    )


def make_reliance(
    kind: str,
    case: str,
    *numbers: str,
    office: str = "office",
    service: str = SERVICE,
    change: str = "1",
    reliance_id: str | None = None,
    versions: Sequence[int] = (),
    **data: Any,
) -> bytes:
    """A canonical reliance line; `data` must name the tree size of `relied`."""
    key = sha256(f"test event ids {office}".encode()).digest()
    if kind == "relied":
        keys = sorted(
            (identity.certificate_key(TYPE, "a", number), version)
            for number, version in zip(numbers, versions or [1] * len(numbers), strict=True)
        )
        data = {
            "certificates": [{"map_key": k.hex(), "version": version} for k, version in keys],
            "clerk": hide_clerk(key, "ann"),
            "lasts": "decision",
            "use_for": "licence-application",
            **data,
        }
    made = sha256(f"{office}/{service}/{case}/{kind}/{change}".encode()).hexdigest()[:32]
    return format_reliance(
        kind=kind,
        reliance_id=made if reliance_id is None else reliance_id,
        source=f"/departments/{office}",
        time="2026-03-01T08:00:00+08:00",
        data={"office": office, "service": service, "case": hide_case(key, service, case), **data},
    )


def make_note(header: Header, *signers: MemorySigner) -> bytes:
    return sign(header.text(), signers or [bundle_signer(header.department, origin=header.origin)])


def make_header(lines: Sequence[bytes], **members: Any) -> Header:
    """A header over `lines`; what is not given is that of a first bundle of lane a/0."""
    given: dict[str, Any] = {
        "origin": ORIGIN,
        "department": "a",
        "lane": 0,
        "epoch": 0,
        "sequence": 0,
        "count": len(lines),
        "root": merkle.root([merkle.leaf_hash(line) for line in lines]),
        "producer": "0" * 32,
        "previous": bytes(32),
        "signed_at": times.format_moment(START),
        **members,
    }
    return Header(**given)


def make_record(lines: Sequence[bytes], **members: Any) -> bytes:
    return format_record(make_note(make_header(lines, **members)), lines)


@dataclass
class Producer:
    """A department's SDK on one lane: numbers its bundles and keeps all of them in its spool."""

    department: str
    lane: int
    previous: bytes
    producer: str
    epoch: int = 0
    sequence: int = 0
    origin: str = ORIGIN
    spool: list[bytes] = field(default_factory=list)
    note_hashes: list[bytes] = field(default_factory=list)
    signer: MemorySigner | None = None  # left out: the department's first key

    def resign(self, signer: MemorySigner) -> None:
        """Sign with another key from now on, and what is spooled, too."""
        self.signer = signer
        bundles = [parse_record(record) for record in self.spool]
        self.spool = [format_record(make_note(b.header, signer), b.lines) for b in bundles]

    def make(self, lines: Sequence[bytes], now: int) -> bytes:
        """The next record of the lane, spooled."""
        header = self.header(lines, now)
        record = format_record(make_note(header, *filter(None, [self.signer])), lines)
        self.previous = note_hash(header.text())
        self.note_hashes.append(self.previous)
        self.sequence += 1
        self.spool.append(record)
        return record

    def header(self, lines: Sequence[bytes], now: int, **members: Any) -> Header:
        return make_header(
            lines,
            origin=self.origin,
            department=self.department,
            lane=self.lane,
            epoch=members.get("epoch", self.epoch),
            sequence=members.get("sequence", self.sequence),
            producer=self.producer,
            previous=members.get("previous", self.previous),
            signed_at=times.format_moment(now),
        )


def lane_of(department: str, number: str, registry: Registry, issuer: str = "a") -> int:
    key = identity.certificate_key(TYPE, issuer, number)
    return identity.lane_of(key, registry.lanes(department))
