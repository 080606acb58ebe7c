"""Disks that are full or broken, and replies that are lost: by strace, which makes the system calls
of a running server fail, and by a proxy that cuts a connection after PostgreSQL has committed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from ledger import merkle
from ledger.errors import Unavailable
from ledger.postgres.connection import connect
from ledger.postgres.maps import Maps
from ledger.postgres.sequencing import Head, Sequencing
from ledger.postgres.store import Store
from ledger.tiles import extend
from tests import world
from tests.running_stack import Department, Load, RunningStack
from tests.stored_ledger import TOPIC, StoredLedger, sequencer


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "d", lanes=2)
    stack.registrar.set_type(("d", world.ALL_ACTS, "own"))
    yield made
    made.close()


class Failing:
    """System calls of a server, of all its processes and of those that follow it, fail."""

    def __init__(self, stack: RunningStack, name: str, calls: str, error: str, once: bool) -> None:
        """`once`: only in the processes that a server has at first, not in what it starts then."""
        strace = shutil.which("strace")
        if strace is None or os.geteuid() != 0:
            pytest.skip("needs strace and root; tests/fault/test_switches.py fails the same steps")
        self._command = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        tried = subprocess.run([*self._command, "true"], capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"strace does not work here: {tried.stderr.strip()}")
        self._command += ["-e", f"inject={calls}:error={error}"]
        # Kafka's sockets and its own log go on: what is full is the disk with the records.
        for path in stack.data.glob("kafka/log/certledger.events*/*.log"):
            self._command += ["-P", str(path)] if name == "kafka" else []
        self._stack, self._name, self._once = stack, name, once
        self._tracers: dict[int, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            pid = self._stack.stack.status()["programs"][self._name]["pid"]
            if pid is None:
                continue
            for one in children(pid) if self._once else (pid, *children(pid)):
                if one not in self._tracers:
                    self._tracers[one] = subprocess.Popen([*self._command, "-p", str(one)])
            if self._once:
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        for tracer in self._tracers.values():
            tracer.send_signal(signal.SIGINT)
        for tracer in self._tracers.values():
            tracer.wait(60)
        # What a tracer let go of in the middle of a signal may have stayed stopped.
        server = self._stack.stack.status()["programs"][self._name]["pid"]
        for pid in () if server is None else (server, *children(server)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """The processes of a server, some of which may be gone a moment later."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found]


# What fails (the processes of a server and all that follow, or once), and what its log says then.
DISKS = {
    "PostgreSQL's disk is full": (
        ("postgres", "pwrite64,pwritev,fallocate", "ENOSPC", False),
        "No space left on device",
    ),
    "PostgreSQL's disk is broken": (
        ("postgres", "fdatasync,fsync", "EIO", True),
        "Input/output error",
    ),
    "Kafka's disk is full": (
        ("kafka", "pwrite64,write,writev", "ENOSPC", False),
        "No space left on device",
    ),
}


@pytest.mark.parametrize("name", DISKS)
def test_a_disk_that_fails(stack: RunningStack, department: Department, name: str) -> None:
    """Nothing counts as stored while it cannot be; it goes on by itself, without repair."""
    what, words = DISKS[name]
    load = Load(department)
    try:
        load.gap_after(time.monotonic())
        before = len(stack.log(what[0]))
        with Failing(stack, *what):
            stack.wait_for_log(what[0], words, before, 60)
            time.sleep(2)  # and stays like that for others to meet it
        load.gap_after(time.monotonic(), seconds=120)
    finally:
        load.stop()
    department.settle(120)
    assert stack.rows("SELECT count FROM tally WHERE name = 'admitted'") == [(department.events,)]
    stack.check()


class Proxy:
    """Between a client and PostgreSQL; on demand it cuts the line when a COMMIT is answered."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = threading.Event()  # cleared once it has cut
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for pump in (self._to_server, self._to_client):
                threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        finally:
            _shut(server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                # CommandComplete: it is committed, and its client never hears of it
                if self.cuts.is_set() and b"C\x00\x00\x00\x0bCOMMIT\x00" in data:
                    self.cuts.clear()
                    break
                client.sendall(data)
        except OSError:
            pass
        finally:
            _shut(client)
            _shut(server)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@pytest.fixture
def proxy(module_database_url: str) -> Iterator[Proxy]:
    found = parse_dsn(module_database_url)
    made = Proxy(found["host"], int(found["port"]))
    yield made
    made.close()


def test_the_reply_to_a_commit_is_lost(ledger: StoredLedger, proxy: Proxy) -> None:
    """The worker cannot know; the next one finds the records taken, and takes none twice."""
    url = make_dsn(**{**parse_dsn(ledger.url), "port": str(proxy.port)})
    store = Store(connect(url, "test", writes=True))
    batch = [store.open(ledger.fetched(ledger.make(ledger.issued(f"n{n}")))) for n in range(3)]
    proxy.cuts.set()
    with pytest.raises(Unavailable, match="unreachable"):
        store.apply(TOPIC, batch)
    store.connection.close()
    assert not proxy.cuts.is_set()
    assert ledger.counts() == {"admitted": 3}
    assert ledger.store.apply(TOPIC, batch).outcomes == {}
    assert ledger.counts() == {"admitted": 3}
    ledger.checkpoint()
    ledger.check()


def test_the_reply_to_the_new_head_is_lost(ledger: StoredLedger, proxy: Proxy) -> None:
    """The head has moved; the sequencer that did not hear it signs nothing, the next one does."""
    ledger.send(ledger.make(ledger.issued("n")))
    url = make_dsn(**{**parse_dsn(ledger.url), "port": str(proxy.port)})
    store = Sequencing(connect(url, "test", writes=True))
    maps = Maps.load(store.connection)
    was = store.head()
    size = store.append_status(maps)
    leaves = list(store.read_back(was.size, size, maps))
    tiles = extend(was.size, leaves, store.tile)
    root = merkle.root([*map(merkle.leaf_hash, ledger.sequencing.entries(0, size))])
    proxy.cuts.set()
    with pytest.raises(Unavailable, match="unreachable"):
        store.advance(was, Head(size, root), tiles, maps.changed_tiles())
    assert ledger.sequencing.head() == Head(size, root)
    store.connection.close()
    again = sequencer(ledger)
    again.start()
    assert ledger.rows("SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL") == [
        (size,)
    ]
    ledger.check()
