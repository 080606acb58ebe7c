"""What follows from the published log with time: places in status lists, the lists' signed forms,
notices of ends. One process at a time follows; its position moves by compare-and-swap.

Steps: F1 the certificates of the next entries' delta lists, F2 those that time alone changes, F3
the lists. A crash between them leaves whole steps, and the next start goes on from there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import staterow, statuslist, times
from ..entry import parse_entry
from ..errors import Conflict, ProofError
from ..expiry import End, find_end, format_notice
from ..identity import HEAD
from ..lifecycle import VERSION_ACTS, Transition
from ..note import Signer
from ..outlook import Outlook, look
from ..statuslist import StatusList
from .connection import transaction
from .history_reading import read_identities, read_steps
from .rows import read_origin
from .sequencing import read_published
from .statements import sql
from .tile_reading import certificate_deltas

FOLLOWER = "follower"
LIST_CAPACITY = 1_000_000  # of the 2^20 places; the last ones would be drawn in vain too often
KEYS_AT_ONCE = 4096
ENTRIES_AT_ONCE = 256
_LOCK = 0x6365727400000003
_PAIR = 64
_place = struct.Struct(">HHI")  # version, status list, place and what it says


@dataclass(frozen=True, slots=True)
class ListRow:
    """A status list as it is stored, without its forms; None until it was made."""

    number: int
    uri: str
    is_changed: bool
    vkey: str | None
    tree_size: int | None
    issued_at: int | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A certificate as it was looked at."""

    key: bytes
    outlook: Outlook
    end: End | None
    given: dict[int, int]  # the log index of the event that gave each version


