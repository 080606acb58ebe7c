"""The misbehaviour file, `certledger misbehaviour v1`: what a ledger did wrong, for third parties.

Self-contained: with a trust file for the ledger, `check` says whether the file proves that the
ledger signed what contradicts itself or its rules, or only that it was reported. FORMATS.md,
section 20.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import canonical, merkle, times
from .bundle import AHEAD, parse_header
from .checking import Examination
from .checkpoint import Checkpoint
from .entry import BUNDLE, GENESIS, STATUS, parse_entry
from .errors import LedgerError, Malformed, ProofError
from .evidence import MAX_PATH, parse_evidence
from .note import decode_base64, decode_hash, parse_note
from .trust import Trust

FORM = "certledger misbehaviour v1"
MAX_MISBEHAVIOUR = 8 * 1024 * 1024
MAX_ENTRIES = 2
FORK, INCONSISTENT, SHRUNK, ENTRY, OUTCOME, REPORTED = KINDS = (
    "fork",
    "inconsistent",
    "shrunk",
    "entry",
    "outcome",
    "reported",
)


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """A log entry with its inclusion path under the file's last checkpoint."""

    index: int
    data: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """A parsed file; of its claims nothing is proven yet."""

    origin: str
    kind: str
    claim: str  # what the auditor found, a sentence
    checkpoints: tuple[bytes, ...]  # signed notes, in the order in which they were seen
    path: tuple[bytes, ...] = ()
    entries: tuple[ShownEntry, ...] = ()
    evidence: bytes = b""
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a file proves what it says of the ledger, and why in a sentence."""

    proven: bool
    why: str


def format_misbehaviour(found: Misbehaviour) -> bytes:
    """The file's bytes, without a newline at the end."""
    return canonical.format(
        {
            "format": FORM,
            "origin": found.origin,
            "kind": found.kind,
            "claim": found.claim,
            "checkpoints": [data.decode() for data in found.checkpoints],
            "path": _encode(found.path),
            "entries": [
                {
                    "index": shown.index,
                    "data": base64.b64encode(shown.data).decode(),
                    "path": _encode(shown.path),
                }
                for shown in found.entries
            ],
            "evidence": found.evidence.decode(),
            "record": found.record.decode(),
        }
    )


def is_misbehaviour(data: bytes) -> bool:
    """Whether the bytes say that they are a misbehaviour file. Inside a text the quotes would be
    escaped.
    """
    return f'"format":"{FORM}"'.encode() in data


def parse_misbehaviour(data: bytes) -> Misbehaviour:
    """The file in `data`, a newline at its end allowed; Malformed `malformed-misbehaviour`
    otherwise.
    """
    data = data.removesuffix(b"\n")
    try:
        found = _parse(canonical.parse(data, MAX_MISBEHAVIOUR))
    except LedgerError as err:
        raise Malformed("malformed-misbehaviour", err.message) from err
    if format_misbehaviour(found) != data:
        raise Malformed("malformed-misbehaviour", "not printed as such a file is")
    return found


def _parse(value: Any) -> Misbehaviour:
    names = "format origin kind claim checkpoints path entries evidence record"
    _members(value, names)
    if value["format"] != FORM or value["kind"] not in KINDS:
        raise Malformed("malformed-misbehaviour", f"the form is {FORM!r}, the kind one of {KINDS}")
    entries = _list(value["entries"], MAX_ENTRIES)
    return Misbehaviour(
        origin=_text(value["origin"]),
        kind=value["kind"],
        claim=_text(value["claim"]),
        checkpoints=tuple(_text(note).encode() for note in _list(value["checkpoints"], 2)),
        path=_hashes(value["path"]),
        entries=tuple(_entry(entry) for entry in entries),
        evidence=_text(value["evidence"]).encode(),
        record=_text(value["record"]).encode(),
    )


def _entry(value: Any) -> ShownEntry:
    _members(value, "index data path")
    if type(value["index"]) is not int or value["index"] < 0:
        raise Malformed("malformed-misbehaviour", "an index is a number from 0")
    data = decode_base64(_text(value["data"]), "malformed-misbehaviour")
    return ShownEntry(value["index"], data, _hashes(value["path"]))


def _members(value: Any, names: str) -> None:
    if type(value) is not dict or value.keys() != set(names.split()):
        raise Malformed("malformed-misbehaviour", f"the members here are: {names}")


def _list(value: Any, limit: int) -> list[Any]:
    if type(value) is not list or len(value) > limit:
        raise Malformed("malformed-misbehaviour", f"a list of at most {limit} is expected")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Malformed("malformed-misbehaviour", "a string is expected")
    return value


def _hashes(value: Any) -> tuple[bytes, ...]:
    return tuple(
        decode_hash(_text(text), "malformed-misbehaviour") for text in _list(value, MAX_PATH + 1)
    )


def _encode(hashes: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(value).decode() for value in hashes]


# --- checking ------------------------------------------------------------------------------------


def check_misbehaviour(found: Misbehaviour, trust: Trust) -> Judgement:
    """What the file proves to whoever trusts the keys in `trust`; never raises."""
    checks: Mapping[str, Callable[[Misbehaviour, Trust, list[Checkpoint]], str]] = {
        FORK: _fork,
        INCONSISTENT: _inconsistent,
        SHRUNK: _shrunk,
        ENTRY: _bad_entry,
        OUTCOME: _bad_outcome,
        REPORTED: _reported,
    }
    try:
        if found.origin != trust.origin:
            raise ProofError("proof-failed", f"it is about {found.origin[:120]!r}")
        signed = [trust.check_signed(data) for data in found.checkpoints]
        if not signed:
            raise ProofError("proof-failed", "no checkpoint is shown")
        return Judgement(True, checks[found.kind](found, trust, signed))
    except LedgerError as err:
        return Judgement(False, err.message)


