"""Status lists for wallets and old verifiers: two published forms of one table.

IETF Token Status List (draft-ietf-oauth-status-list): two bits per entry, entry 0 in the *least*
significant bits of the first byte, zlib, as JWT or CWT. W3C Bitstring Status List v1.0: one list
per purpose, entry 0 is the *most* significant bit, gzip, as a credential secured as vc+jwt.
FORMATS.md section 16; published vectors: tests/vectors/test_status_lists.py.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

import cbor2

from . import canonical, times
from .doubt import Doubts, Steps, find_doubtful
from .errors import LedgerError, Malformed, ProofError
from .event import CORRECTED, EXPIRED
from .lifecycle import VERSION_ACTS, Transition, answer, effective
from .note import Signer, VerifierKey

ENTRIES = 1 << 20
BITS = 2
TTL_SECONDS = 300  # how long a reader keeps a list before it asks again
LIFE_SECONDS = 86_400  # what no reader believes any longer
MANY = 1 << 14  # bytes of an array that are not 0
MAX_TOKEN = 4 * 1024 * 1024

# What an entry says. The first four are the values of the IETF form.
VALID, INVALID, SUSPENDED, UNDECIDED, SUPERSEDED = range(5)
IETF = {VALID: 0, INVALID: 1, SUSPENDED: 2, UNDECIDED: 3, SUPERSEDED: 1}
_IN_IETF = bytes(IETF.get(said, 0) for said in range(256))
_SAYS = re.compile(rb"[^\0]")
_SAID = {
    "in-force": VALID,
    "suspended": SUSPENDED,
    "transferred": UNDECIDED,
    "end-unknown": UNDECIDED,
}
PURPOSES = {
    "revocation": {INVALID},
    "suspension": {SUSPENDED, UNDECIDED},
    "refresh": {SUPERSEDED},
}

JWT, CWT, CREDENTIAL = (
    "application/statuslist+jwt",
    "application/statuslist+cwt",
    "application/vc+jwt",
)
_SUB, _EXP, _IAT, _TTL, _LIST = 2, 4, 6, 65534, 65533  # claims of a CWT
_ALG, _KID, _TYP, _EDDSA = 1, 4, 16, -8  # COSE header parameters
_SIGN1 = 18  # CBOR tag
_PLACE_TAG = b"certledger status place v1\n"
_BLOCK = 64  # bytes that SHA-256 takes at once
_CONTEXT = "https://www.w3.org/ns/credentials/v2"


def key_name(origin: str) -> str:
    """The name of the key that signs status lists and nothing else."""
    return f"{origin}/statuslist"


# --- what an entry says ---


def statuses(history: Sequence[Transition], at: int) -> dict[int, int]:
    """What the entries of all versions that a history (which may be empty) ever gave say about the
    instant `at`, by version.

    Days of validity are the credential's own business (`nbf`, `exp`): a version that has not
    begun, or has ended by its own dates, is VALID here. What a correction or a department's
    statement of expiry may have moved is in no credential, so then it is not.
    """
    found = {t.version: INVALID for t in history if t.kind in VERSION_ACTS}
    whole = answer(history, at) if history else None
    if whole is None or whole.reason == "voided" or whole.reason.startswith("revoked-"):
        return found
    corrected = any(t.kind == CORRECTED for t in history)
    waiting = UNDECIDED if corrected else VALID
    for t in effective(history):
        if t.kind not in VERSION_ACTS:
            continue
        if whole.reason == "start-unknown":
            found[t.version] = UNDECIDED
        elif whole.reason == "not-yet-valid" or t.version > whole.version:
            found[t.version] = waiting
        elif t.version < whole.version:
            found[t.version] = SUPERSEDED
        elif whole.reason == "expired":
            stated = any(e.kind == EXPIRED and e.id in whole.deciding for e in history)
            found[t.version] = INVALID if stated or corrected else VALID
        else:
            found[t.version] = _SAID[whole.reason]
    return found


def under_doubt(said: dict[int, int], steps: Steps, at: int, doubts: Doubts) -> dict[int, int]:
    """What `statuses` said of the whole history at the instant `at`, or UNDECIDED of each version
    about which the answer rests on a doubtful event.
    """
    doubtful = find_doubtful(steps, len(steps), doubts) if doubts else {}
    if not doubtful:
        return said
    history = [t for _, t in steps]
    return {
        version: value
        if doubtful.keys().isdisjoint(answer(history, at, version).deciding)
        else UNDECIDED
        for version, value in said.items()
    }


def draw_place(secret: bytes, key: bytes, version: int, attempt: int) -> int:
    """Where a version of the certificate with this map key stands in its list, at the given
    attempt: the first that is free counts. Random to whoever lacks the secret, and the same
    again when a ledger is restored.
    """
    inner, outer = _pads(secret)
    said = key + version.to_bytes(8, "big") + attempt.to_bytes(4, "big")
    digest = sha256(outer + sha256(inner + said).digest()).digest()
    return int.from_bytes(digest[:8], "big") % ENTRIES


@lru_cache(maxsize=2)
def _pads(secret: bytes) -> tuple[bytes, bytes]:
    """What HMAC-SHA-256 under a secret of at most a block hashes before a place's words, and before
    their hash (RFC 2104 section 2): by plain hashes it takes half the time of `hmac.digest`.
    """
    if len(secret) > _BLOCK:
        raise ValueError("a secret is at most 64 bytes")
    block = secret.ljust(_BLOCK, b"\0")
    return bytes(b ^ 0x36 for b in block) + _PLACE_TAG, bytes(b ^ 0x5C for b in block)


# --- arrays ---


def lay_out(values: Mapping[int, int], entries: int = ENTRIES) -> bytes:
    """A byte for each entry: what is said there, 0 where nothing is."""
    says = bytearray(entries)
    for index, value in values.items():
        says[index] = value
    return bytes(says)


def pack(says: bytes, bits: int = BITS) -> bytes:
    """The array of an IETF list; `says` has a byte for each entry, below 2^bits."""
    each = 8 // bits
    return _joined(says, each, [n * bits for n in range(each)])


def unpack(array: bytes, bits: int = BITS) -> dict[int, int]:
    """The entries of an IETF list's array that are not 0, by index."""
    mask, each = (1 << bits) - 1, 8 // bits
    return {
        at * each + n: value
        for at, byte in enumerate(array)
        if byte
        for n in range(each)
        if (value := byte >> (n * bits) & mask)
    }


