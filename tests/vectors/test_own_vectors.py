"""Our own vector files: what the generator makes, and what our code and Go say of each case."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ledger import merkle
from ledger.checkpoint import parse_checkpoint, parse_proof
from ledger.errors import LedgerError, Malformed, ProofError
from ledger.note import VerifierKey, parse_note, parse_vkey
from tests import outside
from tests.vectors.generate_vectors import FOLDER, leaf, make, render


def load(name: str, part: str = "cases") -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / name).read_text())[part])


def case_name(case: dict[str, Any]) -> str:
    return str(case.get("name") or case["size"])


def test_the_files_are_what_the_generator_makes() -> None:
    for name, content in make().items():
        assert (FOLDER / name).read_text() == render(content), "generate_vectors.py --write"


@pytest.mark.parametrize("case", load("notes.json"), ids=case_name)
def test_notes(case: dict[str, Any]) -> None:
    keys = [parse_vkey(text) for text in case["vkeys"]]
    try:
        note = parse_note(case["note"].encode())
        signers = [s.name for s in note.signatures for key in keys if s == note.by(key)]
        for key in keys:
            if note.by(key):
                note.check_signed_by(key)
        if not signers:
            raise ProofError("bad-signature", "by none of these keys")
    except LedgerError:
        assert not case["valid"]
    else:
        assert case["valid"]
        assert (note.text.decode(), signers) == (case["text"], case["signers"])


@pytest.mark.parametrize("case", load("checkpoints.json"), ids=case_name)
def test_checkpoints(case: dict[str, Any]) -> None:
    try:
        checkpoint, note = parse_checkpoint(case["checkpoint"].encode())
        note.check_signed_by(parse_vkey(case["vkey"]))
        if checkpoint.origin != case["origin"]:
            raise ProofError("checkpoint-refused")
    except LedgerError:
        assert not case["valid"]
    else:
        assert case["valid"]
        assert (checkpoint.size, checkpoint.root.hex()) == (case["size"], case["root"])


@pytest.mark.parametrize("case", load("tiles.json", "trees"), ids=case_name)
def test_tiles(case: dict[str, Any]) -> None:
    """That the tiles are these is the generator's and Go's to say; here, root and consistency."""
    hashes = [merkle.leaf_hash(leaf(n)) for n in range(case["size"])]
    assert merkle.root(hashes).hex() == case["root"]
    if case["consistentWith"]:
        merkle.check_consistency(
            case["consistentWith"],
            case["size"],
            [base64.b64decode(value) for value in case["consistency"]],
            merkle.root(hashes[: case["consistentWith"]]),
            bytes.fromhex(case["root"]),
        )


@pytest.mark.parametrize("case", load("proofs.json"), ids=case_name)
def test_proofs(case: dict[str, Any]) -> None:
    try:
        _check_proof(case["proof"].encode(), parse_vkey(case["vkey"]), case["entry"].encode())
    except (Malformed, ProofError):
        assert not case["valid"]
    else:
        assert case["valid"]


def _check_proof(proof: bytes, key: VerifierKey, entry: bytes) -> None:
    index, path, signed = parse_proof(proof)
    checkpoint, note = parse_checkpoint(signed)
    note.check_signed_by(key)
    merkle.check_inclusion(merkle.leaf_hash(entry), index, checkpoint.size, path, checkpoint.root)


@pytest.mark.parametrize("name", ["TestNotes", "TestCheckpoints", "TestTiles", "TestProofs"])
def test_go_agrees(name: str) -> None:
    said = outside.run(
        outside.outside_test(), "-test.run", f"^{name}$", "-test.v", CERTLEDGER_VECTORS=str(FOLDER)
    )
    assert said.rstrip().endswith("PASS"), said
    assert "SKIP" not in said
