"""RFC 8785's published pairs: equal within the ledger's profile, refused where outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import canonical
from ledger.errors import LedgerError, Malformed
from tests.vectors.published import VECTORS, needs

JCS = VECTORS / "jcs"
OUTSIDE = {
    "unicode.json": "text that is not NFC",
    "values.json": "floats",
    "weird.json": "member names beyond ASCII",
    "arrays.json": "",
    "french.json": "member names beyond ASCII",
    "structures.json": "",
}


@needs("jcs")
def test_all_files_are_known() -> None:
    assert {path.name for path in (JCS / "output").iterdir()} == OUTSIDE.keys()


@pytest.mark.parametrize("path", sorted((JCS / "output").glob("*.json")), ids=lambda p: p.name)
def test_pair(path: Path) -> None:
    output = path.read_bytes()
    source = (JCS / "input" / path.name).read_bytes()
    hexed = (JCS / "outhex" / path.with_suffix(".txt").name).read_text()
    assert bytes.fromhex(hexed) == output
    if OUTSIDE[path.name]:
        with pytest.raises(LedgerError):
            canonical.parse(output, 65_536)
        with pytest.raises(LedgerError):
            canonical.format(json.loads(source))
    else:
        value = json.loads(source, parse_float=lambda text: int(float(text)))
        assert canonical.format(value) == output
        assert canonical.format(canonical.parse(output, 65_536)) == output
        with pytest.raises(Malformed):
            canonical.parse(source, 65_536)
