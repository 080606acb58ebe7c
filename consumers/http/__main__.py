"""`python -m consumers.http`: answers until a signal comes."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

from ledger.logs import FORMAT_VARIABLE, set_up

from .app import build_app
from .server import serve
from .settings import Settings, SettingsError

GARBAGE_THRESHOLD = 50_000  # new objects: answers are many small ones, hardly any in cycles


def main() -> None:
    """Run with the settings of the environment."""
    set_up("http", os.environ.get(FORMAT_VARIABLE))
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
    asyncio.run(serve(build_app(settings), settings.host, settings.port))


if __name__ == "__main__":
    main()
