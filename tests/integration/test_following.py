"""What follows with time, over a real PostgreSQL: places, status lists, notices of ends."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from consumers import fsck
from ledger import identity, statuslist, times
from ledger.errors import Conflict, ProofError
from ledger.note import parse_vkey
from ledger.postgres import following
from ledger.postgres.connection import connect
from ledger.postgres.following import Following
from ledger.postgres.status_places import read_places
from streams.follower import Follower
from tests import world
from tests.stored_ledger import StoredLedger, damage

DAY = times.DAY
URI = "https://lists.example/v1/status-lists"
SIGNER = world.signer(statuslist.key_name(world.ORIGIN))


class Machine:
    """A follower with a clock of the test's own, over a stored ledger."""

    def __init__(self, ledger: StoredLedger) -> None:
        self.ledger = ledger
        self.clock = ledger.now()
        self.start()

    def start(self) -> None:
        """A new process: nothing is remembered."""
        self.connection = connect(self.ledger.url, "follower", writes=True)
        self.store = Following(self.connection, secrets.token_bytes(32), URI)
        assert self.store.lead()
        self.follower = Follower(self.store, SIGNER, lambda: self.clock)

    def stop(self) -> None:
        self.connection.close()

    def run(self, at: int | None = None) -> None:
        """Rounds until nothing is left to do."""
        if at is not None:
            self.clock = at
        while self.follower.round():
            pass

    def publish(self, *lines: bytes, department: str = "a") -> None:
        assert self.ledger.send(self.ledger.make(lines, department)) == {"logged": 1}
        self.ledger.checkpoint()

    def notices(self) -> list[tuple[str, int, int]]:
        """(number, version, step) in the order of their numbers."""
        rows = self.ledger.rows("SELECT notice, version, step FROM expiry_notice ORDER BY number")
        return [
            (json.loads(data)["data"]["certificate_number"], version, step)
            for data, version, step in rows
        ]

    def statuses(self, number: str) -> dict[int, int]:
        """What each version's entry says in the signed JWT."""
        (made,) = self.made()
        with self.connection, self.connection.cursor() as cursor:
            places = read_places(cursor, key_of(number))
        return {version: made.says[idx] for version, _, idx in places}

    def places(self) -> dict[tuple[bytes, int], tuple[int, int]]:
        """(list, place) by the first half of a map key and version."""
        keys = self.ledger.rows("SELECT uuid_send(map_key) FROM certificate")
        with self.connection, self.connection.cursor() as cursor:
            return {
                (key, version): (number, idx)
                for (key,) in keys
                for version, number, idx in read_places(cursor, key)
            }

    def made(self) -> list[statuslist.StatusList]:
        rows = self.ledger.rows("SELECT jwt, vkey FROM status_list ORDER BY list")
        return [statuslist.parse_jwt(jwt, parse_vkey(vkey)) for jwt, vkey in rows]

    def check(self) -> dict[str, int]:
        checked: dict[str, int] = {}
        connection = connect(self.ledger.url, "fsck")
        try:
            assert fsck.run(connection, checked=checked) == []
        finally:
            connection.close()
        return checked

    def found(self) -> list[tuple[str, str]]:
        """Kind and message of what fsck finds."""
        connection = connect(self.ledger.url, "fsck")
        try:
            return [(f.kind, f.message) for f in fsck.run(connection)]
        finally:
            connection.close()


@pytest.fixture
def machine(ledger: StoredLedger) -> Iterator[Machine]:
    made = Machine(ledger)
    yield made
    made.stop()


def key_of(number: str) -> bytes:
    return identity.certificate_key(world.TYPE, "a", number)


def day(machine: Machine, days: int) -> str:
    """The day so many days after the clock's, at +08:00."""
    moment = machine.clock + days * DAY + 8 * 3600 * times.SECOND
    return times.format_moment(moment)[:10] + "+08:00"


def at_end_of(text: str, before: int = 0) -> int:
    return times.day_end(text) - before


# --- status lists ---


