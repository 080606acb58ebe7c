"""fsck, the topics: intake, log, receipts and notices of ends against the ledger's tables."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.consumer import fetcher
from kafka.errors import CorruptRecordError, KafkaError

from ledger import admission, kafka_batches, logtopic, merkle, tiles, topics
from ledger.admission import (
    DEAD_LETTER,
    EQUIVOCATION,
    FENCED,
    LOGGED,
    LOST,
    OUT_OF_SEQUENCE,
    REPEAT,
    SKIPPED,
    DeadLetter,
)
from ledger.bundle import Bundle, parse_record
from ledger.checkpoint import parse_checkpoint, parse_proof
from ledger.checkpoint_keys import TrustedKey, check_signed
from ledger.entry import BUNDLE, parse_entry
from ledger.entry import EQUIVOCATION as EQUIVOCATION_ENTRY
from ledger.errors import LedgerError, ProofError, Refused, Unavailable
from ledger.kafka_address import client_settings, open_admin
from ledger.note import parse_note
from ledger.postgres.scan import Row, Scan
from ledger.receipt import LANE_FORM, RECEIPT_FORM, parse_message, parse_receipt

from .fsck_accounting import OF_ITS_DAY
from .fsck_fold import Fold
from .fsck_reliances import due_notices
from .fsck_report import Report
from .fsck_tree import Tree

STALL_SECONDS = 30
kafka_batches.guard(fetcher)


@dataclass(frozen=True, slots=True)
class Part:
    """One partition and the offsets that are in fsck's picture: `begin` to `end` - 1."""

    topic: str
    partition: int
    begin: int
    end: int


