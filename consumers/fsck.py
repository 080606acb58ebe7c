"""`certledger fsck`: decides whether anything was lost, doubled, forged or damaged.

Written against the formats (ledger/FORMATS.md), not against the store: it streams the tables in
one picture, plays the log's own order again by the pure rules, and compares. With Kafka it also
reads the intake, log and receipt topics. The kinds of findings are `fsck_report.KINDS`.

Steps: 1 entries and tree (fsck_tree), 2 and 3 bundles and fold (fsck_fold), 4 checkpoints, 5
accounting (fsck_accounting), 6 status lists and notices of ends (fsck_following), 7 topics
(fsck_topics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg2
from psycopg2.extensions import connection as Connection

from ledger import canonical
from ledger.checkpoint_keys import TrustedKey, parse_keys
from ledger.entry import GENESIS, STATUS, parse_entry
from ledger.errors import LedgerError, Unavailable
from ledger.postgres.scan import Row, Scan, scan
from ledger.registry import first_keys

from .fsck_accounting import check_accounting, check_outbox, check_positions
from .fsck_catalogues import check_catalogues
from .fsck_fold import Fold
from .fsck_following import Histories, check_following
from .fsck_lines import Beside
from .fsck_report import Finding, Report
from .fsck_topics import Topics, check_topics
from .fsck_tree import WIDTH, Tree

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) now and then."""


def run(
    connection: Connection,
    kafka: str | None = None,
    *,
    progress: Progress | None = None,
    checked: dict[str, int] | None = None,
    beside: Beside | None = None,
) -> list[Finding]:
    """All findings, the root cause first; none when the ledger is whole.

    `kafka`: bootstrap addresses, None to check the database alone. How much was checked is counted
    in `checked`. `beside` opens event lines meanwhile. Unavailable when there is no ledger or a
    server cannot be reached.
    """
    report = Report({} if checked is None else checked)
    if progress is not None:
        report.progress = progress
    # The ends are read before the picture is taken: what the topics hold below them is in it.
    ends = None if kafka is None else Topics(kafka)
    try:
        with scan(connection) as tables:
            _check(tables, report, ends, beside)
    except psycopg2.Error as err:
        report.add("storage", "PostgreSQL", str(err).strip())
    finally:
        if ends is not None:
            ends.close()
    return report.findings()


def _check(tables: Scan, report: Report, topics: Topics | None, beside: Beside | None) -> None:
    allocation = tables.row("scan_allocation")
    if allocation is None:
        raise Unavailable("not-initialised")
    origin, next_index, ledger_time, registry_index, next_outbox = allocation
    keys = _checkpoint_keys(tables, report, origin)
    tree = Tree(tables, report, origin, keys, next_index)
    histories = Histories(tables.stream("scan_outlooks"), report)
    fold = Fold(tables, report, beside, keep=histories.add)
    row = tables.row("scan_last_entry")
    fold.last = -1 if row is None or row[0] is None else row[0]
    if fold.last >= next_index:
        report.add(
            "allocation",
            "allocation",
            f"the next index is {next_index}, the log ends with entry {fold.last}",
        )
    total = max(next_index, tree.size, fold.last + 1)
    for index, data, leaf in fold.ahead(_entries(tables.stream("scan_entries"), total, tree)):
        fold.take(index, data, leaf)
        if index % WIDTH == 0:
            report.progress("entries", index, total)
    for size in tree.status_due:
        if fold.kinds[size - 1] not in (0, ord(STATUS[0])):
            report.add("checkpoint", f"checkpoint {size}", "its last entry is no status entry")
    tree.finish()
    fold.finish()
    if fold.last_time > ledger_time:
        report.add("time", "allocation", "the ledger time lies before the last entry's")
    if fold.stopped is None and fold.last_registry != registry_index:
        report.add(
            "allocation",
            "allocation",
            f"the last registry change is entry {fold.last_registry}, not {registry_index}",
        )
    check_accounting(tables, report, bytes(fold.kinds), fold.registry)
    check_outbox(tables, report, fold.registry, next_outbox)
    check_positions(tables, report, tree.size, next_outbox)
    check_following(tables, report, origin, histories, fold.tainted, fold.doubts)
    check_catalogues(tables, report, fold.registry)
    if topics is not None:
        check_topics(tables, report, topics, fold, tree, keys, next_outbox)


def _checkpoint_keys(tables: Scan, report: Report, origin: str) -> tuple[TrustedKey, ...]:
    """The keys that had to sign, by the registry's record, which the fold compares with the notes
    that made it; those that entry 0 names where the record is damaged, none where both are.
    """
    first: tuple[TrustedKey, ...] = ()
    row = tables.row("scan_some_entries", begin=0, end=1)
    try:
        value = parse_entry(row[1]) if row is not None else {}
        if value.get("kind") != GENESIS:
            raise Unavailable("not-initialised", "entry 0 is missing or is no genesis")
        if value["origin"] != origin:
            report.add("genesis", "entry 0", f"its origin is {value['origin']!r}, not {origin!r}")
        first = first_keys(value)
    except LedgerError as err:
        report.add("genesis", "entry 0", err.message)
    for name, data, _ in tables.rows("scan_registry"):
        if name == "ledger":
            try:
                keys = parse_keys(canonical.parse(data, 1 << 20)["value"]["checkpoint_keys"])
            except (LedgerError, KeyError, TypeError):
                break
            named = [(k.key, k.from_size) for k in keys[: len(first)]]
            if named != [(k.key, k.from_size) for k in first]:
                report.add("registry", "ledger", "its first keys are not those of entry 0")
            return keys
    if not first:
        report.add(
            "incomplete", "checkpoints", "no checkpoint key is known: no signature was checked"
        )
    return first


def _entries(
    rows: Iterator[Row], total: int, tree: Tree
) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """(index, entry, its true leaf hash) from index 0 to `total` - 1, None for what is not there or
    known.
    """
    for number, block in enumerate(_blocks(rows, total)):
        leaves = tree.block(number, block)
        for position, data in enumerate(block):
            leaf = leaves[position] if position < len(leaves) else None
            yield number * WIDTH + position, data, leaf


def _blocks(rows: Iterator[Row], total: int) -> Iterator[list[bytes | None]]:
    """Entries in blocks of 256 from index 0 to `total` - 1, None where one is missing."""
    block: list[bytes | None] = []
    want = 0
    for index, data in rows:
        while want <= index:
            block.append(data if want == index else None)
            want += 1
            if len(block) == WIDTH:
                yield block
                block = []
    while want < total:
        block.append(None)
        want += 1
        if len(block) == WIDTH:
            yield block
            block = []
    if block:
        yield block
