"""From named checks and a finding to one of four answers, in one function and one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import CODES
from .question import Question, format_instant

VALID, NOT_VALID, NOT_FOUND, CANNOT_DECIDE = "valid", "not-valid", "not-found", "cannot-decide"
LISTED, NOTHING_BOUND = "listed", "nothing-bound"  # of a holder: all that is bound, or nothing
EXIT = {VALID: 0, NOT_VALID: 1, NOT_FOUND: 3, CANNOT_DECIDE: 4, LISTED: 0, NOTHING_BOUND: 3}

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not-checked"

# Names and order are the same in library, command line, API and page.
EVENT_SIGNATURE, AUTHORITY, INCLUSION, CHECKPOINT, STATUS, FRESHNESS, DISCLOSURES = NAMES = (
    "event-signature",
    "authority",
    "inclusion",
    "checkpoint",
    "status",
    "freshness",
    "disclosures",
)

# Whoever offers something that fails one of these offers nothing.
PROVING = (EVENT_SIGNATURE, AUTHORITY, INCLUSION, CHECKPOINT, STATUS, DISCLOSURES)

# Not valid for reasons that no later act undoes, corrections aside: staleness takes nothing from
# that. A certificate that expired may have been renewed; a version that expired was not, as renewal
# makes another.
OVER = "over"
OVER_REASONS = frozenset({"revoked-annulled", "revoked-penalty", "revoked-deregistered"})
OVER_REASONS_OF_A_VERSION = OVER_REASONS | {"superseded", "expired"}
NOT_KNOWN_THEN = "not-known-then"
NOT_YET_VALID = "not-yet-valid"

# What the finding says: the checks that must have passed for it to become the answer.
_PROOF = (EVENT_SIGNATURE, AUTHORITY, INCLUSION, CHECKPOINT, STATUS)
NEEDED: dict[str, tuple[str, ...]] = {
    VALID: (*_PROOF, FRESHNESS),
    NOT_VALID: (*_PROOF, FRESHNESS),
    OVER: _PROOF,
    NOT_FOUND: (AUTHORITY, CHECKPOINT, STATUS, FRESHNESS),
    NOT_KNOWN_THEN: _PROOF,
    CANNOT_DECIDE: (),
    LISTED: (AUTHORITY, CHECKPOINT, STATUS, FRESHNESS),
    NOTHING_BOUND: (AUTHORITY, CHECKPOINT, STATUS, FRESHNESS),
}

# All that a sheet of paper can show.
STATED = (CHECKPOINT, STATUS, FRESHNESS)

REFUSED = "evidence-refused"


@dataclass(frozen=True, slots=True)
class Check:
    """One named check: its result, why in a sentence, and the raw values it looked at. `code` says
    what a failure means for the answer.
    """

    name: str
    result: str
    why: str
    values: Mapping[str, Any] = field(default_factory=dict)
    code: str = REFUSED

    def members(self) -> dict[str, Any]:
        return {"name": self.name, "result": self.result, "why": self.why, "values": self.values}


@dataclass(frozen=True, slots=True)
class Deciding:
    """An event that the answer rests on."""

    id: str
    event: str
    by: str
    time: str
    reason: str | None
    index: int

    def members(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "event": self.event,
            "by": self.by,
            "time": self.time,
            "reason": self.reason,
            "index": self.index,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What the history says, before it is known whether the checks let it count."""

    answer: str
    reason: str
    since: int | None = None
    version: int | None = None
    valid_from: str | None = None
    valid_until: str | None = None
    responsible: str | None = None
    known_since: int | None = None
    deciding: tuple[Deciding, ...] = ()
    why: str = ""  # a sentence, where the reason's own does not say enough
    asked_version: int | None = None

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The checks that must have passed for this to become the answer."""
        over = OVER_REASONS if self.asked_version is None else OVER_REASONS_OF_A_VERSION
        if self.answer == NOT_VALID and self.reason in over:
            return NEEDED[OVER]
        return NEEDED[NOT_KNOWN_THEN if self.reason == NOT_KNOWN_THEN else self.answer]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer with everything that it rests on."""

    answer: str
    reason: str
    checks: tuple[Check, ...]
    why: str = ""
    type_code: str | None = None
    issuer: str | None = None
    number: str | None = None
    found: Found | None = None
    question: Question | None = None
    file_question: Question | None = None  # the file's own, where another one was asked
    tree_size: int | None = None
    ledger_time: int | None = None
    names: Mapping[str, Any] = field(default_factory=dict)  # of type and departments, contact
    issuer_freshness: Mapping[str, Any] | None = None
    matches: tuple[Mapping[str, str], ...] = ()  # when several certificates match
    near_misses: tuple[Mapping[str, str], ...] = ()  # when none does
    unheard: tuple[str, ...] = ()  # issuers too long silent for an absence at them to count
    looked_up: str | None = None  # the number or identifier as it was looked up
    notes: tuple[str, ...] = ()  # how the question was understood

    @property
    def exit(self) -> int:
        """The command line's exit code."""
        return EXIT[self.answer]

    @property
    def refused(self) -> Check | None:
        """The first check that a refused file fails."""
        return next((c for c in self.checks if c.result == FAILED and c.name in PROVING), None)

    @property
    def turn(self) -> int | None:
        """Since when the answer holds; what is not valid yet becomes so then."""
        found = self.found
        return found.since if found is not None and self.answer == found.answer else None

    def members(self, with_checks: bool = True) -> dict[str, Any]:
        """The JSON answer of the command line and the API."""
        found, question = self.found, self.question
        value: dict[str, Any] = {
            "answer": self.answer,
            "reason": self.reason,
            "why": self.why,
            "since": None if self.reason == NOT_YET_VALID else _instant(self.turn),
            "certificate": self._certificate(),
            **({"checks": [check.members() for check in self.checks]} if with_checks else {}),
            "tree_size": self.tree_size,
            "ledger_time": _instant(self.ledger_time),
            "at": _instant(question.at if question else None),
            "known_at": _instant(question.known_at if question else None),
        }
        if self.looked_up is not None:
            value["looked_up"] = self.looked_up
        if self.notes:
            value["notes"] = list(self.notes)
        if self.file_question is not None:
            own = self.file_question
            value["file_question"] = {
                "at": _instant(own.at),
                "known_at": _instant(own.known_at),
                "version": own.version,
                "options": own.options(),
            }
        if self.issuer_freshness is not None:
            value["issuer_freshness"] = dict(self.issuer_freshness)
        if self.names:
            value["names"] = dict(self.names)
        if found is not None and self.reason != REFUSED:
            value["deciding"] = [d.members() for d in found.deciding]
            if found.known_since is not None:
                value["known_since"] = _instant(found.known_since)
        if self.matches:
            value["matches"] = [dict(m) for m in self.matches]
        if self.near_misses:
            value["near_misses"] = [dict(m) for m in self.near_misses]
        if self.unheard:
            value["unheard"] = list(self.unheard)
        return value

    def _certificate(self) -> dict[str, Any] | None:
        if self.number is None:
            return None
        found = None if self.reason == REFUSED else self.found
        return {
            "type": self.type_code,
            "issuer": self.issuer,
            "number": self.number,
            "version": found and found.version,
            "valid_from": found and found.valid_from,
            "valid_until": found and found.valid_until,
        }


