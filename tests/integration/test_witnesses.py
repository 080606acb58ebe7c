"""Witnesses over real PostgreSQL, HTTP and files: quorum, hostile answers, restores, kills."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from deploy.embedded.files import free_port, is_listening
from ledger import merkle
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner, CosignerKey
from ledger.errors import Refused
from ledger.note import format_lines, parse_note, sign
from ledger.policy import Policy, Witness, simple_policy
from ledger.trust import Trust, TrustedQuorum
from ledger.witnessing import MAX_REQUEST, format_request
from streams import witnesses as asking
from tests import outside, world
from tests.running_stack import wait_until
from tests.stored_ledger import StoredLedger, sequence
from tests.witnessed_ledger import Running, copied, grow
from tests.witnessing import Behaviour, RunningWitness, listening, respond, witnesses


@pytest.fixture
def running(ledger: StoredLedger) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(*asked: Witness, quorum: int, url: str = ledger.url) -> Running:
        made.append(Running(url, simple_policy(asked, quorum)))
        return made[-1]

    yield start
    for one in made:
        one.close()


def trust(policy: Policy) -> Trust:
    quorum = TrustedQuorum(policy, 0, None)
    return Trust(world.ORIGIN, bytes(32), world.CHECKPOINT_KEYS, quorums=(quorum,))


# --- quorum ---------------------------------------------------------------------------------------


def test_a_quorum_publishes_and_without_one_signing_goes_on(
    ledger: StoredLedger,
    running: Callable[..., Running],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with witnesses(tmp_path, 3) as three:
        ours = running(*(w.in_policy() for w in three), quorum=2).start()
        head = ours.sequencer.round()
        assert head is not None
        note = ours.publish(head.size)
        assert trust(ours.policy).check_checkpoint(note).size == head.size
        assert len(ours.policy.cosignatures(parse_note(note))) >= 2

        three[0].stop(signal.SIGKILL)
        grow(ledger, "n1")
        head = ours.sequencer.round()
        assert head is not None
        ours.publish(head.size)

        three[1].stop(signal.SIGKILL)
        for number in ("n2", "n3"):
            grow(ledger, number)
            head = ours.sequencer.round()
            assert head is not None
        ours.stays_unpublished(head.size)
        assert ours.store.largest_checkpoint() is not None
        assert ours.store.head().size == head.size
        assert "quorum-missing" in caplog.text
        down = [s for s in ours.witnesses.states() if s.problem]
        assert {s.name for s in down} == {"witness.example/w0", "witness.example/w1"}

        three[0].start()
        note = ours.publish(head.size)
        trust(ours.policy).check_checkpoint(note)
    ledger.check()


def test_signing_again_after_a_crash_is_no_second_checkpoint(
    ledger: StoredLedger, running: Callable[..., Running], tmp_path: Path
) -> None:
    """Cosignatures carry times and randomness: what was kept is used again."""
    with witnesses(tmp_path, 1) as (witness,):
        first = running(witness.in_policy(), quorum=1).start()
        first.witnesses.close()
        head = first.sequencer.round()
        assert head is not None
        kept = first.store.largest_checkpoint()
        second = running(witness.in_policy(), quorum=1).start()
        note = second.publish(head.size)
        assert kept is not None
        assert note.startswith(kept[1])
    ledger.check()


def test_a_slow_witness_is_not_waited_for(
    ledger: StoredLedger,
    running: Callable[..., Running],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(asking, "REQUEST_SECONDS", 60.0)

    def wait(connection: socket.socket, body: bytes) -> None:
        let_go.wait(60)

    with witnesses(tmp_path, 2) as two, listening(wait) as url:
        slow = Witness("slow", Cosigner("slow", COSIGNATURE_V1, bytes(32)).key, url)
        ours = running(*(w.in_policy() for w in two), slow, quorum=2)
        ours.witnesses._keys = [world.CHECKPOINT.key]
        for thread in ours.witnesses._threads:
            thread.start()
        for number in ("n1", "n2", "n3"):
            grow(ledger, number)
            began = time.monotonic()
            head = ours.sequencer.round()
            assert head is not None
            ours.publish(head.size)
            assert time.monotonic() - began < asking.REQUEST_SECONDS
        let_go.set()


@contextmanager
def litewitness(folder: Path) -> Iterator[Witness]:
    """Torchwood's witness, its key in an ssh-agent, knowing the seeded ledger."""
    program = outside.litewitness()
    if not shutil.which("ssh-agent"):
        pytest.skip("litewitness needs OpenSSH's ssh-agent, which is not installed")
    private = Ed25519PrivateKey.generate()
    pem = folder / "key.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    name, port, database = "litewitness.example/w", free_port(), folder / "litewitness.db"
    key = CosignerKey(name, COSIGNATURE_V1, private.public_key().public_bytes_raw())
    ssh = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    digest = sha256(base64.b64decode(ssh.split(b" ")[1])).digest()
    fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    agent_socket = Path(tempfile.mkdtemp(prefix="certledger-")) / "agent"  # must be short
    agent = ["ssh-agent", "-D", "-a", str(agent_socket)]
    processes = [subprocess.Popen(agent, stdout=subprocess.DEVNULL)]
    try:
        wait_until(agent_socket.exists)
        subprocess.run(
            ["ssh-add", "-q", str(pem)],
            env={**os.environ, "SSH_AUTH_SOCK": str(agent_socket)},
            check=True,
            timeout=30,
        )
        processes.append(
            subprocess.Popen(
                [
                    *(program, "-name", name, "-db", database, "-ssh-agent", agent_socket),
                    *("-key", fingerprint, "-listen", f"127.0.0.1:{port}"),
                ],
                stderr=subprocess.DEVNULL,
            )
        )
        wait_until(lambda: is_listening(port))
        # Its own tool for this, witnessctl, needs a module that cannot be had everywhere.
        with closing(sqlite3.connect(database, 30)) as connection, connection:
            root = base64.b64encode(bytes(32)).decode()
            connection.execute("INSERT INTO log VALUES (?, 0, ?)", (world.ORIGIN, root))
            connection.execute(
                "INSERT INTO key VALUES (?, ?)", (world.ORIGIN, str(world.CHECKPOINT.key))
            )
        yield Witness(name, key, f"http://127.0.0.1:{port}")
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)
        shutil.rmtree(agent_socket.parent)


