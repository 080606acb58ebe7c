"""`python -m tests.crashing sequencer|worker`: the real program, which dies where a test says.

The file `crash` in the data folder names a step and how often it is passed before the kill; it is
gone when the kill has happened, so that the next start lives.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ledger.postgres.store import Store
from streams import sequencer, worker


def step(name: str) -> None:
    """Die here when it is this step's turn."""
    path = Path(os.environ["CERTLEDGER_DATA"]) / "crash"
    try:
        wanted, _, left = path.read_text().partition(":")
    except FileNotFoundError:
        return
    if wanted != name:
        return
    if int(left) > 1:
        path.write_text(f"{name}:{int(left) - 1}")
        return
    path.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def run_worker() -> None:
    """A worker that may die inside the apply transaction, and right after its commit."""
    move, apply = Store._move_intake, Store.apply

    def before_commit(*args: Any) -> None:
        move(*args)
        step("before commit")

    def after_commit(*args: Any) -> Any:
        done = apply(*args)
        step("after commit")
        return done

    Store._move_intake = before_commit  # type: ignore[method-assign,assignment]
    Store.apply = after_commit  # type: ignore[method-assign,assignment]
    worker.main()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        run_worker()
    else:
        sequencer.main(step)
