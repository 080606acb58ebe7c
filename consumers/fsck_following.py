"""fsck, what follows with time: places in status lists, the signed lists, notices of ends.

A list is checked as of what it states: the log below its tree size, with the doubts after it, at
its moment of issue. What is remembered is checked as of the follower's position; where it is yet to
be looked at anew because of a doubt, it may still be what held before that.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from ledger import canonical, expiry, statuslist, times
from ledger.doubt import Doubts, is_doubted
from ledger.errors import LedgerError, Malformed
from ledger.evidence import CertificateId
from ledger.lifecycle import VERSION_ACTS, Transition, parse_transition, turning_points
from ledger.note import parse_vkey
from ledger.postgres.following import AT_ONCE, unpack_dues
from ledger.postgres.scan import Row, Scan
from ledger.postgres.status_places import unpack_changes, unpack_given

from .fsck_report import Merge, Report

MAX_NOTICE = 8192


@dataclass
class _List:
    """A signed list as it was read, what is remembered, and what the log gives for it."""

    uri: str
    tree_size: int
    issued_at: int
    given: dict[int, int] = field(default_factory=dict)  # place to status, VALID left out
    taken: bytearray = field(default_factory=lambda: bytearray(statuslist.ENTRIES))
    says: bytearray = field(default_factory=lambda: bytearray(statuslist.ENTRIES))


class Followed(NamedTuple):
    """An event with what the follower's row of its entry says there."""

    entry: int
    transition: Transition
    seen_at: int | None  # None where the entry has no row
    due_at: int | None
    place: tuple[int, int, int] | None  # version, list, place
    is_marked: bool  # all of its entry is to be looked at anew at once


_ROW = struct.Struct(">32sQqq?HHII")
_NEVER = -(2**63)
Changes = Sequence[tuple[int, Doubts]]
"""(log index, doubts from that entry on) of each entry that changed them, in order."""


class Histories:
    """All transitions, put aside as they come in log order with what was followed of them, given
    back by certificate.

    In 256 temporary files by the map keys' first byte: one of them is in memory at a time.
    """

    def __init__(self, outlooks: Iterable[Row], report: Report) -> None:
        """`outlooks`: the rows of `scan_outlooks`."""
        self._files: list[IO[bytes] | None] = [None] * 256
        self._report = report
        self._outlooks = Merge(outlooks, self._stray)
        self._index = -1
        self._seen_at: int | None = None
        self._is_marked = False
        self._dues: dict[int, int] = {}
        self._places: dict[int, tuple[int, int, int]] = {}

    def add(self, key: bytes, index: int, position: int, transition: bytes) -> None:
        """Put one aside."""
        if index != self._index:
            self._turn_to(index)
        file = self._files[key[0]]
        if file is None:
            file = self._files[key[0]] = tempfile.TemporaryFile()  # noqa: SIM115
        seen_at = _NEVER if self._seen_at is None else self._seen_at
        due_at = self._dues.pop(position, _NEVER)
        version, number, idx = self._places.pop(position, (0, 0, 0))
        length = len(transition)
        file.write(
            _ROW.pack(key, index, seen_at, due_at, self._is_marked, version, number, idx, length)
            + transition
        )

    def finish(self) -> None:
        """Nothing more comes."""
        self._turn_to(2**63)
        self._outlooks.rest()

    def _turn_to(self, index: int) -> None:
        if self._dues or self._places:
            self._report.add(
                "status-place", f"entry {self._index}", "a due or a place of what is no event there"
            )
        self._index, self._seen_at, self._dues, self._places = index, None, {}, {}
        self._is_marked = False
        for _, seen_at, due_at, dues, places in self._outlooks.take(index):
            self._seen_at = seen_at
            self._dues = dict(unpack_dues(dues))
            self._places = {
                position: (version, number, idx)
                for position, version, number, idx in unpack_given(places)
            }
            self._is_marked = due_at == AT_ONCE
            if not self._is_marked and due_at != min(self._dues.values(), default=None):
                self._report.add("status-place", f"entry {index}", "it is looked at anew too late")

    def _stray(self, row: Row) -> None:
        self._report.add("status-place", f"entry {row[0]}", "a row, and no certificate changed")

    def below(self, size: int) -> Iterator[tuple[bytes, list[Followed]]]:
        """(map key, events of the first `size` entries) ascending by key."""
        for number, file in enumerate(self._files):
            self._report.progress("followed, parts", number, len(self._files))
            if file is None:
                continue
            found: dict[bytes, list[Followed]] = {}
            file.seek(0)
            while head := file.read(_ROW.size):
                key, index, seen_at, due_at, marked, version, list_number, idx, length = (
                    _ROW.unpack(head)
                )
                data = file.read(length)
                if index < size:
                    transition = parse_transition(canonical.loads(data))
                    found.setdefault(key, []).append(
                        Followed(
                            index,
                            transition,
                            None if seen_at == _NEVER else seen_at,
                            None if due_at == _NEVER else due_at,
                            (version, list_number, idx) if version else None,
                            marked,
                        )
                    )
                elif seen_at != _NEVER:
                    self._report.add(
                        "status-place", f"entry {index}", "it was followed before its turn"
                    )
            file.close()
            yield from sorted(found.items())


