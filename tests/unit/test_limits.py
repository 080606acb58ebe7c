"""How long a caller who takes nothing of an answer is waited for, under the real server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from deploy.embedded.files import free_port
from tests.http_serving import ROOT

SECONDS = 0.5
ENOUGH = 160  # pieces that neither the server nor two sockets have room for

# A process of its own: the server's threads stay.
_SERVE = """
import asyncio, os, signal, sys
from consumers.http.limits import PIECE, Limits
from consumers.http.server import serve

port, seconds, pieces, by_itself = (eval(each) for each in sys.argv[1:])
count, size = (pieces, PIECE) if by_itself else (1, pieces * PIECE)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(count):
            more = n + 1 < count
            await send({"type": "http.response.body", "body": bytes(size), "more_body": more})
    finally:
        print(loop.time() - begin, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

asyncio.run(serve(Limits(app, seconds), "127.0.0.1", port))
"""


@pytest.mark.parametrize(
    ("pieces", "by_itself", "is_cut"),
    [(1, False, False), (ENOUGH, False, True), (ENOUGH, True, True)],
)
def test_who_takes_nothing_is_waited_for_only_where_the_server_has_no_room(
    pieces: int, by_itself: bool, is_cut: bool
) -> None:
    port = free_port()
    arguments = map(repr, (port, SECONDS, pieces, by_itself))
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(200):
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    break
                assert server.poll() is None
                time.sleep(0.05)
            caller.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert server.stdout is not None
            took = float(server.stdout.readline())
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.communicate()
    assert (took >= SECONDS) == is_cut
