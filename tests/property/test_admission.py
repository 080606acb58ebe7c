"""The turn under a machine: producers that crash, take over, repeat, lie; turns that are lost."""

from __future__ import annotations

import dataclasses

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

from ledger import event as events
from ledger import identity, lifecycle, times
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
from tests.memory_view import MemoryView, check_log
from tests.world import ALL_ACTS, START, TYPE, Book, Producer, lane_of, make_event, make_note

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
    if data.get("correction") == "void":
        data = {n: v for n, v in data.items() if n not in ("valid_from", "valid_until")}
    return data


class AdmissionMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.view = MemoryView(BOOK.registry, BOOK.index)
        self.now = START
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
        lane = data.draw(st.integers(0, LANES[place] - 1))
        lines = [self._line(data, place, lane) for _ in range(count)]
        producer = self.producers[place, lane]
        self.records.append(producer.make(lines, self.now))

    def _line(self, data: st.DataObject, department: str, lane: int) -> bytes:
        mine = [line for d, n, line in self.lines if (d, n) == (department, lane)]
        if mine and data.draw(st.integers(0, 5)) == 0:
            return data.draw(st.sampled_from(mine))  # bundled again
        issuer = "c" if department == "c" else "a"
        right = [n for n in NUMBERS if lane_of(department, n, BOOK.registry, issuer) == lane]
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
        ours = self.turn.certificates.get(key)
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
            producer = self.producers[header.department, header.lane]
            told = producer.header([], self.now, sequence=header.sequence + 7)
            self.lied.add((told.department, told.lane, told.epoch, told.sequence, told.producer))
            record = format_record(make_note(told), [])
        self._deliver(record)

    @rule(data=st.data(), place=st.sampled_from(sorted(LANES)), stale=st.booleans())
    def take_over(self, data: st.DataObject, place: str, stale: bool) -> None:
        lane = data.draw(st.integers(0, LANES[place] - 1))
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
            place, lane, previous, f"{self.made:032x}", epoch=state.epoch + 1
        )
        if data.draw(st.booleans()):
            self.records.append(old.make([], self.now))  # the old one wakes up

    # --- what Kafka, the clock and the worker do ---

    @rule(data=st.data())
    @precondition(lambda self: self.records)
    def deliver(self, data: st.DataObject) -> None:
        newest = len(self.records) - 1
        self._deliver(self.records[newest - data.draw(st.integers(0, min(newest, 8)))])

    @rule(data=st.data(), place=st.sampled_from(["a", "a", "b", "c"]), count=st.integers(1, 4))
    def make_and_deliver(self, data: st.DataObject, place: str, count: int) -> None:
        lane = data.draw(st.integers(0, LANES[place] - 1))
        for _ in range(count):
            lines = [self._line(data, place, lane) for _ in range(data.draw(st.integers(0, 3)))]
            self.records.append(self.producers[place, lane].make(lines, self.now))
        for record in self.producers[place, lane].spool[-count - 1 :]:
            self._deliver(record)

    @rule(place=st.sampled_from(sorted(LANES)))
    def deliver_spool(self, place: str) -> None:
        for lane in range(LANES[place]):
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
        opened = open_record(record, BOOK.registry)
        source = Source(TOPIC, 0, self.offset + len(self.in_turn))
        self.in_turn.append(record)
        done = self.turn.take(source, opened)
        assert done.source == source
        assert (done.outcome == DEAD_LETTER) == (not isinstance(opened, Opened))
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
        for history in self.view.histories.values():
            self._check_answers(history)

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


STEPS = 80
SIMULATION = settings(
    max_examples=125,  # times STEPS: 10,000 steps
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = SIMULATION


@pytest.mark.soak
@pytest.mark.parametrize("number", range(100))
def test_a_million_steps(number: int) -> None:
    """10,000 steps of each seed; one that fails is played again alone by `-k million_steps[17]`."""
    machine = type(f"Seed{number}", (AdmissionMachine,), {})
    run_state_machine_as_test(seed(number)(machine), settings=settings(SIMULATION, database=None))
