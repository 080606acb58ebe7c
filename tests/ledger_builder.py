"""A whole ledger in memory: registry notes, bundles, status entries, checkpoints, evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ledger import merkle, statusmap, times
from ledger.admission import Accounted, open_record
from ledger.bundle import format_record, note_hash
from ledger.checkpoint import Checkpoint
from ledger.entry import STATUS, Source, format_genesis, format_registry, format_status, parse_entry
from ledger.evidence import CertificateId, Evidence, Step
from ledger.holder_evidence import Act
from ledger.note import MemorySigner, sign
from ledger.proving import Records, prove
from ledger.question import Question
from ledger.registry import Registry, lane_record
from ledger.statusmap import MapHead, Membership
from ledger.trust import Trust, TrustedKey
from tests import world
from tests.memory_view import MemoryView

TOPIC = "A" * 22
KINDS = (statusmap.CERTIFICATES, statusmap.HOLDERS)
CLAIMS = {
    "issuing_authority_name": "长沙市市场监督管理局",
    "certificate_name": "食品经营许可证",
    "business_scope": "预包装食品（含冷藏冷冻食品）销售；散装食品销售；热食类食品制售",
    "premises": "湖南省长沙市岳麓区枫林三路 1115 号",
}


class LedgerBuilder:
    """Appends as the real ledger does, one turn per bundle; `now` moves by `advance`."""

    def __init__(
        self,
        departments: Mapping[str, int] | None = None,
        grants: Sequence[tuple[str, Sequence[str], str]] = (("a", world.ALL_ACTS, "own"),),
        checkpoint: MemorySigner = world.CHECKPOINT,
    ) -> None:
        self.now = world.START
        self.checkpoint_signer = checkpoint
        self.book = world.Book()
        vkeys = (str(world.CHECKPOINT.key), str(world.OPERATOR.key))
        self.entries = [format_genesis(world.ORIGIN, *vkeys, times.format_moment(self.now))]
        self.view = MemoryView(self.book.registry, 1)
        self.histories: dict[bytes, list[Step]] = {}
        self.lines: dict[int, tuple[bytes, ...]] = {}
        self.acts: dict[bytes, list[Act]] = {}
        self.certificates: dict[bytes, CertificateId] = {}
        self.maps: dict[bytes, dict[bytes, bytes]] = {kind: {} for kind in KINDS}
        self.k = dict.fromkeys(KINDS, 0)
        self.snapshots: dict[int, list[bytes]] = {}
        self.states: dict[int, dict[bytes, MapState]] = {}
        self.producers: dict[tuple[str, int], world.Producer] = {}
        self._made = -1
        self.keys: dict[str, MemorySigner] = {}
        for name, lanes in (departments or {"a": 1}).items():
            self.book.add_department(name, lanes)
        self.book.set_type(grants)
        self.sync_registry()

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * times.SECOND)

    def sync_registry(self) -> None:
        """Append what was changed in the book since the last time."""
        for note in self.book.notes:
            self.entries.append(format_registry(note, times.format_moment(self.now)))
        self.book.notes.clear()
        lanes = self.view.lanes
        fresh = MemoryView(self.book.registry, len(self.entries))
        self.view.registry = self.book.registry
        self.view.lanes = {**fresh.lanes, **lanes}
        self.view.next_index = self.book.index = len(self.entries)

    def change(self, name: str, value: Mapping[str, Any], *signers: MemorySigner) -> int:
        """A registry change as the next entry; its index."""
        self.book.index, self.book.now = len(self.entries), self.now
        department = name.removeprefix("department/")
        was = self.book.registry.lanes(department)
        done = self.book.change(name, value, *signers)
        self.sync_registry()
        index = len(self.entries) - 1
        if done.opens_lanes:
            leaf = merkle.leaf_hash(self.entries[-1])
            self.view.begin_lanes(department, was, done.opens_lanes, leaf, index)
            places = [place for place in self.producers if place[0] == department]
            for place in places:
                del self.producers[place]
        return index

    def publish(self, lines: Sequence[bytes], department: str = "a", lane: int = 0) -> Accounted:
        """One bundle of a department, taken in a turn of its own."""
        return self.take(self._record(lines, department, lane))

    def publish_together(self, bundles: Sequence[tuple[str, int, Sequence[bytes]]]) -> None:
        """Bundles by department and lane, all taken in one turn."""
        self._take([self._record(lines, *place) for *place, lines in bundles])

    def _record(self, lines: Sequence[bytes], department: Any, lane: Any) -> bytes:
        place = (department, lane)
        if place not in self.producers:
            at = self.view.lanes[place]
            self._made += 1
            self.producers[place] = world.Producer(
                department, lane, at.previous, f"{self._made:032x}", epoch=at.epoch
            )
        producer = self.producers[place]
        key = self.keys.get(department, world.bundle_signer(department))
        header = producer.header(lines, self.now)
        producer.previous = note_hash(header.text())
        producer.sequence += 1
        return format_record(world.make_note(header, key), lines)

    def take(self, record: bytes) -> Accounted:
        """One record, taken in a turn of its own."""
        return self._take([record])[0]

    def _take(self, records: Sequence[bytes]) -> list[Accounted]:
        self.view.next_index = len(self.entries)
        turn = self.view.turn(self.now)
        for n, record in enumerate(records):
            source = Source(TOPIC, 0, len(self.entries) + n)
            turn.take(source, open_record(record, self.view.registry))
        done = turn.accounted
        self.view.commit(turn)
        self.entries += [entry for _, entry in turn.entries]
        for bundle in turn.logged:
            self.lines[bundle.index] = bundle.opened.bundle.lines
            self.maps[statusmap.CERTIFICATES].update(bundle.certificates)
            self.maps[statusmap.HOLDERS].update(bundle.holders)
            for act in bundle.acts:
                self.acts.setdefault(act.holder, []).append(
                    Act(bundle.index, act.position, act.certificate, act.bound)
                )
            for position, event in bundle.admitted():
                certificate = CertificateId(event.type_code, event.issuer, event.number)
                self.certificates[event.key] = certificate
                history = self.histories.setdefault(event.key, [])
                transition = self.view.histories[event.key][len(history)]
                history.append(Step(bundle.index, position, event.line_hash, transition))
        return done

    def event(self, kind: str, number: str, **members: Any) -> bytes:
        """An event line with the claims that a real one carries."""
        return world.make_event(kind, number, claims=CLAIMS, **members)

    def admit(self, kind: str, number: str, department: str = "a", **members: Any) -> int:
        """Publish one event that must be admitted; its entry's index."""
        line = self.event(kind, number, **members)
        lane = world.lane_of(department, number, self.view.registry, members.get("issuer", "a"))
        done = self.publish([line], department, lane)
        assert done.index is not None
        outcome = parse_entry(self.entries[done.index])["outcome"]
        assert outcome == {"admitted": [0, 1]}, outcome
        return done.index

    def status(self, reflects: int | None = None, with_maps: bool = True) -> int:
        """Append a status entry; its index."""
        index = len(self.entries)
        records = [
            *self.view.registry.records.values(),
            *(
                lane_record(department, number, lane.index, lane.value())
                for (department, number), lane in self.view.lanes.items()
            ),
        ]
        self.snapshots[index] = world.leaves(records)
        root = merkle.root([merkle.leaf_hash(leaf) for leaf in self.snapshots[index]])
        time = times.format_moment(self.now)
        heads = None
        if with_maps:
            self.k = {k: statusmap.next_k(self.k[k], len(m)) for k, m in self.maps.items()}
            state = {kind: MapState(kind, self.k[kind], dict(self.maps[kind])) for kind in KINDS}
            self.states[index] = state
            heads = {kind: one.head for kind, one in state.items()}
        reflected = index if reflects is None else reflects
        self.entries.append(format_status(reflected, root, time, heads))
        self.view.status_times[index] = self.now
        return index

    def fill(self, count: int) -> None:
        """Append `count` entries that only make the log large, no two of them the same."""
        first = len(self.entries)
        time = times.format_moment(self.now)
        self.entries += [format_status(n, bytes(32), time) for n in range(first, first + count)]

    def doctor(self, name: str, **value: Any) -> None:
        """Falsify a registry record behind the rules' back, for the status entries to come."""
        record = self.book.registry.records[name]
        changed = {**record, "value": {**record["value"], **value}}
        records = {**self.book.registry.records, name: changed}
        self.book.registry = self.view.registry = Registry(world.ORIGIN, records)

    def trust(self, **members: Any) -> Trust:
        key = TrustedKey(self.checkpoint_signer.key, 0, None)
        genesis = merkle.leaf_hash(self.entries[0])
        told = {"origin": world.ORIGIN, "genesis": genesis, "keys": (key,)}
        return Trust(**{**told, "operator": world.OPERATOR.key, **members})

    def source(self, size: int | None = None) -> MemorySource:
        """The ledger as of a checkpoint, the last entry being a status entry."""
        if size is None and len(self.entries) - 1 not in self.snapshots:
            self.status()
        return MemorySource(self, len(self.entries) if size is None else size)

    def evidence(
        self,
        number: str,
        *,
        at: int | None = None,
        known_at: int | None = None,
        version: int | None = None,
        size: int | None = None,
        issuer: str = "a",
    ) -> Evidence:
        question = Question(self.now, at, known_at, version)
        return prove(self.source(size), CertificateId(world.TYPE, issuer, number), question)


