"""Mappings: strict to read, exact about rows; the Taiwan FDA's over its whole file."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.errors import Malformed
from producers import calendars
from producers.importing import Register, dry_run
from producers.lines import format_day
from producers.mapping import builtin, load_mapping, parse_mapping

_TAIWAN = Path(__file__).parents[3] / "shared/data/taiwan_fda_licences/events.csv.gz"


def mapping(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "format": "certledger mapping v1",
        "name": "clinics",
        "time_zone": "Asia/Seoul",
        "department": {"column": "시", "table": {"서울": "seoul", "부산": "busan"}},
        "type": {"fixed": "clinic"},
        "number": {"columns": ["구", "번호"], "separator": "-"},
        "holder": {"scheme": "kr-name", "column": "이름"},
        "claims": {"name": "이름"},
        "time": {"column": "허가", "calendar": ["iso", "yyyymmdd"]},
        "rows": "every-rule",
        "rules": [
            {
                "event": "issued",
                "valid_from": {
                    "column": "허가",
                    "calendar": ["iso", "yyyymmdd"],
                    "empty": "unknown",
                },
            },
            {
                "when": {"휴업": "present"},
                "event": "suspended",
                "reason_code": "closed-for-now",
                "time": {"column": "휴업", "calendar": "iso"},
                "valid_until": {"column": "휴업끝", "empty": "leave-out"},
            },
            {
                "when": {"폐업": "present"},
                "event": "revoked",
                "revocation_kind": "deregistered",
                "time": {"column": "폐업", "calendar": ["iso", "excel"]},
            },
        ],
        "departments": [
            {"id": "seoul", "names": {"ko": "서울"}},
            {"id": "busan", "names": {"ko": "부산"}},
        ],
        "types": [
            {
                "code": "clinic",
                "names": {"ko": "의원"},
                "grants": [{"departments": ["seoul", "busan"], "acts": "all"}],
            }
        ],
    }
    return {**value, **changes}


HEADER = ["시", "구", "번호", "이름", "허가", "휴업", "휴업끝", "폐업"]


def run(row: Sequence[str], **changes: Any) -> list[dict[str, Any]]:
    made = parse_mapping(json.dumps(mapping(**changes)))
    return made.bind(HEADER).map(row, "change")


def test_a_row_may_be_a_whole_life_in_order_of_time() -> None:
    row = ["서울", "중구", "007", " 행복의원 ", "20200301", "2021-05-01", "", "44562"]
    issued, suspended, revoked = run(row)
    assert issued["certificate_number"] == "중구-007"
    assert issued["department"] == "seoul"
    assert issued["valid_from"] == date(2020, 3, 1)
    assert issued["time"] == "2020-03-01T00:00:00+09:00"
    assert issued["holder"] == {"scheme": "kr-name", "number": "행복의원"}
    assert "valid_until" not in suspended
    assert "holder" not in suspended
    assert (revoked["event"], revoked["time"]) == ("revoked", "2022-01-01T00:00:00+09:00")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["대구", "중구", "1", "x", "20200301", "", "", ""], "unknown department '대구'"),
        (["", "중구", "1", "x", "20200301", "", "", ""], "column '시' is empty"),
        (["서울", "", "", "x", "20200301", "", "", ""], "no number"),
        (["서울", "중구", "1", "x", "", "", "", ""], "column '허가' is empty"),
        (["서울", "중구", "1", "x", "2020-3-1", "", "", ""], "no day like"),
        (["서울", "중구", "1"], "3 cells, but the header has 8"),
    ],
)
def test_a_row_that_maps_to_nothing_says_why(row: list[str], reason: str) -> None:
    with pytest.raises(Malformed, match=reason) as caught:
        run(row)
    assert caught.value.code == "unmapped-row"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "surprise: unknown member"),
        ({"number": {"columns": ["번호"], "spacing": "keep"}}, r"number\.spacing: unknown member"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: no time zone"),
        ({"encoding": "klingon"}, "encoding: no encoding"),
        ({"encoding": "\udcff"}, "encoding: no encoding"),
        ({"encoding": "utf-8\0"}, "encoding: no encoding"),
        ({"department": {"fixed": "jeju"}}, "department: 'jeju' is not among"),
        ({"rules": []}, "rules: at least one"),
        ({"rules": [{"event": "born"}]}, r"rules\[0\]\.event: one of"),
        ({"rules": [{"event": "suspended"}]}, r"rules\[0\]: suspended needs reason_code"),
        (
            {"rules": [{"event": "expired", "valid_until": {"fixed": "open"}}]},
            r"rules\[0\]\.valid_until: expired does not take it",
        ),
        (
            {"rules": [{"event": "issued", "valid_from": {"column": "허가", "calendar": "maya"}}]},
            r"rules\[0\]\.valid_from\.calendar: 'maya' is none of",
        ),
        ({"time": {"column": "허가", "fixed": "x"}}, "time: either a column or fixed"),
        (
            {
                "types": [
                    {
                        "code": "clinic",
                        "names": {"ko": "x"},
                        "grants": [{"departments": ["jeju"], "acts": "all"}],
                    }
                ]
            },
            "'jeju' is not declared",
        ),
        ({"claims": {"Name": "이름"}}, r"claims\.Name"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_path(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=message) as caught:
        parse_mapping(json.dumps(mapping(**changes)))
    assert caught.value.code == "malformed-mapping"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1,"a":2}', "[" * 100_000, "null"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_mapping(text)


def test_a_file_without_a_needed_column_is_refused() -> None:
    with pytest.raises(Malformed, match=r"no column .*'번호'"):
        parse_mapping(json.dumps(mapping())).bind(["시", "구"])


@pytest.mark.parametrize(
    ("calendar", "text", "day"),
    [
        ("iso", "2018-07-02", date(2018, 7, 2)),
        ("yyyymmdd", "20180702", date(2018, 7, 2)),
        ("roc", "1070702", date(2018, 7, 2)),
        ("roc", "990702", date(2010, 7, 2)),
        ("roc", "107/7/2", date(2018, 7, 2)),
        ("roc", "民國107年7月2日", date(2018, 7, 2)),
        ("ymd", "2018年7月2日", date(2018, 7, 2)),
        ("dmy", "02/07/2018", date(2018, 7, 2)),
        ("mdy", "7/2/2018", date(2018, 7, 2)),
        ("excel", "38862", date(2006, 5, 25)),
    ],
)
def test_calendars(calendar: str, text: str, day: date) -> None:
    assert calendars.parse_day(text, (calendar,)) == day


@pytest.mark.parametrize(
    ("calendar", "text"),
    [
        ("iso", "20180702"),
        ("iso", "2018-02-30"),
        ("roc", "2018/7/2"),
        ("yyyymmdd", "2018٠702"),
        ("excel", "9999999"),
        ("ymd", "18/7/2"),
    ],
)
def test_what_is_no_day(calendar: str, text: str) -> None:
    with pytest.raises(Malformed):
        calendars.parse_day(text, (calendar,))


def test_days_get_the_offset_in_force() -> None:
    paris = ZoneInfo("Europe/Paris")
    assert format_day(date(2026, 1, 1), paris) == "2026-01-01+01:00"
    # summer time begins in the night to 29 March: a last day is over at 24:00 of the old offset
    assert format_day(date(2026, 3, 28), paris, last=True) == "2026-03-28+01:00"
    assert format_day(date(2026, 3, 29), paris) == "2026-03-29+01:00"
    assert format_day(date(2026, 3, 29), paris, last=True) == "2026-03-29+02:00"
    assert format_day("2026-03-29-05:00", paris) == "2026-03-29-05:00"
    assert format_day("unknown", paris) == "unknown"


def test_equal_rows_are_told_apart_and_mended_ones_keep_their_number(tmp_path: Path) -> None:
    made = parse_mapping(json.dumps(mapping()))
    line = "서울,중구,1,x,20200301,,,"
    path = tmp_path / "a.csv"
    path.write_text("\n".join([",".join(HEADER), line, line, line.replace("1", "2")]) + "\n")
    register = Register(path, made)
    register.scan()
    rows = list(register.rows())
    assert [(row.line, row.occurrence) for row in rows] == [(2, 0), (3, 1), (4, 0)]
    assert len({row.change for row in rows}) == 3
    mended = tmp_path / "mended.csv"
    with mended.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "occurrence", "reason", *HEADER])
        writer.writerow([3, 1, "because, so", *rows[1].cells])
    again = Register(mended, made)
    again.scan()
    assert [row.change for row in again.rows()] == [rows[1].change]


def test_every_built_in_mapping_is_good() -> None:
    assert "taiwan-fda" in builtin()
    for name in builtin():
        load_mapping(name)


@pytest.mark.skipif(not _TAIWAN.exists(), reason="../shared/data is not here")
def test_every_row_of_the_taiwan_registers_maps(tmp_path: Path) -> None:
    report, kinds = dry_run(Register(_TAIWAN, load_mapping("taiwan-fda")), tmp_path)
    assert (report.rows, report.published, report.unmapped) == (142_773, 142_773, 0)
    assert kinds == Counter(
        issued=82_452,
        expired=40_859,
        amended=9_419,
        renewed=8_055,
        suspended=1_445,
        reinstated=532,
        revoked=11,
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not _TAIWAN.exists(), reason="../shared/data is not here")
def test_one_row_of_the_taiwan_registers_word_for_word() -> None:
    binding = load_mapping("taiwan-fda")
    with gzip.open(_TAIWAN, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        bound = binding.bind(next(reader))
        row = next(r for r in reader if r[3] == "衛部粧廣字10507075" and r[4] == "ISSUED")
    plain = bound.map(row, "c")[0]
    assert plain["event"] == "issued"
    assert plain["certificate_type_code"] == row[2]
    assert plain["time"] == plain["recordedtime"] == row[0]
    assert plain["valid_from"] == date.fromisoformat(row[5])
