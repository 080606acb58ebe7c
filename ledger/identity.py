"""Which certificate, which holder: numbers, GB/T 36904 identifiers, map keys, pseudonyms."""

from __future__ import annotations

import hmac
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from .errors import Malformed

MAX_NUMBER = 1024  # bytes of UTF-8
HEAD = 16  # bytes of a map key that are never another's: rows are found by them
GB_ROOT = "1.2.156.3005.2"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GB = re.compile(
    r"1\.2\.156\.3005\.2\.([0-9A-Z]{18}[0-9A-Z]{3})\.([0-9A-Z]{6,21})\.([0-9A-Z]{1,64})"
    r"\.([0-9]{3})\.([0-9A-Z])"
)
_DEPARTMENT = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")
_TYPE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,126}[a-zA-Z0-9])?")
FOLDED = re.compile("[\u3000\uff01-\uff5e]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")  # Cc, Cs, Zl, Zp
_VERSION = re.compile(r"[1-9][0-9]{0,5}")


@lru_cache(maxsize=1024)  # few, and every event names one
def check_department(text: str) -> None:
    """None for a department id: 1 to 63 of A-Z a-z 0-9 . _ -, beginning and ending in one of 36."""
    if not _DEPARTMENT.fullmatch(text):
        raise Malformed("malformed-number", f"{text[:70]!r} is no department id")


@lru_cache(maxsize=1024)
def check_type(text: str) -> None:
    """None for a certificate type code: 1 to 128 of A-Z a-z 0-9 . _ -."""
    if not _TYPE.fullmatch(text):
        raise Malformed("malformed-number", f"{text[:70]!r} is no certificate type code")


def normalise_number(text: str) -> str:
    """`text` as certificate numbers are kept: NFC, full-width ASCII folded, ends trimmed.

    Inner spaces stay: registers do tell numbers apart by them.
    """
    if text.isascii():
        return text.strip()
    if FOLDED.search(text):
        text = "".join(
            chr(ord(c) - 0xFEE0) if "\uff01" <= c <= "\uff5e" else " " if c == "\u3000" else c
            for c in text
        )
    return unicodedata.normalize("NFC", text).strip()


def check_number(text: str) -> None:
    """None for a normalised certificate number of 1 to 1,024 bytes without control characters."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= MAX_NUMBER:
        if text[0] != " " != text[-1]:
            return
    elif not text or len(text.encode(errors="surrogatepass")) > MAX_NUMBER:
        raise Malformed("malformed-number", f"a certificate number has 1 to {MAX_NUMBER} bytes")
    if normalise_number(text) != text:
        raise Malformed("malformed-number", "the certificate number is not in normalised form")
    if _CONTROL.search(text):
        raise Malformed("malformed-number", "the certificate number holds control characters")


def map_key(kind: bytes, *parts: bytes) -> bytes:
    """SHA-256(kind byte, then each part behind its length as two bytes, big-endian)."""
    return sha256(kind + b"".join(len(part).to_bytes(2, "big") + part for part in parts)).digest()


@lru_cache(maxsize=4096)  # a question looks at one several times
def certificate_key(type_code: str, issuer: str, number: str) -> bytes:
    """The status map's key of a certificate; `issuer` is the original one, for ever."""
    serial = number.encode()
    prefix = certificate_prefix(type_code, issuer)
    return sha256(prefix + len(serial).to_bytes(2, "big") + serial).digest()


@lru_cache(maxsize=1024)
def certificate_prefix(type_code: str, issuer: str) -> bytes:
    """What is hashed before the serial's length and the serial."""
    parts = (type_code.encode(), issuer.encode())
    return b"C" + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def holder_key(pseudonym: str) -> bytes:
    """The status map's key of a holder, version of the pseudonym secret included."""
    version, digest = parse_pseudonym(pseudonym)
    return sha256(holder_prefix(version) + digest).digest()


@lru_cache(maxsize=64)
def holder_prefix(version: int) -> bytes:
    """What is hashed before the pseudonym's 32 bytes."""
    text = str(version).encode()
    return b"H" + len(text).to_bytes(2, "big") + text + (32).to_bytes(2, "big")


def lane_of(key: bytes, lanes: int) -> int:
    """The lane on which a department's events about this certificate travel."""
    return int.from_bytes(key[:8], "big") % lanes


def make_pseudonym(secret: bytes, version: int, scheme: str, number: str) -> str:
    """The holder's pseudonym: HMAC-SHA-256 over scheme and number under a versioned secret.

    A bare hash of a guessable number would be no secret; the departments share this key.
    """
    message = map_key(b"P", scheme.encode(), normalise_number(number).encode())
    return f"{version}:{hmac.digest(secret, message, 'sha256').hex()}"


def pseudonym_check(secret: bytes) -> str:
    """What the registry shows of a pseudonym secret, in hex: who holds the secret recognises it,
    who does not learns nothing.
    """
    return hmac.digest(secret, b"certledger pseudonym check v1\n", "sha256").hex()


def parse_pseudonym(text: str) -> tuple[int, bytes]:
    """(version of the secret, 32 bytes) of a pseudonym `version:hex`."""
    version, _, digits = text.partition(":")
    number = pseudonym_version(version)
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if not number or len(digest) != 32 or digest.hex() != digits:
        raise Malformed("malformed-number", "a holder pseudonym is VERSION:64 hex digits")
    return number, digest


@lru_cache(maxsize=64)
def pseudonym_version(text: str) -> int:
    """The version of a pseudonym's secret, 0 for what is none."""
    return int(text) if _VERSION.fullmatch(text) else 0


@dataclass(frozen=True, slots=True)
class Identifier:
    """A GB/T 36904 certificate identifier, its check character verified."""

    type_code: str
    issuer_code: str
    serial: str
    version: int

    def __str__(self) -> str:
        body = f"{self.type_code}.{self.issuer_code}.{self.serial}.{self.version:03d}"
        return f"{GB_ROOT}.{body}.{check_character(body.replace('.', ''))}"


def parse_identifier(text: str) -> Identifier:
    """The identifier in `text`; Malformed names the expected check character when that is wrong."""
    match = _GB.fullmatch(text)
    if not match:
        raise Malformed("malformed-number", "not of the form of a GB/T 36904 identifier")
    identifier = Identifier(match[1], match[2], match[3], int(match[4]))
    if identifier.version < 1:
        raise Malformed("malformed-number", "an identifier's version is 001 or more")
    if str(identifier) != text:
        raise Malformed(
            "malformed-number",
            f"check character {match[5]} found, {str(identifier)[-1]} expected",
        )
    return identifier


def check_character(payload: str) -> str:
    """The ISO 7064 MOD 37,36 check character over digits and capitals.

    Ours because the offline verifier has no other library; python-stdnum is its oracle in tests.
    """
    value = 36
    for char in payload:
        value = (value + _ALPHABET.index(char)) % 36 or 36
        value = value * 2 % 37
    return _ALPHABET[(1 - value) % 36]
