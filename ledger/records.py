"""Registry records as evidence shows them, read strictly: nothing about them is proven yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from . import canonical
from .errors import Malformed
from .registry import RECORD_FORM, SCOPES

MAX_RECORD = 256 * 1024
_ROOT = re.compile(r"[0-9a-f]{64}")
_SMALL = 4 * 1024  # bytes of a record that is worth remembering
# members left out where they say nothing
OPTIONAL = frozenset({"doubted_from", "recovered", "recovery", "former_lanes"})


def parse_record(data: bytes) -> dict[str, Any]:
    """A registry record of one of the kinds that evidence shows, every used member checked. It is
    shared: nobody changes it.
    """
    return _parse_known(data) if len(data) <= _SMALL else _parse(data)


def _parse(data: bytes) -> dict[str, Any]:
    record = canonical.parse(data, MAX_RECORD)
    if type(record) is not dict or record.get("form") != RECORD_FORM:
        raise Malformed("malformed-evidence", f"a registry record says form {RECORD_FORM!r}")
    name, value = record.get("name"), record.get("value")
    if type(name) is not str or type(value) is not dict:
        raise Malformed("malformed-evidence", "a registry record has a name and a value")
    form = _RECORDS.get(name.partition("/")[0])
    if form is None:
        raise Malformed("malformed-evidence", f"evidence shows no record {name[:100]!r}")
    for member, is_good in form.items():
        is_left_out = member not in value and member in OPTIONAL
        if not is_left_out and not (member in value and is_good(value[member])):
            raise Malformed("malformed-evidence", f"{member} of {name[:100]!r} is not of its form")
    return dict(record)


_parse_known = lru_cache(maxsize=1024)(_parse)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_count_or_null(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_names(value: Any) -> bool:
    return type(value) is dict and all(_is_text(text) for text in value.values())


def _is_grants(value: Any) -> bool:
    return type(value) is list and all(
        type(grant) is dict
        and grant.keys() == {"department", "acts", "scope", "from", "until"}
        and _is_text(grant["department"])
        and type(grant["acts"]) is list
        and all(_is_text(act) for act in grant["acts"])
        and grant["scope"] in SCOPES
        and _is_count(grant["from"])
        and _is_count_or_null(grant["until"])
        for grant in value
    )


def _is_recovery(value: Any) -> bool:
    return type(value) is dict and all(
        type(told) is dict
        and told.keys() == {"vkey", "announced", "from"}
        and _is_text(told["vkey"])
        and _is_count(told["announced"])
        and _is_text(told["from"])
        for told in value.values()
    )


def _is_former_lanes(value: Any) -> bool:
    return type(value) is list and all(
        type(former) is dict
        and former.keys() == {"lanes", "until"}
        and _is_count(former["lanes"])
        and former["lanes"] > 0
        and _is_count(former["until"])
        for former in value
    )


def _is_versions(value: Any) -> bool:
    return type(value) is list and all(
        type(item) is dict
        and item.keys() == {"version", "check", "from"}
        and _is_count(item["version"])
        and _is_text(item["check"])
        and _is_count(item["from"])
        for item in value
    )


def _is_catalogue_versions(value: Any) -> bool:
    return type(value) is list and all(
        type(item) is dict
        and item.keys() == {"version", "root", "size", "from"}
        and _is_count(item["version"])
        and _is_text(item["root"])
        and _ROOT.fullmatch(item["root"]) is not None
        and _is_count(item["size"])
        and _is_count(item["from"])
        for item in value
    )


_RECORDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "key": {
        "vkey": _is_text,
        "department": _is_text,
        "role": _is_text,
        "from": _is_count,
        "revoked": _is_count_or_null,
        "doubted_from": _is_count,
        "recovered": _is_count,
    },
    "type": {"names": _is_names, "grants": _is_grants},
    "department": {
        "names": _is_names,
        "contact": _is_text,
        "time_zone": _is_text,
        "silence_limit_seconds": _is_count_or_null,
        "lanes": lambda value: _is_count(value) and value > 0,
        "recovery": _is_recovery,
        "former_lanes": _is_former_lanes,
    },
    "lane": {"signed_at": _is_text},
    "pseudonyms": {"versions": _is_versions},
    "catalogue": {"versions": _is_catalogue_versions},
    "ledger": {"origin": _is_text},  # a neighbour of where a department would stand
}
