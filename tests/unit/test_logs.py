"""Lines of logs: JSON and text, and what never stands in them."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ledger.errors import Conflict
from ledger.logs import Events, get_log, set_up

NUMBER = "湘A-40712 Li Si"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process' own logging, as it was."""
    was = logging.root.handlers[:], logging.root.level, sys.excepthook, threading.excepthook
    yield
    logging.root.handlers[:], level, sys.excepthook, threading.excepthook = was
    logging.root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(chosen: str | None, *, terminal: bool = False) -> tuple[Events, io.StringIO]:
    stream = Terminal() if terminal else io.StringIO()
    set_up("worker", chosen, stream)
    return get_log("streams.intake"), stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_with_its_fields() -> None:
    log, stream = said(None)
    log.info("records-skipped", partition=1, outcomes={"repeat": 2})
    log.debug("nothing")
    err = Conflict("offset-jump", "partition 0: want offset 5, got 9")
    log.critical("the-worker-stops", error=err)
    first, second = lines(stream)
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "INFO",
        "program": "worker",
        "event": "records-skipped",
        "partition": 1,
        "outcomes": {"repeat": 2},
    }
    assert second["error"] == str(err)


@pytest.mark.parametrize(
    ("chosen", "terminal", "as_json"),
    [
        (None, False, True),
        (None, True, False),
        ("text", False, False),
        ("json", True, True),
        ("nonsense", True, False),
    ],
)
def test_text_on_a_terminal_json_elsewhere(
    chosen: str | None, terminal: bool, as_json: bool
) -> None:
    log, stream = said(chosen, terminal=terminal)
    log.warning("records-lost", first=3)
    line = stream.getvalue()
    assert line.startswith("{") == as_json
    assert as_json or line.endswith("Z WARNING worker streams.intake records-lost first=3\n")


def raise_quoting() -> None:
    raise ValueError(f"no such thing: {NUMBER}")


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_an_exception_does_not_quote_what_it_choked_on(chosen: str) -> None:
    log, stream = said(chosen)
    for hook in ("log", "main", "thread"):
        try:
            raise_quoting()
        except ValueError as err:
            if hook == "log":
                log.exception("failed", error=err)
            elif hook == "main":
                sys.excepthook(type(err), err, err.__traceback__)
    thread = threading.Thread(target=raise_quoting)
    thread.start()
    thread.join()
    text = stream.getvalue()
    assert NUMBER not in text
    assert len(text.splitlines()) == 3
    assert text.count("builtins.ValueError") == 3
    assert text.count("raise_quoting") == 3


def test_other_libraries_speak_through_it_too() -> None:
    _, stream = said("json")
    logging.getLogger("aiokafka").warning("heartbeat of %s\nfailed", "group")
    logging.getLogger("kafka.conn").info("connected")
    (line,) = lines(stream)
    assert (line["event"], line["message"]) == ("aiokafka", "heartbeat of group\nfailed")


def test_without_a_set_up_the_words_are_there(caplog: pytest.LogCaptureFixture) -> None:
    """As in a department's program that uses the SDK."""
    get_log("producers.link").warning("lane-taken-over", department="a", lane=1)
    assert caplog.messages == ["lane-taken-over department=a lane=1"]
