"""The life cycle of a certificate: one table, transitions that commit to it, answers in two times.

A transition is the state-bearing part of an admitted event; a certificate's history is the list of
its transitions in ledger order. `fold` gives its standing now (what admission asks), `answer` what
held at a moment in the world (`at`), out of the part of the history known by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from . import canonical, times
from .errors import Malformed, Refused
from .event import (
    AMENDED,
    CORRECTED,
    EXPIRED,
    ISSUED,
    OPEN,
    REINSTATED,
    RENEWED,
    REVOKED,
    SUSPENDED,
    TRANSFERRED_IN,
    TRANSFERRED_OUT,
    UNKNOWN,
    Event,
)

NONE, VALID, SUSPENDED_STATE, REVOKED_STATE = "none", "valid", "suspended", "revoked"
EXPIRED_STATE, TRANSFERRED, VOID = "expired", "transferred", "void"

# (state before, event) to the state after; what is missing here is no possible life cycle.
# `corrected` is not a step: it changes what the history says, and the history is folded again.
TABLE: dict[tuple[str, str], str] = {
    (NONE, ISSUED): VALID,
    (VOID, ISSUED): VALID,
    (VALID, RENEWED): VALID,
    (EXPIRED_STATE, RENEWED): VALID,
    (VALID, AMENDED): VALID,
    (SUSPENDED_STATE, AMENDED): SUSPENDED_STATE,
    (VALID, SUSPENDED): SUSPENDED_STATE,
    (SUSPENDED_STATE, REINSTATED): VALID,
    (VALID, REVOKED): REVOKED_STATE,
    (SUSPENDED_STATE, REVOKED): REVOKED_STATE,
    (EXPIRED_STATE, REVOKED): REVOKED_STATE,
    (VALID, EXPIRED): EXPIRED_STATE,
    (SUSPENDED_STATE, EXPIRED): EXPIRED_STATE,
    (VALID, TRANSFERRED_OUT): TRANSFERRED,
    (TRANSFERRED, TRANSFERRED_IN): VALID,
}
VERSION_ACTS = frozenset({ISSUED, RENEWED, AMENDED})
_LINK_TAG = b"certledger link v1\n"
_RECORD_TAG = b"certledger record v1\n"
_HOLDER_TAG = b"certledger holder v1\n"
_BEFORE_ALL = -(2**63)
_MAX_TRANSITION = 2048

# transition member: (attribute, needed)
_MEMBERS = {
    "event": ("kind", True),
    "id": ("id", True),
    "by": ("by", True),
    "key": ("key", True),
    "time": ("time", True),
    "version": ("version", True),
    "valid_from": ("valid_from", False),
    "valid_until": ("valid_until", False),
    "reason": ("reason", False),
    "revocation": ("revocation", False),
    "corrects": ("corrects", False),
    "correction": ("correction", False),
    "transfer_to": ("transfer_to", False),
}


@dataclass(frozen=True, slots=True)
class Transition:
    """The state-bearing part of one admitted event; never a private value."""

    kind: str
    id: str
    by: str  # acting department
    key: str  # key id: hex of SHA-256 of the public key
    time: str
    version: int  # of the certificate, after this event
    valid_from: str | None = None
    valid_until: str | None = None
    reason: str | None = None
    revocation: str | None = None
    corrects: str | None = None
    correction: str | None = None
    transfer_to: str | None = None

    def members(self) -> dict[str, Any]:
        """The transition as JSON members, those that say nothing left out."""
        out = {}
        for member, (attribute, _) in _MEMBERS.items():
            value = getattr(self, attribute)
            if value is not None:
                out[member] = value
        return out

    def format(self) -> bytes:
        """The canonical bytes that the history's links are hashed over."""
        return canonical.encode(self.members())

    @property
    def start(self) -> int | None:
        """The instant from which the event says it has effect; None when `unknown`."""
        if self.valid_from is None:
            return times.parse_moment(self.time)
        return None if self.valid_from == UNKNOWN else times.day_start(self.valid_from)


