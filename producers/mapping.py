"""Mappings: how the rows of a department's register say what happened to its certificates.

A mapping is a JSON file; docs of its members are in `EXPLANATION`, shown by
`certledger import --explain`. Unknown members are refused with their path.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger import event as events
from ledger import identity, times
from ledger.errors import LedgerError, Malformed

from . import calendars

FORM = "certledger mapping v1"
FIRST, EVERY = "first-rule", "every-rule"
EMPTY, PRESENT = "empty", "present"
LEAVE_OUT, REFUSE = "leave-out", "refuse"
ROW, EVENT = "row", "event"
_DAY_FIELDS = ("valid_from", "valid_until")
_TEXT_FIELDS = ("reason_code", "revocation_kind", "transfer_to")
_FACTS = ("claims", "private")
_CLAIM = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SOURCE = re.compile(r"[!-~]{1,200}")

EXPLANATION = (
    """\
A mapping is a JSON object. A value VALUE is {"column": "…"}, {"column": "…", "table": {"as read":
"as published", …}} or {"fixed": "…"}.

  format        "certledger mapping v1"
  name          of the register, a-z 0-9 and hyphens: part of the events' source
  encoding      utf-8 (default), cp949, big5, gb18030, …
  delimiter     "," (default), "\\t", ";", …
  header        the columns' names when the file has no header line
  empty         cells that mean nothing, beside the empty one: ["-", "N/A"]
  time_zone     in which the register's days and moments are: Asia/Taipei
  department    VALUE: who acts, a department id
  issuer        VALUE: who first issued the certificate; default: department
  type          VALUE: the certificate type
  number        {"columns": ["…"], "separator": "/", "spaces": "keep" | "single" | "remove",
                "recoded": {"new": "old", …}}: a column that begins with a new code is read as if
                it began with the old one, so that a certificate keeps its number when its
                authority gets another code
  holder        {"scheme": "001", "column": "…"}: becomes a pseudonym
  claims        {"name_in_the_ledger": "column", …}: public facts
  private       the same: facts shown by commitments only
  change        what tells one change from another: "row" (default), all columns as read; "event",
                what the event says, so that a later snapshot of the register repeats what an
                earlier one said and adds what is new
  time          WHEN: when it was decided; {"column": "…", "calendar": "moment"} or {"fixed": "…"}
  recordedtime  WHEN: when the register showed it (optional)
  rows          "first-rule" (default): a row is one event, by the first rule that fits;
                "every-rule": a row is a certificate, each rule that fits gives an event,
                published in the order of their times, `issued` first
  rules         a list of {"when": {"column": ["value", …] | "present" | "empty", …},
                "event": "issued", "valid_from": DAY, "valid_until": DAY, "time": WHEN,
                "reason_code": "…", "revocation_kind": "…", "transfer_to": VALUE, "claims" and
                "private" in place of the mapping's}; DAY is {"column": "…", "calendar": "iso",
                "empty": "leave-out" | "unknown" | "open" | "refuse"} or {"fixed": "unknown"};
                suspended needs a reason_code, revoked a revocation_kind (annulled, penalty or
                deregistered), transferred-out a transfer_to
  departments   to register: {"id", "names": {"zh": "…"}, "authority_code", "time_zone", "contact",
                "silence_limit_seconds" (null: silent by nature), "lanes"}
  types         to register: {"code", "names", "standard_code", "grants": [{"departments": ["…"],
                "acts": ["issued", …] or "all", "scope": "own" | "any"}]}

Calendars (one or a list, the first that fits is taken):
"""
    + "".join(f"  {name:<13} {example}\n" for name, (_, example) in calendars.DAYS.items())
    + """\
  moment        2016-12-01T08:30:00+08:00 or 20161201083000; without an offset in time_zone
"""
)

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class _Value:
    """A column's value, maybe looked up in a table, or a fixed one."""

    path: str
    column: str | None = None
    fixed: str = ""
    table: MappingType[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _When:
    """A day or moment out of a column, or a fixed one."""

    path: str
    column: str | None = None
    calendar: tuple[str, ...] = ()
    empty: str = LEAVE_OUT
    fixed: str = ""


@dataclass(frozen=True, slots=True)
class _Rule:
    path: str
    kind: str
    when: tuple[tuple[str, str | frozenset[str]], ...]
    days: tuple[tuple[str, _When], ...]
    texts: tuple[tuple[str, _Value], ...]
    time: _When
    facts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]  # claims, private


