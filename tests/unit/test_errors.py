"""Every code of the one table, and every place that names a code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ledger import errors
from ledger.errors import CODES, Conflict, LedgerError, Malformed, ProofError, Refused, Unavailable

LEDGER = Path(errors.__file__).parent
KINDS = {"Malformed", "Refused", "ProofError", "Conflict", "Unavailable"}


@pytest.mark.parametrize("code", CODES)
def test_each_code_says_what_every_edge_does(code: str) -> None:
    row = CODES[code]
    assert code == code.lower()
    assert code.replace("-", "").isalpha()
    assert row.sentence.endswith(".")
    assert row.sentence[0].isupper()
    assert row.error in (Malformed, Refused, ProofError, Conflict, Unavailable)
    assert 400 <= row.http <= 599
    assert row.exit in (2, 3, 4, 5)
    assert row.level in ("INFO", "WARNING", "ERROR", "CRITICAL")
    err = row.error(code)
    assert isinstance(err, LedgerError)
    assert (err.code, err.message) == (code, row.sentence)
    assert code in str(err)


def test_an_unknown_code_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        Refused("no-such-code")


def test_codes_named_in_the_source_are_in_the_table() -> None:
    found = set()
    for path in LEDGER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                first = node.args[0] if node.args else None
                if node.func.id in KINDS and isinstance(first, ast.Constant):
                    found.add(first.value)
    assert found <= CODES.keys()
    assert len(found) > 30
