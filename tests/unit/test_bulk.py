"""Tables of numbers: what is asked, what comes back, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence

import pytest

from consumers.asking import Asked
from consumers.bulk import (
    ANSWER_COLUMNS,
    MAX_CELL,
    MAX_COLUMNS,
    TOGETHER,
    answer_rows,
    guard,
    read_rows,
)
from ledger.errors import LedgerError, Malformed, Refused
from ledger.verdict import Answer, undecided


def answer(questions: Sequence[Asked]) -> list[Answer | LedgerError]:
    return [
        Refused("not-found") if asked.number == "bad" else undecided("x", "", number=asked.number)
        for asked in questions
    ]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def table(text: str) -> list[list[str]]:
    return read("".join(answer_rows(io.StringIO(text, newline=""), answer)))


def test_every_cell_comes_back_with_an_answer_beside_it() -> None:
    rows = table('name,Number,note\n"a, b",1,x\nc,bad\n,,\nd,,y\n')
    assert rows[0] == ["name", "Number", "note", *(f"ledger_{name}" for name in ANSWER_COLUMNS)]
    assert [row[:5] for row in rows[1:]] == [
        ["a, b", "1", "x", "cannot-decide", "x"],
        ["c", "bad", "", "cannot-decide", "not-found"],
        ["d", "", "y", "cannot-decide", "usage"],
    ]
    assert {len(row) for row in rows} == {3 + len(ANSWER_COLUMNS)}


def test_a_list_of_numbers_needs_no_header() -> None:
    assert [row[0] for row in table("\ufeff1\n2\n")] == ["number", "1", "2"]


def test_columns_of_the_question_are_asked() -> None:
    asked: list[Asked] = []

    def keep(questions: Sequence[Asked]) -> list[Answer | LedgerError]:
        asked.extend(questions)
        return answer(questions)

    text = "type,identifier,at,issuer\nT,'7,2026-01-01,a\nT,8,never,a\n"
    rows = read("".join(answer_rows(io.StringIO(text), keep)))
    assert asked == [Asked("7", "T", "a", "2026-01-01")]
    assert rows[2][5] == "malformed-time"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_nothing_comes_back_that_a_spreadsheet_would_run(first: str) -> None:
    cell = f"{first}cmd|' /C calc'!A0"
    assert guard(cell) == f"'{cell}"
    out = io.StringIO()
    csv.writer(out).writerows([["number", cell], ["1", cell]])
    assert [row[1] for row in table(out.getvalue())] == [f"'{cell}"] * 2
    assert guard("1=2") == "1=2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        'a\n"open',
        "x" * (MAX_CELL + 1),
        ",".join("a" * (MAX_COLUMNS + 1)),
        'a\n"b"c\n',
    ],
    ids=["empty", "no rows", "an open quote", "a long cell", "columns", "a quote inside"],
)
def test_what_is_no_table_is_said_to_be_none(text: str) -> None:
    with pytest.raises(Malformed):
        table(text)


def test_groups_are_asked_together() -> None:
    sizes: list[int] = []

    def count(questions: Sequence[Asked]) -> list[Answer | LedgerError]:
        sizes.append(len(questions))
        return answer(questions)

    text = "number\n" + "1\n" * (TOGETHER + 3)
    assert len(list(answer_rows(io.StringIO(text), count))) == 3
    assert sizes == [TOGETHER, 3]
    assert sum(1 for _ in read_rows(io.StringIO(text))) == TOGETHER + 4


def test_the_archive_names_the_evidence_of_each_row() -> None:
    def prove(asked: Asked) -> bytes:
        if asked.number == "2":
            raise Refused("ambiguous")
        return asked.number.encode()

    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        text = io.StringIO("number\n1\n2\n\n=3\n")
        rows = read("".join(answer_rows(text, answer, archive, prove)))
        names = [row[-1] for row in rows[1:]]
        assert names == ["0000001.evidence.json", "", "0000003.evidence.json"]
        assert archive.namelist() == [names[0], names[2]]
