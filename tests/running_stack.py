"""A whole stack with the seeded keys of `tests.world`, and departments that publish into it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from consumers import fsck
from deploy.embedded import postgres
from deploy.embedded.supervisor import Program
from deploy.stack import Stack
from ledger import keys, topics
from ledger.bundle import note_hash, parse_record
from ledger.errors import Unavailable
from ledger.kafka_address import client_settings
from ledger.note import MemorySigner, parse_note
from ledger.postgres.connection import connect
from ledger.postgres.store import Store
from ledger.receipt import RECEIPT_FORM, Receipt, parse_message, parse_receipt
from tests import world
from tests.stored_ledger import Registrar, query

ROOT = Path(__file__).parent.parent
SHIM = ROOT / "deploy" / "embedded" / "child.py"
MAX_REQUEST = 64 * 1024 * 1024
RESEND_SECONDS, LONGEST_RESEND_SECONDS = 3.0, 12.0
MOST_PENDING = 50  # bundles of a load; the ledger and then fsck judge each that is sent again


class RunningStack:
    """The stack in a process of its own that cannot outlive this one."""

    def __init__(self, data: Path, workers: int = 1, http: bool = False) -> None:
        self.data = data
        _seed_keys(data)
        tied = [str(os.getpid()), str(int(signal.SIGTERM)), "-1", "-1"]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(SHIM), *tied),
                *(sys.executable, "-m", "tests.running_stack", str(data), str(workers)),
                *(["http"] if http else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "CERTLEDGER_PARTITIONS": "2"},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.stack = Stack(data)
        settings = self.stack.settings()
        self.kafka, self.postgres = settings.kafka, settings.postgres
        self.registrar = Registrar(Store(connect(self.postgres, "test-registry", writes=True)))

    def close(self) -> None:
        self.registrar.store.connection.close()
        self.process.terminate()
        assert self.process.wait(120) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def reconnect(self) -> None:
        """A new connection for registry changes."""
        self.registrar.store.connection.close()
        self.registrar.store = Store(connect(self.postgres, "test-registry", writes=True))

    def pid(self, name: str, wait_seconds: float = 60) -> int:
        """The process of a program that runs."""
        end = time.monotonic() + wait_seconds
        while True:
            found = self.stack.status()["programs"].get(name, {}).get("pid")
            if found is not None:
                return int(found)
            assert time.monotonic() < end, f"{name} does not run"
            time.sleep(0.05)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        end = time.monotonic() + 30
        while True:
            pid = self.pid(name)
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # it died, and the supervisor has yet to see it
                assert time.monotonic() < end, f"{name} does not run"
                time.sleep(0.05)
            else:
                return pid

    def log(self, name: str) -> str:
        return (self.data / "logs" / f"{name}.log").read_text()

    def wait_for_log(self, name: str, words: str, after: int = 0, seconds: float = 90) -> str:
        """The log of a program from `after` on, once it has these words."""
        end = time.monotonic() + seconds
        while words not in self.log(name)[after:]:
            assert time.monotonic() < end, f"{words!r} not in:\n{self.log(name)[after:][-3000:]}"
            time.sleep(0.1)
        return self.log(name)[after:]

    def rows(self, statement: str, *parameters: Any, attempts: int = 60) -> list[tuple[Any, ...]]:
        """Rows from the ledger's database, waiting for a server that restarts."""
        for left in range(attempts, 0, -1):
            try:
                connection = connect(self.postgres, "test")
            except Unavailable:
                if left == 1:
                    raise
                time.sleep(0.5)
                continue
            try:
                return query(connection, statement, *parameters)
            finally:
                connection.close()
        raise AssertionError

    def crash_at(self, step: str, times: int = 1) -> None:
        """Have a program die at a step; see `tests.crashing`."""
        (self.data / "crash").write_text(f"{step}:{times}")

    def freeze_at(self, step: str) -> None:
        """Have a program stop at a step, until SIGCONT."""
        (self.data / "freeze").write_text(f"{step}:1")

    def set_clock(self, ahead: int) -> None:
        """Have the follower's clock be so many seconds ahead."""
        path = self.data / "clock.new"
        path.write_text(str(ahead))
        path.rename(self.data / "clock")

    def wait_for_crash(self, seconds: float = 60) -> float:
        """When the program died."""
        end = time.monotonic() + seconds
        while (self.data / "crash").exists() or (self.data / "freeze").exists():
            assert time.monotonic() < end, "the step was not reached"
            time.sleep(0.01)
        return time.monotonic()

    def check(self) -> dict[str, int]:
        """The whole oracle; how much it checked."""
        checked: dict[str, int] = {}
        connection = connect(self.postgres, "fsck")
        try:
            found = fsck.run(connection, self.kafka, checked=checked)
        finally:
            connection.close()
        assert found == [], found
        return checked


