"""Two times through PostgreSQL and the command line: named cases, and random lives."""

from __future__ import annotations

import json
import random
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers import commands, plain
from consumers.asking import Asked
from consumers.plain import Plain
from consumers.unproven import answer_unproven, print_unproven
from deploy.locating import find_targets
from ledger import deciders, merkle, times
from ledger.checking import check
from ledger.errors import LedgerError, ProofError
from ledger.event import FIELDS
from ledger.evidence import CertificateId
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader, View
from ledger.proving import Records
from ledger.question import Question
from ledger.trust import Trust, TrustedKey, format_trust, parse_trust
from ledger.verdict import Answer
from producers.correcting import Wanted
from tests import slow_life, world
from tests.property.test_two_times import draw_act, instants
from tests.slow_life import Act, No
from tests.stored_ledger import StoredLedger, reset

ZONE = "+08:00"


def act(kind: str, time: str, by: str = "a", **members: str) -> tuple[str, str, str, Any]:
    days = {
        name: f"{value}{ZONE}"
        if name in ("valid_from", "valid_until") and value[0] == "2"
        else value
        for name, value in members.items()
    }
    return kind, f"{time}T12:00:00{ZONE}", by, days


ISSUED = act("issued", "2020-01-01", valid_from="2020-01-01")
ONE_YEAR = act("issued", "2020-01-01", valid_from="2020-01-01", valid_until="2020-12-31")
REVOKED = act("revoked", "2020-06-01", revocation_kind="penalty", valid_from="2020-06-01")
OUT = act("transferred-out", "2020-06-01", transfer_to="b", valid_from="2020-06-01")
UNKNOWN = act("issued", "2020-06-01", valid_from="unknown")

# name: acts learned first, acts learned second, the two moments in the world, and what is said of
# (the one, known first), (the one, known second), (the other, known first), (the other, second);
# `corrects` names an act by its number.
CASES: dict[str, tuple[list[Any], list[Any], str, str, list[str]]] = {
    "back-dated revocation": (
        [ISSUED],
        [act("revoked", "2020-09-01", revocation_kind="annulled", valid_from="2020-06-01")],
        "2020-05-31",
        "2020-06-01",
        ["valid", "valid", "valid", "revoked-annulled"],
    ),
    "late issue": (
        [],
        [act("issued", "2020-06-01", valid_from="2015-01-01")],
        "2014-12-31",
        "2015-01-01",
        ["not-known-then", "not-yet-valid", "not-known-then", "valid"],
    ),
    "correction of an error: a revocation voided": (
        [ISSUED, REVOKED],
        [act("corrected", "2020-09-01", corrects="1", correction="void", reason_code="error")],
        "2020-05-31",
        "2020-06-01",
        ["valid", "valid", "revoked-penalty", "valid"],
    ),
    "correction of an error: a last day restated": (
        [ONE_YEAR],
        [
            act(
                "corrected",
                "2020-03-01",
                corrects="0",
                correction="restate",
                reason_code="typing-error",
                valid_until="2021-12-31",
            )
        ],
        "2020-12-31",
        "2021-01-01",
        ["valid", "valid", "expired", "valid"],
    ),
    "suspension with a stated end": (
        [ISSUED],
        [
            act(
                "suspended",
                "2020-06-01",
                reason_code="hygiene",
                valid_from="2020-06-01",
                valid_until="2020-06-30",
            )
        ],
        "2020-06-30",
        "2020-07-01",
        ["valid", "suspended", "valid", "valid"],
    ),
    "renewal before expiry": (
        [ONE_YEAR],
        [act("renewed", "2020-11-01", valid_from="2021-01-01", valid_until="2021-12-31")],
        "2020-12-31",
        "2021-01-01",
        ["valid", "valid", "expired", "valid"],
    ),
    "renewal after a gap": (
        [ONE_YEAR],
        [act("renewed", "2021-03-01", valid_from="2021-03-01")],
        "2021-02-28",
        "2021-03-01",
        ["expired", "expired", "expired", "valid"],
    ),
    "valid from a future day, then from an earlier one": (
        [act("issued", "2020-01-01", valid_from="2030-06-01")],
        [act("amended", "2020-02-01", valid_from="2030-03-01")],
        "2030-03-01",
        "2030-06-01",
        ["not-yet-valid", "valid", "valid", "valid"],
    ),
    "transfer: the first half": (
        [ISSUED],
        [OUT],
        "2020-05-31",
        "2020-06-01",
        ["valid", "valid", "valid", "transferred"],
    ),
    "transfer: the second half": (
        [ISSUED, OUT],
        [act("transferred-in", "2020-07-01", by="b", valid_from="2020-07-01")],
        "2020-06-30",
        "2020-07-01",
        ["transferred", "transferred", "transferred", "valid"],
    ),
    "annulled by another department": (
        [ISSUED],
        [
            act(
                "revoked",
                "2020-06-01",
                by="c",
                revocation_kind="annulled",
                valid_from="2020-06-01",
            )
        ],
        "2020-05-31",
        "2020-06-01",
        ["valid", "valid", "valid", "revoked-annulled"],
    ),
    "start unknown, then found in an archive": (
        [UNKNOWN],
        [
            act(
                "corrected",
                "2020-09-01",
                corrects="0",
                correction="restate",
                reason_code="archive",
                valid_from="2018-01-01",
            )
        ],
        "2017-12-31",
        "2018-01-01",
        ["start-unknown", "not-yet-valid", "start-unknown", "valid"],
    ),
    "revoked, and nobody knows since when": (
        [ISSUED],
        [act("revoked", "2020-06-02", revocation_kind="penalty", valid_from="unknown")],
        "2020-06-01",
        "2020-06-03",
        ["valid", "start-unknown", "valid", "revoked-penalty"],
    ),
}


