"""fsck, the fold: the log's own order played again by the rules, beside what the tables hold.

What a damaged entry or damaged lines leave unknown is *tainted*: certificates, holders and lanes
that follow from it are passed over instead of being reported as further findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from ledger import admission, canonical, evidence, lifecycle, merkle, staterow, times
from ledger import registry as registries
from ledger.admission import Certificate, DeadLetter, Lane, LoggedBundle, Opened, Recorded, Turn
from ledger.bundle import AHEAD, Bundle, Header, format_record, note_hash, parse_header
from ledger.doubt import Doubts
from ledger.entry import (
    BUNDLE,
    EQUIVOCATION,
    GENESIS,
    REGISTRY,
    STATUS,
    Source,
    blind,
    make_blinding,
    map_heads,
    parse_entry,
)
from ledger.errors import LedgerError, Refused
from ledger.event import CORRECTED, Event, parse_event
from ledger.identity import HEAD
from ledger.lifecycle import Transition
from ledger.linetree import line_tree, split_roots
from ledger.note import Note, parse_note
from ledger.postgres.packing import unpack
from ledger.postgres.scan import Row, Scan
from ledger.registry import BUNDLE_ROLE, Registry, apply_note, key_active
from ledger.reliance import Reliance
from ledger.relying import Step
from ledger.statusmap import MapHead

from .fsck_lines import Beside, Lines, unpack_chunks
from .fsck_map import AnyMap, Map, StoredTiles
from .fsck_reliances import Reliances
from .fsck_report import Merge, Report
from .fsck_states import Holder, Kept, certificate_states, holder_states
from .registry_tree import RegistryTree

_PAIR = 64
LINES_PER_ROW = 128
_LANE_FIELDS = (
    "epoch",
    "producer",
    "next_sequence",
    "previous",
    "signing_time",
    "signed_at",
    "index",
)
_EVENT = 56  # bytes kept of each event: id, line hash, place


class Fold:
    """The ledger's state after each entry, recomputed; it is the `admission.View` of the next."""

    def __init__(
        self,
        scan: Scan,
        report: Report,
        beside: Beside | None = None,
        make_map: Callable[[str], AnyMap] = Map,
        keep: Callable[[bytes, int, int, bytes], None] | None = None,
    ) -> None:
        """`beside`: a process that opens the lines of the next entries, `make_map`: who folds the
        status maps `C` and `H`, `keep`: who is given every admitted transition with its
        certificate's map key and its place.
        """
        self._keep_transition = keep
        self._scan, self._report = scan, report
        self._tree = RegistryTree()
        self.kinds = bytearray()  # first letter of each entry's kind, 0 where unknown
        self.lane_places: dict[tuple[str, int], tuple[str, int] | None] = {}
        # log index, epoch, whether it is open, of each entry that began a lane
        self.lane_beginnings: dict[tuple[str, int], list[tuple[int, int, bool]]] = {}
        self.doubts: list[tuple[int, Doubts]] = []  # from each entry on that changed them
        self.stopped: int | None = None
        self.damaged: set[int] = set()  # entries that could not be read
        self.last = -1  # index of the last entry that is there
        self.last_time = -(2**63)
        self.last_registry = 0
        self.last_status: int | None = None
        secret = scan.row("read_blinding_secret")
        if secret is None:
            report.add("delta", "ledger", "the secret that blinds holders' delta roots is missing")
        self.blinding_secret = b"" if secret is None else bytes(secret[0])
        self._index = 0
        self._certificates = certificate_states()
        self._holders = holder_states()
        # map key of a certificate or holder to the record hash that the log last commits to
        self._tainted: dict[bytes, bytes | None] = {}
        self._lost_lanes: set[tuple[str, int]] = set()
        self._histories: dict[bytes, list[Step]] = {}
        self._named: dict[bytes, list[bytes | None]] = {}  # holders that their events name
        self._snapshots = False
        self._tallies: Counter[str] = Counter()
        self._signers: dict[int, tuple[str, str]] = {
            number: (department, key_id) for department, key_id, number in scan.rows("read_signers")
        }
        self._lines = Lines(self._merge("scan_lines", "lines"), beside)
        self._deltas = self._merge("scan_deltas", "delta")
        self.relying = Reliances(
            scan,
            report,
            self._merge,
            self._count_of,
            lambda key: self._histories.get(key, ()),
        )
        self._notes = self._merge("scan_lane_notes", "lane-note")
        self._equivocations = self._merge("scan_equivocations", "equivocation")
        self._accounted = self._merge("scan_accounted_entries", "accounting")
        self._statuses = self._merge("scan_statuses", "status")
        self._registry_snapshots = self._merge("scan_snapshots", "registry-snapshot")
        self._map_tiles = self._merge("scan_map_tiles", "map-tile")
        self._maps = {kind: make_map(kind) for kind in ("C", "H")}
        self._maps_doubted = False  # a delta list is damaged, or its entry
        self._stored_tiles = StoredTiles()
        row = scan.row("read_published_state")
        self._published_state = -1 if row is None else row[0] - 1

    def _merge(self, name: str, kind: str) -> Merge:
        return Merge(
            self._scan.stream(name),
            lambda row: self._report.add(kind, f"entry {row[0]}", "a row for an entry that is not"),
        )

    @property
    def registry(self) -> Registry:
        """The registry after the last entry."""
        return self._tree.registry

    @property
    def tainted(self) -> Container[bytes]:
        """The map keys of which not everything is known."""
        return self._tainted

    @property
    def lanes(self) -> dict[tuple[str, int], Lane]:
        """Where the lanes stand."""
        return self._tree.lanes

    # --- one entry -------------------------------------------------------------------------------

    def ahead(self, entries: Iterator[Row]) -> Iterator[Row]:
        """The entries to be taken, one after the other; what can be is prepared meanwhile."""
        return self._lines.ahead(entries)

    def take(self, index: int, data: bytes | None, leaf: bytes | None) -> None:
        """Play entry `index`; `leaf` is its true leaf hash, None where nobody knows it."""
        self._index = index
        rows = {
            "lines": self._lines.take(index),
            "delta": self._deltas.take(index),
            "lane-note": self._notes.take(index),
            "equivocation": self._equivocations.take(index),
            "accounting": self._accounted.take(index),
            "status": self._statuses.take(index),
            "registry-snapshot": self._registry_snapshots.take(index),
            "map-tile": self._map_tiles.take(index),
            **self.relying.take(index),
        }
        for _, certificates, holders in rows["delta"]:
            self._maps["C"].take(certificates)
            self._maps["H"].take(holders)
        self._report.count("entries")
        value = self._parse(index, data, leaf)
        kind = None if value is None else value["kind"]
        self.kinds.append(0 if kind is None else ord(kind[0]))
        if value is None:
            self.damaged.add(index)
        if self.stopped is not None:
            return
        if value is None:
            self._pass_over(index, rows)
            return
        self._check_time(index, value)
        takers = {
            GENESIS: self._genesis,
            BUNDLE: self._bundle,
            REGISTRY: self._change,
            STATUS: self._status,
            EQUIVOCATION: self._equivocation,
        }
        used = takers[value["kind"]](index, value, data or b"", rows)
        for name in rows.keys() - used:
            if rows[name]:
                self._report.add(name, f"entry {index}", f"a {name} row beside a {kind} entry")

    def _parse(self, index: int, data: bytes | None, leaf: bytes | None) -> dict[str, Any] | None:
        """The entry's members; None when it is missing or damaged, which is reported."""
        place = f"entry {index}"
        if data is None:
            self._report.add("entry", place, "is missing")
            return None
        try:
            value = parse_entry(data)
        except LedgerError as err:
            self._report.add("entry", place, f"is no entry: {err.message}")
            return None
        if leaf is None or merkle.leaf_hash(data) == leaf:
            return value
        if value["kind"] in (BUNDLE, EQUIVOCATION):
            try:
                self._signer(parse_header_of(value["note"]), value["note"], index)
            except LedgerError as err:
                self._report.add("bundle-note", place, f"its note is damaged: {err.message}")
        return None

    def _check_time(self, index: int, value: Mapping[str, Any]) -> None:
        now = times.parse_moment(value["time"])
        if now < self.last_time:
            self._report.add(
                "time",
                f"entry {index}",
                f"its time {value['time']} goes back by "
                f"{(self.last_time - now) / times.SECOND:.6f} s",
            )
        self.last_time = max(now, self.last_time)

    def _genesis(
        self, index: int, value: Mapping[str, Any], data: bytes, rows: Mapping[str, list[Row]]
    ) -> set[str]:
        if index != 0:
            self._report.add("genesis", f"entry {index}", "a second genesis")
            return set()
        try:
            self._tree.found(
                value["origin"],
                value["checkpoint_vkey"],
                value["operator_vkey"],
                value.get("cosigner_vkey"),
            )
        except LedgerError as err:
            self._report.add("genesis", "entry 0", err.message)
            self.stopped = index
        return set()

    def _pass_over(self, index: int, rows: Mapping[str, list[Row]]) -> None:
        """Go on behind an entry that cannot be read, with what the tables say about it."""
        self._maps_doubted = True
        self._taint(rows)
        for _, department, lane, epoch, sequence, producer, note in rows["lane-note"]:
            place = (department, lane)
            before = self.lanes.get(place)
            if before is not None:
                self.lanes[place] = Lane(
                    epoch, producer, sequence + 1, note, before.signing_time, "", index
                )
                self._lost_lanes.add(place)
        if rows["status"]:
            self.kinds[index] = ord(STATUS[0])
            self.last_status = index
        elif rows["delta"] or rows["lane-note"]:
            self.kinds[index] = ord(BUNDLE[0])
        elif rows["equivocation"]:
            self.kinds[index] = ord(EQUIVOCATION[0])
        elif not self._stand_in(index) and index <= self.last:
            self.stopped = index
            self._report.add(
                "incomplete",
                f"from entry {index}",
                "without this entry the registry and states after it cannot be recomputed",
            )

    def _stand_in(self, index: int) -> bool:
        """Take the registry records that the tables ascribe to an entry that cannot be read."""
        found = [row for row in self._scan.rows("scan_registry") if row[2] == index]
        try:
            values = [canonical.parse(data, 1 << 20) for _, data, _ in found]
            if index == 0:
                by_name = {v["name"]: v["value"] for v in values}
                first, *cosigner = [
                    member["vkey"] for member in by_name["ledger"]["checkpoint_keys"]
                ]
                self._tree.found(
                    by_name["ledger"]["origin"], first, by_name["operator"]["vkey"], *cosigner
                )
                return True
            for value in values:
                department = value["name"].removeprefix("department/")
                was = self.registry.lanes(department)
                self._put(index, value)
                now = self.registry.lanes(department)
                if now != was:
                    self._begin_lanes(department, was, now, index, bytes(32))
                    self._lost_lanes |= {place for place in self.lanes if place[0] == department}
        except (LedgerError, KeyError, TypeError):
            return False
        if values:
            self.last_registry = index
        return bool(values)

    def _put(self, index: int, record: dict[str, Any]) -> None:
        self._tree.put(record)
        doubted = registries.doubts_of([record])
        if doubted:
            self.doubts.append((index, {**(self.doubts[-1][1] if self.doubts else {}), **doubted}))

    def _begin_lanes(self, department: str, was: int, now: int, index: int, leaf: bytes) -> None:
        self._tree.begin_lanes(department, was, now, index, leaf)
        for (owner, number), lane in self.lanes.items():
            if owner == department:
                told = (index, lane.epoch, number < now)
                self.lane_beginnings.setdefault((owner, number), []).append(told)

    def _taint(self, rows: Mapping[str, list[Row]]) -> None:
        for line in self._readable(rows["lines"]):
            try:
                event = parse_event(line, b"")
            except LedgerError:
                continue
            self._tainted.setdefault(event.key, None)
            if event.holder_key is not None:
                self._tainted.setdefault(event.holder_key, None)
        for _, certificates, holders in rows["delta"]:
            self._tainted.update(_pairs(certificates))
            self._tainted.update(_pairs(holders))
        self.relying.lose_rows(rows)

    def _readable(self, rows: Sequence[Row]) -> list[bytes]:
        """The lines of a damaged bundle, where they unpack."""
        try:
            return unpack_chunks([(row[1], row[2]) for row in rows])
        except ValueError:
            return []

    # --- bundles ---------------------------------------------------------------------------------

    def _bundle(
        self, index: int, value: Mapping[str, Any], data: bytes, rows: Mapping[str, list[Row]]
    ) -> set[str]:
        place = f"entry {index}"
        note = value["note"].encode()
        used = {"lines", "delta", "lane-note", "accounting"}
        used |= self.relying.merges.keys()
        self._check_accounted(place, value["source"], "logged", rows["accounting"])
        try:
            parsed = parse_note(note)
            header = parse_header(parsed.text)
        except LedgerError as err:
            self._report.add("bundle-note", place, err.message)
            self._maps_doubted = True
            self._pass_over(index, rows)
            return used
        text_hash = note_hash(parsed.text)
        self._report.count("bundles")
        self._report.count("events", header.count)
        for code, runs in value["outcome"].items():
            self._tallies[code] += sum(runs[1::2])
        lane = (header.department, header.lane)
        self._find_lane(lane, header)
        self._check_lane_note(place, header, text_hash, rows["lane-note"])
        source = Source(**value["source"])
        came_from = (source.topic_id, source.partition)
        if self.lane_places.setdefault(lane, came_from) != came_from:
            self.lane_places[lane] = None
        opened = self._open(index, header, parsed, note, rows)
        if opened is None:
            self._taint(rows)
            self._move_lane(index, value, header, note)
        if opened is None or not self._judge(index, value, data, opened, rows):
            self._check_deltas(place, value, text_hash, rows["delta"])
        return used

    def _open(
        self,
        index: int,
        header: Header,
        note: Note,
        note_bytes: bytes,
        rows: Mapping[str, list[Row]],
    ) -> Opened | None:
        """The bundle, None when its lines are not those of its note, or it is no bundle by the
        rules, which is reported.
        """
        place = f"entry {index}"
        events = self._lines.open(index, note_bytes, rows["lines"])
        opened: Opened | DeadLetter
        if events is None:  # the slow way says why
            lines = self._read_lines(place, header, rows)
            if lines is None:
                return None
            opened = admission.open_record(format_record(note_bytes, lines), self.registry)
        else:
            bundle = Bundle(header, note, note_bytes, note_hash(note.text), (), ())
            try:
                key = admission.signing_key(header, note, self.registry)
                opened = Opened(bundle, key, events)
            except LedgerError as err:
                opened = DeadLetter(err.code, err.message, bundle)
        if isinstance(opened, DeadLetter):
            self._report.add("signature", place, f"by the rules a dead letter: {opened.message}")
            return None
        return opened

    def _find_lane(self, lane: tuple[str, int], header: Header) -> None:
        """Where a damaged entry left the lane unknown, the next note on it is believed."""
        known = self.lanes.get(lane)
        if lane in self._lost_lanes and known is not None:
            self._lost_lanes.discard(lane)
            self.lanes[lane] = replace(
                known,
                epoch=header.epoch,
                producer=header.producer,
                next_sequence=header.sequence,
                previous=header.previous,
            )

    def _read_lines(
        self, place: str, header: Header, rows: Mapping[str, list[Row]]
    ) -> list[bytes] | None:
        """The bundle's lines, None when they are not those of its note, which is reported."""
        lines: list[bytes] = []
        bad: list[str] = []
        try:
            lines = unpack_chunks([(row[1], row[2]) for row in rows["lines"]])
        except ValueError as err:
            bad.append(str(err))
        hashes = [merkle.leaf_hash(line) for line in lines]
        if not bad and merkle.root(hashes) == header.root and len(lines) == header.count:
            return lines
        if not bad and len(lines) != header.count:
            bad.append(f"{len(lines)} lines are stored, {header.count} were signed")
        if not bad:
            bad.append("the event lines do not hash to the root in the bundle's note")
        self._report.add("lines", place, "; ".join(bad))
        return None

    def _move_lane(self, index: int, value: Mapping[str, Any], header: Header, note: bytes) -> None:
        """Move the lane behind a bundle whose events cannot be judged."""
        lane = (header.department, header.lane)
        before = self.lanes.get(lane)
        if before is None:
            return
        signed = times.parse_moment(header.signed_at)
        in_time = before.signing_time <= signed <= times.parse_moment(value["time"]) + AHEAD
        moved = Lane(
            header.epoch,
            header.producer,
            header.sequence + 1,
            note_hash(parse_note(note).text),
            signed if in_time else before.signing_time,
            header.signed_at if in_time else before.signed_at,
            index,
        )
        self._tree.move_lane(lane, moved)

    def _judge(
        self,
        index: int,
        value: Mapping[str, Any],
        data: bytes,
        opened: Opened,
        rows: Mapping[str, list[Row]],
    ) -> bool:
        """Compare a bundle with what the rules give: whether entry and delta lists are just that
        (then the lists are the ones committed to).
        """
        place = f"entry {index}"
        recorded = _codes(value["outcome"], len(opened.events))
        opened, passed = self._without_tainted(opened, recorded)
        turn = Turn(self, index, times.parse_moment(value["time"]))
        done = turn.take(Source(**value["source"]), opened)
        if done.outcome != admission.LOGGED or not turn.logged:
            kind = {
                admission.REPEAT: "doubled",
                admission.EQUIVOCATION: "doubled",
                admission.DEAD_LETTER: "signature",
            }.get(done.outcome, "sequence")
            said = done.message or (f"the same note is entry {done.index}" if done.index else "")
            self._report.add(kind, place, f"by the rules {done.code or done.outcome}: {said}")
            self._taint(rows)
            header = opened.bundle.header
            self._move_lane(index, value, header, opened.bundle.note_bytes)
            return False
        logged = turn.logged[0]
        wrong = [p for p, (a, b) in enumerate(zip(logged.codes, recorded, strict=True)) if a != b]
        for position in wrong:
            self._report.add(
                "outcome",
                f"entry {index} event {position}",
                f"recorded as {recorded[position]}, the rules give {logged.codes[position]}",
            )
            item = opened.events[position]
            if isinstance(item, Event):
                self._tainted.setdefault(item.key, None)
            elif isinstance(item, Reliance):
                self.relying.lose(item.key)
        if not passed and not wrong and logged.entry != data:
            self._name_difference(place, value, logged)
        if self._tainted:
            self._taint_deltas(logged, rows["delta"], bool(passed or wrong))
        self._check_beside(place, opened, rows["lines"])
        self.relying.compare(logged, turn.relying, rows)
        self._keep(turn, logged)
        lists = (
            b"".join(map(b"".join, logged.certificates)),
            b"".join(map(b"".join, logged.holders)),
        )
        return logged.entry == data and rows["delta"] == [(index, *lists)]

    def _without_tainted(self, opened: Opened, recorded: Sequence[str]) -> tuple[Opened, int]:
        """The bundle with events on tainted certificates replaced by their recorded codes."""
        counts = Counter(item.key for item in opened.events if isinstance(item, Event))
        for item in opened.events:
            if isinstance(item, Event):
                is_long = self._count_of(item.key) + counts[item.key] > lifecycle.MAX_HISTORY
                is_known = item.key in self._tainted or item.key in self._histories
                if (is_long or item.kind == CORRECTED) and not is_known:
                    self._read_history(item.key)
            elif isinstance(item, Reliance):
                self._read_relied(item)
        items = tuple(
            code if self._is_unknown(item) else item
            for item, code in zip(opened.events, recorded, strict=True)
        )
        passed = sum(a is not b for a, b in zip(items, opened.events, strict=True))
        self._report.count("events not judged", passed) if passed else None
        return replace(opened, events=items), passed

    def _is_unknown(self, item: Event | Reliance | str) -> bool:
        if isinstance(item, Reliance):
            return self.relying.is_lost(item)
        return isinstance(item, Event) and item.key in self._tainted

    def _count_of(self, key: bytes) -> int:
        kept = self._certificates.get(key)
        return 0 if kept is None or kept.key != key else kept.standing.count

    def _read_relied(self, item: Reliance) -> None:
        """Read the histories of what a line relies on; one that nobody knows loses the reliance."""
        for key, _, _ in item.certificates:
            if key not in self._histories and key not in self._tainted:
                self._read_history(key)
            if key in self._tainted:
                self.relying.lose(item.key)

    def _read_history(self, key: bytes) -> None:
        """Read a history for a correction or a reliance; its links must lead to the fold's own."""
        kept = self._certificates.get(key)
        if kept is None:
            return
        found: list[evidence.Step] = []
        named: list[bytes | None] = []
        try:
            places = [
                int.from_bytes(kept.events[at + 48 : at + _EVENT], "big")
                for at in range(0, len(kept.events), _EVENT)
            ]
            found, named = self._read_steps(places)
        except (LedgerError, ValueError, LookupError):
            pass
        if found and staterow.link_over(key, found) == kept.link:
            self._named[key] = named
            self._histories[key] = [(step.index, step.position, step.transition) for step in found]
        else:
            self._tainted[key] = None  # the damaged line was reported at its entry

    def _read_steps(self, places: Sequence[int]) -> tuple[list[evidence.Step], list[bytes | None]]:
        """The steps whose events' lines are at these places, and which holder each names."""
        found, named = [], []
        for place in places:
            line, signer = self._read_line(*staterow.placed(place))
            event = parse_event(line, merkle.leaf_hash(line))
            department, key_id = self._signers[signer]
            found.append(
                (place, event.line_hash, lifecycle.make_transition(event, department, key_id, 0))
            )
            named.append(event.holder_key)
        return staterow.steps(found), named

    def _read_line(self, index: int, position: int) -> tuple[bytes, int]:
        """(event line, number of its signer); ValueError or LookupError where it is not there."""
        row = self._scan.row("scan_chunk", index=index, chunk=position // LINES_PER_ROW)
        if row is None:
            raise LookupError(f"entry {index} lacks line {position}")
        return unpack_chunks([(0, row[0])])[position % LINES_PER_ROW], row[1]

    def _keep(self, turn: Turn, logged: LoggedBundle) -> None:
        events: dict[bytes, bytes] = {}
        transitions = {key: iter(each) for key, each in turn.transitions.items()}
        for position, event in logged.admitted():
            key = event.key
            if self._keep_transition is not None:
                data = lifecycle.format_transition(next(transitions[key]))
                self._keep_transition(key, logged.index, position, data)
            events[key] = (
                events.get(key, b"")
                + bytes.fromhex(event.id)
                + event.line_hash
                + staterow.place(logged.index, position).to_bytes(8, "big")
            )
        for key, record in logged.certificates:
            item, after = turn.certificates[key]
            before = self._certificates.get(key)
            if before is None:
                names = (item.type_code, item.issuer)
                number_hash = staterow.number_hash(item.number)
                earlier = b""
            else:
                names, number_hash, earlier = before.names, before.number_hash, before.events
            self._certificates.put(
                key,
                Kept(
                    key,
                    after.standing,
                    after.link,
                    after.holder,
                    earlier + events[key],
                    record,
                    names,
                    number_hash,
                    staterow.pack_kept(after.kept, after.standing),
                ),
            )
        digests: dict[bytes, bytes] = {}
        for act in logged.acts:
            if act.holder not in digests:
                known = self._holders.get(act.holder)
                digests[act.holder] = b"" if known is None else known.digest
            stored = staterow.place(logged.index, act.position) << 1 | act.bound
            digests[act.holder] = _digest(digests[act.holder], stored.to_bytes(8, "big"))
        for key, (acts, link) in turn.holders.items():
            self._holders.put(key, Holder(key, acts, link, digests[key]))
        for place, lane in turn.lanes.items():
            self._tree.move_lane(place, lane)
        self._histories.clear()
        self._named.clear()

    def _name_difference(self, place: str, value: Mapping[str, Any], logged: LoggedBundle) -> None:
        ours = parse_entry(logged.entry)
        for member in sorted(ours.keys() | value.keys()):
            if member == "holders" and any(key in self._tainted for key, _ in logged.holders):
                continue  # a holder that was bound before in what could not be read
            if ours.get(member) != value.get(member):
                kind = "delta-root" if member in ("certificates", "holders") else "entry-form"
                self._report.add(kind, place, f"{member} is not what the rules give")

    def _check_deltas(
        self, place: str, value: Mapping[str, Any], note: bytes, rows: Sequence[Row]
    ) -> None:
        if not rows:
            self._report.add("delta", place, "its delta lists are missing")
            self._maps_doubted = True
            return
        for name, data in zip(("certificates", "holders"), rows[0][1:], strict=True):
            root = merkle.root(
                [merkle.leaf_hash(data[i : i + _PAIR]) for i in range(0, len(data), _PAIR)]
            )
            if name == "holders":
                root = blind(make_blinding(self.blinding_secret, note), root)
            if root.hex() != value[name]:
                self._report.add("delta", place, f"the {name} list is not the one committed to")
                self._maps_doubted = True

    def _taint_deltas(self, logged: LoggedBundle, rows: Sequence[Row], partly: bool) -> None:
        """Remember what the log says of tainted keys; a partly judged bundle may taint more."""
        ours = {**dict(logged.certificates), **dict(logged.holders)}
        for row in rows:
            for key, record in (*_pairs(row[1]), *_pairs(row[2])):
                if key in self._tainted or (partly and ours.get(key) != record):
                    self._tainted[key] = record

    def _check_beside(self, place: str, opened: Opened, rows: Sequence[Row]) -> None:
        header = opened.bundle.header
        signer = (header.department, opened.key.key_id)
        if any(self._signers.get(row[3]) != signer for row in rows):
            self._report.add("lines", place, "they are ascribed to another signer")
        roots = b"".join(row[4] for row in rows if row[4] is not None)
        if roots and not line_tree(split_roots(roots)).is_over(header.count, header.root):
            self._report.add("lines", place, "the roots over their groups are not theirs")

    def _check_accounted(
        self, place: str, source: Mapping[str, Any], outcome: str, rows: Sequence[Row]
    ) -> None:
        wanted = (source["topic_id"], source["partition"], source["offset"], outcome)
        where = "/".join(map(str, wanted[:3]))
        found = [row[1:] for row in rows]
        if wanted not in found:
            self._report.add(
                "accounting", place, f"its source {where} is not accounted as {outcome}"
            )
        for row in found:
            if row != wanted:
                self._report.add(
                    "accounting",
                    "/".join(map(str, row[:3])),
                    f"{row[3]} as entry {self._index}, whose source is {where}",
                )

    def _check_lane_note(
        self, place: str, header: Header, text_hash: bytes, rows: Sequence[Row]
    ) -> None:
        expected = (
            header.department,
            header.lane,
            header.epoch,
            header.sequence,
            header.producer,
            text_hash,
        )
        if [row[1:] for row in rows] != [expected]:
            self._report.add(
                "lane-note",
                place,
                f"{len(rows)} rows for lane {header.department}/{header.lane} epoch {header.epoch} "
                f"number {header.sequence}, or not with this note",
            )

    # --- other entries ---------------------------------------------------------------------------

    def _change(
        self, index: int, value: Mapping[str, Any], data: bytes, rows: Mapping[str, list[Row]]
    ) -> set[str]:
        place = f"entry {index}"
        self._report.count("registry changes")
        try:
            now = times.parse_moment(value["time"])
            change = apply_note(self.registry, value["note"].encode(), index, now)
        except LedgerError as err:
            kind = "signature" if err.code == "registry-signature" else "registry-change"
            self._report.add(kind, place, f"{err.code}: {err.message}")
            if not self._stand_in(index):
                self.last_registry = index
            return set()
        if change is None:
            self._report.add("doubled", place, "this registry change was in force already")
            return set()
        department = change.record["name"].removeprefix("department/")
        was = self.registry.lanes(department)
        for record in change.records:
            self._put(index, record)
        if change.opens_lanes:
            self._begin_lanes(department, was, change.opens_lanes, index, merkle.leaf_hash(data))
        self.last_registry = index
        return set()

    def _status(
        self, index: int, value: Mapping[str, Any], data: bytes, rows: Mapping[str, list[Row]]
    ) -> set[str]:
        place = f"entry {index}"
        self._report.count("status entries")
        self.last_status = index
        if value["reflects"] != index:
            self._report.add("status", place, f"reflects {value['reflects']}, not {index}")
        heads = map_heads(value)
        expected = (index, times.parse_moment(value["time"]), heads is not None)
        if rows["status"] != [expected]:
            self._report.add("status", place, "its row is missing, says another time or other maps")
        if not self._lost_lanes and self._tree.root().hex() != value["registry_root"]:
            self._report.add(
                "registry-root", place, "is not the root of the registry that the log gives"
            )
        self._check_snapshot(place, value["registry_root"], rows["registry-snapshot"])
        if heads is None:
            return {"status", "registry-snapshot"}
        self._check_maps(index, {kind.decode(): head for kind, head in heads.items()})
        self._check_map_tiles(index, rows["map-tile"])
        return {"status", "registry-snapshot", "map-tile"}

    def _check_maps(self, index: int, heads: Mapping[str, MapHead]) -> None:
        self._report.count("status maps")
        wrong = [
            f"{kind}: k = {head.k} and its root; the log gives k = {self._maps[kind].k}, another"
            for kind, head in heads.items()
            if (self._maps[kind].root(), self._maps[kind].k) != (head.root, head.k)
        ]
        if not wrong:
            self._maps_doubted = False
        elif not self._maps_doubted:
            self._report.add("status-map", f"entry {index}", "; ".join(wrong))
        else:
            self._report.add(
                "incomplete", "status maps", "not compared because of what is said above"
            )

    def _check_map_tiles(self, index: int, rows: Sequence[Row]) -> None:
        """The versions stored with a status entry, and all that readers find by the newest one."""
        for _, kind, level, place, data in rows:
            self._report.count("map tiles")
            self._stored_tiles.take(kind, level, place, data)
            if not self._maps_doubted and data != self._maps[kind].tile(level, place):
                self._report.add(
                    "map-tile",
                    f"map tile {kind}/{level}/{place} as of entry {index}",
                    "holds other hashes than the map",
                )
        if index == self._published_state and not self._maps_doubted:
            for kind, level, place in self._stored_tiles.missing(self._maps):
                self._report.add(
                    "map-tile",
                    f"map tile {kind}/{level}/{place} as of entry {index}",
                    "is missing, or an older version is in its place",
                )

    def _check_snapshot(self, place: str, root: str, rows: Sequence[Row]) -> None:
        if not rows:
            if self._snapshots:  # only the oldest may be gone
                self._report.add("registry-snapshot", place, "is missing")
            return
        self._snapshots = True
        self._report.count("registry snapshots")
        try:
            found = unpack(rows[0][1]).split(b"\n")
        except ValueError as err:
            self._report.add("registry-snapshot", place, f"does not unpack ({err})")
            return
        if merkle.root([merkle.leaf_hash(leaf) for leaf in found]).hex() != root:
            self._report.add("registry-snapshot", place, "its leaves have another root")

    def _equivocation(
        self, index: int, value: Mapping[str, Any], data: bytes, rows: Mapping[str, list[Row]]
    ) -> set[str]:
        place = f"entry {index}"
        self._report.count("equivocations")
        self._check_accounted(place, value["source"], EQUIVOCATION, rows["accounting"])
        try:
            header = parse_header_of(value["note"])
            self._signer(header, value["note"], index)
            text_hash = note_hash(parse_note(value["note"].encode()).text)
            first = self.note_at(header.department, header.lane, header.epoch, header.sequence)
            if first is None or first.index != value["conflicts_with"]:
                raise Refused("equivocation", "it does not conflict with the entry that it names")
            if first.producer != header.producer or first.note_hash == text_hash:
                raise Refused("equivocation", "its note is no second one by the same producer")
            if [row[1:] for row in rows["equivocation"]] != [
                (header.department, header.lane, text_hash)
            ]:
                self._report.add("equivocation", place, "its row is missing or names another note")
        except LedgerError as err:
            self._report.add("signature", place, err.message)
        return {"equivocation", "accounting"}

    def _signer(self, header: Header, note_text: str, index: int) -> None:
        """None when a bundle note is signed by a key of its department active at `index`."""
        note = parse_note(note_text.encode())
        for key, value in self.registry.keys(header.department, BUNDLE_ROLE):
            if key_active(value, index) and note.by(key):
                note.check_signed_by(key)
                return
        raise Refused("unknown-key", f"no key of {header.department} active at {index} signed it")

    # --- the view that the next turn sees --------------------------------------------------------

    def lane(self, department: str, lane: int) -> Lane:
        return self.lanes[department, lane]

    def note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None:
        row = self._scan.row(
            "scan_note",
            department=department,
            lane=lane,
            epoch=epoch,
            sequence=seq,
            before=self._index,
        )
        return None if row is None else Recorded(row[0], row[1], row[2])

    def is_note_of_epoch(self, department: str, lane: int, epoch: int, note: bytes) -> bool:
        return self._scan.row(
            "scan_is_note",
            department=department,
            lane=lane,
            epoch=epoch,
            note_hash=note,
            before=self._index,
        ) == (True,)

    def is_equivocation_logged(self, department: str, lane: int, note: bytes) -> bool:
        return True  # a bundle that turns out to be one is a finding and not an entry

    def certificate(self, key: bytes) -> Certificate | None:
        kept = self._certificates.get(key)
        if kept is None:
            return None
        if kept.key != key:
            raise Refused("key-taken")
        data = kept.events
        return Certificate(
            kept.standing,
            kept.link,
            kept.holder,
            {
                data[at : at + 16].hex(): data[at + 16 : at + 48]
                for at in range(0, len(data), _EVENT)
            },
            staterow.unpack_kept(kept.deciders, kept.standing, _items(data)),
        )

    def history(self, key: bytes) -> Sequence[Transition]:
        return [t for _, _, t in self._histories.get(key, ())]

    def named(self, key: bytes) -> Sequence[bytes | None]:
        return self._named.get(key, ())

    def holder(self, key: bytes) -> tuple[int, bytes]:
        known = self._holders.get(key)
        if known is None:
            return 0, b""
        if known.key != key:
            raise Refused("key-taken")
        return known.acts, known.link

    # --- what is left at the end -----------------------------------------------------------------

    def finish(self) -> None:
        """Compare the tables of current state with the fold's."""
        for merge in (
            self._lines,
            self._deltas,
            self._notes,
            self._equivocations,
            self._accounted,
            self._statuses,
            self._registry_snapshots,
            self._map_tiles,
            self.relying,
        ):
            merge.rest()
        if self._tainted:
            self._report.add(
                "incomplete",
                f"{len(self._tainted)} certificates or holders",
                "what they are could not be recomputed because of what is said above",
            )
        if self.last_status is not None and not self._snapshots:
            self._report.add("registry-snapshot", f"entry {self.last_status}", "is missing")
        if self.stopped is None:
            self._check_tallies()
            self._check_certificates()
            self._check_holders()
            self._check_lanes()
            self._check_records()
            self.relying.finish()

    def _check_tallies(self) -> None:
        if self.damaged or self._tainted:
            return
        self._tallies["certificates"] = len(self._certificates)
        stored = Counter({name: count for name, count in self._scan.rows("scan_tallies")})
        for name in sorted(self._tallies.keys() | stored.keys()):
            if stored[name] != self._tallies[name]:
                self._report.add(
                    "tally", f"tally {name}", f"{stored[name]}, the log gives {self._tallies[name]}"
                )

    def _check_certificates(self) -> None:
        kinds = {number: (kind, by) for kind, by, number in self._scan.rows("read_kinds")}
        total = len(self._certificates)
        for key, kind, number_hash, state, history in self._scan.stream("scan_certificates"):
            self._report.count("certificates")
            if len(self._certificates) % 1024 == 0:
                self._report.progress("certificates", total - len(self._certificates), total)
            kept = self._certificates.get(key)
            if key in self._tainted:
                self._certificates.drop(key)
                if self._tainted[key] not in (None, _record_hash(state)):
                    self._report.add(
                        "certificate", self._name(key), "is not what the log last commits to"
                    )
                continue
            if kept is None or kept.key != key:
                self._report.add("certificate", self._name(key), "the log knows no such one")
                continue
            wrong = []
            if (kinds.get(kind), number_hash) != (kept.names, kept.number_hash):
                wrong.append("it would not be found by its number")
            items = _items(kept.events)
            if state not in _states(kept, items):
                wrong.append(_difference(state, kept))
            for said in wrong:
                self._report.add("certificate", self._name(key), said)
            self._report.count("transitions", len(items) // staterow.ITEM)
            if history != items:
                said = "the places of its events are not the log's"
                self._report.add("history", self._name(key), said)
            self._certificates.drop(key)
        for kept in self._certificates:
            if kept.key not in self._tainted:
                self._report.add("certificate", self._name(kept.key), "its state is missing")

    def _name(self, key: bytes) -> str:
        """What a finding calls a certificate: by its number, where its first line can be read."""
        kept = self._certificates.get(key)
        if kept is not None and kept.key == key:
            try:
                index, position = staterow.placed(int.from_bytes(kept.events[48:_EVENT], "big"))
                line, _ = self._read_line(index, position)
                number = parse_event(line, b"").number
                return f"certificate {kept.names[0]}/{kept.names[1]}/{number}"
            except (LedgerError, ValueError, LookupError):
                pass
        return f"certificate {key.hex()}"

    def _check_holders(self) -> None:
        older = Merge(
            self._scan.stream("scan_holder_acts"),
            lambda row: self._report.add(
                "holder-act", f"holder {row[0].hex()}…", "acts of a holder that is not"
            ),
        )
        for key, acts, link, recent in self._scan.stream("scan_holders"):
            self._report.count("holders")
            self._report.count("acts of holders", acts)
            place = f"holder {key.hex()}"
            rows = older.take(key[:HEAD])
            if key in self._tainted:
                if self._tainted[key] not in (None, lifecycle.holder_record_hash(acts, link)):
                    self._report.add("holder", place, "is not what the log last commits to")
                continue
            kept = self._holders.get(key)
            if kept is None or kept.key != key:
                self._report.add("holder", place, "the log knows no such holder")
                continue
            self._holders.drop(key)
            if (kept.acts, kept.link) != (acts, link):
                said = f"{acts} acts or their link are not what the log gives ({kept.acts} acts)"
                self._report.add("holder", place, said)
            digest, ordinals = b"", []
            for _, ordinal, data in (*rows, (key, acts // 64 * 64, recent)):
                ordinals.append(ordinal)
                for at in range(0, len(data), 8):
                    digest = _digest(digest, data[at : at + 8])
            if digest != kept.digest or ordinals != list(range(0, acts // 64 * 64 + 1, 64)):
                self._report.add("holder-act", place, "its acts are not those of the log")
        older.rest()
        for kept in self._holders:
            if kept.key not in self._tainted:
                self._report.add("holder", f"holder {kept.key.hex()}", "its record is missing")

    def _check_lanes(self) -> None:
        lanes = dict(self.lanes)
        for department, number, *rest in self._scan.rows("scan_lanes"):
            self._report.count("lanes")
            place = f"lane {department}/{number}"
            ours = lanes.pop((department, number), None)
            if ours is None:
                self._report.add("lane", place, "the log knows no such lane")
            elif (department, number) not in self._lost_lanes:
                wrong = [
                    name
                    for name, value in zip(_LANE_FIELDS, rest, strict=True)
                    if getattr(ours, name) != value
                ]
                if wrong:
                    self._report.add("lane", place, f"{', '.join(wrong)}: not what the log gives")
        for department, number in lanes:
            self._report.add("lane", f"lane {department}/{number}", "its row is missing")

    def _check_records(self) -> None:
        records = dict(self.registry.records)
        for name, data, index in self._scan.rows("scan_registry"):
            self._report.count("registry records")
            ours = records.pop(name, None)
            place = f"registry record {name}"
            if ours is None:
                self._report.add("registry-record", place, "the log knows no such record")
            elif registries.format_record(ours) != data:
                self._report.add("registry-record", place, "is not what the log gives")
            elif ours["since"] != index:
                self._report.add("registry-record", place, f"is of entry {ours['since']}")
        for name in records:
            self._report.add("registry-record", f"registry record {name}", "is missing")


def _record_hash(state: bytes) -> bytes | None:
    """The record hash of a packed state, None where it is none."""
    try:
        standing, link, _ = staterow.unpack_state(state)
    except LedgerError:
        return None
    return lifecycle.record_hash(standing.record(link))


def _items(events: bytes) -> bytes:
    """The history that a certificate's row has of these events."""
    return b"".join(
        events[at + 48 : at + _EVENT] + events[at : at + 4] for at in range(0, len(events), _EVENT)
    )


def _holder_head(kept: Kept) -> bytes:
    return staterow.NO_HOLDER if kept.holder is None else kept.holder[:HEAD]


def _states(kept: Kept, items: bytes) -> Iterator[bytes]:
    """What a row may say; those that earlier versions wrote lack what decides, for ever (all of
    them, or where more than three acts did), or leave nothing out.
    """
    said = (kept.standing, kept.link, _holder_head(kept))
    deciders = staterow.unpack_kept(kept.deciders, kept.standing, items)
    yield staterow.pack_row(kept.key, *said, deciders, items)
    yield staterow.pack_row(kept.key, *said, (), items)
    yield staterow.pack_whole_row(kept.key, *said, deciders, items)
    yield staterow.pack_state(*said)


def _difference(state: bytes, kept: Kept) -> str:
    try:
        standing, link, held = staterow.unpack_state(state)
    except LedgerError as err:
        return err.message
    if (standing, link) == (kept.standing, kept.link):
        if held != _holder_head(kept):
            return "its holder is not what the log gives"
        return "what decides is not what the log gives, or its checksum is wrong"
    return "its state is not what the log gives"


def _digest(before: bytes, act: bytes) -> bytes:
    """A hash over all acts of a holder so far."""
    return sha256(before + act).digest()


def parse_header_of(note: str) -> Header:
    """The header in a bundle note as an entry holds it."""
    return parse_header(parse_note(note.encode()).text)


def _codes(outcome: Mapping[str, Sequence[int]], count: int) -> list[str]:
    """The recorded code of each event."""
    codes = [""] * count
    for code, runs in outcome.items():
        for start, length in zip(runs[::2], runs[1::2], strict=True):
            codes[start : start + length] = [code] * length
    return codes[:count] + [""] * (count - len(codes))


def _pairs(deltas: bytes) -> list[tuple[bytes, bytes]]:
    """(map key, record hash) of a stored delta list."""
    return [(deltas[i : i + 32], deltas[i + 32 : i + _PAIR]) for i in range(0, len(deltas), _PAIR)]
