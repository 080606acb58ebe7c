"""Everything a holder has, over a real PostgreSQL: lists, files, roll-back, damage, the secret."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from consumers import commands, offline, zipapp
from deploy import registry_commands
from deploy.registration import Registration
from ledger import identity, keys
from ledger.errors import Malformed, Refused
from ledger.postgres.connection import connect
from ledger.postgres.store import read_genesis
from ledger.trust import Trust, TrustedKey, format_trust
from producers.config import load_publisher_config, load_secret, pseudonym_path
from tests import world
from tests.stored_ledger import StoredLedger, damage

MINE, YOURS, NOBODY = (
    [f"{version}:{holder * 64}" for version in (1, 2)] for holder in ("a", "b", "c")
)


@dataclass
class Env:
    """A stack's folder and database, as commands see them."""

    postgres_url: str
    data: Path

    @property
    def trust(self) -> Path:
        return self.data / "trust.json"

    def registration(self) -> Registration:
        return Registration(self.postgres_url, self.data)


def strangers(ledger: StoredLedger, prefix: str, count: int) -> list[bytes]:
    """A certificate each for so many holders."""
    return [
        ledger.event("issued", f"{prefix}{n}", holder_pseudonym=f"1:{n:064x}") for n in range(count)
    ]


@pytest.fixture
def env(ledger: StoredLedger, tmp_path: Path) -> Env:
    """Holders of two versions of the secret, a published checkpoint, and more after it."""
    connection = connect(ledger.url, "test")
    origin, genesis = read_genesis(connection)
    connection.close()
    made = Env(ledger.url, tmp_path)
    trusted = TrustedKey(world.CHECKPOINT.key, 0, None)
    trust = Trust(origin, genesis, (trusted,), operator=world.OPERATOR.key)
    made.trust.write_bytes(format_trust(trust))
    for version in (1, 2):
        change = {"version": version, "check": "0" * 64}
        ledger.registrar.change("pseudonyms", change, world.OPERATOR)
    ledger.send(
        ledger.make(
            [
                *ledger.issued("A", "B", "C", holder_pseudonym=MINE[0]),
                *ledger.issued(*(f"Y{n}" for n in range(40)), holder_pseudonym=YOURS[0]),
                *(
                    ledger.event("issued", f"X{n}", holder_pseudonym=f"1:{n:064x}")
                    for n in range(40)
                ),
                ledger.event("revoked", "B", revocation_kind="penalty"),
            ]
        )
    )
    ledger.send(ledger.make([ledger.event("amended", "C", holder_pseudonym=YOURS[0])]))
    ledger.send(ledger.make(ledger.issued("D", holder_pseudonym=MINE[1])))
    ledger.checkpoint()
    return made


def run(env: Env, *argv: str) -> int:
    parser = ArgumentParser()
    subparsers = parser.add_subparsers(dest="command", required=True)
    commands.add_commands(subparsers)
    registry_commands.add_commands(subparsers)
    args = parser.parse_args(argv)
    return int(args.run(args, env))


def ask(
    env: Env, capsys: pytest.CaptureFixture[str], pseudonyms: Sequence[str], *argv: str
) -> tuple[int, Any]:
    code = run(env, "holder", *pseudonyms, "--json", *argv)
    return code, json.loads(capsys.readouterr().out)


def numbers(value: Any) -> list[str]:
    return [certificate["number"] for certificate in value["certificates"]]


def test_a_holders_certificates_with_what_they_are_now(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    code, value = ask(env, capsys, MINE)
    assert (code, value["answer"], numbers(value)) == (0, "listed", ["A", "B", "D"])
    assert value["formerly_bound"] == 1
    present = {c["number"]: c["present"]["answer"] for c in value["certificates"]}
    assert present == {"A": "valid", "B": "not-valid", "D": "valid"}
    assert value["certificates"][1]["present"]["reason"] == "revoked-penalty"
    code, value = ask(env, capsys, MINE, "--at", "2020-01-01")
    assert {c["present"]["reason"] for c in value["certificates"]} == {"not-yet-valid"}
    assert run(env, "holder", *MINE) == 0
    said = capsys.readouterr().err
    assert said.startswith("EVERYTHING LISTED 全部列出")
    assert "revoked as a penalty 已吊销" in said
    assert "and 1 bound once" in said
    code, value = ask(env, capsys, NOBODY)
    assert (code, value["answer"], numbers(value)) == (3, "nothing-bound", [])
    code, value = ask(env, capsys, YOURS)
    assert (code, len(numbers(value))) == (0, 41)
    ledger.check()


def test_pseudonyms_come_from_standard_input(
    env: Env, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(MINE) + "\n"))
    assert numbers(ask(env, capsys, ["-"])[1]) == ["A", "B", "D"]


