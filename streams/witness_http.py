"""HTTP to a witness: one kept connection, a hard time limit, a cap on the answer, no redirects."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from ledger.errors import Malformed, ProofError, Unavailable

_LOST = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, the media type, and the whole body."""

    status: int
    media_type: str
    body: bytes


class Endpoint:
    """A witness's prefix, `http://` or `https://`. For one thread at a time."""

    def __init__(self, url: str) -> None:
        """Malformed `usage` for anything that is no such prefix."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as err:
            raise Malformed("usage", f"{url[:200]!r} is no URL") from err
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username is not None
            or parts.query
            or parts.fragment
            or not url.isascii()
        ):
            raise Malformed("usage", f"{url[:200]!r} is no http or https prefix of a witness")
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, port or (443 if self._secure else 80))
        self._prefix = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes | None, seconds: float, limit: int
    ) -> Answer:
        """The answer, all of it within `seconds`; Unavailable `unreachable` otherwise, ProofError
        `witness-refused` for a body over `limit` bytes.
        """
        end = time.monotonic() + seconds
        try:
            if self._connection is not None:
                # A kept connection may have been closed meanwhile; the same may be asked twice.
                with contextlib.suppress(*_LOST):
                    return self._exchange(self._connection, method, path, body, end, limit)
                self.close()
            self._connection = self._connect(seconds)
            return self._exchange(self._connection, method, path, body, end, limit)
        except (OSError, http.client.HTTPException) as err:
            self.close()
            late = time.monotonic() >= end
            why = f"no answer within {seconds:g} s" if late else f"{type(err).__name__}: {err}"
            raise Unavailable("unreachable", why[:300]) from err
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(*self._address, timeout=seconds, context=context)
        return http.client.HTTPConnection(*self._address, timeout=seconds)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        end: float,
        limit: int,
    ) -> Answer:
        if connection.sock is None:
            connection.connect()
        # Socket time-outs start anew with every byte: this ends who drips.
        cut = threading.Timer(max(end - time.monotonic(), 0), _cut, [connection.sock])
        cut.daemon = True
        cut.start()
        try:
            connection.request(method, self._prefix + path, body)
            with contextlib.closing(connection.getresponse()) as answer:
                data = answer.read(limit + 1)
                if len(data) > limit:
                    raise ProofError("witness-refused", f"an answer of over {limit} bytes")
                if time.monotonic() >= end:
                    raise TimeoutError  # cut off: what was read may be a part
                return Answer(answer.status, answer.headers.get_content_type(), data)
        finally:
            cut.cancel()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
