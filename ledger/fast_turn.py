"""Step 5 for the workers, who take every event: plain first issues are admitted by a short way.

Whatever is not plain takes the way of `admission.Turn`, which decides in every case: the tests run
both side by side (`tests/memory_view.py`), and fsck judges the whole log by `Turn` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from . import identity, lifecycle
from .admission import Admitted, Certificate, HolderAct, Opened, Turn, View
from .entry import ADMITTED
from .errors import LedgerError, Refused
from .event import ISSUED, Event
from .lifecycle import HOLDER_TAG, LINK_TAG, RECORD_TAG, Standing, Transition

_make_tuple = tuple.__new__  # what a named tuple's own constructor ends in
_MARK, _LINK = "\0", bytes(32)  # stand in printed words for what is different in each
_POSITIONS = [position.to_bytes(4, "big") for position in range(4096)]

Issue = Callable[[int, Event], bool]
"""Admits the event at a position of the bundle; False, and nothing done, where it is not plain."""


class FastTurn(Turn):
    """As `Turn`: the same decisions, entries and states, sooner."""

    def __init__(self, view: View, next_index: int, now: int) -> None:
        super().__init__(view, next_index, now)
        self._records: dict[bytes, bytes] = {}  # hashes of new certificates' records

    def _judge(
        self, opened: Opened, index: int, admitted: list[Admitted], acts: list[HolderAct]
    ) -> list[str]:
        issue = self._issuing(opened, index, admitted, acts)
        codes: list[str] = []
        for position, item in enumerate(opened.events):
            if type(item) is Event:
                if item.kind == ISSUED and issue(position, item):
                    codes.append(ADMITTED)
                    continue
                self._records.pop(item.key, None)
            codes.append(self._judge_line(opened, index, position, item, admitted, acts))
        return codes

    def _record_hash(self, key: bytes) -> bytes:
        return self._records.get(key) or super()._record_hash(key)

    def _issuing(
        self, opened: Opened, index: int, admitted: list[Admitted], acts: list[HolderAct]
    ) -> Issue:
        """How this bundle's plain issues are admitted: in the department's own name, without an
        identifier, of a certificate that nobody knows, under a grant that was looked up before.
        """
        certificates, heads, records = self.certificates, self._heads, self._records
        transitions, named, scopes = self._transitions, self._named, self._scopes
        versions = None if self._versions is None else set(map(str, self._versions))
        holders, holder_heads = self.holders, self._holder_heads
        look, look_up_holder = self.view.certificate, self.view.holder
        by, lane, lanes = opened.bundle.header.department, opened.bundle.header.lane, self._lanes
        key_id, head = opened.key.key_id, identity.HEAD
        begin, middle, opens, responsible = _begins(by, key_id)
        log_index = index.to_bytes(8, "big")

        def issue(position: int, item: Event) -> bool:
            (
                event_id, _, _, time, _, type_code, issuer, _, said_holder, holder, identifier,
                line_hash, key, said,
            ) = item  # fmt: skip
            plain = _plain(said[0], said[1])
            if (
                plain is None
                or issuer != by
                or identifier is not None
                or key in certificates
                or int.from_bytes(key[:8], "big") % lanes != lane
                or scopes.get((type_code, ISSUED)) is None
                or heads.get(key[:head], key) != key
            ):
                return False
            try:
                if look(key) is not None:
                    return False
                if holder is not None and said_holder is not None:
                    if versions is not None and said_holder.partition(":")[0] not in versions:
                        return False
                    if holder_heads.get(holder[:head], holder) != holder:
                        return False
                    count, last = holders.get(holder) or look_up_holder(holder)
            except Refused:
                return False
            place = log_index + _POSITIONS[position]
            data = f"{begin}{event_id}{middle}{time}{plain.transition}".encode()
            link = sha256(LINK_TAG + key + place + line_hash + data).digest()
            record = f"{opens}{link.hex()}{responsible}{time}{plain.record}".encode()
            records[key] = sha256(RECORD_TAG + record).digest()
            standing = _make_tuple(Standing, (*plain.head, by, *plain.days, time, *plain.rest))
            transition = _make_tuple(Transition, (ISSUED, event_id, by, key_id, time, 1, *said))
            transitions[key] = [transition]
            named[key] = [holder]
            ids, kept = {event_id: line_hash}, ((0, transition),)
            certificates[key] = (item, Certificate(standing, link, holder, ids, kept))
            heads[key[:head]] = key
            if holder is not None:
                link = sha256(HOLDER_TAG + (last or holder) + b"\x01" + key + place).digest()
                holders[holder] = (count + 1, link)
                holder_heads[holder[:head]] = holder
                acts.append(_make_tuple(HolderAct, (holder, count, position, key, True)))
            admitted.append(_make_tuple(Admitted, (key, 0, position, item, data)))
            return True

        return issue


class _Plain(NamedTuple):
    """What a plain issue with certain days leads to: its standing but for whose and when, and how
    the printed transition and record go on after the time.
    """

    head: tuple[str, int, int]  # state, version, highest
    days: tuple[str | None, str | None]
    rest: tuple[str | int | None, ...]
    transition: str
    record: str


def _printed(
    by: str, key_id: str, first: str | None, until: str | None
) -> tuple[str, str, Standing]:
    """A plain issue's transition and record as they are printed, and its standing; a LedgerError
    where the rules refuse it, or its time decides.
    """
    transition = Transition(ISSUED, _MARK, by, key_id, _MARK, 1, first, until)
    standing = lifecycle.step(Standing(), transition)
    record = lifecycle.format_record(standing, _LINK).decode()
    return lifecycle.format_transition(transition).decode(), record, standing


def _begins(by: str, key_id: str) -> tuple[str, str, str, str]:
    """How transition and record begin: up to the event id, up to the time, up to the link, up to
    the time.
    """
    transition, record, _ = _printed(by, key_id, None, None)
    begin, middle, _ = transition.split(_MARK)
    opens, responsible = record.partition(_MARK)[0].split(_LINK.hex())
    return begin, middle, opens, responsible


@lru_cache(maxsize=8192)  # registers repeat their days
def _plain(first: str | None, until: str | None) -> _Plain | None:
    """None where the days are refused, or the event's time decides whether they are."""
    try:
        transition, record, standing = _printed("", "", first, until)
    except LedgerError:
        return None
    return _Plain(
        standing[:3],
        standing[4:6],
        standing[7:],
        transition.rpartition(_MARK)[2],
        record.rpartition(_MARK)[2],
    )