def test_litewitness_is_one_of_our_witnesses(
    ledger: StoredLedger, running: Callable[..., Running], tmp_path: Path
) -> None:
    with litewitness(tmp_path) as theirs, witnesses(tmp_path, 1) as (own,):
        first = running(theirs, own.in_policy(), quorum=2).start()
        for number in ("n1", "n2"):
            grow(ledger, number)
            head = first.sequencer.round()
            assert head is not None
            note = first.publish(head.size)
        assert set(first.policy.cosignatures(parse_note(note))) == {theirs.name, own.keys[0].name}
        trust(first.policy).check_checkpoint(note)
        first.witnesses.close()
        again = running(theirs, own.in_policy(), quorum=2).start()  # its 409 says where it is
        grow(ledger, "n3")
        head = again.sequencer.round()
        assert head is not None
        again.publish(head.size)
    ledger.check()


# --- witnesses that lie, talk nonsense, drip, or flood --------------------------------------------

LIAR = Cosigner("liar", COSIGNATURE_V1, sha256(b"liar").digest())
OTHER = Checkpoint(world.ORIGIN, 9, bytes(32)).text()


def cosigned(cosigner: Cosigner, body: bytes, seconds: int = 0) -> bytes:
    """The answer to a request by a clock that is `seconds` ahead; nothing for a GET."""
    if not body:
        return b""
    text = parse_note(body.partition(b"\n\n")[2]).text
    return format_lines([cosigner.cosign(text, int(time.time()) + seconds)])


def answer(status: int, body: bytes, **headers: Any) -> Behaviour:
    return lambda connection, _: respond(connection, status, body, **headers)


def cosign(seconds: int) -> Behaviour:
    return lambda connection, body: respond(connection, 200, cosigned(LIAR, body, seconds))


