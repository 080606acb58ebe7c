"""fsck, the accounting: every Kafka record in exactly one outcome, and what was said about it."""

from __future__ import annotations

from ledger import admission
from ledger.admission import DEAD_LETTER, EQUIVOCATION, LOGGED, LOST, REPEAT, DeadLetter
from ledger.errors import LedgerError
from ledger.loss import LostRecords
from ledger.postgres.scan import Row, Scan
from ledger.receipt import NOTICE_FORM, format_notice, parse_message
from ledger.registry import Registry
from ledger.topics import lane_key

from .fsck_report import Merge, Report

# A dead letter's code that the registry of a later day need not give again.
OF_ITS_DAY = frozenset({"unknown-department", "unknown-key", "key-revoked"})
_ENTRY_OF = {LOGGED: "b", REPEAT: "b", EQUIVOCATION: "e", LOST: "r"}


def check_accounting(scan: Scan, report: Report, kinds: bytes, registry: Registry) -> None:
    """Offsets 0 to next - 1 of each partition once each, those that `registry` declares lost as
    such and no others; `kinds` has each entry's first letter.
    """
    intake = {(t, p): (offset, last) for t, p, offset, last in scan.rows("scan_intake")}
    _check_topic_ids(report, registry, {place: offset for place, (offset, _) in intake.items()})
    lost = _Lost(report, registry)
    wanted: dict[tuple[str, int], int] = dict.fromkeys(intake, 0)
    gaps: set[tuple[str, int]] = set()
    for topic, partition, offset, outcome, index, _ in scan.stream("scan_accounting"):
        report.count("records")
        place = f"{topic}/{partition}/{offset}"
        if (topic, partition) not in wanted:
            report.add("accounting", place, "its partition was never begun")
            continue
        want = wanted[topic, partition]
        if offset > want:
            gaps.add((topic, partition))
            missing = f"{want}" if offset == want + 1 else f"{want} to {offset - 1}"
            report.add(
                "accounting", f"{topic}/{partition}/{want}", f"offset {missing}: not accounted for"
            )
        wanted[topic, partition] = offset + 1
        lost.check(place, (topic, partition), offset, index if outcome == LOST else None)
        _check_entry(report, kinds, place, outcome, index)
    for (topic, partition), (next_offset, last) in intake.items():
        report.count("partitions")
        counted = wanted[topic, partition]
        place = f"{topic}/{partition}"
        if counted != next_offset and (topic, partition) not in gaps:
            report.add(
                "intake",
                place,
                f"the next offset is {next_offset}, records are accounted for up to {counted - 1}",
            )
        if (last is None) != (next_offset == 0):
            report.add("intake", place, "the hash of the last record taken does not fit the offset")


def _check_topic_ids(
    report: Report, registry: Registry, offsets: dict[tuple[str, int], int]
) -> None:
    """One intake topic, and before it those that were declared gone, taken up to what was said."""
    gone = registry.lost_intakes
    if len({topic for topic, _ in offsets} - gone.keys()) > 1:
        report.add("intake", "topic ids", "records were taken from topics of several ids")
    for topic, loss in gone.items():
        taken = {place[1]: offset for place, offset in offsets.items() if place[0] == topic}
        if taken != dict(loss.taken):
            report.add("intake", topic, f"was declared gone, taken up to {dict(loss.taken)}")


class _Lost:
    """What was declared lost of partitions, against the accounting rows in their order."""

    def __init__(self, report: Report, registry: Registry) -> None:
        self._report = report
        self._losses: dict[tuple[str, int], list[tuple[int, LostRecords]]] = {}
        for index, loss in registry.losses:
            report.count("declared losses")
            if isinstance(loss, LostRecords):
                place = (loss.topic_id, loss.partition)
                self._losses.setdefault(place, []).append((index, loss))

    def check(self, place: str, partition: tuple[str, int], offset: int, said: int | None) -> None:
        """`said`: the entry that a row names which says that its record is lost, else None."""
        found = (i for i, e in self._losses.get(partition, ()) if e.first <= offset <= e.last)
        index = next(found, None)
        if said is not None:
            self._report.count("records declared lost")
        if index != said:
            declared = "no entry declares it lost" if index is None else f"entry {index} does"
            self._report.add("accounting", place, f"lost by entry {said}: {declared}")


