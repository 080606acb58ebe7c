"""`python -m streams.worker`: one admission worker."""

from __future__ import annotations

import gc
import logging
import sys
import threading

import faust

from .app import build_app, die
from .settings import Settings, SettingsError

GARBAGE_THRESHOLD = 200_000  # objects made and not yet freed


def main() -> None:
    """Run until a signal comes; exit 70 on any surprise, for the supervisor to start anew."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    try:
        app = build_app(settings)
    except Exception as err:
        die(err)
    # A turn makes tens of thousands of small objects, none in cycles: looking for cycles among them
    # at the usual pace takes a third of the worker's time.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 10)
    threading.Thread(target=app.ledger.watch, name="watch", daemon=True).start()
    worker = faust.Worker(app, loglevel="INFO", redirect_stdouts=False)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
