"""What fsck found: each finding with a stable kind, the root cause first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ledger.postgres.scan import Row

MAX_PER_KIND = 20

# Every kind in the order in which findings are shown: what others may follow from comes first.
KINDS: dict[str, str] = {
    "storage": "PostgreSQL itself cannot read a table",
    "topic": "Kafka itself cannot read a topic's record: its bytes are damaged",
    "genesis": "entry 0 is missing, is no genesis, or the tables say another origin",
    "allocation": "the allocation row does not fit the log",
    "entry": "an entry is missing, is no entry, or its bytes are not those that were hashed",
    "bundle-note": "the note inside a bundle's entry is damaged",
    "lines": "stored event lines are missing, do not unpack or do not hash to the note's root",
    "signature": "a note is not signed by a key that was active at its index",
    "doubled": "a bundle or registry change is in the log twice",
    "sequence": "a logged bundle was not the next one on its lane",
    "time": "a ledger time goes back, or lies after the allocation row's",
    "outcome": "an event's recorded outcome is not what the rules give",
    "delta-root": "an entry's delta root is not what the rules give",
    "entry-form": "an entry's bytes differ from what the rules write, in another member",
    "registry-change": "a registry entry is not what the registry's rules allow",
    "status": "a status entry or its row is wrong or missing",
    "registry-root": "a status entry carries another registry root than the log gives",
    "status-map": "a status entry carries other map roots or another k than the log gives",
    "map-tile": "a stored tile of a status map is missing or holds other hashes than the map",
    "registry-snapshot": "stored registry leaves are not those under their status entry",
    "delta": "a stored delta list is missing or is not what its entry commits to",
    "head": "the tree head is not the tree's size and root",
    "tile": "a tile is missing or holds other hashes than the tree",
    "checkpoint": "a checkpoint is missing, not signed, or not of this tree",
    "history": "the places of a certificate's events are not those in the log",
    "certificate": "a current state is missing, added or not what the log gives",
    "holder": "a holder's record is missing, added or not what the log gives",
    "holder-act": "a row of a holder's acts is missing, added or not what the log gives",
    "reliance": "what a case relies on is missing, added or not what the log gives",
    "recall": "a recall is missing, added, never sent or not what the log gives",
    "lane": "a lane does not stand where the log says",
    "lane-note": "the note recorded for a lane number is missing, added or another",
    "equivocation": "a second note's row is missing, added or another",
    "registry-record": "a registry record is missing, added or not what the log gives",
    "tally": "a running count is not what the log adds up to",
    "intake": "a partition's next offset, last record or topic id does not fit",
    "accounting": "a Kafka record is accounted for not once, or wrongly",
    "outbox": "a queued message is missing, added or not about its record",
    "status-place": "a certificate has no status list place, shares one or is remembered wrongly",
    "status-list": "a signed status list says other than the log, or is not signed as it must be",
    "expiry-notice": "a notice of an end is missing, added, never sent or not what the log gives",
    "catalogue": "a published catalogue's file is missing, added or of another root",
    "position": "a relay's or the log topic's remembered place lies beyond what there is",
    "intake-record": "a Kafka record is not what it was accounted for, or was passed over",
    "log-topic": "certledger.log.v1 says other than this ledger",
    "receipt": "a receipt does not check, is not of this log, or was never sent",
    "incomplete": "something could not be checked because of what is said above",
}
_RANK = {kind: rank for rank, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `kind` as in KINDS, where, and a sentence."""

    kind: str
    place: str
    message: str


@dataclass
class Report:
    """Findings and counts as they come up."""

    checked: dict[str, int] = field(default_factory=dict)
    progress: Callable[[str, int, int], None] = lambda what, done, total: None
    _found: dict[str, dict[tuple[str, str], None]] = field(default_factory=dict)
    _more: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, place: str, message: str) -> None:
        """Keep a finding; the same again counts once, and only the first of a kind are kept."""
        found = self._found.setdefault(kind, {})
        if kind not in _RANK:
            raise KeyError(f"fsck kind without a row in KINDS: {kind}")
        if (place, message) in found:
            return
        if len(found) < MAX_PER_KIND:
            found[place, message] = None
        else:
            self._more[kind] = self._more.get(kind, 0) + 1

    def count(self, name: str, number: int = 1) -> None:
        """Count what was checked."""
        self.checked[name] = self.checked.get(name, 0) + number

    def findings(self) -> list[Finding]:
        """All findings in the order of KINDS; the last of a kind says how many more there are."""
        out: list[Finding] = []
        for kind in sorted(self._found, key=_RANK.__getitem__):
            out += [Finding(kind, place, message) for place, message in self._found[kind]]
            if self._more.get(kind):
                out.append(Finding(kind, "more", f"and {self._more[kind]} more of this kind"))
        return out


class Merge:
    """Rows in ascending order of their first column, taken number by number beside the log.

    Rows whose number was passed without being taken are strays.
    """

    def __init__(self, rows: Iterable[Row], stray: Callable[[Row], None]) -> None:
        self._rows: Iterator[Row] = iter(rows)
        self._stray = stray
        self._next = next(self._rows, None)

    def take(self, number: int | bytes) -> list[Row]:
        """All rows of `number` (or map key); those before it are strays."""
        taken: list[Row] = []
        while self._next is not None and self._next[0] <= number:
            (taken.append if self._next[0] == number else self._stray)(self._next)
            self._next = next(self._rows, None)
        return taken

    def rest(self) -> None:
        """Whatever is left is stray."""
        while self._next is not None:
            self._stray(self._next)
            self._next = next(self._rows, None)
