"""What an auditor remembers of a log: one file, written whole or not at all.

A line of canonical JSON, then leaf hashes and note hashes by log index, then the certificates'
status map as pairs, then SHA-256 over all of it. Its own bytes for nobody else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import canonical, merkle
from ledger.admission import Lane
from ledger.errors import LedgerError, Malformed, Unavailable
from ledger.mapfold import StatusMap
from ledger.statusmap import CERTIFICATES, KEY_SIZE, PAIR, next_k

from .registry_tree import RegistryTree

FORM = "certledger audit state v1"
_HASH = 32
_LANE = (
    "epoch", "producer", "next_sequence", "previous", "signing_time", "signed_at", "index",
)  # fmt: skip


@dataclass
class State:
    """The log up to `checkpoint`, which was checked; empty before the first audit."""

    checkpoint: bytes = b""
    leaves: list[bytes] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)  # hash of a bundle's note, zeros for others
    tree: RegistryTree = field(default_factory=RegistryTree)
    map: StatusMap = field(default_factory=lambda: StatusMap(CERTIFICATES))
    last_time: int = 0

    @property
    def size(self) -> int:
        return len(self.leaves)


def load_state(path: Path) -> State:
    """The state in a file, a fresh one for none; Malformed `malformed-state` otherwise."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as err:
        raise Unavailable("unreachable", f"{path} cannot be read: {err.strerror}") from err
    try:
        return _parse(data)
    except (LedgerError, LookupError, TypeError, ValueError) as err:
        raise Malformed("malformed-state", f"{path}: {err}") from err


def _parse(data: bytes) -> State:
    whole, checksum = data[:-_HASH], data[-_HASH:]
    if sha256(whole).digest() != checksum:
        raise ValueError("damaged, or no auditor's state file")
    head, _, body = whole.partition(b"\n")
    value = canonical.parse(head, len(head))
    if value.get("format") != FORM:
        raise ValueError(f"a state file is {FORM!r}")
    size, records = value["size"], value["records"]
    if len(body) != 2 * _HASH * size + PAIR * records:
        raise ValueError("too short or too long")
    tree = RegistryTree()
    tree.registry = type(tree.registry)(value["origin"], {})
    for record in value["registry"]:
        tree.put(record)
    for department, number, *rest in value["lanes"]:
        members = dict(zip(_LANE, rest, strict=True))
        members["previous"] = bytes.fromhex(members["previous"])
        tree.move_lane((department, number), Lane(**members))
    certificates = StatusMap(CERTIFICATES, next_k(0, records))
    certificates.fold(body[2 * _HASH * size :])
    state = State(
        checkpoint=value["checkpoint"].encode(),
        leaves=_split(body[: _HASH * size]),
        notes=_split(body[_HASH * size : 2 * _HASH * size]),
        tree=tree,
        map=certificates,
        last_time=value["last_time"],
    )
    if merkle.root(state.leaves).hex() != value["root"]:
        raise ValueError("its leaves have another root")
    return state


def _split(data: bytes) -> list[bytes]:
    return [data[i : i + _HASH] for i in range(0, len(data), _HASH)]


def save_state(path: Path, state: State) -> None:
    """Replace the file; Unavailable where it cannot be written, and then it is as before."""
    registry = state.tree.registry
    head: dict[str, Any] = {
        "format": FORM,
        "origin": registry.origin,
        "checkpoint": state.checkpoint.decode(),
        "size": state.size,
        "root": merkle.root(state.leaves).hex(),
        "last_time": state.last_time,
        "registry": [registry.records[name] for name in sorted(registry.records)],
        "lanes": [
            [department, number, *(_plain(getattr(lane, name)) for name in _LANE)]
            for (department, number), lane in sorted(state.tree.lanes.items())
        ],
        "records": state.map.records,
    }
    pairs = state.map.pairs(bytes(KEY_SIZE), b"\xff" * KEY_SIZE)
    parts = [canonical.format(head), b"\n", *state.leaves, *state.notes, pairs]
    hasher = sha256()
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("wb") as file:
            for part in parts:
                hasher.update(part)
                file.write(part)
            file.write(hasher.digest())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as err:
        raise Unavailable("unreachable", f"{path} cannot be written: {err.strerror}") from err


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