def test_every_state_has_its_value_in_both_forms(machine: Machine) -> None:
    event = machine.ledger.event
    until = day(machine, 100)
    names = ["ok", "gone", "held", "moved", "newer", "over", "stated", "wrong", "unknown-end"]
    machine.publish(
        *(event("issued", n, valid_until=until) for n in names[:5]),
        event("issued", "over", valid_from="2026-03-01+08:00", valid_until="2026-03-02+08:00"),
        event("issued", "stated", valid_until=until),
        event("issued", "wrong", event_id="ab" * 16),
        event("issued", "unknown-end", valid_until="unknown"),
    )
    machine.publish(
        event("revoked", "gone", revocation_kind="penalty"),
        event("suspended", "held", reason_code="why"),
        event("transferred-out", "moved", transfer_to="b"),
        event("amended", "newer"),
        event("expired", "stated"),
        event("corrected", "wrong", corrects="ab" * 16, correction="void", reason_code="why"),
    )
    machine.run()
    said = {name: machine.statuses(name) for name in names}
    assert said == {
        "ok": {1: 0},
        "gone": {1: 1},
        "held": {1: 2},
        "moved": {1: 3},
        "newer": {1: 1, 2: 0},
        "over": {1: 0},  # by the credential's own `exp`
        "stated": {1: 1},
        "wrong": {1: 1},
        "unknown-end": {1: 3},
    }
    assert machine.check()["status list places"] == len(names) + 1
    (row,) = machine.ledger.rows("SELECT revocation, suspension, refresh FROM status_list")
    counts = [
        len(statuslist.parse_credential(data, purpose, world.ORIGIN, SIGNER.key)[2])
        for purpose, data in zip(statuslist.PURPOSES, row, strict=True)
    ]
    assert counts == [3, 3, 1]


def test_places_are_random_kept_and_never_shared(machine: Machine) -> None:
    numbers = [f"n{i}" for i in range(300)]
    machine.publish(*machine.ledger.issued(*numbers))
    machine.run()
    before = machine.places()
    places = [idx for _, (_, idx) in sorted(before.items())]
    assert len(set(places)) == 300
    assert max(places) - min(places) > statuslist.ENTRIES // 2
    assert places != sorted(places)
    machine.stop()
    machine.start()
    machine.publish(*(machine.ledger.event("amended", n) for n in numbers[:9]))
    machine.run()
    after = machine.places()
    assert {place: after[place] for place in before} == before
    assert len(set(after.values())) == 309
    machine.check()


def test_a_place_drawn_twice_is_drawn_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuslist, "draw_place", lambda *drawn: 7 + 2 * drawn[-1])
    machine.publish(*machine.ledger.issued("x", "y", "z"))
    machine.run()
    assert sorted(idx for _, idx in machine.places().values()) == [7, 9, 11]
    machine.check()


