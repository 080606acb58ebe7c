"""What becomes of a certificate by time alone, out of its history: the entries of its versions in
status lists, how long they hold, which notices of its end are due.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from . import statuslist, times
from .deciders import Kept
from .event import ISSUED, OPEN, UNKNOWN
from .expiry import STEPS, End, open_steps
from .lifecycle import (
    EXPIRED_STATE,
    REVOKED_STATE,
    SUSPENDED_STATE,
    TRANSFERRED,
    VALID,
    Standing,
    Transition,
    turning_points,
)

_SAID = {
    VALID: statuslist.VALID,
    SUSPENDED_STATE: statuslist.SUSPENDED,
    TRANSFERRED: statuslist.UNDECIDED,
    EXPIRED_STATE: statuslist.INVALID,
}
EVER = -(2**62)  # before every instant that a day can say


@dataclass(frozen=True, slots=True)
class Outlook:
    """As of one instant. Before `holds_from`, or from `due_at` on, it must be looked at anew."""

    statuses: dict[int, int]  # by version
    holds_from: int
    due_at: int | None
    due: tuple[int, ...]  # steps of the end that are due and were not announced


def look(
    history: Sequence[Transition],
    now: int,
    end: End | None,
    known_at: int,
    announced: Iterable[int],
) -> Outlook:
    """The outlook at `now`. `end` is the history's, known since ledger time `known_at`;
    `announced` are the steps of its version that were.
    """
    statuses, points = _plain(history) or (
        statuslist.statuses(history, now),
        turning_points(history),
    )
    return look_at(statuses, points, now, end, known_at, announced)


def look_at(
    statuses: dict[int, int],
    points: Sequence[int],
    now: int,
    end: End | None,
    known_at: int,
    announced: Iterable[int],
) -> Outlook:
    """The same where it is known what lists say at `now`, and at which instants that may change."""
    steps = [] if end is None else [(end.at(s), s) for s in open_steps(end, known_at, announced)]
    later = [at for at in (*points, *(at for at, _ in steps)) if at > now]
    return Outlook(
        statuses,
        max((at for at in points if at <= now), default=EVER),
        min(later, default=None),
        tuple(step for at, step in steps if at <= now),
    )


def statuses_of(
    kept: Kept, standing: Standing, now: int
) -> tuple[dict[int, int], list[int]] | None:
    """(what lists say at `now`, instants later than it at which that may change) of the history
    that led to a standing, out of the acts that decide; None where it has to be read.
    """
    if not kept:
        return None
    history = [t for _, t in kept]
    lasts = standing.suspended_until in (None, OPEN, UNKNOWN) and standing.valid_until != UNKNOWN
    if lasts and all(_start(t) <= now for t in history):
        return _begun(standing, now)
    if len(kept) == standing.count:
        return statuslist.statuses(history, now), turning_points(history)
    return None


def _begun(standing: Standing, now: int) -> tuple[dict[int, int], list[int]]:
    """The same where nothing is still to begin, nothing was corrected, and no end is unknown, nor
    that of a suspension stated: then the standing says everything.
    """
    latest, state = standing.version, standing.state
    if state == REVOKED_STATE:
        return dict.fromkeys(range(1, latest + 1), statuslist.INVALID), []
    points = []
    said = _SAID[state]
    if standing.valid_until is not None:
        points.append(times.day_end(standing.valid_until))
        if points[0] <= now and state != EXPIRED_STATE:
            said = statuslist.VALID  # by the credential's own days
    return {**dict.fromkeys(range(1, latest), statuslist.SUPERSEDED), latest: said}, points


def _start(t: Transition) -> int:
    first = t.valid_from
    return times.parse_moment(t.time) if first in (None, UNKNOWN) else times.day_start(str(first))


@lru_cache(maxsize=8192)  # registers repeat their days
def next_look(first: str | None, until: str | None, now: int) -> tuple[int | None] | None:
    """When what was issued for these days, and no more, must be looked at anew: what `look` says,
    and that all of it is valid. None where `look` must say: notices may be due, days unknown.
    """
    if first in (None, UNKNOWN) or until == UNKNOWN:
        return None
    points = [times.day_start(str(first))]
    if until is not None and until != OPEN:
        end = times.day_end(until)
        points += [end - step * times.DAY for step in STEPS]
        if points[1] <= now:
            return None
    return (min((at for at in points if at > now), default=None),)


def _plain(history: Sequence[Transition]) -> tuple[dict[int, int], list[int]] | None:
    """(statuses at any instant, turning points) of what was issued from a day on, and no more: of
    most certificates. Days of validity are no status. None for any other history.
    """
    t = history[0]
    first, last = t.valid_from, t.valid_until
    if len(history) > 1 or t.kind != ISSUED or first in (None, UNKNOWN) or last == UNKNOWN:
        return None
    points = {times.day_start(str(first))}
    if last is not None and last != OPEN:
        points.add(times.day_end(last))
    return {t.version: statuslist.VALID}, sorted(points)
