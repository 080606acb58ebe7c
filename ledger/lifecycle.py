"""The life cycle of a certificate: one table, transitions that commit to it, answers in two times.

A transition is the state-bearing part of an admitted event; a certificate's history is the list of
its transitions in ledger order. `fold` gives its standing now (what admission asks), `answer` what
held at a moment in the world (`at`), out of the part of the history known by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import takewhile
from typing import Any, NamedTuple

from . import canonical, times
from .errors import Malformed, ProofError, Refused
from .event import (
    AMENDED,
    CORRECTED,
    CORRECTIONS,
    EXPIRED,
    ISSUED,
    OPEN,
    REINSTATED,
    RENEWED,
    REVOCATION_KINDS,
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
    (TRANSFERRED, REVOKED): REVOKED_STATE,  # nobody escapes a revocation by moving
}
VERSION_ACTS = frozenset({ISSUED, RENEWED, AMENDED})
_make_tuple = tuple.__new__  # what a named tuple's own constructor ends in
LINK_TAG = b"certledger link v1\n"
RECORD_TAG = b"certledger record v1\n"
HOLDER_TAG = b"certledger holder v1\n"
HOLDER_RECORD_TAG = HOLDER_TAG + b"record"
MAX_HISTORY = 1024  # transitions that stand, but for a revocation
MAX_CORRECTABLE = 256  # transitions that stand; evidence shows what corrections speak of
MAX_TRANSITIONS = 2048  # in all: evidence and turns carry all of them
MAX_LATE = 128  # by one key past MAX_HISTORY: none takes the room that the others need
REWIND = "rewind"
STATE_ACTS = {  # the state that each act leads to
    ISSUED: VALID,
    RENEWED: VALID,
    SUSPENDED: SUSPENDED_STATE,
    REINSTATED: VALID,
    REVOKED: REVOKED_STATE,
    EXPIRED: EXPIRED_STATE,
    TRANSFERRED_OUT: TRANSFERRED,
    TRANSFERRED_IN: VALID,
}
_ENDS = frozenset({SUSPENDED, REVOKED, EXPIRED, TRANSFERRED_OUT})  # make nothing valid
_ENDED = frozenset(STATE_ACTS[kind] for kind in _ENDS)

# A transition's members in JSON, in the order of the fields of `Transition`, the needed ones first.
_NEEDED = ("event", "id", "by", "key", "time", "version")
_MEMBERS = (
    *_NEEDED,
    "valid_from",
    "valid_until",
    "reason",
    "revocation",
    "corrects",
    "correction",
    "transfer_to",
)


class Transition(NamedTuple):
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
        said = zip(_MEMBERS, self, strict=True)
        return {member: value for member, value in said if value is not None}

    def format(self, dump: canonical.Dump = canonical.encode) -> bytes:
        """The canonical bytes that the history's links are hashed over."""
        return dump(self.members())

    @property
    def start(self) -> int | None:
        """The instant from which the event says it has effect; None when `unknown`."""
        if self.valid_from is None:
            return times.parse_moment(self.time)
        return None if self.valid_from == UNKNOWN else times.day_start(self.valid_from)


def parse_transition(members: Any) -> Transition:
    """The transition in parsed JSON members; Malformed otherwise."""
    if type(members) is not dict or members.keys() - set(_MEMBERS):
        raise Malformed("malformed-evidence", "not a transition")
    if any(name not in members for name in _NEEDED):
        raise Malformed("malformed-evidence", "a transition lacks a member")
    for name, value in members.items():
        if type(value) is not (int if name == "version" else str):
            raise Malformed("malformed-evidence", f"transition member {name}")
    if members["event"] != CORRECTED and not any(members["event"] == e for _, e in TABLE):
        raise Malformed("malformed-evidence", "an unknown kind of transition")
    if (members["event"] == REVOKED) != (members.get("revocation") in REVOCATION_KINDS):
        raise Malformed("malformed-evidence", "revoked, and only that, has a revocation kind")
    if (members["event"] == CORRECTED) != (
        "corrects" in members and members.get("correction") in CORRECTIONS
    ):
        raise Malformed("malformed-evidence", "corrected, and only that, says what it corrects")
    if members.get("valid_from") == OPEN or not 0 <= members["version"] <= canonical.MAX_INTEGER:
        raise Malformed("malformed-evidence", "a transition's valid_from or version")
    transition = Transition(*(members.get(name) for name in _MEMBERS))  # type: ignore[arg-type]
    times.parse_moment(transition.time)
    for day in (transition.valid_from, transition.valid_until):
        if day is not None and day not in (UNKNOWN, OPEN):
            times.parse_day(day)
    return transition


