"""What sharing would bring: which demands would fall if an office published what it issues.

A demand falls when one of its lists can be had whole from the ledger: of evidence types that are
certificates of it already, and of those that the newly published type proves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .catalogue import HOLDER, Catalogue


@dataclass(frozen=True, slots=True)
class Gain:
    """If `organisation` published `evidence_type`: how many demands, of how many services, would
    fall, which of these services would demand nothing more, and how many paper copies would go.
    """

    organisation: str | None  # None: the catalogue does not state who issues it
    evidence_type: str
    demands: int
    services: int
    freed: int
    copies: int


def rank_gains(catalogue: Catalogue) -> list[Gain]:
    """A gain for every evidence type that is no certificate of the ledger yet and proves something
    that is demanded, the largest first; of types with the same facts and issuers only the first in
    the file is named. Types that state no facts stand for themselves.
    """
    candidates = _candidates(catalogue)
    proven_by = _proven_by(catalogue, candidates)
    demands = [0] * len(candidates)
    copies = [0] * len(candidates)
    services = [0] * len(candidates)
    freed = [0] * len(candidates)
    for service in catalogue.services.values():
        falling: dict[int, int] = {}
        open_demands = 0
        for requirement in service.requirements:
            least: dict[int, int] = {}  # paper copies of the list that falls, by candidate
            met = False
            for one in requirement.lists:
                lacking = [
                    m.evidence_type
                    for m in one
                    if catalogue.evidence_types[m.evidence_type].certificate_type is None
                ]
                paper = sum(m.paper_copies for m in one)
                if not lacking:
                    met = True
                    break
                for number in _common(proven_by, lacking):
                    least[number] = min(least.get(number, paper), paper)
            if met:
                continue
            open_demands += 1
            for number, paper in least.items():
                falling[number] = falling.get(number, 0) + 1
                copies[number] += paper
        for number, count in falling.items():
            demands[number] += count
            services[number] += 1
            freed[number] += count == open_demands
    gains = [
        Gain(organisation, code, demands[n], services[n], freed[n], copies[n])
        for n, (organisation, code) in enumerate(candidates)
        if demands[n]
    ]
    return sorted(gains, key=lambda g: (-g.demands, -g.services, g.evidence_type))


def _candidates(catalogue: Catalogue) -> list[tuple[str | None, str]]:
    found: dict[tuple[str | None, object], tuple[str | None, str]] = {}
    for code, kind in catalogue.evidence_types.items():
        if kind.certificate_type is not None or kind.source == HOLDER:
            continue
        makers: dict[str | None, None] = dict.fromkeys(kind.issuers or ())
        for service in catalogue.producers.get(code, ()):
            makers[catalogue.services[service].competent_authority] = None
        for maker in makers or {None: None}:
            alike = frozenset(kind.facts) if kind.facts else code
            found.setdefault((maker, alike), (maker, code))
    stated = {alike for maker, alike in found if maker is not None}
    return [
        candidate
        for (maker, alike), candidate in found.items()
        if maker is not None or alike not in stated
    ]


def _proven_by(
    catalogue: Catalogue, candidates: list[tuple[str | None, str]]
) -> dict[str, frozenset[int]]:
    """The candidates that prove each evidence type: the same one, or all its facts."""
    by_fact: dict[str, set[int]] = {}
    own: dict[str, set[int]] = {}
    for number, (_, code) in enumerate(candidates):
        own.setdefault(code, set()).add(number)
        for fact in catalogue.evidence_types[code].facts:
            by_fact.setdefault(fact, set()).add(number)
    known: dict[tuple[str, ...], frozenset[int]] = {}
    found = {}
    for code, kind in catalogue.evidence_types.items():
        if not kind.facts:
            found[code] = frozenset(own.get(code, ()))
            continue
        if kind.facts not in known:
            sets = [by_fact.get(fact, set()) for fact in kind.facts]
            known[kind.facts] = frozenset(set.intersection(*sets))
        found[code] = known[kind.facts] if kind.source != HOLDER else frozenset()
    return found


def _common(proven_by: dict[str, frozenset[int]], lacking: list[str]) -> Iterator[int]:
    sets = sorted((proven_by[code] for code in lacking), key=len)
    for number in sets[0]:
        if all(number in other for other in sets[1:]):
            yield number
