"""One question to the ledger's store, answered by checking its own evidence as anybody would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from consumers.verifier import note_future
from ledger import identity, times
from ledger.checking import SILENT, check
from ledger.entry import parse_entry
from ledger.errors import LedgerError, Malformed
from ledger.evidence import Evidence
from ledger.postgres.reader import MAX_MATCHES, Looked, Stated, View
from ledger.proving import prove_since
from ledger.question import NOW, Question, format_instant, is_bare_date, parse_when
from ledger.trust import Trust
from ledger.verdict import NOT_FOUND, Answer, undecided

MAX_ABSENT = 1000  # absences proven for one question
_ANY_ZONE = "UTC"  # where no issuer is known
_RANGE = re.compile(r"(.*[0-9])\s?(\.\.+|~|〜|–|—|至|到|-)\s?(.*[0-9])")


class Asked(NamedTuple):
    """What somebody asks, in their own words; moments as `question.parse_when` reads them."""

    number: str
    type_code: str | None = None
    issuer: str | None = None
    at: str | None = None
    known_at: str | None = None
    version: int | None = None
    relied_at: str | None = None

    def check(self) -> None:
        """None when its moments are moments; Malformed otherwise, before anything is looked up."""
        if self.at is self.known_at is self.relied_at is None:
            return
        self.question(0, _ANY_ZONE, None)

    def question(
        self, now: int, zone: str | None, version: int | None
    ) -> tuple[Question, int | None]:
        """The question at `now` to an issuer in `zone`, `version` being the identifier's, and the
        moment of reliance.
        """
        version = version if self.version is None else self.version
        question = Question(now, moment(self.at, zone), moment(self.known_at, zone), version)
        return question, moment(self.relied_at, zone)


def ask(
    view: View, asked: Asked, trust: Trust, now: int, since: int | None = None
) -> tuple[Answer, Evidence | None]:
    """The answer at `now`, checked as any evidence is, and its evidence, where there is one file of
    it; with `since` that proves that the log begins with the one of so many entries.
    """
    asked.check()
    looked = find(view, asked)
    if len(looked.matches) > 1:
        return ambiguous(looked), None
    if not looked.matches:
        return _not_found(view, asked, looked, trust, now)
    certificate = looked.matches[0]
    zone = view.zone(certificate.issuer)
    question, relied_at = asked.question(now, zone, looked.version)
    evidence = view.evidence(certificate, question)
    if since is not None:
        evidence = replace(evidence, since=prove_since(view, since))
    answer = check(evidence, trust, now, relied_at)
    notes = notes_on(view, asked, question, zone)
    return note_future(replace(answer, looked_up=looked.number, notes=notes), now), evidence


def find(view: View, asked: Asked) -> Looked:
    """What is looked up; Malformed `usage` for a range, which is no number that anybody has."""
    looked = view.find(asked.number, asked.type_code, asked.issuer)
    if not looked.matches and _is_range(looked.number):
        raise Malformed(
            "usage",
            f"{looked.number!r} looks like a range: one question is about one certificate, "
            "ask for each number by itself",
        )
    return looked


def normalised(questions: Iterable[Asked]) -> list[str]:
    """The numbers that are asked about, as they are kept."""
    return [identity.normalise_number(asked.number) for asked in questions]


def read_numbers(view: View, numbers: Iterable[str]) -> dict[str, list[Stated]]:
    """The rows of the certificates with these numbers, read at once; of those that can be one."""
    wanted = {
        number
        for number in numbers
        if number.isprintable() or attempt(identity.check_number, number) is None
    }
    return view.stated_by_number(wanted) if wanted else {}


def find_all(
    view: View, questions: Sequence[Asked], stated: Mapping[str, Sequence[Stated]]
) -> list[Any]:
    """What is looked up for each question, as by `find`, or the LedgerError why nothing is;
    `stated` is what `read_numbers` read.
    """
    return [attempt(_look, view, asked, stated) for asked in questions]


def attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns, or the LedgerError that it raises."""
    try:
        return work(*arguments)
    except LedgerError as err:
        return err


