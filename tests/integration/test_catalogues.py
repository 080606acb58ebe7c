"""Catalogues over a real PostgreSQL: published by commands, proven, kept, damaged."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from consumers import fsck
from deploy import catalogue_commands
from deploy.registration import Registration
from ledger import canonical, registry
from ledger.catalogue import parse_catalogue
from ledger.entry import parse_entry
from ledger.errors import LedgerError, ProofError, Unavailable
from ledger.keys import format_key
from ledger.note import parse_note
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.postgres.store import read_genesis
from ledger.trust import Trust, TrustedKey, format_trust
from tests import world
from tests.stored_ledger import StoredLedger, damage
from tests.unit.test_catalogue import encoded, town


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


@pytest.fixture
def env(ledger: StoredLedger, tmp_path: Path) -> Env:
    folder = tmp_path / "departments" / "a"
    folder.mkdir(parents=True)
    key = world.registry_signer("a")
    (folder / "registry.key").touch(mode=0o600)
    seed = sha256(f"test key {key.key.name} ".encode()).digest()
    (folder / "registry.key").write_text(format_key(key.key.name, seed))
    return Env(ledger.url, tmp_path)


def run(env: Env, *argv: str) -> int:
    parser = ArgumentParser()
    catalogue_commands.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(["catalogue", *argv])
    return int(args.run(args, env))


def known_town(**changes: Any) -> dict[str, Any]:
    value = {**town(), **changes}
    value["evidence_types"][0]["certificate_type"] = world.TYPE
    return value


def write(env: Env, name: str, value: Any) -> str:
    path = env.data / name
    path.write_bytes(encoded(value))
    return str(path)


def refusal(env: Env, *argv: str) -> tuple[str, str]:
    with pytest.raises(LedgerError) as refused:
        run(env, *argv)
    return refused.value.code, refused.value.message


def findings(ledger: StoredLedger) -> list[tuple[str, str]]:
    connection = connect(ledger.url, "fsck")
    try:
        return [(found.kind, found.place) for found in fsck.run(connection)]
    finally:
        connection.close()


def test_a_catalogue_is_published_proven_and_shown(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(env, "1.json", known_town())
    assert run(env, "check", first) == 0
    capsys.readouterr()
    assert run(env, "publish", first) == 0
    assert run(env, "publish", first) == 0
    said = capsys.readouterr().out.splitlines()
    index = int(said[0].split("log index ")[1].split(";")[0])
    assert "is published already" in said[1]
    ((data,),) = ledger.rows("SELECT data FROM entry WHERE log_index = %s", index)
    note = parse_note(parse_entry(data)["note"].encode())
    made = parse_catalogue(Path(first).read_bytes())
    assert made.root.hex() in note.text.decode()
    assert registry.is_signed_by(note, world.registry_signer("a").key)

    root = made.root.hex()
    second = write(env, "2.json", known_town(version=2, replaces=root, public_services=[]))
    assert run(env, "check", first, second) == 0
    assert run(env, "publish", second) == 0
    ledger.checkpoint()
    capsys.readouterr()

    assert run(env, "show") == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    assert run(env, "show", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["version"] for item in listed["a/town"]] == [1, 2]
    assert listed["a/town"][0] == {"version": 1, "root": root, "size": 8, "from": index}
    assert run(env, "show", "a/town", "--version", "1") == 0
    shown = capsys.readouterr().out
    assert "2 on paper" in shown
    assert "or 申请表 + 居住证明, at most 30 days old" in shown
    assert "or a written commitment" in shown
    assert "not stated" in shown
    assert run(env, "show", "a/town", "--version", "1", "--json") == 0
    assert capsys.readouterr().out.encode() == Path(first).read_bytes()
    assert run(env, "show", "a/town", "--version", "1", "--service", "card", "--json") == 0
    assert json.loads(capsys.readouterr().out)["code"] == "card"
    assert refusal(env, "show", "a/town", "--service", "card")[0] == "unknown-service"
    assert refusal(env, "show", "a/city")[0] == "unknown-catalogue"
    assert refusal(env, "show", "a/town", "--version", "3")[0] == "unknown-catalogue"
    ledger.check()


def test_what_contradicts_the_published_versions_is_refused(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(env, "1.json", known_town())
    run(env, "publish", first)
    root = parse_catalogue(Path(first).read_bytes()).root.hex()
    other = write(env, "other.json", known_town(names={"en": "Another"}))
    assert refusal(env, "publish", other)[0] == "registry-refused"
    late = write(env, "3.json", known_town(version=3, replaces=root))
    assert '"version": 2' in refusal(env, "publish", late)[1]
    stray = write(env, "2.json", known_town(version=2, replaces="0" * 64))
    assert root in refusal(env, "publish", stray)[1]
    capsys.readouterr()
    assert run(env, "check", first, other, stray, "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert [item["path"] for item in told] == ["version", "replaces"]
    unknown = write(env, "4.json", {**town(), "code": "other"})
    code, message = refusal(env, "publish", unknown)
    assert (code, "no certificate type T" in message) == ("malformed-catalogue", True)
    foreign = write(env, "5.json", known_town(publisher="z"))
    assert "no department z" in refusal(env, "publish", foreign)[1]
    broken = write(env, "6.json", {**town(), "more": 1})
    code, message = refusal(env, "publish", broken)
    assert (code, str(broken) in message, "line " in message) == ("malformed-catalogue", True, True)
    assert refusal(env, "publish", str(env.data / "nothing.json"))[0] == "usage"
    assert [row[0] for row in ledger.rows("SELECT count(*) FROM catalogue")] == [1]
    ledger.checkpoint()
    ledger.check()


def test_what_a_service_demanded_is_proven_offline(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = connect(ledger.url, "test")
    trust = Trust(*read_genesis(connection), (TrustedKey(world.CHECKPOINT.key, 0, None),))
    connection.close()
    env.trust.write_bytes(format_trust(trust))
    first = write(env, "1.json", known_town())
    run(env, "publish", first)
    root = parse_catalogue(Path(first).read_bytes()).root.hex()
    ledger.checkpoint()
    one = str(env.data / "one.json")
    assert run(env, "prove", "a/town", "--service", "grant", "-o", one) == 0
    run(env, "publish", write(env, "2.json", known_town(version=2, replaces=root)))
    ledger.checkpoint()
    proofs = {}
    for version in (1, 2):
        file = str(env.data / f"{version}.demand.json")
        argv = ["--service", "grant", "--version", str(version), "-o", file]
        assert run(env, "prove", "a/town", *argv) == 0
        capsys.readouterr()
        assert run(env, "verify", file, "--json") == 0
        proofs[version] = json.loads(capsys.readouterr().out)
    assert proofs[1]["service"] == known_town()["public_services"][0]
    assert proofs[1]["until"] == proofs[2]["since"] > proofs[1]["since"]
    assert proofs[2]["until"] is None
    assert run(env, "verify", one) == 0, "what was proven before stays proven, as of then"
    assert " on, as of " in capsys.readouterr().err
    assert refusal(env, "prove", "a/town", "--service", "x", "-o", one)[0] == "unknown-service"

    whole = (env.data / "1.demand.json").read_bytes()
    value = json.loads(whole)
    changes: dict[str, Any] = {
        "another place": {"service": {**value["service"], "index": 6}},
        "another version": {"version": 2},
        "no such version": {"version": 3},
        "another name": {"catalogue": "a/city"},
        "the end left out": {"entries": value["entries"][:1]},
        "another end": {"entries": [value["entries"][0], value["status"]]},
        "another beginning": {"entries": value["entries"][::-1]},
        "an older registry": {"record": json.loads(Path(one).read_bytes())["record"]},
        "another origin": {"origin": "x"},
        "another ledger's beginning": {"genesis": {"leaf_hash": "A" * 43 + "=", "path": []}},
    }
    text = value["service"]["data"]
    changes["other words"] = {"service": {**value["service"], "data": text.replace("law", "lex")}}
    for change in changes.values():
        path = env.data / "bad.json"
        path.write_bytes(canonical.format({**value, **change}))
        with pytest.raises(ProofError):
            run(env, "verify", str(path))
    (env.data / "bad.json").write_bytes(json.dumps(value).encode())
    assert refusal(env, "verify", str(env.data / "bad.json"))[0] == "malformed-evidence"


def test_a_file_that_is_damaged_or_gone_is_noticed(
    env: Env, ledger: StoredLedger, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(env, "1.json", known_town())
    run(env, "publish", path)
    ledger.checkpoint()
    connection = connect(ledger.url, "test")
    reader = Reader(connection)

    def read(wanted: type[LedgerError], code: str) -> None:
        with reader.open() as view, pytest.raises(wanted) as refused:
            view.catalogue("a/town")
        assert refused.value.code == code

    place = "catalogue/a/town version 1"
    damage(ledger.url, "UPDATE catalogue SET version = 2")
    read(Unavailable, "catalogue-missing")
    assert findings(ledger) == [
        ("catalogue", "catalogue/a/town version 2"),
        ("catalogue", place),
    ]
    damage(ledger.url, "DELETE FROM catalogue")
    assert findings(ledger) == [("catalogue", place)]
    assert run(env, "publish", path) == 0, "the file is taken again"
    assert findings(ledger) == []
    damage(ledger.url, "UPDATE catalogue SET data = 'x'")
    read(ProofError, "stored-bytes-damaged")
    assert findings(ledger) == [("catalogue", place)]
    connection.close()
