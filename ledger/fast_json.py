"""JSON by a faster library, for those who handle every event: the workers and the audit.

`tests/property/test_fast_library.py` holds it against `ledger.canonical`, which decides.
"""

from __future__ import annotations

from typing import Any

import orjson

load = orjson.loads


def dump(value: Any) -> bytes:
    """What `ledger.canonical` prints of a value of its profile."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
