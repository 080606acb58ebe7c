"""A slow, obviously right life cycle, from FORMATS section 7 and nothing else of ours.

Acts are plain objects; days and moments are read with the standard library. What holds at an
instant is found by trying every way in which the acts of unknown start could have begun.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import product

EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
VERSIONS = ("issued", "renewed", "amended")
STATES = {
    "issued": "valid",
    "renewed": "valid",
    "suspended": "suspended",
    "reinstated": "valid",
    "revoked": "revoked",
    "expired": "expired",
    "transferred-out": "transferred",
    "transferred-in": "valid",
}
ENDS = ("suspended", "revoked", "expired", "transferred-out")
ENDED = ("suspended", "revoked", "expired", "transferred")
MAY_FOLLOW = {
    "none": ["issued"],
    "void": ["issued"],
    "valid": ["renewed", "amended", "suspended", "revoked", "expired", "transferred-out"],
    "suspended": ["amended", "reinstated", "revoked", "expired"],
    "expired": ["renewed", "revoked"],
    "transferred": ["transferred-in", "revoked"],
    "revoked": [],
}


class No(Exception):
    """The act is refused, with the code."""


@dataclass(frozen=True)
class Act:
    kind: str
    id: str
    by: str
    time: str
    version: int = 0
    valid_from: str | None = None
    valid_until: str | None = None
    revocation: str | None = None
    reason: str | None = None
    corrects: str | None = None
    correction: str | None = None
    transfer_to: str | None = None


@dataclass(frozen=True)
class Said:
    answer: str
    reason: str
    version: int
    since: int | None
    responsible: str


@dataclass(frozen=True)
class Span:
    """An act with its first instant (that of its time when unknown) and the end of its last day."""

    act: Act
    begin: int
    is_unknown: bool
    end: int | None
    is_end_unknown: bool


def micro(moment: str) -> int:
    return (datetime.fromisoformat(moment) - EPOCH) // timedelta(microseconds=1)


def first_instant(day: str) -> int:
    return micro(f"{day[:10]}T00:00:00{day[10:]}")


def last_instant(day: str) -> int:
    """The first instant after the day."""
    return first_instant((date.fromisoformat(day[:10]) + timedelta(days=1)).isoformat() + day[10:])


def branch(history: list[Act]) -> list[Act]:
    """What rewinds leave: after each act as it was written down then, and looked up again."""
    states: list[list[Act]] = [[]]
    for act in history:
        if act.correction == "rewind":
            named = [a.id for a in history].index(str(act.corrects))
            states.append(states[named])
        else:
            states.append([*states[-1], act])
    return states[-1]


def corrected(history: list[Act]) -> list[Act]:
    """The history in ledger order, voided acts left out, the days of others restated."""
    history = branch(history)

    def stands(n: int) -> bool:
        return not any(
            later.correction == "void" and later.corrects == history[n].id and stands(m)
            for m, later in enumerate(history)
            if m > n
        )

    standing = [act for n, act in enumerate(history) if stands(n)]
    out = []
    for act in standing:
        if act.kind == "corrected":
            continue
        for other in standing:
            if other.correction == "restate" and other.corrects == act.id:
                act = replace(
                    act,
                    valid_from=other.valid_from or act.valid_from,
                    valid_until=other.valid_until or act.valid_until,
                )
        out.append(act)
    return out


def doubtful(history: list[Act], known: int, doubted: set[int]) -> set[str]:
    """The ids of acts at places in `doubted` that no later act settles; `known` acts are known."""
    places = {act.id: n for n, act in enumerate(history)}

    def takes_out(m: int, n: int) -> bool:
        act = history[m]
        if act.correction == "rewind":
            return places[str(act.corrects)] <= n < m
        return act.correction == "void" and act.corrects == history[n].id and m > n

    def stands(n: int) -> bool:
        return not any(takes_out(m, n) and stands(m) for m in range(n + 1, len(history)))

    def stands_surely(n: int) -> bool:
        """Also if no doubtful act counted."""
        return not any(
            takes_out(m, n) and stands_surely(m) and not is_open(m)
            for m in range(n + 1, len(history))
        )

    def before(n: int) -> list[int]:
        """The places that one passes on the way back from before act n."""
        states: list[list[int]] = [[]]
        for m, act in enumerate(history[:n]):
            rewinds = act.correction == "rewind"
            states.append([*states[places[str(act.corrects)] if rewinds else -1], m])
        return states[-1]

    def leans(n: int, m: int) -> bool:
        """Whether the rewind n was its department's only because another one said m before."""
        act, other = history[n], history[m]
        if act.correction != "rewind" or other.correction not in ("void", "rewind"):
            return False
        way, at = before(n), places[str(act.corrects)]
        left = [history[k] for k in corrections_stand(way)]
        gone = [k for k in way if k >= at]
        mighty = {
            history[k].by
            for k in gone
            if history[k] in left
            and (
                history[k].correction not in ("void", "rewind")
                or places[str(history[k].corrects)] < at
            )
        }
        owners = {a.by for a in history[:n] if a.kind in ("issued", "transferred-in")}
        if other.by in owners and act.by in owners:
            return False
        return m in gone and other.by != act.by and other.by not in mighty

    def corrections_stand(way: list[int]) -> list[int]:
        """Of these places those that no void among them names that stands itself."""
        out: list[int] = []
        for k in reversed(way):
            voids = [history[m] for m in out if history[m].correction == "void"]
            if all(act.corrects != history[k].id for act in voids):
                out.append(k)
        return out

    @cache
    def is_open(n: int) -> bool:
        if any(leans(n, m) and is_open_for(n, m) for m in range(n)):
            return True
        return is_unsettled(n)

    def is_open_for(n: int, m: int) -> bool:
        """Whether act m is doubtful, as far as what came after act n settles it."""
        return is_unsettled(m, n)

    def is_unsettled(n: int, since: int = -1) -> bool:
        return n in doubted and not any(
            (takes_out(m, n) or history[m].corrects == history[n].id)
            and stands(m)
            and stands_surely(m)
            and not is_open(m)
            and (history[m].correction == "confirm" or m < known)
            for m in range(max(n, since) + 1, len(history))
        )

    return {act.id for n, act in enumerate(history) if is_open(n)}


