"""The browser's verifier, under node, says of vectors and hostile bytes what Python's says."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from ledger import canonical, merkle, records, times
from ledger.checkpoint import parse_checkpoint, parse_proof
from ledger.errors import LedgerError
from ledger.note import VerifierKey, check_public, parse_note, parse_vkey
from ledger.question import parse_when
from tests import world
from tests.browser_verifier import Node, encode, needs_node, outcome
from tests.vectors import generate_verifier_tables
from tests.vectors.generate_formats import make_examples
from tests.vectors.generate_vectors import FOLDER
from tests.vectors.published import VECTORS, needs

pytestmark = needs_node


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as one:
        yield one


@pytest.fixture(scope="module")
def bare_node() -> Iterator[Node]:
    """A node without crypto.subtle."""
    with Node(subtle=False) as one:
        yield one


def test_tables_are_what_the_rules_say() -> None:
    assert generate_verifier_tables.TABLES.read_text() == generate_verifier_tables.module(), (
        "python tests/vectors/generate_verifier_tables.py --write"
    )


def test_evidence_shows_the_same_kinds_of_records(node: Node) -> None:
    (said,) = node.perform([{"kind": "records"}])
    assert {kind: set(members) for kind, members in said["result"].items()} == {
        kind: set(members) for kind, members in records._RECORDS.items()
    }


# --- vectors ---


@needs("wycheproof")
@pytest.mark.parametrize("subtle", [True, False])
def test_wycheproof_has_the_same_verdict_with_and_without_webcrypto(
    subtle: bool, node: Node, bare_node: Node
) -> None:
    groups = json.loads((VECTORS / "wycheproof" / "ed25519_test.json").read_text())["testGroups"]
    tasks, verdicts = [], []
    for group in groups:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            tasks.append(signature_task(public, message, signature))
            verdicts.append(is_good(public, message, signature))
            assert verdicts[-1] == (case["result"] == "valid")
    assert len(tasks) > 100
    one = node if subtle else bare_node
    library = "WebCrypto" if subtle else "@noble/ed25519"
    assert one.perform([{"kind": "library"}]) == [{"result": library}]
    assert [found.get("result", False) for found in one.perform(tasks)] == verdicts


def signature_task(public: bytes, message: bytes, signature: bytes) -> dict[str, Any]:
    return {
        "kind": "ed25519",
        "key": encode(public),
        "message": encode(message),
        "signature": encode(signature),
    }


def is_good(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        check_public(public)
        VerifierKey("k", public).check(message, signature)
    except LedgerError:
        return False
    return True


@pytest.mark.parametrize("subtle", [True, False])
def test_keys_and_signatures_at_the_edges(subtle: bool, node: Node, bare_node: Node) -> None:
    """Small order, beyond the prime, off the curve; S out of range; R of small order."""
    prime, order = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
    small = [0, 1, prime - 1, prime, prime + 1, 2**255 - 1, 2, 7]
    publics = [(y + sign * 2**255).to_bytes(32, "little") for y in small for sign in (0, 1)]
    rng = random.Random("edges")
    publics += [rng.randbytes(32) for _ in range(20)]
    made = world.CHECKPOINT
    good = made.sign(b"text")
    s = int.from_bytes(good[32:], "little")
    signatures = [good, good[:32] + (s + order).to_bytes(32, "little"), good[:32] + bytes(32)]
    signatures += [bytes(64), bytes([1]) + bytes(63), good[:-1], good + b"\0", b""]
    cases = [(p, b"text", bytes([1]) + bytes(63)) for p in publics]
    cases += [(made.key.public, b"text", signature) for signature in signatures]
    one = node if subtle else bare_node
    found = one.perform([signature_task(*case) for case in cases])
    said = [each.get("result", False) for each in found]
    assert said == [is_good(*case) for case in cases]
    assert sum(said) == 1


def vectors(name: str) -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / name).read_text())["cases"])


def test_notes(node: Node) -> None:
    def examine(case: dict[str, Any]) -> Any:
        note = parse_note(case["note"].encode())
        signers = []
        for key in map(parse_vkey, case["vkeys"]):
            if note.by(key):
                note.check_signed_by(key)
                signers.append(f"{key.name}+{key.key_hash.hex()}")
        return {"text": note.text.decode(), "signers": signers}

    cases = vectors("notes.json")
    tasks = [
        {"kind": "note", "data": encode(c["note"].encode()), "vkeys": c["vkeys"]} for c in cases
    ]
    assert node.perform(tasks) == [outcome(lambda c=c: examine(c)) for c in cases]


def test_checkpoints(node: Node) -> None:
    def examine(case: dict[str, Any]) -> Any:
        found, note = parse_checkpoint(case["checkpoint"].encode())
        note.check_signed_by(parse_vkey(case["vkey"]))
        return {"origin": found.origin, "size": str(found.size), "root": found.root.hex()}

    cases = vectors("checkpoints.json")
    tasks = [
        {"kind": "checkpoint", "data": encode(c["checkpoint"].encode()), "vkey": c["vkey"]}
        for c in cases
    ]
    assert node.perform(tasks) == [outcome(lambda c=c: examine(c)) for c in cases]


def test_proofs(node: Node) -> None:
    tasks, said = [], []
    for case in vectors("proofs.json"):
        try:
            index, hashes, signed = parse_proof(case["proof"].encode())
            checkpoint, _ = parse_checkpoint(signed)
        except LedgerError:
            continue
        leaf = merkle.leaf_hash(case["entry"].encode())
        given = (leaf, index, checkpoint.size, hashes, checkpoint.root)
        tasks.append(inclusion_task(*given))
        said.append(outcome(lambda g=given: merkle.check_inclusion(*g) or True))
    assert len(tasks) > 10
    assert node.perform(tasks) == said


def inclusion_task(leaf: bytes, place: int, size: int, proof: Any, root: bytes) -> dict[str, Any]:
    return {
        "kind": "inclusion",
        "leaf": encode(leaf),
        "place": place,
        "size": size,
        "proof": [encode(value) for value in proof],
        "root": encode(root),
    }


@needs("merkle")
def test_published_proofs(node: Node) -> None:
    def hashes(values: Any) -> list[bytes]:
        return [base64.b64decode(value) for value in values or []]

    tasks, said = [], []
    for path in sorted((VECTORS / "merkle" / "inclusion").rglob("*.json")):
        case = json.loads(path.read_text())
        leaf, root = hashes([case["leafHash"] or "", case["root"] or ""])
        given = (leaf, case["leafIdx"], case["treeSize"], hashes(case["proof"]), root)
        if max(case["leafIdx"], case["treeSize"]) < 2**53:
            tasks.append(inclusion_task(*given))
            said.append(outcome(lambda g=given: merkle.check_inclusion(*g) or True))
    for path in sorted((VECTORS / "merkle" / "consistency").rglob("*.json")):
        case = json.loads(path.read_text())
        first, second = hashes([case["root1"] or "", case["root2"] or ""])
        old, size, proof = case["size1"], case["size2"], hashes(case["proof"])
        if max(old, size) < 2**53:
            tasks.append(
                {
                    "kind": "consistency",
                    "old": old,
                    "size": size,
                    "proof": [encode(value) for value in proof],
                    "oldRoot": encode(first),
                    "root": encode(second),
                }
            )
            given2 = (old, size, proof, first, second)
            said.append(outcome(lambda g=given2: merkle.check_consistency(*g) or True))
    assert len(tasks) > 150
    assert node.perform(tasks) == said


HOSTILE = [
    b"",
    b" ",
    b"{}",
    b"{} ",
    b"[",
    b"nul",
    b"NaN",
    b"-0",
    b"01",
    b"1.0",
    b"1e3",
    b"1.",
    b"9007199254740991",
    b"9007199254740992",
    b"-9007199254740993",
    b"1" * 4300,
    b"1" * 4301,
    b'{"a":1,"a":1}',
    b'{"b":1,"a":1}',
    b'{"__proto__":{"x":1},"constructor":1}',
    b'{"10":1,"9":2}',
    b'{"9":2,"10":1}',
    '{"é":1}'.encode(),
    b'"\\u0041"',
    b'"\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\/"',
    b'"\x01"',
    b'"\\u001F"',
    b'"\\u001f"',
    b'"\x7f"',
    '"e\u0301"'.encode(),
    '"\\n\u0338"'.encode(),
    '"\u0378"'.encode(),
    '"\U0001fae8"'.encode(),  # of Unicode 15.0
    '"\U0001e4ec"'.encode(),  # of Unicode 15.0, with a combining class
    '"\ufeff"'.encode(),
    b"\xef\xbb\xbf{}",
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b"[" * 32 + b"]" * 32,
    b"[" * 33 + b"]" * 33,
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":[1,2,]}',
    b'{"a" :1}',
    b"[1,2]x",
    b"'a'",
    b"x" * 65_537,
]


def test_hostile_json(node: Node) -> None:
    tasks = [{"kind": "canonical", "data": encode(data), "limit": 65_536} for data in HOSTILE]
    deep = b"[" * 100_000 + b"]" * 100_000
    tasks[HOSTILE.index(deep)]["limit"] = len(deep)

    def examine(data: bytes) -> str:
        limit = len(data) if data == deep else 65_536
        return encode(canonical.format(canonical.parse(data, limit)))

    said = [outcome(lambda d=data: examine(d)) for data in HOSTILE]
    for data, ours, theirs in zip(HOSTILE, said, node.perform(tasks), strict=True):
        assert theirs == ours, data[:80]


@needs("jcs")
def test_published_json(node: Node) -> None:
    files = sorted((VECTORS / "jcs").glob("*put/*.json"))
    tasks = [
        {"kind": "canonical", "data": encode(path.read_bytes()), "limit": 65_536} for path in files
    ]
    said = [
        outcome(lambda p=path: encode(canonical.format(canonical.parse(p.read_bytes(), 65_536))))
        for path in files
    ]
    assert len(said) == 12
    assert node.perform(tasks) == said


def test_examples_of_the_formats(node: Node) -> None:
    """Every JSON line and every note on the page of forms is read in both languages alike."""
    lines, notes = [], []
    for text in make_examples().values():
        if "\n\n— " in text:
            notes.append(text if text.endswith("\n") else text + "\n")
        lines += [line for line in text.splitlines() if line.startswith("{")]
    assert len(lines) > 30
    tasks = [
        {"kind": "canonical", "data": encode(line.encode()), "limit": 1 << 22} for line in lines
    ]
    said = [
        outcome(lambda d=line: encode(canonical.format(canonical.parse(d.encode(), 1 << 22))))
        for line in lines
    ]
    assert node.perform(tasks) == said
    texts = [outcome(lambda n=note: parse_note(n.encode()).text.decode()) for note in notes]
    found = node.perform(
        [{"kind": "note", "data": encode(note.encode()), "vkeys": []} for note in notes]
    )
    assert [each["result"]["text"] for each in found] == [each["result"] for each in texts]


MOMENTS = (
    *("2016-12-01", "0001-01-01", "9999-12-31", "0000-01-01", "2023-02-29", "2024-02-29"),
    *("2016-12-01T08:30:00+08:00", "2016-12-01T08:30:00.000001Z", "2016-12-01T08:30:00.10Z"),
    *("2016-12-01T24:00:00Z", "2016-12-01T23:59:60Z", "2016-12-01t08:30:00Z", "2016-12-01T08:30Z"),
    *("2016-12-01T08:30:00-00:00", "2016-12-01T08:30:00+14:00", "2016-12-01T08:30:00+14:01"),
    *("0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-08:00"),
    *("2016-12-01+08:00", "2016-12-01Z", "0001-01-01+14:00", "9999-12-31-14:00", "1969-12-31Z"),
    *("tomorrow", "", "２０１６-12-01", "2016-13-01", "2016-12-01T08:30:00", "1883-11-18"),
    *("1900-01-01", "2026-03-08", "2026-11-01", "1927-09-03", "1991-09-15", "2011-12-30"),
    *("\U0001d7d8" * 10 + "T08:30:00Z", "2016-12-01T08:30:00'\"\u200bZ"),
)
ZONES = (
    None,
    "Asia/Shanghai",
    "America/New_York",
    "Pacific/Apia",
    "Europe/Paris",
    "UTC",
    "No/Such",
)


def test_moments_as_people_write_them(node: Node) -> None:
    cases = [(text, zone) for text in MOMENTS for zone in ZONES]
    tasks = [{"kind": "when", "text": text, "zone": zone} for text, zone in cases]
    said = [outcome(lambda t=text, z=zone: str(parse_when(t, z))) for text, zone in cases]
    for case, ours, theirs in zip(cases, said, node.perform(tasks), strict=True):
        assert theirs == ours, case
    exact = [{"kind": "moment", "text": text} for text in MOMENTS]
    formatted = [
        outcome(lambda t=text: times.format_moment(times.parse_moment(t))) for text in MOMENTS
    ]
    assert node.perform(exact) == formatted
