"""Answers about certificates, printed out of parts that many share.

Every part is cut out of an answer that `unproven` made and printed, and kept where all parts
together give its bytes again. Of certificates that were issued and no more, rows with the same
words answer alike. Of others, rows do whose acts are alike and began in the same order, as long as
nothing that they say has ended: the rules compare instants and choose among what acts say, so that
only what is chosen differs. Whatever is not plain is answered there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, NamedTuple, Protocol

import orjson

from ledger import deciders, staterow, times
from ledger.event import OPEN, UNKNOWN
from ledger.identity import lane_of
from ledger.lifecycle import Transition, turning_points
from ledger.postgres.kept import Recent
from ledger.postgres.reader import Stated, View
from ledger.question import format_instant
from ledger.staterow import Row
from ledger.verdict import Answer


class Asking(Protocol):
    """Questions about one moment that the rules decide."""

    def ask(self, number: str, row: Stated) -> Answer | None:
        """The answer about the certificate with this number and row; None where the row does not
        decide.
        """

    def passed_checks(self, number: str, row: Stated) -> bytes | None:
        """The checks of all answers about its lane as JSON; None where whoever is responsible was
        not heard of there recently enough.
        """


class _Judged(NamedTuple):
    """What rows with the same words say from one instant to before another."""

    begin: float
    end: float
    answer: bytes
    days: bytes
    event: bytes
    reason: bytes


class _Named(NamedTuple):
    """What answers about one type, issuer and lane have in common under a checkpoint."""

    certificate: bytes
    rest: bytes


class _Alike(NamedTuple):
    """What rows with acts of one shape say once all have begun, before anything ends: the words
    around what is chosen of their acts, and which those are.
    """

    words: bytes
    since: int  # the act that began then
    days: tuple[tuple[int, int], ...]  # first and last one: act, and which of its fields
    deciding: tuple[int, ...]


class _Own(str):
    """A day or moment of one act, which is known again where another one says the same."""

    __slots__ = ()


Place = tuple[int, bytes, int]
"""Number of type and issuer, who is responsible, lane."""
Shape = tuple[Any, ...]
"""All that an answer depends on but instants and the following, if these are as `_Alike` says."""

_TEXTS = tuple(map(Transition._fields.index, ("time", "valid_from", "valid_until")))

# By a row's words or shape, and by checkpoint and place: some 1 kB each, and 2.
_judged: Recent[bytes, _Judged] = Recent(8192)
_alike: Recent[Shape, _Alike] = Recent(2048)
_named: Recent[tuple[bytes, Place], _Named] = Recent(2048)


class Plain:
    """Printed answers to many questions about `now`."""

    def __init__(self, view: View, asking: Asking, now: int, with_checks: bool) -> None:
        self._view = view
        self._asking = asking
        self._now = now
        self._with_checks = with_checks
        records = view.records()
        self._is_off = bool(records.doubts or records.recovering)
        self._lanes: dict[bytes, int] = {}  # how many, by who is responsible
        self._checks: dict[tuple[bytes, int], bytes | None] = {}  # by who is responsible, and lane
        self._names: dict[Place, _Named] = {}
        self._shapes: dict[Shape, _Alike] = {}
        self._moment = b""

    def print(self, number: str, row: Stated) -> bytes | None:
        """The answer about the certificate with this number and row as JSON; None where it is not
        plain. ProofError `stored-bytes-damaged`.
        """
        if self._is_off or staterow.index_at(row.history, -1) >= self._view.size:
            return None
        plain = staterow.plain_words(row.key, row.state, row.history)
        if plain is None:
            return self._print_several(number, row)
        words, by, time, event_id = plain
        heard = self._heard_at(by, number, row)
        if heard is None:
            return None
        place, checks = heard
        judged, named = _judged.get(words), self._named(place)
        if judged and named and self._moment and judged.begin <= self._now < judged.end:
            return _join(judged, named, checks + self._moment, number, row, time, event_id)
        return self._print_first(number, row, place, checks)

    def _heard_at(self, by: bytes, number: str, row: Stated) -> tuple[Place, bytes] | None:
        """The place of a certificate, and what is printed of the checks there; None where whoever
        is responsible is silent for too long.
        """
        lane = lane_of(row.key, self._lanes[by] if by in self._lanes else self._count_lanes(by))
        if (by, lane) in self._checks:
            checks = self._checks[by, lane]
        else:
            checks = self._asking.passed_checks(number, row)
            if checks is not None:
                checks = b'"checks":%b,' % checks if self._with_checks else b""
            self._checks[by, lane] = checks
        return None if checks is None else ((row.kind, by, lane), checks)

    def _named(self, place: Place) -> _Named | None:
        named = self._names.get(place)
        if named is None:
            named = _named.get((self._view.checkpoint, place))
            if named is not None:
                self._names[place] = named
        return named

    def _count_lanes(self, by: bytes) -> int:
        record = self._view.records().value(f"department/{by.decode()}") or {"lanes": 1}
        lanes = self._lanes[by] = int(record["lanes"])
        return lanes

    def _print_first(self, number: str, row: Stated, place: Place, checks: bytes) -> bytes | None:
        """The answer printed as any is; its parts are kept."""
        answer, plain = self._asking.ask(number, row), staterow.plain_words(*row[1:])
        if answer is None or plain is None:
            return None
        members = answer.members(self._with_checks)
        printed = orjson.dumps(members)
        if len(members["deciding"]) == 1:
            words, _, time, event_id = plain
            judged, named, moment = _cut(members, self._span(row))
            if _join(judged, named, checks + moment, number, row, time, event_id) == printed:
                _judged[words] = judged
                _named[self._view.checkpoint, place] = named
                self._moment = moment
        return printed

    def _print_several(self, number: str, row: Stated) -> bytes | None:
        """The answer about a certificate whose row keeps its acts."""
        said = staterow.open_row(*row[1:])
        kept = said.kept
        shaped = _shape(said, self._now)
        if shaped is None:
            return None
        shape, starts = shaped
        heard = self._heard_at(said.standing.responsible.encode(), number, row)
        if heard is None:
            return None
        place, checks = heard
        named, alike = self._named(place), self._shapes.get(shape)
        if alike is None:
            alike = _alike.get(shape)
            if alike is not None:
                self._shapes[shape] = alike
        if alike and named and self._moment:
            return _fill(alike, named, checks + self._moment, number, row, kept, starts)
        answer = self._asking.ask(number, row)
        if answer is None:
            return None
        members = answer.members(self._with_checks)
        printed = orjson.dumps(members)
        alike = _choose(members, said, starts, self._now)
        if alike is not None:
            named, moment = _cut_shared(members)
            if _fill(alike, named, checks + moment, number, row, kept, starts) == printed:
                _alike[shape] = alike
                _named[self._view.checkpoint, place] = named
                self._moment = moment
        return printed

    def _span(self, row: Stated) -> tuple[float, float]:
        """From when until when the row says what it says now."""
        kept = staterow.open_row(*row[1:]).kept
        points = turning_points([t for _, t in kept])
        begin = max((p for p in points if p <= self._now), default=-inf)
        return begin, min((p for p in points if p > self._now), default=inf)


def _part(value: Mapping[str, Any], *names: str) -> bytes:
    """The printed members of these names, where they are there."""
    return orjson.dumps({name: value[name] for name in names if name in value})[1:-1]


def _cut(members: Mapping[str, Any], span: tuple[float, float]) -> tuple[_Judged, _Named, bytes]:
    """The parts of a printed answer, the moment's last."""
    certificate, (act,) = members["certificate"], members["deciding"]
    judged = _Judged(
        *span,
        b"{%b," % _part(members, "answer", "reason", "why", "since"),
        b",%b}," % _part(certificate, "version", "valid_from", "valid_until"),
        b'",%b,"time":"' % _part(act, "event", "by"),
        b'",%b,"index":' % _part(act, "reason"),
    )
    return judged, *_cut_shared(members)