def spans(acts: list[Act]) -> list[Span]:
    out: list[Span] = []
    before: Span | None = None  # the version that a version follows
    for act in acts:
        is_unknown = act.valid_from == "unknown"
        begin = micro(act.time)
        if act.valid_from and not is_unknown:
            begin = first_instant(act.valid_from)
        until = act.valid_until
        end = None if until in (None, "open", "unknown") else last_instant(until)
        is_end_unknown = until == "unknown"
        if act.kind in VERSIONS and before is not None:
            if act.valid_from is None:
                begin = max(begin, before.begin)
            if act.kind == "amended" and until is None:
                end, is_end_unknown = before.end, before.is_end_unknown
        span = Span(act, begin, is_unknown, end, is_end_unknown)
        if act.kind in VERSIONS:
            before = span
        out.append(span)
    return out


# --- what may be admitted


def state_after(acts: list[Act]) -> str:
    """The state after all acts; No when one of them cannot follow those before it."""
    state, suspension_end = "none", None
    first: int | None = None  # the first day in the record, where there is one
    ended = 0  # first instant of the end of validity that `state` tells of
    for span in spans(acts):
        act = span.act
        if state == "suspended" and suspension_end is not None and not span.is_unknown:
            own = first_instant(act.valid_from) if act.valid_from else micro(act.time)
            if suspension_end <= own:
                state = "valid"
        begun_later = state in ENDED and span.begin < ended
        if begun_later and act.kind == "transferred-in":
            raise No("dates-reversed")
        kept = state
        if begun_later and act.kind in ("suspended", "revoked"):
            state = "valid"
        if act.kind not in MAY_FOLLOW[state]:
            if state in ("none", "void"):
                raise No("not-issued")
            raise No("already-issued" if act.kind == "issued" else "invalid-transition")
        if act.kind == "suspended":
            if span.is_unknown:
                raise No("invalid-transition")
            if span.end is not None and span.end <= span.begin:
                raise No("dates-reversed")
            if kept != "revoked":
                suspension_end = span.end
        if act.kind in VERSIONS:
            begin: int | None = micro(act.time)
            if act.valid_from is not None:
                begin = None if span.is_unknown else first_instant(act.valid_from)
            elif act.kind == "amended":
                begin = first
            elif act.kind == "renewed" and first is not None:
                begin = max(first, micro(act.time))
            if begin is not None and span.end is not None and span.end <= begin:
                raise No("dates-reversed")
            if act.valid_from is not None:
                first = begin
            elif act.kind != "amended":
                first = None
        if begun_later and kept == "revoked" and act.kind == "suspended":
            state = kept
            continue
        state = STATES.get(act.kind, state)
        if act.kind in ENDS:
            ended = span.begin
    return state


