"""Status list tokens: read by other programs, and everything else refused."""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import random
import zlib
from collections.abc import Callable
from typing import Any

import cbor2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import statuslist
from ledger.errors import LedgerError, Malformed, ProofError
from ledger.note import VerifierKey
from ledger.statuslist import (
    INVALID,
    SUPERSEDED,
    SUSPENDED,
    UNDECIDED,
    StatusList,
    format_credential,
    format_cwt,
    format_jwt,
    lay_out,
    parse_credential,
    parse_cwt,
    parse_jwt,
)
from tests import world

URI = "https://ledger.example/certificates/v1/status-lists/1"
SIGNER = world.signer(statuslist.key_name(world.ORIGIN))
NOW = 1_800_000_000
STATUSES = {0: INVALID, 7: SUSPENDED, 8: UNDECIDED, 4093: SUPERSEDED, 2**20 - 1: INVALID}
MADE = StatusList(URI, 12_345, NOW, lay_out(STATUSES))
AS_IETF = {0: 1, 7: 2, 8: 3, 4093: 1, 2**20 - 1: 1}


def test_places_are_drawn_by_hmac() -> None:
    drawn = random.Random(1)
    for size in (0, 1, 32, 63, 64):
        secret, key = drawn.randbytes(size), drawn.randbytes(32)
        version, attempt = drawn.randrange(1, 2**12), drawn.randrange(9)
        said = key + version.to_bytes(8, "big") + attempt.to_bytes(4, "big")
        digest = hmac.digest(secret, b"certledger status place v1\n" + said, "sha256")
        expected = int.from_bytes(digest[:8], "big") % 2**20
        assert statuslist.draw_place(secret, key, version, attempt) == expected
    with pytest.raises(ValueError, match="64 bytes"):
        statuslist.draw_place(bytes(65), bytes(32), 1, 0)


def unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def values_by_hand(array: bytes) -> dict[int, int]:
    """The draft's section 4.1, in its words: bits from the right, bytes from the left."""
    found = {}
    for index in range(2**20):
        if array[index // 4]:
            value = array[index // 4] >> (index % 4 * 2) & 0b11
            if value:
                found[index] = value
    return found


def test_a_jwt_is_read_by_another_program() -> None:
    token = format_jwt(MADE, SIGNER).decode()
    assert jwt.get_unverified_header(token) == {
        "alg": "EdDSA",
        "kid": statuslist.jwk(SIGNER.key)["kid"],
        "typ": "statuslist+jwt",
    }
    keys = jwt.PyJWKSet.from_json(statuslist.format_keys([SIGNER.key]).decode())
    key = keys[statuslist.jwk(SIGNER.key)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub"]}
    claims = jwt.decode(token, key, algorithms=["EdDSA"], options=options)
    packed = unbase64(claims["status_list"].pop("lst"))
    assert claims == {
        "exp": NOW + 86_400,
        "iat": NOW,
        "status_list": {"bits": 2},
        "sub": URI,
        "tree_size": 12_345,
        "ttl": 300,
    }
    assert values_by_hand(zlib.decompress(packed)) == AS_IETF


def test_a_cwt_by_the_text_of_its_specifications() -> None:
    message = cbor2.loads(format_cwt(MADE, SIGNER))
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert dict(cbor2.loads(protected)) == {
        1: -8,
        4: statuslist.jwk(SIGNER.key)["kid"].encode(),
        16: "application/statuslist+cwt",
    }
    assert not unprotected
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    Ed25519PublicKey.from_public_bytes(SIGNER.key.public).verify(signature, signed)
    claims = cbor2.loads(payload)
    assert (claims[2], claims[4], claims[6], claims[65534]) == (URI, NOW + 86_400, NOW, 300)
    assert claims[65533]["bits"] == 2
    assert values_by_hand(zlib.decompress(claims[65533]["lst"])) == AS_IETF


@pytest.mark.parametrize(
    ("purpose", "ones"),
    [("revocation", {0, 2**20 - 1}), ("suspension", {7, 8}), ("refresh", {4093})],
)
def test_a_credential_is_read_by_another_program(purpose: str, ones: set[int]) -> None:
    token = format_credential(MADE, purpose, world.ORIGIN, SIGNER).decode()
    key = jwt.PyJWK.from_dict(statuslist.jwk(SIGNER.key))
    credential = jwt.decode(token, key, algorithms=["EdDSA"])
    assert jwt.get_unverified_header(token)["typ"] == "vc+jwt"
    assert credential["type"] == ["VerifiableCredential", "BitstringStatusListCredential"]
    assert credential["validFrom"] == "2027-01-15T08:00:00Z"
    assert credential["validUntil"] == "2027-01-16T08:00:00Z"
    subject = credential["credentialSubject"]
    assert (subject["type"], subject["statusPurpose"]) == ("BitstringStatusList", purpose)
    assert subject["encodedList"][0] == "u"
    bits = gzip.decompress(unbase64(subject["encodedList"][1:]))
    text = "".join(f"{byte:08b}" for byte in bits)  # the first bit is the leftmost
    assert len(text) == 2**20
    assert {index for index, bit in enumerate(text) if bit == "1"} == ones
    entry = next(
        e
        for e in statuslist.references(URI, 7)["credentialStatus"]
        if e["statusPurpose"] == purpose
    )
    assert entry["statusListCredential"] == credential["id"]
    assert entry["statusListIndex"] == "7"


def test_what_was_made_is_parsed() -> None:
    wanted = StatusList(URI, 12_345, NOW, lay_out(AS_IETF))
    assert parse_jwt(format_jwt(MADE, SIGNER), SIGNER.key) == wanted
    assert parse_cwt(format_cwt(MADE, SIGNER), SIGNER.key) == wanted
    token = format_credential(MADE, "suspension", world.ORIGIN, SIGNER)
    assert parse_credential(token, "suspension", world.ORIGIN, SIGNER.key) == (URI, NOW, {7, 8})


def test_the_key_id_is_that_of_the_specification() -> None:
    """RFC 8037, appendix A.3."""
    public = unbase64("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    kid = statuslist.jwk(VerifierKey("x", public))["kid"]
    assert kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


FORMS: dict[str, tuple[bytes, Callable[[bytes, VerifierKey], object]]] = {
    "jwt": (format_jwt(MADE, SIGNER), parse_jwt),
    "cwt": (format_cwt(MADE, SIGNER), parse_cwt),
    "w3c": (
        format_credential(MADE, "revocation", world.ORIGIN, SIGNER),
        lambda data, key: parse_credential(data, "revocation", world.ORIGIN, key),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_another_key_is_refused(form: str) -> None:
    data, parse = FORMS[form]
    other = world.signer(statuslist.key_name(world.ORIGIN), "other")
    with pytest.raises(ProofError, match="status-list-refused"):
        parse(data, other.key)


@pytest.mark.parametrize("form", FORMS)
def test_any_change_is_refused(form: str) -> None:
    data, parse = FORMS[form]
    rng = random.Random(form)
    places = [*range(0, len(data), max(1, len(data) // 100)), len(data) - 1]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        with pytest.raises(LedgerError):
            parse(bytes(changed), SIGNER.key)
    for cut in (b"", data[:-1], data + b"\0", data + data, data[1:]):
        with pytest.raises(LedgerError):
            parse(cut, SIGNER.key)


@pytest.mark.parametrize("form", FORMS)
def test_another_form_is_refused(form: str) -> None:
    for other, (data, _) in FORMS.items():
        if other != form:
            with pytest.raises(LedgerError):
                FORMS[form][1](data, SIGNER.key)


def sign_jwt(header: dict[str, Any], payload: bytes) -> bytes:
    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    dumped = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    signed = part(dumped) + b"." + part(payload)
    return signed + b"." + part(SIGNER.sign(signed))


def claims(**changes: Any) -> bytes:
    (_, payload, _) = format_jwt(MADE, SIGNER).decode().split(".")
    changed = {**json.loads(unbase64(payload)), **changes}
    kept = {name: value for name, value in changed.items() if value is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()


HEADER = {"alg": "EdDSA", "kid": statuslist.jwk(SIGNER.key)["kid"], "typ": "statuslist+jwt"}
SHORT = base64.urlsafe_b64encode(zlib.compress(bytes(100))).decode().rstrip("=")
BOMB = base64.urlsafe_b64encode(zlib.compress(bytes(50_000_000), 9)).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        sign_jwt({**HEADER, "alg": "none"}, claims()),
        sign_jwt({**HEADER, "typ": "JWT"}, claims()),
        sign_jwt({**HEADER, "crit": ["x"]}, claims()),
        sign_jwt(HEADER, claims(iat="1800000000")),
        sign_jwt(HEADER, claims(iat=True)),
        sign_jwt(HEADER, claims(exp=NOW + 1)),
        sign_jwt(HEADER, claims(ttl=0)),
        sign_jwt(HEADER, claims(tree_size=None)),
        sign_jwt(HEADER, claims(tree_size=0)),
        sign_jwt(HEADER, claims(sub=None)),
        sign_jwt(HEADER, claims(sub=5)),
        sign_jwt(HEADER, claims(nbf=NOW)),
        sign_jwt(HEADER, claims(status_list=None)),
        sign_jwt(HEADER, claims(status_list=[])),
        sign_jwt(HEADER, claims(status_list={"bits": 2, "lst": SHORT})),
        sign_jwt(HEADER, claims(status_list={"bits": 2, "lst": BOMB})),
        sign_jwt(HEADER, claims(status_list={"bits": 2, "lst": "!"})),
        sign_jwt(HEADER, claims(status_list={"bits": 2, "lst": 7})),
        sign_jwt(HEADER, b"[]"),
        sign_jwt(HEADER, b"{ }"),
        sign_jwt(HEADER, b'{"iat":1,"iat":2}'),
        sign_jwt(HEADER, b"[" * 100_000),
    ],
)
def test_a_signed_jwt_of_another_form_is_refused(token: bytes) -> None:
    with pytest.raises(LedgerError):
        parse_jwt(token, SIGNER.key)


def sign_cwt(claims: Any, protected: bytes | None = None) -> bytes:
    first = cbor2.loads(FORMS["cwt"][0]).value[0] if protected is None else protected
    payload = claims if type(claims) is bytes else cbor2.dumps(claims, canonical=True)
    signature = SIGNER.sign(cbor2.dumps(["Signature1", first, b"", payload]))
    return cbor2.dumps(cbor2.CBORTag(18, [first, {}, payload, signature]))


def cwt_claims(**changes: Any) -> dict[Any, Any]:
    said = dict(cbor2.loads(cbor2.loads(FORMS["cwt"][0]).value[2]))
    return {**said, **{int(name[1:]) if name[0] == "_" else name: v for name, v in changes.items()}}


@pytest.mark.parametrize(
    "token",
    [
        sign_cwt(cwt_claims(_6="now")),
        sign_cwt(cwt_claims(_6=True)),
        sign_cwt(cwt_claims(_65534=0)),
        sign_cwt(cwt_claims(_65533={"bits": 2, "lst": zlib.compress(bytes(5))})),
        sign_cwt(cwt_claims(_65533={"bits": 2, "lst": zlib.compress(bytes(50_000_000))})),
        sign_cwt(cwt_claims(_65533={"bits": 1, "lst": zlib.compress(bytes(2**18))})),
        sign_cwt(cwt_claims(_65533=5)),
        sign_cwt(cwt_claims(more=1)),
        sign_cwt({}),
        sign_cwt([]),
        sign_cwt(b"\x9f" * 10_000),
        sign_cwt(cwt_claims(), cbor2.dumps({1: -8})),
        sign_cwt(cwt_claims(), b""),
        cbor2.dumps([1, 2]),
        cbor2.dumps(cbor2.CBORTag(18, 5)),
        cbor2.dumps(cbor2.CBORTag(18, [1, 2, 3, 4])),
        cbor2.dumps(cbor2.CBORTag(61, cbor2.loads(FORMS["cwt"][0]))),
        b"\x81" * 100_000,
        b"\xd2\x84\x43",
    ],
)
def test_a_signed_cwt_of_another_form_is_refused(token: bytes) -> None:
    with pytest.raises(LedgerError):
        parse_cwt(token, SIGNER.key)


@pytest.mark.parametrize("text", ["", "u", "zH4sI", "uH4sI=", "u!!", "u" + SHORT])
def test_an_encoded_list_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        statuslist.decode_bitstring(text)


@pytest.mark.parametrize("kinds", [(INVALID,), (INVALID, INVALID, SUSPENDED, UNDECIDED)])
def test_a_million_at_one_percent_stays_small(kinds: tuple[int, ...]) -> None:
    """The sizes that are promised, printed with -s. The system's randomness draws real places."""
    rng = random.SystemRandom()
    places = rng.sample(range(statuslist.ENTRIES), 1_000_000)
    made = StatusList(URI, 1, NOW, lay_out({p: rng.choice(kinds) for p in places[:10_000]}))
    sizes = {"CWT": len(format_cwt(made, SIGNER)), "JWT": len(format_jwt(made, SIGNER))}
    print(kinds, sizes)
    assert sizes["CWT"] < 18_000
    assert sizes["JWT"] < 31_000
    assert kinds != (INVALID,) or sizes["JWT"] < 30_000


@pytest.mark.parametrize("count", [1 << 13, 1 << 14, 1 << 15, 1 << 18])
def test_lists_are_read_whatever_is_said_at_how_many_places(count: int) -> None:
    draw = random.Random(count)
    says = lay_out({p: draw.randrange(1, 5) for p in draw.sample(range(2**20), count)})
    made = StatusList(URI, 1, NOW, says)
    packed = zlib.decompress(made.packed)
    assert values_by_hand(packed) == {p: statuslist.IETF[s] for p, s in made.statuses().items()}
    assert parse_cwt(format_cwt(made, SIGNER), SIGNER.key).says == made.in_ietf()
    for purpose, wanted in statuslist.PURPOSES.items():
        token = format_credential(made, purpose, world.ORIGIN, SIGNER)
        ones = {p for p, said in enumerate(says) if said in wanted}
        assert parse_credential(token, purpose, world.ORIGIN, SIGNER.key) == (URI, NOW, ones)
