"""Reliances in the turn: what the batch needs is read at once, what it did is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from psycopg2.extensions import cursor as Cursor

from .. import evidence
from ..admission import MAX_FOLDED, Certificate, Opened
from ..errors import Conflict
from ..event import ISSUED, Event
from ..identity import lane_of
from ..registry import Registry
from ..reliance import ENDED, Reliance
from ..relying import Case, Hold, Relying, Step
from .copying import bigint, copy, integer
from .statements import sql


class Reliances:
    """`relying.RelyingView` over the open transaction."""

    def __init__(
        self,
        registry: Registry,
        certificates: Mapping[bytes, Certificate],
        steps: Callable[[bytes], Sequence[evidence.Step]],
    ) -> None:
        """`certificates` are the current ones that the batch names, `steps` their histories."""
        self._certificates, self._history = certificates, steps
        self._registry = registry
        self._relied: set[bytes] = set()
        self._cases: dict[bytes, Case] = {}
        self._times: dict[int, int] = {}

    def read(self, cursor: Cursor, bundles: Sequence[Opened]) -> None:
        """Read what some bundles of the batch need, whose certificates were read: all that act on
        reliances at once, as what is read of a case rests on what is said of it.
        """
        items = [e for opened in bundles for e in opened.events if isinstance(e, Reliance)]
        changed = {
            event.key
            for opened in bundles
            for event in opened.events
            if isinstance(event, Event) and event.kind != ISSUED and event.key in self._certificates
        }
        self._relied |= self._read_relied(cursor, changed)
        if items:
            self._cases = self._read_cases(cursor, sorted({item.key for item in items}), bundles)
            self._times = self._read_times(cursor, sorted({item.tree_size - 1 for item in items}))

    def case(self, key: bytes) -> Case | None:
        return self._cases.get(key)

    def is_relied(self, certificate: bytes) -> bool:
        return certificate in self._relied

    def count(self, certificate: bytes) -> int:
        known = self._certificates.get(certificate)
        return 0 if known is None else known.standing.count

    def steps(self, certificate: bytes) -> Sequence[Step]:
        return [(s.index, s.position, s.transition) for s in self._history(certificate)]

    def status_time(self, index: int) -> int | None:
        return self._times.get(index)

    def _rows(self, cursor: Cursor, name: str, keys: Iterable[bytes]) -> list[tuple[Any, ...]]:
        listed = list(keys)
        if not listed:
            return []
        # one value, which the statement cuts: literals by the thousand are slow to parse
        cursor.execute(sql(name), {"keys": b"".join(listed), "count": len(listed)})
        return [
            tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
            for row in cursor.fetchall()
        ]

    def _read_relied(self, cursor: Cursor, changed: set[bytes]) -> set[bytes]:
        return {key for (key,) in self._rows(cursor, "read_relied_certificates", changed)}

    def _read_cases(
        self, cursor: Cursor, keys: list[bytes], batch: Sequence[Opened]
    ) -> dict[bytes, Case]:
        """How reliances stand; of what they hold only what the batch names, or ends."""
        found = {
            key: Case(acts, is_ended)
            for key, acts, is_ended in self._rows(cursor, "read_reliances", keys)
        }
        for key, event_id, line_hash in self._rows(cursor, "read_reliance_ids", found):
            found[key].event_ids[event_id.hex()] = line_hash
        ending, named = self._concerned(found, batch)
        for key, certificate, event_id, *rest in [
            *self._rows(cursor, "read_open_holds", ending),
            *self._rows(cursor, "read_named_holds", named),
        ]:
            found[key].holds[certificate] = Hold(event_id.hex(), *rest)
        return found

    def _concerned(
        self, found: Mapping[bytes, Case], batch: Sequence[Opened]
    ) -> tuple[set[bytes], set[bytes]]:
        """(keys of the reliances that may end, certificates and keys, joined, that are named in
        others). A line that is refused anyway must not make the turn read all that its case holds.
        """
        ending: set[bytes] = set()
        named: set[bytes] = set()
        for opened in batch:
            header = opened.bundle.header
            lanes = self._registry.lanes(header.department)
            for item in opened.events:
                if not isinstance(item, Reliance) or item.key not in found:
                    continue
                named.update(certificate + item.key for certificate, _, _ in item.certificates)
                case = found[item.key]
                if (
                    item.kind == ENDED
                    and item.office == header.department
                    and header.lane == lane_of(item.key, lanes)
                    and not case.ended
                    and item.id not in case.event_ids
                ):
                    ending.add(item.key)
        return ending, {pair for pair in named if pair[32:] not in ending}

    def judged(self, batch: Sequence[Opened]) -> set[bytes]:
        """The certificates relied on, as far as the batch's bundles may fold histories."""
        found: set[bytes] = set()
        for opened in batch:
            folded = 0
            for item in opened.events:
                if isinstance(item, Reliance):
                    for key, _, _ in item.certificates:
                        folded += self.count(key)
                        if folded <= MAX_FOLDED and key in self._certificates:
                            found.add(key)
        return found

    def _read_times(self, cursor: Cursor, indexes: list[int]) -> dict[int, int]:
        cursor.execute(sql("read_status_times"), {"indexes": indexes})
        return dict(cursor.fetchall())


