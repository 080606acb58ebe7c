"""What is absurd in a catalogue: every demand held against rules, each with a code of its own.

Six rules are the reasons for which a demanded proof is to be cancelled (六个一律, Ministry of
Justice, June 2018). There is at most one finding for each rule and requirement; what a catalogue
does not state is held against nobody, but for the legal basis: who demands has to name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from .catalogue import Catalogue, EvidenceType, Material, PublicService, Requirement
from .circularity import Core, Step, find_cores, unobtainable
from .positions import Path

ERROR, WARNING, NOTE = "error", "warning", "note"
_SHOWN = 3  # names in a sentence; the rest is counted
_SHOWN_STEPS = 10  # of a circle


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule says, in general. `reason` is its number among the six of 2018, 0 for none."""

    code: str
    zh: str
    en: str
    reason: int = 0


RULES = {
    rule.code: rule
    for rule in (
        Rule(
            "circular-demand",
            "循环证明：要办甲须先办乙，要办乙又须先办甲，没有别的途径。",
            "A circle: each of these services can only be had after another of them.",
        ),
        Rule(
            "own-evidence",
            "索要本机关自己出具的证明。",
            "The office demands what it issues itself.",
        ),
        Rule(
            "nobody-issues",
            "没有任何单位出具这种证明。",
            "Nobody issues what is demanded.",
        ),
        Rule(
            "no-channel",
            "出具单位没有任何办理渠道。",
            "Whoever issues what is demanded has no channel by which to get it.",
        ),
        Rule(
            "same-fact-twice",
            "同一事实以两个名目重复证明。",
            "The same fact is asked for twice, under two names.",
        ),
        Rule(
            "fresher-than-validity",
            "要求的开具时限短于出具单位规定的有效期。",
            "The evidence must be fresher than its own issuer says that it holds.",
        ),
        Rule(
            "paper-copy-of-certificate",
            "已有电子证照，仍收取纸质复印件。",
            "Paper copies are demanded of what the ledger holds as a certificate.",
        ),
        Rule(
            "no-legal-basis",
            "没有法律法规依据的证明事项，一律取消。",
            "No law sets the demand: it is to be cancelled.",
            1,
        ),
        Rule(
            "certificate-proves-it",
            "能够通过个人现有证照来证明的，一律取消。",
            "An existing certificate already proves it: it is to be cancelled.",
            2,
        ),
        Rule(
            "commitment-suffices",
            "能够采取申请人书面承诺方式解决的，一律取消。",
            "A written commitment can solve it: it is to be cancelled.",
            3,
        ),
        Rule(
            "covered-by-other-materials",
            "能够被其他材料涵盖或者替代的，一律取消。",
            "Other demanded materials cover it: it is to be cancelled.",
            4,
        ),
        Rule(
            "checkable-online",
            "能够通过网络核验的，一律取消。",
            "It can be checked over the network: it is to be cancelled.",
            5,
        ),
        Rule(
            "issuer-cannot-investigate",
            "开具单位无法调查核实的，一律取消。",
            "The issuing body has no way to investigate it: it is to be cancelled.",
            6,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One absurdity. `evidence` names the evidence types that it is about, in the file's order;
    `path` leads to it in the file.
    """

    code: str
    level: str  # ERROR: nobody gets past it; WARNING: everybody does needless work; NOTE
    service: str
    requirement: str | None
    evidence: tuple[str, ...]
    zh: str
    en: str
    path: Path

    @property
    def id(self) -> str:
        """16 hex digits that stay the same from one version of a catalogue to the next."""
        about = [self.code, self.service, self.requirement or " ".join(self.evidence)]
        return sha256("\n".join(about).encode()).hexdigest()[:16]


def lint(catalogue: Catalogue) -> list[Finding]:
    """All findings: circles, then the others in the order of the file and of the rules. Linear in
    the size of the catalogue but for the circles.
    """
    return [*_circles(catalogue), *_Linting(catalogue).findings()]


def name_of(names: Mapping[str, str], *languages: str) -> str:
    """A name in the first language that there is, else in any."""
    for language in languages:
        if language in names:
            return names[language]
    return next(iter(names.values()))


class _Names:
    """Names of a catalogue's parts as sentences of a language show them."""

    def __init__(self, catalogue: Catalogue, language: str) -> None:
        self._catalogue = catalogue
        self._chinese = language == "zh"
        self._languages = ("zh", "en") if self._chinese else ("en", "zh")

    def of(self, names: Mapping[str, str]) -> str:
        return f"“{name_of(names, *self._languages)}”"

    def service(self, code: str) -> str:
        return self.of(self._catalogue.services[code].names)

    def organisation(self, code: str) -> str:
        return name_of(self._catalogue.organisations[code].names, *self._languages)

    def evidence(self, codes: Iterable[str]) -> str:
        found = list(codes)
        kinds = self._catalogue.evidence_types
        shown = [self.of(kinds[code].names) for code in found[:_SHOWN]]
        text = ("、" if self._chinese else ", ").join(shown)
        if len(found) == len(shown):
            return text
        more = len(found) - len(shown)
        return f"{text}等{len(found):,}种" if self._chinese else f"{text} and {more:,} more"


def _circles(catalogue: Catalogue) -> Iterator[Finding]:
    zh, en = _Names(catalogue, "zh"), _Names(catalogue, "en")
    places = {code: n for n, code in enumerate(catalogue.services)}
    for core in find_cores(catalogue):
        first = core.cycle[0]
        requirements = catalogue.services[first.service].requirements
        number = next(n for n, r in enumerate(requirements) if r.code == first.requirement)
        yield Finding(
            "circular-demand",
            ERROR,
            first.service,
            first.requirement,
            tuple(step.evidence for step in core.cycle),
            _tell_zh(catalogue, core, zh),
            _tell_en(catalogue, core, en),
            ("public_services", places[first.service], "requirements", number),
        )


def _tell_en(catalogue: Catalogue, core: Core, names: _Names) -> str:
    parts = [
        f"{names.service(step.service)} demands {names.evidence([step.evidence])}, which "
        f"{names.service(following.service)} gives"
        for step, following in _shown_steps(core)
    ]
    if len(parts) < len(core.cycle):
        parts.append(f"and so on through {len(core.cycle):,} services back to the first")
    kind = catalogue.evidence_types[core.cut]
    held = (
        f"the ledger holds it as certificate {kind.certificate_type}"
        if kind.certificate_type
        else "published to the ledger it need not be brought"
    )
    size = len(core.services)
    others = size - len(core.cycle)
    more = f", and {others:,} more services lie in the same knot" if others else ""
    return (
        f"{'; '.join(parts)}: every way leads back{more}. Best cut at "
        f"{names.evidence([core.cut])}: {held}, and {core.freed:,} of {size:,} can be had"
    )


def _tell_zh(catalogue: Catalogue, core: Core, names: _Names) -> str:
    parts = [
        f"办{names.service(step.service)}要{names.evidence([step.evidence])}，"
        f"由{names.service(following.service)}出具"
        for step, following in _shown_steps(core)
    ]
    if len(parts) < len(core.cycle):
        parts.append(f"如此经{len(core.cycle):,}项服务回到第一项")
    kind = catalogue.evidence_types[core.cut]
    held = (
        f"账本已有该证照（{kind.certificate_type}）"
        if kind.certificate_type
        else "发布到账本后即不必提交"
    )
    size = len(core.services)
    others = size - len(core.cycle)
    more = f"，另有{others:,}项服务同在此结中" if others else ""
    return (
        f"{'；'.join(parts)}：条条路都绕回来{more}。最宜从{names.evidence([core.cut])}处断开："
        f"{held}，{size:,}项中有{core.freed:,}项可办"
    )


def _shown_steps(core: Core) -> list[tuple[Step, Step]]:
    steps = core.cycle
    return list(zip(steps, steps[1:] + steps[:1], strict=True))[:_SHOWN_STEPS]


class _Linting:
    """The rules over one catalogue, with what they look up."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._zh, self._en = _Names(catalogue, "zh"), _Names(catalogue, "en")
        self._kinds = catalogue.evidence_types
        self._dead = {code: unobtainable(catalogue, kind) for code, kind in self._kinds.items()}
        self._makers = {  # who issues or produces each evidence type
            code: {
                *(kind.issuers or ()),
                *(
                    catalogue.services[one].competent_authority
                    for one in catalogue.producers.get(code, ())
                ),
            }
            for code, kind in self._kinds.items()
        }
        self._proving: dict[str, list[str]] = {}  # certificate-tied evidence types by fact
        for code, kind in self._kinds.items():
            if kind.certificate_type is not None:
                for fact in kind.facts:
                    self._proving.setdefault(fact, []).append(code)
        self._found: dict[tuple[str, ...], str | None] = {}
        self._committed = {  # for which somebody takes a commitment instead
            one[0].evidence_type
            for service in catalogue.services.values()
            for requirement in service.requirements
            if requirement.commitment
            for one in requirement.lists
            if len(one) == 1
        }

    def findings(self) -> Iterator[Finding]:
        for place, service in enumerate(self._catalogue.services.values()):
            path: Path = ("public_services", place)
            names = (self._zh.service(service.code), self._en.service(service.code))
            for said in self._lawless(service):
                yield self._finding(said, service, None, path, names)
            doubled = self._doubled(service)
            for number, requirement in enumerate(service.requirements):
                for said in (
                    *self._barred(service, requirement),
                    *doubled.get(number, ()),
                    *self._of_materials(requirement),
                    *self._needless(service, requirement),
                ):
                    where = (*path, "requirements", number)
                    yield self._finding(said, service, requirement.code, where, names)

    def _finding(
        self,
        said: _Said,
        service: PublicService,
        requirement: str | None,
        path: Path,
        names: tuple[str, str],
    ) -> Finding:
        code, level, evidence, zh, en = said
        return Finding(
            code,
            level,
            service.code,
            requirement,
            tuple(evidence),
            f"{names[0]}：{zh}",
            f"{names[1]}: {en}",
            path,
        )

    def _lawless(self, service: PublicService) -> Iterator[_Said]:
        """The whole service, where no law is named for anything in it."""
        if (
            service.requirements
            and not service.legal_resources
            and not any(r.legal_resources for r in service.requirements)
        ):
            count = len(service.requirements)
            yield (
                "no-legal-basis",
                WARNING,
                [],
                f"{count:,}项要求都没有写明法律法规依据",
                f"no law is named for any of its {count:,} demands",
            )

    def _barred(self, service: PublicService, requirement: Requirement) -> Iterator[_Said]:
        """Rules about evidence that should not be demanded or cannot be got; no more than a note
        where another list is free of it.
        """
        office = service.competent_authority
        one_office = not self._catalogue.organisations[office].many
        zh_office, en_office = self._zh.organisation(office), self._en.organisation(office)
        yield from self._where(
            requirement,
            "own-evidence",
            WARNING,
            lambda m: one_office and office in self._makers[m.evidence_type],
            lambda e: f"{zh_office}索要自己出具的{self._zh.evidence(e)}",
            lambda e: f"{en_office} demands {self._en.evidence(e)}, which it issues itself",
        )
        yield from self._where(
            requirement,
            "nobody-issues",
            ERROR,
            lambda m: self._dead[m.evidence_type] == "nobody-issues",
            lambda e: f"要{self._zh.evidence(e)}，但没有任何单位出具",
            lambda e: f"demands {self._en.evidence(e)}, which nobody issues",
        )
        yield from self._where(
            requirement,
            "no-channel",
            ERROR,
            lambda m: self._dead[m.evidence_type] == "no-channel",
            lambda e: f"要{self._zh.evidence(e)}，但出具单位没有办理渠道",
            lambda e: f"demands {self._en.evidence(e)}, whose issuer has no channel",
        )
        yield from self._where(
            requirement,
            "issuer-cannot-investigate",
            WARNING,
            lambda m: self._kinds[m.evidence_type].issuer_can_investigate is False,
            lambda e: f"要{self._zh.evidence(e)}，但出具单位无法调查核实",
            lambda e: f"demands {self._en.evidence(e)}, which its issuer has no way to investigate",
        )

    def _where(
        self,
        requirement: Requirement,
        code: str,
        level: str,
        is_bad: Callable[[Material], bool],
        zh: Callable[[list[str]], str],
        en: Callable[[list[str]], str],
    ) -> Iterator[_Said]:
        found: dict[str, None] = {}
        free = requirement.commitment
        for one in requirement.lists:
            bad = [m.evidence_type for m in one if is_bad(m)]
            free = free or not bad
            found.update(dict.fromkeys(bad))
        if found:
            evidence = list(found)
            yield code, NOTE if free else level, evidence, zh(evidence), en(evidence)

    def _of_materials(self, requirement: Requirement) -> Iterator[_Said]:
        """Rules about how evidence is demanded."""
        early: dict[str, tuple[int, int]] = {}
        paper: dict[str, None] = {}
        for one in requirement.lists:
            for material in one:
                kind = self._kinds[material.evidence_type]
                days, valid = material.max_age_days, kind.validity_days
                if days is not None and valid is not None and days < valid:
                    early[kind.code] = (days, valid)
                if material.paper_copies and kind.certificate_type is not None:
                    paper[kind.code] = None
        if early:
            evidence = list(early)
            days, valid = early[evidence[0]]
            yield (
                "fresher-than-validity",
                WARNING,
                evidence,
                f"{self._zh.evidence(evidence)}须在{days}天内开具，而出具单位规定有效{valid}天",
                f"{self._en.evidence(evidence)} must be at most {days} days old, its issuer says "
                f"that it holds for {valid}",
            )
        if paper:
            evidence = list(paper)
            yield (
                "paper-copy-of-certificate",
                WARNING,
                evidence,
                f"收取{self._zh.evidence(evidence)}的纸质复印件，账本已有该证照",
                f"demands paper copies of {self._en.evidence(evidence)}, of which the ledger holds "
                "the certificate",
            )

    def _needless(self, service: PublicService, requirement: Requirement) -> Iterator[_Said]:
        """The reasons of 2018 that one requirement shows by itself."""
        laws = requirement.legal_resources
        if laws is None:
            laws = service.legal_resources
        if not laws and (
            service.legal_resources or any(r.legal_resources for r in service.requirements)
        ):
            yield (
                "no-legal-basis",
                WARNING,
                [],
                f"{self._zh.of(requirement.names)}没有写明法律法规依据",
                f"no law is named for {self._en.of(requirement.names)}",
            )
        yield from self._proven(requirement)
        if not requirement.commitment:
            yield from self._whole(
                requirement,
                "commitment-suffices",
                self._is_committable,
                "{}可由书面承诺代替",
                "a written commitment could take the place of {}",
            )
        yield from self._whole(
            requirement,
            "checkable-online",
            lambda kind: kind.checkable_online is True and kind.certificate_type is None,
            "{}可以网络核验",
            "{} can be checked over the network",
        )

    def _whole(
        self,
        requirement: Requirement,
        code: str,
        is_so: Callable[[EvidenceType], bool],
        zh: str,
        en: str,
    ) -> Iterator[_Said]:
        """The first list of which everything is so: it is enough, so nothing has to be brought."""
        for one in requirement.lists:
            if all(is_so(self._kinds[m.evidence_type]) for m in one):
                evidence = [m.evidence_type for m in one]
                names = (self._zh.evidence(evidence), self._en.evidence(evidence))
                yield code, WARNING, evidence, zh.format(names[0]), en.format(names[1])
                return

    def _is_committable(self, kind: EvidenceType) -> bool:
        if kind.commitment_suffices is None:
            return kind.code in self._committed
        return kind.commitment_suffices

    def _proven(self, requirement: Requirement) -> Iterator[_Said]:
        kinds = [[self._kinds[m.evidence_type] for m in one] for one in requirement.lists]
        if any(all(kind.certificate_type is not None for kind in one) for one in kinds):
            return
        for one in kinds:
            others = [kind for kind in one if kind.certificate_type is None]
            by = [self._certificate_for(kind.facts) for kind in others]
            if None in by:
                continue
            evidence = [kind.code for kind in others]
            proofs = dict.fromkeys(code for code in by if code is not None)
            yield (
                "certificate-proves-it",
                WARNING,
                evidence,
                f"{self._zh.evidence(evidence)}能由账本中的{self._zh.evidence(proofs)}证明",
                f"{self._en.evidence(proofs)}, which the ledger holds, proves the same as "
                f"{self._en.evidence(evidence)}",
            )
            return

    def _certificate_for(self, facts: tuple[str, ...]) -> str | None:
        """A certificate-tied evidence type that proves all these facts."""
        if facts not in self._found:
            self._found[facts] = next(
                (
                    code
                    for code in (self._proving.get(facts[0], ()) if facts else ())
                    if set(facts) <= set(self._kinds[code].facts)
                ),
                None,
            )
        return self._found[facts]

    def _doubled(self, service: PublicService) -> dict[int, list[_Said]]:
        """Requirements whose facts the others of the service prove for sure; all that are found
        can fall together.
        """
        sure = [self._sure_facts(requirement) for requirement in service.requirements]
        by_fact: dict[str, list[int]] = {}
        same: dict[frozenset[str], int] = {}
        for number, facts in enumerate(sure):
            for fact in facts:
                by_fact.setdefault(fact, []).append(number)
            same.setdefault(facts, number)
        counts = {fact: len(numbers) for fact, numbers in by_fact.items()}
        found: dict[int, list[_Said]] = {}
        for number in range(len(sure) - 1, -1, -1):
            facts = sure[number]
            if not facts or any(counts[fact] < 2 for fact in facts):
                continue
            for fact in facts:
                counts[fact] -= 1
            evidence = self._types(service.requirements[number])
            if same[facts] < number:
                other = self._types(service.requirements[same[facts]])
                found[number] = [self._said_twice(evidence, other)]
                continue
            others = {
                next(n for n in by_fact[fact] if n != number and n not in found) for fact in facts
            }
            by = [code for n in sorted(others) for code in self._types(service.requirements[n])]
            found[number] = [
                (
                    "covered-by-other-materials",
                    WARNING,
                    evidence,
                    f"{self._zh.evidence(evidence)}已被{self._zh.evidence(by)}涵盖",
                    f"{self._en.evidence(evidence)} is covered by {self._en.evidence(by)}, which "
                    "is demanded too",
                )
            ]
        return found

    def _said_twice(self, evidence: list[str], other: list[str]) -> _Said:
        mine = (self._zh.evidence(evidence), self._en.evidence(evidence))
        if evidence == other:
            zh, en = f"重复索要{mine[0]}", f"demands {mine[1]} twice"
        else:
            zh = f"{mine[0]}与{self._zh.evidence(other)}证明的是同一事实"
            en = f"{mine[1]} proves the same as {self._en.evidence(other)}, which is demanded too"
        return "same-fact-twice", WARNING, evidence, zh, en

    def _sure_facts(self, requirement: Requirement) -> frozenset[str]:
        facts: set[str] | None = None
        for one in requirement.lists:
            proven = {fact for m in one for fact in self._kinds[m.evidence_type].facts}
            facts = proven if facts is None else facts & proven
            if not facts:
                return frozenset()
        return frozenset(facts or ())

    @staticmethod
    def _types(requirement: Requirement) -> list[str]:
        return list(dict.fromkeys(m.evidence_type for one in requirement.lists for m in one))


_Said = tuple[str, str, list[str], str, str]  # code, level, evidence, zh, en
