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
COSIGNATURES = Path(__file__).parent / "vectors" / "cosignatures" / "go"
FSCK = "github.com/transparency-dev/tessera/cmd/fsck"
PROMTOOL = "github.com/prometheus/prometheus/cmd/promtool"
LITEWITNESS = "filippo.io/torchwood/cmd/litewitness"
_SECONDS = 600


@functools.cache
def outside_test() -> Path:
    """Our Go test over outside libraries, compiled: it takes -test.run and -test.v."""
    return _built("outside.test", "test", "-c", ".")


@functools.cache
def tessera_fsck() -> Path:
    """Tessera's fsck, at the version of tests/go/go.mod."""
    return _built("fsck", "build", FSCK)


@functools.cache
def cosignatures() -> Path:
    """Checks and makes cosignatures of both kinds; its modules are newer than those of tests/go."""
    return _built("cosignatures", "build", ".", module=COSIGNATURES)


@functools.cache
def litewitness(version: str = "v0.9.0") -> Path:
    """Torchwood's witness."""
    go = _find_go()
    target = _cache() / version / "litewitness"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "GOBIN": str(target.parent), "GOFLAGS": "-mod=mod"}
        done = _go(go, environ, target.parent, "install", f"{LITEWITNESS}@{version}")
        if done.returncode:
            pytest.skip(f"litewitness cannot be had here: {done.stderr[-300:]}")
    return target


@functools.cache
def promtool(version: str = "v0.316.0") -> Path:
    """Prometheus' own checker of rules, without its many ways to find machines."""
    go = _find_go()
    target = _cache() / version / "promtool"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "GOBIN": str(target.parent), "GOFLAGS": "-mod=mod"}
        words = ("install", "-tags=remove_all_sd", f"{PROMTOOL}@{version}")
        done = _go(go, environ, target.parent, *words)
        if done.returncode:
            pytest.skip(f"promtool cannot be had here: {done.stderr[-300:]}")
    return target


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


def _find_go() -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: there is no outside code to hold ours against")
    return go


def _built(name: str, verb: str, *what: str, module: Path = MODULE) -> Path:
    go = _find_go()
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    target = _cache() / _fingerprint(go, environ, module) / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched = _go(go, environ, module, "mod", "download")
        if fetched.returncode:
            pytest.skip(f"Go's modules cannot be had here: {fetched.stderr[-300:]}")
        draft = target.with_name(f"{name}.{os.getpid()}")
        built = _go(
            go, environ, module, verb, "-trimpath", "-buildvcs=false", "-o", str(draft), *what
        )
        assert built.returncode == 0, built.stderr
        draft.replace(target)
    return target


def _go(
    go: str, environ: dict[str, str], module: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [go, *words], cwd=module, env=environ, capture_output=True, text=True, timeout=_SECONDS
    )


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "certledger" / "go"


def _fingerprint(go: str, environ: dict[str, str], module: Path) -> str:
    hasher = sha256(_go(go, environ, module, "version").stdout.encode())
    for path in sorted(module.iterdir()):
        hasher.update(path.name.encode() + b"\0" + sha256(path.read_bytes()).digest())
    return hasher.hexdigest()[:16]
