"""Witnesses as processes of their own, and ones that answer whatever a test says."""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consumers.witness.config import add_log, create
from deploy.embedded.files import free_port
from ledger.cosignature import CosignerKey
from ledger.policy import Witness
from tests import world

ROOT = Path(__file__).parents[1]


class RunningWitness:
    """`certledger witness run` over a folder; it knows the seeded ledger."""

    def __init__(self, folder: Path, name: str, ml_dsa: bool = False) -> None:
        self.folder = folder
        self.keys: list[CosignerKey] = [c.key for c in create(folder, name, ml_dsa)]
        add_log(folder, str(world.CHECKPOINT.key))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def in_policy(self) -> Witness:
        return Witness(self.keys[0].name, self.keys[0], self.url)

    def start(self, crash_at: str = "") -> None:
        """Run it; `crash_at` names the step at which it kills itself."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.witnessing", crash_at),
                *("--folder", str(self.folder), "--listen", f"127.0.0.1:{self.port}"),
            ],
            cwd=ROOT,
        )
        end = time.monotonic() + 40
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < end, "the witness did not start"
                assert self.process.poll() is None
                time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def wait_for_end(self) -> None:
        """Until it has killed itself."""
        assert self.process is not None
        assert self.process.wait(60) == -signal.SIGKILL
        self.process = None

    def post(self, body: bytes, path: str = "/add-checkpoint") -> tuple[int, str, bytes]:
        return self.ask("POST", path, body)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """(status, media type, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        finally:
            connection.close()


@contextmanager
def witnesses(folder: Path, count: int) -> Iterator[list[RunningWitness]]:
    """Running witnesses until the end."""
    made = [RunningWitness(folder / f"w{n}", f"witness.example/w{n}") for n in range(count)]
    try:
        for witness in made:
            witness.start()
        yield made
    finally:
        for witness in made:
            witness.stop(signal.SIGKILL)


Behaviour = Callable[[socket.socket, bytes], None]


@contextmanager
def listening(behaviour: Behaviour) -> Iterator[str]:
    """The URL of a server that does `behaviour` with each connection and its first request."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    done = threading.Event()
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(30)
            try:
                behaviour(connection, read_request(connection))
            except OSError:
                return  # the other side gave up, as it should

    def accept() -> None:
        while not done.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=answer, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        done.set()
        acceptor.join()
        for thread in threads:
            thread.join()
        server.close()


def read_request(connection: socket.socket) -> bytes:
    """The body of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += _more(connection)
    return body


def _more(connection: socket.socket) -> bytes:
    chunk = connection.recv(65536)
    if not chunk:
        raise ConnectionError
    return chunk


def respond(connection: socket.socket, status: int, body: bytes, **headers: Any) -> None:
    """One whole answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def main() -> None:
    """The real command, which dies at a step where the first argument names one."""
    from consumers.witness import commands, state
    from deploy.cli import main as certledger

    crash_at = sys.argv.pop(1)

    def step(name: str) -> None:
        if name == crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def crashing(folder: Path) -> state.State:
        return state.State(folder, step)

    commands.State = crashing  # type: ignore[assignment,misc]
    certledger(["witness", "run", *sys.argv[1:]])


if __name__ == "__main__":
    main()
