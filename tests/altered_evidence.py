"""Evidence of many certificates and questions, and seeded alterations of each part of a file.

An alteration may be made to fit again, by the test's own checkpoint key: roots in the status entry
and in the checkpoint are computed anew, so that later checks are reached by what earlier ones would
have refused.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ledger import canonical, evidence, merkle, statusmap, times
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner
from ledger.errors import LedgerError
from ledger.evidence import format_evidence
from ledger.note import MemorySigner, Signature, sign
from ledger.policy import Witness, simple_policy
from ledger.registry import MIN_DELAY
from ledger.trust import Trust, TrustedKey, TrustedQuorum, format_trust
from ledger.witnessing import add_signatures
from tests import world
from tests.ledger_builder import LedgerBuilder

GRANTS = (
    ("a", world.ALL_ACTS, "own"),
    ("b", world.ALL_ACTS, "own"),
    ("c", ("corrected", "revoked"), "any"),
)
DAY = 86_400


@dataclass(frozen=True)
class Case:
    """A file, what it is checked against, when, and what is asked (keywords of `check_file`)."""

    data: bytes
    trust: Trust
    now: int
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def trust_text(self) -> str:
        return format_trust(self.trust).decode()


def make_town() -> LedgerBuilder:
    """A ledger with a certificate for each way of life, by number."""
    ledger = LedgerBuilder({"a": 1, "b": 2, "c": 1}, GRANTS)
    dates = {"valid_from": "2026-02-01+08:00", "valid_until": "2026-12-31+08:00"}
    ledger.publish([ledger.event("issued", f"other {n}", change="x") for n in range(20)])
    ways: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
        "plain": [],
        "湘长市监许 2023-0403/7": [],
        "suspended": [("suspended", "a", {"reason_code": "inspection"})],
        "paused": [
            ("suspended", "a", {"reason_code": "x", "valid_until": "2026-03-10+08:00"}),
            ("reinstated", "a", {}),
        ],
        "penalty": [("revoked", "c", {"revocation_kind": "penalty"})],
        "moved": [("transferred-out", "a", {"transfer_to": "b"}), ("transferred-in", "b", {})],
        "renewed": [("renewed", "a", {"valid_until": "2027-12-31+08:00"})],
        "amended": [("amended", "a", {"reason_code": "address"})],
    }
    for number, acts in ways.items():
        ledger.admit("issued", number, **dates)
        for kind, department, members in acts:
            ledger.advance(60)
            time = times.format_moment(ledger.now)
            ledger.admit(kind, number, department, time=time, **members)
        ledger.status()
    ledger.admit("issued", "unknown", valid_from="unknown", valid_until="unknown")
    ledger.admit("issued", "future", valid_from="2026-06-01+08:00")
    line = ledger.event("issued", "wrong", **dates)
    ledger.admit("issued", "wrong", **dates)
    wrong = str(canonical.loads(line)["id"])
    ledger.advance(DAY)
    time = times.format_moment(ledger.now)
    for kind, n in (("void", 1), ("restate", 2)):
        dated = {"valid_until": "2026-10-01+08:00"} if kind == "restate" else {}
        number, corrected = "wrong", wrong
        if kind == "restate":
            number = "restated"
            corrected = str(canonical.loads(ledger.event("issued", number, **dates))["id"])
            ledger.admit("issued", number, **dates)
        members = {"corrects": corrected, "correction": kind, "reason_code": "clerical", **dated}
        ledger.admit("corrected", number, change=str(n), time=time, **members)
    _doubt(ledger)
    since, void = _lean(ledger)
    _recover(ledger)
    old, owner = world.bundle_signer("c"), world.registry_signer("c", "2")
    change = world.key_change(old, "bundle", "c", since)
    ledger.change(f"key/{old.key.key_id}", change, owner)
    time = times.format_moment(ledger.now)
    members = {"correction": "confirm", "reason_code": "ours", "corrects": void, "change": "2"}
    ledger.admit("corrected", "leant rightly", "c", time=time, **members)
    ledger.change(
        "department/a", world.department_change("a", 3), world.registry_signer("a"), world.OPERATOR
    )
    time = times.format_moment(ledger.now)
    ledger.admit("renewed", "amended", time=time, valid_until="2027-12-31+08:00")
    for lane in range(3):
        ledger.publish([], "a", lane)
    ledger.status()
    return ledger


def _doubt(ledger: LedgerBuilder) -> None:
    """The key of a's bundles turns out to have been stolen before its last events."""
    for number in ("rewound", "taken", "given back"):
        ledger.admit("issued", number, valid_from="2026-02-01+08:00")
    since = len(ledger.entries)
    for kind, change in (("suspended", "1"), ("reinstated", "2"), ("suspended", "3")):
        time = times.format_moment(ledger.now)
        ledger.admit(kind, "rewound", time=time, reason_code="stolen", change=change)
    for number in ("doubted", "confirmed", "reworded", "revived"):
        ledger.admit("issued", number, valid_from="2026-02-01+08:00")
    ledger.status()
    owner = world.registry_signer("a")
    stolen, new = world.bundle_signer("a"), world.bundle_signer("a", "2")
    for key, signers, revoked in ((new, (owner, new, stolen), False), (stolen, (owner,), since)):
        change = world.key_change(key, "bundle", "a", revoked)
        ledger.change(f"key/{key.key.key_id}", change, *signers)
    ledger.keys["a"] = new
    ledger.advance(60)
    members = {"correction": "confirm", "reason_code": "ours"}
    confirmed = str(canonical.loads(ledger.event("issued", "confirmed"))["id"])
    time = times.format_moment(ledger.now)
    ledger.admit("corrected", "confirmed", corrects=confirmed, time=time, **members)
    said = {
        "reason_code": "stolen",
        "change": "1",
        "time": times.format_moment(ledger.now - 60 * times.SECOND),
    }
    first = str(canonical.loads(ledger.event("suspended", "rewound", **said))["id"])
    members = {"correction": "rewind", "reason_code": "stolen", "time": time}
    ledger.admit("corrected", "rewound", corrects=first, **members)
    _settle_otherwise(ledger, new, time)


