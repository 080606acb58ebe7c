"""Tessera's POSIX log beside ours: its conformance server under its own `hammer`, same entry size.

It validates nothing: an entry is any bytes. Both programs are built from the modules that bench/go
names; without Go, or without its modules, this part is left out and says why.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.note import MemorySigner

from .processes import cost

PROGRAMS = {
    "posix": "github.com/transparency-dev/tessera/cmd/conformance/posix",
    "hammer": "github.com/transparency-dev/tessera/internal/hammer",
}
NAME = "localhost/tessera"
WARM_SECONDS = 2.0
_MODULE = Path(__file__).with_name("go")
_BUILD_SECONDS = 600


class Missing(Exception):
    """Why this part cannot be measured here."""


@dataclass(frozen=True, slots=True)
class Result:
    """Entries per second under the checkpoint, and processor microseconds per entry of both."""

    writers: int
    rate: float
    server: float
    load: float


def build() -> Path:
    """The folder with both programs, in the user's cache; Missing where they cannot be built."""
    go = shutil.which("go")
    if go is None:
        raise Missing("Go is not installed")
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (
        (Path(base) if base else Path.home() / ".cache") / "certledger" / "go" / "tessera-1.0.4"
    )
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    for name, package in PROGRAMS.items():
        if not (folder / name).exists():
            draft = folder / f"{name}.{os.getpid()}"
            done = subprocess.run(
                [go, "build", "-trimpath", "-buildvcs=false", "-o", str(draft), package],
                cwd=_MODULE,
                env=environ,
                capture_output=True,
                text=True,
                timeout=_BUILD_SECONDS,
                check=False,
            )
            if done.returncode:
                raise Missing(f"{package} cannot be built here: {done.stderr[-300:]}")
            draft.replace(folder / name)
    return folder


def run(
    entry_bytes: int, writers: Sequence[int], seconds: float, say: Callable[[str], None]
) -> list[Result]:
    """One run per number of writers, each on a log of its own."""
    programs = build()
    found = []
    for count in writers:
        found.append(_run(programs, entry_bytes, count, seconds))
        say(f"{count} writers: {found[-1].rate:.0f} entries/s")
    return found


def _run(programs: Path, entry_bytes: int, writers: int, seconds: float) -> Result:
    seed = secrets.token_bytes(32)
    key = MemorySigner.from_seed(NAME, seed).key
    private = base64.b64encode(b"\x01" + seed).decode()
    with tempfile.TemporaryDirectory(prefix="certledger-bench-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        log = Path(folder) / "log"
        environ = {
            **os.environ,
            "LOG_PRIVATE_KEY": f"PRIVATE+KEY+{NAME}+{key.key_hash.hex()}+{private}",
            "NO_PROXY": "127.0.0.1",
        }
        server = _start(
            programs / "posix", environ, f"--storage_dir={log}", f"--listen=127.0.0.1:{port}"
        )
        try:
            _wait_for(log / "checkpoint", server)
            hammer = _start(
                programs / "hammer",
                environ,
                f"--log_public_key={key}",
                f"--log_url=http://127.0.0.1:{port}/",
                f"--leaf_min_size={entry_bytes}",
                f"--num_writers={writers}",
                *("--max_write_ops=1000000", "--max_read_ops=0", "--dup_chance=0"),
                *("--num_readers_full=0", "--num_readers_random=0", "--show_ui=false"),
            )
            try:
                time.sleep(WARM_SECONDS)
                begin, first = time.monotonic(), _size(log)
                before = [cost(p.pid).seconds for p in (server, hammer)]
                time.sleep(seconds)
                spent, entries = time.monotonic() - begin, _size(log) - first
                after = [cost(p.pid).seconds for p in (server, hammer)]
            finally:
                _end(hammer)
        finally:
            _end(server)
        if entries <= 0:
            raise AssertionError("Tessera's log did not grow")
        own = [(b - a) / entries * 1e6 for a, b in zip(before, after, strict=True)]
        return Result(writers, entries / spent, *own)


def _start(program: Path, environ: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [program, *arguments],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        if server.poll() is not None or time.monotonic() > end:
            raise AssertionError("Tessera's server did not start")
        time.sleep(0.05)


def _size(log: Path) -> int:
    """Leaves under the published checkpoint."""
    return int((log / "checkpoint").read_text().split("\n")[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
