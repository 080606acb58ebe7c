"""What need not be brought: by the ledger's own answers, against every choice tried out."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import waiver
from ledger.catalogue import Catalogue, parse_catalogue
from ledger.evidence import CertificateId
from ledger.waiver import COMMITMENT, NEEDED, SATISFIED, Assessment, Held, assess, smallest


def make_catalogue(
    requirements: list[dict[str, Any]], kinds: dict[str, dict[str, Any]] | None = None
) -> Catalogue:
    """The catalogue that `make_catalogue_file` writes."""
    return parse_catalogue(make_catalogue_file(requirements, kinds))


def make_catalogue_file(
    requirements: list[dict[str, Any]],
    kinds: dict[str, dict[str, Any]] | None = None,
    market: str = "market",
) -> bytes:
    """One service `open` with these requirements; evidence types as they are named in them, each
    tied to the certificate type of its name unless `kinds` says otherwise. `market` is the
    department of the organisation of that name.
    """
    used = {
        m["evidence_type"] for r in requirements for one in r["evidence_type_lists"] for m in one
    }
    names = {"en": "x", "zh": "某"}
    value = {
        "format": "certledger catalogue v1",
        "code": "town",
        "publisher": "a",
        "version": 1,
        "replaces": None,
        "names": names,
        "public_organisations": [
            {"code": "market", "names": names, "department": market},
            {"code": "fire", "names": names, "department": "fire"},
            {"code": "towns", "names": names, "many": True},
        ],
        "evidence_types": [
            {"code": code, "names": names, "certificate_type": code, **(kinds or {}).get(code, {})}
            for code in sorted(used)
        ],
        "public_services": [
            {"code": "open", "names": names, "competent_authority": "market",
             "requirements": [{"names": names, **r} for r in requirements]}
        ],
    }  # fmt: skip
    return json.dumps(value).encode()


def need(code: str, *lists: str, **members: Any) -> dict[str, Any]:
    """A requirement; each list is evidence types with a plus between."""
    made = [[{"evidence_type": kind} for kind in one.split("+")] for one in lists]
    return {"code": code, "evidence_type_lists": made, **members}


def held(
    kind: str, answer: str = "valid", reason: str = "in-force", issuer: str = "market"
) -> Held:
    return Held(CertificateId(kind, issuer, f"{kind}-1"), answer, reason, None, 1, issuer)


def results(found: Assessment) -> dict[str, str]:
    return {one.requirement.code: one.result for one in found.judged}


def test_what_is_held_is_not_asked_for_again() -> None:
    catalogue = make_catalogue([need("who", "id"), need("place", "lease", "deed"), need("x", "f")])
    found = assess(catalogue, "open", [held("id"), held("deed")])
    assert results(found) == {"who": SATISFIED, "place": SATISFIED, "x": NEEDED}
    assert found.bring == ("f",)
    members = found.members()
    assert members["requirements"][1]["satisfied_by"] == [
        {
            "evidence_type": "deed",
            "certificate": {"type": "deed", "issuer": "market", "number": "deed-1"},
            "version": 1,
        }
    ]
    assert [b["evidence_type"] for b in members["bring"]] == ["f"]


def test_a_list_needs_everything_in_it() -> None:
    catalogue = make_catalogue([need("place", "lease+id", "deed+plan+tax")])
    found = assess(catalogue, "open", [held("id"), held("deed")])
    assert (results(found), found.bring) == ({"place": NEEDED}, ("lease",))
    assert [met.evidence_type for met in found.judged[0].met] == ["id"]


def test_one_paper_for_two_requirements_is_brought_once() -> None:
    catalogue = make_catalogue([need("a", "x", "z"), need("b", "y", "z"), need("c", "z+w", "v")])
    found = assess(catalogue, "open", [])
    assert found.bring == ("v", "z")
    assert found.is_smallest


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        ("expired", "renew"),
        ("suspended", "reinstate"),
        ("not-yet-valid", "wait"),
        ("transferred", "take-over"),
        ("revoked-annulled", "apply-anew"),
        ("voided", "apply-anew"),
        ("end-unknown", "ask-issuer"),
    ],
)
def test_why_not_where_a_certificate_is_there(reason: str, mend: str) -> None:
    catalogue = make_catalogue([need("who", "id")])
    answer = "cannot-decide" if reason.endswith("unknown") else "not-valid"
    found = assess(catalogue, "open", [held("id", answer, reason)])
    (unfit,) = found.judged[0].unfit
    assert (unfit.reason, unfit.mend, unfit.office) == (reason, mend, "market")
    assert found.bring == ("id",)


def test_a_certificate_of_another_issuer_is_out_of_scope() -> None:
    kinds = {"id": {"issuers": ["fire"]}, "tax": {"issuers": ["towns"]}}
    catalogue = make_catalogue([need("who", "id"), need("t", "tax")], kinds)
    found = assess(catalogue, "open", [held("id"), held("tax")])
    assert results(found) == {"who": NEEDED, "t": SATISFIED}
    (unfit,) = found.judged[0].unfit
    assert (unfit.reason, unfit.office) == ("wrong-issuer", "fire")
    both = assess(catalogue, "open", [held("id"), held("id", issuer="fire")])
    assert results(both)["who"] == SATISFIED
    assert both.judged[0].unfit == ()


def test_a_commitment_takes_a_papers_place_only_where_it_may() -> None:
    kinds = {"income": {"commitment_suffices": True}}
    catalogue = make_catalogue(
        [need("a", "x", commitment=True), need("b", "income+id"), need("c", "y")], kinds
    )
    found = assess(catalogue, "open", [held("id")])
    assert results(found) == {"a": COMMITMENT, "b": COMMITMENT, "c": NEEDED}
    assert [one.commit for one in found.judged] == [("a",), ("income",), ()]
    assert found.bring == ("y",)
    better = assess(catalogue, "open", [held("id"), held("x"), held("income")])
    assert results(better) == {"a": SATISFIED, "b": SATISFIED, "c": NEEDED}


def test_a_service_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        assess(make_catalogue([need("who", "id")]), "marry", [])


def test_holders_without_certificates_bring_everything() -> None:
    found = assess(make_catalogue([need("a", "x+y"), need("b", "z")]), "open", [])
    assert found.bring == ("x", "y", "z")


def test_ten_thousand_ways_are_one_choice() -> None:
    many = [f"k{n}" for n in range(10_000)]
    catalogue = make_catalogue([need("a", *many), need("b", "k7777+z", "y+w+v")])
    found = assess(catalogue, "open", [])
    assert found.bring == ("k7777", "z")
    assert found.is_smallest


def test_a_search_without_end_gives_its_best_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiver, "MAX_STEPS", 3)
    options = [[frozenset({f"a{n}", f"b{n + 1}"}), frozenset({f"b{n}", "c"})] for n in range(9)]
    chosen, is_smallest = smallest(options)
    assert not is_smallest
    assert all(way in sets for way, sets in zip(chosen, options, strict=True))
    deep = [[frozenset({f"a{n}", "s"}), frozenset({f"b{n}", "t"})] for n in range(1000)]
    assert smallest(deep)[1] is False


sets = st.frozensets(st.sampled_from("abcdefg"), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(sets, min_size=1, max_size=4), max_size=5))
def test_nothing_smaller_would_do(options: list[list[frozenset[str]]]) -> None:
    chosen, is_smallest = smallest(options)
    assert is_smallest
    assert all(way in one for way, one in zip(chosen, options, strict=True))
    sizes = [len(frozenset().union(*way)) for way in product(*options)]
    assert len(frozenset().union(*chosen)) == min(sizes)


KINDS = "pqrst"
made = st.lists(
    st.lists(st.sets(st.sampled_from(KINDS), min_size=1, max_size=3), min_size=1, max_size=3),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(made, st.sets(st.sampled_from(KINDS)), st.sets(st.sampled_from(KINDS)))
def test_against_every_choice(
    lists: list[list[set[str]]], have: set[str], committed: set[str]
) -> None:
    requirements = [
        need(f"r{n}", *("+".join(sorted(one)) for one in some)) for n, some in enumerate(lists)
    ]
    kinds = {code: {"commitment_suffices": True} for code in committed}
    found = assess(make_catalogue(requirements, kinds), "open", [held(kind) for kind in have])
    for judged, some in zip(found.judged, lists, strict=True):
        if any(one <= have for one in some):
            assert judged.result == SATISFIED
        elif any(one <= have | committed for one in some):
            assert judged.result == COMMITMENT
        else:
            assert judged.result == NEEDED
    free = have | committed
    best = min(len(set().union(*way) - free) for way in product(*lists))
    assert len(found.bring) == best
    assert set(found.bring) == set().union(*(set(one.bring) for one in found.judged))
