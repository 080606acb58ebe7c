"""Three Korean registers, one of them in three snapshots: answers as by other code, in two times.

Rows are read here by hand, and what they come to is folded by `tests.slow_life`. A part of the
registers by default; `-m soak` takes the whole files.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deploy.embedded import postgres
from ledger.checking import check
from ledger.evidence import CertificateId
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.question import Question
from ledger.trust import parse_trust
from tests import slow_life
from tests.slow_life import Act, No

ROOT = Path(__file__).parents[2]
FOLDER = ROOT.parent / "shared" / "data" / "korea_local_licences"
SEOUL = ZoneInfo("Asia/Seoul")
IMPORTS = [  # (file, mapping, type, issuer), in the order in which a department would get them
    ("hospital_2020-09", "kr-hospitals", "kr-hospital", "kr-health"),
    ("vet_hospital_2022-02", "kr-animal-hospitals", "kr-animal-hospital", "kr-veterinary"),
    ("vet_hospital_2023-06", "kr-animal-hospitals", "kr-animal-hospital", "kr-veterinary"),
    ("vet_hospital_2024-07", "kr-animal-hospitals", "kr-animal-hospital", "kr-veterinary"),
    ("tourist_pension_2024-07", "kr-tourist-pensions", "kr-tourist-pension", "kr-tourism"),
]
OPERATING, PAUSED, CLOSED = "영업/정상", "휴업", "폐업"
KIND = {
    "말소": "deregistered",
    "직권폐업": "deregistered",
    "직권말소": "deregistered",
    "지정취소": "penalty",
    "등록취소": "penalty",
}
RECODED_2023 = range(4181000, 4352000, 10000)  # Gangwon: codes, not the numbers of certificates
RECODED_2024 = range(4641000, 4792000, 10000)  # Jeonbuk: both

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"no registers here: {FOLDER}")


def rows_of(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [{k: v.strip() for k, v in row.items()} for row in csv.DictReader(file)]


def number_of(row: dict[str, str]) -> str:
    code, number = row["개방자치단체코드"], row["관리번호"]
    if number.startswith("CDFI"):
        return f"{code}/{number}"
    if number[:7].isdigit() and int(number[:7]) in RECODED_2024:
        return number[:3] + "0" + number[4:]
    return number


def day_of(text: str) -> date | None:
    digits = text.replace("-", "")
    if digits in ("", "19000101"):
        return None
    if len(digits) == 5:
        return date(1899, 12, 30) + timedelta(days=int(digits))
    return date.fromisoformat(digits)


def offset(moment: datetime) -> str:
    seconds = (moment.utcoffset() or timedelta()).total_seconds()
    return f"+{int(seconds // 3600):02}:{int(seconds % 3600 // 60):02}"


def first(day: date) -> str:
    return f"{day}{offset(datetime(day.year, day.month, day.day, tzinfo=SEOUL))}"


def last(day: date) -> str:
    after = day + timedelta(days=1)
    return f"{day}{offset(datetime(after.year, after.month, after.day, tzinfo=SEOUL))}"


def at_midnight(day: date) -> str:
    return first(day)[:10] + "T00:00:00" + first(day)[10:]


def seen_at(text: str) -> str:
    digits = "".join(c for c in text.split(".")[0] if c.isdigit())
    moment = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=SEOUL)
    return moment.isoformat()


def acts_of(row: dict[str, str]) -> list[tuple[Act, Any]]:
    """The acts that a row tells of, each with the facts that go with it."""
    state, detail = row["영업상태명"], row["상세영업상태명"]
    begun, closed = day_of(row["인허가일자"]), day_of(row["폐업일자"])
    cancelled = day_of(row["인허가취소일자"])
    paused, resumes = day_of(row["휴업시작일자"]), day_of(row["휴업종료일자"])
    reopened, changed = day_of(row["재개업일자"]), seen_at(row["최종수정시점"])
    made: list[tuple[Act, Any]] = []

    def add(kind: str, time: str, facts: Any = None, **members: Any) -> None:
        made.append((Act(kind, "", "", time, **members), facts))

    if begun is None:
        add("issued", changed, valid_from="unknown")
    else:
        add("issued", at_midnight(begun), valid_from=first(begun))
    if paused is not None:
        ends = resumes if state != PAUSED else None
        until = None if ends is None else last(ends)
        stated = row["휴업종료일자"] if state == PAUSED else None
        add("suspended", at_midnight(paused), stated, valid_from=first(paused), valid_until=until)
        if reopened is not None:
            add("reinstated", at_midnight(reopened), valid_from=first(reopened))
        elif state == OPERATING:
            add("reinstated", changed)
    elif state == PAUSED:
        add("suspended", changed)
    over, kind = None, "deregistered"
    if state == CLOSED:
        over = closed
    elif detail in KIND:
        over, kind = cancelled or closed, KIND[detail]
    if over is not None:
        add("revoked", at_midnight(over), valid_from=first(over), revocation=kind)
    elif state == CLOSED or detail in KIND:
        add("revoked", changed, valid_from="unknown", revocation=kind)
    code = int(row["개방자치단체코드"])
    recoded = code in RECODED_2023 or code in RECODED_2024 or code == 5141000
    is_clinic = row["개방서비스명"] == "동물병원"
    updated = row["데이터갱신구분"] == "U"
    if state == OPERATING and (updated or (recoded and is_clinic)):
        facts = (row["개방자치단체코드"], row["관리번호"], row["사업장명"])
        add("amended", seen_at(row["데이터갱신일자"]), facts)
    return sorted(made, key=lambda m: (m[0].kind != "issued", slow_life.micro(m[0].time)))


@dataclass
class Told:
    """What has been imported: histories by the slow model, and the ledger that holds the same."""

    data: Path
    histories: dict[tuple[str, str, str], list[Act]] = field(default_factory=dict)
    known: list[tuple[int, dict[Any, int]]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    expected: list[dict[str, Any]] = field(default_factory=list)
    said: set[Any] = field(default_factory=set)
    last: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # rows by file

    def tell(self, rows: list[dict[str, str]], type_code: str, issuer: str) -> dict[str, Any]:
        """Add a snapshot; what its import must report."""
        report: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for row in rows:
            key = (type_code, issuer, number_of(row))
            history = self.histories.setdefault(key, [])
            for act, facts in acts_of(row):
                report["published"] += 1
                if (key, act, facts) in self.said:
                    report["admitted"] += 1  # said before: a repeat
                    continue
                made = Act(**{**vars(act), "id": f"{len(self.said)}:{len(history)}", "by": issuer})
                try:
                    history.append(slow_life.admit(history, made))
                except No as err:
                    refused[str(err)] += 1
                    continue
                report["admitted"] += 1
                self.said.add((key, act, facts))
        return {**report, "rows": len(rows), "unmapped": 0, "refused": dict(refused)}


def certledger(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *words, "--data", str(data)],
        cwd=data.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=560,
    )


def write_part(source: Path, target: Path) -> Path:
    """Every thirtieth certificate, and all that were ever closed for a time or cancelled."""
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    header, kept = rows[0], []
    for row in rows[1:]:
        value = dict(zip(header, row, strict=True))
        telling = any(value[name].strip() for name in ("휴업시작일자", "휴업종료일자"))
        telling = telling or value["영업상태명"] not in (OPERATING, CLOSED)
        telling = telling or day_of(value["인허가일자"]) is None
        if telling or zlib.crc32(number_of(value).encode()) % 30 == 0:
            kept.append(row)
    with gzip.open(target, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    return target


@pytest.fixture(scope="module", params=["part", pytest.param("whole", marks=pytest.mark.soak)])
def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    told = Told(tmp_path_factory.mktemp("korea") / "stack")
    up = certledger(told.data, "up", "--detach")
    assert up.returncode == 0, up.stderr
    for name, mapping, type_code, issuer in IMPORTS:
        file = FOLDER / f"{name}.csv.gz"
        if request.param == "part":
            file = write_part(file, told.data.parent / file.name)
        done = certledger(told.data, "import", str(file), "--mapping", mapping, "--wait", "--json")
        assert done.returncode == 0, done.stderr
        told.reports.append(json.loads(done.stdout))
        told.last[name] = rows_of(file)
        told.expected.append(told.tell(told.last[name], type_code, issuer))
        counts = {key: len(history) for key, history in told.histories.items()}
        told.known.append((time.time_ns() // 1000, counts))
    yield told
    certledger(told.data, "down")
    postgres.remove(told.data)


def test_every_row_is_accounted_for(told: Told) -> None:
    for report, expected in zip(told.reports, told.expected, strict=True):
        assert {name: report[name] for name in expected} == expected
        assert report["admitted"] + sum(report["refused"].values()) == report["published"]
    status = json.loads(certledger(told.data, "status", "--json").stdout)
    assert status["events"] == sum(len(history) for history in told.histories.values())
    assert status["certificates"] == len(told.histories)


def test_answers_at_random_days_known_at_random_imports(told: Told) -> None:
    drawn = random.Random(20261125)
    keys = sorted(told.histories)
    telling = [key for key in keys if len(told.histories[key]) > 2]
    chosen = drawn.choices(keys, k=500) + drawn.choices(telling, k=700)
    state = json.loads((told.data / "stack.json").read_text())
    trust = parse_trust((told.data / "trust.json").read_bytes())
    seen: Counter[str] = Counter()
    connection = connect(state["postgres"], "test")
    try:
        with Reader(connection).open() as view:
            for key in chosen:
                known, counts = drawn.choice(told.known)
                history = told.histories[key]
                edges = [slow_life.micro(act.time) for act in history]
                day = datetime(1990, 1, 1, tzinfo=SEOUL) + timedelta(days=drawn.randrange(12_700))
                at = drawn.choice([slow_life.micro(day.isoformat()), drawn.choice(edges)])
                now = time.time_ns() // 1000
                evidence = view.evidence(CertificateId(*key), Question(now, at, known))
                answer = check(evidence, trust, now)
                seen[answer.reason] += 1
                count = counts.get(key, 0)
                if not count:
                    assert answer.reason == "not-known-then", (key, known)
                    continue
                expected = slow_life.what_held(history[:count], at)
                got = (answer.answer, answer.reason)
                assert got == (expected.answer, expected.reason), (key, at, known)
                assert answer.found is not None
                assert answer.found.since == expected.since, (key, at, known)
    finally:
        connection.close()
    assert set(seen) >= {"in-force", "not-yet-valid", "suspended", "revoked-deregistered"}, seen
    assert set(seen) >= {"start-unknown", "not-known-then"}, seen


def test_nothing_is_valid_that_the_register_shows_otherwise(told: Told) -> None:
    state = json.loads((told.data / "stack.json").read_text())
    trust = parse_trust((told.data / "trust.json").read_bytes())
    drawn = random.Random(7)
    wrong: Counter[str] = Counter()
    connection = connect(state["postgres"], "test")
    try:
        with Reader(connection).open() as view:
            for name, _, type_code, issuer in (IMPORTS[0], IMPORTS[3], IMPORTS[4]):
                rows = {(type_code, issuer, number_of(r)): r for r in told.last[name]}
                for key in drawn.sample(sorted(rows), min(400, len(rows))):
                    now = time.time_ns() // 1000
                    evidence = view.evidence(CertificateId(*key), Question(now))
                    answer = check(evidence, trust, now)
                    if (rows[key]["영업상태명"] == OPERATING) != (answer.answer == "valid"):
                        wrong[answer.reason] += 1
    finally:
        connection.close()
    # A pause that disappeared from the register without a day is not taken for ended.
    assert set(wrong) <= {"suspended"}
    assert wrong["suspended"] <= 3


def test_an_authority_got_another_code_and_kept_its_certificates(told: Told) -> None:
    """No certificate is revoked or issued again because Jeonbuk became 4641000 and so on."""
    before, after = (
        {number_of(row): row for row in rows_of(FOLDER / f"vet_hospital_{name}.csv.gz")}
        for name in ("2023-06", "2024-07")
    )
    assert len(before.keys() - after.keys()) == 3
    moved = next(
        number
        for number, row in after.items()
        if number in before
        and row["관리번호"] != before[number]["관리번호"]
        and row["영업상태명"] == OPERATING
        and ("kr-animal-hospital", "kr-veterinary", number) in told.histories
    )
    printed = after[moved]["관리번호"]
    done = certledger(told.data, "verify", moved, "--json")
    assert json.loads(done.stdout)["answer"] == "valid"
    value = json.loads(certledger(told.data, "verify", printed, "--json").stdout)
    assert value["answer"] == "not-found"
    assert moved in [near["number"] for near in value["near_misses"]]


def test_fsck_is_clean(told: Told) -> None:
    done = certledger(told.data, "fsck", "--json")
    assert json.loads(done.stdout)["clean"], done.stdout[:2000]
