"""The row that the store keeps of a certificate: its packed state, and where its history lies.

*State* is the last link (32 bytes), the first 16 bytes of the holder's map key (zeros for none),
the standing, the acts that decide (`deciders`) as far as the standing and the history do not say
them, and a CRC-32 over map key, state and history: a changed bit, or another certificate's row, is
found by whoever reads. Where a certificate was issued and no more, what that implies is left out
(`_ONLY`). Rows of earlier versions lack this, or end with the standing (bits say so). *History*
is 12 bytes per transition in ledger order: the place of its line (u64, see `place`) and the first 4
bytes of the event's id, by which a repeated id is looked for. Everything else about a transition
follows from its line. Only bytes that pack again to themselves are taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from .deciders import Kept
from .errors import ProofError
from .event import AMENDED, ISSUED, OPEN, REVOCATION_KINDS, REVOKED, UNKNOWN
from .evidence import Step
from .identity import HEAD
from .lifecycle import (
    EXPIRED_STATE,
    NONE,
    REVOKED_STATE,
    STATE_ACTS,
    SUSPENDED_STATE,
    TRANSFERRED,
    VALID,
    VERSION_ACTS,
    VOID,
    Standing,
    Transition,
    format_record,
    format_transition,
    link,
    retrace,
)

NO_HOLDER = bytes(HEAD)
ITEM = 12  # bytes of a history per transition
POSITION_BITS = 12  # a bundle has at most 4,096 lines

_STATES = (NONE, VALID, SUSPENDED_STATE, REVOKED_STATE, EXPIRED_STATE, TRANSFERRED, VOID)
_STATE_NUMBERS = {state: number for number, state in enumerate(_STATES)}
_ACTS = (*STATE_ACTS, AMENDED)  # in the order that rows have
_ACT_NUMBERS = {kind: number for number, kind in enumerate(_ACTS)}
_KIND_NUMBERS = {kind: number for number, kind in enumerate(REVOCATION_KINDS)}
# link, holder, flags, state, version, highest, count, first and last day, day and second of `since`
_fixed = struct.Struct(">32s16sBBHHH5s5s5sI")
# of an only event: the first version, valid; days by their numbers, with the offset of `since`
_only = struct.Struct(">32s16sB3s3s5sI")
_item = struct.Struct(">Q4s")
_MICROS, _REASON, _REVOCATION, _SUSPENDED, _TRANSFER, _BEGIN, _SEALED, _ONLY = (
    1 << n for n in range(8)
)
_FLAGS, _SEAL = 48, 4  # where the flags are; bytes of a checksum
# an act: ordinal and kind, what it has in common with the standing, the id's other bytes
_act = struct.Struct(">HB12s")
_SINCE, _FRACTION, _BY, _WHY, _NO_FIRST, _FIRST, _NO_LAST, _LAST = (1 << n for n in range(8))
_moment = struct.Struct(">5sI")
_sum = struct.Struct(">I")
_ISSUED_END = 12 + _SEAL  # of an only event: its id's other bytes
_ISSUED = _only.size + 1 + _ISSUED_END  # bytes, and the department's name
_WORDS_SIZE = 8  # bytes of both days and the offset of `since`
_SOME_DAY = date(2000, 1, 1).toordinal().to_bytes(3, "big")
_make_tuple = tuple.__new__  # what a named tuple's own constructor ends in
_BROKEN = (ValueError, LookupError, TypeError, OverflowError, struct.error)
_MINUTES = [f"T{m // 60:02d}:{m % 60:02d}:" for m in range(1440)]
_MINUTE_NUMBERS = {text: number for number, text in enumerate(_MINUTES)}
_WORD = b"\xff\xff\xff"  # in place of a day's number
_SHORT_WORD = b"\xff\xff"  # and in three bytes, the word's last one behind it
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


def pack_item(index: int, position: int, event: bytes) -> bytes:
    """What a history keeps of the transition that an entry's event at this position led to; `event`
    is its id, as bytes, or begins it.
    """
    return _item.pack(index << POSITION_BITS | position, event[:4])


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


def index_at(history: bytes, ordinal: int) -> int:
    """The log index of a transition by its number, or from the end by a negative one."""
    at = ITEM * ordinal % len(history)
    return int.from_bytes(history[at : at + 8], "big") >> POSITION_BITS


def last_below(history: bytes, size: int) -> int | None:
    """The log index of the last transition in the first `size` entries, None where none is."""
    below = [number for number in places(history) if number < size << POSITION_BITS]
    return below[-1] >> POSITION_BITS if below else None


def number_hash(number: str) -> int:
    """What certificates are found by when only their number is known: 32 bits, signed."""
    return int.from_bytes(number_digest(number), "big", signed=True)


def number_digest(number: str) -> bytes:
    """The same as 4 bytes."""
    return sha256(number.encode()).digest()[:4]


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


class Row(NamedTuple):
    """What a row says of a certificate."""

    standing: Standing
    link: bytes
    holder: bytes  # the first 16 bytes of the holder's map key
    kept: Kept  # of their transitions only what answers read


def pack_row(
    key: bytes, standing: Standing, last_link: bytes, holder: bytes, kept: Kept, history: bytes
) -> bytes:
    """The state of the certificate `key` as a row keeps it beside `history`; `holder` is the first
    16 bytes of the holder's map key.
    """
    data = _pack(standing, last_link, holder, _SEALED | _ONLY) + pack_kept(kept, standing)
    return data + _seal(key, data, history)


def pack_issued(
    key: bytes, last_link: bytes, holder: bytes, words: Words, since: str, event: bytes, item: bytes
) -> bytes:
    """The same of a certificate that was issued and no more, from its words, the time and the id of
    the event, and what its history has of it.
    """
    before, after = words
    second = _MINUTE_NUMBERS[since[10:17]] * 60 + int(since[17:19])
    data = b"".join((last_link, holder, before, second.to_bytes(4, "big"), after, event[4:]))
    return data + crc32(item, crc32(data, crc32(key))).to_bytes(_SEAL, "big")


Words = tuple[bytes, bytes]
"""What the row of an only event has before and after the second of its time."""


@lru_cache(maxsize=8192)  # registers repeat their days
def issued_words(first: str | None, last: str | None, by: str, day: str) -> Words | None:
    """Of a certificate that `by` issued, the time's `day` being with its offset; None where what
    this implies is not left out, or the time has a fraction.
    """
    if day[10] == ".":
        return None
    since = f"{day[:10]}T00:00:00{day[10:]}"
    standing = Standing(VALID, 1, 1, by, first, last, since, count=1)
    data = _pack(standing, bytes(32), NO_HOLDER, _SEALED | _ONLY)
    return (data[_FLAGS : _only.size - 4], data[_only.size :]) if data[_FLAGS] & _ONLY else None


def pack_whole_row(
    key: bytes, standing: Standing, last_link: bytes, holder: bytes, kept: Kept, history: bytes
) -> bytes:
    """The state as `pack_row` gave it in earlier versions: nothing left out."""
    data = _pack(standing, last_link, holder, _SEALED) + pack_kept(kept, standing)
    return data + _seal(key, data, history)


def pack_state(standing: Standing, last_link: bytes, holder: bytes) -> bytes:
    """The state as earlier versions kept it, without what decides and without a checksum."""
    return _pack(standing, last_link, holder, 0)


def open_row(key: bytes, state: bytes, history: bytes) -> Row:
    """What a certificate's row says; ProofError `stored-bytes-damaged` where it is not as the
    ledger wrote it for this map key.
    """
    standing, last_link, holder, kept = _open(key, state, history)
    try:
        acts = unpack_kept(kept, standing, history)
    except _BROKEN as err:
        raise _damaged("a certificate's row") from err
    return _make_tuple(Row, (standing, last_link, holder, acts))


def row_record(key: bytes, state: bytes, history: bytes) -> bytes:
    """The record that a certificate's row gives; ProofError as `open_row`."""
    plain = _plain(key, state, history)
    if plain is not None:
        try:
            before, between, after = _record_parts(plain[0])
        except _BROKEN as err:
            raise _damaged("a certificate's row") from err
        return before + link_in(state).hex().encode() + between + plain[1].encode() + after
    standing, last_link, _, _ = _open(key, state, history)
    return format_record(standing, last_link)


