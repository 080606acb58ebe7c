"""What a caller may take: length of the URL, no body where none is meant, time for an answer."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

MAX_URL = 8 * 1024  # bytes of path and query, as sent
SEND_SECONDS = 20.0  # for each piece of an answer that is not sent whole
PIECE = 64 * 1024  # bytes


class Limits:
    """Around everything; head size and time for a request head are the server's (`__main__.py`)."""

    def __init__(self, app: ASGIApp, send_seconds: float = SEND_SECONDS) -> None:
        self._app = app
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        in_pieces = False

        async def send_in_time(message: Message) -> None:
            nonlocal in_pieces
            if message["type"] == "http.response.start":  # the server sends it with the first piece
                await send(message)
                return
            body = message.get("body", b"")
            in_pieces = in_pieces or len(body) > PIECE or message.get("more_body", False)
            if not in_pieces:  # the server takes a whole answer at once
                await send(message)
                return
            for at in range(0, len(body) or 1, PIECE):
                more = at + PIECE < len(body) or message.get("more_body", False)
                piece = {**message, "body": body[at : at + PIECE], "more_body": more}
                async with asyncio.timeout(self._send_seconds):
                    await send(piece)

        try:
            refusal = _refusal(scope)
            if refusal is None:
                await self._app(scope, receive, send_in_time)
            else:
                await refusal(scope, receive, send_in_time)
        except TimeoutError:
            return  # the caller stopped taking: without the answer's end the connection is cut


def _refusal(scope: Scope) -> ASGIApp | None:
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL:
        return problem(414, f"path and query of a URL have at most {MAX_URL} bytes")
    if scope["method"] in ("GET", "HEAD"):
        headers = dict(scope["headers"])
        if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            return problem(413, "this request has no body", {"Connection": "close"})
    return None
