"""`certledger import`: a register's CSV file into the ledger by a mapping.

The whole file is read once before anything is published, so that a truncated or wrongly encoded
one is refused whole. Rows without an event and rows whose event was refused are written to files
of the same form as the register, with three columns before its own; mended, such a file is
imported like the register, and its rows keep their event ids.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ledger.errors import CODES, Malformed, Refused
from ledger.note import MemorySigner

from .config import PublisherConfig
from .feeding import Environment, Feed, Journal, Progress
from .lines import Line, LineMaker
from .mapping import Binding, Mapping

LEADING = ["line", "occurrence", "reason"]
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the register: its line in the file, its cells, which of equal rows it is."""

    line: int
    cells: list[str]
    occurrence: int

    @property
    def change(self) -> str:
        """What tells this change from all others in its register."""
        body = json.dumps([*self.cells, self.occurrence], ensure_ascii=False)
        return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


class Sheet:
    """A CSV file, plain or gzip. Without a `header` its first line is the header."""

    def __init__(
        self,
        path: Path,
        encoding: str = "utf-8",
        delimiter: str = ",",
        header: Sequence[str] | None = None,
    ) -> None:
        self.path = path
        self.encoding = encoding
        self.delimiter = delimiter
        self.header: list[str] = []
        self._given = header
        self._mended = False

    def scan(self) -> tuple[int, str]:
        """(rows, SHA-256 of the uncompressed bytes) after reading the whole file.

        Malformed `usage` names the line where it cannot be read.
        """
        digest = hashlib.sha256()
        rows = 0
        for _ in self._cells(digest):
            rows += 1
        if not self.header:
            raise Malformed("usage", f"{self.path} is empty: not even a header line")
        return rows, digest.hexdigest()

    def rows(self) -> Iterator[Row]:
        """The rows in their order; equal ones are numbered."""
        seen: dict[bytes, int] = {}
        for line, cells in self._cells():
            if self._mended and len(cells) >= len(LEADING):
                given = cells[1].strip()
                occurrence = int(given) if given.isascii() and given.isdigit() else 0
                place = cells[0].strip()
                yield Row(
                    int(place) if place.isascii() and place.isdigit() else line,
                    cells[len(LEADING) :],
                    occurrence,
                )
                continue
            key = hashlib.sha256("\x1f".join(cells).encode("utf-8", "surrogatepass")).digest()[:10]
            occurrence = seen.get(key, 0)
            seen[key] = occurrence + 1
            yield Row(line, cells, occurrence)

    def _cells(self, digest: Any = None) -> Iterator[tuple[int, list[str]]]:
        encoding = self.encoding
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            encoding = "utf-8-sig"
        line = 0
        try:
            with ExitStack() as stack:
                raw: Any = stack.enter_context(_open(self.path))
                counted = _Counted(raw, digest)
                text = io.TextIOWrapper(io.BufferedReader(counted, 1 << 18), encoding, newline="")
                reader = csv.reader(text, delimiter=self.delimiter, strict=True)
                header = self._given
                self.header = list(header or [])
                for cells in reader:
                    start, line = line + 1, reader.line_num
                    if start == 1 and (header is None or cells[: len(LEADING)] == LEADING):
                        self._mended = cells[: len(LEADING)] == LEADING
                        self.header = cells[len(LEADING) :] if self._mended else cells
                        continue
                    if cells:
                        yield start, cells
        except UnicodeDecodeError as err:
            line = self._undecodable(encoding)
            raise Malformed(
                "usage",
                f"{self.path}: line {line}: bytes {err.object[err.start : err.start + 4]!r} "
                f"are not {self.encoding}; a mapping's `encoding` says how its file is written",
            ) from err
        except (EOFError, zlib.error, gzip.BadGzipFile) as err:
            raise Malformed(
                "usage",
                f"{self.path}: after line {line}: the gzip stream is truncated or damaged ({err}); "
                "nothing was published from it",
            ) from err
        except csv.Error as err:
            raise Malformed("usage", f"{self.path}: after line {line}: not CSV: {err}") from err
        except OSError as err:
            raise Malformed("usage", f"{self.path}: {err.strerror or err}") from err

    def _undecodable(self, encoding: str) -> int:
        """The first line that is not of the encoding; a newline is never part of a character."""
        with _open(self.path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode(encoding)
                except UnicodeDecodeError:
                    return number
        return 0


class Register(Sheet):
    """A CSV file as a mapping says how to read it."""

    def __init__(self, path: Path, mapping: Mapping) -> None:
        super().__init__(path, mapping.encoding, mapping.delimiter, mapping.header)
        self.mapping = mapping

    def bind(self) -> Binding:
        """The mapping over this file's columns, known after `scan`."""
        return self.mapping.bind(self.header)


class _Counted(io.RawIOBase):
    """Passes bytes through a digest."""

    def __init__(self, raw: BinaryIO, digest: Any) -> None:
        self._raw = raw
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        if self._digest is not None:
            self._digest.update(data)
        buffer[: len(data)] = data
        return len(data)


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


@dataclass(slots=True)
class Report:
    """What an import came to. Rows are the register's, the other numbers events."""

    rows: int = 0
    published: int = 0
    unmapped: int = 0
    admitted: int = 0
    refused: dict[str, int] | None = None
    waiting: int = 0
    seconds: float = 0.0

    def members(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "published": self.published,
            "unmapped": self.unmapped,
            "admitted": self.admitted,
            "refused": self.refused or {},
            "waiting": self.waiting,
            "seconds": round(self.seconds, 2),
        }


class _Leftovers:
    """A file for rows that did not get through, made when the first one comes."""

    def __init__(self, path: Path, sheet: Sheet) -> None:
        self.path = path
        self.count = 0
        self._sheet = sheet
        self._file: Any = None
        self._writer: Any = None

    def add(self, row: Row, reason: str) -> None:
        self.count += 1
        if self._file is None:
            sheet = self._sheet
            self._file = self.path.open(
                "w", encoding=sheet.encoding, newline="", errors="backslashreplace"
            )
            self._writer = csv.writer(self._file, delimiter=sheet.delimiter, lineterminator="\n")
            self._writer.writerow([*LEADING, *sheet.header])
        self._writer.writerow([row.line, row.occurrence, reason, *row.cells])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def draft_config(department: str, zone: Any) -> PublisherConfig:
    """A configuration with keys of nobody, to see whether lines can be made."""
    origin = "dry.run"
    signer = MemorySigner.from_seed("dry.run", bytes(32))
    return PublisherConfig(
        folder=Path("/nonexistent"),
        origin=origin,
        department=department,
        checkpoint_keys=(),
        zone=zone,
        lanes=1,
        signer=signer,
        pseudonym_version=1,
        pseudonym_key=bytes(32),
        salt_key_version=1,
        salt_key=bytes(32),
        event_id_key=bytes(32),
    )


def dry_run(register: Register, report_folder: Path) -> tuple[Report, Counter[str]]:
    """(report, events by kind): what an import would publish; needs no ledger."""
    begun = time.monotonic()
    report = Report(rows=register.scan()[0])
    binding = register.bind()
    kinds: Counter[str] = Counter()
    makers: dict[str, LineMaker] = {}

    def maker(department: str) -> LineMaker:
        if department not in makers:
            makers[department] = LineMaker(draft_config(department, register.mapping.zone), _never)
        return makers[department]

    leftovers = _Leftovers(leftover_path(report_folder, register.path, "unmapped"), register)
    try:
        for row in register.rows():
            try:
                events = binding.map(row.cells, row.change)
                for plain in events:
                    maker(str(plain["department"])).make(plain)
            except Malformed as err:
                leftovers.add(row, err.message)
                continue
            kinds.update(str(plain["event"]) for plain in events)
            report.published += len(events)
    finally:
        leftovers.close()
    report.unmapped = leftovers.count
    report.seconds = time.monotonic() - begun
    return report, kinds


def import_register(
    env: Environment,
    register: Register,
    report_folder: Path,
    *,
    wait: bool,
    mapping_text: str,
    from_start: bool = False,
    window: int = 20_000,
) -> Report:
    """Publish a register's events; what an earlier run got answers for is not published again."""
    begun = time.monotonic()
    rows, digest = register.scan()
    binding = register.bind()
    mapping = register.mapping
    departments = [_hook_department(item, mapping) for item in mapping.departments]
    for addition in env.register(departments, list(mapping.types)):
        print(f"registered {addition}", file=sys.stderr)
    journal = open_journal(env, "import", digest, mapping_text, from_start=from_start)
    progress = Progress(f"importing {register.path.name}", rows)
    report = Report(rows=rows)
    leftovers = _Leftovers(leftover_path(report_folder, register.path, "unmapped"), register)
    with Feed(env, journal=journal, window=window, progress=progress) as feed:
        try:
            for row in register.rows():
                made: list[tuple[str, Line]] = []
                try:
                    events = binding.map(row.cells, row.change)
                except Malformed as err:
                    leftovers.add(row, err.message)
                    continue
                try:
                    publishers = [feed.publisher(str(plain["department"])) for plain in events]
                except Refused as err:
                    leftovers.add(row, err.message)
                    continue
                try:
                    for publisher, plain in zip(publishers, events, strict=True):
                        made.append((publisher.config.department, publisher.make(plain)))
                except Malformed as err:
                    leftovers.add(row, err.message)
                    continue
                for department, line in made:
                    feed.put(row.line, department, line)
            if wait:
                feed.wait()
            else:
                feed.flush()
        finally:
            leftovers.close()
            report.published, report.unmapped = feed.published, leftovers.count
            report.admitted, report.refused = feed.admitted, feed.refused()
            report.waiting = feed.published - feed.answered
    write_refused(register, report_folder, feed.refused_places())
    report.seconds = time.monotonic() - begun
    return report


def open_journal(env: Environment, what: str, *parts: str, from_start: bool = False) -> Journal:
    """The journal of one input into one ledger."""
    path = journal_path(env, what, *parts)
    if from_start:
        path.unlink(missing_ok=True)
    return Journal(path, time.time_ns() // 1_000_000_000 * 1_000_000)


def journal_path(env: Environment, what: str, *parts: str) -> Path:
    """Where the journal of one input into one ledger lies."""
    words = "\n".join((what, env.origin, env.checkpoint_vkey, *parts))
    return env.data / "imports" / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.journal"


def _hook_department(item: dict[str, Any], mapping: Mapping) -> dict[str, Any]:
    return {"time_zone": mapping.zone.key, **item}


def write_refused(sheet: Sheet, folder: Path, places: Sequence[tuple[int, str]]) -> None:
    """The rows at these lines with the codes they were refused with, in a file beside others."""
    if not places:
        return
    codes: dict[int, list[str]] = {}
    for place, code in places:
        codes.setdefault(place, []).append(code)
    leftovers = _Leftovers(leftover_path(folder, sheet.path, "refused"), sheet)
    try:
        for row in sheet.rows():
            if row.line in codes:
                leftovers.add(
                    row, "; ".join(f"{code}: {CODES[code].sentence}" for code in codes[row.line])
                )
    finally:
        leftovers.close()


def leftover_path(folder: Path, source: Path, what: str) -> Path:
    """Where rows of `source` that did not get through are written."""
    name = source.name.removesuffix(".gz").removesuffix(".csv")
    return folder / f"{name}.{what}.csv"


def _never() -> int:
    raise Malformed("unmapped-row", "the mapping gives no time")


def explain_report(report: Report, folder: Path, source: Path, out: Any = None) -> None:
    """The report for a person."""
    out = out or sys.stdout
    print(f"{report.rows:,} rows, {report.published:,} events published", file=out)
    print(f"{report.admitted:,} admitted", file=out)
    for code, count in (report.refused or {}).items():
        print(f"{count:>9,} refused  {code}: {CODES[code].sentence}", file=out)
    if report.refused:
        print(f"  rows and reasons: {leftover_path(folder, source, 'refused')}", file=out)
    if report.unmapped:
        print(
            f"{report.unmapped:,} rows give no event; rows and reasons: "
            f"{leftover_path(folder, source, 'unmapped')}; mend them there and import that file",
            file=out,
        )
    if report.waiting:
        print(
            f"{report.waiting:,} wait for their receipts; --wait, or the same command again, "
            "shows what became of them",
            file=out,
        )
    print(f"{report.seconds:.1f} s", file=out)