@lru_cache(maxsize=8192)
def _record_parts(words: bytes) -> tuple[bytes, bytes, bytes]:
    """What the records of rows with these words have around the link and the time."""
    no_link, name = bytes(32), words[_WORDS_SIZE:]
    days, day = words[: _WORDS_SIZE - 2], _SOME_DAY + words[_WORDS_SIZE - 2 : _WORDS_SIZE]
    fixed = no_link + NO_HOLDER + bytes([_SEALED | _ONLY]) + days + day + bytes(4)
    record = format_record(_unpack(fixed + bytes([len(name)]) + name)[0], no_link)
    before, rest = record.split(no_link.hex().encode())
    between, after = rest.split(_unpack_moment(day, 0, b"").encode())
    return before, between, after


def _open(key: bytes, state: bytes, history: bytes) -> tuple[Standing, bytes, bytes, bytes]:
    """(standing, last link, holder's first bytes, what is kept of the acts that decide)."""
    if len(state) <= _FLAGS or not state[_FLAGS] & _SEALED:
        return *unpack_state(state), b""
    data = state[:-_SEAL]
    try:
        if _seal(key, data, history) == state[-_SEAL:]:
            standing, last_link, holder, at = _unpack(data)
            return standing, last_link, holder, data[at:]
    except _BROKEN as err:
        raise _damaged("a certificate's row") from err
    raise _damaged("a certificate's row")


