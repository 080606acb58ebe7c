"""Private keys in files of one line, mode 0600: `PRIVATE+KEY+NAME+HASH+BASE64`, or under a
passphrase `ENCRYPTED+KEY+NAME+HASH+BASE64`.

The base64 of an encrypted key holds a salt (16 bytes), a nonce (12) and the key type and seed under
ChaCha20-Poly1305. Its key is scrypt of the passphrase (N = 2^15, r = 8, p = 1: 32 MiB, about
0.1 s), its associated data the line up to HASH.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from .cosignature import COSIGNATURE_V1, MAX_NAME, ML_DSA_44, Cosigner
from .errors import Malformed, Unavailable
from .note import ED25519, MemorySigner, decode_base64, is_name

_PREFIX = "PRIVATE+KEY+"
_ENCRYPTED = "ENCRYPTED+KEY+"
_SALT, _NONCE, _TAG = 16, 12, 16
_MAX_PASSPHRASE = 1024

Passphrase = Callable[[Path], bytes]
"""Gives the passphrase of a key file; Unavailable `key-missing` where nobody knows it."""


def passphrase_in(file: Path) -> Passphrase:
    """The passphrase that a file of mode 0600 holds, for all keys, without a newline at its end."""

    def read(path: Path) -> bytes:
        try:
            with file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode & 0o777
                text = opened.read(_MAX_PASSPHRASE + 2).removesuffix(b"\n")
        except OSError as err:
            raise Unavailable(
                "key-missing", f"the passphrase file {file} cannot be read: {err.strerror}"
            ) from err
        if mode & 0o077:
            raise Malformed("malformed-key", f"{file} has mode {mode:04o}; it must be 0600")
        if not 0 < len(text) <= _MAX_PASSPHRASE:
            raise Malformed("malformed-key", f"{file} holds no passphrase of 1 to 1024 bytes")
        return text

    return read


def _nobody(path: Path) -> bytes:
    raise Unavailable(
        "key-missing",
        f"{path} is encrypted: CERTLEDGER_PASSPHRASE_FILE names the passphrase's file",
    )


@dataclass(slots=True)
class _Unlocking:
    passphrase: Passphrase = _nobody
    new: Passphrase | None = None  # under which new keys are written; None: in clear


_unlocking = _Unlocking()


def unlock_with(passphrase: Passphrase, new: Passphrase | None = None) -> None:
    """Have this process open encrypted keys by `passphrase`, and write new ones under `new`.

    Said once, where a program begins: keys are read in many places, and none of them has a word
    to say about it.
    """
    _unlocking.passphrase, _unlocking.new = passphrase, new


def encrypt_key(text: str, passphrase: bytes) -> str:
    """A key file's line, encrypted."""
    signer_line = _opened(text, Path())
    name, digest, payload = signer_line[len(_PREFIX) : -1].split("+", 2)
    head = f"{_ENCRYPTED}{name}+{digest}"
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    sealed = ChaCha20Poly1305(_derive(passphrase, salt)).encrypt(
        nonce, base64.b64decode(payload), head.encode()
    )
    return f"{head}+{base64.b64encode(salt + nonce + sealed).decode()}\n"


def is_encrypted(text: str) -> bool:
    """Whether a key file's line is under a passphrase."""
    return text.startswith(_ENCRYPTED)


def _opened(text: str, path: Path) -> str:
    """The line in clear."""
    if not is_encrypted(text):
        _parse(text)
        return text
    parts = text[len(_ENCRYPTED) : -1].split("+", 2)
    raw = decode_base64(parts[2], "malformed-key") if len(parts) == 3 else b""
    if not text.endswith("\n") or text.count("\n") != 1 or len(raw) != 33 + _SALT + _NONCE + _TAG:
        raise Malformed(
            "malformed-key", "an encrypted key file is one line ENCRYPTED+KEY+NAME+HASH+BASE64"
        )
    salt, nonce, sealed = raw[:_SALT], raw[_SALT : _SALT + _NONCE], raw[_SALT + _NONCE :]
    head = f"{_ENCRYPTED}{parts[0]}+{parts[1]}"
    key = _derive(_unlocking.passphrase(path), salt)
    try:
        payload = ChaCha20Poly1305(key).decrypt(nonce, sealed, head.encode())
    except InvalidTag:
        raise Malformed("malformed-key", f"the passphrase does not open {path}") from None
    return f"{_PREFIX}{parts[0]}+{parts[1]}+{base64.b64encode(payload).decode()}\n"


