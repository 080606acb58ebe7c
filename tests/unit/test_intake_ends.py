"""Asking where the intake ends what is no Kafka, or none any more."""

from __future__ import annotations

import socket
import threading

import pytest

from consumers.intake_ends import IntakeEnds
from deploy.embedded.files import free_port
from ledger.errors import Unavailable


def test_attempts_that_fail_leave_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            ends = IntakeEnds(f"127.0.0.1:{port}")
            with pytest.raises(Unavailable, match="Kafka"):
                ends.read()
            ends.close()
    assert set(threading.enumerate()) == before
