"""`python -m streams.relay`: receipts, notices, dead letters, lane states, ends out to Kafka.

Everything sent is a row or a position in PostgreSQL first; the place reached is stored after the
topic's acknowledgement, so a message may come twice with the same id, and none is left out.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from ledger import fast_json, merkle, receipt, tiles, topics
from ledger.bundle import place_of
from ledger.checkpoint import format_proof
from ledger.entry import BUNDLE, REGISTRY, parse_entry
from ledger.errors import ProofError, Unavailable
from ledger.logs import FORMAT_VARIABLE, get_log, set_up
from ledger.note import parse_note
from ledger.postgres.connection import connect, transaction
from ledger.postgres.migrate import check_schema
from ledger.postgres.publication import listen_to_publication, wait_for_publication
from ledger.postgres.recalling import read_changes, read_recalls
from ledger.postgres.rows import read_origin
from ledger.postgres.sequencing import Sequencing, tile_reader
from ledger.reliance import format_recall

from .ending import exit_with_reason, stop_on_signals
from .logwriter import SEND_TIMEOUT_SECONDS, make_producer
from .settings import Settings

log = get_log(__name__)

INTERVAL_SECONDS = 0.1
ENTRIES_PER_ROUND = 512
WHOLE_BYTES = 1536 * 1024  # a longer dead letter goes out cut; PostgreSQL keeps all of it
FLUSH_BYTES = 8 * 1024 * 1024
CHANGES_PER_ROUND = 64
RECEIPTS, OUTBOX, EXPIRY, RECALLS = "receipts", "outbox", "expiry", "recalls"

_CLOUD_EVENT = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


class Relay:
    """Four positions: log entries whose receipts are out; outbox rows, notices of ends and recalls
    that are out.
    """

    def __init__(self, store: Sequencing, producer: KafkaProducer) -> None:
        self._store = store
        self._producer = producer
        with transaction(store.connection) as cursor:
            self._origin = read_origin(cursor)
        self._sent: list[Any] = []
        self._bytes = 0  # sent and not yet known to be acknowledged

    def round(self) -> bool:
        """Send what is due; whether there may be more.

        Recalls wait for no checkpoint, and between the other kinds they come first: an office may
        be deciding.
        """
        if not self._store.is_relay_due(RECALLS, RECEIPTS, OUTBOX, EXPIRY):
            return False  # most often: it looks ten times a second
        sent = self._send_recalls()
        published = self._store.published()
        if published is None:
            return sent
        sent = self._send_receipts(*published) or sent
        sent = self._send_recalls() or sent
        sent = self._send_outbox(*published) or sent
        return self._send_ends() or sent

    def _send_recalls(self) -> bool:
        begin = self._store.relay_position(RECALLS)
        changes = read_changes(self._store.connection, begin, CHANGES_PER_ROUND)
        if not changes:
            return False
        for change in changes:
            for recall in read_recalls(self._store.connection, change):
                self._send(
                    topics.RECALLS,
                    key=recall.office.encode(),
                    value=format_recall(self._origin, recall),
                    headers=_CLOUD_EVENT,
                )
        self._flush()
        # A crash here sends them once more, byte for byte.
        self._store.move_relay(RECALLS, begin + len(changes))
        return True

    def _send_receipts(self, size: int, checkpoint: bytes) -> bool:
        begin = self._store.relay_position(RECEIPTS)
        end = min(size, begin + ENTRIES_PER_ROUND)
        if begin >= end:
            return False
        lanes: set[tuple[str, int]] = set()
        opened: set[str] = set()
        receipts = receipt.Receipts(checkpoint, fast_json.dump)
        for index, data, path in self._proven(begin, end, size):
            value = fast_json.load(data)
            if value["kind"] == BUNDLE:
                place = place_of(value["note"])
                self._send_receipt(place, receipts.format(data, index, path))
                lanes.add(place)
            elif value["kind"] == REGISTRY:
                opened.add(_department_of(value))
        self._send_lanes(lanes, opened)
        self._flush()
        self._store.move_relay(RECEIPTS, end)
        return True

    def _proven(self, begin: int, end: int, size: int) -> list[tuple[int, bytes, list[bytes]]]:
        """(index, entry, inclusion path in the tree of `size`) of entries, each held against its
        leaf hash; every tile is read and every node hashed once.
        """
        entries = self._store.entries(begin, end)
        with transaction(self._store.connection) as cursor:
            subtree, known = tiles.subtree_reader(tile_reader(cursor)), merkle.Known()
            found = []
            for index, data in enumerate(entries, begin):
                if merkle.leaf_hash(data) != subtree(0, index):
                    raise ProofError("stored-bytes-damaged", f"entry {index}")
                path = merkle.prove_inclusion(index, size, subtree, known)
                found.append((index, data, path))
            return found

    def _send_receipt(self, place: tuple[str, int], value: bytes) -> None:
        self._send(topics.RECEIPTS, key=topics.lane_key(*place), value=value)

    def _send_lanes(self, moved: set[tuple[str, int]], opened: set[str]) -> None:
        if not moved and not opened:
            return
        registry, lanes = self._store.lanes()
        for (department, number), lane in lanes.items():
            if (department, number) in moved or department in opened:
                state = {**lane.value(), "producer": lane.producer}
                is_open = number < registry.lanes(department)
                self._send(
                    topics.LANES,
                    key=topics.lane_key(department, number),
                    value=receipt.format_lane(department, number, state) if is_open else None,
                )

    def _send_outbox(self, size: int, checkpoint: bytes) -> bool:
        number = self._store.relay_position(OUTBOX)
        rows = self._store.outbox(number, ENTRIES_PER_ROUND)
        done = number
        for row in rows:
            if row["outcome"] == "repeat" and row["log_index"] >= size:
                break  # its receipt waits for the checkpoint
            self._send_row(row, size, checkpoint)
            done = row["number"] + 1
        if done == number:
            return False
        self._flush()
        self._store.move_relay(OUTBOX, done)
        return True

    def _send_row(self, row: dict[str, Any], size: int, checkpoint: bytes) -> None:
        if row["outcome"] == "repeat":
            index = row["log_index"]
            subtree = tiles.subtree_reader(self._store.tile)
            path = merkle.prove_inclusion(index, size, subtree)
            (data,) = self._store.entries(index, index + 1)
            value = receipt.format_receipt(data, format_proof(index, path, checkpoint))
            self._send_receipt(place_of(parse_entry(data)["note"]), value)
        elif row["notice"] is not None:
            self._send(topics.RECEIPTS, key=row["key"], value=row["notice"])
        if row["outcome"] == "dead-letter":
            self._send_dead_letter(row)

    def _send_ends(self) -> bool:
        begin = self._store.relay_position(EXPIRY)
        notices = self._store.expiry_notices(begin, ENTRIES_PER_ROUND)
        if not notices:
            return False
        for key, notice in notices:
            self._send(topics.EXPIRY, key=key.hex().encode(), value=notice, headers=_CLOUD_EVENT)
        self._flush()
        # A crash here sends them once more, byte for byte.
        self._store.move_relay(EXPIRY, begin + len(notices))
        return True

    def _send_dead_letter(self, row: dict[str, Any]) -> None:
        source = f"{row['topic_id']}/{row['partition']}/{row['record_offset']}".encode()
        record, length, digest = self._store.outbox_record(row["number"], WHOLE_BYTES)
        headers = [
            ("code", row["code"].encode()),
            ("message", (row["message"] or "").encode()),
            ("source", source),
        ]
        if digest is not None:
            # it came in compressed; no topic takes it whole
            headers += [("length", str(length).encode()), ("sha256", digest.hex().encode())]
        self._send(topics.DEAD_LETTERS, key=source, value=record, headers=headers)

    def _send(self, topic: str, value: bytes | None, **record: Any) -> None:
        try:
            self._sent.append(self._producer.send(topic, value=value, **record))
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka: {err}") from err
        self._bytes += len(value or b"")
        if self._bytes > FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Wait until everything sent is acknowledged."""
        sent, self._sent, self._bytes = self._sent, [], 0
        try:
            self._producer.flush(timeout=SEND_TIMEOUT_SECONDS)
            for future in sent:
                future.get(timeout=SEND_TIMEOUT_SECONDS)
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka: {err}") from err


def _department_of(value: dict[str, Any]) -> str:
    """The department whose record a registry entry changes, empty for other records."""
    line = parse_note(value["note"].encode()).text.decode().split("\n")[0]
    _, found, name = line.rpartition("/registry/department/")
    return name if found else ""


def run(settings: Settings, stop: threading.Event) -> None:
    """Relay until `stop`."""
    connection = connect(settings.postgres, "relay")
    check_schema(connection)
    producer = make_producer(settings.kafka, "relay")
    relay = Relay(Sequencing(connection), producer)
    log.info("started")
    listen_to_publication(connection)
    while not stop.is_set():
        if not relay.round():
            wait_for_publication(connection, INTERVAL_SECONDS)
    producer.close(timeout=5)
    connection.close()


def main() -> None:
    """Run until a signal comes; exit 70 with the reason on anything else."""
    set_up("relay", os.environ.get(FORMAT_VARIABLE))
    stop = stop_on_signals()
    with exit_with_reason(log, "relaying-stops"):
        run(Settings.from_environment(), stop)


if __name__ == "__main__":
    main()
