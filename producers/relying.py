"""From what an office says about a case to the line that it signs; its own list of its cases.

DIR/departments/<id>/cases.ndjson (0600) says which case number and which certificates stand behind
the hashes of each line: a recall names a hash of both. A case number alone finds its hash again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import canonical, identity, times, topics
from ledger.errors import Malformed, Unavailable
from ledger.event import hide_change, make_event_id
from ledger.reliance import (
    DECISION,
    ENDED,
    NOTICE_TYPE,
    RELIED,
    format_reliance,
    hide_case,
    hide_clerk,
    hold_id,
    reliance_key,
)

from .config import PublisherConfig
from .lines import Line
from .link import Link

CASES = "cases.ndjson"


@dataclass(frozen=True, slots=True)
class ReliedOn:
    """A certificate as the ledger answered for it, and what it stands for: pairs of a requirement's
    code and an evidence type's.
    """

    type_code: str
    issuer: str  # the original one
    number: str
    version: int
    meets: Sequence[tuple[str, str]] = ()

    @property
    def key(self) -> bytes:
        """The certificate's map key."""
        number = identity.normalise_number(self.number)
        return identity.certificate_key(self.type_code, self.issuer, number)


@dataclass(frozen=True, slots=True)
class Said:
    """A line ready for a bundle, and what the office keeps about it."""

    line: Line
    kept: bytes  # a line of cases.ndjson


class RelianceMaker:
    """Makes the lines of one office. `now` gives the moment in microseconds."""

    def __init__(self, config: PublisherConfig, now: Callable[[], int]) -> None:
        self._config = config
        self._now = now

    def relied(
        self,
        service: str,
        case: str,
        certificates: Sequence[ReliedOn],
        *,
        tree_size: int,
        use_for: str,
        clerk: str,
        lasts: str = DECISION,
        catalogue: str | None = None,
        change_id: str | None = None,
    ) -> Said:
        """The line that says on what the office relies; Malformed says what is wrong."""
        listed = sorted(certificates, key=lambda one: one.key)
        data: dict[str, Any] = {
            "certificates": [
                {"map_key": one.key.hex(), "version": one.version}
                | ({"meets": [list(pair) for pair in sorted(set(one.meets))]} if catalogue else {})
                for one in listed
            ],
            "clerk": hide_clerk(self._config.event_id_key, clerk),
            "lasts": lasts,
            "tree_size": tree_size,
            "use_for": use_for,
        }
        if catalogue is not None:
            data["catalogue"] = catalogue
        return self._said(RELIED, service, case, data, change_id, listed)

    def ended(self, service: str, case: str, *, change_id: str | None = None) -> Said:
        """The line that says that the case rests on nothing any more."""
        return self._said(ENDED, service, case, {}, change_id, ())

    def _said(
        self,
        kind: str,
        service: str,
        case: str,
        data: Mapping[str, Any],
        change_id: str | None,
        listed: Sequence[ReliedOn],
    ) -> Said:
        config = self._config
        if not case.strip() or not service:
            raise Malformed("malformed-reliance", "a service and a case number are needed")
        hidden = hide_case(config.event_id_key, service, case)
        time = times.format_moment(self._now())
        name = os.urandom(16).hex()
        if change_id is not None:
            change = hide_change(config.event_id_key, change_id)
            name = make_event_id(config.department, config.source, hidden, kind, change)
        line = format_reliance(
            kind=kind,
            reliance_id=name,
            source=config.source,
            time=time,
            data={**data, "office": config.department, "service": service, "case": hidden},
        )
        kept = {
            "act": name,
            "kind": kind,
            "time": time,
            "case": hidden,
            "business_code": case,
            "service": service,
            **{k: data[k] for k in ("tree_size", "lasts", "use_for") if k in data},
            "certificates": [
                {
                    "certificate_type_code": one.type_code,
                    "issuing_authority_code": one.issuer,
                    "certificate_number": one.number,
                    "certificate_version": one.version,
                }
                for one in listed
            ],
        }
        key = reliance_key(config.department, service, hidden)
        return Said(Line(line, key, name), canonical.format(kept) + b"\n")


def read_recalls(config: PublisherConfig, link: Link) -> Iterator[dict[str, Any]]:
    """The notices of recall to an office that are there now, each id once, with the case number and
    the certificate out of its own list where they stand there.
    """
    known = _holds(_read_cases(config.folder / CASES).values())
    seen: set[str] = set()
    for key, value in link.read_all(topics.RECALLS):
        if key != config.department.encode() or value is None:
            continue
        try:
            notice = json.loads(value)
            data = notice["data"]
            hold = data["hold"]
            is_new = notice["type"] == NOTICE_TYPE and notice["id"] not in seen
        except (ValueError, LookupError, TypeError):
            continue  # no notice: the topic is no proof of anything
        if not is_new:
            continue
        seen.add(notice["id"])
        kept, certificate = known.get(hold, ({}, None))
        yield {
            "id": notice["id"],
            "time": notice["time"],
            "business_code": kept.get("business_code"),
            "service": kept.get("service"),
            "certificate": certificate,
            "change": data["change"],
            "hold": hold,
            "log_index": data["log_index"],
            "position": data["position"],
        }


def _holds(acts: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Mapping[str, Any], Any]]:
    """By what notices name them: the last act that names a certificate in a case, and it."""
    found = {}
    for kept in acts:
        for one in kept.get("certificates", ()):
            number = identity.normalise_number(one["certificate_number"])
            key = identity.certificate_key(
                one["certificate_type_code"], one["issuing_authority_code"], number
            )
            found[hold_id(kept["case"], key)] = (kept, one)
    return found


def read_acts(config: PublisherConfig, service: str, case: str) -> list[dict[str, Any]]:
    """What the office's own list has about a case, in the order in which it was said."""
    hidden = hide_case(config.event_id_key, service, case)
    known = _read_cases(config.folder / CASES)
    return [kept for (about, _), kept in known.items() if about == hidden]


def _read_cases(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise Unavailable("spool-failed", f"{path}: {err.strerror or err}") from err
    found = {}
    for line in lines:
        try:
            value = json.loads(line)
            found[value["case"], value["act"]] = value
        except (ValueError, LookupError, TypeError):
            continue  # cut off where the machine stopped
    return found
