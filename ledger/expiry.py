"""Notices that a certificate ends: 30, 7 and 3 days before, and when it does.

Which are due follows from the history alone: the standing gives version and last day, the entry
of the event that last could set them says since when the ledger knows. FORMATS.md section 16.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from . import canonical, times
from .event import CORRECTED, ISSUED, OPEN, UNKNOWN
from .evidence import CertificateId
from .lifecycle import (
    SUSPENDED_STATE,
    TRANSFERRED,
    VALID,
    VERSION_ACTS,
    Standing,
    Transition,
    fold,
)

STEPS = (30, 7, 3, 0)  # days before the end
_ID_TAG = b"certledger expiry v1\n"
_LASTING = frozenset({VALID, SUSPENDED_STATE, TRANSFERRED})


@dataclass(frozen=True, slots=True)
class End:
    """How a certificate's latest version ends, as long as nothing else has ended it."""

    version: int
    valid_until: str
    responsible: str
    known_by: int  # number of the transition, in the history, since which this is known

    @property
    def instant(self) -> int:
        """The instant at which the last day is over."""
        return times.day_end(self.valid_until)

    def at(self, step: int) -> int:
        """The instant of the step that lies so many days before the end."""
        return self.instant - step * times.DAY


def find_end(history: Sequence[Transition]) -> End | None:
    """How the latest version ends by its date; None for an open or unknown end, and for what is
    revoked, voided or stated as expired.
    """
    if len(history) == 1 and history[0].kind == ISSUED:  # most are: nothing to fold
        (t,) = history
        until = t.valid_until
        return None if until in (None, OPEN, UNKNOWN) else End(t.version, str(until), t.by, 0)
    known_by = max(n for n, t in enumerate(history) if t.kind in VERSION_ACTS | {CORRECTED})
    return end_of(fold(history), known_by)


def end_of(standing: Standing, known_by: int) -> End | None:
    """The same out of the standing that a history gives, known since its transition `known_by`."""
    until = standing.valid_until
    if standing.state not in _LASTING or until is None or until in (OPEN, UNKNOWN):
        return None
    return End(standing.version, until, standing.responsible, known_by)


def open_steps(end: End, known_at: int, announced: Iterable[int]) -> list[int]:
    """The steps still to come or due, in order of time.

    A step whose instant had passed when the ledger learned of this end is nobody's news: a
    register of long ended certificates says nothing.
    """
    done = set(announced)
    return [step for step in STEPS if step not in done and end.at(step) >= known_at]


def notice_id(key: bytes, version: int, step: int) -> str:
    """The one id of a step of a version of the certificate with this map key."""
    said = key + version.to_bytes(8, "big") + bytes([step])
    return sha256(_ID_TAG + said).hexdigest()[:32]


def format_notice(origin: str, certificate: CertificateId, end: End, step: int) -> bytes:
    """The notice as canonical JSON: CloudEvents 1.0, structured."""
    kind = "expiring" if step else "ended"
    return canonical.format(
        {
            "data": {
                "certificate_number": certificate.number,
                "certificate_type_code": certificate.type_code,
                "certificate_version": end.version,
                "days_before": step,
                "issuing_authority_code": certificate.issuer,
                "responsible_authority_code": end.responsible,
                "valid_until": end.valid_until,
            },
            "datacontenttype": "application/json",
            "id": notice_id(certificate.key, end.version, step),
            "source": origin,
            "specversion": "1.0",
            "subject": certificate.key.hex(),
            "time": times.format_moment(end.at(step)),
            "type": f"certledger.certificate.{kind}.v1",
        }
    )