def _settle_otherwise(ledger: LedgerBuilder, key: MemorySigner, time: str) -> None:
    """One event is restated; of another a confirmation is voided, and that by a key stolen, too."""
    event = ledger.event("issued", "reworded")
    members = {"reason_code": "ours", "time": time, "correction": "restate"}
    dated = {"valid_from": "2026-02-02+08:00", "corrects": str(canonical.loads(event)["id"])}
    ledger.admit("corrected", "reworded", **members, **dated)
    corrects = str(canonical.loads(ledger.event("issued", "revived"))["id"])
    since = 0
    for change, kind in (("1", "confirm"), ("2", "void"), ("3", "void")):
        members = {"reason_code": "ours", "time": time, "correction": kind, "corrects": corrects}
        since = ledger.admit("corrected", "revived", change=change, **members)
        said = ledger.event("corrected", "revived", change=change, **members)
        corrects = str(canonical.loads(said)["id"])
    rewinds = {}
    for number in ("taken", "given back"):
        issued = str(canonical.loads(ledger.event("issued", number))["id"])
        members = {"correction": "rewind", "reason_code": "stolen", "time": time}
        ledger.admit("corrected", number, corrects=issued, **members)
        said = ledger.event("corrected", number, corrects=issued, **members)
        rewinds[number] = str(canonical.loads(said)["id"])
    ledger.status()
    owner, new = world.registry_signer("a"), world.bundle_signer("a", "3")
    for each, signers, revoked in ((new, (owner, new, key), False), (key, (owner,), since)):
        change = world.key_change(each, "bundle", "a", revoked)
        ledger.change(f"key/{each.key.key_id}", change, *signers)
    ledger.keys["a"] = new
    ledger.advance(60)
    members = {"correction": "rewind", "reason_code": "ours", "time": time, "change": "9"}
    ledger.admit("corrected", "given back", corrects=rewinds["given back"], **members)