def make_transition(event: Event, by: str, key: str, version: int) -> Transition:
    """The transition that an event gives, with the version it leads to."""
    said = (event.kind, event.id, by, key, event.time, version, *event.said)
    return _make_tuple(Transition, said)


def format_transition(t: Transition) -> bytes:
    """What `t.format()` gives, printed faster: of an admitted event's transition, in whose words
    (department, ids, kinds, codes, moments, days) nothing needs an escape.
    """
    kind, event_id, by, key, time, version, first, until, reason, revocation, corrects, how, to = t
    return (
        f'{{"by":"{by}",'
        + ("" if corrects is None else f'"correction":"{how}","corrects":"{corrects}",')
        + f'"event":"{kind}","id":"{event_id}","key":"{key}",'
        + ("" if reason is None else f'"reason":"{reason}",')
        + ("" if revocation is None else f'"revocation":"{revocation}",')
        + f'"time":"{time}",'
        + ("" if to is None else f'"transfer_to":"{to}",')
        + ("" if first is None else f'"valid_from":"{first}",')
        + ("" if until is None else f'"valid_until":"{until}",')
        + f'"version":{version}}}'
    ).encode()


def retrace(stated: Iterable[Transition]) -> list[Transition]:
    """The transitions of a history in ledger order with the version after each, which no line
    says: it follows from those before.

    Judges nothing: of an impossible history it gives what the link must then confirm.
    """
    history: list[Transition] = []
    highest = version = 0
    tip = -1  # the last event that stands, and of each event that one which did before it
    tips: list[int] = []
    numbers: dict[str | None, int] = {}
    for t in stated:
        tips.append(tip)
        if t.kind in VERSION_ACTS:
            highest = version = highest + 1
        elif t.correction == REWIND:
            at = numbers.get(t.corrects, len(history))
            tip = tips[at]
            version = history[at - 1].version if at else 0
        elif t.correction == "void":
            stands = [t]
            while tip >= 0:
                stands.append(history[tip])
                tip = tips[tip]
            stands.reverse()
            left = [h.version for h in effective(stands) if h.kind in VERSION_ACTS]
            version = left[-1] if left else 0
        numbers[t.id] = len(history)
        history.append(t._replace(version=version))
        if t.correction != REWIND:
            tip = len(history) - 1
    return history


def link(previous: bytes, index: int, position: int, line_hash: bytes, transition: bytes) -> bytes:
    """The next link of a certificate's history; the first `previous` is its map key."""
    place = index.to_bytes(8, "big") + position.to_bytes(4, "big")
    return sha256(LINK_TAG + previous + place + line_hash + transition).digest()


def holder_link(
    previous: bytes, bound: bool, certificate: bytes, index: int, position: int
) -> bytes:
    """The next link of a holder's record for one act, *bound* or *unbound*."""
    place = index.to_bytes(8, "big") + position.to_bytes(4, "big")
    return sha256(
        HOLDER_TAG + previous + (b"\x01" if bound else b"\x00") + certificate + place
    ).digest()


def holder_record_hash(count: int, last_link: bytes) -> bytes:
    """What the status map keeps of a holder: how many acts, and the link over all of them."""
    return sha256(HOLDER_RECORD_TAG + count.to_bytes(8, "big") + last_link).digest()


class Standing(NamedTuple):
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
    begin: str | None = None  # first day of an end of validity, where it was stated
    count: int = 0  # type: ignore[assignment]  # transitions in the history; no tuple's count

    def record(self, last_link: bytes, dump: canonical.Dump = canonical.encode) -> bytes:
        """The canonical record: current state and, through the link, the whole history."""
        said = zip(self._fields, self, strict=True)
        members: dict[str, Any] = {name: value for name, value in said if value is not None}
        members["link"] = last_link.hex()
        return dump(members)