@dataclass(frozen=True, slots=True)
class Mapping:
    """A checked mapping. `departments` and `types` are as the registry's hook takes them."""

    name: str
    encoding: str
    delimiter: str
    header: tuple[str, ...] | None
    empty: frozenset[str]
    zone: ZoneInfo
    department: _Value
    issuer: _Value | None
    type: _Value
    number: tuple[tuple[str, ...], str, str]
    recoded: MappingType[str, str]
    holder: tuple[str, ...] | None
    change: str
    recordedtime: _When | None
    every: bool
    rules: tuple[_Rule, ...]
    departments: tuple[dict[str, Any], ...]
    types: tuple[dict[str, Any], ...]

    def columns(self) -> list[str]:
        """Every column that the mapping reads."""
        found: dict[str, None] = {}
        values = [self.department, self.type, *([self.issuer] if self.issuer else [])]
        whens = [self.recordedtime] if self.recordedtime else []
        for rule in self.rules:
            found.update(dict.fromkeys(column for column, _ in rule.when))
            whens += [*(when for _, when in rule.days), rule.time]
            values += [value for _, value in rule.texts]
            found.update((column, None) for _, facts in rule.facts for _, column in facts)
        found.update((value.column, None) for value in values if value.column is not None)
        found.update((when.column, None) for when in whens if when.column is not None)
        found.update(dict.fromkeys(self.number[0]))
        if self.holder:
            found[self.holder[1]] = None
        return list(found)

    def bind(self, header: Sequence[str]) -> Binding:
        """The mapping over the columns that a file has; Malformed names those it lacks."""
        return Binding(self, header)


