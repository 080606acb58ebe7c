"""Auditing a log from outside: is it one history, and is every public part of it by the rules?

Steps: 1 the checkpoint against the one seen last, 2 the tiles against the checkpoint, 3 entries and
delta lists against tiles and rules (audit_fold), 4 where event lines may be read, admission run
again (fsck_fold). Nothing is remembered of a log in which something was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

from ledger import merkle, statusmap
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.entry import STATUS
from ledger.errors import LedgerError, ProofError
from ledger.event import parse_event
from ledger.evidence import CertificateId, format_evidence
from ledger.mapfold import StatusMap
from ledger.misbehaviour import (
    ENTRY,
    FORK,
    INCONSISTENT,
    OUTCOME,
    REPORTED,
    SHRUNK,
    Judgement,
    Misbehaviour,
    ShownEntry,
    check_misbehaviour,
)
from ledger.note import parse_vkey
from ledger.postgres.reader import Reader, View
from ledger.postgres.scan import scan
from ledger.proving import prove_act
from ledger.tiles import WIDTH
from ledger.trust import Trust

from .audit_fold import PublicFold
from .audit_state import State
from .fsck_fold import Fold
from .fsck_lines import Beside
from .fsck_report import Finding, Report
from .log_client import Log, read_deltas, read_entries, read_hashes

Progress = Callable[[str, int, int], None]
MAX_FOUND = 100  # findings after which the rest is not looked at


@dataclass
class Result:
    """What an audit found; `state` is what to remember when nothing was."""

    checkpoint: Checkpoint
    state: State
    since: int  # size of the log that was remembered
    findings: list[Finding] = field(default_factory=list)
    misbehaviour: Misbehaviour | None = None
    judgement: Judgement | None = None
    counts: dict[str, int] = field(default_factory=dict)


def audit(
    log: Log, trust: Trust, state: State, progress: Progress = lambda what, done, total: None
) -> Result:
    """Steps 1 to 3. A LedgerError where the log cannot be read, or shows what is no checkpoint of
    the trusted ledger: that says nothing about the ledger.
    """
    return _Audit(log, trust, state, progress).run()


class _Audit:
    def __init__(self, log: Log, trust: Trust, state: State, progress: Progress) -> None:
        self._log, self._trust, self._state, self._progress = log, trust, state, progress
        self._data = log.checkpoint()
        self._refused: LedgerError | None = None  # signed by the ledger, and not cosigned
        try:
            self._now = trust.check_checkpoint(self._data)
        except ProofError as err:
            self._now, self._refused = trust.check_signed(self._data), err
        self._leaves: list[bytes] = []
        self._result = Result(self._now, state, state.size)

    def run(self) -> Result:
        state, now = self._state, self._now
        if self._refused is not None and not state.size:
            raise self._refused
        if state.size:
            seen = parse_checkpoint(state.checkpoint)[0]
            if seen.origin != now.origin:
                raise ProofError("checkpoint-refused", f"the state is of {seen.origin[:120]!r}")
            if now.size <= seen.size:
                self._compare(seen)
                return self._of_one_history()
        self._leaves = [*state.leaves, *self._served_leaves(state.size)]
        if merkle.root(self._leaves) != now.root:
            self._explain()
        self._of_one_history()
        if self._result.findings:
            return self._result
        self._check_upper_tiles()
        self._fold()
        return self._result

    # --- step 1 ---

    def _of_one_history(self) -> Result:
        """The result of comparing with what was seen. A checkpoint that was not cosigned as it
        must be is refused, unless it proves two histories.
        """
        judgement = self._result.judgement
        if self._refused is not None and (judgement is None or not judgement.proven):
            raise self._refused
        return self._result

    def _compare(self, seen: Checkpoint) -> None:
        """No growth: the same, another root, or less than was seen."""
        state, now = self._state, self._now
        both = (state.checkpoint, self._data)
        if now.size == seen.size:
            if now.root != seen.root:
                self._accuse("fork", f"two roots were signed for size {now.size}", FORK, both)
            return
        claim = f"{seen.size} leaves were seen, now {now.size} are shown"
        if now.size and merkle.root(state.leaves[: now.size]) != now.root:
            path = merkle.prove_prefix(now.size, seen.size, merkle.in_memory(state.leaves))
            claim += ", and they are no beginning of those"
            self._accuse("inconsistent", claim, INCONSISTENT, both, path)
        else:
            self._accuse("shrunk", claim, SHRUNK, both)

    # --- step 2 ---

    def _served_leaves(self, begin: int) -> list[bytes]:
        """The leaf hashes from `begin` on, as the tiles have them."""
        found: list[bytes] = []
        size = self._now.size
        for number in range(begin // WIDTH, (size + WIDTH - 1) // WIDTH):
            first = number * WIDTH
            hashes = read_hashes(self._log, 0, number, min(size - first, WIDTH))
            found += hashes[max(begin - first, 0) :]
            self._progress("tiles", min(first + WIDTH, size), size)
        return found

    def _explain(self) -> None:
        """The tiles do not continue what was seen to the signed root: whose fault is it?"""
        state, now = self._state, self._now
        served = self._served_leaves(0) if state.size else self._leaves
        if merkle.root(served) != now.root:
            claim = f"the tiles served are not those of the signed root of size {now.size}"
            self._accuse("tile", claim, REPORTED, (self._data,))
            return
        path = merkle.prove_prefix(state.size, now.size, merkle.in_memory(served))
        claim = (
            f"the log of size {now.size} does not begin with the {state.size} leaves seen before"
        )
        self._accuse("inconsistent", claim, INCONSISTENT, (state.checkpoint, self._data), path)

    def _check_upper_tiles(self) -> None:
        """The tiles above the lowest, as far as they are new."""
        level, row = 1, self._leaves
        begin = self._state.size
        while len(row) >= WIDTH:
            row = [merkle.root(row[i : i + WIDTH]) for i in range(0, len(row) - WIDTH + 1, WIDTH)]
            begin //= WIDTH
            for number in range(begin // WIDTH, (len(row) + WIDTH - 1) // WIDTH):
                wanted = row[number * WIDTH : (number + 1) * WIDTH]
                if read_hashes(self._log, level, number, len(wanted)) != wanted:
                    claim = f"tile {level}/{number} is not the signed tree's"
                    self._accuse("tile", claim, REPORTED, (self._data,))
            level += 1

    # --- step 3 ---

    def _fold(self) -> None:
        state, size = self._state, self._now.size
        fold = PublicFold(
            self._entry_at, self._trust.genesis or None, state.tree, state.map, state.notes,
            state.last_time,
        )  # fmt: skip
        before: bytes | None = None
        for number in range(state.size // WIDTH, (size + WIDTH - 1) // WIDTH):
            first = number * WIDTH
            width = min(size - first, WIDTH)
            entries = read_entries(self._log, number, width)
            deltas = read_deltas(self._log, number, width)
            for index, (data, pairs) in enumerate(zip(entries, deltas, strict=True), first):
                if merkle.leaf_hash(data) != self._leaves[index]:
                    self._accuse_entry("served", index, "its bytes are not what was hashed", data)
                    return
                if index >= state.size:
                    fold.take(index, data, pairs)
                    self._take_found(fold, index, data, before)
                before = data
            if len(self._result.findings) >= MAX_FOUND:
                return
            self._progress("entries", first + width, size)
        if fold.last_kind != STATUS and before is not None:
            claim = "a published checkpoint ends in no status entry"
            self._accuse_entry("checkpoint", size - 1, claim, before)
        fold.settle()
        self._result.counts = fold.counts
        self._result.state = State(
            self._data, self._leaves, fold.notes, fold.tree, fold.map, fold.last_time
        )

    def _take_found(self, fold: PublicFold, index: int, data: bytes, before: bytes | None) -> None:
        for found in fold.found:
            self._accuse_entry(found.kind, index, found.message, data, before)
        fold.found.clear()

    def _entry_at(self, index: int) -> bytes:
        """An earlier entry, as it was hashed."""
        number, place = divmod(index, WIDTH)
        data = read_entries(self._log, number, min(self._now.size - number * WIDTH, WIDTH))[place]
        if merkle.leaf_hash(data) != self._leaves[index]:
            raise ProofError("stored-bytes-damaged", f"entry {index} is not what was hashed")
        return data

    # --- findings ---

    def _accuse_entry(
        self, kind: str, index: int, claim: str, data: bytes, before: bytes | None = None
    ) -> None:
        subtree = merkle.in_memory(self._leaves)
        size = self._now.size
        shown = [(index - 1, before)] if before is not None and kind == "time" else []
        entries = tuple(
            ShownEntry(n, entry, tuple(merkle.prove_inclusion(n, size, subtree)))
            for n, entry in [*shown, (index, data)]
        )
        self._accuse(kind, claim, ENTRY, (self._data,), (), entries, f"entry {index}")

    def _accuse(
        self,
        finding: str,
        claim: str,
        kind: str,
        checkpoints: Sequence[bytes],
        path: Sequence[bytes] = (),
        entries: tuple[ShownEntry, ...] = (),
        place: str = "",
    ) -> None:
        result = self._result
        result.findings.append(Finding(finding, place or f"size {self._now.size}", claim))
        if result.judgement is not None and result.judgement.proven:
            return
        made = Misbehaviour(
            self._now.origin, kind, f"{place}: {claim}" if place else claim, tuple(checkpoints),
            tuple(path), entries,
        )  # fmt: skip
        keep(result, made, self._trust)


def keep(result: Result, made: Misbehaviour, trust: Trust) -> None:
    """Keep a misbehaviour file as the result's, the first, or the first that proves its claim."""
    judgement = check_misbehaviour(made, trust)
    if result.misbehaviour is None or judgement.proven:
        result.misbehaviour, result.judgement = made, judgement


