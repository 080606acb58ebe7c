"""What a witness remembers: per log the largest tree that it cosigned, on disk before it signs."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import canonical
from ledger.errors import LedgerError, ProofError, Unavailable
from ledger.witnessing import Seen

FORM = "certledger witness state v1"
_MEMBERS = {"format", "origin", "size", "root", "seconds"}
_MAX = 16 * 1024

Step = Callable[[str], None]
"""Told the name of each point at which a crash leaves something else behind; tests crash there."""


def no_step(name: str) -> None:
    """What happens between the steps in real life: nothing."""


class State:
    """A folder with one file per log, and the last cosigned checkpoint beside it for monitors.

    Any number of threads and processes may use it at once.
    """

    def __init__(self, folder: Path, step: Step = no_step) -> None:
        """Makes the folder where there is none."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._step = step
        self._turn = threading.Lock()

    def advance(self, origin: str, check: Callable[[Seen], None], now: Seen, seconds: int) -> int:
        """Make `now` the largest tree seen of a log, when `check` does not raise for the present
        one: the time to sign with, which never goes back.

        Checked and stored in one turn, and on disk when this returns: of two at once, one sees the
        other's. A crash before that leaves the old, a crash after it a tree that was never
        cosigned, which may be asked for again.
        """
        with self._turns():
            seen, last = self._read(origin)
            check(seen)
            seconds = max(seconds, last)
            self._step("checked")
            value = {
                "format": FORM,
                "origin": origin,
                "size": now.size,
                "root": now.root.hex(),
                "seconds": seconds,
            }
            self._write(_name(origin), canonical.format(value))
        self._step("stored")
        return seconds

    def show(self, origin: str, size: int, note: bytes) -> None:
        """Keep the cosigned checkpoint to be read by monitors, unless a larger tree came since."""
        with self._turns():
            if self._read(origin)[0].size == size:
                self._write(f"{_name(origin)}.checkpoint", note)

    def shown(self, name: str) -> bytes | None:
        """The cosigned checkpoint that was kept last of the log whose origin has this SHA-256, in
        hex; None without one.
        """
        if len(name) != 64 or set(name) - set("0123456789abcdef"):
            return None
        return self._bytes(f"{name}.checkpoint")

    def _read(self, origin: str) -> tuple[Seen, int]:
        """(largest tree, time of its cosignature); a damaged file is no fresh one: ProofError."""
        data = self._bytes(_name(origin))
        if data is None:
            return Seen(), 0
        try:
            value: Any = canonical.parse(data, _MAX)
            if (
                type(value) is not dict
                or value.keys() != _MEMBERS
                or (value["format"], value["origin"]) != (FORM, origin)
                or not all(type(value[n]) is int and value[n] >= 0 for n in ("size", "seconds"))
                or len(bytes.fromhex(value["root"])) != 32
            ):
                raise ValueError("not of its form")
        except (LedgerError, ValueError, TypeError) as err:
            raise ProofError("stored-bytes-damaged", f"the state of {origin[:200]!r}") from err
        return Seen(value["size"], bytes.fromhex(value["root"])), value["seconds"]

    def _bytes(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as err:
            raise Unavailable("unreachable", f"the witness's state: {err.strerror}") from err

    def _write(self, name: str, data: bytes) -> None:
        """A whole file or the old one, on disk before this returns, its name too."""
        draft = self._folder / f"{name}.new"
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._folder / name)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as err:
            raise Unavailable("unreachable", f"the witness's state: {err.strerror}") from err

    @contextmanager
    def _turns(self) -> Iterator[None]:
        """One at a time, among threads and among processes."""
        with self._turn, (self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _name(origin: str) -> str:
    return sha256(origin.encode()).hexdigest()
