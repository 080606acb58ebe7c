"""The turn under a machine: producers that crash, take over, repeat, lie; turns that are lost."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger import doubt, identity, lifecycle, times
from ledger import event as events
from ledger.admission import (
    DEAD_LETTER,
    EQUIVOCATION,
    FENCED,
    LOGGED,
    OUT_OF_SEQUENCE,
    REPEAT,
    Accounted,
    Opened,
    open_record,
)
from ledger.bundle import format_record, parse_record
from ledger.entry import Source
from ledger.errors import Refused
from ledger.note import MemorySigner
from ledger.registry import MIN_DELAY
from tests import slow_life
from tests.memory_view import MemoryView, check_log
from tests.world import (
    ALL_ACTS,
    OPERATOR,
    START,
    TYPE,
    Book,
    Producer,
    bundle_signer,
    department_change,
    key_change,
    lane_of,
    make_event,
    make_note,
    registry_signer,
)

ROOT = Path(__file__).parents[2]
TOPIC = "A" * 22
LANES = {"a": 2, "b": 1, "c": 3}
NUMBERS = [f"号{n}" for n in range(4)]
HOLDERS = [f"1:{n:064x}" for n in range(3)]
DAYS = ["2026-01-01+08:00", "2026-02-01+08:00", "2026-03-01+08:00", "2026-06-01Z"]


def _book() -> Book:
    book = Book()
    for name, lanes in LANES.items():
        book.add_department(name, lanes)
    book.set_type(
        [
            ("a", ALL_ACTS, "own"),
            ("b", ["revoked", "suspended", "reinstated", "corrected"], "any"),
            ("c", ALL_ACTS, "own"),
        ]
    )
    return book


BOOK = _book()


@st.composite
def datas(draw: st.DrawFn, kind: str, known: list[str]) -> dict[str, str]:
    data: dict[str, str] = {}
    allowed, needed = events.FIELDS[kind]
    values = {
        "valid_from": st.sampled_from([*DAYS, "unknown"]),
        "valid_until": st.sampled_from([*DAYS, "2027-01-01+08:00", "unknown", "open"]),
        "holder_pseudonym": st.sampled_from(HOLDERS),
        "reason_code": st.sampled_from(["r1", "late-fee"]),
        "revocation_kind": st.sampled_from(events.REVOCATION_KINDS),
        "transfer_to": st.sampled_from(sorted(LANES)),
        "corrects": st.sampled_from(known) if known else st.just("0" * 32),
        "correction": st.sampled_from(events.CORRECTIONS),
    }
    for name in sorted(allowed & values.keys()):
        if name in needed or draw(st.integers(0, 3)) == 0:
            data[name] = draw(values[name])
    if kind == events.SUSPENDED and data.get("valid_from") == "unknown":
        del data["valid_from"]
    if data.get("correction") in ("void", "confirm", "rewind"):
        data = {n: v for n, v in data.items() if n not in ("valid_from", "valid_until")}
    return data


class AdmissionMachine(RuleBasedStateMachine):
    steps = 0  # of all its examples
    logs = sha256()  # that came of them, but for those that broke off

    @initialize()
    def begin(self) -> None:
        self.book = dataclasses.replace(BOOK, notes=[])
        self.view = MemoryView(BOOK.registry, BOOK.index)
        self.now = START
        self.lanes = dict(LANES)  # how many, by department
        self.owners = {d: registry_signer(d) for d in LANES}
        self.bundlers = {d: bundle_signer(d) for d in LANES}
        self.announced: dict[str, MemorySigner] = {}
        self.turn = self.view.turn(self.now)
        self.offset = 0  # committed records
        self.in_turn: list[bytes] = []
        self.records: list[bytes] = []  # everything ever made, delivered any number of times
        self.lied: set[tuple[str, int, int, int, str]] = set()
        self.lines: list[tuple[str, int, bytes]] = []
        self.ids: list[str] = []
        self.made = 0
        self.outcomes: dict[bytes, list[Accounted]] = {}
        self.producers = {
            (d, lane): Producer(d, lane, bytes(32), f"{ord(d):016x}{lane:016x}")
            for d, lanes in LANES.items()
            for lane in range(lanes)
        }

    # --- what producers do ---

    @rule(data=st.data(), count=st.integers(0, 4), place=st.sampled_from(sorted(LANES)))
    def make(self, data: st.DataObject, count: int, place: str) -> None:
        lane = data.draw(st.integers(0, self.lanes[place] - 1))
        lines = [self._line(data, place, lane) for _ in range(count)]
        producer = self.producers[place, lane]
        self.records.append(producer.make(lines, self.now))

    def _line(self, data: st.DataObject, department: str, lane: int) -> bytes:
        mine = [line for d, n, line in self.lines if (d, n) == (department, lane)]
        if mine and data.draw(st.integers(0, 5)) == 0:
            return data.draw(st.sampled_from(mine))  # bundled again
        issuer = "c" if department == "c" else "a"
        right = [n for n in NUMBERS if lane_of(department, n, self.view.registry, issuer) == lane]
        number = data.draw(st.sampled_from(right or NUMBERS))
        kind, known = self._kind(data, issuer, number)
        self.made += 1
        event_id = None
        if self.ids and data.draw(st.integers(0, 12)) == 0:
            event_id = data.draw(st.sampled_from(self.ids))  # another event's id
        line = make_event(
            kind,
            number,
            issuer=issuer,
            time=times.format_moment(self.now),
            change=f"{department}{self.made}",
            event_id=event_id,
            **data.draw(datas(kind, known or self.ids)),
        )
        self.ids.append(events.parse_event(line, bytes(32)).id)
        self.lines.append((department, lane, line))
        return line

    def _kind(self, data: st.DataObject, issuer: str, number: str) -> tuple[str, list[str]]:
        """An event kind, mostly one that is possible now, and the certificate's event ids."""
        key = identity.certificate_key(TYPE, issuer, number)
        ours = self.turn.long.certificates.get(key)
        certificate = ours[1] if ours else self.view.certificate(key)
        state = certificate.standing.state if certificate else lifecycle.NONE
        possible = [kind for before, kind in lifecycle.TABLE if before == state]
        known = list(certificate.event_ids) if certificate else []
        mostly = [*possible, *possible, "corrected"] if known else ["issued"] * 4
        return data.draw(st.sampled_from([*mostly, *mostly, *ALL_ACTS])), known

    @rule(data=st.data(), which=st.sampled_from(["again", "damaged", "unsigned", "lie", "future"]))
    @precondition(lambda self: self.records)
    def spoil(self, data: st.DataObject, which: str) -> None:
        record = data.draw(st.sampled_from(self.records))
        bundle = parse_record(record)
        header = bundle.header
        if which == "damaged" and bundle.lines:
            record = record[:-2] + bytes([record[-2] ^ 1]) + record[-1:]
        elif which == "unsigned":
            note = make_note(dataclasses.replace(header, department="a"))
            record = format_record(
                note.replace(b"\n\xe2\x80\x94 l", b"\n\xe2\x80\x94 x"), bundle.lines
            )
        elif which == "lie":  # the same number signed twice with different texts
            told = dataclasses.replace(header, signed_at=times.format_moment(self.now + 1))
            if told == header:
                return
            self.lied.add(
                (header.department, header.lane, header.epoch, header.sequence, header.producer)
            )
            record = format_record(make_note(told), bundle.lines)
        elif which == "future":
            producer = self.producers.get((header.department, header.lane))
            if producer is None:  # the lane is closed by now
                return
            told = producer.header([], self.now, sequence=header.sequence + 7)
            self.lied.add((told.department, told.lane, told.epoch, told.sequence, told.producer))
            record = format_record(make_note(told), [])
        self._deliver(record)

    @rule(data=st.data(), place=st.sampled_from(sorted(LANES)), stale=st.booleans())
    def take_over(self, data: st.DataObject, place: str, stale: bool) -> None:
        lane = data.draw(st.integers(0, self.lanes[place] - 1))
        old = self.producers[place, lane]
        state = self.view.lanes[place, lane]
        self.made += 1
        known = [
            note.note_hash
            for where, note in self.view._notes.items()
            if where[:3] == (place, lane, state.epoch)
        ]
        previous = data.draw(st.sampled_from(known)) if stale and known else state.previous
        self.producers[place, lane] = Producer(
            place,
            lane,
            previous,
            f"{self.made:032x}",
            epoch=state.epoch + 1,
            signer=self.bundlers[place],
        )
        if data.draw(st.booleans()):
            self.records.append(old.make([], self.now))  # the old one wakes up

    # --- what departments and the operator change in the registry ---

    def _change(self, name: str, change: Mapping[str, Any], *signers: MemorySigner) -> None:
        """An entry of its own, after the turn that is under way."""
        self.commit()
        self.book.index, self.book.now = self.view.next_index, self.now
        department = name.removeprefix("department/")
        was = self.view.registry.lanes(department)
        done = self.book.change(name, change, *signers)
        leaf = self.view.change(self.book.registry, self.book.notes.pop(), self.now)
        if done.opens_lanes:
            index = self.view.next_index - 1
            self.view.begin_lanes(department, was, done.opens_lanes, leaf, index)
        self._new_turn()

    @rule(place=st.sampled_from(sorted(LANES)), lanes=st.integers(1, 4))
    def change_lanes(self, place: str, lanes: int) -> None:
        """All lanes begin anew; what is spooled is bundled again by the new number, in order."""
        if lanes == self.lanes[place]:
            return
        change = department_change(place, lanes)
        self._change(f"department/{place}", change, self.owners[place], OPERATOR)
        old = [self.producers.pop((place, n)) for n in range(self.lanes[place])]
        self.lanes[place] = lanes
        for n in range(lanes):
            self.made += 1
            at = self.view.lanes[place, n]
            self.producers[place, n] = Producer(
                place, n, at.previous, f"{self.made:032x}", at.epoch, signer=self.bundlers[place]
            )
        for producer in old:
            for line in (line for record in producer.spool for line in parse_record(record).lines):
                key = events.parse_event(line, bytes(32)).key
                to = self.producers[place, identity.lane_of(key, lanes)]
                self.records.append(to.make([line], self.now))

    @rule(place=st.sampled_from(sorted(LANES)), data=st.data(), is_stolen=st.booleans())
    def rotate_key(self, place: str, data: st.DataObject, is_stolen: bool) -> None:
        """A new bundle key; the old one is revoked, from now or from an earlier entry on."""
        old, owner = self.bundlers[place], self.owners[place]
        self.made += 1
        new = self.bundlers[place] = bundle_signer(place, str(self.made))
        self._change(f"key/{new.key.key_id}", key_change(new, "bundle", place), owner, old, new)
        since: Any = True
        if is_stolen:
            value = self.view.registry.value(f"key/{old.key.key_id}") or {}
            since = data.draw(st.integers(value["from"], self.view.next_index - 1))
        self._change(f"key/{old.key.key_id}", key_change(old, "bundle", place, since), owner)
        for (department, _), producer in self.producers.items():
            if department == place:
                producer.resign(new)
                self.records += producer.spool[-2:]

    @rule(data=st.data(), how=st.sampled_from(["confirm", "confirm", "void", "restate", "rewind"]))
    @precondition(lambda self: self.view.registry.doubts)
    def settle(self, data: st.DataObject, how: str) -> None:
        """A department confirms or corrects what a doubted key signed."""
        names = {
            identity.certificate_key(TYPE, issuer, number): (issuer, number)
            for issuer in "ac"
            for number in NUMBERS
        }
        found = [
            (key, t)
            for key, history in sorted(self.view.histories.items())
            for (index, _), t in zip(self.view.places[key], history, strict=True)
            if doubt.is_doubted(t.key, index, self.view.registry.doubts)
        ]
        if not found:
            return
        key, t = data.draw(st.sampled_from(found))
        issuer, number = names[key]
        self.made += 1
        line = make_event(
            "corrected",
            number,
            issuer=issuer,
            time=times.format_moment(self.now),
            change=f"settle{self.made}",
            corrects=t.id,
            correction=how,
            reason_code="r1",
        )
        lane = lane_of(t.by, number, self.view.registry, issuer)
        self.lines.append((t.by, lane, line))
        self.records.append(self.producers[t.by, lane].make([line], self.now))
        for record in self.producers[t.by, lane].spool[-3:]:
            self._deliver(record)

    @rule(place=st.sampled_from(sorted(LANES)))
    def lose_registry_key(self, place: str) -> None:
        if place in self.announced:
            return
        self.made += 1
        key = self.announced[place] = registry_signer(place, str(self.made))
        said = {"role": "registry", "vkey": str(key.key), "delay_seconds": MIN_DELAY}
        self._change(f"department/{place}", {"recover": said}, OPERATOR, key)

    @rule(place=st.sampled_from(sorted(LANES)))
    @precondition(lambda self: self.announced)
    def object_to_recovery(self, place: str) -> None:
        if self.announced.pop(place, None) is not None:
            self._change(f"department/{place}", {"object": "registry"}, self.owners[place])

    @rule(place=st.sampled_from(sorted(LANES)), days=st.integers(1, 9))
    @precondition(lambda self: self.announced)
    def recover(self, place: str, days: int) -> None:
        key = self.announced.get(place)
        if key is None:
            return
        self.commit()
        self.now += days * 86_400 * times.SECOND
        told = (self.view.registry.value(f"department/{place}") or {})["recovery"]["registry"]
        name, change = f"key/{key.key.key_id}", key_change(key, "registry", place)
        if self.now < times.parse_moment(told["from"]):
            self.book.index, self.book.now = self.view.next_index, self.now
            with pytest.raises(Refused, match="recovery-not-due"):
                self.book.change(name, change, OPERATOR, key)
            return
        self._change(name, change, OPERATOR, key)
        self.owners[place] = self.announced.pop(place)

    # --- what Kafka, the clock and the worker do ---

    @rule(data=st.data())
    @precondition(lambda self: self.records)
    def deliver(self, data: st.DataObject) -> None:
        newest = len(self.records) - 1
        self._deliver(self.records[newest - data.draw(st.integers(0, min(newest, 8)))])

    @rule(data=st.data(), place=st.sampled_from(["a", "a", "b", "c"]), count=st.integers(1, 4))
    def make_and_deliver(self, data: st.DataObject, place: str, count: int) -> None:
        lane = data.draw(st.integers(0, self.lanes[place] - 1))
        for _ in range(count):
            lines = [self._line(data, place, lane) for _ in range(data.draw(st.integers(0, 3)))]
            self.records.append(self.producers[place, lane].make(lines, self.now))
        for record in self.producers[place, lane].spool[-count - 1 :]:
            self._deliver(record)

    @rule(place=st.sampled_from(sorted(LANES)))
    def deliver_spool(self, place: str) -> None:
        for lane in range(self.lanes[place]):
            for record in self.producers[place, lane].spool:
                self._deliver(record)

    @rule(seconds=st.integers(0, 70))
    def wait(self, seconds: int) -> None:
        self.now += seconds * times.SECOND

    @rule()
    def commit(self) -> None:
        self._keep()
        self.view.commit(self.turn)
        self.offset += len(self.in_turn)
        self._new_turn()

    @rule()
    def crash(self) -> None:
        """The turn is lost; Kafka hands the same records over again: it decides the same."""
        lost, again = self.turn, self.in_turn
        self.in_turn = []
        self.turn = self.view.turn(lost.now)
        for record in again:
            self._deliver(record, fresh=False)
        assert self.turn.entries == lost.entries
        assert self.turn.accounted == lost.accounted

    def _new_turn(self) -> None:
        self.in_turn = []
        self.turn = self.view.turn(self.now)

    def _deliver(self, record: bytes, fresh: bool = True) -> None:
        if fresh and not self.in_turn:
            self.turn = self.view.turn(self.now)
        opened = open_record(record, self.view.registry)
        source = Source(TOPIC, 0, self.offset + len(self.in_turn))
        self.in_turn.append(record)
        done = self.turn.take(source, opened)
        assert done.source == source
        is_dead = not isinstance(opened, Opened) or done.code == "key-revoked"
        assert (done.outcome == DEAD_LETTER) == is_dead
        if done.outcome == EQUIVOCATION:
            assert done.bundle is not None
            h = done.bundle.header
            assert (h.department, h.lane, h.epoch, h.sequence, h.producer) in self.lied
        if done.outcome in (LOGGED, REPEAT):
            assert done.index is not None

    def _keep(self) -> None:
        for done in self.turn.accounted:
            if done.bundle is not None and done.outcome != DEAD_LETTER:
                self.outcomes.setdefault(done.bundle.note_hash, []).append(done)

    # --- what must hold ---

    @invariant()
    def count(self) -> None:
        type(self).steps += 1

    @invariant()
    def each_note_is_logged_once_and_repeats_name_it(self) -> None:
        for rows in getattr(self, "outcomes", {}).values():
            logged = [r.index for r in rows if r.outcome == LOGGED]
            assert len(logged) <= 1
            assert {r.index for r in rows if r.outcome == REPEAT} <= set(logged)

    def teardown(self) -> None:
        if not hasattr(self, "view"):
            return
        self.commit()
        check_log(self.view)
        self._no_lane_is_wedged()
        check_log(self.view)
        for key, history in self.view.histories.items():
            self._check_answers(history)
            self._check_doubt(key, history)
        type(self).logs.update(b"".join(self.view.entries))

    def _no_lane_is_wedged(self) -> None:
        for (department, lane), producer in self.producers.items():
            producer.make([], self.now)
            for record in producer.spool:
                self._deliver(record)
            ends = [done.outcome for done in self.turn.accounted[-len(producer.spool) :]]
            state = self.turn.lanes.get((department, lane)) or self.view.lanes[department, lane]
            if state.producer == producer.producer:
                assert set(ends) <= {LOGGED, REPEAT, EQUIVOCATION, OUT_OF_SEQUENCE}
                if not self.lied:
                    assert set(ends) <= {LOGGED, REPEAT}
            else:
                assert set(ends) <= {FENCED, REPEAT, OUT_OF_SEQUENCE, EQUIVOCATION}
        self.commit()

    def _check_answers(self, history: list[lifecycle.Transition]) -> None:
        far = times.parse_moment("2999-01-01T00:00:00Z")
        standing = lifecycle.fold(history)
        found = lifecycle.answer(history, far)
        assert standing == lifecycle.fold(history)
        if standing.state == lifecycle.REVOKED_STATE:
            assert found.reason == f"revoked-{standing.revocation}"
        if standing.state in (lifecycle.TRANSFERRED, lifecycle.EXPIRED_STATE, lifecycle.VOID):
            assert found.answer == "not-valid"
        if found.answer == "valid":
            assert standing.state == lifecycle.VALID or standing.suspended_until is not None
            assert found.version == standing.version
        for known in range(1, len(history) + 1):
            for day in DAYS:
                lifecycle.answer(history[:known], times.day_start(day))

    def _check_doubt(self, key: bytes, history: list[lifecycle.Transition]) -> None:
        doubts = self.view.registry.doubts
        indexes = [index for index, _ in self.view.places[key]]
        steps = list(zip(indexes, history, strict=True))
        acts = [
            slow_life.Act(t.kind, t.id, t.by, t.time, corrects=t.corrects, correction=t.correction)
            for t in history
        ]
        doubted = {
            n
            for n, (index, t) in enumerate(steps)
            if t.key in doubts and doubts[t.key].start <= index
        }
        for known in range(1, len(history) + 1):
            expected = slow_life.doubtful(acts, known, doubted)
            assert doubt.find_doubtful(steps, known, doubts).keys() == expected
        for n in doubted:  # by a key that is revoked
            assert steps[n][0] < doubts[steps[n][1].key].stop