@dataclass(slots=True)
class _Places:
    """Which places of the list that is being filled are taken."""

    number: int = 0  # 0 before there is any list
    taken: bytearray = field(default_factory=lambda: bytearray(statuslist.ENTRIES))
    count: int = LIST_CAPACITY


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
        self._places: _Places | None = None
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
            cursor.execute(sql("read_relay"), {"name": FOLLOWER})
            row = cursor.fetchone()
            return 0 if row is None else int(row[0])

    def follow(self, now: int) -> bool:
        """F1: take the next published entries, as of `now`; False when there are none."""
        was = self.position()
        with transaction(self.connection) as cursor:
            published = read_published(cursor)
            size = 0 if published is None else published[0]
            end, keys = _next_keys(cursor, was, min(size, was + ENTRIES_AT_ONCE))
        if end == was:
            return False
        self._take(keys, was, end, now)
        return True

    def overdue(self, now: int) -> bool:
        """F2: look again at what has changed by time alone at `now`; False when nothing has."""
        was = self.position()
        with transaction(self.connection) as cursor:
            cursor.execute(
                sql("read_due_certificates"),
                {"now": now, "early": now < self._latest, "limit": KEYS_AT_ONCE},
            )
            keys = [bytes(key) for (key,) in cursor.fetchall()]
        if not keys:
            self._latest = now
            return False
        self._take(keys, was, was, now)
        return True

    def lists(self) -> list[ListRow]:
        """All status lists."""
        with transaction(self.connection) as cursor:
            return read_lists(cursor)

    def make_list(self, number: int, uri: str, now: int, signer: Signer) -> None:
        """F3: sign all forms of a list as of `now`, at which nothing may be overdue."""
        size = self.position()
        with transaction(self.connection) as cursor:
            cursor.execute(sql("read_said_statuses"), {"list": number})
            made = StatusList(uri, size, now // times.SECOND, dict(cursor.fetchall()))
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

    # --- looking ---

    def _take(self, keys: Sequence[bytes], was: int, position: int, now: int) -> None:
        """Look at certificates as of the log below `position`, and write what comes of it.

        What is read stays as it is: history does not change, and only the follower writes the
        rest. So no transaction is open while certificates are looked at, however long that takes.
        """
        self._latest = max(self._latest, now)
        seen = self._look(keys, position, now)
        announcements = self._announce([one for one in seen if one.outlook.due])
        with transaction(self.connection) as cursor:
            places = _read_places(cursor, keys)
        try:
            with transaction(self.connection) as cursor:
                self._move(cursor, was, position)
                self._write_places(cursor, seen, places)
                _write_notices(cursor, announcements)
                # A crash before the commit leaves nothing: the same is done again.
        except psycopg2.IntegrityError as err:
            raise Conflict("relay-moved", str(err).strip()) from err

    def _look(self, keys: Sequence[bytes], position: int, now: int) -> list[_Seen]:
        with transaction(self.connection) as cursor:
            histories = _read_histories(cursor, keys, position)
        ends = {key: find_end([t for _, t in steps]) for key, steps in histories.items()}
        known_by = {
            key: histories[key][end.known_by][0] for key, end in ends.items() if end is not None
        }
        announced: dict[tuple[bytes, int], set[int]] = {}
        with transaction(self.connection) as cursor:
            entry_times = _read_times(cursor, sorted(set(known_by.values())))
            cursor.execute(sql("read_announced_steps"), {"keys": list(known_by)})
            for key, version, step in cursor.fetchall():
                announced.setdefault((bytes(key), version), set()).add(step)
        seen = []
        for key, steps in histories.items():
            end = ends[key]
            known_at = 0 if end is None else entry_times[known_by[key]]
            done = () if end is None else announced.get((key, end.version), ())
            outlook = look([t for _, t in steps], now, end, known_at, done)
            given = {t.version: index for index, t in steps if t.kind in VERSION_ACTS}
            seen.append(_Seen(key, outlook, end, given))
        return seen

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
            for step in one.outlook.due:
                notice = format_notice(self.origin, name, end, step)
                found.append((end.at(step), one.key, end.version, step, notice))
        return sorted(found)

    # --- writing ---

    def _move(self, cursor: Cursor, was: int, position: int) -> None:
        cursor.execute(sql("advance_relay"), {"name": FOLLOWER, "was": was, "position": position})
        if cursor.rowcount != 1:
            raise Conflict("relay-moved", "another process follows the log")

    def _write_places(
        self,
        cursor: Cursor,
        seen: Sequence[_Seen],
        places: dict[tuple[bytes, int], tuple[int, int, int]],
    ) -> None:
        """Places of versions that have none yet, what all of them say, when to look again."""
        kept = dict(places)
        new: list[tuple[int, bytes, int, int]] = []
        lists: set[int] = set()
        for one in seen:
            for version, said in one.outlook.statuses.items():
                place = places.get((one.key[:HEAD], version))
                if place is None:
                    new.append((one.given[version], one.key, version, said))
                elif place[2] != said:
                    kept[one.key[:HEAD], version] = (*place[:2], said)
                    lists.add(place[0])
        # in the log's order, whatever the batches were: a restored ledger draws the same again
        for _, key, version, said in sorted(new):
            number, idx = self._draw_place(cursor, key, version)
            kept[key[:HEAD], version] = (number, idx, said)
            if said:
                lists.add(number)
        _write_outlooks(cursor, seen, kept)
        if lists:
            cursor.execute(sql("mark_status_lists"), {"lists": sorted(lists)})

    def _draw_place(self, cursor: Cursor, key: bytes, version: int) -> tuple[int, int]:
        """The list that is being filled, and the first free place drawn in it."""
        if self._places is None:
            self._places = _read_taken(cursor)
        if self._places.count >= LIST_CAPACITY:
            number = self._places.number + 1
            uri = f"{self._lists_uri}/{number}"
            cursor.execute(sql("insert_status_list"), {"list": number, "uri": uri})
            self._places = _Places(number, count=0)
        draws = (statuslist.draw_place(self._secret, key, version, n) for n in count())
        idx = next(idx for idx in draws if not self._places.taken[idx])
        self._places.taken[idx] = 1
        self._places.count += 1
        return self._places.number, idx


def read_lists(cursor: Cursor) -> list[ListRow]:
    """All status lists in an open transaction."""
    cursor.execute(sql("read_status_lists"))
    return [ListRow(*row) for row in cursor.fetchall()]


def read_list(cursor: Cursor, number: int, form: str) -> bytes | None:
    """A form of a status list (`jwt`, `cwt` or a purpose); None when there is none."""
    cursor.execute(sql("read_status_list"), {"list": number, "form": form})
    row = cursor.fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def read_places(cursor: Cursor, key: bytes) -> list[tuple[int, int, int]]:
    """(version, list, place) of each version of a certificate that has one, ascending."""
    return sorted(
        (version, number, idx)
        for (_, version), (number, idx, _) in _read_places(cursor, [key]).items()
    )


def _next_keys(cursor: Cursor, begin: int, end: int) -> tuple[int, list[bytes]]:
    """(up to where, map keys) of certificates that the entries from `begin` on changed."""
    keys: dict[bytes, None] = {}
    deltas = certificate_deltas(cursor, begin, end) if begin < end else {}
    for index in range(begin, end):
        pairs = deltas.get(index, b"")
        if keys and len(keys) + len(pairs) // _PAIR > KEYS_AT_ONCE:
            return index, list(keys)
        keys.update((pairs[i : i + 32], None) for i in range(0, len(pairs), _PAIR))
    return end, list(keys)


def _read_histories(
    cursor: Cursor, keys: Sequence[bytes], end: int
) -> dict[bytes, list[tuple[int, Transition]]]:
    """(log index, transition) of each certificate's history in the first `end` entries."""
    heads = {"heads": b"".join(key[:HEAD] for key in keys), "count": len(keys)}
    cursor.execute(sql("read_certificates"), heads)
    limit = staterow.place(end, 0)
    places, links = {}, {}
    for data, state, history in cursor.fetchall():
        key = bytes(data)
        found = staterow.places(bytes(history))
        places[key] = [place for place in found if place < limit]
        if len(places[key]) == len(found):
            links[key] = staterow.unpack_state(bytes(state))[1]
    if places.keys() != set(keys) or not all(places.values()):
        raise ProofError("stored-bytes-damaged", "certificates or their histories are missing")
    histories = read_steps(cursor, places)
    for key, link in links.items():
        if staterow.link_over(key, histories[key]) != link:
            raise ProofError("stored-bytes-damaged", f"the history of certificate {key.hex()}")
    return {key: [(s.index, s.transition) for s in steps] for key, steps in histories.items()}


def _read_times(cursor: Cursor, indexes: Sequence[int]) -> dict[int, int]:
    """The ledger times of entries."""
    cursor.execute(sql("read_chosen_entries"), {"indexes": list(indexes)})
    return {
        index: times.parse_moment(parse_entry(bytes(data))["time"])
        for index, data in cursor.fetchall()
    }


def _read_places(
    cursor: Cursor, keys: Sequence[bytes]
) -> dict[tuple[bytes, int], tuple[int, int, int]]:
    """(list, place, status) by the first 16 bytes of a map key, and version."""
    heads = {"heads": b"".join(key[:HEAD] for key in keys), "count": len(keys)}
    cursor.execute(sql("read_status_places"), heads)
    return {(bytes(key), version): (*rest,) for key, version, *rest in cursor.fetchall()}


def _read_taken(cursor: Cursor) -> _Places:
    rows = read_lists(cursor)
    places = _Places()
    if rows:
        places = _Places(rows[-1].number, count=0)
        cursor.execute(sql("read_taken_places"), {"list": places.number})
        for (idx,) in cursor.fetchall():
            places.taken[idx] = 1
            places.count += 1
    return places


def _write_outlooks(
    cursor: Cursor, seen: Sequence[_Seen], places: dict[tuple[bytes, int], tuple[int, int, int]]
) -> None:
    packed: dict[bytes, bytes] = {}
    says: dict[bytes, bool] = {}
    for (head, version), (number, idx, said) in sorted(places.items()):
        packed[head] = packed.get(head, b"") + _place.pack(version, number, idx << 8 | said)
        says[head] = says.get(head, False) or said != statuslist.VALID
    rows = [(one.key[:HEAD], one.outlook.holds_from, one.outlook.due_at) for one in seen]
    if rows:
        columns = _columns(("heads", "holds_from", "due_at"), rows)
        columns["said"] = [says[head] for head in columns["heads"]]
        columns["places"] = [packed[head] for head in columns["heads"]]
        cursor.execute(sql("upsert_outlooks"), columns)


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