def _pair(signed: Sequence[Checkpoint]) -> tuple[Checkpoint, Checkpoint]:
    if len(signed) != 2:
        raise ProofError("proof-failed", "two checkpoints are needed")
    return signed[0], signed[1]


def _fork(found: Misbehaviour, trust: Trust, signed: list[Checkpoint]) -> str:
    a, b = _pair(signed)
    if a.size != b.size or a.root == b.root:
        raise ProofError("proof-failed", "these are not two roots of one size")
    return f"the ledger signed two different roots for size {a.size}"


def _inconsistent(found: Misbehaviour, trust: Trust, signed: list[Checkpoint]) -> str:
    small, large = sorted(_pair(signed), key=lambda checkpoint: checkpoint.size)
    first, second = merkle.consistency_roots(small.size, large.size, found.path)
    if second != large.root:
        raise ProofError("proof-failed", "the path is not out of the larger tree")
    if first == small.root:
        raise ProofError("proof-failed", "the larger tree does begin with the smaller one")
    return (
        f"the tree of {large.size} leaves that the ledger signed does not begin with the tree of "
        f"{small.size} leaves that it signed"
    )


def _shrunk(found: Misbehaviour, trust: Trust, signed: list[Checkpoint]) -> str:
    a, b = _pair(signed)
    raise ProofError(
        "proof-failed",
        f"the ledger signed both sizes, {a.size} and {b.size}; in which order it showed them is "
        "the auditor's word: the file proves no contradiction",
    )


def _reported(found: Misbehaviour, trust: Trust, signed: list[Checkpoint]) -> str:
    raise ProofError(
        "proof-failed",
        "what is claimed shows in the whole log only, or in what the server sent: audit it anew; "
        "the file proves no contradiction",
    )


def _shown(found: Misbehaviour, signed: Sequence[Checkpoint]) -> list[bytes]:
    """The entries, each proven to be in the log under the last checkpoint."""
    under = signed[-1]
    for shown in found.entries:
        merkle.check_inclusion(
            merkle.leaf_hash(shown.data), shown.index, under.size, shown.path, under.root
        )
    return [shown.data for shown in found.entries]


def _bad_entry(found: Misbehaviour, trust: Trust, signed: list[Checkpoint]) -> str:
    data = _shown(found, signed)
    if not data:
        raise ProofError("proof-failed", "no entry is shown")
    index = found.entries[-1].index
    why = entry_fault(index, data[-1], trust.genesis)
    if why is None and len(data) == 2 and found.entries[0].index + 1 == index:
        why = order_fault(data[0], data[1])
    if why is None and index == signed[-1].size - 1 and parse_entry(data[-1])["kind"] != STATUS:
        why = "a published checkpoint ends in no status entry"
    if why is None:
        raise ProofError("proof-failed", f"entry {index} alone is as it should be")
    return f"entry {index} in the log that the ledger signed: {why}"


def entry_fault(index: int, data: bytes, genesis: bytes | None) -> str | None:
    """What is wrong with an entry whatever the log before it holds, None for nothing."""
    try:
        value = parse_entry(data)
        if (value["kind"] == GENESIS) != (index == 0):
            return "entry 0, and no other, is a genesis"
        if index == 0 and genesis not in (None, merkle.leaf_hash(data)):
            return "it is not the genesis that is trusted"
        if value["kind"] == STATUS and value["reflects"] != index:
            return f"it reflects {value['reflects']} entries"
        if value["kind"] == BUNDLE:
            return _bundle_fault(value)
    except LedgerError as err:
        return err.message
    return None


def _bundle_fault(value: Mapping[str, Any]) -> str | None:
    header = parse_header(parse_note(value["note"].encode()).text)
    covered = sum(sum(runs[1::2]) for runs in value["outcome"].values())
    if covered != header.count:
        return f"its outcome covers {covered} events, its note {header.count}"
    ahead = times.parse_moment(header.signed_at) - times.parse_moment(value["time"])
    late = ahead > AHEAD and header.count
    if late and value["outcome"].keys() - {"signing-time", "wrong-previous"}:
        return f"it was signed {ahead / times.SECOND:.0f} s ahead and not all refused"
    return None


def order_fault(before: bytes, after: bytes) -> str | None:
    """What is wrong with two entries that follow each other."""
    first, second = (times.parse_moment(parse_entry(data)["time"]) for data in (before, after))
    if second < first:
        return f"its time goes back by {(first - second) / times.SECOND:.6f} s"
    return None


def _bad_outcome(found: Misbehaviour, trust: Trust, signed: list[Checkpoint]) -> str:
    """An admitted event that the rules refuse: the ledger's own record of the certificate commits
    to the history that the evidence lists, and the rules do not give it.
    """
    evidence = parse_evidence(found.evidence)
    if evidence.checkpoint != found.checkpoints[-1]:
        raise ProofError("proof-failed", "the evidence is under another checkpoint")
    examination = Examination(evidence, trust, evidence.question.asked_at)
    return f"certificate {evidence.certificate.number!r}: {examination.contradiction(found.record)}"
