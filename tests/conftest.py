"""What all tests share: Hypothesis's settings, and the fixtures that start real servers, only when
a test asks for one.
"""

import asyncio
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import settings
from kafka.net.inet import KafkaNetSocket

pytest_plugins = ["tests.fix_servers", "tests.fix_ledger"]

# No deadlines, as the machine may be busy; few examples, as each run is one of many.
settings.register_profile("certledger", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("certledger")

# A shell starts what runs in its background with Ctrl-C ignored, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class _KafkaSocket(socket.socket):
    """Closed without a warning when it is forgotten: kafka-python leaves a socket open where it was
    refused, and where its client was closed while a request was being written.
    """

    def __del__(self) -> None:
        with suppress(AttributeError):  # of one that could not even be made
            self.close()


KafkaNetSocket.socket = lambda _, *kind: _KafkaSocket(*kind)


@pytest.fixture(scope="module", autouse=True)
def nothing_outlives_its_module() -> Iterator[None]:
    """What a module leaves behind fails it, not those after it: a socket that nobody closed; an
    event loop that runs in this thread, as Playwright has one and `asyncio.run` cannot beside it.
    """
    yield
    gc.collect()
    assert asyncio._get_running_loop() is None