def drip(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Slow: 1\r\n")
        time.sleep(0.2)


def flood(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        connection.sendall(b"\xe2\x80\x94 x " + b"A" * 65536)


BAD: dict[str, tuple[Behaviour, str]] = {
    "nonsense": (answer(200, b"all is well\n"), "witness-refused"),
    "no HTTP": (lambda c, _: c.sendall(b"hello\r\n"), "unreachable"),
    "nothing": (lambda c, _: None, "unreachable"),
    "an error": (answer(500, b"oh"), "HTTP 500"),
    "a redirect": (answer(302, b"", Location="http://127.0.0.1:1/"), "HTTP 302"),
    "does not know the log": (answer(404, b"who"), "HTTP 404"),
    "another checkpoint": (
        answer(200, format_lines([LIAR.cosign(OTHER, 1_772_323_200)])),
        "witness-refused",
    ),
    "a stranger's signature": (
        answer(200, format_lines([Cosigner("liar", 4, bytes(32)).cosign(OTHER, 1)])),
        "witness-refused",
    ),
    "from the future": (cosign(4000), "s from ours"),
    "from the past": (cosign(-4000), "s from ours"),
    "a size that is none": (answer(409, b"many\n"), "does not say a size"),
    "a size beyond ours": (answer(409, b"999999999\n"), "has seen size 999999999"),
    "a proof that it does not take": (answer(422, b"no"), "HTTP 422"),
    "drips": (drip, "no answer within"),
    "floods": (flood, "an answer of over"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_answers_are_refused_with_a_code_and_service_goes_on(
    ledger: StoredLedger,
    running: Callable[..., Running],
    tmp_path: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "REQUEST_SECONDS", 1.0)
    behaviour, words = BAD[what]
    own = Cosigner("good", COSIGNATURE_V1, sha256(b"good").digest())

    def good(connection: socket.socket, body: bytes) -> None:
        respond(connection, 200, cosigned(own, body))

    with listening(behaviour) as bad, listening(good) as url:
        liar, other = Witness("liar", LIAR.key, bad), Witness("good", own.key, url)
        ours = running(other, liar, quorum=1)
        ours.witnesses.compare(0, None, [world.CHECKPOINT.key])  # a first start
        for number in ("n1", "n2"):
            grow(ledger, number)
            head = ours.sequencer.round()
            assert head is not None
            note = ours.publish(head.size)
        ours.problem("liar", words)
        assert ours.policy.cosignatures(parse_note(note)).keys() == {"good"}
        rows = ledger.rows("SELECT name, problem FROM witness ORDER BY name")
        assert [name for name, problem in rows if problem] == ["liar"]
    ledger.check()


# --- going back -----------------------------------------------------------------------------------


def test_an_older_database_does_not_sign_though_it_has_grown_since(
    database_url: str, tmp_path: Path
) -> None:
    original = StoredLedger(database_url)
    with witnesses(tmp_path, 2) as two:
        policy = simple_policy([w.in_policy() for w in two], 1)
        ours = Running(database_url, policy).start()
        first = ours.sequencer.round()
        assert first is not None
        ours.publish(first.size)
        ours.close()
        original.close()
        with copied(original) as (going_on, old):
            ours = Running(going_on.url, policy).start()
            grow(going_on, "n1")
            second = ours.sequencer.round()
            assert second is not None
            ours.publish(second.size)
            ours.close()
            for growth in ("nothing", "past the published size"):
                if growth != "nothing":
                    for number in ("m1", "m2", "m3"):
                        grow(old, number)
                    restored = Running(old.url, policy)
                    assert sequence(restored.store) is not None
                    assert restored.store.head().size > second.size
                    restored.close()
                restored = Running(old.url, policy)
                with pytest.raises(Refused) as refused:
                    restored.start()
                assert refused.value.code == "going-back", growth
                restored.close()
                assert old.rows("SELECT max(size) FROM checkpoint") == [(first.size,)]
            # One that can no longer be reached is no reason to stop; the other one is enough.
            two[0].stop(signal.SIGKILL)
            restored = Running(old.url, policy)
            with pytest.raises(Refused):
                restored.start()
            restored.close()


def test_a_witness_that_saw_another_history_is_heard(
    ledger: StoredLedger, running: Callable[..., Running], tmp_path: Path
) -> None:
    with witnesses(tmp_path, 1) as (witness,):
        forged = sign(Checkpoint(world.ORIGIN, 5, bytes(32)).text(), [world.CHECKPOINT])
        assert witness.post(format_request(0, [], forged))[0] == 200
        head = ledger.checkpoint()
        assert head.size > 5
        with pytest.raises(Refused, match="another history"):
            running(witness.in_policy(), quorum=1).start()


def test_a_history_shown_while_running_stops_signing(
    ledger: StoredLedger, running: Callable[..., Running], tmp_path: Path
) -> None:
    """A witness that was away at the start and proves another history is an alarm at once."""
    with witnesses(tmp_path, 1) as (witness,):
        forged = sign(Checkpoint(world.ORIGIN, 99, bytes(32)).text(), [world.CHECKPOINT])
        assert witness.post(format_request(0, [], forged))[0] == 200
        witness.stop()
        ours = running(witness.in_policy(), quorum=1).start()
        witness.start()
        grow(ledger, "n1")
        with pytest.raises(Refused, match="not of this database") as refused:
            _rounds(ours, 30)
        assert refused.value.code == "going-back"


def _rounds(ours: Running, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ours.sequencer.round()
        ours.sequencer.publish_due()
        ours.witnesses.wait(0.1)


# --- the witness server ---------------------------------------------------------------------------

LEAVES = [merkle.leaf_hash(str(n).encode()) for n in range(64)]


def checkpoint(size: int, leaves: Sequence[bytes] = LEAVES) -> bytes:
    text = Checkpoint(world.ORIGIN, size, merkle.root(leaves[:size])).text()
    return sign(text, [world.CHECKPOINT])


def request(old: int, size: int) -> bytes:
    view = merkle.in_memory(LEAVES[:size])
    return format_request(
        old, merkle.prove_consistency(old, size, view) if old else [], checkpoint(size)
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWitness]:
    folder = tmp_path_factory.mktemp("witness")
    made = RunningWitness(folder / "w", "witness.example/both", ml_dsa=True)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_what_the_protocol_says(server: RunningWitness) -> None:
    digest = sha256(world.ORIGIN.encode()).hexdigest()
    assert server.ask("GET", f"/{digest}/checkpoint")[0] == 404
    status, _, lines = server.post(request(0, 5))
    assert status == 200
    note = parse_note(checkpoint(5) + lines)
    assert [key.kind for key in server.keys] == [COSIGNATURE_V1, ML_DSA_44]
    for key in server.keys:
        note.check_signed_by(key)
    status, _, shown = server.ask("GET", f"/{digest}/checkpoint")
    assert status == 200
    assert shown == checkpoint(5) + lines
    assert server.post(request(5, 5))[0] == 200
    assert server.post(request(0, 9)) == (409, "text/x.tlog.size", b"5\n")
    assert server.post(request(5, 9))[0] == 200
    assert server.post(request(5, 9)) == (409, "text/x.tlog.size", b"9\n")
    assert server.post(request(9, 20).replace(b"old 9", b"old 21"))[0] == 400
    sideways = [merkle.leaf_hash(b"other")] * 20
    proof = merkle.prove_consistency(9, 20, merkle.in_memory(LEAVES[:20]))
    assert server.post(format_request(9, proof, checkpoint(20, sideways)))[0] == 422
    assert server.post(format_request(9, [], checkpoint(9, sideways)))[0] == 422
    assert server.post(format_request(9, proof[:-1], checkpoint(20)))[0] == 422
    unknown = sign(
        Checkpoint("other.example", 1, bytes(32)).text(), [world.signer("other.example")]
    )
    assert server.post(format_request(0, [], unknown))[0] == 404
    forged = sign(Checkpoint(world.ORIGIN, 20, bytes(32)).text(), [world.signer(world.ORIGIN, "x")])
    assert server.post(format_request(9, proof, forged))[0] == 403
    assert server.post(b"nonsense")[0] == 400
    assert server.post(b"x" * (MAX_REQUEST + 1))[0] == 413
    assert server.ask("GET", "/add-checkpoint")[0] == 405
    assert server.ask("GET", f"/{'0' * 64}/checkpoint")[0] == 404
    assert server.ask("GET", "/../checkpoint")[0] == 404
    assert server.post(request(9, 20))[0] == 200


def test_a_slow_body_is_cut_off(server: RunningWitness) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(30)
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold"
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 25


def test_requests_at_once_never_go_back(tmp_path: Path) -> None:
    with witnesses(tmp_path, 1) as (witness,):
        sizes: list[int] = []

        def climb(seed: int) -> None:
            """Ask for ever larger trees, as the witness says where it is."""
            old, size = 0, 1 + seed
            while size <= 60:
                status, _, body = witness.post(request(old, size))
                if status == 409:
                    old = int(body)
                    size = max(size, old)
                else:
                    assert status == 200, (status, body)
                    sizes.append(size)
                    old, size = size, size + 1 + seed % 3

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(climb, range(8)))
        assert max(sizes) >= 58
        digest = sha256(world.ORIGIN.encode()).hexdigest()
        shown, _ = parse_checkpoint(witness.ask("GET", f"/{digest}/checkpoint")[2])
        assert shown.size == max(sizes)


@pytest.mark.parametrize(("step", "size"), [("checked", 5), ("stored", 9)])
def test_a_kill_before_or_after_storing(tmp_path: Path, step: str, size: int) -> None:
    witness = RunningWitness(tmp_path / "w", "witness.example/w")
    witness.start()
    try:
        assert witness.post(request(0, 5))[0] == 200
        witness.stop(signal.SIGKILL)
        witness.start(crash_at=step)
        with pytest.raises((OSError, ConnectionError)):
            witness.post(request(5, 9))
        witness.wait_for_end()
        witness.start()
        assert witness.post(request(0, 20)) == (409, "text/x.tlog.size", b"%d\n" % size)
        # What was stored and never signed is the tree that it now stands by.
        other = [*LEAVES[:5], *[merkle.leaf_hash(b"other")] * 4]
        proof = merkle.prove_consistency(5, 9, merkle.in_memory(other))
        if step == "stored":
            status, _, _ = witness.post(format_request(5, proof, checkpoint(9, other)))
            assert status == 409
        assert witness.post(request(size, 9))[0] == 200
    finally:
        witness.stop(signal.SIGKILL)


def test_a_damaged_state_is_no_fresh_one(tmp_path: Path) -> None:
    witness = RunningWitness(tmp_path / "w", "witness.example/w")
    witness.start()
    try:
        assert witness.post(request(0, 5))[0] == 200
        (path,) = [p for p in (tmp_path / "w" / "state").iterdir() if len(p.name) == 64]
        path.write_bytes(path.read_bytes()[:-10])
        status, _, body = witness.post(request(0, 9))
        assert status == 500
        assert b"cosig" not in body
    finally:
        witness.stop(signal.SIGKILL)


def test_a_log_s_keys_change_without_a_restart(tmp_path: Path) -> None:
    from consumers.witness.config import add_log, drop_log

    witness = RunningWitness(tmp_path / "w", "witness.example/w")
    witness.start()
    try:
        new = world.signer(world.ORIGIN, "new")
        note = sign(Checkpoint(world.ORIGIN, 5, merkle.root(LEAVES[:5])).text(), [new])
        assert witness.post(format_request(0, [], note))[0] == 403
        add_log(witness.folder, str(new.key))
        assert witness.post(format_request(0, [], note))[0] == 200
        # A retired one, which may have been stolen, moves it no further.
        for _ in range(2):
            drop_log(witness.folder, str(world.CHECKPOINT.key))
        assert witness.post(request(5, 9))[0] == 403
        assert witness.post(request(0, 5))[0] == 403
        drop_log(witness.folder, str(new.key))
        assert witness.post(format_request(5, [], note))[0] == 404
    finally:
        witness.stop(signal.SIGKILL)
