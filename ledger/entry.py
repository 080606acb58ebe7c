"""Log entries: what the log commits. Canonical JSON of at most 65,535 bytes, one form per kind.

An entry never holds certificate content. Being in the log is not being admitted: read the outcome.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any

from . import canonical, times
from .bundle import MAX_EVENTS
from .cosignature import parse_cosigner_key
from .errors import LedgerError, Malformed
from .note import parse_vkey
from .statusmap import CERTIFICATES, HOLDERS, MAX_K, MapHead

FORM = "certledger entry v1"
MAX_ENTRY = 65_535
ADMITTED = "admitted"
BLINDING_TAG = b"certledger blinding v1\n"
HOLDERS_TAG = b"certledger holders v1\n"
GENESIS, BUNDLE, REGISTRY, STATUS, EQUIVOCATION = (
    "genesis",
    "bundle",
    "registry",
    "status",
    "equivocation",
)
_HASH = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z][a-z-]{0,62}[a-z]")
_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{22}")

_MEMBERS: dict[str, frozenset[str]] = {
    GENESIS: frozenset({"origin", "checkpoint_vkey", "operator_vkey"}),
    BUNDLE: frozenset({"note", "outcome", "source", "certificates", "holders"}),
    REGISTRY: frozenset({"note"}),
    STATUS: frozenset({"reflects", "registry_root"}),  # and _MAPS, both or neither
    EQUIVOCATION: frozenset({"note", "source", "conflicts_with"}),
}


_MAPS = {CERTIFICATES: "certificates_map", HOLDERS: "holders_map"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a bundle was read: topic id (KIP-516, 22 characters), partition, offset."""

    topic_id: str
    partition: int
    offset: int

    def members(self) -> dict[str, Any]:
        return {"topic_id": self.topic_id, "partition": self.partition, "offset": self.offset}


def format_genesis(
    origin: str,
    checkpoint_vkey: str,
    operator_vkey: str,
    time: str,
    cosigner_vkey: str | None = None,
) -> bytes:
    """Entry 0: who signs and cosigns checkpoints, and who may change the registry at first."""
    cosigner = {} if cosigner_vkey is None else {"cosigner_vkey": cosigner_vkey}
    return _format(
        GENESIS,
        time,
        origin=origin,
        checkpoint_vkey=checkpoint_vkey,
        operator_vkey=operator_vkey,
        **cosigner,
    )


def format_bundle(
    note: bytes,
    outcome: Mapping[str, Sequence[int]],
    source: Source,
    time: str,
    certificates_root: bytes,
    holders_root: bytes,
    dump: canonical.Dump = canonical.encode,
) -> bytes:
    """The entry of a logged bundle. `outcome`: code to a flat list start, length, start, length…;
    the roots are over the ascending lists of (map key, record hash after this bundle), that of the
    holders blinded. `dump` is that of `canonical.format_typed`.
    """
    value = {
        "format": FORM,
        "kind": BUNDLE,
        "time": time,
        "note": note.decode(),
        "outcome": {code: list(runs) for code, runs in outcome.items()},
        "source": source.members(),
        "certificates": certificates_root.hex(),
        "holders": holders_root.hex(),
    }
    return _check_size(canonical.format_typed(value, dump))


def make_blinding(secret: bytes, note_hash: bytes) -> bytes:
    """What blinds the holders' delta root of the bundle with this note, from the ledger's secret.

    It goes with the list and to nobody else. Derived, so that a ledger replayed from its log and
    its lines has the same entries.
    """
    return hmac.digest(secret, BLINDING_TAG + note_hash, "sha256")


def blind(blinding: bytes, root: bytes) -> bytes:
    """What an entry says of the holders' delta list: nothing to whoever has no blinding."""
    return sha256(HOLDERS_TAG + blinding + root).digest()


def format_registry(note: bytes, time: str) -> bytes:
    """The entry of a registry change: the note with all its signatures."""
    return _format(REGISTRY, time, note=note.decode())


def format_equivocation(note: bytes, source: Source, conflicts_with: int, time: str) -> bytes:
    """The entry that keeps the second note signed for one lane number; the first is at
    `conflicts_with`.
    """
    return _format(
        EQUIVOCATION,
        time,
        note=note.decode(),
        source=source.members(),
        conflicts_with=conflicts_with,
    )


def format_status(
    reflects: int,
    registry_root: bytes,
    time: str,
    maps: Mapping[bytes, MapHead] | None = None,
) -> bytes:
    """The entry that says what the ledger's state is after entries 0 to `reflects` - 1: its
    registry, and with `maps` the certificates' and the holders' status map.
    """
    members = {} if maps is None else {
        name: {"k": maps[kind].k, "root": maps[kind].root.hex()} for kind, name in _MAPS.items()
    }  # fmt: skip
    return _format(STATUS, time, reflects=reflects, registry_root=registry_root.hex(), **members)


def _format(kind: str, time: str, **members: Any) -> bytes:
    return _check_size(canonical.format({"format": FORM, "kind": kind, "time": time, **members}))


