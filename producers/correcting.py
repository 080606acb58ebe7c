"""`certledger correct`: many events of one mistake put right in one act.

A sheet names the events, one a row, or an earlier import names all that it brought. Everything is
looked up first, and nothing is published unless every row can be: a correction that is half made
is a second mistake. Later events of a certificate are corrected before earlier ones, so that what
remains is a possible life at each step.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ledger import event as events
from ledger.entry import ADMITTED
from ledger.errors import CODES, LedgerError, Malformed, Refused

from .feeding import Environment, Feed, Progress
from .importing import (
    Register,
    Row,
    Sheet,
    journal_path,
    leftover_path,
    open_journal,
    write_refused,
)
from .lines import LineMaker

VOID, RESTATE, CONFIRM, REWIND = events.CORRECTIONS
CERTIFICATE = ("certificate_type_code", "issuing_authority_code", "certificate_number")
DAYS = ("valid_from", "valid_until")
COLUMNS = {
    "event_id": "the event, 32 hex digits; or",
    "event": "its kind (issued, revoked, …), where the certificate has one such event, with",
    "certificate_type_code": "the certificate's type,",
    "issuing_authority_code": "its issuer,",
    "certificate_number": "and its number",
    "correction": "void, restate with the right days, confirm where a key is doubted, or rewind",
    "valid_from": "of restate: first day, 2016-12-01 or unknown; empty: as it was",
    "valid_until": "of restate: last day, unknown or open; empty: as it was",
    "reason_code": "why: a-z, 0-9 and hyphens",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A correction that somebody asked for at `place`, a line of the input."""

    place: int
    event_id: str
    kind: str
    certificate: tuple[str, str, str] | None  # type, issuer, number
    correction: str
    days: Mapping[str, str]
    reason_code: str


class Target(Protocol):
    """The event to correct, as the ledger holds it."""

    @property
    def event_id(self) -> str: ...
    @property
    def certificate(self) -> tuple[str, str, str]: ...
    @property
    def department(self) -> str:
        """Who may correct it."""
        ...

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the log."""
        ...

    @property
    def undone(self) -> int:
        """How many corrections of it were voided again."""
        ...

    def holds(self, event_id: str) -> bool:
        """Whether the certificate's history has this event."""
        ...

    def check(self, line: bytes) -> None:
        """None when the ledger would take this correction after those checked before; Refused or
        Malformed otherwise.
        """
        ...


class CorrectingEnvironment(Environment, Protocol):
    """An environment that can look events up."""

    def find_targets(self, wanted: Sequence[Wanted]) -> list[Target | LedgerError]: ...


@dataclass(slots=True)
class Report:
    """What a correction came to; `unusable` are (line, why), nothing is published while any is."""

    rows: int = 0
    published: int = 0
    made_before: int = 0
    admitted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unusable: list[tuple[int, str]] = field(default_factory=list)
    left: int = 0  # of an import: events that it did not add
    seconds: float = 0.0

    def members(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "published": self.published,
            "made_before": self.made_before,
            "left": self.left,
            "admitted": self.admitted,
            "refused": self.refused,
            "unusable": [{"line": line, "why": why} for line, why in self.unusable],
            "seconds": round(self.seconds, 2),
        }


def read_wanted(sheet: Sheet) -> tuple[list[Wanted], list[tuple[int, str]]]:
    """(corrections, unusable rows) of a sheet; Malformed `usage` when it is none of ours."""
    unknown = [name for name in sheet.header if name not in COLUMNS]
    twice = [name for name, count in Counter(sheet.header).items() if count > 1]
    lacking = [name for name in ("correction", "reason_code") if name not in sheet.header]
    for names, what in (
        (unknown, f"has unknown columns; known are {', '.join(COLUMNS)}"),
        (twice, "has columns twice"),
        (lacking, "lacks columns"),
    ):
        if names:
            raise Malformed("usage", f"{sheet.path} {what}: {', '.join(names)}")
    wanted, unusable = [], []
    for row in sheet.rows():
        try:
            wanted.append(_wanted(row, sheet.header))
        except Malformed as err:
            unusable.append((row.line, err.message))
    return wanted, unusable


def _wanted(row: Row, header: Sequence[str]) -> Wanted:
    if len(row.cells) != len(header):
        raise Malformed("usage", f"{len(row.cells)} cells, but the header has {len(header)}")
    cells = {name: cell.strip() for name, cell in zip(header, row.cells, strict=True)}
    event_id, kind = cells.get("event_id", ""), cells.get("event", "")
    parts = [cells.get(name, "") for name in CERTIFICATE]
    if not (event_id or (kind and all(parts))):
        raise Malformed(
            "usage", f"name the event: event_id, or event with {', '.join(CERTIFICATE)}"
        )
    if any(parts) and not all(parts):
        raise Malformed("usage", f"a certificate is named by {', '.join(CERTIFICATE)} together")
    if kind and kind not in events.FIELDS:
        raise Malformed("usage", f"event is one of {', '.join(events.FIELDS)}, not {kind[:60]!r}")
    if cells["correction"] not in events.CORRECTIONS:
        known, said = ", ".join(events.CORRECTIONS), cells["correction"][:60]
        raise Malformed("usage", f"correction is one of {known}, not {said!r}")
    days = {name: cells[name] for name in DAYS if cells.get(name)}
    if bool(days) != (cells["correction"] == RESTATE):
        raise Malformed(
            "usage", "restate says valid_from, valid_until or both; no other correction does"
        )
    certificate = (parts[0], parts[1], parts[2]) if all(parts) else None
    return Wanted(
        row.line, event_id, kind, certificate, cells["correction"], days, cells["reason_code"]
    )