def _cut_shared(members: Mapping[str, Any]) -> tuple[_Named, bytes]:
    """What answers of one place, and of one moment, have in common."""
    named = _Named(
        b'"certificate":{%b,"number":' % _part(members["certificate"], "type", "issuer"),
        b',%b,"deciding":[{"id":"' % _part(members, "issuer_freshness", "names"),
    )
    return named, b'%b,"looked_up":' % _part(members, "tree_size", "ledger_time", "at", "known_at")


def _shape(said: Row, now: int) -> tuple[Shape, list[int]] | None:
    """The shape of a row, and when each of its acts began; None where they are not as `_Alike`
    says.
    """
    kept, standing = said.kept, said.standing
    starts: list[int] = []
    shape: list[Any] = [standing.responsible, len(kept) == standing.count]
    for _, (kind, _, by, _, time, version, first, until, reason, revocation, *_) in kept:
        if first is None:
            start = times.parse_moment(time)
        elif first == UNKNOWN:
            return None
        else:
            start = times.day_start(first)
        if start > now:
            return None
        starts.append(start)
        if until is not None and until != OPEN:
            if until == UNKNOWN or times.day_end(until) <= now:
                return None
            until = ""
        shape += (kind, by, version, reason, revocation, first is None, until)
    order = sorted(set(starts))
    if order != starts:
        shape += map(order.index, starts)
    return (tuple(shape), starts) if kept else None


