"""The status map against the slow model: any records, any k."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle, statusmap
from ledger.errors import ProofError
from tests import slow_map

HASH = st.binary(min_size=32, max_size=32)
# Many keys share heads and tails: neighbours, bucket borders, zeros at the end.
KEY = (
    st.builds(
        lambda head, tail: head + tail.rjust(31, b"\x00"),
        st.sampled_from([b"\x00", b"\x0f", b"\x10", b"\x7f", b"\x80", b"\xa5", b"\xff"]),
        st.sampled_from([b"", b"\x00\x01", b"\x01\x00", b"\xff" * 31, b"\x80" + bytes(30)]),
    )
    | HASH
)
MAPS = st.dictionaries(KEY, HASH, max_size=40)
PART = st.none() | st.builds(
    statusmap.Part,
    st.integers(-1, 1 << 33),
    st.integers(-1, 1 << 33),
    st.lists(st.lists(HASH | st.binary(max_size=40), max_size=3).map(tuple), max_size=3).map(tuple),
)
KIND = st.sampled_from([statusmap.CERTIFICATES, statusmap.HOLDERS])


@pytest.fixture(autouse=True, scope="module")
def small_buckets() -> Iterator[None]:
    """Buckets of more than three pairs are shown in part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statusmap, "SMALL", 3)
        patch.setattr(slow_map, "SMALL", 3)
        yield


def rows(records: dict[bytes, bytes], first: bytes, last: bytes) -> bytes:
    return b"".join(k + r for k, r in sorted(records.items()) if first <= k <= last)


def proof(kind: bytes, records: dict[bytes, bytes], k: int, key: bytes) -> statusmap.Membership:
    def upper(level: int, index: int) -> bytes:
        return slow_map.node(kind.decode(), records, k, statusmap.GROUP + level, index)

    needed = rows(records, *statusmap.group_range(k, key))
    return statusmap.fold_group(kind, k, key, needed, upper).prove(k, key)


@given(MAPS, st.integers(0, 6), KEY, KIND)
def test_presence_and_absence_as_the_model_has_it(
    records: dict[bytes, bytes], k: int, key: bytes, kind: bytes
) -> None:
    made = proof(kind, records, k, key)
    number = statusmap.bucket_of(key, k)
    bucket = slow_map.bucket(records, k, number)
    assert made.bucket == bucket if len(bucket) <= 3 * 64 else made.bucket in bucket
    assert (made.part is None) == (len(bucket) <= 3 * 64)
    assert list(made.path) == slow_map.path(kind.decode(), records, k, number)
    root = slow_map.root(kind.decode(), records, k)
    statusmap.check_membership(root, kind, k, key, records.get(key), made)
    other = bytes(32) if key in records else None
    for wrong in {None, bytes(32), other} - {records.get(key)}:
        with pytest.raises(ProofError):
            statusmap.check_membership(root, kind, k, key, wrong, made)


@given(MAPS, st.integers(0, 6), KEY, st.data())
def test_any_one_byte_changed_anywhere_is_refused(
    records: dict[bytes, bytes], k: int, key: bytes, data: st.DataObject
) -> None:
    kind = statusmap.CERTIFICATES
    made = proof(kind, records, k, key)
    hashes = [] if made.part is None else [h for path in made.part.paths for h in path]
    parts = [slow_map.root("C", records, k), made.bucket, *made.path, *hashes]
    number = data.draw(st.sampled_from([n for n, part in enumerate(parts) if part]))
    at = data.draw(st.integers(0, len(parts[number]) - 1))
    flipped = bytearray(parts[number])
    flipped[at] ^= data.draw(st.integers(1, 255))
    parts[number] = bytes(flipped)
    root, bucket, path, rest = parts[0], parts[1], tuple(parts[2 : k + 2]), iter(parts[k + 2 :])
    part = made.part and replace(
        made.part, paths=tuple(tuple(next(rest) for _ in old) for old in made.part.paths)
    )
    changed = statusmap.Membership(bucket, path, part)
    with pytest.raises(ProofError):
        statusmap.check_membership(root, kind, k, key, records.get(key), changed)


