"""What is bound to a holder and how it stands, for answers that need no evidence of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from psycopg2.extensions import cursor as Cursor

from .. import fast_json, identity, lifecycle
from ..errors import LedgerError, ProofError
from ..evidence import CertificateId
from ..lifecycle import Finding
from .statements import sql


def read_held(
    cursor: Cursor,
    pseudonyms: Sequence[str],
    types: Sequence[str],
    size: int,
    at: int,
) -> list[tuple[CertificateId, Finding]]:
    """The certificates of some types that are bound to a holder in the log of `size` entries, and
    how each stood at the instant `at`. ProofError where a stored history is damaged.
    """
    keys = [identity.holder_key(pseudonym) for pseudonym in pseudonyms]
    given = {"keys": b"".join(keys), "count": len(keys), "types": list(types), "size": size}
    cursor.execute(sql("read_held"), given)
    found = []
    for name, rows in groupby(cursor.fetchall(), key=lambda row: row[:3]):
        certificate = CertificateId(*name)
        try:
            history = fast_json.parse_transitions([bytes(row[3]) for row in rows])
            found.append((certificate, lifecycle.answer(history, at)))
        except (LedgerError, ValueError) as err:
            raise ProofError("stored-bytes-damaged", f"history of {certificate.number!r}") from err
    return found
