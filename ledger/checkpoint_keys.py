"""Which keys must have signed a ledger's checkpoint of a size: in its registry, in trust files.

One entry per key: `vkey`, `from_size`, `until_size` (null while it goes on). Every key whose sizes
cover a checkpoint's must have signed it; one that is missing is a refusal, whatever else is signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .checkpoint import Checkpoint
from .cosignature import CosignerKey, parse_checkpoint_key
from .errors import Malformed, ProofError
from .note import Note, VerifierKey

MAX_KEYS = 64
_MEMBERS = {"vkey", "from_size", "until_size"}


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that must sign every checkpoint of `from_size` to below `until_size` leaves.

    A retired key has both ends in a trust file, as whoever steals it picks the size: no ledger time
    from `until_time` on (microseconds) rests on it.
    """

    key: VerifierKey | CosignerKey
    from_size: int
    until_size: int | None
    until_time: int | None = None

    def covers(self, size: int) -> bool:
        """Whether a checkpoint of this size must carry the key's signature."""
        return self.from_size <= size and (self.until_size is None or size < self.until_size)


def required(keys: Iterable[TrustedKey], size: int) -> list[VerifierKey | CosignerKey]:
    """The keys that must have signed a checkpoint of this size."""
    return [k.key for k in keys if k.covers(size)]


def check_signed(keys: Iterable[TrustedKey], checkpoint: Checkpoint, note: Note) -> None:
    """None when the checkpoint's note is signed by all keys for its size: ProofError
    `checkpoint-refused` otherwise, also where there is none for it.
    """
    needed = required(keys, checkpoint.size)
    if not needed:
        raise ProofError("checkpoint-refused", f"no key is named for size {checkpoint.size}")
    for key in needed:
        try:
            note.check_signed_by(key)
        except ProofError as err:
            raise ProofError("checkpoint-refused", f"{key.name}: {err.message}") from err


def rotate(
    keys: Sequence[TrustedKey], new: Iterable[VerifierKey | CosignerKey], size: int
) -> list[TrustedKey]:
    """The keys when from `size` on only the `new` ones sign."""
    kept = [replace(k, until_size=size) if k.until_size is None else k for k in keys]
    return kept + [TrustedKey(key, size, None) for key in new]


def format_keys(keys: Iterable[TrustedKey]) -> list[dict[str, Any]]:
    """The keys as JSON."""
    return [
        {"vkey": str(k.key), "from_size": k.from_size, "until_size": k.until_size} for k in keys
    ]


def parse_keys(value: Any) -> tuple[TrustedKey, ...]:
    """The keys in JSON; Malformed `malformed-key` otherwise."""
    if type(value) is not list or not 1 <= len(value) <= MAX_KEYS:
        raise Malformed("malformed-key", f"checkpoint_keys is a list of 1 to {MAX_KEYS} keys")
    return tuple(_parse(member) for member in value)


def check_range(begin: Any, end: Any) -> None:
    """None for a range of sizes: `begin` from 0, `end` above it or null; Malformed otherwise."""
    if type(begin) is not int or begin < 0:
        raise Malformed("malformed-key", "from_size is a number from 0")
    if end is not None and (type(end) is not int or end <= begin):
        raise Malformed("malformed-key", "until_size is null or a number above from_size")


def _parse(member: Any) -> TrustedKey:
    if type(member) is not dict or member.keys() != _MEMBERS or type(member["vkey"]) is not str:
        raise Malformed("malformed-key", f"a checkpoint key has {', '.join(sorted(_MEMBERS))}")
    check_range(member["from_size"], member["until_size"])
    key = parse_checkpoint_key(member["vkey"])
    return TrustedKey(key, member["from_size"], member["until_size"])