class Topics:
    """The topics as they stood when fsck began."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self.ids: dict[str, str] = {}
        self.parts: dict[str, list[Part]] = {}
        try:
            admin = open_admin(KafkaAdminClient, bootstrap)
            try:
                names = [topics.EVENTS, topics.LOG, topics.RECEIPTS, topics.EXPIRY, topics.RECALLS]
                for found in admin.describe_topics(names):
                    if not found.get("error_code"):
                        raw = uuid.UUID(str(found["topic_id"])).bytes
                        name = found.get("name") or found["topic"]
                        self.ids[name] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
                        self.parts[name] = [
                            Part(name, p["partition_index"], 0, 0) for p in found["partitions"]
                        ]
            finally:
                admin.close()
            self._consumer = KafkaConsumer(
                **client_settings(bootstrap),
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_partition_fetch_bytes=4 * 1024 * 1024,
            )
            for name, parts in self.parts.items():
                self.parts[name] = self._measure(name, parts)
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka at {bootstrap}: {err}") from err

    def now(self, name: str) -> list[Part]:
        """The partitions of a topic as they stand now, after the picture was taken."""
        try:
            return self._measure(name, self.parts.get(name, []))
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka at {self._bootstrap}: {err}") from err

    def _measure(self, name: str, parts: list[Part]) -> list[Part]:
        places = sorted(
            (TopicPartition(name, p.partition) for p in parts), key=lambda p: p.partition
        )
        self._consumer.assign(places)
        begins = self._consumer.beginning_offsets(places)
        ends = self._consumer.end_offsets(places)
        return [Part(name, p.partition, begins[p], ends[p]) for p in places]

    def read(
        self, part: Part, end: int | None = None
    ) -> Iterator[tuple[int, bytes | None, bytes | None]]:
        """(offset, key, value) of a partition's records below `end`, without aborted ones.
        ProofError `stored-bytes-damaged` at one that Kafka itself cannot read.
        """
        stop = part.end if end is None else min(end, part.end)
        place = TopicPartition(part.topic, part.partition)
        try:
            self._consumer.assign([place])
            self._consumer.seek(place, part.begin)
            moved = time.monotonic()
            while self._consumer.position(place) < stop:
                polled = self._consumer.poll(timeout_ms=500)
                for record in polled.get(place, ()):
                    if record.offset >= stop:
                        return
                    yield record.offset, record.key, record.value
                if polled:
                    moved = time.monotonic()
                elif time.monotonic() - moved > STALL_SECONDS:
                    raise Unavailable(
                        "unreachable",
                        f"Kafka gives nothing of {part.topic}/{part.partition} below {stop}",
                    )
        except CorruptRecordError as err:
            raise ProofError("stored-bytes-damaged", str(err)) from err
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka at {self._bootstrap}: {err}") from err

    def close(self) -> None:
        """Give up the connection."""
        self._consumer.close()


def check_topics(
    scan: Scan,
    report: Report,
    found: Topics,
    fold: Fold,
    tree: Tree,
    keys: tuple[TrustedKey, ...],
    next_outbox: int,
) -> None:
    """Everything the topics hold, against the tables of `scan`."""

    def read(level: int, index: int) -> bytes:
        row = scan.row("scan_tile", level=level, index=index)
        return b"" if row is None else bytes(row[0])

    subtree = tiles.subtree_reader(read)

    @lru_cache(4096)
    def is_ours(signed: bytes) -> bool:
        """Whether a checkpoint is the stored one of its size, or at least of the same tree."""
        checkpoint, _ = parse_checkpoint(signed)
        stored = scan.row("scan_checkpoint", size=checkpoint.size)
        if stored is not None and stored[0] == signed:
            return True
        try:
            return merkle.tree_root(checkpoint.size, subtree) == checkpoint.root
        except IndexError:
            return True  # a tile is missing or short, which was reported

    log = _LogTopic(scan, report, found, fold.damaged, tree.size, next_outbox, keys, is_ours)
    size, origin = tree.size, fold.registry.origin
    checks: dict[str, Callable[[], None]] = {
        topics.LOG: log.check,
        topics.RECEIPTS: lambda: _check_receipts(
            scan, report, found, fold.damaged, size, keys, is_ours
        ),
        topics.EVENTS: lambda: _check_intake(scan, report, found, fold),
        topics.EXPIRY: lambda: _check_ends(scan, report, found),
        topics.RECALLS: lambda: _check_recalls(scan, report, found, origin),
    }
    for topic, check in checks.items():
        if topic == topics.RECEIPTS and not keys:
            continue
        try:
            check()
        except ProofError as err:
            report.add("topic", topic, err.message)


class _LogTopic:
    """certledger.log.v1 from its start: first record per index, every signed checkpoint."""

    def __init__(
        self,
        scan: Scan,
        report: Report,
        found: Topics,
        damaged: set[int],
        size: int,
        next_outbox: int,
        keys: tuple[TrustedKey, ...],
        is_ours: Callable[[bytes], bool],
    ) -> None:
        self._scan, self._report, self._found = scan, report, found
        self._size, self._next_outbox = size, next_outbox
        self._keys, self._is_ours = keys, is_ours
        self._entries = bytearray(size)  # 1 where the topic holds the entry
        self._messages = bytearray(next_outbox)
        self._differing = set(damaged)  # reported already

    def check(self) -> None:
        known = self._scan.row("scan_log_topic")
        parts = self._found.parts.get(topics.LOG, [])
        if known is not None and known[1] >= 0:
            if self._found.ids.get(topics.LOG) != known[0]:
                self._report.add(
                    "log-topic",
                    topics.LOG,
                    f"topic id {self._found.ids.get(topics.LOG)}, {known[0]} was written to",
                )
            elif parts and parts[0].end <= known[1]:
                self._report.add(
                    "log-topic",
                    topics.LOG,
                    f"ends at offset {parts[0].end}, {known[1]} was acknowledged",
                )
        takers = {
            logtopic.ENTRIES: self._take_entries,
            logtopic.CHECKPOINT: self._take_checkpoint,
            logtopic.ACCOUNTING: self._take_accounting,
        }
        for part in parts:
            for offset, key, value in self._found.read(part):
                self._report.count("log topic records")
                place = f"{topics.LOG}/{part.partition}/{offset}"
                taker = takers.get(key or b"")
                if taker is None or value is None:
                    self._report.add("log-topic", place, f"a record with key {key!r}")
                    continue
                try:
                    taker(place, value)
                except LedgerError as err:
                    self._report.add("log-topic", place, err.message)
        if known is not None and parts and parts[0].begin == 0:
            self._check_whole("entry", self._entries, known[2])
            self._check_whole("accounting row", self._messages, known[3])

    def _take_entries(self, place: str, value: bytes) -> None:
        first, entries = logtopic.parse_entries(value)
        end = first + len(entries)
        if end > self._size:
            raise Refused("going-back", f"entries to {end - 1}, the tree here has {self._size}")
        ours: dict[int, bytes] = dict(self._scan.rows("scan_some_entries", begin=first, end=end))
        for index, entry in enumerate(entries, first):
            seen, self._entries[index] = self._entries[index], 1
            if index in ours and ours[index] != entry and index not in self._differing:
                self._differing.add(index)
                said = "a later record says otherwise" if seen else "is another here"
                self._report.add("log-topic", place, f"entry {index}: {said}")

    def _take_accounting(self, place: str, value: bytes) -> None:
        rows = logtopic.parse_accounting(value)
        first, end = rows[0].number, rows[-1].number + 1
        if end > self._next_outbox:
            raise Refused("going-back", f"messages to {end - 1}, here are {self._next_outbox}")
        ours = {row[0]: row for row in self._scan.rows("scan_some_outbox", begin=first, end=end)}
        for row in rows:
            self._messages[row.number] = 1
            if ours.get(row.number) != tuple(row):
                self._report.add("log-topic", place, f"message {row.number} is another here")

    def _take_checkpoint(self, place: str, value: bytes) -> None:
        checkpoint, note = parse_checkpoint(value)
        if self._keys:
            check_signed(self._keys, checkpoint, note)
        self._report.count("log topic checkpoints")
        if checkpoint.size > self._size:
            raise Refused(
                "going-back",
                f"{checkpoint.size} leaves were signed, the tree here has {self._size}",
            )
        if self._scan.row("scan_checkpoint", size=checkpoint.size) is None:
            self._report.add(
                "checkpoint", f"checkpoint {checkpoint.size}", f"is missing; signed at {place}"
            )
        if not self._is_ours(value):
            raise Refused(
                "checkpoint-refused", f"another root was signed for size {checkpoint.size}"
            )

    def _check_whole(self, what: str, seen: bytearray, wanted: int) -> None:
        missing = seen.find(0, 0, wanted)
        if missing >= 0:
            self._report.add(
                "log-topic", topics.LOG, f"{what} {missing} was acknowledged and is not there"
            )


def _check_receipts(
    scan: Scan,
    report: Report,
    found: Topics,
    damaged: set[int],
    size: int,
    keys: tuple[TrustedKey, ...],
    is_ours: Callable[[bytes], bool],
) -> None:
    sent = bytearray(size)
    whole = True
    for part in found.parts.get(topics.RECEIPTS, []):
        whole = whole and part.begin == 0
        for offset, record_key, value in found.read(part):
            place = f"{topics.RECEIPTS}/{part.partition}/{offset}"
            try:
                message = parse_message(value or b"")
                if message["format"] == LANE_FORM:
                    raise ProofError("proof-failed", "a lane state among the receipts")
                if message["format"] != RECEIPT_FORM:
                    report.count("notices")
                    continue
                report.count("receipts")
                receipt = parse_receipt(value or b"", keys)
                row = scan.row("scan_some_entries", begin=receipt.index, end=receipt.index + 1)
                same = row is not None and row[1] == message["entry"].encode()
                if not same and receipt.index not in damaged:
                    raise ProofError("proof-failed", f"entry {receipt.index} is another here")
                if receipt.size > size or not is_ours(parse_proof(message["proof"].encode())[2]):
                    raise ProofError("proof-failed", f"checkpoint {receipt.size} is another here")
                header = receipt.header
                if record_key != topics.lane_key(header.department, header.lane):
                    raise ProofError("proof-failed", f"sent to {record_key!r}")
            except LedgerError as err:
                report.add("receipt", place, err.message)
            else:
                sent[receipt.index] = 1
    positions: dict[str, int] = dict(scan.rows("scan_relays"))
    if whole and topics.RECEIPTS in found.parts:
        for index, data in scan.stream("scan_entries"):
            if index >= min(positions.get("receipts", 0), size):
                break
            if not sent[index] and index not in damaged and b'"kind":"bundle"' in data:
                report.add("receipt", f"entry {index}", "its receipt was never sent")


def _check_ends(scan: Scan, report: Report, found: Topics) -> None:
    """certledger.expiry.v1: nothing but the notices of the table, and all that were sent."""
    due = (
        (number, key.hex().encode(), notice)
        for key, number, _, _, notice in scan.stream("scan_expiry_notices")
    )
    what = ("expiry-notice", "sent notices of ends", "expiry")
    _check_notices(scan, report, found, topics.EXPIRY, what, due)


def _check_recalls(scan: Scan, report: Report, found: Topics, origin: str) -> None:
    """certledger.recalls.v1: nothing but what the tables give, and all that was sent."""
    what = ("recall", "sent notices of recall", "recalls")
    _check_notices(scan, report, found, topics.RECALLS, what, due_notices(scan, origin))


def _check_notices(
    scan: Scan,
    report: Report,
    found: Topics,
    topic: str,
    what: tuple[str, str, str],
    due: Iterable[tuple[int, bytes, bytes]],
) -> None:
    """A topic against (number, key, notice) of all that is due; `what` is the kind of finding, what
    is counted, and the relay's name.
    """
    kind, counted, relay = what
    unsent: dict[bytes, int] = {}
    ours: set[bytes] = set()
    positions: dict[str, int] = dict(scan.rows("scan_relays"))
    position = positions.get(relay, 0)
    for number, key, notice in due:
        name = sha256(key + notice).digest()
        ours.add(name)
        if number < position:
            unsent[name] = number
    whole = topic in found.parts
    for before, part in zip(found.parts.get(topic, []), found.now(topic), strict=True):
        whole = whole and part.begin == 0
        for offset, sent_key, value in found.read(part):
            report.count(counted)
            name = sha256((sent_key or b"") + (value or b"")).digest()
            unsent.pop(name, None)
            if name not in ours and offset < before.end:  # later ones may be new since the picture
                place = f"{topic}/{part.partition}/{offset}"
                report.add(kind, place, "is no notice of this ledger")
    if whole:
        for number in unsent.values():
            report.add(kind, f"notice {number}", "was never sent")


@dataclass(slots=True)
class _LaneState:
    """Where a lane stood at a place of its partition, out of the records before it."""

    epoch: int = 0
    producer: str | None = None
    next_sequence: int = 0
    index: int = -1
    is_open: bool = True


def _check_intake(scan: Scan, report: Report, found: Topics, fold: Fold) -> None:
    topic_id = found.ids.get(topics.EVENTS)
    parts = {part.partition: part for part in found.parts.get(topics.EVENTS, [])}
    for stored_id, partition, next_offset, last in scan.rows("scan_intake"):
        place = f"{stored_id}/{partition}"
        if stored_id in fold.registry.lost_intakes:
            continue
        if stored_id != topic_id:
            report.add("intake", place, f"the topic's id is {topic_id} now")
            continue
        part = parts.get(partition)
        if part is None or part.end < next_offset or part.begin > next_offset:
            held = "nothing" if part is None else f"{part.begin} to {part.end}"
            report.add("intake", place, f"the next offset is {next_offset}, the topic holds {held}")
            continue
        _Partition(scan, report, found, fold, stored_id).check(part, next_offset, last)


class _Partition:
    """One intake partition, record by record in its own order."""

    def __init__(
        self, scan: Scan, report: Report, found: Topics, fold: Fold, topic_id: str
    ) -> None:
        self._scan, self._report, self._found, self._fold = scan, report, found, fold
        self._topic_id = topic_id
        self._lanes: dict[tuple[str, int], _LaneState] = {}

    def check(self, part: Part, next_offset: int, last: bytes | None) -> None:
        rows = self._scan.stream(
            "scan_accounted_records",
            topic_id=self._topic_id,
            partition=part.partition,
            begin=part.begin,
        )
        row = next(rows, None)
        for offset, _, value in self._found.read(part, next_offset):
            self._report.count("intake records")
            place = f"{self._topic_id}/{part.partition}/{offset}"
            while row is not None and row[0] < offset:
                self._check_unseen(f"{self._topic_id}/{part.partition}/{row[0]}", row)
                row = next(rows, None)
            if row is not None and row[0] == offset:
                try:
                    self._check_record(value, row)
                except LedgerError as err:
                    self._report.add("intake-record", place, err.message)
                row = next(rows, None)
            if offset == next_offset - 1 and sha256(value or b"").digest() != last:
                self._report.add(
                    "intake",
                    f"{self._topic_id}/{part.partition}",
                    f"the record at {offset} is not the last one taken",
                )
        while row is not None and row[0] < next_offset:
            self._check_unseen(f"{self._topic_id}/{part.partition}/{row[0]}", row)
            row = next(rows, None)

    def _check_unseen(self, place: str, row: Row) -> None:
        if row[1] not in (SKIPPED, LOST):
            self._report.add("intake-record", place, f"{row[1]}, the topic holds no such record")

    def _check_record(self, value: bytes | None, row: Row) -> None:
        _, outcome, index, entry, code, kept = row
        if outcome in (SKIPPED, LOST):
            raise Refused("proof-failed", f"{outcome}, the topic holds a record there")
        if outcome == LOGGED:
            self._check_logged(parse_record(value or b""), index, entry)
            return
        opened = admission.open_record(value, self._fold.registry)
        if outcome == DEAD_LETTER:
            if kept != value:
                raise Refused("proof-failed", "the dead letter kept is not the record")
            now = opened.code if isinstance(opened, DeadLetter) else None
            if now != code and code not in OF_ITS_DAY:
                raise Refused("proof-failed", f"dead letter {code}, by the rules {now or 'none'}")
            return
        if isinstance(opened, DeadLetter):
            raise Refused("proof-failed", f"{outcome}, by the rules {opened.code}")
        bundle = opened.bundle
        if index in self._fold.damaged:
            return
        if outcome == REPEAT:
            if self._note_hash(entry, BUNDLE) != bundle.note_hash:
                raise Refused("proof-failed", f"repeat of entry {index}, which has another note")
            return
        if (
            outcome == EQUIVOCATION
            and entry is not None
            and (self._note_hash(entry, EQUIVOCATION_ENTRY) != bundle.note_hash)
        ):
            raise Refused("proof-failed", f"entry {index} keeps another note")
        place = (bundle.header.department, bundle.header.lane)
        if self._fold.lane_places.get(place, 0) is not None:
            lane = self._lanes.get(place, _LaneState())
            expected = [self._classify(bundle, lane)]
            for index, epoch, is_open in self._fold.lane_beginnings.get(place, ()):
                if index > lane.index:  # the lane may have been begun anew by then
                    anew = _LaneState(epoch, None, 0, index, is_open)
                    expected.append(self._classify(bundle, anew))
            if outcome not in expected:
                said = " or ".join(dict.fromkeys(expected))
                raise Refused("proof-failed", f"accounted for as {outcome}, it was {said}")

    def _check_logged(self, bundle: Bundle, index: int, entry: bytes | None) -> None:
        header = bundle.header
        lane = self._lanes.setdefault((header.department, header.lane), _LaneState())
        lane.epoch, lane.producer = header.epoch, header.producer
        lane.next_sequence, lane.index = header.sequence + 1, index
        if entry is None or index in self._fold.damaged:
            return
        if parse_entry(entry).get("note") != bundle.note_bytes.decode():
            raise Refused("proof-failed", f"entry {index} has another note than this record")

    def _note_hash(self, entry: bytes | None, kind: str) -> bytes:
        if entry is None:
            raise Refused("proof-failed", "the entry that it names is not there")
        value = parse_entry(entry)
        if value["kind"] != kind:
            raise Refused("proof-failed", "the entry that it names is of another kind")
        return sha256(parse_note(value["note"].encode()).text).digest()

    def _classify(self, bundle: Bundle, lane: _LaneState) -> str:
        """What the rules say of a record that is not logged, at this place of its partition."""
        header = bundle.header
        row = self._scan.row(
            "scan_note",
            department=header.department,
            lane=header.lane,
            epoch=header.epoch,
            sequence=header.sequence,
            before=lane.index + 1,
        )
        if row is not None and row[1] == bundle.note_hash:
            return REPEAT
        if row is not None and row[0] == header.producer:
            return EQUIVOCATION
        if not lane.is_open:
            return FENCED
        known = lane.producer or header.producer
        if (header.epoch, header.sequence, header.producer) == (
            lane.epoch,
            lane.next_sequence,
            known,
        ):
            return LOGGED
        if (
            header.epoch == lane.epoch + 1
            and header.sequence == 0
            and (
                self._scan.row(
                    "scan_is_note",
                    department=header.department,
                    lane=header.lane,
                    epoch=lane.epoch,
                    note_hash=header.previous,
                    before=lane.index + 1,
                )
                == (True,)
            )
        ):
            return LOGGED
        if header.epoch < lane.epoch or (header.epoch == lane.epoch and header.producer != known):
            return FENCED
        return OUT_OF_SEQUENCE