def issued_days(key: bytes, state: bytes, history: bytes) -> tuple[str | None, str | None] | None:
    """(first day, last day, None for an open end) of a certificate that was issued and no more;
    None where more happened, or an earlier version wrote the row. As `open_row` otherwise.
    """
    if len(history) != ITEM or len(state) <= _FLAGS or not state[_FLAGS] & _SEALED:
        return None
    if _seal(key, state[:-_SEAL], history) != state[-_SEAL:]:
        raise _damaged("a certificate's row")
    if state[_FLAGS] & _ONLY:
        *_, first, last, day, _ = _only.unpack_from(state)
        return _unpack_short_day(first, day[3:]), _unpack_short_day(last, day[3:])
    *_, first, last, _, _ = _fixed.unpack_from(state)
    return _unpack_day(first), _unpack_day(last)


def plain_words(key: bytes, state: bytes, history: bytes) -> tuple[bytes, bytes, str, str] | None:
    """(all that an answer depends on but the following and the map key, who issued, the event's
    time, its id) of a certificate that was issued with a stated first day, to a stated last one or
    to none, and no more; None where it was not, or the row says more than such a one implies. As
    `open_row` otherwise.
    """
    plain = _plain(key, state, history)
    if plain is None:
        return None
    words, time = plain
    if words[:2] == _SHORT_WORD or words[3:6] == _SHORT_WORD + _WORD_BYTES[UNKNOWN][4:]:
        return None
    event_id = history[8:] + state[-_ISSUED_END:-_SEAL]
    return words, words[_WORDS_SIZE:], time, event_id.hex()


def _plain(key: bytes, state: bytes, history: bytes) -> tuple[bytes, str] | None:
    """(days, offset and department, time) of the row of an only event, to the second, from which
    all that this implies is left out; None for any other.
    """
    if len(history) != ITEM or len(state) < _ISSUED or state[_FLAGS] != _SEALED | _ONLY:
        return None
    if _seal(key, state[:-_SEAL], history) != state[-_SEAL:]:
        raise _damaged("a certificate's row")
    by = state[_only.size + 1 : -_ISSUED_END]
    if len(by) != state[_only.size]:
        return None
    try:
        *_, first, last, day, second = _only.unpack_from(state)
        return first + last + day[3:] + by, _unpack_moment(day, second, b"")
    except _BROKEN as err:
        raise _damaged("a certificate's row") from err


def unpack_state(data: bytes) -> tuple[Standing, bytes, bytes]:
    """(standing, last link, holder's first 16 bytes), what decides and the checksum not looked at;
    ProofError `stored-bytes-damaged` for what the ledger cannot have written.
    """
    try:
        standing, last_link, holder, at = _unpack(data)
        sealed = data[_FLAGS] & _SEALED
        form = data[_FLAGS] & (_SEALED | _ONLY) if sealed else 0
        same = _pack(standing, last_link, holder, form) == (data[:at] if sealed else data)
    except _BROKEN as err:
        raise _damaged("a certificate's state") from err
    if not same or (sealed and len(data) < at + _SEAL):
        raise _damaged("a certificate's state")
    return standing, last_link, holder