class MapState:
    """A status map under a status entry, whole."""

    def __init__(self, kind: bytes, k: int, records: dict[bytes, bytes]) -> None:
        self.k = k
        buckets = [b""] * (1 << k)
        for key in sorted(records):
            buckets[statusmap.bucket_of(key, k)] += key + records[key]
        self.buckets = buckets
        hashes = [statusmap.bucket_hash(kind, k, n, b) for n, b in enumerate(buckets)]
        self.subtree = merkle.in_memory(hashes)
        self.head = MapHead(k, self.subtree(k, 0))

    def membership(self, key: bytes) -> Membership:
        number = statusmap.bucket_of(key, self.k)
        path = merkle.prove_inclusion(number, 1 << self.k, self.subtree)
        return statusmap.show(key, self.buckets[number], path)


@cache
def _leaf_hash(entry: bytes) -> bytes:
    return merkle.leaf_hash(entry)


class MemorySource:
    """`proving.Source` over a builder's ledger."""

    def __init__(self, ledger: LedgerBuilder, size: int) -> None:
        self._ledger = ledger
        self.origin = world.ORIGIN
        self.size = size
        hashes = [_leaf_hash(entry) for entry in ledger.entries[:size]]
        self.subtree = merkle.in_memory(hashes)
        checkpoint = Checkpoint(world.ORIGIN, size, merkle.root(hashes))
        self.checkpoint = sign(checkpoint.text(), [ledger.checkpoint_signer])

    def history(self, key: bytes) -> list[Step]:
        return [s for s in self._ledger.histories.get(key, []) if s.index < self.size]

    def entry(self, index: int) -> bytes:
        return self._ledger.entries[index]

    def lines(self, index: int) -> tuple[bytes, ...]:
        return self._ledger.lines[index]

    def line(self, index: int, position: int) -> tuple[bytes, list[bytes]]:
        lines = self._ledger.lines[index]
        subtree = merkle.in_memory([merkle.leaf_hash(line) for line in lines])
        return lines[position], merkle.prove_inclusion(position, len(lines), subtree)

    def membership(self, kind: bytes, key: bytes) -> Membership:
        states = self._ledger.states
        # an entry without maps is shown beside the last bucket there was
        index = max((i for i in states if i < self.size), default=None)
        return Membership(b"", ()) if index is None else states[index][kind].membership(key)

    def acts(self, key: bytes) -> list[Act]:
        return [act for act in self._ledger.acts.get(key, []) if act.index < self.size]

    def identities(self, keys: Sequence[bytes]) -> dict[bytes, CertificateId]:
        return {key: self._ledger.certificates[key] for key in keys}

    def records(self) -> Records:
        return Records.of(self._ledger.snapshots[self.size - 1])

    def status_at(self, moment: int) -> int | None:
        found = None
        for index, data in enumerate(self._ledger.entries[: self.size]):
            entry = parse_entry(data)
            if entry["kind"] == STATUS and times.parse_moment(entry["time"]) <= moment:
                found = index
        return found
