"""The row that the store keeps of a certificate: its packed state, and where its history lies.

*State* is the last link (32 bytes), the first 16 bytes of the holder's map key (zeros for none),
then the standing. *History* is 12 bytes per transition in ledger order: the place of its line
(u64, see `place`) and the first 4 bytes of the event's id, by which a repeated id is looked for.
Everything else about a transition follows from its line. Only bytes that pack again to themselves
are taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise

from .errors import ProofError
from .event import OPEN, REVOCATION_KINDS, UNKNOWN
from .evidence import Step
from .identity import HEAD
from .lifecycle import (
    EXPIRED_STATE,
    NONE,
    REVOKED_STATE,
    SUSPENDED_STATE,
    TRANSFERRED,
    VALID,
    VOID,
    Standing,
    Transition,
    format_transition,
    link,
    retrace,
)

NO_HOLDER = bytes(HEAD)
ITEM = 12  # bytes of a history per transition
POSITION_BITS = 12  # a bundle has at most 4,096 lines

_STATES = (NONE, VALID, SUSPENDED_STATE, REVOKED_STATE, EXPIRED_STATE, TRANSFERRED, VOID)
_STATE_NUMBERS = {state: number for number, state in enumerate(_STATES)}
_KIND_NUMBERS = {kind: number for number, kind in enumerate(REVOCATION_KINDS)}
# link, holder, flags, state, version, highest, count, first and last day, day and second of `since`
_fixed = struct.Struct(">32s16sBBHHH5s5s5sI")
_item = struct.Struct(">Q4s")
_MICROS, _REASON, _REVOCATION, _SUSPENDED, _TRANSFER, _BEGIN = (1 << n for n in range(6))
_MINUTES = [f"T{m // 60:02d}:{m % 60:02d}:" for m in range(1440)]
_MINUTE_NUMBERS = {text: number for number, text in enumerate(_MINUTES)}
_WORD = b"\xff\xff\xff"  # in place of a day's number
_WORDS = {_WORD + b"\x00\x00": None, _WORD + b"\x00\x01": UNKNOWN, _WORD + b"\x00\x02": OPEN}
_WORD_BYTES = {word: data for data, word in _WORDS.items()}
_Z = 0x7FFF  # the offset that is written Z


# --- history ---


def place(index: int, position: int) -> int:
    """One number for a line's place in the log: places ascend as the log does."""
    return index << POSITION_BITS | position


def placed(number: int) -> tuple[int, int]:
    """(log index, position) of a place."""
    return number >> POSITION_BITS, number & (1 << POSITION_BITS) - 1


def pack_item(index: int, position: int, event_id: str) -> bytes:
    """What a history keeps of one transition."""
    return _item.pack(index << POSITION_BITS | position, bytes.fromhex(event_id[:8]))


def places(history: bytes) -> list[int]:
    """The places in a history; ProofError `stored-bytes-damaged` where they do not ascend."""
    if not history or len(history) % ITEM:
        raise _damaged("a history")
    found = [number for number, _ in _item.iter_unpack(history)]
    if any(a >= b for a, b in pairwise(found)):
        raise _damaged("a history")
    return found


def alike(history: bytes, event_id: str) -> list[int]:
    """The places of the events whose ids begin as this one does."""
    begin = bytes.fromhex(event_id[:8])
    if begin not in history:
        return []
    return [number for number, each in _item.iter_unpack(history) if each == begin]


def last_below(history: bytes, size: int) -> int | None:
    """The log index of the last transition in the first `size` entries, None where none is."""
    below = [number for number in places(history) if number < size << POSITION_BITS]
    return below[-1] >> POSITION_BITS if below else None


def number_hash(number: str) -> int:
    """What certificates are found by when only their number is known: 32 bits, signed."""
    return int.from_bytes(sha256(number.encode()).digest()[:4], "big", signed=True)


def steps(found: Iterable[tuple[int, bytes, Transition]]) -> list[Step]:
    """The steps of a history out of (place, line hash, transition without its version)."""
    rows = list(found)
    return [
        Step(*placed(place), line_hash, transition)
        for (place, line_hash, _), transition in zip(
            rows, retrace(row[2] for row in rows), strict=True
        )
    ]


def link_over(key: bytes, history: Iterable[Step]) -> bytes:
    """The link over a history, which its state has."""
    last = key
    for step in history:
        data = format_transition(step.transition)
        last = link(last, step.index, step.position, step.line_hash, data)
    return last


# --- state ---


