"""Circular demands against an obviously right solver, over generated catalogues."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given

from ledger.catalogue import Catalogue
from ledger.circularity import Core, find_cores
from tests.catalogues import catalogue_of, catalogues, read, service, slow_got


def made(*services: Any, evidence: Any = ()) -> Catalogue:
    found = read(catalogue_of(services, evidence))
    assert found is not None
    return found


def leads(catalogue: Catalogue, one: str, other: str, inside: set[str]) -> bool:
    """Whether `one` demands, where it lacks anything, what `other` produces, all outside given."""
    outside = set(catalogue.services) - inside
    got = slow_got(catalogue, outside)
    had = {e for code in got for e in catalogue.services[code].outputs}
    produced = {e for s in catalogue.services.values() for e in s.outputs}
    for requirement in catalogue.services[one].requirements:
        live = [
            {m.evidence_type for m in way}
            for way in requirement.lists
            if not any(
                catalogue.evidence_types[m.evidence_type].issuers == ()
                and m.evidence_type not in produced
                for m in way
            )
        ]
        lacking = [{e for e in way if e in produced and e not in had} for way in live]
        if requirement.commitment or not live or not all(lacking):
            continue
        if any(e in catalogue.services[other].outputs for way in lacking for e in way):
            return True
    return False


def slow_shortest(catalogue: Catalogue, inside: set[str]) -> int:
    """The number of services in a shortest circle of a core: all orders of all subsets."""
    edges = {(a, b) for a in inside for b in inside if leads(catalogue, a, b, inside)}
    for size in range(1, len(inside) + 1):
        for order in itertools.permutations(sorted(inside), size):
            if all((a, b) in edges for a, b in zip(order, order[1:] + order[:1], strict=True)):
                return size
    raise AssertionError("no circle in a core")


@given(catalogues())
def test_cores_are_right_and_complete(catalogue: Catalogue) -> None:
    cores = find_cores(catalogue)
    lost = set(catalogue.services) - slow_got(catalogue)
    named = [code for core in cores for code in core.services]
    assert len(named) == len(set(named)), "no service is in two cores"
    assert set(named) <= lost
    for core in cores:
        check_core(catalogue, core)
    assert slow_got(catalogue, named) == set(catalogue.services), "cut all, and all can be got"
    for core in cores:
        others = [code for code in named if code not in core.services]
        assert not set(core.services) & slow_got(catalogue, others), "each core needs its own cut"


def check_core(catalogue: Catalogue, core: Core) -> None:
    inside = set(core.services)
    outside = set(catalogue.services) - inside
    assert slow_got(catalogue, outside) == outside, "none of it, even with all the rest"
    steps = core.cycle
    assert {step.service for step in steps} <= inside
    assert len({step.service for step in steps}) == len(steps)
    for step, following in zip(steps, steps[1:] + steps[:1], strict=True):
        demanded = next(
            r for r in catalogue.services[step.service].requirements if r.code == step.requirement
        )
        assert any(m.evidence_type == step.evidence for way in demanded.lists for m in way)
        assert step.evidence in catalogue.services[following.service].outputs
    if len(inside) <= 6:
        assert len(steps) == slow_shortest(catalogue, inside)
    assert core.cut in {step.evidence for step in steps}


def test_a_circle_is_only_one_if_every_way_leads_back() -> None:
    card = service("card", [[["passport"], ["birth"]]], ["card"])
    passport = service("passport", [[["card"]]], ["passport"])
    assert find_cores(made(card, passport)) == []
    strict = service("card", [[["passport"], ["passport", "birth"]]], ["card"])
    (core,) = find_cores(made(strict, passport))
    assert core.services == ("card", "passport")
    assert [step.service for step in core.cycle] == ["card", "passport"]


def test_who_only_hangs_on_a_circle_is_not_in_it() -> None:
    circle = [service("a", [[["b"]]], ["a"]), service("b", [[["a"]]], ["b"])]
    (core,) = find_cores(made(*circle, service("c", [[["a"]]], ["c"])))
    assert core.services == ("a", "b")


def test_two_circles_one_of_which_hangs_on_the_other() -> None:
    circle = [service("a", [[["b"]]], ["a"]), service("b", [[["a"]]], ["b"])]
    other = [service("c", [[["d"]], [["a"]]], ["c"]), service("d", [[["c"]]], ["d"])]
    first, second = find_cores(made(*circle, *other))
    assert (first.services, second.services) == (("a", "b"), ("c", "d"))


def test_three_of_which_each_needs_one_of_the_others() -> None:
    """No single service is on every way, and yet nobody gets any of them."""
    found = [
        service("a", [[["b"], ["c"]]], ["a"]),
        service("b", [[["c"], ["a"]]], ["b"]),
        service("c", [[["a"], ["b"]]], ["c"]),
    ]
    (core,) = find_cores(made(*found))
    assert core.services == ("a", "b", "c")
    assert len(core.cycle) == 2


def test_a_commitment_opens_a_circle() -> None:
    one = service("a", [[["b"]]], ["a"])
    one["requirements"][0]["commitment"] = True
    assert find_cores(made(one, service("b", [[["a"]]], ["b"]))) == []


def test_the_cut_is_at_what_the_ledger_holds() -> None:
    circle = [service(f"s{n}", [[[f"e{n}"]]], [f"e{(n + 1) % 5}"]) for n in range(5)]
    plain = find_cores(made(*circle))[0]
    assert (len(plain.cycle), plain.cut, plain.freed) == (5, "e0", 5)
    held = {"code": "e3", "names": {"en": "e3"}, "certificate_type": "T"}
    assert find_cores(made(*circle, evidence=[held]))[0].cut == "e3"


@pytest.mark.parametrize("size", [2, 20_000])
def test_long_circles_and_wide_alternatives_are_walked_without_recursion(size: int) -> None:
    ring = [service(f"s{n}", [[[f"e{n}"]]], [f"e{(n + 1) % size}"]) for n in range(size)]
    (core,) = find_cores(made(*ring))
    assert (len(core.services), len(core.cycle), core.freed) == (size, size, size)
    ways = [[f"x{n}"] for n in range(size)]
    wide = [
        service("a", [ways], ["a"]),
        *(service(f"p{n}", [[["a"]]], [f"x{n}"]) for n in range(size)),
    ]
    (core,) = find_cores(made(*wide))
    assert (len(core.services), len(core.cycle), core.freed) == (size + 1, 2, size + 1)