def _derive(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase)


def format_key(name: str, seed: bytes, kind: int = ED25519) -> str:
    """The file's line for a private key (`seed`, 32 bytes) of a key type."""
    key = _signer(name, kind, seed).key
    payload = base64.b64encode(bytes([kind]) + seed).decode()
    return f"{_PREFIX}{name}+{key.key_hash.hex()}+{payload}\n"


def parse_key(text: str) -> MemorySigner:
    """The signer in a key file's line; Malformed otherwise, never naming the key itself."""
    signer = _parse(text)
    if not isinstance(signer, MemorySigner):
        raise Malformed("malformed-key", "a note's key is needed, this is a cosigner's")
    return signer


def parse_cosigner(text: str) -> Cosigner:
    """The cosigner in a key file's line; Malformed otherwise, never naming the key itself."""
    signer = _parse(text)
    if not isinstance(signer, Cosigner):
        raise Malformed("malformed-key", "a cosigner's key is needed, this is a note's")
    return signer


def create_key(path: Path, name: str) -> MemorySigner:
    """A new private key in a new file that only its owner can read; FileExistsError otherwise."""
    return parse_key(_create(path, name, ED25519))


def create_cosigner(path: Path, name: str, kind: int = ML_DSA_44) -> Cosigner:
    """A new cosigner's key in a new file of its owner alone; FileExistsError otherwise."""
    return parse_cosigner(_create(path, name, kind))


def load_key(path: Path) -> MemorySigner:
    """The signer in a key file; a file that others can read is refused, and so is a missing one."""
    return parse_key(_opened(_read(path), path))


def load_cosigner(path: Path) -> Cosigner:
    """The cosigner in a key file; a file that others can read is refused."""
    return parse_cosigner(_opened(_read(path), path))


def load_signer(path: Path) -> MemorySigner | Cosigner:
    """Whatever signer a key file holds; a file that others can read is refused."""
    return _parse(_opened(_read(path), path))


def _parse(text: str) -> MemorySigner | Cosigner:
    if not text.startswith(_PREFIX) or not text.endswith("\n") or text.count("\n") != 1:
        raise Malformed("malformed-key", "a key file is one line PRIVATE+KEY+NAME+HASH+BASE64")
    parts = text[len(_PREFIX) : -1].split("+", 2)
    raw = decode_base64(parts[2], "malformed-key") if len(parts) == 3 else b""
    if len(raw) != 33:
        raise Malformed("malformed-key", "a key file holds a key type and 32 bytes")
    signer = _signer(parts[0], raw[0], raw[1:])
    if signer.key.key_hash.hex() != parts[1]:
        raise Malformed("malformed-key", "the key file's hash is not its key's")
    return signer


def _signer(name: str, kind: int, seed: bytes) -> MemorySigner | Cosigner:
    if not is_name(name) or (kind == ML_DSA_44 and len(name.encode()) > MAX_NAME):
        raise Malformed("malformed-key", f"{name[:80]!r} is no name of such a key")
    if kind == ED25519:
        return MemorySigner.from_seed(name, seed)
    if kind not in (COSIGNATURE_V1, ML_DSA_44):
        raise Malformed("malformed-key", f"private keys of type {kind} are not known")
    return Cosigner(name, kind, seed)


def _create(path: Path, name: str, kind: int) -> str:
    line = format_key(name, os.urandom(32), kind)
    written = line if _unlocking.new is None else encrypt_key(line, _unlocking.new(path))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(written)
        file.flush()
        os.fsync(file.fileno())
    return line


def encrypt_file(path: Path, passphrase: bytes) -> str:
    """Put the key in a file under a passphrase, in place of another one or of none; its name.

    A crash leaves the file as it was or as it shall be. What the disk keeps of a key in clear that
    was overwritten, nobody can say: a key that must never have lain in clear is made encrypted.
    """
    line = encrypt_key(_opened(_read(path), path), passphrase)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return line[len(_ENCRYPTED) :].split("+", 1)[0]


def _read(path: Path) -> str:
    try:
        file = path.open()
    except OSError as err:
        reason = f"the key file {path} cannot be read: {err.strerror}"
        raise Malformed("malformed-key", reason) from err
    with file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise Malformed(
                "malformed-key", f"{path} has mode {mode:04o}; a key file must be 0600 (chmod 600)"
            )
        try:
            return file.read(4096)
        except UnicodeDecodeError:
            # not `from err`: it would carry the file's bytes
            raise Malformed("malformed-key", f"{path} is no key file") from None
