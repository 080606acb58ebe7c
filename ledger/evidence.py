"""The evidence file, `certledger evidence v2`: everything a verifier needs but the trust file.

Canonical JSON. What follows from the rest is left out: of entries and keys' records what
`short_forms` makes again, of proofs the hashes that the leaves shown beside them give. A parsed
file has it all again, every leaf with the whole path that C2SP tlog-proof has. Nothing in it is
proven yet: `checking.check` does that. FORMATS.md, section 13.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from . import canonical, identity, merkle, times
from .bundle import MAX_EVENTS as MAX_BUNDLE_EVENTS
from .bundle import Header
from .checkpoint import format_proof, parse_checkpoint
from .entry import format_registry
from .errors import LedgerError, Malformed
from .event import parse_shown
from .lifecycle import Transition, make_transition, parse_transition
from .note import format_lines, parse_note
from .question import Question, format_instant
from .registry import recovery_text
from .short_forms import (
    RegisteredKey,
    decode,
    decode_hashes,
    encode,
    encode_hashes,
    expand_bundle,
    expand_record,
    expand_signatures,
    expand_status,
    registered_key,
    shorten_bundle,
    shorten_record,
    shorten_signatures,
    shorten_status,
)
from .statusmap import MAX_K, PAIR, Membership, Part

FORM = "certledger evidence v2"
MAX_EVIDENCE = 4 * 1024 * 1024
MAX_PATH = 63  # hashes: a tree of 2^63 leaves
MAX_EVENTS = 256  # shown in full


@dataclass(frozen=True, slots=True)
class CertificateId:
    """What the map key is made of; `issuer` is the original one, for ever."""

    type_code: str
    issuer: str
    number: str

    @property
    def key(self) -> bytes:
        return identity.certificate_key(self.type_code, self.issuer, self.number)

    def members(self) -> dict[str, str]:
        """The parts by the names that files and answers give them."""
        return {"type": self.type_code, "issuer": self.issuer, "number": self.number}


@dataclass(frozen=True, slots=True)
class Step:
    """One element of the certificate's history."""

    index: int
    position: int
    line_hash: bytes
    transition: Transition


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """The line of history element `ordinal` with its path to the root in its bundle's note."""

    ordinal: int
    line: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A leaf with its path: a log entry at its index, or a registry record at its place."""

    index: int
    data: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The leaf hash of entry 0, which the trust file knows, with its path."""

    leaf_hash: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Since:
    """That the log under the checkpoint begins with the one of `size` leaves: the consistency proof
    (RFC 9162 section 2.1.4) for who saw that one.
    """

    size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """The entry at `index`, which registered the key whose record is from there on: what of it
    does not follow from the record, and its path.
    """

    index: int
    time: str
    signatures: bytes  # the lines below the note's text
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Announcement:
    """The entry at `index`, which announced the recovery of a key, likewise. The department's
    record had the hash `replaces`.
    """

    index: int
    time: str
    replaces: bytes
    delay_seconds: int
    signatures: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A parsed evidence file; of its claims nothing is proven yet."""

    origin: str
    certificate: CertificateId
    question: Question
    history: tuple[Step, ...]  # complete, in ledger order; none for an absent certificate
    events: tuple[ShownEvent, ...]  # ascending ordinals
    genesis: Beginning
    entries: tuple[Shown, ...]  # ascending log indexes: the bundles of the events
    bucket: Membership  # of the certificate's map key under the status entry
    registry_size: int
    records: tuple[Shown, ...]  # ascending places in the registry's tree
    registrations: tuple[Registration, ...]  # ascending log indexes: those of the keys in `records`
    status: Shown  # the checkpoint's last leaf
    status_then: Shown | None  # the last status entry known at `known_at`
    checkpoint: bytes
    since: Since | None = None
    announcements: tuple[Announcement, ...] = ()  # ascending log indexes

    def proof(self, shown: Shown) -> bytes:
        """The C2SP tlog-proof of a shown log entry."""
        return format_proof(shown.index, shown.path, self.checkpoint)


# --- printing ------------------------------------------------------------------------------------


def format_evidence(evidence: Evidence) -> bytes:
    """The evidence file's bytes. Malformed where no file says this: what is left out of files does
    not follow from the rest.
    """
    try:
        data = print_evidence(evidence)
        told = parse_evidence(data)
    except LedgerError as err:
        raise Malformed("malformed-evidence", f"no file can say this: {err.message}") from err
    if told != evidence:
        raise Malformed("malformed-evidence", "no file can say this")
    return data


def print_evidence(evidence: Evidence) -> bytes:
    """What `format_evidence` gives, for evidence that was just made of one ledger: whether the file
    says the same is left to its readers.
    """
    question = evidence.question
    size = parse_checkpoint(evidence.checkpoint)[0].size
    shown = {event.ordinal: event for event in evidence.events}
    keys = _Keys(evidence)
    log = {0: evidence.genesis.path, evidence.status.index: evidence.status.path}
    log |= {entry.index: entry.path for entry in evidence.entries}
    log |= {each.index: each.path for each in evidence.registrations}
    moments = {"asked_at": question.asked_at, "at": question.at, "known_at": question.known_at}
    asked: dict[str, Any] = {n: format_instant(m) for n, m in moments.items() if m is not None}
    if question.version is not None:
        asked["version"] = question.version
    parts = {
        "format": _print(FORM),
        "certificate": canonical.encode(evidence.certificate.members()),
        "question": canonical.encode(asked),
        "history": _print_list(
            _print_step(step, keys.number(step.transition.key), shown.get(ordinal))
            for ordinal, step in enumerate(evidence.history)
        ),
        "bundles": _print_list(_print_bundle(evidence, entry) for entry in evidence.entries),
        "keys": keys.print(),
        "registry": _print_registry(evidence, keys.places),
        "bucket": _print_bucket(evidence.bucket),
        "status": _print_status(evidence.status.data),
        "checkpoint": _print(evidence.checkpoint.decode()),
        "genesis": _print(encode(evidence.genesis.leaf_hash)),
    }
    if (then := evidence.status_then) is not None:
        parts["status_then"] = canonical.encode({"index": then.index, **shorten_status(then.data)})
        log[then.index] = then.path
    if (since := evidence.since) is not None:
        path = encode_hashes(since.path)
        parts["since"] = canonical.encode({"size": since.size, "path": path})
    log |= {each.index: each.path for each in evidence.announcements}
    parts["log"] = _print_paths(log, size)
    return _print_members(parts)


# What many files share is printed once.


@lru_cache(maxsize=16)
def _print(text: str) -> bytes:
    return canonical.encode(text)


def _print_members(parts: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join([b'"%b":%b' % (n.encode(), parts[n]) for n in sorted(parts)])


def _print_list(parts: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(parts)


def _print_paths(paths: Mapping[int, Sequence[bytes]], size: int) -> bytes:
    """The joined paths of some leaves of one tree."""
    if not paths:
        return b'""'
    key = _of_paths(paths, size)
    text = _joined.get(key)
    if text is None:
        text = _remember(key, encode_hashes(merkle.join_paths(paths, size)))
    return b'"%b"' % text


_Joined = tuple[int, tuple[tuple[int, tuple[bytes, ...]], ...]]
_joined: dict[_Joined, bytes] = {}  # joined paths, printed; those that were split just now too
_MOST_JOINED = 256


def _of_paths(paths: Mapping[int, Sequence[bytes]], size: int) -> _Joined:
    return size, tuple(sorted((place, tuple(path)) for place, path in paths.items()))


def _remember(key: _Joined, text: str) -> bytes:
    if len(_joined) >= _MOST_JOINED:
        _joined.clear()
    printed = _joined[key] = text.encode()
    return printed


@lru_cache(maxsize=64)
def _print_status(data: bytes) -> bytes:
    return canonical.encode(shorten_status(data))


def _print_registry(evidence: Evidence, keys: Container[int]) -> bytes:
    """The registry's records without those of keys, which stand at these places."""
    records = evidence.records
    told = [_print_record(r.index, r.data) for r in records if r.index not in keys]
    path = _print_paths({r.index: r.path for r in records}, evidence.registry_size)
    return b'{"path":%b,"records":%b,"size":%d}' % (path, _print_list(told), evidence.registry_size)


@lru_cache(maxsize=1024)
def _print_record(place: int, data: bytes) -> bytes:
    return canonical.encode({"place": place, **shorten_record(data)})


class _Keys:
    """The keys of a file: those that the history names, in the order of their first use, then the
    others that are shown, in the registry's order.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._origin = evidence.origin
        self._shown: dict[str, tuple[int, RegisteredKey]] = {}
        for record in evidence.records:
            found = registered_key(record.data, evidence.origin)
            if found is not None:
                self._shown[found.key(evidence.origin).key_id] = (record.index, found)
        self.places = {place for place, _ in self._shown.values()}
        ids = dict.fromkeys(step.transition.key for step in evidence.history)
        ids |= dict.fromkeys(self._shown)
        self._numbers = {key_id: number for number, key_id in enumerate(ids)}
        self._registrations = {each.index: each for each in evidence.registrations}
        self._announcements = {each.index: each for each in evidence.announcements}

    def number(self, key_id: str) -> int:
        """The number of a key in the list."""
        return self._numbers[key_id]

    def print(self) -> bytes:
        """The list: keys that are shown, ids of those that are not."""
        return canonical.encode([self._member(key_id) for key_id in self._numbers])

    def _member(self, key_id: str) -> Any:
        if key_id not in self._shown:
            return encode(bytes.fromhex(key_id))
        place, key = self._shown[key_id]
        value: dict[str, Any] = {
            "public": encode(key.public),
            "department": key.department,
            "role": key.role,
            "place": place,
            "from": key.since,
        }
        if key.revoked is not None:
            value["revoked"] = key.revoked
        if key.doubted is not None:
            begin, changed, note = key.doubted
            value["doubted"] = [begin, changed, encode(bytes.fromhex(note))]
        if key.recovered is not None:
            value["recovered"] = key.recovered
            if (announced := self._announcements.get(key.recovered)) is not None:
                value["announced"] = [
                    announced.time,
                    encode(announced.replaces),
                    announced.delay_seconds,
                    *_short_signatures(key, announced.signatures, self._origin),
                ]
        registration = self._registrations.get(key.since)
        if registration is not None:
            value["time"] = registration.time
            value["signatures"] = list(
                _short_signatures(key, registration.signatures, self._origin)
            )
        return value


@lru_cache(maxsize=1024)
def _short_signatures(key: RegisteredKey, lines: bytes, origin: str) -> tuple[str, ...]:
    note = parse_note(key.text(origin) + b"\n" + lines)
    return tuple(shorten_signatures(note.signatures, origin, key.department))


def _print_step(step: Step, key: int, shown: ShownEvent | None) -> bytes:
    if shown is not None:
        return b'{"entry":%d,"key":%d,"line":%b,"position":%d,"version":%d}' % (
            *(step.index, key, shown.line, step.position),
            step.transition.version,
        )
    place = {"entry": step.index, "position": step.position, "key": key}
    return canonical.encode({**step.transition.members(), **place, "hash": encode(step.line_hash)})


def _print_bundle(evidence: Evidence, entry: Shown) -> bytes:
    count, short = _print_short(entry.index, entry.data, evidence.origin)
    paths = {
        evidence.history[event.ordinal].position: event.path
        for event in evidence.events
        if evidence.history[event.ordinal].index == entry.index
    }
    return short[0] + _print_paths(paths, count) + short[1]


@lru_cache(maxsize=512)
def _print_short(index: int, data: bytes, origin: str) -> tuple[int, tuple[bytes, bytes]]:
    """How many lines a bundle has, and what stands around the path of those that are shown."""
    value = shorten_bundle(data, origin)
    before = ("deltas", "index", "note", "outcome")
    parts = {"index": index, **value}
    return value["note"][1], (
        canonical.encode({name: parts[name] for name in before})[:-1] + b',"path":',
        b"," + canonical.encode({name: parts[name] for name in ("source", "time")})[1:],
    )


def _print_bucket(bucket: Membership) -> bytes:
    parts = {
        "pairs": b'"%b"' % encode(bucket.bucket).encode(),
        "path": b'"%b"' % encode_hashes(bucket.path).encode(),
    }
    if (part := bucket.part) is not None:
        places = range(part.first, part.first + len(part.paths))
        parts["count"], parts["first"] = b"%d" % part.count, b"%d" % part.first
        parts["inner"] = _print_paths(dict(zip(places, part.paths, strict=True)), part.count)
    return _print_members(parts)


# --- parsing -------------------------------------------------------------------------------------


def parse_evidence(data: bytes) -> Evidence:
    """The evidence in `data`, which must be what `format_evidence` prints, a newline at its end
    allowed; Malformed `malformed-evidence` otherwise.
    """
    data = data.removesuffix(b"\n")
    try:
        try:
            evidence = _evidence(canonical.parse_printed(data, MAX_EVIDENCE))
            same = print_evidence(evidence) == data
        except LedgerError:
            canonical.parse(data, MAX_EVIDENCE)  # of two things that are wrong this is told
            raise
        if not same:
            canonical.parse(data, MAX_EVIDENCE)
    except LedgerError as err:
        raise Malformed("malformed-evidence", err.message) from err
    if not same:
        raise Malformed("malformed-evidence", "not printed as an evidence file is")
    return evidence


def _evidence(value: Any) -> Evidence:
    if type(value) is not dict or value.get("format") != FORM:
        raise Malformed("malformed-evidence", f"an evidence file says format {FORM!r}")
    parse_members(
        value,
        "format certificate question keys history bundles registry bucket status checkpoint "
        "genesis log",
        "status_then since",
    )
    signed = parse_text(value["checkpoint"]).encode()
    checkpoint = parse_checkpoint(signed)[0]
    origin, last = checkpoint.origin, checkpoint.size - 1
    bundles = {b.index: b for b in (_bundle(each, origin) for each in parse_list(value["bundles"]))}
    keys = _keys(canonical.encode(value["keys"]), origin)
    told = [_step(each, keys, bundles) for each in parse_list(value["history"])]
    history = tuple(step for step, _ in told)
    lines = {ordinal: line for ordinal, (_, line) in enumerate(told) if line is not None}
    if len(lines) > MAX_EVENTS:
        raise Malformed("malformed-evidence", f"at most {MAX_EVENTS} events are shown in full")
    statuses = {last: expand_status(parse_members(value["status"], *_STATUS), last)}
    then = None
    if "status_then" in value:
        parse_members(value["status_then"], f"index {_STATUS[0]}", _STATUS[1])
        then = parse_count(value["status_then"]["index"])
        statuses[then] = expand_status(value["status_then"], then)
    genesis = decode(value["genesis"], merkle.HASH_SIZE)
    logged = {index: bundle.data for index, bundle in bundles.items()} | statuses
    logged |= {key.since: key.entry for key in keys if key.entry is not None}
    logged |= {key.announced.index: key.announcing for key in keys if key.announced is not None}
    leaves = {index: merkle.leaf_hash(data) for index, data in logged.items()} | {0: genesis}
    paths = _split(leaves, checkpoint.size, value["log"])
    events = {n: p for b in bundles.values() for n, p in _line_paths(b, history, lines).items()}
    size, records = _registry(value["registry"], keys)
    return Evidence(
        origin=origin,
        certificate=parse_certificate(value["certificate"]),
        question=_question(value["question"]),
        history=history,
        events=tuple(ShownEvent(n, line, events[n]) for n, line in lines.items()),
        genesis=Beginning(genesis, paths[0]),
        entries=tuple(Shown(index, b.data, paths[index]) for index, b in sorted(bundles.items())),
        bucket=_bucket(value["bucket"]),
        registry_size=size,
        records=records,
        registrations=tuple(
            Registration(key.since, key.time, key.signatures, paths[key.since])
            for key in sorted(keys, key=lambda key: key.since)
            if key.entry is not None
        ),
        status=Shown(last, statuses[last], paths[last]),
        status_then=None if then is None else Shown(then, statuses[then], paths[then]),
        checkpoint=signed,
        since=_since(value["since"]) if "since" in value else None,
        announcements=tuple(
            replace(each, path=paths[each.index])
            for each in sorted(
                (key.announced for key in keys if key.announced is not None),
                key=lambda each: each.index,
            )
        ),
    )


@dataclass(frozen=True, slots=True)
class _Bundle:
    """A bundle's entry as a file has it."""

    index: int
    data: bytes
    header: Header
    path: str  # of its lines that are shown, joined


@dataclass(frozen=True, slots=True)
class _Key:
    """A key as a file has it: shown at a place in the registry, or nothing but its id."""

    key_id: str
    place: int = -1
    record: bytes = b""
    since: int = -1
    entry: bytes | None = None  # that registered it
    time: str = ""
    signatures: bytes = b""
    announced: Announcement | None = None
    announcing: bytes = b""  # the entry that announced its recovery


_BUNDLE = "index note outcome source time deltas path"
_STATUS = "registry_root time", "maps"
_LATER = "revoked doubted recovered announced"  # how a key came otherwise, and what became of it


def _bundle(value: Any, origin: str) -> _Bundle:
    parse_members(value, _BUNDLE)
    data, header = expand_bundle(value, origin)
    index, path = parse_count(value["index"]), value["path"]
    decode_hashes(path)  # in the order of the other parts, as the browser's verifier reads it
    return _Bundle(index, data, header, path)


@lru_cache(maxsize=64)
def _keys(printed: bytes, origin: str) -> tuple[_Key, ...]:
    """The list of keys, which many files share."""
    return tuple(_key(each, origin) for each in parse_list(canonical.loads(printed)))


def _key(value: Any, origin: str) -> _Key:
    if type(value) is str:
        return _Key(decode(value, merkle.HASH_SIZE).hex())
    parse_members(value, "public department role place from", f"{_LATER} time signatures")
    key = RegisteredKey(
        decode(value["public"], 32),
        parse_text(value["department"]),
        parse_text(value["role"]),
        parse_count(value["from"]),
        parse_count(value["revoked"]) if "revoked" in value else None,
        _doubted(value["doubted"]) if "doubted" in value else None,
        parse_count(value["recovered"]) if "recovered" in value else None,
    )
    time: str | None = None
    signed: tuple[str, ...] = ()
    if "time" in value or "signatures" in value:
        parse_members(value, "public department role place from time signatures", _LATER)
        time = parse_text(value["time"])
        if type(value["signatures"]) is not list:
            raise Malformed("malformed-evidence", "signatures are strings")
        if any(type(each) is not str for each in value["signatures"]):
            raise Malformed("malformed-evidence", "signatures are strings")
        signed = tuple(value["signatures"])
    made = replace(_expand_key(key, time, signed, origin), place=parse_count(value["place"]))
    if "announced" not in value:
        return made
    announced, entry = _announced(value["announced"], key, origin)
    return replace(made, announced=announced, announcing=entry)


def _announced(value: Any, key: RegisteredKey, origin: str) -> tuple[Announcement, bytes]:
    """The announcement of a key's recovery, and its entry."""
    told = list(parse_list(value))
    if len(told) < 4 or key.recovered is None:
        raise Malformed("malformed-evidence", "announced is of a recovered key, and signed")
    time, delay = parse_text(told[0]), parse_count(told[2])
    replaces = decode(told[1], merkle.HASH_SIZE)
    signatures = format_lines(expand_signatures(told[3:], origin, key.department))
    text = recovery_text(origin, key.key(origin), key.role, key.department, replaces, delay)
    entry = format_registry(text + b"\n" + signatures, time)
    return Announcement(key.recovered, time, replaces, delay, signatures, ()), entry


def _doubted(value: Any) -> tuple[int, int, str]:
    found = list(parse_list(value))
    if len(found) != 3:
        raise Malformed("malformed-evidence", "doubted is two log indexes and a hash")
    note = decode(found[2], merkle.HASH_SIZE).hex()
    return parse_count(found[0]), parse_count(found[1]), note


@lru_cache(maxsize=1024)
def _expand_key(key: RegisteredKey, time: str | None, signed: tuple[str, ...], origin: str) -> _Key:
    record, key_id = key.record(origin), key.key(origin).key_id
    if time is None:
        return _Key(key_id, 0, record, key.since)
    signatures = format_lines(expand_signatures(list(signed), origin, key.department))
    entry = format_registry(key.text(origin) + b"\n" + signatures, time)
    return _Key(key_id, 0, record, key.since, entry, time, signatures)


def _step(
    value: Any, keys: Sequence[_Key], bundles: Mapping[int, _Bundle]
) -> tuple[Step, bytes | None]:
    """(an element of the history, its line where it is shown)."""
    if type(value) is not dict or not {"entry", "position", "key"} <= value.keys():
        raise Malformed("malformed-evidence", "an element of a history has a place and a key")
    index, position = parse_count(value["entry"]), parse_count(value["position"])
    number = parse_count(value["key"])
    if position >= MAX_BUNDLE_EVENTS:
        raise Malformed("malformed-evidence", f"a bundle has at most {MAX_BUNDLE_EVENTS} events")
    if number >= len(keys):
        raise Malformed("malformed-evidence", "an element of a history names no key of the list")
    key_id = keys[number].key_id
    if "line" not in value:
        members = {n: v for n, v in value.items() if n not in ("entry", "position", "hash")}
        transition = parse_transition({**members, "key": key_id})
        line_hash = decode(value.get("hash"), merkle.HASH_SIZE)
        return Step(index, position, line_hash, transition), None
    parse_members(value, "entry position key version line")
    bundle = bundles.get(index)
    if bundle is None:
        raise Malformed("malformed-evidence", f"no bundle is shown at entry {index}")
    line = canonical.encode(value["line"])  # parsed strictly below
    line_hash = merkle.leaf_hash(line)
    event = parse_shown(line, line_hash)
    version = parse_count(value["version"])
    transition = make_transition(event, bundle.header.department, key_id, version)
    return Step(index, position, line_hash, transition), line


def _line_paths(
    bundle: _Bundle, history: Sequence[Step], lines: Mapping[int, bytes]
) -> dict[int, tuple[bytes, ...]]:
    """The paths of a bundle's lines that are shown, by their place in the history."""
    own = [n for n in lines if history[n].index == bundle.index]
    ordinals = {history[n].position: n for n in own}
    if len(ordinals) < len(own):
        raise Malformed("malformed-evidence", "a line is shown for two elements of the history")
    if not ordinals and not bundle.path:
        return {}
    hashes = {position: history[n].line_hash for position, n in ordinals.items()}
    paths = _split(hashes, bundle.header.count, bundle.path)
    return {ordinals[position]: path for position, path in paths.items()}


def _split(leaves: Mapping[int, bytes], size: int, joined: Any) -> Mapping[int, tuple[bytes, ...]]:
    """The path of each leaf (place to leaf hash) out of the joined ones, as printed."""
    if type(joined) is not str:
        decode_hashes(joined)  # says what is wrong
    return _split_joined(tuple(leaves.items()), size, joined)


@lru_cache(maxsize=256)
def _split_joined(
    leaves: tuple[tuple[int, bytes], ...], size: int, joined: str
) -> Mapping[int, tuple[bytes, ...]]:
    paths = merkle.split_paths(dict(leaves), size, decode_hashes(joined))
    _remember(_of_paths(paths, size), joined)  # joined again they are the same
    return paths


def _registry(value: Any, keys: Sequence[_Key]) -> tuple[int, tuple[Shown, ...]]:
    """(number of records in the registry, those that are shown)."""
    parse_members(value, "size records path")
    size, joined = parse_count(value["size"]), value["path"]
    leaves = {key.place: key.record for key in keys if key.record}
    for each in parse_list(value["records"]):
        parse_members(each, "place name since value", "note")
        leaves[parse_count(each["place"])] = expand_record(each)
    if not leaves and joined == "":
        return size, ()
    hashes = {place: merkle.leaf_hash(data) for place, data in leaves.items()}
    paths = _split(hashes, size, joined)
    return size, tuple(Shown(place, leaves[place], path) for place, path in paths.items())


def parse_certificate(value: Any) -> CertificateId:
    """The certificate whose parts these are."""
    parse_members(value, "type issuer number")
    identity.check_type(parse_text(value["type"]))
    identity.check_department(parse_text(value["issuer"]))
    identity.check_number(parse_text(value["number"]))
    return CertificateId(value["type"], value["issuer"], value["number"])


def _question(value: Any) -> Question:
    parse_members(value, "asked_at", "at known_at version")
    return Question(
        asked_at=times.parse_moment(parse_text(value["asked_at"])),
        at=_moment(value, "at"),
        known_at=_moment(value, "known_at"),
        version=parse_count(value["version"]) if "version" in value else None,
    )


def _moment(value: Mapping[str, Any], name: str) -> int | None:
    return times.parse_moment(parse_text(value[name])) if name in value else None


def _since(value: Any) -> Since:
    parse_members(value, "size path")
    path = tuple(decode_hashes(value["path"]))
    if len(path) > 2 * MAX_PATH:
        raise Malformed("malformed-evidence", f"a proof has at most {2 * MAX_PATH} hashes")
    return Since(parse_count(value["size"]), path)


def _bucket(value: Any) -> Membership:
    parse_members(value, "pairs path", "count first inner")
    pairs, path = decode(value["pairs"]), tuple(decode_hashes(value["path"]))
    part = None
    if len(path) > MAX_K or len(pairs) % PAIR:
        raise Malformed("malformed-evidence", "a bucket is pairs with a path of a map")
    if value.keys() & {"count", "first", "inner"}:
        parse_members(value, "pairs path count first inner")
        count, first = parse_count(value["count"]), parse_count(value["first"])
        leaves = {
            first + n: merkle.leaf_hash(pairs[n * PAIR : (n + 1) * PAIR])
            for n in range(len(pairs) // PAIR)
        }
        paths = _split(leaves, count, value["inner"])
        part = Part(count, first, tuple(paths[place] for place in leaves))
    return Membership(pairs, path, part)


def parse_members(value: Any, names: str, optional: str = "") -> Mapping[str, Any]:
    """An object of exactly these members, named in one string, and of some of the optional ones."""
    needed = set(names.split())
    if type(value) is not dict or not needed <= value.keys() <= needed | set(optional.split()):
        raise Malformed("malformed-evidence", f"the members here are: {names} {optional}".strip())
    return value


def parse_list(value: Any) -> Iterator[Any]:
    """The elements of a list."""
    if type(value) is not list:
        raise Malformed("malformed-evidence", "a list is expected")
    return iter(value)


def parse_text(value: Any) -> str:
    """A string."""
    if type(value) is not str:
        raise Malformed("malformed-evidence", "a string is expected")
    return value


def parse_count(value: Any) -> int:
    """A number from 0."""
    if type(value) is not int or value < 0:
        raise Malformed("malformed-evidence", "a number from 0 is expected")
    return value
