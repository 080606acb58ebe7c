"""The trust file: all that a verifier needs to know beforehand about a ledger.

It names the ledger, its first entry, and which signatures a checkpoint must carry at which size:
the ledger's own, and those of a quorum of witnesses. A required one that is missing is a refusal,
whatever else is signed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import canonical
from .checkpoint import Checkpoint, parse_checkpoint
from .checkpoint_keys import (
    MAX_KEYS,
    TrustedKey,
    check_range,
    check_signed,
    format_keys,
    parse_keys,
    required,
)
from .cosignature import CosignerKey
from .errors import LedgerError, Malformed, ProofError
from .note import Note, VerifierKey, parse_vkey
from .policy import Policy, format_policy, parse_policy
from .times import format_moment, parse_moment

FORM = "certledger trust v1"
MAX_TRUST = 256 * 1024
MAX_AGE_SECONDS = 86_400
WITNESS_SECONDS = 300
_MEMBERS = {
    "format",
    "origin",
    "genesis",
    "operator_vkey",
    "checkpoint_keys",
    "max_checkpoint_age_seconds",
}
_OPTIONAL = {"status_list_keys", "sheet_keys", "quorums", "max_witness_difference_seconds"}
_KEY = {"vkey", "from_size", "until_size", "until_time"}


@dataclass(frozen=True, slots=True)
class TrustedQuorum:
    """A policy that every checkpoint of `from_size` to below `until_size` leaves must meet."""

    policy: Policy
    from_size: int
    until_size: int | None


@dataclass(frozen=True, slots=True)
class Trust:
    """A parsed trust file. `genesis` is the leaf hash of entry 0. Witness times that differ from
    the ledger's by over `max_witness_difference_seconds` do not count for freshness.
    """

    origin: str
    genesis: bytes
    keys: tuple[TrustedKey, ...]
    max_checkpoint_age_seconds: int = MAX_AGE_SECONDS
    status_list_keys: tuple[VerifierKey, ...] = ()
    quorums: tuple[TrustedQuorum, ...] = ()
    max_witness_difference_seconds: int = WITNESS_SECONDS
    operator: VerifierKey | None = None  # what entry 0 calls the operator's
    sheet_keys: tuple[VerifierKey, ...] = ()

    def required(self, size: int) -> list[VerifierKey | CosignerKey]:
        """The keys that must have signed a checkpoint of this size."""
        return required(self.keys, size)

    def policies(self, size: int) -> list[Policy]:
        """The quorums that a checkpoint of this size must have."""
        return [
            q.policy
            for q in self.quorums
            if q.from_size <= size and (q.until_size is None or size < q.until_size)
        ]

    def until_time(self, size: int) -> int | None:
        """The ledger time from which on the keys for this size say nothing, None for no end."""
        required = self.required(size)
        ends = [k.until_time for k in self.keys if k.key in required and k.until_time is not None]
        return min(ends, default=None)

    def check_checkpoint(self, data: bytes) -> Checkpoint:
        """The checkpoint in `data`, signed and cosigned as this file requires; ProofError
        `checkpoint-refused` or Malformed otherwise, Unavailable `signature-unsupported` where a
        signature cannot be checked here.
        """
        checkpoint, note = self._signed(data)
        for policy in self.policies(checkpoint.size):
            policy.check(checkpoint, note)
        return checkpoint

    def check_signed(self, data: bytes) -> Checkpoint:
        """The checkpoint in `data`, signed by the ledger as this file requires, whoever cosigned
        it: for what the ledger did. Errors as `check_checkpoint`.
        """
        return self._signed(data)[0]

    def _signed(self, data: bytes) -> tuple[Checkpoint, Note]:
        checkpoint, note = parse_checkpoint(data)
        if checkpoint.origin != self.origin:
            raise ProofError(
                "checkpoint-refused",
                f"the checkpoint is of {checkpoint.origin[:120]!r}, trusted is {self.origin!r}",
            )
        check_signed(self.keys, checkpoint, note)
        return checkpoint, note

    def cosignatures(self, data: bytes) -> dict[str, int]:
        """Who cosigned a checkpoint that `check_checkpoint` accepts: witness to seconds."""
        checkpoint, note = parse_checkpoint(data)
        found: dict[str, int] = {}
        for policy in self.policies(checkpoint.size):
            found |= policy.cosignatures(note)
        return found

    def is_witnessed(self, size: int, times: Mapping[str, int], ledger_seconds: int) -> bool:
        """Whether those cosignatures alone whose times agree with the ledger's make each quorum."""
        agreeing = {
            name
            for name, seconds in times.items()
            if abs(seconds - ledger_seconds) <= self.max_witness_difference_seconds
        }
        return all(policy.is_met(agreeing) for policy in self.policies(size))