def parse_transition(members: Any) -> Transition:
    """The transition in parsed JSON members; Malformed otherwise."""
    if type(members) is not dict or members.keys() - _MEMBERS.keys():
        raise Malformed("malformed-evidence", "not a transition")
    if any(needed and name not in members for name, (_, needed) in _MEMBERS.items()):
        raise Malformed("malformed-evidence", "a transition lacks a member")
    for name, value in members.items():
        if type(value) is not (int if name == "version" else str):
            raise Malformed("malformed-evidence", f"transition member {name}")
    if members["event"] != CORRECTED and not any(members["event"] == e for _, e in TABLE):
        raise Malformed("malformed-evidence", "an unknown kind of transition")
    transition = Transition(**{_MEMBERS[name][0]: value for name, value in members.items()})
    times.parse_moment(transition.time)
    for day in (transition.valid_from, transition.valid_until):
        if day is not None and day not in (UNKNOWN, OPEN):
            times.parse_day(day)
    return transition


def make_transition(event: Event, by: str, key: str, version: int) -> Transition:
    """The transition that an event gives, with the version it leads to."""
    data = event.data
    return Transition(
        kind=event.kind,
        id=event.id,
        by=by,
        key=key,
        time=event.time,
        version=version,
        valid_from=data.get("valid_from"),
        valid_until=data.get("valid_until"),
        reason=data.get("reason_code"),
        revocation=data.get("revocation_kind"),
        corrects=data.get("corrects"),
        correction=data.get("correction"),
        transfer_to=data.get("transfer_to"),
    )


def link(previous: bytes, index: int, position: int, line_hash: bytes, transition: bytes) -> bytes:
    """The next link of a certificate's history; the first `previous` is its map key."""
    place = index.to_bytes(8, "big") + position.to_bytes(4, "big")
    return sha256(_LINK_TAG + previous + place + line_hash + transition).digest()


def holder_link(
    previous: bytes, bound: bool, certificate: bytes, index: int, position: int
) -> bytes:
    """The next link of a holder's record for one act, *bound* or *unbound*."""
    place = index.to_bytes(8, "big") + position.to_bytes(4, "big")
    return sha256(
        _HOLDER_TAG + previous + (b"\x01" if bound else b"\x00") + certificate + place
    ).digest()


def holder_record_hash(count: int, last_link: bytes) -> bytes:
    """What the status map keeps of a holder: how many acts, and the link over all of them."""
    return sha256(_HOLDER_TAG + b"record" + count.to_bytes(8, "big") + last_link).digest()


@dataclass(frozen=True, slots=True)
class Standing:
    """A certificate's current state: what the fold of its whole history gives."""

    state: str = NONE
    version: int = 0
    highest: int = 0  # highest version ever given
    responsible: str = ""
    valid_from: str | None = None
    valid_until: str | None = None
    since: str = ""  # time of the event that led to `state`
    reason: str | None = None
    revocation: str | None = None
    suspended_until: str | None = None
    transfer_to: str | None = None
    count: int = 0  # transitions in the history

    def record(self, last_link: bytes) -> bytes:
        """The canonical record: current state and, through the link, the whole history."""
        members = {
            name: value for name in self.__slots__ if (value := getattr(self, name)) is not None
        }
        members["link"] = last_link.hex()
        return canonical.encode(members)


def record_hash(record: bytes) -> bytes:
    """What the status map keeps of a certificate's record."""
    return sha256(_RECORD_TAG + record).digest()


def parse_record(record: bytes) -> tuple[Standing, bytes]:
    """(standing, last link) of a record that the ledger itself wrote."""
    members = canonical.loads(record)
    last_link = bytes.fromhex(members.pop("link"))
    return Standing(**members), last_link


def step(standing: Standing, t: Transition) -> Standing:
    """The standing after `t`, a transition other than `corrected`; Refused when impossible."""
    before = standing.state
    if before == SUSPENDED_STATE and _suspension_over(standing, t):
        before = VALID
    after = TABLE.get((before, t.kind))
    if after is None:
        if before in (NONE, VOID):
            raise Refused("not-issued", f"{t.kind} for a certificate that was never issued")
        if t.kind == ISSUED:
            raise Refused("already-issued")
        raise Refused("invalid-transition", f"{t.kind} is not possible when {before}")
    changes: dict[str, Any] = {"state": after, "count": standing.count + 1}
    if after != standing.state or t.kind in (ISSUED, RENEWED):
        changes["since"] = t.time
        changes["reason"] = t.reason
        changes["revocation"] = t.revocation
        changes["suspended_until"] = t.valid_until if t.kind == SUSPENDED else None
        changes["transfer_to"] = t.transfer_to
    if t.kind in VERSION_ACTS:
        until, first = t.valid_until, t.valid_from
        if t.kind == AMENDED:
            until = standing.valid_until if until is None else until
            first = standing.valid_from if first is None else first
        changes["version"] = t.version
        changes["highest"] = max(standing.highest, t.version)
        changes["valid_from"] = first
        changes["valid_until"] = until = None if until == OPEN else until
        _check_dates(t.valid_from, until)
    if t.kind in (ISSUED, TRANSFERRED_IN):
        changes["responsible"] = t.by
    return Standing(*[changes.get(name, getattr(standing, name)) for name in Standing.__slots__])


