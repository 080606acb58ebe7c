"""The catalogue of public services and what each demands, in the words of CCCEV and CPSV-AP.

A file says what an office demands, and a registry record of its root says since when (FORMATS.md,
section 17). A requirement is met by any one of its evidence type lists, and a list by everything
in it. What a member left out means is always "not stated", which no rule takes for a no.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from . import canonical, merkle
from .errors import LedgerError, Malformed
from .identity import check_department, check_type
from .positions import Path, Positions

FORM = "certledger catalogue v1"
MAX_CATALOGUE = 128 * 1024 * 1024  # bytes of a file
HOLDER, ISSUED = "holder", "issued"  # where evidence comes from: 材料来源渠道
CHANNELS = ("counter", "email", "ledger", "online", "phone", "post")
_MAX_PROBLEMS = 100
_MAX_TEXT = 2000  # characters
_MAX_DAYS = 36_525
_CODE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,126}[a-zA-Z0-9])?")
_LANGUAGE = re.compile(r"[a-z]{2}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Organisation:
    """A public organisation. `many`: it stands for many offices of one kind, like town halls."""

    code: str
    names: Mapping[str, str]
    department: str | None  # id in the ledger
    channels: tuple[str, ...] | None  # by which one gets evidence from it; () = by none
    many: bool


@dataclass(frozen=True, slots=True)
class EvidenceType:
    """What can be demanded. `facts` are the information concepts that it proves."""

    code: str
    names: Mapping[str, str]
    source: str | None  # HOLDER, ISSUED
    issuers: tuple[str, ...] | None  # organisations; () = nobody issues it
    certificate_type: str | None  # of the ledger
    facts: tuple[str, ...]
    validity_days: int | None  # how long its issuer says that it holds
    checkable_online: bool | None
    commitment_suffices: bool | None  # the law lets a written commitment take its place
    issuer_can_investigate: bool | None


@dataclass(frozen=True, slots=True)
class Material:
    """One evidence type in a list, and how it is demanded."""

    evidence_type: str
    paper_copies: int
    max_age_days: int | None  # not older than this when handed in


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a service demands: any one of `lists`, of which everything is needed."""

    code: str  # unique within the service
    names: Mapping[str, str]
    legal_resources: tuple[str, ...] | None  # None: those of the service; () = none
    commitment: bool  # a written commitment may take its place
    lists: tuple[tuple[Material, ...], ...]


