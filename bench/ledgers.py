"""A ledger in a fresh folder for one run, its departments, and their bundles signed for it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import connection as Connection

from deploy.embedded import postgres
from deploy.embedded.supervisor import Program
from deploy.registration import Registration
from deploy.stack import Settings, Stack
from ledger import bundle, merkle, times, topics
from ledger.note import Signer, sign
from ledger.policy import NONE, Policy
from ledger.postgres.connection import connect, transaction
from ledger.postgres.rows import read_lanes, read_origin
from producers.config import load_publisher_config
from streams.witnesses import Witnesses

from .processes import Cost, costs
from .town import ACTS, TYPES


@dataclass(frozen=True, slots=True)
class Signed:
    """A record ready for Kafka, and how its receipt will be recognised."""

    department: str
    lane: int
    sequence: int
    key: bytes
    value: bytes
    events: int


@dataclass
class Ledger:
    """A running ledger with the departments of a plan registered."""

    stack: Stack
    settings: Settings
    connection: Connection
    origin: str
    signers: dict[str, Signer]
    _lanes: dict[tuple[str, int], tuple[int, bytes, str]]  # next number, previous, producer

    def sign(self, bundles: Sequence[tuple[str, int, list[bytes]]]) -> list[Signed]:
        """The bundles signed one after the other on their lanes, as of now."""
        signed_at = times.format_moment(time.time_ns() // 1000)
        out = []
        for department, lane, lines in bundles:
            number, previous, producer = self._lanes[department, lane]
            root = merkle.root([merkle.leaf_hash(line) for line in lines])
            header = bundle.Header(
                self.origin,
                department,
                lane,
                0,
                number,
                len(lines),
                root,
                producer,
                previous,
                signed_at,
            )
            text = header.text()
            self._lanes[department, lane] = (number + 1, bundle.note_hash(text), producer)
            record = bundle.format_record(sign(text, [self.signers[department]]), lines)
            key = topics.lane_key(department, lane)
            out.append(Signed(department, lane, number, key, record, len(lines)))
        return out


@contextlib.contextmanager
def fresh_ledger(
    departments: Sequence[str], lanes: int, programs: Sequence[Program], http: bool = False
) -> Iterator[Ledger]:
    """A ledger of its own in a temporary folder, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="certledger-bench-"))
    data = folder / "data"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CERTLEDGER_")}
    environ["CERTLEDGER_HTTP_RATE"] = "0"  # all the load has one address
    stack = Stack(data, programs=programs, environ=environ, http=http)
    try:
        stack.up(detach=True)
        settings = stack.settings()
        connection = connect(settings.postgres, "bench")
        try:
            registration = Registration(settings.postgres, data)
            for department in departments:
                registration.add_department(department, {"en": department}, lanes=lanes)
            grants = [{"department": d, "acts": ACTS, "scope": "own"} for d in departments]
            for code, (zh, en) in TYPES.items():
                registration.add_type(code, {"zh": zh, "en": en}, grants)
            registration.close()
            with transaction(connection) as cursor:
                origin = read_origin(cursor)
                found = read_lanes(cursor)
            signers: dict[str, Signer] = {
                d: load_publisher_config(data, d).signer for d in departments
            }
            opened = {
                place: (0, lane.previous, secrets.token_hex(16)) for place, lane in found.items()
            }
            yield Ledger(stack, settings, connection, origin, signers, opened)
        finally:
            connection.close()
    finally:
        stack.down()
        if not os.environ.get("KEEP"):
            postgres.remove(data)
            shutil.rmtree(folder, ignore_errors=True)


def stack_costs(ledger: Ledger, connection: Connection | None = None) -> dict[str, Cost]:
    """What each process of a ledger, and this one, has cost so far."""
    programs = ledger.stack.status()["programs"]
    return costs(
        {name: one["pid"] for name, one in programs.items()}, connection or ledger.connection
    )


def unwitnessed() -> Witnesses:
    """No witness: everything signed is published at once."""
    return Witnesses(Policy((), (), {}, NONE), lambda old, new: [], lambda size: None)