def _lean(ledger: LedgerBuilder) -> tuple[int, str]:
    """c takes penalties back by a key that will be doubted, and a rewinds to before them: since
    which entry, and the id of what c will confirm.
    """
    first = len(ledger.entries)
    since, void = first, ""
    time = times.format_moment(ledger.now)
    for number in ("leaning", "leant rightly"):
        ledger.admit("issued", number, valid_from="2026-02-01+08:00")
        penalty = {"revocation_kind": "penalty", "time": time}
        ledger.admit("revoked", number, "c", **penalty)
        since = len(ledger.entries) if since == first else since
        corrects = str(canonical.loads(ledger.event("revoked", number, **penalty))["id"])
        members = {"reason_code": "error", "corrects": corrects, "time": time}
        ledger.admit("corrected", number, "c", correction="void", **members)
        void = str(
            canonical.loads(ledger.event("corrected", number, correction="void", **members))["id"]
        )
        ledger.admit("corrected", number, correction="rewind", change="a", **members)
    return since, void


def _recover(ledger: LedgerBuilder) -> None:
    """c lost its keys and gets new ones, b will get one."""
    operator = world.OPERATOR
    keys = [
        ("registry", world.registry_signer("c", "2")),
        ("bundle", world.bundle_signer("c", "2")),
    ]
    for role, key in keys:
        _announce(ledger, "c", role, key)
    ledger.advance(MIN_DELAY)
    for role, key in keys:
        change = world.key_change(key, role, "c")
        ledger.change(f"key/{key.key.key_id}", change, operator, key)
    ledger.keys["c"] = keys[1][1]
    ledger.admit("issued", "annulled", valid_from="2026-02-01+08:00")
    time = times.format_moment(ledger.now)
    ledger.admit("revoked", "annulled", "c", revocation_kind="annulled", time=time)
    _announce(ledger, "b", "registry", world.registry_signer("b", "2"))


def _announce(ledger: LedgerBuilder, name: str, role: str, key: MemorySigner) -> None:
    said = {"role": role, "vkey": str(key.key), "delay_seconds": MIN_DELAY}
    ledger.change(f"department/{name}", {"recover": said}, world.OPERATOR, key)


NUMBERS = (
    *("plain", "湘长市监许 2023-0403/7", "suspended", "paused", "penalty", "moved", "renewed"),
    *(
        "amended",
        "unknown",
        "future",
        "wrong",
        "restated",
        "doubted",
        "confirmed",
        "reworded",
        "revived",
        "rewound",
        "taken",
        "given back",
        "leaning",
        "leant rightly",
        "annulled",
        "nobody has it",
    ),
)


def true_cases(ledger: LedgerBuilder) -> Iterator[Case]:
    """True files with questions of every sort."""
    now, trust = ledger.now, ledger.trust()
    earlier = now - DAY * times.SECOND
    for number in NUMBERS:
        data = format_evidence(ledger.evidence(number))
        yield Case(data, trust, now)
        yield Case(data, trust, now, {"at": "2026-02-15"})
        yield Case(data, trust, now, {"at": "2027-06-01T00:00:00+08:00"})
        yield Case(data, trust, now + 9 * DAY * times.SECOND)
        yield Case(data, trust, now + 9 * DAY * times.SECOND, {"relied_at": "2026-03-02T01:00:00Z"})
        for question in ({"known_at": earlier}, {"at": earlier}, {"version": 1}):
            asked = format_evidence(ledger.evidence(number, **question))
            yield Case(asked, trust, now, {"as_asked": True})
            yield Case(asked + b"\n", trust, now, {"version": 2})
    data = format_evidence(ledger.evidence("plain"))
    yield Case(data, trust, now, {"number": "  ｐｌａｉｎ "})
    yield Case(data, trust, now, {"number": "other", "type_code": world.TYPE, "issuer": "b"})
    yield Case(data, trust, now, {"at": "tomorrow"})
    yield Case(data, trust, now, {"at": "2026-02-30"})
    yield Case(data, trust, now - 9 * DAY * times.SECOND)
    yield from signed_cases(ledger, data)


