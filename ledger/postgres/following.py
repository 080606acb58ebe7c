"""What follows from the published log with time: places in status lists, the lists' signed forms,
notices of ends. One process at a time follows; its position moves by compare-and-swap.

Steps: F1 the certificates of the next entries' delta lists, F2 those that time alone changes and
what an entry of F1 made doubtful, F3 the lists. A crash between them leaves whole steps, and the
next start goes on from there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import staterow, statuslist, times
from ..deciders import first_acts
from ..doubt import Doubts, is_clear
from ..entry import parse_entry
from ..errors import Conflict, ProofError
from ..expiry import STEPS, End, end_of, find_end, format_notice
from ..identity import HEAD
from ..lifecycle import VERSION_ACTS, Transition, turning_points
from ..note import Signer
from ..outlook import look_at, next_look, statuses_of
from ..statuslist import StatusList
from .connection import transaction
from .copying import bigint, copy, read_bytes
from .doubt_reading import add_told, read_doubts, read_told
from .history_reading import read_events, read_identities, read_kinds, read_steps
from .rows import read_origin
from .sequencing import read_published
from .statements import sql
from .status_places import Places, pack_given
from .tile_reading import certificate_deltas

FOLLOWER = "follower"
KEYS_AT_ONCE = 8192
ENTRIES_AT_ONCE = 256
DUE_AT_ONCE = 64  # entries with certificates that time alone changes
AT_ONCE = -1  # due, with all certificates of the entry, whatever their dues: its key is doubted
_LOCK = 0x6365727400000003
_PAIR = 64
_POSITION = (1 << staterow.POSITION_BITS) - 1
_due = struct.Struct(">HBI")  # position, second in 5 bytes
_certificate = struct.Struct("!hi32si")  # fields, lengths before key and state


@dataclass(frozen=True, slots=True)
class ListRow:
    """A status list as it is stored, without its forms; None until it was made."""

    number: int
    uri: str
    is_changed: bool
    vkey: str | None
    tree_size: int | None
    issued_at: int | None


class _Row(NamedTuple):
    """A certificate as it is stored."""

    key: bytes
    state: bytes
    history: bytes
    places: Sequence[int]  # of its events as of some position
    is_all: bool  # there is none after it


class _Judged(NamedTuple):
    """What is said of a certificate's versions, and what may change by time alone."""

    row: _Row
    statuses: dict[int, int]
    points: Sequence[int]
    given: dict[int, int]
    end: End | None
    known_by: int  # the place of the event since which the end is known


class _Seen(NamedTuple):
    """A certificate as it was looked at."""

    key: bytes
    places: Sequence[int]  # of its events
    statuses: Mapping[int, int]  # by version
    given: Mapping[int, int]  # the place of the event that gave a version, of new ones at least
    due_at: int | None
    end: End | None = None
    due: tuple[int, ...] = ()  # steps of the end that are to be announced


class _Look(NamedTuple):
    """Certificates as they were looked at."""

    issued: dict[bytes, tuple[int, int | None]]  # and no more, most: place of the event, due at
    changed: list[_Seen]


class _State(NamedTuple):
    """What is remembered."""

    places: Places
    position: int  # all entries below are reflected
    doubts: Doubts  # after these


