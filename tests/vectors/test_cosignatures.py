"""Our cosignature vectors by two paths, and Wycheproof's ML-DSA-44 cases."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ledger.cosignature import ML_DSA_44, PUBLIC_BYTES, CosignerKey, parse_checkpoint_key
from ledger.errors import LedgerError
from ledger.keys import format_key
from ledger.note import parse_note
from tests import outside
from tests.vectors import generate_cosignatures as made
from tests.vectors.published import VECTORS, needs

WYCHEPROOF = VECTORS / "wycheproof" / "mldsa_44_verify_test.json"


def stored() -> list[dict[str, Any]]:
    return list(json.loads(made.PATH.read_text()))


def judge(vector: dict[str, Any]) -> str:
    try:
        note = parse_note(vector["note"].encode())
        for vkey in vector["vkeys"]:
            note.check_signed_by(parse_checkpoint_key(vkey))
    except LedgerError:
        return "invalid"
    return "valid"


def test_the_file_is_what_the_generator_makes_but_for_randomness() -> None:
    def shape(vectors: list[dict[str, Any]]) -> list[Any]:
        return [
            {**v, "note": parse_note(v["note"].encode()).text.decode()}
            | {"lines": [len(s.signature) for s in parse_note(v["note"].encode()).signatures]}
            for v in vectors
        ]

    assert shape(stored()) == shape(made.vectors())


@pytest.mark.parametrize("vector", stored(), ids=lambda v: v["name"])
def test_our_verdict(vector: dict[str, Any]) -> None:
    assert judge(vector) == vector["result"]


@pytest.fixture(scope="module")
def program() -> Path:
    return outside.cosignatures()


def test_the_verdict_of_go_code(program: Path) -> None:
    done = subprocess.run(
        [program, "check", made.PATH], capture_output=True, text=True, check=True, timeout=60
    )
    said = dict(line.split(" ") for line in done.stdout.splitlines())
    assert said == {vector["name"]: vector["result"] for vector in stored()}


def test_what_go_code_cosigns_is_good_here(program: Path) -> None:
    """Also: our key files are what it takes for keys."""
    cosigners = [made.WITNESS, made.PQ_WITNESS, made.LEDGER]
    keys = [(c.key.name, c.key.kind) for c in cosigners]
    lines = "".join(format_key(name, made.seed(name, kind), kind) for name, kind in keys)
    given = lines.encode() + b"\n" + made.TEXT
    done = subprocess.run([program, "sign"], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    note = parse_note(done.stdout)
    assert note.text == made.TEXT
    for cosigner in cosigners:
        note.check_signed_by(cosigner.key)


def _cases() -> list[tuple[bytes, dict[str, Any]]]:
    if not WYCHEPROOF.exists():
        return []
    groups = json.loads(WYCHEPROOF.read_text())["testGroups"]
    return [(bytes.fromhex(g["publicKey"]), case) for g in groups for case in g["tests"]]


@needs("wycheproof")
def test_wycheproof_ml_dsa() -> None:
    judged = 0
    for public, case in _cases():
        if case.get("ctx"):
            continue  # cosignatures have no context
        judged += 1
        verdict = "valid"
        if len(public) != PUBLIC_BYTES[ML_DSA_44]:
            verdict = "invalid"  # parse_cosigner_key refuses it
        else:
            try:
                key = CosignerKey("k", ML_DSA_44, public)
                key.verify(bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            except LedgerError:
                verdict = "invalid"
        assert verdict == case["result"], (case["tcId"], case["comment"], case["flags"])
    assert judged > 100