def pack_bitstring(ones: bytes) -> bytes:
    """The bitstring of a W3C list; `ones` has a byte for each entry, 0 or 1."""
    return _joined(ones, 8, range(7, -1, -1))


def _joined(says: bytes, each: int, shifts: Sequence[int]) -> bytes:
    """Every `each` bytes shifted and joined to one, all of them as one long number at a time."""
    joined = 0
    for n, shift in enumerate(shifts):
        joined |= int.from_bytes(says[n::each], "big") << shift
    return joined.to_bytes(len(says) // each, "big")


def unpack_bitstring(array: bytes) -> set[int]:
    """The indexes of a W3C list's entries that are 1."""
    return {
        at * 8 + n for at, byte in enumerate(array) if byte for n in range(8) if byte & (0x80 >> n)
    }


def compress(array: bytes) -> bytes:
    """An IETF list's array as it travels: zlib at its best."""
    # Where many are not 0, runs alone leave 10 % more at most, mostly less, a hundred times sooner.
    many = len(array) - array.count(0) > MANY
    strategy = zlib.Z_RLE if many else zlib.Z_DEFAULT_STRATEGY
    worker = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return worker.compress(array) + worker.flush()


def decompress(data: bytes, size: int) -> bytes:
    """The array of `size` bytes in zlib `data`; Malformed for anything longer, shorter or else."""
    return _inflate(data, size, zlib.MAX_WBITS)


def encode_bitstring(bitstring: bytes) -> str:
    """A W3C list as it travels: gzip, base64url without padding, multibase's letter u."""
    # By runs alone: the longest search leaves 6 % less at 1 % of ones, and more from 4 % on.
    worker = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16, 9, zlib.Z_RLE)
    return "u" + _base64(worker.compress(bitstring) + worker.flush())


