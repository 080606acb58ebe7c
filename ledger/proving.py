"""Making evidence: which events, entries and records a question needs, and their proofs."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from . import canonical, identity, lifecycle, merkle
from .doubt import COMPROMISED, Doubts, needed_corrections, needed_doubts, settle
from .entry import REGISTRY, parse_entry
from .errors import Malformed, ProofError, Refused
from .evidence import (
    MAX_EVENTS,
    Announcement,
    Beginning,
    CertificateId,
    Evidence,
    Registration,
    Shown,
    ShownEvent,
    Since,
    Step,
)
from .holder_evidence import Act, Held, HolderEvidence
from .identity import holder_key, parse_pseudonym
from .note import Note, decode_hash, parse_note
from .question import Question
from .registry import PSEUDONYMS, REGISTRY_ROLE, doubts_of, key_active, tree_place
from .statusmap import CERTIFICATES, HOLDERS, Membership

MOST_PATHS = 1024  # of entries, that are remembered under one checkpoint, some 2 kB each


class Source(Protocol):
    """The ledger as of one published checkpoint; nothing at or above `size` is seen."""

    origin: str
    checkpoint: bytes
    size: int  # leaves under the checkpoint
    subtree: merkle.Subtree  # of the log

    def history(self, key: bytes) -> Sequence[Step]: ...
    def entry(self, index: int) -> bytes: ...
    def line(self, index: int, position: int) -> tuple[bytes, Sequence[bytes]]:
        """A line of the bundle at `index`, and its path to the root in the bundle's note."""
        ...

    def membership(self, kind: bytes, key: bytes) -> Membership:
        """What a status map says of a key under the checkpoint's last status entry."""
        ...

    def records(self) -> Records:
        """The registry under the checkpoint's last status entry."""
        ...

    def status_at(self, moment: int) -> int | None:
        """The log index of the last status entry with a ledger time up to `moment`."""
        ...


class HolderSource(Protocol):
    """What proving everything a holder has needs of the ledger as of a published checkpoint."""

    origin: str
    checkpoint: bytes
    size: int  # leaves under the checkpoint
    subtree: merkle.Subtree  # of the log

    def entry(self, index: int) -> bytes: ...
    def records(self) -> Records: ...
    def acts(self, key: bytes) -> Sequence[Act]:
        """A holder's acts in log order."""
        ...

    def membership(self, kind: bytes, key: bytes) -> Membership:
        """What a status map says of a key."""
        ...

    def identities(self, keys: Sequence[bytes]) -> Mapping[bytes, CertificateId]:
        """The certificates with these map keys."""
        ...


class Registered(NamedTuple):
    """How a key came into the registry: its entry, what announced its recovery, and the names of
    the keys that vouched for it.
    """

    registration: Registration
    announced: Announcement | None
    vouchers: list[str]