def _check_size(data: bytes) -> bytes:
    if len(data) > MAX_ENTRY:
        raise Malformed("too-large", f"an entry of {len(data)} bytes, at most {MAX_ENTRY}")
    return data


def parse_entry(
    data: bytes,
    load: Callable[[bytes], Any] = canonical.loads,
    dump: canonical.Dump = canonical.encode,
) -> dict[str, Any]:
    """The members of an entry, every one checked for its form; Malformed otherwise. `load` and
    `dump` are those of `canonical.parse_typed`.
    """
    try:
        value = canonical.parse(data, MAX_ENTRY, load, dump)
        _check(value)
    except LedgerError as err:
        raise Malformed("malformed-entry", err.message) from err
    return dict(value)


def map_heads(status: Mapping[str, Any]) -> dict[bytes, MapHead] | None:
    """What a parsed status entry says of the maps by kind; None when it carries none."""
    if _MAPS[CERTIFICATES] not in status:
        return None
    return {
        kind: MapHead(status[name]["k"], bytes.fromhex(status[name]["root"]))
        for kind, name in _MAPS.items()
    }


def _check(value: Any) -> None:
    if type(value) is not dict or value.get("format") != FORM:
        raise Malformed("malformed-entry", f"an entry says format {FORM!r}")
    members = _MEMBERS.get(value["kind"]) if type(value.get("kind")) is str else None
    if value.get("kind") == STATUS and members is not None and "holders_map" in value:
        members = members.union(_MAPS.values())
    if value.get("kind") == GENESIS and "cosigner_vkey" in value:
        members = members and members | {"cosigner_vkey"}  # ledgers without one are readable
    if members is None or value.keys() != members | {"format", "kind", "time"}:
        raise Malformed("malformed-entry", "not the members of an entry of this kind")
    for name, member in value.items():
        check = _CHECKS.get(name)
        if check is None:
            if type(member) is not str:
                raise Malformed("malformed-entry", f"{name} is a string")
        elif not check(member):
            raise Malformed("malformed-entry", f"{name} is not of its form")
    times.parse_moment(value["time"])
    if not value["time"].endswith("Z"):
        raise Malformed("malformed-entry", "the ledger time is in UTC, ending in Z")
    if value["kind"] == GENESIS:
        parse_vkey(value["checkpoint_vkey"])
        parse_vkey(value["operator_vkey"])
        if "cosigner_vkey" in value:
            parse_cosigner_key(value["cosigner_vkey"])


def _is_source(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == {"topic_id", "partition", "offset"}
        and type(value["topic_id"]) is str
        and bool(_TOPIC_ID.fullmatch(value["topic_id"]))
        and _is_count(value["partition"])
        and _is_count(value["offset"])
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_hash(value: Any) -> bool:
    return type(value) is str and bool(_HASH.fullmatch(value))


def _is_map(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() == {"k", "root"}
        and _is_count(value["k"])
        and value["k"] <= MAX_K
        and _is_hash(value["root"])
    )


def _is_outcome(value: Any) -> bool:
    """Whether the runs cover positions 0 to some count - 1, each once, in their only spelling.

    A code need not be one of ours: an older verifier must be able to read newer refusals.
    """
    if type(value) is not dict:
        return False
    spans: list[tuple[int, int, str]] = []
    for code, runs in value.items():
        if not _CODE.fullmatch(code) or type(runs) is not list or len(runs) % 2 or not runs:
            return False
        if not all(_is_count(n) for n in runs):
            return False
        pairs = list(zip(runs[::2], runs[1::2], strict=True))
        if pairs != sorted(pairs):
            return False
        spans += ((start, length, code) for start, length in pairs)
    covered, last = 0, ""
    for start, length, code in sorted(spans):
        if start != covered or length < 1 or code == last:
            return False
        covered, last = covered + length, code
    return covered <= MAX_EVENTS


_CHECKS = {
    "outcome": _is_outcome,
    "source": _is_source,
    "certificates": _is_hash,
    "holders": _is_hash,
    "registry_root": _is_hash,
    "reflects": _is_count,
    "conflicts_with": _is_count,
    "certificates_map": _is_map,
    "holders_map": _is_map,
}


def run_lengths(codes: Iterable[str]) -> dict[str, list[int]]:
    """The outcome of a bundle whose events got these codes, in order of position."""
    outcome: dict[str, list[int]] = {}
    position = 0
    for code, run in groupby(codes):
        length = len(list(run))
        outcome.setdefault(code, []).extend((position, length))
        position += length
    return outcome


def code_at(outcome: Mapping[str, Sequence[int]], position: int) -> str | None:
    """The code of the event at `position`, None when the outcome does not cover it."""
    for code, runs in outcome.items():
        for start, length in zip(runs[::2], runs[1::2], strict=True):
            if start <= position < start + length:
                return code
    return None


def outcome_count(outcome: Mapping[str, Sequence[int]]) -> int:
    """How many events an outcome covers."""
    return sum(sum(runs[1::2]) for runs in outcome.values())
