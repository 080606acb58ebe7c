"""Catalogues out of published lists of public services: France's fiches, Guang'an's items.

What the source does not say in so many words is left out of the catalogue: it is *not stated*.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from ledger.catalogue import FORM, Catalogue
from ledger.errors import Malformed

MAX_SOURCE = 256 * 1024 * 1024
_GOOD = ("pieces", "titled")  # rows of the French list that are demands, by its README
_MOST = 2000  # characters of a name
_BRACKETS = re.compile(r"\([^()]*\)")
_NUMBERS = {"un": 1, "une": 1, "deux": 2, "trois": 3}


@dataclass(frozen=True, slots=True)
class Head:
    """What the catalogue is called, the version that it follows, and the certificate types of the
    ledger by the concept that they prove.
    """

    publisher: str
    code: str
    after: Catalogue | None = None
    certificates: Mapping[str, str] = field(default_factory=dict)


def import_catalogue(source: str, paths: Sequence[Path], head: Head) -> dict[str, Any]:
    """The catalogue, as a file has it, that the files of a source give; Malformed `usage`."""
    return SOURCES[source]([_Table.read(path) for path in paths], head)


@dataclass(frozen=True)
class _Table:
    """A file's records; JSON lines have their members as columns."""

    path: Path
    columns: frozenset[str]
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> _Table:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                data = file.read(MAX_SOURCE + 1)
            text = data.decode("utf-8-sig")
        except (OSError, EOFError, UnicodeDecodeError) as err:
            raise Malformed("usage", f"{path} cannot be read: {err}") from err
        if len(data) > MAX_SOURCE:
            raise Malformed("too-large", f"{path} is over {MAX_SOURCE} bytes")
        if ".jsonl" in path.name:
            try:
                rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            except ValueError as err:
                raise Malformed("usage", f"{path} is not JSON lines: {err}") from err
            return cls(path, frozenset(rows[0] if rows else ()), rows)
        reader = csv.DictReader(io.StringIO(text, newline=""))
        return cls(path, frozenset(reader.fieldnames or ()), list(reader))


def _find(tables: Sequence[_Table], what: str, *columns: str) -> _Table:
    found = [table for table in tables if table.columns >= set(columns)]
    if len(found) != 1:
        raise Malformed("usage", f"give one file of {what}: its columns include {columns}")
    return found[0]


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:10]


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)).strip()


def _catalogue(
    head: Head, names: Mapping[str, str], **lists: list[dict[str, Any]]
) -> dict[str, Any]:
    after = head.after
    return {
        "format": FORM,
        "code": head.code,
        "publisher": head.publisher,
        "version": 1 if after is None else after.version + 1,
        "replaces": None if after is None else after.root.hex(),
        "names": dict(names),
        **lists,
    }


# --- France: fiches of service-public.fr ---


class _Reading:
    """How French texts are read: `producers/catalogues/france.json`."""

    def __init__(self) -> None:
        place = resources.files("producers") / "catalogues" / "france.json"
        self.value: dict[str, Any] = json.loads(place.read_text())
        self.not_demands = re.compile("|".join(self.value["not_demands"]), re.I)
        self.any_is_enough = re.compile("|".join(self.value["any_is_enough"]), re.I)
        self.producing = re.compile(self.value["producing"], re.I)
        self.not_producing = re.compile(self.value["not_producing"], re.I)
        self.many_offices = re.compile(self.value["many_offices"])
        self.last_offices = re.compile(self.value["last_offices"], re.I)
        self.not_offices = re.compile(self.value["not_offices"], re.I)
        self.alternatives = re.compile(self.value["alternatives"])
        self.conditional = re.compile(self.value["conditional"], re.I)
        self.about_somebody = re.compile(self.value["about_somebody"], re.I)
        self.titles = {k: re.compile(v, re.I) for k, v in self.value["titles"].items()}
        self.several = re.compile(self.value["several"])
        self.or_before = re.compile(self.value["or_before"], re.I)
        self.subjects = {k: re.compile(v, re.I) for k, v in self.value["subjects"].items()}
        self.online = [re.compile(pattern, re.I) for pattern in self.value["checkable_online"]]
        self.concepts = {
            name: (
                re.compile(item["pattern"], re.I),
                re.compile(item["not"], re.I) if "not" in item else None,
            )
            for name, item in self.value["concepts"].items()
        }

    def concept(self, text: str) -> str | None:
        """What a text is about, its brackets left out; None unless it is exactly one thing."""
        plain = _BRACKETS.sub(" ", text)
        if self.several.search(plain):
            return None
        found = [
            name
            for name, (pattern, but) in self.concepts.items()
            if pattern.search(plain) and not (but and but.search(text))
        ]
        return found[0] if len(found) == 1 else None

    def is_producing(self, title: str) -> bool:
        """Whether a fiche of this title gives something, and does not only explain."""
        return bool(self.producing.search(title) and not self.not_producing.search(title))

    def subject(self, text: str) -> str | None:
        """Whose it is: "" the applicant's own, None where several people are named."""
        found = [name for name, pattern in self.subjects.items() if pattern.search(text)]
        return (found[0] if found else "") if len(found) < 2 else None


