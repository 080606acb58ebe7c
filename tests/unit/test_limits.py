"""How long a caller who takes nothing of an answer is waited for, under the real server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest
from starlette.types import Message, Receive, Scope, Send

from consumers.http.limits import PIECE, Limits
from consumers.http.server import serve
from deploy.embedded.files import free_port

SECONDS = 0.5
ENOUGH = 160  # pieces that neither the server nor two sockets have room for


class App:
    """Answers with so many pieces, each by itself or all as one; `ended` says how long it took."""

    def __init__(self, pieces: int, by_itself: bool) -> None:
        self._pieces, self._by_itself = pieces, by_itself
        self.ended: asyncio.Future[float] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        loop = asyncio.get_running_loop()
        begin = loop.time()
        assert self.ended is not None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            pieces, size = (self._pieces, PIECE) if self._by_itself else (1, self._pieces * PIECE)
            for n in range(pieces):
                more = n + 1 < pieces
                body: Message = {"type": "http.response.body", "body": bytes(size)}
                await send({**body, "more_body": more})
        finally:
            self.ended.set_result(loop.time() - begin)


@pytest.mark.parametrize(
    ("pieces", "by_itself", "is_cut"),
    [(1, False, False), (ENOUGH, False, True), (ENOUGH, True, True)],
)
def test_who_takes_nothing_is_waited_for_only_where_the_server_has_no_room(
    pieces: int, by_itself: bool, is_cut: bool
) -> None:
    app, port = App(pieces, by_itself), free_port()

    async def run() -> float:
        app.ended = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(serve(Limits(app, SECONDS), "127.0.0.1", port))
        with socket.socket() as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(100):
                await asyncio.sleep(0.05)
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    break
            caller.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            took = await asyncio.wait_for(app.ended, 20)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, 20)
        return took

    took = asyncio.run(run())
    assert took < SECONDS if not is_cut else took >= SECONDS
