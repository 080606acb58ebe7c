"""The kept status map against the slow model: folding, growing, proofs, stored tiles."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

pytest.importorskip("numpy")

from ledger import mapfold, merkle, statusmap, tiles
from ledger.mapfold import StatusMap
from tests import slow_map

HASH = st.binary(min_size=32, max_size=32)
KEY = st.builds(
    lambda head, tail: head + tail.rjust(31, b"\x00"),
    st.sampled_from([b"\x00", b"\x0f", b"\x10", b"\x7f", b"\x80", b"\xa5", b"\xff"]),
    st.sampled_from([b"", b"\x00\x01", b"\x01\x00", b"\xff" * 31, b"\x80" + bytes(30)]),
) | HASH  # fmt: skip
DELTAS = st.lists(st.tuples(KEY, HASH | st.just(bytes(32))), max_size=30)


class Keeping(RuleBasedStateMachine):
    """Folds in any portions, grows, roots now and then; a reader has only the settled tiles."""

    @initialize(kind=st.sampled_from(["C", "H"]), k=st.integers(0, 5))
    def begin(self, kind: str, k: int) -> None:
        self.map = StatusMap(kind.encode(), k)
        self.kind, self.k, self.records = kind, k, {}
        self.stored: dict[tuple[int, int], bytes] = {}

    @rule(deltas=DELTAS)
    def fold(self, deltas: list[tuple[bytes, bytes]]) -> None:
        self.map.fold(b"".join(key + record for key, record in deltas))
        self.records.update(deltas)

    @rule(by=st.integers(0, 2))
    def grow(self, by: int) -> None:
        self.k = min(self.k + by, 8)
        self.map.grow(self.k)

    @rule(key=KEY)
    def prove(self, key: bytes) -> None:
        root = self.map.root()
        made = self.map.prove(key)
        statusmap.check_membership(
            root, self.kind.encode(), self.k, key, self.records.get(key), made
        )

    @rule(key=KEY)
    def settle_and_read(self, key: bytes) -> None:
        root = self.map.root()
        self.stored.update(self.map.changed_tiles())
        self.map.settle()
        assert self.map.changed_tiles() == {}
        upper = tiles.subtree_reader(lambda level, n: self.stored.get((level, n), b""))
        pairs = self.map.pairs(*statusmap.group_range(self.k, key))
        made = statusmap.fold_group(self.kind.encode(), self.k, key, pairs, upper).prove(
            self.k, key
        )
        assert made == self.map.prove(key)
        statusmap.check_membership(
            root, self.kind.encode(), self.k, key, self.records.get(key), made
        )

    @rule()
    def root(self) -> None:
        assert self.map.root() == slow_map.root(self.kind, self.records, self.k)

    @invariant()
    def counted(self) -> None:
        if hasattr(self, "records"):
            assert self.map.records == len(self.records)


@pytest.fixture(autouse=True, scope="module")
def small_buckets() -> Iterator[None]:
    """Buckets of more than three pairs are shown in part, and regions have four buckets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapfold, "_REGION", 2)
        patch.setattr(statusmap, "SMALL", 3)
        patch.setattr(slow_map, "SMALL", 3)
        yield


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


def pair(n: int, version: int = 0) -> bytes:
    return sha256(b"%d" % n).digest() + sha256(b"%d %d" % (n, version)).digest()


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_thousands_in_any_portions_give_the_root_of_the_whole(one: int, two: int) -> None:
    portions = [[pair(n) for n in range(one)], [pair(n, 1) for n in range(one // 2, one + two)]]
    whole: dict[bytes, bytes] = {}
    kept = StatusMap(b"H")
    for portion in portions:
        kept.fold(b"".join(portion))
        kept.grow(statusmap.next_k(kept.k, kept.records))
        kept.root()
        whole.update((p[:32], p[32:]) for p in portion)
    again = StatusMap(b"H", statusmap.next_k(0, len(whole)))
    again.fold(b"".join(sorted(k + r for k, r in whole.items())))
    assert (kept.k, kept.records) == (again.k, len(whole))
    buckets: list[bytes] = [b""] * (1 << kept.k)
    for key in sorted(whole):
        buckets[statusmap.bucket_of(key, kept.k)] += key + whole[key]
    hashes = [statusmap.bucket_hash(b"H", kept.k, n, b) for n, b in enumerate(buckets)]
    assert kept.root() == again.root() == merkle.root(hashes)


def test_ground_keys_in_one_bucket_cost_room_and_nothing_else() -> None:
    kept = StatusMap(b"C", 8)
    pairs = [bytes(27) + n.to_bytes(4, "big") + bytes(33) for n in range(1, 2000)]
    for one in pairs:
        kept.fold(one)
    root = kept.root()
    assert root == slow_map.root("C", {pair[:32]: pair[32:] for pair in pairs}, 8)
    between = pairs[700][:31] + b"\x01"
    for key, record, shown in (
        (bytes(32), None, pairs[:1]),
        (pairs[700][:32], bytes(32), pairs[700:701]),
        (between, None, pairs[700:702]),
        (b"\x00" + b"\xff" * 31, None, pairs[-1:]),
    ):
        made = kept.prove(key)
        assert made.bucket == b"".join(shown)
        statusmap.check_membership(root, b"C", 8, key, record, made)


def test_refused_by_the_programmer() -> None:
    kept = StatusMap(b"C", 3)
    with pytest.raises(ValueError, match="64"):
        kept.fold(bytes(63))
    with pytest.raises(ValueError, match="does not become"):
        kept.grow(2)
    with pytest.raises(ValueError, match="since the last root"):
        kept.prove(bytes(32))
