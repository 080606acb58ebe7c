"""A log served over real HTTP by a few lines of our own, so that it can misbehave."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from consumers.http.tile_paths import WIDTH, tile_path
from ledger import merkle
from ledger.checkpoint import Checkpoint
from ledger.logbundle import format_deltas, format_entries
from ledger.note import MemorySigner, sign
from ledger.postgres.connection import connect, transaction
from ledger.postgres.tile_reading import certificate_deltas
from tests import world
from tests.stored_ledger import query


@dataclass
class History:
    """A log's entries and delta lists, signed by whoever has the key."""

    entries: list[bytes]
    deltas: list[bytes]
    signer: MemorySigner = world.CHECKPOINT
    origin: str = world.ORIGIN
    overrides: dict[str, bytes] = field(default_factory=dict)  # what is served instead, by path

    @property
    def size(self) -> int:
        return len(self.entries)

    def cut(self, size: int) -> History:
        """The first `size` entries."""
        return replace(self, entries=self.entries[:size], deltas=self.deltas[:size])

    def altered(self, index: int, data: bytes, deltas: bytes | None = None) -> History:
        """Another entry at `index`; the tree is made and signed anew."""
        entries, lists = list(self.entries), list(self.deltas)
        entries[index] = data
        if deltas is not None:
            lists[index] = deltas
        return replace(self, entries=entries, deltas=lists)

    def serving(self, **overrides: bytes) -> History:
        """The same with other bytes served at some paths."""
        return replace(self, overrides=overrides)

    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(entry) for entry in self.entries]

    def checkpoint(self) -> bytes:
        root = merkle.root(self.leaves())
        return sign(Checkpoint(self.origin, self.size, root).text(), [self.signer])

    def resource(self, name: str) -> bytes | None:
        """The bytes at a path below the log's prefix."""
        if name in self.overrides:
            return self.overrides[name]
        if name == "checkpoint":
            return self.checkpoint()
        path = tile_path(name.encode())
        if path is None or path.needed_size > self.size:
            return None
        begin, end = path.begin, path.begin + path.width
        if path.kind == "delta":
            return format_deltas(self.deltas[begin:end])
        if not path.is_hashes:
            return format_entries(self.entries[begin:end])
        row = self.leaves()
        for _ in range(path.level):
            row = [merkle.root(row[i : i + WIDTH]) for i in range(0, len(row) - WIDTH + 1, WIDTH)]
        return b"".join(row[begin:end])


def stored_history(url: str) -> History:
    """What a real ledger published, out of its database."""
    connection = connect(url, "test")
    try:
        rows = query(connection, "SELECT data FROM entry ORDER BY log_index")
        ((size,),) = query(
            connection, "SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL"
        )
        with transaction(connection) as cursor:
            lists = certificate_deltas(cursor, 0, size)
    finally:
        connection.close()
    entries = [data for (data,) in rows]
    return History(entries[:size], [lists.get(n, b"") for n in range(size)])


class Server:
    """Serves `history`, which may be exchanged at any time; answers slowly where it is told to."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.pause_seconds = 0.0  # between two bytes
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = server.history.resource(self.path.removeprefix("/log/"))
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who asked has given up
                    self._send(data or b"")

            def _send(self, data: bytes) -> None:
                if not server.pause_seconds:
                    self.wfile.write(data)
                    return
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(server.pause_seconds)

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/log"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def log_serving(history: History) -> Iterator[Server]:
    """The server until the end."""
    server = Server(history)
    try:
        yield server
    finally:
        server.close()