def check_following(
    scan: Scan,
    report: Report,
    origin: str,
    histories: Histories,
    unknown: Container[bytes],
    doubts: Changes,
) -> None:
    """Places, lists and notices against the certificates' histories, but for `unknown` ones."""
    positions: dict[str, int] = dict(scan.rows("scan_relays"))
    position = positions.get("follower", 0)
    lists: dict[int, _List] = {}
    forms: dict[int, Row] = {}
    for row in scan.rows("scan_status_lists"):
        number, uri, _, tree_size, issued_at, *_ = row
        lists[number] = _List(uri, tree_size or 0, issued_at or 0)
        forms[number] = row
    histories.finish()
    _take_changes(scan, report, lists)
    followed = [(index, found) for index, found in doubts if index < position]
    _check_places(scan, report, origin, histories.below(position), lists, unknown, followed)
    for number, row in forms.items():
        if row[3] is not None:
            report.count("status lists")
            _check_forms(report, origin, f"status list {number}", row, lists[number])


def _take_changes(scan: Scan, report: Report, lists: Mapping[int, _List]) -> None:
    """What is remembered at each place, change by change."""
    rows: dict[int, int] = {}
    for number, row, changes in scan.stream("scan_status_changes"):
        place = f"status list {number}"
        one = lists.get(number)
        if one is None or row != rows.get(number, 0):
            report.add("status-place", place, f"change {row} is of no list, or others are missing")
        rows[number] = row + 1
        for idx, said in unpack_changes(changes):
            if one is not None and idx < statuslist.ENTRIES:
                one.says[idx] = said
            else:
                report.add("status-place", place, f"place {idx} does not exist")


def _check_places(
    scan: Scan,
    report: Report,
    origin: str,
    histories: Iterable[tuple[bytes, list[Followed]]],
    lists: Mapping[int, _List],
    unknown: Container[bytes],
    doubts: Changes,
) -> None:
    def stray(row: Row) -> None:
        report.add(
            "expiry-notice",
            f"certificate {row[0].hex()}",
            "a row, and nothing in the log to follow from",
        )

    notices = Merge(scan.stream("scan_expiry_notices"), stray)
    numbers = []
    for key, history in histories:
        place = f"certificate {key.hex()}"
        said = notices.take(key)
        numbers += [row[1] for row in said]
        report.count("notices of ends", len(said))
        if key in unknown:
            report.add("incomplete", place, "its history is not known")
            continue
        _check_certificate(report, place, history, lists, doubts)
        for row in said:
            _check_notice(report, origin, history, row)
    notices.rest()
    for number, one in lists.items():
        if any(said and not taken for said, taken in zip(one.says, one.taken, strict=True)):
            report.add("status-place", f"status list {number}", "something is said of nobody")
    if sorted(numbers) != list(range(len(numbers))):
        report.add("expiry-notice", "notices of ends", "their numbers are not 0, 1, 2, …")


def _statuses(events: Sequence[Followed], at: int, doubts: Doubts) -> dict[int, int]:
    """What lists say of the versions that a history gave."""
    said = statuslist.statuses([event.transition for event in events], at)
    told = [(event.entry, event.transition) for event in events]
    return statuslist.under_doubt(said, told, at, doubts)


def _at(doubts: Changes, size: int) -> Doubts:
    """The doubts after the first `size` entries."""
    return next((found for index, found in reversed(doubts) if index < size), {})


