"""Circular demands: which services nobody can ever get, because every way leads back to them.

Services, requirements, lists and evidence types are an AND/OR graph. What can be got is a least
fixpoint, found by counting down what each list still lacks (Dowling and Gallier, 1984): linear in
the size of the catalogue. What is left has circles; each *core* is a set of services of which none
can be got even if all others could.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .catalogue import HOLDER, Catalogue, EvidenceType

_MOST_CUTS = 50  # places to cut that are tried for each core


@dataclass(frozen=True, slots=True)
class Step:
    """`service` demands `evidence` in `requirement`, which the next step's service produces."""

    service: str
    requirement: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Core:
    """Services that need each other, a shortest circle among them and where it is best cut."""

    services: tuple[str, ...]  # ascending
    cycle: tuple[Step, ...]
    cut: str  # the evidence type which, if it were had already, lets most of them be got
    freed: int  # services of the core that can be got then


def unobtainable(catalogue: Catalogue, evidence: EvidenceType) -> str | None:
    """Why nobody can get an evidence type: `nobody-issues`, `no-channel`; None where one can, as
    far as the catalogue says.
    """
    if evidence.source == HOLDER or evidence.issuers is None:
        return None
    if evidence.code in catalogue.producers:
        return None
    if not evidence.issuers:
        return "nobody-issues"
    if all(catalogue.organisations[code].channels == () for code in evidence.issuers):
        return "no-channel"
    return None


def find_cores(catalogue: Catalogue) -> list[Core]:
    """All cores, in an order in which cutting one after the other frees every service.

    A list with evidence that cannot be got at all is no way; a requirement that has no other list
    is left out, as is one that a written commitment meets: what is wrong there is no circle.
    """
    graph = _Graph(catalogue)
    graph.settle(range(len(graph.evidence)))
    return list(_split(graph, [n for n, lacking in enumerate(graph.lacking) if lacking]))