def format_record(standing: Standing, last_link: bytes) -> bytes:
    """What `standing.record(last_link)` gives, printed faster: of a standing that admitted events
    led to, in whose words nothing needs an escape.
    """
    (
        state, version, highest, responsible, first, until, since, reason, revocation,
        suspended_until, transfer_to, begin, count,
    ) = standing  # fmt: skip
    return (
        ("{" if begin is None else f'{{"begin":"{begin}",')
        + f'"count":{count},"highest":{highest},"link":"{last_link.hex()}",'
        + ("" if reason is None else f'"reason":"{reason}",')
        + f'"responsible":"{responsible}",'
        + ("" if revocation is None else f'"revocation":"{revocation}",')
        + f'"since":"{since}","state":"{state}",'
        + ("" if suspended_until is None else f'"suspended_until":"{suspended_until}",')
        + ("" if transfer_to is None else f'"transfer_to":"{transfer_to}",')
        + ("" if first is None else f'"valid_from":"{first}",')
        + ("" if until is None else f'"valid_until":"{until}",')
        + f'"version":{version}}}'
    ).encode()


def record_hash(record: bytes) -> bytes:
    """What the status map keeps of a certificate's record."""
    return sha256(RECORD_TAG + record).digest()


def parse_record(
    record: bytes,
    load: Callable[[bytes], Any] = canonical.loads,
    dump: canonical.Dump = canonical.encode,
) -> tuple[Standing, bytes]:
    """(standing, last link) of a record that the ledger itself wrote; ProofError
    `stored-bytes-damaged` when it is not one.
    """
    try:
        members = load(record)
        last_link = bytes.fromhex(members.pop("link"))
        standing = Standing(**members)
        same = standing.record(last_link, dump) == record
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, Malformed) as err:
        raise ProofError("stored-bytes-damaged", "not a certificate's record") from err
    if not same or len(last_link) != 32:
        raise ProofError("stored-bytes-damaged", "not a certificate's record")
    return standing, last_link


def step(standing: Standing, t: Transition) -> Standing:
    """The standing after `t`, a transition other than `corrected`; Refused when impossible."""
    kind = t.kind
    before = standing.state
    if before == SUSPENDED_STATE and _suspension_over(standing, t):
        before = VALID
    waits = standing.state in _ENDED and _has_not_begun(standing, t)
    if waits and kind in (SUSPENDED, REVOKED):
        before = VALID
    if waits and kind == TRANSFERRED_IN:
        raise Refused("dates-reversed", "a transfer does not arrive before it begins")
    after = TABLE.get((before, kind))
    if after is None:
        if before in (NONE, VOID):
            raise Refused("not-issued", f"{kind} for a certificate that was never issued")
        if kind == ISSUED:
            raise Refused("already-issued")
        raise Refused("invalid-transition", f"{kind} is not possible when {before}")
    if kind == SUSPENDED:
        start = t.start
        if start is None:
            raise Refused("invalid-transition", "a suspension needs its first day")
        _check_dates(start, t.valid_until)
    if waits and standing.state == REVOKED_STATE and kind == SUSPENDED:
        return standing._replace(count=standing.count + 1)  # until then; the revocation stays
    version, highest = standing.version, standing.highest
    first, until = standing.valid_from, standing.valid_until
    if kind in VERSION_ACTS:
        version, highest = t.version, max(highest, t.version)
        if kind != AMENDED or t.valid_from is not None:
            first = t.valid_from
        if kind != AMENDED or t.valid_until is not None:
            until = t.valid_until
        until = None if until == OPEN else until
        if until is not None and until != UNKNOWN:
            _check_dates(_begin(standing, t), until)
    # Something new holds; a suspension may follow one that ended by itself.
    if before != standing.state or after != standing.state or kind in (ISSUED, RENEWED):
        said = (
            t.time,
            t.reason,
            t.revocation,
            t.valid_until if kind == SUSPENDED else None,
            t.transfer_to,
            t.valid_from if kind in _ENDS and t.valid_from != UNKNOWN else None,
        )
    else:
        said = standing[6:12]  # since, reason, revocation, suspended_until, transfer_to, begin
    by = t.by if kind in (ISSUED, TRANSFERRED_IN) else standing.responsible
    return _make_tuple(
        Standing, (after, version, highest, by, first, until, *said, standing.count + 1)
    )


