"""fsck, the event lines: unpacked, held against their bundle's note and parsed, taken in log order.

Nothing of that needs the state: it is done here, or for the entries to come in a process beside
(`Beside`).
"""

from __future__ import annotations

import gc
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import IO, Any

from ledger import fast_events
from ledger.admission import Parse, parse_lines
from ledger.bundle import format_record, parse_record
from ledger.entry import BUNDLE, parse_entry
from ledger.errors import LedgerError, Unavailable
from ledger.event import Event
from ledger.postgres.rows import unpack_lines
from ledger.postgres.scan import Row
from ledger.reliance import Reliance

from .fsck_report import Merge

GARBAGE_THRESHOLD = 200_000  # objects made and not yet freed
PARSERS: dict[str, Parse] = {"slow": parse_lines, "fast": fast_events.parse_lines}
Events = tuple[Event | Reliance | str, ...]
_KINDS: tuple[type[Event] | type[Reliance], ...] = (Event, Reliance)  # as they go through the pipe
_MAX_BATCH, _MAX_BATCH_BYTES = 256, 256 * 1024  # entries, packed lines that go beside at once


class Lines:
    """The stored lines beside the log's entries."""

    def __init__(self, merge: Merge, beside: Beside | None) -> None:
        self._merge = merge
        self._beside = beside
        self._rows: dict[int, list[Row]] = {}  # taken from `merge` and not from here
        self._opened: dict[int, Events] = {}

    def ahead(self, entries: Iterator[Row]) -> Iterator[Row]:
        """The same rows, (index, entry or None, …); where there is a process beside, it opens the
        next ones meanwhile.
        """
        if self._beside is None:
            yield from entries
            return
        batch = self._send(self._beside, entries)
        while batch:
            opened = self._beside.receive()
            following = self._send(self._beside, entries)
            for row, events in zip(batch, opened, strict=True):
                if events is not None:
                    self._opened[row[0]] = events
            yield from batch
            batch = following

    def _send(self, beside: Beside, entries: Iterator[Row]) -> list[Row]:
        batch: list[Row] = []
        asked: list[tuple[bytes, list[tuple[int, bytes]]]] = []
        size = 0
        for entry in islice(entries, _MAX_BATCH):
            index, data = entry[:2]
            rows = self._rows[index] = self._merge.take(index)
            batch.append(entry)
            asked.append((data or b"", [(row[1], row[2]) for row in rows]))
            size += sum(len(row[2]) for row in rows)
            if size > _MAX_BATCH_BYTES:
                break
        if batch:
            beside.send(asked)
        return batch

    def take(self, index: int) -> list[Row]:
        """The rows of an entry, in the order of its index; strays are reported."""
        rows = self._rows.pop(index, None)
        return self._merge.take(index) if rows is None else rows

    def open(self, index: int, note: bytes, rows: Sequence[Row]) -> Events | None:
        """The events of an entry's lines, None where they are not those that its note signs."""
        events = self._opened.pop(index, None)
        if events is None:
            return open_lines(note, [(row[1], row[2]) for row in rows])
        return events

    def rest(self) -> None:
        """Whatever is left belongs to no entry."""
        self._merge.rest()


def unpack_chunks(chunks: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """The lines in (number, packed lines); ValueError with what is wrong."""
    lines: list[bytes] = []
    for wanted, (chunk, packed) in enumerate(chunks):
        if chunk != wanted:
            raise ValueError(f"chunk {wanted} is missing")
        try:
            lines += unpack_lines(packed)
        except ValueError as err:
            raise ValueError(f"chunk {chunk} does not unpack ({err})") from err
    return lines


def open_lines(
    note: bytes, chunks: Sequence[tuple[int, bytes]], parse: Parse = parse_lines
) -> Events | None:
    """The events of a bundle's packed lines, None where those are not what its note signs."""
    try:
        return parse(parse_record(format_record(note, unpack_chunks(chunks))))
    except (LedgerError, ValueError):
        return None


class Beside:
    """A process that opens lines while its parent does something else, one batch at a time.

    It ends with its parent, whose end of the pipe closes.
    """

    def __init__(self, parse: str) -> None:
        """`parse`: whose lines it says, as in PARSERS."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, parse],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )

    def send(self, batch: Sequence[tuple[bytes, Sequence[tuple[int, bytes]]]]) -> None:
        """Have it open (entry, numbered packed lines); only when all before was received."""
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin, batch)
        except BrokenPipeError as err:
            raise _gone() from err

    def receive(self) -> list[Events | None]:
        """What the batch sent holds; None for entries that are no bundles and lines that are not
        what their note signs.
        """
        assert self._process.stdout is not None
        try:
            found = _read(self._process.stdout)
        except EOFError as err:
            raise _gone() from err
        return [
            None
            if events is None
            else tuple(e if type(e) is str else _KINDS[e[0]]._make(e[1]) for e in events)
            for events in found
        ]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def _gone() -> Unavailable:
    return Unavailable("unreachable", "the process that opens event lines has ended")


def _write(pipe: IO[bytes], value: Any) -> None:
    data = marshal.dumps(value)
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:
    """EOFError when the other end is gone."""
    size = pipe.read(8)
    data = pipe.read(int.from_bytes(size, "big"))
    if len(size) < 8 or len(data) < int.from_bytes(size, "big"):
        raise EOFError
    return marshal.loads(data)


def _open(entry: bytes, chunks: Sequence[tuple[int, bytes]], parse: Parse) -> list[Any] | None:
    try:
        value = parse_entry(entry)
    except LedgerError:
        return None
    if value["kind"] != BUNDLE:
        return None
    events = open_lines(value["note"].encode(), chunks, parse)
    if events is None:
        return None
    return [e if isinstance(e, str) else (_KINDS.index(type(e)), tuple(e)) for e in events]


def main() -> None:
    """Be the process beside."""
    parse = PARSERS[sys.argv[1]]
    with rare_garbage():
        while True:
            try:
                batch = _read(sys.stdin.buffer)
                opened = [_open(entry, chunks, parse) for entry, chunks in batch]
                _write(sys.stdout.buffer, opened)
            except (EOFError, BrokenPipeError):
                break
    # what is still in a buffer has no reader
    os._exit(0)


@contextmanager
def rare_garbage() -> Iterator[None]:
    """Look for cycles among new objects rarely: events make many small ones, none in cycles."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 10, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


if __name__ == "__main__":
    main()
