"""Private keys in files: one line `PRIVATE+KEY+NAME+HASH+BASE64`, mode 0600."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from .cosignature import COSIGNATURE_V1, MAX_NAME, ML_DSA_44, Cosigner
from .errors import Malformed
from .note import ED25519, MemorySigner, decode_base64, is_name

_PREFIX = "PRIVATE+KEY+"


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
    return parse_key(_read(path))


def load_cosigner(path: Path) -> Cosigner:
    """The cosigner in a key file; a file that others can read is refused."""
    return parse_cosigner(_read(path))


def load_signer(path: Path) -> MemorySigner | Cosigner:
    """Whatever signer a key file holds; a file that others can read is refused."""
    return _parse(_read(path))


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
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return line


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
