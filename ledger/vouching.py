"""How the keys of events came into the registry: part of check 2 of evidence.

Each key was registered by an entry that it signed itself, and that a registry key of its department
signed, or the operator alone: for the first one, and for one that came without the previous key,
which another entry had announced long before (FORMATS.md, section 9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from . import merkle, times
from .checkpoint import Checkpoint
from .entry import format_registry
from .errors import ProofError
from .evidence import Evidence, Shown
from .note import Note, VerifierKey, parse_note, parse_vkey
from .registry import (
    MIN_DELAY,
    REGISTRY_ROLE,
    is_signed_by,
    key_active,
    key_name,
    recovery_text,
    registration_text,
)

OPERATOR = "operator"
_registration_text = lru_cache(maxsize=1024)(registration_text)
_format_registry = lru_cache(maxsize=256)(format_registry)


class Vouching:
    """Looks at what one evidence file shows of keys; `records` are the shown registry records."""

    def __init__(
        self,
        evidence: Evidence,
        records: Mapping[str, Mapping[str, Any]],
        operator: VerifierKey | None,
        checkpoint: Checkpoint,
    ) -> None:
        self._evidence, self._records = evidence, records
        self._operator, self._checkpoint = operator, checkpoint

    def trace(self, key_ids: Iterable[str]) -> list[dict[str, Any]]:
        """How these keys were registered, and those that vouched for them, in log order: `key`,
        `department`, `role`, `entry`, `vouched_by`, and `doubted_from`, `recovered` as its record
        has them. ProofError where the file does not show it.
        """
        found: dict[str, dict[str, Any]] = {}
        todo = [f"key/{key_id}" for key_id in key_ids]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            value = self._records.get(name)
            if value is None:
                raise ProofError(
                    "proof-failed", f"the registry's record {name[:100]!r} is not shown"
                )
            voucher, *others = self._vouchers(name, value)
            found[name] = {
                "key": name.removeprefix("key/"),
                "department": value["department"],
                "role": value["role"],
                "entry": value["from"],
                "vouched_by": voucher.removeprefix("key/"),
                **{name: value[name] for name in ("doubted_from", "recovered") if name in value},
            }
            todo += [each for each in (voucher, *others) if each != OPERATOR]
        first: set[str] = set()
        for key in filter(_is_first, found.values()):
            if key["department"] in first:
                raise ProofError("proof-failed", f"two first keys of {key['department']} are shown")
            first.add(key["department"])
        return sorted(found.values(), key=lambda each: int(each["entry"]))

    def _vouchers(self, name: str, value: Mapping[str, Any]) -> list[str]:
        """Who signed that a new key is the department's, and who announced that before, where it
        came without the previous one: names of records, or the operator.
        """
        index, department, role = value["from"], value["department"], value["role"]
        key, origin = parse_vkey(value["vkey"]), self._evidence.origin
        shown = next((r for r in self._evidence.registrations if r.index == index), None)
        if shown is None:
            raise ProofError("proof-failed", f"how {name[:68]} was registered is not shown")
        text = _registration_text(origin, key, role, department)
        data = text + b"\n" + shown.signatures
        entry = _format_registry(data, shown.time)
        check_logged(Shown(index, entry, shown.path), self._checkpoint)
        note = parse_note(data)
        if name != f"key/{key.key_id}" or key.name != key_name(origin, department, role):
            raise ProofError("proof-failed", f"{name[:68]} holds the key of another name")
        if note.text != text:
            raise ProofError("proof-failed", f"entry {index} does not register {name[:68]}")
        note.check_signed_by(key)
        recovered = value.get("recovered")
        if recovered is None:
            return [self._voucher(note, name, value, index, role == REGISTRY_ROLE)]
        voucher = self._voucher(note, name, value, index, True)
        return [voucher, self._announcer(name, value, key, recovered, shown.time)]

    def _voucher(
        self, note: Note, name: str, value: Mapping[str, Any], index: int, may_be_operator: bool
    ) -> str:
        """Whose signature on the note of entry `index` says that a key is the department's."""
        for other, said in self._records.items():
            if other.startswith("key/") and other != name and said["role"] == REGISTRY_ROLE:
                is_theirs = said["department"] == value["department"] and key_active(said, index)
                if is_theirs and is_signed_by(note, parse_vkey(said["vkey"])):
                    return other
        operator = self._operator
        if operator is None or not may_be_operator or not is_signed_by(note, operator):
            raise ProofError("proof-failed", f"nobody vouches for {name[:68]} in entry {index}")
        return OPERATOR

    def _announcer(
        self, name: str, value: Mapping[str, Any], key: VerifierKey, index: int, time: str
    ) -> str:
        """Who announced in entry `index` the key that was registered at the ledger time `time`."""
        shown = next((each for each in self._evidence.announcements if each.index == index), None)
        if shown is None:
            raise ProofError("proof-failed", f"how {name[:68]} was announced is not shown")
        department, role = value["department"], value["role"]
        text = recovery_text(
            self._evidence.origin, key, role, department, shown.replaces, shown.delay_seconds
        )
        data = text + b"\n" + shown.signatures
        check_logged(Shown(index, format_registry(data, shown.time), shown.path), self._checkpoint)
        delay = shown.delay_seconds * times.SECOND
        passed = times.parse_moment(time) - times.parse_moment(shown.time)
        if not MIN_DELAY * times.SECOND <= delay <= passed:
            raise ProofError(
                "proof-failed",
                f"{name[:68]} was registered {passed // times.SECOND} s after entry {index} "
                f"announced it with a delay of {shown.delay_seconds} s",
            )
        note = parse_note(data)
        note.check_signed_by(key)
        return self._voucher(note, name, value, index, True)


