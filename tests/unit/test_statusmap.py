"""The status map's form: what a bucket proves, and every way in which one must prove nothing."""

from hashlib import sha256
from typing import Any

import pytest

from ledger import canonical, merkle, statusmap
from ledger.entry import format_status, map_heads, parse_entry
from ledger.errors import Malformed, ProofError
from ledger.sequencing import Cadence, round_seconds
from ledger.statusmap import CERTIFICATES, HOLDERS, MapHead
from tests import slow_map

K = 4


def key(n: int) -> bytes:
    return sha256(b"key %d" % n).digest()


def record(n: int) -> bytes:
    return sha256(b"record %d" % n).digest()


RECORDS = {key(n): record(n) for n in range(40)}
ROOT = slow_map.root("C", RECORDS, K)
KEY = key(7)
NUMBER = KEY[0] >> 4
BUCKET = slow_map.bucket(RECORDS, K, NUMBER)
PATH = slow_map.path("C", RECORDS, K, NUMBER)
ABSENT = next(k for n in range(40, 999) if (k := key(n))[0] >> 4 == NUMBER)


def check(**changed: object) -> None:
    arguments: dict[str, Any] = {
        "root": ROOT, "kind": CERTIFICATES, "k": K, "key": KEY, "record": record(7),
        "bucket": BUCKET, "path": PATH, "part": None,
    }  # fmt: skip
    arguments.update(changed)
    shown = statusmap.Membership(
        arguments.pop("bucket"), tuple(arguments.pop("path")), arguments.pop("part")
    )
    statusmap.check_membership(**arguments, shown=shown)


def test_a_bucket_proves_what_it_lists_and_what_it_does_not() -> None:
    assert len(BUCKET) > 64  # else most refusals below would show nothing
    check()
    check(key=ABSENT, record=None)


def rehashed(bucket: bytes, k: int = K, number: int = NUMBER) -> dict[str, object]:
    """A bucket under a root of its own: what a signer could make of it."""
    leaf = statusmap.bucket_hash(CERTIFICATES, k, number, bucket)
    hashes = [leaf if n == number else sha256(b"%d" % n).digest() for n in range(1 << k)]
    path = merkle.prove_inclusion(number, 1 << k, merkle.in_memory(hashes))
    return {"root": merkle.root(hashes), "bucket": bucket, "path": path, "k": k}


