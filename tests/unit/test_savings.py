"""What was saved, beside a second, small count that knows neither our parser nor our classes."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.savings_plot import plot
from ledger import merkle
from ledger.catalogue import parse_catalogue
from ledger.reliance import parse_reliance
from ledger.savings import COUNTED, DEFINITIONS, by_month, count, total
from tests.unit.test_waiver import make_catalogue_file, need
from tests.world import make_reliance

KINDS: dict[str, dict[str, Any]] = {
    "licence": {"issuers": ["market"]},
    "permit": {"issuers": ["fire"]},
    "deed": {"issuers": ["fire", "towns"]},
    "tax": {},
}
DEMANDS = [
    need("trade", "licence", "licence+permit"),
    need("place", "deed", "permit+tax"),
    need("money", "tax"),
]
PAIRS = [("trade", "licence"), ("trade", "permit"), ("place", "deed"), ("place", "permit"),
         ("place", "tax"), ("money", "tax")]  # fmt: skip


def files() -> list[bytes]:
    """Two versions that demand other numbers of copies."""
    made = []
    for copies in (1, 3):
        demands = json.loads(json.dumps(DEMANDS))
        for number, demand in enumerate(demands):
            for n, one in enumerate(demand["evidence_type_lists"]):
                for material in one:
                    material["paper_copies"] = copies + n + number
        made.append(make_catalogue_file(demands, KINDS))
    return made


FILES = files()
ROOTS = [parse_catalogue(data).root.hex() for data in FILES]
CATALOGUES = dict(zip(ROOTS, map(parse_catalogue, FILES), strict=True))


def line(
    n: int, office: str, case: str, root: str | None, pairs: list[tuple[str, str]], month: str
) -> bytes:
    item: dict[str, Any] = {"map_key": f"{n:064x}", "version": 1}
    members: dict[str, Any] = {"tree_size": 9}
    if root is not None:
        item["meets"] = [list(pair) for pair in sorted(set(pairs))]
        members["catalogue"] = root
    made = make_reliance(
        "relied", case, office=office, service="open", change=str(n), certificates=[item], **members
    )
    return made.replace(b"2026-03-01T", month.encode() + b"-01T")


def second_count(lines: list[bytes], catalogues: list[bytes]) -> dict[tuple[str, ...], list[int]]:
    """Plain dictionaries, one case after the other."""
    known = {}
    for data in catalogues:
        value = json.loads(data)
        known[parse_catalogue(data).root.hex()] = value
    cases: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for text in lines:
        value = json.loads(text)
        if value["type"].endswith("relied.v1"):
            d = value["data"]
            place = (d["service"], d["office"], d["case"])
            cases.setdefault(place, []).append({**d, "month": value["time"][:7]})
    out: dict[tuple[str, ...], list[int]] = {}
    for (service, office, _), said in cases.items():
        proofs, windows = set(), set()

        def row(month: str, s: str = service, o: str = office) -> list[int]:
            return out.setdefault((s, o, month), [0, 0, 0, 0, 0])

        row(said[0]["month"])[0] += 1
        for one in said:
            value = known.get(one.get("catalogue", ""))
            pairs = sorted({tuple(p) for c in one["certificates"] for p in c.get("meets", [])})
            if value is None:
                row(one["month"])[4] += 1
                continue
            (offered,) = [s for s in value["public_services"] if s["code"] == service]
            issuers = {k["code"]: k.get("issuers") for k in value["evidence_types"]}
            fewest: dict[tuple[str, str], int] = {}
            for demand in offered["requirements"]:
                for materials in demand["evidence_type_lists"]:
                    for m in materials:
                        fewest.setdefault((demand["code"], m["evidence_type"]), m["paper_copies"])
            for pair in pairs:
                if pair in proofs:
                    continue
                proofs.add(pair)
                row(one["month"])[1] += 1
                row(one["month"])[2] += fewest[pair]
                who = issuers[pair[1]]
                if who and "market" not in who and tuple(who) not in windows:
                    windows.add(tuple(who))
                    row(one["month"])[3] += 1
    return out


acts = st.tuples(
    st.sampled_from(["market", "fire"]),
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from([*ROOTS, None, "ab" * 32]),
    st.lists(st.sampled_from(PAIRS), min_size=1, max_size=4),
    st.sampled_from(["2026-03", "2026-04", "2027-01"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(acts, max_size=12))
def test_another_count_gives_the_same_numbers(said: list[tuple[Any, ...]]) -> None:
    lines = [line(n, *one) for n, one in enumerate(said)]
    rows = count([parse_reliance(one, merkle.leaf_hash(one)) for one in lines], CATALOGUES)
    ours = {(r.service, r.office, r.month): [getattr(r, n) for n in COUNTED] for r in rows}
    assert ours == second_count(lines, FILES)
    assert [sum(column) for column in zip(*ours.values(), strict=True)] == (
        list(total(rows).values()) if rows else []
    )


def test_a_demand_counts_once_in_a_case() -> None:
    lines = [
        line(1, "market", "1", ROOTS[0], [("trade", "licence"), ("place", "deed")], "2026-03"),
        line(2, "market", "1", ROOTS[0], [("trade", "licence"), ("money", "tax")], "2026-04"),
        line(3, "market", "2", None, [], "2026-04"),
        make_reliance("ended", "1", office="market", service="open"),
    ]
    rows = count([parse_reliance(one, b"") for one in lines], CATALOGUES)
    assert [(r.month, r.cases, r.proofs, r.copies, r.windows, r.uncounted) for r in rows] == [
        ("2026-03", 1, 2, 1 + 2, 1, 0),
        ("2026-04", 1, 1, 3, 0, 1),
    ]
    assert list(DEFINITIONS) == list(COUNTED)


def test_codes_that_the_catalogue_lacks_are_told_and_not_counted() -> None:
    lines = [line(1, "market", "1", ROOTS[0], [("trade", "spaceship")], "2026-03")]
    (row,) = count([parse_reliance(one, b"") for one in lines], CATALOGUES)
    assert (row.cases, row.proofs, row.uncounted) == (1, 0, 1)


def test_the_picture_has_a_bar_for_each_number() -> None:
    months = {
        f"2026-{month:02d}": {"proofs": month * 7, "copies": month, "windows": 0}
        for month in range(1, 13)
    }
    drawn = ElementTree.fromstring(plot(months))
    space = "{http://www.w3.org/2000/svg}"
    titles = [t.text or "" for t in drawn.findall(f"{space}rect/{space}title")]
    assert len(titles) == 36
    assert "2026-12: 84 proofs not demanded 免提交证明" in titles
    tall = {
        t.text: float(rect.get("height", "0"))
        for rect in drawn.findall(f"{space}rect")
        for t in rect.findall(f"{space}title")
    }
    assert tall["2026-12: 84 proofs not demanded 免提交证明"] == max(tall.values())
    assert ElementTree.fromstring(plot({})) is not None
    assert ElementTree.fromstring(plot(by_month([]))) is not None
