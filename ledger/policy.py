"""Which witnesses must have cosigned a checkpoint (C2SP tlog-policy).

A text of lines `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME all|any|N NAME…` and one
`quorum NAME|none`. Names are opaque bytes; here they are text in which bytes that are no UTF-8
stand as lone surrogates, so that two names are equal when their bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from .checkpoint import Checkpoint
from .cosignature import CosignerKey, parse_checkpoint_key, parse_cosigner_key, read_time
from .errors import LedgerError, Malformed, ProofError
from .note import Note, VerifierKey, parse_decimal

MAX_POLICY = 256 * 1024
MAX_LINES = 1024
NONE = "none"
_BLANK = re.compile(r"[ \t]+")
_ALLOWED = re.compile(rb"[\t\n\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness that a policy names, and where it takes checkpoints, "" where that is not said."""

    name: str
    key: CosignerKey
    url: str


@dataclass(frozen=True, slots=True)
class Group:
    """Cosigned where at least `threshold` of the `members`, witnesses or groups, are."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy; `quorum` is `none`, or the name of a witness or group."""

    logs: tuple[VerifierKey | CosignerKey, ...]
    witnesses: tuple[Witness, ...]
    groups: Mapping[str, Group]
    quorum: str

    def is_met(self, cosigned: Collection[str]) -> bool:
        """Whether cosignatures of these witnesses, by name, make the quorum."""
        return self.quorum == NONE or self._is_met(self.quorum, cosigned)

    def _is_met(self, name: str, cosigned: Collection[str]) -> bool:
        group = self.groups.get(name)
        if group is None:
            return name in cosigned
        return sum(self._is_met(member, cosigned) for member in group.members) >= group.threshold

    def cosignatures(self, note: Note) -> dict[str, int]:
        """Who of the witnesses cosigned, with the time that each states, in seconds.

        ProofError `bad-signature` when a line in a witness's name and key hash is not its own.
        """
        found: dict[str, int] = {}
        for witness in self.witnesses:
            line = note.by(witness.key)
            if line is not None:
                note.check_signed_by(witness.key)
                found[witness.name] = read_time(line.signature)
        return found

    def check(self, checkpoint: Checkpoint, note: Note) -> dict[str, int]:
        """The cosignatures of a checkpoint that has its quorum, and is by one of the logs where
        the policy names any: ProofError `checkpoint-refused` otherwise.
        """
        try:
            found = self.cosignatures(note)
            if self.logs and not any(note.by(key) is not None for key in self.logs):
                raise ProofError("bad-signature", "none of the policy's logs signed it")
            for key in self.logs:
                if note.by(key) is not None:
                    note.check_signed_by(key)
        except ProofError as err:
            raise ProofError("checkpoint-refused", err.message) from err
        if not self.is_met(found):
            raise ProofError(
                "checkpoint-refused",
                f"the quorum {self.quorum!r} of witnesses has not cosigned size {checkpoint.size}: "
                f"{len(found)} of {len(self.witnesses)} did",
            )
        return found


def parse_policy(data: bytes) -> Policy:
    """The policy in a text, every rule of the specification kept; Malformed `malformed-policy`."""
    if len(data) > MAX_POLICY or not _ALLOWED.fullmatch(data):
        raise Malformed(
            "malformed-policy", f"a policy has at most {MAX_POLICY} bytes and no control characters"
        )
    if data and not data.endswith(b"\n"):
        raise Malformed("malformed-policy", "each line of a policy ends in a newline")
    lines = data.decode("utf-8", "surrogateescape").split("\n")[:-1]
    if len(lines) > MAX_LINES:
        raise Malformed("malformed-policy", f"a policy has at most {MAX_LINES} lines")
    reading = _Reading()
    for number, line in enumerate(lines, 1):
        words = _BLANK.split(line.strip(" \t"))
        if words[0] and not words[0].startswith("#"):
            try:
                reading.take(words)
            except LedgerError as err:
                raise Malformed("malformed-policy", f"line {number}: {err.message}") from err
    if reading.quorum is None:
        raise Malformed("malformed-policy", "a policy has a quorum line")
    return Policy(
        tuple(reading.logs), tuple(reading.witnesses), dict(reading.groups), reading.quorum
    )


def format_policy(policy: Policy, urls: bool = True) -> bytes:
    """The policy's text; without `urls` as those need it who only check."""
    lines = [f"log {key}" for key in policy.logs]
    lines += [
        f"witness {w.name} {w.key}" + (f" {w.url}" if urls and w.url else "")
        for w in policy.witnesses
    ]
    lines += [
        f"group {name} {group.threshold} {' '.join(group.members)}"
        for name, group in policy.groups.items()
    ]
    lines.append(f"quorum {policy.quorum}")
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def simple_policy(witnesses: Iterable[Witness], threshold: int) -> Policy:
    """The policy by which any `threshold` of the witnesses are the quorum."""
    named = tuple(witnesses)
    group = Group(threshold, tuple(w.name for w in named))
    policy = Policy(
        (), named, {"witnesses": group} if named else {}, "witnesses" if named else NONE
    )
    return parse_policy(format_policy(policy))


class _Reading:
    """What the lines so far have defined."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey | CosignerKey] = []
        self.witnesses: list[Witness] = []
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self._names: set[str] = {NONE}
        self._members: set[str] = set()

    def take(self, words: list[str]) -> None:
        kind, *rest = words
        if kind == "log" and len(rest) in (1, 2):
            key = parse_checkpoint_key(rest[0])
            if any(key.public == other.public for other in self.logs):
                raise Malformed("malformed-policy", "this log's key stands twice")
            self.logs.append(key)
        elif kind == "witness" and len(rest) in (2, 3):
            cosigner = parse_cosigner_key(rest[1])
            if any(cosigner.public == other.key.public for other in self.witnesses):
                raise Malformed("malformed-policy", "this witness's key stands twice")
            self._define(rest[0])
            self.witnesses.append(Witness(rest[0], cosigner, rest[2] if len(rest) == 3 else ""))
        elif kind == "group" and len(rest) >= 3:
            self._group(rest[0], rest[1], tuple(rest[2:]))
        elif kind == "quorum" and len(rest) == 1:
            if self.quorum is not None:
                raise Malformed("malformed-policy", "a second quorum line")
            if rest[0] not in self._names:
                raise Malformed("malformed-policy", f"{rest[0]!r} is not defined before")
            self.quorum = rest[0]
        else:
            raise Malformed("malformed-policy", f"not a line of a policy: {' '.join(words)[:80]!r}")

    def _group(self, name: str, threshold: str, members: tuple[str, ...]) -> None:
        for member in members:
            if member == NONE or member not in self._names:
                raise Malformed("malformed-policy", f"{member!r} is not defined before")
            if member in self._members:
                raise Malformed("malformed-policy", f"{member!r} is in a group already")
            self._members.add(member)
        words = {"all": len(members), "any": 1}
        count = words[threshold] if threshold in words else parse_decimal(threshold)
        if not 1 <= count <= len(members):
            raise Malformed("malformed-policy", f"{threshold} of {len(members)} members")
        self._define(name)
        self.groups[name] = Group(count, members)

    def _define(self, name: str) -> None:
        if name in self._names:
            raise Malformed("malformed-policy", f"{name!r} is defined already")
        self._names.add(name)