def _instant(moment: int | None) -> str | None:
    return None if moment is None else format_instant(moment)


def decide(
    checks: Sequence[Check], found: Found | None, stated: bool = False
) -> tuple[str, str, str]:
    """(answer, reason, sentence) that the checks leave of a finding; of one that is `stated` on a
    sheet, which shows no event, those of `STATED` alone.
    """
    by_name = {check.name: check for check in checks}
    for name in PROVING:
        if by_name[name].result == FAILED:
            return CANNOT_DECIDE, REFUSED, f"{name}: {by_name[name].why}"
    if by_name[CHECKPOINT].result == NOT_CHECKED:
        return CANNOT_DECIDE, by_name[CHECKPOINT].code, f"{CHECKPOINT}: {by_name[CHECKPOINT].why}"
    if found is None:
        return CANNOT_DECIDE, REFUSED, CODES[REFUSED].sentence
    for name in found.rests_on:
        if by_name[name].result != PASSED and not (stated and name not in STATED):
            return CANNOT_DECIDE, by_name[name].code, f"{name}: {by_name[name].why}"
    return found.answer, found.reason, found.why


def unread(why: str) -> Answer:
    """The answer about bytes that are no evidence file."""
    checks = tuple(Check(name, NOT_CHECKED, "the file could not be read") for name in NAMES)
    return Answer(CANNOT_DECIDE, REFUSED, checks, why)


def undecided(reason: str, why: str, **members: Any) -> Answer:
    """The answer when nothing could be looked at: servers away, several certificates match."""
    checks = tuple(Check(name, NOT_CHECKED, "nothing was checked") for name in NAMES)
    return Answer(CANNOT_DECIDE, reason, checks, why, **members)
