"""The spool survives a kill at every byte, a full disk and damage, and never forks a lane."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ledger.bundle import note_hash
from ledger.errors import Conflict, Unavailable
from producers.spool import Spool
from tests.world import make_header, make_record


def records(count: int, lane: int = 0, size: int = 20) -> list[bytes]:
    """Bundles of one lane in their order."""
    out = []
    previous = bytes(32)
    for sequence in range(count):
        lines = [b"%d" % sequence + b"x" * size]
        members: dict[str, Any] = {"lane": lane, "sequence": sequence, "previous": previous}
        out.append(make_record(lines, **members))
        previous = note_hash(make_header(lines, **members).text())
    return out


def read_all(spool: Spool) -> list[bytes | None]:
    return [spool.read(spooled) for spooled in spool.waiting()]


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    made = records(3) + records(2, lane=1)
    with Spool(tmp_path / "spool") as spool:
        spool.write(made[:2])
        spool.write(made[2:])
        lanes = dict(spool.lanes)
    with Spool(tmp_path / "spool") as spool:
        assert read_all(spool) == made
        assert spool.lanes == lanes
        assert lanes[0].next_sequence == 3
        assert lanes[1].next_sequence == 2
        assert lanes[0].previous == spool.waiting()[2].note_hash


def test_released_bundles_are_gone_and_lanes_stay(tmp_path: Path) -> None:
    made = records(3)
    with Spool(tmp_path) as spool:
        spooled = spool.write(made)
        spool.release([spooled[0].note_hash, spooled[1].note_hash])
        assert spool.read(spooled[0]) is None
    with Spool(tmp_path) as spool:
        assert read_all(spool) == made[2:]
        spool.release([spooled[2].note_hash])
    with Spool(tmp_path) as spool:
        assert spool.waiting() == []
        assert spool.lanes[0].next_sequence == 3


def test_a_kill_at_every_byte_leaves_whole_bundles_only(tmp_path: Path) -> None:
    made = records(3)
    with Spool(tmp_path / "whole") as spool:
        spool.write(made[:1])
        spool.write(made[1:])
    segment = next((tmp_path / "whole").glob("segment-*"))
    data = segment.read_bytes()
    ends = []
    for size in range(len(data) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / segment.name).write_bytes(data[:size])
        with Spool(folder) as spool:
            found = read_all(spool)
            assert found == made[: len(found)]
            next_sequence = spool.lanes[0].next_sequence if found else 0
            assert next_sequence == len(found)
            ends.append(len(found))
            spool.write(made[len(found) : len(found) + 1])
            assert read_all(spool) == made[: len(found) + 1]
    assert ends == sorted(ends)
    assert ends[-1] == 3


@pytest.mark.parametrize("tail", [bytes(5000), b"\xff" * 40, b"CLS1" + bytes(100)])
def test_a_torn_tail_of_junk_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    made = records(2)
    with Spool(tmp_path) as spool:
        spool.write(made[:1])
    segment = next(tmp_path.glob("segment-*"))
    segment.write_bytes(segment.read_bytes() + tail)
    with Spool(tmp_path) as spool:
        assert read_all(spool) == made[:1]
        spool.write(made[1:])
    with Spool(tmp_path) as spool:
        assert read_all(spool) == made


def test_damage_before_bytes_that_were_synced_is_refused(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for record in records(3):
            spool.write([record])
    segment = next(tmp_path.glob("segment-*"))
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    with pytest.raises(Unavailable, match="damaged at byte 0") as caught:
        Spool(tmp_path)
    assert caught.value.code == "spool-failed"


def test_segments_go_when_nothing_in_them_waits(tmp_path: Path) -> None:
    with Spool(tmp_path, segment_bytes=4000) as spool:
        for record in records(60, size=500):
            spooled = spool.write([record])
            spool.release([spooled[0].note_hash])
            assert sum(path.stat().st_size for path in tmp_path.glob("segment-*")) < 12_000
    with Spool(tmp_path, segment_bytes=4000) as spool:
        assert spool.lanes[0].next_sequence == 60
        assert spool.waiting() == []


def test_a_waiting_bundle_keeps_its_segment(tmp_path: Path) -> None:
    made = records(20, size=500)
    with Spool(tmp_path, segment_bytes=2000) as spool:
        first = spool.write(made[:1])[0]
        for record in made[1:]:
            spool.release([spool.write([record])[0].note_hash])
        assert spool.read(first) == made[0]
    with Spool(tmp_path, segment_bytes=2000) as spool:
        assert read_all(spool) == made[:1]
        spool.release([first.note_hash])
        assert len(list(tmp_path.glob("segment-*"))) == 1


def test_a_second_producer_on_one_spool_is_refused(tmp_path: Path) -> None:
    with Spool(tmp_path):
        with pytest.raises(Conflict, match=f"process {os.getpid()}") as caught:
            Spool(tmp_path)
        assert caught.value.code == "spool-in-use"
    Spool(tmp_path).close()


@pytest.mark.parametrize("written", [0, 1, 300])
def test_a_full_disk_takes_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    made = records(3)
    with Spool(tmp_path) as spool:
        spool.write(made[:1])
        lanes = dict(spool.lanes)
        real = os.write
        left = [written]

        def full(handle: int, data: Any) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            size, left[0] = left[0], 0
            return real(handle, data[:size])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(Unavailable, match="No space left") as caught:
                spool.write(made[1:])
        assert caught.value.code == "spool-failed"
        assert spool.lanes == lanes
        assert read_all(spool) == made[:1]
        spool.write(made[1:])  # there is space again
    with Spool(tmp_path) as spool:
        assert read_all(spool) == made


def test_after_a_failed_fsync_the_spool_must_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = records(2)

    def fails(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Spool(tmp_path) as spool:
        spool.write(made[:1])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails)
            with pytest.raises(Unavailable, match="Input/output error"):
                spool.write(made[1:])
        with pytest.raises(Unavailable, match="open it again"):
            spool.write(made[1:])
    with Spool(tmp_path) as spool:
        assert read_all(spool) == made[:1]
        spool.write(made[1:])


def test_a_bundle_damaged_on_disk_is_not_sent(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spooled = spool.write(records(1))[0]
        segment = next(tmp_path.glob("segment-*"))
        data = bytearray(segment.read_bytes())
        data[spooled.offset + 20] ^= 1
        segment.write_bytes(data)
        with pytest.raises(Unavailable, match="damaged"):
            spool.read(spooled)
