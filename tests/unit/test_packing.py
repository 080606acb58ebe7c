"""What is stored compressed: any damage to a frame's form is told, whatever thread packs."""

from __future__ import annotations

import threading

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.linetree import GROUP
from ledger.postgres.packing import MAX_BYTES, pack, unpack
from ledger.postgres.rows import CHUNK, ChunkLines

LINE = b'{"data":{"certificate_number":"A-1"},"id":"00","source":"a"}'


@given(st.binary(max_size=3000), st.sampled_from([1, 3]))
def test_what_was_packed_unpacks_here_and_elsewhere(data: bytes, level: int) -> None:
    frame = pack(data, level)
    assert unpack(frame) == data
    assert bytes(cramjam.zstd.decompress(frame)) == data
    # what earlier programs stored is the same
    assert unpack(bytes(cramjam.zstd.compress(data, level=level))) == data


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        LINE,
        pack(LINE)[:-1],
        pack(LINE) + b"\0",
        pack(LINE) * 2,
        b"\0" + pack(LINE),
    ],
)
def test_what_is_not_one_whole_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(frame)
    assert unpack(pack(LINE)) == LINE, "and nothing of it is left behind"


def test_a_frame_that_says_it_is_huge_is_refused_before_there_is_memory_for_it() -> None:
    # magic, a header with 8 bytes of length and no window, that length
    frame = b"\x28\xb5\x2f\xfd" + b"\xe0" + (MAX_BYTES + 1).to_bytes(8, "little")
    with pytest.raises(ValueError, match="more bytes than anything stored"):
        unpack(frame)


def test_threads_do_not_share_their_contexts() -> None:
    lines = [LINE * n for n in range(1, 200)]
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(line for line in lines if unpack(pack(line)) != line)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 63, 64, 65, 96, 97, CHUNK - 1, CHUNK])
def test_a_chunk_is_taken_apart_as_its_lines_stand(count: int) -> None:
    lines = [b"%d" % n * n for n in range(count)]
    chunk = pack(b"\n".join(lines))
    assert list(ChunkLines(chunk)) == lines
    for number in range(CHUNK // GROUP + 1):
        assert ChunkLines(chunk).group(number) == lines[GROUP * number :][:GROUP]
    whole = ChunkLines(chunk)
    assert [whole.line(n) for n in range(count + GROUP + 1)] == [*lines, *[None] * (GROUP + 1)]
