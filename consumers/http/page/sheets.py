"""`GET /sheet`: what the ledger says of a certificate now, on one A4 page with a signed QR code."""

from __future__ import annotations

import time

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from consumers.asking import Asked, ask
from consumers.sheet_page import draw_pdf, draw_svg, lay_out
from ledger.errors import Malformed, Refused
from ledger.postgres.reader import View
from ledger.sheet import make_sheet

from ..database import Database
from ..trusting import TrustFile
from .endpoint import Page, parse_query, to_query
from .rendering import SECURITY
from .sheet_key import SheetKey
from .view import Wording

PDF = "pdf"
_ABOUT_NOW = ("number", "type", "issuer")


class Sheets:
    """Draws sheets of answers about now."""

    def __init__(self, database: Database, trust: TrustFile, key: SheetKey, page: Page) -> None:
        self._database = database
        self._trust = trust
        self._key = key
        self._page = page

    async def get(self, request: Request) -> Response:
        """The sheet, to print or as PDF (`form=pdf`); the answer's page where no sheet says it."""
        given, _ = parse_query(request.scope["query_string"])
        asked = {name: given[name] for name in _ABOUT_NOW if name in given}
        elsewhere = RedirectResponse(f"/?{to_query(asked)}", 303)
        signer = self._key.signer
        if signer is None or not asked.get("number"):
            return elsewhere
        trust = self._trust.load()
        question = Asked(asked["number"], asked.get("type"), asked.get("issuer"))
        is_pdf = request.query_params.get("form") == PDF

        def draw(view: View) -> tuple[str, bytes | str]:
            answer, evidence = ask(view, question, trust, time.time_ns() // 1000)
            if evidence is None or answer.refused is not None:
                raise Refused("evidence-incomplete", "there is nothing to print")
            items = lay_out(make_sheet(evidence, answer, trust, signer), answer, trust)
            title = str(answer.number)
            return title, draw_pdf(items, title) if is_pdf else draw_svg(items, title)

        try:
            title, drawn = await self._database.view(draw)
        except (Malformed, Refused):
            return elsewhere
        if isinstance(drawn, bytes):
            return Response(drawn, 200, SECURITY, "application/pdf")
        asked_language, texts = self._page.language(request, given)
        body = self._page.render(
            "sheet.html",
            "/sheet",
            texts,
            asked,
            title=Wording(texts).foreign(title),
            query=to_query(asked),
            svg=Markup(drawn),
        )
        return self._page.respond(request, asked_language, texts, body)
