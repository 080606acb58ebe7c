"""Step 4 in a process of its own, `python -m streams.opener FD`: who applies records has its
interpreter for itself.

The worker starts it, sends it records, and gets back what they say: events as columns, lines as
they will be stored. It has no connection, no key and no state but the registry that it was sent,
and ends when its worker does. Both are of one installation: the form between them is no format.
"""

from __future__ import annotations

import marshal
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from ledger import fast_events
from ledger.admission import DeadLetter, Opened, open_bundle
from ledger.bundle import Bundle, Header
from ledger.errors import Unavailable
from ledger.event import Event
from ledger.note import Note, Signature, VerifierKey
from ledger.postgres.rows import Chunk, pack_lines
from ledger.registry import Registry
from ledger.reliance import Reliance

from .memory import collect_seldom, keep_large_blocks
from .priority import stand_back

PART_BYTES = 16 * 1024  # of records that are answered together
SECONDS = 30.0  # for each such part: a frozen opener must not hold up its partitions for ever
_LENGTH = 8  # bytes before each message
_NO_REGISTRY = -1
_REPEATED = {Event._fields.index(name) for name in ("source", "type_code", "issuer")}
_header_fields = attrgetter(*Header.__slots__)
_signature_fields = attrgetter(*Signature.__slots__)

Value = tuple[Opened | DeadLetter, Sequence[Chunk]]
"""What a record's value says, and its lines as they will be stored."""


class Opener:
    """The worker's end. One thread at a time; any failure is Unavailable, and final."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.opener", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
            )
        self._socket.settimeout(SECONDS)
        self._told = _NO_REGISTRY  # log index of the last change of the registry that it has

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(
        self, values: Sequence[bytes | None], registry_index: int, registry: Registry
    ) -> list[Value]:
        """As `rows.open_value` for each, but bundles come without their lines and leaf hashes."""
        told = None
        if registry_index != self._told:
            told = (registry.origin, dict(registry.records))
        try:
            _send(self._socket, (told, list(values)))
            opened: list[Value] = []
            while len(opened) < len(values):
                answers = _receive(self._socket)
                if answers is None:
                    raise Unavailable("unreachable", "the process that opens records ended")
                opened += map(_unpack, answers)
        except OSError as err:
            raise Unavailable("unreachable", f"the process that opens records: {err}") from err
        self._told = registry_index
        return opened

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait()


def main(fd: int) -> None:
    """Open what the worker sends until it is gone, whatever signals its group gets."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stand_back()
    keep_large_blocks()
    collect_seldom()
    registry = Registry("")
    with socket.socket(fileno=fd) as worker:
        while (asked := _receive(worker)) is not None:
            told, values = asked
            if told is not None:
                registry = Registry(*told)
            try:
                for some in _parts(values):  # each finds the memory of the one before
                    _send(worker, [_pack(value, registry) for value in some])
            except ConnectionError:
                return


def _parts(values: Sequence[bytes | None]) -> Iterator[list[bytes | None]]:
    """Values that are answered together: who waits is woken once for many short ones."""
    part: list[bytes | None] = []
    size = 0
    for value in values:
        part.append(value)
        size += len(value or b"")
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _send(to: socket.socket, message: Any) -> None:
    data = marshal.dumps(message)
    to.sendall(len(data).to_bytes(_LENGTH, "big"))
    to.sendall(data)


def _receive(from_: socket.socket) -> Any:
    """The next message; None when the other end is gone."""
    head = _read(from_, _LENGTH)
    data = None if head is None else _read(from_, int.from_bytes(head, "big"))
    return None if data is None else marshal.loads(data)


def _read(from_: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        got = from_.recv_into(rest)
        if not got:
            return None
        rest = rest[got:]
    return data


def _pack(value: bytes | None, registry: Registry) -> tuple[Any, ...]:
    """Step 4 for a record's value, as it travels."""
    opened = open_bundle(value, registry)
    if isinstance(opened, DeadLetter):
        damaged = opened.bundle
        return opened.code, opened.message, None if damaged is None else _pack_bundle(damaged)
    bundle, key = opened
    columns, others = fast_events.parse_columns(bundle)
    return (
        _pack_bundle(bundle),
        (key.name, key.public),
        [
            tuple(map(sys.intern, column)) if number in _REPEATED else column
            for number, column in enumerate(columns)
        ],
        {n: line if isinstance(line, str) else tuple(line) for n, line in others.items()},
        tuple(pack_lines(bundle)),
    )


def _unpack(packed: tuple[Any, ...]) -> Value:
    if len(packed) == 3:
        code, message, bundle = packed
        return DeadLetter(code, message, None if bundle is None else _unpack_bundle(*bundle)), ()
    bundle, key, columns, others, chunks = packed
    lines = fast_events.join_lines(
        columns,
        {n: line if isinstance(line, str) else Reliance(*line) for n, line in others.items()},
    )
    return Opened(_unpack_bundle(*bundle), VerifierKey(*key), lines), chunks


def _pack_bundle(bundle: Bundle) -> tuple[Any, ...]:
    signatures = tuple(map(_signature_fields, bundle.note.signatures))
    return (
        _header_fields(bundle.header),
        bundle.note.text,
        signatures,
        bundle.note_bytes,
        bundle.note_hash,
    )


def _unpack_bundle(
    header: tuple[Any, ...],
    text: bytes,
    signatures: tuple[tuple[str, bytes, bytes], ...],
    note_bytes: bytes,
    note_hash: bytes,
) -> Bundle:
    note = Note(text, tuple(Signature(*fields) for fields in signatures))
    return Bundle(Header(*header), note, note_bytes, note_hash, (), ())


if __name__ == "__main__":
    main(int(sys.argv[1]))
