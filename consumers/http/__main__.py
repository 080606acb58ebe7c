"""`python -m consumers.http`: answers until a signal comes."""

from __future__ import annotations

import asyncio
import os
import sys

from ledger.logs import FORMAT_VARIABLE, set_up

from .app import build_app
from .server import serve
from .settings import Settings, SettingsError


def main() -> None:
    """Run with the settings of the environment."""
    set_up("http", os.environ.get(FORMAT_VARIABLE))
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    asyncio.run(serve(build_app(settings), settings.host, settings.port))


if __name__ == "__main__":
    main()
