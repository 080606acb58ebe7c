"""How often one caller may ask: a bucket of tokens for each address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from .problems import problem

MAX_CALLERS = 10_000  # remembered; who did not ask for longest is forgotten
BURST_SECONDS = 4  # of tokens that a caller can save up


class Rates:
    """In front of what answers questions: `per_second` requests of each address, 0 for no limit.

    Everything immutable may be fetched as fast as it goes: `is_rated` says what is limited.
    """

    def __init__(
        self,
        app: ASGIApp,
        per_second: int,
        is_rated: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._rate = per_second
        self._is_rated = is_rated
        self._clock = clock
        self._callers: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._rate and self._is_rated(scope["path"]):
            client = scope.get("client")
            if not self.take(client[0] if client else ""):
                why = f"at most {self._rate} requests a second, please"
                await problem(429, why, {"Retry-After": "1"})(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def take(self, caller: str) -> bool:
        """Whether the caller has a token left, which is then gone."""
        now, full = self._clock(), float(self._rate * BURST_SECONDS)
        tokens, since = self._callers.pop(caller, (full, now))
        tokens = min(full, tokens + (now - since) * self._rate)
        is_allowed = tokens >= 1
        self._callers[caller] = (tokens - 1 if is_allowed else tokens, now)
        if len(self._callers) > MAX_CALLERS:
            self._callers.popitem(last=False)
        return is_allowed
