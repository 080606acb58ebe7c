"""The spool: what was signed and has no receipt yet, so that nothing signed is ever lost or forked.

A folder with one lock and a row of segment files. A segment is a row of frames, each
magic ‖ length ‖ CRC-32 ‖ synced ‖ kind ‖ payload; `synced` is how much of the segment was on disk
when the frame was written. A frame is a bundle record, a lane's state, or note hashes released.
Each segment begins with the states of all lanes, so older ones can go once nothing in them waits.

A write is not accepted before its fsync. What a kill leaves half written at the end was never
sent and is cut off at opening; damage before what a later frame calls synced is refused, because
going on from there would sign a second text for a number already used.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import canonical
from ledger.bundle import MAX_RECORD, Header, note_hash, parse_header
from ledger.errors import Conflict, LedgerError, Unavailable
from ledger.note import parse_note

from .closing import Closing

SEGMENT_BYTES = 16 * 1024 * 1024
_FRAME = struct.Struct(">4sIIQB")
_MAGIC = b"CLS1"
_LANE, _BUNDLE, _RELEASED = 1, 2, 3
_HASH = 32


@dataclass(frozen=True, slots=True)
class LaneState:
    """What the next bundle on a lane must say. `previous` is the last note's hash."""

    epoch: int
    producer: str
    next_sequence: int
    previous: bytes
    signed_at: str  # of the last bundle, empty before the first


@dataclass(frozen=True, slots=True)
class Spooled:
    """A bundle in the spool that has no receipt yet."""

    header: Header
    note_hash: bytes
    segment: int
    offset: int  # of the record within its segment
    length: int