def _has_not_begun(standing: Standing, t: Transition) -> bool:
    """Whether `t` begins before the end of validity that the standing tells of."""
    own = times.parse_moment(t.time) if t.start is None else t.start
    stated = standing.begin
    begin = times.parse_moment(standing.since) if stated is None else times.day_start(stated)
    return own < begin


def _suspension_over(standing: Standing, t: Transition) -> bool:
    end = _end(standing.suspended_until)
    if end is None:
        return False
    start = t.start
    return start is not None and end <= start


def _begin(standing: Standing, t: Transition) -> int | None:
    """The first instant of the version that `t` makes of `standing`, None when nobody knows it."""
    before = standing.valid_from
    first = None if before is None or before == UNKNOWN else times.day_start(before)
    if t.valid_from is not None or t.kind == ISSUED or (first is None and t.kind == RENEWED):
        return t.start
    return first if t.kind == AMENDED or first is None else max(first, t.start or first)


def _end(until: str | None) -> int | None:
    """The instant at which a last day is over; None when there is none, or nobody knows it."""
    return None if until is None or until in (UNKNOWN, OPEN) else times.day_end(until)


def _check_dates(begin: int | None, until: str | None) -> None:
    end = _end(until)
    if begin is not None and end is not None and end <= begin:
        raise Refused("dates-reversed", f"the last day {until} is over before the first begins")


def next_version(standing: Standing, kind: str) -> int:
    """The version a certificate has after an event of this kind."""
    return standing.highest + 1 if kind in VERSION_ACTS else standing.version


def passed(history: Sequence[Transition]) -> list[int]:
    """The numbers of the events that one passes on the way back through a history: a rewind leads
    to what came before the event that it names. Ascending; rewinds passed are among them.
    """
    if all(t.correction != REWIND for t in history):
        return list(range(len(history)))
    numbers = {t.id: n for n, t in enumerate(history)}
    found, n = [], len(history) - 1
    while n >= 0:
        found.append(n)
        if history[n].correction == REWIND:
            n = min(numbers.get(str(history[n].corrects), n), n)
        n -= 1
    return found[::-1]


def remaining(history: Sequence[Transition]) -> list[Transition]:
    """The events of a history that no rewind leaves out, without the rewinds."""
    return [t for t in map(history.__getitem__, passed(history)) if t.correction != REWIND]


def effective(history: Sequence[Transition]) -> list[Transition]:
    """The history as corrected: what was voided or rewound left out, restated events with their new
    words.

    Ledger order is kept. A correction that was itself voided has no effect.
    """
    if all(t.kind != CORRECTED for t in history) and len({t.id for t in history}) == len(history):
        return list(history)
    history = remaining(history)
    voided = voided_ids(history)
    out = {t.id: t for t in history if t.kind != CORRECTED and t.id not in voided}
    for t in history:
        if t.kind == CORRECTED and t.correction == "restate" and t.id not in voided:
            target = out.get(str(t.corrects))
            if target is not None:
                out[target.id] = target._replace(
                    valid_from=t.valid_from or target.valid_from,
                    valid_until=t.valid_until or target.valid_until,
                )
    return list(out.values())


def voided_ids(history: Sequence[Transition]) -> set[str]:
    """The ids of the events, corrections among them, that corrections void."""
    voided: set[str] = set()
    for t in reversed(remaining(history)):
        if t.kind == CORRECTED and t.correction == "void" and t.id not in voided:
            voided.add(str(t.corrects))
    return voided


def fold(history: Sequence[Transition]) -> Standing:
    """The standing that a whole history gives; Refused when it is no possible life cycle."""
    standing = Standing()
    for t in effective(history):
        standing = step(standing, t)
    highest = max((t.version for t in history), default=0)
    if standing.state == NONE and history:
        standing = standing._replace(state=VOID, since=history[-1].time, responsible=history[0].by)
    return standing._replace(highest=highest, count=len(history))


