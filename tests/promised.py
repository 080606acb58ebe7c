"""What passes on the topics, held against the AsyncAPI document."""

from __future__ import annotations

from typing import Any

import jsonschema

from consumers.http.asyncapi import SCHEMAS


def check(schema: str, value: Any) -> None:
    """None when the value is what the document promises; jsonschema's ValidationError otherwise."""
    reference = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": SCHEMAS}}
    jsonschema.Draft202012Validator(reference).validate(value)
