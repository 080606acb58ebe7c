"""`/asyncapi.json`: what passes on the Kafka topics, as an AsyncAPI 3.0 document.

Some records are binary: their message says the framing, and `x-parts` has the schemas of the JSON
inside. FORMATS.md, sections 5, 6, 8, 11, 16 and 18.
"""

from __future__ import annotations

from typing import Any

from ledger import logtopic, topics
from ledger.entry import BUNDLE, EQUIVOCATION, GENESIS, REGISTRY, STATUS
from ledger.errors import CODES
from ledger.event import FIELDS
from ledger.reliance import LASTS, NOTICE_TYPE

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_MOMENT = {"type": "string", "format": "date-time"}
_HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_CODE = {"type": "string", "enum": sorted(CODES)}


def _object(needed: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": sorted(needed),
        "properties": {**needed, **(optional or {})},
        "additionalProperties": False,
    }


def _null_or(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _cloud_event(data: dict[str, Any], kind: dict[str, Any], *optional: str) -> dict[str, Any]:
    needed = {
        "data": data,
        "id": _ID,
        "source": _TEXT,
        "specversion": {"const": "1.0"},
        "time": _MOMENT,
        "type": kind,
    }
    return _object(needed, {name: _TEXT for name in optional})


_MAP = _object({"k": {"type": "integer", "minimum": 0, "maximum": 32}, "root": _HASH})
_SOURCE = _object(
    {
        "topic_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
        "partition": _COUNT,
        "offset": _COUNT,
    }
)
_CASE = {"office": _TEXT, "service": _TEXT, "case": _HASH}
_MEETS = {"type": "array", "minItems": 1, "items": {"type": "array", "items": _TEXT}}
_RELIED = _object({"map_key": _HASH, "version": _COUNT}, {"meets": _MEETS})
_ANSWER = {
    "certificates": {"type": "array", "minItems": 1, "items": _RELIED},
    "tree_size": _COUNT,
    "lasts": {"enum": list(LASTS)},
    "use_for": _TEXT,
    "clerk": _HASH,
}
_ENTRIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    GENESIS: (
        {"origin": _TEXT, "checkpoint_vkey": _TEXT, "operator_vkey": _TEXT},
        {"cosigner_vkey": _TEXT},
    ),
    REGISTRY: ({"note": _TEXT}, {}),
    BUNDLE: (
        {
            "note": _TEXT,
            "outcome": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": _COUNT, "minItems": 2},
            },
            "source": _SOURCE,
            "certificates": _HASH,
            "holders": _HASH,
        },
        {},
    ),
    EQUIVOCATION: ({"note": _TEXT, "source": _SOURCE, "conflicts_with": _COUNT}, {}),
    STATUS: (
        {"reflects": _COUNT, "registry_root": _HASH},
        {"certificates_map": _MAP, "holders_map": _MAP},
    ),
}