def signed_cases(ledger: LedgerBuilder, data: bytes) -> Iterator[Case]:
    """The same evidence under trust files that ask for more signatures, given and not."""
    value = canonical.loads(data)
    signed = value["checkpoint"].encode()
    checkpoint, _ = parse_checkpoint(signed)
    seconds = ledger.now // times.SECOND
    witnesses = [Cosigner(f"w{n}.example", COSIGNATURE_V1, bytes([n]) * 32) for n in (1, 2, 3)]
    lines = [w.cosign(checkpoint.text(), seconds - n * 200) for n, w in enumerate(witnesses)]
    names = [Witness(f"w{n}", w.key, "") for n, w in enumerate(witnesses)]
    for threshold, shown in ((2, 2), (2, 3), (3, 2), (3, 3), (1, 0)):
        quorum = TrustedQuorum(simple_policy(names, threshold), 0, None)
        trust = ledger.trust(quorums=(quorum,))
        yield Case(_with_signatures(value, signed, lines[:shown]), trust, ledger.now)
        if shown:
            false = [Signature(lines[0].name, lines[0].key_hash, bytes(72)), *lines[1:shown]]
            yield Case(_with_signatures(value, signed, false), trust, ledger.now)
    key = TrustedKey(ledger.checkpoint_signer.key, 0, 1 << 40, ledger.now + 1)
    yield Case(data, ledger.trust(keys=(key,)), ledger.now)
    old = TrustedKey(ledger.checkpoint_signer.key, 0, 1 << 40, ledger.now - 9 * DAY)
    yield Case(data, ledger.trust(keys=(old,)), ledger.now)
    yield Case(data, ledger.trust(genesis=bytes(32)), ledger.now)
    yield Case(data, ledger.trust(origin="other.example/log"), ledger.now)
    yield Case(data, ledger.trust(keys=(TrustedKey(world.OPERATOR.key, 0, None),)), ledger.now)
    yield Case(data, ledger.trust(max_checkpoint_age_seconds=1), ledger.now + 9 * times.SECOND)


def ml_dsa_cases(ledger: LedgerBuilder) -> Iterator[Case]:
    """Evidence under trust files that ask for ML-DSA-44, which no browser checks."""
    data = format_evidence(ledger.evidence("plain"))
    value = canonical.loads(data)
    signed = value["checkpoint"].encode()
    checkpoint, _ = parse_checkpoint(signed)
    own = Cosigner(world.ORIGIN, ML_DSA_44, b"o" * 32)
    witness = Cosigner("w.example", ML_DSA_44, b"w" * 32)
    seconds = ledger.now // times.SECOND
    lines = [each.cosign(checkpoint.text(), seconds) for each in (own, witness)]
    both = (TrustedKey(ledger.checkpoint_signer.key, 0, None), TrustedKey(own.key, 0, None))
    quorum = TrustedQuorum(simple_policy([Witness("w", witness.key, "")], 1), 0, None)
    full = _with_signatures(value, signed, lines)
    yield Case(full, ledger.trust(keys=both), ledger.now)
    yield Case(data, ledger.trust(keys=both), ledger.now)
    yield Case(full, ledger.trust(keys=both, quorums=(quorum,)), ledger.now)
    yield Case(full, ledger.trust(keys=both[1:]), ledger.now)


def _with_signatures(value: dict[str, Any], signed: bytes, lines: Any) -> bytes:
    whole = add_signatures(signed, lines) if lines else signed
    return canonical.format({**value, "checkpoint": whole.decode()})


# --- alterations ---


