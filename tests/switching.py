"""Two switches at each step that a test watches: did it fail, and was it done all the same?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

Step = tuple[str, int]
"""The name of what was done, and which time in a round."""


class Switch:
    """Watches every step; makes one of them fail."""

    def __init__(self) -> None:
        self.on = False
        self.passed: Counter[str] = Counter()
        self.fails: Step | None = None
        self.stored = False

    def watch(self, fails: Step | None = None, stored: bool = False) -> None:
        self.on, self.fails, self.stored = True, fails, stored
        self.passed.clear()

    def steps(self) -> list[Step]:
        """What was passed since `watch`."""
        return [(what, n) for what, count in self.passed.items() for n in range(count)]

    def reach(self, name: str, do: Callable[[], Any], undo: Callable[[], Any], err: Any) -> Any:
        if not self.on:
            return do()
        step = name, self.passed[name]
        self.passed[name] += 1
        if step != self.fails:
            return do()
        self.fails = None  # once
        (do if self.stored else undo)()
        raise err("injected")
