"""What `certledger status` says about a ledger that cannot publish."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.stack_commands import _print

REPORT: dict[str, Any] = {
    "pid": 1,
    "running": True,
    "ready": True,
    "data_dir": "town",
    "kafka": "127.0.0.1:1",
    "postgres": "postgresql://127.0.0.1:2/x",
    "programs": {},
    "url": None,
    "origin": "ledger.example",
    "tree_size": None,
    "signed_size": 2,
    "quorum": False,
    "witnesses": [{"name": "w", "size": None, "cosigned_at": None, "problem": "unknown-log"}],
    "certificates": 0,
    "events": 0,
    "refused": {},
    "lag": 0,
    "disk_full": None,
    "departments": [],
}


def test_a_first_checkpoint_without_its_quorum(capsys: pytest.CaptureFixture[str]) -> None:
    _print(REPORT)
    said = capsys.readouterr().out
    assert "NOT PUBLISHED 2 leaves" in said
    assert "w: unknown-log" in said


def test_what_is_on_its_way_is_no_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    _print({**REPORT, "quorum": True})
    assert "NOT PUBLISHED" not in capsys.readouterr().out


def test_a_program_that_ended_and_runs_again(capsys: pytest.CaptureFixture[str]) -> None:
    program = {"pid": 7, "ready": True, "starts": 3, "last_exit": "it ended with exit code 70"}
    _print({**REPORT, "programs": {"sequencer": program}})
    said = capsys.readouterr().out
    assert "started 3 times; it ended with exit code 70, see logs/sequencer.log" in said