@dataclass
class _France:
    """The catalogue as it grows."""

    titles: dict[str, dict[str, Any]]  # rows of services by fiche
    laws: dict[str, list[str]] | None
    certificates: Mapping[str, str]  # concept to certificate type
    reading: _Reading = field(default_factory=_Reading)
    organisations: dict[str, dict[str, Any]] = field(default_factory=dict)
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    linked: dict[str, dict[str, None]] = field(default_factory=dict)  # fiche to evidence
    demanded_by: dict[str, set[str]] = field(default_factory=dict)  # evidence to fiches
    named: dict[str, dict[str, None]] = field(default_factory=dict)  # what titles say: evidence

    def add_case(self, fiche: str, path: str, rows: Sequence[dict[str, Any]]) -> None:
        """One situation of a fiche: a service with what its lists demand."""
        requirements: dict[str, dict[str, Any]] = {}
        for (_, lead), group in groupby(rows, key=lambda r: (r["group_no"], r["lead_in"])):
            if self.reading.not_demands.search(lead):
                continue
            items = [(text, row) for row in group if (text := _clean(row["item_text"]))]
            found = [(text, self._lists(fiche, row, text, lead)) for text, row in items]
            if self.reading.any_is_enough.search(lead) and len(found) > 1:
                found = [(_clean(lead), [one for _, lists in found for one in lists])]
            for text, lists in found:
                if self.reading.or_before.search(text) and requirements:
                    last = list(requirements.values())[-1]
                    last["evidence_type_lists"] += lists
                else:
                    self._add(requirements, text, lists)
        for requirement in requirements.values():
            ways = requirement["evidence_type_lists"]
            requirement["evidence_type_lists"] = [
                w for n, w in enumerate(ways) if w not in ways[:n]
            ]
        if not requirements:
            return
        title = self.titles.get(fiche, {}).get("title") or fiche
        self._service(
            f"{fiche}-{_short(path)}" if path else fiche,
            fiche,
            _clean(f"{title} — {path}" if path else title),
            requirements=list(requirements.values()),
        )

    def _add(self, requirements: dict[str, Any], text: str, lists: list[Any]) -> None:
        code = f"r-{_short(text)}"
        number = 2
        while code in requirements:
            code, number = f"r-{_short(text)}.{number}", number + 1
        requirements[code] = {
            "code": code,
            "names": {"fr": text[:_MOST]},
            "evidence_type_lists": lists,
        }

    def _lists(self, fiche: str, row: dict[str, Any], text: str, lead: str) -> list[Any]:
        copies = 1 if _COPY.search(lead) else 0
        parts = [part.strip(" ;,.:") for part in self.reading.alternatives.split(text)]
        parts = [part for part in dict.fromkeys(parts) if len(part) > 2] or [text]
        links = [one for one in row["linked_ids"].split(";") if one.startswith("F")]
        found: list[Any] = []
        for part in parts:
            code = self._evidence(part, lead, copies > 0)
            if len(parts) == 1:
                for link in links:
                    self.linked.setdefault(link, {})[code] = None
            self.demanded_by.setdefault(code, set()).add(fiche)
            material: dict[str, Any] = {"evidence_type": code}
            paper = max(copies, _copies(part))
            if paper:
                material["paper_copies"] = paper
            days = _max_age_days(part)
            if days is not None:
                material["max_age_days"] = days
            found.append([material])
        return found

    def _evidence(self, text: str, lead: str, copied: bool) -> str:
        plain = _BRACKETS.sub(" ", text)
        concept, subject = self.reading.concept(text), self.reading.subject(plain)
        if subject == "" and self.reading.about_somebody.search(lead):
            subject = self.reading.subject(lead)
        code = f"e-{_short(text)}"
        if subject and self.reading.subject(plain) == "":
            code = f"e-{_short(f'{text} / {subject}')}"
        if copied:
            code = f"e-{_short(f'{code} copied')}"
        if code in self.evidence:
            return code
        made: dict[str, Any] = {"code": code, "names": {"fr": text[:_MOST]}}
        if concept is not None:
            item = self.reading.value["concepts"][concept]
            if "source" in item:
                made["source"] = item["source"]
            for office, name in item.get("issuers", {}).items():
                self._organisation(office, name)
                made.setdefault("issuers", []).append(office)
            if concept in self.certificates:
                made["certificate_type"] = self.certificates[concept]
            if concept in self.reading.titles:
                self.named.setdefault(concept, {})[code] = None
            if item.get("copies_only") and not (copied or _COPY.search(text)):
                item = {}  # shown in person it says who stands there, which no ledger can
            is_sure = (
                bool(item) and subject is not None and not self.reading.conditional.search(plain)
            )
            facts = item.get("facts", [concept]) if is_sure else []
            if facts:
                made["facts"] = [f"{fact}-of-{subject}" if subject else fact for fact in facts]
        if any(pattern.search(plain) for pattern in self.reading.online):
            made["checkable_online"] = True
        self.evidence[code] = made
        return code

    def _organisation(self, code: str, name: str) -> str:
        if code not in self.organisations:
            made: dict[str, Any] = {"code": code, "names": {"fr": name[:_MOST]}}
            if self.reading.many_offices.search(name):
                made["many"] = True
            self.organisations[code] = made
        return code

    def _service(self, code: str, fiche: str, name: str, **members: Any) -> None:
        row = self.titles.get(fiche, {})
        offices = [_clean(one) for one in (row.get("offices") or "").split("|") if one.strip()]
        good = [one for one in offices if not self.reading.not_offices.search(one)]
        good.sort(key=lambda one: bool(self.reading.last_offices.search(one)))
        office = (good or [_clean(row.get("contributor") or "Administration")])[0]
        made: dict[str, Any] = {
            "code": code,
            "names": {"fr": name[:_MOST]},
            "competent_authority": self._organisation(f"o-{_short(office)}", office),
            **members,
        }
        if self.laws is not None and fiche in self.laws:
            made["legal_resources"] = self.laws[fiche]
        self.services[code] = made

    def link(self) -> None:
        """Say what fiches produce: what links to them where it is demanded, and what their titles
        name.
        """
        cases: dict[str, list[str]] = {}
        for code in self.services:
            cases.setdefault(code.partition("-")[0], []).append(code)
        for fiche, codes in self.linked.items():
            title = self.titles.get(fiche, {}).get("title", "")
            outputs = [
                code
                for code in codes
                if self.demanded_by[code] != {fiche} and self.evidence[code].get("source") is None
            ]
            if not outputs or not self.reading.is_producing(title):
                continue
            if fiche not in cases:
                self._service(fiche, fiche, _clean(title))
                cases[fiche] = [fiche]
            for code in cases[fiche]:
                self.services[code]["outputs"] = outputs
        for concept, title in self.reading.titles.items():
            for fiche, its_cases in cases.items():
                if title.search(self.titles.get(fiche, {}).get("title", "")):
                    for code in its_cases:
                        known = dict.fromkeys(self.services[code].get("outputs", ()))
                        known.update(self.named.get(concept, {}))
                        self.services[code]["outputs"] = list(known)
        self._leave_out_own()

    def _leave_out_own(self) -> None:
        """What a service demands and alone produces is an older one of its kind, from elsewhere."""
        producers: dict[str, int] = {}
        for service in self.services.values():
            for code in service.get("outputs", ()):
                producers[code] = producers.get(code, 0) + 1
        for service in self.services.values():
            demanded = {
                material["evidence_type"]
                for requirement in service.get("requirements", ())
                for one in requirement["evidence_type_lists"]
                for material in one
            }
            service["outputs"] = [
                code
                for code in service.get("outputs", ())
                if producers[code] > 1 or code not in demanded
            ]


