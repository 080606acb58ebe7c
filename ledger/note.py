"""Signed notes and their keys (C2SP signed-note), Ed25519 (key type 0x01).

A note is its text, an empty line, and one line per signature. The name of a key carries its role
(FORMATS.md, section 4), so a signature made in one role is none in another.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .canonical import check_text
from .errors import LedgerError, Malformed, ProofError

ED25519 = 0x01
MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 64
_SMALL = 8 * 1024  # bytes of a note that is worth remembering
_PRIME = 2**255 - 19
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]{1,512}")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under its name; `key_hash` is the 4 bytes that signature lines repeat."""

    name: str
    public: bytes  # 32 raw bytes

    @property
    def key_hash(self) -> bytes:
        return key_hash(self.name, ED25519, self.public)

    @property
    def key_id(self) -> str:
        """How registry records and transitions name a key: hex of SHA-256 of the public key."""
        return sha256(self.public).hexdigest()

    def __str__(self) -> str:
        return format_vkey(self.name, ED25519, self.public)

    def check(self, text: bytes, signature: bytes) -> None:
        """None when `signature` (64 bytes) is this key's over `text`, ProofError otherwise."""
        try:
            verify_ed25519(self.public, signature, text)
        except InvalidSignature as err:
            raise ProofError("bad-signature") from err


@lru_cache(maxsize=1024)
def verify_ed25519(public: bytes, signature: bytes, text: bytes) -> None:
    """None for a good signature, InvalidSignature otherwise. Many evidence files rest on the same
    few signatures: good ones are remembered.
    """
    Ed25519PublicKey.from_public_bytes(public).verify(signature, text)


class CheckingKey(Protocol):
    """What a signature line is checked with, whatever its algorithm."""

    @property
    def name(self) -> str: ...

    @property
    def key_hash(self) -> bytes: ...

    def check(self, text: bytes, signature: bytes) -> None:
        """None when `signature` is this key's over `text`, ProofError otherwise."""
        ...


class Signer(Protocol):
    """What signs notes: a key file, an HSM, a process of its own."""

    @property
    def key(self) -> VerifierKey: ...

    def sign(self, text: bytes) -> bytes:
        """The raw signature (64 bytes) over `text`."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    key_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note: `text` ends in a newline and is what was signed."""

    text: bytes
    signatures: tuple[Signature, ...]

    def by(self, key: CheckingKey) -> Signature | None:
        """The signature that claims to be by `key`; a parsed note has no second one."""
        for signature in self.signatures:
            if signature.name == key.name and signature.key_hash == key.key_hash:
                return signature
        return None

    def check_signed_by(self, key: CheckingKey) -> None:
        """None when `key` signed the text, ProofError otherwise."""
        claimed = self.by(key)
        if claimed is None:
            raise ProofError("bad-signature", f"no signature by {key.name} ({key.key_hash.hex()})")
        key.check(self.text, claimed.signature)


def key_hash(name: str, kind: int, public: bytes) -> bytes:
    """The first 4 bytes of SHA-256(name, newline, key type, public key)."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def format_vkey(name: str, kind: int, public: bytes) -> str:
    """The verifier key `name+hash+key` of a public key of a type."""
    payload = base64.b64encode(bytes([kind]) + public).decode()
    return f"{name}+{key_hash(name, kind, public).hex()}+{payload}"


def split_vkey(text: str) -> tuple[str, int, bytes]:
    """(name, key type, public key) of a verifier key of any type; Malformed otherwise."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not is_name(parts[0]):
        raise Malformed("malformed-key", "a verifier key is NAME+HASH+BASE64")
    name, hash_hex, payload = parts
    raw = decode_base64(payload, "malformed-key")
    if len(raw) < 2:
        raise Malformed("malformed-key", "a verifier key holds its type and the key")
    if key_hash(name, raw[0], raw[1:]).hex() != hash_hex:
        raise Malformed("malformed-key", f"{hash_hex[:16]!r} is not the hash of this key")
    return name, raw[0], raw[1:]


def is_name(text: str) -> bool:
    """Whether a key may have this name: UTF-8 in form C without spaces, plus and controls."""
    try:
        check_text(text)
    except LedgerError:
        return False
    return bool(_NAME.fullmatch(text))


@lru_cache(maxsize=1024)
def parse_vkey(text: str) -> VerifierKey:
    """The key in `name+hash+key`; Ed25519 only (Malformed otherwise)."""
    name, kind, public = split_vkey(text)
    if kind != ED25519:
        raise Malformed("malformed-key", f"a key of type {kind}: an Ed25519 key, type 1, is needed")
    check_public(public)
    return VerifierKey(name, public)


