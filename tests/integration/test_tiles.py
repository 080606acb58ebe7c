"""The tile API over real HTTP and PostgreSQL: another reader rebuilds the whole log from it."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from collections.abc import Iterator
from hashlib import sha256

import psycopg2
import pytest

from ledger.checkpoint import parse_checkpoint
from ledger.entry import parse_entry
from tests import world
from tests.http_serving import Served, serving
from tests.stored_ledger import StoredLedger, damage

FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture
def ledger(database_url: str) -> Iterator[StoredLedger]:
    made = StoredLedger(database_url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def served(ledger: StoredLedger) -> Iterator[Served]:
    with serving(ledger.url) as running:
        yield running


def next_index(ledger: StoredLedger) -> int:
    return int(ledger.rows("SELECT next_index FROM allocation")[0][0])


def grow(ledger: StoredLedger, size: int) -> None:
    """Entries until the published checkpoint has exactly this size."""
    missing = size - 1 - next_index(ledger)
    assert missing >= 0
    start = next_index(ledger)
    for n in range(0, missing, 50):
        records = []
        for i in range(n, min(n + 50, missing)):
            # one in three is a heartbeat, whose delta list is empty
            numbers = [f"{start}-{i}-{k}" for k in range(i % 3)]
            records.append(ledger.make(ledger.issued(*numbers)))
        assert ledger.send(*records) == {"logged": len(records)}
    assert ledger.checkpoint().size == size


# --- another reader, straight from C2SP tlog-tiles -----------------------------------------------


def number(n: int) -> str:
    parts = []
    while True:
        n, last = divmod(n, 1000)
        parts.append(f"{last:03}" if not parts else f"x{last:03}")
        if n == 0:
            return "/".join(reversed(parts))


def names(count: int) -> list[str]:
    """N and N.p/W for this many things, 256 in each but the last."""
    full, rest = divmod(count, 256)
    return [number(n) for n in range(full)] + ([f"{number(full)}.p/{rest}"] if rest else [])


def split_entries(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack(">H", data[:2])
        assert len(data) >= 2 + length
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    return found


def split_deltas(data: bytes) -> list[bytes]:
    found = []
    while data:
        (count,) = struct.unpack(">H", data[:2])
        assert len(data) >= 2 + count * 64
        found.append(data[2 : 2 + count * 64])
        data = data[2 + count * 64 :]
    return found


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH(D[n]) of RFC 9162 section 2.1.1 over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


def hashes(data: bytes) -> list[bytes]:
    assert len(data) % 32 == 0
    return [data[i : i + 32] for i in range(0, len(data), 32)]


def check_log(served: Served, expected_size: int) -> list[bytes]:
    """Fetch everything that a tree of this size has and compare it: the entries."""
    checkpoint, note = parse_checkpoint(served.get("/log/checkpoint"))
    note.check_signed_by(world.CHECKPOINT.key)
    assert (checkpoint.origin, checkpoint.size) == (world.ORIGIN, expected_size)
    size = checkpoint.size
    entries = [
        entry
        for name in names(size)
        for entry in split_entries(served.get(f"/log/tile/entries/{name}"))
    ]
    assert len(entries) == size
    row = [sha256(b"\x00" + entry).digest() for entry in entries]
    assert tree_hash(row) == checkpoint.root
    level = 0
    while row:
        got = [
            value
            for name in names(len(row))
            for value in hashes(served.get(f"/log/tile/{level}/{name}"))
        ]
        assert got == row
        row = [tree_hash(row[i : i + 256]) for i in range(0, len(row) // 256 * 256, 256)]
        level += 1
    lists = [
        pairs for name in names(size) for pairs in split_deltas(served.get(f"/log/delta/{name}"))
    ]
    assert len(lists) == size
    for entry, pairs in zip(entries, lists, strict=True):
        value = parse_entry(entry)
        if value["kind"] == "bundle":
            leaves = [
                sha256(b"\x00" + pairs[i : i + 64]).digest() for i in range(0, len(pairs), 64)
            ]
            assert tree_hash(leaves).hex() == value["certificates"]
        else:
            assert pairs == b""
    return entries


@pytest.mark.parametrize("sizes", [(0, 255, 257, 511, 513, 700), (256, 512)])
def test_a_reader_rebuilds_the_log_at_every_boundary(
    sizes: tuple[int, ...], ledger: StoredLedger, served: Served
) -> None:
    entries: list[bytes] = []
    for size in (wanted or next_index(ledger) + 1 for wanted in sizes):
        grow(ledger, size)
        found = check_log(served, size)
        assert found[: len(entries)] == entries
        entries = found
        # one more than there is, of everything
        for kind in ("tile/0", "tile/entries", "delta"):
            full, rest = divmod(size, 256)
            assert served.ask(f"/log/{kind}/{number(full)}").status == 404
            assert served.ask(f"/log/{kind}/{number(full)}.p/{rest + 1}").status == 404
            assert served.ask(f"/log/{kind}/{number(full + 1)}.p/1").status == 404
        upper = size // 256
        assert served.ask(f"/log/tile/1/000.p/{upper + 1}").status == 404
        assert served.ask("/log/tile/1/000").status == 404
        for level in (2, 3, 7, 8, 63):
            assert served.ask(f"/log/tile/{level}/000.p/1").status == 404
    ledger.check()


def test_partial_tiles_stay_when_the_tile_is_full(ledger: StoredLedger, served: Served) -> None:
    grow(ledger, 520)
    for kind in ("tile/0", "tile/entries", "delta"):
        full = served.get(f"/log/{kind}/001")
        for width in (1, 2, 100, 255):
            part = served.get(f"/log/{kind}/001.p/{width}")
            assert full.startswith(part)
            if kind == "tile/0":
                assert len(part) == width * 32
            else:
                split = split_entries if kind == "tile/entries" else split_deltas
                assert len(split(part)) == width


def test_what_is_not_published_is_not_there(ledger: StoredLedger, served: Served) -> None:
    answer = served.ask("/log/checkpoint")
    assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
    assert served.ask("/log/tile/entries/000.p/1").status == 404
    size = ledger.checkpoint().size
    for path in (
        "/%6cog/checkpoint",
        "/log/tile/0/" + "x001/" * 5 + "000",
        "/log/tile/63/x999/999",
        "/log/tile/entries/" + "x035/" * 5 + "000.p/1",
    ):
        assert served.ask(path).status == 404
    ledger.send(ledger.make(ledger.issued("later")))
    for kind in ("tile/0", "tile/entries", "delta"):
        assert served.ask(f"/log/{kind}/000.p/{size}").status == 200
        answer = served.ask(f"/log/{kind}/000.p/{size + 1}")
        assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
    assert ledger.checkpoint().size == size + 2
    assert served.ask(f"/log/tile/0/000.p/{size + 2}").status == 200


def test_headers(ledger: StoredLedger, served: Served) -> None:
    size = ledger.checkpoint().size
    answer = served.ask("/log/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    for kind in ("tile/0", "tile/entries", "delta"):
        path = f"/log/{kind}/000.p/{size}"
        answer = served.ask(path)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == FOR_EVER
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert int(answer.headers["content-length"]) == len(answer.body)
        head = served.ask(path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == answer.headers["content-length"]
        assert served.ask(f"{path}?cache=buster&x=%2e").body == answer.body
    packed = served.ask(f"/log/tile/entries/000.p/{size}", accept_encoding="br, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    plain = served.ask(f"/log/tile/entries/000.p/{size}", accept_encoding="gzip;q=0")
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/log/checkpoint", "/log/tile/0/000", "/log/nothing", "/healthz"])
def test_only_get_and_head(method: str, path: str, idle: Served) -> None:
    answer = idle.ask(path, method)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


HOSTILE = [
    "/log",
    "/log/",
    "/log//checkpoint",
    "/log/checkpoint/",
    "/log/Checkpoint",
    "/log/%63heckpoint",
    "/log/%2fcheckpoint",
    "/log/./checkpoint",
    "/log/../log/checkpoint",
    "/log/checkpoint%00",
    "/log/tile",
    "/log/tile/0/0",
    "/log/tile/0/000/",
    "/log/tile/0/000.p/0",
    "/log/tile/0/000.p/256",
    "/log/tile/0/000.p/01",
    "/log/tile/0/000%2ep/1",
    "/log/tile/0/000.p%2f1",
    "/log/tile/00/000.p/1",
    "/log/tile/-1/000.p/1",
    "/log/tile/64/000.p/1",
    "/log/tile/0/X001/000",
    "/log/tile/0/x000/000.p/1",
    "/log/tile/0/" + "x999/" * 6 + "999",
    "/log/tile/0/" + "9" * 4000,
    "/log/tile/entries/..%2f..%2fetc%2fpasswd",
    "/log/tile/entries/../../../etc/passwd",
    "/log/tile/0/%d9%a0%d9%a0%d9%a0",
    "/log/delta/000.p/-1",
    "/log/holders/000.p/1",
    "/log/tile/0/000;DROP TABLE tile".replace(" ", "%20"),
    "/tile/0/000.p/1",
    "/checkpoint",
    "//",
    "/%",
    "/healthz/",
]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path[:40])
def test_any_other_path_is_404(path: str, idle: Served) -> None:
    answer = idle.ask(path)
    assert answer.status == 404
    assert answer.headers["cache-control"] == "no-store"
    if not path.startswith("/log/"):
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["status"] == 404


@pytest.mark.parametrize(
    "line",
    [
        b"GET /log/tile/0/\xff\xfe HTTP/1.1",
        b"GET /log/tile/0/\xd9\xa0\xd9\xa0\xd9\xa0 HTTP/1.1",
        b"GET /log/tile/0/000\x00 HTTP/1.1",
        b"GET log/checkpoint HTTP/1.1",
        b"GET  HTTP/1.1",
        b"GET /log/checkpoint HTTP/9.9",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_bytes_that_are_no_request_get_no_500(line: bytes, idle: Served) -> None:
    connection = idle.connect(line + b"\r\nHost: x\r\n\r\n")
    with connection:
        answer = connection.recv(4096)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"404", b"505")


def test_limits_on_what_a_caller_sends(idle: Served) -> None:
    assert idle.ask("/healthz?" + "a" * 7_000).status == 200
    answer = idle.ask("/healthz?" + "a" * 9_000)
    assert (answer.status, json.loads(answer.body)["title"]) == (414, "Request-URI Too Long")
    assert idle.ask("/healthz", x_long="a" * 20_000).status == 431
    assert idle.ask("/healthz", content_length="0").status == 200
    for headers in ({"content_length": "5"}, {"transfer_encoding": "chunked"}):
        assert idle.ask("/log/checkpoint", **headers).status == 413


def test_health_and_readiness(ledger: StoredLedger, served: Served) -> None:
    assert json.loads(served.get("/healthz")) == {"status": "ok"}
    ready = {"status": "ok", "origin": world.ORIGIN, "tree_size": None}
    assert json.loads(served.get("/readyz")) == ready
    size = ledger.checkpoint().size
    assert json.loads(served.get("/readyz"))["tree_size"] == size


def test_no_ledger_and_no_database_are_503(database_url: str) -> None:
    with serving(database_url) as empty:
        answer = empty.ask("/readyz")
        assert answer.status == 503
        assert json.loads(answer.body)["code"] == "not-initialised"
        assert answer.headers["content-type"] == "application/problem+json"
    with serving("postgresql://nobody@127.0.0.1:1/none") as alone:
        assert alone.ask("/healthz").status == 200
        for path in ("/readyz", "/log/checkpoint", "/log/tile/0/000.p/1"):
            answer = alone.ask(path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert b"127.0.0.1" not in answer.body


def test_connections_that_postgresql_ended_are_replaced(
    ledger: StoredLedger, served: Served
) -> None:
    ledger.checkpoint()
    served.get("/log/checkpoint")
    killer = psycopg2.connect(ledger.url)
    try:
        with killer, killer.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'certledger-http' AND datname = current_database()"
            )
            assert cursor.fetchone() != (0,)
    finally:
        killer.close()
    served.get("/log/checkpoint")


def test_a_statement_that_waits_too_long_is_503(ledger: StoredLedger, served: Served) -> None:
    ledger.checkpoint()
    locker = psycopg2.connect(ledger.url)
    try:
        with locker.cursor() as cursor:
            cursor.execute("LOCK TABLE checkpoint")
        assert served.ask("/log/checkpoint").status == 503
    finally:
        locker.close()
    served.get("/log/checkpoint")


def test_what_the_store_lost_is_an_error_and_not_kept(ledger: StoredLedger, served: Served) -> None:
    size = ledger.checkpoint().size
    entry = f"/log/tile/entries/000.p/{size}"
    damage(ledger.url, "DELETE FROM entry WHERE log_index = 1")
    damage(ledger.url, "UPDATE tile SET data = substring(data FOR 32)")
    for path in (entry, f"/log/tile/0/000.p/{size}", f"/log/delta/000.p/{size}"):
        answer = served.ask(path)
        assert (answer.status, answer.headers["cache-control"]) == (500, "no-store")
    damage(ledger.url, "DELETE FROM tile")
    assert served.ask(f"/log/tile/0/000.p/{size}").status == 500


def test_large_delta_bundles_are_streamed(ledger: StoredLedger, served: Served) -> None:
    for n in range(4):  # over one batch of reading
        lines = ledger.issued(*[f"{n}-{i}" for i in range(2500)])
        assert ledger.send(ledger.make(lines)) == {"logged": 1}
    size = ledger.checkpoint().size
    answer = served.ask(f"/log/delta/000.p/{size}")
    assert int(answer.headers["content-length"]) == len(answer.body) > 4 * 2500 * 64
    check_log(served, size)
    (stored,) = ledger.rows("SELECT string_agg(holders, '') FROM delta")
    assert not stored[0] or stored[0] not in answer.body


def test_slow_and_silent_callers_are_cut_off_and_stop_nobody(idle: Served) -> None:
    begun = time.monotonic()
    slow = [idle.connect(b"GET /healthz HTTP/1.1\r\nHost: x\r\n") for _ in range(20)]
    slow += [idle.connect(b"") for _ in range(20)]
    slow += [
        idle.connect(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        for _ in range(20)
    ]
    for _ in range(20):
        idle.get("/healthz")
    assert time.monotonic() - begun < 4
    for connection in slow:
        drain(connection)
    assert time.monotonic() - begun < 60


def drain(connection: socket.socket) -> None:
    """Read until the server closes; a time-out is a failure."""
    with connection:
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            return


@pytest.fixture(scope="module")
def idle() -> Iterator[Served]:
    """A server that needs no database for what it is asked."""
    with serving("postgresql://nobody@127.0.0.1:1/none") as running:
        yield running
