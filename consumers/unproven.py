"""Answers without evidence: the server's own word, by the rules and words of proven ones.

Most are made of the certificate's row, whose checksum must be right (`staterow`). Where the row
does not decide, the history is read, which must give the link that the row has. Whoever needs more
than the server's word asks for the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import orjson

from consumers.asking import Asked, ambiguous, attempt, find_all, normalised, notes_on, read_numbers
from consumers.plain import Plain
from ledger import deciders, identity, staterow
from ledger import entry as entries
from ledger.checking import Examination
from ledger.doubt import Doubts
from ledger.errors import LedgerError, ProofError
from ledger.evidence import Beginning, CertificateId, Evidence, Shown, ShownEvent, Step
from ledger.finding import find as find_answer
from ledger.finding import found_in
from ledger.lifecycle import Transition
from ledger.postgres.reader import Looked, Stated, View
from ledger.proving import Records, needed_events
from ledger.question import Question
from ledger.statusmap import Membership
from ledger.trust import Trust
from ledger.verdict import FRESHNESS, NAMES, NOT_CHECKED, PASSED, Answer, Check, Found, decide
from ledger.vouching import explain_recovery, find_recoveries

MANY = 8  # questions at once; fewer are answered sooner each by itself
WHY = "the server's own word: /v1/evidence has what proves it"
_JUST_A_NUMBER = Asked("")[1:]
_ANY_ZONE = "UTC"  # where no issuer is known
_ASSUMED = {name: Check(name, PASSED, "") for name in NAMES}
_NOT_MADE = {name: Check(name, NOT_CHECKED, WHY) for name in NAMES}


def answer_unproven(
    view: View, questions: Sequence[Asked], trust: Trust, now: int
) -> list[Answer | LedgerError]:
    """The answers at `now`, or why there is none, in the order of the questions; no check is made
    but that of freshness.
    """
    stated = read_numbers(view, normalised(questions))
    return _answer_all(view, questions, stated, trust, now)


def print_unproven(
    view: View, questions: Sequence[Asked], trust: Trust, now: int, with_checks: bool
) -> list[bytes | LedgerError]:
    """The same as JSON; of many, most are printed by `plain`."""
    numbers = normalised(questions)
    stated = read_numbers(view, numbers)
    plain = None
    if len(questions) >= MANY:
        with suppress(LedgerError):  # each by itself says what is damaged
            plain = Plain(view, _Rows(view, trust, now), now, with_checks)
    found: list[Any] = [None] * len(questions)
    left: list[int] = []
    for n, (number, asked) in enumerate(zip(numbers, questions, strict=True)):
        own = stated.get(number, ())
        if plain and len(own) == 1 and asked[1:] == _JUST_A_NUMBER:
            found[n] = attempt(plain.print, number, own[0])
        if found[n] is None:
            left.append(n)
    rest = _answer_all(view, [questions[n] for n in left], stated, trust, now)
    for n, answer in zip(left, rest, strict=True):
        is_error = isinstance(answer, LedgerError)
        found[n] = answer if is_error else orjson.dumps(answer.members(with_checks))
    return found


def _answer_all(
    view: View,
    questions: Sequence[Asked],
    stated: Mapping[str, Sequence[Stated]],
    trust: Trust,
    now: int,
) -> list[Any]:
    looked = find_all(view, questions, stated)
    rows = _Rows(view, trust, now)
    answers = [
        each if isinstance(each, LedgerError) else attempt(rows.answer, asked, each)
        for asked, each in zip(questions, looked, strict=True)
    ]
    left = [n for n, answer in enumerate(answers) if answer is None]
    if left:
        together = attempt(_read_stored, view, [looked[n] for n in left])
        for n in left:
            stored = together  # where something is damaged, each by itself
            if isinstance(stored, LedgerError):
                stored = attempt(_read_stored, view, [looked[n]])
            is_error = isinstance(stored, LedgerError)
            answers[n] = (
                stored
                if is_error
                else attempt(_answer, stored, questions[n], looked[n], trust, now)
            )
    return answers


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store has of some certificates, by map key."""

    view: View
    histories: Mapping[bytes, list[Step]]
    ends: Mapping[bytes, tuple[int, bytes]]  # how many transitions, the last link


def _read_stored(view: View, looked: Sequence[Looked]) -> _Stored:
    keys = [c.key for one in looked for c in (one.matches or one.absent[:1])]
    return _Stored(view, view.histories(keys), view.ends(keys))