def check_room(history: Sequence[Transition], t: Transition) -> None:
    """None when there is room for `t` after this history; Refused `history-too-long` otherwise."""
    count, stands = len(history), len(remaining(history))
    if t.kind == CORRECTED and t.correction != REWIND and stands > MAX_CORRECTABLE:
        raise Refused("history-too-long", f"{stands} events, at most {MAX_CORRECTABLE}")
    if t.kind not in (CORRECTED, REVOKED) and stands >= MAX_HISTORY:
        raise Refused("history-too-long", f"{stands} events, at most {MAX_HISTORY}")
    late = sum(h.key == t.key for h in history[MAX_HISTORY:])
    if count >= MAX_TRANSITIONS or late >= MAX_LATE:
        raise Refused("history-too-long", f"{count} events, {late} late ones by this key")


def correct(history: Sequence[Transition], t: Transition) -> Standing:
    """The standing after the correction `t`, Refused when it cannot be made.

    `history` is the whole history before `t`.
    """
    target = next((h for h in history if h.id == t.corrects), None)
    if target is None:
        raise Refused("unknown-event", f"no event {t.corrects} in this history")
    if t.correction == REWIND:
        return fold([*history, t])
    if target.kind == CORRECTED and t.correction == "restate":
        raise Refused("unknown-event", "a correction can be voided or confirmed, not restated")
    stands = remaining(history)
    if t.correction != "confirm" and target not in stands:
        raise Refused("unknown-event", f"a rewind left event {t.corrects} out, or it is one")
    if len(stands) > MAX_CORRECTABLE:
        raise Refused("history-too-long", f"{len(stands)} events, at most {MAX_CORRECTABLE}")
    if t.valid_until is not None and target.kind not in VERSION_ACTS | {SUSPENDED}:
        raise Refused("correction-breaks-history", f"{target.kind} states no last day")
    try:
        return fold([*history, t])
    except Refused as err:
        raise Refused("correction-breaks-history", err.message) from err


def corrector(history: Sequence[Transition], t: Transition, responsible: str) -> str:
    """The department whose act the correction `t` is: acts of those who were ever responsible are
    the present one's to correct, another department's act is that department's. Only who signed can
    confirm that. Of a rewind that speaks against several, one of the others.
    """
    target = next((h for h in history if h.id == t.corrects), None)
    if target is None:
        return responsible
    if t.correction == "confirm":
        return target.by
    owners = {h.by for h in history if h.kind in (ISSUED, TRANSFERRED_IN)}
    named = undone(history, t) if t.correction == REWIND else [target]
    whose = {responsible if h.by in owners else h.by for h in named} or {responsible}
    return min(whose - {t.by}, default=t.by)


def undone(history: Sequence[Transition], t: Transition) -> list[Transition]:
    """The events that stand and that the rewind `t` leaves out, rewinds that it takes back among
    them.
    """
    numbers = {h.id: n for n, h in enumerate(history)}
    at = numbers[str(t.corrects)]
    before, voided = set(passed(history[:at])), voided_ids(history)
    gone = [history[n] for n in passed(history) if n not in before]
    # What took out nothing but what this takes out as well says nothing more.
    took = {
        h.id for h in gone if h.correction in ("void", REWIND) and numbers[str(h.corrects)] >= at
    }
    return [h for h in gone if h.id not in voided | took]


def leans_on(history: Sequence[Transition], t: Transition) -> list[Transition]:
    """The voids and rewinds of other departments without which the rewind `t` were not its
    department's: what it left out otherwise was its own, or that of those who were responsible.
    """
    at = next((n for n, h in enumerate(history) if h.id == t.corrects), len(history))
    if all(h.by == t.by for h in history[at:]):
        return []
    gone = [history[n] for n in passed(history) if n >= at]
    owners = {h.by for h in history if h.kind in (ISSUED, TRANSFERRED_IN)}
    own = {t.by, *(h.by for h in undone(history, t))}
    if t.by in owners:
        own |= owners
    return [h for h in gone if h.correction in ("void", REWIND) and h.by not in own]


# --- answers ---


@dataclass(frozen=True, slots=True)
class Finding:
    """What held at the asked-for moment. `deciding` are the ids of the events that say so: of all
    whose values were read, those found to be over or not begun included.
    """

    answer: str  # valid, not-valid, cannot-decide
    reason: str
    since: int | None
    version: int
    valid_from: str | None
    valid_until: str | None
    responsible: str
    deciding: tuple[str, ...]
    known_since: int | None = None


