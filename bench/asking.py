"""`python -m bench.asking URL CONNECTIONS SECONDS` with paths as lines on the standard input, or
with batches as lines of JSON: a process of its own that asks, and says what it saw and cost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from itertools import cycle

import aiohttp


async def ask(url: str, connections: int, seconds: float, lines: list[str]) -> dict[str, object]:
    """Latencies in seconds, answers' bytes and statuses of so many askers at once; each line is a
    path, or the body of a batch.
    """
    times: list[float] = []
    statuses: Counter[int] = Counter()
    size = 0
    more = cycle(lines)
    end = time.perf_counter() + seconds

    async def go_on(session: aiohttp.ClientSession) -> None:
        nonlocal size
        while (begin := time.perf_counter()) < end:
            line = next(more)
            if line.startswith("/"):
                request = session.get(line)
            else:
                request = session.post("/v1/batch", data="\n".join(json.loads(line)).encode())
            async with request as answer:
                size += len(await answer.read())
            statuses[answer.status] += 1
            times.append(time.perf_counter() - begin)

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await asyncio.gather(*(go_on(session) for _ in range(connections)))
    lasted = time.perf_counter() - end + seconds
    return {"times": times, "seconds": lasted, "bytes": size, "statuses": dict(statuses)}


if __name__ == "__main__":
    told = asyncio.run(
        ask(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.stdin.read().split("\n"))
    )
    print(json.dumps({**told, "processor": time.process_time()}))
