"""The log as C2SP tlog-tiles has it, with the certificates' delta lists beside it.

`<prefix>/checkpoint`, `<prefix>/tile/<L>/<N>[.p/<W>]`, `<prefix>/tile/entries/<N>[.p/<W>]`,
`<prefix>/delta/<N>[.p/<W>]`. Only the bytes of the path as sent count: an escaped one names
nothing. A query is not looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import cramjam
from psycopg2.extensions import cursor as Cursor
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ledger.errors import CODES, LedgerError, ProofError
from ledger.logbundle import format_deltas, format_entries
from ledger.postgres.sequencing import read_published
from ledger.postgres.tile_reading import (
    certificate_deltas,
    published_delta_lengths,
    published_entries,
    published_hashes,
)

from .database import Database
from .problems import error_headers, log_error
from .tile_paths import TilePath, tile_path

FOR_EVER = "public, max-age=31536000, immutable"
BINARY = "application/octet-stream"
BATCH = 512 * 1024  # bytes of delta lists read at once
_ALLOW = {"Allow": "GET, HEAD"}
_COMMON = {"X-Content-Type-Options": "nosniff"}


class TileApp:
    """Everything below `prefix`, by exact bytes. Reads only, needs no right."""

    def __init__(self, database: Database, prefix: str) -> None:
        self._database = database
        self._prefix = f"{prefix}/".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _error(405, _ALLOW)(scope, receive, send)
            return
        try:
            raw: bytes = scope["raw_path"]
            name = raw.removeprefix(self._prefix) if raw.startswith(self._prefix) else b""
            path = tile_path(name)
            if name == b"checkpoint":
                response = await self._checkpoint()
            elif path is None:
                response = _error(404)
            elif path.kind == "delta":
                lengths = await self._database.read(
                    lambda cursor: published_delta_lengths(cursor, path.begin, _end(path))
                )
                if lengths is not None:
                    await self._send_deltas(path, lengths, scope, send)
                    return
                response = _error(404)
            elif path.is_hashes:
                response = await self._hashes(path)
            else:
                response = await self._entries(path, accepts_gzip(dict(scope["headers"])))
        except LedgerError as err:
            log_error(err, scope["path"])
            response = _error(CODES[err.code].http)
        await response(scope, receive, send)

    async def _checkpoint(self) -> Response:
        published = await self._database.read(read_published)
        if published is None:
            return _error(404)
        headers = {**_COMMON, "Cache-Control": "no-cache"}
        return Response(published[1], 200, headers, "text/plain; charset=utf-8")

    async def _hashes(self, path: TilePath) -> Response:
        data = await self._database.read(
            lambda cursor: published_hashes(
                cursor, path.level, path.index, path.width, path.needed_size
            )
        )
        return _error(404) if data is None else _immutable(data)

    async def _entries(self, path: TilePath, gzip: bool) -> Response:
        def read(cursor: Cursor) -> bytes | None:
            entries = published_entries(cursor, path.begin, _end(path))
            if entries is None:
                return None
            bundle = format_entries(entries)
            return bytes(cramjam.gzip.compress(bundle, level=1)) if gzip else bundle

        data = await self._database.read(read)
        if data is None:
            return _error(404)
        response = _immutable(data)
        response.headers["Vary"] = "Accept-Encoding"
        if gzip:
            response.headers["Content-Encoding"] = "gzip"
        return response

    async def _send_deltas(
        self, path: TilePath, lengths: Sequence[int], scope: Scope, send: Send
    ) -> None:
        """A bundle of delta lists can have 67 MB: it is read and sent in batches."""
        response = _immutable(b"")
        response.headers["Content-Length"] = str(sum(lengths) + 2 * len(lengths))
        await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        if scope["method"] == "GET":
            async for data in self._deltas(path.begin, lengths):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _deltas(self, begin: int, lengths: Sequence[int]) -> AsyncIterator[bytes]:
        for first, count in batches(lengths):
            low = begin + first

            def read(cursor: Cursor, low: int = low, high: int = low + count) -> dict[int, bytes]:
                return certificate_deltas(cursor, low, high)

            found = await self._database.read(read)
            lists = [found.get(low + n, b"") for n in range(count)]
            if [len(data) for data in lists] != list(lengths[first : first + count]):
                raise ProofError("stored-bytes-damaged", f"delta lists of entries from {low}")
            yield format_deltas(lists)


def batches(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(first, count) of runs of lists that have at most BATCH bytes together, or are one list."""
    runs: list[tuple[int, int]] = []
    first = size = 0
    for n, length in enumerate(lengths):
        if n > first and size + length > BATCH:
            runs.append((first, n - first))
            first, size = n, 0
        size += length
    return [*runs, (first, len(lengths) - first)]


def accepts_gzip(headers: dict[bytes, bytes]) -> bool:
    """Whether Accept-Encoding names gzip without refusing it (RFC 9110 section 12.5.3)."""
    for part in headers.get(b"accept-encoding", b"").lower().split(b","):
        name, _, weight = part.replace(b" ", b"").partition(b";")
        if name == b"gzip":
            return weight.removeprefix(b"q=").strip(b"0.") != b"" if weight else True
    return False


def _end(path: TilePath) -> int:
    return path.begin + path.width


def _immutable(data: bytes) -> Response:
    return Response(data, 200, {**_COMMON, "Cache-Control": FOR_EVER}, BINARY)


def _error(status: int, headers: dict[str, str] | None = None) -> Response:
    text = {404: "not found", 405: "only GET and HEAD"}.get(status, "not now")
    return PlainTextResponse(f"{text}\n", status, {**error_headers(status), **(headers or {})})
