"""`certledger correct` against a real stack: mistaken imports undone, once, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import postgres
from deploy.environment import Environment
from deploy.stack_commands import status
from producers.config import load_publisher_config
from producers.publisher import Publisher
from tests.running_stack import wait_until

ROOT = Path(__file__).parents[2]
MAPPING: dict[str, Any] = {
    "format": "certledger mapping v1",
    "name": "pharmacies",
    "time_zone": "Europe/Rome",
    "department": {"column": "office"},
    "type": {"fixed": "pharmacy"},
    "number": {"columns": ["number"]},
    "time": {"column": "granted", "calendar": "iso"},
    "rows": "every-rule",
    "change": "event",
    "rules": [
        {
            "event": "issued",
            "valid_from": {"column": "granted"},
            "valid_until": {"column": "expires", "empty": "leave-out"},
        },
        {
            "when": {"withdrawn": "present"},
            "event": "revoked",
            "revocation_kind": "annulled",
            "time": {"column": "withdrawn", "calendar": "iso"},
        },
    ],
    "departments": [
        {"id": name, "names": {"en": name}, "time_zone": "Europe/Rome"}
        for name in ("north", "south")
    ],
    "types": [
        {
            "code": "pharmacy",
            "names": {"en": "Pharmacy"},
            "grants": [{"departments": ["north", "south"], "acts": "all"}],
        }
    ],
}
HEADER = "number,office,granted,expires,withdrawn"


class Stack:
    """The stack's folder, and commands in the folder above it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data.parent
        (self.folder / "mapping.json").write_text(json.dumps(MAPPING))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", *words, "--data", str(self.data)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def ask(self, *words: str) -> tuple[int, dict[str, Any]]:
        code, out, err = self.run(*words, "--json")
        assert out, err
        return code, json.loads(out)

    def write(self, name: str, *lines: str) -> str:
        (self.folder / name).write_text("\n".join(lines) + "\n")
        return name

    def bring(self, name: str, *rows: str) -> dict[str, Any]:
        self.write(name, HEADER, *rows)
        code, report = self.ask("import", name, "--mapping", "mapping.json", "--wait")
        assert code == 0
        return report

    def events(self) -> int:
        return int(status(Environment(self.data))["events"])

    def says(self, number: str, *words: str) -> str:
        return str(self.ask("verify", number, *words)[1]["reason"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("correct") / "stack"
    stack = Stack(folder)
    try:
        code, _, err = stack.run("up", "--detach")
        assert code == 0, err
        stack.bring(
            "right.csv",
            "P-1,north,2020-01-01,2030-12-31,",
            "P-2,north,2020-01-01,2021-12-31,",
            "P-3,south,2020-01-01,,2024-05-01",
            "P-4,south,2020-01-01,,2024-05-01",
        )
        yield stack
        assert json.loads(stack.run("fsck", "--json")[1])["clean"]
    finally:
        stack.run("down")
        postgres.remove(folder)


def test_a_mistaken_import_is_voided_whole(stack: Stack) -> None:
    rows = [f"W-{n},{'north' if n % 2 else 'south'},2021-01-01,,2024-05-0{n}" for n in range(1, 9)]
    # One row is right and was known before: the mistaken import only repeats it.
    stack.bring("mistake.csv", "P-1,north,2020-01-01,2030-12-31,", *rows)
    before = stack.events()
    time.sleep(0.1)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    assert stack.says("W-1") == "revoked-annulled"
    words = ("correct", "--import", "mistake.csv", "--mapping", "mapping.json", "--reason", "wrong")
    code, report = stack.ask(*words, "--dry-run")
    assert (code, report["published"], report["unusable"]) == (0, 16, [])
    assert stack.events() == before
    time.sleep(1.1)
    code, out, err = stack.run(*words)
    assert code == 0, err
    assert "16 corrections published, 16 admitted" in out
    assert "1 more events of the import" in out
    assert stack.events() == before + 16
    assert stack.says("W-1") == "voided"
    assert stack.says("W-1", "--known-at", moment, "--at", "2024-01-01") == "in-force"
    assert stack.says("P-1") == "in-force"
    code, report = stack.ask(*words)
    assert (code, report["made_before"], report["published"], report["left"]) == (0, 16, 0, 1)
    assert stack.events() == before + 16


def test_an_import_that_is_not_over_is_not_voided(stack: Stack) -> None:
    stack.bring("half.csv", "H-1,north,2021-01-01,,", "H-2,north,2021-01-01,,")
    journal = max((stack.data / "imports").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    words = ("correct", "--import", "half.csv", "--mapping", "mapping.json", "--reason", "wrong")
    code, _, err = stack.run(*words)
    assert code == 2
    assert "1 events of this import have no outcome yet" in err
    assert stack.says("H-1") == "in-force"


def test_a_sheet_voids_and_restates(stack: Stack) -> None:
    event_id = stack.ask("history", "P-4")[1]["events"][1]["id"]
    sheet = stack.write(
        "wrong.csv",
        "event_id,event,certificate_type_code,issuing_authority_code,certificate_number,"
        "correction,valid_until,reason_code",
        ",issued,pharmacy,north,P-2,restate,2031-12-31,typing-error",
        ",revoked,pharmacy,south, Ｐ－３ ,void,,wrong-pharmacy",
        f"{event_id},,,,,void,,wrong-pharmacy",
    )
    assert (stack.says("P-2"), stack.says("P-3")) == ("expired", "revoked-annulled")
    code, report = stack.ask("correct", "--file", sheet)
    assert (code, report["published"], report["admitted"]) == (0, 3, 3), report
    assert {stack.says(number) for number in ("P-2", "P-3", "P-4")} == {"in-force"}
    events = stack.ask("history", "P-2")[1]["events"]
    assert [(e["event"], e.get("valid_until")) for e in events] == [
        ("issued", "2021-12-31+01:00"),
        ("corrected", "2031-12-31+01:00"),
    ]
    assert events[0]["restated"]
    # The same corrections in another sheet are the same corrections.
    again = stack.write("again.csv", (stack.folder / sheet).read_text())
    code, report = stack.ask("correct", "--file", again)
    assert (code, report["made_before"], report["published"]) == (0, 3, 0)


def test_nothing_is_published_while_a_row_cannot_be_used(stack: Stack) -> None:
    stack.bring("more.csv", "M-1,north,2022-01-01,,", "M-2,north,2022-01-01,,2023-01-01")
    before = stack.events()
    sheet = stack.write(
        "bad.csv",
        "certificate_type_code,issuing_authority_code,certificate_number,event,correction,"
        "valid_until,reason_code",
        "pharmacy,north,M-1,issued,void,,wrong-file",
        "pharmacy,north,M-9,issued,void,,wrong-file",
        "pharmacy,north,M-1,revoked,void,,wrong-file",
        "pharmacy,north,M-1,issued,void,,said-twice",
        "pharmacy,north,M-2,issued,void,,wrong-file",
        "pharmacy,north,M-2,revoked,restate,2024-01-01,wrong-file",
        "pharmacy,north,M-1,issued,undo,,wrong-file",
    )
    code, report = stack.ask("correct", "--file", sheet)
    assert (code, report["published"]) == (1, 0)
    said = {item["line"]: item["why"] for item in report["unusable"]}
    assert "no certificate 'M-9'" in said[3]
    assert "no event revoked" in said[4]
    assert "line 2 names the same event" in said[5]
    assert "never issued" in said[6]  # its revocation would stand alone
    assert "states no last day" in said[7]
    assert "one of void, restate" in said[8]
    assert stack.events() == before
    code, _, err = stack.run("correct", "--file", sheet, "--dry-run")
    assert code == 1
    assert "line 3: no certificate 'M-9'" in err
    mapped = ("--mapping", "mapping.json")
    for words, why in (
        (("correct", "--file", "none.csv"), "No such file"),
        (("correct", "--import", sheet, *mapped, "--reason", "x"), "knows of no import"),
        (("correct", "--file", sheet, "--reason", "x"), "go with --import"),
        (("correct", "--import", sheet, *mapped), "a --reason"),
    ):
        code, _, err = stack.run(*words)
        assert (code, why in err) == (2, True), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_kill_loses_and_doubles_nothing(stack: Stack, number: signal.Signals) -> None:
    count = 3000
    name = f"large-{number.value}.csv"
    stack.bring(name, *(f"{number.value}-{n},north,2022-01-01,," for n in range(count)))
    before = stack.events()
    words = ("correct", "--import", name, "--mapping", "mapping.json", "--reason", "wrong-file")
    process = stack.start(*words)
    wait_until(lambda: stack.events() > before or process.poll() is not None, 60)
    process.send_signal(number)
    process.communicate(timeout=60)
    code, report = stack.ask(*words)
    assert code == 0, report
    assert report["made_before"] + report["admitted"] == count
    assert stack.events() == before + count
    assert stack.says(f"{number.value}-7") == "voided"


def test_a_stolen_key_s_events_are_confirmed_or_corrected(stack: Stack) -> None:
    stack.bring("before.csv", "S-1,north,2022-01-01,,")
    time.sleep(1)
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    time.sleep(1)
    stack.bring("since.csv", "S-2,north,2022-01-01,,", "S-3,north,2022-01-01,,")
    fill(stack, "S-1")
    keys = json.loads(stack.run("department", "list", "--json")[1])
    (north,) = (each for each in keys if each["id"] == "north")
    (old,) = (key["id"] for key in north["keys"] if key["role"] == "bundle")
    assert stack.run("key", "rotate", "north")[0] == 0
    code, out, err = stack.run("key", "revoke", "north", old, "--since", moment)
    assert code == 0, err
    assert "is doubted" in out
    wait_until(lambda: stack.says("S-2") == "key-compromised")
    assert stack.says("S-1") == "key-compromised"
    code, out, err = stack.run("key", "doubtful", "north", "--rewind")
    rows = out.splitlines()
    assert [row.split(",")[1:6] for row in rows[1:]] == [
        ["suspended", "pharmacy", "north", "S-1", "rewind"],
        ["issued", "pharmacy", "north", "S-2", "rewind"],
        ["issued", "pharmacy", "north", "S-3", "rewind"],
    ]
    void = stack.write("void.csv", rows[0], rows[1].replace("rewind", "void"))
    code, report = stack.ask("correct", "--file", void)
    assert (code, "at most 256" in report["unusable"][0]["why"]) == (1, True), report
    code, report = stack.ask("correct", "--file", stack.write("rewind.csv", *rows[:2]))
    assert (code, report["admitted"]) == (0, 1), report
    assert stack.says("S-1") == "in-force"
    paper = "S-1.evidence.json"
    assert stack.run("evidence", "S-1", "-o", paper)[0] == 0
    assert (stack.folder / paper).stat().st_size < 150_000
    assert stack.run("verify", paper, "--trust", str(stack.data / "trust.json"))[0] == 0
    code, out, _ = stack.run("key", "doubtful", "north")
    rows = out.splitlines()
    assert [row.split(",")[1:5] for row in rows[1:]] == [
        ["issued", "pharmacy", "north", "S-2"],
        ["issued", "pharmacy", "north", "S-3"],
    ]
    sheet = stack.write("doubtful.csv", rows[0], rows[1], rows[2].replace("confirm", "void"))
    code, report = stack.ask("correct", "--file", sheet)
    assert (code, report["admitted"]) == (0, 2), report
    assert (stack.says("S-2"), stack.says("S-3")) == ("in-force", "voided")
    assert stack.run("key", "doubtful", "north")[1].splitlines() == rows[:1]
    code, report = stack.ask("correct", "--file", stack.write("again.csv", *rows[:2]))
    assert (code, report["made_before"]) == (0, 1), report
    code, _, err = stack.run("key", "revoke", "north", old, "--since", "1")
    assert (code, "is there from entry" in err) == (2, True), err
    assert stack.run("fsck")[0] == 0


def fill(stack: Stack, number: str) -> None:
    """What a thief does with the key of north: more events than a correction may fold."""
    kafka = json.loads((stack.data / "stack.json").read_text())["kafka"]
    with Publisher(load_publisher_config(stack.data, "north"), kafka) as publisher:
        done = []
        for _ in range(130):
            done.append(publisher.suspended("pharmacy", number, reason="theft"))
            done.append(publisher.reinstated("pharmacy", number, reason="theft"))
        assert {each.result(60).code for each in done} == {"admitted"}


def test_an_office_that_relied_hears_of_a_correction(stack: Stack) -> None:
    stack.bring("relied.csv", "R-1,north,2020-01-01,,", "R-2,north,2020-01-01,,")
    service = ("service", "add", "open-shop", "--name", "en=Open a shop", "--office", "south")
    assert stack.run(*service)[0] == 0
    assert json.loads(stack.run("service", "list", "--json")[1])[0]["code"] == "open-shop"
    paper = "R-1.evidence.json"
    assert stack.run("evidence", "R-1", "-o", paper)[0] == 0
    rely = ("rely", "open-shop", "2026-000123")
    words = ("--office", "south", "--use-for", "licence-application", "--clerk", "ann")
    code, receipt = stack.ask(*rely, paper, *words)
    assert (code, receipt["code"]) == (0, "admitted")
    assert stack.run(*rely, paper, "--office", "south", "--check")[0] == 0
    other = ("rely", "open-shop", "2026-7", paper, "--office", "south", "--check")
    assert "does not rely" in stack.run(*other)[2]
    sheet = ("case-sheet", "open-shop", "2026-000123", paper, "--office", "south", "-o", "s.html")
    assert stack.run(*sheet)[0] == 0
    page = (stack.folder / "s.html").read_text()
    assert "R-1" in page
    assert receipt["act"] in page
    assert sha256((stack.folder / paper).read_bytes()).hexdigest() in page
    assert stack.run("rely", "open-shop", "7", paper, *words[2:], "--office", "north")[0] == 1
    cases = stack.data / "departments" / "south" / "cases.ndjson"
    assert cases.stat().st_mode & 0o777 == 0o600
    assert "2026-000123" in cases.read_text()
    stack.write(
        "wrong.csv",
        "certificate_type_code,issuing_authority_code,certificate_number,event,correction,reason_code",
        "pharmacy,north,R-1,issued,void,wrong-person",
        "pharmacy,north,R-2,issued,void,wrong-person",
    )
    assert stack.run("correct", "--file", "wrong.csv")[0] == 0
    code, out, err = stack.run("recalls", "--office", "south", "--json")
    assert code == 0, err
    (told,) = [json.loads(line) for line in out.splitlines()]
    assert told["business_code"] == "2026-000123"
    assert told["certificate"]["certificate_number"] == "R-1"
    assert told["change"] == {"event": "corrected", "reason": "wrong-person"}
    assert stack.run("recalls", "--office", "north", "--json")[1] == ""
    # the paper on file is of a checkpoint before: admitted, and told at once
    assert stack.ask("rely", "open-shop", "2026-000124", paper, *words)[1]["code"] == "admitted"
    recalls = ("recalls", "--office", "south", "--json")
    wait_until(lambda: len(stack.run(*recalls)[1].splitlines()) > 1)
    told_now = stack.run(*recalls)[1].splitlines()
    assert [json.loads(line)["business_code"] for line in told_now] == [
        "2026-000123",
        "2026-000124",
    ]
    code, receipt = stack.ask(*rely, "--office", "south", "--end")
    assert (code, receipt["code"]) == (0, "admitted")


def test_a_department_gets_more_lanes_and_fewer(stack: Stack) -> None:
    rows = [f"L-{n},north,2022-01-01,," for n in range(40)]
    stack.bring("lanes.csv", *rows)
    sheet = ["certificate_type_code,issuing_authority_code,certificate_number,event,correction,"]
    sheet[0] += "valid_until,reason_code"
    for lanes, year in ((4, 2031), (2, 2032), (3, 2033)):
        code, out, err = stack.run("department", "lanes", "north", str(lanes))
        assert (code, f"{lanes} lanes, from log index" in out) == (0, True), err
        assert "as before" in stack.run("department", "lanes", "north", str(lanes))[1]
        said = [f"pharmacy,north,L-{n},issued,restate,{year}-12-31,typing-error" for n in range(40)]
        code, report = stack.ask("correct", "--file", stack.write(f"{year}.csv", *sheet, *said))
        assert (code, report["admitted"]) == (0, 40), report
        stack.bring(f"more-{year}.csv", f"M-{year},north,2022-01-01,,")
    assert {stack.says(f"L-{n}") for n in range(0, 40, 8)} == {"in-force"}
    code, history = stack.ask("history", "L-7")
    assert [e.get("valid_until", "")[:4] for e in history["events"]] == ["", "2031", "2032", "2033"]
    (north,) = (
        each
        for each in json.loads(stack.run("department", "list", "--json")[1])
        if each["id"] == "north"
    )
    assert [each["lanes"] for each in north["former_lanes"]] == [1, 4, 2]
    code, out, err = stack.run("fsck")
    assert code == 0, out + err


def test_a_key_is_recovered_only_after_its_delay(stack: Stack) -> None:
    recover = ("key", "recover", "north", "--role", "bundle")
    code, out, err = stack.run(*recover)
    assert (code, "on the same command registers it" in out) == (0, True), err
    code, _, err = stack.run(*recover)
    assert (code, "recovery-not-due" in err or "announced it from" in err) == (2, True), err
    assert "bundle   recovery from" in stack.run("department", "list")[1]
    wait_until(lambda: "recoveries" in str(stack.ask("verify", "L-1")[1]["checks"][1]["values"]))
    assert stack.run("department", "silence-limit", "north", "86400")[0] == 0  # it stands on
    assert "bundle   recovery from" in stack.run("department", "list")[1]
    code, out, err = stack.run("key", "object", "north", "--role", "bundle")
    assert (code, "nothing is lost" in out) == (0, True), err
    assert stack.run("key", "object", "north", "--role", "bundle")[0] == 2
    assert "recovery from" not in stack.run("department", "list")[1]
    assert stack.run("key", "recover", "north", "--role", "bundle", "--delay-days", "6")[0] == 2
    assert stack.run("fsck")[0] == 0
