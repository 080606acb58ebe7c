"""What a new version of a catalogue demands that the one before did not.

A requirement is *implied* by an earlier version when whatever met one of the earlier requirements,
together with what was to be brought in any case, meets the new one too: the same evidence types,
on no more paper, no fresher. A service that is new has added nothing to what it demanded before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from .catalogue import Catalogue, Material, PublicService, Requirement
from .lint import ERROR, NOTE, Finding, name_of

NEW_SERVICE = "new-service"
REVISION_CODES = ("added-demand", "stricter-demand", "commitment-withdrawn", NEW_SERVICE)


def compare(old: Catalogue, new: Catalogue) -> list[Finding]:
    """Demands of `new` that services of `old` did not have, in the order of the file: errors with a
    code of REVISION_CODES, and a note for each service that is new.
    """
    found = []
    for place, service in enumerate(new.services.values()):
        before = old.services.get(service.code)
        path = ("public_services", place)
        names = [name_of(service.names, *pair) for pair in (("zh", "en"), ("en", "zh"))]
        if before is None:
            zh, en = (f"“{names[0]}”是新服务", f"“{names[1]}” is a new service")
            found.append(Finding(NEW_SERVICE, NOTE, service.code, None, (), zh, en, path))
            continue
        for number, code, evidence in _added(before, service):
            requirement = service.requirements[number]
            named = [name_of(requirement.names, *p) for p in (("zh", "en"), ("en", "zh"))]
            zh, en = _SAID[code]
            found.append(
                Finding(
                    code,
                    ERROR,
                    service.code,
                    requirement.code,
                    evidence,
                    f"“{names[0]}”：" + zh.format(named[0]),
                    f"“{names[1]}”: " + en.format(named[1]),
                    (*path, "requirements", number),
                )
            )
    return found


_SAID = {
    "added-demand": ("新增要求“{}”", "“{}” was not demanded before"),
    "stricter-demand": (
        "“{}”比以前更严：要求更多纸质件、更新的开具日期或更少的替代材料",
        "“{}” is stricter than before: more paper, fresher, or with fewer alternatives",
    ),
    "commitment-withdrawn": (
        "“{}”不再接受书面承诺",
        "a written commitment was enough for “{}” before and is no more",
    ),
}


def _added(old: PublicService, new: PublicService) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    if not old.stated:  # what it demanded was not stated: nothing can be said to be more
        return
    always: dict[str, list[Material]] = {}  # what is brought in any case
    for requirement in old.requirements:
        if not requirement.commitment:
            for material in _sure(requirement):
                always.setdefault(material.evidence_type, []).append(material)
    by_code = {requirement.code: requirement for requirement in old.requirements}
    by_type: dict[str, list[Requirement]] = {}
    for requirement in old.requirements:
        for material in requirement.lists[0]:
            by_type.setdefault(material.evidence_type, []).append(requirement)
    for number, requirement in enumerate(new.requirements):
        wanted = _Wanted(requirement, always)
        same = by_code.get(requirement.code)
        alike = False
        kept = wanted.is_free
        promised = False  # somebody kept it only by a commitment that is taken no more
        for other in _others(same, wanted.types, by_type):
            if kept:
                break
            alike = alike or any(m.evidence_type in wanted.types for m in other.lists[0])
            if all(wanted.is_met_by(one) for one in other.lists):
                kept = requirement.commitment or not other.commitment
                promised = True
        if not kept:
            evidence = [m.evidence_type for one in requirement.lists for m in one]
            code = "stricter-demand" if alike else "added-demand"
            yield (
                number,
                "commitment-withdrawn" if promised else code,
                tuple(dict.fromkeys(evidence)),
            )


def _others(
    same: Requirement | None, types: Iterable[str], by_type: Mapping[str, Sequence[Requirement]]
) -> Iterator[Requirement]:
    """Earlier requirements that may imply a new one, that of the same code first."""
    if same is not None:
        yield same
    seen = {id(same)}
    for code in types:
        for requirement in by_type.get(code, ()):
            if id(requirement) not in seen:
                seen.add(id(requirement))
                yield requirement


def _sure(requirement: Requirement) -> list[Material]:
    """What is needed whichever list is chosen, as leniently as any list demands it."""
    first, *others = requirement.lists
    sure = {m.evidence_type: m for m in first}
    for one in others:
        here = {m.evidence_type: m for m in one}
        sure = {code: _lenient(m, here[code]) for code, m in sure.items() if code in here}
    return list(sure.values())


def _lenient(one: Material, other: Material) -> Material:
    ages = (one.max_age_days, other.max_age_days)
    age = None if ages[0] is None or ages[1] is None else max(ages[0], ages[1])
    return Material(one.evidence_type, min(one.paper_copies, other.paper_copies), age)


def _is_covered(wanted: Material, had: Material) -> bool:
    if had.paper_copies < wanted.paper_copies:
        return False
    if wanted.max_age_days is None:
        return True
    return had.max_age_days is not None and had.max_age_days <= wanted.max_age_days


class _Wanted:
    """A new requirement's lists without what is brought in any case, found by their rarest type."""

    def __init__(self, requirement: Requirement, always: Mapping[str, Sequence[Material]]) -> None:
        counts: dict[str, int] = {}
        lists = []
        for one in requirement.lists:
            rest = [
                m
                for m in one
                if not any(_is_covered(m, had) for had in always.get(m.evidence_type, ()))
            ]
            lists.append(rest)
            for material in rest:
                counts[material.evidence_type] = counts.get(material.evidence_type, 0) + 1
        self.types = counts.keys()
        self.is_free = not all(lists)  # a list of which everything is brought in any case
        self._by_type: dict[str, list[list[Material]]] = {}
        for rest in lists:
            if rest:
                anchor = min(rest, key=lambda m: counts[m.evidence_type])
                self._by_type.setdefault(anchor.evidence_type, []).append(rest)

    def is_met_by(self, one: Iterable[Material]) -> bool:
        """Whether a list of an earlier requirement, with what is brought in any case, is enough."""
        had = {m.evidence_type: m for m in one}
        return any(
            all(m.evidence_type in had and _is_covered(m, had[m.evidence_type]) for m in rest)
            for code in had
            for rest in self._by_type.get(code, ())
        )