def alter(rng: random.Random, case: Case) -> Case:
    """The case with its file altered somewhere, canonical still in most cases."""
    kind = rng.random()
    if kind < 0.1:
        data = bytearray(case.data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return Case(bytes(data), case.trust, case.now, case.asked)
    value = canonical.loads(case.data.removesuffix(b"\n"))
    for _ in range(rng.choice((1, 1, 1, 2))):
        _alter_one(rng, value)
    if kind < 0.6:
        value = _fitted(rng, value)
    try:
        data = canonical.format(value)
    except LedgerError:
        data = canonical.encode(value)
    return Case(data, case.trust, case.now, case.asked)


def _alter_one(rng: random.Random, value: Any) -> None:
    places = list(_places(value))
    holder, name = rng.choice(places)
    old = holder[name]
    choice = rng.random()
    if choice < 0.12:
        del holder[name]
    elif choice < 0.2:
        holder[name] = deepcopy(rng.choice([p[0][p[1]] for p in places]))
    elif choice < 0.26 and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), deepcopy(old))
    elif choice < 0.32 and isinstance(holder, list):
        rng.shuffle(holder)
    elif choice < 0.36 and isinstance(holder, dict):
        holder[rng.choice(("extra", "time", "version", "index", "reason"))] = deepcopy(old)
    else:
        holder[name] = _altered(rng, old)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    names: Any = ()
    if isinstance(value, dict):
        names = list(value)
    elif isinstance(value, list):
        names = range(len(value))
    for name in names:
        yield value, name
        yield from _places(value[name])


def _altered(rng: random.Random, old: Any) -> Any:
    if isinstance(old, bool) or old is None or rng.random() < 0.08:
        return rng.choice(
            (None, True, False, 0, 1, -1, 2**53 - 1, "", "0", "x", "é", "a\u200bb'\"", [], {}, [0])
        )
    if isinstance(old, int):
        return max(0, old + rng.choice((-2, -1, 1, 2, 100)))
    if isinstance(old, str) and old:
        return _altered_text(rng, old)
    return rng.choice(([], {}, "x", 1))


def _altered_text(rng: random.Random, old: str) -> str:
    if rng.random() < 0.25 and old[:4].isdigit() and "-" in old:
        return rng.choice(("2026-03-01T00:00:00Z", "unknown", "open", "2026-02-30+08:00", old[:-1]))
    place = rng.randrange(len(old))
    what = rng.choice((old[place - 1], "A", "0", "Z", "", "\n", "/", "é", " ", "\u0338"))
    if rng.random() < 0.3 and len(old) > 16:
        try:  # other bytes in the same base64
            raw = bytearray(base64.urlsafe_b64decode(old + "=" * (-len(old) % 4)))
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        except ValueError:
            pass
    return old[:place] + what + old[place + 1 :]


def _fitted(rng: random.Random, value: Any) -> Any:
    """The altered file under roots and a checkpoint that fit it, as far as it can be read."""
    try:
        told = evidence._evidence(value)
        if rng.random() < 0.8 and told.records:
            leaf = told.records[0]
            hashed = merkle.leaf_hash(leaf.data)
            root = merkle.inclusion_root(hashed, leaf.index, told.registry_size, leaf.path)
            value["status"]["registry_root"] = _encode(root)
        if rng.random() < 0.8 and told.bucket.part is None and "maps" in value["status"]:
            k, key = len(told.bucket.path), told.certificate.key
            number = statusmap.bucket_of(key, k)
            leaf_hash = statusmap.bucket_hash(b"C", k, number, told.bucket.bucket)
            root = merkle.inclusion_root(leaf_hash, number, 1 << k, told.bucket.path)
            value["status"]["maps"][:2] = [k, _encode(root)]
        told = evidence._evidence(value)
        size = parse_checkpoint(told.checkpoint)[0].size
        root = merkle.inclusion_root(told.genesis.leaf_hash, 0, size, told.genesis.path)
        checkpoint = Checkpoint(told.origin, size, root)
        signed = sign(checkpoint.text(), [world.CHECKPOINT])
        value["checkpoint"] = signed.decode()
    except (LedgerError, LookupError, TypeError, ValueError, AttributeError):
        pass
    return value


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
