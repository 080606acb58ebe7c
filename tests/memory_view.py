"""The admission's view kept in memory, and an oracle that folds the log again from its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger import canonical, identity, lifecycle, merkle
from ledger.admission import (
    Certificate,
    HolderAct,
    Lane,
    LoggedBundle,
    Recorded,
    Turn,
    delta_root,
)
from ledger.bundle import parse_header
from ledger.entry import ADMITTED, BUNDLE, EQUIVOCATION, code_at, outcome_count, parse_entry
from ledger.event import CORRECTED, parse_event
from ledger.lifecycle import Standing, Transition, parse_transition
from ledger.note import parse_note
from ledger.registry import Registry


class MemoryView:
    """`admission.View`. Hands out its own objects, as a cache would: a turn may not change them."""

    def __init__(self, registry: Registry, next_index: int, opened: bytes = bytes(32)) -> None:
        self.registry = registry
        self.next_index = next_index
        self.first_index = next_index
        self.entries: list[bytes] = []
        self.logged: list[LoggedBundle] = []
        self.certificates: dict[bytes, Certificate] = {}
        self.histories: dict[bytes, list[Transition]] = {}
        self.holders: dict[bytes, tuple[int, bytes]] = {}
        self._notes: dict[tuple[str, int, int, int], Recorded] = {}
        self._equivocations: set[tuple[str, int, bytes]] = set()
        self.lanes = {
            (department, lane): Lane(0, None, 0, opened, 0, "", 0)
            for department in registry.departments()
            for lane in range(registry.lanes(department))
        }

    def turn(self, now: int) -> Turn:
        return Turn(self, self.next_index, now)

    def commit(self, turn: Turn) -> None:
        """Keep what a turn says, as the store does."""
        assert [i for i, _ in turn.entries] == list(range(self.next_index, turn.next_index))
        self.entries += [entry for _, entry in turn.entries]
        self.logged += turn.logged
        self.next_index = turn.next_index
        self.lanes.update(turn.lanes)
        for place, note in turn.notes.items():
            assert place not in self._notes, "a lane number was used twice"
            self._notes[place] = note
        for done in turn.accounted:
            if done.outcome == EQUIVOCATION and done.index is not None:
                assert done.bundle is not None
                header = done.bundle.header
                self._equivocations.add((header.department, header.lane, done.bundle.note_hash))
        for bundle in turn.logged:
            for admitted in bundle.admitted:
                history = self.histories.setdefault(admitted.key, [])
                assert admitted.ordinal == len(history)
                history.append(parse_transition(canonical.parse(admitted.transition, 65536)))
        for key, (_, certificate) in turn.certificates.items():
            self.certificates[key] = certificate
        self.holders.update(turn.holders)

    def lane(self, department: str, lane: int) -> Lane:
        return self.lanes[department, lane]

    def note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None:
        return self._notes.get((department, lane, epoch, seq))

    def is_note_of_epoch(self, department: str, lane: int, epoch: int, note: bytes) -> bool:
        return any(
            place[:3] == (department, lane, epoch) and recorded.note_hash == note
            for place, recorded in self._notes.items()
        )

    def is_equivocation_logged(self, department: str, lane: int, note: bytes) -> bool:
        return (department, lane, note) in self._equivocations

    def certificate(self, key: bytes) -> Certificate | None:
        return self.certificates.get(key)

    def history(self, key: bytes) -> Sequence[Transition]:
        return self.histories.get(key, [])

    def holder(self, key: bytes) -> tuple[int, bytes]:
        return self.holders.get(key, (0, b""))


def check_log(view: MemoryView) -> None:
    """Everything a view keeps follows from entries and lines alone, folded again from nothing."""
    bundles = {bundle.index: bundle for bundle in view.logged}
    histories: dict[bytes, list[Transition]] = {}
    links: dict[bytes, bytes] = {}
    bound: dict[bytes, str] = {}
    acts: dict[bytes, tuple[int, bytes]] = {}
    numbers: dict[tuple[str, int, int], tuple[str, int]] = {}
    epochs: dict[tuple[str, int], int] = {}
    ids: set[tuple[bytes, str]] = set()
    for index, data in enumerate(view.entries, view.first_index):
        entry = parse_entry(data)
        if entry["kind"] == EQUIVOCATION:
            first = view.entries[entry["conflicts_with"] - view.first_index]
            _check_equivocation(parse_entry(first), entry)
            continue
        assert entry["kind"] == BUNDLE
        header = parse_header(parse_note(entry["note"].encode()).text)
        lines = bundles[index].opened.bundle.lines
        place = (header.department, header.lane)
        assert epochs.get(place, 0) <= header.epoch
        epochs[place] = header.epoch
        producer, expected = numbers.get((*place, header.epoch), (header.producer, 0))
        assert (header.producer, header.sequence) == (producer, expected)
        numbers[*place, header.epoch] = (producer, expected + 1)
        assert outcome_count(entry["outcome"]) == header.count == len(lines)
        touched: set[bytes] = set()
        done: list[HolderAct] = []
        for position, line in enumerate(lines):
            if code_at(entry["outcome"], position) != ADMITTED:
                continue
            event = parse_event(line, merkle.leaf_hash(line))
            key = event.key
            assert (key, event.id) not in ids, "an event was admitted twice"
            ids.add((key, event.id))
            assert identity.lane_of(key, view.registry.lanes(header.department)) == header.lane
            history = histories.setdefault(key, [])
            standing = lifecycle.fold(history) if history else Standing()
            stored = view.histories[key][len(history)]
            version = lifecycle.next_version(standing, event.kind)
            transition = lifecycle.make_transition(event, header.department, stored.key, version)
            if event.kind == CORRECTED:
                after = lifecycle.correct(history, transition)
                transition = lifecycle.make_transition(
                    event, header.department, stored.key, after.version
                )
            assert transition == stored
            history.append(transition)
            links[key] = lifecycle.link(
                links.get(key, key), index, position, event.line_hash, transition.format()
            )
            touched.add(key)
            holder = event.data.get("holder_pseudonym")
            if holder is not None and holder != bound.get(key):
                for pseudonym, is_bound in ((bound.get(key), False), (holder, True)):
                    if pseudonym is not None:
                        where = identity.holder_key(pseudonym)
                        count, link = acts.get(where, (0, where))
                        acts[where] = (
                            count + 1,
                            lifecycle.holder_link(link, is_bound, key, index, position),
                        )
                        done.append(HolderAct(where, count, position, key, is_bound))
                bound[key] = holder
        certificates = [
            (key, lifecycle.record_hash(lifecycle.fold(histories[key]).record(links[key])))
            for key in sorted(touched)
        ]
        holders = [
            (key, lifecycle.holder_record_hash(*acts[key])) for key in sorted({a[0] for a in done})
        ]
        assert bundles[index].acts == tuple(done)
        assert entry["certificates"] == delta_root(certificates).hex()
        assert entry["holders"] == delta_root(holders).hex()
    assert acts == view.holders
    assert histories.keys() == view.certificates.keys()
    for key, certificate in view.certificates.items():
        assert certificate.standing == lifecycle.fold(histories[key])
        assert certificate.link == links[key]
        assert certificate.holder == bound.get(key)
        assert certificate.event_ids.keys() == {t.id for t in histories[key]}


def _check_equivocation(first: dict[str, Any], second: dict[str, Any]) -> None:
    one = parse_header(parse_note(first["note"].encode()).text)
    other = parse_header(parse_note(second["note"].encode()).text)
    assert one != other
    for name in ("origin", "department", "lane", "epoch", "sequence", "producer"):
        assert getattr(one, name) == getattr(other, name)
