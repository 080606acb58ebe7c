"""Asking for topics what is no Kafka."""

from __future__ import annotations

import socket
import threading

import pytest

from ledger import kafka_address
from ledger.errors import Unavailable
from streams import kafka_topics


def test_an_attempt_that_fails_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kafka_address.client_settings
    monkeypatch.setattr(
        kafka_address, "client_settings", lambda place: {**real(place), "bootstrap_timeout_ms": 500}
    )
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match="Kafka"):
            kafka_topics.create_topics(f"127.0.0.1:{port}", 1)
    assert set(threading.enumerate()) == before
