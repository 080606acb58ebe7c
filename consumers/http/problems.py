"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ledger.errors import CODES, LedgerError
from ledger.logs import get_log

log = get_log(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, code: str | None = None
) -> Response:
    """A problem document; one with a ledger `code` has a type of its own."""
    document: dict[str, object] = {
        "type": "about:blank" if code is None else f"urn:certledger:problem:{code}",
        "title": HTTPStatus(status).phrase if code is None else CODES[code].sentence,
        "status": status,
        "detail": detail,
    }
    if code is not None:
        document["code"] = code
    return JSONResponse(document, status, {**error_headers(status), **(headers or {})}, MEDIA_TYPE)


def error_headers(status: int) -> dict[str, str]:
    """What every error says: nobody keeps it; when to come again."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_SECONDS)
    return headers


def log_error(err: LedgerError, route: str) -> None:
    """Our own faults and what needs somebody's hand go to the log, callers' mistakes do not.

    `route` is what the path stands for: the path itself may hold a certificate's number.
    """
    row = CODES[err.code]
    if row.http >= 500:
        log.log(logging.getLevelName(row.level), "request-failed", route=route, error=err)


def _route(request: Request) -> str:
    route = str(request.scope["path"])
    for name, value in request.path_params.items():
        route = route.replace(str(value), f"{{{name}}}")
    return route


def on_ledger_error(request: Request, err: Exception) -> Response:
    """The problem document of a LedgerError; what PostgreSQL said of itself stays in the log."""
    assert isinstance(err, LedgerError)
    log_error(err, _route(request))
    row = CODES[err.code]
    return problem(row.http, row.sentence if row.http >= 500 else err.message, code=err.code)


def on_http_error(request: Request, err: Exception) -> Response:
    """The problem document of a path that is not there or a method that is not allowed."""
    assert isinstance(err, HTTPException)
    return problem(err.status_code, err.detail, err.headers)


def on_broken_body(request: Request, err: Exception) -> Response:
    """A body whose chunks or length are not as its head says, or whose caller hung up."""
    return problem(400, "the body did not come as its head says", {"Connection": "close"})


def on_crash(request: Request, err: Exception) -> Response:
    """A programming error says nothing of itself to the caller; Starlette raises it again."""
    log.critical("request-crashed", route=_route(request), exc_info=err)
    return problem(500, "the server made a mistake; it is in its log")
