"""How long departments have been silent, by their most silent lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import times
from .admission import Lane
from .registry import Registry

BY_NATURE, NEVER = "silent by nature", "never heard of"
TOO_LONG, IN_TIME = "silent too long", "fresh"


def silences(
    registry: Registry, lanes: Mapping[tuple[str, int], Lane], now: int
) -> list[dict[str, Any]]:
    """How long each department has been silent on its most silent lane at the moment `now`, the
    longest first: what an answer about a certificate of that lane rests on.
    """
    own: dict[str, list[tuple[str, int]]] = {}
    for (department, number), at in lanes.items():
        if number < registry.lanes(department):
            own.setdefault(department, []).append((at.signed_at, number))
    rows = []
    for department in registry.departments():
        value = registry.value(f"department/{department}") or {}
        limit = value["silence_limit_seconds"]
        signed_at, lane = min(own[department], key=lambda item: _moment(item[0]))
        silent = None if not signed_at else max(now - _moment(signed_at), 0) // times.SECOND
        if limit is None:
            state = BY_NATURE
        elif silent is None:
            state = NEVER
        else:
            state = TOO_LONG if silent > limit else IN_TIME
        rows.append(
            {
                "department": department,
                "names": value["names"],
                "state": state,
                "silent_seconds": silent,
                "silence_limit_seconds": limit,
                "lane": lane,
                "signed_at": signed_at or None,
            }
        )
    return sorted(
        rows, key=lambda row: (row["silent_seconds"] is not None, -(row["silent_seconds"] or 0))
    )


def _moment(signed_at: str) -> int:
    return times.parse_moment(signed_at) if signed_at else 0
