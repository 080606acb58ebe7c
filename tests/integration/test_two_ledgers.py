"""A ledger answers about another ledger's certificates by that one's evidence over HTTP."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from consumers import commands
from ledger import merkle
from ledger.checking import check_file
from ledger.checkpoint import Checkpoint
from ledger.errors import CODES, LedgerError, Refused
from ledger.evidence import parse_evidence
from ledger.misbehaviour import check_misbehaviour, parse_misbehaviour
from ledger.note import parse_note, sign
from ledger.policy import simple_policy
from ledger.registry import operator_key_name
from ledger.staterow import number_hash
from ledger.trust import Trust, TrustedKey, TrustedQuorum, format_trust
from ledger.witnessing import format_request
from tests import world
from tests.http_serving import Served, serving
from tests.log_serving import History, log_serving
from tests.stored_ledger import StoredLedger, reset
from tests.witnessed_ledger import Copied, Running, copied, grow
from tests.witnessing import RunningWitness, witnesses

SOUTH = "south.example/certificates"
STRANGER = world.signer(world.ORIGIN, "another key of the same name")


def trust_of(ledger: StoredLedger) -> Trust:
    ((genesis,),) = ledger.rows("SELECT sha256('\\x00' || data) FROM entry WHERE log_index = 0")
    key = world.signer(ledger.origin).key
    operator = world.signer(operator_key_name(ledger.origin)).key
    return Trust(ledger.origin, genesis, (TrustedKey(key, 0, None),), operator=operator)


@pytest.fixture
def north(ledger: StoredLedger) -> Iterator[Served]:
    """The first ledger, of another region, with some certificates."""
    ledger.send(
        ledger.make(
            [
                *ledger.issued("沪 1/2", "twice", valid_from="2020-01-01+08:00"),
                ledger.event("revoked", "沪 1/2", revocation_kind="annulled"),
            ]
        )
    )
    ledger.send(ledger.make([], "b"))  # a sign of life
    ledger.checkpoint()
    with serving(ledger.url) as running:
        yield running


class Env:
    """The second ledger's folder; its own database is not needed for this."""

    def __init__(self, data: Path) -> None:
        self.trust = data / "trust.json"
        self.postgres_url = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def south(north: Served, ledger: StoredLedger, tmp_path: Path) -> Path:
    """The second ledger's directory of ledgers."""
    (tmp_path / "north.trust.json").write_bytes(format_trust(trust_of(ledger)))
    directory = {
        "format": "certledger directory v1",
        "ledgers": {
            "north": {"url": north.url, "trust": "north.trust.json"},
            "gone": {"url": "http://127.0.0.1:1", "trust": "north.trust.json"},
        },
    }
    (tmp_path / "ledgers.json").write_text(json.dumps(directory))
    return tmp_path


def point_at(folder: Path, url: str) -> None:
    """Have the directory say another address for the first ledger."""
    path = folder / "ledgers.json"
    directory = json.loads(path.read_text())
    directory["ledgers"]["north"]["url"] = url
    path.write_text(json.dumps(directory))


def verify(folder: Path, *words: str) -> int:
    """`certledger verify` at the second ledger."""
    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers())
    args: Any = parser.parse_args(["verify", *words, "--json"])
    try:
        return int(args.run(args, Env(folder)))
    except LedgerError as err:
        return CODES[err.code].exit


def test_an_answer_about_another_ledgers_certificate(
    south: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(south, "twice", "--ledger", "north") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["answer"], answer["certificate"]["issuer"]) == ("valid", "a")
    assert {c["name"] for c in answer["checks"] if c["result"] == "passed"} >= {
        "event-signature", "authority", "inclusion", "checkpoint", "status", "freshness",
    }  # fmt: skip
    assert verify(south, "沪 1/2", "--ledger", "north") == 1
    assert verify(south, "沪 1/2", "--ledger", "north", "--at", "2019-06-01") == 1
    assert verify(south, "twice", "--ledger", "north", "--at", "2025-06-01") == 0
    assert verify(south, "nowhere", "--ledger", "north") == 3
    assert verify(south, "twice", "--ledger", "north", "--issuer", "b") == 3
    assert verify(south, "twice", "--ledger", "north", "--at", "yesterday") == 2
    assert verify(south, "twice", "--ledger", "east") == 2
    capsys.readouterr()
    assert verify(south, "twice", "--ledger", "gone") == 4
    assert json.loads(capsys.readouterr().out)["reason"] == "unreachable"