def wanted_of_import(
    env: Environment, register: Register, mapping_text: str, reason_code: str
) -> tuple[list[Wanted], int]:
    """(a void for each event that the import of this file by this mapping added, how many others it
    published). Malformed `usage` when there was no such import, or it is not over: what it will
    still add would stay.
    """
    _, digest = register.scan()
    path = journal_path(env, "import", digest, mapping_text)
    if not path.exists():
        raise Malformed(
            "usage", f"this folder knows of no import of {register.path} by this mapping"
        )
    journal = open_journal(env, "import", digest, mapping_text)
    journal.close()
    binding = register.bind()
    makers: dict[str, LineMaker] = {}
    wanted, left, open_ = {}, 0, 0
    for row in register.rows():
        try:
            plains = binding.map(row.cells, row.change)
        except Malformed:
            continue  # it gave no event then either
        for plain in plains:
            department = str(plain["department"])
            try:
                if department not in makers:  # ids depend on the department's own key
                    makers[department] = LineMaker(env.publisher_config(department), _no_clock)
                event_id = makers[department].make(plain).id
            except (Malformed, Refused):
                continue
            code = journal.known.get(event_id)
            if code == ADMITTED:
                issuer = str(plain.get("issuing_authority_code", department))
                number = str(plain["certificate_number"])
                certificate = (str(plain["certificate_type_code"]), issuer, number)
                wanted[event_id] = Wanted(
                    row.line, event_id, "", certificate, VOID, {}, reason_code
                )
            elif code is not None:
                left += 1
            else:
                open_ += 1
    if open_:
        raise Malformed(
            "usage",
            f"{open_:,} events of this import have no outcome yet: finish it first, by the same "
            "import with --wait",
        )
    return list(wanted.values()), left


def _no_clock() -> int:
    raise Malformed("unmapped-row", "the mapping gives no time")


def correct(
    env: CorrectingEnvironment,
    wanted: Sequence[Wanted],
    unusable: Sequence[tuple[int, str]],
    *,
    journal_name: Sequence[str],
    dry_run: bool,
    sheet: Sheet,
    report_folder: Path,
) -> Report:
    """Look everything up, then publish the corrections that are not there yet, if all can be."""
    begun = time.monotonic()
    report = Report(rows=len(wanted) + len(unusable), unusable=list(unusable))
    todo = list(_plan(env, wanted, report))
    report.unusable.sort()
    if not report.unusable and not dry_run:
        journal = open_journal(env, "correct", *journal_name)
        with Feed(env, journal=journal, progress=Progress("correcting", len(todo))) as feed:
            for place, plain in todo:
                publisher = feed.publisher(str(plain["department"]))
                made = publisher.make({**plain, "time": journal.started})
                feed.put(place, publisher.config.department, made)
            feed.wait()
        report.published, report.admitted = feed.published, feed.admitted
        report.refused = feed.refused()
        write_refused(sheet, report_folder, feed.refused_places())
    elif not report.unusable:
        report.published = len(todo)
    report.seconds = time.monotonic() - begun
    return report


def _plan(
    env: CorrectingEnvironment, wanted: Sequence[Wanted], report: Report
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(place, plain event) of each correction that is still to be made, later events first."""
    now = time.time_ns() // 1000
    found = []
    places: dict[str, int] = {}
    for item, target in zip(wanted, env.find_targets(wanted), strict=True):
        if isinstance(target, LedgerError):
            report.unusable.append((item.place, target.message))
        elif places.setdefault(target.event_id, item.place) != item.place:
            line = places[target.event_id]
            report.unusable.append((item.place, f"line {line} names the same event"))
        else:
            found.append((item, target))
    makers: dict[str, LineMaker] = {}
    for item, target in sorted(found, key=lambda pair: pair[1].order, reverse=True):
        try:
            if target.department not in makers:
                config = env.publisher_config(target.department)
                makers[target.department] = LineMaker(config, lambda: now)
            plain = _plain(item, target)
            made = makers[target.department].make(plain)
            if target.holds(made.id):
                report.made_before += 1
                continue
            target.check(made.line)
        except LedgerError as err:
            report.unusable.append((item.place, err.message))
            continue
        yield item.place, plain


def _plain(item: Wanted, target: Target) -> dict[str, Any]:
    type_code, issuer, number = target.certificate
    said = [target.event_id, item.correction, dict(item.days), item.reason_code, target.undone]
    return {
        "event": events.CORRECTED,
        "department": target.department,
        "certificate_type_code": type_code,
        "issuing_authority_code": issuer,
        "certificate_number": number,
        "corrects": target.event_id,
        "correction": item.correction,
        "reason_code": item.reason_code,
        **item.days,
        # The same correction again is the same event, whichever sheet it stands in.
        "change_id": json.dumps(said, sort_keys=True),
    }


def explain_report(report: Report, sheet: Sheet, folder: Path, dry_run: bool) -> None:
    """The report for a person."""
    print(f"{report.rows:,} events named, {report.made_before:,} corrected so before")
    if report.left:
        print(f"{report.left:,} more events of the import had another outcome than admitted: left")
    for line, why in report.unusable[:100]:
        print(f"line {line}: {why}", file=sys.stderr)
    if report.unusable:
        print(f"{len(report.unusable):,} rows cannot be used; nothing was published")
        return
    if dry_run:
        print(f"{report.published:,} corrections would be published")
        return
    print(f"{report.published:,} corrections published, {report.admitted:,} admitted")
    for code, count in report.refused.items():
        print(f"{count:>9,} refused  {code}: {CODES[code].sentence}")
    if report.refused:
        print(f"  rows and reasons: {leftover_path(folder, sheet.path, 'refused')}")
    print(f"{report.seconds:.1f} s")
