"""Admission: which records are logged, which of their events are admitted, and why not the others.

`open_record` is step 4 of the way of one event (no shared state, runs in parallel); `Turn` is
step 5 (under the allocation row, one record after the other). Both are pure: the registry, the
states and the time are handed in, what has to be stored comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from . import canonical, deciders, doubt, identity, lifecycle, merkle, times
from . import event as events
from . import reliance as reliances
from .bundle import AHEAD, MAX_EPOCH, Bundle, Header, bundle_key_name, parse_record
from .deciders import Kept
from .entry import (
    ADMITTED,
    Source,
    blind,
    format_bundle,
    format_equivocation,
    make_blinding,
    run_lengths,
)
from .errors import CODES, LedgerError, Malformed, ProofError, Refused
from .event import Event
from .lifecycle import Standing, Transition
from .note import Note, VerifierKey
from .registry import BUNDLE_ROLE, Registry, granted, key_active
from .reliance import Reliance
from .relying import Relying, RelyingView

LOGGED, REPEAT, OUT_OF_SEQUENCE, FENCED, EQUIVOCATION, DEAD_LETTER, SKIPPED, LOST = (
    "logged",
    "repeat",
    "out-of-sequence",
    "fenced",
    "equivocation",
    "dead-letter",
    "skipped",
    "lost",
)

_NOTHING = Standing()
_make_tuple = tuple.__new__  # what a named tuple's own constructor ends in

# Transitions that the corrections of one bundle may fold, all together: under a second of the turn.
MAX_FOLDED = 32_768


Line = Event | Reliance | str
"""What a line says; the code of its refusal where it says nothing."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A record whose lines, note and signature are right; events are parsed or carry their code."""

    bundle: Bundle
    key: VerifierKey
    events: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can never become an entry, with the code and sentence that say why."""

    code: str
    message: str
    bundle: Bundle | None = None  # where the record was one; nothing about it is proven


@dataclass(frozen=True, slots=True)
class Skipped:
    """An offset that nobody is given a record for: a transaction's marker, or what was aborted."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An offset that Kafka no longer holds, as the operator declared in the entry at `index`."""

    index: int


Parse = Callable[[Bundle], tuple[Line, ...]]
"""Opens a bundle's lines: `parse_lines`, or a faster one that says the same."""


def parse_lines(bundle: Bundle) -> tuple[Line, ...]:
    """What a bundle's lines say."""
    return tuple(map(parse_line, bundle.lines, bundle.line_hashes))


def parse_line(
    line: bytes,
    line_hash: bytes,
    load: Callable[[bytes], Any] = canonical.loads,
    dump: canonical.Dump = canonical.encode,
) -> Line:
    """What one line says; `load` and `dump` are those of `canonical.parse_typed`."""
    try:
        if reliances.is_reliance(line):
            return reliances.parse_reliance(line, line_hash, load, dump)
        return events.parse_event(line, line_hash, load, dump)
    except LedgerError as err:
        return err.code


def open_record(
    value: bytes | None,
    registry: Registry,
    parse: Parse = parse_lines,
) -> Opened | DeadLetter:
    """Everything about a record that needs no shared state: form, root, signature, event lines.

    Never raises on any bytes. The key's validity is judged again in the turn.
    """
    opened = open_bundle(value, registry)
    return opened if isinstance(opened, DeadLetter) else Opened(*opened, parse(opened[0]))


def open_bundle(value: bytes | None, registry: Registry) -> tuple[Bundle, VerifierKey] | DeadLetter:
    """A record's bundle, whose root and signature are right, and the key that signed it."""
    bundle = None
    try:
        if value is None:
            raise Malformed(
                "malformed-record",
                "a record without a value, or of a batch that is compressed by no codec of Kafka's "
                "or to burst beyond 64 MiB",
            )
        bundle = parse_record(value)
        return bundle, signing_key(bundle.header, bundle.note, registry)
    except LedgerError as err:
        return DeadLetter(err.code, err.message, bundle)