def test_the_other_server_is_not_trusted(
    south: Path, north: Served, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = replace(trust_of(ledger), keys=(TrustedKey(STRANGER.key, 0, None),))
    (south / "north.trust.json").write_bytes(format_trust(stranger))
    assert verify(south, "twice", "--ledger", "north") == 4
    assert json.loads(capsys.readouterr().out)["reason"] == "evidence-refused"
    (south / "north.trust.json").write_bytes(format_trust(trust_of(ledger)))
    good = north.get("/v1/evidence?number=twice")
    swapped = History([], []).serving(**{"v1/evidence?number=once": good})
    with log_serving(swapped) as impostor:
        point_at(south, impostor.url)
        capsys.readouterr()
        assert verify(south, "once", "--ledger", "north") == 4
        assert json.loads(capsys.readouterr().out)["reason"] == "another-certificate"
        for body in (b"", b"{}", b"x" * 5_000_000):
            impostor.history = swapped.serving(**{"v1/evidence?number=once": body})
            assert verify(south, "once", "--ledger", "north") == 4


def test_two_histories_of_another_ledger(
    south: Path, ledger: StoredLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.send(ledger.make([], "b"))
    size = ledger.checkpoint().size
    seen = sign(Checkpoint(world.ORIGIN, size, bytes(32)).text(), [world.CHECKPOINT])
    (south / "seen").write_bytes(seen)
    monkeypatch.chdir(south)
    assert verify(south, "twice", "--ledger", "north", "--since", str(south / "seen")) == 5
    found = parse_misbehaviour((south / "verify.misbehaviour.json").read_bytes())
    assert check_misbehaviour(found, trust_of(ledger)).proven


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "not json", '{"format":"certledger directory v1","ledgers":[]}',
        '{"format":"certledger directory v2","ledgers":{}}',
        '{"format":"certledger directory v1","ledgers":{"north":{"url":1,"trust":"t"}}}',
        '{"format":"certledger directory v1","ledgers":{"north":{"url":"http://x"}}}',
        '{"format":"certledger directory v1","ledgers":{"north":{"url":"x","trust":"gone"}}}',
    ],
)  # fmt: skip
def test_a_directory_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "ledgers.json").write_text(text)
    assert verify(tmp_path, "twice", "--ledger", "north") == 2


# --- two regions ---------------------------------------------------------------------------------


class Region:
    """The second region: a ledger of its own, and the witness that it runs for others."""

    def __init__(self, url: str, folder: Path, witness: RunningWitness) -> None:
        reset(url)
        self.ledger = StoredLedger(url, SOUTH)
        self.folder = folder
        self.witness = witness
        (folder / "trust.json").write_bytes(format_trust(trust_of(self.ledger)))

    def know(self, name: str, url: str, trust: Trust) -> None:
        """The directory of ledgers: one other ledger."""
        (self.folder / f"{name}.trust.json").write_bytes(format_trust(trust))
        members = {"url": url, "trust": f"{name}.trust.json"}
        directory = {"format": "certledger directory v1", "ledgers": {name: members}}
        (self.folder / "ledgers.json").write_text(json.dumps(directory))

    def verify(self, *words: str) -> tuple[int, dict[str, Any]]:
        """`certledger verify` there, a process of its own: exit code and answer."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "deploy.cli", "verify", *words),
                *("--json", "--data", str(self.folder)),
            ],
            env={**os.environ, "CERTLEDGER_POSTGRES": self.ledger.url},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, json.loads(done.stdout)

    def shown(self) -> bytes:
        """What its witness shows to everybody as the first ledger's last checkpoint."""
        digest = sha256(world.ORIGIN.encode()).hexdigest()
        return self.witness.ask("GET", f"/{digest}/checkpoint")[2]


@pytest.fixture
def region(module_database_url: str, tmp_path: Path) -> Iterator[Region]:
    with witnesses(tmp_path, 1) as (witness,):
        made = Region(module_database_url, tmp_path, witness)
        try:
            yield made
        finally:
            made.ledger.close()


