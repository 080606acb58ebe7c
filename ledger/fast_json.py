"""JSON by faster libraries, for those who handle every event.

`tests/property/test_fast_events.py` holds it against `ledger.canonical`, which decides.
"""

from __future__ import annotations

from typing import Any

import orjson

load = orjson.loads


def dump(value: Any) -> bytes:
    """What `ledger.canonical` prints of a value of its profile."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