def signing_key(header: Header, note: Note, registry: Registry) -> VerifierKey:
    """The department's key that signed a bundle's note, valid or not by now; a LedgerError with a
    dead letter's code otherwise.
    """
    if header.origin != registry.origin:
        raise Refused("foreign-ledger", f"signed for {header.origin[:120]!r}")
    if not registry.lanes(header.department):
        raise Refused("unknown-department", f"no department {header.department!r}")
    lanes = registry.lanes(header.department)
    if header.lane >= lanes and header.lane >= registry.lanes_ever(header.department):
        said = f"{header.department} has {lanes} lanes, and none is numbered {header.lane}"
        raise Refused("unknown-lane", said)
    name = bundle_key_name(header.origin, header.department)
    strangers = [n.name for n in note.signatures if n.name != name]
    if strangers:  # the log keeps the note for ever: it is no place for anybody else's words
        raise Refused("unknown-key", f"signed by {strangers[0][:120]!r}")
    found: ProofError | None = None
    keys = [k for k, _ in registry.keys(header.department, BUNDLE_ROLE)]
    for signature in note.signatures:  # the first that is by a key of ours counts
        for key in keys:
            if signature.key_hash != key.key_hash:
                continue
            try:
                key.check(note.text, signature.signature)
            except ProofError as err:
                found = err
            else:
                return key
    if found is not None:
        raise found
    raise Refused("unknown-key", f"signed by no key of {header.department}")


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a lane stands: the next bundle's number and what its note must name."""

    epoch: int
    producer: str | None  # None until the first bundle of epoch 0
    next_sequence: int
    previous: bytes
    signing_time: int  # moment, never decreasing
    signed_at: str  # the same as the note wrote it, empty before the first bundle
    index: int  # log index of the last logged bundle, or of the entry that opened the lane

    def value(self) -> dict[str, Any]:
        """What the lane's registry record says."""
        return {
            "epoch": self.epoch,
            "next_sequence": self.next_sequence,
            "previous": self.previous.hex(),
            "signed_at": self.signed_at,
        }


def begin_lanes(
    before: Mapping[int, Lane], was: int, count: int, leaf: bytes, index: int
) -> dict[int, Lane]:
    """A department's lanes by number as entry `index` with this leaf hash leaves them, which gives
    it `count` lanes after `was`: all it ever had begin anew in their next epoch. Refused where one
    has none left.
    """
    used = [before[number] for number in range(was)]
    behind = min(used, key=lambda lane: lane.signing_time, default=None)
    signed = (0, "") if behind is None else (behind.signing_time, behind.signed_at)
    lanes = {}
    for number in range(max(count, len(before))):
        epoch = before[number].epoch + 1 if number in before else 0
        if epoch > MAX_EPOCH:
            raise Refused("registry-refused", f"lane {number} stands at the last epoch")
        heard = signed if number < count else (0, "")
        lanes[number] = Lane(epoch, None, 0, leaf, *heard, index)
    return lanes


@dataclass(slots=True)
class Certificate:
    """What admission knows of a certificate: standing, last link, the holder's map key, ids of its
    events (of a view's at least those that are asked for) with their line hashes, and which of its
    acts decide.
    """

    standing: Standing
    link: bytes
    holder: bytes | None = None
    event_ids: dict[str, bytes] = field(default_factory=dict)
    kept: Kept = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """A note that uses up a lane number."""

    producer: str
    note_hash: bytes
    index: int


class View(Protocol):
    """The shared state as the turn found it; what the turn itself changes is kept by `Turn`."""

    @property
    def registry(self) -> Registry: ...
    @property
    def blinding_secret(self) -> bytes: ...  # of the ledger, 32 bytes
    @property
    def relying(self) -> RelyingView: ...
    def lane(self, department: str, lane: int) -> Lane: ...
    def note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None: ...
    def is_note_of_epoch(self, department: str, lane: int, epoch: int, note: bytes) -> bool: ...
    def is_equivocation_logged(self, department: str, lane: int, note: bytes) -> bool: ...
    def certificate(self, key: bytes) -> Certificate | None:
        """Refused `key-taken` where the half of the key that rows are found by is another's."""
        ...

    def history(self, key: bytes) -> Sequence[Transition]: ...
    def named(self, key: bytes) -> Sequence[bytes | None]:
        """The holder's map key that each event of this history names."""
        ...

    def holder(self, key: bytes) -> tuple[int, bytes]:
        """How many acts, and the link over them; Refused as `certificate`."""
        ...


class HolderAct(NamedTuple):
    """A certificate bound to a holder or unbound from one, as it is stored."""

    holder: bytes  # map key
    ordinal: int  # number of the act among the holder's, from 0
    position: int
    certificate: bytes  # map key
    bound: bool