class _Graph:
    """The catalogue in numbers, and what can be got as of now."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.services = list(catalogue.services.values())
        self.evidence = list(catalogue.evidence_types)
        self.number = number = {code: n for n, code in enumerate(self.evidence)}
        place = {service.code: n for n, service in enumerate(self.services)}
        self.producers: list[list[int]] = [[] for _ in self.evidence]
        for code, found in catalogue.producers.items():
            self.producers[number[code]] = [place[one] for one in found]
        self.outputs = [[number[code] for code in s.outputs] for s in self.services]
        dead = {
            code
            for code, kind in catalogue.evidence_types.items()
            if unobtainable(catalogue, kind) is not None
        }
        self.requirements: list[list[int]] = []  # of each service
        self.lists: list[list[int]] = []  # of each requirement
        self.names: list[str] = []  # of each requirement
        self.owner: list[int] = []  # the service of each requirement
        self.materials: list[list[int]] = []  # of each list
        self.of: list[int] = []  # the requirement of each list
        for n, service in enumerate(self.services):
            numbers = []
            for requirement in service.requirements:
                ways = [
                    [number[m.evidence_type] for m in one]
                    for one in requirement.lists
                    if not any(m.evidence_type in dead for m in one)
                ]
                if requirement.commitment or not ways:
                    continue
                numbers.append(len(self.lists))
                self.names.append(requirement.code)
                self.owner.append(n)
                self.lists.append(list(range(len(self.materials), len(self.materials) + len(ways))))
                self.of += [numbers[-1]] * len(ways)
                self.materials += ways
            self.requirements.append(numbers)
        self.uses: list[list[int]] = [[] for _ in self.evidence]  # lists that hold each evidence
        for n, materials in enumerate(self.materials):
            for item in materials:
                self.uses[item].append(n)
        self.had = [False] * len(self.evidence)
        self.missing = [len(materials) for materials in self.materials]
        self.met = [False] * len(self.lists)
        self.lacking = [len(numbers) for numbers in self.requirements]  # unmet ones of each service
        for n, lacking in enumerate(self.lacking):
            if not lacking:
                self._produce(n)
        for n, producers in enumerate(self.producers):
            self.had[n] = self.had[n] or not producers

    def settle(self, got: Iterable[int]) -> None:
        """Count down everything that follows from the evidence in `got` that is had."""
        queue = deque(item for item in got if self.had[item])
        while queue:
            for one in self.uses[queue.popleft()]:
                self.missing[one] -= 1
                requirement = self.of[one]
                if self.missing[one] == 0 and not self.met[requirement]:
                    self.met[requirement] = True
                    service = self.owner[requirement]
                    self.lacking[service] -= 1
                    if self.lacking[service] == 0:
                        queue.extend(self._produce(service))

    def give(self, services: Iterable[int]) -> None:
        """Take services as got, and what follows."""
        got = []
        for service in services:
            for requirement in self.requirements[service]:
                self.met[requirement] = True
            self.lacking[service] = 0
            got += self._produce(service)
        self.settle(got)

    def _produce(self, service: int) -> list[int]:
        new = [item for item in self.outputs[service] if not self.had[item]]
        for item in new:
            self.had[item] = True
        return new

    def blocked(self, service: int) -> Iterator[tuple[int, int]]:
        """(requirement, evidence) that a service still lacks, in all lists of what is not met."""
        for requirement in self.requirements[service]:
            if not self.met[requirement]:
                for one in self.lists[requirement]:
                    for item in self.materials[one]:
                        if not self.had[item]:
                            yield requirement, item


def _split(graph: _Graph, services: Sequence[int]) -> Iterator[Core]:
    """The cores among services that cannot be got; afterwards all of them are taken as got."""
    levels = [iter(_components(graph, services))]
    while levels:
        for part, closed in levels[-1]:
            left = [service for service in part if graph.lacking[service]]
            if left and closed:
                yield _describe(graph, left)
                graph.give(left)
            elif left:  # what it led to is got by now: what it still lacks lies within it
                levels.append(iter(_components(graph, left)))
                break
        else:
            levels.pop()


def _components(graph: _Graph, services: Sequence[int]) -> list[tuple[list[int], bool]]:
    """Strongly connected sets of services, those that others lead to first, and whether nothing
    leads out of them (Tarjan, 1972). Evidence types stand between services as nodes, so that an
    evidence that many produce and many demand costs no more than its mentions.
    """
    wanted = set(services)
    shift = len(graph.services)  # evidence e is node shift + e

    def follow(node: int) -> list[int]:
        if node >= shift:
            return [s for s in graph.producers[node - shift] if s in wanted]
        return list(dict.fromkeys(shift + item for _, item in graph.blocked(node)))

    order: dict[int, int] = {}
    low: dict[int, int] = {}
    part_of: dict[int, int] = {}
    stack: list[int] = []
    parts: list[tuple[list[int], bool]] = []
    for root in services:
        if root in order:
            continue
        work: list[tuple[int, list[int], int]] = []
        order[root] = low[root] = len(order)
        stack.append(root)
        work.append((root, follow(root), 0))
        while work:
            node, nexts, at = work.pop()
            while at < len(nexts):
                other = nexts[at]
                at += 1
                if other not in order:
                    work.append((node, nexts, at))
                    order[other] = low[other] = len(order)
                    stack.append(other)
                    work.append((other, follow(other), 0))
                    break
                if other not in part_of:
                    low[node] = min(low[node], order[other])
            else:
                if low[node] == order[node]:
                    members = []
                    while True:
                        member = stack.pop()
                        part_of[member] = len(parts)
                        members.append(member)
                        if member == node:
                            break
                    inside = [m for m in members if m < shift]
                    closed = bool(inside) and all(
                        part_of[other] == len(parts) for m in members for other in follow(m)
                    )
                    parts.append((inside, closed))
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
    return [part for part in parts if part[0]]


def _describe(graph: _Graph, services: Sequence[int]) -> Core:
    cycle = _shortest_cycle(graph, services)
    held = {
        code
        for code, kind in graph.catalogue.evidence_types.items()
        if kind.certificate_type is not None
    }
    found = dict.fromkeys(step.evidence for step in cycle)
    candidates = sorted(found, key=lambda code: (code not in held, code))[:_MOST_CUTS]
    freed = {code: _freed(graph, services, code) for code in candidates}
    cut = min(candidates, key=lambda code: (code not in held, -freed[code], code))
    codes = sorted(graph.services[n].code for n in services)
    return Core(tuple(codes), tuple(cycle), cut, freed[cut])


def _freed(graph: _Graph, services: Sequence[int], code: str) -> int:
    """How many services of a core can be got if one evidence type of it were had."""
    inside = set(services)
    queue = [graph.number[code]]
    had = set(queue)
    missing: dict[int, int] = {}
    lacking: dict[int, int] = {}
    met: set[int] = set()
    free = 0
    while queue:
        for one in graph.uses[queue.pop()]:
            requirement = graph.of[one]
            service = graph.owner[requirement]
            if service not in inside or graph.met[requirement] or requirement in met:
                continue
            missing[one] = missing.get(one, graph.missing[one]) - 1
            if missing[one]:
                continue
            met.add(requirement)
            lacking[service] = lacking.get(service, graph.lacking[service]) - 1
            if lacking[service] == 0:
                free += 1
                new = [o for o in graph.outputs[service] if o not in had and not graph.had[o]]
                had.update(new)
                queue += new
    return free


def _shortest_cycle(graph: _Graph, services: Sequence[int]) -> list[Step]:
    """A circle of fewest services in a core: from each service the shortest way back to it, the
    service left out afterwards together with all that then are in no circle.
    """
    left = set(services)
    best: list[Step] = []
    for start in sorted(services, key=lambda n: graph.services[n].code):
        if start in left:
            found = _way_back(graph, start, left, len(best))
            if found:
                best = found
            left.discard(start)
            _peel(graph, start, left)
    return best


def _way_back(graph: _Graph, start: int, among: set[int], below: int) -> list[Step]:
    """The shortest circle through `start`, empty where none is shorter than `below` (0: any)."""
    came: dict[int, tuple[int, int, int]] = {}
    seen_evidence: set[int] = set()
    level = [start]
    length = 0
    while level and (not below or length + 1 < below):
        length += 1
        following = []
        for service in level:
            for requirement, item in graph.blocked(service):
                if item in seen_evidence:
                    continue
                seen_evidence.add(item)
                for producer in graph.producers[item]:
                    if producer == start:
                        steps = [_step(graph, service, requirement, item)]
                        while service != start:
                            service, requirement, item = came[service]
                            steps.append(_step(graph, service, requirement, item))
                        return steps[::-1]
                    if producer in among and producer not in came:
                        came[producer] = (service, requirement, item)
                        following.append(producer)
        level = following
    return []


def _peel(graph: _Graph, gone: int, left: set[int]) -> None:
    """Take out of `left` what leads to nothing in it any more, after `gone` went."""
    queue = [gone]
    while queue:
        service = queue.pop()
        for item in graph.outputs[service]:
            for one in graph.uses[item]:
                other = graph.owner[graph.of[one]]
                if other in left and not any(
                    producer in left
                    for _, needed in graph.blocked(other)
                    for producer in graph.producers[needed]
                ):
                    left.discard(other)
                    queue.append(other)


def _step(graph: _Graph, service: int, requirement: int, item: int) -> Step:
    return Step(graph.services[service].code, graph.names[requirement], graph.evidence[item])
