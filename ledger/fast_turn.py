"""Step 5 for the workers, who take every event: plain first issues are admitted by a short way.

Whatever is not plain takes the way of `admission.Turn`, which decides in every case: the tests run
both side by side (`tests/memory_view.py`), and fsck judges the whole log by `Turn` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from . import fast_json, identity, lifecycle
from .admission import Certificate, HolderAct, Opened, Turn, View
from .entry import ADMITTED
from .errors import LedgerError, Refused
from .event import ISSUED, Event
from .lifecycle import HOLDER_TAG, LINK_TAG, RECORD_TAG, Standing, Transition

_make_tuple = tuple.__new__  # what a named tuple's own constructor ends in
_MARK, _LINK = "\0", bytes(32)  # stand in printed words for what is different in each
_POSITIONS = [position.to_bytes(4, "big") for position in range(4096)]


class FastTurn(Turn):
    """As `Turn`: the same decisions, entries and states, sooner. What it issued plainly is among
    `issued` until something asks for it, then with all else among `certificates`.
    """

    _dump = staticmethod(fast_json.dump)

    def __init__(self, view: View, next_index: int, now: int) -> None:
        super().__init__(view, next_index, now)
        self.issued: dict[bytes, Issued] = {}  # by map key
        self._records: dict[bytes, bytes] = {}  # hashes of their records, of one bundle
        self._unwritten, self._acts = dict[bytes, Issued](), list[Act]()

    def unwritten(self) -> tuple[dict[bytes, Issued], list[Act]]:
        """What became of certificates since this was asked last: those that were issued, and the
        events that led others to what they are.
        """
        found = self._unwritten, self._acts
        self._unwritten, self._acts = {}, []
        return found

    def _known(self, key: bytes) -> tuple[Event, Certificate] | None:
        issued = self.issued.pop(key, None)
        if issued is not None:
            certificate, transition = issued.open()
            self.certificates[key] = (issued.event, certificate)
            self.transitions[key] = [transition]
            self._named[key] = [certificate.holder]
            if self._unwritten.pop(key, None) is not None:
                self._acts.append((key, issued.log_index, issued.position, issued.event.id))
        return super()._known(key)

    def _record_hashes(self, keys: Sequence[bytes]) -> list[bytes]:
        records = self._records
        others = [key for key in keys if key not in records]
        records.update(zip(others, super()._record_hashes(others), strict=True))
        return [records[key] for key in keys]

    def _judge(
        self, opened: Opened, index: int, admitted: list[bytes], acts: list[HolderAct]
    ) -> list[str]:
        """Plain issues the short way: in the department's own name, without an identifier, of a
        certificate that nobody knows, under a grant that was looked up before.
        """
        issued, heads, scopes = self.issued, self._heads, self._scopes
        records = self._records = {}
        unwritten = self._unwritten
        versions = None if self._versions is None else set(map(str, self._versions))
        holders, holder_heads = self.holders, self._holder_heads
        look, look_up_holder = self.view.certificate, self.view.holder
        by, lane, lanes = opened.bundle.header.department, opened.bundle.header.lane, self._lanes
        key_id, head = opened.key.key_id, identity.HEAD
        begin, middle, opens, responsible = _begins(by, key_id)
        log_index = index.to_bytes(8, "big")
        codes: list[str] = []
        for position, item in enumerate(opened.events):
            if type(item) is Event and item[1] == ISSUED:
                (
                    event_id, _, _, time, _, type_code, issuer, _, said_holder, holder, identifier,
                    line_hash, key, said,
                ) = item  # fmt: skip
                front, plain = key[:head], _plain(said[0], said[1])
                try:
                    if (
                        plain is not None
                        and issuer == by
                        and identifier is None
                        and front not in heads
                        and int.from_bytes(key[:8], "big") % lanes == lane
                        and scopes.get((type_code, ISSUED)) is not None
                        and look(key) is None
                        and (
                            holder is None
                            or said_holder is None
                            or (
                                (versions is None or said_holder.partition(":")[0] in versions)
                                and holder_heads.get(holder[:head], holder) == holder
                            )
                        )
                    ):
                        place = log_index + _POSITIONS[position]
                        if holder is not None:
                            count, last = holders.get(holder) or look_up_holder(holder)
                            act = HOLDER_TAG + (last or holder) + b"\x01" + key + place
                            holders[holder] = (count + 1, sha256(act).digest())
                            holder_heads[holder[:head]] = holder
                            acts.append(
                                _make_tuple(HolderAct, (holder, count, position, key, True))
                            )
                        data = f"{begin}{event_id}{middle}{time}{plain.transition}".encode()
                        link = sha256(LINK_TAG + key + place + line_hash + data).digest()
                        record = f"{opens}{link.hex()}{responsible}{time}{plain.record}".encode()
                        records[key] = sha256(RECORD_TAG + record).digest()
                        heads[front] = key
                        issued[key] = unwritten[key] = _make_tuple(
                            Issued, (item, link, plain, key_id, index, position)
                        )
                        admitted.append(key)
                        codes.append(ADMITTED)
                        continue
                except Refused:
                    pass
            before = len(admitted)
            codes.append(self._judge_line(opened, index, position, item, admitted, acts))
            if len(admitted) > before and isinstance(item, Event):
                records.pop(item.key, None)
                self._acts.append((item.key, index, position, item.id))
        return codes


Act = tuple[bytes, int, int, str]
"""An admitted event: map key, log index, position, id."""


class Issued(NamedTuple):
    """A certificate that this turn issued plainly: what its row and a later act follow from."""

    event: Event
    link: bytes
    plain: _Plain
    key_id: str
    log_index: int
    position: int

    def open(self) -> tuple[Certificate, Transition]:
        """The same as `Turn` keeps it: the certificate, and its only transition."""
        event, plain = self.event, self.plain
        standing = (*plain.head, event.issuer, *plain.days, event.time, *plain.rest)
        said = (ISSUED, event.id, event.issuer, self.key_id, event.time, 1, *event.said)
        transition = _make_tuple(Transition, said)
        ids, kept = {event.id: event.line_hash}, ((0, transition),)
        made = _make_tuple(Standing, standing)
        return Certificate(made, self.link, event.holder_key, ids, kept), transition


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


@lru_cache(maxsize=1024)  # bundles of one event
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