@dataclass(slots=True)
class Records:
    """The registry's tree under a status entry, by record name, and what was shown of it: how each
    key was registered, with the name of the one that vouched for it, under the same checkpoint.
    """

    leaves: Sequence[bytes]
    places: dict[str, int]
    order: list[bytes]  # what the tree's order ascends by
    subtree: merkle.Subtree
    registry_keys: dict[
        str, list[str]
    ]  # names of their records, by NAME+HASH as signatures have it
    doubts: Doubts
    recovering: frozenset[str]  # departments for which a key's recovery is announced
    registered: dict[str, Registered] = field(default_factory=dict)
    ends: tuple[Beginning, Shown] | None = None  # entry 0 and the status entry
    paths: dict[int, tuple[bytes, ...]] = field(default_factory=dict)  # of some bundles' entries
    _values: dict[str, dict[str, Any]] = field(default_factory=dict)
    _shown: dict[str, Shown] = field(default_factory=dict)

    @classmethod
    def of(cls, leaves: Sequence[bytes]) -> Records:
        places: dict[str, int] = {}
        order: list[bytes] = []
        registry_keys: dict[str, list[str]] = {}
        doubts: dict[str, range] = {}
        recovering: set[str] = set()
        for place, leaf in enumerate(leaves):
            record = canonical.loads(leaf)
            places[str(record["name"])] = place
            order.append(tree_place(record))
            doubts |= doubts_of([record])
            if "recovery" in record["value"]:
                recovering.add(str(record["name"]).removeprefix("department/"))
            if record["name"].startswith("key/") and record["value"]["role"] == REGISTRY_ROLE:
                signs_as = "+".join(str(record["value"]["vkey"]).split("+", 2)[:2])
                registry_keys.setdefault(signs_as, []).append(str(record["name"]))
        subtree = merkle.in_memory([merkle.leaf_hash(leaf) for leaf in leaves])
        return cls(leaves, places, order, subtree, registry_keys, doubts, frozenset(recovering))

    def value(self, name: str) -> dict[str, Any] | None:
        """What a record says, None where there is none."""
        place = self.places.get(name)
        if place is None:
            return None
        value = self._values.get(name)
        if value is None:
            value = self._values[name] = canonical.loads(self.leaves[place])["value"]
        return dict(value)

    def around(self, department: str) -> list[str]:
        """The names of the records between which a department's would stand."""
        place = bisect.bisect(self.order, tree_place({"name": f"department/{department}"}))
        ascending = sorted(self.places, key=self.places.__getitem__)
        return ascending[max(place - 1, 0) : place + 1]

    def show(self, name: str) -> Shown | None:
        """The record with its proof."""
        place = self.places.get(name)
        if place is None:
            return None
        if name not in self._shown:
            path = merkle.prove_inclusion(place, len(self.leaves), self.subtree)
            self._shown[name] = Shown(place, self.leaves[place], tuple(path))
        return self._shown[name]

    def show_all(self, names: Iterable[str]) -> tuple[Shown, ...]:
        """The records with these names that there are, in the tree's order."""
        found = [record for name in names if (record := self.show(name)) is not None]
        return tuple(sorted(found, key=lambda record: record.index))


def prove(source: Source, certificate: CertificateId, question: Question) -> Evidence:
    """The evidence for a question about a certificate, or that there is none of this name.

    Nothing is checked here: whoever relies on it checks it, the ledger's own answers included.
    """
    steps = tuple(source.history(certificate.key))
    then = None
    last = source.size - 1
    known = len(steps)
    if question.known_at is not None:
        state = source.status_at(question.known_at)
        known = sum(1 for step in steps if state is not None and step.index < state)
        if state is not None and state != last:
            then = show_entry(source, state)
    records = source.records()
    shown = needed_events(steps, known, question, records.doubts)
    if len(shown) > MAX_EVENTS:
        raise Malformed("too-large", f"{len(shown)} events decide this, {MAX_EVENTS} can be shown")
    signed = {steps[n].transition.key for n in shown}
    keys, registrations, announcements = _register(source, records, signed)
    if records.ends is None:
        records.ends = (show_beginning(source), show_entry(source, last))
    genesis, status = records.ends
    return Evidence(
        origin=source.origin,
        certificate=certificate,
        question=question,
        history=steps,
        events=tuple(_show_event(source, steps[n], n) for n in shown),
        genesis=genesis,
        entries=tuple(
            _show_bundle(source, records, index)
            for index in sorted({steps[n].index for n in shown})
        ),
        bucket=source.membership(CERTIFICATES, certificate.key),
        registry_size=len(records.leaves),
        registrations=tuple(sorted(registrations, key=lambda each: each.index)),
        records=_show_records(records, certificate, keys, [steps[n] for n in shown], steps),
        status=status,
        status_then=then,
        checkpoint=source.checkpoint,
        announcements=announcements,
    )


