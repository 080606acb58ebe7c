"""fsck, reliances: what offices rely on and what is recalled, beside tables and topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ledger.admission import LoggedBundle
from ledger.entry import parse_entry
from ledger.postgres.scan import Row, Scan
from ledger.reliance import Recall, Reliance, format_recall, is_recalled, recall_id
from ledger.relying import Case, Hold, Relying, Step

from .fsck_report import Merge, Report

_End = tuple[int | None, int | None]


class Reliances:
    """The cases after each entry, recomputed: the `relying.RelyingView` of the next bundle.

    `steps` gives a certificate's history below the present entry as the log commits to it.
    """

    def __init__(
        self,
        scan: Scan,
        report: Report,
        merge: Callable[[str, str], Merge],
        count: Callable[[bytes], int],
        steps: Callable[[bytes], Sequence[Step]],
    ) -> None:
        self._scan, self._report = scan, report
        self.merges = {
            "reliance-act": merge("scan_reliance_acts", "reliance"),
            "reliance-hold": merge("scan_reliance_holds", "reliance"),
            "recall": merge("scan_recalls", "recall"),
        }
        self.count, self.steps = count, steps
        self.before = 0  # the entry that is taken: what lies below is known
        self._cases: dict[bytes, Case] = {}
        self._names: dict[bytes, tuple[str, str, bytes]] = {}
        self._relied: set[bytes] = set()
        self._ends: dict[tuple[bytes, bytes, int, int], _End] = {}  # stated by rows, of open holds
        self._lost: set[bytes] = set()  # reliances of which something could not be read

    def take(self, index: int) -> dict[str, list[Row]]:
        """The rows that entry `index` wrote."""
        self.before = index
        return {name: merge.take(index) for name, merge in self.merges.items()}

    def rest(self) -> None:
        """Whatever is left belongs to no entry."""
        for merge in self.merges.values():
            merge.rest()

    def lose(self, key: bytes) -> None:
        """Pass over a reliance from here on."""
        self._lost.add(key)

    def lose_rows(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Pass over the reliances that an unreadable entry's rows are about."""
        for row in rows["reliance-act"]:
            self._lost.add(row[2])

    def is_lost(self, item: Reliance) -> bool:
        """Whether nobody knows how this reliance stands."""
        return item.key in self._lost

    # --- the view that the next turn sees ---

    def case(self, key: bytes) -> Case | None:
        return self._cases.get(key)

    def is_relied(self, certificate: bytes) -> bool:
        return certificate in self._relied

    def status_time(self, index: int) -> int | None:
        if index >= self.before:
            return None
        row = self._scan.row("scan_status_time", index=index)
        return None if row is None else int(row[0])

    # --- comparing ---

    def compare(
        self, logged: LoggedBundle, done: Relying, rows: Mapping[str, Sequence[Row]]
    ) -> None:
        """Hold an entry's rows against what the rules give, and keep that."""
        place = f"entry {logged.index}"
        self._report.count("acts of reliances", len(done.acts))
        self._report.count("recalls", len(done.marks))
        acts = {
            (a.log_index, a.position, a.key, a.ordinal, bytes.fromhex(a.item.id), a.item.line_hash)
            for a in done.acts
        }
        self._differ("reliance", place, acts, rows["reliance-act"], 2)
        holds = {
            (
                h.log_index, h.position, key, h.number, certificate, h.version, h.tree_size,
                h.lasts, bytes.fromhex(h.act),
            )
            for key, certificate, h in done.holds
        }  # fmt: skip
        self._differ("reliance", place, holds, [r[:9] for r in rows["reliance-hold"]], 2)
        for index, position, key, _, certificate, *_, end, end_position in rows["reliance-hold"]:
            self._ends[key, certificate, index, position] = (end, end_position)
        for key, certificate, hold, index, position in done.closed:
            self._end(key, certificate, hold, (index, position))
        if not self._lost:
            marks = [tuple(mark) for mark in done.marks]
            found = [(*r[:2], *r[3:]) for r in rows["recall"]]
            if marks != found:
                self._report.add(
                    "recall", place, f"{len(found)} recalls, or others than the {len(marks)} due"
                )
        for act in done.acts:
            item = act.item
            self._names[act.key] = (item.office, item.service, bytes.fromhex(item.case))
        self._cases.update(done.cases)
        self._relied.update(certificate for _, certificate, _ in done.holds)

    def _differ(self, kind: str, place: str, ours: set[Row], rows: Sequence[Row], key: int) -> None:
        for row in sorted(ours.symmetric_difference(rows)):
            if row[key] not in self._lost:
                said = "is missing" if row in ours else "is not what the log gives"
                self._report.add(
                    kind, f"{place} event {row[1]}", f"reliance {row[key].hex()}: a row {said}"
                )

    def _end(self, key: bytes, certificate: bytes, hold: Hold, end: _End) -> None:
        stated = self._ends.pop((key, certificate, hold.log_index, hold.position), None)
        if key not in self._lost and stated != end:
            self._report.add(
                "reliance",
                f"entry {hold.log_index} event {hold.position}",
                f"reliance {key.hex()}: a hold's end is {stated}, not {end}",
            )

    def finish(self) -> None:
        """Compare how reliances stand at the end."""
        for (key, _, index, position), stated in self._ends.items():
            if stated != (None, None) and key not in self._lost:
                self._report.add(
                    "reliance",
                    f"entry {index} event {position}",
                    f"reliance {key.hex()}: a hold ended that goes on",
                )
        for key, *stands in self._scan.stream("scan_reliances"):
            self._report.count("reliances")
            case, name = self._cases.pop(key, None), self._names.get(key)
            if key in self._lost:
                continue
            if case is None or name is None or (*name, case.acts, case.ended) != tuple(stands):
                self._report.add("reliance", f"reliance {key.hex()}", "is not what the log gives")
        for key in self._cases.keys() - self._lost:
            self._report.add("reliance", f"reliance {key.hex()}", "is missing")
        if self._lost:
            self._report.add(
                "incomplete",
                f"{len(self._lost)} reliances",
                "what they are could not be recomputed because of what is said above",
            )


def due_notices(scan: Scan, origin: str) -> Iterator[tuple[int, bytes, bytes]]:
    """(number of the mark, Kafka key, notice) of every notice of recall that the tables give."""
    for index, position, number, certificate, *cause, reliance in scan.rows("scan_recalls"):
        place = (cause[0], cause[1])
        event, revocation, reason = cause[2:]
        entries = scan.rows("scan_some_entries", begin=place[0], end=place[0] + 1)
        if not entries:
            continue  # was reported
        time = parse_entry(entries[0][1])["time"]
        for key, *hold in scan.rows("scan_holds", certificate=certificate):
            begin_index, begin_position, listed, lasts, act, end, end_position, office, case = hold
            begin = (begin_index, begin_position)
            if reliance is None:
                concerned = begin < place and (end is None or place < (end, end_position))
            else:
                concerned = (key, *begin) == (reliance, index, position)
            if concerned and is_recalled(lasts, event, revocation):
                name = recall_id(case.hex(), act.hex(), listed, *place)
                said = (office, case.hex(), certificate, *place, event, revocation)
                recall = Recall(name, *said, reason, time)
                yield number, office.encode(), format_recall(origin, recall)
