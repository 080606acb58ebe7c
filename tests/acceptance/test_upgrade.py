"""The data folder of the previous tagged version under this version.

Formats and tables may change without migration until the first tag, so before that nothing is
promised and nothing is tried. CERTLEDGER_PREVIOUS names another commit to start from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded import postgres
from deploy.stack import Stack

ROOT = Path(__file__).parents[2]


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def certledger(code: Path, *words: str) -> str:
    """What a version's command prints; it must go well."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", *words],
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def previous(tmp_path: Path) -> Iterator[Path]:
    """The previous version's code, from this repository's history."""
    wanted = os.environ.get("CERTLEDGER_PREVIOUS") or git(
        "describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD"
    )
    if not wanted:
        pytest.skip("there is no tagged version (or no history) to upgrade from")
    code = tmp_path / "previous"
    assert git("worktree", "add", "--detach", str(code), wanted) is not None
    assert (code / "deploy").is_dir(), f"no commit {wanted}"
    try:
        yield code
    finally:
        git("worktree", "remove", "--force", str(code))


def test_the_previous_versions_ledger_goes_on(previous: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    try:
        certledger(previous, "up", "--detach", "--data", str(data))
        certledger(previous, "simulate", "--events", "300", "--data", str(data))
        was = json.loads(certledger(previous, "status", "--json", "--data", str(data)))
        certledger(previous, "down", "--data", str(data))
        certledger(ROOT, "up", "--detach", "--workers", "2", "--data", str(data))
        certledger(ROOT, "simulate", "--events", "600", "--data", str(data))
        now = json.loads(certledger(ROOT, "status", "--json", "--data", str(data)))
        assert now["origin"] == was["origin"]
        assert now["vkey"] == was["vkey"]
        assert now["events"] > was["events"] > 0
        assert now["tree_size"] > was["tree_size"]
        assert json.loads(certledger(ROOT, "fsck", "--json", "--data", str(data)))["clean"]
    finally:
        Stack(data).down()
        postgres.remove(data)