@dataclass(frozen=True, slots=True)
class LoggedBundle:
    """A bundle that became entry `index`."""

    index: int
    entry: bytes
    opened: Opened
    codes: tuple[str, ...]
    acts: tuple[HolderAct, ...]
    certificates: tuple[tuple[bytes, bytes], ...]  # ascending (map key, record hash)
    holders: tuple[tuple[bytes, bytes], ...]

    def admitted(self) -> list[tuple[int, Event]]:
        """The events that were admitted, with their positions."""
        said = enumerate(zip(self.opened.events, self.codes, strict=True))
        return [(n, e) for n, (e, code) in said if code == ADMITTED and isinstance(e, Event)]


@dataclass(frozen=True, slots=True)
class Accounted:
    """What became of one Kafka record (D8); `index` is the entry it led to or repeats."""

    source: Source
    outcome: str
    code: str | None = None
    message: str | None = None
    index: int | None = None
    bundle: Bundle | None = None
    want_epoch: int | None = None
    want_sequence: int | None = None


class Turn:
    """Step 5: takes records in their order and says what has to be stored.

    `next_index` is the log index that the next entry gets, `now` the ledger time in microseconds.
    """

    _dump = staticmethod(canonical.encode)  # prints entries

    def __init__(self, view: View, next_index: int, now: int) -> None:
        self.view = view
        self.registry = view.registry
        self._versions = self.registry.pseudonym_versions
        self.next_index = next_index
        self.now = now
        self.time = times.format_moment(now)
        self.accounted: list[Accounted] = []
        self.logged: list[LoggedBundle] = []
        self.entries: list[tuple[int, bytes]] = []
        self.lanes: dict[tuple[str, int], Lane] = {}
        self.notes: dict[tuple[str, int, int, int], Recorded] = {}
        self.certificates: dict[bytes, tuple[Event, Certificate]] = {}
        self.holders: dict[bytes, tuple[int, bytes]] = {}
        self.relying = Relying(view.relying)
        # of the map keys that this turn brings, certificates' and holders', to the whole
        self._heads: dict[bytes, bytes] = {}
        self._holder_heads: dict[bytes, bytes] = {}
        self._equivocations: set[bytes] = set()
        self._folding = 0
        self._types: dict[str, Mapping[str, Any] | None] = {}
        self._lanes = 0  # of the department whose bundle is taken
        self._key_id = ""  # of the key that signed it
        self._scopes: dict[tuple[str, str], str | None] = {}  # granted in it, by type and act
        self.transitions: dict[bytes, list[Transition]] = {}  # of this turn, by certificate
        self._named: dict[bytes, list[bytes | None]] = {}  # holders that these name

    def take(self, source: Source, record: Opened | DeadLetter | Skipped | Lost) -> Accounted:
        """Account for one record; a logged bundle gets the next index."""
        if isinstance(record, Opened):
            done = self._take(source, record)
        elif isinstance(record, DeadLetter):
            done = Accounted(source, DEAD_LETTER, record.code, record.message, bundle=record.bundle)
        elif isinstance(record, Lost):
            done = Accounted(source, LOST, index=record.index)
        else:
            done = Accounted(source, SKIPPED)
        self.accounted.append(done)
        return done

    def _take(self, source: Source, opened: Opened) -> Accounted:
        header = opened.bundle.header
        place = (header.department, header.lane)
        lane = self.lanes.get(place) or self.view.lane(*place)
        text_hash = opened.bundle.note_hash
        recorded = self._note_at(header.department, header.lane, header.epoch, header.sequence)
        if recorded is not None and recorded.note_hash == text_hash:
            # before the key is judged: what was logged stays logged, whoever brings it again
            return Accounted(source, REPEAT, None, None, recorded.index, opened.bundle)
        key_value = self.registry.value(f"key/{opened.key.key_id}")
        if key_value is None or not key_active(key_value, self.next_index):
            return Accounted(
                source,
                DEAD_LETTER,
                "key-revoked",
                CODES["key-revoked"].sentence,
                None,
                opened.bundle,
            )
        if recorded is not None and recorded.producer == header.producer:
            return self._equivocation(source, opened, recorded)
        open_lanes = self.registry.lanes(header.department)
        if header.lane >= open_lanes:
            said = f"{header.department} has {open_lanes} lanes now, lane {header.lane} is closed"
            return Accounted(source, FENCED, FENCED, said, None, opened.bundle)
        is_next = (
            header.epoch == lane.epoch
            and header.sequence == lane.next_sequence
            and header.producer == (lane.producer or header.producer)
        )
        takes_over = (
            header.epoch == lane.epoch + 1
            and header.sequence == 0
            and self._of_epoch(place, lane, header.previous)
        )
        if is_next or takes_over:
            return self._log(
                source,
                opened,
                lane,
                wrong_previous=(not takes_over and header.previous != lane.previous),
            )
        fenced = header.epoch < lane.epoch or (
            header.epoch == lane.epoch and header.producer != (lane.producer or header.producer)
        )
        return Accounted(
            source,
            FENCED if fenced else OUT_OF_SEQUENCE,
            FENCED if fenced else OUT_OF_SEQUENCE,
            f"the lane's next bundle is epoch {lane.epoch} number {lane.next_sequence}",
            None,
            opened.bundle,
            lane.epoch,
            lane.next_sequence,
        )

    def _note_at(self, department: str, lane: int, epoch: int, seq: int) -> Recorded | None:
        known = self.notes.get((department, lane, epoch, seq))
        if known is not None:
            return known
        at = self.lanes.get((department, lane)) or self.view.lane(department, lane)
        if epoch > at.epoch or (epoch == at.epoch and seq >= at.next_sequence):
            return None
        return self.view.note_at(department, lane, epoch, seq)

    def _of_epoch(self, place: tuple[str, int], lane: Lane, note: bytes) -> bool:
        if note == lane.previous:
            return True
        return any(
            (d, n, e) == (*place, lane.epoch) and known.note_hash == note
            for (d, n, e, _), known in self.notes.items()
        ) or self.view.is_note_of_epoch(*place, lane.epoch, note)

    def _equivocation(self, source: Source, opened: Opened, recorded: Recorded) -> Accounted:
        header, text_hash = opened.bundle.header, opened.bundle.note_hash
        index = None
        if text_hash not in self._equivocations and not self.view.is_equivocation_logged(
            header.department, header.lane, text_hash
        ):
            self._equivocations.add(text_hash)
            index = self._append(
                format_equivocation(opened.bundle.note_bytes, source, recorded.index, self.time)
            )
        return Accounted(source, EQUIVOCATION, EQUIVOCATION, None, index, opened.bundle)

    def _append(self, entry: bytes) -> int:
        index = self.next_index
        self.entries.append((index, entry))
        self.next_index += 1
        return index

    def _log(self, source: Source, opened: Opened, lane: Lane, wrong_previous: bool) -> Accounted:
        header, bundle = opened.bundle.header, opened.bundle
        signed = times.parse_moment(header.signed_at)
        in_time = lane.signing_time <= signed <= self.now + AHEAD
        refusal = "wrong-previous" if wrong_previous else None if in_time else "signing-time"
        index = self.next_index
        self._folding = 0
        self._lanes = self.registry.lanes(header.department)
        self._key_id = opened.key.key_id
        self._scopes = {}
        admitted: list[bytes] = []  # map keys of the certificates
        acts: list[HolderAct] = []
        if refusal is None:
            codes = self._judge(opened, index, admitted, acts)
        else:
            codes = [refusal] * len(opened.events)
        keys = sorted(set(admitted))
        certificates = tuple(zip(keys, self._record_hashes(keys), strict=True))
        holder_deltas = tuple(
            (key, lifecycle.holder_record_hash(*self.holders[key]))
            for key in sorted({act.holder for act in acts})
        )
        entry = format_bundle(
            bundle.note_bytes,
            run_lengths(codes),
            source,
            self.time,
            delta_root(certificates),
            blind(
                make_blinding(self.view.blinding_secret, bundle.note_hash),
                delta_root(holder_deltas),
            ),
            self._dump,
        )
        self._append(entry)
        self.logged.append(
            LoggedBundle(
                index,
                entry,
                opened,
                tuple(codes),
                tuple(acts),
                certificates,
                holder_deltas,
            )
        )
        place = (header.department, header.lane)
        self.notes[*place, header.epoch, header.sequence] = Recorded(
            header.producer, bundle.note_hash, index
        )
        self.lanes[place] = Lane(
            header.epoch,
            header.producer,
            header.sequence + 1,
            bundle.note_hash,
            signed if in_time else lane.signing_time,
            header.signed_at if in_time else lane.signed_at,
            index,
        )
        return Accounted(source, LOGGED, None, None, index, opened.bundle)

    def _judge(
        self, opened: Opened, index: int, admitted: list[bytes], acts: list[HolderAct]
    ) -> list[str]:
        """The code of each line, one after the other; what is done goes to the lists."""
        return [
            self._judge_line(opened, index, position, item, admitted, acts)
            for position, item in enumerate(opened.events)
        ]

    def _judge_line(
        self,
        opened: Opened,
        index: int,
        position: int,
        item: Line,
        admitted: list[bytes],
        acts: list[HolderAct],
    ) -> str:
        if isinstance(item, str):
            return item
        try:
            if isinstance(item, Reliance):
                self._rely(opened, index, position, item)
            else:
                self._admit(opened, index, position, item, acts)
                admitted.append(item.key)
        except (Malformed, Refused) as err:  # anything else is no fault of the line's
            return err.code
        return ADMITTED

    def _known(self, key: bytes) -> tuple[Event, Certificate] | None:
        """A certificate as this turn left it, with its last event; None where it left it alone."""
        return self.certificates.get(key)

    def _record_hashes(self, keys: Sequence[bytes]) -> list[bytes]:
        """The hashes of certificates' records as this turn left them."""
        known = [self.certificates[key][1] for key in keys]
        return [
            lifecycle.record_hash(lifecycle.format_record(each.standing, each.link))
            for each in known
        ]

    def _admit(
        self, opened: Opened, index: int, position: int, item: Event, acts: list[HolderAct]
    ) -> None:
        """Record one event or raise with the code of its refusal, leaving nothing behind."""
        header, key = opened.bundle.header, item.key
        department = header.department
        known = self._known(key)
        before = self.view.certificate(key) if known is None else known[1]
        if before is None:
            if self._heads.get(key[: identity.HEAD], key) != key:
                raise Refused("key-taken")
            standing, last, holder, event_ids = _NOTHING, key, None, {}
        else:
            standing, last, holder, event_ids = (
                before.standing,
                before.link,
                before.holder,
                before.event_ids,
            )
            same = event_ids.get(item.id)
            if same is None and known is not None:  # the view may have learned of it since
                found = self.view.certificate(key)
                same = None if found is None else found.event_ids.get(item.id)
            if same is not None:
                raise Refused("repeat" if same == item.line_hash else "event-id-conflict")
        if identity.lane_of(key, self._lanes) != header.lane:
            raise Refused("wrong-lane")
        kind, count = item.kind, standing.count
        scope = self._check_authority(department, item, standing, index)
        version = lifecycle.next_version(standing, kind)
        transition = lifecycle.make_transition(item, department, self._key_id, version)
        if kind == events.CORRECTED or count >= lifecycle.MAX_HISTORY:
            if before is None:
                raise Refused("not-issued")
            self._count_folded(count)
            history = [*self.view.history(key), *self.transitions.get(key, ())]
            lifecycle.check_room(history, transition)
        if kind == events.CORRECTED:
            owner = lifecycle.corrector(history, transition, standing.responsible)
            if scope != "any" and owner != department:
                raise Refused("not-responsible")
            after = lifecycle.correct(history, transition)
            if transition.correction == doubt.CONFIRM:
                self._check_confirms(key, transition)
            transition = transition._replace(version=after.version)
            after = after._replace(count=count + 1)
        else:
            after = lifecycle.step(standing, transition)
        if item.identifier is not None:
            self._check_identifier(item, after)
        if item.holder_key is not None:
            self._check_holder(item, item.holder_key)
        data = lifecycle.format_transition(transition)
        link = lifecycle.link(last, index, position, item.line_hash, data)
        if known is None:  # the view's must not learn of a turn that may be thrown away
            event_ids = {**event_ids}
            self.transitions[key] = [transition]
        else:
            self.transitions[key].append(transition)
        event_ids[item.id] = item.line_hash
        self._named.setdefault(key, []).append(item.holder_key)
        after_holder = item.holder_key or holder
        if transition.correction == lifecycle.REWIND:
            named = [*self.view.named(key), *self._named[key]]
            stands = lifecycle.passed([*history, transition])
            after_holder = next((named[n] for n in reversed(stands) if named[n]), None)
        if after_holder != holder:
            self._bind(holder, after_holder, key, index, position, acts)
            holder = after_holder
        if before is None:
            self._heads[key[: identity.HEAD]] = key
        kept = deciders.follow(() if before is None else before.kept, count, transition)
        self.certificates[key] = (item, Certificate(after, link, holder, event_ids, kept))
        if kind != events.ISSUED:
            self.relying.changed(key, index, position, transition)

    def _check_confirms(self, key: bytes, t: Transition) -> None:
        """None when `t` confirms a doubtful event: of an earlier turn, as this one's keys are not
        doubted.
        """
        before = [(index, each) for index, _, each in self.view.relying.steps(key)]
        now = [(self.next_index, each) for each in self.transitions.get(key, ())]
        doubt.check_confirms([*before, *now], t, self.registry.doubts)

    def _rely(self, opened: Opened, index: int, position: int, item: Reliance) -> None:
        """Record one line about a reliance or raise with the code of its refusal."""
        header = opened.bundle.header
        self.relying.admit(
            header.department,
            self._lanes,
            header.lane,
            index,
            position,
            item,
            lambda service: self.registry.value(f"service/{service}"),
            self.registry.catalogue_roots.__contains__,
            self._count_read,
            self.registry.doubts,
        )

    def _count_read(self, key: bytes) -> None:
        """Count the history of a certificate that a reliance names, this turn's events included."""
        known = self._known(key)
        self._count_folded(
            self.view.relying.count(key) if known is None else known[1].standing.count
        )

    def _count_folded(self, transitions: int) -> None:
        self._folding += transitions
        if self._folding > MAX_FOLDED:
            raise Refused("history-too-long")

    def _check_authority(self, department: str, item: Event, standing: Standing, index: int) -> str:
        """The scope in which the department may do this, *own* or *any*; Refused otherwise."""
        kind, asked = item.kind, (item.type_code, item.kind)
        if asked not in self._scopes:
            if item.type_code not in self._types:
                self._types[item.type_code] = self.registry.value(f"type/{item.type_code}")
            value = self._types[item.type_code]
            if value is None:
                raise Refused("unknown-type", f"no certificate type {item.type_code!r}")
            self._scopes[asked] = granted(value, department, kind, index)
        scope = self._scopes[asked]
        if scope is None:
            raise Refused("act-not-authorised")
        if kind == events.ISSUED:
            if item.issuer != department:
                raise Refused("act-not-authorised", "a department issues in its own name only")
        elif kind == events.TRANSFERRED_IN:
            if standing.state == lifecycle.TRANSFERRED and standing.transfer_to != department:
                raise Refused("transfer-mismatch")
        elif (
            kind != events.CORRECTED  # judged by what it corrects
            and scope != "any"
            and standing.responsible not in ("", department)
        ):
            raise Refused("not-responsible")
        return scope

    def _check_identifier(self, item: Event, after: Standing) -> None:
        said = identity.parse_identifier(str(item.identifier))
        issuer = self.registry.value(f"department/{item.issuer}") or {}
        type_value = self._types[item.type_code] or {}
        if (said.type_code, said.issuer_code, said.serial, said.version) != (
            type_value.get("code"),
            issuer.get("authority_code"),
            item.number,
            after.version,
        ):
            raise Refused("identifier-mismatch")

    def _check_holder(self, item: Event, key: bytes) -> None:
        """Once the registry names versions of the secret, only their pseudonyms are bound: then
        one proof per version says everything of a holder. And no two holders share a row.
        """
        version = int((item.holder or "").partition(":")[0])
        if self._versions is not None and version not in self._versions:
            raise Refused("unknown-pseudonym-version")
        if self._holder_heads.get(key[: identity.HEAD], key) != key:
            raise Refused("key-taken")
        if key not in self.holders:
            self.view.holder(key)

    def _bind(
        self,
        was: bytes | None,
        holder: bytes | None,
        certificate: bytes,
        index: int,
        position: int,
        acts: list[HolderAct],
    ) -> None:
        """Unbind the certificate from its holder, bind it to the one it has now."""
        if was is not None:
            self._act(was, False, certificate, index, position, acts)
        if holder is not None:
            self._act(holder, True, certificate, index, position, acts)
            self._holder_heads[holder[: identity.HEAD]] = holder

    def _act(
        self,
        holder: bytes,
        bound: bool,
        certificate: bytes,
        index: int,
        position: int,
        acts: list[HolderAct],
    ) -> None:
        count, last = self.holders.get(holder) or self.view.holder(holder)
        self.holders[holder] = (
            count + 1,
            lifecycle.holder_link(last or holder, bound, certificate, index, position),
        )
        acts.append(_make_tuple(HolderAct, (holder, count, position, certificate, bound)))


def delta_root(deltas: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The Merkle root over an ascending list of (map key, record hash)."""
    return merkle.root([sha256(b"\x00" + key + record).digest() for key, record in deltas])
