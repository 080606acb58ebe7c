"""`verify --since`: an older checkpoint held against the one now shown, offline and by the log."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.checkpoint import Checkpoint
from ledger.cosignature import COSIGNATURE_V1, Cosigner
from ledger.evidence import Since, format_evidence, parse_evidence
from ledger.misbehaviour import check_misbehaviour, parse_misbehaviour
from ledger.note import sign
from ledger.policy import Witness, simple_policy
from ledger.proving import prove_since
from ledger.trust import TrustedQuorum, format_trust
from tests import world
from tests.ledger_builder import LedgerBuilder
from tests.log_serving import History, Server, log_serving

ROOT = Path(__file__).parents[2]


class Case:
    """A ledger of two states, the evidence under the second, and a place for files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = LedgerBuilder()
        self.ledger.admit("issued", "1", valid_from="2026-03-01+08:00")
        self.ledger.fill(300)
        self.old = self.ledger.source()
        self.ledger.admit("issued", "2", valid_from="2026-03-01+08:00")
        self.evidence = self.ledger.evidence("1")
        self.new = self.ledger.source()
        entries = self.ledger.entries
        self.history = History(entries, [b""] * len(entries))
        (folder / "trust.json").write_bytes(format_trust(self.ledger.trust()))
        self.write("seen", self.old.checkpoint)

    def write(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def verify(self, *words: str) -> tuple[int, dict[str, str]]:
        """The zipapp's own program: exit code and answer."""
        at = "2026-03-02T00:00:00Z"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "consumers.offline", str(self.folder / "a.evidence.json")),
                *("--since", str(self.folder / "seen"), "--relied-at", at, "--json", *words),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(tmp_path)
    made.write("a.evidence.json", format_evidence(made.evidence))
    return made


@pytest.fixture
def server(case: Case) -> Iterator[Server]:
    with log_serving(case.history) as running:
        yield running


def test_the_proof_comes_with_the_evidence(case: Case) -> None:
    shown = replace(case.evidence, since=prove_since(case.new, case.old.size))
    data = format_evidence(shown)
    assert parse_evidence(data) == shown
    case.write("a.evidence.json", data)
    code, answer = case.verify()
    assert code == 0, answer
    (check,) = (c for c in answer["checks"] if c["name"] == "checkpoint")
    assert f"of one history with the {case.old.size} leaves" in check["why"]
    other = LedgerBuilder()
    other.fill(case.old.size - len(other.entries) - 1)
    case.write("seen", other.source().checkpoint)
    assert other.source().size == case.old.size
    code, answer = case.verify()
    assert (code, answer["reason"]) == (4, "evidence-refused")


def test_a_proof_of_another_length_is_refused(case: Case) -> None:
    right = prove_since(case.new, case.old.size)
    assert right is not None
    for path in ((), right.path[:-1], (*right.path, right.path[0]), right.path[::-1]):
        shown = replace(case.evidence, since=Since(right.size, path))
        case.write("a.evidence.json", format_evidence(shown))
        code, answer = case.verify()
        assert (code, answer["reason"]) == (4, "evidence-refused")


def test_the_proof_is_read_from_the_log(case: Case, server: Server) -> None:
    code, answer = case.verify()
    assert (code, answer["reason"]) == (4, "evidence-refused"), "no proof is shown"
    assert case.verify("--log", server.url)[0] == 0
    case.write("seen", case.new.checkpoint)
    assert case.verify()[0] == 0, "the same checkpoint needs no proof"
    case.write("seen", format_evidence(case.evidence))
    assert case.verify()[0] == 0, "older evidence serves as well"
    case.write("seen", case.old.checkpoint)
    width = case.new.size - 256
    server.history = case.history.serving(**{f"tile/0/001.p/{width}": bytes(32 * width)})
    code, answer = case.verify("--log", server.url)
    assert (code, answer["reason"]) == (4, "evidence-refused")
    assert not list(case.folder.glob("*.misbehaviour.json")), "the tiles are not signed"


def test_a_gossiped_checkpoint_serves_though_no_witness_cosigned_it(case: Case) -> None:
    """`certledger.log.v1` carries checkpoints as the ledger signed them, before the witnesses."""
    shown = replace(case.evidence, since=prove_since(case.new, case.old.size))
    case.write("a.evidence.json", format_evidence(shown))
    witness = Witness("w", Cosigner("witness.example/w", COSIGNATURE_V1, bytes(32)).key, "")
    quorum = TrustedQuorum(simple_policy([witness], 1), 0, case.old.size + 1)
    case.write("trust.json", format_trust(replace(case.ledger.trust(), quorums=(quorum,))))
    code, answer = case.verify()
    assert code == 0, answer
    forged = Checkpoint(world.ORIGIN, case.old.size, bytes(32)).text()
    case.write("seen", sign(forged, [world.signer(world.ORIGIN, "x")]))
    assert case.verify()[0] == 4


def test_two_histories_are_proven(case: Case, server: Server) -> None:
    forged = Checkpoint(world.ORIGIN, case.new.size, bytes(32))
    case.write("seen", sign(forged.text(), [world.CHECKPOINT]))
    code, answer = case.verify()
    assert (code, answer["reason"]) == (5, "evidence-refused")
    (file,) = case.folder.glob("*.misbehaviour.json")
    found = parse_misbehaviour(file.read_bytes())
    assert found.kind == "fork"
    assert check_misbehaviour(found, case.ledger.trust()).proven
    assert case.folder / "a.misbehaviour.json" == file
    forged = Checkpoint(world.ORIGIN, case.old.size, bytes(32))
    case.write("seen", sign(forged.text(), [world.CHECKPOINT]))
    assert case.verify("--log", server.url)[0] == 5
    found = parse_misbehaviour(file.read_bytes())
    assert found.kind == "inconsistent"
    assert check_misbehaviour(found, case.ledger.trust()).proven


@pytest.mark.parametrize("seen", [b"", b"x", b"{}", b"a\n1\nAAAA\n\n"])
def test_a_file_that_holds_no_checkpoint(seen: bytes, case: Case) -> None:
    case.write("seen", seen)
    code, answer = case.verify()
    assert code == 2
    assert answer["error"].startswith("malformed")


def test_another_ledgers_checkpoint(case: Case) -> None:
    foreign = Checkpoint("other.example", 5, bytes(32))
    case.write("seen", sign(foreign.text(), [world.signer("other.example")]))
    code, answer = case.verify()
    assert (code, answer["error"]) == (4, "checkpoint-refused")
