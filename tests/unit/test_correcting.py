"""Sheets of corrections: strict to read, with the line of every row that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.errors import Malformed
from producers.correcting import Wanted, read_wanted
from producers.importing import Sheet

HEADER = (
    "event_id,event,certificate_type_code,issuing_authority_code,certificate_number,"
    "correction,valid_from,valid_until,reason_code"
)
ID = "0123456789abcdef" * 2


def read(folder: Path, *lines: str) -> tuple[list[Wanted], list[tuple[int, str]]]:
    path = folder / "wrong.csv"
    path.write_text("\n".join(lines) + "\n")
    sheet = Sheet(path)
    sheet.scan()
    return read_wanted(sheet)


def test_events_are_named_by_id_or_by_certificate_and_kind(tmp_path: Path) -> None:
    wanted, unusable = read(
        tmp_path,
        HEADER,
        f"{ID},,,,,void,,,wrong-file",
        ",revoked,taxi,transport,川A-1,void,,,wrong-file",
        "",
        ",issued,taxi,transport,川A-2,restate,2020-01-01,open,typing-error",
    )
    assert unusable == []
    assert [w.place for w in wanted] == [2, 3, 5]
    assert wanted[0].event_id == ID
    assert wanted[0].certificate is None
    assert (wanted[1].kind, wanted[1].certificate) == ("revoked", ("taxi", "transport", "川A-1"))
    assert wanted[2].days == {"valid_from": "2020-01-01", "valid_until": "open"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (",,,,,void,,,x", "name the event"),
        (",revoked,taxi,,川A-1,void,,,x", "name the event"),
        (f"{ID},,taxi,,,void,,,x", "together"),
        (",burnt,taxi,transport,1,void,,,x", "event is one of"),
        (f"{ID},,,,,undo,,,x", "one of void, restate"),
        (f"{ID},,,,,,,,x", "one of void, restate"),
        (f"{ID},,,,,void,2020-01-01,,x", "no other correction does"),
        (f"{ID},,,,,restate,,,x", "restate says"),
        (f"{ID},,,,,void,,,x,more", "10 cells, but the header has 9"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(tmp_path: Path, row: str, why: str) -> None:
    wanted, unusable = read(tmp_path, HEADER, f"{ID},,,,,void,,,wrong-file", row)
    assert len(wanted) == 1
    ((line, said),) = unusable
    assert line == 3
    assert why in said


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (f"{HEADER},comment", "unknown columns.*comment"),
        (f"{HEADER},reason_code", "columns twice: reason_code"),
        ("event_id,correction", "lacks columns: reason_code"),
    ],
)
def test_a_sheet_of_another_form_is_refused_whole(tmp_path: Path, header: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        read(tmp_path, header, ",,,,,,,,,")


def test_a_broken_sheet_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    path.write_bytes(HEADER.encode() + b"\n" + ID.encode() + b",,,,\xff,void,,,x\n")
    with pytest.raises(Malformed, match="line 2"):
        Sheet(path).scan()