def _look(view: View, asked: Asked, stated: Mapping[str, Sequence[Stated]]) -> Looked:
    asked.check()
    number = identity.normalise_number(asked.number)
    if asked.type_code is not None:
        identity.check_type(asked.type_code)
    if asked.issuer is not None:
        identity.check_department(asked.issuer)
    matches = [
        match
        for row in stated.get(number, ())
        if asked.type_code in (None, (match := view.named(row, number)).type_code)
        and asked.issuer in (None, match.issuer)
    ]
    if not matches or len(matches) > MAX_MATCHES:
        return find(view, asked)
    return Looked(number, tuple(sorted(matches, key=lambda m: (m.type_code, m.issuer))))


def ambiguous(looked: Looked) -> Answer:
    """The answer where several certificates have the number."""
    matches = tuple(match.members() for match in looked.matches)
    why = "say which one by --type and --issuer:"
    return undecided(
        "ambiguous", why, number=looked.number, matches=matches, looked_up=looked.number
    )


def moment(text: str | None, zone: str | None) -> int | None:
    """The instant that `text` means in `zone`; None for now."""
    return None if text is None or text == NOW else parse_when(text, zone)


def _is_range(number: str) -> bool:
    match = _RANGE.fullmatch(number)
    if match is None:
        return False
    # A hyphen may belong to a number: only digits that ascend are a range with one.
    first, sign, last = match.groups()
    return sign != "-" or (first.isdecimal() and last.isdecimal() and int(first) < int(last))


def notes_on(view: View, asked: Asked, question: Question, zone: str | None) -> tuple[str, ...]:
    """What a person should know about how the question was understood."""
    notes = [
        f"{text} was read as 00:00 of that day in {zone}, the issuer's time zone"
        for text in dict.fromkeys((asked.at, asked.known_at, asked.relied_at))
        if text is not None and is_bare_date(text)
    ]
    if question.known_at is not None:
        began = times.parse_moment(str(parse_entry(view.entry(0))["time"]))
        if question.known_at < began:
            notes.append(f"the ledger began at {format_instant(began)}: before, it knew nothing")
    return tuple(notes)


def _not_found(
    view: View, asked: Asked, looked: Looked, trust: Trust, now: int
) -> tuple[Answer, Evidence | None]:
    """The answer that none is found, proven of all that could have been meant; the evidence where
    that is one.
    """
    count = len(looked.absent)
    said: dict[str, Any] = {"near_misses": looked.near, "looked_up": looked.number}
    if count > MAX_ABSENT:
        why = f"{count} types and issuers can be meant: say which by --type and --issuer"
        return undecided("ambiguous", why, number=looked.number, **said), None
    zone = view.zone(looked.absent[0].issuer) if count == 1 else None
    question, relied_at = asked.question(now, zone or _ANY_ZONE, looked.version)
    made = [view.evidence(certificate, question) for certificate in looked.absent]
    answers = [check(evidence, trust, now, relied_at) for evidence in made]
    silent = {a.issuer for a in answers if a.reason == SILENT}
    fresh = [a for a in answers if a.reason != SILENT] or answers
    answer = next((a for a in fresh if a.answer != NOT_FOUND), fresh[0])
    if answer.answer == NOT_FOUND:
        why = f"looked up as {looked.number!r}"
        if count > 1:
            why += f" under {count} types and issuers; --type and --issuer give evidence to keep"
        unheard = tuple(sorted(map(str, silent)))
        if unheard:
            why += f"; too long silent to be sure of: {', '.join(unheard)}"
        answer = replace(answer, why=why, unheard=unheard)
    if count > 1:
        answer = replace(answer, type_code=None, issuer=None, number=looked.number)
    return replace(answer, **said), made[0] if count == 1 else None