def prove_holder(source: HolderSource, pseudonyms: Sequence[str], asked_at: int) -> HolderEvidence:
    """The evidence of everything that is bound to a holder, who has one pseudonym for each version
    of the secret. Malformed `usage` when they are not those versions, each once.
    """
    records = source.records()
    value = records.value(PSEUDONYMS)
    if value is None:
        raise Refused(
            "evidence-incomplete", "the registry names no version of the pseudonym secret"
        )
    wanted = [item["version"] for item in value["versions"]]
    by_version = {parse_pseudonym(text)[0]: text for text in pseudonyms}
    if sorted(by_version) != wanted or len(by_version) != len(pseudonyms):
        raise Malformed(
            "usage",
            f"one pseudonym for each version of the secret, {wanted}, says everything of a holder; "
            f"given: {[parse_pseudonym(text)[0] for text in pseudonyms]}",
        )
    held = tuple(
        Held(
            by_version[version],
            tuple(source.acts(holder_key(by_version[version]))),
            source.membership(HOLDERS, holder_key(by_version[version])),
        )
        for version in wanted
    )
    certificates = source.identities([key for each in held for key in each.bound])
    names = {PSEUDONYMS}
    for certificate in certificates.values():
        names |= {f"type/{certificate.type_code}", f"department/{certificate.issuer}"}
    return HolderEvidence(
        origin=source.origin,
        asked_at=asked_at,
        pseudonyms=held,
        certificates=certificates,
        registry_size=len(records.leaves),
        records=records.show_all(names),
        genesis=show_entry(source, 0),
        status=show_entry(source, source.size - 1),
        checkpoint=source.checkpoint,
    )


def prove_act(source: Source, certificate: CertificateId, ordinal: int, asked_at: int) -> Evidence:
    """What shows one act in a certificate's history, possible by the rules or not: `prove` itself
    needs a history that is.
    """
    steps = tuple(source.history(certificate.key))
    records, step = source.records(), steps[ordinal]
    names = {
        f"type/{certificate.type_code}",
        f"department/{certificate.issuer}",
        f"department/{step.transition.by}",
        f"key/{step.transition.key}",
    }
    shown = [record for name in names if (record := records.show(name)) is not None]
    return Evidence(
        origin=source.origin,
        certificate=certificate,
        question=Question(asked_at),
        history=steps,
        events=(_show_event(source, step, ordinal),),
        genesis=show_beginning(source),
        entries=(show_entry(source, step.index),),
        bucket=source.membership(CERTIFICATES, certificate.key),
        registry_size=len(records.leaves),
        registrations=(),
        records=tuple(sorted(shown, key=lambda record: record.index)),
        status=show_entry(source, source.size - 1),
        status_then=None,
        checkpoint=source.checkpoint,
    )


def prove_since(source: Source, size: int) -> Since | None:
    """How the log grew from `size` leaves to the checkpoint; None where it did not, or shrank."""
    if not 1 <= size < source.size:
        return None
    return Since(size, tuple(merkle.prove_consistency(size, source.size, source.subtree)))


def show_entry(source: Source | HolderSource, index: int) -> Shown:
    """A log entry with its inclusion proof under the checkpoint."""
    path = merkle.prove_inclusion(index, source.size, source.subtree)
    return Shown(index, source.entry(index), tuple(path))


def _show_bundle(source: Source, records: Records, index: int) -> Shown:
    """The same of a bundle's entry: many events are of one bundle."""
    path = records.paths.get(index)
    if path is not None:
        return Shown(index, source.entry(index), path)
    shown = show_entry(source, index)
    if len(records.paths) >= MOST_PATHS:
        records.paths.clear()
    records.paths[index] = shown.path
    return shown


def show_beginning(source: Source) -> Beginning:
    """The leaf hash of entry 0 with its inclusion proof under the checkpoint."""
    path = merkle.prove_inclusion(0, source.size, source.subtree)
    return Beginning(source.subtree(0, 0), tuple(path))


def needed_events(
    steps: Sequence[Step], known: int, question: Question, doubts: Doubts
) -> list[int]:
    """Ordinals of the events that evidence shows in full: those that decide, the last one known and
    the first one after it, and what was corrected later where one that decides is doubted; where
    nothing can be decided because of that, what shows so much.
    """
    history = [step.transition for step in steps]
    needed = {known - 1} if known else set()
    if known < len(steps):
        needed.add(known)
    if known:
        at = question.asked_at if question.at is None else question.at
        finding = lifecycle.answer(history[:known], at, question.version)
        told = [(step.index, step.transition) for step in steps]
        if settle(finding, told, known, doubts).reason == COMPROMISED:
            return sorted(needed | needed_doubts(told, known, finding.deciding, doubts))
        needed |= {n for n, t in enumerate(history[:known]) if t.id in finding.deciding}
        needed |= needed_corrections(told, known, finding.deciding, doubts)
    return sorted(needed)