def _choose(
    members: Mapping[str, Any], said: Row, starts: Sequence[int], now: int
) -> _Alike | None:
    """What an answer has chosen of a row's acts, and the words around it; None where it says what
    is not theirs.
    """
    own = [
        (ordinal, Transition._make(_Own(v) if n in _TEXTS and v else v for n, v in enumerate(t)))
        for ordinal, t in said.kept
    ]
    found = deciders.answer(tuple(own), said.standing, now, None)
    if found is None or found.responsible != said.standing.responsible:
        return None
    days = tuple(
        (act, n)
        for day in (found.valid_from, found.valid_until)
        for act, (_, t) in enumerate(own)
        for n in _TEXTS
        if day is not None and t[n] is day
    )
    until = found.valid_until
    if found.since not in starts or len(days) != (1 if until is None else 2):
        return None
    words = (
        b'{%b,"since":"%%b",' % _words(members, "answer", "reason", "why"),
        b'%%b%%b,%b,"valid_from":"%%b",' % _words(members["certificate"], "version"),
        b'"valid_until":%b},%%b%%b%%b' % (b"null" if until is None else b'"%b"'),
        b',{"id":"'.join(
            b'%%b",%b,"time":"%%b",%b,"index":%%d}'
            % (_words(act, "event", "by"), _words(act, "reason"))
            for act in members["deciding"]
        ),
        b"]}",
    )
    deciding = tuple(n for n, (_, t) in enumerate(own) if t.id in found.deciding)
    return _Alike(b"".join(words), starts.index(found.since), days, deciding)


def _words(value: Mapping[str, Any], *names: str) -> bytes:
    """A part that values are set into."""
    return _part(value, *names).replace(b"%", b"%%")


def _fill(
    alike: _Alike,
    named: _Named,
    middle: bytes,  # checks, where they are printed, and the moment
    number: str,
    row: Stated,
    kept: deciders.Kept,
    starts: Sequence[int],
) -> bytes:
    words, since, days, deciding = alike
    certificate, rest = named
    said = orjson.dumps(number)
    values: list[Any] = [format_instant(starts[since]).encode(), certificate, said]
    values += [kept[act][1][n].encode() for act, n in days]  # type: ignore[union-attr]
    values += (middle, said, rest)
    for n in deciding:
        ordinal, t = kept[n]
        values += (t.id.encode(), t.time.encode(), staterow.index_at(row.history, ordinal))
    return words % tuple(values)


def _join(
    judged: _Judged,
    named: _Named,
    middle: bytes,  # checks, where they are printed, and the moment
    number: str,
    row: Stated,
    time: str,
    event_id: str,
) -> bytes:
    _, _, answer, days, event, reason = judged
    certificate, rest = named
    said = orjson.dumps(number)
    return b"%b%b%b%b%b%b%b%b%b%b%b%d}]}" % (
        *(answer, certificate, said, days, middle, said, rest),
        *(event_id.encode(), event, time.encode(), reason),
        staterow.index_at(row.history, 0),
    )
