"""What reuse saved, counted from receipts and catalogue versions alone.

`DEFINITIONS` says what is counted; whoever has the reliance lines and the catalogues that they name
gets the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .catalogue import Catalogue
from .reliance import RELIED, Reliance

DEFINITIONS = {
    "cases": (
        "cases (office, service, case) with an admitted `relied` line, in the month of the first",
        "有已入账「采信」记录的办件，计入首次采信的月份",
    ),
    "proofs": (
        "proofs not demanded: demands (requirement and evidence type of the catalogue version that "
        "the line names) for which a certificate stood, each once in a case, in the month of the "
        "line that first named it",
        "未再索要的证明：每个办件中由账本证照替代的材料，各计一次，计入首次采信的月份",
    ),
    "copies": (
        "copies not made: the paper copies which the catalogue version demands of these; where "
        "several lists of the requirement have the evidence type, the fewest",
        "未再复印的份数：目录该版本要求的纸质份数，多个清单中取最少者",
    ),
    "windows": (
        "windows not visited: for these, the different sets of issuing organisations in a case, "
        "those without the service's own authority, as far as the catalogue states issuers",
        "未再跑的窗口：每个办件中这些材料的出具机关，本机关除外，目录未载明者不计",
    ),
    "uncounted": (
        "receipts that name no catalogue, or codes that it does not have: nothing else is counted",
        "未注明目录或目录中无此代码的采信：不计入",
    ),
}
COUNTED = ("cases", "proofs", "copies", "windows", "uncounted")


@dataclass(frozen=True, slots=True)
class Row:
    """The counts of one service, office and month (2026-03)."""

    service: str
    office: str
    month: str
    cases: int = 0
    proofs: int = 0
    copies: int = 0
    windows: int = 0
    uncounted: int = 0

    def members(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def count(lines: Iterable[Reliance], catalogues: Mapping[str, Catalogue]) -> list[Row]:
    """The rows, ascending, of admitted lines in the log's order; `catalogues` by root in hex.

    A month is that of the line's time as the office wrote it.
    """
    rows: dict[tuple[str, str, str], dict[str, int]] = {}
    seen: set[tuple[bytes, Any]] = set()  # what was counted in a case

    def add(item: Reliance, what: str, number: int, once: Any) -> bool:
        if (item.key, once) in seen:
            return False
        seen.add((item.key, once))
        place = (item.service, item.office, item.time[:7])
        row = rows.setdefault(place, dict.fromkeys(COUNTED, 0))
        row[what] += number
        return True

    for item in lines:
        if item.kind != RELIED:
            continue
        add(item, "cases", 1, "case")
        catalogue = catalogues.get(item.catalogue or "")
        service = None if catalogue is None else catalogue.services.get(item.service)
        pairs = sorted({pair for _, _, meets in item.certificates for pair in meets})
        copies = {} if service is None else _copies(service.requirements)
        if catalogue is None or service is None or not set(pairs) <= copies.keys():
            add(item, "uncounted", 1, item.id)
            continue
        for pair in pairs:
            if add(item, "proofs", 1, pair):
                add(item, "copies", copies[pair], ("copies", pair))
                issuers = catalogue.evidence_types[pair[1]].issuers
                if issuers and service.competent_authority not in issuers:
                    add(item, "windows", 1, ("window", frozenset(issuers)))
    return [Row(*place, *(row[name] for name in COUNTED)) for place, row in sorted(rows.items())]


def _copies(requirements: Sequence[Any]) -> dict[tuple[str, str], int]:
    """The fewest paper copies that each demand asks for."""
    found: dict[tuple[str, str], int] = {}
    for requirement in requirements:
        for material in (material for one in requirement.lists for material in one):
            pair = (requirement.code, material.evidence_type)
            found[pair] = min(found.get(pair, material.paper_copies), material.paper_copies)
    return found


def total(rows: Iterable[Row]) -> dict[str, int]:
    """The counts of all rows together."""
    listed = list(rows)
    return {name: sum(getattr(row, name) for row in listed) for name in COUNTED}


def by_month(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """The counts of each month, ascending."""
    listed = list(rows)
    months = sorted({row.month for row in listed})
    return {month: total(row for row in listed if row.month == month) for month in months}
