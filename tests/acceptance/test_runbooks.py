"""The drills in deploy/runbooks, as written, against a real stack with three witnesses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.witness.config import load_cosigners
from deploy.embedded import postgres
from deploy.environment import Environment
from deploy.stack_commands import status
from ledger import canonical
from ledger.checking import check_file
from ledger.note import format_note, parse_note
from ledger.trust import parse_trust
from ledger.verdict import Answer
from tests.running_stack import wait_until

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "deploy" / "runbooks"
PUBLISH = """
import json, sys
from datetime import date
from pathlib import Path
from producers.config import load_publisher_config
from producers.publisher import Publisher

data = Path("town")
kafka = json.loads((data / "stack.json").read_text())["kafka"]
number = sys.argv[1] if len(sys.argv) > 1 else "川A-000124"
with Publisher(load_publisher_config(data, "transport"), kafka) as publisher:
    receipt = publisher.issued(type_code="taxi", number=number, valid_from=date(2026, 1, 1))
    assert receipt.result(120).admitted
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a running stack in `town`: a department, a type, one certificate."""
    folder = tmp_path_factory.mktemp("runbooks")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "publish.py").write_text(PUBLISH)
    tool = ".venv/bin/certledger"
    try:
        for line in (
            f"{tool} up --detach --witnesses 3 --quorum 2 --data town",
            f"{tool} department add transport --name zh=交通运输局 --data town",
            f"{tool} type add taxi --name zh=道路运输证 --grant transport:issued --data town",
            ".venv/bin/python publish.py 川A-000123",
        ):
            shell(line, folder)
        yield folder
    finally:
        shell(f"{tool} down --data town", folder)
        postgres.remove(folder / "town")


def shell(line: str, folder: Path, code: int = 0) -> str:
    line = line.replace(".venv/bin/python ", f"{sys.executable} ")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def drill(name: str, folder: Path) -> None:
    """Run every command of a runbook; `# exit N` behind one says how it must end."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S):
        for line in block.splitlines():
            found = re.search(r"# exit (\d)$", line)
            shell(line, folder, int(found[1]) if found else 0)
            if "rotate-ledger" in line or "publish.py" in line:
                settle(folder)


def settle(folder: Path) -> None:
    """Wait until everything signed is published."""
    wait_for(folder, lambda status: status["tree_size"] == status["signed_size"])


def wait_for(folder: Path, is_so: Callable[[dict[str, Any]], object]) -> None:
    """Wait until something is so in what `certledger status` would say."""
    env = Environment(folder / "town")
    wait_until(lambda: bool(is_so(status(env))), 90)


def stack_status(folder: Path) -> dict[str, Any]:
    return dict(json.loads(shell(".venv/bin/certledger status --json --data town", folder)))


def evidence(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / name).read_text()))