def check_public(public: bytes) -> None:
    """None for an Ed25519 public key that is canonical (y below the prime) and not of small order.

    Malformed otherwise. Whether it is on the curve shows at the first signature.
    """
    if len(public) != 32:
        raise Malformed("malformed-key", "an Ed25519 public key has 32 bytes")
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _PRIME:
        raise Malformed("malformed-key", "the public key is not canonically encoded")
    if y in _SMALL_ORDER_Y:
        raise Malformed("malformed-key", "the public key is a point of small order")


# The y coordinates of the eight points of order 1, 2, 4 and 8 (RFC 8032's curve).
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        int("2707385501144840649318225287225658788936804267575313519463743609750303402022"),
        int("55188659117513257062467267217118295137698188065244968500265048394206261417927"),
    }
)


def format_text(lines: Iterable[str]) -> bytes:
    """The text of a note out of its lines."""
    return "".join(line + "\n" for line in lines).encode()


def sign(text: bytes, signers: Sequence[Signer]) -> bytes:
    """The note of `text` signed by all `signers` in their order."""
    return format_note(text, [Signature(s.key.name, s.key.key_hash, s.sign(text)) for s in signers])


def format_note(text: bytes, signatures: Iterable[Signature]) -> bytes:
    """The bytes of a note."""
    return text + b"\n" + format_lines(signatures)


def format_lines(signatures: Iterable[Signature]) -> bytes:
    """Signature lines as they end a note."""
    return b"".join(
        b"\xe2\x80\x94 %s %s\n" % (s.name.encode(), base64.b64encode(s.key_hash + s.signature))
        for s in signatures
    )


def parse_note(data: bytes) -> Note:
    """The note in `data`, which must be what `format_note` prints; Malformed otherwise."""
    if len(data) > MAX_NOTE:
        raise Malformed("malformed-note", f"a note of {len(data)} bytes, at most {MAX_NOTE}")
    return _parse_known(data) if len(data) <= _SMALL else _parse(data)


def _parse(data: bytes) -> Note:
    try:
        whole = data.decode()
        check_text(whole)  # an entry keeps notes inside canonical JSON
    except (UnicodeDecodeError, LedgerError) as err:
        raise Malformed("malformed-note", "a note is UTF-8 in normalisation form C") from err
    if _CONTROL.search(whole):
        raise Malformed("malformed-note", "a note holds no control characters")
    cut = whole.rfind("\n\n")
    if cut < 0 or not whole.endswith("\n"):
        raise Malformed("malformed-note", "a note is a text, an empty line and signature lines")
    text, lines = whole[: cut + 1], whole[cut + 2 :].split("\n")[:-1]
    if not 1 <= len(lines) <= MAX_SIGNATURES:
        raise Malformed("malformed-note", f"a note has 1 to {MAX_SIGNATURES} signatures")
    signatures = tuple(_parse_signature(line) for line in lines)
    if len({(s.name, s.key_hash) for s in signatures}) < len(signatures):
        raise Malformed("malformed-note", "two signatures by one name and key hash")
    return Note(text.encode(), signatures)


_parse_known = lru_cache(maxsize=256)(_parse)


def _parse_signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not is_name(parts[1]):
        raise Malformed("malformed-note", f"not a signature line: {line[:60]!r}")
    raw = decode_base64(parts[2], "malformed-note")
    if len(raw) < 5:
        raise Malformed("malformed-note", "a signature is a 4-byte key hash and more")
    return Signature(parts[1], raw[:4], raw[4:])


def decode_base64(text: str, code: str = "malformed-note") -> bytes:
    """The bytes of canonical padded base64 (RFC 4648 section 4), Malformed `code` otherwise."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as err:
        raise Malformed(code, "not base64") from err
    if base64.b64encode(raw).decode() != text:
        raise Malformed(code, "not canonical base64")
    return raw


def decode_hash(text: str, code: str = "malformed-note") -> bytes:
    """The 32 bytes of a base64 hash."""
    raw = decode_base64(text, code)
    if len(raw) != 32:
        raise Malformed(code, "a hash has 32 bytes")
    return raw


def parse_decimal(text: str, code: str = "malformed-note", limit: int = 2**63 - 1) -> int:
    """A non-negative decimal without sign, leading zero or foreign digits."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        raise Malformed(code, f"{text[:24]!r} is no decimal number")
    if len(text) > 19 or int(text) > limit:
        raise Malformed(code, f"{text[:24]} is over {limit}")
    return int(text)


class MemorySigner:
    """A signer whose private key is in this process's memory."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key = VerifierKey(name, private.public_key().public_bytes_raw())

    def sign(self, text: bytes) -> bytes:
        return self._private.sign(text)

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> MemorySigner:
        """The signer whose private key is `seed` (32 bytes)."""
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))