class Spool(Closing):
    """The spool in `folder`, made when missing.

    Conflict `spool-in-use` while another process has it; Unavailable `spool-failed` when it is
    damaged or cannot be written. Safe to use from several threads.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.lanes: dict[int, LaneState] = {}
        self._segment_bytes = segment_bytes
        self._mutex = threading.Lock()
        self._waiting: dict[bytes, Spooled] = {}
        self._sizes: dict[int, int] = {}  # segment number to how many bundles wait in it
        self._failed: str | None = None
        self._file = -1
        self._reading: tuple[int, int] = (-1, -1)  # (segment, file descriptor)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _take_lock(folder)
        except OSError as err:
            raise Unavailable("spool-failed", f"{folder}: {err.strerror or err}") from err
        try:
            self._open()
        except BaseException as err:
            self.close()
            if isinstance(err, OSError):
                raise Unavailable("spool-failed", f"{folder}: {err.strerror or err}") from err
            raise

    def waiting(self) -> list[Spooled]:
        """The bundles without a receipt, in the order in which they were written."""
        with self._mutex:
            return list(self._waiting.values())

    def write(self, records: Sequence[bytes], release: Iterable[bytes] = ()) -> list[Spooled]:
        """Bundles on disk, all or none, and the lanes' states moved behind them.

        `release` names bundles whose lines the new ones carry again. One fsync for all.
        """
        with self._mutex:
            self._check_usable()
            frames = [(_BUNDLE, record) for record in records]
            if hashes := b"".join(release):
                frames.append((_RELEASED, hashes))
            try:
                if self._end >= self._segment_bytes:
                    self._roll()
                places = self._append(frames)
                # A kill here leaves bundles that nobody was told of; the next opening sends them.
                self._sync()
            except OSError as err:
                # Take it back, so that nothing of it is there at the next opening.
                self._truncate(self._synced)
                raise Unavailable("spool-failed", f"{self.folder}: {err.strerror or err}") from err
            spooled = [
                self._note(self._number, offset, record)
                for record, offset in zip(records, places, strict=False)
            ]
            self._let_go(hashes)
            return spooled

    def read(self, spooled: Spooled) -> bytes | None:
        """The record of a bundle that waits, None when the spool let go of it."""
        with self._mutex:
            if spooled.note_hash not in self._waiting:
                return None
            if self._file < 0:
                raise Unavailable("spool-failed", f"{self.folder} is closed")
            path = self._path(spooled.segment)
            try:
                if self._reading[0] != spooled.segment:
                    self._close_reading()
                    self._reading = (spooled.segment, os.open(path, os.O_RDONLY))
                data = os.pread(self._reading[1], spooled.length, spooled.offset)
            except OSError as err:
                raise Unavailable("spool-failed", f"{path}: {err.strerror or err}") from err
        if note_hash(_note_text(data)) != spooled.note_hash:
            raise Unavailable("spool-failed", f"{path} is damaged")
        return data

    def release(self, hashes: Iterable[bytes]) -> None:
        """Let go of bundles whose receipts arrived.

        Not synced: what a crash forgets is sent again and answered with the same receipt.
        """
        with self._mutex:
            known = b"".join(value for value in hashes if value in self._waiting)
            if not known or self._failed or self._file < 0:
                return
            end = self._end
            try:
                self._append([(_RELEASED, known)])
            except OSError:  # a full disk: forgetting is harmless, half a frame would not be
                self._truncate(end)
            self._let_go(known)
            self._remove_done()

    def close(self) -> None:
        """Give the folder free for another producer."""
        with self._mutex:
            self._close_reading()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    # --- opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        numbers = sorted(int(path.stem[8:]) for path in self.folder.glob("segment-*.spool"))
        for number in numbers:
            self._sizes[number] = 0
            self._load(number, last=number == numbers[-1])
        if numbers:
            self._number = numbers[-1]
            self._file = os.open(self._path(self._number), os.O_RDWR | os.O_APPEND)
            # What a killed process wrote and did not sync is about to be sent: sync it first.
            os.fsync(self._file)
            self._end = self._synced = os.fstat(self._file).st_size
            self._remove_done()
        else:
            self._number = 0
            self._create_segment(1)

    def _load(self, number: int, last: bool) -> None:
        path = self._path(number)
        data = path.read_bytes()
        end = 0
        for kind, payload, start in _frames(data):
            self._take_frame(number, kind, payload, start)
            end = start + len(payload)
        if end == len(data):
            return
        beyond = _synced_beyond(data, end)
        if not last or beyond > end:
            raise Unavailable(
                "spool-failed",
                f"{path} is damaged at byte {end}, before bytes that were on disk already: "
                "put the disk right, or move the spool away and take the lane over",
            )
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())

    def _take_frame(self, number: int, kind: int, payload: bytes, offset: int) -> None:
        if kind == _LANE:
            value = canonical.parse(payload, 4096)
            self.lanes[value["lane"]] = LaneState(
                value["epoch"],
                value["producer"],
                value["next_sequence"],
                bytes.fromhex(value["previous"]),
                value["signed_at"],
            )
        elif kind == _BUNDLE:
            self._note(number, offset, payload)
        else:
            self._let_go(payload)

    # --- writing ---------------------------------------------------------------------------------

    def _check_usable(self) -> None:
        if self._failed:
            raise Unavailable("spool-failed", self._failed)
        if self._file < 0:
            raise Unavailable("spool-failed", f"{self.folder} is closed")

    def _append(self, frames: Iterable[tuple[int, bytes]]) -> list[int]:
        parts: list[bytes] = []
        places = []
        at = self._end
        for kind, payload in frames:
            parts.append(_frame(kind, payload, self._synced))
            places.append(at + _FRAME.size)
            at += len(parts[-1])
        data = memoryview(b"".join(parts))
        while data:
            written = os.write(self._file, data)
            data = data[written:]
        self._end = at
        return places

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as err:
            # A failed fsync may have dropped what it could not write, and the next one says fine.
            self._failed = f"{self.folder}: fsync failed ({err.strerror or err}); open it again"
            raise
        self._synced = self._end

    def _truncate(self, end: int) -> None:
        try:
            os.ftruncate(self._file, end)
            self._end = end
            self._synced = min(self._synced, end)
        except OSError as err:
            self._failed = f"{self.folder}: {err.strerror or err}; open it again"

    def _roll(self) -> None:
        old = self._file
        os.fsync(old)
        self._create_segment(self._number + 1)
        os.close(old)
        self._remove_done()

    def _create_segment(self, number: int) -> None:
        path = self._path(number)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        before = (self._file, self._number, getattr(self, "_end", 0), getattr(self, "_synced", 0))
        self._file, self._number, self._end, self._synced = handle, number, 0, 0
        try:
            # A kill from here on leaves a segment without all states; the older ones still say
            # them, because they are removed only after this.
            self._append((_LANE, _lane_payload(*lane)) for lane in sorted(self.lanes.items()))
            self._sync()
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError:
            if before[0] >= 0:
                os.close(handle)
                path.unlink(missing_ok=True)
                self._file, self._number, self._end, self._synced = before
                self._failed = None
            raise
        self._sizes[number] = 0

    def _note(self, number: int, offset: int, record: bytes) -> Spooled:
        text = _note_text(record)
        header = parse_header(text)
        spooled = Spooled(header, note_hash(text), number, offset, len(record))
        self._waiting[spooled.note_hash] = spooled
        self._sizes[number] += 1
        self.lanes[header.lane] = LaneState(
            header.epoch,
            header.producer,
            header.sequence + 1,
            spooled.note_hash,
            header.signed_at,
        )
        return spooled

    def _let_go(self, hashes: bytes) -> None:
        for start in range(0, len(hashes), _HASH):
            spooled = self._waiting.pop(hashes[start : start + _HASH], None)
            if spooled is not None and spooled.segment in self._sizes:
                self._sizes[spooled.segment] -= 1

    def _remove_done(self) -> None:
        """Remove the oldest segments in which nothing waits; a later one says the lanes' states."""
        for number in sorted(self._sizes):
            if number == self._number or self._sizes[number]:
                return
            if self._reading[0] == number:
                self._close_reading()
            self._path(number).unlink(missing_ok=True)
            del self._sizes[number]

    def _path(self, number: int) -> Path:
        return self.folder / f"segment-{number:012d}.spool"

    def _close_reading(self) -> None:
        if self._reading[1] >= 0:
            os.close(self._reading[1])
        self._reading = (-1, -1)