def _check_entry(report: Report, kinds: bytes, place: str, outcome: str, index: int | None) -> None:
    if index is None:
        if outcome in (LOGGED, REPEAT, LOST):
            report.add("accounting", place, f"{outcome} without an entry")
        return
    letter = _ENTRY_OF.get(outcome)
    if letter is None:
        report.add("accounting", place, f"{outcome} leads to no entry, {index} is named")
    elif not 0 <= index < len(kinds):
        report.add("accounting", place, f"{outcome} names entry {index}, which is not there")
    elif kinds[index] not in (0, ord(letter)):
        report.add("accounting", place, f"{outcome} names entry {index}, which is of another kind")


def check_outbox(scan: Scan, report: Report, registry: Registry, next_outbox: int) -> None:
    """Outbox numbers 0 to next - 1, each about its own accounting row; dead letters whole."""
    accounted = Merge(
        scan.stream("scan_accounted_outbox"),
        lambda row: report.add(
            "outbox", f"outbox {row[0]}", f"is missing: it is about {row[1]}/{row[2]}/{row[3]}"
        ),
    )
    want = 0
    for row in scan.stream("scan_outbox"):
        report.count("messages")
        number = row[0]
        place = f"outbox {number}"
        if number >= next_outbox:
            report.add("outbox", place, f"lies beyond the allocation row's {next_outbox}")
        rows = accounted.take(number)
        if number > want and not any(r[0] < number for r in rows):
            report.add("outbox", f"outbox {want}", f"numbers {want} to {number - 1} are missing")
        want = number + 1
        if [r[1:] for r in rows] != [row[1:6]]:
            report.add("outbox", place, "is not about the record whose accounting names it")
        _check_message(report, registry, place, row)
    accounted.rest()
    if want < next_outbox:
        report.add("outbox", f"outbox {want}", f"numbers {want} to {next_outbox - 1} are missing")


def _check_message(report: Report, registry: Registry, place: str, row: Row) -> None:
    _, topic, partition, offset, outcome, _, code, message, key, notice, record = row
    said = f"{outcome} {topic}/{partition}/{offset}"
    if outcome == DEAD_LETTER:
        opened = admission.open_record(record, registry)
        bundle = opened.bundle
        if code not in OF_ITS_DAY and (not isinstance(opened, DeadLetter) or opened.code != code):
            now = opened.code if isinstance(opened, DeadLetter) else "a bundle in order"
            report.add("outbox", place, f"{said}: its bytes are {now}, accounted for as {code}")
        expected = (
            None
            if bundle is None
            else format_notice(
                bundle.header, bundle.note_hash, outcome, code or outcome, message or ""
            )
        )
        if notice != expected:
            report.add("outbox", place, f"{said}: the notice is not about its bytes")
        header = None if bundle is None else bundle.header
        if key != (None if header is None else lane_key(header.department, header.lane)):
            report.add("outbox", place, f"{said}: its key is not the record's lane")
        return
    if record is not None:
        report.add("outbox", place, f"{said}: holds a record, which only dead letters do")
    if outcome == REPEAT or notice is None:
        if outcome == REPEAT and notice is not None:
            report.add("outbox", place, f"{said}: a repeat gets a receipt, not a notice")
        return
    try:
        value = parse_message(notice)
    except LedgerError as err:
        report.add("outbox", place, f"{said}: {err.message}")
        return
    if (
        value["format"] != NOTICE_FORM
        or (value.get("outcome"), value.get("code")) != (outcome, code or outcome)
        or value.get("message") != (message or "").encode("ascii", "backslashreplace").decode()
        or lane_key(str(value.get("department")), value.get("lane", -1)) != key
    ):
        report.add("outbox", place, f"{said}: its notice says something else")


def check_positions(scan: Scan, report: Report, size: int, next_outbox: int) -> None:
    """What the log topic and the relays are said to hold is not more than there is."""
    published = 0
    row = scan.row("scan_published")
    if row is not None and row[0] is not None:
        published = row[0]
    known = scan.row("scan_log_topic")
    if known is not None:
        _, last_offset, entries, outbox = known
        if entries > size or outbox > next_outbox or (entries and last_offset < 0):
            report.add("position", "log topic", f"{entries} entries and {outbox} messages noted")
        elif entries and scan.row("scan_checkpoint", size=entries) is None:
            report.add(
                "checkpoint", f"checkpoint {entries}", "was written to the log topic and is missing"
            )
    (ends,) = scan.row("scan_next_notice") or (0,)
    (recalls,) = scan.row("read_next_recall") or (0,)
    limits = {"outbox": next_outbox, "expiry": ends, "recalls": recalls}
    for name, position in scan.rows("scan_relays"):
        limit = limits.get(name, published)
        if not 0 <= position <= limit:
            report.add("position", f"relay {name}", f"stands at {position} of {limit}")
