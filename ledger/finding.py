"""What the history in proven evidence says about its question, if enough of it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import lifecycle, times
from .doubt import COMPROMISED, Doubts, explain, needed_corrections, settle
from .entry import parse_entry
from .errors import LedgerError
from .evidence import Evidence
from .question import format_instant
from .verdict import CANNOT_DECIDE, NOT_FOUND, NOT_KNOWN_THEN, Deciding, Found

INCOMPLETE, UNCLEAR = "evidence-incomplete", "known-at-unclear"


def find(
    evidence: Evidence,
    bundles: Mapping[int, Mapping[str, Any]],
    ledger_time: int,
    at: int,
    doubts: Doubts,
) -> Found:
    """What the part of the history known at the question's `known_at` says about the instant `at`.

    `bundles` are the shown entries by log index, `ledger_time` is the status entry's, `doubts` are
    those of the keys of the events shown.
    """
    steps = evidence.history
    history = [step.transition for step in steps]
    shown = {event.ordinal for event in evidence.events}
    question = evidence.question
    count = len(steps)
    if not count:
        return Found(NOT_FOUND, "not-found")
    if question.known_at is not None and question.known_at < ledger_time:
        limit = _known_before(evidence, bundles, question.known_at)
        if limit is None:
            return _incomplete("what the ledger knew then", evidence)
        count = sum(1 for step in steps if step.index < limit)
        if count < len(steps):
            if count not in shown:
                return _incomplete("the first event that came after", evidence)
            time = times.parse_moment(bundles[steps[count].index]["time"])
            if time <= question.known_at:
                return _unclear(time, question.known_at)
        if count == 0:
            return Found(
                NOT_FOUND,
                NOT_KNOWN_THEN,
                why="the ledger learned of this certificate after "
                f"{format_instant(question.known_at)}",
            )
    try:
        finding = lifecycle.answer(history[:count], at, question.version)
    except LedgerError as err:
        return Found(CANNOT_DECIDE, INCOMPLETE, why=err.message)
    told = [(step.index, step.transition) for step in steps]
    settled, why = settle(finding, told, count, doubts), ""
    needed = {count - 1}
    if settled.reason == COMPROMISED:  # whatever else is not shown, it cannot be decided
        why = explain(finding.deciding, told, count, doubts)
    else:
        needed |= {n for n, t in enumerate(history[:count]) if t.id in finding.deciding}
        needed |= needed_corrections(told, count, finding.deciding, doubts)
    if not needed <= shown:
        return _incomplete("the events that decide this question", evidence)
    indexes = [step.index for step in steps]
    return found_in(settled, history, indexes, question.version, why)


def found_in(
    finding: lifecycle.Finding,
    history: Sequence[lifecycle.Transition],
    indexes: Sequence[int],
    version: int | None,
    why: str = "",
) -> Found:
    """The finding about a history with the events that it rests on; `indexes` are where they are
    in the log, `version` is the one asked about.
    """
    deciding = tuple(
        Deciding(t.id, t.kind, t.by, t.time, t.reason, index)
        for t, index in zip(history, indexes, strict=True)
        if t.id in finding.deciding
    )
    return Found(
        finding.answer,
        finding.reason,
        finding.since,
        finding.version,
        finding.valid_from,
        finding.valid_until,
        finding.responsible,
        finding.known_since,
        deciding,
        why,
        version,
    )


def _known_before(
    evidence: Evidence, bundles: Mapping[int, Mapping[str, Any]], known_at: int
) -> int | None:
    """The log index below which all was known at `known_at`, None when the file does not show it.

    That the first event came later needs no status entry: its own ledger time says so.
    """
    then = evidence.status_then
    if then is not None and times.parse_moment(parse_entry(then.data)["time"]) <= known_at:
        return then.index
    first = bundles.get(evidence.history[0].index)
    return 0 if first is not None and times.parse_moment(first["time"]) > known_at else None


def _unclear(time: int, known_at: int) -> Found:
    return Found(
        CANNOT_DECIDE,
        UNCLEAR,
        why=f"an event was logged at {format_instant(time)}, and the ledger's state shown for "
        f"{format_instant(known_at)} did not hold it yet: ask for a moment a little later",
    )


def _incomplete(what: str, evidence: Evidence) -> Found:
    words = f"certledger evidence {evidence.certificate.number!r} {evidence.question.options()}"
    return Found(
        CANNOT_DECIDE,
        INCOMPLETE,
        why=f"the file does not show {what}: ask again with `{words.strip()}`",
    )
