"""Project Wycheproof's Ed25519 cases: our verdict is theirs, and no other exception comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.errors import LedgerError
from ledger.note import VerifierKey, check_public
from tests.vectors.published import VECTORS, needs

PATH = VECTORS / "wycheproof" / "ed25519_test.json"


def _groups() -> list[dict[str, Any]]:
    return list(json.loads(PATH.read_text())["testGroups"]) if PATH.exists() else []


@needs("wycheproof")
def test_there_are_groups() -> None:
    assert sum(len(group["tests"]) for group in _groups()) > 100


@pytest.mark.parametrize("group", _groups(), ids=lambda g: g["publicKey"]["pk"][:16])
def test_group(group: dict[str, Any]) -> None:
    public = bytes.fromhex(group["publicKey"]["pk"])
    for case in group["tests"]:
        try:
            check_public(public)
            VerifierKey("k", public).check(bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
        except LedgerError:
            verdict = "invalid"
        else:
            verdict = "valid"
        assert verdict == case["result"], (case["tcId"], case["comment"], case["flags"])