def test_a_restored_ledger_draws_the_same_places(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever batches: a wallet's index leads to the same certificate for ever."""
    ledger = machine.ledger
    monkeypatch.setattr(statuslist, "ENTRIES", 64)  # so full that most draws collide
    for batch in range(6):
        machine.publish(*ledger.issued(*(f"{batch}-{n}" for n in range(7))))
        machine.publish(ledger.event("amended", f"{batch}-0"), ledger.event("amended", "0-1"))
        while machine.store.follow(machine.clock):  # each batch alone
            pass
    before = machine.places()
    assert len(before) == 6 * 9
    machine.stop()
    ledger.rows("TRUNCATE outlook")
    ledger.rows("ALTER TABLE status_change DISABLE TRIGGER append_only")
    ledger.rows("TRUNCATE status_change")
    ledger.rows("UPDATE relay SET position = 0 WHERE name = 'follower'")
    machine.start()
    while machine.store.follow(machine.clock):  # all at once
        pass
    assert machine.places() == before


def test_a_follower_that_is_behind_says_what_held_then(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows say more than what is followed; fsck holds each step against the histories."""
    event, until = machine.ledger.event, day(machine, 100)
    lives = {
        "held": ["suspended", "reinstated", "amended", "revoked"],
        "renewed": ["renewed", "suspended", "expired"],
        "amended": ["amended", "amended", "amended", "amended"],
        "moved": ["transferred-out", "transferred-in", "renewed", "suspended"],
        "wrong": ["amended", "corrected", "suspended", "reinstated"],
        "alone": [],
    }
    words: dict[str, dict[str, Any]] = {
        "renewed": {"valid_until": day(machine, 200)},
        "suspended": {"reason_code": "why"},
        "revoked": {"revocation_kind": "penalty"},
        "transferred-out": {"transfer_to": "b"},
        "corrected": {"corrects": "ab" * 16, "correction": "void", "reason_code": "why"},
    }
    ids = {"wrong": "ab" * 16}
    days = {"valid_from": day(machine, -9), "valid_until": until}
    machine.publish(*(event("issued", name, **days) for name in lives))
    for step in range(4):
        for name, acts in lives.items():
            if step < len(acts):
                kind = acts[step]
                more = {"event_id": ids[name]} if name in ids and kind == "amended" else {}
                by = "b" if kind == "transferred-in" or (name == "moved" and step > 1) else "a"
                machine.publish(event(kind, name, **words.get(kind, {}), **more), department=by)
    monkeypatch.setattr(following, "ENTRIES_AT_ONCE", 1)
    while machine.store.follow(machine.clock):
        machine.check()
    machine.run()
    machine.check()
    assert machine.statuses("amended") == {1: 1, 2: 1, 3: 1, 4: 1, 5: 0}


def test_a_full_list_is_followed_by_another(
    ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.postgres.status_places.LIST_CAPACITY", 4)
    machine = Machine(ledger)
    machine.publish(*ledger.issued(*(f"n{i}" for i in range(6))))
    machine.run()
    machine.stop()
    machine.start()
    machine.publish(*ledger.issued(*(f"m{i}" for i in range(6))))
    machine.run()
    assert Counter(number for number, _ in machine.places().values()) == {1: 4, 2: 4, 3: 4}
    assert [one.uri for one in machine.made()] == [f"{URI}/{n}" for n in (1, 2, 3)]
    machine.check()
    machine.stop()


def test_what_is_not_published_is_in_no_list(machine: Machine) -> None:
    machine.publish(*machine.ledger.issued("x"))
    lines = [machine.ledger.event("revoked", "x", revocation_kind="penalty")]
    machine.ledger.send(machine.ledger.make(lines))
    machine.run()
    assert machine.statuses("x") == {1: 0}
    machine.check()
    machine.ledger.checkpoint()
    machine.run(machine.clock + 20 * times.SECOND)
    assert machine.statuses("x") == {1: 1}
    machine.check()


def test_a_list_changes_by_time_alone_and_with_the_clock(machine: Machine) -> None:
    event = machine.ledger.event
    until, gone = day(machine, 3), day(machine, 5)
    machine.publish(*machine.ledger.issued("held", "going"))
    machine.publish(
        event("suspended", "held", valid_until=until, reason_code="why"),
        event("revoked", "going", valid_from=gone, revocation_kind="penalty"),
    )
    start = machine.clock

    def said(at: int) -> tuple[int, int]:
        machine.run(at)
        machine.check()
        return machine.statuses("held")[1], machine.statuses("going")[1]

    assert said(start) == (2, 0)
    assert said(at_end_of(until, 10 * times.SECOND)) == (2, 0)
    assert said(at_end_of(until)) == (0, 0)
    assert said(times.day_start(gone)) == (0, 1)
    assert said(start + DAY) == (2, 0)  # the clock was wrong
    assert said(times.day_start(gone) + DAY) == (0, 1)


def test_lists_are_renewed_but_not_made_anew_all_the_time(machine: Machine) -> None:
    machine.publish(*machine.ledger.issued("x"))
    machine.run()
    (first,) = machine.made()
    machine.publish(machine.ledger.event("revoked", "x", revocation_kind="penalty"))
    machine.run(machine.clock + 5 * times.SECOND)
    assert machine.made() == [first]
    machine.run(machine.clock + 5 * times.SECOND)
    (second,) = machine.made()
    assert second.tree_size > first.tree_size
    machine.run(machine.clock + 3599 * times.SECOND)
    assert machine.made() == [second]
    machine.run(machine.clock + times.SECOND)
    assert machine.made()[0].issued_at == second.issued_at + 3600


def test_a_list_keeps_its_address(machine: Machine) -> None:
    machine.publish(*machine.ledger.issued("x"))
    machine.run()
    machine.store = Following(
        machine.connection, secrets.token_bytes(32), "https://elsewhere.example"
    )
    machine.follower = Follower(machine.store, SIGNER, lambda: machine.clock)
    machine.publish(*machine.ledger.issued("y"))
    machine.run(machine.clock + DAY)
    assert [one.uri for one in machine.made()] == [f"{URI}/1"]


# --- notices of ends ---


def test_each_step_is_announced_once_at_its_instant(machine: Machine) -> None:
    until = day(machine, 40)
    machine.publish(*machine.ledger.issued("x", valid_until=until))
    end = at_end_of(until)
    wanted: list[tuple[str, int, int]] = []
    for step in (30, 7, 3, 0):
        machine.run(end - step * DAY - times.SECOND)
        assert machine.notices() == wanted
        wanted.append(("x", 1, step))
        machine.run(end - step * DAY)
        assert machine.notices() == wanted
        machine.stop()
        machine.start()
        machine.run()
    machine.run(end + 400 * DAY)
    assert machine.notices() == wanted
    assert machine.check()["notices of ends"] == 4


def test_a_clock_that_jumps_announces_nothing_twice(machine: Machine) -> None:
    until = day(machine, 100)
    machine.publish(*machine.ledger.issued("x", valid_until=until))
    end = at_end_of(until)
    machine.run(end - 2 * DAY)  # an hour too far, a year too far: what is due by it is said, once
    assert machine.notices() == [("x", 1, 30), ("x", 1, 7), ("x", 1, 3)]
    machine.run(end - 90 * DAY)
    for before in (31, 30, 7, 3, 1):
        machine.run(end - before * DAY)
    assert machine.notices() == [("x", 1, 30), ("x", 1, 7), ("x", 1, 3)]
    machine.run(end)
    assert machine.notices()[3:] == [("x", 1, 0)]
    machine.check()


def test_a_renewal_ends_what_was_not_announced_yet(machine: Machine) -> None:
    until, later = day(machine, 20), day(machine, 60)
    machine.publish(*machine.ledger.issued("x", valid_until=until))
    machine.run(at_end_of(until, 7 * DAY))
    assert machine.notices() == [("x", 1, 7)]  # 30 days before lay before anybody knew of it
    machine.publish(machine.ledger.event("renewed", "x", valid_from=until, valid_until=later))
    machine.run(at_end_of(until, 3 * DAY))
    machine.run(at_end_of(until))
    machine.run(at_end_of(later))
    assert machine.notices()[1:] == [("x", 2, step) for step in (30, 7, 3, 0)]
    machine.check()


def test_who_is_told_of_an_end(machine: Machine) -> None:
    event = machine.ledger.event
    until = day(machine, 10)
    names = ("held", "gone", "stated", "moved", "open", "vague")
    machine.publish(
        *(event("issued", name, valid_until=until) for name in names[:4]),
        event("issued", "open"),
        event("issued", "vague", valid_until="unknown"),
    )
    machine.publish(
        event("suspended", "held", reason_code="why"),
        event("revoked", "gone", revocation_kind="annulled"),
        event("expired", "stated"),
        event("transferred-out", "moved", transfer_to="b"),
    )
    machine.run(at_end_of(until))
    told = {name for name, _, _ in machine.notices()}
    assert told == {"held", "moved"}
    machine.check()


def test_what_ended_before_it_was_known_is_nobodys_news(machine: Machine) -> None:
    past = dict(valid_from="2020-01-01+08:00", valid_until="2021-01-01+08:00")
    machine.publish(*machine.ledger.issued(*(f"old{i}" for i in range(50)), **past))
    machine.run()
    machine.run(machine.clock + 400 * DAY)
    assert machine.notices() == []
    assert machine.ledger.rows("SELECT count(*) FROM outlook WHERE due_at IS NOT NULL") == [(0,)]
    assert machine.ledger.rows("SELECT sum(length(dues)) FROM outlook") == [(0,)]
    machine.check()


def test_a_restated_end_is_announced_anew_where_it_was_not(machine: Machine) -> None:
    event = machine.ledger.event
    wrong, right = day(machine, 20), day(machine, 50)
    machine.publish(event("issued", "x", valid_until=wrong, event_id="cd" * 16))
    machine.run(at_end_of(wrong, 7 * DAY))
    machine.publish(
        event(
            "corrected",
            "x",
            corrects="cd" * 16,
            correction="restate",
            valid_until=right,
            reason_code="typing",
        )
    )
    machine.run(at_end_of(right))
    assert machine.notices() == [("x", 1, 7), ("x", 1, 30), ("x", 1, 3), ("x", 1, 0)]
    machine.check()


def test_a_notice_says_what_ends_and_nothing_personal(machine: Machine) -> None:
    until = day(machine, 40)
    machine.publish(
        machine.ledger.event("issued", "x", valid_until=until, holder_pseudonym="1:" + "ab" * 32)
    )
    machine.run(at_end_of(until))
    rows = machine.ledger.rows("SELECT notice FROM expiry_notice ORDER BY number")
    first, last = json.loads(rows[0][0]), json.loads(rows[-1][0])
    assert first["type"] == "certledger.certificate.expiring.v1"
    assert last["type"] == "certledger.certificate.ended.v1"
    assert first["time"] == times.format_moment(at_end_of(until, 30 * DAY))
    assert first["subject"] == key_of("x").hex()
    assert last["data"] == {
        "certificate_number": "x",
        "certificate_type_code": world.TYPE,
        "certificate_version": 1,
        "days_before": 0,
        "issuing_authority_code": "a",
        "responsible_authority_code": "a",
        "valid_until": until,
    }
    assert len({json.loads(data)["id"] for (data,) in rows}) == 4
    assert not any(b"ab" * 32 in data for (data,) in rows)


# --- safety ---


def test_two_followers_cannot_write_side_by_side(machine: Machine) -> None:
    machine.publish(*machine.ledger.issued("x", valid_until=day(machine, 5)))
    other = connect(machine.ledger.url, "follower", writes=True)
    second = Following(other, secrets.token_bytes(32), URI)
    assert not second.lead()
    position, moved = second.position(), machine.store._move

    def overtaken(cursor: Any, was: int, now: int) -> None:
        assert second.follow(machine.clock)  # a frozen process wakes behind another's work
        moved(cursor, was, now)

    machine.store._move = overtaken  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="relay-moved"):
        machine.store.follow(machine.clock)
    assert second.position() > position
    assert len(machine.places()) == 1
    other.close()
    machine.check()


def test_a_crash_before_the_commit_leaves_nothing(machine: Machine) -> None:
    until = day(machine, 5)
    machine.publish(*machine.ledger.issued("x", "y", valid_until=until))
    machine.run()
    machine.connection.cursor().execute("SELECT 1")
    failing = machine.store._give

    def crash(*_: Any) -> None:
        raise RuntimeError

    machine.store._give = crash  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        machine.run(at_end_of(until))
    assert machine.notices() == []
    machine.store._give = failing  # type: ignore[method-assign]
    machine.run()
    assert len(machine.notices()) == 4
    machine.check()


def test_due_certificates_are_found_by_index(machine: Machine) -> None:
    for number in range(300):
        machine.publish(*machine.ledger.issued(f"n{number}", valid_until=day(machine, 300)))
    machine.run()
    connection = psycopg2.connect(machine.ledger.url)
    with connection, connection.cursor() as cursor:
        cursor.execute("ANALYZE outlook")
        cursor.execute("EXPLAIN SELECT log_index FROM outlook WHERE due_at <= %s", (machine.clock,))
        plan = "\n".join(line for (line,) in cursor.fetchall())
    connection.close()
    assert "outlook_due_at" in plan
    assert "Seq Scan" not in plan


FIRST, LAST = (
    f"WHERE %s <> '' AND log_index = (SELECT {which}(log_index) FROM outlook)"
    for which in ("min", "max")
)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (f"UPDATE outlook SET due_at = NULL {LAST}", "status-place"),
        (f"UPDATE outlook SET dues = set_byte(dues, 1, 9) {LAST}", "status-place"),
        (f"UPDATE outlook SET places = '' {FIRST}", "status-place"),
        (f"UPDATE outlook SET places = set_byte(places, 3, 9) {FIRST}", "status-place"),
        (f"UPDATE outlook SET places = set_byte(places, 1, 9) {FIRST}", "status-place"),
        (f"UPDATE outlook SET places = set_byte(places, 4, 9) {FIRST}", "status-place"),
        (f"DELETE FROM outlook {FIRST}", "status-place"),
        ("UPDATE status_change SET number = number + 1 WHERE %s <> ''", "status-place"),
        (
            "UPDATE status_change SET changes = set_byte(changes, 3, 4) WHERE %s <> ''",
            "status-place",
        ),
        (
            "UPDATE status_change SET changes = set_byte(changes, 2, 9) WHERE %s <> ''",
            "status-place",
        ),
        ("DELETE FROM status_change WHERE %s <> ''", "status-place"),
        (
            f"UPDATE outlook SET places = set_byte(places, 7, get_byte(places, 7) # 1) {FIRST}",
            "status-list",
        ),
        ("UPDATE status_list SET jwt = cwt WHERE %s IS NOT NULL", "status-list"),
        ("UPDATE status_list SET tree_size = tree_size - 2 WHERE %s IS NOT NULL", "status-list"),
        ("UPDATE status_list SET suspension = revocation WHERE %s IS NOT NULL", "status-list"),
        (
            "UPDATE expiry_notice SET notice = overlay(notice placing 'z'::bytea from 30)"
            " WHERE map_key = %s AND step = 0",
            "expiry-notice",
        ),
        ("DELETE FROM expiry_notice WHERE map_key = %s AND step = 3", "expiry-notice"),
    ],
)
def test_fsck_finds_damage(machine: Machine, statement: str, kind: str) -> None:
    until, gone = day(machine, 5), day(machine, 9)
    machine.publish(*machine.ledger.issued("x", valid_until=until))
    machine.run(at_end_of(until))
    revoked = machine.ledger.event("revoked", "x", valid_from=gone, revocation_kind="penalty")
    machine.publish(machine.ledger.event("suspended", "x", reason_code="why"), revoked)
    machine.run(at_end_of(until, DAY))  # the clock was ahead
    machine.check()
    damage(machine.ledger.url, statement, key_of("x"))
    kinds = {found for found, _ in machine.found()}
    assert kind in kinds <= {"status-place", "status-list", "expiry-notice"}


def test_fsck_finds_that_a_certificate_would_not_be_looked_at_again(machine: Machine) -> None:
    until = day(machine, 3)
    held = machine.ledger.event("suspended", "x", valid_until=until, reason_code="why")
    machine.publish(*machine.ledger.issued("x"), held)
    machine.run()
    machine.check()
    damage(machine.ledger.url, "UPDATE outlook SET due_at = NULL, dues = ''")
    assert ("status-place", "it is looked at anew too late") in machine.found()


def test_fsck_goes_on_where_a_history_is_damaged(machine: Machine) -> None:
    machine.publish(*machine.ledger.issued("x", "y", valid_until=day(machine, 5)))
    machine.run()
    damage(machine.ledger.url, "UPDATE lines SET data = overlay(data placing 'z'::bytea from 20)")
    kinds = {kind for kind, _ in machine.found()}
    assert {"lines", "incomplete"} <= kinds


def test_a_damaged_row_is_not_followed(machine: Machine) -> None:
    machine.publish(*machine.ledger.issued("x", valid_until=day(machine, 5)))
    damage(
        machine.ledger.url,
        "UPDATE certificate SET state = set_byte(state, 60, get_byte(state, 60) # 1)",
    )
    with pytest.raises(ProofError, match="stored-bytes-damaged"):
        machine.run()
    assert machine.ledger.rows("SELECT count(*) FROM outlook") == [(0,)]
