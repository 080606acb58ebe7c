"""What the turn knows: `admission.View` over the open transaction, read for a batch at once."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from psycopg2.extensions import cursor as Cursor

from .. import admission, identity, lifecycle, staterow
from ..admission import Certificate, Lane, Opened, Recorded
from ..entry import ADMITTED
from ..errors import ProofError, Refused, Unavailable
from ..event import CORRECTED, ISSUED, Event
from ..evidence import Step
from ..fast_turn import FastTurn
from ..lifecycle import REWIND, Transition
from ..registry import Registry
from ..reliance import Reliance
from ..staterow import NO_HOLDER
from .copying import read_bytes
from .history_reading import chunk_of, read_events
from .relying import Reliances
from .statements import sql

CHUNKS_IN_TURN = 64  # of event lines that are read while others wait

# Rows of binary COPY: the number of fields, then each behind its length.
_certificate = struct.Struct("!6x32s4x6si")  # key, place; the state behind its length follows
_holder = struct.Struct("!6x32s4xq4x32s4x6si")  # key, acts, link, place; likewise the recent acts
_length = struct.Struct("!i")


class Known(NamedTuple):
    """What an older event line says that the turn needs."""

    line_hash: bytes
    transition: Transition  # but for its version
    holder: bytes | None  # the map key of the one it names


class NotNew(Exception):
    """The turn is let go: a certificate is there that was taken for new."""


class LetGo(Exception):
    """The turn is let go: it needs the event lines at these places."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(f"{len(places)} event lines to read")
        self.places = places


def read_known(cursor: Cursor, places: Iterable[int]) -> dict[int, Known]:
    return {
        place: Known(logged.event.line_hash, logged.transition(), logged.event.holder_key)
        for place, logged in read_events(cursor, places)
    }


