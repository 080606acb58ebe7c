"""What all tests share: the fixtures that start real servers, only when a test asks for one."""

import asyncio
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.fix_servers", "tests.fix_ledger"]


@pytest.fixture(scope="module", autouse=True)
def no_loop_outlives_its_module() -> Iterator[None]:
    """What a module leaves running in this thread fails it, not those after it: Playwright has an
    event loop, and where one runs `asyncio.run` cannot.
    """
    yield
    assert asyncio._get_running_loop() is None
