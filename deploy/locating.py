"""Looking up the events that somebody wants corrected, and trying the corrections on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ledger import event as events
from ledger import identity, lifecycle, merkle
from ledger.doubt import Doubts, check_confirms
from ledger.errors import LedgerError, Malformed, Refused
from ledger.evidence import CertificateId
from ledger.lifecycle import Transition
from ledger.postgres.reader import View
from ledger.registry import granted
from producers.correcting import CONFIRM, REWIND, VOID, Target, Wanted

NEXT = 2**62  # the log index of what is only tried: of a key that is not doubted


@dataclass(slots=True)
class _Life:
    """One certificate; `history` grows by the corrections that were tried."""

    certificate: CertificateId
    correctors: Callable[[str], str | None]  # a department's scope for corrections
    places: list[tuple[int, int]]
    history: list[Transition]
    doubts: Doubts


@dataclass(frozen=True, slots=True)
class _Located:
    """`producers.correcting.Target` as of one view."""

    life: _Life
    ordinal: int

    @property
    def _event(self) -> Transition:
        return self.life.history[self.ordinal]

    @property
    def event_id(self) -> str:
        return self._event.id

    @property
    def certificate(self) -> tuple[str, str, str]:
        found = self.life.certificate
        return found.type_code, found.issuer, found.number

    @property
    def department(self) -> str:
        history = self.life.history[: len(self.life.places)]
        takers = {t.by for t in history if t.kind in (events.ISSUED, events.TRANSFERRED_IN)}
        by = self._event.by
        return lifecycle.fold(history).responsible if by in takers else by

    @property
    def order(self) -> tuple[int, int]:
        return self.life.places[self.ordinal]

    @property
    def undone(self) -> int:
        history = self.life.history
        voided = lifecycle.voided_ids(history)
        stands = {history[n].id for n in lifecycle.passed(history)} - voided
        return sum(1 for t in history if t.corrects == self.event_id and t.id not in stands)

    def holds(self, event_id: str) -> bool:
        return any(t.id == event_id for t in self.life.history)

    def check(self, line: bytes) -> None:
        history, by = self.life.history, self.department
        if self.life.correctors(by) is None:
            raise Refused("act-not-authorised", f"{by} may not correct certificates of this type")
        item = events.parse_event(line, merkle.leaf_hash(line))
        tried = lifecycle.make_transition(item, by, "", 0)
        if tried.correction == VOID and self.event_id in lifecycle.voided_ids(history):
            raise Refused("unknown-event", f"event {self.event_id} is voided already")
        if tried.correction == REWIND:
            owner = lifecycle.corrector(history, tried, lifecycle.fold(history).responsible)
            if owner != by and self.life.correctors(by) != "any":
                raise Refused("not-responsible", f"{owner} has to take its own events back first")
        after = lifecycle.correct(history, tried)
        if tried.correction == CONFIRM:
            indexes = [index for index, _ in self.life.places]
            indexes += [NEXT] * (len(history) - len(indexes))
            check_confirms(list(zip(indexes, history, strict=True)), tried, self.life.doubts)
        history.append(tried._replace(version=after.version))


def find_targets(view: View, wanted: Sequence[Wanted]) -> list[Target | LedgerError]:
    """The published event that each correction names, or why there is none."""
    lives: dict[CertificateId, _Life] = {}
    by_id = [w.event_id for w in wanted if w.certificate is None and _is_id(w.event_id)]
    certificates = view.certificates_of_events(by_id) if by_id else {}

    def life(certificate: CertificateId) -> _Life:
        if certificate not in lives:
            steps = view.history(certificate.key)
            places = [(step.index, step.position) for step in steps]
            value = view.records().value(f"type/{certificate.type_code}") or {}
            lives[certificate] = _Life(
                certificate,
                lambda by: granted(value, by, events.CORRECTED, view.size),
                places,
                [step.transition for step in steps],
                view.records().doubts,
            )
        return lives[certificate]

    found: list[Target | LedgerError] = []
    for item in wanted:
        try:
            certificate = _certificate(item, certificates)
            found.append(_locate(item, life(certificate)))
        except LedgerError as err:
            found.append(err)
    return found


def _is_id(text: str) -> bool:
    return len(text) == 32 and not set(text) - set("0123456789abcdef")


def _certificate(item: Wanted, known: dict[str, list[CertificateId]]) -> CertificateId:
    if item.event_id and not _is_id(item.event_id):
        raise Malformed("usage", f"{item.event_id[:60]!r} is no event id: 32 lower-case hex digits")
    if item.certificate is not None:
        type_code, issuer, number = item.certificate
        number = identity.normalise_number(number)
        identity.check_number(number)
        return CertificateId(type_code, issuer, number)
    several = known.get(item.event_id, [])
    if len(several) > 1:
        raise Refused("ambiguous", f"{len(several)} certificates have an event {item.event_id}")
    if not several:
        raise Refused("not-found", f"the ledger has published no event {item.event_id}")
    return several[0]


def _locate(item: Wanted, life: _Life) -> _Located:
    type_code, issuer, number = _Located(life, 0).certificate
    if not life.places:
        raise Refused("not-found", f"no certificate {number!r} of {type_code} by {issuer}")
    history = life.history[: len(life.places)]
    if item.event_id:
        fits = [n for n, t in enumerate(history) if t.id == item.event_id]
        if not fits:
            raise Refused("not-found", f"certificate {number!r} has no event {item.event_id}")
        if item.kind and history[fits[0]].kind != item.kind:
            kind = history[fits[0]].kind
            raise Refused("not-found", f"event {item.event_id} is {kind}, not {item.kind}")
    else:
        fits = [n for n, t in enumerate(history) if t.kind == item.kind]
        if not fits:
            raise Refused("not-found", f"certificate {number!r} has no event {item.kind}")
        if len(fits) > 1:
            ids = ", ".join(history[n].id for n in fits[:8])
            raise Refused("ambiguous", f"{len(fits)} events {item.kind}: name one by its id: {ids}")
    return _Located(life, fits[0])
