"""fsck, what follows with time: places in status lists, the signed lists, notices of ends.

A list is checked as of what it states: the log below its tree size, at its moment of issue.
"""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from ledger import canonical, expiry, statuslist, times
from ledger.errors import LedgerError, Malformed
from ledger.evidence import CertificateId
from ledger.identity import HEAD
from ledger.lifecycle import Transition, parse_transition, turning_points
from ledger.note import parse_vkey
from ledger.postgres.scan import Row, Scan

from .fsck_report import Merge, Report

MAX_NOTICE = 8192


@dataclass
class _List:
    """A signed list as it was read, and what the log gives for it."""

    uri: str
    tree_size: int
    issued_at: int
    given: dict[int, int] = field(default_factory=dict)  # place to status, VALID left out
    taken: bytearray = field(default_factory=lambda: bytearray(statuslist.ENTRIES))


class Histories:
    """All transitions, put aside as they come in log order, given back by certificate.

    In 256 temporary files by the map keys' first byte: one of them is in memory at a time.
    """

    def __init__(self) -> None:
        self._files: list[IO[bytes] | None] = [None] * 256

    def add(self, key: bytes, index: int, transition: bytes) -> None:
        """Put one aside."""
        file = self._files[key[0]]
        if file is None:
            file = self._files[key[0]] = tempfile.TemporaryFile()  # noqa: SIM115
        file.write(key + index.to_bytes(8, "big") + len(transition).to_bytes(4, "big") + transition)

    def below(self, size: int) -> Iterator[tuple[bytes, list[tuple[int, Transition]]]]:
        """(map key, (log index, transition) of the first `size` entries) ascending by key."""
        for file in self._files:
            if file is None:
                continue
            found: dict[bytes, list[tuple[int, Transition]]] = {}
            file.seek(0)
            while head := file.read(44):
                index = int.from_bytes(head[32:40], "big")
                data = file.read(int.from_bytes(head[40:], "big"))
                if index < size:
                    step = (index, parse_transition(canonical.loads(data)))
                    found.setdefault(head[:32], []).append(step)
            file.close()
            yield from sorted(found.items())


def check_following(
    scan: Scan, report: Report, origin: str, histories: Histories, unknown: Container[bytes]
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
        if (tree_size or 0) > position:
            report.add("status-list", f"status list {number}", f"reflects {tree_size} entries")
    _check_places(scan, report, origin, histories.below(position), lists, unknown)
    for number, row in forms.items():
        if row[3] is not None:
            report.count("status lists")
            _check_forms(report, origin, f"status list {number}", row, lists[number])


def _check_places(
    scan: Scan,
    report: Report,
    origin: str,
    histories: Iterable[tuple[bytes, list[tuple[int, Transition]]]],
    lists: Mapping[int, _List],
    unknown: Container[bytes],
) -> None:
    def stray(kind: str) -> Any:
        return lambda row: report.add(
            kind, f"certificate {row[0].hex()}", "a row, and nothing in the log to follow from"
        )

    places = Merge(scan.stream("scan_status_places"), stray("status-place"))
    outlooks = Merge(scan.stream("scan_outlooks"), stray("status-place"))
    notices = Merge(scan.stream("scan_expiry_notices"), stray("expiry-notice"))
    numbers = []
    for key, history in histories:
        place = f"certificate {key.hex()}"
        rows, outlook = places.take(key[:HEAD]), outlooks.take(key[:HEAD])
        said = notices.take(key)
        numbers += [row[1] for row in said]
        report.count("notices of ends", len(said))
        if key in unknown:
            report.add("incomplete", place, "its history is not known")
            continue
        _check_certificate(report, place, history, rows, outlook, lists)
        for row in said:
            _check_notice(report, origin, history, row)
    places.rest()
    outlooks.rest()
    notices.rest()
    if sorted(numbers) != list(range(len(numbers))):
        report.add("expiry-notice", "notices of ends", "their numbers are not 0, 1, 2, …")


def _check_certificate(
    report: Report,
    place: str,
    steps: Sequence[tuple[int, Transition]],
    rows: Sequence[Row],
    outlook: Sequence[Row],
    lists: Mapping[int, _List],
) -> None:
    history = [t for _, t in steps]
    if outlook:
        _, holds_from, due_at, said_any = outlook[0]
        later = [at for at in turning_points(history) if at > holds_from]
        if later and (due_at is None or due_at > later[0]):
            report.add("status-place", place, "it is looked at anew too late")
        # what is remembered holds from `holds_from` until time alone changes something
        if {row[1]: row[4] for row in rows} != statuslist.statuses(history, holds_from):
            report.add("status-place", place, "other things are remembered of its versions")
        if said_any != any(row[4] != statuslist.VALID for row in rows):
            report.add("status-place", place, "its lists would be made without it")
    else:
        report.add("status-place", place, "nothing says when to look at it anew")
    then: dict[int, dict[int, int]] = {}
    for _, version, number, idx, _ in rows:
        report.count("status list places")
        one = lists.get(number)
        if one is None or idx >= statuslist.ENTRIES:
            report.add("status-place", place, f"place {idx} of list {number} does not exist")
            continue
        if one.taken[idx]:
            report.add("status-place", place, f"place {idx} of list {number} is given twice")
        one.taken[idx] = 1
        if number not in then:
            known = [t for index, t in steps if index < one.tree_size]
            then[number] = statuslist.statuses(known, one.issued_at * times.SECOND)
        said = then[number].get(version, statuslist.VALID)
        if said != statuslist.VALID:
            one.given[idx] = said


def _check_forms(report: Report, origin: str, place: str, row: Row, ours: _List) -> None:
    _, uri, vkey, tree_size, issued_at, jwt, cwt, *purposes = row
    try:
        key = parse_vkey(vkey)
        if key.name != statuslist.key_name(origin):
            raise Malformed("malformed-key", f"signed by {key.name}")
        wanted = statuslist.StatusList(uri, tree_size, issued_at, ours.given)
        as_ietf = statuslist.StatusList(uri, tree_size, issued_at, wanted.values())
        for name, made in (
            ("JWT", statuslist.parse_jwt(jwt, key)),
            ("CWT", statuslist.parse_cwt(cwt, key)),
        ):
            if made != as_ietf:
                _differ(report, place, name, made.statuses.items(), as_ietf.statuses.items())
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


def _check_notice(
    report: Report, origin: str, steps: Sequence[tuple[int, Transition]], row: Row
) -> None:
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
        said = {(t.version, t.valid_until) for _, t in steps}
        same = same and any(until == end.valid_until for _, until in said)
        same = same and version in {v for v, _ in said} and step in expiry.STEPS
    except (LedgerError, LookupError, TypeError):
        same = False
    if not same:
        report.add("expiry-notice", f"notice {number}", "is not what the history gives")
