"""Asking where the intake ends what is no Kafka, or none any more."""

from __future__ import annotations

import socket
import threading

import pytest

from consumers.intake_ends import Ends, IntakeEnds
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


def test_what_was_taken_from_a_former_topic_is_no_lag_of_this_one() -> None:
    taken = {("old", 0): 900, ("now", 0): 3, ("now", 2): 8}
    assert Ends("now", {1: 4, 0: 5, 2: 7}).lag(taken) == {0: 2, 1: 4, 2: 0}