class Binding:
    """A mapping over one file's columns: rows to plain events."""

    def __init__(self, mapping: Mapping, header: Sequence[str]) -> None:
        self.mapping = mapping
        self.header = list(header)
        lacking = [name for name in mapping.columns() if name not in header]
        if lacking:
            raise Malformed(
                "malformed-mapping",
                f"the file has no column {', '.join(map(repr, lacking))} that mapping "
                f"{mapping.name} reads; its columns are {', '.join(map(repr, header))}",
            )
        twice = sorted({name for name in mapping.columns() if self.header.count(name) > 1})
        if twice:
            raise Malformed("malformed-mapping", f"the file has column {twice[0]!r} twice")
        self._at = {name: number for number, name in enumerate(header)}
        self._declared = {
            "department": [item["id"] for item in mapping.departments],
            "type": [item["code"] for item in mapping.types],
        }
        self._number_at = [self._at[name] for name in mapping.number[0]]

    def map(self, row: Row, change: str) -> list[dict[str, Any]]:
        """The plain events of a row; Malformed `unmapped-row` says why there is none.

        `change` identifies the row in its register: all columns as read and, among equal rows,
        which one it is.
        """
        mapping = self.mapping
        if len(row) != len(self.header):
            raise Malformed(
                "unmapped-row", f"{len(row)} cells, but the header has {len(self.header)}"
            )
        rules = [rule for rule in mapping.rules if self._fits(rule, row)]
        if not rules:
            seen = {
                column: self._cell(row, column)[:60]
                for rule in mapping.rules
                for column, _ in rule.when
            }
            raise Malformed("unmapped-row", f"no rule fits {seen}" if seen else "no rule fits")
        if not mapping.every:
            rules = rules[:1]
        plain = self._common(row)
        made: list[dict[str, Any]] = []
        kinds: dict[str, int] = {}
        for rule in rules:
            nth = kinds[rule.kind] = kinds.get(rule.kind, -1) + 1
            item = {**plain, "event": rule.kind, "change_id": f"{change}#{nth}" if nth else change}
            if "holder_pseudonym" not in events.FIELDS[rule.kind][0]:
                item.pop("holder", None)
            item["time"] = self._moment(row, rule.time)
            for name, when in rule.days:
                day = self._day(row, when)
                if day is not None:
                    item[name] = day
            for name, value in rule.texts:
                item[name] = self._value(row, value)
            for name, facts in rule.facts:
                found = self._facts(row, facts)
                if found:
                    item[name] = found
            if mapping.change == EVENT:
                item["change_id"] = _digest(item)
            made.append(item)
        if len(made) > 1:
            made.sort(key=lambda item: (item["event"] != events.ISSUED, _instant(item["time"])))
        return made

    def _facts(self, row: Row, facts: Sequence[tuple[str, str]]) -> dict[str, str]:
        return {
            name: unicodedata.normalize("NFC", cell)
            for name, column in facts
            if (cell := self._cell(row, column))
        }

    def _common(self, row: Row) -> dict[str, Any]:
        mapping = self.mapping
        columns, separator, spaces = mapping.number
        number = separator.join(self._recoded(row[at].strip()) for at in self._number_at)
        if spaces == "single":
            number = " ".join(number.split())
        elif spaces == "remove":
            number = "".join(number.split())
        number = identity.normalise_number(number)
        if not number or all(row[at].strip() in mapping.empty for at in self._number_at):
            raise Malformed("unmapped-row", f"no number in {' and '.join(map(repr, columns))}")
        department = self._value(row, mapping.department)
        type_code = self._value(row, mapping.type)
        plain: dict[str, Any] = {
            "department": department,
            "certificate_type_code": type_code,
            "certificate_number": number,
            "source": f"/registers/{mapping.name}",
            "record_key": f"{type_code}/{number}",
        }
        if mapping.issuer is not None:
            plain["issuing_authority_code"] = self._value(row, mapping.issuer)
        if mapping.recordedtime is not None:
            plain["recordedtime"] = self._moment(row, mapping.recordedtime)
        if mapping.holder is not None:
            holder = self._cell(row, mapping.holder[1])
            if holder:
                plain["holder"] = {"scheme": mapping.holder[0], "number": holder}
        return plain

    def _recoded(self, cell: str) -> str:
        for new, old in self.mapping.recoded.items():
            if cell.startswith(new):
                return old + cell[len(new) :]
        return cell

    def _fits(self, rule: _Rule, row: Row) -> bool:
        for column, wanted in rule.when:
            cell = self._cell(row, column)
            if isinstance(wanted, frozenset):
                if cell not in wanted:
                    return False
            elif bool(cell) != (wanted == PRESENT):
                return False
        return True

    def _cell(self, row: Row, column: str) -> str:
        text = row[self._at[column]].strip()
        return "" if text in self.mapping.empty else text

    def _value(self, row: Row, value: _Value) -> str:
        if value.column is None:
            return value.fixed
        cell = self._cell(row, value.column)
        if not cell:
            raise Malformed("unmapped-row", f"column {value.column!r} is empty")
        declared = self._declared.get(value.path)
        known = declared if value.table is None else value.table
        if known is not None and cell not in known:
            raise Malformed(
                "unmapped-row",
                f"unknown {value.path} {cell[:60]!r} in column {value.column!r}; the mapping knows "
                f"{', '.join(list(known)[:12])}",
            )
        return cell if value.table is None else value.table[cell]

    def _day(self, row: Row, when: _When) -> Any:
        if when.column is None:
            return when.fixed
        cell = self._cell(row, when.column)
        if cell:
            try:
                return calendars.parse_day(cell, when.calendar)
            except Malformed as err:
                raise Malformed(err.code, f"column {when.column!r}: {err.message}") from err
        if when.empty == REFUSE:
            raise Malformed("unmapped-row", f"column {when.column!r} is empty")
        return None if when.empty == LEAVE_OUT else when.empty

    def _moment(self, row: Row, when: _When) -> str:
        if when.column is None:
            return when.fixed
        cell = self._cell(row, when.column)
        if not cell:
            raise Malformed("unmapped-row", f"column {when.column!r} is empty")
        try:
            return calendars.parse_moment(cell, when.calendar, self.mapping.zone)
        except Malformed as err:
            raise Malformed(err.code, f"column {when.column!r}: {err.message}") from err


