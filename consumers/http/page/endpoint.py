"""`GET /`: the box and, when something is asked, the answer, as HTML that needs no script."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from consumers.asking import Asked, ask
from ledger import identity
from ledger.errors import CODES, LedgerError, Malformed
from ledger.lifecycle import effective
from ledger.postgres.reader import View
from ledger.question import is_bare_date, parse_when
from ledger.sheet import is_said
from ledger.trust import Trust
from ledger.verdict import Answer, undecided

from ..database import Database
from ..problems import log_error
from ..tiles import FOR_EVER, accepts_gzip
from ..trusting import TrustFile
from .assets import Assets
from .rendering import SECURITY, render
from .sheet_key import SheetKey
from .texts import LANGUAGES, Texts, choose_language, load_texts
from .view import BLANK, Wording, answer_view

FIELDS = ("number", "type", "issuer", "at", "known_at")
PAGES = (
    ("/", "nav.check"),
    ("/many", "nav.many"),
    ("/service", "nav.service"),
    ("/savings", "nav.savings"),
)
COOKIE = "certledger_language"
_YEAR = 365 * 86_400
_FILE_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Told:
    """What the store says to a question."""

    answer: Answer
    events: list[dict[str, Any]]
    names: dict[str, Any]  # of types and departments, by record name
    has_evidence: bool


class Page:
    """Answers people. `origin` of the ledger and trust come from the trust file."""

    def __init__(
        self, database: Database, trust: TrustFile, assets: Assets, sheet_key: SheetKey
    ) -> None:
        self._database = database
        self._sheet_key = sheet_key
        self._trust = trust
        self._assets = assets

    async def get(self, request: Request) -> Response:
        """The start page, or the answer to the question in the query."""
        given, is_understood = parse_query(request.scope["query_string"])
        asked_language, texts = self.language(request, given)
        wording = Wording(texts)
        errors = [] if is_understood else [("number", wording.say("error.usage"))]
        status, view = 200, None
        if "number" in given or errors:
            errors = errors or validate(given, wording)
            if not errors:
                status, view, errors = await self._answer(given, texts, wording)
            if errors:
                status = 400
        body = self._page(texts, given, errors, view)
        return self.respond(request, asked_language, texts, body, status)

    async def trust(self, _: Request) -> Response:
        """The trust file that answers are checked against."""
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return Response(self._trust.data(), 200, headers, "application/json")

    async def _answer(
        self, given: Mapping[str, str], texts: Texts, wording: Wording
    ) -> tuple[int, dict[str, Any] | None, list[tuple[str, str]]]:
        """(HTTP status, what to show, errors in the form) for a question in good form."""
        now = time.time_ns() // 1000
        asked = Asked(
            given["number"],
            given.get("type"),
            given.get("issuer"),
            given.get("at"),
            given.get("known_at"),
        )
        status, origin = 200, ""
        try:
            trust = self._trust.load()
            origin = trust.origin
            told = await self._database.view(lambda view: tell(view, asked, trust, now))
        except Malformed:
            number = wording.foreign(identity.normalise_number(given["number"]))
            return 400, None, [("number", wording.say("error.range", number=number))]
        except LedgerError as err:
            log_error(err, "/")
            status = CODES[err.code].http
            told = Told(undecided(err.code, "", number=given["number"]), [], {}, False)
        members = told.answer.members()
        moments = {
            name: members[name] for name in ("at", "known_at") if name in given and members[name]
        }
        view = answer_view(
            members,
            texts,
            moments,
            told.names,
            told.events,
            wording.say("trust.server", origin=wording.foreign(origin)),
        )
        view["evidence"] = told.has_evidence
        has_sheet = is_said(told.answer) and not moments
        view["sheet"] = has_sheet and self._sheet_key.signer is not None
        view["file"] = f"{_FILE_NAME.sub('-', given['number'])[:60]}.evidence.json"
        return status, view, []

    async def many(self, request: Request) -> Response:
        """Many certificates at once; the browser asks for them."""
        given, _ = parse_query(request.scope["query_string"])
        asked_language, texts = self.language(request, given)
        body = self.render("many.html", "/many", texts, {})
        return self.respond(request, asked_language, texts, body)

    def language(self, request: Request, given: dict[str, str]) -> tuple[str | None, Texts]:
        """The language that is asked for here, and the texts of the one that is answered in."""
        asked = given.pop("lang", None)
        accepted = request.headers.get("accept-language", "")
        return asked, load_texts(choose_language(asked, request.cookies.get(COOKIE), accepted))

    def respond(
        self,
        request: Request,
        asked_language: str | None,
        texts: Texts,
        body: str,
        status: int = 200,
    ) -> Response:
        """The page, packed where the browser takes that; a language chosen here is remembered."""
        data, headers = body.encode(), dict(SECURITY)
        if accepts_gzip(dict(request.scope["headers"])):
            data = gzip.compress(data, compresslevel=5, mtime=0)
            headers["Content-Encoding"] = "gzip"
        response = Response(data, status, headers, "text/html; charset=utf-8")
        if asked_language in LANGUAGES:
            response.set_cookie(
                COOKIE, texts.language, _YEAR, path="/", httponly=True, samesite="lax"
            )
        return response

    def _page(
        self,
        texts: Texts,
        given: Mapping[str, str],
        errors: list[tuple[str, str]],
        view: dict[str, Any] | None,
    ) -> str:
        wrong = dict(errors)
        asked = {name: given[name] for name in FIELDS if name in given}
        return self.render(
            "page.html",
            "/",
            texts,
            asked,
            given={name: given.get(name, "") for name in FIELDS},
            query=to_query(asked),
            errors=errors,
            wrong=wrong,
            kinds={
                name: "date"
                if not given.get(name) or (is_bare_date(given[name]) and name not in wrong)
                else "text"
                for name in ("at", "known_at")
            },
            view=view,
            blank=BLANK,
        )

    def render(
        self, template: str, path: str, texts: Texts, asked: Mapping[str, str], **values: Any
    ) -> str:
        """A page at `path`, where the question `asked` stays when the language is changed."""
        try:
            origin = self._trust.load().origin
        except LedgerError:
            origin = "?"
        return render(
            template,
            texts,
            self._assets,
            path=path,
            pages=PAGES,
            languages=[
                (name, load_texts(name).text("language"), urlencode({**asked, "lang": name}))
                for name in LANGUAGES
            ],
            origin=Wording(texts).foreign(origin),
            **values,
        )


class AssetEndpoint:
    """The page's files. Their address holds the hash of all of them: whoever has one keeps it."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    async def get(self, request: Request) -> Response:
        """A file; 404 under the hash of another version."""
        asset = self._assets.files.get(request.path_params["path"])
        if asset is None or request.path_params["version"] != self._assets.version:
            raise HTTPException(404, "no such file")
        headers = {
            "Cache-Control": FOR_EVER,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if not accepts_gzip(dict(request.scope["headers"])):
            return Response(asset.data, 200, headers, asset.media_type)
        headers["Content-Encoding"] = "gzip"
        return Response(asset.compressed, 200, headers, asset.media_type)


def parse_query(query: bytes) -> tuple[dict[str, str], bool]:
    """The parameters that say something, and whether all of them were understood."""
    try:
        pairs = parse_qsl(query.decode("ascii"), False, False, errors="strict")
    except ValueError:
        return {}, False
    given = {name: value.strip() for name, value in pairs if name in (*FIELDS, "lang")}
    # an empty box is a question without words, not no question
    if "number" not in given and (query.startswith(b"number=") or b"&number=" in query):
        given["number"] = ""
    return given, len(pairs) == len({name for name, _ in pairs} & {*FIELDS, "lang"})


def to_query(asked: Mapping[str, str]) -> str:
    """The question as a query."""
    return urlencode({name: asked[name] for name in FIELDS if name in asked})


def validate(given: Mapping[str, str], wording: Wording) -> list[tuple[str, str]]:
    """(field, sentence) of what cannot be asked."""
    errors = []
    number = given.get("number", "")
    if number.lstrip().startswith("{"):
        errors.append(("number", wording.say("error.evidence")))
    elif not number:
        errors.append(("number", wording.say("error.empty")))
    else:
        normalised = identity.normalise_number(number)
        try:
            identity.check_number(normalised)
        except Malformed:
            is_long = len(normalised.encode(errors="replace")) > identity.MAX_NUMBER
            errors.append(("number", wording.say("error.too-long" if is_long else "error.control")))
    for field, check in (("type", identity.check_type), ("issuer", identity.check_department)):
        if field in given:
            try:
                check(given[field])
            except Malformed:
                text = wording.foreign(given[field])
                errors.append((field, wording.say(f"error.{field}", text=text)))
    for field in ("at", "known_at"):
        if field in given:
            try:
                parse_when(given[field], "UTC")
            except Malformed:
                text = wording.foreign(given[field])
                errors.append((field, wording.say("error.time", text=text)))
    return errors


def tell(view: View, asked: Asked, trust: Trust, now: int) -> Told:
    """The answer, the history, and the names of everything that either speaks of."""
    answer, evidence = ask(view, asked, trust, now)
    events: list[dict[str, Any]] = []
    if evidence is not None and answer.refused is None and evidence.history:
        history = [step.transition for step in evidence.history]
        standing = {t.id: t for t in effective(history)}
        told = view.told_history(evidence.certificate)
        for item in told:
            t = item.step.transition
            stands = standing.get(t.id)
            events.append(
                {
                    **t.members(),
                    "learned_at": item.learned_at,
                    "voided": t.corrects is None and stands is None,
                    "restated": stands is not None and stands != t,
                }
            )
    wanted = {f"department/{event['by']}" for event in events}
    wanted |= {f"department/{code}" for code in answer.unheard}
    for match in answer.matches:
        wanted |= {f"type/{match['type']}", f"department/{match['issuer']}"}
    records = view.records()
    names = {}
    for name in wanted:
        value = records.value(name)
        if value is not None:
            names[name] = value["names"]
    return Told(answer, events, names, evidence is not None and answer.refused is None)
