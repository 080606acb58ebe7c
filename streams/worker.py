"""`python -m streams.worker`: one admission worker."""

from __future__ import annotations

import os
import sys
import threading

import faust

from ledger.logs import FORMAT_VARIABLE, set_up

from .app import build_app, die
from .memory import collect_seldom, keep_large_blocks
from .settings import Settings, SettingsError

SWITCH_SECONDS = 0.0002


def main() -> None:
    """Run until a signal comes; exit 70 on any surprise, for the supervisor to start anew."""
    set_up("worker", os.environ.get(FORMAT_VARIABLE))
    keep_large_blocks()
    try:
        settings = Settings.from_environment()
    except SettingsError as err:
        sys.exit(str(err))
    try:
        app = build_app(settings)
    except Exception as err:
        die(err)
    collect_seldom()
    # What a turn sends to PostgreSQL waits for the interpreter before each statement and after it,
    # while the rules compute.
    sys.setswitchinterval(SWITCH_SECONDS)
    threading.Thread(target=app.ledger.watch, name="watch", daemon=True).start()
    worker = faust.Worker(app, quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # which would write between the log's lines
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
