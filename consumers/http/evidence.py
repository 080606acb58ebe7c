"""`GET /v1/evidence`: the evidence for a question, as `certledger evidence` writes it.

Whoever asks checks it: what is answered here needs no trust in this server. Parameters, each at
most once: `number`, `type`, `issuer`, `at`, `known_at`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from ledger.errors import Malformed, Refused
from ledger.evidence import CertificateId, format_evidence
from ledger.postgres.reader import View
from ledger.question import NOW, Question, parse_when

from .database import Database

NAMES = ("number", "type", "issuer", "at", "known_at")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class EvidenceEndpoint:
    """Answers questions out of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, request: Request) -> Response:
        """The evidence file, or a problem document."""
        asked = parameters(request.scope["query_string"])
        now = time.time_ns() // 1000
        data = await self._database.view(lambda view: make_evidence(view, asked, now))
        return Response(data, 200, _HEADERS, "application/json")


def parameters(query: bytes) -> dict[str, str]:
    """The parameters of a query by name; Malformed `usage` for any other or repeated one."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), True, True, errors="strict", max_num_fields=len(NAMES)
        )
    except ValueError as err:
        raise Malformed("usage", "the query is not NAME=VALUE&…, percent-encoded UTF-8") from err
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= set(NAMES) or not found.get("number"):
        raise Malformed("usage", f"the parameters are number and, once each, {', '.join(NAMES)}")
    return found


def make_evidence(view: View, asked: Mapping[str, str], now: int) -> bytes:
    """The evidence file's bytes; Refused `ambiguous` where several certificates can be meant."""
    looked = view.find(asked["number"], asked.get("type"), asked.get("issuer"))
    meant = looked.matches or looked.absent
    if len(meant) != 1:
        raise Refused("ambiguous", f"{len(meant)} certificates can be meant: give type and issuer")
    certificate: CertificateId = meant[0]
    zone = view.zone(certificate.issuer)

    def when(name: str) -> int | None:
        text = asked.get(name)
        return None if text is None or text == NOW else parse_when(text, zone)

    question = Question(now, when("at"), when("known_at"), looked.version)
    return format_evidence(view.evidence(certificate, question)) + b"\n"
