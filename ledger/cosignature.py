"""Cosignatures of checkpoints (C2SP tlog-cosignature): Ed25519 (key type 0x04), ML-DSA-44 (0x06).

A cosignature says when it was made: that then this was the largest tree of the log that the
cosigner had seen. Ledgers cosign their own checkpoints with ML-DSA-44, under their origin's name;
witnesses cosign those of others. The signature in a note's line is u64 seconds ‖ signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .errors import Malformed, ProofError, Unavailable
from .note import (
    ED25519,
    CheckingKey,
    Signature,
    VerifierKey,
    check_public,
    decode_hash,
    format_vkey,
    key_hash,
    parse_decimal,
    split_vkey,
    verify_ed25519,
)

COSIGNATURE_V1 = 0x04
ML_DSA_44 = 0x06
PUBLIC_BYTES = {COSIGNATURE_V1: 32, ML_DSA_44: 1312}
SIGNATURE_BYTES = {COSIGNATURE_V1: 64, ML_DSA_44: 2420}
MAX_NAME = 255  # bytes of cosigner name and origin inside an ML-DSA-44 message
_MAX_TIME = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """A cosigner's public key under its name; `kind` is the key type."""

    name: str
    kind: int
    public: bytes

    @property
    def key_hash(self) -> bytes:
        return key_hash(self.name, self.kind, self.public)

    def __str__(self) -> str:
        return format_vkey(self.name, self.kind, self.public)

    def check(self, text: bytes, signature: bytes) -> None:
        """None when `signature`, time included, is this cosigner's over the checkpoint `text`.

        ProofError otherwise; Unavailable where the installed `cryptography` lacks the algorithm.
        """
        if len(signature) != 8 + SIGNATURE_BYTES[self.kind]:
            raise ProofError("bad-signature", f"a cosignature of {len(signature)} bytes")
        self.verify(self.message(text, read_time(signature)), signature[8:])

    def verify(self, message: bytes, raw: bytes) -> None:
        """None when `raw` is this key's signature of the bytes of `message`, errors as `check`."""
        try:
            if self.kind == COSIGNATURE_V1:
                verify_ed25519(self.public, raw, message)
            else:
                _verify_ml_dsa(_ml_dsa(), self.public, raw, message)
        except InvalidSignature as err:
            raise ProofError("bad-signature") from err
        except UnsupportedAlgorithm as err:
            raise _lacking() from err

    def message(self, text: bytes, seconds: int) -> bytes:
        """What is signed for a checkpoint's text, cosigned at `seconds` since 1970."""
        if not 0 <= seconds <= _MAX_TIME:
            raise Malformed("malformed-note", "a cosignature's time has at most 63 bits")
        if self.kind == COSIGNATURE_V1:
            return f"cosignature/v1\ntime {seconds}\n".encode() + text
        origin, size, root = _first_lines(text)
        name = self.name.encode()
        return b"".join(
            (
                b"subtree/v1\n\0",
                len(name).to_bytes(1, "big") + name,
                seconds.to_bytes(8, "big"),
                len(origin).to_bytes(1, "big") + origin,
                bytes(8),
                size.to_bytes(8, "big"),
                root,
            )
        )


class Cosigner:
    """A cosigner whose private key (`seed`, 32 bytes) is in this process's memory."""

    def __init__(self, name: str, kind: int, seed: bytes) -> None:
        """Unavailable where the installed `cryptography` lacks the algorithm."""
        self._private: Any
        if kind == COSIGNATURE_V1:
            self._private = Ed25519PrivateKey.from_private_bytes(seed)
        else:
            try:
                self._private = _ml_dsa().MLDSA44PrivateKey.from_seed_bytes(seed)
            except UnsupportedAlgorithm as err:
                raise _lacking() from err
        self.key = CosignerKey(name, kind, self._private.public_key().public_bytes_raw())

    def cosign(self, text: bytes, seconds: int) -> Signature:
        """The signature line over a checkpoint's text, made at `seconds` since 1970."""
        raw = self._private.sign(self.key.message(text, seconds))
        return Signature(self.key.name, self.key.key_hash, seconds.to_bytes(8, "big") + raw)


def read_time(signature: bytes) -> int:
    """Seconds since 1970 that a cosignature states; ProofError beyond 63 bits."""
    seconds = int.from_bytes(signature[:8], "big")
    if len(signature) < 8 or seconds > _MAX_TIME:
        raise ProofError("bad-signature", "a cosignature's time has at most 63 bits")
    return seconds


def parse_cosigner_key(text: str) -> CosignerKey:
    """The cosigner's key in `name+hash+key`, type 0x04 or 0x06; Malformed otherwise."""
    name, kind, public = split_vkey(text)
    if kind not in PUBLIC_BYTES or len(public) != PUBLIC_BYTES[kind]:
        raise Malformed("malformed-key", f"type {kind}, {len(public)} bytes: no cosigner's key")
    if kind == COSIGNATURE_V1:
        check_public(public)
    elif len(name.encode()) > MAX_NAME:
        raise Malformed("malformed-key", "an ML-DSA-44 cosigner's name has at most 255 bytes")
    return CosignerKey(name, kind, public)


def parse_checkpoint_key(text: str) -> VerifierKey | CosignerKey:
    """A key that signs or cosigns checkpoints, of any known type; Malformed otherwise."""
    name, kind, public = split_vkey(text)
    if kind != ED25519:
        return parse_cosigner_key(text)
    check_public(public)
    return VerifierKey(name, public)


def short_name(key: CheckingKey) -> str:
    """A key for people: its name and hash."""
    return f"{key.name}+{key.key_hash.hex()}"


def _first_lines(text: bytes) -> tuple[bytes, int, bytes]:
    lines = text.split(b"\n")
    if len(lines) < 4 or not 1 <= len(lines[0]) <= MAX_NAME:
        raise Malformed("malformed-note", f"a checkpoint's origin has 1 to {MAX_NAME} bytes")
    size = parse_decimal(lines[1].decode(errors="replace"))
    return lines[0], size, decode_hash(lines[2].decode(errors="replace"))


def _ml_dsa() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError as err:
        raise _lacking() from err
    return mldsa


@lru_cache(maxsize=64)
def _verify_ml_dsa(mldsa: Any, public: bytes, raw: bytes, message: bytes) -> None:
    mldsa.MLDSA44PublicKey.from_public_bytes(public).verify(raw, message)


def _lacking() -> Unavailable:
    return Unavailable("signature-unsupported")