def _seal(key: bytes, data: bytes, history: bytes) -> bytes:
    return _sum.pack(crc32(key + data + history))


def _pack(standing: Standing, last_link: bytes, holder: bytes, flags: int) -> bytes:
    """`flags`: _SEALED, and _ONLY where what an only event implies may be left out."""
    (
        state, version, highest, responsible, first, last, since, reason, revocation,
        suspended_until, transfer_to, begin, count,
    ) = standing  # fmt: skip
    rest = b""
    day, second, fraction = _pack_moment(since)
    if fraction:
        flags |= _MICROS
    if not (reason is revocation is suspended_until is transfer_to is begin is None):
        said, rest = _pack_said(standing)
        flags |= said
    if flags & _ONLY:
        if count == highest == version == 1 and state == VALID:
            zone = day[3:]
            days = _pack_short_day(first, zone), _pack_short_day(last, zone)
            if all(days):
                fixed = _only.pack(last_link, holder, flags, *days, day, second)
                return fixed + fraction + _text(responsible) + rest
        flags ^= _ONLY
    fixed = _fixed.pack(
        last_link,
        holder,
        flags,
        _STATE_NUMBERS[state],
        version,
        highest,
        count,
        _pack_day(first),
        _pack_day(last),
        day,
        second,
    )
    return fixed + fraction + _text(responsible) + rest


def _pack_said(standing: Standing) -> tuple[int, bytes]:
    """(flags, bytes) of what most standings do not say."""
    flags, rest = 0, b""
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
    return flags, rest


def _unpack(data: bytes) -> tuple[Standing, bytes, bytes, int]:
    if data[_FLAGS] & _ONLY:
        last_link, holder, flags, first, last, day, second = _only.unpack_from(data)
        state, version, highest, count, zone = VALID, 1, 1, 1, day[3:]
        days = _unpack_short_day(first, zone), _unpack_short_day(last, zone)
        at, fraction = _only.size, b""
    else:
        fixed = _fixed.unpack_from(data)
        last_link, holder, flags, number, version, highest, count, first, last, day, second = fixed
        state, days = _STATES[number], (_unpack_day(first), _unpack_day(last))
        at, fraction = _fixed.size, b""
    if flags & _MICROS:
        fraction, at = data[at : at + 3], at + 3
    since = _unpack_moment(day, second, fraction)
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
        begin, at = _unpack_day(data[at : at + 5]), at + 5
    said = (
        state, version, highest, responsible, *days, since,
        reason, revocation, suspended_until, transfer_to, begin, count,
    )  # fmt: skip
    return _make_tuple(Standing, said), last_link, holder, at


# --- what decides ---


def pack_kept(kept: Kept, standing: Standing) -> bytes:
    """What a row has of the acts that decide. Of an only event the id's other bytes: the standing
    says everything else. Of several each act's ordinal and kind, which of its words the standing
    has, those bytes, the words that it has not.
    """
    if not kept:
        return b""
    if standing.count == 1:
        return bytes.fromhex(kept[0][1].id[8:])
    _, _, _, responsible, first, last, since, reason, _, _, _, _, _ = standing
    parts: list[bytes] = []
    for ordinal, t in kept:
        kind, event_id, by, _, time, _, begin, end, why, revocation, _, _, _ = t
        words = b""
        if time == since:
            flags = _SINCE
        else:
            day, second, fraction = _pack_moment(time)
            words = _moment.pack(day, second) + fraction
            flags = _FRACTION if fraction else 0
        if by == responsible:
            flags |= _BY
        else:
            words += _text(by)
        if why == reason:
            flags |= _WHY
        else:
            words += _text(why or "")
        if begin is None:
            flags |= _NO_FIRST
        elif begin == first:
            flags |= _FIRST
        else:
            words += _pack_day(begin)
        if end is None:
            flags |= _NO_LAST
        elif end == last:
            flags |= _LAST
        else:
            words += _pack_day(end)
        if revocation is not None:
            words += bytes([_KIND_NUMBERS[revocation]])
        head = ordinal << 4 | _ACT_NUMBERS[kind]
        parts += (_act.pack(head, flags, bytes.fromhex(event_id[8:])), words)
    return b"".join(parts)