class Following:
    """The follower's connection."""

    def __init__(self, connection: Connection, fresh_secret: bytes, lists_uri: str = "") -> None:
        """`lists_uri`/NUMBER is where a new list will be found; empty: by the ledger's origin.

        Places are drawn by the ledger's secret; `fresh_secret`, 32 bytes of the operating system's
        randomness, becomes it where there is none yet.
        """
        self.connection = connection
        with transaction(connection) as cursor:
            self.origin = read_origin(cursor)
            cursor.execute(sql("insert_status_secret"), {"secret": fresh_secret})
            cursor.execute(sql("read_status_secret"))
            ((secret,),) = cursor.fetchall()
        self._secret = bytes(secret)
        self._lists_uri = lists_uri or f"https://{self.origin}/v1/status-lists"
        self._loaded: _State | None = None
        self._latest = 2**62  # no certificate was looked at for a later moment

    def lead(self) -> bool:
        """Whether this session is now the one that follows, until its connection ends."""
        with transaction(self.connection) as cursor:
            cursor.execute(sql("try_lead"), {"lock": _LOCK})
            leads = cursor.fetchone() == (True,)
            if leads:
                cursor.execute(sql("begin_relay"), {"name": FOLLOWER})
            return leads

    def position(self) -> int:
        """All entries below are reflected here."""
        with transaction(self.connection) as cursor:
            return _position(cursor)

    def follow(self, now: int) -> bool:
        """F1: take the next published entries, as of `now`; False when there are none."""
        with self._state() as state:
            places, was, doubts = state
            with transaction(self.connection) as cursor:
                published = read_published(cursor)
                size = 0 if published is None else published[0]
                end, changed = _next_keys(cursor, was, min(size, was + ENTRIES_AT_ONCE))
                told = read_told(cursor, self.origin, was, end) if was < end else ()
            if end == was:
                return False
            doubts = add_told(doubts, told)
            self._latest = max(self._latest, now)
            keys = dict.fromkeys(key for some in changed.values() for key in some)
            seen = self._look(keys, was, end, now, doubts)

            def write(cursor: Cursor) -> None:
                given = self._give(cursor, places, seen, was)
                _copy_outlooks(cursor, changed, seen, given, now)
                for _, key_id, since in told:
                    signed = {"key_id": key_id, "begin": since, "end": was, "at_once": AT_ONCE}
                    cursor.execute(sql("mark_signed_outlooks"), signed)

            self._take(_State(places, end, doubts), was, seen, write)
        return True

    def overdue(self, now: int) -> bool:
        """F2: look again at what has changed by time alone at `now`, or was made doubtful; False
        when nothing has.
        """
        with self._state() as state:
            places, was, doubts = state
            early = now < self._latest
            with transaction(self.connection) as cursor:
                left, keys = _next_due(cursor, now, early)
            if not left:
                self._latest = now
                return False
            self._latest = max(self._latest, now)
            seen = self._look(keys, was, was, now, doubts)

            def write(cursor: Cursor) -> None:
                self._give(cursor, places, seen, was)
                _update_outlooks(cursor, left, keys, seen, now)

            self._take(state, was, seen, write)
        return True

    def lists(self) -> list[ListRow]:
        """All status lists."""
        with transaction(self.connection) as cursor:
            return read_lists(cursor)

    def make_list(self, number: int, uri: str, now: int, signer: Signer) -> None:
        """F3: sign all forms of a list as of `now`, at which nothing may be overdue."""
        with self._state() as (places, size, _):
            made = StatusList(uri, size, now // times.SECOND, places.said(number))
        forms = {
            "jwt": statuslist.format_jwt(made, signer),
            "cwt": statuslist.format_cwt(made, signer),
            **{
                purpose: statuslist.format_credential(made, purpose, self.origin, signer)
                for purpose in statuslist.PURPOSES
            },
        }
        with transaction(self.connection) as cursor:
            self._move(cursor, size, size)
            cursor.execute(
                sql("write_status_list"),
                {
                    "list": number,
                    "vkey": str(signer.key),
                    "tree_size": size,
                    "issued_at": made.issued_at,
                    **forms,
                },
            )

    @contextmanager
    def _state(self) -> Iterator[_State]:
        """What is remembered, read again after any failure."""
        if self._loaded is None:
            with transaction(self.connection) as cursor:
                places, position = Places.load(cursor, self._secret), _position(cursor)
                doubts = read_doubts(cursor, self.origin, position)
                self._loaded = _State(places, position, doubts)
        loaded, self._loaded = self._loaded, None
        yield loaded
        self._loaded = self._loaded or loaded

    # --- looking ---

    def _look(
        self, keys: Collection[bytes], begin: int, position: int, now: int, doubts: Doubts
    ) -> _Look:
        """Certificates as of the log below `position`, of which entries from `begin` on are new.

        What is read stays as it is: history does not change, and only the follower writes the
        rest. So no transaction is open while certificates are looked at, however long that takes.
        """
        limit = staterow.place(position, 0)
        with transaction(self.connection) as cursor:
            rows = _read_certificates(cursor, keys)
        issued: dict[bytes, tuple[int, int | None]] = {}
        changed: list[_Row] = []
        doubted: list[_Row] = []
        for key in keys:
            state, history = rows[key]
            if doubts and not is_clear(history, doubts):
                doubted.append(_make_row(key, state, history, limit))
                continue
            place = int.from_bytes(history[:8], "big")
            days = _issued_days(key, state, history, limit) if place < limit else None
            due = None if days is None else next_look(*days, now)
            if due is None:
                changed.append(_make_row(key, state, history, limit))
            else:
                issued[key] = place, due[0]
        with transaction(self.connection) as cursor:
            judged, left = _judge_rows(cursor, changed, now, staterow.place(begin, 0))
            judged += _judge_histories(cursor, left + doubted, now, doubts)
            return _Look(issued, _with_ends(cursor, judged, now))

    def _announce(self, ending: Sequence[_Seen]) -> list[tuple[int, bytes, int, int, bytes]]:
        """(instant, map key, version, step, notice) of what is due, in order of time."""
        if not ending:
            return []
        with transaction(self.connection) as cursor:
            names = read_identities(cursor, [one.key for one in ending])
        found = []
        for one in ending:
            name, end = names.get(one.key), one.end
            if name is None or end is None:
                raise ProofError("stored-bytes-damaged", f"certificate {one.key.hex()}")
            for step in one.due:
                notice = format_notice(self.origin, name, end, step)
                found.append((end.at(step), one.key, end.version, step, notice))
        return sorted(found)

    # --- writing ---

    def _move(self, cursor: Cursor, was: int, position: int) -> None:
        cursor.execute(sql("advance_relay"), {"name": FOLLOWER, "was": was, "position": position})
        if cursor.rowcount != 1:
            raise Conflict("relay-moved", "another process follows the log")

    def _take(
        self,
        state: _State,
        was: int,
        seen: _Look,
        write: Callable[[Cursor], None],
    ) -> None:
        """Take in what was seen, in one transaction that leads from position `was` to a state. A
        crash before its end leaves nothing.
        """
        announcements = self._announce([one for one in seen.changed if one.due])
        try:
            with transaction(self.connection) as cursor:
                self._move(cursor, was, state.position)
                write(cursor)
                lists = state.places.write_changes(cursor)
                if lists:
                    cursor.execute(sql("mark_status_lists"), {"lists": lists})
                _write_notices(cursor, announcements)
        except psycopg2.IntegrityError as err:
            raise Conflict("relay-moved", str(err).strip()) from err
        self._loaded = state

    def _give(
        self, cursor: Cursor, places: Places, seen: _Look, was: int
    ) -> dict[int, list[bytes]]:
        """Say what each version's place says, after giving one to those that entries from `was` on
        gave: what was given, packed, by entry.
        """
        begin = staterow.place(was, 0)
        new: list[tuple[int, bytes, int, int, int]] = []
        for key, (place, _) in seen.issued.items():
            if place >= begin:
                new.append((place >> staterow.POSITION_BITS, key, 1, place, statuslist.VALID))
            else:
                places.say(*places.find(key, 1, [place]), statuslist.VALID)
        for one in seen.changed:
            old = [place for place in one.places if place < begin]
            for version, said in one.statuses.items():
                place = one.given.get(version, -1)
                if place >= begin:
                    new.append((place >> staterow.POSITION_BITS, one.key, version, place, said))
                else:
                    places.say(*places.find(one.key, version, old), said)
        given: dict[int, list[bytes]] = {}
        # in the log's order, whatever the batches were: a restored ledger draws the same again
        new.sort()
        filled = places.filled
        drawn = places.draw([(key, version, place) for _, key, version, place, _ in new])
        for number in range(filled + 1, places.filled + 1):
            uri = f"{self._lists_uri}/{number}"
            cursor.execute(sql("insert_status_list"), {"list": number, "uri": uri})
        for (index, _, version, place, said), (number, idx) in zip(new, drawn, strict=True):
            if said != statuslist.VALID:
                places.say(number, idx, said)
            packed = pack_given(place & _POSITION, version, number, idx)
            given.setdefault(index, []).append(packed)
        return given


def read_lists(cursor: Cursor) -> list[ListRow]:
    """All status lists in an open transaction."""
    cursor.execute(sql("read_status_lists"))
    return [ListRow(*row) for row in cursor.fetchall()]


def read_list(cursor: Cursor, number: int, form: str) -> bytes | None:
    """A form of a status list (`jwt`, `cwt` or a purpose); None when there is none."""
    cursor.execute(sql("read_status_list"), {"list": number, "form": form})
    row = cursor.fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def _position(cursor: Cursor) -> int:
    cursor.execute(sql("read_relay"), {"name": FOLLOWER})
    row = cursor.fetchone()
    return 0 if row is None else int(row[0])


def _next_keys(cursor: Cursor, begin: int, end: int) -> tuple[int, dict[int, list[bytes]]]:
    """(up to where, map keys of certificates that each entry from `begin` on changed)."""
    changed: dict[int, list[bytes]] = {}
    count = 0
    deltas = certificate_deltas(cursor, begin, end) if begin < end else {}
    for index in range(begin, end):
        pairs = deltas.get(index, b"")
        count += len(pairs) // _PAIR
        if changed and count > KEYS_AT_ONCE:
            return index, changed
        if pairs:
            changed[index] = [pairs[i : i + 32] for i in range(0, len(pairs), _PAIR)]
    return end, changed


def _next_due(
    cursor: Cursor, now: int, early: bool
) -> tuple[dict[int, list[bytes]], dict[bytes, int]]:
    """(the dues that stay of entries with certificates that must be looked at anew at `now`, those
    certificates with the last of these entries for each).
    """
    wanted = {"now": now, "early": early, "limit": DUE_AT_ONCE, "at_once": AT_ONCE}
    cursor.execute(sql("read_due_outlooks"), wanted)
    left: dict[int, list[bytes]] = {}
    keys: dict[bytes, int] = {}
    for index, is_whole, dues in cursor.fetchall():
        if len(keys) > KEYS_AT_ONCE:
            break
        found = list(unpack_dues(bytes(dues)))
        left[index] = [] if is_whole else [_pack_due(*due) for due in found if due[1] > now]
        if is_whole:  # the clock was ahead, or the key is doubted: all of them
            pairs = certificate_deltas(cursor, index, index + 1).get(index, b"")
            keys.update((pairs[i : i + 32], index) for i in range(0, len(pairs), _PAIR))
        else:
            due = [staterow.place(index, position) for position, at in found if at <= now]
            keys.update((logged.event.key, index) for _, logged in read_events(cursor, due))
    return left, keys


def unpack_dues(data: bytes) -> Iterator[tuple[int, int]]:
    """(position of an event, when its certificate must be looked at anew) in an entry's row."""
    for position, high, low in _due.iter_unpack(data):
        yield position, (high << 32 | low) * times.SECOND


def _pack_due(position: int, at: int) -> bytes:
    return position.to_bytes(2, "big") + (-(-at // times.SECOND)).to_bytes(5, "big")


def _first_due(dues: Collection[bytes]) -> int | None:
    """The first of packed dues; in whole seconds, as the clock is read."""
    return int.from_bytes(min(due[2:] for due in dues), "big") * times.SECOND if dues else None


def _due_in(one: _Seen, index: int) -> bytes | None:
    """The due of a certificate at the position of its last event in an entry; None without one."""
    if one.due_at is None:
        return None
    end = index + 1 << staterow.POSITION_BITS
    last = next(place for place in reversed(one.places) if place < end)
    return _pack_due(last & _POSITION, one.due_at)


def _read_certificates(cursor: Cursor, keys: Collection[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    """State and history of certificates by map key."""
    heads = {"heads": b"".join([key[:HEAD] for key in keys]), "count": len(keys)}
    data = read_bytes(cursor, sql("read_certificates"), heads)
    found = {}
    at, unpack, size = 0, _certificate.unpack_from, _certificate.size
    while at < len(data):
        _, _, key, length = unpack(data, at)
        begin = at + size
        end = begin + length
        at = end + 4 + int.from_bytes(data[end : end + 4], "big")
        found[key] = data[begin:end], data[end + 4 : at]
    if found.keys() != set(keys):
        raise ProofError("stored-bytes-damaged", "certificates are missing")
    return found


def _issued_days(
    key: bytes, state: bytes, history: bytes, limit: int
) -> tuple[str | None, str | None] | None:
    """The days of what was issued and no more, for all that is below `limit`, if its row has them;
    None otherwise.
    """
    if len(history) == staterow.ITEM:
        return staterow.issued_days(key, state, history)
    second = history[staterow.ITEM : staterow.ITEM + 8]
    if int.from_bytes(second, "big") < limit:
        return None
    first = first_acts(staterow.open_row(key, state, history).kept, 1)
    return None if first is None else (first[0].valid_from, first[0].valid_until)


def _make_row(key: bytes, state: bytes, history: bytes, limit: int) -> _Row:
    """A certificate with the places of its events below `limit`."""
    places = staterow.places(history)
    is_all = places[-1] < limit
    if not is_all:
        places = [place for place in places if place < limit]
        if not places:
            raise ProofError("stored-bytes-damaged", f"the history of certificate {key.hex()}")
    return _Row(key, state, history, places, is_all)


def _judge_rows(
    cursor: Cursor, rows: Sequence[_Row], now: int, first: int
) -> tuple[list[_Judged], list[_Row]]:
    """By the acts that rows keep, and those of which they do not tell. What gave versions at
    places from `first` on is looked for.
    """
    judged: list[_Judged] = []
    left: list[_Row] = []
    unsure: list[tuple[_Judged, list[int]]] = []
    for row in rows:
        standing, _, _, kept = staterow.open_row(row.key, row.state, row.history)
        if not row.is_all:
            history = first_acts(kept, len(row.places))
            if history is None:
                left.append(row)
            else:
                judged.append(_judge_history(row, history, statuslist.statuses(history, now)))
            continue
        found = statuses_of(kept, standing, now)
        if found is None:
            left.append(row)
            continue
        acts = [(n, t) for n, t in kept if t.kind in VERSION_ACTS]
        known_by = acts[-1][0]
        new = [n for n, place in enumerate(row.places) if place >= first]
        given = {t.version: row.places[n] for n, t in acts if n in new}
        end = end_of(standing, known_by)
        judged.append(_Judged(row, *found, given, end, row.places[known_by]))
        if len(new) > 1 and not {n for n, _ in kept}.issuperset(new):
            unsure.append((judged[-1], [row.places[n] for n in new]))
    kinds = read_kinds(cursor, (place for _, places in unsure for place in places))
    for one, places in unsure:
        acted = [place for place in places if kinds[place] in VERSION_ACTS]
        one.given.clear()
        one.given.update(zip(range(max(one.statuses), 0, -1), reversed(acted), strict=False))
    return judged, left


def _judge_histories(
    cursor: Cursor, rows: Sequence[_Row], now: int, doubts: Doubts
) -> Iterator[_Judged]:
    """By the whole rules over the whole histories."""
    steps = read_steps(cursor, {row.key: list(row.places) for row in rows})
    for row in rows:
        link = staterow.link_in(row.state)
        if row.is_all and staterow.link_over(row.key, steps[row.key]) != link:
            raise ProofError("stored-bytes-damaged", f"the history of certificate {row.key.hex()}")
        history = [step.transition for step in steps[row.key]]
        told = [(step.index, step.transition) for step in steps[row.key]]
        statuses = statuslist.under_doubt(statuslist.statuses(history, now), told, now, doubts)
        yield _judge_history(row, history, statuses)


def _judge_history(row: _Row, history: Sequence[Transition], statuses: dict[int, int]) -> _Judged:
    given = {
        t.version: place
        for place, t in zip(row.places, history, strict=True)
        if t.kind in VERSION_ACTS
    }
    end = find_end(history)
    known_by = row.places[0 if end is None else end.known_by]
    return _Judged(row, statuses, turning_points(history), given, end, known_by)


def _with_ends(cursor: Cursor, judged: Sequence[_Judged], now: int) -> list[_Seen]:
    """When to look again, and which steps of ends are due."""
    # only where a step's instant has passed does it matter what was known, and announced
    passed = {
        one.row.key: staterow.placed(one.known_by)[0]
        for one in judged
        if one.end is not None and one.end.at(STEPS[0]) <= now
    }
    announced: dict[tuple[bytes, int], set[int]] = {}
    known_at = {}
    if passed:
        known_at = _read_times(cursor, sorted(set(passed.values())))
        cursor.execute(sql("read_announced_steps"), {"keys": list(passed)})
        for key, version, step in cursor.fetchall():
            announced.setdefault((bytes(key), version), set()).add(step)
    seen = []
    for row, statuses, points, given, end, _ in judged:
        if end is not None and row.key in passed:
            known, done = known_at[passed[row.key]], announced.get((row.key, end.version), ())
            found = look_at(statuses, points, now, end, known, done)
            due_at, due = found.due_at, found.due
        else:
            later = [at for at in points if at > now]
            due = ()
            due_at = min(later if end is None else [*later, end.at(STEPS[0])], default=None)
        seen.append(_Seen(row.key, row.places, statuses, given, due_at, end, due))
    return seen


def _read_times(cursor: Cursor, indexes: Sequence[int]) -> dict[int, int]:
    """The ledger times of entries."""
    cursor.execute(sql("read_chosen_entries"), {"indexes": list(indexes)})
    return {
        index: times.parse_moment(parse_entry(bytes(data))["time"])
        for index, data in cursor.fetchall()
    }


def _copy_outlooks(
    cursor: Cursor,
    changed: Mapping[int, Sequence[bytes]],
    seen: _Look,
    given: Mapping[int, Collection[bytes]],
    now: int,
) -> None:
    """Rows of entries, each certificate's due in that of the last one that changed it."""
    dues: dict[int, list[bytes]] = {index: [] for index in changed}
    for place, at in seen.issued.values():
        if at is not None:
            dues[place >> staterow.POSITION_BITS].append(_pack_due(place & _POSITION, at))
    for one in seen.changed:
        index = one.places[-1] >> staterow.POSITION_BITS
        due = _due_in(one, index)
        if due is not None:
            dues[index].append(due)
    copy(
        cursor,
        "outlook",
        "log_index, seen_at, due_at, dues, places",
        (
            (
                bigint(index),
                bigint(now),
                None if (first := _first_due(found)) is None else bigint(first),
                b"".join(sorted(found)),
                b"".join(sorted(given.get(index, ()))),
            )
            for index, found in dues.items()
        ),
    )


def _update_outlooks(
    cursor: Cursor,
    left: Mapping[int, Sequence[bytes]],
    keys: Mapping[bytes, int],
    seen: _Look,
    now: int,
) -> None:
    dues = {index: list(found) for index, found in left.items()}
    for key, (place, at) in seen.issued.items():
        if at is not None:
            dues[keys[key]].append(_pack_due(place & _POSITION, at))
    for one in seen.changed:
        due = _due_in(one, keys[one.key])
        if due is not None:
            dues[keys[one.key]].append(due)
    cursor.execute(
        sql("update_outlooks"),
        {
            "now": now,
            "indexes": list(dues),
            "due_at": [_first_due(found) for found in dues.values()],
            "dues": [b"".join(sorted(found)) for found in dues.values()],
        },
    )
    if cursor.rowcount != len(dues):
        raise Conflict("relay-moved", "another process follows the log")


def _write_notices(
    cursor: Cursor, announcements: Sequence[tuple[int, bytes, int, int, bytes]]
) -> None:
    if not announcements:
        return
    cursor.execute(sql("read_next_notice"))
    (first,) = cursor.fetchone() or (0,)
    rows = [(first + n, *rest) for n, (_, *rest) in enumerate(announcements)]
    columns = _columns(("numbers", "keys", "versions", "steps", "notices"), rows)
    cursor.execute(sql("insert_expiry_notices"), columns)


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
