"""`/openapi.json`: the API as an OpenAPI 3.1 document, and `/docs`, a page made from it."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from ledger.bundle import MAX_EPOCH, MAX_LANES, MAX_RECORD, MAX_SEQUENCE
from ledger.errors import CODES
from ledger.verdict import (
    CANNOT_DECIDE,
    FAILED,
    NAMES,
    NOT_CHECKED,
    NOT_FOUND,
    NOT_VALID,
    PASSED,
    VALID,
)

from . import asyncapi, batch
from .questions import is_held

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_MOMENT = {"type": "string", "format": "date-time"}
_DEPARTMENT = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
_HEX = {"type": "string", "pattern": "^[0-9a-f]*$"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(
    needed: dict[str, Any], optional: dict[str, Any] | None = None, closed: bool = False
) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "required": sorted(needed),
        "properties": {**needed, **(optional or {})},
    }
    if closed:
        schema["additionalProperties"] = False
    return schema


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_QUESTION = {
    "type": _TEXT,
    "issuer": _TEXT,
    "at": _TEXT,
    "known_at": _TEXT,
    "number": _TEXT,
    "identifier": _TEXT,
}

_SCHEMAS: dict[str, Any] = {
    "Problem": {
        **_object(
            {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
            {"code": {"type": "string", "enum": sorted(CODES)}},
        ),
        "description": "RFC 9457. `code` is stable; the sentences may change.",
    },
    "CertificateId": _object({"type": _TEXT, "issuer": _TEXT, "number": _TEXT}),
    "Certificate": _object(
        {
            "type": _or_null(_TEXT),
            "issuer": _or_null(_TEXT),
            "number": _TEXT,
            "version": _or_null({"type": "integer"}),
            "valid_from": _or_null(_TEXT),
            "valid_until": _or_null(_TEXT),
        }
    ),
    "Check": _object(
        {
            "name": {"type": "string", "enum": list(NAMES)},
            "result": {"type": "string", "enum": [PASSED, FAILED, NOT_CHECKED]},
            "why": _TEXT,
            "values": {"type": "object"},
        }
    ),
    "Answer": {
        **_object(
            {
                "answer": {"type": "string", "enum": [VALID, NOT_VALID, NOT_FOUND, CANNOT_DECIDE]},
                "reason": _TEXT,
                "why": _TEXT,
                "since": _or_null(_MOMENT),
                "certificate": _or_null(_ref("Certificate")),
                "tree_size": _or_null(_COUNT),
                "ledger_time": _or_null(_MOMENT),
                "at": _or_null(_MOMENT),
                "known_at": _or_null(_MOMENT),
            },
            {
                "checks": {"type": "array", "items": _ref("Check")},
                "looked_up": _TEXT,
                "notes": {"type": "array", "items": _TEXT},
                "names": {"type": "object"},
                "issuer_freshness": {"type": "object"},
                "deciding": {"type": "array", "items": {"type": "object"}},
                "known_since": _MOMENT,
                "matches": {"type": "array", "items": _ref("CertificateId")},
                "near_misses": {"type": "array", "items": {"type": "object"}},
                "unheard": {"type": "array", "items": {"type": "string"}},
            },
        ),
        "description": "What the ledger says. Without evidence it is this server's own word.",
    },
    "History": _object(
        {
            "certificate": _ref("CertificateId"),
            "tree_size": _COUNT,
            "events": {
                "type": "array",
                "items": _object(
                    {
                        "event": _TEXT,
                        "id": _TEXT,
                        "by": _TEXT,
                        "key": _HEX,
                        "time": _MOMENT,
                        "version": _COUNT,
                        "index": _COUNT,
                        "position": _COUNT,
                        "learned_at": _MOMENT,
                        "recordedtime": _or_null(_TEXT),
                        "stands": {"type": "boolean"},
                    },
                    {
                        name: _TEXT
                        for name in (
                            "valid_from",
                            "valid_until",
                            "reason",
                            "revocation",
                            "corrects",
                            "correction",
                            "transfer_to",
                        )
                    },
                    closed=True,
                ),
            },
        },
        closed=True,
    ),
    "Evidence": {
        **_object({"format": {"const": "certledger evidence v2"}, "checkpoint": _TEXT}),
        "description": "An evidence file, FORMATS.md section 13: keep the bytes as they are.",
    },
    "Lane": _object(
        {
            "format": {"const": "certledger lane v1"},
            "department": _TEXT,
            "lane": _COUNT,
            "epoch": _COUNT,
            "next_sequence": _COUNT,
            "previous": _HEX,
            "producer": _or_null(_HEX),
            "signed_at": _TEXT,
        },
        closed=True,
    ),
    "Lanes": _object({"lanes": {"type": "array", "items": _ref("Lane")}}, closed=True),
    "Receipt": _object(
        {"format": {"const": "certledger receipt v1"}, "entry": _TEXT, "proof": _TEXT}, closed=True
    ),
    "Accepted": _object(
        {
            "receipt": {"type": "string", "format": "uri-reference"},
            "partition": _COUNT,
            "offset": _COUNT,
        },
        closed=True,
    ),
    "Health": _object({"status": {"const": "ok"}}),
    "Ready": _object({"status": {"const": "ok"}, "origin": _TEXT, "tree_size": _or_null(_COUNT)}),
}

_DESCRIPTIONS = {
    "number": "The certificate's number. Width and spaces at its ends do not matter.",
    "identifier": "A full GB/T 36904 identifier, in place of number; its check character counts.",
    "type": "The certificate type's code in the registry.",
    "issuer": "The issuing department's id in the registry.",
    "at": "The moment in the world asked about: RFC 3339, or a date, which is 00:00 in the "
    "issuer's time zone. Left out: now.",
    "known_at": "What the ledger knew then; left out: all that is published.",
    "evidence": "zip: the evidence too.",
    "department": "A department's id in the registry.",
    "lane": "The number of a lane of the department.",
    "epoch": "The lane's epoch, as the bundle's note has it.",
    "sequence": "The bundle's number on the lane.",
}
_EXAMPLES = {
    "number": "川A-000123",
    "type": "11100000000013338W011",
    "issuer": "a",
    "at": "2026-03-01",
}


def _parameter(name: str, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    value = {
        "name": name,
        "in": "query",
        "required": required,
        "description": _DESCRIPTIONS[name],
        "schema": schema,
    }
    if name in _EXAMPLES:
        value["example"] = _EXAMPLES[name]
    return value


_ASKED = [_parameter(name, _TEXT) for name in _QUESTION if name != "number"]
_ASKED.insert(0, _parameter("number", _TEXT))
_PLACE = [
    _parameter("department", _DEPARTMENT, True),
    _parameter("lane", {**_COUNT, "maximum": MAX_LANES - 1}, True),
    _parameter("epoch", {**_COUNT, "maximum": MAX_EPOCH}, True),
    _parameter("sequence", {**_COUNT, "maximum": MAX_SEQUENCE}, True),
]
_PROBLEMS = {
    "304": "What the caller has is what there is.",
    "400": "The question cannot be understood.",
    "403": "The ledger's registry does not let this in.",
    "404": "There is none, or not yet.",
    "409": "Several certificates can be meant: give type and issuer.",
    "413": "The body is too large.",
    "414": "The URL is too long.",
    "422": "What is stored does not prove it.",
    "429": "Too many requests of this caller; Retry-After says when to come again.",
    "500": "The server, or what is stored, is damaged.",
    "503": "A server needed for this cannot be reached; Retry-After says when to come again.",
}


def _responses(*codes: str, **bodies: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for code in codes:
        found[code] = {"description": _PROBLEMS[code]}
        if code != "304":
            found[code]["content"] = {"application/problem+json": {"schema": _ref("Problem")}}
        if code in ("429", "503"):
            found[code]["headers"] = {"Retry-After": {"schema": _COUNT}}
    return {**{name.removeprefix("s"): body for name, body in bodies.items()}, **found}


def _json(description: str, schema: str, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": _ref(schema)}}}


_LINE = {
    "anyOf": [_TEXT, _object({}, {**_QUESTION, "id": {"type": ["string", "integer"]}}, closed=True)]
}
_ALWAYS = ("400", "414", "429", "500", "503")

_PATHS: dict[str, Any] = {
    "/v1/certificates": {
        "get": {
            "operationId": "askCertificate",
            "summary": "Is this certificate valid, and was it on that day?",
            "description": "The four answers: valid, not-valid, not-found, cannot-decide; all of "
            "them are 200. One of number and identifier is needed.",
            "parameters": _ASKED,
            "responses": _responses(*_ALWAYS, s200=_json("The answer.", "Answer")),
        }
    },
    "/v1/history": {
        "get": {
            "operationId": "readHistory",
            "summary": "All that happened to a certificate, with both times of each event.",
            "parameters": _ASKED,
            "responses": _responses(
                *_ALWAYS, "304", "404", "409", s200=_json("The history.", "History")
            ),
        }
    },
    "/v1/evidence": {
        "get": {
            "operationId": "makeEvidence",
            "summary": "The evidence for an answer, to be checked and kept without this server.",
            "parameters": _ASKED,
            "responses": _responses(
                *_ALWAYS, "409", "413", "422", s200=_json("The evidence file.", "Evidence")
            ),
        }
    },
    "/v1/batch": {
        "post": {
            "operationId": "askMany",
            "summary": "Many questions, a line each, answered while they are sent.",
            "description": f"At most {batch.MAX_LINES} lines of at most {batch.MAX_LINE} bytes. "
            "A line is an object with the members of a question, or a number as a string; its `id` "
            "comes back. Each answer has `line`, its number from 1, and the members of an answer, "
            "or `problem`.",
            "requestBody": {
                "required": True,
                "content": {batch.MEDIA_TYPE: {"schema": {"type": "string"}}},
            },
            "responses": _responses(
                "413",
                "414",
                "429",
                "500",
                "503",
                s200={
                    "description": "The answers, a line each.",
                    "content": {batch.MEDIA_TYPE: {"schema": {"type": "string"}}},
                },
            ),
            "x-line": _LINE,
        }
    },
    "/v1/bulk": {
        "post": {
            "operationId": "answerTable",
            "summary": "A CSV of numbers, back with an answer in each row.",
            "description": "The column number or identifier, else the first one, is asked about; "
            "type, issuer, at and known_at belong to the question where there are such columns. "
            "With evidence=zip: an archive of answers.csv and the evidence of each row.",
            "parameters": [_parameter("evidence", {"type": "string", "enum": ["zip"]})],
            "requestBody": {
                "required": True,
                "content": {"text/csv": {"schema": {"type": "string"}}},
            },
            "responses": _responses(
                *_ALWAYS,
                "413",
                s200={
                    "description": "The table, or the archive.",
                    "content": {
                        "text/csv": {"schema": {"type": "string"}},
                        "application/zip": {"schema": {"type": "string", "format": "binary"}},
                    },
                },
            ),
        }
    },
    "/v1/lanes": {
        "get": {
            "operationId": "readLanes",
            "summary": "Where a department's lanes stand: what its next bundles must name.",
            "parameters": [_parameter("department", _DEPARTMENT, True)],
            "responses": _responses(*_ALWAYS, "403", s200=_json("The lanes.", "Lanes")),
        }
    },
    "/v1/receipts": {
        "get": {
            "operationId": "readReceipt",
            "summary": "The receipt of a bundle, once it is published.",
            "parameters": _PLACE,
            "responses": _responses(*_ALWAYS, "404", s200=_json("The receipt.", "Receipt")),
        }
    },
    "/v1/bundles": {
        "post": {
            "operationId": "sendBundle",
            "summary": "Publish a signed bundle without a Kafka client.",
            "description": f"The body is a bundle's record (FORMATS.md section 5) of at most "
            f"{MAX_RECORD} bytes. Signed by a valid key of its department it goes to the intake "
            "topic as it is; admission decides.",
            "requestBody": {
                "required": True,
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                },
            },
            "responses": _responses(
                *_ALWAYS,
                "403",
                "413",
                s202={
                    **_json("It is on the intake topic.", "Accepted"),
                    "headers": {
                        "Location": {
                            "description": "Where the receipt will be.",
                            "required": True,
                            "schema": {"type": "string", "format": "uri-reference"},
                        }
                    },
                },
            ),
        }
    },
    "/v1/assess": {
        "post": {
            "operationId": "assess",
            "summary": "What a holder need not bring to a service.",
            "description": "Pseudonyms stand in the body, as URLs stand in logs.",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": _object(
                            {
                                "service": _TEXT,
                                "holder": {
                                    "type": "array",
                                    "minItems": 1,
                                    "maxItems": 64,
                                    "items": {"type": "string"},
                                },
                            },
                            {"catalogue": _TEXT, "at": _TEXT, "proven": {"type": "boolean"}},
                            closed=True,
                        )
                    }
                },
            },
            "responses": _responses(
                *_ALWAYS,
                *("404", "409", "413", "422"),
                s200={
                    "description": "The assessment.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
            ),
        }
    },
    "/trust.json": {
        "get": {
            "operationId": "readTrust",
            "summary": "The trust file that this server checks by.",
            "responses": _responses(
                "414",
                "503",
                s200={
                    "description": "The trust file, FORMATS.md section 13.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
            ),
        }
    },
    "/healthz": {
        "get": {
            "operationId": "isAlive",
            "summary": "Whether this process answers.",
            "responses": _responses("414", s200=_json("It does.", "Health")),
        }
    },
    "/readyz": {
        "get": {
            "operationId": "isReady",
            "summary": "Whether the database answers and holds a ledger.",
            "responses": _responses("414", "500", "503", s200=_json("It does.", "Ready")),
        }
    },
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "certledger",
        "version": "1",
        "description": "Ask the ledger instead of asking people for paper. Beside this API: the "
        "log as C2SP tlog-tiles under /log, status lists under /v1/status-lists.",
    },
    "paths": _PATHS,
    "components": {"schemas": _SCHEMAS},
}

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


@cache
def _bodies() -> dict[str, tuple[bytes, str, str]]:
    """(body, entity tag, media type) of each, made once."""
    document, topics = orjson.dumps(DOCUMENT), orjson.dumps(asyncapi.DOCUMENT)
    templates = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = templates.get_template("docs.css").render().encode()
    page = templates.get_template("docs.html").render(document=DOCUMENT).encode()
    found = {
        "/openapi.json": (document, "application/json"),
        "/asyncapi.json": (topics, "application/json"),
        "/docs": (page, "text/html"),
        "/docs.css": (style, "text/css"),
    }
    return {
        path: (body, f'"{sha256(body).hexdigest()[:32]}"', media_type)
        for path, (body, media_type) in found.items()
    }


async def serve_document(request: Request) -> Response:
    """The document, the page made from it, or the page's style."""
    body, tag, media_type = _bodies()[request.url.path]
    headers = {**_HEADERS, "ETag": tag}
    if is_held(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type)
