"""The README's commands and its SDK example, as written, against a real stack."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import postgres

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXPECTED = {
    "verify": {0, 1},  # a question's exit code is its answer
    "dead-letter": {0, 3},  # there are none here
    "status": {0, 3},  # a new certificate gets its place in a status list after a moment
}


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the README's fenced blocks that a reader is meant to run."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
    return [(lang, text) for lang, text in found if lang == "python" or ".venv/bin/" in text]


def commands(text: str) -> list[str]:
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    yield tmp_path
    run("down --data town", tmp_path)
    postgres.remove(tmp_path / "town")


def run(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return shell(f"{sys.executable} -m deploy.cli {words}", folder)


def shell(line: str, folder: Path, url: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "URL": url, "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environ, capture_output=True, text=True, timeout=300
    )


def ask(url: str) -> dict[str, Any]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=60) as answer:
        return dict(json.load(answer))


def test_the_readme_runs_as_written(folder: Path) -> None:
    status: dict[str, Any] | None = None
    for language, text in blocks():
        if language == "python":
            (folder / "example.py").write_text(text)
            lines = [f"{sys.executable} example.py"]
            assert len(text.splitlines()) <= 13, "the SDK example is to stay short"
        else:
            lines = commands(text)
        for line in lines:
            url = "" if status is None else status["url"]
            done = shell(line.replace("python3 ", ".venv/bin/python "), folder, url)
            verb = re.search(r"certledger ([\w-]+)", line)
            allowed = EXPECTED.get(verb[1] if verb else "", {0})
            assert done.returncode in allowed, f"{line}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            if language == "python":
                assert "admitted" in done.stdout, done.stdout
            if verb and verb[1] == "up":
                status = json.loads(run("status --json --data town", folder).stdout)
                assert status["running"]
                assert {"vkey", "tree_size", "certificates", "refused", "lag"} <= set(status)
                assert status["log_url"] == f"{status['url']}/log"
                assert ask(f"{status['url']}/readyz")["origin"] == status["origin"]
    assert status is not None
    assert not json.loads(run("status --json --data town", folder).stdout)["running"]