def verdict(folder: Path, data: bytes) -> Answer:
    trust = parse_trust((folder / "town" / "trust.json").read_bytes())
    return check_file(data, trust, time.time_ns() // 1000)


def test_the_quorum_is_in_the_trust_file_and_in_the_evidence(folder: Path) -> None:
    shell(".venv/bin/certledger evidence 川A-000123 -o w.evidence.json --data town", folder)
    found = evidence(folder, "w.evidence.json")
    note = parse_note(found["checkpoint"].encode())
    assert (folder / "w.evidence.json").stat().st_size < 14_000
    answer = verdict(folder, (folder / "w.evidence.json").read_bytes())
    assert answer.answer == "valid"
    check = next(c for c in answer.checks if c.name == "checkpoint")
    assert len(check.values["witnesses"]) >= 2
    trust = json.loads((folder / "town" / "trust.json").read_text())
    assert [len(key["vkey"]) > 1000 for key in trust["checkpoint_keys"]] == [False, True]
    (quorum,) = trust["quorums"]
    assert "group witnesses 2" in quorum["policy"]
    assert "http" not in quorum["policy"]

    origin = check.values["origin"]
    ledger = [line for line in note.signatures if line.name == origin]
    theirs = [line for line in note.signatures if line.name != origin]
    for kept in (ledger, [*ledger, theirs[0]], [ledger[0], *theirs], [ledger[1], *theirs]):
        stripped = {**found, "checkpoint": format_note(note.text, kept).decode()}
        answer = verdict(folder, canonical.format(stripped))
        assert answer.reason == "evidence-refused"
        check = next(c for c in answer.checks if c.name == "checkpoint")
        assert check.result == "failed"


def test_one_witness_keeps_its_state_outside(folder: Path) -> None:
    inside, outside = folder / "town" / "witnesses", folder / "town-witness-3"
    assert sorted(path.name for path in inside.iterdir()) == ["1", "2", "3"]
    assert (inside / "3").resolve() == outside
    for witness in (inside / "1", inside / "2", outside):
        assert list((witness / "state").glob("*.checkpoint"))
        assert load_cosigners(witness)
        assert witness.stat().st_mode & 0o077 == 0


def test_status_says_when_the_quorum_is_missing_and_only_then(folder: Path) -> None:
    programs = stack_status(folder)["programs"]
    pids = [programs[f"witness-{number}"]["pid"] for number in (1, 2)]
    publisher = None
    try:
        os.kill(pids[0], signal.SIGSTOP)
        shell(".venv/bin/python publish.py 川A-000201", folder)  # two of three are a quorum
        wait_for(folder, lambda status: status["witnesses"][0]["problem"])
        assert stack_status(folder)["quorum"]
        assert "NOT PUBLISHED" not in shell(".venv/bin/certledger status --data town", folder)
        os.kill(pids[1], signal.SIGSTOP)
        publisher = subprocess.Popen(
            [sys.executable, "publish.py", "川A-000202"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        wait_for(folder, lambda status: not status["quorum"])
        assert "NOT PUBLISHED" in shell(".venv/bin/certledger status --data town", folder)
        assert publisher.poll() is None  # its receipt waits for the quorum
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        if publisher is not None:
            assert publisher.wait(180) == 0
    wait_for(folder, lambda status: status["quorum"])


def test_rotating_the_ledger_s_key(folder: Path) -> None:
    drill("rotate-ledger-key", folder)
    before, after = (evidence(folder, f"{n}.evidence.json") for n in ("before", "after"))
    named = [
        {line.key_hash for line in parse_note(e["checkpoint"].encode()).signatures[:2]}
        for e in (before, after)
    ]
    assert not named[0] & named[1]
    trust = json.loads((folder / "town" / "trust.json").read_text())
    ranges = [(key["from_size"], key["until_size"]) for key in trust["checkpoint_keys"]]
    size = ranges[0][1]
    assert ranges == [(0, size)] * 2 + [(size, None)] * 2
    # A department's publisher takes receipts under the new keys.
    shell(".venv/bin/python publish.py 川A-000125", folder)
    shell(".venv/bin/certledger verify 川A-000125 --data town", folder)
    assert not list((folder / "town" / "keys").glob("*.old"))
    witnesses_know_the_present_keys_only(folder, trust)


def witnesses_know_the_present_keys_only(folder: Path, trust: dict[str, Any]) -> None:
    for number in ("1", "2", "3"):
        logs = (folder / "town" / "witnesses" / number / "logs").read_text()
        for key in trust["checkpoint_keys"]:
            assert (key["vkey"] in logs) == (key["until_size"] is None)


def test_revoking_a_department_s_key(folder: Path) -> None:
    drill("revoke-department-key", folder)


def test_starting_with_other_witnesses(folder: Path) -> None:
    drill("signing-stops", folder)
    shell(".venv/bin/python publish.py 川A-000126", folder)


def test_an_older_folder_does_not_sign(folder: Path) -> None:
    """The whole data folder comes back from a copy: the witness outside it remembers."""
    tool = ".venv/bin/certledger"
    town, copy = folder / "town", folder / "copy"
    shell(f"{tool} down --data town", folder)
    home = json.loads((town / "postgres" / "home.json").read_text())["folder"]
    places = [(town, copy), *([(Path(home), folder / "copy-postgres")] if home else [])]
    for place, kept in places:
        shell(f"cp -a {place} {kept}", folder)
    shell(f"{tool} up --detach --data town", folder)  # with its witnesses, though not asked to
    status = json.loads(shell(f"{tool} status --json --data town", folder))
    assert {"witness-1", "witness-2", "witness-3"} <= status["programs"].keys()
    trust = json.loads((town / "trust.json").read_text())
    assert len(trust["quorums"]) == 1
    witnesses_know_the_present_keys_only(folder, trust)
    shell(".venv/bin/python publish.py 川A-000127", folder)
    shell(f"{tool} down --data town", folder)
    for place, kept in places:
        shutil.rmtree(place)
        shell(f"cp -a {kept} {place}", folder)
    shell(f"{tool} up --detach --data town || true", folder)  # a refusal may come right after
    log = town / "logs" / "sequencer.log"
    wait_until(lambda: "going-back: the witness" in log.read_text(), 90)