STEPS = 10_000  # of a simulation, at least
SIMULATION = settings(
    stateful_step_count=80,
    max_examples=200,  # 60 to 75 steps each: an example ends early where it draws too much
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def simulate(number: int | None = None, how: settings = SIMULATION) -> type[AdmissionMachine]:
    """The machine, run by the seed of a number."""
    machine = type("Simulation", (AdmissionMachine,), {"steps": 0, "logs": sha256()})
    if number is not None:
        machine, how = seed(number)(machine), settings(how, database=None)
    run_state_machine_as_test(machine, settings=how)
    return machine


def test_ten_thousand_steps() -> None:
    assert simulate().steps >= STEPS


@pytest.mark.soak
@pytest.mark.parametrize("number", range(100))
def test_a_million_steps(number: int) -> None:
    """10,000 steps of each seed; one that fails is played again alone by `-k million_steps[17]`."""
    assert simulate(number).steps >= STEPS


_ALONE = """
from tests.property.test_admission import SIMULATION, settings, simulate
print(simulate(17, settings(SIMULATION, max_examples=5)).logs.hexdigest())
"""


def test_a_seed_replays_alone() -> None:
    """To the same logs, also in another process, whose sets have another order."""
    alone = {
        subprocess.run(
            [sys.executable, "-c", _ALONE],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hashes in "12"
    }
    few = settings(SIMULATION, max_examples=5)
    assert alone == {simulate(17, few).logs.hexdigest()}
    assert simulate(18, few).logs.hexdigest() not in alone
