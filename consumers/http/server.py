"""The server under every application of ours: what a connection and a request head may take."""

from __future__ import annotations

import asyncio
import signal

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette.types import ASGIApp

HEAD_BYTES = 16 * 1024  # request line and header fields; more is 431
HEAD_SECONDS = 5  # for a whole request head, and between two requests of a connection
# What the server says goes the way of all that is logged.
_LOGS = {"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}}}
MAX_CONNECTIONS = 512  # at once; others wait in the system's queue


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Listen until SIGTERM or SIGINT; what is being answered then is finished."""
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=HEAD_BYTES
        ),
        websockets=False,
        log_dictconfig=_LOGS,
        backlog=1024,
        backpressure=MAX_CONNECTIONS,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()
