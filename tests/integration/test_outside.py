"""Programs that nobody here wrote read our log over HTTP, whole and while it is growing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.audit import audit
from consumers.audit_state import State
from consumers.log_client import HttpLog
from ledger.trust import Trust, TrustedKey
from tests import outside, world
from tests.http_serving import Served, serving
from tests.stored_ledger import StoredLedger, damage

DONE = re.compile(r"Successfully fsck'd log with size (\d+) and root")


@pytest.fixture
def served(ledger: StoredLedger) -> Iterator[Served]:
    ledger.checkpoint()
    with serving(ledger.url) as running:
        yield running


def grow(ledger: StoredLedger, name: str, bundles: int) -> int:
    """Bundles of one event each, then a checkpoint; its size."""
    records = [ledger.make(ledger.issued(f"{name}-{n}")) for n in range(bundles)]
    assert ledger.send(*records) == {"logged": bundles}
    return ledger.checkpoint().size


def fsck(served: Served, folder: Path) -> str:
    """What Tessera's fsck prints; its exit code says nothing."""
    key = folder / "vkey"
    key.write_text(str(world.CHECKPOINT.key))
    return outside.run(
        outside.tessera_fsck(),
        *(f"--storage_url={served.log_url}/", f"--public_key={key}", "-N=4", "--ui=false"),
    )


def test_tessera_fsck_passes_and_finds_damage(
    ledger: StoredLedger, served: Served, tmp_path: Path
) -> None:
    for name, bundles in (("a", 300), ("b", 310)):
        size = grow(ledger, name, bundles)
        said = fsck(served, tmp_path)
        found = DONE.search(said)
        assert found is not None, said
        assert int(found[1]) == size
    damage(ledger.url, "UPDATE entry SET data = set_byte(data, 9, 0) WHERE log_index = 300")
    assert DONE.search(fsck(served, tmp_path)) is None


def test_tessera_fsck_passes_while_the_log_grows(
    ledger: StoredLedger, served: Served, tmp_path: Path
) -> None:
    outside.tessera_fsck()
    grow(ledger, "first", 200)
    stop = threading.Event()

    def keep_growing() -> None:
        number = 0
        while not stop.is_set() and number < 2000:
            number += 1
            grow(ledger, f"later-{number}", 5)

    thread = threading.Thread(target=keep_growing)
    thread.start()
    sizes: set[int] = set()
    try:
        end = time.monotonic() + 120
        while len(sizes) < 4:
            said = fsck(served, tmp_path)
            found = DONE.search(said)
            assert found is not None, said
            sizes.add(int(found[1]))
            assert time.monotonic() < end, "the log was to grow between the runs"
    finally:
        stop.set()
        thread.join()
    ledger.check()


def test_our_own_audit_reads_it_as_well(ledger: StoredLedger, served: Served) -> None:
    trust = Trust(world.ORIGIN, b"", (TrustedKey(world.CHECKPOINT.key, 0, None),))
    state = State()
    for name in ("a", "b"):
        size = grow(ledger, name, 300)
        log = HttpLog(served.log_url)
        result = audit(log, trust, state)
        log.close()
        assert result.findings == []
        assert (result.since, result.checkpoint.size) == (state.size, size)
        state = result.state


def test_go_opens_the_checkpoint_and_the_departments_notes(
    ledger: StoredLedger, served: Served
) -> None:
    size = grow(ledger, "a", 20)
    said = outside.run(
        outside.outside_test(),
        *("-test.run", "^TestLog$", "-test.v"),
        CERTLEDGER_LOG_URL=served.log_url,
        CERTLEDGER_VKEY=str(world.CHECKPOINT.key),
    )
    assert said.rstrip().endswith("PASS"), said
    assert f"of a log of {size}" in said