OTHER = next(n for n in range(16) if n != NUMBER and slow_map.bucket(RECORDS, K, n))
LEFT_OUT = b"".join(
    BUCKET[i : i + 64] for i in range(0, len(BUCKET), 64) if BUCKET[i : i + 32] != KEY
)
REVERSED = b"".join(BUCKET[i : i + 64] for i in reversed(range(0, len(BUCKET), 64)))
REFUSED: dict[str, dict[str, object]] = {
    "a record said absent": {"record": None},
    "another record": {"record": record(8)},
    "an absent one said present": {"key": ABSENT, "record": record(7)},
    "another certificate's bucket with its path": {
        "bucket": slow_map.bucket(RECORDS, K, OTHER),
        "path": slow_map.path("C", RECORDS, K, OTHER),
        "record": None,
    },
    "an empty bucket": {"bucket": b"", "record": None},
    "the record left out": {"bucket": LEFT_OUT, "record": None},
    "another record left out": {"bucket": BUCKET[:64] if BUCKET[:32] == KEY else BUCKET[64:]},
    "a record added": {"bucket": BUCKET + ABSENT + record(1)},
    "a record changed": {"bucket": BUCKET[:-1] + bytes([BUCKET[-1] ^ 1])},
    "the holders' map": {"kind": HOLDERS},
    "a smaller k": {"k": K - 1, "path": PATH[:-1]},
    "a smaller k, its path as it was": {"k": K - 1},
    "a larger k": {"k": K + 1, "path": [PATH[0], *PATH]},
    "an impossible k": {"k": 33, "path": [bytes(32)] * 33},
    "a negative k": {"k": -1, "path": []},
    "a short path": {"path": PATH[:-1]},
    "a long path": {"path": [*PATH, bytes(32)]},
    "a path upside down": {"path": PATH[::-1]},
    "a short hash in the path": {"path": [PATH[0][:31], *PATH[1:]]},
    "another root": {"root": slow_map.root("C", RECORDS | {ABSENT: record(1)}, K)},
    "a short key": {"key": KEY[:31], "record": None},
    "an inner node for a bucket": {
        "bucket": PATH[0] + PATH[1], "k": K - 1, "path": PATH[1:], "record": None,
    },
    "a pair cut short, signed": rehashed(BUCKET[:-1]),
    "not ascending, signed": rehashed(REVERSED),
    "a key twice, signed": rehashed(KEY + record(7) + KEY + record(8)),
    "another bucket's key, signed": rehashed(b"".join(sorted([KEY + record(7), bytes(64)]))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(ProofError, match="proof-failed"):
        check(**REFUSED[name])


def test_a_signed_bucket_is_otherwise_good() -> None:
    check(**rehashed(KEY + record(7)))


def test_a_bucket_with_one_record_proves_nothing_about_the_next_bucket() -> None:
    records = {bytes(32): record(0)}
    proof = {
        "root": slow_map.root("C", records, 1),
        "k": 1,
        "bucket": bytes(32) + record(0),
        "path": slow_map.path("C", records, 1, 0),
    }
    check(**proof, key=bytes(31) + b"\x01", record=None)
    with pytest.raises(ProofError):
        check(**proof, key=b"\x80" + bytes(31), record=None)


def test_the_widest_map_is_checked_in_32_steps() -> None:
    number = statusmap.bucket_of(KEY, 32)
    path = [sha256(b"%d" % n).digest() for n in range(32)]
    node = statusmap.bucket_hash(HOLDERS, 32, number, KEY + record(7))
    for level, sibling in enumerate(path):
        pair = (sibling, node) if number >> level & 1 else (node, sibling)
        node = merkle.node_hash(*pair)
    check(root=node, kind=HOLDERS, k=32, bucket=KEY + record(7), path=path)


@pytest.mark.parametrize(
    ("k", "records", "expected"),
    [
        (0, 0, 0), (0, 1, 0), (0, 8, 0), (0, 9, 1), (0, 16, 1), (0, 17, 2),
        (0, 1_000_000, 17), (17, 1_048_576, 17), (17, 1_048_577, 18), (0, 10_000_000, 21),
        (0, 100_000_000, 24), (5, 0, 5), (0, 1 << 60, 32), (32, 1 << 60, 32),
    ],
)  # fmt: skip
def test_k_keeps_buckets_at_most_at_8_records_and_never_shrinks(
    k: int, records: int, expected: int
) -> None:
    assert statusmap.next_k(k, records) == expected


def test_damaged_rows_are_named_before_a_proof_is_made() -> None:
    first, last = statusmap.group_range(K, KEY)
    rows = b"".join(k + r for k, r in sorted(RECORDS.items()) if first <= k <= last)

    def upper(level: int, index: int) -> bytes:
        return slow_map.node("C", RECORDS, K, statusmap.GROUP + level, index)

    made = statusmap.fold_group(CERTIFICATES, K, KEY, rows, upper).prove(K, KEY)
    assert (made.bucket, list(made.path)) == (BUCKET, PATH)
    foreign = next(k + r for k, r in RECORDS.items() if not first <= k <= last)
    for damaged in (rows[64:], rows[:-1] + b"\x00", rows + foreign, b""):
        with pytest.raises(ProofError, match="stored-bytes-damaged"):
            statusmap.fold_group(CERTIFICATES, K, KEY, damaged, upper)


# --- a large bucket ---

MANY = {KEY[:1] + key(n)[1:]: record(n) for n in range(100)}  # all in KEY's bucket
MANY_KEYS = sorted(MANY)
BEHIND_49 = MANY_KEYS[49][:16] + b"\xff" * 16
LARGE = b"".join(k + MANY[k] for k in MANY_KEYS)
LARGE_ROOT = slow_map.root("C", MANY, K)
LARGE_PATH = slow_map.path("C", MANY, K, NUMBER)
LEAVES = [merkle.leaf_hash(LARGE[i : i + 64]) for i in range(0, len(LARGE), 64)]


def path_of(place: int) -> tuple[bytes, ...]:
    return tuple(merkle.prove_inclusion(place, 100, merkle.in_memory(LEAVES)))


def shown(first: int, end: int, /, **changed: Any) -> dict[str, Any]:
    """Pairs `first` to `end` of the large bucket, for the absent key behind pair 49."""
    paths = tuple(path_of(n) for n in range(first, end))
    part = statusmap.Part(**{"count": 100, "first": first, "paths": paths, **changed})
    return {
        "root": LARGE_ROOT, "path": LARGE_PATH, "bucket": LARGE[first * 64 : end * 64],
        "part": part, "key": BEHIND_49, "record": None,
    }  # fmt: skip


LOWEST, HIGHEST = KEY[:1] + bytes(31), KEY[:1] + b"\xff" * 31


def test_a_large_bucket_is_shown_by_one_pair_or_two_neighbours() -> None:
    assert statusmap.bucket_hash(CERTIFICATES, K, NUMBER, LARGE) == slow_map.leaf(
        "C", MANY, K, NUMBER
    )
    check(**shown(49, 51))
    check(**shown(49, 50) | {"key": MANY_KEYS[49], "record": MANY[MANY_KEYS[49]]})
    check(**shown(0, 1) | {"key": LOWEST})
    check(**shown(99, 100) | {"key": HIGHEST})
    for key_, (first, end) in {
        BEHIND_49: (49, 51), MANY_KEYS[0]: (0, 1), LOWEST: (0, 1), HIGHEST: (99, 100),
    }.items():  # fmt: skip
        made = statusmap.show(key_, LARGE, LARGE_PATH)
        assert made.bucket == LARGE[first * 64 : end * 64]
        assert made.part == statusmap.Part(100, first, tuple(map(path_of, range(first, end))))


def rehashed_large(count: int, content: bytes, **changed: Any) -> dict[str, Any]:
    """A leaf with this count and content under a root of its own: what a signer could make."""
    place = NUMBER.to_bytes(4, "big") + count.to_bytes(4, "big")
    leaf = sha256(statusmap.leaf_prefix(CERTIFICATES, K) + place + content).digest()
    hashes = [leaf if n == NUMBER else sha256(b"%d" % n).digest() for n in range(1 << K)]
    path = merkle.prove_inclusion(NUMBER, 1 << K, merkle.in_memory(hashes))
    return shown(49, 51) | {"root": merkle.root(hashes), "path": path, **changed}


FEW = b"".join(k + r for k, r in sorted(MANY.items())[:3])
FEW_LEAVES = [merkle.leaf_hash(FEW[i : i + 64]) for i in range(0, 192, 64)]
LARGE_REFUSED: dict[str, dict[str, Any]] = {
    "whole": shown(49, 51) | {"bucket": LARGE, "part": None},
    "whole, signed as small ones are": rehashed_large(100, LARGE, bucket=LARGE, part=None),
    "as a small one of the pairs shown": shown(49, 51) | {"part": None},
    "a small one in part, signed": rehashed_large(
        3, merkle.root(FEW_LEAVES), bucket=FEW[128:], key=HIGHEST,
        part=statusmap.Part(
            3, 2, (tuple(merkle.prove_inclusion(2, 3, merkle.in_memory(FEW_LEAVES))),)
        ),
    ),
    "a count that is too small": shown(49, 51, count=99),
    "a count that is too large": shown(49, 51, count=101),
    "a count that cuts the end off": shown(63, 64, count=64) | {"key": HIGHEST},
    "a count of nothing": shown(49, 51, count=0),
    "a count beyond four bytes": shown(49, 51, count=100 + (1 << 32)),
    "another count, signed": rehashed_large(99, merkle.root(LEAVES)),
    "neighbours that are not adjacent": shown(48, 50) | {
        "bucket": LARGE[48 * 64 : 49 * 64] + LARGE[50 * 64 : 51 * 64],
        "part": statusmap.Part(
            100, 48,
            (path_of(48), path_of(50)),
        ),
    },
    "the key below both": shown(50, 52),
    "the key above both": shown(48, 50),
    "one neighbour": shown(49, 50),
    "the other neighbour": shown(50, 51),
    "the first pair for a key above it": shown(0, 1),
    "the last pair for a key below it": shown(99, 100),
    "three pairs": shown(49, 52),
    "no pair": shown(49, 49),
    "a present one said absent": shown(49, 50) | {"key": MANY_KEYS[49]},
    "an absent one said present": shown(49, 51) | {"record": MANY[MANY_KEYS[49]]},
    "another record": shown(49, 50) | {"key": MANY_KEYS[49], "record": record(3)},
    "a present one between its neighbours": shown(48, 51) | {
        "key": MANY_KEYS[49], "bucket": LARGE[48 * 64 : 49 * 64] + LARGE[50 * 64 : 51 * 64],
    },
    "shifted by one": shown(49, 51, first=48),
    "before the first": shown(0, 1, first=-1) | {"key": LOWEST},
    "a path less": shown(49, 51, paths=shown(49, 50)["part"].paths),
    "paths exchanged": shown(49, 51, paths=shown(49, 51)["part"].paths[::-1]),
    "a pair of another bucket": shown(49, 50) | {
        "bucket": b"\x00" * 64, "part": statusmap.Part(100, 0, shown(0, 1)["part"].paths),
    },
    "the small bucket's root": shown(49, 51) | {"root": ROOT, "path": PATH},
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE_REFUSED)
def test_a_large_bucket_refused(name: str) -> None:
    with pytest.raises(ProofError, match="proof-failed"):
        check(**LARGE_REFUSED[name])


# --- in a status entry ---

HEADS = {CERTIFICATES: MapHead(4, ROOT), HOLDERS: MapHead(0, bytes(32))}
TIME = "2026-03-01T00:00:00Z"


def test_a_status_entry_says_both_maps_or_none() -> None:
    whole = format_status(7, bytes(32), TIME, HEADS)
    assert map_heads(parse_entry(whole)) == HEADS
    assert map_heads(parse_entry(format_status(7, bytes(32), TIME))) is None
    for name in ("certificates_map", "holders_map"):
        value = canonical.loads(whole)
        del value[name]
        with pytest.raises(Malformed, match="malformed-entry"):
            parse_entry(canonical.format(value))


@pytest.mark.parametrize(
    "head",
    [
        {"k": 33, "root": ROOT.hex()}, {"k": -1, "root": ROOT.hex()},
        {"k": True, "root": ROOT.hex()}, {"k": "4", "root": ROOT.hex()},
        {"k": 4, "root": ROOT.hex().upper()}, {"k": 4, "root": ROOT.hex()[2:]},
        {"k": 4, "root": None}, {"k": 4}, {"k": 4, "root": ROOT.hex(), "records": 3}, None, [], 4,
    ],
)  # fmt: skip
def test_maps_out_of_form_are_no_entry(head: Any) -> None:
    value = canonical.loads(format_status(7, bytes(32), TIME, HEADS))
    with pytest.raises(Malformed, match="malformed-entry"):
        parse_entry(canonical.format({**value, "certificates_map": head}))


def test_maps_belong_into_status_entries_only() -> None:
    value = canonical.loads(format_status(7, bytes(32), TIME, HEADS))
    del value["reflects"], value["registry_root"]
    with pytest.raises(Malformed, match="malformed-entry"):
        parse_entry(canonical.format({**value, "kind": "registry", "note": "n"}))


# --- how often ---


@pytest.mark.parametrize(
    ("cost", "seconds"), [(0.0, 0.0), (0.01, 0.24), (0.25, 6.0), (1.0, 8.0), (5.0, 8.0)]
)
def test_maps_take_a_25th_of_a_processor_or_come_every_8_seconds(
    cost: float, seconds: float
) -> None:
    cadence = Cadence()
    assert cadence.is_due(0.0)
    cadence.took(0.0, cost)
    assert cadence.is_due(seconds)
    if seconds:
        assert not cadence.is_due(seconds * 0.99)


@pytest.mark.parametrize(
    ("lines", "seconds", "until_next"),
    [(0, 0.0, 0.2), (0, 0.2, 0.2), (1_000, 0.2, 0.2), (1_700, 0.2, 0.5), (9_000, 0.5, 0.5),
     (3_000, 0.5, 0.2), (50_000, 7.0, 0.2)],
)  # fmt: skip
def test_rounds_are_rarer_under_load(lines: int, seconds: float, until_next: float) -> None:
    assert round_seconds(lines, seconds) == until_next
