"""The witness's HTTP (C2SP tlog-witness): add-checkpoint, and the cosigned checkpoints to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from consumers.http.limits import Limits
from consumers.http.problems import on_crash, on_http_error, on_ledger_error
from ledger.cosignature import Cosigner
from ledger.errors import Conflict, LedgerError, Malformed, Unavailable
from ledger.note import format_lines
from ledger.witnessing import (
    MAX_REQUEST,
    SIZE_TYPE,
    Seen,
    add_signatures,
    check_advance,
    check_log,
    parse_request,
)
from ledger.witnessing import Request as Asked

from .config import Logs
from .state import State

BODY_SECONDS = 5.0  # for a whole request body
THREADS = 4
MAX_WAITING = 64
_FRESH = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class Witness:
    """Decides, remembers, signs: in this order. Any number of threads may ask at once."""

    def __init__(
        self,
        cosigners: Sequence[Cosigner],
        logs: Logs,
        state: State,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cosigners = cosigners
        self._logs = logs
        self._state = state
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> bytes:
        """The cosignature lines that a good request gets; LedgerError otherwise, Conflict with the
        size cosigned last where the old size is another.
        """
        request = parse_request(body)
        checkpoint = request.checkpoint
        check_log(request, self._logs.keys(checkpoint.origin))
        seconds = self._state.advance(
            checkpoint.origin,
            lambda seen: _check(seen, request),
            Seen(checkpoint.size, checkpoint.root),
            int(self._clock()),
        )
        signatures = [c.cosign(request.note.text, seconds) for c in self._cosigners]
        self._state.show(
            checkpoint.origin, checkpoint.size, add_signatures(request.data, signatures)
        )
        return format_lines(signatures)

    def checkpoint(self, origin_hash: str) -> bytes | None:
        """The cosigned checkpoint of the log whose origin has this SHA-256, in hex; None without
        one.
        """
        return self._state.shown(origin_hash)


class _SizeConflict(Exception):
    """The old size is not `size`, the one cosigned last."""

    def __init__(self, size: int) -> None:
        self.size = size


def _check(seen: Seen, request: Asked) -> None:
    try:
        check_advance(seen, request)
    except Conflict as err:
        raise _SizeConflict(seen.size) from err


def build_app(witness: Witness) -> Starlette:
    """The application over one witness."""
    threads = ThreadPoolExecutor(THREADS, "witness")
    waiting = 0

    async def work(function: Callable[[bytes], bytes], body: bytes) -> bytes:
        nonlocal waiting
        if waiting >= MAX_WAITING:
            raise Unavailable("unreachable", f"{MAX_WAITING} requests wait already")
        waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, function, body)
        finally:
            waiting -= 1

    async def add_checkpoint(request: Request) -> Response:
        body = await _read_body(request)
        try:
            lines = await work(witness.add_checkpoint, body)
        except _SizeConflict as err:
            return Response(f"{err.size}\n", 409, _FRESH, SIZE_TYPE)
        return Response(lines, 200, _FRESH, "text/plain; charset=utf-8")

    async def checkpoint(request: Request) -> Response:
        found = await asyncio.get_running_loop().run_in_executor(
            threads, witness.checkpoint, request.path_params["origin_hash"]
        )
        if found is None:
            raise HTTPException(404)
        return Response(found, 200, _FRESH, "text/plain; charset=utf-8")

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_FRESH)

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin_hash:str}/checkpoint", checkpoint),
            Route("/healthz", healthz),
        ],
        middleware=[Middleware(Limits)],
        exception_handlers={
            HTTPException: on_http_error,
            LedgerError: on_ledger_error,
            Exception: on_crash,
        },
    )


async def _read_body(request: Request) -> bytes:
    """The whole body; Malformed `too-large` over the limit, 408 when it comes too slowly."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_REQUEST:
                    raise Malformed("too-large", f"a request has at most {MAX_REQUEST} bytes")
    except TimeoutError as err:
        raise HTTPException(408, headers={"Connection": "close"}) from err
    except ClientDisconnect as err:
        raise HTTPException(400) from err
    return bytes(body)