@contextlib.contextmanager
def running(data: Path, workers: int = 1) -> Iterator[RunningStack]:
    """A stack until the end of the `with`; PostgreSQL's files are gone then."""
    made = RunningStack(data, workers)
    try:
        yield made
    finally:
        made.close()
        postgres.remove(data)


class Department:
    """A minimal publisher: numbers and signs bundles, sends again what has no receipt."""

    def __init__(self, stack: RunningStack, name: str, lanes: int = 1) -> None:
        self.stack = stack
        self.name = name
        self.lanes = stack.registrar.add_department(name, lanes)
        self._connect()
        self.pending: dict[bytes, tuple[int, bytes]] = {}  # note hash: lane, record
        self.sent_at: dict[bytes, float] = {}
        self.events = 0
        self._changes = 0
        self._wait_anew()

    def close(self) -> None:
        self.producer.close(timeout=5)
        self.inbox.close()

    def resume(self, stack: RunningStack) -> None:
        """Go on with another stack of the same ledger, after `close`."""
        self.stack = stack
        self._connect()

    def _connect(self) -> None:
        self.producer: Any = KafkaProducer(
            **client_settings(self.stack.kafka),
            acks="all",
            max_request_size=MAX_REQUEST,
            compression_type="lz4",
        )
        self.inbox = Inbox(self.stack.kafka)

    def event(self, kind: str, number: str, **members: Any) -> bytes:
        self._changes += 1
        change = f"{self.name}{self._changes}"
        return world.make_event(kind, number, issuer=self.name, change=change, **members)

    def make(self, lines: Sequence[bytes], lane: int = 0) -> tuple[bytes, bytes]:
        """(note hash, record) of the lane's next bundle, spooled and not yet sent."""
        record = self.lanes[lane].make(lines, time.time_ns() // 1000)
        name = self.lanes[lane].previous
        self.pending[name] = lane, record
        self.events += len(lines)
        return name, record

    def publish(self, lines: Sequence[bytes], lane: int = 0) -> bytes:
        """Spool and send a bundle: its note's hash."""
        name, record = self.make(lines, lane)
        self.sent_at[name] = time.monotonic()
        self.send(record, lane)
        return name

    def publish_issued(self, count: int) -> bytes:
        """A bundle of that many new certificates on the lane that has most of them."""
        numbers = [f"{self.name}-{self._changes + i}" for i in range(count * len(self.lanes))]
        by_lane: dict[int, list[str]] = {}
        for number in numbers:
            lane = world.lane_of(
                self.name, number, self.stack.registrar.book.registry, issuer=self.name
            )
            by_lane.setdefault(lane, []).append(number)
        lane, chosen = max(by_lane.items(), key=lambda item: len(item[1]))
        lines = [self.event("issued", number) for number in chosen]
        self._changes += len(numbers)
        return self.publish(lines, lane)

    def send(self, record: bytes | None, lane: int = 0) -> Any:
        key = topics.lane_key(self.name, lane)
        return self.producer.send(topics.EVENTS, key=key, value=record)

    def poll(self, timeout_ms: int = 100) -> None:
        """Hear receipts and let go of what they are for."""
        self.inbox.poll(timeout_ms)
        heard = self.inbox.receipts.keys() & self.pending.keys()
        for name in heard:
            del self.pending[name]
        if heard or not self.pending:
            self._wait_anew()

    def _wait_anew(self) -> None:
        self._silent_since, self._patience = time.monotonic(), RESEND_SECONDS

    def resend_if_silent(self) -> None:
        """Send again what has no receipt, when none came for a while; the next time when none came
        for twice as long: what waits in the producer is not lost.
        """
        if time.monotonic() - self._silent_since > self._patience:
            for lane, record in list(self.pending.values()):
                self.send(record, lane)
            self._silent_since = time.monotonic()
            self._patience = min(2 * self._patience, LONGEST_RESEND_SECONDS)

    def settle(self, seconds: float = 120) -> None:
        """Every bundle has its receipt; what has none is sent again after a while."""
        end = time.monotonic() + seconds
        self._wait_anew()
        while self.pending:
            self.poll()
            self.resend_if_silent()
            assert time.monotonic() < end, f"{len(self.pending)} bundles without a receipt"

    def wait_for_notice(self, outcome: str, name: bytes, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            for notice in self.inbox.notices:
                if notice["outcome"] == outcome and notice["note_hash"] == name.hex():
                    return notice
            assert time.monotonic() < end, (outcome, self.inbox.notices)
            self.poll()


class Inbox:
    """All receipts, checked, and notices, as they come."""

    def __init__(self, kafka: str) -> None:
        self._consumer: Any = KafkaConsumer(
            **client_settings(kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=2 * 1024 * 1024,
            fetch_max_wait_ms=50,
        )
        self._consumer.assign([TopicPartition(topics.RECEIPTS, n) for n in (0, 1)])
        self._consumer.seek_to_beginning()
        self.receipts: dict[bytes, list[Receipt]] = {}
        self.heard_at: dict[bytes, float] = {}
        self.notices: list[dict[str, Any]] = []

    def poll(self, timeout_ms: int = 100) -> None:
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            for record in records:
                message = parse_message(record.value)
                if message["format"] != RECEIPT_FORM:
                    self.notices.append(message)
                    continue
                receipt = parse_receipt(record.value, world.CHECKPOINT_KEYS)
                self.receipts.setdefault(receipt.note_hash, []).append(receipt)
                self.heard_at.setdefault(receipt.note_hash, time.monotonic())

    def close(self) -> None:
        self._consumer.close()


class Load:
    """Bundles again and again, in a thread, until `stop`; hears its receipts beside."""

    def __init__(self, department: Department) -> None:
        self.department = department
        self._stop = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if len(self.department.pending) < MOST_PENDING:
                    self.department.publish_issued(10)
                self.department.poll(50)
                self.department.resend_if_silent()
                self._stop.wait(0.05)
        except BaseException as err:
            self.error = err

    def gap_after(self, moment: float, seconds: float = 120) -> float:
        """Seconds from `moment` until the first receipt of a bundle that was sent after it."""
        end = time.monotonic() + seconds
        department = self.department
        while True:
            if self.error is not None:
                raise self.error
            heard = [
                department.inbox.heard_at[name]
                for name, sent in list(department.sent_at.items())
                if sent > moment and name in department.inbox.heard_at
            ]
            if heard:
                return min(heard) - moment
            assert time.monotonic() < end, "publishing does not go on"
            time.sleep(0.05)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error


def wait_until(what: Callable[[], bool], seconds: float = 90) -> None:
    """Return when it is so; the limit is generous, as machines are slow and limits cost nothing."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def note_hash_of(record: bytes) -> bytes:
    bundle = parse_record(record)
    return note_hash(parse_note(bundle.note_bytes).text)


def _seed_keys(data: Path) -> None:
    """The ledger's keys are those of `tests.world`: set-up finds them there."""
    data.mkdir(mode=0o700, exist_ok=True)
    if (data / "keys").exists():
        return
    (data / "keys").mkdir(mode=0o700)
    (data / "lock").touch(mode=0o600)
    (data / "origin").write_text(world.ORIGIN + "\n")
    for name, signer in (("checkpoint", world.CHECKPOINT), ("operator", world.OPERATOR)):
        path = data / "keys" / f"{name}.key"
        path.touch(mode=0o600)
        path.write_text(keys.format_key(signer.key.name, _seed(signer)))


def _seed(signer: MemorySigner) -> bytes:
    return sha256(f"test key {signer.key.name} ".encode()).digest()  # as in `world.signer`


def main() -> None:
    """Run the stack until a signal comes; print when it is ready."""
    data, workers = Path(sys.argv[1]), int(sys.argv[2])
    programs = [
        Program(name, [sys.executable, "-m", *module.split()], env={})
        for name, module in (
            *((f"worker-{n + 1}", "tests.crashing worker") for n in range(workers)),
            ("sequencer", "tests.crashing sequencer"),
            *((name, f"tests.crashing {name}") for name in ("relay", "follower")),
        )
    ]
    stack = Stack(data, programs=programs, http="http" in sys.argv[3:])
    stack.progress = lambda text: print("ready", flush=True) if text == "ready" else None
    stack.up()


if __name__ == "__main__":
    main()
