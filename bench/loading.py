"""Load for a ledger of any size: bundles made and signed in pieces while others are on their way,
in little memory.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from kafka import KafkaProducer

from ledger import topics
from ledger.kafka_address import client_settings
from ledger.postgres.connection import transaction

from .ledgers import Ledger, Signed
from .town import Town

PIECE = 16  # bundles made at once: with 1,000 events each some 10 MB
AHEAD = 2  # pieces that are ready before they are asked for
IN_FLIGHT = 192  # bundles sent and not yet stored, at most
LINGER_MS = 5  # one producer stands for all departments


@dataclass(frozen=True, slots=True)
class _Piece:
    bundles: list[tuple[Signed, int]]
    written: int  # the town's events up to then, those in unfinished bundles too


class Load:
    """A town's bundles, sent to a ledger as fast as it stores them, or slower."""

    def __init__(self, ledger: Ledger, town: Town, size: int) -> None:
        self.bundles = self.events = self.certificates = 0  # sent; certificates: begun by these
        self.known = 0  # the town's events with numbers below this are among what was taken
        self._ledger, self._town, self._size = ledger, town, size
        self._producer = make_producer(ledger.settings.kafka)
        self._ready: queue.Queue[_Piece | BaseException] = queue.Queue(AHEAD)
        self._ended = threading.Event()
        self._rests = threading.Event()  # as much is made as may be
        self._thread = threading.Thread(target=self._make, name="load", daemon=True)
        self._thread.start()

    def take(self, bundles: int) -> list[tuple[Signed, int]]:
        """So many bundles or a few more, each with how many certificates it begins."""
        taken: list[tuple[Signed, int]] = []
        while len(taken) < bundles:
            piece = self._ready.get()
            if isinstance(piece, BaseException):
                raise piece
            taken += piece.bundles
            self.known = piece.written - 2 * self._size * self._town.lanes * len(
                self._town.departments
            )
        return taken

    def send(self, taken: Sequence[tuple[Signed, int]]) -> None:
        """Send what was taken, in this order."""
        send(self._producer, [record for record, _ in taken])
        self.bundles += len(taken)
        self.events += sum(record.events for record, _ in taken)
        self.certificates += sum(begins for _, begins in taken)

    def go_on(self) -> None:
        """Send the next piece once little enough is in flight."""
        taken = self.take(PIECE)
        while self.bundles - self._stored() > IN_FLIGHT:
            time.sleep(0.05)
        self.send(taken)

    def rest(self) -> None:
        """Wait until nothing is being made, as enough is ready."""
        self._rests.clear()
        self._rests.wait()

    def close(self) -> None:
        """End it; what was sent is acknowledged."""
        self._ended.set()
        self._thread.join()
        self._producer.close()

    def _stored(self) -> int:
        with transaction(self._ledger.connection) as cursor:
            cursor.execute("SELECT coalesce(sum(next_offset), 0)::bigint FROM intake")
            return int((cursor.fetchone() or (0,))[0])

    def _make(self) -> None:
        try:
            bundles = self._town.bundles(self._size)
            while not self._ended.is_set():
                made = list(islice(bundles, PIECE))
                signed = self._ledger.sign([(d, lane, lines) for d, lane, lines, _ in made])
                begins = (begins for *_, begins in made)
                self._put(_Piece(list(zip(signed, begins, strict=True)), self._town.written))
        except BaseException as err:
            self._put(err)

    def _put(self, piece: _Piece | BaseException) -> None:
        while not self._ended.is_set():
            try:
                return self._ready.put(piece, timeout=0.2)
            except queue.Full:
                self._rests.set()


def make_producer(bootstrap: str) -> KafkaProducer:
    """As a busy department's: idempotent, acknowledged by all replicas, in large batches."""
    return KafkaProducer(
        **client_settings(bootstrap),
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        max_request_size=2 * 1024 * 1024,
        batch_size=256 * 1024,
        linger_ms=LINGER_MS,
    )


def send(producer: KafkaProducer, records: Sequence[Signed]) -> None:
    """All records to the intake topic, acknowledged."""
    for record in records:
        producer.send(topics.EVENTS, key=record.key, value=record.value)
    producer.flush()
