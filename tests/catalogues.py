"""Generated catalogues, and an obviously right solver of what can be got from them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from hypothesis import strategies as st

from ledger.catalogue import Catalogue, read_catalogue

Ways = Sequence[Sequence[str]]


def service(code: str, demands: Sequence[Ways], outputs: Sequence[str], **more: Any) -> Any:
    """A service as a file has it: for each demand its lists of evidence types."""
    return {
        "code": code,
        "names": {"en": code},
        "competent_authority": "office",
        "requirements": [
            {
                "code": f"r{n}",
                "names": {"en": f"r{n}"},
                "evidence_type_lists": [[{"evidence_type": e} for e in one] for one in ways],
            }
            for n, ways in enumerate(demands)
        ],
        "outputs": list(outputs),
        **more,
    }


def catalogue_of(services: Sequence[Any], evidence: Sequence[Any] = ()) -> dict[str, Any]:
    """A catalogue of these services; evidence types that only they name are added."""
    given = {item["code"] for item in evidence}
    named = [o for s in services for o in s["outputs"]]
    named += [
        m["evidence_type"]
        for s in services
        for r in s["requirements"]
        for one in r["evidence_type_lists"]
        for m in one
    ]
    more = [code for code in dict.fromkeys(named) if code not in given]
    return {
        "format": "certledger catalogue v1",
        "code": "made",
        "publisher": "a",
        "version": 1,
        "replaces": None,
        "names": {"en": "made"},
        "public_organisations": [{"code": "office", "names": {"en": "Office"}}],
        "evidence_types": [*evidence, *({"code": c, "names": {"en": c}} for c in more)],
        "public_services": list(services),
    }


def read(value: Any) -> Catalogue | None:
    """The catalogue, None where it holds a cycle of one, which no file may."""
    made, problems = read_catalogue(json.dumps(value).encode())
    assert made is not None or all("nobody could ever get it" in p.text for p in problems)
    return made


_codes = st.integers(0, 5)
_evidence = st.sampled_from([*(f"e{n}" for n in range(6)), "free", "dead"])
_list = st.lists(_evidence, min_size=1, max_size=3, unique=True)
_ways = st.lists(_list, min_size=1, max_size=3)


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Up to seven services over six evidence types that they produce, one free and one dead."""
    services = []
    for n in range(draw(st.integers(1, 7))):
        demands = draw(st.lists(_ways, max_size=3))
        outputs = draw(st.lists(_codes.map("e{}".format), max_size=2, unique=True))
        made = service(f"s{n}", demands, outputs)
        for requirement in made["requirements"]:
            requirement["commitment"] = draw(st.integers(0, 9)) == 0
        services.append(made)
    dead = {"code": "dead", "names": {"en": "dead"}, "issuers": []}
    value = catalogue_of(services, [dead])
    made_catalogue = read(value)
    if made_catalogue is None:  # a cycle of one: let somebody else produce everything, too
        value["public_services"].append(
            service("other", [[["e0"]]], [f"e{n}" for n in range(1, 6)])
        )
        value["public_services"].append(service("last", [[["e1"]]], ["e0"]))
        codes = {item["code"] for item in value["evidence_types"]}
        lacking = [f"e{n}" for n in range(6) if f"e{n}" not in codes]
        value["evidence_types"] += [{"code": c, "names": {"en": c}} for c in lacking]
        made_catalogue = read(value)
        assert made_catalogue is not None
    return made_catalogue


def slow_got(catalogue: Catalogue, given: Collection[str] = ()) -> set[str]:
    """The services that can be got if those in `given` were: every rule until nothing moves."""
    got = set(given)
    produced = {e for s in catalogue.services.values() for e in s.outputs}
    dead = {
        e.code
        for e in catalogue.evidence_types.values()
        if e.issuers == () and e.code not in produced
    }
    while True:
        had = {e for e in catalogue.evidence_types if e not in produced and e not in dead}
        had |= {e for code in got for e in catalogue.services[code].outputs}
        new = set(got)
        for one in catalogue.services.values():
            good = True
            for requirement in one.requirements:
                ways = [{m.evidence_type for m in way} for way in requirement.lists]
                live = [way for way in ways if not way & dead]
                if requirement.commitment or not live:
                    continue  # no circle, whatever else it is
                good = good and any(way <= had for way in live)
            if good:
                new.add(one.code)
        if new == got:
            return got
        got = new
