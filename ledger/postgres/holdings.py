"""What is bound to a holder and how it stands, for answers that need no evidence of their own."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from .. import identity, lifecycle, staterow
from ..errors import LedgerError, ProofError
from ..evidence import CertificateId
from ..identity import HEAD
from ..lifecycle import Finding
from .history_reading import read_events
from .map_reading import acts_of
from .statements import sql


def read_held(
    cursor: Cursor, pseudonyms: Sequence[str], types: Sequence[str], size: int, at: int
) -> list[tuple[CertificateId, Finding]]:
    """The certificates of some types that are bound to a holder in the log of `size` entries, and
    how each stood at the instant `at`. ProofError where a stored history is damaged.
    """
    bound: dict[bytes, int] = {}
    for pseudonym in pseudonyms:
        acts = [act for act in acts_of(cursor, identity.holder_key(pseudonym)) if act[0] < size]
        places = {staterow.place(index, position): is_bound for index, position, is_bound in acts}
        for place, logged in read_events(cursor, places):
            key = logged.event.key
            bound[key] = bound.get(key, 0) + (1 if places[place] else -1)
    held = sorted(key for key, count in bound.items() if count > 0)
    heads = b"".join(key[:HEAD] for key in held)
    cursor.execute(sql("read_certificates"), {"heads": heads, "count": len(held)})
    limit = staterow.place(size, 0)
    histories = {
        bytes(key): [place for place in staterow.places(bytes(history)) if place < limit]
        for key, _, history in cursor.fetchall()
    }
    events = dict(read_events(cursor, {p for places in histories.values() for p in places}))
    found = []
    for key in held:
        try:
            first = events[histories[key][0]].event
            if first.type_code in types:
                name = CertificateId(first.type_code, first.issuer, first.number)
                said = [events[place].transition() for place in histories[key]]
                found.append((name, lifecycle.answer(lifecycle.retrace(said), at)))
        except (LedgerError, LookupError) as err:
            raise ProofError(
                "stored-bytes-damaged", f"the history of certificate {key.hex()}"
            ) from err
    return found
