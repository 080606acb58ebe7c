"""Tile paths: one spelling each, and nothing else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.http.settings import Settings, SettingsError
from consumers.http.tile_paths import MAX_LEVEL, WIDTH, TilePath, tile_path
from consumers.http.tiles import BATCH, accepts_gzip, batches

GOOD = {
    "tile/0/000": TilePath("tile/0", 0),
    "tile/0/999": TilePath("tile/0", 999),
    "tile/0/x001/000": TilePath("tile/0", 1000),
    "tile/0/x001/x234/067": TilePath("tile/0", 1_234_067),  # the example of C2SP tlog-tiles
    "tile/7/005.p/1": TilePath("tile/7", 5, 1),
    "tile/63/000": TilePath("tile/63", 0),
    "tile/entries/000": TilePath("tile/entries", 0),
    "tile/entries/x123/456.p/255": TilePath("tile/entries", 123_456, 255),
    "delta/000": TilePath("delta", 0),
    "delta/x001/000.p/9": TilePath("delta", 1000, 9),
}

BAD = [
    "",
    "checkpoint/",
    "tile",
    "tile/",
    "tile/0",
    "tile/0/",
    "tile//000",
    "tile/00/000",
    "tile/01/000",
    "tile/64/000",
    "tile/-1/000",
    "tile/+1/000",
    "tile/ 1/000",
    "tile/x/000",
    "tile/0/0",
    "tile/0/00",
    "tile/0/0000",
    "tile/0/1000",
    "tile/0/-01",
    "tile/0/x000",
    "tile/0/x000/001",  # 001 is its only spelling
    "tile/0/x001/x000",
    "tile/0/001/000",
    "tile/0/X001/000",
    "tile/0/x01/000",
    "tile/0/x001//000",
    "tile/0/000/",
    "tile/0/000//",
    "/tile/0/000",
    "tile/0/000.p",
    "tile/0/000.p/",
    "tile/0/000.p/0",
    "tile/0/000.p/00",
    "tile/0/000.p/01",
    "tile/0/000.p/256",
    "tile/0/000.p/999",
    "tile/0/000.p/1000",
    "tile/0/000.p/-1",
    "tile/0/000.p/+1",
    "tile/0/000.p/1/",
    "tile/0/000.P/1",
    "tile/0/000%2ep/1",
    "tile/0/%30%30%30",
    "tile%2f0/000",
    "tile/0/000?",
    "tile/0/000 ",
    "tile/0/000\n",
    "tile/0/٠٠٠",
    "tile/0/\uff10\uff10\uff10",
    "tile/0/0_0",
    "tile/0/../0/000",
    "tile/./0/000",
    "tile/entries/0/000",
    "tile/Entries/000",
    "tile/entries",
    "tile/delta/000",
    "entries/000",
    "delta/0/000",
    "Delta/000",
    "holders/000",
    "tile/0/" + "x999/" * 6 + "999",  # beyond 2^63 entries
    "tile/0/" + "x001/" * 200 + "000",
]


@pytest.mark.parametrize("text", sorted(GOOD))
def test_a_path_is_read_and_printed_again(text: str) -> None:
    assert tile_path(text.encode()) == GOOD[text]
    assert str(GOOD[text]) == text


@pytest.mark.parametrize("text", BAD)
def test_any_other_spelling_names_nothing(text: str) -> None:
    assert tile_path(text.encode()) is None


@given(
    st.one_of(
        st.integers(0, MAX_LEVEL).map(lambda n: f"tile/{n}"),
        st.sampled_from(["tile/entries", "delta"]),
    ),
    st.integers(0, 2**55 - 2),
    st.integers(1, WIDTH),
)
def test_what_is_printed_is_read(kind: str, index: int, width: int) -> None:
    path = TilePath(kind, index, width)
    assert tile_path(str(path).encode()) == path


@given(
    st.one_of(
        st.binary(max_size=64),
        st.text(max_size=64).map(str.encode),
        st.from_regex(
            rb"(tile/[0-9]{1,2}|tile/entries|delta)/(x[0-9]{3}/)*[0-9]{1,4}(\.p/[0-9]+)?",
            fullmatch=True,
        ),
    )
)
def test_any_bytes_give_the_path_that_prints_them_or_nothing(raw: bytes) -> None:
    path = tile_path(raw)
    if path is None:
        return
    assert str(path).encode() == raw
    assert 0 <= path.level <= MAX_LEVEL
    assert 1 <= path.width <= WIDTH
    assert path.begin + path.width < 2**63


def test_the_tree_that_a_tile_needs() -> None:
    # C2SP's example: a tree of 70,000 leaves has these tiles at its right edge
    assert TilePath("tile/0", 273, 112).needed_size == 70_000
    assert TilePath("tile/1", 1, 17).needed_size == 273 * 256
    assert TilePath("tile/2", 0, 1).needed_size == 65_536
    assert TilePath("tile/entries", 273, 112).needed_size == 70_000
    assert TilePath("delta", 0).needed_size == 256


@given(
    st.lists(
        st.one_of(st.just(0), st.integers(0, 4096).map(lambda n: n * 64)), min_size=1, max_size=256
    )
)
def test_batches_cover_all_lists_once(lengths: list[int]) -> None:
    runs = batches(lengths)
    assert [n for first, count in runs for n in range(first, first + count)] == list(
        range(len(lengths))
    )
    for first, count in runs:
        assert count == 1 or sum(lengths[first : first + count]) <= BATCH


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"br, gzip;q=0.5", True),
        (b"gzip; q=0.001", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"identity", False),
        (b"*", False),
        (b"x-gzip2", False),
        (b"", False),
        (b";;;,,,q=", False),
    ],
)
def test_gzip_is_sent_to_who_asks_for_it(value: bytes, accepted: bool) -> None:
    assert accepts_gzip({b"accept-encoding": value}) == accepted


def test_all_problems_of_the_settings_are_named_at_once() -> None:
    environ = {"CERTLEDGER_HTTP_LISTEN": "localhost", "CERTLEDGER_HTTP_CONNECTIONS": "many"}
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    assert len(str(caught.value).splitlines()) == 3
    made = Settings.from_environment(
        {"CERTLEDGER_POSTGRES": "postgresql://x", "CERTLEDGER_HTTP_LISTEN": "[::1]:80"}
    )
    assert (made.host, made.port) == ("::1", 80)