class View:
    """`admission.View` over the open transaction, with what bundles need read before their turn."""

    def __init__(
        self,
        cursor: Cursor,
        registry: Registry,
        batch: Sequence[Opened],
        blinding_secret: bytes,
        known: dict[int, Known],
        may_let_go: bool,
        takes_for_new: bool = False,
    ) -> None:
        """`known`: what was read before of older event lines, by place; the rest is read when
        bundles are, or LetGo raised where that is much. `takes_for_new`: certificates that the
        batch issues, and does no more to, are not looked for; then the turn must hold by
        `check_new`.
        """
        self.blinding_secret = blinding_secret
        self._cursor = cursor
        self.registry = registry
        self._known = known
        self._batch, self._may_let_go = batch, may_let_go
        self._chunks = 0  # read in this turn
        self._lanes = self._read_lanes(batch)
        self.certificates: dict[bytes, Certificate] = {}  # by map key, as the turn found them
        self.histories: dict[bytes, bytes] = {}  # as rows have them
        self.places: dict[bytes, bytes] = {}  # of certificates' rows, until they change
        self._steps: dict[bytes, list[Step]] = {}  # of those that were asked for
        self._taken: set[bytes] = set()  # map keys whose head is another's
        # acts, link, recent acts, and the row's place until it changes
        self.holders: dict[bytes, tuple[int, bytes, bytes, bytes]] = {}
        self._whole: dict[bytes, bytes] = {}  # their map keys by head
        self._asked: set[bytes] = set()  # heads of the holders' map keys that were looked for
        events, relied = _named(batch)
        looked_for = {e.key for e in events if not takes_for_new or e.kind != ISSUED} | relied
        self._looked_for, self._left = looked_for, set(looked_for)  # certificates; not yet read
        self._binds = any(e.holder_key is not None or e.said[5] == REWIND for e in events)
        # Weakly: in a cycle, all that the turn knew would stay until the next search for cycles.
        view = weakref.proxy(self)
        self.relying = Reliances(registry, self.certificates, lambda key: list(view.steps(key)))

    def read(self, cursor: Cursor, bundles: Sequence[Opened]) -> None:
        """Read what some bundles of the batch need, before the rules judge any of them. Rows are
        read once in a turn, which may have changed them since.
        """
        events, relied = _named(bundles)
        keys = self._left & ({e.key for e in events} | relied)
        self._left -= keys
        found = self._read_certificates(cursor, keys)
        self.certificates.update(found)
        self.relying.read(cursor, bundles)
        alike = self._alike(events)
        places = {place for _, repeated in alike for place in repeated}
        if any(map(self._folds, events)):
            places |= self._folded(bundles)
        if relied:
            places |= self._relied(bundles)
        self._read_lines(cursor, places, list)
        for event, repeated in alike:
            for place in repeated:
                said = self._known[place]
                ids = self.certificates[event.key].event_ids
                ids[said.transition.id] = said.line_hash
        holders = {e.holder_key for e in events if e.holder_key is not None}
        rewound = {e.key for e in events if e.said[5] == REWIND and e.key in self.histories}
        for key in rewound:  # whoever held the certificate may hold it again
            known_of = map(self._known.get, staterow.places(self.histories[key]))
            holders |= {one.holder for one in known_of if one and one.holder}
        if self._binds:
            self._read_holders(cursor, holders, found.values())

    def _read_certificates(self, cursor: Cursor, keys: set[bytes]) -> dict[bytes, Certificate]:
        """Read certificates; of those that have their row by a head, the ones with these keys."""
        found: dict[bytes, Certificate] = {}
        if not keys:
            return found
        heads: set[bytes] = set()
        data, at = read_bytes(cursor, sql("read_turn_certificates"), joined(keys)), 0
        while at < len(data):
            key, place, size = _certificate.unpack_from(data, at)
            begin = at + _certificate.size
            end = begin + size + 4
            (size,) = _length.unpack_from(data, end - 4)
            at = end + size
            heads.add(key[: identity.HEAD])
            if key not in keys:
                continue
            history = data[end:at]
            self.histories[key], self.places[key] = history, place
            row = staterow.open_row(key, data[begin : end - 4], history)
            holder = None if row.holder == NO_HOLDER else row.holder
            found[key] = Certificate(row.standing, row.link, holder, {}, row.kept)
        if len(found) < len(keys):  # a head may be that of another's row, asked for or not
            self._taken |= {key for key in keys - found.keys() if key[: identity.HEAD] in heads}
        return found

    def check_new(self, turn: FastTurn) -> None:
        """NotNew where a certificate is there that the turn refused to issue, taking it for new: of
        those that it issued, the table's primary key says so.
        """
        refused = {
            item.key
            for b in turn.logged
            for item, code in zip(b.opened.events, b.codes, strict=True)
            if code != ADMITTED and isinstance(item, Event)
        }
        refused -= self._looked_for | turn.certificates.keys() | turn.issued.keys()
        if self._read_certificates(self._cursor, refused) or not refused.isdisjoint(self._taken):
            raise NotNew

    def _alike(self, events: Iterable[Event]) -> list[tuple[Event, list[int]]]:
        """The events that may have the id of an older one, and the places of those."""
        histories = self.histories
        known = [event for event in events if event.key in histories]
        found = [(event, staterow.alike(histories[event.key], event.id)) for event in known]
        return [(event, places) for event, places in found if places]

    def _folds(self, event: Event) -> bool:
        """Whether admission asks for the whole history of this event's certificate."""
        known = self.certificates.get(event.key)
        is_long = known is not None and known.standing.count >= lifecycle.MAX_HISTORY
        return known is not None and (is_long or event.kind == CORRECTED)

    def _folded(self, batch: Sequence[Opened]) -> set[int]:
        """The places of all events of the certificates whose histories the batch asks for, as far
        as its bundles may fold histories.
        """
        found: set[int] = set()
        for opened in batch:
            folded = 0
            for event in opened.events:
                if not isinstance(event, Event) or not self._folds(event):
                    continue
                folded += self.certificates[event.key].standing.count
                if folded > admission.MAX_FOLDED:
                    break
                found.update(staterow.places(self.histories[event.key]))
        return found

    def _relied(self, batch: Sequence[Opened]) -> set[int]:
        """The places of all events of the certificates that the batch relies on, likewise."""
        keys = self.relying.judged(batch)
        return {p for key in keys for p in staterow.places(self.histories[key])}

    def _read_lines(
        self, cursor: Cursor, places: Iterable[int], ahead: Callable[[list[int]], Sequence[int]]
    ) -> None:
        """Read what is not known; LetGo with what `ahead` makes of it, where it is much."""
        missing = [place for place in places if place not in self._known]
        self._chunks += len({chunk_of(place) for place in missing})
        if missing and self._may_let_go and self._chunks > CHUNKS_IN_TURN:
            raise LetGo(ahead(missing))
        self._known.update(read_known(cursor, missing))

    def _from(self, key: bytes) -> list[int]:
        """The unknown places of the histories that lines may ask for from this certificate's on, as
        many as one bundle may fold: those before were refused, or are known.
        """
        asked: dict[bytes, None] = {}
        for opened in self._batch:
            for item in opened.events:
                if isinstance(item, Reliance):
                    asked.update(dict.fromkeys(key for key, _, _ in item.certificates))
                elif isinstance(item, Event) and self._folds(item):
                    asked[item.key] = None
        asked.setdefault(key)
        keys, found = list(asked), list[int]()
        for other in keys[keys.index(key) :]:
            history = self.histories.get(other)
            places = [] if history is None else staterow.places(history)
            found += [place for place in places if place not in self._known]
            if len(found) >= admission.MAX_FOLDED:
                break
        return found

    def _read_holders(
        self, cursor: Cursor, keys: set[bytes], certificates: Collection[Certificate]
    ) -> None:
        """Read holders' records by their whole map keys, and who holds these certificates."""
        before = {c.holder for c in certificates if c.holder is not None}
        self._read_records(cursor, keys, before)
        for certificate in certificates:
            if certificate.holder is not None:
                if certificate.holder not in self._whole:
                    raise ProofError("stored-bytes-damaged", "a holder's record is missing")
                certificate.holder = self._whole[certificate.holder]

    def _read_records(
        self, cursor: Cursor, keys: set[bytes], heads: Collection[bytes] = ()
    ) -> None:
        """Read holders' records by map keys and by heads of others'."""
        sought = {key[: identity.HEAD] for key in keys}.union(heads) - self._asked
        data, at = b"", 0
        if sought:
            data = read_bytes(cursor, sql("read_turn_holders"), joined(sought))
        while at < len(data):
            key, acts, link, place, size = _holder.unpack_from(data, at)
            begin = at + _holder.size
            at = begin + size
            self._whole[key[: identity.HEAD]] = key
            self.holders[key] = (acts, link, data[begin:at], place)
        self._asked |= sought
        whole = self._whole
        self._taken |= {key for key in keys if whole.get(key[: identity.HEAD], key) != key}

    def _read_lanes(self, batch: Sequence[Opened]) -> dict[tuple[str, int], Lane]:
        headers = [opened.bundle.header for opened in batch]
        places = sorted({(header.department, header.lane) for header in headers})
        self._cursor.execute(
            sql("read_turn_lanes"),
            {"departments": [name for name, _ in places], "lanes": [lane for _, lane in places]},
        )
        return {
            (department, number): Lane(epoch, producer, after, bytes(previous), time, at, index)
            for department, number, epoch, producer, after, previous, time, at, index
            in self._cursor.fetchall()
        }  # fmt: skip

    def lane(self, department: str, lane: int) -> Lane:
        known = self._lanes.get((department, lane))
        if known is None:
            raise Unavailable("not-initialised", f"lane {department}/{lane} has no row")
        return known

    def note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None:
        self._cursor.execute(
            sql("read_note"),
            {"department": department, "lane": lane, "epoch": epoch, "sequence": seq},
        )
        row = self._cursor.fetchone()
        return None if row is None else Recorded(row[0], bytes(row[1]), row[2])

    def is_note_of_epoch(self, department: str, lane: int, epoch: int, note: bytes) -> bool:
        self._cursor.execute(
            sql("is_note_of_epoch"),
            {"department": department, "lane": lane, "epoch": epoch, "note_hash": note},
        )
        return self._cursor.fetchone() == (True,)

    def is_equivocation_logged(self, department: str, lane: int, note: bytes) -> bool:
        self._cursor.execute(
            sql("is_equivocation_logged"),
            {"department": department, "lane": lane, "note_hash": note},
        )
        return self._cursor.fetchone() == (True,)

    def certificate(self, key: bytes) -> Certificate | None:
        if key in self._taken:
            raise Refused("key-taken")
        return self.certificates.get(key)

    def history(self, key: bytes) -> list[Transition]:
        return [step.transition for step in self.steps(key)]

    def named(self, key: bytes) -> list[bytes | None]:
        places = staterow.places(self.histories[key]) if key in self.histories else []
        return [self._known[place].holder for place in places]

    def steps(self, key: bytes) -> list[Step]:
        """A certificate's history with its places."""
        if key in self._steps:
            return self._steps[key]
        data = self.histories.get(key)
        if data is None:
            return []
        places = staterow.places(data)
        self._read_lines(self._cursor, places, lambda _: self._from(key))
        history = staterow.steps([(place, *self._known[place][:2]) for place in places])
        if staterow.link_over(key, history) != self.certificates[key].link:
            raise ProofError("stored-bytes-damaged", f"the history of certificate {key.hex()}")
        self._steps[key] = history
        return history

    def holder(self, key: bytes) -> tuple[int, bytes]:
        if key[: identity.HEAD] not in self._asked:  # of a history that was not read ahead
            self._read_records(self._cursor, {key})
        if key in self._taken:
            raise Refused("key-taken")
        acts, link, *_ = self.holders.get(key, (0, b""))
        return acts, link


def _named(bundles: Sequence[Opened]) -> tuple[list[Event], set[bytes]]:
    """The events in bundles, and the map keys of certificates that their reliances name."""
    items = [item for opened in bundles for item in opened.events]
    acts = [item for item in items if isinstance(item, Reliance)]
    relied = {key for act in acts for key, _, _ in act.certificates}
    return [item for item in items if isinstance(item, Event)], relied


def joined(keys: Collection[bytes]) -> dict[str, Any]:
    """The heads of map keys as one value, which the statement cuts: thousands of literals cost
    more to print and to parse than the rows to read.
    """
    return {"heads": b"".join([key[: identity.HEAD] for key in keys]), "count": len(keys)}
