"""What programs say of themselves: events by name with fields, as lines of JSON or of text.

A field holds an id, a hash, a count, a code or a place: never an event line, a certificate's
number, a name or a key. Of an exception that is not the ledger's own only its kind and place are
said, as its words may quote what it choked on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from pathlib import PurePath
from typing import Any, TextIO

from .errors import LedgerError
from .times import format_moment

FORMAT_VARIABLE = "CERTLEDGER_LOG_FORMAT"  # json or text; else text on a terminal, JSON elsewhere
JSON, TEXT = "json", "text"
_LOGGING = ("exc_info", "stack_info", "stacklevel", "extra")
_MAX_FRAMES = 30


class Events(logging.LoggerAdapter[logging.Logger]):
    """Says an event by name, with fields: `log.info("records-skipped", partition=1, first=3)`."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """The words for any formatter; the fields go along for ours."""
        fields = {n: _field(v) for n, v in kwargs.items() if n not in _LOGGING}
        rest = {n: v for n, v in kwargs.items() if n in _LOGGING}
        words = " ".join([str(msg), *(f"{name}={value}" for name, value in fields.items())])
        return words, {**rest, "extra": {"event": str(msg), "fields": fields}}


def get_log(name: str) -> Events:
    """The events of a module."""
    return Events(logging.getLogger(name), None)


def _field(value: Any) -> Any:
    if isinstance(value, BaseException):
        return str(value) if isinstance(value, LedgerError) else _kind(value)
    return value if isinstance(value, int | float | str | dict | None) else str(value)


class Formatter(logging.Formatter):
    """One line for each record, JSON or text, without the words of others' exceptions."""

    def __init__(self, program: str, as_json: bool) -> None:
        super().__init__()
        self._program, self._as_json = program, as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = format_moment(int(record.created * 1000) * 1000)
        raised = _raised(record)
        if not self._as_json:
            words = record.getMessage().partition("\nTraceback (")[0].replace("\n", " ")
            said = f"{moment} {record.levelname} {self._program} {record.name} {words}"
            return said if raised is None else f"{said} {raised['exception']} {raised['where']}"
        fields = getattr(record, "fields", None)
        if fields is None:  # another library's; a traceback in its text ends in an error's words
            fields = {"message": record.getMessage().partition("\nTraceback (")[0]}
        line = {
            "time": moment,
            "level": record.levelname,
            "program": self._program,
            "event": getattr(record, "event", record.name),
            **fields,
            **(raised or {}),
        }
        return json.dumps(line, ensure_ascii=False, default=str)


def _raised(record: logging.LogRecord) -> dict[str, Any] | None:
    if not record.exc_info or record.exc_info[1] is None:
        return None
    err = record.exc_info[1]
    frames = traceback.extract_tb(err.__traceback__)[-_MAX_FRAMES:]
    where = [f"{PurePath(f.filename).name}:{f.lineno} {f.name}" for f in frames]
    kind = str(err) if isinstance(err, LedgerError) else f"{type(err).__module__}.{_kind(err)}"
    return {"exception": kind, "where": where}


def _kind(err: BaseException) -> str:
    """An exception's name, and the code that operating system or PostgreSQL give it."""
    code = getattr(err, "errno", None) or getattr(err, "pgcode", None)
    return type(err).__name__ if code is None else f"{type(err).__name__} {code}"


def set_up(program: str, chosen: str | None, stream: TextIO | None = None) -> logging.Handler:
    """Have all that is logged in this process go to `stream` (standard error) as `chosen` says, or
    as fits the stream; what crashes is logged too. The handler.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    as_json = chosen == JSON or (chosen != TEXT and not out.isatty())
    handler.setFormatter(Formatter(program, as_json))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.INFO)
    logging.getLogger("kafka").setLevel(logging.WARNING)
    log = get_log(program)

    def crashed(err: BaseException | None) -> None:
        if not isinstance(err, KeyboardInterrupt):
            log.critical("crashed", exc_info=err)

    sys.excepthook = lambda kind, err, trace: crashed(err)
    threading.excepthook = lambda args: crashed(args.exc_value)
    return handler
