"""For departments: `GET /v1/lanes`, `GET /v1/receipts`, `POST /v1/bundles`.

A bundle that comes here goes to the intake topic as it is, when it has the form of one and a key of
its department signed it: what strangers send would be kept for ever as dead letters. Nothing else
in it is trusted: admission decides, and the receipt says what it decided.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import orjson
from kafka import KafkaProducer
from kafka.errors import KafkaError
from psycopg2.extensions import cursor as Cursor
from starlette.requests import Request
from starlette.responses import Response

from ledger import topics
from ledger.admission import signing_key
from ledger.bundle import MAX_EPOCH, MAX_LANES, MAX_RECORD, MAX_SEQUENCE, Bundle, parse_record
from ledger.errors import LedgerError, Malformed, Refused, Unavailable
from ledger.identity import check_department
from ledger.kafka_address import client_settings
from ledger.note import parse_decimal
from ledger.postgres.reader import View
from ledger.postgres.rows import read_lanes, read_origin, read_registry, read_source
from ledger.receipt import format_lane
from ledger.registry import Registry

from .database import Database
from .problems import problem
from .questions import FRESH, JSON, parameters
from .tiles import FOR_EVER

PLACE = ("department", "lane", "epoch", "sequence")
RECORD_TYPE = "application/octet-stream"
BODY_SECONDS = 20.0
SEND_SECONDS = 10.0
MAX_SENDING = 16  # bundles on their way to Kafka at once
KEYS_SECONDS = 60.0  # the registry is read again after
NEWS_SECONDS = 1.0  # the same, where it knows no such key


class Intake:
    """Sends records to the intake topic; connects when the first one comes."""

    def __init__(self, bootstrap: str | None) -> None:
        self._bootstrap = bootstrap
        self._producer: Any = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(MAX_SENDING, "intake")

    async def send(self, key: bytes, record: bytes) -> tuple[int, int]:
        """(partition, offset) of a record that Kafka has acknowledged; Unavailable otherwise."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._send, key, record
        )

    def _send(self, key: bytes, record: bytes) -> tuple[int, int]:
        if self._bootstrap is None:
            raise Unavailable("unreachable", "CERTLEDGER_KAFKA names no broker")
        try:
            with self._lock:
                if self._producer is None:
                    self._producer = self._connect(self._bootstrap)
            sent = self._producer.send(topics.EVENTS, key=key, value=record)
            told = sent.get(timeout=SEND_SECONDS)
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka: {err}") from err
        return told.partition, told.offset

    @staticmethod
    def _connect(bootstrap: str) -> Any:
        return KafkaProducer(
            **client_settings(bootstrap),
            client_id="certledger-http",
            acks="all",
            enable_idempotence=True,
            max_request_size=MAX_RECORD + 64 * 1024,
            max_block_ms=int(SEND_SECONDS * 1000),
            delivery_timeout_ms=int(SEND_SECONDS * 1000),
            request_timeout_ms=int(SEND_SECONDS * 1000) - 1000,
            bootstrap_timeout_ms=int(SEND_SECONDS * 1000),
            allow_auto_create_topics=False,
        )

    def close(self) -> None:
        """End the connection; what is on its way is waited for."""
        self._threads.shutdown()
        if self._producer is not None:
            self._producer.close(timeout=SEND_SECONDS)


