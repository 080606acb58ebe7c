"""Which acts of a history decide what holds once all of them have begun.

`lifecycle.answer` says of them what it says of the whole history, at any instant from which on no
act is still to begin: so the store keeps them beside a certificate's standing (`staterow`), and
most questions need no event line. They follow from those before and the next act alone. After a
correction, which changes what the history says, none are kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from . import lifecycle, times
from .event import AMENDED, CORRECTED, ISSUED, OPEN, REVOKED, SUSPENDED, TRANSFERRED_IN, UNKNOWN
from .lifecycle import STATE_ACTS, VERSION_ACTS, Finding, Standing, Transition

MOST = 6  # acts; where more decide, the history is read

Kept = tuple[tuple[int, Transition], ...]
"""(ordinal in the history, transition), ascending; empty where the history has to be read."""


def follow(kept: Kept, ordinal: int, t: Transition) -> Kept:
    """What decides after the act `t`, number `ordinal` of its history, where `kept` did before."""
    if ordinal == 0:
        return ((0, t),)
    if not kept or t.kind == CORRECTED:
        return ()
    acts = (*kept, (ordinal, t))
    needed = _needed(tuple([_shape(t) for _, t in acts]))
    if len(needed) < len(acts):  # what begins later than those that are needed is kept as well
        latest = max(_start(acts[n][1]) for n in needed)
        acts = tuple(a for n, a in enumerate(acts) if n in needed or _start(a[1]) > latest)
    return acts if len(acts) <= MOST else ()


def answer(kept: Kept, standing: Standing, at: int, version: int | None) -> Finding | None:
    """What `lifecycle.answer` says of the history that led to `standing` about the instant `at`;
    None where the kept acts do not decide that.
    """
    history = [t for _, t in kept]
    if len(kept) == standing.count:
        return lifecycle.answer(history, at, version)
    if not kept or version not in (None, standing.version) or at < max(map(_start, history)):
        return None
    found = lifecycle.answer(history, at)
    if found.responsible != standing.responsible:  # who issued is not among the kept
        found = replace(found, responsible=standing.responsible)
    return found


def first_acts(kept: Kept, count: int) -> list[Transition] | None:
    """The first `count` acts, at least one, of the history of which `kept` is, where all of them
    are kept: a whole history as of an earlier moment.
    """
    if len(kept) < count or kept[count - 1][0] != count - 1:
        return None
    return lifecycle.retrace(t for _, t in kept[:count])


Shape = tuple[str, bool, bool]
"""What of an act says whether it is needed: kind, whether it ends by itself, whether as a version
it takes days from the one before.
"""


def _shape(t: Transition) -> Shape:
    kind, first, until = t.kind, t.valid_from, t.valid_until
    ends = kind == SUSPENDED and until not in (None, OPEN, UNKNOWN)
    return kind, ends, kind != ISSUED and (first is None or (kind == AMENDED and until is None))


@lru_cache(maxsize=4096)  # histories are alike
def _needed(shapes: tuple[Shape, ...]) -> frozenset[int]:
    """The numbers of the acts that are read at instants at which all have begun."""
    needed = {n for n, (kind, _, _) in enumerate(shapes) if kind == REVOKED}
    has_state, gives_days = bool(needed), True
    for n in range(len(shapes) - 1, -1, -1):
        kind, ends, takes_days = shapes[n]
        if not has_state and kind in STATE_ACTS:
            needed.add(n)  # a suspension may end by itself: then the act before it is the last
            has_state = not ends
        if kind in VERSION_ACTS:
            if gives_days:  # to a version that is needed, as the last is
                needed.add(n)
            gives_days = n in needed and takes_days
    owners = [n for n, (kind, _, _) in enumerate(shapes) if kind == TRANSFERRED_IN]
    return frozenset(needed.union(owners[-1:]))


def _start(t: Transition) -> int:
    stated = t.start
    return times.parse_moment(t.time) if stated is None else stated