@dataclass
class Told:
    """The ledger, its address as the command line wants it, and when it had learned each part."""

    ledger: StoredLedger
    postgres_url: str
    trust: Path
    learned: list[str]

    def run(self, *argv: str) -> int:
        parser = ArgumentParser()
        commands.add_commands(parser.add_subparsers(dest="command", required=True))
        args = parser.parse_args(argv)
        code: int = args.run(args, self)
        return code


def write(ledger: StoredLedger, folder: Path) -> Path:
    genesis = merkle.leaf_hash(ledger.rows("SELECT data FROM entry WHERE log_index = 0")[0][0])
    trusted = TrustedKey(world.CHECKPOINT.key, 0, None)
    path = folder / "trust.json"
    trust = Trust(world.ORIGIN, genesis, (trusted,), operator=world.OPERATOR.key)
    path.write_bytes(format_trust(trust))
    return path


def last_status(ledger: StoredLedger) -> str:
    return times.format_moment(ledger.rows("SELECT max(ledger_time) FROM status")[0][0])


@pytest.fixture(scope="module")
def told(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    reset(module_database_url)
    ledger = StoredLedger(module_database_url)
    for lane, producer in ledger.registrar.add_department("c").items():
        ledger.producers["c", lane] = producer
    own = sorted(set(FIELDS))
    ledger.registrar.set_type(("a", own, "own"), ("b", own, "own"), ("c", ["revoked"], "any"))
    learned = []
    ids: dict[str, list[str]] = {name: [] for name in CASES}
    for part in (0, 1):
        for name, case in CASES.items():
            for kind, time, by, members in case[part]:
                given = dict(members)
                if "corrects" in given:
                    given["corrects"] = ids[name][int(given["corrects"])]
                line = ledger.event(kind, name, time=time, **given)
                ids[name].append(json.loads(line)["id"])
                done = ledger.send(ledger.make([line], by))
                assert done == {"logged": 1}, done
        ledger.checkpoint()
        learned.append(last_status(ledger))
    assert set(ledger.counts()) == {"admitted"}
    trust = write(ledger, tmp_path_factory.mktemp("trust"))
    yield Told(ledger, module_database_url, trust, learned)
    ledger.close()


@pytest.mark.parametrize("name", CASES)
def test_the_four_combinations(told: Told, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, one, other, expected = CASES[name]
    said = []
    for at in (one, other):
        for known in told.learned:
            code = told.run("verify", name, "--at", at, "--known-at", known, "--json")
            value = json.loads(capsys.readouterr().out)
            answer, reason = value["answer"], value["reason"]
            said.append(answer if answer == "valid" else reason)
            assert code == {"valid": 0, "not-valid": 1, "not-found": 3, "cannot-decide": 4}[answer]
            assert value["known_at"] == known
    assert said == expected


@pytest.mark.parametrize("name", CASES)
def test_history_shows_both_times_of_every_act(
    told: Told, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = CASES[name]
    assert told.run("history", name, "--json") == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert [(e["event"], e["time"]) for e in events] == [(a[0], a[1]) for a in (*first, *second)]
    before = [e["learned_at"] <= told.learned[0] for e in events]
    assert before == [True] * len(first) + [False] * len(second)
    assert told.run("history", name) == 0
    words = capsys.readouterr().out
    assert words.count("in the world") == words.count("in the ledger") == len(events)
    for event in events:
        assert event["time"] in words
        assert event["learned_at"] in words


def test_who_corrects_what(told: Told) -> None:
    """The present owner corrects what owners ever said; what another department did is its own."""
    key = world.TYPE, "a"
    connection = connect(told.postgres_url, "test")
    try:
        with Reader(connection).open() as view:
            moved = view.history(CertificateId(*key, "transfer: the second half").key)
            wanted = [
                Wanted(1, "", "revoked", (*key, "annulled by another department"), "void", {}, "x"),
                Wanted(2, "", "issued", (*key, "transfer: the second half"), "void", {}, "x"),
                Wanted(3, moved[1].transition.id, "", None, "void", {}, "x"),
                Wanted(4, "f" * 32, "", None, "void", {}, "x"),
                Wanted(5, "F" * 32, "", None, "void", {}, "x"),
                Wanted(6, moved[1].transition.id, "issued", None, "void", {}, "x"),
                Wanted(7, moved[0].transition.id, "", (*key, "late issue"), "void", {}, "x"),
            ]
            found = find_targets(view, wanted)
    finally:
        connection.close()
    assert [t.department for t in found[:3] if not isinstance(t, LedgerError)] == ["c", "b", "b"]
    refused = [t.code for t in found[3:] if isinstance(t, LedgerError)]
    assert refused == ["not-found", "usage", "not-found", "not-found"]


def test_random_lives_are_answered_as_the_slow_model_does(told: Told) -> None:
    """Learned in five parts through PostgreSQL, answered by checked evidence at (at, known_at)."""
    ledger = told.ledger
    ledger.registrar.set_type(("a", sorted(FIELDS), "any"), ("b", ["revoked"], "any"))
    drawn = random.Random(20261125)
    lives: dict[str, list[Act]] = {f"life {n}": [] for n in range(60)}
    parts: list[tuple[int, dict[str, int]]] = []
    before = ledger.counts()
    expected: Counter[str] = Counter()
    for _ in range(5):
        lines = []
        for number, acts in lives.items():
            for _ in range(drawn.randrange(3)):
                made = replace(draw_act(drawn, acts), by="a")
                if made.correction == "confirm":  # no key is doubted here
                    continue
                if not acts:
                    made = Act("issued", made.id, "a", made.time, valid_from=made.valid_from)
                if made.transfer_to:
                    made = replace(made, transfer_to="a")
                lines.append(event_line(number, made))
                try:
                    acts.append(slow_life.admit(acts, made))
                    expected["admitted"] += 1
                except No as err:
                    expected[str(err)] += 1
        assert ledger.send(ledger.make(lines)) == {"logged": 1}
        ledger.checkpoint()
        known = times.parse_moment(last_status(ledger))
        parts.append((known, {number: len(acts) for number, acts in lives.items()}))
    got = Counter(ledger.counts())
    got.subtract(before)
    assert +got == expected
    trust = parse_trust(told.trust.read_bytes())
    now = ledger.now()
    seen: Counter[str] = Counter()
    connection = connect(told.postgres_url, "test")
    try:
        with Reader(connection).open() as view:
            for _ in range(600):
                number, acts = drawn.choice([item for item in lives.items() if item[1]])
                known, counts = drawn.choice(parts)
                edges = instants(acts)
                at = drawn.choice(edges) + drawn.choice((0, 0, 3_600_000_000))
                certificate = CertificateId(world.TYPE, "a", number)
                evidence = view.evidence(certificate, Question(now, at, known))
                answer = check(evidence, trust, now)
                seen[answer.reason] += 1
                if not counts[number]:
                    assert (answer.answer, answer.reason) == ("not-found", "not-known-then")
                    continue
                said = slow_life.what_held(acts[: counts[number]], at)
                found = answer.found
                assert found is not None
                assert (answer.answer, answer.reason) == (said.answer, said.reason), (number, at)
                assert (found.version, found.since) == (said.version, said.since), (number, at)
    finally:
        connection.close()
    assert set(seen) > {"in-force", "expired", "suspended", "not-known-then", "start-unknown"}
    ledger.check()


def test_rows_answer_as_histories_do(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers without evidence are the same words by a certificate's row and by its history, about
    any instant and version, whether the last events are published or not.
    """
    ledger, drawn = told.ledger, random.Random(8)
    ledger.registrar.set_type(("a", sorted(FIELDS), "any"), ("b", ["revoked"], "any"))
    lives: dict[str, list[Act]] = {f"row {n}": [] for n in range(80)}
    for part in range(6):
        lines = []
        for number, acts in lives.items():
            made = replace(draw_act(drawn, acts), by="a")
            if made.correction == "confirm":  # no key is doubted here
                continue
            if made.kind == "corrected" and drawn.random() < 0.8:
                continue
            if not acts:
                made = Act("issued", made.id, "a", made.time, 0, made.valid_from, made.valid_until)
            try:
                acts.append(slow_life.admit(acts, replace(made, transfer_to=None)))
            except No:
                continue
            if made.transfer_to:
                made = replace(made, transfer_to="a")
            lines.append(event_line(number, made))
        assert ledger.send(ledger.make(lines)) == {"logged": 1}
        if part < 5:
            ledger.checkpoint()
    questions = [Asked(name) for name in CASES]
    for number, acts in lives.items():
        questions += [Asked(number), Asked(number, version=drawn.choice((1, 2, 3)))]
        for edge in instants(acts):
            at = times.format_moment(edge + drawn.choice((0, 0, 3_600_000_000)))
            questions.append(Asked(number, at=at, version=drawn.choice((None, None, 1, 2))))
    trust = replace(parse_trust(told.trust.read_bytes()), max_checkpoint_age_seconds=3600)
    now = ledger.now()
    connection = connect(told.postgres_url, "test")
    answered: list[list[dict[str, Any]]] = []
    by_rows: Counter[bool] = Counter()
    ask = deciders.answer

    def counting(*asked: Any) -> Any:
        found = ask(*asked)
        by_rows[found is not None] += 1
        return found

    try:
        for way in (counting, lambda *_: None):
            monkeypatch.setattr(deciders, "answer", way)
            with Reader(connection).open() as view:
                found = answer_unproven(view, questions, trust, now)
            assert not [each for each in found if isinstance(each, LedgerError)]
            answered.append([each.members() for each in found if isinstance(each, Answer)])
    finally:
        connection.close()
    assert answered[0] == answered[1]
    assert min(by_rows[True], by_rows[False]) > len(questions) // 5, by_rows
    reasons = {each["reason"] for each in answered[0]}
    assert reasons > {"in-force", "expired", "suspended", "superseded", "start-unknown"}


def test_printed_answers_are_the_answers(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed out of parts that answers share is what each answer prints by itself: at the
    instants at which one changes, beside them, and once the issuer is silent too long.
    """
    ledger, drawn = told.ledger, random.Random(9)
    ledger.registrar.set_type(("a", sorted(FIELDS), "any"), ("b", ["revoked"], "any"))
    days = ["2016-01-01Z", "2026-10-01+08:00", "2031-02-03-05:00", "2090-01-01Z"]
    lines = []
    for n in range(300):
        first, last = sorted(drawn.sample(days, 2))
        said = {"valid_from": first, "valid_until": last}
        for name, share in (("valid_from", 0.1), ("valid_until", 0.2)):
            if drawn.random() < share:
                said.pop(name)
        if drawn.random() < 0.1:
            said[drawn.choice([*said] or ["valid_from"])] = "unknown"
        time = f"2026-03-01T0{n % 10}:00:{n % 60:02d}{'.5' if n % 7 == 0 else ''}Z"
        lines.append(
            world.make_event("issued", f'plain "{n}"', time=time, event_id=f"{n:032x}", **said)
        )
    kinds = ("renewed", "renewed", "renewed", "amended", "suspended", "reinstated", "revoked")
    for n in range(0, 300, 2):  # some events are refused
        for part in range(drawn.choice((1, 1, 1, 2, 4))):
            kind = drawn.choice(kinds)
            said = (
                {} if kind == "renewed" else {"reason_code": drawn.choice(("inspection", "moved"))}
            )
            if kind == "revoked":
                said["revocation_kind"] = "penalty"
            if drawn.random() < 0.4:
                said["valid_from"] = drawn.choice(days)
            if kind in ("renewed", "amended", "suspended") and drawn.random() < 0.6:
                said["valid_until"] = drawn.choice((*days[1:], days[3], days[3], "open"))
            time = f"2026-03-0{drawn.randrange(1, 7)}T00:00:0{part}Z"
            event_id = f"{1000 + n * 10 + part:032x}"
            lines.append(
                world.make_event(kind, f'plain "{n}"', time=time, event_id=event_id, **said)
            )
    assert ledger.send(ledger.make(lines)) == {"logged": 1}
    ledger.checkpoint()
    questions = [Asked(f'plain "{n}"') for n in range(301)]
    questions += [Asked(f' plain "{n}"', "none") for n in range(3)]
    questions += [Asked(f'plain "{n}"', version=2) for n in range(3)]
    drawn.shuffle(questions)
    trust = parse_trust(told.trust.read_bytes())
    now, silent = ledger.now(), 0
    edges = [now, *(times.day_start(day) for day in days if times.day_start(day) > now)]
    ages = (trust.max_checkpoint_age_seconds, 10**10)
    firsts = Counter[bool]()
    print_first = Plain._print_first

    def counting(self: Plain, *asked: Any) -> bytes | None:
        firsts[True] += 1
        return print_first(self, *asked)

    filled = Counter[bytes]()
    fill = plain._fill

    def filling(alike: Any, *asked: Any) -> bytes:
        filled[alike.words] += 1
        return fill(alike, *asked)

    monkeypatch.setattr(Plain, "_print_first", counting)
    monkeypatch.setattr(plain, "_fill", filling)
    connection = connect(told.postgres_url, "test")
    try:
        for age, edge, by in product(ages, edges, (-1, 0, 1)):
            asked_at = max(edge + by, now)
            judged_by = replace(trust, max_checkpoint_age_seconds=age)
            with Reader(connection).open() as view:
                answers = answer_unproven(view, questions, judged_by, asked_at)
                printed = {
                    with_checks: print_unproven(view, questions, judged_by, asked_at, with_checks)
                    for with_checks in (False, True)
                }
            assert not [each for each in answers if isinstance(each, LedgerError)]
            assert printed == {
                with_checks: [
                    orjson.dumps(each.members(with_checks))
                    for each in answers
                    if isinstance(each, Answer)
                ]
                for with_checks in (False, True)
            }
            silent += all(each.reason != "in-force" for each in answers if isinstance(each, Answer))
    finally:
        connection.close()
    assert 0 < silent < len(ages) * len(edges) * 3
    assert 0 < firsts[True] < len(ages) * len(edges) * 120, firsts
    assert len(filled) > 30, filled
    assert sum(filled.values()) > 10 * len(filled), filled


@pytest.mark.parametrize("number", [1, 20])
def test_a_damaged_registry_is_told_to_those_whose_answer_needs_it(
    told: Told, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def damaged(_: View) -> Records:
        raise ProofError("stored-bytes-damaged", "the registry")

    monkeypatch.setattr(View, "records", damaged)
    trust = parse_trust(told.trust.read_bytes())
    questions = [Asked("A-1", "no type!"), Asked("A-2")] * number
    connection = connect(told.postgres_url, "test")
    with closing(connection), Reader(connection).open() as view:
        answers = answer_unproven(view, questions, trust, told.ledger.now())
        printed = print_unproven(view, questions, trust, told.ledger.now(), True)
    for found in (answers, printed):
        codes = [getattr(each, "code", None) for each in found]
        assert codes == ["malformed-number", "stored-bytes-damaged"] * number


def event_line(number: str, made: Act) -> bytes:
    members = {
        field.name: getattr(made, field.name)
        for field in fields(Act)
        if field.name not in ("kind", "id", "by", "time", "version")
        and getattr(made, field.name) is not None
    }
    if "revocation" in members:
        members["revocation_kind"] = members.pop("revocation")
    reason = members.pop("reason", None)
    if reason or made.kind == "suspended":
        members["reason_code"] = reason or "drawn"
    return world.make_event(made.kind, number, time=made.time, event_id=made.id, **members)