def write_reliances(cursor: Cursor, done: Relying) -> None:
    """Write what a turn did to reliances, in its transaction."""
    if done.acts:
        _write_acts(cursor, done)
    if done.marks:
        cursor.execute(sql("read_next_recall"))
        ((number,),) = cursor.fetchall()
        copy(
            cursor,
            "recall",
            "number, log_index, position, certificate, cause_index, cause_position, event,"
            " revocation, reason, reliance_key",
            (
                (
                    bigint(number + n),
                    bigint(mark.log_index),
                    integer(mark.position),
                    mark.certificate,
                    bigint(mark.cause_index),
                    integer(mark.cause_position),
                    mark.event.encode(),
                    None if mark.revocation is None else mark.revocation.encode(),
                    None if mark.reason is None else mark.reason.encode(),
                    mark.reliance,
                )
                for n, mark in enumerate(done.marks)
            ),
        )


def _write_acts(cursor: Cursor, done: Relying) -> None:
    first = {act.key: act.item for act in done.acts}
    rows = [
        (key, item.office, item.service, bytes.fromhex(item.case), done.cases[key])
        for key, item in first.items()
    ]
    cursor.execute(
        sql("upsert_reliances"),
        {
            "keys": [row[0] for row in rows],
            "offices": [row[1] for row in rows],
            "services": [row[2] for row in rows],
            "cases": [row[3] for row in rows],
            "acts": [row[4].acts for row in rows],
            "ended": [row[4].ended for row in rows],
        },
    )
    _check_all(cursor, len(rows))
    copy(
        cursor,
        "reliance_act",
        "reliance_key, ordinal, log_index, position, event_id, line_hash",
        (
            (
                act.key,
                integer(act.ordinal),
                bigint(act.log_index),
                integer(act.position),
                bytes.fromhex(act.item.id),
                act.item.line_hash,
            )
            for act in done.acts
        ),
    )
    copy(
        cursor,
        "reliance_hold",
        "certificate, reliance_key, log_index, position, number, version, tree_size, lasts,"
        " event_id",
        (
            (
                certificate,
                key,
                bigint(hold.log_index),
                integer(hold.position),
                integer(hold.number),
                bigint(hold.version),
                bigint(hold.tree_size),
                hold.lasts.encode(),
                bytes.fromhex(hold.act),
            )
            for key, certificate, hold in done.holds
        ),
    )
    if done.closed:
        cursor.execute(
            sql("end_holds"),
            {
                "certificates": [certificate for _, certificate, _, _, _ in done.closed],
                "keys": [key for key, _, _, _, _ in done.closed],
                "indexes": [hold.log_index for _, _, hold, _, _ in done.closed],
                "positions": [hold.position for _, _, hold, _, _ in done.closed],
                "end_indexes": [index for _, _, _, index, _ in done.closed],
                "end_positions": [position for _, _, _, _, position in done.closed],
            },
        )
        _check_all(cursor, len(done.closed))


def _check_all(cursor: Cursor, count: int) -> None:
    if cursor.rowcount != count:
        raise Conflict("registry-conflict", f"reliances: {cursor.rowcount} rows, {count} expected")
