"""What becomes of a certificate by time alone, out of its history: the entries of its versions in
status lists, how long they hold, which notices of its end are due.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import statuslist, times
from .event import ISSUED, OPEN, UNKNOWN
from .expiry import End, open_steps
from .lifecycle import Transition, turning_points

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
    steps = [] if end is None else [(end.at(s), s) for s in open_steps(end, known_at, announced)]
    later = [at for at in (*points, *(at for at, _ in steps)) if at > now]
    return Outlook(
        statuses,
        max((at for at in points if at <= now), default=EVER),
        min(later, default=None),
        tuple(step for at, step in steps if at <= now),
    )


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
