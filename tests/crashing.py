"""`python -m tests.crashing sequencer|worker|relay|follower`: the real program, which dies where a
test says and, the follower, lives by the clock that a test says.

The file `crash` in the data folder names a step and how often it is passed before the kill; it is
gone when the kill has happened, so that the next start lives. The file `freeze` names a step at
which the process is stopped in the same way, not killed. The file `clock` has the seconds by
which the follower's clock is ahead, the file `disk` the bytes that a worker finds free.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ledger import times
from ledger.postgres.following import Following
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.store import Store
from streams import disk, follower, relay, sequencer, worker


def step(name: str) -> None:
    """Die or freeze here when it is this step's turn."""
    for file, number in (("crash", signal.SIGKILL), ("freeze", signal.SIGSTOP)):
        _meet(name, Path(os.environ["CERTLEDGER_DATA"]) / file, number)


def _meet(name: str, path: Path, number: signal.Signals) -> None:
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
    os.kill(os.getpid(), number)


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
    read = disk.read_disk

    def said(folder: Path) -> tuple[int, int]:
        free, total = read(folder)
        with contextlib.suppress(FileNotFoundError):
            free = int((Path(os.environ["CERTLEDGER_DATA"]) / "disk").read_text())
        return free, total

    disk.read_disk = said
    worker.main()


def run_relay() -> None:
    """A relay that may die between what it sent and what it remembers of it."""
    move = Sequencing.move_relay

    def after_sending(store: Sequencing, name: str, position: int) -> None:
        step(f"{name} sent")
        move(store, name, position)

    Sequencing.move_relay = after_sending  # type: ignore[method-assign]
    relay.main()


def run_follower() -> None:
    """A follower that may die inside its transaction and right after its commit."""
    move, take = Following._move, Following._take

    def before_commit(*args: Any) -> None:
        move(*args)
        step("follower writes")

    def after_commit(*args: Any) -> None:
        take(*args)
        step("follower wrote")

    Following._move = before_commit  # type: ignore[method-assign]
    Following._take = after_commit  # type: ignore[method-assign]
    follower.main(_moved_clock)


def _moved_clock() -> int:
    try:
        ahead = int((Path(os.environ["CERTLEDGER_DATA"]) / "clock").read_text() or 0)
    except FileNotFoundError:
        ahead = 0
    return follower.system_clock() + ahead * times.SECOND


if __name__ == "__main__":
    {
        "worker": run_worker,
        "sequencer": lambda: sequencer.main(step),
        "relay": run_relay,
        "follower": run_follower,
    }[sys.argv[1]]()