_COPIES = re.compile(
    r"en ([0-9]+|deux|trois) exemplaires|^([0-9]+) (?:photo)?copies?\b(?! intégrale)", re.I
)
_COPY = re.compile(r"photocopie|\bcopies?\b(?! (?:intégrale|numérique|dématérialisée))", re.I)
_AGE = re.compile(
    r"\b(?:datant )?de moins d(?:e |')([0-9]+|un|une|deux|trois) (mois|jours?|semaines?)", re.I
)
_NO_AGE = re.compile(r"périmée?s? depuis|enfant", re.I)
_DAYS = {"m": 30, "j": 1, "s": 7}


def _copies(text: str) -> int:
    """How many paper copies a text demands."""
    number = _COPIES.search(text)
    if number:
        said = number[1] or number[2]
        return min(_NUMBERS.get(said.lower(), 0) or int(said), 1000)
    return 1 if _COPY.search(text) else 0


def _max_age_days(text: str) -> int | None:
    """How old evidence may be, by a text; None where it says nothing."""
    found = _AGE.search(text)
    if found is None or _NO_AGE.search(text):
        return None
    return (_NUMBERS.get(found[1].lower(), 0) or int(found[1])) * _DAYS[found[2][0].lower()] or None


def _laws(fiches: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The texts that each fiche refers to, empty where it names none."""
    found = {}
    for fiche in fiches:
        names = [_clean(title)[:_MOST] for title in _references(fiche)]
        found[str(fiche["id"])] = list(dict.fromkeys(name for name in names if name))
    return found


def _references(node: Mapping[str, Any]) -> Iterator[str]:
    if node.get("name") == "Reference":
        for child in node.get("children") or ():
            if child.get("name") == "Titre":
                yield "".join(str(part.get("text", "")) for part in child.get("children") or ())
        return
    for child in node.get("children") or ():
        yield from _references(child)


def _is_below(path: str, other: str) -> bool:
    return path != other and (not other or path.startswith(f"{other} > "))


def _situations(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Lists under one heading that demand the same again are of different situations, whose
    headings the source has lost; the other lists belong to all of them.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["group_no"], []).append(row)
    texts = {number: {_clean(r["item_text"]) for r in found} for number, found in groups.items()}
    alike = [
        number
        for number in groups
        if any(texts[number] & texts[other] for other in groups if other != number)
    ]
    common = [row for number in groups if number not in alike for row in groups[number]]
    return [[*common, *groups[number]] for number in alike] or [rows]


def _france(tables: Sequence[_Table], head: Head) -> dict[str, Any]:
    services = _find(tables, "services", "service_id", "title", "offices")
    proofs = _find(tables, "required proofs", "how_found", "case_path", "item_text", "linked_ids")
    fiches = [table for table in tables if table.columns >= {"id", "children"}]
    made = _France(
        {row["service_id"]: row for row in services.rows},
        _laws(fiches[0].rows) if fiches else None,
        head.certificates,
    )
    unknown = sorted(head.certificates.keys() - made.reading.concepts.keys())
    if unknown:
        concepts = ", ".join(made.reading.concepts)
        raise Malformed("usage", f"no concept {unknown[0]!r} is known: there are {concepts}")
    rows = [row for row in proofs.rows if row["how_found"] in _GOOD]
    by_fiche: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        by_fiche.setdefault(row["service_id"], {}).setdefault(row["case_path"], []).append(row)
    for fiche, paths in by_fiche.items():
        for path, own in paths.items():
            if any(_is_below(other, path) for other in paths):
                continue  # every case below it has what stands here
            above = [
                row for other, found in paths.items() if _is_below(path, other) for row in found
            ]
            cases = _situations(own)
            for number, case in enumerate(cases, 1):
                said = f"{path} ({number})" if len(cases) > 1 else path
                made.add_case(fiche, _clean(said), [*above, *case])
    made.link()
    return _catalogue(
        head,
        {"fr": "service-public.fr : pièces à fournir"},
        public_organisations=list(made.organisations.values()),
        evidence_types=list(made.evidence.values()),
        public_services=list(made.services.values()),
    )


# --- Guang'an: items of a district's offices ---

_OPERATION = re.compile(
    r"（[^（）]*）$|(首次|变更|延续|补办|补发|换发|注销)?(签发|核发|备案|查询打印|的开具|补证备案|注销备案)$"
)


def _guangan(tables: Sequence[_Table], head: Head) -> dict[str, Any]:
    items = _find(tables, "items", "department", "item_name", "item_code", "dept_code")
    organisations: dict[str, dict[str, Any]] = {}
    evidence: dict[str, dict[str, Any]] = {}
    services: dict[str, dict[str, Any]] = {}
    for row in items.rows:
        name, code = _clean(row["item_name"]), row["item_code"].strip()
        office = f"d-{_short(_clean(row['department']))}"
        organisations.setdefault(office, {"code": office, "names": {"zh": row["department"]}})
        made: dict[str, Any] = {
            "code": code,
            "names": {"zh": name[:_MOST]},
            "competent_authority": office,
        }
        produced = name
        while (shorter := _OPERATION.sub("", produced)) != produced:
            produced = shorter
        if produced.endswith("证明"):
            output = f"e-{_short(produced)}"
            kind = {"code": output, "names": {"zh": produced}, "source": "issued"}
            evidence.setdefault(output, kind)
            made["outputs"] = [output]
        if services.setdefault(code, made) is not made:
            raise Malformed("usage", f"{items.path}: the item code {code!r} stands there twice")
    return _catalogue(
        head,
        {"zh": "广安市广安区办事事项"},
        public_organisations=list(organisations.values()),
        evidence_types=list(evidence.values()),
        public_services=list(services.values()),
    )


SOURCES: dict[str, Callable[[Sequence[_Table], Head], dict[str, Any]]] = {
    "france": _france,
    "guangan": _guangan,
}
