"""The audit's fold: what the public part of the log must say after each entry, recomputed.

Signatures, registry, lanes, delta roots, status entries and the certificates' status map need no
event line. What only lines can decide is left to fsck's fold (`audit.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ledger import admission, merkle, statusmap, times
from ledger.admission import Certificate, Lane, Opened, Recorded, Turn, signing_key
from ledger.bundle import Bundle, Header, note_hash, parse_header
from ledger.entry import (
    ADMITTED,
    BUNDLE,
    EQUIVOCATION,
    GENESIS,
    REGISTRY,
    STATUS,
    Source,
    map_heads,
    parse_entry,
)
from ledger.errors import LedgerError, Malformed, ProofError, Refused
from ledger.lifecycle import Transition
from ledger.mapfold import StatusMap
from ledger.misbehaviour import entry_fault
from ledger.note import Note, parse_note
from ledger.registry import Registry, apply_note, key_active
from ledger.relying import Nothing

from .fsck_report import Finding
from .registry_tree import RegistryTree

_WHOLE_BUNDLE = frozenset({"wrong-previous", "signing-time"})  # codes that refuse all its events
_NO_NOTE = bytes(32)


class PublicFold:
    """The public state after each entry; it is the `admission.View` of the next bundle.

    `entry_at` gives an earlier entry, proven to be in the log; `notes` holds, by log index, the
    hash of a bundle's note, zeros for other entries.
    """

    def __init__(
        self,
        entry_at: Callable[[int], bytes],
        genesis: bytes | None,
        tree: RegistryTree,
        certificates: StatusMap,
        notes: Sequence[bytes] = (),
        last_time: int = -(2**63),
    ) -> None:
        self._entry_at = entry_at
        self._genesis = genesis
        self.tree = tree
        self.map = certificates
        self.notes = list(notes)
        self._places = {note: index for index, note in enumerate(notes) if note != _NO_NOTE}
        self.last_time = last_time
        self.last_kind = ""
        self.found: list[Finding] = []
        self.counts: dict[str, int] = {}
        self._pending: list[bytes] = []

    relying = Nothing()  # no line is judged here
    blinding_secret = bytes(32)  # the ledger's is not public: holders' roots are not compared here

    @property
    def registry(self) -> Registry:
        """The registry after the last entry."""
        return self.tree.registry

    def take(self, index: int, data: bytes, deltas: bytes) -> None:
        """Play entry `index` with its certificates' delta list."""
        self._count("entries")
        self.notes.append(_NO_NOTE)
        fault = entry_fault(index, data, self._genesis)
        if fault is not None:
            self._report("entry", index, fault)
        try:
            value = parse_entry(data)
        except LedgerError:
            self.last_kind = ""
            return
        self.last_kind = value["kind"]
        now = times.parse_moment(value["time"])
        if now < self.last_time:
            self._report("time", index, f"its time {value['time']} goes back")
        self.last_time = max(now, self.last_time)
        if deltas and value["kind"] != BUNDLE:
            self._report("delta", index, "a delta list beside an entry that is no bundle's")
        takers = {
            GENESIS: self._take_genesis,
            REGISTRY: self._take_registry,
            BUNDLE: self._take_bundle,
            STATUS: self._take_status,
            EQUIVOCATION: self._take_equivocation,
        }
        try:
            takers[value["kind"]](index, value, data, deltas)
        except LedgerError as err:
            kind = "signature" if isinstance(err, ProofError) else "entry"
            self._report(_KINDS.get(err.code, kind), index, f"{err.code}: {err.message}")

    def _report(self, kind: str, index: int, message: str) -> None:
        self.found.append(Finding(kind, f"entry {index}", message))

    def _count(self, name: str, number: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    # --- kinds of entries ---

    def _take_genesis(self, index: int, value: Mapping[str, Any], data: bytes, _: bytes) -> None:
        if index == 0:
            self.tree.found(
                value["origin"],
                value["checkpoint_vkey"],
                value["operator_vkey"],
                value.get("cosigner_vkey"),
            )

    def _take_registry(self, index: int, value: Mapping[str, Any], data: bytes, _: bytes) -> None:
        self._count("registry changes")
        now = times.parse_moment(value["time"])
        change = apply_note(self.registry, value["note"].encode(), index, now)
        if change is None:
            raise Refused("registry-refused", "this change was in force already")
        department = change.record["name"].removeprefix("department/")
        was = self.registry.lanes(department)
        for record in change.records:
            self.tree.put(record)
        if change.opens_lanes:
            leaf = merkle.leaf_hash(data)
            self.tree.begin_lanes(department, was, change.opens_lanes, index, leaf)

    def _take_status(self, index: int, value: Mapping[str, Any], data: bytes, _: bytes) -> None:
        self._count("status entries")
        if self.tree.root().hex() != value["registry_root"]:
            self._report("registry-root", index, "is not the root of the registry before it")
        heads = map_heads(value)
        if heads is None:
            return
        self._fold_map()
        k = statusmap.next_k(self.map.k, self.map.records)
        if k != self.map.k:
            self.map.grow(k)
        head = heads[statusmap.CERTIFICATES]
        self._count("status maps")
        if head.k != k:
            self._report("status-map", index, f"k is {head.k}, {self.map.records} records give {k}")
        elif head.root != self.map.root():
            self._report("status-map", index, "is not the root that the public delta lists give")

    def _take_bundle(
        self, index: int, value: Mapping[str, Any], data: bytes, deltas: bytes
    ) -> None:
        note, header = _note(value["note"])
        self._count("bundles")
        self._count("events", header.count)
        self._check_deltas(index, value, deltas)
        text_hash = note_hash(note.text)
        self.notes[index] = text_hash
        doubled = self._places.setdefault(text_hash, index)
        if doubled != index:
            self._report("doubled", index, f"its note is entry {doubled}'s")
            return
        opened = Opened(
            Bundle(header, note, value["note"].encode(), text_hash, (), ()),
            signing_key(header, note, self.registry),
            ("unjudged",) * header.count,  # which of them are admitted, only lines can say
        )
        turn = Turn(self, index, times.parse_moment(value["time"]))
        done = turn.take(Source(**value["source"]), opened)
        if not turn.logged:
            kind = "signature" if done.outcome == admission.DEAD_LETTER else "sequence"
            self._report(kind, index, f"by the rules {done.code}: {done.message}")
            return
        for place, lane in turn.lanes.items():
            self.tree.move_lane(place, lane)
        self._check_outcome(index, value["outcome"], set(turn.logged[0].codes))

    def _check_outcome(
        self, index: int, outcome: Mapping[str, Sequence[int]], given: set[str]
    ) -> None:
        recorded = outcome.keys() & _WHOLE_BUNDLE
        refused = given & _WHOLE_BUNDLE
        if recorded != refused or (refused and outcome.keys() != refused):
            said = ", ".join(sorted(outcome))
            wanted = ", ".join(refused) or "none of its events for its note or signing time"
            self._report("outcome", index, f"refused as {said}; the rules refuse {wanted}")

    def _check_deltas(self, index: int, value: Mapping[str, Any], deltas: bytes) -> None:
        keys = [deltas[i : i + 32] for i in range(0, len(deltas), statusmap.PAIR)]
        if any(a >= b for a, b in pairwise(keys)):
            self._report("delta", index, "its delta list is not in ascending order")
        elif len(keys) > sum(value["outcome"].get(ADMITTED, [])[1::2]):
            self._report("delta", index, "more certificates changed than events were admitted")
        elif delta_root(deltas).hex() != value["certificates"]:
            self._report("delta", index, "its delta list is not the one committed to")
        else:
            self._pending.append(deltas)

    def _take_equivocation(
        self, index: int, value: Mapping[str, Any], data: bytes, _: bytes
    ) -> None:
        self._count("equivocations")
        note, header = _note(value["note"])
        key = signing_key(header, note, self.registry)
        record = self.registry.value(f"key/{key.key_id}")
        if record is None or not key_active(record, index):
            raise Refused("key-revoked")
        if value["conflicts_with"] >= index:
            raise Refused("equivocation", "it names an entry that comes after it")
        other, first = _note(parse_entry(self._entry_at(value["conflicts_with"])).get("note", ""))
        same = (first.department, first.lane, first.epoch, first.sequence, first.producer) == (
            header.department, header.lane, header.epoch, header.sequence, header.producer,
        )  # fmt: skip
        if not same or other.text == note.text:
            raise Refused("equivocation", "it does not conflict with the entry that it names")

    def _fold_map(self) -> None:
        self.map.fold(b"".join(self._pending))
        self._pending.clear()

    def settle(self) -> None:
        """Fold what waits, so that the map holds all entries taken."""
        self._fold_map()

    # --- the view that the next turn sees ---

    def lane(self, department: str, lane: int) -> Lane:
        return self.tree.lanes[department, lane]

    def note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None:
        return None  # the same note again was found already; another one is out of sequence

    def is_note_of_epoch(self, department: str, lane: int, epoch: int, note: bytes) -> bool:
        index = self._places.get(note)
        if index is None:
            return False
        header = _note(parse_entry(self._entry_at(index))["note"])[1]
        return (header.department, header.lane, header.epoch) == (department, lane, epoch)

    def is_equivocation_logged(self, department: str, lane: int, note: bytes) -> bool:
        return True

    def certificate(self, key: bytes) -> Certificate | None:
        return None

    def history(self, key: bytes) -> Sequence[Transition]:
        return ()

    def named(self, key: bytes) -> Sequence[bytes | None]:
        return ()

    def holder(self, key: bytes) -> tuple[int, bytes]:
        return 0, b""


_KINDS = {
    "registry-signature": "signature",
    "bad-signature": "signature",
    "unknown-key": "signature",
    "key-revoked": "signature",
    "registry-conflict": "registry-change",
    "registry-refused": "registry-change",
    "recovery-not-due": "registry-change",
    "key-in-use": "registry-change",
    "equivocation": "equivocation",
}


def delta_root(deltas: bytes) -> bytes:
    """The Merkle root over the pairs of a delta list."""
    pair = statusmap.PAIR
    return merkle.root(
        [merkle.leaf_hash(deltas[i : i + pair]) for i in range(0, len(deltas), pair)]
    )


def _note(text: str) -> tuple[Note, Header]:
    note = parse_note(text.encode())
    header = parse_header(note.text)
    if header.text() != note.text:
        raise Malformed("malformed-note", "the bundle's note is not in canonical form")
    return note, header
