"""What all tests share: Hypothesis's settings, and the fixtures that start real servers, only when
a test asks for one.
"""

import asyncio
import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = ["tests.fix_servers", "tests.fix_ledger"]

# No deadlines, as the machine may be busy; few examples, as each run is one of many.
settings.register_profile("certledger", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("certledger")

# A shell starts what runs in its background with Ctrl-C ignored, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def nothing_outlives_its_module() -> Iterator[None]:
    """What a module leaves behind fails it, not those after it: a socket that nobody closed, where
    its module does not expect that; an event loop that runs in this thread, as Playwright has one
    and `asyncio.run` cannot beside it.
    """
    yield
    gc.collect()
    assert asyncio._get_running_loop() is None