def _suspension_over(standing: Standing, t: Transition) -> bool:
    if standing.suspended_until in (None, UNKNOWN, OPEN):
        return False
    start = t.start
    return start is not None and times.day_end(str(standing.suspended_until)) <= start


def _check_dates(first: str | None, until: str | None) -> None:
    if first in (None, UNKNOWN) or until in (None, UNKNOWN):
        return
    if times.day_start(str(first)) >= times.day_end(str(until)):
        raise Refused("dates-reversed", f"{first} to {until}")


def next_version(standing: Standing, kind: str) -> int:
    """The version a certificate has after an event of this kind."""
    return standing.highest + 1 if kind in VERSION_ACTS else standing.version


def effective(history: Sequence[Transition]) -> list[Transition]:
    """The history as corrected: voided events left out, restated ones with their new words.

    Ledger order is kept. A correction that was itself voided has no effect.
    """
    voided: set[str] = set()
    for t in reversed(history):
        if t.kind == CORRECTED and t.correction == "void" and t.id not in voided:
            voided.add(str(t.corrects))
    out = {t.id: t for t in history if t.kind != CORRECTED and t.id not in voided}
    for t in history:
        if t.kind == CORRECTED and t.correction == "restate" and t.id not in voided:
            target = out.get(str(t.corrects))
            if target is not None:
                out[target.id] = replace(
                    target,
                    valid_from=t.valid_from or target.valid_from,
                    valid_until=t.valid_until or target.valid_until,
                )
    return list(out.values())


def fold(history: Sequence[Transition]) -> Standing:
    """The standing that a whole history gives; Refused when it is no possible life cycle."""
    standing = Standing()
    for t in effective(history):
        standing = step(standing, t)
    highest = max((t.version for t in history), default=0)
    if standing.state == NONE and history:
        standing = replace(standing, state=VOID, since=history[-1].time, responsible=history[0].by)
    return replace(standing, highest=highest, count=len(history))


def correct(history: Sequence[Transition], t: Transition) -> Standing:
    """The standing after the correction `t`, Refused when it cannot be made.

    `history` is the whole history before `t`.
    """
    target = next((h for h in history if h.id == t.corrects), None)
    if target is None:
        raise Refused("unknown-event", f"no event {t.corrects} in this history")
    if target.kind == CORRECTED and t.correction != "void":
        raise Refused("unknown-event", "a correction can be voided, not restated")
    try:
        return fold([*history, t])
    except Refused as err:
        raise Refused("correction-breaks-history", err.message) from err


# --- answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What held at the asked-for moment. `deciding` are ids of the events that say so."""

    answer: str  # valid, not-valid, cannot-decide
    reason: str
    since: int | None
    version: int
    valid_from: str | None
    valid_until: str | None
    responsible: str
    deciding: tuple[str, ...]
    known_since: int | None = None


@dataclass(slots=True)
class _Act:
    t: Transition
    start: int  # instant of effect; _BEFORE_ALL when unknown
    first: str  # the start as the department wrote it
    until: str | None
    unknown_start: bool


def answer(history: Sequence[Transition], at: int, version: int | None = None) -> Finding:
    """What the known part of a history (at least one transition) says about the instant `at`.

    Acts take effect in the order of their instants, ties in ledger order. `version` asks about
    that version alone: an older one is `superseded` once a later one began.
    """
    acts = _acts(effective(history))
    last = history[-1]
    if not acts:
        return Finding(
            "not-valid", "voided", times.parse_moment(last.time), 0, None, None, last.by, (last.id,)
        )
    walk = _Walk()
    for act in sorted(acts, key=lambda a: a.start):
        if act.start > at:
            break
        walk.take(act)
    walk.lift(at)
    corrections = tuple(t.id for t in history if t.kind == CORRECTED)
    found = _judge(walk, acts, at, version)
    return replace(found, deciding=tuple(dict.fromkeys((*found.deciding, *corrections))))


