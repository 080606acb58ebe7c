"""The checkers' sentences on the Chinese page: what honest use meets is said in Chinese, by the
server and by the browser to the letter; what nobody translated stays as it is.
"""

from __future__ import annotations

import ast
import json
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.http.page.texts import load_texts
from consumers.http.page.view import MAX_SENTENCE, Wording
from ledger.checking import check_file
from ledger.errors import CODES, Malformed
from ledger.evidence import parse_evidence
from ledger.trust import parse_trust
from ledger.verdict import FAILED, unread
from tests import altered_evidence as altered
from tests.browser_verifier import NODE, needs_node
from tests.vectors.generate_formats import make_examples

ROOT = Path(__file__).parents[2]
VIEW = ROOT / "consumers" / "http" / "page" / "assets" / "view.js"
# The checks, and what the page's checks call for signatures, quorums and paths.
MODULES = ("checking", "vouching", "verdict", "sheet", "policy", "trust", "checkpoint_keys")
# Where a check's sentence stands among the arguments of what is called.
PLACES = {"passed": 1, "Check": 2, "ProofError": 1}
MOMENT = "2026-03-01T08:00:00Z"
# What a name or call in an f-string stands for, where it is no number or word.
SAMPLES = {
    "age.why": "the checkpoint is 7 s old",
    "', '.join(alone)": "7 in entry 7, 8 in entry 8",
    "said": "its absence",
    "err.message": CODES["bad-signature"].sentence,
    "issuer['signed_at']": MOMENT,
    "time": MOMENT,
    "known": MOMENT,
}
# What only other commands say: `prove-misbehaviour` of a ledger that it may accuse, and readers of
# files whose refusal is the answer's sentence and not a check's.
NOT_OF_A_CHECK = {
    # the beginning of two sentences
    "signed as the trust file requires, of the ledger that began with the trusted entry 0",
    "the record commits to another history",
    "the rules give this history",
    "the status entry carries no maps",
}


def chinese() -> Wording:
    return Wording(load_texts("zh"), 480)


def sentence(node: ast.expr) -> str | None:
    """A literal, or an f-string with samples in its places."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    said = ""
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            name = ast.unparse(part.value)
            value = MOMENT if "format_instant" in name else SAMPLES.get(name, "7")
            said += repr(value) if part.conversion == ord("r") else value
        else:
            assert isinstance(part, ast.Constant)
            said += str(part.value)
    return said


def written(module: str) -> Iterator[str]:
    """The sentences that stand in a module of `ledger`, as far as they stand in one piece."""
    tree = ast.parse((ROOT / "ledger" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            place = PLACES.get(getattr(node.func, "id", ""), 99)
            given = node.args[place : place + 1]
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "why":
            given = [node.value]
        for each in given:
            options = [each.body, each.orelse] if isinstance(each, ast.IfExp) else [each]
            for option in options:
                said = sentence(option)
                if said is not None:
                    yield said


def wanted() -> set[str]:
    found = {said for module in MODULES for said in written(module)} - NOT_OF_A_CHECK
    return found | {CODES["bad-signature"].sentence, CODES["signature-unsupported"].sentence}


@pytest.fixture(scope="module")
def met() -> dict[str, bool]:
    """The sentences of checks of true and altered evidence, and whether honest use meets them."""
    made = make_examples()
    data, trust = made["evidence"].encode(), parse_trust(made["evidence-trust"].encode())
    town = altered.make_town()
    true = list(altered.true_cases(town))
    rng = random.Random("sentences")
    honest = [*true, altered.Case(data, trust, parse_evidence(data).question.asked_at)]
    honest += altered.ml_dsa_cases(town)
    found: dict[str, bool] = {check.why: True for check in unread("").checks}
    for usual, cases in (
        (True, honest),
        (False, [altered.alter(rng, rng.choice(true)) for _ in range(300)]),
    ):
        for case in cases:
            try:
                answer = check_file(case.data, case.trust, case.now, **case.asked)
            except Malformed:  # a question that cannot be understood has no answer
                continue
            for check in answer.checks:
                found[check.why] = found.get(check.why) or usual or check.result != FAILED
    return found


def test_every_written_sentence_has_a_chinese_one() -> None:
    said = wanted()
    assert len(said) > 60
    assert [each for each in sorted(said) if not chinese().explain(each)] == []


def test_what_honest_use_meets_is_said_in_chinese(met: dict[str, bool]) -> None:
    usual = [why for why, is_usual in met.items() if is_usual]
    assert len(usual) > 20
    assert [why for why in usual if not chinese().explain(why)] == []
    assert all(Wording(load_texts("en")).explain(why) == "" for why in usual)


def test_the_table_is_chinese_and_keeps_the_values() -> None:
    for given, said in load_texts("zh").all["sentences"].items():
        places = [set(re.findall(r"\{(\w+)\}", text)) for text in (given, said)]
        assert places[0] - {"name"} == places[1], given
        assert not re.search("[A-Za-z]{4,}", re.sub(r"\{\w+\}", "", said)), given


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (
            "the checkpoint is 12 s old; a signed at 2026-03-01T08:00:00Z",
            "检查点已有 12 秒；a 最近一次报送于2026年3月1日 16:00（UTC+8）",
        ),
        (
            "b had no right to revoked for this type at 9",
            "在日志条目 9 处，b 对此类证照无权作出“撤销”",
        ),
        ("the bundle is by a\u202eb, not c", r"批次由 a\u202eb 签发，而不是 c"),
        ("the bundle is by {why}, not {department}", "批次由 {why} 签发，而不是 {department}"),
        ("something new; a signed at 2026-03-01T08:00:00Z", ""),
        ("the checkpoint is 12 s old\n", ""),
        ("the checkpoint is 12 s old" + "; a is silent by nature, it declared no limit" * 50, ""),
        ("", ""),
    ],
)
def test_sentences(why: str, said: str) -> None:
    assert chinese().explain(why) == said


@needs_node
def test_the_browser_says_the_same(met: dict[str, bool]) -> None:
    asked = sorted({*met, *wanted(), "", "x\n", "the checkpoint is 1 s old\n", "é" * MAX_SENTENCE})
    script = f"""
      const url = "data:text/javascript," + encodeURIComponent({json.dumps(VIEW.read_text())});
      const {{ Wording }} = await import(url);
      let given = "";
      for await (const part of process.stdin) given += part;
      const {{ texts, asked }} = JSON.parse(given);
      const wording = new Wording(texts, "zh", 480);
      console.log(JSON.stringify(asked.map((why) => wording.explain(why))));
    """
    told = subprocess.run(
        [str(NODE), "--input-type=module", "-e", script],
        input=json.dumps({"texts": load_texts("zh").all, "asked": asked}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == [chinese().explain(why) for why in asked]
