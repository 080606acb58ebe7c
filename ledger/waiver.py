"""What a holder need not bring to a public service, because the ledger has it already.

`assess` is pure: a service out of a catalogue, and what the ledger says of each certificate that is
bound to the holder. A requirement is satisfied when everything in one of its lists is held and
valid; it can be satisfied by a written commitment where the catalogue says so; otherwise something
is still to be brought, and it says which office issues it.

How old a paper may be (`max_age_days`) is no matter here: the ledger's answer is of its checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from .catalogue import Catalogue, EvidenceType, PublicService, Requirement
from .evidence import CertificateId
from .question import format_instant

SATISFIED, COMMITMENT, NEEDED = "satisfied", "commitment", "needed"
MAX_STEPS = 20_000  # sets that the search for the smallest one looks at, before it gives its best
MAX_DEPTH = 200  # requirements with a choice; for more the first good choice has to do
WRONG_ISSUER = "wrong-issuer"

# What would mend it, by the reason why a certificate does not hold: who acts, and what is done.
MENDS: dict[str, str] = {
    "expired": "renew",
    "suspended": "reinstate",
    "not-yet-valid": "wait",
    "transferred": "take-over",
    "revoked-annulled": "apply-anew",
    "revoked-penalty": "apply-anew",
    "revoked-deregistered": "apply-anew",
    "voided": "apply-anew",
    "start-unknown": "ask-issuer",
    "end-unknown": "ask-issuer",
    "key-compromised": "ask-issuer",
    WRONG_ISSUER: "bring-from-issuer",
}


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate that is bound to the holder, and what the ledger says of it at the moment."""

    certificate: CertificateId
    answer: str
    reason: str
    since: int | None
    version: int  # 0 where that is not decided
    responsible: str  # department id


@dataclass(frozen=True, slots=True)
class Met:
    """An evidence type of a list, and the certificate that stands for it."""

    evidence_type: str
    held: Held


