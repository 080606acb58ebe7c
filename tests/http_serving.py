"""The real HTTP server as a process of its own, and callers that send exact bytes."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.files import free_port

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    """One answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_url(self) -> str:
        return f"{self.url}/log"

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request on a connection of its own, the path sent as it is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, "/", "Host" in headers, skip_accept_encoding=True)
            # http.client refuses what a hostile caller would send
            connection._buffer[0] = f"{method} {path} HTTP/1.1".encode()  # type: ignore[attr-defined]
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> bytes:
        """The body of a 200."""
        answer = self.ask(path)
        assert answer.status == 200, (path, answer)
        return answer.body

    def connect(self, data: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(20)
        connection.sendall(data)
        return connection


@contextmanager
def serving(postgres_url: str, **environ: str) -> Iterator[Served]:
    """`python -m consumers.http` on a port of its own until the end."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "consumers.http"],
        cwd=ROOT,
        env={
            **os.environ,
            "CERTLEDGER_POSTGRES": postgres_url,
            "CERTLEDGER_HTTP_LISTEN": f"127.0.0.1:{port}",
            **environ,
        },
    )
    served = Served(port, process)
    try:
        _wait(served)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(served: Served) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and served.process.poll() is None:
        try:
            served.ask("/healthz")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the HTTP server did not start")