class _Walk:
    """The state at a moment while acts are taken in the order of their instants."""

    def __init__(self) -> None:
        self.state = NONE
        self.since: int | None = None
        self.version_act: _Act | None = None
        self.state_act: _Act | None = None
        self.responsible = ""
        self.lifted = False

    def lift(self, now: int) -> None:
        """End a suspension whose stated last day is over by `now`."""
        if self.state != SUSPENDED_STATE or self.state_act is None:
            return
        until = self.state_act.until
        if until not in (None, UNKNOWN, OPEN) and (end := times.day_end(str(until))) <= now:
            self.state, self.since = VALID, end

    def take(self, act: _Act) -> None:
        self.lift(act.start)
        kind = act.t.kind
        if kind in VERSION_ACTS:
            self.version_act = act
        if kind in (ISSUED, TRANSFERRED_IN):
            self.responsible = act.t.by
        after = TABLE.get((self.state, kind))
        if after is None and kind == REVOKED:
            after = REVOKED_STATE  # back-dated before what it would follow: it still ends all
        if self.state == REVOKED_STATE or after is None:
            return
        if after != self.state or kind in (ISSUED, RENEWED):
            self.state, self.since, self.state_act = after, act.start, act


def _acts(history: Sequence[Transition]) -> list[_Act]:
    acts: list[_Act] = []
    version: _Act | None = None
    for t in history:
        start = t.start
        first = t.valid_from or t.time
        until = t.valid_until
        if t.kind in VERSION_ACTS and version is not None:
            if t.valid_from is None and start is not None and start < version.start:
                # no change brings the first day forward unsaid
                start, first = version.start, version.first
            if t.kind == AMENDED and until is None:
                until = version.until
        unknown = start is None
        act = _Act(t, _BEFORE_ALL if start is None else start, first, until, unknown)
        if t.kind in VERSION_ACTS:
            version = act
        acts.append(act)
    return acts


def _judge(walk: _Walk, acts: list[_Act], at: int, version: int | None) -> Finding:
    current = walk.version_act
    if current is None:
        first = min((a for a in acts if a.t.kind in VERSION_ACTS), key=lambda a: a.start)
        found = _finding(walk, first, "not-valid", "not-yet-valid", first.start)
        return replace(found, responsible=first.t.by)
    if version is not None and version != current.t.version:
        asked = [a for a in acts if a.t.kind in VERSION_ACTS and a.t.version == version]
        if not asked:
            return _finding(walk, current, "not-valid", "no-such-version", None)
        if asked[0].start > at:
            return _finding(walk, asked[0], "not-valid", "not-yet-valid", asked[0].start)
        return replace(
            _finding(walk, asked[0], "not-valid", "superseded", current.start),
            deciding=(asked[0].t.id, current.t.id),
        )
    if walk.state == REVOKED_STATE and walk.state_act is not None:
        kind = f"revoked-{walk.state_act.t.revocation}"
        return _finding(walk, current, "not-valid", kind, walk.since)
    until = current.until
    end = None if until in (None, UNKNOWN, OPEN) else times.day_end(str(until))
    if end is not None and end <= at:
        since = end if walk.state != EXPIRED_STATE else min(end, walk.since or end)
        return _finding(walk, current, "not-valid", EXPIRED_STATE, since)
    known = times.parse_moment(current.t.time)
    if walk.state in (EXPIRED_STATE, SUSPENDED_STATE, TRANSFERRED):
        return _finding(walk, current, "not-valid", walk.state, walk.since)
    if current.unknown_start and at < known:
        return replace(
            _finding(walk, current, "cannot-decide", "start-unknown", None), known_since=known
        )
    if until == UNKNOWN and at > known:
        return _finding(walk, current, "cannot-decide", "end-unknown", None)
    return _finding(walk, current, "valid", "in-force", walk.since)


def _finding(walk: _Walk, act: _Act, answer_: str, reason: str, since: int | None) -> Finding:
    deciding = [act.t.id]
    if walk.state_act is not None and walk.state_act.t.id != act.t.id:
        deciding.append(walk.state_act.t.id)
    return Finding(
        answer=answer_,
        reason=reason,
        since=None if since == _BEFORE_ALL else since,
        version=act.t.version,
        valid_from=act.first,
        valid_until=None if act.until == OPEN else act.until,
        responsible=walk.responsible,
        deciding=tuple(deciding),
    )
