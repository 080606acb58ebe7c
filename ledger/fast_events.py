"""Event lines read a bundle at a time, for those who handle every event: the workers and the audit.

A line that is anything but plain is left to `event.parse_event`, which decides in every case:
`tests/property/test_fast_events.py` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, reduce
from hashlib import sha256
from operator import or_
from typing import Any, Literal

import msgspec

from . import canonical, identity, times
from . import event as events
from .admission import Line, parse_line
from .bundle import Bundle
from .errors import LedgerError
from .event import Event
from .fast_json import dump, load
from .reliance import Reliance, is_reliance

_REVOCATIONS = frozenset({None, *events.REVOCATION_KINDS})
_LENGTHS = [length.to_bytes(2, "big") for length in range(identity.MAX_NUMBER + 1)]
_TYPES = {"claims": dict[str, str], "commitments": dict[str, str], "salt_key_version": int}

Columns = list[Sequence[Any]]
"""Events, a sequence for each member of `Event`; none for no event."""


class _Odd(Exception):
    """Not what is read here; perhaps an event none the less."""


def _structure(kind: str) -> Any:
    """What a line of this kind looks like; members that it cannot have are None in every one."""
    allowed, needed = events.FIELDS[kind]
    needed = needed.union(events.REQUIRED)
    data = msgspec.defstruct(
        "Data",
        [
            (name, _TYPES.get(name, str))
            if name in needed
            else (name, _TYPES.get(name, str) | None, None)
            for name in sorted(allowed)
        ],
        namespace=dict.fromkeys(events.MEMBERS - allowed),
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.defstruct(
        "Line",
        [
            ("data", data),
            ("id", str),
            ("recordedtime", str | None, None),
            ("source", str),
            ("specversion", Literal["1.0"]),
            ("time", str),
        ],
        namespace={"kind": kind},
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=True,
        gc=False,
        tag_field="type",
        tag=events.TYPE_PREFIX + kind + events.TYPE_SUFFIX,
    )


_decode = msgspec.json.Decoder(reduce(or_, map(_structure, events.FIELDS))).decode_lines
printed = msgspec.json.Encoder(order="sorted").encode_lines  # maps and structures by member name


def parse_lines(bundle: Bundle) -> tuple[Line, ...]:
    """As `admission.parse_lines`: what a bundle's lines say."""
    return join_lines(*parse_columns(bundle))


def parse_columns(bundle: Bundle) -> tuple[Columns, dict[int, Reliance | str]]:
    """As `parse_lines`, the events as columns; what is no event by its position, ascending."""
    lines, hashes = bundle.lines, bundle.line_hashes
    with suppress(_Odd):
        return _read_columns(lines, hashes), {}
    found: dict[int, Line] = {}
    of_events = [n for n, line in enumerate(lines) if not is_reliance(line)]
    if len(of_events) < len(lines):
        with suppress(_Odd):
            read = read_lines([lines[n] for n in of_events], [hashes[n] for n in of_events])
            found.update(zip(of_events, read, strict=True))
    every = [
        found[n] if n in found else _parse_line(line, line_hash)
        for n, (line, line_hash) in enumerate(zip(lines, hashes, strict=True))
    ]
    events = [line for line in every if isinstance(line, Event)]
    others = {n: line for n, line in enumerate(every) if not isinstance(line, Event)}
    return list(zip(*events, strict=True)), others


def join_lines(columns: Columns, others: Mapping[int, Line]) -> tuple[Line, ...]:
    """The lines of which `parse_columns` made these."""
    make = tuple.__new__  # what a named tuple's own constructor ends in
    lines: list[Line] = [make(Event, row) for row in zip(*columns, strict=True)]
    for position, line in others.items():
        lines.insert(position, line)
    return tuple(lines)


def _parse_line(line: bytes, line_hash: bytes) -> Line:
    try:
        return read_lines((line,), (line_hash,))[0]
    except _Odd:
        return parse_line(line, line_hash, load, dump)


def read_lines(lines: Sequence[bytes], line_hashes: Sequence[bytes]) -> list[Event]:
    """The events in lines; _Odd when any of them is odd."""
    make = tuple.__new__
    return [make(Event, row) for row in zip(*_read_columns(lines, line_hashes), strict=True)]


def _read_columns(lines: Sequence[bytes], line_hashes: Sequence[bytes]) -> Columns:
    """The events in lines as columns; _Odd when any of them is odd.

    What is decoded is printed again and compared with the lines as they came, all at once: no
    printed event holds a newline, so each one stands against its own line.
    """
    if not lines:
        return []
    body = b"\n".join((*lines, b""))
    try:
        found = _decode(body)
        if printed(found) != body or max(map(len, lines)) > events.MAX_LINE:
            raise _Odd
        canonical.check_form(body)
        return _columns(found, line_hashes)
    except (LedgerError, msgspec.MsgspecError, ValueError, RecursionError) as err:
        raise _Odd from err


def read_events(lines: Sequence[bytes], line_hashes: Sequence[bytes]) -> list[Event]:
    """The events in lines of whichever bundles; Malformed as `parse_event` where one is none."""
    try:
        return read_lines(lines, line_hashes)
    except _Odd:
        return [events.parse_event(*each) for each in zip(lines, line_hashes, strict=True)]


