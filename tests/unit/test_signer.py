"""The signing process: it signs what extends what it signed, and nothing else; a key in a token."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger import canonical, merkle
from ledger.checkpoint import Checkpoint
from ledger.cosignature import ML_DSA_44, Cosigner
from ledger.errors import LedgerError, ProofError, Refused, Unavailable
from ledger.note import MemorySigner, parse_note
from streams.pkcs11 import TokenSigner
from streams.signer import Guard, RemoteRing, serve
from streams.signing import KeyRing

ORIGIN = "example.org/ledger"
SIGNER = MemorySigner.from_seed(ORIGIN, sha256(b"signer").digest())
COSIGNER = Cosigner(ORIGIN, ML_DSA_44, sha256(b"cosigner").digest())
KEYS = [SIGNER.key, COSIGNER.key]
SOFTHSM = [Path(p) for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")]


class Tree:
    """A log in memory."""

    def __init__(self, size: int, fork: int = 0) -> None:
        self.leaves = [
            merkle.leaf_hash(f"{n}{'fork' if fork and n >= fork else ''}".encode())
            for n in range(size)
        ]

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, merkle.root(self.leaves[:size]))

    def prove(self, size: int) -> Callable[[int], list[bytes]]:
        return lambda old: merkle.prove_consistency(old, size, merkle.in_memory(self.leaves))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The socket of a signer whose state is beside it."""
    stop = threading.Event()
    guard = Guard(KeyRing([SIGNER, COSIGNER]), tmp_path / "state")
    path = tmp_path / "signer.sock"
    thread = threading.Thread(target=serve, args=(guard, path, stop))
    thread.start()
    while not path.exists():
        thread.join(0.01)
    yield path
    stop.set()
    thread.join()
    assert not path.exists()


def test_it_signs_what_grows(place: Path) -> None:
    ring, tree = RemoteRing(place), Tree(40)
    assert [str(key) for key in ring.known_keys(())] == [str(key) for key in KEYS]
    for size in (1, 2, 2, 7, 40, 40):
        checkpoint = tree.checkpoint(size)
        note = parse_note(ring.sign_checkpoint(checkpoint, KEYS, tree.prove(size)))
        assert note.text == checkpoint.text()
        for key in KEYS:
            note.check_signed_by(key)
    assert place.stat().st_mode & 0o777 == 0o660


def test_it_signs_nothing_else(place: Path) -> None:
    ring, tree, fork = RemoteRing(place), Tree(40), Tree(40, fork=20)
    ring.sign_checkpoint(tree.checkpoint(30), KEYS, tree.prove(30))
    refused: list[tuple[Checkpoint, Any]] = [
        (tree.checkpoint(29), tree.prove(29)),  # smaller
        (fork.checkpoint(30), fork.prove(30)),  # another root of the same size
        (fork.checkpoint(40), fork.prove(40)),  # another history
        (tree.checkpoint(40), lambda old: []),  # unproven
        (tree.checkpoint(40), lambda old: [bytes(32)] * 7),
    ]
    for checkpoint, prove in refused:
        with pytest.raises(Refused) as caught:
            ring.sign_checkpoint(checkpoint, KEYS, prove)
        assert caught.value.code == "going-back"
    stranger = MemorySigner.from_seed("example.org/other", bytes(32)).key
    for keys in ([stranger], [SIGNER.key, stranger], []):
        with pytest.raises(LedgerError):
            ring.sign_checkpoint(tree.checkpoint(40), keys, tree.prove(40))
    ring.sign_checkpoint(tree.checkpoint(40), KEYS, tree.prove(40))


def test_it_remembers_over_a_restart(tmp_path: Path) -> None:
    tree = Tree(20)
    guard = Guard(KeyRing([SIGNER]), tmp_path / "state")
    guard.sign(10, tree.checkpoint(10).root, [SIGNER.key], [])
    again = Guard(KeyRing([SIGNER]), tmp_path / "state")
    with pytest.raises(Refused):
        again.sign(9, tree.checkpoint(9).root, [SIGNER.key], [])
    again.sign(20, tree.checkpoint(20).root, [SIGNER.key], tree.prove(20)(10))
    # who lacks the key does not move on
    with pytest.raises(Unavailable):
        Guard(KeyRing(()), tmp_path / "none").sign(1, bytes(32), [SIGNER.key], [])
    assert not (tmp_path / "none").exists()
    for damaged in (b"", b"{}", b"junk", (tmp_path / "state").read_bytes()[:-3]):
        (tmp_path / "state").write_bytes(damaged)
        with pytest.raises(LedgerError):
            Guard(KeyRing([SIGNER]), tmp_path / "state")


def test_whatever_is_said_to_it_gets_an_answer_or_a_closed_socket(place: Path) -> None:
    rng = random.Random(1)
    good = {
        "op": "sign",
        "size": 1,
        "root": bytes(32).hex(),
        "keys": [str(SIGNER.key)],
        "proof": [],
    }
    lines = [b"", b"{}", b"[]", b"null", b"{" * 10_000, rng.randbytes(100), b"x" * 70_000]
    for change in (
        {"op": "forge"},
        {"size": 0},
        {"size": True},
        {"size": "1"},
        {"root": "00"},
        {"root": "G" * 64},
        {"keys": ["x"]},
        {"keys": [1]},
        {"keys": []},
        {"proof": ["00"]},
        {"text": "a note"},
    ):
        lines.append(canonical.format({**good, **change}))
    for line in lines:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(place))
            client.sendall(line.replace(b"\n", b"") + b"\n")
            answer = client.recv(65536)
        assert b"error" in answer, line[:80]
        assert b"note" not in answer
    tree = Tree(1)
    assert RemoteRing(place).sign_checkpoint(tree.checkpoint(1), KEYS, tree.prove(1))


def test_a_signer_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the signer at"):
        RemoteRing(tmp_path / "none").known_keys(())


def test_a_key_in_a_token_signs_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    module = next((path for path in SOFTHSM if path.exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM is not installed (apt install softhsm2)")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    subprocess.run(
        [
            *("softhsm2-util", "--init-token", "--free", "--label", "ledger"),
            *("--pin", "1234", "--so-pin", "5678"),
        ],
        check=True,
        capture_output=True,
        env=os.environ,
    )
    token = pkcs11.lib(str(module)).get_token(token_label="ledger")
    with token.open(user_pin="1234", rw=True) as session:
        curve = {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06032b6570")}  # 1.3.101.112, in DER
        kind, made_by = pkcs11.KeyType.EC_EDWARDS, pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN
        session.create_domain_parameters(kind, curve, local=True).generate_keypair(
            mechanism=made_by, store=True, label="cp"
        )
    with pytest.raises(Unavailable):
        TokenSigner(module, "ledger", "another", "1234", ORIGIN)
    signer = TokenSigner(module, "ledger", "cp", "1234", ORIGIN)
    try:
        signer.key.check(b"text", signer.sign(b"text"))
        with pytest.raises(ProofError):
            signer.key.check(b"other text", signer.sign(b"text"))
        guard, tree = Guard(KeyRing([signer]), tmp_path / "state"), Tree(5)
        note = guard.sign(5, tree.checkpoint(5).root, [signer.key], [])
        parse_note(note).check_signed_by(signer.key)
    finally:
        signer.close()
