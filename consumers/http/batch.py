"""`POST /v1/batch`: questions as lines of JSON, their answers as lines of JSON, streamed.

A line is an object with the members of a query, or a string, which is a number; an `id` comes back.
Answers come in the order of the lines while later lines are still being sent; neither side is ever
held whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from consumers.asking import Asked
from ledger.errors import CODES, LedgerError, Malformed

from .problems import on_broken_body, problem
from .questions import FRESH, NAMES, Answering, parse_asked

MEDIA_TYPE = "application/x-ndjson"
MAX_LINE = 8 * 1024  # bytes
MAX_LINES = 1_000_000
MAX_BODY = 512 * 1024 * 1024  # bytes
MAX_BATCHES = 4  # at once
TOGETHER = 1024  # lines answered in one transaction
LINE_SECONDS = 20.0  # for the next piece of the body


class Line(NamedTuple):
    """A line of a batch: what it asks, or why it asks nothing."""

    number: int
    asked: Asked | None
    id: Any = None
    error: LedgerError | None = None


class Duplex(Response):
    """An answer that is sent while the request's body is still read: Starlette's own streaming
    would take pieces of that body for the caller's hanging up.
    """

    def __init__(
        self, pieces: AsyncIterator[bytes], headers: Mapping[str, str], media_type: str
    ) -> None:
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        started = False
        try:
            async for piece in self._pieces:
                if not started:
                    started = True
                    await send({**start, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except ClientDisconnect:
            if not started:
                await on_broken_body(Request(scope), ClientDisconnect())(scope, receive, send)
            return
        if not started:
            await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Batch:
    """The endpoint."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._running = 0

    async def post(self, request: Request) -> Response:
        """The answers as they are found."""
        if int(request.headers.get("content-length") or 0) > MAX_BODY:
            return problem(413, f"a batch has at most {MAX_BODY} bytes", {"Connection": "close"})
        if self._running >= MAX_BATCHES:
            return problem(429, f"{MAX_BATCHES} batches run already", {"Retry-After": "5"})
        return Duplex(self._answers(request), FRESH, MEDIA_TYPE)

    async def _answers(self, request: Request) -> AsyncIterator[bytes]:
        self._running += 1
        try:
            async for lines in groups(request.stream()):
                yield await self._answer(lines)
        finally:
            self._running -= 1

    async def _answer(self, lines: Sequence[Line]) -> bytes:
        asked = [line.asked for line in lines if line.asked is not None]
        try:
            answers = iter(await self._answering.print_all(asked) if asked else [])
        except LedgerError as err:
            answers = iter([err] * len(asked))
        told = []
        for number, _, line_id, error in lines:
            answer = next(answers) if error is None else error
            if isinstance(answer, LedgerError):
                answer = orjson.dumps({"problem": line_problem(answer)})
            said = b"" if line_id is None else b'"id":%b,' % orjson.dumps(line_id)
            told.append(b'{"line":%d,%b%b\n' % (number, said, answer[1:]))
        return b"".join(told)


def line_problem(err: LedgerError) -> dict[str, Any]:
    """Why a line has no answer."""
    row = CODES[err.code]
    detail = row.sentence if row.http >= 500 else err.message
    return {"code": err.code, "title": row.sentence, "status": row.http, "detail": detail}


async def groups(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[Line]]:
    """The lines of a body, some at a time, as soon as they are there."""
    buffer, number, is_skipping = bytearray(), 0, False
    lines: list[Line] = []
    total = 0
    iterator = pieces.__aiter__()
    is_over = False
    while not is_over:
        try:
            piece = await asyncio.wait_for(anext(iterator), LINE_SECONDS)
            total += len(piece)
        except StopAsyncIteration:
            piece, is_over = (b"\n" if buffer or is_skipping else b""), True
        buffer += piece
        end = buffer.rfind(b"\n") + 1
        for data in bytes(buffer[:end]).split(b"\n")[:-1]:
            if not is_skipping and not data.strip():
                continue
            number += 1
            if number > MAX_LINES or total > MAX_BODY:
                lines.append(_refused(number, f"a batch has at most {MAX_LINES} lines"))
                yield lines
                return
            lines.append(_too_long(number) if is_skipping else parse_line(number, data))
            is_skipping = False
            if len(lines) == TOGETHER:
                yield lines
                lines = []
        del buffer[:end]
        if len(buffer) > MAX_LINE:
            buffer.clear()
            is_skipping = True
        if lines:
            yield lines
            lines = []


def _refused(number: int, why: str) -> Line:
    return Line(number, None, error=Malformed("too-large", why))


def _too_long(number: int) -> Line:
    return _refused(number, f"a line has at most {MAX_LINE} bytes")


def parse_line(number: int, data: bytes) -> Line:
    """One line of a batch; what cannot be asked says why."""
    if len(data) > MAX_LINE:
        return _too_long(number)
    line_id = None
    try:
        value = orjson.loads(data)
        if type(value) is str:
            return Line(number, Asked(value))
        if type(value) is not dict:
            raise Malformed("usage", "a line is an object or a number as a string")
        line_id = value.pop("id", None)
        if type(line_id) not in (str, int, type(None)):
            line_id = None
            raise Malformed("usage", "an id is a string or a number")
        if not value.keys() <= set(NAMES):
            raise Malformed("usage", f"the members of a line are id, {', '.join(NAMES)}")
        return Line(number, parse_asked(value), line_id)
    except ValueError:
        return Line(number, None, error=Malformed("not-json", "a line is JSON in UTF-8"))
    except LedgerError as err:
        return Line(number, None, line_id, err)
