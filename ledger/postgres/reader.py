"""The read side: finds certificates and makes evidence as of the published checkpoint.

Every question is one read-only transaction at REPEATABLE READ: readers and writers never wait for
each other, and what an answer rests on is of one moment. What is committed but not published is
not seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from .. import canonical, identity, merkle, staterow, statusmap, tiles
from ..bundle import Header, parse_header
from ..catalogue import Catalogue, parse_catalogue
from ..checkpoint import format_proof
from ..doubt import find_doubtful, is_clear
from ..entry import map_heads, parse_entry
from ..errors import LedgerError, Malformed, ProofError, Refused, Unavailable
from ..event import ISSUED, Event, parse_event
from ..evidence import CertificateId, Evidence, Step
from ..holder_evidence import Act, HolderEvidence
from ..identity import HEAD
from ..lifecycle import Finding, Transition, undone
from ..linetree import GROUP, HEIGHT, LineTree, line_tree, split_roots
from ..note import parse_note
from ..proving import Records, prove, prove_holder, show_entry
from ..question import Question
from ..receipt import format_receipt
from ..reliance import is_reliance
from ..staterow import Row
from ..statusmap import Group, MapHead, Membership, group_range
from .connection import transaction
from .copying import read_bytes, read_rows
from .following import read_list, read_lists
from .history_reading import Chunks, open_chunk, read_events, read_identities, read_steps
from .holdings import read_held
from .kept import LONGEST_ENTRY, Kept, KeptMap
from .map_reading import acts_of, map_tile_reader, pairs_at
from .rows import (
    CHUNK,
    ChunkLines,
    read_catalogue,
    read_leaves,
    read_origin,
    read_placed,
    read_registry_snapshot,
    unpack_lines,
)
from .sequencing import tile_reader
from .statements import sql
from .status_places import read_places

# A row of find_certificates as far as its size is fixed: how many columns, each behind its length.
_FOUND = struct.Struct("!hi4siii32si")
MAX_MATCHES = 20
MAX_NEAR = 5
MAX_CHUNKS = 64  # of lines, some 80 kB each, in one view's memory
_NEAR_LENGTH = 64  # longer numbers get no near misses
_ALIKE = {"0": "Oo", "O": "0", "o": "0", "1": "Il", "I": "1", "l": "1"}
_ALPHABETS = ("0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Looked:
    """What was looked up: the number as it is kept, and a version when an identifier named one."""

    number: str
    matches: tuple[CertificateId, ...]
    version: int | None = None
    near: tuple[dict[str, str], ...] = ()
    absent: tuple[CertificateId, ...] = ()  # without matches: all that could have been meant


class Stated(NamedTuple):
    """A certificate's row as it is stored."""

    kind: int  # the number of its type and issuer
    key: bytes
    state: bytes
    history: bytes


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One event of a history with both its times; `recordedtime` is the source's own."""

    step: Step
    learned_at: str  # ledger time of the entry
    recordedtime: str | None


class Reader:
    """A connection that only reads. Not safe for several threads at once."""

    def __init__(self, connection: Connection, kept: Kept | None = None) -> None:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        self._connection = connection
        self._kept = kept or Kept()

    @contextmanager
    def open(self) -> Iterator[View]:
        """The ledger as of the newest published checkpoint that ends in the roots of the status
        maps, for one question; Unavailable `not-initialised` before the first one.
        """
        with transaction(self._connection) as cursor:
            origin = self._kept.origin
            if origin is None:
                origin = self._kept.origin = read_origin(cursor)
            cursor.execute(sql("read_published_state"))
            published = cursor.fetchone()
            if published is None:
                raise Unavailable("not-initialised", "no state has been published yet")
            yield View(cursor, origin, published[0], bytes(published[1]), self._kept)