def _digest(item: MappingType[str, Any]) -> str:
    """What an event says, in one word."""
    said = {name: value for name, value in item.items() if name != "change_id"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _instant(moment: str) -> int:
    return times.parse_moment(moment)


# --- reading a mapping ---------------------------------------------------------------------------


def builtin() -> list[str]:
    """The names of the mappings that come with certledger."""
    folder = resources.files("producers") / "mappings"
    return sorted(
        item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json")
    )


def load_mapping(name: str) -> Mapping:
    """The mapping of that name, or in that file; Malformed `malformed-mapping` with the path."""
    return parse_mapping(mapping_text(name), name)


def mapping_text(name: str) -> str:
    """The mapping's file as it stands."""
    if name in builtin():
        return (resources.files("producers") / "mappings" / f"{name}.json").read_text("utf-8")
    try:
        return Path(name).read_text("utf-8")
    except FileNotFoundError as err:
        raise Malformed(
            "malformed-mapping",
            f"no mapping file {name!r}, and no built-in one of that name ({', '.join(builtin())})",
        ) from err
    except (OSError, UnicodeDecodeError) as err:
        raise Malformed("malformed-mapping", f"{name} cannot be read: {err}") from err


def parse_mapping(text: str, place: str = "mapping") -> Mapping:
    """The mapping in `text`; Malformed `malformed-mapping` says where it is wrong and how."""
    try:
        value = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as err:
        raise Malformed("malformed-mapping", f"{place}: not JSON: {err}") from err
    try:
        return _mapping(value)
    except _Wrong as err:
        raise Malformed("malformed-mapping", f"{place}: {err}") from err


class _Wrong(ValueError):
    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path or 'the whole'}: {message}")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"member {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return value


def _mapping(value: Any) -> Mapping:
    needed = "format name time_zone department type number time rules departments types"
    optional = (
        "description encoding delimiter header empty issuer holder claims private change "
        "recordedtime rows"
    )
    _members(value, "", needed, optional)
    if value["format"] != FORM:
        raise _Wrong("format", f"must be {FORM!r}")
    name = _text(value["name"], "name")
    if not _SOURCE.fullmatch(name):
        raise _Wrong("name", "printable ASCII without spaces")
    _text(value.get("description", "-"), "description")
    encoding = _text(value.get("encoding", "utf-8"), "encoding")
    try:
        codecs.lookup(encoding)
    except (LookupError, ValueError) as err:
        raise _Wrong("encoding", f"no encoding {encoding!r} is known") from err
    delimiter = _text(value.get("delimiter", ","), "delimiter")
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise _Wrong("delimiter", "one character")
    zone = _zone(value["time_zone"], "time_zone")
    number = value["number"]
    _members(number, "number", "columns", "separator spaces recoded")
    spaces = number.get("spaces", "keep")
    if spaces not in ("keep", "single", "remove"):
        raise _Wrong("number.spaces", "keep, single or remove")
    separator = number.get("separator", "/")
    if type(separator) is not str:
        raise _Wrong("number.separator", "a text")
    recoded = _table(number["recoded"], "number.recoded") if "recoded" in number else {}
    for new, old in recoded.items():
        if any(
            old.startswith(other) or (other != new and new.startswith(other)) for other in recoded
        ):
            raise _Wrong(f"number.recoded.{new}", "two codes fit the same number")
    change = value.get("change", ROW)
    if change not in (ROW, EVENT):
        raise _Wrong("change", f"{ROW} or {EVENT}")
    holder = value.get("holder")
    if holder is not None:
        _members(holder, "holder", "scheme column", "")
        holder = tuple(_text(holder[name], f"holder.{name}") for name in ("scheme", "column"))
    rows = value.get("rows", FIRST)
    if rows not in (FIRST, EVERY):
        raise _Wrong("rows", f"{FIRST} or {EVERY}")
    header = value.get("header")
    rules = _list(value["rules"], "rules")
    if not rules:
        raise _Wrong("rules", "at least one")
    departments = tuple(
        _department(item, f"departments[{n}]")
        for n, item in enumerate(_list(value["departments"], "departments"))
    )
    ids = [item["id"] for item in departments]
    types = tuple(
        _type(item, f"types[{n}]", ids) for n, item in enumerate(_list(value["types"], "types"))
    )
    department = _value(value["department"], "department")
    _check_declared(department, "department", ids)
    type_value = _value(value["type"], "type")
    _check_declared(type_value, "type", [item["code"] for item in types])
    return Mapping(
        name=name,
        encoding=encoding,
        delimiter=delimiter,
        header=None if header is None else _texts(header, "header"),
        empty=frozenset(("", *_texts(value.get("empty", []), "empty"))),
        zone=zone,
        department=department,
        issuer=_value(value["issuer"], "issuer") if "issuer" in value else None,
        type=type_value,
        number=(_texts(number["columns"], "number.columns"), separator, spaces),
        recoded=recoded,
        holder=holder,
        change=change,
        recordedtime=(
            _when(value["recordedtime"], "recordedtime", moment=True)
            if "recordedtime" in value
            else None
        ),
        every=rows == EVERY,
        rules=tuple(_rule(rule, f"rules[{n}]", value) for n, rule in enumerate(rules)),
        departments=departments,
        types=types,
    )


def _check_declared(value: _Value, path: str, known: Sequence[str]) -> None:
    said = [value.fixed] if value.column is None else list((value.table or {}).values())
    for item in said:
        if item not in known:
            raise _Wrong(path, f"{item!r} is not among the mapping's {path}s")


def _rule(value: Any, path: str, whole: dict[str, Any]) -> _Rule:
    optional = ("when", "time", *_FACTS, *_DAY_FIELDS, *_TEXT_FIELDS)
    _members(value, path, "event", " ".join(optional))
    kind = value["event"]
    if kind not in events.FIELDS or kind == events.CORRECTED:
        kinds = ", ".join(k for k in events.FIELDS if k != events.CORRECTED)
        raise _Wrong(f"{path}.event", f"one of {kinds}")
    allowed, needed = events.FIELDS[kind]
    for name in (*_DAY_FIELDS, *_TEXT_FIELDS):
        if name in value and name not in allowed:
            raise _Wrong(f"{path}.{name}", f"{kind} does not take it")
        if name in needed and name not in value:
            raise _Wrong(path, f"{kind} needs {name}")
    conditions: list[tuple[str, str | frozenset[str]]] = []
    when = value.get("when", {})
    if type(when) is not dict:
        raise _Wrong(f"{path}.when", "an object of columns")
    for column, wanted in when.items():
        if wanted in (EMPTY, PRESENT):
            conditions.append((column, wanted))
        else:
            conditions.append((column, frozenset(_texts(wanted, f"{path}.when.{column}"))))

    def _own(name: str) -> tuple[Any, str]:
        """The rule's own member and its path, else the mapping's."""
        return (value[name], f"{path}.{name}") if name in value else (whole.get(name, {}), name)

    texts = []
    for name in _TEXT_FIELDS:
        if name in value:
            given = value[name]
            plain = {"fixed": given} if type(given) is str else given
            texts.append((name, _value(plain, f"{path}.{name}")))
    return _Rule(
        path=path,
        kind=kind,
        when=tuple(conditions),
        days=tuple(
            (name, _when(value[name], f"{path}.{name}")) for name in _DAY_FIELDS if name in value
        ),
        texts=tuple(texts),
        time=_when(*_own("time"), moment=True),
        facts=tuple((name, _facts(*_own(name))) for name in _FACTS),
    )


def _value(value: Any, path: str) -> _Value:
    _members(value, path, "", "column table fixed")
    if ("fixed" in value) == ("column" in value) or ("table" in value and "fixed" in value):
        raise _Wrong(path, "either a column, with or without a table, or fixed")
    if "fixed" in value:
        return _Value(path, fixed=_text(value["fixed"], f"{path}.fixed"))
    table = _table(value["table"], f"{path}.table") if "table" in value else None
    return _Value(path, column=_text(value["column"], f"{path}.column"), table=table)


def _table(value: Any, path: str) -> dict[str, str]:
    if type(value) is not dict or not value:
        raise _Wrong(path, "an object with members")
    for name, text in value.items():
        _text(text, f"{path}.{name}")
    return value


def _when(value: Any, path: str, moment: bool = False) -> _When:
    _members(value, path, "", "column calendar fixed" + ("" if moment else " empty"))
    if ("fixed" in value) == ("column" in value):
        raise _Wrong(path, "either a column or fixed")
    if "fixed" in value:
        text = _text(value["fixed"], f"{path}.fixed")
        try:
            if moment:
                times.parse_moment(text)
            elif text not in (events.UNKNOWN, events.OPEN):
                calendars.parse_day(text, ("iso",))
        except LedgerError as err:
            raise _Wrong(f"{path}.fixed", err.message) from err
        return _When(path, fixed=text)
    given = value.get("calendar", calendars.MOMENT if moment else "iso")
    names = (given,) if type(given) is str else _texts(given, f"{path}.calendar")
    allowed = calendars.NAMES if moment else tuple(calendars.DAYS)
    for name in names:
        if name not in allowed:
            raise _Wrong(f"{path}.calendar", f"{name!r} is none of {', '.join(allowed)}")
    empty = value.get("empty", LEAVE_OUT)
    if empty not in (LEAVE_OUT, REFUSE, events.UNKNOWN, events.OPEN):
        raise _Wrong(f"{path}.empty", "leave-out, unknown, open or refuse")
    return _When(path, _text(value["column"], f"{path}.column"), names, empty)


def _facts(value: Any, path: str) -> tuple[tuple[str, str], ...]:
    if type(value) is not dict:
        raise _Wrong(path, "an object of names and columns")
    for name, column in value.items():
        if not _CLAIM.fullmatch(name):
            raise _Wrong(f"{path}.{name}", "names are a-z, 0-9 and _, beginning with a letter")
        _text(column, f"{path}.{name}")
    return tuple(value.items())


def _department(value: Any, path: str) -> dict[str, Any]:
    optional = "authority_code time_zone contact silence_limit_seconds lanes"
    _members(value, path, "id names", optional)
    try:
        identity.check_department(_text(value["id"], f"{path}.id"))
    except LedgerError as err:
        raise _Wrong(f"{path}.id", err.message) from err
    _names(value["names"], f"{path}.names")
    for name in ("authority_code", "contact"):
        if type(value.get(name, "")) is not str:
            raise _Wrong(f"{path}.{name}", "a text")
    _zone(value.get("time_zone", "UTC"), f"{path}.time_zone")
    lanes = value.get("lanes", 1)
    if type(lanes) is not int or not 1 <= lanes <= 1024:
        raise _Wrong(f"{path}.lanes", "a number from 1 to 1024")
    limit = value.get("silence_limit_seconds")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise _Wrong(f"{path}.silence_limit_seconds", "a number from 1, or null")
    return dict(value)


def _type(value: Any, path: str, departments: Sequence[str]) -> dict[str, Any]:
    _members(value, path, "code names grants", "standard_code")
    try:
        identity.check_type(_text(value["code"], f"{path}.code"))
    except LedgerError as err:
        raise _Wrong(f"{path}.code", err.message) from err
    _names(value["names"], f"{path}.names")
    grants = []
    for n, grant in enumerate(_list(value["grants"], f"{path}.grants")):
        at = f"{path}.grants[{n}]"
        _members(grant, at, "departments acts", "scope")
        acts = (
            sorted(events.FIELDS)
            if grant["acts"] == "all"
            else sorted(_texts(grant["acts"], f"{at}.acts"))
        )
        for act in acts:
            if act not in events.FIELDS:
                raise _Wrong(f"{at}.acts", f"{act!r} is no event")
        if grant.get("scope", "own") not in ("own", "any"):
            raise _Wrong(f"{at}.scope", "own or any")
        for department in _texts(grant["departments"], f"{at}.departments"):
            if department not in departments:
                raise _Wrong(f"{at}.departments", f"{department!r} is not declared")
            grants.append(
                {"department": department, "acts": acts, "scope": grant.get("scope", "own")}
            )
    return {
        "code": value["code"],
        "names": value["names"],
        "standard_code": value.get("standard_code", ""),
        "grants": grants,
    }


def _names(value: Any, path: str) -> None:
    if type(value) is not dict or not value:
        raise _Wrong(path, 'an object like {"zh": "…", "en": "…"}')
    for language, text in value.items():
        if not re.fullmatch("[a-z]{2}", language):
            raise _Wrong(f"{path}.{language}", "two-letter languages")
        _text(text, f"{path}.{language}")


def _zone(value: Any, path: str) -> ZoneInfo:
    try:
        return ZoneInfo(_text(value, path))
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise _Wrong(path, f"no time zone {value!r} is known") from err


def _members(value: Any, path: str, needed: str, optional: str) -> None:
    if type(value) is not dict:
        raise _Wrong(path, "an object is needed")
    known = {*needed.split(), *optional.split()}
    for name in value:
        if name not in known:
            at = f"{path}.{name}" if path else name
            raise _Wrong(at, f"unknown member; known are {', '.join(sorted(known))}")
    for name in needed.split():
        if name not in value:
            raise _Wrong(f"{path}.{name}" if path else name, "is missing")


def _list(value: Any, path: str) -> list[Any]:
    if type(value) is not list:
        raise _Wrong(path, "a list is needed")
    return value


def _text(value: Any, path: str) -> str:
    if type(value) is not str or not value:
        raise _Wrong(path, "a text is needed")
    return value


def _texts(value: Any, path: str) -> tuple[str, ...]:
    if type(value) is not list or any(type(item) is not str for item in value):
        raise _Wrong(path, "a list of texts is needed")
    return tuple(value)
