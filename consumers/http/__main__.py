"""`python -m consumers.http`: answers until a signal comes."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from .app import build_app
from .settings import Settings, SettingsError

HEAD_BYTES = 16 * 1024  # request line and header fields; more is 431
HEAD_SECONDS = 5  # for a whole request head, and between two requests of a connection
MAX_CONNECTIONS = 512  # at once; others wait in the system's queue


async def serve(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT; what is being answered then is finished."""
    server = Server(
        build_app(settings),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEAD_SECONDS * 1000, max_buffer_size=HEAD_BYTES
        ),
        websockets=False,
        backlog=1024,
        backpressure=MAX_CONNECTIONS,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


def main() -> None:
    """Run with the settings of the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