class _Act(NamedTuple):
    """A transition with the instant from which it has effect; that of its `time` when unknown."""

    t: Transition
    start: int
    first: str | None  # the first day as the department wrote it
    until: str | None
    is_start_unknown: bool
    source: _Act | None  # the version before, where days were taken from it


def answer(history: Sequence[Transition], at: int, version: int | None = None) -> Finding:
    """What the known part of a history (at least one transition) says about the instant `at`.

    At any instant the state is what the last act in ledger order says that has begun by then, a
    suspension with a stated last day only until that is over; likewise the version. So a later
    word overrules earlier ones from its own first instant on, and at the far end the answer is the
    standing. `version` asks about that version alone: an older one is `superseded` once a later
    one began. ProofError when the history is no possible life cycle.
    """
    acts = _acts(effective(history))
    if not acts and history:
        return _voided(history, _said_in(history))
    if not any(a.t.kind in VERSION_ACTS for a in acts):
        raise ProofError("evidence-refused", "the history is no possible life cycle")
    found = _judge(acts, at, version)
    hidden = [a for a in acts if a.is_start_unknown and at < a.start]
    if not _is_decided(acts, hidden, found, at, version):
        found = replace(
            found,
            answer="cannot-decide",
            reason="start-unknown",
            since=None,
            known_since=min(a.start for a in hidden),
            deciding=(*found.deciding, *(a.t.id for a in hidden)),
        )
    if len(acts) == len(history):
        return found
    left = {a.t.id for a in acts}
    # Corrections, and what they leave out: that these are the acts which they name.
    corrected = (t.id for t in _said_in(history) if t.kind == CORRECTED or t.id not in left)
    return replace(found, deciding=tuple(dict.fromkeys((*found.deciding, *corrected))))


def _said_in(history: Sequence[Transition]) -> list[Transition]:
    """The events that no rewind leaves out, and the rewinds passed with what each names: where it
    leads to; and what others said that let it pass. What else lies between is left out by that,
    whatever it says.
    """
    numbers = passed(history)
    if len(numbers) == len(history) and all(t.correction != REWIND for t in history):
        return list(history)
    rewinds = [n for n in numbers if history[n].correction == REWIND]
    named = {history[n].corrects for n in rewinds}
    named |= {h.id for n in rewinds for h in leans_on(history[:n], history[n])}
    shown = {*numbers, *(n for n, t in enumerate(history) if t.id in named)}
    return [history[n] for n in sorted(shown)]


def _is_decided(
    acts: Sequence[_Act], hidden: Sequence[_Act], found: Finding, at: int, version: int | None
) -> bool:
    """Whether `found` holds whichever of the hidden acts had begun: until an act of unknown start
    was reported nobody can tell. Each is tried alone: where none changes anything by itself, none
    sets the state or the version, and so they change nothing together.
    """
    if found.answer == "not-valid" and all(a.t.kind in _ENDS for a in hidden):
        return True
    for act in hidden:
        other = _judge([a._replace(start=at) if a is act else a for a in acts], at, version)
        if replace(other, deciding=()) != replace(found, deciding=()):
            return False
    return True


def turning_points(history: Sequence[Transition]) -> list[int]:
    """The instants, ascending, at which what `answer` says may change without any event."""
    points: set[int] = set()
    for act in _acts(effective(history)):
        points.add(act.start)
        end = _end(act.until)
        if end is not None:
            points.add(end)
        elif act.until == UNKNOWN:  # vouched for by the department up to its word
            points.add(times.parse_moment(act.t.time) + 1)
    return sorted(points)


def _voided(history: Sequence[Transition], said: Sequence[Transition]) -> Finding:
    last = history[-1]
    since = times.parse_moment(last.time)
    deciding = tuple(t.id for t in said)
    return Finding("not-valid", "voided", since, 0, None, None, last.by, deciding)