class View:
    """`proving.Source` over one open transaction, and the look-ups."""

    def __init__(
        self,
        cursor: Cursor,
        origin: str,
        size: int,
        checkpoint: bytes,
        kept: Kept | None = None,
    ) -> None:
        self._cursor = cursor
        self.origin = origin
        self.size = size
        self.checkpoint = checkpoint
        self._kept = kept or Kept()
        self.subtree = tiles.subtree_reader(tile_reader(cursor), self._kept.tiles)
        self._chunks: Chunks = {}  # that were read for histories
        self._steps: dict[bytes, list[Step]] = {}  # histories by map key
        self._maps: dict[bytes, tuple[MapHead, merkle.Subtree, KeptMap]] = {}
        self._read: dict[bytes, tuple[bytes, bytes] | None] = {}  # rows by map key, None for none

    # --- look-ups ---

    def find(self, text: str, type_code: str | None = None, issuer: str | None = None) -> Looked:
        """The published certificates with this number, or with this GB/T 36904 identifier."""
        number = identity.normalise_number(text)
        identity.check_number(number)
        if type_code is not None:
            identity.check_type(type_code)
        if issuer is not None:
            identity.check_department(issuer)
        matches = self._matches([number], type_code, issuer)
        if matches:
            return Looked(number, tuple(matches))
        absent = self._absent(number, type_code, issuer)
        compact = "".join(number.split()).upper()
        if not compact.startswith(identity.GB_ROOT + "."):
            return Looked(number, (), None, self._near(number, type_code, issuer), absent)
        try:
            identifier = identity.parse_identifier(compact)
        except Malformed as err:
            return Looked(compact, (), None, self._mended(compact, err.message), absent)
        meant = self._by_identifier(identifier, type_code, issuer)
        found = [m for m in self._matches([identifier.serial], type_code, issuer) if m in meant]
        version = identifier.version if found else None
        return Looked(compact, tuple(found), version, (), (*meant, *absent))

    def named(self, row: Stated, number: str) -> CertificateId:
        """The certificate with this row and number."""
        return CertificateId(*self._kept.kinds[row.kind], number)

    def _matches(
        self,
        numbers: Sequence[str],
        type_code: str | None,
        issuer: str | None,
        limit: int = MAX_MATCHES,
    ) -> list[CertificateId]:
        found = [
            self.named(row, number)
            for number, rows in self.stated_by_number(numbers).items()
            for row in rows
        ]
        wanted = (each for each in found if type_code in (None, each.type_code))
        matches = [each for each in wanted if issuer in (None, each.issuer)]
        return sorted(matches, key=lambda each: (each.number, *_parts(each)))[:limit]

    def stated_by_number(self, numbers: Iterable[str]) -> dict[str, list[Stated]]:
        """The rows of the published certificates with each of these numbers."""
        found: dict[str, list[Stated]] = {number: [] for number in numbers}
        by_hash: dict[bytes, list[tuple[bytes, list[Stated]]]] = {}
        for number, rows in found.items():
            serial = number.encode()
            said = (len(serial).to_bytes(2, "big") + serial, rows)
            by_hash.setdefault(staterow.number_digest(number), []).append(said)
        hashes = {"hashes": list(struct.unpack(f"!{len(by_hash)}i", b"".join(by_hash)))}
        data = read_bytes(self._cursor, sql("find_certificates"), hashes)
        prefixes: dict[int, bytes] = {}
        unpack, at, size = _FOUND.unpack_from, 0, self.size
        while at < len(data):
            _, _, number_hash, _, kind, _, key, length = unpack(data, at)
            at += _FOUND.size
            state = data[at : (at := at + length)]
            length = int.from_bytes(data[at : (at := at + 4)], "big")
            history = data[at : (at := at + length)]
            self._read[key] = (state, history)
            if staterow.index_at(history, 0) < size:
                prefix = prefixes.get(kind)
                if prefix is None:
                    prefix = prefixes[kind] = identity.certificate_prefix(*self._kind(kind))
                for serial, rows in by_hash[number_hash]:
                    if sha256(prefix + serial).digest() == key:
                        rows.append(Stated(kind, key, state, history))
        return found

    def _kind(self, number: int) -> tuple[str, str]:
        """(type, issuer) by the number that rows have for it."""
        if number not in self._kept.kinds:
            self._cursor.execute(sql("read_kinds"))
            self._kept.kinds = {number: (kind, by) for kind, by, number in self._cursor.fetchall()}
            if number not in self._kept.kinds:
                raise ProofError("stored-bytes-damaged", "a certificate's type and issuer")
        return self._kept.kinds[number]

    def _by_identifier(
        self, identifier: identity.Identifier, type_code: str | None, issuer: str | None
    ) -> list[CertificateId]:
        """The certificates that an identifier's codes can mean."""
        records = self.records()
        wanted = {
            "type": ("code", identifier.type_code, type_code),
            "department": ("authority_code", identifier.issuer_code, issuer),
        }
        names: dict[str, list[str]] = {"type": [], "department": []}
        for name in records.places:
            kind, _, rest = name.partition("/")
            if kind in wanted:
                member, code, only = wanted[kind]
                if only in (None, rest) and (records.value(name) or {}).get(member) == code:
                    names[kind].append(rest)
        return [
            CertificateId(type_name, department, identifier.serial)
            for type_name in names["type"]
            for department in names["department"]
        ]

    def _absent(
        self, number: str, type_code: str | None, issuer: str | None
    ) -> tuple[CertificateId, ...]:
        """What this number can mean where none is found: under the type and issuer asked for, or
        under all that the registry ever let issue it.
        """
        if type_code is not None and issuer is not None:
            return (CertificateId(type_code, issuer, number),)
        records, pairs = self.records(), set()
        for name in records.places:
            kind, _, rest = name.partition("/")
            if kind == "type" and type_code in (None, rest):
                grants: Any = (records.value(name) or {})["grants"]
                for grant in grants:
                    if ISSUED in grant["acts"] and issuer in (None, grant["department"]):
                        pairs.add((rest, grant["department"]))
        if not pairs:  # nobody may: any name will do
            pairs.add((type_code or "none", issuer or "none"))
        return tuple(CertificateId(*pair, number) for pair in sorted(pairs))

    def _mended(self, text: str, why: str) -> tuple[dict[str, str], ...]:
        """The identifier with the check character that was expected, when that is all it lacks."""
        body, dot, check = text.rpartition(".")
        payload = body.removeprefix(identity.GB_ROOT + ".").replace(".", "")
        if not dot or len(check) != 1 or not payload.isascii() or not payload.isalnum():
            return ()
        mended = f"{body}.{identity.check_character(payload)}"
        try:
            identity.parse_identifier(mended)
        except Malformed:
            return ()
        return ({"number": mended, "why": why},)

    def _near(
        self, number: str, type_code: str | None, issuer: str | None
    ) -> tuple[dict[str, str], ...]:
        if not 4 <= len(number) <= _NEAR_LENGTH:
            return ()
        found = self._matches(sorted(neighbours(number)), type_code, issuer, MAX_NEAR)
        return tuple(
            {
                "number": f.number,
                "type": f.type_code,
                "issuer": f.issuer,
                "why": "one character differs",
            }
            for f in found
        )

    # --- proving.Source ---

    def history(self, key: bytes) -> list[Step]:
        """The published part of a certificate's history."""
        return self._steps[key] if key in self._steps else self.histories([key])[key]

    @property
    def status(self) -> bytes:
        """The checkpoint's last entry."""
        return self.entry(self.size - 1)

    def histories(self, keys: Sequence[bytes]) -> dict[bytes, list[Step]]:
        """The published parts of certificates' histories by map key."""
        limit = staterow.place(self.size, 0)
        places = {
            key: [place for place in staterow.places(history) if place < limit]
            for key, (_, history) in self._rows(keys).items()
        }
        keep = self._chunks if sum(map(len, places.values())) <= MAX_CHUNKS else None
        return {key: [] for key in keys} | read_steps(self._cursor, places, keep)

    def ends(self, keys: Sequence[bytes]) -> dict[bytes, tuple[int, bytes]]:
        """Of certificates by map key as they are now, published or not yet: how many transitions,
        and the last link.
        """
        rows = {key: staterow.open_row(key, *row) for key, row in self._rows(keys).items()}
        return {key: (row.standing.count, row.link) for key, row in rows.items()}

    def stated(self, key: bytes) -> Row | None:
        """What the row of a certificate says, None where it has none; where that knows of events
        after the checkpoint, or some may be doubtful, none of those that decide.
        """
        stored = self._read[key] if key in self._read else self._rows([key]).get(key)
        if stored is None:
            return None
        row = staterow.open_row(key, *stored)
        is_published = staterow.index_at(stored[1], -1) < self.size
        is_sure = is_published and is_clear(stored[1], self.records().doubts)
        return row if is_sure else row._replace(kept=())

    def indexes(self, key: bytes, ordinals: Iterable[int]) -> list[int]:
        """The log indexes of some events of a certificate that has a row."""
        _, history = self._read[key] or self._rows([key])[key]
        return [staterow.index_at(history, ordinal) for ordinal in ordinals]

    def current(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The records of certificates by map key as they are now, published or not yet."""
        return {key: staterow.row_record(key, *row) for key, row in self._rows(keys).items()}

    def _rows(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        """(state, history) of certificates by map key, as they are now: in one transaction always
        the same, so that each is read once.
        """
        unread = [key for key in dict.fromkeys(keys) if key not in self._read]
        if unread:
            heads = {"heads": b"".join(key[:HEAD] for key in unread), "count": len(unread)}
            self._cursor.execute(sql("read_certificates"), heads)
            self._read.update(dict.fromkeys(unread))
            for key, state, history in self._cursor.fetchall():
                self._read[bytes(key)] = (bytes(state), bytes(history))
        return {key: row for key in keys if (row := self._read[key]) is not None}

    def entry(self, index: int) -> bytes:
        """The entry at a log index."""
        data = self._kept.entries.get(index)
        if data is None:
            self._cursor.execute(sql("read_entries"), {"begin": index, "end": index + 1})
            row = self._cursor.fetchone()
            if row is None:
                raise ProofError("stored-bytes-damaged", f"entry {index} is missing")
            data = bytes(row[1])
            if len(data) <= LONGEST_ENTRY:
                self._kept.entries[index] = data
        return data

    def line(self, index: int, position: int) -> tuple[bytes, list[bytes]]:
        """A line of a bundle and its path to the root in the bundle's note; ProofError
        `stored-bytes-damaged` where the stored lines do not have that root.
        """
        lines = self._chunk(index, position // CHUNK)
        tree = self._tree(index, lines)
        group = lines.group(position % CHUNK // GROUP)
        path = tree.prove(position, [merkle.leaf_hash(line) for line in group])
        return group[position % GROUP], path

    def _tree(self, index: int, lines: ChunkLines) -> LineTree:
        """The tree over a bundle's groups of lines, with the root in its note; `lines` are those of
        one of its chunks.
        """
        tree = self._kept.bundles.get(index)
        if tree is None:
            said = self._said_of(index)
            roots = self._stored_roots(index) if said.count > CHUNK else None
            if roots is None:  # no others, or stored by an earlier version
                chunks = self._chunks_of(index) if said.count > CHUNK else [lines]
                hashes = [merkle.leaf_hash(line) for chunk in chunks for line in chunk]
                roots = merkle.fold(hashes, HEIGHT)
            tree = line_tree(roots)
            if not tree.is_over(said.count, said.root):
                raise ProofError("stored-bytes-damaged", f"the lines of entry {index}")
            self._kept.bundles[index] = tree
        return tree

    def _stored_roots(self, index: int) -> list[bytes] | None:
        self._cursor.execute(sql("read_groups"), {"index": index})
        rows = [groups for (groups,) in self._cursor.fetchall()]
        return None if None in rows else split_roots(b"".join(map(bytes, rows)))

    def _said_of(self, index: int) -> Header:
        """What the note of a bundle says."""
        try:
            note = str(parse_entry(self.entry(index))["note"])
            return parse_header(parse_note(note.encode()).text)
        except (Malformed, LookupError) as err:
            raise ProofError("stored-bytes-damaged", f"entry {index}") from err

    def _chunk(self, index: int, number: int) -> ChunkLines:
        """The lines of one chunk of a bundle."""
        if (index, number) in self._chunks:
            return self._chunks[index, number]
        numbers = {"indexes": [index], "chunks": [number]}
        rows = list(read_rows(self._cursor, sql("read_chunks"), numbers))
        if not rows:
            raise ProofError("stored-bytes-damaged", f"lines of entry {index} are missing")
        return open_chunk(index, rows[0][-1])

    def lines(self, index: int) -> list[bytes]:
        """The event lines of a bundle."""
        return [line for chunk in self._chunks_of(index) for line in chunk]

    def _chunks_of(self, index: int) -> Iterator[list[bytes]]:
        """The same, chunk by chunk."""
        span = {"begin": index, "end": index + 1}
        try:
            for *_, chunk in read_rows(self._cursor, sql("read_lines"), span):
                yield unpack_lines(chunk)
        except ValueError as err:
            raise ProofError("stored-bytes-damaged", f"the lines of entry {index}") from err

    def membership(self, kind: bytes, key: bytes) -> Membership:
        """What the certificates' or the holders' map says of a key under the checkpoint: its bucket
        and path. ProofError `stored-bytes-damaged` where the tables do not give what the stored
        tiles have.
        """
        head, _, kept = self._map(kind)
        place = group_range(head.k, key)
        group = kept.groups.get(place[0])
        if group is None:
            (group,) = self._read_groups(kind, [place])
        return group.prove(head.k, key)

    def _map(self, kind: bytes) -> tuple[MapHead, merkle.Subtree, KeptMap]:
        if not self._maps:
            heads = map_heads(parse_entry(self.status))
            if heads is None:
                raise ProofError("stored-bytes-damaged", f"entry {self.size - 1} carries no maps")
            for each, head in heads.items():
                read = map_tile_reader(self._cursor, each, self.size - 1)
                kept = self._kept.map_at(each, self.size - 1)
                self._maps[each] = (head, tiles.subtree_reader(read, kept.tiles), kept)
        return self._maps[kind]

    def _read_groups(self, kind: bytes, ranges: Sequence[tuple[bytes, bytes]]) -> list[Group]:
        """Groups of buckets by their first and last map key."""
        head, upper, kept = self._map(kind)
        groups = []
        read = pairs_at(self._cursor, kind, ranges, self.size)
        for (first, _), pairs in zip(ranges, read, strict=True):
            group = statusmap.fold_group(kind, head.k, first, pairs, upper)
            kept.groups[first] = group
            groups.append(group)
        return groups

    def read_ahead(self, certificates: Iterable[CertificateId]) -> None:
        """Read at once what evidence of these certificates needs."""
        keys = [certificate.key for certificate in certificates]
        self._steps |= self.histories(keys)
        head, _, kept = self._map(statusmap.CERTIFICATES)
        ranges = {group_range(head.k, key) for key in keys}
        unread = [each for each in ranges if kept.groups.get(each[0]) is None]
        if unread:
            self._read_groups(statusmap.CERTIFICATES, unread)

    def acts(self, key: bytes) -> list[Act]:
        """The published part of a holder's acts."""
        acts = [act for act in acts_of(self._cursor, key) if act[0] < self.size]
        places = [staterow.place(index, position) for index, position, _ in acts]
        of = {place: logged.event.key for place, logged in read_events(self._cursor, places)}
        return [
            Act(index, position, of[place], bound)
            for place, (index, position, bound) in zip(places, acts, strict=True)
        ]

    def identities(self, keys: Sequence[bytes]) -> dict[bytes, CertificateId]:
        """The certificates with these map keys."""
        return read_identities(self._cursor, keys)

    def status_at(self, moment: int) -> int | None:
        """The last published status entry with a ledger time up to `moment`."""
        moment = min(max(moment, -(2**63)), 2**63 - 1)
        self._cursor.execute(sql("read_status_at"), {"moment": moment, "size": self.size})
        row = self._cursor.fetchone()
        return None if row is None else int(row[0])

    def records(self) -> Records:
        """The registry under the checkpoint's status entry."""
        index = self.size - 1
        kept = self._kept.records
        if kept is None or kept[0] != index:
            try:
                leaves = read_registry_snapshot(self._cursor, index)
                if leaves is None:  # restored without snapshots: right when nothing moved since
                    leaves = read_leaves(self._cursor, read_placed(self._cursor))
                records = Records.of(leaves)
            except (
                LedgerError,
                ValueError,
                LookupError,
                TypeError,
            ) as err:
                raise ProofError(
                    "stored-bytes-damaged", f"the registry under status entry {index}"
                ) from err
            kept = self._kept.records = (index, records)
        return kept[1]

    def catalogues(self) -> dict[str, list[dict[str, Any]]]:
        """The published versions of every catalogue by `DEPARTMENT/CODE`, ascending: `version`,
        `root` (hex), `size`, `from` (log index).
        """
        records = self.records()
        return {
            name.removeprefix("catalogue/"): value["versions"]
            for name in records.places
            if name.startswith("catalogue/") and (value := records.value(name)) is not None
        }

    def catalogue_versions(self, name: str) -> list[dict[str, Any]]:
        """The published versions of one catalogue as in `catalogues`, without reading the whole
        registry; none for an unknown one.
        """
        self._cursor.execute(sql("read_registry_record"), {"name": f"catalogue/{name}"})
        row = self._cursor.fetchone()
        versions = [] if row is None else canonical.loads(bytes(row[0]))["value"]["versions"]
        return [item for item in versions if item["from"] < self.size]

    def held(
        self, pseudonyms: Sequence[str], types: Sequence[str], at: int
    ) -> list[tuple[CertificateId, Finding]]:
        """What is bound to a holder's pseudonyms of these types, and how it stood at `at`."""
        return read_held(self._cursor, pseudonyms, types, self.size, at, self.records().doubts)

    def reliance_lines(self) -> list[bytes]:
        """The admitted lines about reliances in the log's order, each as it was admitted."""
        self._cursor.execute(sql("read_reliance_lines"), {"size": self.size})
        found: list[bytes] = []
        index, lines = -1, list[bytes]()
        for entry, position, line_hash in self._cursor.fetchall():
            if entry != index:
                index, lines = entry, self.lines(entry)
            line = lines[position] if position < len(lines) else b""
            if merkle.leaf_hash(line) != bytes(line_hash):
                raise ProofError("stored-bytes-damaged", f"line {position} of entry {index}")
            found.append(line)
        return found

    def catalogue(self, name: str, version: int | None = None) -> tuple[Catalogue, bytes]:
        """A published version of catalogue `DEPARTMENT/CODE`, by default the last, and its file.

        Refused `unknown-catalogue`; ProofError where the file is not the one that was published.
        """
        known = {item["version"]: item for item in self.catalogues().get(name, ())}
        if not known or (version is not None and version not in known):
            raise Refused(
                "unknown-catalogue",
                f"no catalogue {name[:200]!r}"
                + (
                    f" of version {version}: there is {', '.join(map(str, known))}" if known else ""
                ),
            )
        wanted = known[max(known) if version is None else version]
        try:
            data = read_catalogue(self._cursor, f"catalogue/{name}", wanted["version"])
            catalogue = None if data is None else parse_catalogue(data)
        except (Malformed, ValueError) as err:
            raise ProofError("stored-bytes-damaged", f"the file of catalogue {name}") from err
        if data is None or catalogue is None:
            raise Unavailable(
                "catalogue-missing",
                f"the file of {name} version {wanted['version']} is not here: publish it again",
            )
        if catalogue.root.hex() != wanted["root"]:
            raise ProofError("stored-bytes-damaged", f"catalogue {name} has another root")
        return catalogue, data

    # --- what is asked for ---

    def evidence(self, certificate: CertificateId, question: Question) -> Evidence:
        """The evidence for a question about a certificate that `find` gave."""
        return prove(self, certificate, question)

    def holder_evidence(self, pseudonyms: Sequence[str], asked_at: int) -> HolderEvidence:
        """The evidence of everything that is bound to a holder's pseudonyms."""
        return prove_holder(self, pseudonyms, asked_at)

    def record(self, key: bytes) -> bytes:
        """The current record of a certificate, published or not yet; Refused `not-found`."""
        found = self.current([key])
        if key not in found:
            raise Refused("not-found")
        return found[key]

    def status_places(self, certificate: CertificateId) -> list[tuple[int, str, int]]:
        """(version, URI of its status list, index) of each version that has a place, ascending."""
        uris = {row.number: row.uri for row in read_lists(self._cursor)}
        places = read_places(self._cursor, certificate.key)
        return [(version, uris[number], idx) for version, number, idx in places]

    def status_list(self, number: int, form: str) -> bytes | None:
        """A form of a status list (`jwt`, `cwt` or a purpose); None when there is none."""
        return read_list(self._cursor, number, form)

    def zone(self, issuer: str) -> str | None:
        """The time zone of a department, None for an unknown one."""
        value = self.records().value(f"department/{issuer}")
        return None if value is None else str(value["time_zone"])

    def told_history(self, certificate: CertificateId) -> list[HistoryStep]:
        """The published history with the times at which the ledger learned of each event."""
        told = []
        read, lines = (-1, 0), None  # the last chunk: steps are in the log's order
        for step in self.history(certificate.key):
            time = str(parse_entry(self.entry(step.index))["time"])
            number, place = divmod(step.position, CHUNK)
            if lines is None or read != (step.index, number):
                read, lines = (step.index, number), self._chunk(step.index, number)
            line = lines.line(place) or b""
            if merkle.leaf_hash(line) != step.line_hash:
                raise ProofError(
                    "stored-bytes-damaged", f"line {step.position} of entry {step.index}"
                )
            told.append(HistoryStep(step, time, canonical.loads(line).get("recordedtime")))
        return told

    def receipt(self, index: int) -> bytes:
        """The receipt of the bundle at a log index, made again; Refused `not-found` when there is
        no published entry there.
        """
        if index >= self.size:
            raise Refused("not-found", f"entry {index} is not published, the size is {self.size}")
        shown = show_entry(self, index)
        return format_receipt(shown.data, format_proof(index, shown.path, self.checkpoint))

    def index_of_bundle(self, department: str, lane: int, epoch: int, sequence: int) -> int:
        """The log index of the bundle with this lane number; Refused `not-found` otherwise."""
        self._cursor.execute(
            sql("read_note"),
            {"department": department, "lane": lane, "epoch": epoch, "sequence": sequence},
        )
        row = self._cursor.fetchone()
        if row is None:
            raise Refused(
                "not-found", f"no bundle {department}/{lane}/{epoch}/{sequence} is in the ledger"
            )
        return int(row[2])

    def index_of_event(self, event_id: str) -> int:
        """The log index of the bundle that holds an admitted event; Refused `not-found` otherwise.

        Reads the whole table: ids are unique per certificate and have no index.
        """
        for place, _ in self._find_events([event_id]):
            return staterow.placed(place)[0]
        raise Refused("not-found", f"no admitted event {event_id} is in the ledger")

    def doubtful_events(self, department: str) -> list[tuple[CertificateId, Transition]]:
        """The events by doubted keys of a department that nothing has settled yet, later ones of a
        certificate first. Reads all that these keys signed since.
        """
        return [
            (name, history[n])
            for name, history, numbers in self._doubtful(department)
            for n in reversed(numbers)
        ]

    def rewinds(self, department: str) -> list[tuple[CertificateId, Transition, list[Transition]]]:
        """Of each certificate with such events the first of them, and what a rewind to before it
        leaves out that is not doubtful: to be said again. Reads as much.
        """
        found = []
        for name, history, numbers in self._doubtful(department):
            first, doubtful = history[numbers[0]], {history[n].id for n in numbers}
            gone = undone(history, first._replace(corrects=first.id))
            found.append((name, first, [t for t in gone if t.id not in doubtful]))
        return found

    def _doubtful(
        self, department: str
    ) -> Iterator[tuple[CertificateId, list[Transition], list[int]]]:
        """(certificate, its history, numbers of the doubtful events in it by the department)."""
        records = self.records()
        own = {
            key_id: span
            for key_id, span in records.doubts.items()
            if (records.value(f"key/{key_id}") or {}).get("department") == department
        }
        names: set[CertificateId] = set()
        for key_id, span in own.items():
            where = {"begin": span.start, "end": span.stop, "department": department}
            where["key_id"] = key_id
            self._cursor.execute(sql("read_signed_lines"), where)
            for _, _, data in self._cursor.fetchall():
                events = (line for line in unpack_lines(bytes(data)) if not is_reliance(line))
                for line in events:
                    with suppress(LedgerError):  # it was refused
                        event = parse_event(line, b"")
                        names.add(CertificateId(event.type_code, event.issuer, event.number))
        for name in sorted(names, key=_parts):
            steps = [(step.index, step.transition) for step in self.history(name.key)]
            doubtful = find_doubtful(steps, len(steps), records.doubts)
            history = [t for _, t in steps]
            numbers = [n for n, t in enumerate(history) if t.id in doubtful and t.key in own]
            if numbers:
                yield name, history, numbers

    def certificates_of_events(self, event_ids: Sequence[str]) -> dict[str, list[CertificateId]]:
        """The certificates that have published events with these ids. Reads the whole table."""
        found: dict[str, list[CertificateId]] = {}
        for _, event in self._find_events(event_ids):
            name = CertificateId(event.type_code, event.issuer, event.number)
            found.setdefault(event.id, []).append(name)
        return {event_id: sorted(names, key=_parts) for event_id, names in found.items()}

    def _find_events(self, event_ids: Sequence[str]) -> Iterator[tuple[int, Event]]:
        """(place, event) of the published events with these ids."""
        wanted = {bytes.fromhex(event_id[:8]) for event_id in event_ids}
        self._cursor.execute(sql("find_events"), {"begins": list(wanted)})
        limit = staterow.place(self.size, 0)
        places = {
            place
            for (history,) in self._cursor.fetchall()
            for event_id in event_ids
            for place in staterow.alike(bytes(history), event_id)
            if place < limit
        }
        for place, logged in read_events(self._cursor, places):
            if logged.event.id in event_ids:
                yield place, logged.event


def _parts(certificate: CertificateId) -> tuple[str, str, str]:
    return certificate.type_code, certificate.issuer, certificate.number


def neighbours(number: str) -> set[str]:
    """The numbers that differ in one digit or letter, in one too many or a digit too few, or in
    two exchanged.
    """
    found: set[str] = set()
    for n, char in enumerate(number):
        if char in _ALPHABETS[0]:
            found.update(number[:at] + d + number[at:] for d in _ALPHABETS[0] for at in (n, n + 1))
        found.update(number[:n] + other + number[n + 1 :] for other in _ALIKE.get(char, ""))
        head, tail = number[:n], number[n + 1 :]
        for alphabet in _ALPHABETS:
            if char in alphabet:
                found.update(head + other + tail for other in alphabet if other != char)
        found.add(head + tail)
        if tail and tail[0] != char:
            found.add(head + tail[0] + char + tail[1:])
    return found - {number, ""}
