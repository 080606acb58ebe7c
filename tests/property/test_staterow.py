"""State rows: what is packed is unpacked; only bytes that pack to themselves are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import staterow, times
from ledger.errors import Malformed, ProofError
from ledger.event import ISSUED, OPEN, REVOCATION_KINDS, UNKNOWN
from ledger.lifecycle import Standing, Transition, format_record

DAYS = st.builds(
    lambda day, offset: f"{day:%Y-%m-%d}{offset}".rjust(10 + len(offset), "0"),
    st.dates(),
    st.one_of(
        st.just("Z"),
        st.builds(
            lambda sign, minutes: f"{sign}{minutes // 60:02d}:{minutes % 60:02d}",
            st.sampled_from("+-"),
            st.integers(0, 14 * 60),
        ).filter(lambda offset: offset != "-00:00"),
    ),
)
MOMENTS = st.builds(
    lambda day, second, micros: (
        f"{day[:10]}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        + (f".{micros:06d}".rstrip("0") if micros else "")
        + day[10:]
    ),
    DAYS,
    st.integers(0, 86399),
    st.one_of(st.just(0), st.integers(0, 999_999)),
)
CODES = st.one_of(st.none(), st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]", fullmatch=True))
COUNTS = st.integers(0, 1025)
ENDS = st.one_of(st.none(), st.sampled_from([UNKNOWN, OPEN]), DAYS)
STANDINGS = st.builds(
    Standing,
    state=st.sampled_from(["valid", "suspended", "revoked", "expired", "transferred", "void"]),
    version=COUNTS,
    highest=COUNTS,
    responsible=st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True),
    valid_from=ENDS,
    valid_until=ENDS,
    since=MOMENTS,
    reason=CODES,
    revocation=st.one_of(st.none(), st.sampled_from(REVOCATION_KINDS)),
    suspended_until=ENDS,
    transfer_to=CODES,
    begin=ENDS,
    count=COUNTS,
)
HASH = st.binary(min_size=32, max_size=32)
HOLDER = st.binary(min_size=16, max_size=16)


@given(STANDINGS, HASH, HOLDER)
def test_a_state_is_what_was_packed(standing: Standing, link: bytes, holder: bytes) -> None:
    try:
        times.parse_moment(standing.since)
    except Malformed:  # beyond the years that a moment can say in UTC
        return
    data = staterow.pack_state(standing, link, holder)
    assert staterow.unpack_state(data) == (standing, link, holder)
    with pytest.raises(ProofError, match="stored-bytes-damaged"):
        staterow.unpack_state(data + b"\x00")
    with pytest.raises(ProofError, match="stored-bytes-damaged"):
        staterow.unpack_state(data[:-1])


@given(STANDINGS, HASH, HOLDER, st.booleans())
def test_what_an_only_event_implies_is_left_out(
    standing: Standing, link: bytes, holder: bytes, in_one_zone: bool
) -> None:
    try:
        times.parse_moment(standing.since)
    except Malformed:
        return
    only = standing._replace(state="valid", version=1, highest=1, count=1)
    offset = only.since[19:].lstrip(".0123456789")
    if in_one_zone:
        first, last = (
            day if day in (None, UNKNOWN, OPEN) else f"{str(day)[:10]}{offset}"
            for day in (only.valid_from, only.valid_until)
        )
        only = only._replace(valid_from=first, valid_until=last)
    days = (only.valid_from, only.valid_until)
    is_short = all(day in (None, UNKNOWN, OPEN) or str(day)[10:] == offset for day in days)
    row = staterow.pack_row(bytes(32), only, link, holder, (), bytes(12))
    whole = staterow.pack_whole_row(bytes(32), only, link, holder, (), bytes(12))
    assert len(whole) - len(row) == (11 if is_short else 0)
    assert is_short or not in_one_zone
    for each in (row, whole):
        assert staterow.unpack_state(each) == (only, link, holder)
        assert staterow.open_row(bytes(32), each, bytes(12)) == (only, link, holder, ())
        assert staterow.issued_days(bytes(32), each, bytes(12)) == days


@given(st.binary(max_size=120), STANDINGS, st.integers(48, 90), st.integers(1, 255))
def test_any_bytes_are_a_state_or_damaged(
    data: bytes, standing: Standing, at: int, flip: int
) -> None:
    packed = bytearray(staterow.pack_state(standing, bytes(32), bytes(16)))
    packed[at % len(packed)] ^= flip
    for some in (data, bytes(packed)):
        try:
            found = staterow.unpack_state(some)
        except ProofError:
            continue
        if not some[48] & 64:  # in a sealed row what follows is not looked at here
            assert staterow.pack_state(*found) == some


NOTHING = dict.fromkeys(("reason", "revocation", "suspended_until", "transfer_to", "begin"))


@given(STANDINGS, HASH, HASH, HOLDER, st.integers(1, 255), st.booleans(), st.booleans())
def test_plain_words_are_what_the_row_says(
    standing: Standing,
    key: bytes,
    link: bytes,
    event: bytes,
    flip: int,
    says_nothing: bool,
    in_one_zone: bool,
) -> None:
    event_id, by, since = event.hex(), standing.responsible, standing.since
    try:
        times.parse_moment(since)
    except Malformed:
        return
    offset = since[19:].lstrip(".0123456789")
    days = tuple(
        f"{str(day)[:10]}{offset}" if in_one_zone and str(day)[0].isdecimal() else day
        for day in (standing.valid_from, standing.valid_until)
    )
    only = standing._replace(state="valid", version=1, highest=1, count=1)
    only = only._replace(valid_from=days[0], valid_until=days[1])
    if says_nothing:
        only = only._replace(**NOTHING)
    issued = Transition(ISSUED, event_id, by, "", since, 1, *days, *[None] * 5)
    history = staterow.pack_item(7, 8, event)
    kept = ((0, issued),)
    state = staterow.pack_row(key, only, link, bytes(16), kept, history)
    whole = staterow.pack_whole_row(key, only, link, bytes(16), kept, history)
    unkept = staterow.pack_row(key, only, link, bytes(16), (), history)
    assert state[:-4] == unkept[:-4] + bytes.fromhex(event_id[8:])
    record = format_record(only, link)
    assert staterow.row_record(key, state, history) == record
    assert staterow.row_record(key, whole, history) == record
    assert staterow.plain_words(key, whole, history) is None
    found = staterow.plain_words(key, state, history)
    is_short = all(day in (None, UNKNOWN, OPEN) or str(day)[10:] == offset for day in days)
    is_plain = only[7:12] == (None,) * 5 and "." not in since and UNKNOWN not in days
    assert (found is not None) == (is_plain and is_short and days[0] not in (None, OPEN)), only
    around = staterow.issued_words(*days, by, since[:10] + since[19:])
    assert (around is not None) == (is_short and "." not in since)
    if around is not None and only[7:12] == (None,) * 5:
        issued_row = (key, link, bytes(16), around, since, event, history)
        assert staterow.pack_issued(*issued_row) == state
    if found is not None:
        words, *rest = found
        assert rest == [by.encode(), since, event_id]
        other = only._replace(since=f"2020-01-01T00:00:00{offset}")
        again = staterow.pack_row(key, other, bytes(32), bytes(16), kept, history)
        assert (staterow.plain_words(key, again, history) or ())[0] == words
        for damaged in (_flip(key, flip), key[:31]):
            with pytest.raises(ProofError, match="stored-bytes-damaged"):
                staterow.plain_words(damaged, state, history)


def _flip(data: bytes, flip: int) -> bytes:
    return bytes([data[0] ^ flip]) + data[1:]


@given(
    st.lists(
        st.tuples(st.integers(0, 2**40), st.integers(0, 4095), st.integers(0, 2**32 - 1)),
        min_size=1,
        unique_by=lambda item: item[:2],
    ),
    st.integers(0, 2**40),
)
def test_histories(items: list[tuple[int, int, int]], size: int) -> None:
    items.sort()
    history = b"".join(staterow.pack_item(i, p, n.to_bytes(4, "big")) for i, p, n in items)
    found = [staterow.placed(place) for place in staterow.places(history)]
    assert found == [item[:2] for item in items]
    below = [index for index, _, _ in items if index < size]
    assert staterow.last_below(history, size) == (below[-1] if below else None)
    for index, position, number in items:
        alike = staterow.alike(history, f"{number:08x}" + "f" * 24)
        assert staterow.place(index, position) in alike
        assert len(alike) == sum(item[2] == number for item in items)
    for damaged in (history[1:], history[:-1], history + history[-12:], b""):
        with pytest.raises(ProofError, match="stored-bytes-damaged"):
            staterow.places(damaged)