def test_a_version_is_asked_for(env: Env) -> None:
    for wrong in (MINE[:1], [*MINE, "3:" + "a" * 64], [MINE[0], YOURS[0]]):
        with pytest.raises(Malformed, match="one pseudonym for each version"):
            run(env, "holder", *wrong)
    with pytest.raises(Malformed, match="VERSION:64 hex"):
        run(env, "holder", "110105")
    with pytest.raises(Malformed, match="2020-02-30"):
        run(env, "holder", *NOBODY, "--at", "2020-02-30")


def test_the_file_is_checked_offline_and_by_the_zipapp(
    env: Env, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "verify.pyz"
    zipapp.build(archive)
    for name, pseudonyms, exit_code in (("mine", MINE, 0), ("nobody", NOBODY, 3)):
        path = tmp_path / f"{name}.holder-evidence.json"
        assert run(env, "holder", *pseudonyms, "-o", str(path)) == exit_code
        assert run(env, "verify", str(path)) == exit_code
        assert offline.main([str(path)]) == exit_code
        done = subprocess.run(
            [sys.executable, str(archive), str(path), "--json"], capture_output=True, timeout=60
        )
        assert done.returncode == exit_code, done.stderr
        assert numbers(json.loads(done.stdout)) == (["A", "B", "D"] if name == "mine" else [])
        forged = tmp_path / f"{name}.forged.json"
        forged.write_bytes(path.read_bytes().replace(b'"bound":true', b'"bound":false', 1) + b" ")
        assert offline.main([str(forged)]) == 4
    capsys.readouterr()
    assert run(env, "holder", *MINE, "-o", "-") == 0
    out = capsys.readouterr().out
    assert json.loads(out)["format"] == "certledger holder evidence v1"
    path = tmp_path / "mine.holder-evidence.json"
    assert offline.main([str(path), "--at", "2020-01-01"]) == 2
    assert offline.main([str(tmp_path / "none.holder-evidence.json")]) == 2
    assert offline.main([str(path), "--relied-at", "2020-01-01T00:00:00Z"]) == 4


def test_what_is_not_published_is_not_seen(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ask(env, capsys, MINE)[1]
    ledger.send(
        ledger.make(
            [
                ledger.event("amended", "A", holder_pseudonym=YOURS[0]),
                *ledger.issued("E", holder_pseudonym=MINE[0]),
                *ledger.issued("F", holder_pseudonym=NOBODY[0]),
                *(
                    ledger.event("issued", f"Z{n}", holder_pseudonym=f"1:{n:064x}")
                    for n in range(60)
                ),
            ]
        )
    )
    code, value = ask(env, capsys, MINE)
    assert (code, numbers(value), value["tree_size"]) == (0, ["A", "B", "D"], before["tree_size"])
    assert ask(env, capsys, NOBODY)[0] == 3
    ledger.checkpoint()
    assert numbers(ask(env, capsys, MINE)[1]) == ["B", "E", "D"]
    assert numbers(ask(env, capsys, NOBODY)[1]) == ["F"]
    ledger.check()


DAMAGE = {
    "an act gone": "UPDATE holder SET acts = acts - 1, recent = substr(recent, 9)",
    "an act turned": "UPDATE holder SET recent = set_byte(recent, 7, get_byte(recent, 7) # 1)",
    "an act elsewhere": "UPDATE holder SET recent = set_byte(recent, 23, get_byte(recent, 23) # 2)",
    "the record gone": "DELETE FROM holder",
    "the record another": "UPDATE holder SET link = set_byte(link, 3, get_byte(link, 3) # 1)",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_never_a_list(env: Env, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = f" WHERE map_key = '{identity.holder_key(MINE[0])[:16].hex()}'"
    damage(env.postgres_url, DAMAGE[name] + where)
    path = env.data / "out.json"
    code, value = ask(env, capsys, MINE, "-o", str(path))
    assert (code, value["answer"], value["certificates"]) == (4, "cannot-decide", [])
    assert value["reason"] in ("evidence-refused", "stored-bytes-damaged")
    assert not path.exists()


def test_a_ledger_that_names_no_version_cannot_say(
    ledger: StoredLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = connect(ledger.url, "test")
    origin, genesis = read_genesis(connection)
    connection.close()
    env = Env(ledger.url, tmp_path)
    trusted = TrustedKey(world.CHECKPOINT.key, 0, None)
    trust = Trust(origin, genesis, (trusted,), operator=world.OPERATOR.key)
    env.trust.write_bytes(format_trust(trust))
    ledger.send(ledger.make(ledger.issued("A", holder_pseudonym=MINE[0])))
    ledger.checkpoint()
    code, value = ask(env, capsys, MINE[:1])
    assert (code, value["answer"]) == (4, "cannot-decide")
    assert "names no version" in value["why"]


def test_random_owners_against_a_slow_model(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Certificates change hands at random over batches and checkpoints, some events refused."""
    rng = random.Random(20260301)
    people = [[f"{version}:{100 + n:064x}" for version in (1, 2)] for n in range(4)]
    order: dict[str, list[str]] = {p: [] for each in people for p in each}
    owner: dict[str, str] = {}
    for _ in range(4):
        lines = []
        for _ in range(60):
            number = f"R{rng.randrange(25)}"
            pseudonym = rng.choice(people)[rng.randrange(2)]
            if rng.random() < 0.1:  # refused: nobody is bound
                bad = pseudonym.replace("1:", "9:") if number in owner else pseudonym
                kind = "issued" if number in owner else "amended"
                lines.append(ledger.event(kind, number, holder_pseudonym=bad))
                continue
            kind = "amended" if number in owner else "issued"
            lines.append(ledger.event(kind, number, holder_pseudonym=pseudonym))
            if owner.get(number) != pseudonym:
                if number in owner:
                    order[owner[number]].remove(number)
                order[pseudonym].append(number)
                owner[number] = pseudonym
        half = rng.randrange(1, len(lines))
        ledger.send(ledger.make(lines[:half]), ledger.make(lines[half:]))
        ledger.checkpoint()
        for pseudonyms in people:
            code, value = ask(env, capsys, pseudonyms)
            expected = [number for p in pseudonyms for number in order[p]]
            assert (code, numbers(value)) == (0 if expected else 3, expected)
    ledger.check()


# --- the registry's commands


@pytest.fixture
def operating(ledger: StoredLedger, tmp_path: Path) -> Env:
    """A folder with the operator's key."""
    (tmp_path / "keys").mkdir(mode=0o700)
    operator = tmp_path / "keys" / "operator.key"
    operator.write_text(keys.format_key(world.OPERATOR.key.name, _seed(world.OPERATOR.key.name)))
    operator.chmod(0o600)
    return Env(ledger.url, tmp_path)


def test_a_silence_limit_is_declared_anew(
    operating: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(operating, "department", "add", "c", "--name", "en=C") == 0
    assert load_publisher_config(operating.data, "c").heartbeat_seconds == 300
    for words, limit in (("60", 60), ("none", None), ("60", 60), ("60", 60)):
        assert run(operating, "department", "silence-limit", "c", words) == 0
        value = operating.registration().read().value("department/c")
        assert value is not None
        assert value["silence_limit_seconds"] == limit
        assert value["names"] == {"en": "C"}
        assert load_publisher_config(operating.data, "c").silence_limit_seconds == limit
    assert "as before" in capsys.readouterr().out.splitlines()[-1]
    assert load_publisher_config(operating.data, "c").heartbeat_seconds == 15
    with pytest.raises(Refused, match="no department"):
        run(operating, "department", "silence-limit", "nobody", "60")
    for wrong in ("0", "-1", "soon", "٣", ""):
        with pytest.raises(SystemExit):
            run(operating, "department", "silence-limit", "c", wrong)
    ledger.check()


def test_versions_are_announced_and_used(
    operating: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    env, tmp_path = operating, operating.data
    assert run(env, "department", "add", "c", "--name", "en=C") == 0
    assert run(env, "department", "add", "d", "--name", "en=D") == 0  # announces nothing again
    assert run(env, "pseudonym-secret", "add") == 0
    assert "version 2 is announced" in capsys.readouterr().out
    assert run(env, "pseudonym-secret", "use", "2") == 0
    assert load_publisher_config(tmp_path, "d").pseudonym_version == 2
    assert run(env, "department", "add", "e", "--name", "en=E") == 0
    assert load_publisher_config(tmp_path, "e").pseudonym_version == 2
    capsys.readouterr()
    assert run(env, "pseudonym-secret", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["here"]) for row in rows] == [(1, True), (2, True)]
    secret = load_secret(pseudonym_path(tmp_path, 2))
    assert rows[1]["check"] == identity.pseudonym_check(secret)
    # a department elsewhere that got another file notices before it publishes anything
    pseudonym_path(tmp_path, 2).write_text("0" * 64 + "\n")
    with pytest.raises(Refused, match="get that file from the operator"):
        run(env, "pseudonym-secret", "use", "2")
    assert run(env, "pseudonym-secret", "list") == 0
    assert "ANOTHER is in this folder" in capsys.readouterr().out
    ledger.check()


def _seed(name: str) -> bytes:
    return sha256(f"test key {name} ".encode()).digest()