@given(MAPS, st.integers(0, 2), KEY, st.data())
def test_a_large_bucket_is_not_shown_otherwise(
    records: dict[bytes, bytes], k: int, key: bytes, data: st.DataObject
) -> None:
    """Other pairs of the true bucket, other places, other counts: none says otherwise."""
    root, number = slow_map.root("C", records, k), statusmap.bucket_of(key, k)
    bucket = slow_map.bucket(records, k, number)
    count = len(bucket) // 64
    leaves = [merkle.leaf_hash(bucket[i : i + 64]) for i in range(0, len(bucket), 64)]
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=3) if count else st.just([]))
    paths = [merkle.prove_inclusion(n, count, merkle.in_memory(leaves)) for n in chosen]
    part = statusmap.Part(
        data.draw(st.just(count) | st.integers(-1, 40)),
        data.draw(st.sampled_from([*chosen, 0, -1, count - 1])),
        tuple(tuple(path) for path in paths),
    )
    pairs = b"".join(bucket[n * 64 : n * 64 + 64] for n in chosen)
    shown = statusmap.Membership(pairs, tuple(slow_map.path("C", records, k, number)), part)
    for said in (records.get(key, bytes(32)), None):
        try:
            statusmap.check_membership(root, b"C", k, key, said, shown)
        except ProofError:
            continue
        assert said == records.get(key)
        assert shown == proof(b"C", records, k, key)


@given(st.binary(max_size=300), st.lists(st.binary(max_size=40), max_size=5), HASH, KEY,
       st.integers(-1, 40), KIND, PART)  # fmt: skip
def test_any_bytes_are_refused_or_prove(
    bucket: bytes,
    path: list[bytes],
    root: bytes,
    key: bytes,
    k: int,
    kind: bytes,
    part: statusmap.Part | None,
) -> None:
    with pytest.raises(ProofError):
        statusmap.check_membership(
            root, kind, k, key, None, statusmap.Membership(bucket, tuple(path), part)
        )


@given(MAPS, MAPS, st.integers(0, 5), st.integers(0, 5), KIND, KIND)
def test_a_root_belongs_to_one_map(
    one: dict[bytes, bytes], two: dict[bytes, bytes], k: int, j: int, a: bytes, b: bytes
) -> None:
    same = slow_map.root(a.decode(), one, k) == slow_map.root(b.decode(), two, j)
    assert same == ((one, k, a) == (two, j, b))


@given(KEY, st.integers(0, 32))
def test_a_bucket_is_a_range_of_keys(key: bytes, k: int) -> None:
    number = statusmap.bucket_of(key, k)
    first, last = statusmap.key_range(k, number)
    assert first <= key <= last
    assert statusmap.bucket_of(first, k) == statusmap.bucket_of(last, k) == number
    if number:
        before = int.from_bytes(first, "big") - 1
        assert statusmap.bucket_of(before.to_bytes(32, "big"), k) == number - 1
    low, high = statusmap.group_range(k, key)
    assert low <= first
    assert last <= high
    wide = min(k, statusmap.GROUP)
    assert statusmap.bucket_of(low, k) == number >> wide << wide
    assert statusmap.bucket_of(high, k) == (number >> wide << wide) + (1 << wide) - 1


@given(st.lists(st.integers(0, 1 << 50)))
def test_k_depends_on_the_largest_number_of_records_only(counts: list[int]) -> None:
    k = 0
    for records in counts:
        k = statusmap.next_k(k, records)
        assert records <= statusmap.MEAN << k or k == statusmap.MAX_K
    assert k == statusmap.next_k(0, max(counts, default=0))


def test_the_model_is_the_rfc_tree() -> None:
    records = {bytes([n]) * 32: bytes(32) for n in range(0, 256, 5)}
    leaves = [slow_map.leaf("C", records, 5, n) for n in range(32)]
    assert slow_map.root("C", records, 5) == merkle.root(leaves)
