"""Ed25519 where implementations differ: published cases, and keys and signatures at the edges."""

from __future__ import annotations

import json
import random
from hashlib import sha512

from ledger.errors import LedgerError
from ledger.note import VerifierKey, check_public
from tests import world
from tests.vectors.published import VECTORS

PRIME, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, PRIME) % PRIME
Case = tuple[bytes, bytes, bytes]  # public key, message, signature
Point = tuple[int, int]


def is_good(public: bytes, message: bytes, signature: bytes) -> bool:
    """What Python says of a signature."""
    try:
        check_public(public)
        VerifierKey("k", public).check(message, signature)
    except LedgerError:
        return False
    return True


def published_cases() -> list[tuple[Case, bool]]:
    """Wycheproof's cases with their verdicts; none where they are not beside the repository."""
    path = VECTORS / "wycheproof" / "ed25519_test.json"
    groups = json.loads(path.read_text())["testGroups"] if path.exists() else []
    return [
        (
            (
                bytes.fromhex(group["publicKey"]["pk"]),
                bytes.fromhex(case["msg"]),
                bytes.fromhex(case["sig"]),
            ),
            case["result"] == "valid",
        )
        for group in groups
        for case in group["tests"]
    ]


def edge_cases() -> list[Case]:
    """Keys of small order, beyond the prime, off the curve; S out of range; R of small order; keys
    and R with a part of small order, which only those accept who multiply by the cofactor.
    """
    small = [0, 1, PRIME - 1, PRIME, PRIME + 1, 2**255 - 1, 2, 7]
    publics = [(y + sign * 2**255).to_bytes(32, "little") for y in small for sign in (0, 1)]
    rng = random.Random("edges")
    publics += [rng.randbytes(32) for _ in range(20)]
    made = world.CHECKPOINT
    good = made.sign(b"text")
    s = int.from_bytes(good[32:], "little")
    signatures = [good, good[:32] + (s + ORDER).to_bytes(32, "little"), good[:32] + bytes(32)]
    signatures += [bytes(64), bytes([1]) + bytes(63), good[:-1], good + b"\0", b""]
    cases = [(public, b"text", bytes([1]) + bytes(63)) for public in publics]
    cases += [(made.key.public, b"text", signature) for signature in signatures]
    return cases + _mixed_cases(rng)


def _mixed_cases(rng: random.Random) -> list[Case]:
    base = _decode(4 * pow(5, -1, PRIME) % PRIME)
    torsion = (0, 1)
    while _multiply(4, torsion) == (0, 1):
        point = _decode(rng.randrange(PRIME))
        torsion = (0, 1) if point is None else _multiply(ORDER, point)
    assert base is not None
    secret, nonce = rng.randrange(ORDER), rng.randrange(ORDER)
    clean_key, clean_r = _multiply(secret, base), _multiply(nonce, base)
    cases = []
    for key, r in ((_add(clean_key, torsion), clean_r), (clean_key, _add(clean_r, torsion))):
        for n in range(16):
            message, head = b"%d" % n, _encode(r)
            k = int.from_bytes(sha512(head + _encode(key) + message).digest(), "little") % ORDER
            s = (nonce + k * secret) % ORDER
            cases.append((_encode(key), message, head + s.to_bytes(32, "little")))
    return cases


def _decode(y: int) -> Point | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != square:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    if x * x % PRIME != square:
        return None
    return (x if x % 2 == 0 else PRIME - x, y)


def _encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _add(one: Point, other: Point) -> Point:
    (a, b), (c, d) = one, other
    product = _D * a * c * b * d % PRIME
    x = (a * d + b * c) * pow(1 + product, -1, PRIME) % PRIME
    return x, (b * d + a * c) * pow(1 - product, -1, PRIME) % PRIME


def _multiply(number: int, point: Point) -> Point:
    found = (0, 1)
    while number:
        if number & 1:
            found = _add(found, point)
        point = _add(point, point)
        number >>= 1
    return found