def _take_lock(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise Conflict(
            "spool-in-use", f"{folder} is in use by process {holder or '?'}; only one may publish"
        ) from err
    os.ftruncate(handle, 0)
    os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    return handle


def _frame(kind: int, payload: bytes, synced: int) -> bytes:
    body = synced.to_bytes(8, "big") + bytes([kind])
    crc = zlib.crc32(payload, zlib.crc32(body))
    return _FRAME.pack(_MAGIC, len(payload), crc, synced, kind) + payload


def _frames(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(kind, payload, offset of the payload) of each frame up to the first that is not whole."""
    at = 0
    while (found := _frame_at(data, at)) is not None:
        kind, payload, _ = found
        start = at + _FRAME.size
        yield kind, payload, start
        at = start + len(payload)


def _frame_at(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    if len(data) - at < _FRAME.size:
        return None
    magic, length, crc, synced, kind = _FRAME.unpack_from(data, at)
    start = at + _FRAME.size
    if magic != _MAGIC or length > MAX_RECORD * 2 or start + length > len(data):
        return None
    payload = data[start : start + length]
    if kind not in (_LANE, _BUNDLE, _RELEASED) or crc != zlib.crc32(
        payload, zlib.crc32(data[at + 12 : start])
    ):
        return None
    return kind, payload, synced


def _synced_beyond(data: bytes, bad: int) -> int:
    """How much of the segment the frames after a bad place say was on disk before them."""
    most = 0
    at = data.find(_MAGIC, bad)
    while at >= 0:
        found = _frame_at(data, at)
        if found is not None:
            most = max(most, found[2])
        at = data.find(_MAGIC, at + 1)
    return most


def _lane_payload(lane: int, state: LaneState) -> bytes:
    value: dict[str, Any] = {
        "lane": lane,
        "epoch": state.epoch,
        "producer": state.producer,
        "next_sequence": state.next_sequence,
        "previous": state.previous.hex(),
        "signed_at": state.signed_at,
    }
    return canonical.format(value)


def _note_text(record: bytes) -> bytes:
    """The text of a record's note; the whole record was checked when it was made."""
    try:
        return parse_note(record[8 : 8 + int.from_bytes(record[4:8], "big")]).text
    except LedgerError as err:
        raise Unavailable("spool-failed", f"a bundle in the spool is damaged: {err}") from err
