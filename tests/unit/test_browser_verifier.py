"""The browser's verifier, under node, says of vectors and hostile bytes what Python's says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from ledger import canonical, merkle, records, times
from ledger.checkpoint import parse_checkpoint, parse_proof
from ledger.errors import LedgerError
from ledger.note import parse_note, parse_vkey
from ledger.question import parse_when
from tests.browser_verifier import Node, encode, needs_node, outcome
from tests.ed25519_edges import edge_cases, is_good, published_cases
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
    cases = published_cases()
    assert len(cases) > 100
    one = node if subtle else bare_node
    library = "WebCrypto" if subtle else "@noble/ed25519"
    assert one.perform([{"kind": "library"}]) == [{"result": library}]
    found = one.perform([signature_task(*case) for case, _ in cases])
    verdicts = [verdict for _, verdict in cases]
    assert [each.get("result", False) for each in found] == verdicts
    assert [is_good(*case) for case, _ in cases] == verdicts


def signature_task(public: bytes, message: bytes, signature: bytes) -> dict[str, Any]:
    """A signature to check, as a task."""
    return {
        "kind": "ed25519",
        "key": encode(public),
        "message": encode(message),
        "signature": encode(signature),
    }


@pytest.mark.parametrize("subtle", [True, False])
def test_keys_and_signatures_at_the_edges(subtle: bool, node: Node, bare_node: Node) -> None:
    cases = edge_cases()
    one = node if subtle else bare_node
    found = one.perform([signature_task(*case) for case in cases])
    said = [each.get("result", False) for each in found]
    assert said == [is_good(*case) for case in cases]
    assert 1 < sum(said) < 8  # one, and those whose part of small order vanished


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
    assert len(tasks) > 80
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
