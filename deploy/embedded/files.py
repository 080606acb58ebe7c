"""Files and ports that the embedded servers are given."""

import contextlib
import fcntl
import json
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
# Below the range from which systems take the ports of outgoing connections: a client that keeps
# trying to reach a stopped server can otherwise be given the server's own port.
PORTS = range(20_000, 32_000)


def write_private(path: Path, text: str) -> None:
    """Put `text` at `path`, readable by its owner only; after a crash it is there whole or not."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def write_atomically(path: Path, data: bytes) -> None:
    """A whole file or none, on disk before this returns."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Like write_private, for a JSON object."""
    write_private(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object at `path`; None if there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def is_listening(port: int) -> bool:
    """Tell whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def free_port(taken: set[int] | frozenset[int] = frozenset()) -> int:
    """Return a loopback port nobody listens on, none of those in `taken`."""
    while True:
        port = random.choice(PORTS)
        if port not in taken and is_free(port):
            return port


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, waiting for it; it frees itself when its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
