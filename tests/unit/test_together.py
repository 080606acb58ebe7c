"""Questions that wait at the same time are answered together."""

from __future__ import annotations

import asyncio

import pytest

from consumers.asking import Asked
from consumers.http.questions import Together
from ledger.errors import LedgerError, Refused

WORK = 0.05  # seconds


class Work:
    """Takes its time, and remembers what was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def __call__(self, questions: list[Asked]) -> list[str | LedgerError]:
        numbers = [asked.number for asked in questions]
        self.asked.append(numbers)
        await asyncio.sleep(WORK)
        if "broken" in numbers:
            raise OSError("broken")
        return [Refused("not-found", n) if n.startswith("no") else n.upper() for n in numbers]


def test_who_ask_again_are_answered_together() -> None:
    """Each takes another while to ask again, as over HTTP."""
    work = Work()
    together = Together(work, 8)

    async def go_on(name: int) -> None:
        for n in range(10):
            await asyncio.sleep(name * WORK / 20)
            assert await together.ask(Asked(f"a{name}-{n}")) == f"A{name}-{n}"

    async def all_of_them() -> None:
        await asyncio.gather(*(go_on(name) for name in range(8)))

    asyncio.run(all_of_them())
    sizes = [len(group) for group in work.asked]
    assert sum(sizes) == 80
    assert sizes.count(8) >= 8, sizes
    assert len(sizes) <= 13, sizes


def test_who_asks_alone_waits_for_nobody_for_long() -> None:
    work = Work()
    together = Together(work, 8)

    async def alone(times: int) -> float:
        begin = asyncio.get_running_loop().time()
        for n in range(times):
            await together.ask(Asked(str(n)))
        return asyncio.get_running_loop().time() - begin

    async def after_others() -> tuple[float, float]:
        await asyncio.gather(*(together.ask(Asked("n")) for _ in range(8)))
        return await alone(3), await alone(6)

    waits, alone_seconds = asyncio.run(after_others())
    assert waits < 9 * WORK
    assert alone_seconds < 10 * WORK
    assert [len(group) for group in work.asked[-6:]] == [1] * 6


def test_not_more_than_some_at_once_and_an_error_is_its_askers() -> None:
    work = Work()
    together = Together(work, 3)

    async def ask() -> list[object]:
        numbers = ("a", "no", "b", "broken", "c")
        asking = [together.ask(Asked(number)) for number in numbers]
        first = await asyncio.gather(*asking, return_exceptions=True)
        return [*first, await together.ask(Asked("d"))]

    a, no, b, broken, c, d = asyncio.run(ask())
    assert (a, b, d) == ("A", "B", "D")
    with pytest.raises(Refused, match="no"):
        raise no  # type: ignore[misc]
    assert isinstance(broken, OSError)
    assert isinstance(c, OSError)
    assert work.asked == [["a", "no", "b"], ["broken", "c"], ["d"]]
