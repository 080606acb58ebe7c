"""What evidence leaves out because it follows from the rest: short forms of entries and of keys'
records, and the ledger's own bytes made of them again.

Nothing is trusted for being short: what is made here is hashed and checked like bytes that came
whole, and a short form of other bytes than these makes other bytes. FORMATS.md, section 13.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import canonical, merkle
from . import entry as entries
from .bundle import FORM as BUNDLE_FORM
from .bundle import Header, parse_header
from .entry import Source
from .errors import LedgerError, Malformed
from .note import Signature, VerifierKey, format_note, format_text, parse_note
from .registry import (
    BUNDLE_ROLE,
    RECORD_FORM,
    REGISTRY_ROLE,
    format_record,
    key_name,
    note_text,
    operator_key_name,
    record_hash,
    registration_text,
)
from .statusmap import CERTIFICATES, HOLDERS, MapHead

OPERATOR = "operator"
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


def encode(data: bytes) -> str:
    """Base64 with `-` and `_`, without padding (RFC 4648 section 5)."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def decode(text: Any, size: int | None = None) -> bytes:
    """The bytes of what `encode` printed; Malformed for anything else or another size."""
    try:
        padded = text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4)
        data = binascii.a2b_base64(padded)  # takes more than is right: what that was is seen below
    except (TypeError, AttributeError, ValueError, binascii.Error) as err:
        raise Malformed("malformed-evidence", "not base64 of section 5 of RFC 4648") from err
    if encode(data) != text or (size is not None and len(data) != size):
        raise Malformed("malformed-evidence", "not the bytes that are expected here, in base64")
    return data


def encode_hashes(hashes: Sequence[bytes]) -> str:
    """Hashes, joined."""
    return encode(b"".join(hashes))


def decode_hashes(text: Any) -> list[bytes]:
    """What `encode_hashes` printed."""
    joined = decode(text)
    if len(joined) % merkle.HASH_SIZE:
        raise Malformed("malformed-evidence", "hashes are of 32 bytes")
    return [joined[n : n + merkle.HASH_SIZE] for n in range(0, len(joined), merkle.HASH_SIZE)]


# --- signatures ---


def shorten_signatures(signatures: Sequence[Signature], origin: str, department: str) -> list[str]:
    """Each as ROLE or =NAME, a space, and its bytes: the key hash and the signature."""
    names = {name: role for role, name in _names(origin, department).items()}
    return [
        f"{names.get(s.name, f'={s.name}')} {encode(s.key_hash + s.signature)}" for s in signatures
    ]


def expand_signatures(value: Any, origin: str, department: str) -> list[Signature]:
    """What `shorten_signatures` shortened."""
    names = _names(origin, department)
    if type(value) is not list or any(type(text) is not str for text in value):
        raise Malformed("malformed-evidence", "signatures are strings")
    signatures = []
    for text in value:
        who, _, rest = text.partition(" ")
        name = who[1:] if who.startswith("=") else names.get(who)
        if name is None:
            raise Malformed("malformed-evidence", f"no signature is {who[:40]!r}'s")
        raw = decode(rest)
        signatures.append(Signature(name, raw[:4], raw[4:]))
    return signatures


def _names(origin: str, department: str) -> dict[str, str]:
    roles = {role: key_name(origin, department, role) for role in (BUNDLE_ROLE, REGISTRY_ROLE)}
    return {**roles, OPERATOR: operator_key_name(origin)}


# --- entries ---


def shorten_bundle(data: bytes, origin: str) -> Mapping[str, Any]:
    """The entry of a bundle of the ledger `origin`, short; Malformed for anything else."""
    entry = canonical.loads(data)
    if entry["kind"] != entries.BUNDLE:
        raise Malformed("malformed-evidence", "no bundle's entry")
    note = parse_note(entry["note"].encode())
    header = parse_header(note.text)
    source = entry["source"]
    return {
        "note": [
            f"{header.department}/{header.lane}/{header.epoch}/{header.sequence}",
            header.count,
            encode(header.root),
            encode(bytes.fromhex(header.producer)),
            encode(header.previous),
            header.signed_at,
            *shorten_signatures(note.signatures, origin, header.department),
        ],
        "outcome": entry["outcome"],
        "source": [source["topic_id"], source["partition"], source["offset"]],
        "time": entry["time"],
        "deltas": [encode(bytes.fromhex(entry[name])) for name in ("certificates", "holders")],
    }


def expand_bundle(value: Mapping[str, Any], origin: str) -> tuple[bytes, Header]:
    """(the entry that `shorten_bundle` shortened, what its note says)."""
    said, source, deltas = value["note"], value["source"], value["deltas"]
    for found, size in ((said, 6), (source, 3), (deltas, 2)):
        if type(found) is not list or len(found) < size:
            raise Malformed("malformed-evidence", "a bundle's note, source or deltas")
    name, count, root, producer, previous, signed_at = said[:6]
    lines = [
        f"{origin}/bundle/{name}",
        BUNDLE_FORM,
        str(count),
        base64.b64encode(decode(root, 32)).decode(),
        f"{decode(producer, 16).hex()} {base64.b64encode(decode(previous, 32)).decode()}",
        str(signed_at),
    ]
    header = parse_header(format_text(lines))
    signatures = expand_signatures(said[6:], origin, header.department)
    outcome = value["outcome"]
    if type(outcome) is not dict or any(type(runs) is not list for runs in outcome.values()):
        raise Malformed("malformed-evidence", "an outcome is an object of lists")
    entry = entries.format_bundle(
        format_note(header.text(), signatures),
        outcome,
        Source(*source[:3]),
        value["time"],
        decode(deltas[0], 32),
        decode(deltas[1], 32),
    )
    return entry, header