def _is_first(key: Mapping[str, Any]) -> bool:
    """Whether the operator alone vouched for a key, unannounced: a department has one such key."""
    return key["vouched_by"] == OPERATOR and "recovered" not in key


def explain_keys(keys: Sequence[Mapping[str, Any]]) -> str:
    """What `Vouching.trace` found, in a sentence."""
    alone = [f"{key['department']} in entry {key['entry']}" for key in filter(_is_first, keys)]
    why = (
        "the registry under this checkpoint gave these keys and acts to these departments; "
        "each key was vouched for by a registry key before it, the first by the operator "
        f"alone: {', '.join(alone)}"
    )
    for key in keys:
        if "recovered" in key:
            why += (
                f"; {key['department']} got the key of entry {key['entry']} without the previous "
                f"one, as entry {key['recovered']} had announced"
            )
        if "doubted_from" in key:
            why += (
                f"; {key['department']} declared key {key['key'][:16]}… compromised from log index "
                f"{key['doubted_from']} on"
            )
    return why


def find_recoveries(
    departments: Iterable[str], value: Callable[[str], Mapping[str, Any] | None]
) -> list[dict[str, Any]]:
    """The recoveries that are announced for departments; `value` gives a record's by its name."""
    return [
        {"department": name, "role": role, "announced": told["announced"], "from": told["from"]}
        for name in sorted(set(departments))
        for role, told in sorted((value(f"department/{name}") or {}).get("recovery", {}).items())
    ]


def explain_recovery(each: Mapping[str, Any]) -> str:
    """One of `find_recoveries`, in a sentence."""
    return (
        f"entry {each['announced']} announced that {each['department']} gets a {each['role']} key "
        f"without the previous one from {each['from']} on"
    )


def check_logged(shown: Shown, checkpoint: Checkpoint) -> None:
    """None when a shown entry is in the log under a checkpoint; ProofError."""
    merkle.check_inclusion(
        merkle.leaf_hash(shown.data), shown.index, checkpoint.size, shown.path, checkpoint.root
    )