def format_trust(trust: Trust) -> bytes:
    """The trust file's bytes: canonical JSON and a newline."""
    value: dict[str, Any] = {
        "format": FORM,
        "origin": trust.origin,
        "genesis": trust.genesis.hex(),
        "operator_vkey": None if trust.operator is None else str(trust.operator),
        "checkpoint_keys": [
            {**member, "until_time": None if k.until_time is None else format_moment(k.until_time)}
            for k, member in zip(trust.keys, format_keys(trust.keys), strict=True)
        ],
        "max_checkpoint_age_seconds": trust.max_checkpoint_age_seconds,
    }
    if trust.status_list_keys:
        value["status_list_keys"] = [str(key) for key in trust.status_list_keys]
    if trust.sheet_keys:
        value["sheet_keys"] = [str(key) for key in trust.sheet_keys]
    if trust.quorums:
        value["quorums"] = [
            {
                "policy": format_policy(q.policy, urls=False).decode(),
                "from_size": q.from_size,
                "until_size": q.until_size,
            }
            for q in trust.quorums
        ]
        value["max_witness_difference_seconds"] = trust.max_witness_difference_seconds
    return canonical.format(value) + b"\n"


def parse_trust(data: bytes) -> Trust:
    """The trust file in `data`; white space may differ from what `format_trust` prints, as people
    edit these files. Malformed `malformed-trust` otherwise.
    """
    if len(data) > MAX_TRUST:
        raise Malformed("malformed-trust", f"{len(data)} bytes, at most {MAX_TRUST}")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_members)
        canonical.check_profile(value)
        trust = _trust(value)
    except (ValueError, RecursionError) as err:
        raise Malformed("malformed-trust", f"the trust file is not JSON: {str(err)[:120]}") from err
    except LedgerError as err:
        raise Malformed("malformed-trust", err.message) from err
    return trust


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _trust(value: Any) -> Trust:
    if (
        type(value) is not dict
        or value.get("format") != FORM
        or not _MEMBERS <= value.keys() <= _MEMBERS | _OPTIONAL
    ):
        raise Malformed("malformed-trust", f"a trust file is {FORM!r} with {sorted(_MEMBERS)}")
    origin, genesis = value["origin"], value["genesis"]
    if type(origin) is not str or not origin:
        raise Malformed("malformed-trust", "origin is a string")
    seconds = {
        name: value.get(name, default)
        for name, default in (
            ("max_checkpoint_age_seconds", MAX_AGE_SECONDS),
            ("max_witness_difference_seconds", WITNESS_SECONDS),
        )
    }
    for name, number in seconds.items():
        if type(number) is not int or number < 1:
            raise Malformed("malformed-trust", f"{name} is a number from 1")
    return Trust(
        origin,
        _genesis(genesis),
        tuple(_key(member) for member in _list_of(value, "checkpoint_keys")),
        status_list_keys=_vkeys(value, "status_list_keys"),
        quorums=tuple(_quorum(member) for member in _list_of(value, "quorums")),
        operator=_operator(value["operator_vkey"]),
        sheet_keys=_vkeys(value, "sheet_keys"),
        **seconds,
    )


def _list_of(value: dict[str, Any], name: str) -> list[Any]:
    """A list of 1 to 64; left out, it is empty."""
    found = value.get(name, [])
    if type(found) is not list or len(found) > MAX_KEYS or (name in value and not found):
        raise Malformed("malformed-trust", f"{name} is a list of 1 to {MAX_KEYS}")
    return found


def _vkeys(value: dict[str, Any], name: str) -> tuple[VerifierKey, ...]:
    found = _list_of(value, name)
    if any(type(vkey) is not str for vkey in found):
        raise Malformed("malformed-trust", f"{name} holds strings")
    return tuple(parse_vkey(vkey) for vkey in found)


def _genesis(text: Any) -> bytes:
    if type(text) is not str or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise Malformed("malformed-trust", "genesis is the hex leaf hash of entry 0")
    return bytes.fromhex(text)


def _operator(text: Any) -> VerifierKey | None:
    if text is None:
        return None
    if type(text) is not str:
        raise Malformed("malformed-trust", "operator_vkey is a verifier key, or null")
    return parse_vkey(text)


def _key(member: Any) -> TrustedKey:
    if type(member) is not dict or member.keys() != _KEY:
        raise Malformed("malformed-trust", f"a checkpoint key has {sorted(_KEY)}")
    until = member["until_time"]
    (key,) = parse_keys([{name: member[name] for name in _KEY - {"until_time"}}])
    if (key.until_size is None) != (until is None) or type(until) not in (str, type(None)):
        raise Malformed("malformed-trust", "until_time is a moment where there is an until_size")
    return replace(key, until_time=None if until is None else parse_moment(until))


def _quorum(member: Any) -> TrustedQuorum:
    if type(member) is not dict or member.keys() != {"policy", "from_size", "until_size"}:
        raise Malformed("malformed-trust", "a quorum has policy, from_size and until_size")
    check_range(member["from_size"], member["until_size"])
    if type(member["policy"]) is not str:
        raise Malformed("malformed-trust", "policy is a C2SP tlog-policy as a string")
    return TrustedQuorum(
        parse_policy(member["policy"].encode()), member["from_size"], member["until_size"]
    )
