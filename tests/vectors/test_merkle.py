"""transparency-dev/merkle's published proofs, one file each: accepted or refused as they say."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ledger import merkle
from ledger.errors import ProofError
from tests.vectors.published import VECTORS, needs

MERKLE = VECTORS / "merkle"


def _files(kind: str) -> list[Path]:
    return sorted((MERKLE / kind).rglob("*.json"))


def _hashes(values: Any) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def _hash(value: str | None) -> bytes:
    return base64.b64decode(value or "")


def _name(path: Path) -> str:
    return str(path.relative_to(MERKLE))


@needs("merkle")
def test_files_are_there() -> None:
    assert len(_files("inclusion")) >= 80
    assert len(_files("consistency")) >= 80


@pytest.mark.parametrize("path", _files("inclusion"), ids=_name)
def test_inclusion(path: Path) -> None:
    case = json.loads(path.read_text())
    given = (
        _hash(case["leafHash"]),
        case["leafIdx"],
        case["treeSize"],
        _hashes(case["proof"]),
        _hash(case["root"]),
    )
    if case["wantErr"]:
        with pytest.raises(ProofError):
            merkle.check_inclusion(*given)
    else:
        merkle.check_inclusion(*given)


@pytest.mark.parametrize("path", _files("consistency"), ids=_name)
def test_consistency(path: Path) -> None:
    case = json.loads(path.read_text())
    given = (
        case["size1"],
        case["size2"],
        _hashes(case["proof"]),
        _hash(case["root1"]),
        _hash(case["root2"]),
    )
    short = any(len(value) != 32 for value in (*given[2], *given[3:]))  # refused, README says
    if case["wantErr"] or short:
        with pytest.raises(ProofError):
            merkle.check_consistency(*given)
    else:
        merkle.check_consistency(*given)
