"""Programs in Go that nobody here wrote, built once from tests/go into the user's cache folder.

A program whose sources, modules and compiler are the same is not built again and needs no network.
Without Go, or without its modules, tests that need it are skipped and say why.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

MODULE = Path(__file__).with_name("go")
FSCK = "github.com/transparency-dev/tessera/cmd/fsck"
_SECONDS = 600


@functools.cache
def outside_test() -> Path:
    """Our Go test over outside libraries, compiled: it takes -test.run and -test.v."""
    return _built("outside.test", "test", "-c", ".")


@functools.cache
def tessera_fsck() -> Path:
    """Tessera's fsck, at the version of tests/go/go.mod."""
    return _built("fsck", "build", FSCK)


def run(program: Path, *arguments: str, **environ: str) -> str:
    """What a program prints, both streams together; it has a minute."""
    done = subprocess.run(
        [program, *arguments],
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout


def _built(name: str, verb: str, *what: str) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: no outside code to read the log with")
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    target = _cache() / _fingerprint(go, environ) / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched = _go(go, environ, "mod", "download")
        if fetched.returncode:
            pytest.skip(f"Go's modules cannot be had here: {fetched.stderr[-300:]}")
        draft = target.with_name(f"{name}.{os.getpid()}")
        built = _go(go, environ, verb, "-trimpath", "-buildvcs=false", "-o", str(draft), *what)
        assert built.returncode == 0, built.stderr
        draft.replace(target)
    return target


def _go(go: str, environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [go, *words], cwd=MODULE, env=environ, capture_output=True, text=True, timeout=_SECONDS
    )


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "certledger" / "go"


def _fingerprint(go: str, environ: dict[str, str]) -> str:
    hasher = sha256(_go(go, environ, "version").stdout.encode())
    for path in sorted(MODULE.iterdir()):
        hasher.update(path.name.encode() + b"\0" + sha256(path.read_bytes()).digest())
    return hasher.hexdigest()[:16]