def link_in(state: bytes) -> bytes:
    """The last link in a packed state; nothing else of it is looked at."""
    return state[:32]


def pack_state(standing: Standing, last_link: bytes, holder: bytes) -> bytes:
    """The state as a row keeps it; `holder` is the first 16 bytes of the holder's map key."""
    flags, rest, since, fraction = 0, b"", standing.since, b""
    if since[19:20] == ".":
        offset = since[20:].lstrip("0123456789")
        digits = since[20 : len(since) - len(offset)]
        flags, fraction = _MICROS, int(digits.ljust(6, "0")).to_bytes(3, "big")
        since = since[:19] + offset
    if standing.reason is not None:
        flags |= _REASON
        rest += _text(standing.reason)
    if standing.revocation is not None:
        flags |= _REVOCATION
        rest += bytes([_KIND_NUMBERS[standing.revocation]])
    if standing.suspended_until is not None:
        flags |= _SUSPENDED
        rest += _pack_day(standing.suspended_until)
    if standing.transfer_to is not None:
        flags |= _TRANSFER
        rest += _text(standing.transfer_to)
    if standing.begin is not None:
        flags |= _BEGIN
        rest += _pack_day(standing.begin)
    fixed = _fixed.pack(
        last_link,
        holder,
        flags,
        _STATE_NUMBERS[standing.state],
        standing.version,
        standing.highest,
        standing.count,
        _pack_day(standing.valid_from),
        _pack_day(standing.valid_until),
        _pack_day(since[:10] + since[19:]),
        _MINUTE_NUMBERS[since[10:17]] * 60 + int(since[17:19]),
    )
    return fixed + fraction + _text(standing.responsible) + rest


def unpack_state(data: bytes) -> tuple[Standing, bytes, bytes]:
    """(standing, last link, holder's first 16 bytes); ProofError `stored-bytes-damaged` for what
    the ledger cannot have written.
    """
    try:
        found = _unpack(data)
        same = pack_state(*found) == data
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as err:
        raise _damaged("a certificate's state") from err
    if not same:
        raise _damaged("a certificate's state")
    return found


def _unpack(data: bytes) -> tuple[Standing, bytes, bytes]:
    last_link, holder, flags, state, *numbers, first, last, since, second = _fixed.unpack_from(data)
    version, highest, count = numbers
    at, clock = _fixed.size, f"{_MINUTES[second // 60]}{second % 60:02d}"
    if flags & _MICROS:
        clock += f".{int.from_bytes(data[at : at + 3], 'big'):06d}".rstrip("0")
        at += 3
    day = _unpack_day(since) or ""
    responsible, at = _read_text(data, at)
    reason = revocation = suspended_until = transfer_to = begin = None
    if flags & _REASON:
        reason, at = _read_text(data, at)
    if flags & _REVOCATION:
        revocation, at = REVOCATION_KINDS[data[at]], at + 1
    if flags & _SUSPENDED:
        suspended_until, at = _unpack_day(data[at : at + 5]), at + 5
    if flags & _TRANSFER:
        transfer_to, at = _read_text(data, at)
    if flags & _BEGIN:
        begin = _unpack_day(data[at : at + 5])
    standing = Standing(
        _STATES[state],
        version,
        highest,
        responsible,
        _unpack_day(first),
        _unpack_day(last),
        day[:10] + clock + day[10:],
        reason,
        revocation,
        suspended_until,
        transfer_to,
        begin,
        count,
    )
    return standing, last_link, holder


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(), end


@lru_cache(maxsize=8192)  # registers repeat their days
def _pack_day(text: str | None) -> bytes:
    """A day with offset, or one of the words for none, in 5 bytes."""
    if text in _WORD_BYTES:
        return _WORD_BYTES[text]
    assert text is not None
    offset = _Z
    if text[10:] != "Z":
        minutes = int(text[11:13]) * 60 + int(text[14:16])
        offset = minutes if text[10] == "+" else -minutes
    return date.fromisoformat(text[:10]).toordinal().to_bytes(3, "big") + offset.to_bytes(
        2, "big", signed=True
    )


@lru_cache(maxsize=8192)
def _unpack_day(data: bytes) -> str | None:
    if data[:3] == _WORD:
        return _WORDS[data]
    offset = int.from_bytes(data[3:], "big", signed=True)
    text = date.fromordinal(int.from_bytes(data[:3], "big")).isoformat()
    if offset == _Z:
        return text + "Z"
    return f"{text}{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"


def _damaged(what: str) -> ProofError:
    return ProofError("stored-bytes-damaged", f"{what} is not as the ledger writes it")
