"""The real register of the Taiwan FDA, whole: every row accounted for, answers as by other code."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import postgres
from ledger.checking import check
from ledger.evidence import CertificateId
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.question import Question, parse_when
from ledger.trust import parse_trust

ROOT = Path(__file__).parents[2]
FILE = ROOT.parent / "shared" / "data" / "taiwan_fda_licences" / "events.csv.gz"
ZONE = "+08:00"
AUTHORITIES = {
    "TFDA": "tfda",
    "衛福部": "mohw",
    "臺北市": "taipei",
    "新北市": "new-taipei",
    "臺中市": "taichung",
    "高雄市": "kaohsiung",
    "臺南市": "tainan",
    "桃園縣": "taoyuan",
}

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=f"the register is not here: {FILE}")


def certledger(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *words, "--data", str(data)],
        cwd=data.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=560,
    )


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    data = tmp_path_factory.mktemp("taiwan") / "stack"
    up = certledger(data, "up", "--detach")
    assert up.returncode == 0, up.stderr
    done = certledger(data, "import", str(FILE), "--mapping", "taiwan-fda", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    yield data, json.loads(done.stdout)
    certledger(data, "down")
    postgres.remove(data)


def rows() -> list[dict[str, str]]:
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fold(history: list[dict[str, str]], at: datetime) -> str:
    """What the register says of a certificate at an instant: written by hand, from its README and
    the rules of the design's page 1 (D7), without the ledger's code.
    """
    state, versions = "", []  # (start or None when unknown, end or None, observed)
    acts: list[tuple[datetime, str]] = []
    for row in history:
        seen, event = datetime.fromisoformat(row["observed_at"]), row["event"]
        end = last_instant(row["expiry_date"])
        if event in ("INITIAL", "ISSUED", "FIRST_SEEN", "BACKFILLED") and state == "":
            start = first_instant(row["issue_date"])
            if start is not None and end is not None and start >= end:
                continue  # refused: its last day lies before its first
            state = "valid"
            versions.append((start, end, seen))
        elif event in ("RENEWED", "RENEWED_AFTER_GAP") and state in ("valid", "expired"):
            state = "valid"
            versions.append((later(seen, versions[-1][0]), end, seen))
            acts.append((seen, "renewed"))
        elif event in (
            "SHORTENED",
            "AMENDED",
            "STATUS:核可->併証",
            "STATUS:併証->核可",
        ) and state in (
            "valid",
            "suspended",
        ):
            versions.append((later(seen, versions[-1][0]), end or versions[-1][1], seen))
        elif event == "REMOVED_AFTER_EXPIRY" and state in ("valid", "suspended"):
            state = "expired"
            acts.append((seen, "expired"))
        elif event == "REMOVED_BEFORE_EXPIRY" and state == "valid":
            state = "suspended"
            acts.append((seen, "suspended"))
        elif event == "REINSTATED" and state == "suspended":
            state = "valid"
            acts.append((seen, "reinstated"))
        elif event.startswith("STATUS:核可->") and state in ("valid", "suspended", "expired"):
            state = "revoked"
            acts.append((seen, "revoked"))
    if not versions:
        return "not-found"
    begun = [v for v in versions if v[0] is None or v[0] <= at]
    if not begun:
        return "not-valid"
    start, end, seen = max(
        enumerate(begun), key=lambda v: (v[1][0] or datetime.min.replace(tzinfo=at.tzinfo), v[0])
    )[1]
    now = "valid"
    for when, act in acts:
        if when <= at and now != "revoked":
            now = {"renewed": "valid" if now == "expired" else now, "reinstated": "valid"}.get(
                act, act
            )
    if start is None and at < seen:
        return "cannot-decide"  # even beyond its end: whether it had begun then nobody says
    if now != "valid" or (end is not None and end <= at):
        return "not-valid"
    return "valid"


def first_instant(day: str) -> datetime | None:
    return datetime.fromisoformat(f"{day}T00:00:00{ZONE}") if day else None


def last_instant(day: str) -> datetime | None:
    start = first_instant(day)
    return None if start is None else start + timedelta(days=1)


def later(seen: datetime, start: datetime | None) -> datetime:
    return seen if start is None else max(seen, start)


def test_every_row_is_accounted_for(imported: tuple[Path, dict[str, Any]]) -> None:
    data, report = imported
    assert report["rows"] == report["published"] == 142_773
    assert report["unmapped"] == 0
    assert report["admitted"] + sum(report["refused"].values()) == report["rows"]
    assert set(report["refused"]) == {"invalid-transition", "dates-reversed", "not-issued"}
    status = json.loads(certledger(data, "status", "--json").stdout)
    assert status["events"] == report["admitted"]
    assert status["refused"] == report["refused"]
    assert status["lag"] == 0


def test_answers_are_those_of_a_fold_by_other_code(imported: tuple[Path, dict[str, Any]]) -> None:
    data, _ = imported
    histories: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows():
        key = (row["register"], AUTHORITIES[row["authority"]], row["certificate_number"].strip())
        histories.setdefault(key, []).append(row)
    drawn = random.Random(20261124)
    long = [key for key, history in histories.items() if len(history) > 2]
    chosen = drawn.sample(sorted(histories), 600) + drawn.sample(sorted(long), 900)
    state = json.loads((data / "stack.json").read_text())
    trust = parse_trust((data / "trust.json").read_bytes())
    connection = connect(state["postgres"], "test")
    wrong = []
    seen: dict[str, int] = {}
    try:
        reader = Reader(connection)
        with reader.open() as view:
            for key in chosen:
                day = datetime(2013, 1, 1) + timedelta(days=drawn.randrange(2200))
                text = f"{day:%Y-%m-%d}T{drawn.randrange(24):02}:00:00{ZONE}"
                expected = fold(histories[key], datetime.fromisoformat(text))
                said = answer(view, key, text, trust)
                seen[said] = seen.get(said, 0) + 1
                if said != expected:
                    wrong.append((key, text, said, expected))
    finally:
        connection.close()
    assert not wrong, wrong[:5]
    assert {"valid", "not-valid", "cannot-decide"} <= set(seen), seen


def answer(view: Any, key: tuple[str, str, str], at: str, trust: Any) -> str:
    type_code, issuer, number = key
    found = view.find(number, type_code, issuer).matches
    if not found:
        return "not-found"
    assert found == (CertificateId(type_code, issuer, found[0].number),)
    moment = parse_when(at, None)
    now = parse_when("2026-11-24T00:00:00Z", None)
    evidence = view.evidence(found[0], Question(asked_at=now, at=moment))
    return str(check(evidence, trust, now).answer)


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [
        ("衛部粧廣字10507075", ["--at", "2016-12-01"], 0),
        ("衛部粧廣字10507075", [], 1),
        ("衛部粧廣字10507075", ["--at", "2016-07-17"], 1),
        ("衛部粧廣字99999999", [], 3),
        ("GMP0001 / 體外肢體義肢用組件(未滅菌)等乙項。", ["--at", "2014-01-01"], 4),
        ("GMP0001 / 體外肢體義肢用組件(未滅菌)等乙項。", ["--at", "2015-01-01"], 0),
    ],
)
def test_a_clerks_questions(
    imported: tuple[Path, dict[str, Any]], number: str, words: list[str], code: int
) -> None:
    done = certledger(imported[0], "verify", number, *words)
    assert done.returncode == code, done.stdout + done.stderr


def test_fsck_is_clean(imported: tuple[Path, dict[str, Any]]) -> None:
    done = certledger(imported[0], "fsck", "--json")
    assert json.loads(done.stdout)["clean"], done.stdout[:2000]


def test_a_second_import_changes_nothing(imported: tuple[Path, dict[str, Any]]) -> None:
    data, _ = imported
    before = json.loads(certledger(data, "status", "--json").stdout)
    small = data.parent / "again.csv"
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        small.write_text("".join(line for _, line in zip(range(2001), file, strict=False)))
    done = certledger(data, "import", str(small), "--mapping", "taiwan-fda", "--wait", "--json")
    again = json.loads(done.stdout)
    assert again["admitted"] + sum(again["refused"].values()) == again["rows"] == 2000
    after = json.loads(certledger(data, "status", "--json").stdout)
    assert (after["certificates"], after["events"]) == (before["certificates"], before["events"])
