"""JSON by faster libraries, for those who handle every event.

`tests/property/test_fast_events.py` holds it against `ledger.canonical` and
`lifecycle.parse_transition`, which decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from . import times
from .errors import Malformed
from .event import CORRECTED, CORRECTIONS, FIELDS, OPEN, REVOCATION_KINDS, REVOKED, UNKNOWN
from .lifecycle import Transition

load = orjson.loads


def dump(value: Any) -> bytes:
    """What `ledger.canonical` prints of a value of its profile."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


class _Transition(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The members of a transition, in the order of `Transition`."""

    event: str
    id: str
    by: str
    key: str
    time: str
    version: int
    valid_from: str | None = None
    valid_until: str | None = None
    reason: str | None = None
    revocation: str | None = None
    corrects: str | None = None
    correction: str | None = None
    transfer_to: str | None = None


_NONE = (None,)
_decode = msgspec.json.Decoder(_Transition).decode_lines


def parse_transitions(said: Sequence[bytes]) -> list[Transition]:
    """As `lifecycle.parse_transition` of each, as admission wrote them; Malformed where any is not
    plainly a transition.
    """
    try:
        found = [
            tuple.__new__(Transition, msgspec.structs.astuple(one))
            for one in _decode(b"\n".join(said))
        ]
    except (msgspec.MsgspecError, ValueError) as err:
        raise Malformed("malformed-evidence", str(err)) from err
    days = {t.valid_from for t in found} | {t.valid_until for t in found}
    for day in days - {None, UNKNOWN, OPEN}:
        times.parse_day(str(day))
    times.check_moments(t.time for t in found)
    odd = len(found) != len(said) or any(
        t.kind not in FIELDS
        or t.version < 0
        or t.valid_from == OPEN
        or t.revocation not in (REVOCATION_KINDS if t.kind == REVOKED else _NONE)
        or t.correction not in (CORRECTIONS if t.kind == CORRECTED else _NONE)
        or (t.kind == CORRECTED) != (t.corrects is not None)
        for t in found
    )
    if odd:
        raise Malformed("malformed-evidence", "not transitions as admission writes them")
    return found
