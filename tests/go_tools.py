"""Programs in Go that nobody here wrote: built once into a cache, skipped where they cannot be."""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

BUILD_SECONDS = 300


def build_go(folder: Path, name: str) -> Path:
    """The program in a Go module of ours; skips without Go, or without its modules at hand."""
    key = sha256(b"".join(p.read_bytes() for p in sorted(folder.iterdir()))).hexdigest()[:16]
    target = _cache() / key / name
    if not target.exists():
        _run(["build", "-mod=readonly", "-o", str(target), "."], folder)
    return target


def install_go(package: str, version: str) -> Path:
    """A published program; skips without Go, or where it cannot be fetched and built."""
    name = package.rpartition("/")[2]
    target = _cache() / version / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        environ = {"GOBIN": str(target.parent), "GOFLAGS": "-mod=mod"}
        _run(["install", f"{package}@{version}"], target.parent, environ)
    return target


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "certledger" / "go"


def _run(arguments: list[str], folder: Path, environ: dict[str, str] | None = None) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    try:
        subprocess.run(
            [go, *arguments],
            cwd=folder,
            env={**os.environ, **(environ or {})},
            capture_output=True,
            text=True,
            check=True,
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"go {arguments[0]} took over {BUILD_SECONDS} s")
    except subprocess.CalledProcessError as err:
        pytest.skip(f"go {arguments[0]}: {err.stderr.strip()[-300:]}")