def decode_bitstring(text: str, size: int = ENTRIES // 8) -> bytes:
    """The bitstring of `size` bytes in an `encodedList`; Malformed otherwise."""
    if text[:1] != "u":
        raise Malformed("malformed-status-list", "an encodedList begins with u")
    return _inflate(_unbase64(text[1:]), size, zlib.MAX_WBITS | 16)


def _inflate(data: bytes, size: int, form: int) -> bytes:
    worker = zlib.decompressobj(form)
    try:
        array = worker.decompress(data, size + 1)
    except zlib.error as err:
        raise Malformed("malformed-status-list", f"the list does not unpack: {err}") from err
    if len(array) != size or not worker.eof or worker.unused_data:
        raise Malformed("malformed-status-list", f"the list is not one of {size} bytes")
    return array


# --- tokens ---


@dataclass(frozen=True)
class StatusList:
    """One list as of one moment."""

    uri: str
    tree_size: int  # leaves of the log that it reflects
    issued_at: int  # seconds since 1970
    says: bytes  # a byte for each entry

    @property
    def expires_at(self) -> int:
        return self.issued_at + LIFE_SECONDS

    def statuses(self) -> dict[int, int]:
        """What is said, by index, VALID left out."""
        return {match.start(): self.says[match.start()] for match in _SAYS.finditer(self.says)}

    def in_ietf(self) -> bytes:
        """What the IETF forms say, a byte for each entry."""
        return self.says.translate(_IN_IETF)

    @cached_property
    def packed(self) -> bytes:
        """The array of the IETF forms as it travels: up to a tenth of a second's work."""
        return compress(pack(self.in_ietf()))


def format_jwt(made: StatusList, signer: Signer) -> bytes:
    """The list as a JWT of type statuslist+jwt."""
    claims = {
        "exp": made.expires_at,
        "iat": made.issued_at,
        "status_list": {"bits": BITS, "lst": _base64(made.packed)},
        "sub": made.uri,
        "tree_size": made.tree_size,
        "ttl": TTL_SECONDS,
    }
    return _sign_jwt("statuslist+jwt", claims, signer)


def format_cwt(made: StatusList, signer: Signer) -> bytes:
    """The list as a CWT of type application/statuslist+cwt, a tagged COSE_Sign1."""
    claims = _cwt_claims(made.uri, made.tree_size, made.issued_at, made.packed)
    protected = _cwt_header(signer.key)
    signature = signer.sign(_to_be_signed(protected, claims))
    return _cbor(cbor2.CBORTag(_SIGN1, [protected, {}, claims, signature]))


def format_credential(made: StatusList, purpose: str, origin: str, signer: Signer) -> bytes:
    """The W3C list of one purpose as a credential secured as vc+jwt."""
    said = PURPOSES[purpose]
    ones = made.says.translate(bytes(value in said for value in range(256)))
    uri = f"{made.uri}/{purpose}"
    credential = {
        "@context": [_CONTEXT],
        "credentialSubject": {
            "encodedList": encode_bitstring(pack_bitstring(ones)),
            "id": f"{uri}#list",
            "statusPurpose": purpose,
            "type": "BitstringStatusList",
        },
        "id": uri,
        "issuer": f"https://{origin}",
        "type": ["VerifiableCredential", "BitstringStatusListCredential"],
        "validFrom": _moment(made.issued_at),
        "validUntil": _moment(made.expires_at),
    }
    return _sign_jwt("vc+jwt", credential, signer)


def parse_jwt(data: bytes, key: VerifierKey) -> StatusList:
    """The list in a JWT that `format_jwt` made; UNDECIDED and the like as the IETF form has them.

    Malformed `malformed-status-list`, or ProofError `status-list-refused` unless `key` signed it.
    """
    claims = _open_jwt(data, "statuslist+jwt", key)
    try:
        made = StatusList(
            claims["sub"],
            claims["tree_size"],
            claims["iat"],
            lay_out(
                unpack(decompress(_unbase64(claims["status_list"]["lst"]), ENTRIES * BITS // 8))
            ),
        )
        same = claims == {
            "exp": made.expires_at,
            "iat": made.issued_at,
            "status_list": {"bits": BITS, "lst": claims["status_list"]["lst"]},
            "sub": made.uri,
            "tree_size": made.tree_size,
            "ttl": TTL_SECONDS,
        }
    except (LookupError, TypeError) as err:
        raise Malformed("malformed-status-list", "not the claims of a status list") from err
    if not same or not _is_list(made):
        raise Malformed("malformed-status-list", "not the claims of a status list")
    return made


def parse_cwt(data: bytes, key: VerifierKey) -> StatusList:
    """The list in a CWT that `format_cwt` made; as `parse_jwt`."""
    message = _uncbor(data)
    if not isinstance(message, cbor2.CBORTag) or message.tag != _SIGN1:
        raise Malformed("malformed-status-list", "not a tagged COSE_Sign1")
    try:
        protected, _, claims, signature = message.value
        said = _uncbor(claims)
        packed = said[_LIST]["lst"]
        made = StatusList(
            said[_SUB],
            said["tree_size"],
            said[_IAT],
            lay_out(unpack(decompress(packed, ENTRIES * BITS // 8))),
        )
        if not _is_list(made):
            raise Malformed("malformed-status-list", "not the claims of a status list")
        same = (
            _cwt_claims(made.uri, made.tree_size, made.issued_at, packed) == claims
            and _cbor(cbor2.CBORTag(_SIGN1, [protected, {}, claims, signature])) == data
        )
    except (LookupError, TypeError, ValueError) as err:
        raise Malformed("malformed-status-list", "not a status list of ours") from err
    if not same or type(signature) is not bytes:
        raise Malformed("malformed-status-list", "not a status list of ours")
    if protected != _cwt_header(key):
        raise ProofError("status-list-refused", "another key or algorithm is named")
    _check(key, _to_be_signed(protected, claims), signature)
    return made


def parse_credential(
    data: bytes, purpose: str, origin: str, key: VerifierKey
) -> tuple[str, int, set[int]]:
    """(URI without purpose, seconds of issue, entries that are 1) of a credential that
    `format_credential` made; as `parse_jwt`.
    """
    credential = _open_jwt(data, "vc+jwt", key)
    try:
        uri = str(credential["id"]).removesuffix(f"/{purpose}")
        issued_at = times.parse_moment(credential["validFrom"]) // times.SECOND
        encoded = credential["credentialSubject"]["encodedList"]
        indexes = unpack_bitstring(decode_bitstring(encoded))
        same = credential == {
            "@context": [_CONTEXT],
            "credentialSubject": {
                "encodedList": encoded,
                "id": f"{uri}/{purpose}#list",
                "statusPurpose": purpose,
                "type": "BitstringStatusList",
            },
            "id": f"{uri}/{purpose}",
            "issuer": f"https://{origin}",
            "type": ["VerifiableCredential", "BitstringStatusListCredential"],
            "validFrom": _moment(issued_at),
            "validUntil": _moment(issued_at + LIFE_SECONDS),
        }
    except (LookupError, TypeError, ValueError, OverflowError) as err:
        raise Malformed("malformed-status-list", "not a status list credential of ours") from err
    if not same:
        raise Malformed("malformed-status-list", "not a status list credential of ours")
    return uri, issued_at, indexes


# --- what holders and verifiers need ---


def references(uri: str, index: int) -> dict[str, Any]:
    """What a credential about a certificate carries to be found in a list: the claim `status` of
    a token, and the `credentialStatus` of a W3C credential.
    """
    return {
        "status": {"status_list": {"idx": index, "uri": uri}},
        "credentialStatus": [
            {
                "id": f"{uri}/{purpose}#{index}",
                "type": "BitstringStatusListEntry",
                "statusPurpose": purpose,
                "statusListIndex": str(index),
                "statusListCredential": f"{uri}/{purpose}",
            }
            for purpose in PURPOSES
        ],
    }


def jwk(key: VerifierKey) -> dict[str, str]:
    """The public key as a JWK (RFC 8037), its `kid` the RFC 7638 thumbprint."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64(key.public)}
    kid = _base64(sha256(canonical.encode(members)).digest())
    return {"alg": "EdDSA", **members, "kid": kid, "use": "sig"}


def format_keys(keys: Sequence[VerifierKey]) -> bytes:
    """A JWK set (RFC 7517)."""
    return canonical.encode({"keys": [jwk(key) for key in keys]})


# --- JOSE and COSE ---


def _sign_jwt(typ: str, payload: dict[str, Any], signer: Signer) -> bytes:
    header = _base64(canonical.encode(_jwt_header(typ, signer.key)))
    signed = f"{header}.{_base64(canonical.format(payload))}".encode()
    return signed + b"." + _base64(signer.sign(signed)).encode()


def _jwt_header(typ: str, key: VerifierKey) -> dict[str, str]:
    return {"alg": "EdDSA", "kid": jwk(key)["kid"], "typ": typ}


def _open_jwt(data: bytes, typ: str, key: VerifierKey) -> dict[str, Any]:
    if len(data) > MAX_TOKEN or not data.isascii() or data.count(b".") != 2:
        raise Malformed("malformed-status-list", "not a JWT")
    signed, _, signature = data.rpartition(b".")
    header, payload = (_unbase64(part) for part in signed.decode().split("."))
    try:
        claims = canonical.parse(payload, MAX_TOKEN)
    except LedgerError as err:
        raise Malformed("malformed-status-list", f"the claims: {err.message}") from err
    if type(claims) is not dict:
        raise Malformed("malformed-status-list", "not a JWT's claims")
    if header != canonical.encode(_jwt_header(typ, key)):
        raise ProofError("status-list-refused", "another type, key or algorithm is named")
    _check(key, signed, _unbase64(signature.decode()))
    return claims


def _cwt_header(key: VerifierKey) -> bytes:
    return _cbor({_ALG: _EDDSA, _KID: jwk(key)["kid"].encode(), _TYP: CWT})


def _cwt_claims(uri: str, tree_size: int, issued_at: int, packed: bytes) -> bytes:
    return _cbor(
        {
            _SUB: uri,
            _EXP: issued_at + LIFE_SECONDS,
            _IAT: issued_at,
            _TTL: TTL_SECONDS,
            _LIST: {"bits": BITS, "lst": packed},
            "tree_size": tree_size,
        }
    )


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return _cbor(["Signature1", protected, b"", payload])  # RFC 9052 section 4.4


def _check(key: VerifierKey, signed: bytes, signature: bytes) -> None:
    try:
        key.check(signed, signature)
    except ProofError as err:
        raise ProofError("status-list-refused", f"not signed by {key.name}") from err


def _is_list(made: StatusList) -> bool:
    return (
        type(made.uri) is str
        and type(made.tree_size) is int
        and type(made.issued_at) is int
        and 0 < made.tree_size <= canonical.MAX_INTEGER
        and 0 <= made.issued_at <= canonical.MAX_INTEGER - LIFE_SECONDS
    )


def _cbor(value: Any) -> bytes:
    return bytes(cbor2.dumps(value, canonical=True))


def _uncbor(data: bytes) -> Any:
    if len(data) > MAX_TOKEN:
        raise Malformed("malformed-status-list", f"at most {MAX_TOKEN} bytes are allowed")
    try:
        return cbor2.loads(data)
    except Exception as err:  # what the library raises for strangers' bytes is no closed set
        raise Malformed("malformed-status-list", "not CBOR") from err


def _moment(seconds: int) -> str:
    return times.format_moment(seconds * times.SECOND)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
    except (AttributeError, ValueError, binascii.Error) as err:
        raise Malformed("malformed-status-list", "not base64url") from err
    if _base64(data) != text:
        raise Malformed("malformed-status-list", "not base64url without padding")
    return data
