"""The browser's verifier, under node, says of true and altered evidence what Python's says."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from consumers.verifier import note_future
from ledger.checking import check_file
from ledger.evidence import parse_evidence
from ledger.trust import parse_trust
from tests import altered_evidence as altered
from tests.altered_evidence import Case
from tests.browser_verifier import Node, encode, needs_node, outcome
from tests.vectors.generate_formats import make_examples

pytestmark = needs_node
ALTERATIONS = 600
UNCHECKED = "ML-DSA-44: not checked (browser)"
NAMES = {
    "at": "at",
    "known_at": "knownAt",
    "version": "version",
    "relied_at": "reliedAt",
    "as_asked": "asAsked",
    "type_code": "type",
    "issuer": "issuer",
    "number": "number",
}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as one:
        yield one


@pytest.fixture(scope="module")
def bare_node() -> Iterator[Node]:
    """A node without crypto.subtle."""
    with Node(subtle=False) as one:
        yield one


def task(case: Case) -> dict[str, Any]:
    question = {NAMES[name]: value for name, value in case.asked.items()}
    return {
        "kind": "evidence",
        "data": encode(case.data),
        "trust": case.trust_text,
        "question": {**question, "now": str(case.now)},
    }


def answer(case: Case) -> dict[str, Any]:
    """What `certledger verify --json` prints."""

    def ask() -> Any:
        found = check_file(case.data, case.trust, case.now, **case.asked)
        return note_future(found, case.now).members()

    return outcome(ask)


def compare(node: Node, cases: list[Case]) -> list[dict[str, Any]]:
    """What both say of each case, which must be the same to the byte."""
    said = [answer(case) for case in cases]
    for case, ours, theirs in zip(cases, said, node.perform([task(c) for c in cases]), strict=True):
        assert json.dumps(theirs) == json.dumps(ours), (case.data, case.trust_text, case.now)
    return said


@pytest.fixture(scope="module")
def true_cases() -> list[Case]:
    return list(altered.true_cases(altered.make_town()))


def test_true_evidence_has_the_same_answer(node: Node, true_cases: list[Case]) -> None:
    said = compare(node, true_cases)
    reasons = {each["result"]["reason"] for each in said if "result" in each}
    assert len(reasons) > 15, reasons


def test_the_town_knows_rewinds_that_lean_on_anothers_word(true_cases: list[Case]) -> None:
    asked = {
        parse_evidence(case.data).certificate.number: answer(case)["result"]["reason"]
        for case in true_cases[::-1]  # of each number the first one is the plain question
        if case.asked == {} and case.now == true_cases[0].now
    }
    assert (asked["leaning"], asked["leant rightly"]) == ("key-compromised", "in-force")


def test_without_webcrypto_the_answers_are_the_same(
    bare_node: Node, true_cases: list[Case]
) -> None:
    some = true_cases[::7]
    assert {a["result"]["answer"] for a in compare(bare_node, some) if "result" in a} > {"valid"}


def test_altered_evidence_has_the_same_answer(node: Node, true_cases: list[Case]) -> None:
    rng = random.Random("altered")
    cases = [altered.alter(rng, rng.choice(true_cases)) for _ in range(ALTERATIONS)]
    said = compare(node, cases)
    failed: dict[str, int] = {}
    for each in said:
        for check in each.get("result", {"checks": []})["checks"]:
            if check["result"] == "failed":
                failed[check["name"]] = failed.get(check["name"], 0) + 1
    assert failed.keys() >= {"event-signature", "authority", "inclusion", "checkpoint", "status"}


def test_the_example_of_the_formats(node: Node) -> None:
    made = make_examples()
    data, trust = made["evidence"].encode(), parse_trust(made["evidence-trust"].encode())
    now = parse_evidence(data).question.asked_at
    (said,) = compare(node, [Case(data, trust, now)])
    assert said["result"]["answer"] == "valid"


def test_no_bytes_break_it(node: Node, true_cases: list[Case]) -> None:
    case = true_cases[0]
    files = [b"", b"{}", b"\xff", b"null", case.data[:-2], case.data * 2, b"[" * 5000, b"PK\3\4"]
    said = compare(node, [Case(data, case.trust, case.now) for data in files])
    assert {each["result"]["reason"] for each in said} == {"evidence-refused"}


def test_ml_dsa_is_said_to_be_unchecked(node: Node) -> None:
    """The one difference: that signature is looked for and not checked, and the answer says so."""
    cases = list(altered.ml_dsa_cases(altered.make_town()))
    ours = [answer(case)["result"] for case in cases]
    theirs = [each["result"] for each in node.perform([task(case) for case in cases])]
    assert [a["answer"] for a in ours] == ["valid", "cannot-decide", "valid", "valid"]
    assert [a["answer"] for a in theirs] == ["valid", "cannot-decide", *2 * ["cannot-decide"]]
    assert [a["reason"] for a in theirs][2:] == ["signature-unsupported"] * 2
    assert theirs[1] == ours[1]
    checkpoint = theirs[0]["checks"][3]
    assert checkpoint["why"].endswith(f"; {UNCHECKED}")
    assert re.fullmatch(
        r"ledger\.example/certificates\+[0-9a-f]{8}", *checkpoint["values"].pop("not_checked")
    )
    checkpoint["why"] = checkpoint["why"].removesuffix(f"; {UNCHECKED}")
    assert theirs[0].pop("notes") == [UNCHECKED]
    assert json.dumps(theirs[0]) == json.dumps(ours[0])
    for said in theirs[2:]:
        assert said["checks"][3]["result"] == "not-checked"
        assert said["notes"] == [UNCHECKED]
