"""Private keys in files: one line `PRIVATE+KEY+NAME+HASH+BASE64`, mode 0600."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from .errors import Malformed
from .note import ED25519, MemorySigner, decode_base64, is_name

_PREFIX = "PRIVATE+KEY+"


def format_key(name: str, seed: bytes) -> str:
    """The file's line for an Ed25519 private key (`seed`, 32 bytes)."""
    if not is_name(name):
        raise Malformed("malformed-key", f"{name[:80]!r} is no key name")
    key = MemorySigner.from_seed(name, seed).key
    payload = base64.b64encode(bytes([ED25519]) + seed).decode()
    return f"{_PREFIX}{name}+{key.key_hash.hex()}+{payload}\n"


def parse_key(text: str) -> MemorySigner:
    """The signer in a key file's line; Malformed otherwise, never naming the key itself."""
    if not text.startswith(_PREFIX) or not text.endswith("\n") or text.count("\n") != 1:
        raise Malformed("malformed-key", "a key file is one line PRIVATE+KEY+NAME+HASH+BASE64")
    parts = text[len(_PREFIX) : -1].split("+", 2)
    raw = decode_base64(parts[2], "malformed-key") if len(parts) == 3 else b""
    if len(raw) != 33 or raw[0] != ED25519 or not is_name(parts[0]):
        raise Malformed("malformed-key", "only Ed25519 private keys are known")
    signer = MemorySigner.from_seed(parts[0], raw[1:])
    if signer.key.key_hash.hex() != parts[1]:
        raise Malformed("malformed-key", "the key file's hash is not its key's")
    return signer


def create_key(path: Path, name: str) -> MemorySigner:
    """A new private key in a new file that only its owner can read; FileExistsError otherwise."""
    line = format_key(name, os.urandom(32))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return parse_key(line)


def load_key(path: Path) -> MemorySigner:
    """The signer in a key file; a file that others can read is refused, and so is a missing one."""
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
            return parse_key(file.read(4096))
        except UnicodeDecodeError:
            # not `from err`: it would carry the file's bytes
            raise Malformed("malformed-key", f"{path} is no key file") from None
