"""Where the published vectors are: beside the repository, never copied into it."""

from __future__ import annotations

from pathlib import Path

import pytest

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"


def needs(folder: str) -> pytest.MarkDecorator:
    """Skips a test where a folder of published vectors is missing."""
    where = VECTORS / folder
    return pytest.mark.skipif(not where.is_dir(), reason=f"published vectors missing: {where}")