def _answer(stored: _Stored, asked: Asked, looked: Looked, trust: Trust, now: int) -> Answer:
    view = stored.view
    if len(looked.matches) > 1:
        return ambiguous(looked)
    is_one = bool(looked.matches) or len(looked.absent) == 1
    certificate = (looked.matches or looked.absent)[0]
    zone = view.zone(certificate.issuer) if is_one else None
    question, relied_at = asked.question(now, zone or _ANY_ZONE, looked.version)
    answer = _examine(stored, certificate, question, trust, now, relied_at, is_one)
    if not looked.matches:
        if answer.reason == "not-found":
            answer = replace(answer, why=f"looked up as {looked.number!r}")
        if not is_one:
            answer = replace(answer, type_code=None, issuer=None, number=looked.number)
        return replace(answer, near_misses=looked.near, looked_up=looked.number)
    notes = notes_on(view, asked, question, zone)
    return replace(answer, looked_up=looked.number, notes=(*notes, *answer.notes))


def _examine(
    stored: _Stored,
    certificate: CertificateId,
    question: Question,
    trust: Trust,
    now: int,
    relied_at: int | None,
    is_one: bool,
) -> Answer:
    view = stored.view
    steps = stored.histories.get(certificate.key, [])
    _check_link(certificate, steps, stored.ends.get(certificate.key))
    then, known = None, len(steps)
    indexes: set[int] = set()
    if question.known_at is not None:
        state = view.status_at(question.known_at)
        known = sum(1 for step in steps if state is not None and step.index < state)
        if state is not None and state != view.size - 1:
            then = Shown(state, view.entry(state), ())
        needed = needed_events(steps, known, question, view.records().doubts)
        indexes = {steps[n].index for n in needed}
        indexes |= {step.index for step in steps[:1]}
    evidence = _evidence(
        view,
        certificate,
        question,
        history=tuple(steps),
        events=tuple(ShownEvent(n, b"", ()) for n in range(len(steps))),
        entries=tuple(Shown(index, view.entry(index), ()) for index in sorted(indexes)),
        status_then=then,
    )
    return _Unproven(evidence, trust, now, relied_at, view.records(), is_one).answer()


def _check_link(
    certificate: CertificateId, steps: Sequence[Step], end: tuple[int, bytes] | None
) -> None:
    """None when a history gives the link stored beside it, as far as both are of one moment: the
    row may know more. ProofError `stored-bytes-damaged` otherwise.
    """
    if not steps:
        return
    if end is not None:
        count, last = end
        if count > len(steps):
            return
        if count == len(steps) and staterow.link_over(certificate.key, steps) == last:
            return
    raise ProofError("stored-bytes-damaged", f"the history of {certificate.number!r}")


@lru_cache(maxsize=8)
def _parse_status(data: bytes) -> dict[str, Any]:
    return entries.parse_entry(data)


class _Rows:
    """Answers by certificates' rows, for many questions at one moment."""

    def __init__(self, view: View, trust: Trust, now: int) -> None:
        self._view = view
        self._trust = trust
        self._now = now
        self._lanes: dict[str, int] = {}  # how many, by department
        self._heard: dict[tuple[str, int, int | None], _Unproven] = {}

    def ask(self, number: str, row: Stated) -> Answer | None:
        """The answer about the certificate with this number and row, as `answer`."""
        return self.answer(Asked(number), Looked(number, (self._view.named(row, number),)))

    def passed_checks(self, number: str, row: Stated) -> bytes | None:
        """The checks of answers about the certificate's lane, as `plain.Asking` says."""
        said, certificate = self._view.stated(row.key), self._view.named(row, number)
        if said is None:
            return None
        transitions, question = [t for _, t in said.kept], Question(self._now)
        responsible = said.standing.responsible
        return self._hear(row.key, certificate, question, responsible, transitions).passed

    def answer(self, asked: Asked, looked: Looked) -> Answer | None:
        """The answer; None where a row does not decide."""
        if len(looked.matches) != 1 or asked.known_at is not None or asked.relied_at is not None:
            return None
        certificate, view = looked.matches[0], self._view
        key = certificate.key
        notes: tuple[str, ...] = ()
        if asked.at is None:
            version = looked.version if asked.version is None else asked.version
            question = Question(self._now, None, None, version)
        else:
            zone = view.zone(certificate.issuer)
            question, _ = asked.question(self._now, zone, looked.version)
            notes = notes_on(view, asked, question, zone)
        row = view.stated(key)
        at = self._now if question.at is None else question.at
        finding = row and deciders.answer(row.kept, row.standing, at, question.version)
        if row is None or finding is None:
            return None
        transitions = [t for _, t in row.kept]
        indexes = view.indexes(key, [ordinal for ordinal, _ in row.kept])
        found = found_in(finding, transitions, indexes, question.version)
        heard = self._hear(key, certificate, question, row.standing.responsible, transitions)
        return heard.word(found, certificate, question, looked.number, notes)

    def _hear(
        self,
        key: bytes,
        certificate: CertificateId,
        question: Question,
        responsible: str,
        history: list[Transition],
    ) -> _Unproven:
        """When the responsible department was last heard of on the certificate's lane."""
        registry = self._view.records()
        if responsible not in self._lanes:
            record = registry.value(f"department/{responsible}") or {"lanes": 1}
            self._lanes[responsible] = int(record["lanes"])
        lane = identity.lane_of(key, self._lanes[responsible])
        place = (responsible, lane, question.at)
        if place not in self._heard:
            evidence = _evidence(self._view, certificate, question)
            made = _Unproven(evidence, self._trust, self._now, None, registry, True)
            made.history, made.responsible = history, responsible
            self._heard[place] = made
        return self._heard[place]


