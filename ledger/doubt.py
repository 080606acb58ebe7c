"""Whose word it was: events signed by a key that was revoked with effect from earlier.

What such a key signed from that log index on stays logged and is doubtful until its department
confirms or corrects it, or rewinds the certificate. Answers that rest on doubtful events decide
nothing. FORMATS.md, section 9.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from . import staterow
from .errors import Refused
from .event import CORRECTED
from .lifecycle import REWIND, Finding, Transition, leans_on

COMPROMISED = "key-compromised"
VOID, CONFIRM = "void", "confirm"

Doubts = Mapping[str, range]
"""Ids of doubted keys, each with the log indexes at which it signed what is doubted."""

Steps = Sequence[tuple[int, Transition]]
"""A whole history: log index and transition of each event."""


def find_doubtful(steps: Steps, known: int, doubts: Doubts) -> dict[str, int]:
    """The ids of events that are doubtful and not settled, each with the log index from which on
    its key is doubted; `known` is the number of events that the question knows.
    """
    found = {t.id: doubts[t.key].start for index, t in steps if is_doubted(t.key, index, doubts)}
    if not found:
        return found
    numbers = {t.id: n for n, (_, t) in enumerate(steps)}
    voided: set[str] = set()  # as the history has it
    sure: set[str] = set()  # where nothing doubtful is heard
    end = sure_end = len(steps)  # what rewinds leave of it, likewise
    for ordinal in reversed(range(len(steps))):  # a correction is settled by later ones only
        t = steps[ordinal][1]
        if t.kind != CORRECTED:
            continue
        corrects, is_sure = str(t.corrects), t.id not in sure and t.id not in found
        stands = ordinal < end and t.id not in voided
        begin = min(numbers.get(corrects, ordinal), ordinal)
        leaning = _leaning(steps, ordinal, begin, found) if t.correction == REWIND else None
        if leaning is not None:
            found[t.id] = found[leaning.id]
        is_sure = is_sure and ordinal < sure_end and leaning is None
        if is_sure and stands and (t.correction == CONFIRM or ordinal < known):
            for gone in range(begin, ordinal if t.correction == REWIND else begin + 1):
                found.pop(steps[gone][1].id, None)
        if t.correction == VOID:
            voided |= {corrects} if stands else set()
            sure |= {corrects} if is_sure else set()
        elif t.correction == REWIND:
            end = begin if ordinal < end else end
            sure_end = begin if is_sure else sure_end
    return found


def _leaning(steps: Steps, ordinal: int, begin: int, found: Container[str]) -> Transition | None:
    """The doubtful word of another department that alone let a rewind pass, where there is one: it
    took back what only that department could.
    """
    t = steps[ordinal][1]
    doubtful = [h for _, h in steps[begin:ordinal] if h.id in found]
    if all(h.by == t.by or h.correction not in (VOID, REWIND) for h in doubtful):
        return None
    leant = {h.id for h in leans_on([h for _, h in steps[:ordinal]], t)}
    return next((h for h in doubtful if h.id in leant), None)


def is_doubted(key_id: str, index: int, doubts: Doubts) -> bool:
    """Whether a key's signature in the bundle at a log index is doubted."""
    return index in doubts.get(key_id, ())


def is_clear(history: bytes, doubts: Doubts) -> bool:
    """Whether no event of a stored history (`staterow`) lies where anything is doubted."""
    if not doubts:
        return True
    indexes = [staterow.placed(place)[0] for place in staterow.places(history)]
    return not any(index in span for span in doubts.values() for index in indexes)


def settle(finding: Finding, steps: Steps, known: int, doubts: Doubts) -> Finding:
    """The finding out of the first `known` events, or that it cannot be decided because one that it
    rests on is doubtful.
    """
    doubtful = find_doubtful(steps, known, doubts) if doubts else {}
    if doubtful.keys().isdisjoint(finding.deciding):
        return finding
    return replace(
        finding, answer="cannot-decide", reason=COMPROMISED, since=None, known_since=None
    )


def explain(deciding: Container[str], steps: Steps, known: int, doubts: Doubts) -> str:
    """Which event is doubtful, in a sentence."""
    doubtful = find_doubtful(steps, known, doubts)
    t = next(t for _, t in steps if t.id in doubtful and t.id in deciding)
    return (
        f"event {t.id} was signed with key {t.key[:16]}…, which {t.by} declared compromised from "
        f"log index {doubtful[t.id]} on, and {t.by} has neither confirmed nor corrected it"
    )


def needed_corrections(
    steps: Steps, known: int, deciding: Container[str], doubts: Doubts
) -> set[int]:
    """Ordinals of the later corrections that may settle what is doubtful among these events."""
    if not any(t.id in deciding and is_doubted(t.key, index, doubts) for index, t in steps):
        return set()
    return {n for n in range(known, len(steps)) if steps[n][1].kind == CORRECTED}


def needed_doubts(steps: Steps, known: int, deciding: Container[str], doubts: Doubts) -> set[int]:
    """Ordinals of events that show that one which decides is doubtful: that one, and one of each
    doubted key, so that a reader knows of all.
    """
    doubtful = find_doubtful(steps, known, doubts)
    needed = {next(n for n, (_, t) in enumerate(steps) if t.id in doubtful and t.id in deciding)}
    told: set[str] = set()
    for n, (index, t) in enumerate(steps):
        if t.key not in told and is_doubted(t.key, index, doubts):
            told.add(t.key)
            needed.add(n)
    return needed


def check_confirms(steps: Steps, t: Transition, doubts: Doubts) -> None:
    """None when what `t` confirms is doubtful; Refused `nothing-to-confirm` otherwise."""
    target = str(t.corrects)
    by = next((other for other in steps if other[1].id == target), None)
    if by is not None and is_doubted(by[1].key, by[0], doubts):
        if target in find_doubtful(steps, len(steps), doubts):
            return
        raise Refused("nothing-to-confirm", f"event {target} is confirmed or corrected already")
    raise Refused("nothing-to-confirm", f"no doubted key signed event {target}")