def _show_event(source: Source, step: Step, ordinal: int) -> ShownEvent:
    line, path = source.line(step.index, step.position)
    return ShownEvent(ordinal, line, tuple(path))


def _register(
    source: Source, records: Records, key_ids: Iterable[str]
) -> tuple[set[str], list[Registration], tuple[Announcement, ...]]:
    """(names of records, registrations, announcements of recoveries): of the keys and of those that
    vouched for them when they were registered, back to the ones that the operator entered.
    """
    found: dict[str, Registered] = {}
    todo = [f"key/{key_id}" for key_id in key_ids]
    while todo:
        name = todo.pop()
        value = records.value(name)
        if value is None or name in found:
            continue
        if name not in records.registered:
            records.registered[name] = _registered(source, records, name, value)
        found[name] = records.registered[name]
        todo += found[name].vouchers
    announced = (each.announced for each in found.values() if each.announced is not None)
    return (
        set(found),
        [each.registration for each in found.values()],
        tuple(sorted(announced, key=lambda each: each.index)),
    )


def _registered(
    source: Source, records: Records, name: str, value: Mapping[str, Any]
) -> Registered:
    """How the key with the record `name` was registered."""
    index = int(str(value["from"]))
    shown = show_entry(source, index)
    entry = parse_entry(shown.data)
    if entry["kind"] != REGISTRY:
        raise ProofError("stored-bytes-damaged", f"entry {index} did not register {name}")
    data = entry["note"].encode()
    note = parse_note(data)
    registration = Registration(index, entry["time"], data[len(note.text) + 1 :], shown.path)
    vouchers = _vouchers(records, note, name, index)
    announced = None
    if "recovered" in value:
        announced, note = _announcement(source, value["recovered"])
        vouchers += _vouchers(records, note, name, announced.index)
    return Registered(registration, announced, vouchers)


def _announcement(source: Source, index: int) -> tuple[Announcement, Note]:
    """The entry that announced a key's recovery, and its note."""
    shown = show_entry(source, index)
    entry = parse_entry(shown.data)
    data = str(entry.get("note", "")).encode()
    note = parse_note(data)
    try:
        _, _, replaces, change, _ = note.text.decode().split("\n")
        delay = canonical.loads(change.encode())["recover"]["delay_seconds"]
    except (ValueError, LookupError, TypeError) as err:
        raise ProofError("stored-bytes-damaged", f"entry {index} announces no recovery") from err
    lines = data[len(note.text) + 1 :]
    return (
        Announcement(index, entry["time"], decode_hash(replaces), delay, lines, shown.path),
        note,
    )


def _vouchers(records: Records, note: Note, name: str, index: int) -> list[str]:
    """The record of the first registry key that signed the note at a log index, if any did: other
    than `name`.
    """
    for signature in note.signatures:
        signs_as = f"{signature.name}+{signature.key_hash.hex()}"
        for other in records.registry_keys.get(signs_as, []):
            if key_active(records.value(other) or {}, index) and other != name:
                return [other]
    return []


def _show_records(
    records: Records,
    certificate: CertificateId,
    keys: Iterable[str],
    shown: Sequence[Step],
    steps: Sequence[Step],
) -> tuple[Shown, ...]:
    history = [step.transition for step in steps]
    responsible = lifecycle.fold(history).responsible or certificate.issuer
    names = {
        f"type/{certificate.type_code}",
        f"department/{certificate.issuer}",
        f"department/{responsible}",
        *keys,
        *(f"department/{step.transition.by}" for step in shown),
    }
    department = records.value(f"department/{responsible}")
    if department is None:
        names.update(records.around(responsible))
    else:
        lane = identity.lane_of(certificate.key, int(str(department["lanes"])))
        names.add(f"lane/{responsible}/{lane}")
    return records.show_all(names)
