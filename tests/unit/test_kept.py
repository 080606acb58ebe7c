"""What readers keep is bounded."""

from __future__ import annotations

from ledger.postgres.kept import Recent


def test_what_was_used_last_is_kept_within_its_weight() -> None:
    kept: Recent[int, bytes] = Recent(10, len)
    for n in range(4):
        kept[n] = bytes(3)
    assert [kept.get(n) is None for n in range(4)] == [True, False, False, False]
    kept.get(1)
    kept[4] = bytes(4)  # 2 was not asked for since
    assert [kept.get(n) is None for n in range(5)] == [True, False, True, False, False]
    kept[4] = bytes(1)
    kept[5] = bytes(3)
    assert [kept.get(n) is None for n in range(6)] == [True, False, True, False, False, False]
    kept[6] = bytes(11)  # too heavy alone
    assert all(kept.get(n) is None for n in range(7))
