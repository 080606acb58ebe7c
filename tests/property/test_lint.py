"""Lint, revisions and sharing against slow twins that say each rule once more, plainly."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.catalogue import Catalogue, Material, PublicService, Requirement
from ledger.lint import ERROR, NOTE, WARNING, lint
from ledger.revision import compare
from ledger.sharing import rank_gains
from tests.catalogues import catalogue_of, read

_TYPES = [f"e{n}" for n in range(6)]
_maybe = st.sampled_from([None, None, True, False])
_few = st.sampled_from([None, (), ("x",), ("y",), ("x", "y")])


def _plain(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


@st.composite
def _evidence(draw: st.DrawFn, code: str) -> dict[str, Any]:
    holder = draw(st.integers(0, 4)) == 0
    issuers = draw(st.sampled_from([None, [], ["office"], ["mute"], ["many"], ["mute", "other"]]))
    return {
        "code": code,
        "names": {"en": code},
        **_plain(
            source="holder" if holder else None,
            issuers=None if holder else issuers,
            certificate_type=draw(st.sampled_from([None, None, "T"])),
            facts=draw(st.lists(st.sampled_from("abc"), max_size=2, unique=True)) or None,
            validity_days=draw(st.sampled_from([None, 30, 90])),
            checkable_online=draw(_maybe),
            commitment_suffices=draw(_maybe),
            issuer_can_investigate=draw(_maybe),
        ),
    }


@st.composite
def _requirement(draw: st.DrawFn, code: str) -> dict[str, Any]:
    material = st.builds(
        lambda e, copies, age: {
            "evidence_type": e,
            **_plain(paper_copies=copies, max_age_days=age),
        },
        st.sampled_from(_TYPES),
        st.sampled_from([None, None, 1, 2]),
        st.sampled_from([None, None, 30, 90]),
    )
    one = st.lists(material, min_size=1, max_size=3, unique_by=lambda m: m["evidence_type"])
    return {
        "code": code,
        "names": {"en": code},
        "evidence_type_lists": draw(st.lists(one, min_size=1, max_size=3)),
        **_plain(legal_resources=draw(_few), commitment=draw(st.sampled_from([None, None, True]))),
    }


@st.composite
def _services(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for n in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, 4))
        made.append(
            {
                "code": f"s{n}",
                "names": {"en": f"s{n}"},
                "competent_authority": draw(st.sampled_from(["office", "many", "other"])),
                "requirements": [draw(_requirement(f"r{m}")) for m in range(count)],
                "outputs": [],
                **_plain(legal_resources=draw(_few)),
            }
        )
    return made


@st.composite
def _values(draw: st.DrawFn) -> dict[str, Any]:
    value = catalogue_of(draw(_services()), [draw(_evidence(code)) for code in _TYPES])
    value["public_organisations"] = [
        {"code": "office", "names": {"en": "office"}},
        {"code": "mute", "names": {"en": "mute"}, "channels": []},
        {"code": "many", "names": {"en": "many"}, "many": True},
        {"code": "other", "names": {"en": "other"}, "channels": ["post"]},
    ]
    return value


def slow_lint(made: Catalogue) -> set[tuple[str, str, str, str | None]]:
    """(code, level, service, requirement) of everything but what is doubled."""
    found: set[tuple[str, str, str, str | None]] = set()
    kinds = made.evidence_types
    for service in made.services.values():
        laws = [service.legal_resources, *(r.legal_resources for r in service.requirements)]
        lawless = service.requirements and not any(laws)
        if lawless:
            found.add(("no-legal-basis", WARNING, service.code, None))
        office = made.organisations[service.competent_authority]
        for r in service.requirements:

            def say(code: str, level: str, r: Requirement = r, s: PublicService = service) -> None:
                found.add((code, level, s.code, r.code))

            own = r.legal_resources if r.legal_resources is not None else service.legal_resources
            if not lawless and not own:
                say("no-legal-basis", WARNING)
            lists = [[kinds[m.evidence_type] for m in one] for one in r.lists]
            barred = {
                "own-evidence": [
                    [not office.many and office.code in (k.issuers or ()) for k in one]
                    for one in lists
                ],
                "nobody-issues": [[k.issuers == () for k in one] for one in lists],
                "no-channel": [[k.issuers == ("mute",) for k in one] for one in lists],
                "issuer-cannot-investigate": [
                    [k.issuer_can_investigate is False for k in one] for one in lists
                ],
            }
            for code, table in barred.items():
                if any(any(one) for one in table):
                    free = r.commitment or not all(any(one) for one in table)
                    hard = ERROR if code in ("nobody-issues", "no-channel") else WARNING
                    say(code, NOTE if free else hard)
            materials = [m for one in r.lists for m in one]
            if any(
                m.max_age_days is not None
                and m.max_age_days < (kinds[m.evidence_type].validity_days or 0)
                for m in materials
            ):
                say("fresher-than-validity", WARNING)
            if any(m.paper_copies and kinds[m.evidence_type].certificate_type for m in materials):
                say("paper-copy-of-certificate", WARNING)
            certificates = [k for k in kinds.values() if k.certificate_type is not None]
            if not any(all(k in certificates for k in one) for one in lists) and any(
                all(
                    k in certificates
                    or (k.facts and any(set(k.facts) <= set(c.facts) for c in certificates))
                    for k in one
                )
                for one in lists
            ):
                say("certificate-proves-it", WARNING)
            promised = {
                one[0].evidence_type
                for s in made.services.values()
                for other in s.requirements
                for one in other.lists
                if other.commitment and len(one) == 1
            }
            if not r.commitment and any(
                all(
                    k.commitment_suffices is True
                    or (k.commitment_suffices is None and k.code in promised)
                    for k in one
                )
                for one in lists
            ):
                say("commitment-suffices", WARNING)
            if any(
                all(k.checkable_online is True and k not in certificates for k in o) for o in lists
            ):
                say("checkable-online", WARNING)
    return found


def sure_facts(made: Catalogue, requirement: Requirement) -> set[str]:
    proven = [
        {fact for m in one for fact in made.evidence_types[m.evidence_type].facts}
        for one in requirement.lists
    ]
    return set.intersection(*proven)


_DOUBLED = ("same-fact-twice", "covered-by-other-materials")


@given(_values())
def test_every_rule_says_what_its_twin_says(value: dict[str, Any]) -> None:
    made = read(value)
    assert made is not None
    findings = lint(made)
    assert len({f.id for f in findings}) == len(findings)
    told = {(f.code, f.level, f.service, f.requirement) for f in findings if f.code not in _DOUBLED}
    assert told == slow_lint(made)
    for service in made.services.values():
        codes = {
            f.requirement: f.code
            for f in findings
            if f.service == service.code and f.code in _DOUBLED
        }
        check_doubled(made, service, codes)


def check_doubled(made: Catalogue, service: PublicService, codes: dict[str | None, str]) -> None:
    """What is found can fall together, and nothing more."""
    facts = {r.code: sure_facts(made, r) for r in service.requirements}
    kept = {code: sure for code, sure in facts.items() if code not in codes}
    assert set().union(*kept.values()) == set().union(*facts.values())
    for code, sure in kept.items():
        others = set().union(*(other for name, other in kept.items() if name != code))
        assert not sure or not sure <= others
    order = [r.code for r in service.requirements]
    for found, code in codes.items():
        assert found is not None
        earlier = [facts[name] for name in order[: order.index(found)]]
        assert (code == "same-fact-twice") == (facts[found] in earlier)


def is_enough(brought: list[Material], requirement: Requirement) -> bool:
    return any(
        all(
            any(
                had.evidence_type == wanted.evidence_type
                and had.paper_copies >= wanted.paper_copies
                and (
                    wanted.max_age_days is None
                    or (had.max_age_days is not None and had.max_age_days <= wanted.max_age_days)
                )
                for had in brought
            )
            for wanted in one
        )
        for one in requirement.lists
    )


def slow_adds(old: PublicService, new: Requirement) -> bool:
    """Whether some way to do what was demanded before is not enough for a new demand."""
    plain = [r for r in old.requirements if not r.commitment]
    for ways in itertools.product(*(r.lists for r in plain)):
        brought = [m for one in ways for m in one]
        if not is_enough(brought, new):
            return True
    return False


@given(_values(), st.data())
def test_a_revision_that_adds_a_demand_is_never_missed(
    value: dict[str, Any], data: st.DataObject
) -> None:
    old = read(value)
    later = {**value, "public_services": data.draw(_services())}
    new = read(later)
    assert old is not None
    assert new is not None
    assert compare(old, old) == []
    told = {(f.service, f.requirement) for f in compare(old, new) if f.level == ERROR}
    for service in new.services.values():
        before = old.services.get(service.code)
        for requirement in service.requirements if before is not None else ():
            assert before is not None
            if requirement.commitment:
                continue
            if slow_adds(before, requirement):
                assert (service.code, requirement.code) in told
            elif all(len(r.lists) == 1 for r in before.requirements):
                assert (service.code, requirement.code) not in told


@given(_values())
def test_what_sharing_brings_is_what_a_plain_count_says(value: dict[str, Any]) -> None:
    made = read(value)
    assert made is not None
    kinds = made.evidence_types
    gains = rank_gains(made)
    assert gains == sorted(gains, key=lambda g: (-g.demands, -g.services, g.evidence_type))
    for gain in gains:
        published = kinds[gain.evidence_type]
        assert published.certificate_type is None
        assert gain.organisation is None or gain.organisation in (published.issuers or ())

        def has(code: str, published: Any = published) -> bool:
            kind = kinds[code]
            if kind.certificate_type is not None or code == published.code:
                return True
            proven = bool(kind.facts) and set(kind.facts) <= set(published.facts)
            return proven and kind.source != "holder"

        demands = services = freed = copies = 0
        for service in made.services.values():
            rest = [r for r in service.requirements if not is_had(made, r)]
            falling = [
                r for r in rest if any(all(has(m.evidence_type) for m in o) for o in r.lists)
            ]
            demands += len(falling)
            services += bool(falling)
            freed += bool(falling) and len(falling) == len(rest)
            copies += sum(
                min(
                    sum(m.paper_copies for m in one)
                    for one in r.lists
                    if all(has(m.evidence_type) for m in one)
                )
                for r in falling
            )
        assert (gain.demands, gain.services, gain.freed, gain.copies) == (
            demands,
            services,
            freed,
            copies,
        )
    named = {kinds[gain.evidence_type].facts or gain.evidence_type for gain in gains}
    for kind in kinds.values():
        alone = any(
            any(len(one) == 1 and one[0].evidence_type == kind.code for one in r.lists)
            for s in made.services.values()
            for r in s.requirements
            if not is_had(made, r)
        )
        if alone and kind.certificate_type is None and kind.source != "holder":
            alike = {frozenset(name) if type(name) is tuple else name for name in named}
            assert (frozenset(kind.facts) if kind.facts else kind.code) in alike


def is_had(made: Catalogue, requirement: Requirement) -> bool:
    return any(
        all(made.evidence_types[m.evidence_type].certificate_type is not None for m in one)
        for one in requirement.lists
    )
