"""From what a department says about a certificate to the canonical event line that it signs.

What it says is a mapping, the *plain event*; `PLAIN` lists its members and what they mean.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache, partial
from typing import Any, NamedTuple

from ledger import canonical, fast_json, identity, times
from ledger import event as events
from ledger.errors import Malformed

from .config import PublisherConfig
from .holders import make_pseudonym

PLAIN = {
    "event": "issued, renewed, amended, suspended, reinstated, revoked, expired, transferred-out, "
    "transferred-in or corrected",
    "department": "who acts; left out: the publisher's own department",
    "certificate_type_code": "the type, as the registry knows it",
    "certificate_number": "the number in its register; ends are trimmed, full width is folded",
    "issuing_authority_code": "the department that first issued it; left out: the acting one",
    "certificate_identifier": "GB/T 36904 identifier",
    "valid_from": "first day: 2016-12-01, with an offset if another than the department's, or "
    "unknown; left out: the event's time",
    "valid_until": "last day, unknown or open",
    "revocation_kind": "of revoked: annulled, penalty or deregistered",
    "reason_code": "a-z, 0-9 and hyphens",
    "transfer_to": "of transferred-out: a department",
    "corrects": "of corrected: an event id",
    "correction": "of corrected: void, restate, confirm or rewind",
    "claims": "public facts: an object of texts",
    "private": "facts that only a commitment shows: an object of texts",
    "holder": 'whose it is: {"scheme": "001", "number": "…"}, published as a pseudonym; schemes '
    "111 and 001 have a check character, which must be right",
    "holder_pseudonym": "the pseudonym itself, in place of holder",
    "time": "when it was decided, RFC 3339; left out: now",
    "recordedtime": "when the register showed it, RFC 3339",
    "source": "which register it was read from; left out: the department's own",
    "record_key": "the record's key in that source; left out: type, issuer and number",
    "change_id": "the change's number in that source: saying it again is harmless",
    "id": "the event id itself, 32 hex digits; left out: made from the change_id, else drawn",
    "commitments": "as in a line that was published before, with salt_key_version",
    "salt_key_version": "version of the salt key behind commitments",
}
_DATA = frozenset().union(*(allowed for allowed, _ in events.FIELDS.values()))
_ENVELOPE = frozenset({"specversion", "type", "data"})
_ID = re.compile(r"[0-9a-f]{32}")
_TO_FOLD = re.compile("[\u3000\uff01-\uff5e]")
_SOURCE = re.compile(r"[!-~]{1,255}")
_format = partial(canonical.format_typed, dump=fast_json.dump)

Day = date | str


class Line(NamedTuple):
    """An event ready for a bundle. `disclosures` are what a holder needs to show private facts."""

    line: bytes
    key: bytes  # the certificate's map key
    id: str
    disclosures: bytes = b""  # NDJSON


class LineMaker:
    """Makes the lines of one department. `now` gives the moment in microseconds."""

    def __init__(self, config: PublisherConfig, now: Callable[[], int]) -> None:
        self._config = config
        self._now = now
        self._pseudonym = lru_cache(maxsize=4096)(self._make_pseudonym)

    def make(self, plain: Mapping[str, Any]) -> Line:
        """The line of a plain event; Malformed says which member is wrong."""
        config = self._config
        if "specversion" in plain:
            plain = unfold(plain)
        kind = plain.get("event")
        if kind not in events.FIELDS:
            raise Malformed(
                "malformed-event", f"event is one of {', '.join(events.FIELDS)}, not {kind!r}"
            )
        if plain.get("department", config.department) != config.department:
            raise Malformed(
                "malformed-event",
                f"{plain['department']!r} cannot be published by {config.department}",
            )
        data: dict[str, Any] = {"issuing_authority_code": config.department}
        for name, value in plain.items():
            if name in _DATA:
                data[name] = value
            elif name not in PLAIN:
                raise Malformed("malformed-event", f"unknown member {name!r}")
        for name, last in (("valid_from", False), ("valid_until", True)):
            if name in data:
                data[name] = format_day(data[name], config.zone, last)
        if type(data.get("certificate_number")) is str:
            data["certificate_number"] = _normal(data["certificate_number"])
        if "holder" in plain:
            data["holder_pseudonym"] = self._holder(plain["holder"])
        time = plain.get("time")
        time = self._moment(self._now() if time is None else time)
        recorded = plain.get("recordedtime")
        recorded = None if recorded is None else self._moment(recorded)
        source = plain.get("source", config.source)
        event_id = plain.get("id")
        if event_id is None:
            event_id = self._event_id(plain, data, source, kind)
        elif type(event_id) is not str or not _ID.fullmatch(event_id):
            raise Malformed("malformed-event", "id is 32 lower-case hex digits")
        disclosures = b""
        if "private" in plain:
            disclosures = self._commit(plain["private"], event_id, data)
        events.check_data(kind, data)
        if type(source) is not str or not _SOURCE.fullmatch(source):
            raise Malformed("malformed-event", "source is 1 to 255 printable ASCII characters")
        line = events.format_event(
            kind=kind,
            event_id=event_id,
            source=source,
            time=time,
            recordedtime=recorded,
            data=data,
            form=_format,
        )
        key = identity.certificate_key(
            data["certificate_type_code"],
            data["issuing_authority_code"],
            data["certificate_number"],
        )
        return Line(line, key, event_id, disclosures)

    def _moment(self, value: Any) -> str:
        if type(value) is int:
            return times.format_moment(value)
        if isinstance(value, datetime):
            return format_datetime(value, self._config.zone)
        if type(value) is not str:
            raise Malformed("malformed-time", f"{value!r} is no moment")
        times.parse_moment(value)
        return value

    def _event_id(
        self, plain: Mapping[str, Any], data: Mapping[str, Any], source: str, kind: str
    ) -> str:
        change = plain.get("change_id")
        if change is None:
            return os.urandom(16).hex()
        record_key = plain.get("record_key")
        if record_key is None:
            record_key = (
                f"{data.get('certificate_type_code')}/{data['issuing_authority_code']}/"
                f"{data.get('certificate_number')}"
            )
        for name, value in (("change_id", change), ("record_key", record_key), ("source", source)):
            if type(value) is not str or len(value) > 16_000:
                raise Malformed("malformed-event", f"{name} is a text of at most 16000 characters")
        return events.make_event_id(
            self._config.department,
            source,
            record_key,
            kind,
            events.hide_change(self._config.event_id_key, change),
        )

    def _holder(self, holder: Any) -> str:
        if isinstance(holder, tuple) and len(holder) == 2:
            scheme, number = holder
        elif isinstance(holder, dict) and holder.keys() == {"scheme", "number"}:
            scheme, number = holder["scheme"], holder["number"]
        else:
            raise Malformed("malformed-event", "holder has the members scheme and number")
        if type(scheme) is not str or type(number) is not str or not scheme or not number.strip():
            raise Malformed("malformed-event", "holder's scheme and number are texts")
        return self._pseudonym(scheme, number)

    def _make_pseudonym(self, scheme: str, number: str) -> str:
        config = self._config
        return make_pseudonym(config.pseudonym_key, config.pseudonym_version, scheme, number)

    def _commit(self, private: Any, event_id: str, data: dict[str, Any]) -> bytes:
        if not isinstance(private, Mapping) or "commitments" in data:
            raise Malformed("malformed-event", "private is an object, and excludes commitments")
        commitments = {}
        disclosures = []
        for name, value in private.items():
            if type(value) is not str or type(name) is not str:
                raise Malformed("malformed-event", f"private.{name} is a text")
            canonical.check_text(value)
            salt = events.make_salt(self._config.salt_key, event_id, name)
            commitments[name] = events.make_commitment(salt, name, value)
            disclosures.append(
                canonical.format(
                    {
                        "event": event_id,
                        "certificate_type_code": data.get("certificate_type_code"),
                        "certificate_number": data.get("certificate_number"),
                        "field": name,
                        "value": value,
                        "salt": salt.hex(),
                    }
                )
                + b"\n"
            )
        if commitments:
            data["commitments"] = commitments
            data["salt_key_version"] = self._config.salt_key_version
        return b"".join(disclosures)


def unfold(line: Mapping[str, Any]) -> dict[str, Any]:
    """The plain event of a CloudEvents object; what it says of itself (`id`, …) stays."""
    kind = line.get("type")
    data = line.get("data")
    known = line.keys() <= _ENVELOPE | PLAIN.keys()
    if line["specversion"] != "1.0" or type(data) is not dict or not known or type(kind) is not str:
        raise Malformed("malformed-event", "a CloudEvents 1.0 object has type, data, time and id")
    plain = {name: value for name, value in line.items() if name not in _ENVELOPE}
    plain["event"] = kind.removeprefix(events.TYPE_PREFIX).removesuffix(events.TYPE_SUFFIX)
    return plain | data


def _normal(number: str) -> str:
    """What `identity.normalise_number` says, quicker for what is normal already."""
    if (
        _TO_FOLD.search(number) is None
        and number.strip() == number
        and unicodedata.is_normalized("NFC", number)
    ):
        return number
    return identity.normalise_number(number)


def format_day(value: Any, zone: tzinfo, last: bool = False) -> str:
    """A day with the zone's offset on it; `unknown`, `open` and days with an offset stay.

    A `last` day gets the offset in force at its 24:00, any other the one at its 00:00.
    """
    if type(value) is str:
        if value in (events.UNKNOWN, events.OPEN):
            return value
        if len(value) != 10:
            times.parse_day(value)
            return value
        try:
            value = date.fromisoformat(value)
        except ValueError as err:
            raise Malformed("malformed-time", f"{value!r} is no day like 2016-12-01") from err
    if type(value) is not date:
        raise Malformed("malformed-time", f"{value!r} is no day")
    return _with_offset(value, zone, last)


@lru_cache(maxsize=16384)
def _with_offset(day: date, zone: tzinfo, last: bool) -> str:
    try:
        at = day + timedelta(days=1) if last else day
    except OverflowError:
        at = day
    moment = datetime(at.year, at.month, at.day, tzinfo=zone)
    return day.isoformat() + _offset(moment)


def format_datetime(value: datetime, zone: tzinfo) -> str:
    """An aware moment in the zone's own time, to the microsecond; Malformed for a naive one."""
    if value.tzinfo is None:
        raise Malformed("malformed-time", "a moment needs its time zone: datetime.now(UTC)")
    local = value.astimezone(zone)
    seconds = (local.utcoffset() or timedelta()).total_seconds()
    if seconds % 60:  # local mean time of the past: no RFC 3339 offset says it
        local = value.astimezone(UTC)
    text = local.replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + _offset(local)


def _offset(moment: datetime) -> str:
    minutes = round((moment.utcoffset() or timedelta()).total_seconds() / 60)
    hours, minutes = divmod(abs(minutes), 60)
    sign = "-" if (moment.utcoffset() or timedelta()) < -timedelta(seconds=30) else "+"
    return f"{sign}{hours:02d}:{minutes:02d}"


def parse_plain(text: bytes) -> dict[str, Any]:
    """The plain event in one line of NDJSON; Malformed otherwise."""
    try:
        value = canonical.loads(text)
    except (ValueError, RecursionError) as err:
        raise Malformed("not-json", f"not a line of JSON: {str(err)[:120]}") from err
    if type(value) is not dict:
        raise Malformed("malformed-event", "a line is one JSON object")
    return value