# --- step 4 --------------------------------------------------------------------------------------


class _FoldedMap:
    """One map for fsck's fold, folded as the sequencer folds it."""

    def __init__(self, kind: str) -> None:
        self._map = StatusMap(kind.encode())
        self._taken: list[bytes] = []

    @property
    def k(self) -> int:
        return self._map.k

    def take(self, deltas: bytes) -> None:
        whole = len(deltas) - len(deltas) % statusmap.PAIR  # the rest is a finding already
        self._taken.append(deltas[:whole])

    def root(self) -> bytes:
        self._map.fold(b"".join(self._taken))
        self._taken.clear()
        k = statusmap.next_k(self._map.k, self._map.records)
        if k != self._map.k:
            self._map.grow(k)
        return self._map.root()

    def tile(self, level: int, index: int) -> bytes:
        return self._map.tile(level, index)


def audit_lines(
    connection: Connection,
    result: Result,
    trust: Trust,
    progress: Progress = lambda what, done, total: None,
    beside: Beside | None = None,
) -> None:
    """Run admission again over the lines of the audited entries, compare outcomes, delta lists and
    current states: by fsck's fold, which has the audited leaf hashes for the truth.
    """
    report = Report()
    leaves = result.state.leaves
    with scan(connection) as tables:
        fold = Fold(tables, report, beside, _FoldedMap)
        row = tables.row("scan_last_entry")
        fold.last = -1 if row is None or row[0] is None else row[0]
        total = fold.last + 1
        for want, (index, data) in enumerate(fold.ahead(tables.stream("scan_entries"))):
            if index != want:
                report.add("entry", f"entry {want}", "is missing")
                break
            if index < len(leaves) and merkle.leaf_hash(data) != leaves[index]:
                report.add("entry", f"entry {index}", "is stored otherwise than published")
            fold.take(index, data, leaves[index] if index < len(leaves) else None)
            if index % WIDTH == 0:
                progress("events", index, total)
        fold.finish()
    result.findings += report.findings()
    for name, number in report.checked.items():
        result.counts[f"{name} by lines" if name in result.counts else name] = number
    wrong = [f for f in report.findings() if f.kind == "outcome" and " event " in f.place]
    if wrong and not (result.judgement and result.judgement.proven):
        with Reader(connection).open() as view:
            for finding in wrong:
                keep(result, _outcome(view, finding), trust)
                if result.judgement is not None and result.judgement.proven:
                    break
    elif report.findings() and result.misbehaviour is None:
        first = report.findings()[0]
        claim = f"{first.place}: {first.message}"
        made = Misbehaviour(trust.origin, REPORTED, claim, (result.state.checkpoint,))
        keep(result, made, trust)


