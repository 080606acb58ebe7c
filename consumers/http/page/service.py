"""`/service`: what a holder need not bring to a service, in one look; `/savings`: what that saved.

The pseudonym is sent in a form's body and never stands in an address, which browsers and servers
write down.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from consumers.assessing import Assessed, Catalogues, assess_proven
from consumers.savings_commands import named_catalogues, parse
from consumers.savings_plot import plot
from ledger.catalogue import Catalogue
from ledger.errors import CODES, LedgerError, Malformed
from ledger.identity import parse_pseudonym
from ledger.postgres.reader import View
from ledger.savings import DEFINITIONS, Row, by_month, count
from ledger.waiver import COMMITMENT, NEEDED, SATISFIED, Judged

from ..database import Database
from ..problems import log_error
from ..trusting import TrustFile
from .endpoint import Page
from .texts import Texts
from .view import Wording

SERVICE_PATH, SAVINGS_PATH, PLOT_PATH = "/service", "/savings", "/savings.svg"
MAX_BODY = 16 * 1024
MAX_PSEUDONYMS = 64
MAX_OFFERED = 2000  # services to choose from; of the others the code is typed
SAVINGS_SECONDS = 60.0  # how old the numbers may be: counting them reads every receipt
_RESULTS = {  # icon and text
    SATISFIED: ("passed", "waive.satisfied"),
    COMMITMENT: ("not-checked", "waive.commitment"),
    NEEDED: ("failed", "waive.needed"),
}
_MENDS = {
    "renew": "waive.renew",
    "reinstate": "waive.reinstate",
    "wait": "waive.wait",
    "take-over": "waive.take-over",
    "apply-anew": "waive.apply-anew",
    "ask-issuer": "waive.ask-issuer",
    "bring-from-issuer": "waive.bring-from-issuer",
}


class ServicePage:
    """Two pages in the frame of `Page`."""

    def __init__(self, database: Database, trust: TrustFile, page: Page) -> None:
        self._database = database
        self._trust = trust
        self._page = page
        self._catalogues = Catalogues()
        self._savings: tuple[float, list[Row]] = (-1e9, [])

    async def get(self, request: Request) -> Response:
        """The form."""
        given = dict(request.query_params.items())
        asked, texts = self._page.language(request, given)
        code = given.get("service", "")[:200]
        return await self._respond(
            request, asked, texts, {"service": code, "holder": ""}, [], None, 200
        )

    async def post(self, request: Request) -> Response:
        """What is to be brought, or what is wrong with the question."""
        asked, texts = self._page.language(request, dict(request.query_params.items()))
        wording = Wording(texts)
        given, errors, view, status = {"service": "", "holder": ""}, [], None, 200
        try:
            given |= await _form(request)
        except Malformed:
            errors.append(("service", wording.say("error.usage")))
        holder = given["holder"].split()
        if not errors:
            errors = _validate(given["service"], holder, wording)
        if errors:
            status = 400
        else:
            now = time.time_ns() // 1000
            try:
                trust = self._trust.load()
                done = await self._database.view(
                    lambda view: self._assess(view, given["service"], holder, trust, now)
                )
                view = waiver_view(done, texts)
            except LedgerError as err:
                log_error(err, SERVICE_PATH)
                status = CODES[err.code].http
                known = {
                    "unknown-service": "waive.error.service",
                    "ambiguous": "waive.error.ambiguous",
                }
                errors = [("service", wording.say(known.get(err.code, "waive.error.hindered")))]
        return await self._respond(request, asked, texts, given, errors, view, status)

    def _assess(self, view: View, code: str, holder: list[str], trust: Any, now: int) -> Assessed:
        catalogue = self._catalogues.find(view, code, None)
        return assess_proven(view, catalogue, code, holder, trust, now)

    async def _respond(
        self,
        request: Request,
        asked: str | None,
        texts: Texts,
        given: Mapping[str, str],
        errors: list[tuple[str, str]],
        view: dict[str, Any] | None,
        status: int,
    ) -> Response:
        try:
            offered = await self._database.view(lambda v: self._offered(v, texts))
        except LedgerError as err:
            log_error(err, SERVICE_PATH)
            offered = []
        body = self._page.render(
            "service.html",
            SERVICE_PATH,
            texts,
            {"service": given["service"]} if given["service"] else {},
            given=given,
            errors=errors,
            wrong=dict(errors),
            offered=offered,
            view=view,
        )
        return self._page.respond(request, asked, texts, body, status)

    def _offered(self, view: View, texts: Texts) -> list[tuple[str, str]]:
        """(code, name) of the services of all catalogues, as many as a browser takes well."""
        wording = Wording(texts)
        found: dict[str, str] = {}
        for name in sorted(view.catalogues()):
            try:
                catalogue: Catalogue = self._catalogues.get(view, name)
            except LedgerError as err:
                log_error(err, SERVICE_PATH)
                continue
            for service in catalogue.services.values():
                found.setdefault(service.code, _name(service.names, wording))
        return sorted(found.items(), key=lambda item: item[1])[:MAX_OFFERED]

    # --- savings ---

    async def savings(self, request: Request) -> Response:
        """The numbers of each month, drawn and as a table."""
        asked, texts = self._page.language(request, dict(request.query_params.items()))
        months = by_month(await self._count())
        body = self._page.render(
            "savings.html",
            SAVINGS_PATH,
            texts,
            {},
            months=list(months.items()),
            counted=[
                (name, text[0 if texts.language == "en" else 1])
                for name, text in DEFINITIONS.items()
            ],
            plot=PLOT_PATH,
        )
        return self._page.respond(request, asked, texts, body)

    async def plot(self, _: Request) -> Response:
        """The picture."""
        drawn = plot(by_month(await self._count()))
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(drawn, 200, headers, "image/svg+xml")

    async def _count(self) -> list[Row]:
        at, rows = self._savings
        if time.monotonic() - at > SAVINGS_SECONDS:
            rows = await self._database.view(_read_savings)
            self._savings = (time.monotonic(), rows)
        return rows


def _read_savings(view: View) -> list[Row]:
    lines = view.reliance_lines()
    return count(parse(lines), named_catalogues(view, lines))


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; Malformed `usage` for anything else."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Malformed("usage", f"at most {MAX_BODY} bytes are taken")
    try:
        pairs = parse_qsl(body.decode("ascii"), False, False, errors="strict", max_num_fields=8)
    except ValueError as err:
        raise Malformed("usage", "this is no form") from err
    return {name: text.strip() for name, text in pairs if name in ("service", "holder")}


def _validate(code: str, holder: list[str], wording: Wording) -> list[tuple[str, str]]:
    errors = []
    if not code:
        errors.append(("service", wording.say("waive.error.empty")))
    try:
        if not 1 <= len(holder) <= MAX_PSEUDONYMS:
            raise Malformed("usage", "no pseudonym")
        for pseudonym in holder:
            parse_pseudonym(pseudonym)
    except Malformed:
        errors.append(("holder", wording.say("waive.error.holder")))
    return errors


def waiver_view(done: Assessed, texts: Texts) -> dict[str, Any]:
    """An assessment as the page shows it, in one language."""
    wording = Wording(texts)
    made = done.assessment
    kinds, offices = made.catalogue.evidence_types, made.catalogue.organisations
    if not made.service.stated:
        tone, verdict = "cannot-decide", wording.say("waive.unstated")
    elif made.bring:
        tone, verdict = "cannot-decide", wording.count("waive.bring-count", len(made.bring))
    else:
        tone, verdict = "valid", wording.say("waive.nothing")
    return {
        "tone": tone,
        "verdict": verdict,
        "service": _name(made.service.names, wording),
        "bring": [
            {
                "name": _name(kinds[code].names, wording),
                "from": [_name(offices[one].names, wording) for one in kinds[code].issuers or ()],
            }
            for code in made.bring
        ],
        "requirements": [_requirement(one, kinds, wording) for one in made.judged],
        "size": f"{done.tree_size:,}",
        "is_smallest": made.is_smallest,
    }


def _requirement(one: Judged, kinds: Mapping[str, Any], wording: Wording) -> dict[str, Any]:
    icon, key = _RESULTS[one.result]
    details = [
        wording.say(
            "waive.by",
            number=wording.foreign(met.held.certificate.number),
            kind=_name(kinds[met.evidence_type].names, wording),
            version=str(met.held.version),
            office=wording.foreign(met.held.certificate.issuer),
        )
        for met in one.met
    ]
    for bad in one.unfit:
        reason = (
            wording.say("waive.wrong-issuer")
            if bad.reason == "wrong-issuer"
            else wording.texts.optional(f"reason.{bad.reason}") or bad.reason
        )
        details.append(
            wording.say(
                "waive.unfit",
                number=wording.foreign(bad.held.certificate.number),
                reason=reason,
                mend=wording.say(_MENDS[bad.mend]),
                office=wording.foreign(bad.office),
            )
        )
    return {
        "name": _name(one.requirement.names, wording),
        "icon": icon,
        "word": wording.say(key),
        "details": details,
    }


def _name(names: Mapping[str, str], wording: Wording) -> str:
    chosen = names.get(wording.texts.language) or next(iter(names.values()))
    return wording.foreign(chosen)
