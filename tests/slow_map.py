"""The status map as FORMATS.md words it, in the fewest and slowest lines: the tests' oracle."""

from collections.abc import Mapping
from hashlib import sha256

SMALL = 64


def bits(key: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in key)


def bucket(records: Mapping[bytes, bytes], k: int, number: int) -> bytes:
    wanted = f"{number:0{k}b}" if k else ""
    return b"".join(key + records[key] for key in sorted(records) if bits(key).startswith(wanted))


def tree(pairs: list[bytes]) -> bytes:
    if len(pairs) == 1:
        return sha256(b"\x00" + pairs[0]).digest()
    split = max(2**n for n in range(64) if 2**n < len(pairs))
    return sha256(b"\x01" + tree(pairs[:split]) + tree(pairs[split:])).digest()


def leaf(kind: str, records: Mapping[bytes, bytes], k: int, number: int) -> bytes:
    head = b"certledger bucket v1\n" + kind.encode() + bytes([k]) + number.to_bytes(4, "big")
    pairs = bucket(records, k, number)
    count = len(pairs) // 64
    if count > SMALL:
        pairs = tree([pairs[i : i + 64] for i in range(0, len(pairs), 64)])
    return sha256(b"\x00" + head + count.to_bytes(4, "big") + pairs).digest()


def node(kind: str, records: Mapping[bytes, bytes], k: int, level: int, index: int) -> bytes:
    if level == 0:
        return leaf(kind, records, k, index)
    left = node(kind, records, k, level - 1, 2 * index)
    right = node(kind, records, k, level - 1, 2 * index + 1)
    return sha256(b"\x01" + left + right).digest()


def root(kind: str, records: Mapping[bytes, bytes], k: int) -> bytes:
    return node(kind, records, k, k, 0)


def path(kind: str, records: Mapping[bytes, bytes], k: int, number: int) -> list[bytes]:
    return [node(kind, records, k, level, (number >> level) ^ 1) for level in range(k)]
