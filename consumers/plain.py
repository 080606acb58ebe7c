"""Answers about certificates that were issued and no more, printed out of parts that many share.

Every part is cut out of an answer that `unproven` made and printed, and kept where all parts
together give its bytes again. Whatever is not plain is answered there.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, NamedTuple, Protocol

import orjson

from ledger import staterow
from ledger.identity import lane_of
from ledger.lifecycle import turning_points
from ledger.postgres.kept import Recent
from ledger.postgres.reader import Stated, View
from ledger.verdict import Answer


class Asking(Protocol):
    """Questions about one moment that the rules decide."""

    def ask(self, number: str, row: Stated) -> Answer | None:
        """The answer about the certificate with this number and row; None where the row does not
        decide.
        """

    def is_heard(self, number: str, row: Stated) -> bool:
        """Whether whoever is responsible was heard of on its lane recently enough."""


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


Place = tuple[int, bytes, int]
"""Number of type and issuer, who is responsible, lane."""

# By a row's words, and by checkpoint and place: some 0.6 kB each, and 2.
_judged: Recent[bytes, _Judged] = Recent(8192)
_named: Recent[tuple[bytes, Place], _Named] = Recent(2048)


class Plain:
    """Printed answers to many questions about `now`."""

    def __init__(self, view: View, asking: Asking, now: int) -> None:
        self._view = view
        self._asking = asking
        self._now = now
        records = view.records()
        self._is_off = bool(records.doubts or records.recovering)
        self._lanes: dict[bytes, int] = {}  # how many, by who is responsible
        self._heard: dict[tuple[bytes, int], bool] = {}
        self._moment = b""

    def print(self, number: str, row: Stated) -> bytes | None:
        """The answer about the certificate with this number and row as JSON without checks; None
        where it is not plain. ProofError `stored-bytes-damaged`.
        """
        if self._is_off or staterow.index_at(row.history, 0) >= self._view.size:
            return None
        plain = staterow.plain_words(row.key, row.state, row.history)
        if plain is None:
            return None
        words, by, time, event_id = plain
        lane = lane_of(row.key, self._lanes[by] if by in self._lanes else self._count_lanes(by))
        heard = self._heard.get((by, lane))
        if heard is None:
            heard = self._heard[by, lane] = self._asking.is_heard(number, row)
        if not heard:
            return None
        place = (row.kind, by, lane)
        judged, named = _judged.get(words), _named.get((self._view.checkpoint, place))
        if judged and named and self._moment and judged.begin <= self._now < judged.end:
            return _join(judged, named, self._moment, number, row, time, event_id)
        return self._print_first(number, row, place)

    def _count_lanes(self, by: bytes) -> int:
        record = self._view.records().value(f"department/{by.decode()}") or {"lanes": 1}
        lanes = self._lanes[by] = int(record["lanes"])
        return lanes

    def _print_first(self, number: str, row: Stated, place: Place) -> bytes | None:
        """The answer printed as any is; its parts are kept."""
        answer, plain = self._asking.ask(number, row), staterow.plain_words(*row[1:])
        if answer is None or plain is None:
            return None
        members = answer.members(with_checks=False)
        printed = orjson.dumps(members)
        if len(members["deciding"]) == 1:
            words, _, time, event_id = plain
            judged, named, moment = _cut(members, self._span(row))
            if _join(judged, named, moment, number, row, time, event_id) == printed:
                _judged[words] = judged
                _named[self._view.checkpoint, place] = named
                self._moment = moment
        return printed

    def _span(self, row: Stated) -> tuple[float, float]:
        """From when until when the row says what it says now."""
        kept = staterow.open_row(*row[1:]).kept
        points = turning_points([t for _, t in kept])
        begin = max((p for p in points if p <= self._now), default=-inf)
        return begin, min((p for p in points if p > self._now), default=inf)


def _cut(members: Mapping[str, Any], span: tuple[float, float]) -> tuple[_Judged, _Named, bytes]:
    """The parts of a printed answer, the moment's last."""
    certificate, (act,) = members["certificate"], members["deciding"]

    def part(value: Mapping[str, Any], *names: str) -> bytes:
        return orjson.dumps({name: value[name] for name in names if name in value})[1:-1]

    judged = _Judged(
        *span,
        b"{%b," % part(members, "answer", "reason", "why", "since"),
        b",%b}," % part(certificate, "version", "valid_from", "valid_until"),
        b'",%b,"time":"' % part(act, "event", "by"),
        b'",%b,"index":' % part(act, "reason"),
    )
    named = _Named(
        b'"certificate":{%b,"number":' % part(certificate, "type", "issuer"),
        b',%b,"deciding":[{"id":"' % part(members, "issuer_freshness", "names"),
    )
    moment = b'%b,"looked_up":' % part(members, "tree_size", "ledger_time", "at", "known_at")
    return judged, named, moment


def _join(
    judged: _Judged,
    named: _Named,
    moment: bytes,
    number: str,
    row: Stated,
    time: str,
    event_id: str,
) -> bytes:
    _, _, answer, days, event, reason = judged
    certificate, rest = named
    said = orjson.dumps(number)
    return b"%b%b%b%b%b%b%b%b%b%b%b%d}]}" % (
        *(answer, certificate, said, days, moment, said, rest),
        *(event_id.encode(), event, time.encode(), reason),
        staterow.index_at(row.history, 0),
    )
