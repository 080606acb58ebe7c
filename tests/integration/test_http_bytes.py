"""Raw bytes against the real HTTP server: heads and bodies as no client library sends them.

Whatever comes: an answer that is no server error, or the connection's end; and the next caller is
served as before.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import page_ledger
from tests.http_serving import Served, serving
from tests.stored_ledger import StoredLedger, reset

SECONDS = 15  # more than the server waits for a head
PATHS = (
    *(
        "/",
        "/v1/certificates",
        "/v1/evidence",
        "/v1/batch",
        "/v1/bulk",
        "/v1/bundles",
        "/v1/assess",
    ),
    *("/v1/status-lists/1", "/log/checkpoint", "/log/tile/0/000.p/1", "/metrics", "/openapi.json"),
)
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PRI", "get", "")
MEDIA = (
    *("application/json", "application/x-ndjson", "text/csv", "application/octet-stream"),
    *("multipart/form-data; boundary=x", "text/plain; charset=utf-7", "", "\xff"),
)
few = settings(
    max_examples=250,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def served(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    reset(module_database_url)
    folder: Path = tmp_path_factory.mktemp("bytes")
    ledger, trust = page_ledger.make_page_ledger(module_database_url, folder)
    try:
        with serving(ledger.url, CERTLEDGER_TRUST=str(trust), CERTLEDGER_HTTP_RATE="0") as running:
            yield running
        _check(ledger)
    finally:
        ledger.close()


def _check(ledger: StoredLedger) -> None:
    ledger.check()


def send(served: Served, *parts: bytes, end: bool = True) -> list[int]:
    """The status of each answer on a connection on which these bytes were sent, until it ends."""
    answers = bytearray()
    with socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                answers += data
        except TimeoutError:
            raise AssertionError("neither an answer nor an end") from None
        except OSError:
            pass  # it has closed the connection
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", answers[:65536])]


def check_answers(served: Served, *parts: bytes) -> None:
    for status in send(served, *parts):
        assert status < 500 or status in (501, 505), (status, parts)
    assert served.process.poll() is None
    assert served.ask("/healthz").status == 200


def head(method: str, path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"Host: x"]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


raw = st.binary(max_size=40)
names = st.sampled_from(
    [
        *(
            b"Content-Length",
            b"Transfer-Encoding",
            b"Content-Encoding",
            b"Accept",
            b"Range",
            b"Host",
        ),
        *(b"If-None-Match", b"If-Modified-Since", b"Authorization", b"Cookie", b"Host"),
        *(b"Content-Type", b"X-Forwarded-For", b"Forwarded", b"Expect", b"Upgrade"),
        b"Accept-Language",
    ]
)
values = raw | st.sampled_from(
    [
        *(b"-1", b"0", b"1", b"007", b"99999999999999999999", b"1e3", b"chunked", b"gzip, chunked"),
        *(b"chunked, identity", b"bytes=0-", b"bytes=-1", b"*/*;q=9", b"zh-\xff", b"100-continue"),
        *(b"Bearer \xff", b"Basic =", b"h2c", b'"', b"W/", b"a" * 8000),
    ]
)
headers = st.lists(st.tuples(names | raw, values), max_size=6)
# large ones by name, as hypothesis prints what it tries
LARGE = {
    "nested lists": b"[" * 50_000,
    "nested objects": b'{"a":' * 20_000,
    "nulls": b'{"number":null,"at":[]}\n' * 50,
    "a long row": b"number\n" + b"x" * 70_000,
    "newlines": b"\n" * 5_000,
}
bodies = st.binary(max_size=300) | st.sampled_from(
    [
        *(b"{}", b"[]", b"null", b'"A-1"\n', b"\xff" * 50, b"a,b\n1\n\n\x00,\n"),
        *(b'{"number":"\\ud800"}', b'{"number":1e999}', b"CLR1" + bytes(200)),
        *(name.encode() for name in LARGE),
    ]
)


def whole(body: bytes) -> bytes:
    return LARGE.get(body.decode(errors="replace"), body)


@few
@given(st.sampled_from(METHODS), st.sampled_from(PATHS), raw, headers, bodies)
def test_heads_of_any_bytes(
    served: Served, method: str, path: str, more: bytes, fields: Any, body: bytes
) -> None:
    check_answers(served, head(method, path.encode() + more, fields) + whole(body))


@few
@given(st.sampled_from(PATHS[1:7]), st.sampled_from(MEDIA), bodies, st.integers(-3, 3))
def test_bodies_of_any_bytes_and_another_length(
    served: Served, path: str, media: str, body: bytes, more: int
) -> None:
    body = whole(body)
    fields = [
        (b"Content-Type", media.encode("latin-1")),
        (b"Content-Length", str(max(len(body) + more, 0)).encode()),
    ]
    check_answers(served, head("POST", path.encode(), fields), body)


@few
@given(st.sampled_from(PATHS[1:7]), st.lists(st.tuples(bodies, raw), max_size=4), raw)
def test_chunks_of_any_bytes(served: Served, path: str, chunks: Any, rest: bytes) -> None:
    sent = [head("POST", path.encode(), [(b"Transfer-Encoding", b"chunked")])]
    for body, extension in [(whole(body), extension) for body, extension in chunks]:
        sent.append(b"%x;" % len(body) + extension + b"\r\n" + body + b"\r\n")
    check_answers(served, *sent, rest, b"0\r\n\r\n")


@few
@given(st.binary(max_size=200))
def test_what_is_no_http(served: Served, data: bytes) -> None:
    check_answers(served, data)
