"""The registry: who exists, which keys are whose, who may do what; changed only by signed notes.

A record is `{form, name, since, note, value}`; the current records are the leaves, in the order of
`tree_place`, of a Merkle tree whose root stands in every status entry. What a record keeps by log
index (`from`, `until`, `revoked`) lets evidence judge an old event under today's registry.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any

from . import canonical, identity, merkle, times
from .bundle import MAX_LANES, bundle_key_name
from .checkpoint_keys import TrustedKey, format_keys, parse_keys, rotate
from .cosignature import ML_DSA_44, CosignerKey, parse_cosigner_key
from .errors import LedgerError, Malformed, ProofError, Refused
from .event import FIELDS
from .loss import Loss, LostIntake, parse_loss
from .note import Note, VerifierKey, decode_hash, format_text, parse_note, parse_vkey

RECORD_FORM = "certledger registry record v1"
NOTE_FORM = "certledger registry v1"
NO_RECORD = bytes(32)
MAX_VALUE = 16 * 1024
MAX_GRANTS = 192 * 1024  # bytes of a type's grants: its record has to fit into evidence
MAX_OFFICES = 4096  # of a service, past ones included
BUNDLE_ROLE, REGISTRY_ROLE = "bundle", "registry"
MIN_DELAY, MAX_DELAY = 7 * 86_400, 365 * 86_400  # seconds from an announced recovery to its effect
SCOPES = ("own", "any")
DEPARTMENT_MEMBERS = (
    "names", "authority_code", "time_zone", "contact", "silence_limit_seconds", "lanes",
)  # fmt: skip
_BESIDE = ("recovery", "former_lanes")  # what else a department's record says
MAX_LANE_CHANGES = 256  # of a department: its record is in every evidence file
PSEUDONYMS = "pseudonyms"  # the record that names all versions of the pseudonym secret
MAX_VERSION = 999_999
_MAX_VERSIONS = 64
_MAX_CATALOGUE_VERSIONS = 1024  # its record has to fit into evidence
_ACTS = tuple(FIELDS)
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")
_LANGUAGE = re.compile(r"[a-z]{2}")
_HASH = re.compile(r"[0-9a-f]{64}")

Records = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Registry:
    """The current records by name. `records` holds whole records as they are hashed."""

    origin: str
    records: Records = field(default_factory=dict)

    @cached_property
    def _keys(self) -> dict[tuple[str, str], list[tuple[VerifierKey, dict[str, Any]]]]:
        found: dict[tuple[str, str], list[tuple[VerifierKey, dict[str, Any]]]] = {}
        for name, record in sorted(self.records.items()):
            if name.startswith("key/"):
                value = record["value"]
                place = (value["department"], value["role"])
                found.setdefault(place, []).append((parse_vkey(value["vkey"]), value))
        return found

    def value(self, name: str) -> dict[str, Any] | None:
        """What the record says, None where there is none."""
        record = self.records.get(name)
        return None if record is None else record["value"]

    @cached_property
    def checkpoint_keys(self) -> tuple[TrustedKey, ...]:
        """The keys that ever had to sign the ledger's checkpoints, with the sizes of each."""
        value = self.value("ledger")
        return () if value is None else parse_keys(value["checkpoint_keys"])

    @property
    def checkpoint_vkey(self) -> str:
        """The key that signs checkpoints as notes now."""
        now = [k.key for k in self.checkpoint_keys if k.until_size is None]
        return next(str(key) for key in now if isinstance(key, VerifierKey))

    def departments(self) -> list[str]:
        """Ids of all departments, ascending."""
        return [name[11:] for name in sorted(self.records) if name.startswith("department/")]

    def lanes(self, department: str) -> int:
        """How many lanes a department has; 0 for an unknown one."""
        value = self.value(f"department/{department}")
        return 0 if value is None else int(value["lanes"])

    def lanes_ever(self, department: str) -> int:
        """The most lanes that a department ever had; 0 for an unknown one."""
        value = self.value(f"department/{department}")
        if value is None:
            return 0
        former = (each["lanes"] for each in value.get("former_lanes", ()))
        return int(max(value["lanes"], *former, 0))

    def keys(self, department: str, role: str) -> list[tuple[VerifierKey, dict[str, Any]]]:
        """All keys ever registered for a department and role, with what the record says."""
        return self._keys.get((department, role), [])

    @cached_property
    def doubts(self) -> dict[str, range]:
        """Ids of doubted keys, each with the log indexes at which it signed what is doubted."""
        return doubts_of(self.records.values())

    @cached_property
    def pseudonym_versions(self) -> frozenset[int] | None:
        """The versions of the pseudonym secret; None while the registry names none."""
        value = self.value(PSEUDONYMS)
        return None if value is None else frozenset(v["version"] for v in value["versions"])

    @cached_property
    def losses(self) -> tuple[tuple[int, Loss], ...]:
        """(log index, loss) of all that operators declared lost, in order."""
        values = [record for name, record in self.records.items() if name.startswith("loss/")]
        found = [(int(record["since"]), parse_loss(record["value"])) for record in values]
        return tuple(sorted(found, key=lambda item: item[0]))

    @cached_property
    def lost_intakes(self) -> dict[str, LostIntake]:
        """The intake topics that are gone, by id, in order."""
        return {loss.topic_id: loss for _, loss in self.losses if isinstance(loss, LostIntake)}

    @cached_property
    def catalogue_roots(self) -> frozenset[str]:
        """The roots, in hex, of all published catalogues."""
        return frozenset(
            version["root"]
            for name, record in self.records.items()
            if name.startswith("catalogue/")
            for version in record["value"]["versions"]
        )


