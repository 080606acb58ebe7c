"""A backup and what Kafka holds give the same ledger again: the same leaves, roots and sizes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from deploy.embedded import postgres
from deploy.stack import Stack
from ledger import topics
from ledger.bundle import format_record
from ledger.kafka_address import client_settings
from tests import world
from tests.running_stack import ROOT, Department, RunningStack, wait_until

# What a restore must give again, byte for byte.
SAME = {
    "entry": "SELECT log_index, data FROM entry ORDER BY 1",
    "lines": "SELECT * FROM lines ORDER BY 1, 2",
    "delta": "SELECT * FROM delta ORDER BY 1",
    "signer": "SELECT * FROM signer ORDER BY 1",
    "certificate_kind": "SELECT * FROM certificate_kind ORDER BY 1",
    "certificate": "SELECT * FROM certificate ORDER BY 1",
    "holder": "SELECT * FROM holder ORDER BY 1",
    "holder_act": "SELECT * FROM holder_act ORDER BY 1, 2",
    "lane": "SELECT * FROM lane ORDER BY 1, 2",
    "lane_note": "SELECT * FROM lane_note ORDER BY 1, 2, 3, 4",
    "equivocation": "SELECT * FROM equivocation ORDER BY 1, 2, 3",
    "accounting": "SELECT * FROM accounting ORDER BY 1, 2, 3",
    "outbox": "SELECT * FROM outbox ORDER BY 1",
    "intake": "SELECT * FROM intake ORDER BY 1, 2",
    "registry": "SELECT * FROM registry_record ORDER BY 1",
    "status": "SELECT * FROM status ORDER BY 1",
    "tally": "SELECT * FROM tally ORDER BY 1",
    "head": "SELECT size, root FROM head",
    "tile": "SELECT * FROM tile ORDER BY 1, 2",
}


def certledger(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *words],
        cwd=ROOT,
        env={**os.environ, "CERTLEDGER_PARTITIONS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("backup") / "data"
    yield folder
    Stack(folder).down()
    postgres.remove(folder)


def publish_all_sorts(stack: RunningStack, department: Department, mark: str) -> None:
    """Admitted, refused, repeated, out of sequence, equivocal, damaged; the registry too."""
    department.publish_issued(30)
    issued = department.event("issued", f"{mark}-1", holder_pseudonym=f"1:{7:064x}")
    department.publish([issued, department.event("revoked", f"{mark}-none", revocation="penalty")])
    department.settle()
    _, record = department.make([department.event("renewed", f"{mark}-1")])
    department.send(record)
    department.settle()
    department.send(record)  # a repeat
    lane = department.lanes[0]
    twin = lane.header([issued], time.time_ns() // 1000, sequence=lane.sequence - 1)
    department.send(format_record(world.make_note(twin), [issued]))  # the same number again
    late = lane.header([issued], time.time_ns() // 1000, sequence=lane.sequence + 5)
    department.send(format_record(world.make_note(late), [issued]))
    department.send(b"no bundle at all")
    stack.registrar.change(
        f"type/{mark}", {"names": {"en": mark}, "code": "", "grants": []}, world.OPERATOR
    )
    department.publish([])
    department.settle()
    head = stack.rows("SELECT max(log_index) FROM entry")[0][0]
    wait_until(lambda: stack.rows("SELECT size FROM head")[0][0] > head)


def quiet(stack: RunningStack) -> dict[str, list[tuple[Any, ...]]]:
    """All that must be the same, when everything is signed and in the log topic."""
    wait_until(
        lambda: (
            stack.rows(
                "SELECT (SELECT max(log_index) + 1 FROM entry) = size"
                " AND size = (SELECT entries FROM log_topic)"
                " AND size = (SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL)"
                " AND (SELECT outbox FROM log_topic) = (SELECT next_outbox FROM allocation)"
                " FROM head"
            )
            == [(True,)]
        )
    )
    return {name: stack.rows(statement) for name, statement in SAME.items()}


def lose_records(stack: RunningStack, department: Department) -> dict[str, Any]:
    """Kafka loses what was not taken yet, and the operator says so; what was lost."""
    pid = stack.pid("worker-1")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)  # what it had asked Kafka for is answered by now, with nothing
    department.publish_issued(3)
    sent = department.send(b"and another").get(60)
    admin = KafkaAdminClient(**client_settings(stack.kafka))
    admin.delete_records({TopicPartition(topics.EVENTS, sent.partition): sent.offset + 1})
    admin.close()
    after = len(stack.log("worker-1"))
    os.kill(pid, signal.SIGCONT)
    department.send(b"behind it")
    stack.wait_for_log("worker-1", "offset-jump", after)
    shown = certledger("accept-loss", "--json", "--data", str(stack.data))
    (lost,) = json.loads(shown.stdout)["lost"]
    done = certledger("accept-loss", lost["loss"], "--reason", "a test", "--data", str(stack.data))
    assert done.returncode == 0, done.stderr
    department.settle()
    return dict(lost)


def interrupt_restore(data: Path, folder: Path) -> None:
    """SIGTERM in the middle: it says so, and leaves nothing running."""
    words = [sys.executable, "-m", "deploy.cli", "restore", str(folder), "--data", str(data)]
    process = subprocess.Popen([*words, "--replace"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("set-up"):
                break
        process.terminate()
        assert "begin the restore anew" in process.stderr.read()
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.stderr.close()
    assert not Stack(data).status()["running"]


def test_backup_and_kafka_give_the_same_ledger_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "base"
    stack = RunningStack(data)
    try:
        department = Department(stack, "a")
        stack.registrar.set_type(("a", world.ALL_ACTS, "own"))
        publish_all_sorts(stack, department, "before")
        done = certledger("backup", str(folder), "--data", str(data))
        assert done.returncode == 0, done.stderr
        said = json.loads((folder / "backup.json").read_text())
        lost = lose_records(stack, department)
        publish_all_sorts(stack, department, "after")
        was = quiet(stack)
        assert len(was["entry"]) > said["entries"]
        assert {row[3] for row in was["accounting"]} >= {
            *("logged", "repeat", "dead-letter", "equivocation", "out-of-sequence", "lost"),
        }
        department.close()
    finally:
        stack.close()

    refused = certledger("restore", str(folder), "--data", str(data))
    assert refused.returncode != 0
    assert "--replace" in refused.stderr
    interrupt_restore(data, folder)
    done = certledger("restore", str(folder), "--data", str(data), "--replace")
    assert done.returncode == 0, done.stderr

    signer = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "signer", "--data", str(data)], cwd=ROOT
    )
    wait_until((data / "signer.sock").exists)
    monkeypatch.setenv("CERTLEDGER_SIGNER", str(data / "signer.sock"))
    stack = RunningStack(data)
    try:
        found = {name: stack.rows(statement) for name, statement in SAME.items()}
        size = len(was["entry"])
        found["entry"], found["status"] = (
            [row for row in found[name] if row[0] < size] for name in ("entry", "status")
        )
        if len(found["head"]) == 1 and found["head"][0][0] == size:  # nothing came on top yet
            assert found == was
        for name in was.keys() - {"head", "tile"}:
            assert found[name] == was[name], name
        # and it goes on from there, signed by a process of its own
        department.resume(stack)
        department.publish(
            [department.event("issued", "later"), department.event("issued", "after-1")]
        )
        department.settle()
        stack.check()
        department.close()
        signed = json.loads((data / "signer.state").read_text())
        assert [(signed["size"], signed["root"])] == [
            (size, bytes(root).hex()) for size, root in stack.rows(SAME["head"])
        ]
        # what the intake topic has let go of cannot be restored, and it is said from where on
        partition, offset = lost["partition"], lost["last"] + 1
        admin = KafkaAdminClient(**client_settings(stack.kafka))
        ends = {TopicPartition(topics.EVENTS, partition): offset + 1}
        admin.delete_records(ends)
        admin.close()
    finally:
        stack.close()
        signer.terminate()
        assert signer.wait(30) == 0
    done = certledger("restore", str(folder), "--data", str(data), "--replace")
    assert done.returncode != 0
    assert f"partition {partition}: want offset {offset}" in done.stderr
    (folder / "ledger.dump").write_bytes(b"damaged")
    done = certledger("restore", str(folder), "--data", str(data), "--replace")
    assert "SHA-256" in done.stderr