def _check_certificate(
    report: Report,
    place: str,
    events: Sequence[Followed],
    lists: Mapping[int, _List],
    doubts: Changes,
) -> None:
    remembered: dict[int, int] = {}
    then: dict[int, dict[int, int]] = {}
    for event in events:
        if event.place is None:
            continue
        report.count("status list places")
        version, number, idx = event.place
        if event.transition.kind not in VERSION_ACTS or event.transition.version != version:
            report.add("status-place", place, f"version {version} has the place of another event")
        one = lists.get(number)
        if one is None or idx >= statuslist.ENTRIES:
            report.add("status-place", place, f"place {idx} of list {number} does not exist")
            continue
        if one.taken[idx]:
            report.add("status-place", place, f"place {idx} of list {number} is given twice")
        one.taken[idx] = 1
        remembered[version] = one.says[idx]
        if number not in then:
            known = [e for e in events if e.entry < one.tree_size]
            at = one.issued_at * times.SECOND
            then[number] = _statuses(known, at, _at(doubts, one.tree_size))
        said = then[number].get(version, statuslist.VALID)
        if said != statuslist.VALID:
            one.given[idx] = said
    _check_time(report, place, events, remembered, doubts)


def _check_time(
    report: Report,
    place: str,
    events: Sequence[Followed],
    remembered: Mapping[int, int],
    doubts: Changes,
) -> None:
    """What is remembered is what held when it was looked at last, and holds until the next time."""
    seen = [event.seen_at for event in events]
    if None in seen:
        report.add("status-place", place, "nothing says when to look at it anew")
        return
    dues = [event.due_at for event in events if event.due_at is not None]
    last, due_at = max(at for at in seen if at is not None), min(dues, default=None)
    instants = {last} if due_at is None else {last, due_at - 1}  # a pass may have been cut short
    now = doubts[-1][1] if doubts else {}
    marked = [event for event in events if event.is_marked]
    if any(not is_doubted(event.transition.key, event.entry, now) for event in marked):
        report.add("status-place", place, "it is to be looked at anew, and no key is doubted")
    possible = [{}, *(found for _, found in doubts)] if marked else [now]
    if all(_statuses(events, at, found) != remembered for at in instants for found in possible):
        report.add("status-place", place, "other things are remembered of its versions")
    for at in turning_points([event.transition for event in events]):
        waits = at > last and not marked and (due_at is None or due_at >= at + times.SECOND)
        if waits and _statuses(events, at, now) != remembered:
            report.add("status-place", place, "it is looked at anew too late")
            break


def _check_forms(report: Report, origin: str, place: str, row: Row, ours: _List) -> None:
    _, uri, vkey, tree_size, issued_at, jwt, cwt, *purposes = row
    try:
        key = parse_vkey(vkey)
        if key.name != statuslist.key_name(origin):
            raise Malformed("malformed-key", f"signed by {key.name}")
        given = statuslist.lay_out(ours.given)
        wanted = statuslist.StatusList(uri, tree_size, issued_at, given)
        as_ietf = statuslist.StatusList(uri, tree_size, issued_at, wanted.in_ietf())
        for name, made in (
            ("JWT", statuslist.parse_jwt(jwt, key)),
            ("CWT", statuslist.parse_cwt(cwt, key)),
        ):
            if made != as_ietf:
                _differ(report, place, name, made.statuses().items(), as_ietf.statuses().items())
        for (purpose, said), data in zip(statuslist.PURPOSES.items(), purposes, strict=True):
            found = statuslist.parse_credential(data, purpose, origin, key)
            indexes = {idx for idx, value in ours.given.items() if value in said}
            if found != (uri, issued_at, indexes):
                _differ(report, place, purpose, found[2], indexes)
    except LedgerError as err:
        report.add("status-list", place, err.message)


def _differ(
    report: Report, place: str, form: str, found: Iterable[Any], wanted: Iterable[Any]
) -> None:
    wrong = sorted(set(found) ^ set(wanted))
    said = f"place {wrong[0]} says other than the log" if wrong else "it states other things"
    report.add("status-list", place, f"{form}: {said}")


def _check_notice(report: Report, origin: str, events: Sequence[Followed], row: Row) -> None:
    key, number, version, step, notice = row
    try:
        data = canonical.parse(notice, MAX_NOTICE)["data"]
        name = CertificateId(
            data["certificate_type_code"],
            data["issuing_authority_code"],
            data["certificate_number"],
        )
        end = expiry.End(version, data["valid_until"], data["responsible_authority_code"], 0)
        same = expiry.format_notice(origin, name, end, step) == notice and name.key == key
        said = {(e.transition.version, e.transition.valid_until) for e in events}
        same = same and any(until == end.valid_until for _, until in said)
        same = same and version in {v for v, _ in said} and step in expiry.STEPS
    except (LedgerError, LookupError, TypeError):
        same = False
    if not same:
        report.add("expiry-notice", f"notice {number}", "is not what the history gives")
