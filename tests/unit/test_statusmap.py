"""The status map's form: what a bucket proves, and every way in which one must prove nothing."""

from hashlib import sha256
from typing import Any

import pytest

from ledger import canonical, merkle, statusmap
from ledger.entry import format_status, map_heads, parse_entry
from ledger.errors import Malformed, ProofError
from ledger.sequencing import Cadence
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
    arguments: dict[str, object] = {
        "root": ROOT, "kind": CERTIFICATES, "k": K, "key": KEY, "record": record(7),
        "bucket": BUCKET, "path": PATH,
    }  # fmt: skip
    statusmap.check_membership(**{**arguments, **changed})  # type: ignore[arg-type]


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
        (0, 0, 0), (0, 1, 0), (0, 16, 0), (0, 17, 1), (0, 32, 1), (0, 33, 2),
        (0, 1_000_000, 16), (16, 1_048_576, 16), (16, 1_048_577, 17), (0, 10_000_000, 20),
        (0, 100_000_000, 23), (5, 0, 5), (0, 1 << 60, 32), (32, 1 << 60, 32),
    ],
)  # fmt: skip
def test_k_keeps_buckets_at_most_at_16_records_and_never_shrinks(
    k: int, records: int, expected: int
) -> None:
    assert statusmap.next_k(k, records) == expected


def test_damaged_rows_are_named_before_a_proof_is_made() -> None:
    first, last = statusmap.group_range(K, KEY)
    rows = b"".join(k + r for k, r in sorted(RECORDS.items()) if first <= k <= last)

    def upper(level: int, index: int) -> bytes:
        return slow_map.node("C", RECORDS, K, statusmap.GROUP + level, index)

    made = statusmap.prove(CERTIFICATES, K, KEY, rows, upper)
    assert (made.bucket, list(made.path)) == (BUCKET, PATH)
    foreign = next(k + r for k, r in RECORDS.items() if not first <= k <= last)
    for damaged in (rows[64:], rows[:-1] + b"\x00", rows + foreign, b""):
        with pytest.raises(ProofError, match="stored-bytes-damaged"):
            statusmap.prove(CERTIFICATES, K, KEY, damaged, upper)


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
    ("cost", "seconds"), [(0.0, 0.0), (0.01, 0.08), (0.25, 2.0), (1.0, 8.0), (5.0, 8.0)]
)
def test_maps_take_an_eighth_of_a_processor_or_come_every_8_seconds(
    cost: float, seconds: float
) -> None:
    cadence = Cadence()
    assert cadence.is_due(0.0)
    cadence.took(0.0, cost)
    assert cadence.is_due(seconds)
    if seconds:
        assert not cadence.is_due(seconds * 0.99)
