"""Catalogues: what a file says, every problem with its line, the tree over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import catalogue as catalogues
from ledger import merkle
from ledger.catalogue import (
    Catalogue,
    Material,
    find_unknown,
    parse_catalogue,
    prove_service,
    read_catalogue,
)
from ledger.errors import LedgerError, Malformed

Change = Callable[[dict[str, Any]], Any]


def town() -> dict[str, Any]:
    """A small catalogue, one of everything."""
    return {
        "format": "certledger catalogue v1",
        "code": "town",
        "publisher": "a",
        "version": 1,
        "replaces": None,
        "names": {"zh": "办事目录", "en": "Services"},
        "public_organisations": [
            {
                "code": "police",
                "names": {"zh": "公安局"},
                "department": "a",
                "channels": ["online"],
            },
            {"code": "village", "names": {"zh": "村委会"}, "channels": [], "many": True},
        ],
        "evidence_types": [
            {
                "code": "id-card",
                "names": {"zh": "身份证"},
                "source": "issued",
                "issuers": ["police"],
                "certificate_type": "T",
                "facts": ["identity", "birth"],
                "validity_days": 3650,
                "checkable_online": True,
                "commitment_suffices": False,
                "issuer_can_investigate": True,
            },
            {"code": "form", "names": {"zh": "申请表"}, "source": "holder"},
            {"code": "residence", "names": {"zh": "居住证明"}, "issuers": ["village"]},
        ],
        "public_services": [
            {
                "code": "grant",
                "names": {"zh": "补贴"},
                "competent_authority": "police",
                "legal_resources": ["law"],
                "requirements": [
                    {
                        "code": "who",
                        "names": {"zh": "身份"},
                        "legal_resources": [],
                        "commitment": True,
                        "evidence_type_lists": [
                            [{"evidence_type": "id-card", "paper_copies": 2}],
                            [
                                {"evidence_type": "form"},
                                {"evidence_type": "residence", "max_age_days": 30},
                            ],
                        ],
                    }
                ],
            },
            {
                "code": "card",
                "names": {"zh": "办身份证"},
                "competent_authority": "police",
                "outputs": ["id-card"],
            },
        ],
    }


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def changed(change: Change) -> bytes:
    value = town()
    change(value)
    return encoded(value)


def test_what_a_file_says() -> None:
    made = parse_catalogue(encoded(town()))
    assert (made.record_name, made.version, made.replaces) == ("catalogue/a/town", 1, None)
    assert made.organisations["village"].channels == ()
    assert made.organisations["village"].many
    assert made.evidence_types["id-card"].facts == ("identity", "birth")
    assert made.evidence_types["form"].issuers is None
    assert made.evidence_types["form"].checkable_online is None
    assert made.producers == {"id-card": ["card"]}
    grant, card = made.services.values()
    assert (grant.stated, card.stated, card.requirements) == (True, False, ())
    (who,) = grant.requirements
    assert (who.legal_resources, who.commitment) == ((), True)
    assert who.lists == (
        (Material("id-card", 2, None),),
        (Material("form", 0, None), Material("residence", 0, 30)),
    )
    assert made.requirement_count == 1


def test_the_root_is_of_what_is_said_and_not_of_how() -> None:
    made = parse_catalogue(encoded(town()))
    plain = json.dumps(town(), ensure_ascii=True).encode()
    value = town()
    value["public_services"].reverse()
    value["evidence_types"].reverse()
    assert {parse_catalogue(data).root for data in (plain, encoded(value))} == {made.root}
    assert len(made.leaves) == 1 + 2 + 3 + 2
    for change in CHANGES:
        assert parse_catalogue(changed(change)).root != made.root


CHANGES: list[Change] = [
    lambda v: v.update(publisher="b"),
    lambda v: v["names"].update(en="Service"),
    lambda v: v["public_organisations"][1].pop("many"),
    lambda v: v["evidence_types"][0].update(validity_days=3651),
    lambda v: v["public_services"][0]["requirements"][0].pop("commitment"),
    lambda v: v["public_services"][0]["requirements"][0]["evidence_type_lists"].reverse(),
    lambda v: v["public_services"][1].update(requirements=[]),
]


def test_a_service_is_proven_without_the_rest() -> None:
    made = parse_catalogue(encoded(town()))
    for code in made.services:
        index, leaf, path = prove_service(made, code)
        merkle.check_inclusion(merkle.leaf_hash(leaf), index, len(made.leaves), path, made.root)
        kind, said = json.loads(leaf)
        assert (kind, said["code"]) == ("public_service", code)
        assert said == next(s for s in town()["public_services"] if s["code"] == code)
    with pytest.raises(KeyError):
        prove_service(made, "nothing")


def requirement(value: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(value["public_services"][0], "requirements")[0]  # type: ignore[no-any-return]


def material(value: dict[str, Any]) -> dict[str, Any]:
    return requirement(value)["evidence_type_lists"][0][0]  # type: ignore[no-any-return]


PROBLEMS: dict[str, tuple[Change, str, str]] = {
    "no member": (lambda v: v.pop("names"), "{", "'names' is missing"),
    "unknown member": (lambda v: v.update(more=1), '"more": 1', "unknown member 'more'"),
    "another format": (lambda v: v.update(format="x"), '"format": "x"', "the format is"),
    "a code with a space": (lambda v: v.update(code="a b"), '"code": "a b"', "a code: 1 to 128"),
    "no department id": (lambda v: v.update(publisher=""), '"publisher": ""', "no department id"),
    "version true": (lambda v: v.update(version=True), '"version": true', "a number from 1"),
    "version 1.5": (lambda v: v.update(version=1.5), '"version": 1.5', "a number from 1"),
    "version 10^20": (lambda v: v.update(version=10**20), '"version": 1000', "a number from 1"),
    "version 1 that replaces": (
        lambda v: v.update(replaces="0" * 64),
        '"replaces": "000',
        "version 1 replaces nothing",
    ),
    "version 2 that replaces nothing": (
        lambda v: v.update(version=2),
        '"replaces": null',
        "every later one the root",
    ),
    "replaces in capitals": (
        lambda v: v.update(version=2, replaces="A" * 64),
        '"replaces": "AAA',
        "64 hex digits",
    ),
    "no names": (lambda v: v.update(names={}), '"names": {}', "at least one language"),
    "a long language": (lambda v: v["names"].update(zho="x"), '"zho": "x"', "two-letter language"),
    "a name with a newline": (lambda v: v["names"].update(en="a\nb"), '"en": "a', "control"),
    "a name not in form C": (lambda v: v["names"].update(en="e\u0301"), '"en": "e', "form C"),
    "a lone surrogate": (
        lambda v: v["names"].update(en="<surrogate>"),
        '"en": "\\ud800"',
        "lone surrogate",
    ),
    "services that are no list": (
        lambda v: v.update(public_services={}),
        '"public_services": {}',
        "a list",
    ),
    "a service that is no object": (
        lambda v: v["public_services"].append(7),
        "  7",
        "an object with the members",
    ),
    "two services of one code": (
        lambda v: v["public_services"][1].update(code="grant"),
        '"code": "grant"',
        "'grant' stands here twice",
    ),
    "two requirements of one code": (
        lambda v: v["public_services"][0]["requirements"].append(dict(requirement(v))),
        '"code": "who"',
        "in this service twice",
    ),
    "an authority that is not there": (
        lambda v: v["public_services"][0].update(competent_authority="nobody"),
        '"competent_authority": "nobody"',
        "no public organisation 'nobody'",
    ),
    "an issuer that is not there": (
        lambda v: v["evidence_types"][0].update(issuers=["nobody"]),
        '"nobody"',
        "no public organisation 'nobody'",
    ),
    "an output that is not there": (
        lambda v: v["public_services"][1].update(outputs=["nothing"]),
        '"nothing"',
        "no evidence type 'nothing'",
    ),
    "evidence that is not there": (
        lambda v: material(v).update(evidence_type="nothing"),
        '"evidence_type": "nothing"',
        "no evidence type 'nothing'",
    ),
    "no list": (
        lambda v: requirement(v).update(evidence_type_lists=[]),
        '"evidence_type_lists": []',
        "at least one list",
    ),
    "an empty list": (
        lambda v: requirement(v).update(evidence_type_lists=[[]]),
        "[]",
        "at least one material",
    ),
    "one material twice": (
        lambda v: requirement(v)["evidence_type_lists"][0].append({"evidence_type": "id-card"}),
        '"evidence_type": "id-card"',
        "in this list twice",
    ),
    "copies below nothing": (
        lambda v: material(v).update(paper_copies=-1),
        '"paper_copies": -1',
        "from 0 to 1000",
    ),
    "no copies, in a fraction": (
        lambda v: material(v).update(paper_copies=0.0),
        '"paper_copies": 0.0',
        "from 0 to 1000",
    ),
    "copies false": (
        lambda v: material(v).update(paper_copies=False),
        '"paper_copies": false',
        "from 0 to 1000",
    ),
    "no age": (lambda v: material(v).update(max_age_days=None), '"max_age_days": null', "from 1"),
    "a channel that is none": (
        lambda v: v["public_organisations"][0].update(channels=["fax"]),
        '"fax"',
        "one of counter",
    ),
    "a source that is none": (
        lambda v: v["evidence_types"][1].update(source="self"),
        '"source": "self"',
        "holder or issued",
    ),
    "a form with an issuer": (
        lambda v: v["evidence_types"][1].update(issuers=[]),
        '"issuers": []',
        "has no issuers",
    ),
    "a form as an output": (
        lambda v: v["public_services"][1].update(outputs=["form"]),
        '"form"',
        "no service produces it",
    ),
    "a truth that is none": (
        lambda v: v["evidence_types"][0].update(checkable_online="yes"),
        '"checkable_online": "yes"',
        "true or false",
    ),
    "a fact twice": (
        lambda v: v["evidence_types"][0].update(facts=["birth", "birth"]),
        '"birth"',
        "stands here twice",
    ),
    "a law that is a number": (
        lambda v: v["public_services"][0].update(legal_resources=[7]),
        "   7",
        "text of 1 to",
    ),
    "a code that is a list": (
        lambda v: v["public_services"][1].update(code=["x"]),
        '"code": [',
        "a code: 1 to 128",
    ),
    "a cycle of one": (
        lambda v: (
            v["public_services"][0].update(outputs=["residence", "id-card"])
            or requirement(v)["evidence_type_lists"].pop(0)
        ),
        "  {",
        "grant demands what only grant produces",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_told_with_its_line(name: str) -> None:
    change, on_line, said = PROBLEMS[name]
    data = changed(change).replace(b"<surrogate>", b"\\ud800")
    made, problems = read_catalogue(data)
    assert made is None
    assert [p for p in problems if said in p.text], problems
    problem = next(p for p in problems if said in p.text)
    assert on_line in data.decode().splitlines()[problem.line - 1]
    with pytest.raises(Malformed) as refused:
        parse_catalogue(data)
    assert refused.value.code == "malformed-catalogue"
    assert f"line {problem.line}: " in refused.value.message


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (b"", 1, "not JSON"),
        (b"[]", 1, "an object with the members"),
        (b'{\n"code": "a",\n"code": "b"\n}', 3, "this member stands twice"),
        (b'{\n"a": ,\n}', 2, "not JSON"),
        (b'{\n"a": "\xff"\n}', 2, "not UTF-8"),
        (b"\xef\xbb\xbf{}", 1, "not JSON"),
        (b"[" * 100_000, 1, "not JSON"),
        (b'{"a": NaN}', 1, "unknown member 'a'"),
        (b'{"a": ' + b"9" * 10_000 + b"}", 1, "unknown member 'a'"),
    ],
)
def test_what_is_no_catalogue_at_all(data: bytes, line: int, said: str) -> None:
    made, problems = read_catalogue(data)
    assert made is None
    assert (problems[0].line, said in problems[0].text) == (line, True), problems


def test_all_problems_are_told_up_to_a_hundred() -> None:
    value = town()
    value["evidence_types"] += [{"code": "x", "names": {}}] * 40
    value["public_services"][0]["outputs"] = ["?"] * 40
    made, problems = read_catalogue(encoded(value))
    assert made is None
    assert len(problems) == 100 or len(problems) > 60
    assert [p.line for p in problems] == sorted(p.line for p in problems)


def test_a_file_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "MAX_CATALOGUE", 10)
    with pytest.raises(Malformed, match="too-large"):
        parse_catalogue(encoded(town()))


def test_what_one_of_several_services_produces_may_be_demanded() -> None:
    """A renewal that asks for the old card is no cycle of one: the first card comes otherwise."""
    value = town()
    value["public_services"][0]["outputs"] = ["id-card"]
    requirement(value)["evidence_type_lists"] = [[{"evidence_type": "id-card"}]]
    assert parse_catalogue(encoded(value)).producers == {"id-card": ["grant", "card"]}


def test_departments_and_types_that_the_ledger_lacks_are_named_with_their_lines() -> None:
    data = encoded(town())
    made = parse_catalogue(data)
    assert find_unknown(made, data, {"department/a", "type/T"}) == []
    found = find_unknown(made, data, set())
    lines = data.decode().splitlines()
    assert [(p.text, lines[p.line - 1].strip()) for p in found] == [
        ("the ledger has no department a", '"publisher": "a",'),
        ("the ledger has no department a", '"department": "a",'),
        ("the ledger has no certificate type T", '"certificate_type": "T",'),
    ]


@given(st.binary(max_size=300), st.integers(0, 10**6), st.integers(0, 40))
def test_any_bytes_give_a_catalogue_or_problems(junk: bytes, place: int, length: int) -> None:
    whole = encoded(town())
    at = place % len(whole)
    data = whole[:at] + junk[:length] + whole[at + length :]
    for one in (junk, data):
        try:
            made, problems = read_catalogue(one)
        except LedgerError:
            continue
        assert isinstance(made, Catalogue) != bool(problems)
        assert all(1 <= p.line <= one.count(b"\n") + 1 for p in problems)
