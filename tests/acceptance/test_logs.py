"""What the programs log over a life with faults: JSON, and no personal value, number or secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

import deploy.stack
from deploy.embedded import postgres
from ledger import keys, topics
from ledger.kafka_address import client_settings
from producers.config import load_publisher_config
from producers.publisher import Publisher
from tests.running_stack import wait_until

ROOT = Path(__file__).parents[2]
HOLDER, COMPANY = "11010519491231002X", "91430100MA4L16JQ8A"
PERSON, STREET, NUMBER = "李四光阿明", "芙蓉路1734号院", "湘A-40712-Zhang/3"
PASSPHRASE = "correct horse 7261 staple"
OURS = ("worker-1", "sequencer", "relay", "follower", "http")
SERVERS = ("kafka", "postgres", "supervisor")


class Stack:
    """`certledger` on one folder, with keys under a passphrase."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "town"
        self.words = folder / "words"
        self.words.touch(mode=0o600)
        self.words.write_text(PASSPHRASE + "\n")

    def run(self, *words: str, code: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", *words, "--data", str(self.data)],
            cwd=ROOT,
            env={**os.environ, "CERTLEDGER_PASSPHRASE_FILE": str(self.words)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert code is None or done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json")))

    def kill(self, name: str) -> None:
        def program() -> dict[str, Any]:
            return dict(deploy.stack.Stack(self.data).status()["programs"][name])

        before = program()["pid"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: program()["pid"] not in (None, before) and program()["ready"], 90)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    made = Stack(tmp_path)
    monkeypatch.setattr(keys._unlocking, "passphrase", keys.passphrase_in(made.words))
    try:
        yield made
    finally:
        made.run("down", code=None)
        postgres.remove(made.data)


def publish(stack: Stack, kafka: str) -> None:
    """Admitted and refused, with a person in everything that may hold one."""
    with Publisher(load_publisher_config(stack.data, "transport"), kafka) as publisher:
        common = {
            "type_code": "taxi",
            "claims": {"district": STREET},
            "private": {"name": PERSON, "identity": HOLDER},
        }
        for number, holder in ((NUMBER, HOLDER), (f"{NUMBER}-2", COMPANY)):
            scheme = "111" if holder == HOLDER else "001"
            done = publisher.issued(number=number, holder=(scheme, holder), **common)
            assert done.result(120).admitted
        again = publisher.issued(number=NUMBER, holder=("111", HOLDER), **common)
        assert not again.result(120).admitted


def poison(kafka: str) -> None:
    producer: Any = KafkaProducer(**client_settings(kafka))
    text = f'{{"name":"{PERSON}","id":"{HOLDER}","number":"{NUMBER}"}}'.encode()
    for value in (text, b"CLR1" + text, b"[" * 70_000 + text):
        producer.send(topics.EVENTS, key=NUMBER.encode(), value=value)
    producer.flush()
    producer.close()


def ask(url: str, path: str, body: bytes | None = None) -> None:
    """Whatever the answer is."""
    request = urllib.request.Request(url + path, data=body)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(request, timeout=60).read()
    except OSError:  # an answer of 4xx and 5xx, too
        return


def ask_all_sorts(url: str) -> None:
    quoted = urllib.parse.quote(NUMBER, safe="")
    for path in (
        f"/?number={quoted}",
        f"/v1/certificates/taxi/transport/{quoted}",
        f"/v1/certificates/taxi/transport/{quoted}/evidence",
        f"/v1/certificates?number={quoted}&holder={HOLDER}",
        f"/v1/certificates/{quoted}/{urllib.parse.quote(PERSON)}/{HOLDER}",
        f"/{HOLDER}/{urllib.parse.quote(PERSON)}",
        f"/log/tile/0/{quoted}",
    ):
        ask(url, path)
    for path in ("/v1/verify", "/v1/batch", "/v1/bundles", "/v1/evidence"):
        ask(url, path, f"{NUMBER} {PERSON} {HOLDER}".encode())


def test_logs_hold_no_personal_data_and_no_secret(stack: Stack) -> None:
    stack.run("up", "--detach")
    stack.run("department", "add", "transport", "--name", "zh=交通运输局")
    stack.run("type", "add", "taxi", "--name", "zh=道路运输证", "--grant", "transport:all")
    stack.run("key", "encrypt", *map(str, (stack.data / "keys").glob("*.key")),
              "--passphrase-file", str(stack.words))  # fmt: skip
    status = stack.status()
    publish(stack, status["kafka"])
    poison(status["kafka"])
    ask_all_sorts(status["url"])
    stack.run("evidence", NUMBER, "-o", str(stack.data.parent / "e.json"), code=None)
    for name in ("worker-1", "sequencer", "postgres", "kafka"):
        stack.kill(name)
        ask_all_sorts(status["url"])
    publish_more(stack, status["kafka"])
    stack.run("down")
    logs = {path.name: path.read_bytes() for path in (stack.data / "logs").iterdir()}
    assert {f"{name}.log" for name in (*OURS, *SERVERS)} <= logs.keys()
    for name in OURS:
        for line in logs[f"{name}.log"].splitlines():
            value = json.loads(line)
            assert {"time", "level", "program", "event"} <= value.keys(), line
            assert name.startswith(value["program"])
    said = b"".join(logs.values())
    for secret in secrets_of(stack.data):
        assert secret not in said, f"{secret!r} stands in a log"


def publish_more(stack: Stack, kafka: str) -> None:
    with Publisher(load_publisher_config(stack.data, "transport"), kafka) as publisher:
        done = publisher.suspended(type_code="taxi", number=NUMBER, reason="under-investigation")
        done.result(120)


def secrets_of(data: Path) -> list[bytes]:
    """Personal values, numbers and all that is secret in the folder, in every spelling."""
    words = [HOLDER, COMPANY, PERSON, STREET, NUMBER, "40712", PASSPHRASE]
    found = [word.encode() for word in words]
    found += [urllib.parse.quote(word, safe="").encode() for word in (PERSON, STREET, NUMBER)]
    found += [json.dumps(word)[1:-1].encode() for word in (PERSON, STREET, NUMBER)]
    private, passwords = [*data.rglob("*.key")], [*data.rglob("*.passfile")]
    accounts = [*data.glob("kafka/*.json"), *data.rglob("kafka.json")]
    assert min(len(private) // 3, len(passwords), len(accounts)) >= 2, (
        private,
        passwords,
        accounts,
    )
    for path in private:
        found.append(path.read_bytes().strip().split(b"+", 4)[-1])
    for path in passwords:
        found.append(path.read_bytes().strip().rpartition(b":")[2])
    for path in accounts:
        found.append(json.loads(path.read_text())["password"].encode())
    assert min(map(len, found)) >= 5
    return found