def unpack_kept(data: bytes, standing: Standing, history: bytes) -> Kept:
    """The acts; versions are right of those that follow each other up to the last."""
    _, version, _, by, first, last, since, reason, *_, count = standing
    if not data:
        return ()
    if len(history) != ITEM * count:
        raise ValueError("another history")
    if count == 1:
        event_id = history[8:ITEM].hex() + data.hex()
        return ((0, _transition(ISSUED, event_id, by, since, version, first, last, None, None)),)
    found: list[tuple[int, str, tuple[str, str, str], tuple[str | None, ...]]] = []
    at = 0
    while at < len(data):
        head, flags, rest = _act.unpack_from(data, at)
        at += _act.size
        ordinal, kind = head >> 4, _ACTS[head & 15]
        time, who, why, begin, end, revocation = since, by, reason, first, last, None
        if not flags & _SINCE:
            day, second = _moment.unpack_from(data, at)
            at += _moment.size
            fraction = data[at : at + 3] if flags & _FRACTION else b""
            time, at = _unpack_moment(day, second, fraction), at + len(fraction)
        if not flags & _BY:
            who, at = _read_text(data, at)
        if not flags & _WHY:
            text, at = _read_text(data, at)
            why = text or None
        if flags & _NO_FIRST:
            begin = None
        elif not flags & _FIRST:
            begin, at = _unpack_day(data[at : at + 5]), at + 5
        if flags & _NO_LAST:
            end = None
        elif not flags & _LAST:
            end, at = _unpack_day(data[at : at + 5]), at + 5
        if kind == REVOKED:
            revocation, at = REVOCATION_KINDS[data[at]], at + 1
        event_id = history[ITEM * ordinal + 8 : ITEM * ordinal + ITEM].hex() + rest.hex()
        found.append((ordinal, kind, (event_id, who, time), (begin, end, why, revocation)))
    kept = []
    for ordinal, kind, words, said in reversed(found):
        kept.append((ordinal, _transition(kind, *words, version, *said)))
        version -= kind in VERSION_ACTS
    return tuple(reversed(kept))


def _transition(
    kind: str, event_id: str, by: str, time: str, version: int, *said: str | None
) -> Transition:
    """`said`: first and last day, reason, revocation; what no answer reads is left out."""
    return _make_tuple(Transition, (kind, event_id, by, "", time, version, *said, None, None, None))


@lru_cache(maxsize=1024)  # departments and reasons
def _text(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(), end


def _pack_moment(text: str) -> tuple[bytes, int, bytes]:
    """A moment's day with offset, its second, and microseconds where it has some."""
    fraction = b""
    if text[19:20] == ".":
        offset = text[20:].lstrip("0123456789")
        digits = text[20 : len(text) - len(offset)]
        fraction, text = int(digits.ljust(6, "0")).to_bytes(3, "big"), text[:19] + offset
    day = _pack_day(text[:10] + text[19:])
    return day, _MINUTE_NUMBERS[text[10:17]] * 60 + int(text[17:19]), fraction


def _unpack_moment(day: bytes, second: int, fraction: bytes) -> str:
    clock = f"{_MINUTES[second // 60]}{second % 60:02d}"
    if fraction:
        clock += f".{int.from_bytes(fraction, 'big'):06d}".rstrip("0")
    text = _unpack_day(day) or ""
    return text[:10] + clock + text[10:]


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


@lru_cache(maxsize=8192)
def _pack_short_day(text: str | None, zone: bytes) -> bytes:
    """A day whose packed offset is `zone`, or a word, in 3 bytes; nothing for other days."""
    data = _pack_day(text)
    if data[:3] == _WORD:
        return _SHORT_WORD + data[4:]
    return data[:3] if data[3:] == zone else b""


@lru_cache(maxsize=8192)
def _unpack_short_day(short: bytes, zone: bytes) -> str | None:
    if short[:2] == _SHORT_WORD:
        return _unpack_day(_WORD + b"\x00" + short[2:])
    return _unpack_day(short + zone)


def _damaged(what: str) -> ProofError:
    return ProofError("stored-bytes-damaged", f"{what} is not as the ledger writes it")
