"""Mappings of a register that is shown as a whole again and again: numbers, changes, facts."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import Malformed
from producers.mapping import builtin, load_mapping, parse_mapping

KOREA = Path(__file__).parents[3] / "shared/data/korea_local_licences"
HEADER = ["code", "number", "name", "begun", "paused", "resumes", "over", "changed"]
DAY = {"calendar": ["iso", "yyyymmdd"]}


def mapping(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "format": "certledger mapping v1",
        "name": "clinics",
        "time_zone": "Asia/Seoul",
        "empty": ["1900-01-01"],
        "department": {"fixed": "clinics"},
        "type": {"fixed": "clinic"},
        "number": {"columns": ["code", "number"], "recoded": {"4641": "4640", "51": "47"}},
        "change": "event",
        "time": {"column": "begun", **DAY},
        "rows": "every-rule",
        "claims": {"code": "code"},
        "rules": [
            {
                "when": {"over": "present"},
                "event": "revoked",
                "revocation_kind": "deregistered",
                "time": {"column": "over", **DAY},
                "claims": {},
            },
            {"when": {"begun": "present"}, "event": "issued", "claims": {}},
            {
                "when": {"begun": "empty"},
                "event": "issued",
                "time": {"column": "changed"},
                "valid_from": {"fixed": "unknown"},
            },
            {
                "when": {"paused": "present"},
                "event": "suspended",
                "reason_code": "paused",
                "time": {"column": "paused", **DAY},
                "valid_until": {"column": "resumes", **DAY},
                "private": {"name": "name"},
            },
        ],
        "departments": [{"id": "clinics", "names": {"en": "Clinics"}}],
        "types": [
            {
                "code": "clinic",
                "names": {"en": "Clinic"},
                "grants": [{"departments": ["clinics"], "acts": "all"}],
            }
        ],
    }
    return {**value, **changes}


def run(row: Sequence[str], **changes: Any) -> list[dict[str, Any]]:
    made = parse_mapping(json.dumps(mapping(**changes)))
    return made.bind(HEADER).map(row, "the row")


ROW = ["4641", "4641-7", "Ann", "2001-02-03", "2020-05-01", "2020-06-30", "", "20210101123005"]


def test_a_recoded_authority_keeps_its_numbers() -> None:
    assert run(ROW)[0]["certificate_number"] == "4640/4640-7"
    assert run(["46411", "14641", *ROW[2:]])[0]["certificate_number"] == "46401/14641"
    assert run(["4640", "4640-7", *ROW[2:]])[0]["certificate_number"] == "4640/4640-7"


def test_what_an_event_says_tells_it_from_others() -> None:
    issued, suspended = run(ROW)
    later = run(["4641", "4641-7", "Ann", "20010203", "20200501", "20200731", "", "20240101000000"])
    assert later[0] == issued, "what did not change is a repeat, however the file writes its days"
    assert later[1]["change_id"] != suspended["change_id"]
    assert len({item["change_id"] for item in (issued, suspended)}) == 2
    assert run(ROW, change="row")[0]["change_id"] == "the row"


def test_the_issue_comes_first_and_the_rest_in_the_order_of_their_instants() -> None:
    closed = [*ROW[:6], "1999-01-01", ROW[7]]
    assert [item["event"] for item in run(closed)] == ["issued", "revoked", "suspended"]
    moments = {
        "rules": [
            {"event": "issued", "time": {"column": "begun"}},
            {"event": "expired", "time": {"column": "over"}},
            {"event": "renewed", "time": {"column": "changed"}},
        ]
    }
    row = [*ROW[:3], "2016-11-30T23:00:00Z", "", "", "2016-12-01T02:00:00+01:00"]
    made = run([*row, "2016-12-01T08:30:00+08:00"], **moments)
    assert [item["event"] for item in made] == ["issued", "renewed", "expired"]


def test_an_unknown_first_day_needs_no_time_of_its_own() -> None:
    issued = run([*ROW[:3], "1900-01-01", "", "", "", ROW[7]])[0]
    assert (issued["valid_from"], issued["time"]) == ("unknown", "2021-01-01T12:30:05+09:00")
    assert issued["claims"] == {"code": "4641"}


def test_facts_of_a_rule_go_in_place_of_the_mappings() -> None:
    issued, suspended = run(ROW)
    assert "claims" not in issued
    assert suspended["claims"] == {"code": "4641"}
    assert suspended["private"] == {"name": "Ann"}
    assert suspended["valid_until"] == date(2020, 6, 30)


@pytest.mark.parametrize("text", ["20211301000000", "2021010112300", "202101011230055", "2021-1-1"])
def test_no_moment(text: str) -> None:
    with pytest.raises(Malformed, match="column 'changed'"):
        run([*ROW[:3], "", "", "", "", text])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"change": "day"}, "change: row or event"),
        ({"number": {"columns": ["number"], "recoded": {}}}, "number.recoded: an object"),
        ({"number": {"columns": ["number"], "recoded": {"1": 2}}}, r"number\.recoded\.1: a text"),
        (
            {"number": {"columns": ["number"], "recoded": {"12": "3", "1": "4"}}},
            "two codes fit the same number",
        ),
        (
            {"number": {"columns": ["number"], "recoded": {"12": "13", "13": "4"}}},
            "two codes fit the same number",
        ),
        ({"claims": {"Code": "code"}}, "claims.Code: names are"),
        (
            {"rules": [{"event": "issued", "private": {"1": "name"}}]},
            r"rules\[0\]\.private\.1: names are",
        ),
    ],
)
def test_a_wrong_mapping_says_where(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        parse_mapping(json.dumps(mapping(**changes)))


@pytest.mark.skipif(not KOREA.exists(), reason=f"the registers are not here: {KOREA}")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("kr-animal-hospitals", "vet_hospital_2024-07.csv.gz"),
        ("kr-hospitals", "hospital_2020-09.csv.gz"),
        ("kr-tourist-pensions", "tourist_pension_2024-07.csv.gz"),
    ],
)
def test_every_row_is_a_certificate_of_its_own(name: str, file: str) -> None:
    assert name in builtin()
    with gzip.open(KOREA / file, "rt", encoding="utf-8", newline="") as text:
        header, *rows = csv.reader(text)
    binding = load_mapping(name).bind(header)
    numbers = {binding.map(row, "x")[0]["certificate_number"] for row in rows}
    assert len(numbers) == len(rows)
