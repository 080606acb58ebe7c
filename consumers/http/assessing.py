"""`POST /v1/assess`: what a holder need not bring to a service.

A JSON object: `service`, `holder` (a list of pseudonyms), and if wanted `catalogue`
(`DEPARTMENT/CODE`), `at`, `proven`. A pseudonym is no parameter of a URL: those stand in logs. The
answer is `Assessed.members`; with `proven` it rests on evidence checked here, else on the tables,
and whoever wants to check asks `/v1/evidence` for what is named.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from consumers.assessing import (
    Assessed,
    Catalogues,
    assess_proven,
    assess_stored,
    check_pseudonyms,
)
from ledger import canonical
from ledger.errors import Malformed
from ledger.postgres.reader import View
from ledger.question import parse_when

from .database import Database
from .trusting import TrustFile

MAX_BODY = 64 * 1024
MAX_PSEUDONYMS = 64
_MEMBERS = {"service", "holder", "catalogue", "at", "proven"}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class AssessEndpoint:
    """Assesses out of the database."""

    def __init__(self, database: Database, trust: TrustFile) -> None:
        self._database = database
        self._trust = trust
        self._catalogues = Catalogues()

    async def post(self, request: Request) -> Response:
        """The assessment, or a problem document."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Malformed("too-large", f"at most {MAX_BODY} bytes are taken")
        asked = parse_body(bytes(body))
        now = time.time_ns() // 1000
        done = await self._database.view(lambda view: self._assess(view, asked, now))
        return JSONResponse(done.members(), headers=_HEADERS)

    def _assess(self, view: View, asked: dict[str, Any], now: int) -> Assessed:
        service, holder = asked["service"], asked["holder"]
        at = None if "at" not in asked else parse_when(asked["at"], "UTC")
        catalogue = self._catalogues.find(view, service, asked.get("catalogue"))
        if asked.get("proven"):
            return assess_proven(view, catalogue, service, holder, self._trust.load(), now, at)
        return assess_stored(view, catalogue, service, holder, now if at is None else at)


def parse_body(body: bytes) -> dict[str, Any]:
    """The question in a request's body; Malformed `usage` says what is wrong with it."""
    try:
        value = canonical.loads(body)
    except (ValueError, RecursionError) as err:
        raise Malformed("usage", "the body is no JSON object") from err
    if type(value) is not dict or not value.keys() <= _MEMBERS:
        raise Malformed("usage", f"the members are {', '.join(sorted(_MEMBERS))}")
    holder = value.get("holder")
    if type(holder) is not list or not 1 <= len(holder) <= MAX_PSEUDONYMS:
        raise Malformed("usage", f"holder is a list of 1 to {MAX_PSEUDONYMS} pseudonyms")
    if any(type(one) is not str for one in holder):
        raise Malformed("usage", "a pseudonym is VERSION:HEX")
    check_pseudonyms(holder)
    for name in ("service", "catalogue", "at"):
        if type(value.get(name, "" if name != "service" else None)) is not str:
            raise Malformed("usage", f"{name} is a string")
    if type(value.get("proven", False)) is not bool:
        raise Malformed("usage", "proven is true or false")
    return value