def granted(type_value: Mapping[str, Any], department: str, act: str, index: int) -> str | None:
    """The widest scope that a type's record grants for an act at a log index, None for nothing."""
    scopes = {
        grant["scope"]
        for grant in type_value["grants"]
        if grant["department"] == department
        and act in grant["acts"]
        and grant["from"] <= index
        and (grant["until"] is None or index < grant["until"])
    }
    return "any" if "any" in scopes else "own" if scopes else None


def lanes_at(department_value: Mapping[str, Any], index: int) -> int:
    """How many lanes a department's record says that it had at a log index."""
    for former in department_value.get("former_lanes", ()):
        if index < former["until"]:
            return int(former["lanes"])
    return int(department_value["lanes"])


def key_active(key_value: Mapping[str, Any], index: int) -> bool:
    """Whether a key's record makes it valid at a log index."""
    revoked = key_value["revoked"]
    return bool(key_value["from"] <= index and (revoked is None or index < revoked))


def doubts_of(records: Iterable[Mapping[str, Any]]) -> dict[str, range]:
    """`Registry.doubts` out of records."""
    found = {}
    for record in records:
        name, value = record["name"], record["value"]
        if name.startswith("key/") and "doubted_from" in value:
            end = canonical.MAX_INTEGER if value["revoked"] is None else value["revoked"]
            found[name.removeprefix("key/")] = range(value["doubted_from"], end)
    return found


def told_doubt(note_bytes: bytes, origin: str) -> tuple[str, int] | None:
    """(key id, log index from which on it is doubted) where a logged note revokes a key with effect
    from earlier; None for any other. Malformed or Refused for what is no registry note of ours.
    """
    name, _, change = _parse_text(parse_note(note_bytes).text, origin)
    since = change.get("revoked")
    if name.startswith("key/") and type(since) is int:
        return name.removeprefix("key/"), since
    return None


def format_record(record: Mapping[str, Any]) -> bytes:
    """The leaf of a record in the registry's tree."""
    return canonical.format(dict(record))


def record_hash(record: Mapping[str, Any]) -> bytes:
    """The leaf hash of a record: how the next note names what it replaces."""
    return merkle.leaf_hash(format_record(record))


