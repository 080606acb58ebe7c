"""`POST /v1/bulk`: a CSV of numbers comes back with answers; with `?evidence=zip` as an archive of
that and the evidence of each row. Both are sent while the answers are found.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from starlette.requests import Request
from starlette.responses import Response

from consumers.asking import Asked
from consumers.bulk import answer_rows
from ledger.errors import LedgerError, Malformed
from ledger.verdict import Answer

from .batch import Duplex
from .departments import BODY_SECONDS
from .problems import problem
from .questions import FRESH, Answering, parameters

CSV, ZIP = "text/csv; charset=utf-8", "application/zip"
MAX_BODY = 64 * 1024 * 1024  # bytes
MAX_TABLES = 2  # at once
_MARK = b"\xef\xbb\xbf"  # or spreadsheets take UTF-8 for something else
_IN_MEMORY = 1024 * 1024  # bytes of a table; more is in a temporary file

Loop = asyncio.AbstractEventLoop


class Bulk:
    """The endpoint."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._running = 0
        self._threads = ThreadPoolExecutor(MAX_TABLES, "bulk")

    async def post(self, request: Request) -> Response:
        """The table with its answers."""
        wants = parameters(request.scope["query_string"], ("evidence",)).get("evidence", "")
        if wants not in ("", "zip"):
            raise Malformed("usage", "evidence=zip is the only other form")
        if self._running >= MAX_TABLES:
            return problem(429, f"{MAX_TABLES} tables are worked on already", {"Retry-After": "5"})
        self._running += 1
        try:
            table = await self._receive(request)
            text = io.TextIOWrapper(table, "utf-8", newline="")
            loop = asyncio.get_running_loop()
            pieces = self._archive(text, loop) if wants else self._answers(text, loop)
            run = loop.run_in_executor
            first = await run(self._threads, next, pieces)  # what is no table says so here
        except BaseException:
            self._running -= 1
            raise
        name = "answers.zip" if wants else "answers.csv"
        headers = {**FRESH, "Content-Disposition": f'attachment; filename="{name}"'}
        return Duplex(self._send(first, pieces, table), headers, ZIP if wants else CSV)

    async def _receive(self, request: Request) -> IO[bytes]:
        table = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        size = 0
        if int(request.headers.get("content-length") or 0) > MAX_BODY:
            raise Malformed("too-large", f"a table has at most {MAX_BODY} bytes")
        try:
            pieces = request.stream().__aiter__()
            while True:
                piece = await asyncio.wait_for(anext(pieces), BODY_SECONDS)
                size += len(piece)
                if size > MAX_BODY:
                    raise Malformed("too-large", f"a table has at most {MAX_BODY} bytes")
                table.write(piece)
        except StopAsyncIteration:
            table.seek(0)
            return table
        except TimeoutError as err:
            raise Malformed("usage", f"nothing came for {BODY_SECONDS:.0f} s") from err

    async def _send(
        self, first: bytes, pieces: Iterator[bytes], table: IO[bytes]
    ) -> AsyncIterator[bytes]:
        run = asyncio.get_running_loop().run_in_executor
        try:
            piece: bytes | None = first
            while piece is not None:
                yield piece
                piece = await run(self._threads, next, pieces, None)
        finally:
            self._running -= 1
            table.close()

    def _answers(self, text: io.TextIOWrapper, loop: Loop) -> Iterator[bytes]:
        mark = _MARK
        for piece in answer_rows(text, lambda asked: self._ask(asked, loop)):
            yield mark + piece.encode()
            mark = b""

    def _archive(self, text: io.TextIOWrapper, loop: Loop) -> Iterator[bytes]:
        def ask(questions: Sequence[Asked]) -> Sequence[Answer | LedgerError]:
            return self._ask(questions, loop)

        def prove(asked: Asked) -> bytes:
            return asyncio.run_coroutine_threadsafe(self._answering.prove(asked), loop).result()

        out = _Outgoing()
        with (
            tempfile.SpooledTemporaryFile(_IN_MEMORY) as answers,
            zipfile.ZipFile(out, "w") as archive,
        ):
            answers.write(_MARK)
            for piece in answer_rows(text, ask, archive, prove):
                answers.write(piece.encode())
                yield out.take()
            answers.seek(0)
            with archive.open("answers.csv", "w", force_zip64=True) as member:
                while data := answers.read(_IN_MEMORY):
                    member.write(data)
                    yield out.take()
        yield out.take()

    def _ask(self, questions: Sequence[Asked], loop: Loop) -> Sequence[Answer | LedgerError]:
        work = self._answering.ask_all(list(questions))
        return asyncio.run_coroutine_threadsafe(work, loop).result()


class _Outgoing(io.RawIOBase):
    """What a zip file writes, until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken
