"""The examples in ledger/FORMATS.md: seeded keys, fixed times, every byte made by the code itself.

`python tests/vectors/generate_formats.py --write` writes them between their markers; without
`--write` it says whether anything would change (exit 1).
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, too

from ledger import (
    canonical,
    expiry,
    identity,
    lifecycle,
    logbundle,
    logtopic,
    merkle,
    sheet,
    statuslist,
    tiles,
    times,
)
from ledger.admission import LoggedBundle, Opened, open_record
from ledger.bundle import note_hash
from ledger.catalogue import FORM, parse_catalogue, prove_service
from ledger.checking import check
from ledger.checkpoint import Checkpoint, format_proof
from ledger.entry import (
    Source,
    blind,
    format_genesis,
    format_registry,
    format_status,
    make_blinding,
)
from ledger.event import format_event, hide_change, make_commitment, make_event_id, make_salt
from ledger.evidence import CertificateId, format_evidence, parse_evidence
from ledger.holder_evidence import format_holder_evidence
from ledger.loss import Loss, LostIntake, LostLog, LostRecords, loss_members
from ledger.note import MemorySigner, sign
from ledger.proving import prove_holder
from ledger.receipt import format_lane, format_notice, format_receipt
from ledger.registry import (
    MIN_DELAY,
    PSEUDONYMS,
    format_record,
    lane_record,
    record_hash,
)
from ledger.reliance import (
    Recall,
    format_recall,
    format_reliance,
    hide_case,
    hide_clerk,
    parse_reliance,
    recall_id,
)
from ledger.short_forms import encode_hashes
from ledger.statusmap import (
    CERTIFICATES,
    HOLDERS,
    MapHead,
    Membership,
    bucket_hash,
    bucket_of,
    check_membership,
    next_k,
)
from ledger.trust import format_trust, parse_trust
from tests.ledger_builder import LedgerBuilder
from tests.memory_view import MemoryView, check_log
from tests.world import (
    CHECKPOINT,
    OPERATOR,
    ORIGIN,
    START,
    TYPE,
    Book,
    Producer,
    bundle_signer,
    department_change,
    key_change,
    leaves,
    make_header,
    make_record,
    registry_signer,
    tree_root,
)
from tests.world import signer as seeded

FORMATS = Path(canonical.__file__).with_name("FORMATS.md")
_BLOCK = re.compile(r"(<!-- example ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
TOPIC = "Zm9yLXRoZS1leGFtcGxlcw"
NUMBER = "湘长市监许 2023-0403/7"
DEPARTMENT = "hn-scjg"
SALT_KEY = bytes(range(32))
EVENT_ID_KEY = bytes(range(64, 96))
SECRET = bytes(range(32, 64))


def make_examples() -> dict[str, str]:
    """The text of every example by its name."""
    out: dict[str, str] = {}
    value = {"b": [True, None, -1], "a": '名"\n', "A": {}}
    out["canonical"] = canonical.format(value).decode()
    lines = [b"one", b"two", b"three"]
    leaf_hashes = [merkle.leaf_hash(line) for line in lines]
    path = merkle.prove_inclusion(2, 3, merkle.in_memory(leaf_hashes))
    out["merkle"] = _rows(
        {
            "leaves": "`one`, `two`, `three`",
            "leaf hashes": ", ".join(value.hex() for value in leaf_hashes),
            "root": merkle.root(leaf_hashes).hex(),
            "path of leaf 2": ", ".join(value.hex() for value in path),
            "root of no leaves": merkle.EMPTY_ROOT.hex(),
        }
    )
    _identities(out)
    _keys(out)
    book = Book()
    book.add_department(DEPARTMENT, lanes=2)
    book.set_type([(DEPARTMENT, ["corrected", "issued", "revoked"], "own")])
    entries = [format_genesis(ORIGIN, str(CHECKPOINT.key), str(OPERATOR.key), _time(0))]
    entries += [format_registry(note, _time(n + 1)) for n, note in enumerate(book.notes)]
    _registry(out, book)
    _doubted(out)
    _recovered(out)
    _lanes_changed(out)
    view = MemoryView(book.registry, book.index, merkle.leaf_hash(entries[1]))
    logged = _bundle(out, view, entries)
    _status(out, book, view, entries, logged)
    _following(out)
    _catalogue(out)
    _relying(out)
    out["evidence"], out["evidence-trust"] = _evidence()
    out["joined-paths"] = _joined_paths()
    out["sheet"] = _sheet(out["evidence"], out["evidence-trust"])
    out["holder-evidence"] = _holder_evidence()
    return out


def _rows(rows: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in rows.items())


def _time(seconds: int) -> str:
    return times.format_moment(START + seconds * times.SECOND)


def _event_id(kind: str, change: str) -> str:
    hidden = hide_change(EVENT_ID_KEY, change)
    return make_event_id(DEPARTMENT, "test/register", NUMBER, kind, hidden)


def _identities(out: dict[str, str]) -> None:
    key = identity.certificate_key(TYPE, DEPARTMENT, NUMBER)
    pseudonym = identity.make_pseudonym(SECRET, 1, "111", "11010519491231002X")
    event_id = _event_id("issued", "1")
    salt = make_salt(SALT_KEY, event_id, "holder_name")
    out["identity"] = _rows(
        {
            "type, issuer, number": f"`{TYPE}`, `{DEPARTMENT}`, `{NUMBER}`",
            "map key": key.hex(),
            "its lane of 2": str(identity.lane_of(key, 2)),
            "identifier": str(identity.Identifier(TYPE, "11430000006122244L", "20230000403", 1)),
            "pseudonym secret": SECRET.hex(),
            "its check value": identity.pseudonym_check(SECRET),
            "pseudonym of 111 11010519491231002X": pseudonym,
            "holder's map key": identity.holder_key(pseudonym).hex(),
        }
    )
    out["commitment"] = _rows(
        {
            "event id key": EVENT_ID_KEY.hex(),
            "change 1, hidden": hide_change(EVENT_ID_KEY, "1"),
            "event id of issued, change 1, source test/register": event_id,
            "salt key": SALT_KEY.hex(),
            "salt of holder_name": salt.hex(),
            "commitment to holder_name 张三": make_commitment(salt, "holder_name", "张三"),
        }
    )


def _keys(out: dict[str, str]) -> None:
    keys: Sequence[MemorySigner] = (
        CHECKPOINT,
        OPERATOR,
        registry_signer(DEPARTMENT),
        bundle_signer(DEPARTMENT),
    )
    out["keys"] = "\n".join(str(key.key) for key in keys)
    out["key-id"] = keys[-1].key.key_id


def _registry(out: dict[str, str], book: Book) -> None:
    out["registry-note"] = book.notes[0].decode()
    out["registry-key-note"] = book.notes[1].decode()
    losses: list[Loss] = [
        LostRecords(TOPIC, 0, 43, 57, "a week's retention passed while nobody watched"),
        LostIntake(TOPIC, TOPIC[::-1], ((0, 43), (1, 0)), "the disks of the brokers burnt"),
        LostLog(TOPIC, 12, TOPIC[::-1], 0, 8, "the disks of the brokers burnt"),
    ]
    out["losses"] = "\n".join(canonical.format(loss_members(loss)).decode() for loss in losses)
    out["registry-records"] = "\n".join(
        f"{format_record(record).decode()}" for _, record in sorted(book.registry.records.items())
    )
    out["registry-hash"] = record_hash(book.registry.records[f"department/{DEPARTMENT}"]).hex()


def _doubted(out: dict[str, str]) -> None:
    """A key that entry 3 registered, revoked by entry 5 with effect from entry 4."""
    book = Book()
    book.add_department(DEPARTMENT, lanes=2)
    book.set_type([(DEPARTMENT, ["corrected", "issued", "revoked"], "own")])
    key = bundle_signer(DEPARTMENT)
    name = f"key/{key.key.key_id}"
    book.change(name, key_change(key, "bundle", DEPARTMENT, 4), registry_signer(DEPARTMENT))
    out["registry-doubt-note"] = book.notes[-1].decode()
    out["registry-doubt-record"] = format_record(book.registry.records[name]).decode()


def _recovered(out: dict[str, str]) -> None:
    """A registry key that entry 5 announces and entry 6 registers, a week later."""
    book = Book(now=START + 5 * times.SECOND)
    book.add_department(DEPARTMENT, lanes=2)
    book.set_type([(DEPARTMENT, ["corrected", "issued", "revoked"], "own")])
    key = registry_signer(DEPARTMENT, "2")
    name, own = f"department/{DEPARTMENT}", f"key/{key.key.key_id}"
    said = {"role": "registry", "vkey": str(key.key), "delay_seconds": MIN_DELAY}
    book.change(name, {"recover": said}, OPERATOR, key)
    out["registry-recovery-note"] = book.notes[-1].decode()
    announced = format_record(book.registry.records[name]).decode()
    book.now += MIN_DELAY * times.SECOND
    book.change(own, key_change(key, "registry", DEPARTMENT), OPERATOR, key)
    registered = format_record(book.registry.records[own]).decode()
    out["registry-recovery-records"] = f"{announced}\n{registered}"


def _lanes_changed(out: dict[str, str]) -> None:
    """Entry 5 gives a department three lanes after two, of which one was used."""
    ledger = LedgerBuilder({"a": 2})
    ledger.publish([], "a", 0)
    signers = (registry_signer("a"), OPERATOR)
    index = ledger.change("department/a", department_change("a", 3), *signers)
    lanes = sorted(ledger.view.lanes.items())
    records = [lane_record(*place, lane.index, lane.value()) for place, lane in lanes]
    shown = [ledger.book.registry.records["department/a"], *records]
    out["registry-lanes"] = "\n".join(
        [f"leaf hash of entry {index}: {merkle.leaf_hash(ledger.entries[index]).hex()}"]
        + [format_record(record).decode() for record in shown]
    )


def _catalogue(out: dict[str, str]) -> None:
    value = {
        "format": FORM,
        "code": "town",
        "publisher": DEPARTMENT,
        "version": 1,
        "replaces": None,
        "names": {"zh": "办事目录"},
        "public_organisations": [
            {"code": "market", "names": {"zh": "市场监督管理局"}, "department": DEPARTMENT},
            {"code": "hotel-office", "names": {"zh": "旅馆业管理办公室"}, "channels": ["counter"]},
        ],
        "evidence_types": [
            {
                "code": "licence",
                "names": {"zh": "营业执照"},
                "source": "issued",
                "issuers": ["market"],
                "certificate_type": TYPE,
                "facts": ["registered-company"],
            },
            {"code": "permit", "names": {"zh": "旅馆业许可证"}, "source": "issued"},
            {"code": "extract", "names": {"zh": "企业登记档案"}, "facts": ["registered-company"]},
        ],
        "public_services": [
            {
                "code": "hotel",
                "names": {"zh": "旅馆业许可"},
                "competent_authority": "hotel-office",
                "legal_resources": ["旅馆业治安管理办法"],
                "requirements": [
                    {
                        "code": "registered",
                        "names": {"zh": "主体资格"},
                        "evidence_type_lists": [
                            [{"evidence_type": "licence", "paper_copies": 1}],
                            [{"evidence_type": "extract", "max_age_days": 30}],
                        ],
                    }
                ],
                "outputs": ["permit"],
            }
        ],
    }
    text = json.dumps(value, ensure_ascii=False, indent=1)
    made = parse_catalogue(text.encode())
    out["catalogue"] = text
    index, leaf, path = prove_service(made, "hotel")
    change = {"version": 1, "root": made.root.hex(), "size": len(made.leaves)}
    out["catalogue-tree"] = _rows(
        {
            "leaves": str(len(made.leaves)),
            f"leaf {index}": leaf.decode(),
            "its path": ", ".join(value.hex() for value in path),
            "root": made.root.hex(),
            "change": canonical.format(change).decode(),
        }
    )


def _bundle(out: dict[str, str], view: MemoryView, entries: list[bytes]) -> LoggedBundle:
    """Entries 5 and 6: a bundle of four events, and a second note for its number."""
    pseudonym = identity.make_pseudonym(SECRET, 1, "111", "11010519491231002X")
    issued_id = _event_id("issued", "1")
    salt = make_salt(SALT_KEY, issued_id, "holder_name")
    certificate = {
        "certificate_type_code": TYPE,
        "issuing_authority_code": DEPARTMENT,
        "certificate_number": NUMBER,
    }
    revoked_id = _event_id("revoked", "2")
    made: list[tuple[str, str, dict[str, Any]]] = [
        (
            "issued",
            issued_id,
            {
                "valid_from": "2026-03-01+08:00",
                "valid_until": "2031-02-28+08:00",
                "holder_pseudonym": pseudonym,
                "claims": {"area_code": "430100"},
                "commitments": {"holder_name": make_commitment(salt, "holder_name", "张三")},
                "salt_key_version": 1,
            },
        ),
        ("revoked", revoked_id, {"revocation_kind": "deregistered", "reason_code": "ceased"}),
        (
            "corrected",
            _event_id("corrected", "3"),
            {"corrects": revoked_id, "correction": "void", "reason_code": "wrong-certificate"},
        ),
        ("renewed", _event_id("renewed", "4"), {}),
    ]
    lines = [
        format_event(
            kind=kind,
            event_id=event_id,
            source="test/register",
            time="2026-03-01T08:00:00+08:00",
            recordedtime="2026-02-28T17:30:00+08:00" if kind == "issued" else None,
            data={**certificate, **data},
        )
        for kind, event_id, data in made
    ]
    out["events"] = "\n".join(line.decode() for line in lines)
    lane = identity.lane_of(identity.certificate_key(TYPE, DEPARTMENT, NUMBER), 2)
    producer = Producer(
        DEPARTMENT, lane, merkle.leaf_hash(entries[1]), "00112233445566778899aabbccddeeff"
    )
    record = producer.make(lines, START + 5 * times.SECOND)
    opened = open_record(record, view.registry)
    assert isinstance(opened, Opened)
    out["bundle-note"] = opened.bundle.note_bytes.decode()
    out["bundle"] = _rows(
        {
            "note hash": opened.bundle.note_hash.hex(),
            "record, first 8 bytes": record[:8].hex(" "),
            "record, length": str(len(record)),
            "leaf hashes of the lines": ", ".join(h.hex() for h in opened.bundle.line_hashes),
        }
    )
    turn = view.turn(START + 5 * times.SECOND)
    turn.take(Source(TOPIC, 0, 41), opened)
    told = make_header(
        [],
        department=DEPARTMENT,
        lane=lane,
        producer=producer.producer,
        previous=merkle.leaf_hash(entries[1]),
        signed_at=_time(6),
    )
    lie = open_record(
        make_record([], **{name: getattr(told, name) for name in told.__slots__}), view.registry
    )
    turn.take(Source(TOPIC, 0, 42), lie)
    view.commit(turn)
    check_log(view)
    entries += view.entries
    logged = view.logged[0]
    _history(out, view, logged)
    out["notice"] = format_notice(
        told, note_hash(told.text()), "equivocation", "equivocation", "", None
    ).decode()
    return logged


def _history(out: dict[str, str], view: MemoryView, logged: LoggedBundle) -> None:
    events = logged.admitted()
    key = events[0][1].key
    certificate = view.certificates[key]
    link, rows = key, {"link 0 (the map key)": key.hex()}
    history = zip(events, view.histories[key], strict=True)
    for number, ((position, event), transition) in enumerate(history, 1):
        data = transition.format()
        link = lifecycle.link(link, logged.index, position, event.line_hash, data)
        rows[f"transition {number}"] = data.decode()
        rows[f"link {number}"] = link.hex()
    assert link == certificate.link
    record = certificate.standing.record(link)
    rows["record"] = record.decode()
    rows["record hash"] = lifecycle.record_hash(record).hex()
    out["history"] = _rows(rows)
    (holder, (count, holder_link)) = next(iter(view.holders.items()))
    out["holder"] = _rows(
        {
            "holder's map key": holder.hex(),
            "acts": str(count),
            "link after them": holder_link.hex(),
            "record hash": lifecycle.holder_record_hash(count, holder_link).hex(),
        }
    )
    root = merkle.root([merkle.leaf_hash(k + r) for k, r in logged.holders])
    blinding = make_blinding(view.blinding_secret, logged.opened.bundle.note_hash)
    out["deltas"] = _rows(
        {
            "certificates": " ".join(part.hex() for pair in logged.certificates for part in pair),
            "their root": merkle.root(
                [merkle.leaf_hash(k + r) for k, r in logged.certificates]
            ).hex(),
            "holders": " ".join(part.hex() for pair in logged.holders for part in pair),
            "root over them": root.hex(),
            "the ledger's blinding secret": view.blinding_secret.hex(),
            "the bundle's blinding": blinding.hex(),
            "root, blinded": blind(blinding, root).hex(),
        }
    )


def _status(
    out: dict[str, str], book: Book, view: MemoryView, entries: list[bytes], logged: LoggedBundle
) -> None:
    records = list(book.registry.records.values())
    records += [
        lane_record(department, lane, state.index or 1, state.value())
        for (department, lane), state in view.lanes.items()
    ]
    records.sort(key=lambda r: str(r["name"]))
    out["lane-records"] = "\n".join(
        leaf.decode() for leaf in leaves(records) if b'"name":"lane/' in leaf
    )
    out["registry-root"] = tree_root(records).hex()
    pairs = {CERTIFICATES: logged.certificates, HOLDERS: logged.holders}
    heads = {}
    for kind, listed in pairs.items():
        joined = b"".join(key + record for key, record in listed)
        heads[kind] = MapHead(0, bucket_hash(kind, 0, 0, joined))
    entries.append(format_status(len(entries), tree_root(records), _time(7), heads))
    out["status-map"] = _status_map()
    for name, index in (
        ("genesis", 0),
        ("registry", 1),
        ("bundle", 5),
        ("equivocation", 6),
        ("status", 7),
    ):
        out[f"entry-{name}"] = entries[index].decode()
    hashes = [merkle.leaf_hash(entry) for entry in entries]
    root = merkle.root(hashes)
    signed = sign(Checkpoint(ORIGIN, len(entries), root).text(), [CHECKPOINT])
    out["checkpoint"] = signed.decode()
    out["leaf-hashes"] = "\n".join(f"{n} {value.hex()}" for n, value in enumerate(hashes))
    tile = tiles.extend(0, hashes, lambda level, index: b"")[0, 0]
    bundle = logbundle.format_entries(entries)
    out["tiles"] = _rows(
        {
            "/tile/0/000.p/8": f"{len(tile)} bytes, SHA-256 {_sha(tile)}",
            "/tile/entries/000.p/8": f"{len(bundle)} bytes, SHA-256 {_sha(bundle)}",
            "its first 12 bytes": bundle[:12].hex(" "),
        }
    )
    pairs = b"".join(key + record for key, record in logged.certificates)
    deltas = logbundle.format_deltas([pairs if n == logged.index else b"" for n in range(8)])
    out["delta-bundle"] = f"/delta/000.p/8: {deltas.hex()}"
    path = merkle.prove_inclusion(logged.index, len(entries), merkle.in_memory(hashes))
    proof = format_proof(logged.index, path, signed)
    out["proof"] = proof.decode()
    out["receipt"] = format_receipt(logged.entry, proof).decode()
    state = view.lanes[DEPARTMENT, logged.opened.bundle.header.lane]
    out["lane"] = format_lane(
        DEPARTMENT,
        logged.opened.bundle.header.lane,
        {**state.value(), "producer": state.producer},
    ).decode()
    record = logtopic.format_entries(0, entries)
    out["log-topic"] = _rows(
        {
            "entries record": f"{len(record)} bytes, first 18: {record[:18].hex(' ')}",
            "accounting record": logtopic.format_accounting(
                [logtopic.Row(0, "equivocation", TOPIC, 0, 42, "equivocation", 6)]
            ).decode(),
        }
    )


def _evidence() -> tuple[str, str]:
    """A certificate issued, suspended, reinstated; the first is shown as a transition only."""
    ledger = LedgerBuilder()
    for kind, members in (
        ("issued", {"valid_from": "2026-02-01+08:00"}),
        ("suspended", {"reason_code": "inspection"}),
        ("reinstated", {}),
    ):
        ledger.admit(kind, "7", time=times.format_moment(ledger.now), **members)
        ledger.advance(1)
    return format_evidence(ledger.evidence("7")).decode(), format_trust(ledger.trust()).decode()


def _joined_paths() -> str:
    leaves = [merkle.leaf_hash(b"%d" % n) for n in range(7)]
    subtree = merkle.in_memory(leaves)
    paths = {place: merkle.prove_inclusion(place, 7, subtree) for place in (2, 3, 6)}
    joined = merkle.join_paths(paths, 7)
    return _rows(
        {
            "root": merkle.root(leaves).hex(),
            "joined paths of 2, 3, 6": ", ".join(value.hex() for value in joined),
            "in base64": encode_hashes(joined),
            **{
                f"path of leaf {place}": ", ".join(value.hex() for value in path)
                for place, path in paths.items()
            },
        }
    )


def _sheet(data: str, trust_file: str) -> str:
    signer = seeded(sheet.key_name(ORIGIN))
    trust = parse_trust(trust_file.encode())
    evidence = parse_evidence(data.encode())
    answer = check(evidence, trust, evidence.question.asked_at)
    text = sheet.make_sheet(evidence, answer, trust, signer)
    statement = sheet.parse_sheet(text).statement
    told = {"sheet key": str(signer.key), "reference": statement.reference, "QR code": text}
    return statement.text().decode() + _rows(told)


def _holder_evidence() -> str:
    """A ledger of one department and one holder with two certificates, one of them passed on."""
    ledger = LedgerBuilder()
    pseudonym = identity.make_pseudonym(SECRET, 1, "111", "11010519491231002X")
    change = {"version": 1, "check": identity.pseudonym_check(SECRET)}
    ledger.change(PSEUDONYMS, change, OPERATOR)
    ledger.admit("issued", "1", holder_pseudonym=pseudonym)
    ledger.admit("issued", "2", holder_pseudonym=pseudonym)
    ledger.admit("amended", "2", holder_pseudonym=f"1:{'0' * 64}")
    evidence = prove_holder(ledger.source(), [pseudonym], ledger.now)
    return format_holder_evidence(evidence).decode()


def _status_map() -> str:
    records = {
        sha256(f"key {n}".encode()).digest(): sha256(f"record {n}".encode()).digest()
        for n in range(40)
    }
    k = next_k(0, len(records))
    buckets = [b""] * (1 << k)
    for key in sorted(records):
        buckets[bucket_of(key, k)] += key + records[key]
    leaves = [bucket_hash(CERTIFICATES, k, n, pairs) for n, pairs in enumerate(buckets)]
    key = sha256(b"key 7").digest()
    number = bucket_of(key, k)
    path = merkle.prove_inclusion(number, 1 << k, merkle.in_memory(leaves))
    shown = Membership(buckets[number], tuple(path))
    check_membership(merkle.root(leaves), CERTIFICATES, k, key, records[key], shown)
    return _rows(
        {
            "k": str(k),
            "records per bucket": ", ".join(str(len(pairs) // 64) for pairs in buckets),
            "bucket hashes, as certificates": ", ".join(leaf.hex() for leaf in leaves),
            "root": merkle.root(leaves).hex(),
            "key 7": key.hex(),
            "its bucket": str(number),
            "its record hash": records[key].hex(),
            "its path": ", ".join(node.hex() for node in path),
            "root as holders": merkle.root(
                [bucket_hash(HOLDERS, k, n, pairs) for n, pairs in enumerate(buckets)]
            ).hex(),
        }
    )


def _following(out: dict[str, str]) -> None:
    certificate = CertificateId(TYPE, DEPARTMENT, NUMBER)
    signer = seeded(statuslist.key_name(ORIGIN))
    uri = f"https://{ORIGIN}/v1/status-lists/1"
    statuses = {
        0: statuslist.INVALID,
        1: statuslist.SUSPENDED,
        3: statuslist.UNDECIDED,
        5: statuslist.SUPERSEDED,
    }
    values = {index: statuslist.IETF[said] for index, said in statuses.items()}
    out["status-arrays"] = _rows(
        {
            "8 entries": "0 invalid, 1 suspended, 3 undecided, 5 superseded",
            "IETF": statuslist.pack(statuslist.lay_out(values, 8)).hex(),
            **{
                f"W3C {purpose}": statuslist.pack_bitstring(
                    bytes(statuses.get(index) in said for index in range(8))
                ).hex()
                for purpose, said in statuslist.PURPOSES.items()
            },
        }
    )
    places = [statuslist.draw_place(SECRET, certificate.key, 1, n) for n in range(3)]
    out["status-place"] = _rows(
        {
            "secret": SECRET.hex(),
            "first three draws for version 1": ", ".join(map(str, places)),
        }
    )
    references = canonical.format(statuslist.references(uri, places[0])).decode()
    made = statuslist.StatusList(uri, 8, START // times.SECOND, statuslist.lay_out(statuses))
    jwt = statuslist.format_jwt(made, signer).split(b".")
    credential = statuslist.format_credential(made, "refresh", ORIGIN, signer).split(b".")
    cwt = statuslist.format_cwt(made, signer)
    header, claims, head, body = (
        re.sub(r'("lst"|"encodedList"):"[^"]*"', r'\1:"…"', _unbase64(part))
        for part in (*jwt[:2], *credential[:2])
    )
    out["status-list"] = "\n".join((header, claims, head, body))
    out["status-cwt"] = f"first 66 bytes: {cwt[:66].hex()}"
    out["status-key"] = canonical.format(statuslist.jwk(signer.key)).decode()
    out["status-references"] = references
    end = expiry.End(1, "2031-02-28+08:00", DEPARTMENT, 0)
    out["ends"] = "\n".join(
        expiry.format_notice(ORIGIN, certificate, end, step).decode() for step in (30, 0)
    )


def _relying(out: dict[str, str]) -> None:
    """What an office says that relies on the certificate of the other examples, and hears."""
    key = identity.certificate_key(TYPE, DEPARTMENT, NUMBER)
    office, service = "hn-mzj", "open-restaurant"
    case = hide_case(EVENT_ID_KEY, service, "2026-000123")
    common = {"office": office, "service": service, "case": case}
    said = {
        "certificates": [{"map_key": key.hex(), "version": 1}],
        "clerk": hide_clerk(EVENT_ID_KEY, "ann"),
        "lasts": "decision",
        "tree_size": 8,
        "use_for": "licence-application",
    }
    act, end = (_sha(kind.encode())[:32] for kind in ("relied", "ended"))
    time, source = "2026-03-01T08:00:10+08:00", f"/departments/{office}"
    lines = [
        format_reliance(kind=kind, reliance_id=one, source=source, time=time, data=data)
        for kind, one, data in (("relied", act, {**common, **said}), ("ended", end, common))
    ]
    reliance = parse_reliance(lines[0], merkle.leaf_hash(lines[0])).key
    out["reliance"] = "\n".join(
        (*(line.decode() for line in lines), f"key of the reliance: {reliance.hex()}")
    )
    told = (office, case, key, 9, 0, "revoked", "annulled", "forged", _time(20))
    recall = Recall(recall_id(case, act, 0, 9, 0), *told)
    out["recall"] = format_recall(ORIGIN, recall).decode()


def _unbase64(part: bytes) -> str:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)).decode()


def _sha(data: bytes) -> str:
    return sha256(data).hexdigest()


def render(text: str) -> str:
    """The page with every example as it is made now; KeyError for a marker without an example."""
    examples = make_examples()

    def block(match: re.Match[str]) -> str:
        body = examples[match[2]]
        return f"{match[1]}```\n{body}{'' if body.endswith(chr(10)) else chr(10)}```\n{match[3]}"

    return _BLOCK.sub(block, text)


def main(arguments: Sequence[str]) -> int:
    text = FORMATS.read_text()
    made = render(text)
    if made == text:
        return 0
    if "--write" not in arguments:
        print("ledger/FORMATS.md would change: run with --write")
        return 1
    FORMATS.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
