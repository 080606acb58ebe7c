"""Readers in a storm while bundles come in: publishing does not wait for them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median

import pytest

from deploy.embedded import postgres
from tests import world
from tests.running_stack import ROOT, Department, Load, RunningStack

SECONDS = 12
READERS, THREADS = 2, 16

_READ = """
import http.client, random, signal, sys, threading, time
from collections import Counter
from urllib.parse import urlencode
place, type_code, issuer, seconds, threads = sys.argv[1:]
end, seen = time.monotonic() + float(seconds), Counter()

def read(seed):
    drawn = random.Random(seed)
    asking = http.client.HTTPConnection(place, timeout=30)
    while time.monotonic() < end:
        number = f"{issuer}-{drawn.randrange(3000)}"
        asked = urlencode({"number": number, "type": type_code, "issuer": issuer})
        path = drawn.choice(["/v1/evidence?", "/v1/history?", "/v1/certificates?", "/checkpoint?"])
        try:
            asking.request("GET", path + asked)
            answer = asking.getresponse()
            answer.read()
            seen[answer.status] += 1
        except (OSError, http.client.HTTPException) as err:
            asking.close()
            seen[type(err).__name__] += 1

readers = [threading.Thread(target=read, args=(n,)) for n in range(int(threads))]
for one in readers: one.start()
for one in readers: one.join()
print(dict(seen))
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    data = tmp_path_factory.mktemp("readers")
    made = RunningStack(data, http=True)
    try:
        yield made
    finally:
        made.close()
        postgres.remove(data)


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "r", lanes=2)
    stack.registrar.set_type(("r", world.ALL_ACTS, "own"))
    yield made
    made.close()


def latencies(department: Department, begin: float, end: float) -> list[float]:
    """Seconds from sending to the receipt, of what was sent between two moments."""
    heard = department.inbox.heard_at
    sent = list(department.sent_at.items())
    return [heard[n] - at for n, at in sent if begin < at < end and n in heard]


def test_a_storm_of_readers_does_not_hold_up_publishing(
    stack: RunningStack,
    department: Department,
    record_property: Callable[[str, object], None],
) -> None:
    place = str(stack.stack.status()["url"]).removeprefix("http://")
    words = [sys.executable, "-c", _READ, place, world.TYPE, "r", str(SECONDS), str(THREADS)]
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        calm = time.monotonic()
        time.sleep(SECONDS)
        storm = time.monotonic()
        with ExitStack() as running:
            readers = [
                running.enter_context(
                    subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
                )
                for _ in range(READERS)
            ]
            said = [reader.communicate()[0] for reader in readers]
        end = time.monotonic()
        load.gap_after(end)
    finally:
        load.stop()
    department.settle()
    before, during = latencies(department, calm, storm), latencies(department, storm, end)
    found = {
        "calm": f"{median(before):.2f} s, {max(before):.2f} s at most, {len(before)} bundles",
        "storm": f"{median(during):.2f} s, {max(during):.2f} s at most, {len(during)} bundles",
        "answers": " ".join(said),
    }
    for name, value in found.items():
        record_property(name, value)
        print(name, value)
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    assert stack.rows("SELECT count(*) FROM certificate") == [(department.events,)]
    stack.check()
    assert "200" in said[0]
    # the readers' own programs work on the same processors as the ledger's
    assert median(during) < 4 * median(before) + 0.5
    assert max(during) < max(before) + 10