def shorten_status(data: bytes) -> dict[str, Any]:
    """A status entry, short: at which index, which is what it reflects, goes without saying."""
    entry = canonical.loads(data)
    if entry["kind"] != entries.STATUS:
        raise Malformed("malformed-evidence", "no status entry")
    value = {
        "registry_root": encode(bytes.fromhex(entry["registry_root"])),
        "time": entry["time"],
    }
    heads = entries.map_heads(entry)
    if heads is not None:
        value["maps"] = [
            part for kind in (CERTIFICATES, HOLDERS)
            for part in (heads[kind].k, encode(heads[kind].root))
        ]  # fmt: skip
    return value


def expand_status(value: Mapping[str, Any], index: int) -> bytes:
    """The status entry that `shorten_status` shortened."""
    maps = None
    if "maps" in value:
        found = value["maps"]
        if type(found) is not list or len(found) != 4:
            raise Malformed("malformed-evidence", "the maps are k, root, k, root")
        maps = {
            CERTIFICATES: MapHead(found[0], decode(found[1], 32)),
            HOLDERS: MapHead(found[2], decode(found[3], 32)),
        }
    return entries.format_status(index, decode(value["registry_root"], 32), value["time"], maps)


# --- records ---


def shorten_record(data: bytes) -> dict[str, Any]:
    """A registry record, short."""
    record = canonical.loads(data)
    value = {name: record[name] for name in ("name", "since", "value")}
    if "note" in record:
        value["note"] = encode(bytes.fromhex(record["note"]))
    return value


def expand_record(value: Mapping[str, Any]) -> bytes:
    """The record that `shorten_record` shortened."""
    record = {name: value[name] for name in ("name", "since", "value")}
    if "note" in value:
        record["note"] = decode(value["note"], merkle.HASH_SIZE).hex()
    return canonical.encode({"form": RECORD_FORM, **record})


# --- keys ---


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """What a key's record holds that does not follow from the rest: `since` is the index at which
    it was registered, `revoked` the one at which it was revoked. `doubted` of a doubted key is
    (index from which on, index of the entry that said so last, hex leaf hash of its note's text).
    """

    public: bytes
    department: str
    role: str
    since: int
    revoked: int | None = None
    doubted: tuple[int, int, str] | None = None
    recovered: int | None = None  # index of the announcement

    def key(self, origin: str) -> VerifierKey:
        """The key under its name."""
        return VerifierKey(key_name(origin, self.department, self.role), self.public)

    def text(self, origin: str) -> bytes:
        """The text of the note that registered it."""
        return registration_text(origin, self.key(origin), self.role, self.department)

    def record(self, origin: str) -> bytes:
        """The record's bytes."""
        return _key_record(self, origin)

    def _record(self, origin: str) -> bytes:
        key = self.key(origin)
        name = f"key/{key.key_id}"
        value = {
            "vkey": str(key),
            "role": self.role,
            "department": self.department,
            "from": self.since,
            "revoked": None,
            **({} if self.recovered is None else {"recovered": self.recovered}),
        }
        record = {
            "form": RECORD_FORM,
            "name": name,
            "since": self.since,
            "note": merkle.leaf_hash(self.text(origin)).hex(),
            "value": value,
        }
        if self.doubted is not None:
            begin, changed, note = self.doubted
            doubted = {**value, "revoked": self.revoked, "doubted_from": begin}
            record = {**record, "since": changed, "note": note, "value": doubted}
        elif self.revoked is not None:
            change = {name: value[name] for name in ("vkey", "role", "department")}
            text = note_text(origin, name, record_hash(record), {**change, "revoked": True})
            record = {
                **record,
                "since": self.revoked,
                "note": merkle.leaf_hash(text).hex(),
                "value": {**value, "revoked": self.revoked},
            }
        return format_record(record)


@lru_cache(maxsize=1024)
def _key_record(key: RegisteredKey, origin: str) -> bytes:
    return key._record(origin)


@lru_cache(maxsize=1024)
def registered_key(data: bytes, origin: str) -> RegisteredKey | None:
    """What a registry record says when it is a key's and all the rest follows; None otherwise."""
    try:
        record = canonical.loads(data)
        value = record["value"]
        parts = str(value["vkey"]).split("+", 2)
        public = base64.b64decode(parts[2])[1:]
        doubted = None
        if "doubted_from" in value:
            doubted = (value["doubted_from"], record["since"], record["note"])
        found = RegisteredKey(
            public,
            value["department"],
            value["role"],
            value["from"],
            value["revoked"],
            doubted,
            value.get("recovered"),
        )
        return found if found.record(origin) == data else None
    except (LedgerError, KeyError, IndexError, TypeError, ValueError):
        return None