SCHEMAS: dict[str, Any] = {
    "EventLine": {
        "oneOf": [
            _cloud_event(
                {"type": "object"},
                {"enum": [f"certledger.certificate.{kind}.v1" for kind in FIELDS]},
                "subject",
                "datacontenttype",
                "recordedtime",
            ),
            _cloud_event(
                _object({**_CASE, **_ANSWER}, {"catalogue": _HASH}),
                {"const": "certledger.reliance.relied.v1"},
            ),
            _cloud_event(_object(_CASE), {"const": "certledger.reliance.ended.v1"}),
        ]
    },
    "Receipt": _object(
        {"format": {"const": "certledger receipt v1"}, "entry": _TEXT, "proof": _TEXT}
    ),
    "Notice": _object(
        {
            "format": {"const": "certledger notice v1"},
            "department": _TEXT,
            "lane": _COUNT,
            "epoch": _COUNT,
            "sequence": _COUNT,
            "note_hash": _HASH,
            "outcome": {"enum": list(logtopic.OUTCOMES)},
            "code": _CODE,
            "message": _TEXT,
        },
        {"want_epoch": _COUNT, "want_sequence": _COUNT},
    ),
    "Lane": _object(
        {
            "format": {"const": "certledger lane v1"},
            "department": _TEXT,
            "lane": _COUNT,
            "epoch": _COUNT,
            "next_sequence": _COUNT,
            "previous": _HASH,
            "producer": _null_or(_ID),
            "signed_at": _TEXT,
        }
    ),
    "Entry": {
        "oneOf": [
            _object(
                {
                    "format": {"const": "certledger entry v1"},
                    "kind": {"const": kind},
                    "time": _MOMENT,
                    **needed,
                },
                optional,
            )
            for kind, (needed, optional) in _ENTRIES.items()
        ]
    },
    "Accounting": _object(
        {
            "format": {"const": logtopic.ACCOUNTING_FORM},
            "first": _COUNT,
            "rows": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "array",
                    "minItems": 7,
                    "maxItems": 7,
                    "prefixItems": [
                        _COUNT,
                        {"enum": list(logtopic.OUTCOMES)},
                        _TEXT,
                        _COUNT,
                        _COUNT,
                        _null_or(_CODE),
                        _null_or(_COUNT),
                    ],
                },
            },
        }
    ),
    "Checkpoint": {"type": "string", "pattern": "^[^\\n]+\\n[0-9]+\\n[A-Za-z0-9+/=]{44}\\n\\n"},
    "DeadLetterHeaders": _object(
        {"code": _CODE, "message": _TEXT, "source": {"type": "string"}},
        {"length": {"type": "string", "pattern": "^[0-9]+$"}, "sha256": _HASH},
    ),
    "Expiry": _cloud_event(
        _object(
            {
                "certificate_number": _TEXT,
                "certificate_type_code": _TEXT,
                "certificate_version": _COUNT,
                "days_before": _COUNT,
                "issuing_authority_code": _TEXT,
                "responsible_authority_code": _TEXT,
                "valid_until": _TEXT,
            }
        ),
        {"enum": ["certledger.certificate.expiring.v1", "certledger.certificate.ended.v1"]},
        "subject",
        "datacontenttype",
    ),
    "Recall": _cloud_event(
        _object(
            {
                "change": _object({"event": _TEXT}, {"revocation_kind": _TEXT, "reason": _TEXT}),
                "hold": _ID,
                "log_index": _COUNT,
                "office": _TEXT,
                "position": _COUNT,
            }
        ),
        {"const": NOTICE_TYPE},
        "datacontenttype",
    ),
}


def _message(title: str, payload: str, media_type: str = "application/json") -> dict[str, Any]:
    return {
        "title": title,
        "contentType": media_type,
        "payload": {"$ref": f"#/components/schemas/{payload}"},
    }


def _binary(title: str, **parts: str) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
        "x-parts": {n: {"$ref": f"#/components/schemas/{part}"} for n, part in parts.items()},
    }


def _channel(description: str, **messages: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "messages": messages}


_CHANNELS = {
    topics.EVENTS: _channel(
        "Intake: signed bundles, Kafka key DEPARTMENT/LANE. Admission decides.",
        bundle=_binary("CLR1, length of the note, note, lines", line="EventLine"),
    ),
    topics.RECEIPTS: _channel(
        "What became of bundles, Kafka key DEPARTMENT/LANE.",
        receipt=_message("A bundle is in the log", "Receipt"),
        notice=_message("A record is not", "Notice"),
    ),
    topics.LANES: _channel(
        "Compacted: where each open lane stands, Kafka key DEPARTMENT/LANE; null for a closed one.",
        lane=_message("A hint, harmless when stale", "Lane"),
    ),
    topics.LOG: _channel(
        "The log itself, one partition, kept for ever; the Kafka key says which.",
        entries=_binary("CLG1, first index, count, entries with lengths", entry="Entry"),
        checkpoint=_message("A signed checkpoint", "Checkpoint", "text/plain"),
        accounting=_message("What became of records that were not logged", "Accounting"),
    ),
    topics.DEAD_LETTERS: _channel(
        "Records that can never become an entry, Kafka key TOPICID/PARTITION/OFFSET.",
        letter={
            **_binary("The record as it came"),
            "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        },
    ),
    topics.EXPIRY: _channel(
        "Certificates that end soon or now, Kafka key the map key in hex.",
        expiry=_message("A CloudEvent", "Expiry", "application/cloudevents+json"),
    ),
    topics.RECALLS: _channel(
        "What a case relies on has changed, Kafka key the office.",
        recall=_message("A CloudEvent", "Recall", "application/cloudevents+json"),
    ),
}

DOCUMENT: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {
        "title": "certledger topics",
        "version": "1",
        "description": "What departments send, and what the ledger sends. Signatures, never the "
        "broker's access rules, are what is trusted.",
    },
    "defaultContentType": "application/json",
    "channels": {name: {"address": name, **channel} for name, channel in _CHANNELS.items()},
    "operations": {
        f"{'send' if name == topics.EVENTS else 'receive'}-{name.split('.')[1]}": {
            "action": "send" if name == topics.EVENTS else "receive",
            "channel": {"$ref": f"#/channels/{name}"},
        }
        for name in _CHANNELS
    },
    "components": {"schemas": SCHEMAS},
}