def admit(history: list[Act], act: Act) -> Act:
    """The act with its version, if it may follow `history`; No otherwise."""
    highest = max((a.version for a in history), default=0)
    if act.kind != "corrected":
        acts = corrected(history)
        state_after([*acts, act])
        version = highest + 1 if act.kind in VERSIONS else last_version(acts)
        return replace(act, version=version)
    target = next((a for a in history if a.id == act.corrects), None)
    if not corrected(history) and not history:
        raise No("not-issued")
    if target is None or (target.kind == "corrected" and act.correction == "restate"):
        raise No("unknown-event")
    if act.correction in ("void", "restate") and target not in branch(history):
        raise No("unknown-event")
    if act.valid_until is not None and target.kind not in (*VERSIONS, "suspended"):
        raise No("correction-breaks-history")
    left = corrected([*history, act])
    try:
        state_after(left)
    except No as err:
        raise No("correction-breaks-history") from err
    return replace(act, version=last_version(left))


def last_version(acts: list[Act]) -> int:
    return next((a.version for a in reversed(acts) if a.kind in VERSIONS), 0)


# --- what held


def what_held(history: list[Act], at: int) -> Said:
    """What the acts known by then say about an instant."""
    acts = spans(corrected(history))
    if not acts:
        last = history[-1]
        return Said("not-valid", "voided", 0, micro(last.time), last.by)
    hidden = [n for n, span in enumerate(acts) if span.is_unknown and at < span.begin]
    plain = judge(acts, {n for n, span in enumerate(acts) if span.begin <= at}, at)
    ways = []
    for begun in product((False, True), repeat=len(hidden)):
        chosen = {n for n, yes in zip(hidden, begun, strict=True) if yes}
        ways.append(
            judge(acts, chosen | {n for n, span in enumerate(acts) if span.begin <= at}, at)
        )
    if all(way == plain for way in ways):
        return plain
    if plain.answer == "not-valid" and all(acts[n].act.kind in ENDS for n in hidden):
        return plain
    return replace(plain, answer="cannot-decide", reason="start-unknown", since=None)


def judge(acts: list[Span], begun: set[int], at: int) -> Said:
    def since_of(span: Span) -> int | None:
        return None if span.is_unknown else span.begin

    state, since, revocation = "none", None, None
    lifted = []
    for n in reversed(range(len(acts))):
        span = acts[n]
        if n not in begun or span.act.kind not in STATES:
            continue
        if span.act.kind == "suspended" and span.end is not None and span.end <= at:
            lifted.append(span.end)
            continue
        state, revocation = STATES[span.act.kind], span.act.revocation
        since = since_of(span)
        if state == "valid":
            since = max([*([] if since is None else [since]), *lifted], default=None)
        break
    revoked = [span for n, span in enumerate(acts) if n in begun and span.act.kind == "revoked"]
    if revoked:
        state, revocation = "revoked", revoked[-1].act.revocation
        since = since_of(revoked[-1])
    takers = [n for n, span in enumerate(acts) if span.act.kind in ("issued", "transferred-in")]
    held = [n for n in takers if n in begun] or takers[:1]
    responsible = acts[held[-1]].act.by
    versions = [n for n, span in enumerate(acts) if span.act.kind in VERSIONS]
    current = max((n for n in versions if n in begun), default=None)
    first = min(versions, key=lambda n: acts[n].begin)
    version = acts[first if current is None else current]

    def said(answer: str, reason: str, since: int | None) -> Said:
        return Said(answer, reason, version.act.version, since, responsible)

    if state == "revoked":
        return said("not-valid", f"revoked-{revocation}", since)
    if current is None:
        return said("not-valid", "not-yet-valid", version.begin)
    if version.end is not None and version.end <= at:
        stated = [since] if state == "expired" and since is not None else []
        return said("not-valid", "expired", min([version.end, *stated]))
    if state in ("expired", "suspended", "transferred"):
        return said("not-valid", state, since)
    if version.is_end_unknown and at > micro(version.act.time):
        return said("cannot-decide", "end-unknown", None)
    return said("valid", "in-force", since)