def _acts(history: Sequence[Transition]) -> list[_Act]:
    acts: list[_Act] = []
    version: _Act | None = None
    for t in history:
        stated = t.start
        start = times.parse_moment(t.time) if stated is None else stated
        first = t.valid_from or t.time
        until = t.valid_until
        source = None
        if t.kind in VERSION_ACTS and version is not None and t.valid_from is None:
            if t.kind == AMENDED or start < version.start:
                first = version.first or t.time
            start = max(start, version.start)  # no change brings the first day forward unsaid
            source = version
        if t.kind == AMENDED and until is None and version is not None:
            until = version.until
            source = version
        act = _make_tuple(_Act, (t, start, first, until, stated is None, source))
        if t.kind in VERSION_ACTS:
            version = act
        acts.append(act)
    return acts


def _with_sources(act: _Act) -> Iterator[_Act]:
    """The act and those that its days were taken from."""
    source: _Act | None = act
    while source is not None:
        yield source
        source = source.source


def _state_at(acts: Sequence[_Act], at: int) -> tuple[list[_Act], str, int | None]:
    """(the act that decides after all others that were read, state, since when) at an instant."""
    read = [a for a in acts if a.t.kind == REVOKED]
    revoked = [a for a in read if a.start <= at]
    if revoked:  # whatever else was said: a revocation is undone by a correction alone
        act = revoked[-1]  # a later one was admitted because it begins before the earlier ones
        return [*read, act], REVOKED_STATE, None if act.is_start_unknown else act.start
    lifted: int | None = None
    for act in reversed(acts):
        if act.t.kind not in STATE_ACTS:
            continue
        read.append(act)
        if act.start > at:
            continue
        end = _end(act.until) if act.t.kind == SUSPENDED else None
        if end is not None and end <= at:
            lifted = end if lifted is None else max(lifted, end)
            continue
        state = STATE_ACTS[act.t.kind]
        since = None if act.is_start_unknown else act.start
        if state == VALID and lifted is not None:
            since = lifted if since is None else max(since, lifted)
        return read, state, since
    return read, NONE, None


def _judge(acts: Sequence[_Act], at: int, version: int | None) -> Finding:
    versions = [a for a in acts if a.t.kind in VERSION_ACTS]
    begun = [a for a in versions if a.start <= at]
    current = begun[-1] if begun else None
    read, state, since = _state_at(acts, at)
    decides = read[-1] if state != NONE else None
    read += takewhile(lambda a: a is not current, reversed(versions))
    owners = [a for a in acts if a.t.kind in (ISSUED, TRANSFERRED_IN)]
    held = [a for a in owners if a.start <= at]
    owner = held[-1] if held else owners[0] if owners else versions[0]
    responsible = owner.t.by
    if owner.t.kind == TRANSFERRED_IN:  # who issued stands in the map key
        read.append(owner)

    def finding(act: _Act, answer_: str, reason: str, since: int | None, *also: _Act) -> Finding:
        deciding = [a.t.id for shown in (act, *also, *read) for a in _with_sources(shown)]
        return Finding(
            answer=answer_,
            reason=reason,
            since=since,
            version=act.t.version,
            valid_from=act.first,
            valid_until=None if act.until == OPEN else act.until,
            responsible=responsible,
            deciding=tuple(dict.fromkeys(deciding)),
        )

    first = min(versions, key=lambda a: a.start)
    if version is not None and (current is None or version != current.t.version):
        asked = next((a for a in versions if a.t.version == version), None)
        if asked is None:
            return finding(current or first, "not-valid", "no-such-version", None)
        if current is not None and current.t.version > version:
            return finding(asked, "not-valid", "superseded", current.start, current)
        return finding(asked, "not-valid", "not-yet-valid", asked.start)
    if state == REVOKED_STATE and decides is not None:
        return finding(current or first, "not-valid", f"revoked-{decides.t.revocation}", since)
    if current is None:
        return finding(first, "not-valid", "not-yet-valid", first.start)
    end = _end(current.until)
    if end is not None and end <= at:
        if state == EXPIRED_STATE and since is not None:
            end = min(end, since)
        return finding(current, "not-valid", EXPIRED_STATE, end)
    if state in (EXPIRED_STATE, SUSPENDED_STATE, TRANSFERRED):
        return finding(current, "not-valid", state, since)
    if current.until == UNKNOWN and at > times.parse_moment(current.t.time):
        return finding(current, "cannot-decide", "end-unknown", None)
    return finding(current, "valid", "in-force", since)
