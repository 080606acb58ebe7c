"""What is bound to a holder and how it stands, for answers that need no evidence of their own.

Which certificates there are is read from the lines of the binding acts, and held against the link
of the holder. How each stands its row says (`staterow.open_row`), or where that does not decide its
events, each line read once, held against the link of the certificate.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from .. import deciders, identity, lifecycle, staterow
from ..doubt import Doubts, is_clear, settle
from ..errors import LedgerError, ProofError
from ..evidence import CertificateId
from ..identity import HEAD
from ..lifecycle import Finding
from .history_reading import Logged, read_events
from .map_reading import acts_and_link
from .statements import sql


def read_held(
    cursor: Cursor,
    pseudonyms: Sequence[str],
    types: Sequence[str],
    size: int,
    at: int,
    doubts: Doubts,
) -> list[tuple[CertificateId, Finding]]:
    """The certificates of some types that are bound to a holder in the log of `size` entries, and
    how each stood at the instant `at`; `doubts` are the registry's. ProofError
    `stored-bytes-damaged` where lines and rows do not give the link of the holder or of a
    certificate.
    """
    holders = {key: acts_and_link(cursor, key) for key in map(identity.holder_key, pseudonyms)}
    places = {staterow.place(*act[:2]) for acts, _ in holders.values() for act in acts}
    logged = dict(read_events(cursor, places))
    limit = staterow.place(size, 0)
    bound: dict[bytes, int] = {}
    names: dict[bytes, CertificateId] = {}
    for holder, (acts, last) in holders.items():
        link = holder
        for index, position, is_bound in acts:
            place = staterow.place(index, position)
            event = logged[place].event
            link = lifecycle.holder_link(link, is_bound, event.key, index, position)
            if place < limit and event.type_code in types:
                bound[event.key] = bound.get(event.key, 0) + (1 if is_bound else -1)
                names[event.key] = CertificateId(event.type_code, event.issuer, event.number)
        if link != last:
            raise ProofError("stored-bytes-damaged", f"the acts of holder {holder.hex()}")
    held = sorted(key for key, count in bound.items() if count > 0)
    found = _findings(cursor, held, limit, at, logged, doubts)
    return [(names[key], found[key]) for key in held]


def _findings(
    cursor: Cursor,
    keys: Sequence[bytes],
    limit: int,
    at: int,
    logged: dict[int, Logged],
    doubts: Doubts,
) -> dict[bytes, Finding]:
    """How certificates stood at an instant by their events before the place `limit`: by their rows
    where these decide, else by their histories, with the events given that were read already.
    """
    cursor.execute(
        sql("read_certificates"),
        {"heads": b"".join(key[:HEAD] for key in keys), "count": len(keys)},
    )
    rows = {bytes(key): (bytes(state), bytes(history)) for key, state, history in cursor.fetchall()}
    found = {}
    histories: dict[bytes, list[int]] = {}
    try:
        for key in keys:
            row = staterow.open_row(key, *rows[key])
            places = staterow.places(rows[key][1])
            is_sure = places[-1] < limit and is_clear(rows[key][1], doubts)
            kept = row.kept if is_sure else ()
            finding = deciders.answer(kept, row.standing, at, None)
            if finding is None:
                histories[key] = places
            else:
                found[key] = finding
        more = {place for places in histories.values() for place in places} - logged.keys()
        logged = logged | dict(read_events(cursor, more))
        for key, places in histories.items():
            events = [(place, logged[place]) for place in places]
            steps = staterow.steps((p, e.event.line_hash, e.transition()) for p, e in events)
            if staterow.link_over(key, steps) != staterow.link_in(rows[key][0]):
                raise ProofError("stored-bytes-damaged", f"the history of certificate {key.hex()}")
            told = [
                (s.index, s.transition)
                for s, place in zip(steps, places, strict=True)
                if place < limit
            ]
            finding = lifecycle.answer([t for _, t in told], at)
            found[key] = settle(finding, told, len(told), doubts)
    except ProofError:
        raise
    except (LedgerError, LookupError) as err:
        raise ProofError("stored-bytes-damaged", "the history of a certificate") from err
    return found