def _evidence(view: View, certificate: CertificateId, question: Question, **shown: Any) -> Evidence:
    """What the view has, in the form of evidence that proves nothing."""
    said: dict[str, Any] = {"history": (), "events": (), "entries": (), "status_then": None}
    return Evidence(
        origin=view.origin,
        certificate=certificate,
        question=question,
        genesis=Beginning(b"", ()),
        bucket=Membership(b"", ()),
        registry_size=0,
        records=(),
        registrations=(),
        status=Shown(view.size - 1, view.status, ()),
        checkpoint=view.checkpoint,
        **(said | shown),
    )


class _Unproven(Examination):
    """An examination of what was read from the store, not of what a file shows."""

    def __init__(
        self,
        evidence: Evidence,
        trust: Trust,
        now: int,
        relied_at: int | None,
        registry: Records,
        is_one: bool,
    ) -> None:
        super().__init__(evidence, trust, now, relied_at)
        self._registry = registry
        self._is_one = is_one  # certificate that is meant, not one of several that could be
        self.responsible: str | None = None  # where the history is not all there
        self._named: dict[tuple[str, str, str | None], dict[str, Any]] = {}

    @cached_property
    def status_entry(self) -> dict[str, Any]:
        return _parse_status(self.evidence.status.data)

    @cached_property
    def _heard(self) -> dict[str, Any] | None:
        return super()._issuer_freshness()

    def _issuer_freshness(self) -> dict[str, Any] | None:
        return self._heard

    def _responsible(self) -> str:
        return super()._responsible() if self.responsible is None else self.responsible

    @property
    def doubts(self) -> Doubts:
        return self._registry.doubts

    def _known_record(self, name: str) -> dict[str, Any] | None:
        return self._registry.value(name)

    def _is_unregistered(self) -> bool:
        return self._known_record(f"department/{self.evidence.certificate.issuer}") is None

    @cached_property
    def _judged(self) -> tuple[Check, tuple[Check, ...]]:
        """The check of freshness, and all checks as they are told."""
        freshness = self._freshness()
        return freshness, tuple({**_NOT_MADE, FRESHNESS: freshness}.values())

    @property
    def passed(self) -> bytes | None:
        """All checks as JSON; None where something is too old for the answer to count."""
        freshness, told = self._judged
        if freshness.result != PASSED:
            return None
        return orjson.dumps([check.members() for check in told])

    def answer(self) -> Answer:
        """What the history says, unless that is too old."""
        found = find_answer(self.evidence, self.bundles, self.ledger_time, self.at, self.doubts)
        return self.word(found, self.evidence.certificate, self.evidence.question)

    def word(
        self,
        found: Found,
        certificate: CertificateId,
        question: Question,
        looked_up: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> Answer:
        """What was found, unless that is too old: of this certificate, or of another of the same
        department and lane.
        """
        freshness, told = self._judged
        named = (certificate.type_code, certificate.issuer, found.responsible)
        if named not in self._named:
            self._named[named] = self._names(found, certificate)
        if freshness.result == PASSED:  # all that could be against it
            answer, reason, why = found.answer, found.reason, found.why
        else:
            answer, reason, why = decide([*{**_ASSUMED, FRESHNESS: freshness}.values()], found)
        if self._registry.recovering:
            departments = {certificate.issuer, found.responsible or certificate.issuer}
            concerned = departments & self._registry.recovering
            announced = find_recoveries(concerned, self._known_record)
            notes = (*notes, *map(explain_recovery, announced))
        return Answer(
            answer=answer,
            reason=reason,
            checks=told,
            why=why,
            type_code=certificate.type_code,
            issuer=certificate.issuer,
            number=certificate.number,
            found=found,
            question=Question(question.asked_at, self.at, question.known_at, question.version),
            tree_size=self.evidence.status.index + 1,
            ledger_time=self.ledger_time,
            names=self._named[named],
            issuer_freshness=self._issuer_freshness() if self._is_one else None,
            looked_up=looked_up,
            notes=notes,
        )