@dataclass(frozen=True, slots=True)
class Unfit:
    """A certificate that exists and does not hold: why, since when, what would mend it, by whom."""

    evidence_type: str
    held: Held
    reason: str
    mend: str
    office: str  # department id

    def members(self) -> dict[str, Any]:
        """As JSON."""
        since = self.held.since
        return {
            "evidence_type": self.evidence_type,
            "certificate": self.held.certificate.members(),
            "version": self.held.version,
            "reason": self.reason,
            "since": None if since is None else format_instant(since),
            "mend": self.mend,
            "office": self.office,
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """A requirement: how it stands, by what, what is still to be brought for it."""

    requirement: Requirement
    result: str
    met: tuple[Met, ...]  # in the list that was chosen
    bring: tuple[str, ...]  # evidence types still to be brought
    commit: tuple[str, ...]  # evidence types, or the requirement as a whole: its own code
    unfit: tuple[Unfit, ...]


@dataclass(frozen=True, slots=True)
class Assessment:
    """All requirements of a service for a holder; `bring` is the smallest set still to bring."""

    service: PublicService
    catalogue: Catalogue
    judged: tuple[Judged, ...]
    bring: tuple[str, ...]  # evidence types, ascending
    is_smallest: bool  # the search was not cut off

    def members(self) -> dict[str, Any]:
        """As JSON."""
        kinds = self.catalogue.evidence_types
        return {
            "catalogue": {
                "name": self.catalogue.record_name.removeprefix("catalogue/"),
                "version": self.catalogue.version,
                "root": self.catalogue.root.hex(),
            },
            "service": {"code": self.service.code, "names": dict(self.service.names)},
            "is_stated": self.service.stated,
            "requirements": [
                {
                    "code": one.requirement.code,
                    "names": dict(one.requirement.names),
                    "result": one.result,
                    "satisfied_by": [
                        {
                            "evidence_type": met.evidence_type,
                            "certificate": met.held.certificate.members(),
                            "version": met.held.version,
                        }
                        for met in one.met
                    ],
                    "bring": list(one.bring),
                    "commit": list(one.commit),
                    "unfit": [unfit.members() for unfit in one.unfit],
                }
                for one in self.judged
            ],
            "bring": [
                {
                    "evidence_type": code,
                    "names": dict(kinds[code].names),
                    "from": _offices(self.catalogue, kinds[code]),
                }
                for code in self.bring
            ],
            "is_smallest": self.is_smallest,
        }


def _offices(catalogue: Catalogue, kind: EvidenceType) -> list[dict[str, Any]] | None:
    """Who issues an evidence type; None where that is not stated, [] where the holder makes it or
    nobody does.
    """
    if kind.issuers is None:
        return None if kind.source != "holder" else []
    found = (catalogue.organisations[code] for code in kind.issuers)
    return [
        {"code": one.code, "names": dict(one.names), "department": one.department} for one in found
    ]


def assess(catalogue: Catalogue, code: str, held: Iterable[Held]) -> Assessment:
    """What the service `code` still needs from a holder of `held`; KeyError for a code that the
    catalogue does not have.
    """
    service = catalogue.services[code]
    by_type: dict[str, list[Held]] = {}
    for one in held:
        by_type.setdefault(one.certificate.type_code, []).append(one)
    looked: dict[str, tuple[Met | None, tuple[Unfit, ...]]] = {}

    def look(evidence: str) -> tuple[Met | None, tuple[Unfit, ...]]:
        if evidence not in looked:
            looked[evidence] = _look(catalogue, evidence, by_type)
        return looked[evidence]

    options: list[list[frozenset[str]]] = []  # per requirement that is open: what to bring
    ways: list[dict[frozenset[str], int]] = []  # and by which list
    for requirement in service.requirements:
        found = {} if requirement.commitment else _ways(catalogue, requirement, look)
        if requirement.commitment:
            found = {w: n for w, n in _ways(catalogue, requirement, look).items() if not w}
            found = found or {frozenset(): -1}
        ways.append(found)
        options.append(list(found))
    chosen, is_smallest = smallest(options)
    judged = tuple(
        _judge(catalogue, requirement, found, way, look)
        for requirement, found, way in zip(service.requirements, ways, chosen, strict=True)
    )
    bring = sorted(set().union(*chosen)) if chosen else []
    return Assessment(service, catalogue, judged, tuple(bring), is_smallest)


def _look(
    catalogue: Catalogue, code: str, by_type: Mapping[str, Sequence[Held]]
) -> tuple[Met | None, tuple[Unfit, ...]]:
    """The certificate that stands for an evidence type, and those that do not hold."""
    kind = catalogue.evidence_types[code]
    if kind.certificate_type is None:
        return None, ()
    issuers = _issuers(catalogue, kind)
    unfit = []
    for one in by_type.get(kind.certificate_type, ()):
        office = one.responsible
        reason = "" if one.answer == "valid" else one.reason
        if issuers is not None and not {one.certificate.issuer, office} & issuers:
            reason, office = WRONG_ISSUER, min(issuers)
        if not reason:
            return Met(code, one), ()
        unfit.append(Unfit(code, one, reason, MENDS.get(reason, "ask-issuer"), office))
    return None, tuple(unfit)


def _issuers(catalogue: Catalogue, kind: EvidenceType) -> set[str] | None:
    """The departments that may issue it; None where it is not stated, or stands for many."""
    if not kind.issuers:
        return None
    organisations = [catalogue.organisations[code] for code in kind.issuers]
    if any(one.many or one.department is None for one in organisations):
        return None
    return {one.department for one in organisations if one.department is not None}


def _ways(catalogue: Catalogue, requirement: Requirement, look: Any) -> dict[frozenset[str], int]:
    """What each list still needs, and the first list of each; none that holds another one."""
    found: dict[frozenset[str], int] = {}
    for number, materials in enumerate(requirement.lists):
        missing = frozenset(
            material.evidence_type
            for material in materials
            if look(material.evidence_type)[0] is None
            and not catalogue.evidence_types[material.evidence_type].commitment_suffices
        )
        known = found.setdefault(missing, number)
        if known != number and _commits(catalogue, requirement, number, look) < _commits(
            catalogue, requirement, known, look
        ):
            found[missing] = number
        if not missing and not _commits(catalogue, requirement, found[missing], look):
            break  # satisfied by certificates alone: nothing is better
    return _undominated(found)


def _undominated(found: Mapping[frozenset[str], int]) -> dict[frozenset[str], int]:
    if len(found) < 2:
        return dict(found)
    kept: dict[frozenset[str], int] = {}
    by_first: dict[str, list[frozenset[str]]] = {}  # a set within another has its first in it
    for way in sorted(found, key=lambda w: (len(w), sorted(w))):
        if frozenset() in kept:
            break
        if not any(other <= way for code in way for other in by_first.get(code, ())):
            kept[way] = found[way]
            by_first.setdefault(min(way, default=""), []).append(way)
    return kept


def _commits(catalogue: Catalogue, requirement: Requirement, number: int, look: Any) -> int:
    """How many commitments a list needs."""
    return len(_committed(catalogue, requirement, number, look))


def _committed(
    catalogue: Catalogue, requirement: Requirement, number: int, look: Any
) -> tuple[str, ...]:
    return tuple(
        material.evidence_type
        for material in requirement.lists[number]
        if look(material.evidence_type)[0] is None
        and catalogue.evidence_types[material.evidence_type].commitment_suffices
    )


def _judge(
    catalogue: Catalogue,
    requirement: Requirement,
    found: Mapping[frozenset[str], int],
    way: frozenset[str],
    look: Any,
) -> Judged:
    number = found[way]
    listed = requirement.lists if number < 0 else (requirement.lists[number],)
    every = tuple(
        dict.fromkeys(material.evidence_type for one in requirement.lists for material in one)
    )
    if number < 0:
        unfit = tuple(bad for code in every for bad in look(code)[1])
        return Judged(requirement, COMMITMENT, (), (), (requirement.code,), unfit)
    met = tuple(
        known
        for one in listed
        for material in one
        if (known := look(material.evidence_type)[0]) is not None
    )
    commit = _committed(catalogue, requirement, number, look)
    result = NEEDED if way else COMMITMENT if commit else SATISFIED
    unfit = () if result == SATISFIED else tuple(bad for code in every for bad in look(code)[1])
    return Judged(requirement, result, met, tuple(sorted(way)), commit, unfit)


def smallest(
    options: Sequence[Sequence[frozenset[str]]],
) -> tuple[list[frozenset[str]], bool]:
    """(a choice of one set for each, whether no other choice has a smaller union): exact by
    branch and bound; the best found where that would take over MAX_STEPS steps.

    Every one of `options` has at least one set.
    """
    forced = frozenset().union(*(sets[0] for sets in options if len(sets) == 1))
    uses = Counter(code for sets in options for code in frozenset().union(*sets))
    shared = {code for code, count in uses.items() if count > 1}
    # what serves one requirement alone is as good as anything else of its size that does
    ways = {n: _apart(sets, shared) for n, sets in enumerate(options) if len(sets) > 1}
    order = sorted(ways, key=lambda n: len(ways[n]))
    chosen = _greedy([ways[n] for n in order], forced)
    search = _Search([ways[n] for n in order], chosen, forced)
    if len(order) <= MAX_DEPTH:
        search.run(0, forced, [])
    is_exact = len(order) <= MAX_DEPTH and search.steps <= MAX_STEPS
    picked = dict(zip(order, search.best, strict=True))
    return [picked.get(n, sets[0]) for n, sets in enumerate(options)], is_exact


def _apart(sets: Sequence[frozenset[str]], shared: Set[str]) -> list[frozenset[str]]:
    best: dict[frozenset[str], frozenset[str]] = {}
    for way in sorted(sets, key=lambda w: (len(w), sorted(w))):
        best.setdefault(way & shared, way)
    return list(best.values())


def _greedy(
    ways: Sequence[Sequence[frozenset[str]]], forced: frozenset[str]
) -> list[frozenset[str]]:
    union, chosen = forced, []
    for sets in ways:
        chosen.append(min(sets, key=lambda way: len(way - union)))
        union = union | chosen[-1]
    return chosen


class _Search:
    """The best choice so far, and how many sets were looked at."""

    def __init__(
        self,
        ways: Sequence[Sequence[frozenset[str]]],
        best: list[frozenset[str]],
        forced: frozenset[str],
    ) -> None:
        self._ways = ways
        self.best = best
        self._size = len(forced.union(*best))
        self.steps = 0

    def run(self, at: int, union: frozenset[str], chosen: list[frozenset[str]]) -> None:
        if len(union) >= self._size or self.steps > MAX_STEPS:
            return
        if at == len(self._ways):
            self.best, self._size = chosen, len(union)
            return
        self.steps += len(self._ways[at])
        for way in sorted(self._ways[at], key=lambda way: len(way - union)):
            self.run(at + 1, union | way, [*chosen, way])
            if way <= union:
                break  # nothing else adds less
