"""A table of certificate numbers, back with answers: CSV in, CSV out, and their evidence as a zip.

The first column called `number` or `identifier` (else the first column) is asked about; columns
called `type`, `issuer`, `at`, `known_at` belong to the question. Every cell comes back as it was,
and after the last column stand the answer's. A cell that a spreadsheet would take for a formula
gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from consumers.asking import Asked
from ledger.errors import LedgerError, Malformed
from ledger.verdict import CANNOT_DECIDE, Answer

NUMBER_COLUMNS = ("number", "identifier", "certificate_number", "certificate_identifier")
ASKED_COLUMNS = ("type", "issuer", "at", "known_at")
ANSWER_COLUMNS = (
    "answer",
    "reason",
    "since",
    "version",
    "valid_from",
    "valid_until",
    "certificate_type",
    "certificate_issuer",
    "tree_size",
    "ledger_time",
    "evidence",
)
MAX_CELL = 16 * 1024  # characters
MAX_COLUMNS = 256
MAX_ROWS = 1_000_000
TOGETHER = 256  # rows asked at once
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")

Ask = Callable[[Sequence[Asked]], Sequence[Answer | LedgerError]]
Prove = Callable[[Asked], bytes]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a table has what is asked: column numbers by name of a question's part."""

    header: list[str]
    number: int
    asked: dict[str, int]

    @classmethod
    def of(cls, header: list[str]) -> Columns:
        """What the first row says."""
        names = [cell.strip().lower().removeprefix("\ufeff") for cell in header]
        number = next((names.index(n) for n in NUMBER_COLUMNS if n in names), 0)
        asked = {name: names.index(name) for name in ASKED_COLUMNS if name in names}
        return cls(header, number, asked)

    def question(self, row: Sequence[str]) -> Asked:
        """What a row asks; Malformed where it asks nothing."""

        def cell(place: int) -> str | None:
            return (row[place].strip() or None) if place < len(row) else None

        number = cell(self.number)
        if number is None:
            raise Malformed("usage", "the row has no number")
        parts = {name: cell(place) for name, place in self.asked.items()}
        asked = Asked(
            number.removeprefix("'"),
            parts.get("type"),
            parts.get("issuer"),
            parts.get("at"),
            parts.get("known_at"),
        )
        asked.check()
        return asked


def read_rows(text: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a CSV, limits kept; Malformed for what is none."""
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(text, strict=True)
    try:
        for number, row in enumerate(reader):
            if number > MAX_ROWS:
                raise Malformed("too-large", f"a table has at most {MAX_ROWS} rows")
            if len(row) > MAX_COLUMNS:
                raise Malformed("too-large", f"row {number + 1} has {len(row)} columns")
            if any(cell.strip() for cell in row):
                yield row
    except (csv.Error, UnicodeDecodeError) as err:
        raise Malformed("usage", f"line {reader.line_num} is no CSV in UTF-8: {err}") from err


def answer_rows(
    text: Iterable[str],
    ask: Ask,
    archive: zipfile.ZipFile | None = None,
    prove: Prove | None = None,
) -> Iterator[str]:
    """The table with its answers, some rows at a time; the first piece is the first row. With
    `archive`, the evidence of each answer goes there.
    """
    rows = read_rows(text)
    header = next(rows, None)
    if header is None:
        raise Malformed("usage", "the table is empty")
    columns = Columns.of(header)
    if not _is_header(header, columns):  # a list of numbers and nothing else
        rows, columns = _chain(header, rows), Columns(["number"], 0, {})
    yield _print([[*columns.header, *(f"ledger_{name}" for name in ANSWER_COLUMNS)]])
    done = 0
    while group := list(islice(rows, TOGETHER)):
        yield _print(_answer(group, columns, ask, archive, prove, done))
        done += len(group)


def _is_header(header: list[str], columns: Columns) -> bool:
    names = {cell.strip().lower().removeprefix("\ufeff") for cell in header}
    return bool(names & {*NUMBER_COLUMNS, *ASKED_COLUMNS}) or len(header) > 1


def _chain(first: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield [first[0].removeprefix("\ufeff"), *first[1:]]
    yield from rows


def _answer(
    rows: Sequence[list[str]],
    columns: Columns,
    ask: Ask,
    archive: zipfile.ZipFile | None,
    prove: Prove | None,
    done: int,
) -> list[list[str]]:
    questions: list[Asked | LedgerError] = []
    for row in rows:
        try:
            questions.append(columns.question(row))
        except LedgerError as err:
            questions.append(err)
    answers = iter(ask([q for q in questions if isinstance(q, Asked)]))
    printed = []
    for number, (row, asked) in enumerate(zip(rows, questions, strict=True), done + 1):
        answer = asked if isinstance(asked, LedgerError) else next(answers)
        name = ""
        if archive is not None and prove is not None and isinstance(asked, Asked):
            name = _keep(archive, prove, asked, number)
        width = max(len(columns.header), len(row))
        cells = [*row, *[""] * (width - len(row)), *_cells(answer), name]
        printed.append(cells)
    return printed


def _keep(archive: zipfile.ZipFile, prove: Prove, asked: Asked, number: int) -> str:
    """The evidence's name in the archive; empty where there is none to keep."""
    name = f"{number:07d}.evidence.json"
    try:
        data = prove(asked)
    except LedgerError:
        return ""
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return name


def _cells(answer: Answer | LedgerError) -> list[str]:
    if isinstance(answer, LedgerError):
        return [CANNOT_DECIDE, answer.code, *[""] * (len(ANSWER_COLUMNS) - 3)]
    value: dict[str, Any] = answer.members()
    certificate = value["certificate"] or {}
    found = [
        value["answer"],
        value["reason"],
        value["since"],
        certificate.get("version"),
        certificate.get("valid_from"),
        certificate.get("valid_until"),
        certificate.get("type"),
        certificate.get("issuer"),
        value["tree_size"],
        value["ledger_time"],
    ]
    return ["" if cell is None else str(cell) for cell in found]


def guard(cell: str) -> str:
    """The cell as a spreadsheet takes it for text (OWASP, CSV injection)."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _print(rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows([guard(cell) for cell in row] for row in rows)
    return out.getvalue()
