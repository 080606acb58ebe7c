"""`python -m consumers.http`: answers until a signal comes."""

from __future__ import annotations

import asyncio
import logging
import sys

from .app import build_app
from .server import serve
from .settings import Settings, SettingsError


def main() -> None:
    """Run with the settings of the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    asyncio.run(serve(build_app(settings), settings.host, settings.port))


if __name__ == "__main__":
    main()
