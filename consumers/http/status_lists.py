"""Status lists as cacheable files: `<prefix>/<N>` by Accept, `<prefix>/<N>/<purpose>`, the keys.

Only the bytes of the path as sent count. Anybody may read: browsers of other origins too, which
the IETF draft asks for; no credentials are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from psycopg2.extensions import cursor as Cursor
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ledger import statuslist
from ledger.errors import CODES, LedgerError
from ledger.note import parse_vkey
from ledger.postgres.following import read_list, read_lists

from .database import Database
from .problems import log_error, problem

KEYS = "application/jwk-set+json"
_TYPES = {  # in the order of preference; the credential at a list's own address is `revocation`
    statuslist.JWT: "jwt",
    statuslist.CWT: "cwt",
    statuslist.CREDENTIAL: "revocation",
}
_COMMON = {
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": f"public, max-age={statuslist.TTL_SECONDS}",
    "X-Content-Type-Options": "nosniff",
}
_PATH = re.compile(rf"([1-9][0-9]{{0,8}})(?:/({'|'.join(statuslist.PURPOSES)}))?")


class StatusListApp:
    """Everything below `prefix`, by exact bytes. Reads only, needs no right."""

    def __init__(self, database: Database, prefix: str) -> None:
        self._database = database
        self._prefix = f"{prefix}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope)
        except LedgerError as err:
            log_error(err, scope["path"])
            row = CODES[err.code]
            response = problem(row.http, row.sentence, code=err.code)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return problem(405, "only GET and HEAD", {"Allow": "GET, HEAD"})
        if any(part.startswith(b"time=") for part in scope["query_string"].split(b"&")):
            return problem(501, "only the present list is kept")
        headers = dict(scope["headers"])
        path = scope["raw_path"].decode("latin-1").removeprefix(self._prefix)
        if path == "keys":
            keys = await self._database.read(_read_keys)
            return _answer(keys, KEYS, headers) if keys else problem(404, "there is no list yet")
        match = _PATH.fullmatch(path)
        if match is None:
            return problem(404, "there is no such list")
        number, purpose = int(match[1]), match[2]
        offered = [statuslist.CREDENTIAL] if purpose else list(_TYPES)
        media = negotiate(headers.get(b"accept", b"*/*").decode("latin-1"), offered)
        if media is None:
            return problem(406, f"offered are {', '.join(offered)}", {"Vary": "Accept"})
        form = purpose or _TYPES[media]
        data = await self._database.read(lambda cursor: read_list(cursor, number, form))
        if data is None:
            return problem(404, "there is no such list")
        response = _answer(data, media, headers)
        response.headers["Vary"] = "Accept"
        if media == statuslist.CREDENTIAL:
            response.headers["Content-Location"] = f"{self._prefix}{number}/{form}"
        return response


def negotiate(accept: str, offered: Sequence[str]) -> str | None:
    """The offered media type that an Accept header prefers (RFC 9110 section 12.5.1)."""
    best: tuple[float, int] | None = None
    chosen = None
    ranges = [_range(part) for part in accept.lower().split(",")]
    for place, media in enumerate(offered):
        fitting = [
            (name.count("*"), weight)
            for name, weight in ranges
            if name in (media, f"{media.partition('/')[0]}/*", "*/*")
        ]
        if not fitting:
            continue
        weight = min(fitting)[1]  # the most specific range says how much
        if weight > 0 and (best is None or (weight, -place) > best):
            best, chosen = (weight, -place), media
    return chosen


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if match := re.fullmatch(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", parameter):
            return name, float(match[1])
    return name, 1.0


def _answer(data: bytes, media: str, headers: dict[bytes, bytes]) -> Response:
    tag = f'"{sha256(data).hexdigest()[:32]}"'
    known = headers.get(b"if-none-match", b"").decode("latin-1")
    is_known = known == "*" or tag in [name.strip().removeprefix("W/") for name in known.split(",")]
    response = Response(b"", 304) if is_known else Response(data, 200, media_type=media)
    response.headers.update({**_COMMON, "ETag": tag})
    return response


def _read_keys(cursor: Cursor) -> bytes | None:
    """The keys that signed the lists as they are served."""
    vkeys = dict.fromkeys(row.vkey for row in read_lists(cursor) if row.vkey is not None)
    return statuslist.format_keys([parse_vkey(vkey) for vkey in vkeys]) if vkeys else None
