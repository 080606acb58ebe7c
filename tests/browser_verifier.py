"""The browser's verifier under node: lists of tasks in, what each gives out (tests/browser)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from ledger.errors import LedgerError

HERE = Path(__file__).resolve().parent
VERIFIER = HERE.parent / "consumers" / "http" / "page" / "verifier"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")


def encode(data: bytes) -> str:
    """Bytes as tasks have them."""
    return base64.b64encode(data).decode()


def outcome(examine: Callable[[], Any]) -> dict[str, Any]:
    """What Python says, in the form of a task's result."""
    try:
        return {"result": json.loads(json.dumps(examine()))}
    except LedgerError as err:
        return {"kind": type(err).__name__, "code": err.code, "message": err.message}


class Node:
    """A node process with the verifier; `subtle` says whether it has WebCrypto."""

    def __init__(self, subtle: bool = True) -> None:
        command = [str(NODE), str(HERE / "browser" / "run_tasks.mjs"), str(VERIFIER)]
        if not subtle:
            command.append("--without-subtle")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def perform(self, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What each task gives: `result`, or `kind`, `code` and `message` of what was refused."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(list(tasks)) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the verifier ended: see its stderr"
        return list(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