def _outcome(view: View, finding: Finding) -> Misbehaviour:
    """What shows that an event was admitted against the rules; a mere report where the event was
    refused against them, or cannot be shown.
    """
    claim = f"{finding.place}: {finding.message}"
    reported = Misbehaviour(view.origin, REPORTED, claim, (view.checkpoint,))
    words = finding.place.split()
    index, position = int(words[1]), int(words[3])
    try:
        line = view.lines(index)[position]
        event = parse_event(line, merkle.leaf_hash(line))
        certificate = CertificateId(event.type_code, event.issuer, event.number)
        steps = view.history(certificate.key)
        places = [(step.index, step.position) for step in steps]
        evidence = prove_act(view, certificate, places.index((index, position)), 0)
        record = view.record(certificate.key)
    except (LedgerError, ValueError, LookupError):
        return reported
    return Misbehaviour(
        view.origin, OUTCOME, claim, (view.checkpoint,),
        evidence=format_evidence(evidence), record=record,
    )  # fmt: skip


# --- a department's watch ------------------------------------------------------------------------


def strange_keys(state: State, department: str, known: set[str]) -> list[str]:
    """Lines about keys of a department, and those announced for it, that are not among those known
    (key ids).
    """
    found = []
    told = state.tree.registry.value(f"department/{department}") or {}
    for role, said in sorted(told.get("recovery", {}).items()):
        if parse_vkey(said["vkey"]).key_id not in known:
            found.append(
                f"{role} key {parse_vkey(said['vkey']).key_id}, announced by entry "
                f"{said['announced']} as a recovery, from {said['from']} on unless you object: "
                f"{said['vkey']}"
            )
    for name, record in sorted(state.tree.registry.records.items()):
        value = record["value"]
        key_id = name.removeprefix("key/")
        if not name.startswith("key/") or value["department"] != department or key_id in known:
            continue
        revoked = "" if value["revoked"] is None else f", revoked at {value['revoked']}"
        since = f"valid from entry {value['from']}{revoked}"
        found.append(f"{value['role']} key {key_id}, {since}: {value['vkey']}")
    return found