def lane_record(department: str, lane: int, since: int, value: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a lane's last logged bundle: the issuer's freshness (D13)."""
    return {
        "form": RECORD_FORM,
        "name": f"lane/{department}/{lane}",
        "since": since,
        "value": dict(value),
    }


def next_silence(records: Iterable[Mapping[str, Any]], after: int) -> int | None:
    """The first moment from `after` on at which a lane's silence reaches its department's limit, of
    all records; None where no lane's ever does.
    """
    values = {str(record["name"]): record["value"] for record in records}
    moments = []
    for name, value in values.items():
        if name.startswith("lane/") and value["signed_at"]:
            department = name.split("/")[1]
            limit = values[f"department/{department}"]["silence_limit_seconds"]
            if limit is not None:
                moments.append(times.parse_moment(value["signed_at"]) + limit * times.SECOND)
    return min((moment for moment in moments if moment >= after), default=None)


def tree_place(record: Mapping[str, Any]) -> bytes:
    """What the tree's order ascends by: the name part by part, keys and lanes after the record of
    their department, so that what evidence shows of a department stands together.
    """
    name = str(record["name"])
    kind, _, rest = name.partition("/")
    if kind == "key":
        name = f"department/{record['value']['department']}/{name}"
    elif kind == "lane":
        department, _, number = rest.partition("/")
        name = f"department/{department}/lane/{number}"
    return name.replace("/", "\0").encode()


# --- notes ---


def operator_key_name(origin: str) -> str:
    """The name under which the operator signs registry notes."""
    return f"{origin}/operator"


def registry_key_name(origin: str, department: str) -> str:
    """The name under which a department signs registry notes."""
    return f"{origin}/department/{department}/registry"


def key_name(origin: str, department: str, role: str) -> str:
    """The name of a department's key in a role."""
    if role == REGISTRY_ROLE:
        return registry_key_name(origin, department)
    return bundle_key_name(origin, department)


def note_text(origin: str, name: str, replaces: bytes, change: Mapping[str, Any]) -> bytes:
    """The text to sign for a change of record `name`, which now has hash `replaces`."""
    body = canonical.format(dict(change)).decode()
    return format_text(
        [f"{origin}/registry/{name}", NOTE_FORM, base64.b64encode(replaces).decode(), body]
    )


def registration_text(origin: str, key: VerifierKey, role: str, department: str) -> bytes:
    """The text of the note that registers a new key."""
    change = {"vkey": str(key), "role": role, "department": department, "revoked": False}
    return note_text(origin, f"key/{key.key_id}", NO_RECORD, change)


def recovery_text(
    origin: str, key: VerifierKey, role: str, department: str, replaces: bytes, delay_seconds: int
) -> bytes:
    """The text of the note that announces a key's recovery; the department's record now has hash
    `replaces`.
    """
    said = {"vkey": str(key), "role": role, "delay_seconds": delay_seconds}
    return note_text(origin, f"department/{department}", replaces, {"recover": said})


def genesis_records(
    origin: str, checkpoint_vkey: str, operator_vkey: str, cosigner_vkey: str | None = None
) -> dict[str, Any]:
    """The records that entry 0 makes; Refused unless different keys, each of its role's name."""
    operator = parse_vkey(operator_vkey)
    if operator.name != operator_key_name(origin):
        raise Refused(
            "registry-refused", f"the operator's key is named {operator_key_name(origin)}"
        )
    new = _new_checkpoint_keys(origin, checkpoint_vkey, cosigner_vkey)
    if any(key.public == operator.public for key in new):
        raise Refused("key-in-use", "one key cannot sign checkpoints and registry notes")
    return {
        name: {"form": RECORD_FORM, "name": name, "since": 0, "value": value}
        for name, value in (
            ("ledger", {"origin": origin, "checkpoint_keys": format_keys(rotate((), new, 0))}),
            ("operator", {"vkey": operator_vkey}),
        )
    }


def first_keys(genesis: Mapping[str, Any]) -> tuple[TrustedKey, ...]:
    """The keys of checkpoints that a parsed entry 0 names."""
    vkeys = genesis["checkpoint_vkey"], genesis.get("cosigner_vkey")
    return tuple(rotate((), _new_checkpoint_keys(genesis["origin"], *vkeys), 0))


def _new_checkpoint_keys(
    origin: str, checkpoint_vkey: str, cosigner_vkey: str | None
) -> list[VerifierKey | CosignerKey]:
    keys: list[VerifierKey | CosignerKey] = [parse_vkey(checkpoint_vkey)]
    if cosigner_vkey is not None:
        cosigner = parse_cosigner_key(cosigner_vkey)
        if cosigner.kind != ML_DSA_44:
            raise Refused("registry-refused", "a ledger cosigns its checkpoints with ML-DSA-44")
        keys.append(cosigner)
    if any(key.name != origin for key in keys):
        raise Refused("registry-refused", f"the keys of checkpoints are named {origin}")
    return keys


@dataclass(frozen=True, slots=True)
class Change:
    """An accepted change: the new forms of records, that of the note's own first, and how many
    lanes its department has from now on, begun anew; 0 where it has those that it had.
    """

    records: tuple[dict[str, Any], ...]
    opens_lanes: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """The record that the note names."""
        return self.records[0]


def apply_note(registry: Registry, note_bytes: bytes, index: int, now: int) -> Change | None:
    """What the note changes when it becomes entry `index` at the ledger time `now`; None when it is
    in force already.

    Malformed, ProofError or Refused otherwise (codes `registry-…`, `key-in-use`,
    `recovery-not-due`).
    """
    note = parse_note(note_bytes)
    name, replaces, change = _parse_text(note.text, registry.origin)
    kind, slash, rest = name.partition("/")
    current = registry.records.get(name)
    text_hash = merkle.leaf_hash(note.text).hex()
    if current is not None and current.get("note") == text_hash:
        return None
    if replaces != (NO_RECORD if current is None else record_hash(current)):
        raise Refused("registry-conflict", f"{name} is not what the note replaces")
    rules = {
        "department": _department,
        "key": _key,
        "type": _type,
        "catalogue": _catalogue,
        "service": _service,
        "ledger": _ledger,
        "loss": _loss,
        PSEUDONYMS: _pseudonyms,
    }
    if kind not in rules or (kind in ("ledger", PSEUDONYMS)) == bool(slash):
        raise Refused("registry-refused", f"no record {name[:80]!r} can be changed by a note")
    if name == f"department/{rest}" and change.keys() <= {"recover", "object"}:
        values, opens = {name: _recovery(registry, note, rest, change, index, now)}, 0
    else:
        value, opens = rules[kind](registry, note, rest, change, index, now)
        values = {name: value}
        if kind == "key" and current is None:
            values |= _complete(registry, value)
    records = (
        {"form": RECORD_FORM, "name": each, "since": index, "note": text_hash, "value": value}
        for each, value in values.items()
    )
    return Change(tuple(records), opens)


def _parse_text(text: bytes, origin: str) -> tuple[str, bytes, dict[str, Any]]:
    lines = text.decode().split("\n")
    if len(lines) != 5 or lines[1] != NOTE_FORM:
        raise Malformed(
            "malformed-note", f"a registry note has four lines, the second {NOTE_FORM!r}"
        )
    prefix = f"{origin}/registry/"
    if not lines[0].startswith(prefix):
        raise Refused("foreign-ledger", f"the note is for {lines[0][:120]!r}")
    change = canonical.parse(lines[3].encode(), MAX_VALUE)
    if type(change) is not dict:
        raise Malformed("malformed-note", "the change is a JSON object")
    return lines[0][len(prefix) :], decode_hash(lines[2]), change


def is_signed_by(note: Note, key: VerifierKey) -> bool:
    """Whether a key signed a note, and nothing else in its name."""
    try:
        note.check_signed_by(key)
    except ProofError:
        return False
    return True


def _need_operator(registry: Registry, note: Note) -> None:
    value = registry.value("operator")
    if value is None or not is_signed_by(note, parse_vkey(value["vkey"])):
        raise Refused("registry-signature", "the operator's signature is needed")


def _need_department(registry: Registry, note: Note, department: str, index: int) -> None:
    if not _is_by_department(registry, note, department, REGISTRY_ROLE, index):
        raise Refused("registry-signature", f"a registry key of {department} must sign")


def _department(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    try:
        identity.check_department(rest)
        _check_members(change, " ".join(DEPARTMENT_MEMBERS))
        _check_names(change["names"])
        _check_text(change, "authority_code", 64)
        _check_text(change, "contact", 256)
        zone = change["time_zone"]
        if type(zone) is not str or not _ZONE.fullmatch(zone):
            raise Malformed("malformed-note", "time_zone is an IANA name like Asia/Shanghai")
        limit = change["silence_limit_seconds"]
        if limit is not None and (type(limit) is not int or limit < 1):
            raise Malformed("malformed-note", "silence_limit_seconds is a number from 1, or null")
        lanes = change["lanes"]
        if type(lanes) is not int or not 1 <= lanes <= MAX_LANES:
            raise Malformed("malformed-note", f"lanes is a number from 1 to {MAX_LANES}")
    except LedgerError as err:
        raise Malformed("malformed-note", err.message) from err
    before = registry.value(f"department/{rest}")
    if before is None:
        _need_operator(registry, note)
        return change, lanes
    _need_department(registry, note, rest, index)
    value = {**{name: before[name] for name in _BESIDE if name in before}, **change}
    if before["lanes"] == lanes:
        return value, 0
    _need_operator(registry, note)
    former = [*before.get("former_lanes", ()), {"lanes": before["lanes"], "until": index}]
    if len(former) > MAX_LANE_CHANGES:
        raise Refused(
            "registry-refused",
            f"{rest} changed its number of lanes {MAX_LANE_CHANGES} times: this one stays",
        )
    return {**value, "former_lanes": former}, lanes


def _recovery(
    registry: Registry, note: Note, department: str, change: dict[str, Any], index: int, now: int
) -> dict[str, Any]:
    """The department's record with a key's recovery announced, or objected to."""
    before = registry.value(f"department/{department}")
    if before is None:
        raise Refused("unknown-department", f"no department {department[:63]!r}")
    pending = dict(before.get("recovery", {}))
    if "object" in change:
        _check_members(change, "object")
        role = change["object"]
        if type(role) is not str or role not in pending:
            raise Refused("registry-refused", f"no recovery of this role of {department} stands")
        _need_objector(registry, note, department, role, index)
        del pending[role]
    else:
        _check_members(change, "recover")
        role, told = _announce(registry, note, department, change["recover"], pending, index, now)
        pending[role] = told
    value = {name: said for name, said in before.items() if name != "recovery"}
    return {**value, "recovery": pending} if pending else value


def _announce(
    registry: Registry,
    note: Note,
    department: str,
    said: Any,
    pending: Mapping[str, Any],
    index: int,
    now: int,
) -> tuple[str, dict[str, Any]]:
    """(role, what the department's record says of its recovery)."""
    role, key, delay = _parse_recovery(said)
    if key.name != key_name(registry.origin, department, role):
        raise Refused("registry-refused", f"a {role} key of {department} has another name")
    _check_free(registry, key.public)
    if f"key/{key.key_id}" in registry.records:
        raise Refused("key-in-use")
    if not registry.keys(department, role):
        raise Refused("registry-refused", f"{department} never had a {role} key to recover")
    if role in pending:
        told = pending[role]
        raise Refused(
            "registry-refused",
            f"entry {told['announced']} announced a recovery from {told['from']} on: it has to be "
            "objected to before another one",
        )
    if not is_signed_by(note, key):
        raise Refused("registry-signature", "the new key must sign too (proof of possession)")
    _need_rescuer(registry, note, department, role, index)
    begin = times.format_moment(now + delay * times.SECOND)
    return role, {"vkey": str(key), "announced": index, "from": begin}


def _parse_recovery(said: Any) -> tuple[str, VerifierKey, int]:
    """(role, new key, delay in seconds) that an announcement says."""
    _check_members(said, "role vkey delay_seconds")
    role, vkey, delay = said["role"], said["vkey"], said["delay_seconds"]
    if role not in (BUNDLE_ROLE, REGISTRY_ROLE) or type(vkey) is not str or type(delay) is not int:
        raise Malformed(
            "malformed-note", "role is bundle or registry, vkey a string, delay_seconds a number"
        )
    if not MIN_DELAY <= delay <= MAX_DELAY:
        raise Refused(
            "registry-refused",
            f"delay_seconds is {delay}, from {MIN_DELAY} to {MAX_DELAY} is allowed",
        )
    return role, parse_vkey(vkey), delay


def _is_by_department(
    registry: Registry, note: Note, department: str, role: str, index: int
) -> bool:
    """Whether a valid key of the department in a role signed."""
    keys = registry.keys(department, role)
    return any(key_active(value, index) and is_signed_by(note, key) for key, value in keys)


def _need_rescuer(registry: Registry, note: Note, department: str, role: str, index: int) -> None:
    """A recovery is the operator's to make; that of a bundle key also the department's."""
    if role == BUNDLE_ROLE and _is_by_department(registry, note, department, REGISTRY_ROLE, index):
        return
    _need_operator(registry, note)


def _need_objector(registry: Registry, note: Note, department: str, role: str, index: int) -> None:
    if not any(
        _is_by_department(registry, note, department, each, index) for each in {role, REGISTRY_ROLE}
    ):
        _need_operator(registry, note)


def _complete(registry: Registry, value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the registration of a new key leaves of an announced recovery: the department's record
    by name, where it changes.
    """
    name = f"department/{value['department']}"
    department = registry.value(name) or {}
    pending = department.get("recovery", {})
    if pending.get(value["role"], {}).get("vkey") != value["vkey"]:
        return {}
    left = {role: said for role, said in pending.items() if role != value["role"]}
    rest = {member: said for member, said in department.items() if member != "recovery"}
    return {name: {**rest, "recovery": left} if left else rest}


def _key(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    _check_members(change, "vkey role department revoked")
    role, department = change["role"], change["department"]
    if role not in (BUNDLE_ROLE, REGISTRY_ROLE) or type(department) is not str:
        raise Malformed("malformed-note", "role is bundle or registry, department an id")
    if type(change["vkey"]) is not str:
        raise Malformed("malformed-note", "vkey is a string")
    key = parse_vkey(change["vkey"])
    if key.key_id != rest:
        raise Malformed("malformed-note", "the record's name is not the key's id")
    if registry.value(f"department/{department}") is None:
        raise Refused("unknown-department", f"no department {department[:63]!r}")
    if key.name != key_name(registry.origin, department, role):
        raise Refused("registry-refused", f"a {role} key of {department} has another name")
    _check_free(registry, key.public)
    before = registry.value(f"key/{rest}")
    if before is not None:
        if (before["vkey"], before["role"], before["department"]) != (
            change["vkey"],
            role,
            department,
        ):
            raise Refused("key-in-use")
        return _revoke(registry, note, before, change["revoked"], index), 0
    if change["revoked"] is not False:
        raise Malformed("malformed-note", "a new key is not revoked")
    if not is_signed_by(note, key):
        raise Refused("registry-signature", "the new key must sign too (proof of possession)")
    value = {
        "vkey": change["vkey"],
        "role": role,
        "department": department,
        "from": index,
        "revoked": None,
    }
    own = registry.keys(department, role)
    if not own and role == REGISTRY_ROLE:
        _need_operator(registry, note)
    elif not own or _is_by_department(registry, note, department, role, index):
        _need_department(registry, note, department, index)
    else:
        value["recovered"] = _need_recovery(registry, note, key, role, department, index, now)
    return value, 0


def _need_recovery(
    registry: Registry,
    note: Note,
    key: VerifierKey,
    role: str,
    department: str,
    index: int,
    now: int,
) -> int:
    """The log index of the announcement by which a key comes without the previous one; Refused
    unless it is due.
    """
    told = (registry.value(f"department/{department}") or {}).get("recovery", {}).get(role)
    if told is None or told["vkey"] != str(key):
        raise Refused(
            "registry-signature",
            f"a valid {role} key of {department} must sign, or this key be announced as a recovery",
        )
    _need_rescuer(registry, note, department, role, index)
    if now < times.parse_moment(told["from"]):
        raise Refused(
            "recovery-not-due",
            f"entry {told['announced']} announced it from {told['from']} on, it is "
            f"{times.format_moment(now)}",
        )
    return int(told["announced"])


def _revoke(
    registry: Registry, note: Note, before: dict[str, Any], revoked: Any, index: int
) -> dict[str, Any]:
    if type(revoked) is int and 0 <= revoked < index:
        _need_department(registry, note, before["department"], index)
        return _doubt(before, revoked, index)
    if revoked is not True:
        raise Malformed("malformed-note", "revoked is true (from now) or an earlier log index")
    if before["revoked"] is not None:
        raise Refused("registry-refused", "the key is revoked already")
    _need_department(registry, note, before["department"], index)
    others = [
        value
        for _, value in registry.keys(before["department"], before["role"])
        if value["vkey"] != before["vkey"] and key_active(value, index)
    ]
    if before["role"] == REGISTRY_ROLE and not others:
        raise Refused("registry-refused", "the last registry key cannot be revoked: rotate it")
    return {**before, "revoked": index}


def _doubt(before: dict[str, Any], since: int, index: int) -> dict[str, Any]:
    """The key revoked with effect from entry `since`, which is before `index`."""
    if before["role"] != BUNDLE_ROLE:
        raise Refused(
            "registry-refused",
            "a registry key signs no events: revoke it from now on, and the bundle keys that it "
            "brought from earlier",
        )
    if since < before["from"]:
        raise Refused(
            "registry-refused", f"the key is there from entry {before['from']} on, not {since}"
        )
    last = before.get("doubted_from", before["revoked"])
    if last is not None and since >= last:
        raise Refused(
            "registry-refused",
            f"the key is {'doubted' if 'doubted_from' in before else 'revoked'} from entry {last} "
            f"on already: only an earlier one can be named, not {since}",
        )
    revoked = index if before["revoked"] is None else before["revoked"]
    return {**before, "revoked": revoked, "doubted_from": since}


def _type(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    identity.check_type(rest)
    _check_members(change, "names code grants")
    _check_names(change["names"])
    _check_text(change, "code", 64)
    _need_operator(registry, note)
    grants = change["grants"]
    if type(grants) is not list or len(grants) > 512:
        raise Malformed("malformed-note", "grants is a list of at most 512")
    wanted = []
    for grant in grants:
        _check_members(grant, "department acts scope")
        acts = grant["acts"]
        if type(grant["department"]) is not str:
            raise Malformed("malformed-note", "department is an id")
        if (
            type(acts) is not list
            or not acts
            or any(act not in _ACTS for act in acts)
            or any(one >= other for one, other in pairwise(acts))
        ):
            raise Malformed("malformed-note", "acts is an ascending list of event kinds")
        if grant["scope"] not in SCOPES or grant in wanted:
            raise Malformed("malformed-note", "scope is own or any, and no grant stands twice")
        if registry.value(f"department/{grant['department']}") is None:
            raise Refused("unknown-department", f"no department {grant['department'][:63]!r}")
        wanted.append(grant)
    before = registry.value(f"type/{rest}")
    kept = []
    for old in [] if before is None else before["grants"]:
        plain = {name: old[name] for name in ("department", "acts", "scope")}
        if old["until"] is None and plain in wanted:
            wanted.remove(plain)
            kept.append(old)
        else:
            kept.append(old if old["until"] is not None else {**old, "until": index})
    kept += [{**grant, "from": index, "until": None} for grant in wanted]
    size = len(canonical.format(kept))
    if wanted and size > MAX_GRANTS:  # what closes grants is never refused
        raise Refused(
            "registry-refused",
            f"the type's grants, past ones included, would have {size} bytes, at most {MAX_GRANTS}",
        )
    return {"names": change["names"], "code": change["code"], "grants": kept}, 0


def _service(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    """The offices that offer a service, and so may rely on certificates for it."""
    identity.check_type(rest)
    _check_members(change, "names offices")
    _check_names(change["names"])
    _need_operator(registry, note)
    wanted = change["offices"]
    if type(wanted) is not list or any(type(office) is not str for office in wanted):
        raise Malformed("malformed-note", "offices is a list of department ids")
    if any(one >= other for one, other in pairwise(wanted)):
        raise Malformed("malformed-note", "offices ascend, each once")
    for office in wanted:
        if registry.value(f"department/{office}") is None:
            raise Refused("unknown-department", f"no department {office[:63]!r}")
    kept = []
    for old in (registry.value(f"service/{rest}") or {"offices": []})["offices"]:
        stays = old["until"] is not None or old["department"] in wanted
        kept.append(old if stays else {**old, "until": index})
    current = {old["department"] for old in kept if old["until"] is None}
    kept += [
        {"department": office, "from": index, "until": None}
        for office in wanted
        if office not in current
    ]
    if wanted and len(kept) > MAX_OFFICES:  # what takes offices away is never refused
        raise Refused("registry-refused", f"over {MAX_OFFICES} offices, past ones included")
    return {"names": change["names"], "offices": kept}, 0


def _pseudonyms(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    _check_members(change, "version check")
    version, check = change["version"], change["check"]
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise Malformed("malformed-note", f"version is a number from 1 to {MAX_VERSION}")
    if type(check) is not str or not _HASH.fullmatch(check):
        raise Malformed("malformed-note", "check is 64 hex digits")
    _need_operator(registry, note)
    known = (registry.value(PSEUDONYMS) or {"versions": []})["versions"]
    if known and version <= known[-1]["version"]:
        raise Refused("registry-refused", "versions ascend, and none is ever taken back")
    if len(known) == _MAX_VERSIONS:
        raise Refused("registry-refused", f"there are {_MAX_VERSIONS} versions already")
    return {"versions": [*known, {**change, "from": index}]}, 0


def _catalogue(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    """One more version of a department's catalogue of public services."""
    department, found, code = rest.partition("/")
    if not found or registry.value(f"department/{department}") is None:
        raise Refused("unknown-department", f"no department {department[:63]!r}")
    identity.check_type(code)
    _check_members(change, "version root size")
    version, root, size = change["version"], change["root"], change["size"]
    if type(root) is not str or not _HASH.fullmatch(root):
        raise Malformed("malformed-note", "root is 64 hex digits")
    if type(size) is not int or not 1 <= size <= canonical.MAX_INTEGER:
        raise Malformed("malformed-note", "size is a number of leaves from 1")
    _need_department(registry, note, department, index)
    known = (registry.value(f"catalogue/{rest}") or {"versions": []})["versions"]
    if type(version) is not int or version != len(known) + 1:
        raise Refused("registry-refused", f"the next version is {len(known) + 1}")
    if version > _MAX_CATALOGUE_VERSIONS:
        raise Refused(
            "registry-refused",
            f"a catalogue has at most {_MAX_CATALOGUE_VERSIONS} versions: go on under a new code",
        )
    return {"versions": [*known, {**change, "from": index}]}, 0


def _ledger(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    """New keys for checkpoints: they sign from the first one on that holds this entry."""
    _check_members(change, "checkpoint_vkey cosigner_vkey")
    vkeys = change["checkpoint_vkey"], change["cosigner_vkey"]
    if type(vkeys[0]) is not str or not (vkeys[1] is None or type(vkeys[1]) is str):
        raise Malformed("malformed-note", "checkpoint_vkey is a string, cosigner_vkey too or null")
    new = _new_checkpoint_keys(registry.origin, *vkeys)
    before = registry.checkpoint_keys
    if vkeys[1] is None and any(isinstance(k.key, CosignerKey) for k in before):
        raise Refused("registry-refused", "a ledger that cosigns does not stop to")
    for key in new:
        _check_free(registry, key.public)
        if f"key/{sha256(key.public).hexdigest()}" in registry.records:
            raise Refused("key-in-use", "this is a department's key")
    _need_operator(registry, note)
    old = parse_vkey(registry.checkpoint_vkey)
    for signer, what in ((old, "the key that signs now"), (parse_vkey(vkeys[0]), "the new key")):
        if not is_signed_by(note, signer):
            raise Refused("registry-signature", f"{what} must sign too")
    keys = format_keys(rotate(before, new, index + 1))
    return {"origin": registry.origin, "checkpoint_keys": keys}, 0


def _loss(
    registry: Registry, note: Note, rest: str, change: dict[str, Any], index: int, now: int
) -> tuple[dict[str, Any], int]:
    """One more loss. Whether that is missing, and no more, is compared where it is applied."""
    _need_operator(registry, note)
    parse_loss(change)
    if rest != str(len(registry.losses) + 1):
        raise Refused("registry-refused", f"the next loss is number {len(registry.losses) + 1}")
    return change, 0


def _check_free(registry: Registry, public: bytes) -> None:
    """None when no ledger's, operator's or other role's record holds this public key."""
    operator = registry.value("operator")
    if operator is not None and parse_vkey(operator["vkey"]).public == public:
        raise Refused("key-in-use", "this is the operator's key")
    if any(k.key.public == public for k in registry.checkpoint_keys):
        raise Refused("key-in-use", "this is a key of the ledger's checkpoints")


def _check_members(value: Any, names: str) -> None:
    if type(value) is not dict or value.keys() != set(names.split()):
        raise Malformed("malformed-note", f"the members are: {names}")


def _check_names(names: Any) -> None:
    if type(names) is not dict or not names:
        raise Malformed("malformed-note", "names has at least one language, like zh or en")
    for language, text in names.items():
        if not _LANGUAGE.fullmatch(language) or type(text) is not str or not 1 <= len(text) <= 256:
            raise Malformed("malformed-note", "names: two-letter language to 1 to 256 characters")


def _check_text(value: Mapping[str, Any], name: str, limit: int) -> None:
    if type(value[name]) is not str or len(value[name]) > limit:
        raise Malformed("malformed-note", f"{name} is a string of at most {limit} characters")
