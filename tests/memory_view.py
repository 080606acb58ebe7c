"""The admission's view kept in memory, and an oracle that folds the log again from its bytes."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from ledger import canonical, identity, lifecycle, merkle, times
from ledger.admission import (
    Accounted,
    Certificate,
    DeadLetter,
    HolderAct,
    Lane,
    LoggedBundle,
    Opened,
    Recorded,
    Skipped,
    Turn,
    begin_lanes,
    delta_root,
)
from ledger.bundle import parse_header
from ledger.entry import (
    ADMITTED,
    BUNDLE,
    EQUIVOCATION,
    REGISTRY,
    Source,
    code_at,
    format_registry,
    outcome_count,
    parse_entry,
)
from ledger.event import CORRECTED, parse_event
from ledger.fast_turn import FastTurn
from ledger.lifecycle import Standing, Transition, parse_transition
from ledger.note import parse_note
from ledger.registry import Registry, lanes_at
from ledger.reliance import Recall, is_recalled, is_reliance, recall_id
from ledger.relying import Act, Case, Hold, Mark, Step


class TwinTurn(FastTurn):
    """The workers' turn, after each record held against the one that goes the long way."""

    def __init__(self, view: MemoryView, next_index: int, now: int) -> None:
        super().__init__(view, next_index, now)
        self.long = Turn(view, next_index, now)

    def take(self, source: Source, record: Opened | DeadLetter | Skipped) -> Accounted:
        assert self.long.take(source, record) == super().take(source, record)
        ours, theirs = ({**vars(turn), "relying": vars(turn.relying)} for turn in (self, self.long))
        assert not self.issued.keys() & self.certificates.keys()
        for key, issued in self.issued.items():
            certificate, transition = issued.open()
            for name, one in (
                ("certificates", (issued.event, certificate)),
                ("transitions", [transition]),
                ("_named", [issued.event.holder_key]),
            ):
                ours[name] = {**ours[name], key: one}
        assert theirs.items() <= ours.items()
        return self.accounted[-1]


class MemoryView:
    """`admission.View`, and its own `relying`. Hands out its own objects, as a cache would: a turn
    may not change them.
    """

    def __init__(self, registry: Registry, next_index: int, opened: bytes = bytes(32)) -> None:
        self.registry = registry
        self.blinding_secret = sha256(b"blinding").digest()
        self.next_index = next_index
        self.first_index = next_index
        self.entries: list[bytes] = []
        self.logged: list[LoggedBundle] = []
        self.certificates: dict[bytes, Certificate] = {}
        self.histories: dict[bytes, list[Transition]] = {}
        self.named_holders: dict[bytes, list[bytes | None]] = {}
        self.holders: dict[bytes, tuple[int, bytes]] = {}
        self._notes: dict[tuple[str, int, int, int], Recorded] = {}
        self._equivocations: set[tuple[str, int, bytes]] = set()
        self.relying = self
        self.cases: dict[bytes, Case] = {}
        self.reliance_acts: list[Act] = []
        self.holds: dict[tuple[bytes, bytes, int, int], tuple[Hold, tuple[int, int] | None]] = {}
        self.marks: list[Mark] = []
        self.places: dict[bytes, list[tuple[int, int]]] = {}  # of the histories' transitions
        self.status_times: dict[int, int] = {}  # by log index
        self.lanes = {
            (department, lane): Lane(0, None, 0, opened, 0, "", 0)
            for department in registry.departments()
            for lane in range(registry.lanes(department))
        }

    def begin_lanes(self, department: str, was: int, count: int, leaf: bytes, index: int) -> None:
        """A department's lanes begin anew by entry `index`."""
        before = {n: lane for (name, n), lane in self.lanes.items() if name == department}
        for number, lane in begin_lanes(before, was, count, leaf, index).items():
            self.lanes[department, number] = lane

    def change(self, registry: Registry, note: bytes, now: int) -> bytes:
        """An entry that changes the registry; its leaf hash."""
        entry = format_registry(note, times.format_moment(now))
        self.registry = registry
        self.entries.append(entry)
        self.next_index += 1
        return merkle.leaf_hash(entry)

    def turn(self, now: int) -> TwinTurn:
        return TwinTurn(self, self.next_index, now)

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
        turn = turn.long if isinstance(turn, TwinTurn) else turn
        for bundle in turn.logged:
            for position, event in bundle.admitted():
                self.places.setdefault(event.key, []).append((bundle.index, position))
                self.named_holders.setdefault(event.key, []).append(event.holder_key)
        for key, transitions in turn.transitions.items():
            printed = [canonical.parse(t.format(), 65536) for t in transitions]
            self.histories.setdefault(key, []).extend(map(parse_transition, printed))
            assert len(self.histories[key]) == len(self.places[key])
        for key, (_, certificate) in turn.certificates.items():
            self.certificates[key] = certificate
        self.holders.update(turn.holders)
        done = turn.relying
        self.cases.update(done.cases)
        self.reliance_acts += done.acts
        self.marks += done.marks
        for key, certificate, hold in done.holds:
            self.holds[key, certificate, hold.log_index, hold.position] = (hold, None)
        for key, certificate, hold, index, position in done.closed:
            where = (key, certificate, hold.log_index, hold.position)
            assert self.holds[where] == (hold, None), "a hold ended twice"
            self.holds[where] = (hold, (index, position))

    def case(self, key: bytes) -> Case | None:
        return self.cases.get(key)

    def is_relied(self, certificate: bytes) -> bool:
        return any(where[1] == certificate for where in self.holds)

    def count(self, certificate: bytes) -> int:
        return len(self.histories.get(certificate, []))

    def steps(self, certificate: bytes) -> Sequence[Step]:
        places = self.places.get(certificate, [])
        history = self.histories.get(certificate, [])
        return [(*place, t) for place, t in zip(places, history, strict=True)]

    def status_time(self, index: int) -> int | None:
        return self.status_times.get(index)

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

    def named(self, key: bytes) -> Sequence[bytes | None]:
        return self.named_holders.get(key, [])

    def holder(self, key: bytes) -> tuple[int, bytes]:
        return self.holders.get(key, (0, b""))


