"""Key files at rest: encrypted, opened by a passphrase, refused whatever is wrong with them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.passphrases import new_passphrase, unlock
from ledger import keys
from ledger.cosignature import Cosigner
from ledger.errors import LedgerError, Malformed, Unavailable
from ledger.note import MemorySigner

NAME = "example.org/ledger"


def payload(line: str) -> str:
    return line.rstrip("\n").split("+", 4)[4]


@pytest.fixture(autouse=True)
def _locked_again() -> Iterator[None]:
    yield
    keys.unlock_with(keys._nobody)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.touch(mode=0o600)
    path.write_text("correct horse\n")
    return path


def test_an_encrypted_key_signs_as_before_and_nobody_reads_it(tmp_path: Path, words: Path) -> None:
    path = tmp_path / "checkpoint.key"
    signer = keys.create_key(path, NAME)
    plain = path.read_text()
    seed = payload(plain)
    assert keys.encrypt_file(path, b"correct horse") == NAME
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert keys.is_encrypted(text)
    assert not keys.is_encrypted(plain)
    assert seed not in text
    assert base64.b64decode(seed)[1:] not in base64.b64decode(payload(text))
    with pytest.raises(Unavailable, match="CERTLEDGER_PASSPHRASE_FILE"):
        keys.load_key(path)
    unlock(str(words))
    opened = keys.load_key(path)
    assert opened.key == signer.key
    assert opened.sign(b"x") == signer.sign(b"x")
    # another passphrase, and another salt each time
    keys.encrypt_file(path, b"another")
    with pytest.raises(Malformed, match="does not open"):
        keys.load_key(path)
    assert len({keys.encrypt_key(plain, b"p") for _ in range(3)}) == 3


def test_all_kinds_of_keys_are_made_encrypted_under_a_passphrase_file(
    tmp_path: Path, words: Path
) -> None:
    unlock(str(words))
    made: list[MemorySigner | Cosigner] = [
        keys.create_key(tmp_path / "a.key", NAME),
        keys.create_cosigner(tmp_path / "b.key", NAME),
    ]
    for path, signer in zip(("a.key", "b.key"), made, strict=True):
        assert keys.is_encrypted((tmp_path / path).read_text())
        assert keys.load_signer(tmp_path / path).key == signer.key
    assert new_passphrase(words) == b"correct horse"


def test_what_is_wrong_with_an_encrypted_key_is_refused(tmp_path: Path, words: Path) -> None:
    unlock(str(words))
    path = tmp_path / "k.key"
    keys.create_key(path, NAME)
    good = path.read_text()
    sealed = payload(good)
    head = good.removesuffix(f"+{sealed}\n")
    raw = bytearray(base64.b64decode(sealed))
    broken = [good[:-1], good + "\n", good.replace(NAME, "example.org/other"), head + "\n"]
    broken += [f"{head}+{sealed[:-4]}\n", good.replace("ENCRYPTED", "PRIVATE"), "ENCRYPTED+KEY+\n"]
    for place in (0, 20, 40, len(raw) - 1):
        flipped = bytes(raw[:place]) + bytes([raw[place] ^ 1]) + bytes(raw[place + 1 :])
        broken.append(f"{head}+{base64.b64encode(flipped).decode()}\n")
    for text in broken:
        path.write_text(text)
        with pytest.raises(Malformed):
            keys.load_signer(path)
    path.write_text(good)
    assert keys.load_signer(path).key.name == NAME


def test_passphrase_files_are_private_and_not_empty(tmp_path: Path, words: Path) -> None:
    read = keys.passphrase_in(words)
    assert read(words) == b"correct horse"
    words.write_text("\n")
    with pytest.raises(Malformed):
        read(words)
    words.write_text("x")
    words.chmod(0o644)
    with pytest.raises(Malformed, match="0600"):
        read(words)
    words.unlink()
    with pytest.raises(Unavailable):
        read(words)


def test_nobody_at_a_terminal_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys.create_key(tmp_path / "k.key", NAME)
    keys.encrypt_file(tmp_path / "k.key", b"p")
    unlock(None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(LedgerError, match="no terminal"):
        keys.load_key(tmp_path / "k.key")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    said = iter(["p", "one", "two"])
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: next(said))
    assert keys.load_key(tmp_path / "k.key").key.name == NAME
    assert keys.load_key(tmp_path / "k.key").key.name == NAME  # asked once
    with pytest.raises(Malformed, match="differ"):
        new_passphrase(None)
