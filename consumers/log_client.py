"""Reads a log from outside, by HTTP or out of PostgreSQL, and trusts nothing of what comes.

Every answer has a limit in bytes and in seconds; redirects are not followed. Standard library only:
the verifying path uses it too.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from ledger import merkle, tiles
from ledger.errors import Malformed, Unavailable
from ledger.logbundle import MAX_DELTAS_BYTES, MAX_ENTRIES_BYTES, parse_deltas, parse_entries
from ledger.note import MAX_NOTE

from .http.tile_paths import WIDTH, TilePath, deltas_path, entries_path

PIECE_SECONDS = 20.0  # for a connection, and between two pieces of an answer
ANSWER_SECONDS = 120.0  # for a whole answer
_PIECE = 64 * 1024


class Log(Protocol):
    """A log that can be read: the bytes of its checkpoint and of its resources, unchecked."""

    def checkpoint(self) -> bytes: ...
    def resource(self, path: TilePath, limit: int) -> bytes | None:
        """None where there is no such resource."""
        ...


class HttpClient:
    """GETs below `url`, on one connection that is kept open."""

    def __init__(
        self,
        url: str,
        piece_seconds: float = PIECE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise Malformed("usage", f"{url[:200]!r} is no http:// or https:// URL")
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        try:
            self._connection = kind(parts.hostname, parts.port, timeout=piece_seconds)
        except ValueError as err:
            raise Malformed("usage", f"{url[:200]!r}: {err}") from err
        self._answer_seconds = answer_seconds

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def get(self, name: str, limit: int) -> tuple[int, bytes]:
        """Status and body; Unavailable where there is no whole answer in time, Malformed
        `too-large` where it has over `limit` bytes.
        """
        try:
            return self._answer(name, limit)
        except ConnectionError:  # kept open for too long: once more on a new connection
            self._connection.close()
        except (OSError, http.client.HTTPException) as err:
            raise self._unreachable(name, err) from err
        try:
            return self._answer(name, limit)
        except (OSError, http.client.HTTPException) as err:
            raise self._unreachable(name, err) from err

    def _answer(self, name: str, limit: int) -> tuple[int, bytes]:
        end = time.monotonic() + self._answer_seconds
        done = False
        try:
            headers = {"Accept-Encoding": "identity", "User-Agent": "certledger"}
            self._connection.request("GET", f"{self._prefix}/{name}", headers=headers)
            answer = self._connection.getresponse()
            pieces, size = [], 0
            while piece := answer.read1(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise Malformed("too-large", f"{name} has over {limit} bytes")
                if time.monotonic() > end:
                    raise Unavailable(
                        "unreachable", f"{name}: no whole answer in {self._answer_seconds:g} s"
                    )
            if answer.length:
                raise Unavailable("unreachable", f"{name}: the answer was cut off")
            answer.close()  # or the connection could not be used again
            done = True
        finally:
            if not done:
                self._connection.close()
        if answer.getheader("Content-Encoding", "identity") != "identity":
            raise Unavailable("unreachable", f"{self.url}/{name}: an encoding nobody asked for")
        return answer.status, b"".join(pieces)

    def _unreachable(self, name: str, err: Exception) -> Unavailable:
        return Unavailable("unreachable", f"{self.url}/{name}: {err or type(err).__name__}")


class HttpLog(HttpClient):
    """The log at `url`, the prefix under which its checkpoint lies."""

    def checkpoint(self) -> bytes:
        found = self._find("checkpoint", MAX_NOTE)
        if found is None:
            raise Unavailable("not-initialised", f"{self.url} has no checkpoint")
        return found

    def resource(self, path: TilePath, limit: int) -> bytes | None:
        return self._find(str(path), limit)

    def _find(self, name: str, limit: int) -> bytes | None:
        status, data = self.get(name, limit)
        if status not in (200, 404):
            raise Unavailable("unreachable", f"{self.url}/{name} answers {status}")
        return data if status == 200 else None


def read_entries(log: Log, number: int, width: int) -> list[bytes]:
    """The first `width` entries of bundle `number`, not hashed yet."""
    return _read(log, entries_path, number, width, MAX_ENTRIES_BYTES, parse_entries)


def read_deltas(log: Log, number: int, width: int) -> list[bytes]:
    """The delta lists of these entries."""
    return _read(log, deltas_path, number, width, MAX_DELTAS_BYTES, parse_deltas)


def read_hashes(log: Log, level: int, number: int, width: int) -> list[bytes]:
    """The first `width` hashes of a tile."""

    def path(index: int, width: int = WIDTH) -> TilePath:
        return TilePath(f"tile/{level}", index, width)

    def parse(data: bytes, count: int) -> list[bytes]:
        if len(data) != 32 * count:
            raise Malformed("malformed-proof", f"{len(data)} bytes are not {count} hashes")
        return [data[i : i + 32] for i in range(0, len(data), 32)]

    return _read(log, path, number, width, 32 * WIDTH, parse)


def _read(
    log: Log,
    path: Callable[[int, int], TilePath],
    number: int,
    width: int,
    limit: int,
    parse: Callable[[bytes, int], list[bytes]],
) -> list[bytes]:
    data = log.resource(path(number, width), limit)
    if data is not None:
        return parse(data, width)
    # a log may drop partial resources once the whole one is there
    data = None if width == WIDTH else log.resource(path(number, WIDTH), limit)
    if data is None:
        raise Unavailable("unreachable", f"the log does not serve {path(number, width)}")
    return parse(data, WIDTH)[:width]


def subtree_of(log: Log, size: int) -> merkle.Subtree:
    """Complete subtrees of the tree of `size` leaves, out of the log's tiles."""

    def read(level: int, index: int) -> bytes:
        there = (size >> (tiles.HEIGHT * level)) - index * WIDTH
        return b"".join(read_hashes(log, level, index, min(there, WIDTH))) if there > 0 else b""

    return tiles.subtree_reader(read)