def recalls(view: MemoryView) -> list[Recall]:
    """The notices that follow from what a view keeps, in order, without their times."""
    found = []
    for mark in view.marks:
        cause = (mark.cause_index, mark.cause_position)
        (t,) = (
            t
            for place, t in zip(
                view.places[mark.certificate], view.histories[mark.certificate], strict=True
            )
            if place == cause
        )
        for (key, certificate, *begin), (hold, end) in sorted(view.holds.items()):
            if certificate != mark.certificate:
                continue
            if mark.reliance is None:
                concerns = tuple(begin) < cause and (end is None or cause < end)
            else:
                concerns = (key, *begin) == (mark.reliance, mark.log_index, mark.position)
            if concerns and is_recalled(hold.lasts, t.kind, t.revocation):
                (item,) = {a.item.case: a.item for a in view.reliance_acts if a.key == key}.values()
                found.append(
                    Recall(
                        recall_id(item.case, hold.act, hold.number, *cause),
                        item.office,
                        item.case,
                        mark.certificate,
                        *cause,
                        t.kind,
                        t.revocation,
                        t.reason,
                        "",
                    )
                )
    return found


def check_log(view: MemoryView) -> None:
    """Everything a view keeps follows from entries and lines alone, folded again from nothing."""
    bundles = {bundle.index: bundle for bundle in view.logged}
    histories: dict[bytes, list[Transition]] = {}
    links: dict[bytes, bytes] = {}
    bound: dict[bytes, str] = {}
    bound_after: dict[tuple[bytes, str], str | None] = {}  # an event, by certificate and id
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
        if entry["kind"] == REGISTRY:
            continue
        assert entry["kind"] == BUNDLE
        text = parse_note(entry["note"].encode()).text
        header = parse_header(text)
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
            if code_at(entry["outcome"], position) != ADMITTED or is_reliance(line):
                continue
            event = parse_event(line, merkle.leaf_hash(line))
            key = event.key
            assert (key, event.id) not in ids, "an event was admitted twice"
            ids.add((key, event.id))
            value = view.registry.value(f"department/{header.department}") or {}
            assert identity.lane_of(key, lanes_at(value, index)) == header.lane
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
            holder = event.holder or bound.get(key)
            if transition.correction == "rewind":
                (ordinal,) = (n for n, t in enumerate(history) if t.id == transition.corrects)
                holder = bound_after[key, history[ordinal - 1].id] if ordinal else None
            bound_after[key, event.id] = holder
            if holder != bound.get(key):
                for pseudonym, is_bound in ((bound.get(key), False), (holder, True)):
                    if pseudonym is not None:
                        where = identity.holder_key(pseudonym)
                        count, link = acts.get(where, (0, where))
                        acts[where] = (
                            count + 1,
                            lifecycle.holder_link(link, is_bound, key, index, position),
                        )
                        done.append(HolderAct(where, count, position, key, is_bound))
                bound.pop(key, None)
                if holder is not None:
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
        blinding = hmac.digest(
            view.blinding_secret, b"certledger blinding v1\n" + sha256(text).digest(), "sha256"
        )
        blinded = sha256(b"certledger holders v1\n" + blinding + delta_root(holders)).hexdigest()
        assert entry["holders"] == blinded
    assert acts == view.holders
    assert histories.keys() == view.certificates.keys()
    for key, certificate in view.certificates.items():
        assert certificate.standing == lifecycle.fold(histories[key])
        assert certificate.link == links[key]
        holder = bound.get(key)
        assert certificate.holder == (None if holder is None else identity.holder_key(holder))
        assert certificate.event_ids.keys() == {t.id for t in histories[key]}


def _check_equivocation(first: dict[str, Any], second: dict[str, Any]) -> None:
    one = parse_header(parse_note(first["note"].encode()).text)
    other = parse_header(parse_note(second["note"].encode()).text)
    assert one != other
    for name in ("origin", "department", "lane", "epoch", "sequence", "producer"):
        assert getattr(one, name) == getattr(other, name)
