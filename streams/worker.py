"""`python -m streams.worker`: one admission worker."""

from __future__ import annotations

import gc
import os
import sys
import threading

import faust

from ledger.logs import FORMAT_VARIABLE, set_up

from .app import build_app, die
from .settings import Settings, SettingsError

GARBAGE_THRESHOLD = 200_000  # objects made and not yet freed


def main() -> None:
    """Run until a signal comes; exit 70 on any surprise, for the supervisor to start anew."""
    set_up("worker", os.environ.get(FORMAT_VARIABLE))
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
    worker = faust.Worker(app, redirect_stdouts=False, override_logging=False)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