def _columns(found: list[Any], line_hashes: Sequence[bytes]) -> Columns:
    """The events of lines whose members are there and of their types, whose text is in form C.

    Column by column: most values stand in many lines and are looked at once.
    """
    datas = [one.data for one in found]
    ids = [one.id for one in found]
    kinds = [one.kind for one in found]
    sources = [one.source for one in found]
    moments = [one.time for one in found]
    recorded = [one.recordedtime for one in found]
    types = [data.certificate_type_code for data in datas]
    issuers = [data.issuing_authority_code for data in datas]
    numbers = [data.certificate_number for data in datas]
    said = [
        (
            data.valid_from,
            data.valid_until,
            data.reason_code,
            data.revocation_kind,
            data.corrects,
            data.correction,
            data.transfer_to,
        )
        for data in datas
    ]
    holders = [data.holder_pseudonym for data in datas]
    identifiers = [data.certificate_identifier for data in datas]
    _check_hexes(ids, 32)
    _check_columns(sources, said)
    times.check_moments([*moments, *filter(None, recorded)])
    _check_numbers(numbers)
    for claims in {tuple(data.claims) for data in datas if data.claims is not None}:
        _check_names(claims)
    for kind, data in zip(kinds, datas, strict=True):
        if data.salt_key_version is not None or data.commitments is not None:
            _check_commitments(data)
        if kind == events.CORRECTED:
            events.check_data(kind, msgspec.to_builtins(data))
    if (events.UNKNOWN in {row[0] for row in said}) and any(
        kind == events.SUSPENDED and row[0] == events.UNKNOWN
        for kind, row in zip(kinds, said, strict=True)
    ):
        raise _Odd
    for identifier in identifiers:
        if identifier is not None:
            identity.parse_identifier(identifier)
    keys = [
        sha256(_prefix(type_code, issuer) + _LENGTHS[len(serial)] + serial).digest()
        for type_code, issuer, serial in zip(types, issuers, map(str.encode, numbers), strict=True)
    ]
    return [
        ids,
        kinds,
        sources,
        moments,
        recorded,
        types,
        issuers,
        numbers,
        holders,
        _holder_keys(holders),
        identifiers,
        line_hashes,
        keys,
        said,
    ]


def _check_hexes(texts: Sequence[str], size: int) -> None:
    whole = "".join(texts)
    if set(map(len, texts)) != {size} or bytes.fromhex(whole).hex() != whole:
        raise _Odd


def _check_columns(sources: list[str], said: list[events.Said]) -> None:
    firsts, lasts, reasons, revocations, _, _, others = map(set, zip(*said, strict=True))
    for text in firsts - {None, events.UNKNOWN} | lasts - {None, events.UNKNOWN, events.OPEN}:
        times.parse_day(text)
    if not all(map(events.is_source, set(sources))):
        raise _Odd
    if not all(map(events.is_code, reasons - {None})):
        raise _Odd
    if not revocations <= _REVOCATIONS:
        raise _Odd
    for text in others - {None}:
        identity.check_department(text)


def _check_numbers(numbers: list[str]) -> None:
    """None for certificate numbers out of text in form C that are as `identity.check_number` wants
    them.
    """
    whole = "".join(numbers)
    plain = (
        whole.isprintable()
        and not identity.FOLDED.search(whole)
        and all(numbers)
        and max(map(len, numbers)) <= identity.MAX_NUMBER // 4
        and not any(number[0] == " " or number[-1] == " " for number in numbers)
    )
    if not plain:
        for number in numbers:
            identity.check_number(number)


def _check_commitments(data: Any) -> None:
    version, commitments = data.salt_key_version, data.commitments
    if version is None or not 1 <= version <= events.MAX_SALT_KEY_VERSION:
        raise _Odd
    if commitments is not None:
        _check_names(tuple(commitments))
        _check_hexes(list(commitments.values()), 64)


@lru_cache(maxsize=4096)  # registers repeat their columns
def _check_names(names: tuple[str, ...]) -> None:
    if not names or not all(map(events.is_name, names)):
        raise _Odd


@lru_cache(maxsize=1024)
def _prefix(type_code: str, issuer: str) -> bytes:
    identity.check_type(type_code)
    identity.check_department(issuer)
    return identity.certificate_prefix(type_code, issuer)


def _holder_keys(pseudonyms: list[str | None]) -> list[bytes | None]:
    """The map keys of holders, whose digits are looked at all at once."""
    said = [text.partition(":") for text in pseudonyms if text is not None]
    if not said:
        return [None] * len(pseudonyms)
    _check_hexes([digits for _, _, digits in said], 64)
    digests = bytes.fromhex("".join([digits for _, _, digits in said]))
    keys = iter(
        [
            sha256(_holder_prefix(version) + digests[at : at + 32]).digest()
            for (version, _, _), at in zip(said, range(0, len(digests), 32), strict=True)
        ]
    )
    return [None if text is None else next(keys) for text in pseudonyms]


@lru_cache(maxsize=64)
def _holder_prefix(version: str) -> bytes:
    number = identity.pseudonym_version(version)
    if not number:
        raise _Odd
    return identity.holder_prefix(number)
