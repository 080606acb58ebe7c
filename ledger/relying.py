"""Which reliances are admitted, and what is recalled: the rules of the turn about reliances.

`Relying` keeps what one turn adds. A reliance holds a certificate from the act that names it until
a later act of the same case names it again, or ends the case. A change of a certificate that any
case ever relied on leaves one mark in the same transaction; whom it concerns follows from what was
held at its place, so a turn never grows with the number of cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from . import identity, lifecycle
from .doubt import Doubts, settle
from .errors import Refused
from .lifecycle import Transition
from .reliance import ENDED, RELIED, Reliance, is_recalled

MAX_ACTS = 1024  # of a reliance, until only its end follows: the turn reads them all

Step = tuple[int, int, Transition]  # log index, position, transition


class Hold(NamedTuple):
    """How a reliance holds a certificate."""

    act: str  # event id of the act
    number: int  # of the certificate in the act's list
    version: int
    tree_size: int
    lasts: str
    log_index: int  # place of the act
    position: int


@dataclass(slots=True)
class Case:
    """A reliance as admission knows it."""

    acts: int = 0
    ended: bool = False
    holds: dict[bytes, Hold] = field(default_factory=dict)  # by certificate, open ones
    event_ids: dict[str, bytes] = field(default_factory=dict)  # event id to line hash

    def copy(self) -> Case:
        """Another one with the same contents."""
        return Case(self.acts, self.ended, dict(self.holds), dict(self.event_ids))


class RelyingView(Protocol):
    """The committed state of reliances as the turn found it."""

    def case(self, key: bytes) -> Case | None: ...
    def is_relied(self, certificate: bytes) -> bool: ...  # on which any case ever relied
    def count(self, certificate: bytes) -> int: ...  # of its transitions
    def steps(self, certificate: bytes) -> Sequence[Step]: ...
    def status_time(self, index: int) -> int | None: ...  # of the status entry there


class Nothing:
    """The view where no reliance is ever judged."""

    def case(self, key: bytes) -> Case | None:
        return None

    def is_relied(self, certificate: bytes) -> bool:
        return False

    def count(self, certificate: bytes) -> int:
        return 0

    def steps(self, certificate: bytes) -> Sequence[Step]:
        return ()

    def status_time(self, index: int) -> int | None:
        return None


class Act(NamedTuple):
    """An admitted line about a reliance, as it is stored."""

    key: bytes  # of the reliance
    ordinal: int  # among its acts, from 0
    log_index: int
    position: int
    item: Reliance


class Mark(NamedTuple):
    """A change of a certificate that is to be told: to all cases that hold it at the place of the
    change, or, where an act came after it that rests on an earlier checkpoint, to that act's alone.
    """

    log_index: int  # place of what made this mark: the change, or the act
    position: int
    certificate: bytes
    cause_index: int  # place of the change
    cause_position: int
    event: str  # what the change says: kind, kind of a revocation, reason
    revocation: str | None
    reason: str | None
    reliance: bytes | None = None


class Relying:
    """What one turn does to reliances."""

    def __init__(self, view: RelyingView) -> None:
        self._view = view
        self.cases: dict[bytes, Case] = {}
        self.acts: list[Act] = []
        self.holds: list[tuple[bytes, bytes, Hold]] = []  # reliance, certificate; as they begin
        self.closed: list[tuple[bytes, bytes, Hold, int, int]] = []  # and where they end
        self.marks: list[Mark] = []
        self._relied: set[bytes] = set()  # certificates, by this turn
        self._steps: dict[bytes, list[Step]] = {}  # of this turn, where anybody relies

    def changed(self, certificate: bytes, index: int, position: int, t: Transition) -> None:
        """An event of this turn was admitted on a certificate."""
        self._steps.setdefault(certificate, []).append((index, position, t))
        if certificate in self._relied or self._view.is_relied(certificate):
            said = (t.kind, t.revocation, t.reason)
            self.marks.append(Mark(index, position, certificate, index, position, *said))

    def admit(
        self,
        department: str,
        lanes: int,
        lane: int,
        index: int,
        position: int,
        item: Reliance,
        service: Callable[[str], Mapping[str, Any] | None],
        is_catalogue: Callable[[str], bool],
        fold: Callable[[bytes], None],
        doubts: Doubts,
    ) -> Act:
        """Take one line or raise with the code of its refusal, leaving nothing behind.

        `service` gives a service's registry record, `is_catalogue` knows the roots of published
        catalogues, `fold` counts the history of a certificate, which is read, `doubts` are the
        registry's.
        """
        if item.office != department:
            raise Refused("act-not-authorised", f"{department} speaks for {item.office}")
        known = self.cases.get(item.key)
        before = known or self._view.case(item.key) or Case()
        same = before.event_ids.get(item.id)
        if same is not None:
            raise Refused("repeat" if same == item.line_hash else "event-id-conflict")
        if identity.lane_of(item.key, lanes) != lane:
            raise Refused("wrong-lane")
        value = service(item.service)
        if value is None:
            raise Refused("unregistered-service", f"no service {item.service!r}")
        if item.kind == RELIED and not is_offered(value, department, index):
            raise Refused("service-not-authorised")
        if item.catalogue is not None and not is_catalogue(item.catalogue):
            raise Refused("unknown-catalogue")
        if before.acts == 0 and item.kind == ENDED:
            raise Refused("unknown-case")
        if before.ended:
            raise Refused("reliance-ended")
        if item.kind == RELIED and before.acts >= MAX_ACTS:
            raise Refused("history-too-long", f"the case has {before.acts} acts")
        causes = self._check(item, before, fold, doubts) if item.kind == RELIED else []
        case = before if known is not None else before.copy()
        self._apply(case, item, index, position)
        self.marks += [Mark(index, position, *cause, item.key) for cause in causes]
        act = Act(item.key, case.acts - 1, index, position, item)
        self.acts.append(act)
        self.cases[item.key] = case
        return act

    def _check(
        self, item: Reliance, before: Case, fold: Callable[[bytes], None], doubts: Doubts
    ) -> list[tuple[bytes, int, int, str, str | None, str | None]]:
        """(certificate, place, what is said) of the changes since the checkpoint that are told at
        once; Refused unless each certificate was valid then.
        """
        known_at = self._view.status_time(item.tree_size - 1)
        if known_at is None:
            raise Refused("unknown-checkpoint", f"no checkpoint of {item.tree_size} leaves")
        causes: list[tuple[bytes, int, int, str, str | None, str | None]] = []
        for key, version, _ in item.certificates:
            held = before.holds.get(key)
            if held is not None and held.tree_size > item.tree_size:
                raise Refused("reliance-out-of-order")
            fold(key)
            steps = [*self._view.steps(key), *self._steps.get(key, ())]
            then = [t for index, _, t in steps if index < item.tree_size]
            if not then:
                raise Refused("not-issued")
            found = lifecycle.answer(then, known_at, version)
            told = [(index, t) for index, _, t in steps]
            if settle(found, told, len(then), doubts).answer != "valid":
                raise Refused("not-valid-then")
            causes += [
                (key, index, position, t.kind, t.revocation, t.reason)
                for index, position, t in steps
                if index >= item.tree_size
                and is_recalled(item.lasts, t.kind, t.revocation)
                and not (held is not None and is_recalled(held.lasts, t.kind, t.revocation))
            ]
        return causes

    def _apply(self, case: Case, item: Reliance, index: int, position: int) -> None:
        case.acts += 1
        case.event_ids[item.id] = item.line_hash
        ending = case.holds.keys() & {key for key, _, _ in item.certificates}
        if item.kind == ENDED:
            case.ended = True
            ending = set(case.holds)
        for key in sorted(ending):
            self.closed.append((item.key, key, case.holds.pop(key), index, position))
        for number, (key, version, _) in enumerate(item.certificates):
            hold = Hold(item.id, number, version, item.tree_size, item.lasts, index, position)
            case.holds[key] = hold
            self._relied.add(key)
            self.holds.append((item.key, key, hold))


def is_offered(service: Mapping[str, Any], department: str, index: int) -> bool:
    """Whether a service's record names the department as an office of it at a log index."""
    return any(
        office["department"] == department
        and office["from"] <= index
        and (office["until"] is None or index < office["until"])
        for office in service["offices"]
    )