class Signers:
    """Whose bundles are taken in, by the registry as it was a short while ago."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._registry: Registry | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def check(self, bundle: Bundle) -> None:
        """None when a key of the bundle's department that is not revoked signed it; Refused or
        ProofError with a dead letter's code otherwise.
        """
        try:
            _check_signed(bundle, await self._read(KEYS_SECONDS))
        except LedgerError:  # the key may be newer than what was read
            _check_signed(bundle, await self._read(NEWS_SECONDS))

    async def _read(self, seconds: float) -> Registry:
        async with self._lock:
            if self._registry is None or time.monotonic() - self._read_at > seconds:
                self._registry = await self._database.read(
                    lambda cursor: read_registry(cursor, read_origin(cursor))
                )
                self._read_at = time.monotonic()
            return self._registry


def _check_signed(bundle: Bundle, registry: Registry) -> None:
    key = signing_key(bundle.header, bundle.note, registry)
    value = registry.value(f"key/{key.key_id}")
    if value is None or value["revoked"] is not None:
        raise Refused("key-revoked")


class Departments:
    """The endpoints."""

    def __init__(self, database: Database, intake: Intake) -> None:
        self._database = database
        self._intake = intake
        self._signers = Signers(database)

    async def lanes(self, request: Request) -> Response:
        """Where each lane of a department stands: what the next bundle must name."""
        found = parameters(request.scope["query_string"], ("department",))
        if "department" not in found:
            raise Malformed("usage", "the parameter department is needed")
        check_department(found["department"])

        def read(cursor: Cursor) -> list[bytes]:
            open_lanes = read_registry(cursor, read_origin(cursor)).lanes(found["department"])
            lanes = {
                number: lane
                for (department, number), lane in read_lanes(cursor).items()
                if department == found["department"] and number < open_lanes
            }
            return [
                format_lane(
                    found["department"],
                    number,
                    {**lanes[number].value(), "producer": lanes[number].producer},
                )
                for number in sorted(lanes)
            ]

        lanes = await self._database.read(read)
        if not lanes:
            raise Refused("unknown-department", "no such department, or it has no lanes")
        body = b'{"lanes":[' + b",".join(lanes) + b"]}"
        return Response(body, 200, FRESH, JSON)

    async def receipts(self, request: Request) -> Response:
        """The receipt of a bundle by its number on its lane, once it is published."""
        found = parameters(request.scope["query_string"], PLACE)
        if len(found) != len(PLACE):
            raise Malformed("usage", f"the parameters {', '.join(PLACE)} are needed")
        check_department(found["department"])
        numbers = [
            parse_decimal(found[name], "usage", limit)
            for name, limit in zip(PLACE[1:], (MAX_LANES - 1, MAX_EPOCH, MAX_SEQUENCE), strict=True)
        ]

        def read(view: View) -> bytes:
            return view.receipt(view.index_of_bundle(found["department"], *numbers))

        try:
            data = await self._database.view(read)
        except Refused as err:
            if err.code != "not-found":
                raise
            return problem(404, err.message, {"Retry-After": "1"}, err.code)
        headers = {"Cache-Control": FOR_EVER, "X-Content-Type-Options": "nosniff"}
        return Response(data, 200, headers, JSON)

    async def bundles(self, request: Request) -> Response:
        """Hand a signed bundle's record to admission; 202 with the place of its receipt."""
        record = await read_body(request, MAX_RECORD)
        bundle = await asyncio.get_running_loop().run_in_executor(None, parse_record, record)
        header = bundle.header
        await self._signers.check(bundle)
        # notes are public, heartbeats whole: what anybody may send again is not recorded again
        logged = await self._database.read(lambda cursor: read_source(cursor, bundle))
        if logged is not None:
            partition, offset = logged.partition, logged.offset
        else:
            partition, offset = await self._intake.send(
                topics.lane_key(header.department, header.lane), record
            )
        place = [header.department, header.lane, header.epoch, header.sequence]
        location = f"/v1/receipts?{urlencode(dict(zip(PLACE, place, strict=True)))}"
        body = {"receipt": location, "partition": partition, "offset": offset}
        return Response(orjson.dumps(body), 202, {**FRESH, "Location": location}, JSON)


async def read_body(request: Request, limit: int) -> bytes:
    """The body of at most `limit` bytes, sent in time; Malformed `too-large` otherwise."""
    too_large = Malformed("too-large", f"a body has at most {limit} bytes here")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                data += piece
                if len(data) > limit:
                    raise too_large
    except TimeoutError as err:
        raise Malformed("usage", f"the body did not come within {BODY_SECONDS:.0f} s") from err
    return bytes(data)
