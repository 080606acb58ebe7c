"""Catalogues out of published lists: the readings, and the real lists where they are at hand."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from deploy import cli
from ledger.catalogue import Catalogue, Material, parse_catalogue
from ledger.circularity import find_cores
from ledger.errors import Malformed
from ledger.lint import lint
from ledger.sharing import rank_gains
from producers.cataloguing import Head, import_catalogue

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
FRANCE, GUANGAN = SHARED / "france_service_catalogue", SHARED / "guangan_service_items"

SERVICES = [
    {"service_id": "F1", "title": "Carte d'identité d'un majeur", "offices": "34 00 - Info|Mairie"},
    {"service_id": "F2", "title": "Demande d'acte de naissance", "offices": "Service central"},
    {"service_id": "F3", "title": "Passeport d'un majeur", "offices": ""},
    {"service_id": "F4", "title": "Quel justificatif ?", "offices": ""},
]


def proof(fiche: str, path: str, group: int, text: str, **more: str) -> dict[str, str]:
    return {
        "service_id": fiche,
        "how_found": "pieces",
        "case_path": path,
        "group_no": str(group),
        "item_no": "1",
        "lead_in": "",
        "item_text": text,
        "linked_ids": "",
        **more,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def france(folder: Path, *proofs: dict[str, str], **certificates: str) -> Catalogue:
    files = [
        write(folder / "services.csv", [{"contributor": "DILA", **row} for row in SERVICES]),
        write(folder / "proofs.csv", list(proofs)),
    ]
    law = {"name": "Titre", "children": [{"type": "text", "text": "Décret\u00a0 n° 1"}]}
    fiches = [
        {"id": "F1", "children": [{"name": "Publication", "children": [reference(law)]}]},
        {"id": "F3", "children": []},
    ]
    with gzip.open(folder / "fiches.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(fiche) + "\n" for fiche in fiches)
    files.append(folder / "fiches.jsonl.gz")
    head = Head("dila", "fr", None, {k.replace("_", "-"): v for k, v in certificates.items()})
    return parse_catalogue(json.dumps(import_catalogue("france", files, head)).encode())


def reference(title: dict[str, Any]) -> dict[str, Any]:
    return {"name": "Reference", "children": [title]}


def names(made: Catalogue, code: str) -> list[list[list[str]]]:
    return [
        [[made.evidence_types[m.evidence_type].names["fr"] for m in one] for one in r.lists]
        for r in made.services[code].requirements
    ]


def test_cases_lists_and_alternatives(tmp_path: Path) -> None:
    made = france(
        tmp_path,
        proof("F1", "", 1, "Photo"),
        proof("F1", "A", 2, "Passeport : original + photocopieOUActe de naissance"),
        proof("F1", "A", 2, "Formulaire en 2 exemplaires"),
        proof("F3", "A", 3, "Bail", lead_in="Un des documents suivants :"),
        proof("F3", "A", 3, "Facture", lead_in="Un des documents suivants :"),
        proof("F3", "A", 4, "Carte", lead_in="À la fin, vous obtenez :"),
        proof("F3", "A", 5, "Visa"),
        proof("F3", "A", 5, "ou titre de séjour"),
        proof("F3", "A", 6, "guess", how_found="lead-in"),
    )
    one, other = made.services.values()
    assert (one.code.partition("-")[0], other.code.partition("-")[0]) == ("F1", "F3")
    assert one.names["fr"] == "Carte d'identité d'un majeur — A"
    assert names(made, one.code) == [
        [["Photo"]],
        [["Passeport : original + photocopie"], ["Acte de naissance"]],
        [["Formulaire en 2 exemplaires"]],
    ]
    assert [r.lists[0][0].paper_copies for r in one.requirements] == [0, 1, 2]
    assert names(made, other.code) == [[["Bail"], ["Facture"]], [["Visa"], ["ou titre de séjour"]]]
    assert made.organisations[one.competent_authority].names["fr"] == "Mairie"
    assert made.organisations[one.competent_authority].many
    assert (one.legal_resources, other.legal_resources) == (("Décret n° 1",), ())


def test_what_stands_above_the_cases_belongs_to_each(tmp_path: Path) -> None:
    made = france(
        tmp_path,
        proof("F1", "Pièces", 1, "Photo"),
        proof("F1", "Pièces > Perdu", 2, "Déclaration"),
        proof("F1", "Pièces > Volé", 3, "Plainte"),
    )
    assert [names(made, code) for code in made.services] == [
        [[["Photo"]], [["Déclaration"]]],
        [[["Photo"]], [["Plainte"]]],
    ]


def test_lists_that_repeat_each_other_are_situations_whose_heading_is_lost(tmp_path: Path) -> None:
    made = france(
        tmp_path,
        proof("F1", "A", 1, "Photo"),
        proof("F1", "A", 2, "Passeport"),
        proof("F1", "A", 3, "Passeport"),
        proof("F1", "A", 3, "Acte de naissance"),
    )
    assert [s.names["fr"][-5:] for s in made.services.values()] == ["A (1)", "A (2)"]
    assert [len(s.requirements) for s in made.services.values()] == [2, 3]


def test_what_a_text_says(tmp_path: Path) -> None:
    made = france(
        tmp_path,
        proof("F1", "A", 1, "Acte de naissance (extrait) de moins de 3 mois", linked_ids="F2;R9"),
        proof("F1", "A", 1, "Acte de naissance de l'enfant"),
        proof("F1", "A", 1, "Si vous êtes marié : acte de mariage"),
        proof("F1", "A", 1, "Carte d'identité (périmée depuis moins de 5 ans)"),
        proof("F1", "A", 1, "Justificatif de domicile (facture, avis d'imposition)"),
        proof("F1", "A", 1, "Dernier avis d'imposition"),
        proof("F1", "A", 1, "Copie intégrale de l'acte", lead_in="La photocopie des documents :"),
        proof("F1", "A", 1, "Bail", linked_ids="F4"),
        proof("F3", "A", 2, "Passeport de votre époux"),
        passport="P",
    )
    kinds = {k.names["fr"].partition(" (")[0]: k for k in made.evidence_types.values()}
    facts = {name: kind.facts for name, kind in kinds.items() if kind.facts}
    assert facts == {
        "Acte de naissance": ("birth",),
        "Acte de naissance de l'enfant": ("birth-of-child",),
        "Carte d'identité": ("identity-card", "identity"),
        "Justificatif de domicile": ("residence",),
        "Dernier avis d'imposition": ("income-tax",),
        "Passeport de votre époux": ("passport-of-spouse", "identity-of-spouse"),
    }
    assert [name for name, kind in kinds.items() if kind.checkable_online] == [
        "Dernier avis d'imposition"
    ]
    assert kinds["Passeport de votre époux"].certificate_type == "P"
    card = next(s for s in made.services.values() if s.code.startswith("F1-"))
    materials = [m for r in card.requirements for one in r.lists for m in one]
    assert materials[0] == Material(kinds["Acte de naissance"].code, 0, 90)
    assert materials[3].max_age_days is None
    assert materials[6].paper_copies == 1
    assert made.services["F2"].outputs == (kinds["Acte de naissance"].code,)
    assert not made.services["F2"].stated
    assert "F4" not in made.services, "a fiche that only explains"


def test_what_is_no_such_list_is_refused(tmp_path: Path) -> None:
    head = Head("dila", "fr")
    good = write(tmp_path / "services.csv", SERVICES)
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "broken.jsonl").write_text("{")
    for files in ([good], [good, good], [tmp_path / "broken.csv.gz"], [tmp_path / "broken.jsonl"]):
        with pytest.raises(Malformed, match="usage"):
            import_catalogue("france", files, head)
    with pytest.raises(Malformed, match="usage"):
        import_catalogue("guangan", [good], head)
    with pytest.raises(Malformed, match="no concept"):
        france(tmp_path, proof("F1", "", 1, "x"), nothing="T")


TYPES = {  # as if the ledger held these
    "identity-card": "carte-identite",
    "passport": "passeport",
    "birth": "acte-naissance",
    "criminal-record": "casier",
    "company-registration": "kbis",
    "driving-licence": "permis",
    "vehicle-registration": "certificat-immatriculation",
    "marriage": "acte-mariage",
    "residence-permit": "titre-sejour",
    "family-book": "livret-famille",
}


@pytest.mark.skipif(not FRANCE.exists(), reason="the real lists are not at hand")
def test_the_french_list(tmp_path: Path) -> None:
    out = tmp_path / "fr.json"
    names = ("services.csv", "required_proofs.csv", "raw_fiches_with_required_proofs.jsonl")
    argv = ["catalogue", "import", "--from", "france", *(str(FRANCE / f"{n}.gz") for n in names)]
    held = [f"--certificate={concept}={code}" for concept, code in TYPES.items()]
    with pytest.raises(SystemExit) as ended:
        cli.main([*argv, *held, "--publisher", "dila", "-o", str(out)])
    assert not ended.value.code
    made = parse_catalogue(out.read_bytes())
    assert (len(made.services), made.requirement_count) == (526, 2900)
    assert find_cores(made) == [], "cards and passports need each other, and there is another way"
    assert len(largest_knot(made)) == 133, "a plain graph would call all of these circular"
    best = rank_gains(made)[0]
    assert made.evidence_types[best.evidence_type].facts == ("residence",)
    with (Path(__file__).parents[1] / "judged" / "french_findings.csv").open() as file:
        judged = {row["id"]: row for row in csv.DictReader(file)}
    findings = {finding.id: finding.code for finding in lint(made)}
    sample = random.Random(2018).sample(sorted(findings), min(100, len(findings)))
    assert {number: findings[number] for number in sample} == {
        number: row["code"] for number, row in judged.items()
    }
    wrong = sum(row["judgement"] == "wrong" for row in judged.values())
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"{wrong} of a seeded sample of {len(judged)} were wrong" in " ".join(readme.split())


def largest_knot(made: Catalogue) -> set[str]:
    """The largest set of services that all lead to each other, alternatives taken for demands."""
    leads = {
        s.code: {
            p
            for r in s.requirements
            for one in r.lists
            for m in one
            for p in made.producers.get(m.evidence_type, ())
        }
        for s in made.services.values()
    }

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for other in leads[waiting.pop()] - found:
                found.add(other)
                waiting.append(other)
        return found

    reached = {code: reach(code) for code in leads}
    return max(
        ({other for other in reached[code] if code in reached[other]} for code in leads), key=len
    )


@pytest.mark.skipif(not GUANGAN.exists(), reason="the real lists are not at hand")
def test_the_list_of_guangan() -> None:
    value = import_catalogue("guangan", [GUANGAN / "items.csv"], Head("guangan", "items"))
    made = parse_catalogue(json.dumps(value).encode())
    assert (len(made.services), len(made.organisations)) == (1135, 34)
    assert not any(service.stated for service in made.services.values())
    assert any(kind.names["zh"] == "无犯罪记录证明" for kind in made.evidence_types.values())
    assert lint(made) == []
    assert rank_gains(made) == []