def test_two_regions_know_each_other(region: Region, database_url: str) -> None:
    """The second witnesses the first, answers about its certificates, and hears of its fork."""
    witness = region.witness.in_policy()
    policy = simple_policy([witness], 1)
    region.ledger.send(region.ledger.make(region.ledger.issued("of the south")))
    region.ledger.checkpoint()
    first = StoredLedger(database_url)
    first.send(first.make(first.issued("of the north")))
    first.send(first.make([], "b"))
    trust = replace(trust_of(first), quorums=(TrustedQuorum(policy, 0, None),))

    # The first asks the second's witness, publishes with its cosignature and not without.
    sequencer = Running(database_url, policy).start()
    head = sequencer.sequencer.round()
    assert head is not None
    note = sequencer.publish(head.size)
    sequencer.close()
    with serving(database_url) as north:
        assert north.get("/log/checkpoint") == note == region.shown()
        assert trust.check_checkpoint(note).size == head.size
        assert trust.cosignatures(note).keys() == {witness.name}
        alone = sign(parse_note(note).text, [world.CHECKPOINT])
        with pytest.raises(LedgerError, match="checkpoint-refused"):
            trust.check_checkpoint(alone)

        # The second answers about the first by evidence, and has no copy of its data.
        region.know("north", north.url, trust)
        assert region.verify("of the south")[0] == 0
        assert region.verify("of the north")[0] == 3
        code, answer = region.verify("of the north", "--ledger", "north")
        assert (code, answer["answer"], answer["certificate"]["issuer"]) == (0, "valid", "a")
        (checkpoint,) = [c for c in answer["checks"] if c["name"] == "checkpoint"]
        assert checkpoint["result"] == "passed"
        assert checkpoint["values"]["witnesses"].keys() == {witness.name}
        assert region.verify("of the south", "--ledger", "north")[0] == 3
        held = [(number_hash("of the south"),)]
        assert region.ledger.rows("SELECT number_hash FROM certificate") == held

    # A copy of the first grows otherwise: two histories by one key.
    first.close()
    with copied(first) as (first, fork):
        grow(first, "later in the north")
        sequencer = Running(first.url, policy).start()
        head = sequencer.sequencer.round()
        assert head is not None
        note = sequencer.publish(head.size)
        sequencer.close()
        for number in ("in secret", "later in secret"):
            grow(fork, number)
        forked = fork.checkpoint()  # published by an operator who asked nobody
        assert forked.size >= head.size
        refuse_fork(region, fork, head.size)
        assert region.shown() == note
        with serving(fork.url) as impostor:
            region.know("north", impostor.url, trust)
            code, answer = region.verify("in secret", "--ledger", "north")
            assert (code, answer["reason"]) == (4, "evidence-refused")
            (checkpoint,) = [c for c in answer["checks"] if c["name"] == "checkpoint"]
            assert checkpoint["result"] == "failed"
        stopped = Running(fork.url, policy)
        with closing(stopped), pytest.raises(Refused, match="another history"):
            stopped.start()  # its sequencer is told before it signs anything


def refuse_fork(region: Region, fork: Copied, seen: int) -> None:
    """The second's witness does not cosign a checkpoint of the other history, and says why."""
    ((size, checkpoint),) = fork.rows(
        "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1"
    )
    entries = fork.rows("SELECT data FROM entry ORDER BY log_index LIMIT %s", size)
    leaves = [merkle.leaf_hash(data) for (data,) in entries]
    proof = merkle.prove_consistency(seen, size, merkle.in_memory(leaves))
    status, media_type, body = region.witness.post(format_request(seen, proof, checkpoint))
    assert (status, media_type) == (422, "application/problem+json")
    assert json.loads(body)["code"] == "proof-failed"


# --- the route -----------------------------------------------------------------------------------


def test_evidence_over_http(north: Served, ledger: StoredLedger) -> None:
    answer = north.ask(f"/v1/evidence?number={quote('沪 1/2')}&at=2021-01-01&known_at=now")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    evidence = parse_evidence(answer.body)
    assert evidence.certificate.number == "沪 1/2"
    asked_at = evidence.question.asked_at
    verdict = check_file(answer.body, trust_of(ledger), asked_at, as_asked=True)
    assert verdict.reason == "in-force"
    assert north.ask("/v1/evidence?number=twice", "HEAD").body == b""
    absent = north.ask(f"/v1/evidence?number=none&type={world.TYPE}&issuer=b")
    assert check_file(absent.body, trust_of(ledger), asked_at).answer == "not-found"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "usage"),
        ("number=", 400, "malformed-number"),
        ("number", 400, "usage"),
        ("number=1&number=1", 400, "usage"),
        ("number=1&other=1", 400, "usage"),
        ("number=%ff", 400, "usage"),
        ("number=%00", 400, "malformed-number"),
        ("number=" + "9" * 2000, 400, "malformed-number"),
        ("number=1&at=yesterday", 400, "malformed-time"),
        ("number=1&known_at=2026-13-01", 400, "malformed-time"),
        ("number=1&type=a%20b", 400, "malformed-number"),
        ("number=1&issuer=%E6%B2%AA", 400, "malformed-number"),
        ("number=1" + "&at=now" * 500, 400, "usage"),
    ],
)
def test_bad_questions_are_problems(query: str, status: int, code: str, north: Served) -> None:
    answer = north.ask(f"/v1/evidence?{query}")
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


def test_only_get(north: Served) -> None:
    assert north.ask("/v1/evidence?number=twice", "POST").status == 405
    assert north.ask("/v1/evidence/?number=twice").status == 404
