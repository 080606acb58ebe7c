"""The trust file: all that a verifier needs to know beforehand about a ledger.

It names the ledger, its first entry, and which signatures a checkpoint must carry at which size;
a required signature that is missing is a refusal, whatever else is signed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import canonical
from .checkpoint import Checkpoint, parse_checkpoint
from .errors import LedgerError, Malformed, ProofError
from .note import VerifierKey, parse_vkey
from .times import format_moment, parse_moment

FORM = "certledger trust v1"
MAX_TRUST = 256 * 1024
MAX_AGE_SECONDS = 86_400
_MEMBERS = {"format", "origin", "genesis", "checkpoint_keys", "max_checkpoint_age_seconds"}
_LISTS = "status_list_keys"  # left out where there are none


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that must sign every checkpoint of `from_size` to below `until_size` leaves.

    A retired key has both ends, as whoever steals it picks the size: no ledger time from
    `until_time` on (microseconds) rests on it.
    """

    key: VerifierKey
    from_size: int
    until_size: int | None
    until_time: int | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """A parsed trust file. `genesis` is the leaf hash of entry 0."""

    origin: str
    genesis: bytes
    keys: tuple[TrustedKey, ...]
    max_checkpoint_age_seconds: int = MAX_AGE_SECONDS
    status_list_keys: tuple[VerifierKey, ...] = ()

    def required(self, size: int) -> list[VerifierKey]:
        """The keys that must have signed a checkpoint of this size."""
        return [
            k.key
            for k in self.keys
            if k.from_size <= size and (k.until_size is None or size < k.until_size)
        ]

    def until_time(self, size: int) -> int | None:
        """The ledger time from which on the keys for this size say nothing, None for no end."""
        required = self.required(size)
        ends = [k.until_time for k in self.keys if k.key in required and k.until_time is not None]
        return min(ends, default=None)

    def check_checkpoint(self, data: bytes) -> Checkpoint:
        """The checkpoint in `data`, signed as this file requires; ProofError
        `checkpoint-refused` or Malformed otherwise.
        """
        checkpoint, note = parse_checkpoint(data)
        if checkpoint.origin != self.origin:
            raise ProofError(
                "checkpoint-refused",
                f"the checkpoint is of {checkpoint.origin[:120]!r}, trusted is {self.origin!r}",
            )
        required = self.required(checkpoint.size)
        if not required:
            raise ProofError(
                "checkpoint-refused", f"the trust file names no key for size {checkpoint.size}"
            )
        for key in required:
            try:
                note.check_signed_by(key)
            except ProofError as err:
                raise ProofError("checkpoint-refused", f"{key.name}: {err.message}") from err
        return checkpoint


def format_trust(trust: Trust) -> bytes:
    """The trust file's bytes: canonical JSON and a newline."""
    members: dict[str, Any] = {
        "format": FORM,
        "origin": trust.origin,
        "genesis": trust.genesis.hex(),
        "checkpoint_keys": [
            {
                "vkey": str(k.key),
                "from_size": k.from_size,
                "until_size": k.until_size,
                "until_time": None if k.until_time is None else format_moment(k.until_time),
            }
            for k in trust.keys
        ],
        "max_checkpoint_age_seconds": trust.max_checkpoint_age_seconds,
    }
    if trust.status_list_keys:
        members[_LISTS] = [str(key) for key in trust.status_list_keys]
    return canonical.format(members) + b"\n"


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
        or value.keys() - {_LISTS} != _MEMBERS
    ):
        raise Malformed("malformed-trust", f"a trust file is {FORM!r} with {sorted(_MEMBERS)}")
    origin, genesis, age = value["origin"], value["genesis"], value["max_checkpoint_age_seconds"]
    if type(origin) is not str or not origin:
        raise Malformed("malformed-trust", "origin is a string")
    if type(age) is not int or age < 1:
        raise Malformed("malformed-trust", "max_checkpoint_age_seconds is a number from 1")
    keys = value["checkpoint_keys"]
    if type(keys) is not list or not 1 <= len(keys) <= 64:
        raise Malformed("malformed-trust", "checkpoint_keys is a list of 1 to 64 keys")
    return Trust(
        origin,
        _genesis(genesis),
        tuple(_key(member) for member in keys),
        age,
        _list_keys(value[_LISTS]) if _LISTS in value else (),
    )


def _list_keys(value: Any) -> tuple[VerifierKey, ...]:
    if type(value) is not list or not 1 <= len(value) <= 64:
        raise Malformed("malformed-trust", f"{_LISTS} is a list of 1 to 64 keys")
    if any(type(vkey) is not str for vkey in value):
        raise Malformed("malformed-trust", f"{_LISTS} holds strings")
    return tuple(parse_vkey(vkey) for vkey in value)


def _genesis(text: Any) -> bytes:
    if type(text) is not str or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise Malformed("malformed-trust", "genesis is the hex leaf hash of entry 0")
    return bytes.fromhex(text)


def _key(member: Any) -> TrustedKey:
    names = {"vkey", "from_size", "until_size", "until_time"}
    if type(member) is not dict or member.keys() != names:
        raise Malformed("malformed-trust", f"a checkpoint key has {sorted(names)}")
    begin, end, until = member["from_size"], member["until_size"], member["until_time"]
    if type(member["vkey"]) is not str or type(begin) is not int or begin < 0:
        raise Malformed("malformed-trust", "vkey is a string, from_size a number from 0")
    if end is not None and (type(end) is not int or end <= begin):
        raise Malformed("malformed-trust", "until_size is null or a number above from_size")
    if (end is None) != (until is None) or type(until) not in (str, type(None)):
        raise Malformed("malformed-trust", "until_time is a moment where there is an until_size")
    moment = None if until is None else parse_moment(until)
    return TrustedKey(parse_vkey(member["vkey"]), begin, end, moment)