@dataclass(frozen=True, slots=True)
class PublicService:
    """A service, who is competent for it, what it demands and which evidence types it produces."""

    code: str
    names: Mapping[str, str]
    competent_authority: str
    legal_resources: tuple[str, ...] | None
    requirements: tuple[Requirement, ...]
    stated: bool  # whether the catalogue says at all what is demanded
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file, and where."""

    line: int
    path: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path + ': ' if self.path else ''}{self.text}"


@dataclass(frozen=True)
class Catalogue:
    """A checked catalogue; organisations, evidence types and services by code, as in the file."""

    code: str
    publisher: str  # a department id
    version: int
    replaces: bytes | None  # root of the version before
    names: Mapping[str, str]
    organisations: Mapping[str, Organisation]
    evidence_types: Mapping[str, EvidenceType]
    services: Mapping[str, PublicService]
    value: Mapping[str, Any]  # what the file says

    @cached_property
    def leaves(self) -> list[bytes]:
        """The leaves of its tree, in order."""
        groups = ("public_organisations", "evidence_types", "public_services")
        head = {name: item for name, item in self.value.items() if name not in groups}
        parts: list[tuple[str, Any]] = [("catalogue", head)]
        for group in groups:
            items = sorted(self.value[group], key=lambda item: str(item["code"]))
            parts += [(group[:-1], item) for item in items]
        return [canonical.encode(list(part)) for part in parts]

    @cached_property
    def leaf_hashes(self) -> list[bytes]:
        """The leaves' hashes, in the tree's order."""
        return [merkle.leaf_hash(leaf) for leaf in self.leaves]

    @cached_property
    def root(self) -> bytes:
        """What the registry records of this version."""
        return merkle.root(self.leaf_hashes)

    @property
    def record_name(self) -> str:
        """The name of its registry record."""
        return f"catalogue/{self.publisher}/{self.code}"

    @cached_property
    def producers(self) -> dict[str, list[str]]:
        """The services that produce an evidence type, for all that any does."""
        found: dict[str, list[str]] = {}
        for service in self.services.values():
            for code in service.outputs:
                found.setdefault(code, []).append(service.code)
        return found

    @cached_property
    def requirement_count(self) -> int:
        """How many requirements all services have."""
        return sum(len(service.requirements) for service in self.services.values())


def prove_service(catalogue: Catalogue, code: str) -> tuple[int, bytes, list[bytes]]:
    """That the catalogue says this of a service: its leaf's index, the leaf, the path to the root.

    KeyError for a service that it does not have.
    """
    place = sorted(catalogue.services).index(code) if code in catalogue.services else None
    if place is None:
        raise KeyError(code)
    index = len(catalogue.leaves) - len(catalogue.services) + place
    path = merkle.prove_inclusion(
        index, len(catalogue.leaves), merkle.in_memory(catalogue.leaf_hashes)
    )
    return index, catalogue.leaves[index], path


def find_unknown(catalogue: Catalogue, data: bytes, records: Set[str]) -> list[Problem]:
    """The departments and certificate types that a catalogue's file names and a ledger lacks, which
    has these registry records.
    """
    wanted: list[tuple[str, Path]] = [(f"department/{catalogue.publisher}", ("publisher",))]
    for number, one in enumerate(catalogue.organisations.values()):
        if one.department is not None:
            path: Path = ("public_organisations", number, "department")
            wanted.append((f"department/{one.department}", path))
    for number, kind in enumerate(catalogue.evidence_types.values()):
        if kind.certificate_type is not None:
            path = ("evidence_types", number, "certificate_type")
            wanted.append((f"type/{kind.certificate_type}", path))
    lacking = [(name, path) for name, path in wanted if name not in records]
    positions = Positions(data.decode()) if lacking else None
    return [
        Problem(
            positions.line(path),
            _show(path),
            "the ledger has no " + name.replace("type/", "certificate type ").replace("/", " "),
        )
        for name, path in lacking
        if positions is not None
    ]


def parse_catalogue(data: bytes) -> Catalogue:
    """The catalogue that a file says; Malformed `malformed-catalogue` names every problem, a line
    each, or `too-large`.
    """
    catalogue, problems = read_catalogue(data)
    if catalogue is None:
        raise Malformed("malformed-catalogue", "\n".join(map(str, problems)))
    return catalogue


def read_catalogue(data: bytes) -> tuple[Catalogue | None, list[Problem]]:
    """The catalogue that a file says and no problems, or none and what is wrong, in the order of
    the lines, at most 100. Malformed `too-large`.
    """
    if len(data) > MAX_CATALOGUE:
        raise Malformed("too-large", f"{len(data)} bytes, at most {MAX_CATALOGUE} are allowed")
    try:
        text = data.decode()
    except UnicodeDecodeError as err:
        return None, [Problem(data.count(b"\n", 0, err.start) + 1, "", "this is not UTF-8")]
    try:
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_Odd,
            parse_constant=_Odd,
        )
    except json.JSONDecodeError as err:
        return None, [Problem(err.lineno, "", f"not JSON: {err.msg}")]
    except (ValueError, RecursionError) as err:
        return None, [Problem(1, "", f"not JSON of the ledger's profile: {str(err)[:100]}")]
    reading = _Reading()
    catalogue = reading.catalogue(value)
    if catalogue is None:
        positions = Positions(text)
        found = [Problem(positions.line(p), _show(p), t) for p, t in reading.problems]
        return None, sorted(found, key=lambda problem: problem.line)
    return catalogue, []


class _Odd(str):
    """A number that is no integer of the profile, as it is written."""


def _integer(text: str) -> int | _Odd:
    return int(text) if len(text) <= 16 else _Odd(text)


class _Doubled(dict[str, Any]):
    """An object in which a member stands twice."""

    twice: str


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    names = [name for name, _ in pairs]
    doubled = _Doubled(made)
    doubled.twice = next(name for name in names if names.count(name) > 1)
    return doubled


def _show(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if type(step) is int else f".{step}" if text else str(step)
    return text[:200]


class _Bad(Exception):
    """What follows in the file cannot be judged without this: the reading stops here."""


class _Reading:
    """One reading of a file: it goes on after a problem wherever that makes sense."""

    def __init__(self) -> None:
        self.problems: list[tuple[Path, str]] = []

    def catalogue(self, value: Any) -> Catalogue | None:
        try:
            return self._catalogue(value)
        except _Bad:
            return None

    def _add(self, path: Path, text: str) -> None:
        self.problems.append((path, text))
        if len(self.problems) >= _MAX_PROBLEMS:
            raise _Bad

    def _catalogue(self, value: Any) -> Catalogue | None:
        needed = (
            "format code publisher version replaces names public_organisations evidence_types "
            "public_services"
        )
        if not self._object(value, (), needed):
            return None
        if value["format"] != FORM:
            self._add(("format",), f"the format is {FORM!r}")
            return None
        self._code(value["code"], ("code",))
        self._id(value["publisher"], ("publisher",), check_department)
        version, replaces = value["version"], value["replaces"]
        self._number(version, ("version",), 1, 2**31)
        if replaces is not None and not (type(replaces) is str and _HASH.fullmatch(replaces)):
            self._add(("replaces",), "the root of the version before in 64 hex digits, or null")
        elif type(version) is int and (version == 1) != (replaces is None):
            self._add(
                ("replaces",),
                "version 1 replaces nothing (null), every later one the root of the one before",
            )
        self._names(value["names"], ("names",))
        organisations = dict(self._items(value, "public_organisations", self._organisation))
        evidence = dict(self._items(value, "evidence_types", self._evidence_type))
        services = dict(self._items(value, "public_services", self._service))
        if self.problems:
            return None
        self._check_references(organisations, evidence, services)
        if self.problems:
            return None
        return Catalogue(
            code=value["code"],
            publisher=value["publisher"],
            version=version,
            replaces=None if replaces is None else bytes.fromhex(replaces),
            names=value["names"],
            organisations=organisations,
            evidence_types=evidence,
            services=services,
            value=value,
        )

    def _items(self, value: Any, name: str, read: Any) -> Iterator[tuple[str, Any]]:
        found = value[name]
        if type(found) is not list:
            self._add((name,), "a list")
            return
        seen: set[str] = set()
        for number, item in enumerate(found):
            path = (name, number)
            made = read(item, path)
            if made is None:
                continue
            if made.code in seen:
                self._add((*path, "code"), f"the code {made.code!r} stands here twice")
            seen.add(made.code)
            yield made.code, made

    def _organisation(self, item: Any, path: Path) -> Organisation | None:
        if not self._object(item, path, "code names", "department channels many"):
            return None
        department = item.get("department")
        if "department" in item:
            self._id(department, (*path, "department"), check_department)
        channels = self._strings(item, "channels", path)
        for number, channel in enumerate(channels or ()):
            if channel not in CHANNELS:
                self._add((*path, "channels", number), f"one of {', '.join(CHANNELS)}")
        self._head(item, path)
        many = self._truth(item, "many", path)
        return Organisation(item["code"], item["names"], department, channels, bool(many))

    def _evidence_type(self, item: Any, path: Path) -> EvidenceType | None:
        optional = (
            "source issuers certificate_type facts validity_days checkable_online "
            "commitment_suffices issuer_can_investigate"
        )
        if not self._object(item, path, "code names", optional):
            return None
        self._head(item, path)
        source = item.get("source")
        if "source" in item and source not in (HOLDER, ISSUED):
            self._add((*path, "source"), f"{HOLDER} or {ISSUED}")
        issuers = self._strings(item, "issuers", path)
        if source == HOLDER and "issuers" in item:
            self._add((*path, "issuers"), "what holders make themselves has no issuers")
        if "certificate_type" in item:
            self._id(item["certificate_type"], (*path, "certificate_type"), check_type)
        facts = self._strings(item, "facts", path) or ()
        for number, fact in enumerate(facts):
            self._code(fact, (*path, "facts", number))
        if "validity_days" in item:
            self._number(item["validity_days"], (*path, "validity_days"), 1, _MAX_DAYS)
        return EvidenceType(
            code=item["code"],
            names=item["names"],
            source=source,
            issuers=issuers,
            certificate_type=item.get("certificate_type"),
            facts=facts,
            validity_days=item.get("validity_days"),
            checkable_online=self._truth(item, "checkable_online", path),
            commitment_suffices=self._truth(item, "commitment_suffices", path),
            issuer_can_investigate=self._truth(item, "issuer_can_investigate", path),
        )

    def _service(self, item: Any, path: Path) -> PublicService | None:
        needed = "code names competent_authority"
        if not self._object(item, path, needed, "legal_resources requirements outputs"):
            return None
        self._head(item, path)
        self._code(item["competent_authority"], (*path, "competent_authority"))
        laws = self._strings(item, "legal_resources", path)
        outputs = self._strings(item, "outputs", path) or ()
        stated = "requirements" in item
        found = list(self._requirements(item.get("requirements", []), (*path, "requirements")))
        return PublicService(
            code=item["code"],
            names=item["names"],
            competent_authority=item["competent_authority"],
            legal_resources=laws,
            requirements=tuple(found),
            stated=stated,
            outputs=outputs,
        )

    def _requirements(self, items: Any, path: Path) -> Iterator[Requirement]:
        if type(items) is not list:
            self._add(path, "a list")
            return
        seen: set[str] = set()
        for number, item in enumerate(items):
            place = (*path, number)
            if not self._object(
                item, place, "code names evidence_type_lists", "legal_resources commitment"
            ):
                continue
            self._head(item, place)
            if item["code"] in seen:
                self._add(
                    (*place, "code"), f"the code {item['code']!r} stands in this service twice"
                )
            seen.add(item["code"])
            lists = item["evidence_type_lists"]
            under = (*place, "evidence_type_lists")
            if type(lists) is not list or not lists:
                self._add(under, "at least one list: any one of them is enough")
                continue
            yield Requirement(
                item["code"],
                item["names"],
                self._strings(item, "legal_resources", place),
                bool(self._truth(item, "commitment", place)),
                tuple(self._list(one, (*under, n)) for n, one in enumerate(lists)),
            )

    def _list(self, items: Any, path: Path) -> tuple[Material, ...]:
        if type(items) is not list or not items:
            self._add(path, "a list of at least one material: all of them are needed")
            return ()
        found = []
        seen: set[str] = set()
        for number, item in enumerate(items):
            place = (*path, number)
            if not self._object(item, place, "evidence_type", "paper_copies max_age_days"):
                continue
            code, copies, age = (
                item["evidence_type"],
                item.get("paper_copies", 0),
                item.get("max_age_days"),
            )
            self._code(code, (*place, "evidence_type"))
            if code in seen:
                self._add((*place, "evidence_type"), f"{code!r} stands in this list twice")
            seen.add(code)
            if copies != 0 or type(copies) is not int:
                self._number(copies, (*place, "paper_copies"), 0, 1000)
            if "max_age_days" in item:
                self._number(age, (*place, "max_age_days"), 1, _MAX_DAYS)
            found.append(Material(code, copies, age))
        return tuple(found)

    def _object(self, value: Any, path: Path, needed: str, optional: str = "") -> bool:
        if type(value) is _Doubled:
            self._add((*path, value.twice), "this member stands twice")
            return False
        if type(value) is not dict:
            self._add(path, f"an object with the members {needed}")
            return False
        names = _names_of(needed)
        if value.keys() == names:
            return True
        lacking = names - value.keys()
        for name in sorted(value.keys() - names - _names_of(optional)):
            known = f"{needed} {optional}".strip()
            self._add((*path, name), f"unknown member {name[:60]!r}: the members are {known}")
        if lacking:
            self._add(path, f"the member {sorted(lacking)[0]!r} is missing")
        return not lacking

    def _head(self, item: Any, path: Path) -> None:
        self._code(item["code"], (*path, "code"))
        self._names(item["names"], (*path, "names"))

    def _code(self, value: Any, path: Path) -> None:
        if type(value) is not str or not _CODE.fullmatch(value):
            self._add(
                path,
                "a code: 1 to 128 of A-Z a-z 0-9 . _ -, beginning and ending in a letter or digit",
            )
            if type(value) in (dict, list):
                raise _Bad  # cannot be looked up

    def _id(self, value: Any, path: Path, check: Any) -> None:
        try:
            if type(value) is not str:
                raise Malformed("malformed-number", "a string")
            check(value)
        except LedgerError as err:
            self._add(path, err.message)

    def _names(self, value: Any, path: Path) -> None:
        if type(value) is not dict or not value:
            self._add(path, 'a name in at least one language: {"zh": "…", "en": "…"}')
            return
        for language, text in value.items():
            if not _LANGUAGE.fullmatch(language):
                self._add((*path, language), "a two-letter language")
            self._text(text, (*path, language))

    def _text(self, value: Any, path: Path) -> None:
        if type(value) is not str or not 1 <= len(value) <= _MAX_TEXT or _CONTROL.search(value):
            self._add(path, f"text of 1 to {_MAX_TEXT} characters without control characters")
            return
        try:
            canonical.check_text(value)
        except Malformed as err:
            self._add(path, err.message)

    def _number(self, value: Any, path: Path, least: int, most: int) -> None:
        if type(value) is not int or not least <= value <= most:
            self._add(path, f"a number from {least} to {most}")

    def _truth(self, item: Any, name: str, path: Path) -> bool | None:
        value = item.get(name)
        if name in item and type(value) is not bool:
            self._add((*path, name), "true or false")
        return bool(value) if name in item else None

    def _strings(self, item: Any, name: str, path: Path) -> tuple[str, ...] | None:
        if name not in item:
            return None
        value = item[name]
        if type(value) is not list:
            self._add((*path, name), "a list of strings")
            return None
        for number, text in enumerate(value):
            self._text(text, (*path, name, number))
            if type(text) is not str:
                raise _Bad
        if len(set(value)) != len(value):
            twice = next(n for n, text in enumerate(value) if text in value[:n])
            self._add((*path, name, twice), "this stands here twice")
        return tuple(value)

    def _check_references(
        self,
        organisations: Mapping[str, Organisation],
        evidence: Mapping[str, EvidenceType],
        services: Mapping[str, PublicService],
    ) -> None:
        for number, kind in enumerate(evidence.values()):
            for place, code in enumerate(kind.issuers or ()):
                if code not in organisations:
                    path: Path = ("evidence_types", number, "issuers", place)
                    self._add(path, f"no public organisation {code[:128]!r} is in this file")
        producers: dict[str, set[str]] = {}
        for number, service in enumerate(services.values()):
            at = ("public_services", number)
            if service.competent_authority not in organisations:
                code = service.competent_authority
                self._add(
                    (*at, "competent_authority"),
                    f"no public organisation {code[:128]!r} is in this file",
                )
            for place, code in enumerate(service.outputs):
                producers.setdefault(code, set()).add(service.code)
                if code not in evidence:
                    self._add(
                        (*at, "outputs", place), f"no evidence type {code[:128]!r} is in this file"
                    )
                elif evidence[code].source == HOLDER:
                    self._add(
                        (*at, "outputs", place),
                        f"{code!r} is what holders make themselves: no service produces it",
                    )
        for number, service in enumerate(services.values()):
            own = {code for code in service.outputs if len(producers[code]) == 1}
            for place, requirement in enumerate(service.requirements):
                under = ("public_services", number, "requirements", place)
                for n, one in enumerate(requirement.lists):
                    for m, material in enumerate(one):
                        if material.evidence_type not in evidence:
                            self._add(
                                (*under, "evidence_type_lists", n, m, "evidence_type"),
                                f"no evidence type {material.evidence_type!r} is in this file",
                            )
                if own and all(
                    any(m.evidence_type in own for m in one) for one in requirement.lists
                ):
                    self._add(
                        under,
                        f"{service.code} demands what only {service.code} produces: nobody could "
                        "ever get it",
                    )


@lru_cache(maxsize=64)
def _names_of(names: str) -> frozenset[str]:
    return frozenset(names.split())
