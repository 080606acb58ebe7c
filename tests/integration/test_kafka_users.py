"""What a department's Kafka credentials can do, tried on the real broker, and what they cannot."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError as AioKafkaError
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    NewPartitions,
    NewTopic,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)

from ledger import topics
from ledger.errors import LedgerError, Malformed
from ledger.kafka_address import (
    SCRAM,
    client_settings,
    credentials_file,
    format_credentials,
    servers,
    with_credentials,
)
from streams.kafka_topics import create_topics, plan
from streams.kafka_users import (
    PROGRAMS,
    department_user,
    program_user,
    set_department_user,
    set_program_user,
)

KEY = topics.lane_key("a", 0)
READ = [
    made.name for made in plan(1) if made.name in (topics.RECEIPTS, topics.LANES, topics.RECALLS)
]
HIDDEN = (topics.EVENTS, topics.LOG, topics.DEAD_LETTERS, topics.EXPIRY)


def write(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def department(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Kafka as department a speaks to it."""
    create_topics(kafka_bootstrap, 2)
    password = secrets.token_urlsafe(16)
    set_department_user(kafka_bootstrap, "a", password, 32 * 1024 * 1024)
    folder = tmp_path_factory.mktemp("department")
    path = write(folder / "kafka.json", format_credentials(SCRAM, department_user("a"), password))
    return with_credentials(kafka_bootstrap, path)


@pytest.fixture
def admin(department: str) -> Iterator[KafkaAdminClient]:
    made = KafkaAdminClient(**client_settings(department))
    yield made
    made.close()


def produce(address: str, topic: str, **settings: Any) -> Any:
    producer: Any = KafkaProducer(
        **{**client_settings(address), "acks": "all", "max_block_ms": 20_000, **settings}
    )
    try:
        return producer.send(topic, key=KEY, value=b"x", partition=0).get(timeout=30)
    finally:
        producer.close(timeout=1)


def consume(address: str, topic: str, seconds: float = 10) -> list[Any]:
    consumer: Any = KafkaConsumer(**client_settings(address), auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 0)])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for records in consumer.poll(timeout_ms=500).values():
                return list(records)
        return []
    finally:
        consumer.close()


def readable(address: str, names: Sequence[str], expected: Container[str]) -> set[str]:
    """The topics of these, all with records, that give some. Refusals are silence, for which it
    waits with all of them at once; longer where records are expected.
    """

    def gives(topic: str) -> bool:
        return not is_refused(lambda: consume(address, topic, 20 if topic in expected else 2))

    with ThreadPoolExecutor(len(names)) as threads:
        return {n for n, given in zip(names, threads.map(gives, names), strict=True) if given}


def is_refused(act: Callable[[], Any]) -> bool:
    try:
        return act() == []
    except KafkaError:
        return True


async def connect(address: str) -> None:
    """By the workers' client, which says when it is refused."""
    client = AIOKafkaConsumer(**client_settings(address))
    try:
        await client.start()
    finally:
        await client.stop()


def test_a_department_writes_and_reads_what_it_must(department: str, kafka_bootstrap: str) -> None:
    sent = produce(department, topics.EVENTS, enable_idempotence=True, compression_type="lz4")
    assert sent.offset >= 0
    for topic in READ:
        produce(kafka_bootstrap, topic)
        assert consume(department, topic)[0].value is not None


def test_it_does_not_read_what_others_publish(department: str, kafka_bootstrap: str) -> None:
    for topic in HIDDEN:
        produce(kafka_bootstrap, topic)
    assert readable(kafka_bootstrap, HIDDEN, HIDDEN) == set(HIDDEN)
    assert readable(department, HIDDEN, ()) == set()


@pytest.mark.parametrize("topic", [made.name for made in plan(1)])
def test_it_writes_to_the_intake_topic_alone(department: str, topic: str) -> None:
    if topic != topics.EVENTS:
        with pytest.raises(TopicAuthorizationFailedError):
            produce(department, topic)


def test_it_uses_no_transactions_and_joins_no_group(department: str) -> None:
    producer: Any = KafkaProducer(
        **client_settings(department), transactional_id="mine", max_block_ms=5_000
    )
    try:
        with pytest.raises(TransactionalIdAuthorizationFailedError):
            producer.init_transactions()
    finally:
        producer.close(timeout=1)
    consumer: Any = KafkaConsumer(topics.RECEIPTS, **client_settings(department), group_id="mine")
    try:
        with pytest.raises(GroupAuthorizationFailedError):
            consumer.poll(timeout_ms=5_000)
    finally:
        consumer.close(autocommit=False)


def test_it_makes_and_changes_nothing(department: str, admin: KafkaAdminClient) -> None:
    config = ConfigResource(ConfigResourceType.TOPIC, topics.EVENTS, configs={"retention.ms": "1"})
    acl = ACL(
        f"User:{department_user('a')}",
        "*",
        ACLOperation.ALL,
        ACLPermissionType.ALLOW,
        ResourcePattern(ResourceType.TOPIC, topics.LOG),
    )
    other = UserScramCredentialUpsertion(department_user("b"), SCRAM, "stolen")
    attempts: list[Callable[[], Any]] = [
        lambda: admin.create_topics([NewTopic("mine", 1, 1)]),
        lambda: admin.delete_topics([topics.EVENTS]),
        lambda: admin.create_partitions({topics.EVENTS: NewPartitions(9)}),
        lambda: admin.delete_records({TopicPartition(topics.EVENTS, 0): 1}),
        lambda: admin.create_acls([acl]),
        lambda: admin.alter_user_scram_credentials([other]),
        lambda: admin.describe_topics([topics.LOG])[0]["error_code"] == 29 and "Unauthorized",
    ]
    for number, attempt in enumerate(attempts):
        try:
            said = repr(attempt())
        except KafkaError as err:
            said = repr(err)
        assert "uthoriz" in said or "needs ALTER permission" in said, (number, said)
    with pytest.raises(ValueError, match="Unrecognized configs"):  # it sees none to change
        admin.alter_configs([config])
    assert set(admin.list_topics()) == {topics.EVENTS, *READ}


def test_nobody_makes_a_topic_by_asking_for_it(kafka_bootstrap: str) -> None:
    with pytest.raises(KafkaError):
        produce(kafka_bootstrap, "certledger.typo.v1", max_block_ms=1_000)
    operator = KafkaAdminClient(**client_settings(kafka_bootstrap))
    assert "certledger.typo.v1" not in operator.list_topics()
    operator.close()


def test_strangers_and_old_passwords_get_in_nowhere(
    department: str, kafka_bootstrap: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = write(tmp_path / "old.json", format_credentials(SCRAM, department_user("c"), "first one"))
    set_department_user(kafka_bootstrap, "c", "first one", 1_000_000)
    address = with_credentials(kafka_bootstrap, old)
    produce(address, topics.EVENTS)
    set_department_user(kafka_bootstrap, "c", "second one")
    with pytest.raises(AioKafkaError):
        asyncio.run(connect(address))
    assert "SaslAuthenticationFailed" in caplog.text
    new = write(
        tmp_path / "new.json", format_credentials(SCRAM, department_user("c"), "second one")
    )
    produce(with_credentials(kafka_bootstrap, new), topics.EVENTS)
    # without any: a request for metadata ends the connection
    host, _, port = servers(kafka_bootstrap)[0].rpartition(":")
    request = struct.pack(">hhih1si", 3, 1, 1, 1, b"x", -1)
    with socket.create_connection((host, int(port)), 10) as stranger:
        stranger.sendall(struct.pack(">i", len(request)) + request)
        assert stranger.recv(1) == b""


def test_a_quota_slows_a_department_down(
    kafka_bootstrap: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_department_user(kafka_bootstrap, "slow", "a password", 5_000)
    path = write(
        tmp_path / "slow", format_credentials(SCRAM, department_user("slow"), "a password")
    )
    producer: Any = KafkaProducer(**client_settings(with_credentials(kafka_bootstrap, path)))
    try:
        for _ in range(20):
            producer.send(topics.EVENTS, value=secrets.token_bytes(10_000), partition=0).get(30)
            if "throttled by broker" in caplog.text:
                return
        pytest.fail("200 kB went through at 5 kB/s")
    finally:
        producer.close(timeout=1)


def test_addresses_and_credentials_are_strict(tmp_path: Path) -> None:
    path = write(tmp_path / "a b&c.json", format_credentials(SCRAM, "u", "p", "/ca.pem"))
    address = with_credentials("one:9092,[::1]:9093", path)
    assert servers(address) == ["one:9092", "[::1]:9093"]
    assert credentials_file(address) == path
    assert with_credentials(address, path) == address
    found = client_settings(address)
    assert (found["security_protocol"], found["ssl_cafile"]) == ("SASL_SSL", "/ca.pem")
    assert client_settings("one:9092") == {"bootstrap_servers": ["one:9092"]}
    for wrong in ("", "one", "one:port", "one:1 two:2", "kafka://one:9092"):
        with pytest.raises(Malformed):
            servers(wrong)
    good = json.loads(path.read_text())
    for change in (
        {"mechanism": "GSSAPI"},
        {"password": ""},
        {"user": 7},
        {"ca": 1},
        {"format": "x"},
        {"more": 1},
    ):
        with pytest.raises(Malformed):
            client_settings(
                with_credentials("one:1", write(tmp_path / "w", json.dumps({**good, **change})))
            )
    for text in ("", "[]", "null", "[" * 5000, "\x00"):
        with pytest.raises(Malformed):
            client_settings(with_credentials("one:1", write(tmp_path / "w", text)))
    path.chmod(0o640)
    with pytest.raises(Malformed, match="0600"):
        client_settings(address)
    with pytest.raises(Malformed, match="cannot be read"):
        client_settings(with_credentials("one:1", tmp_path / "none"))


# --- our own programs ----------------------------------------------------------------------------

TOPICS = [made.name for made in plan(1)]
MAY_READ = {"worker": {topics.EVENTS}, "sequencer": {topics.LOG}}
MAY_WRITE = {
    "sequencer": {topics.LOG},
    "relay": set(TOPICS) - {topics.EVENTS, topics.LOG},
    "http": {topics.EVENTS},
}


@pytest.fixture(scope="module")
def programs(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The Kafka as each program speaks to it."""
    create_topics(kafka_bootstrap, 2)
    folder = tmp_path_factory.mktemp("programs")
    found = {}
    for program in PROGRAMS:
        password = secrets.token_urlsafe(16)
        set_program_user(kafka_bootstrap, program, password, "workers")
        text = format_credentials(SCRAM, program_user(program), password)
        found[program] = with_credentials(kafka_bootstrap, write(folder / f"{program}.json", text))
    for topic in TOPICS:
        produce(kafka_bootstrap, topic)
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_writes_what_it_must_and_nothing_else(
    programs: dict[str, str], program: str
) -> None:
    written = {
        topic
        for topic in TOPICS
        if not is_refused(lambda topic=topic: produce(programs[program], topic))
    }
    assert written == MAY_WRITE.get(program, set())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_reads_what_it_must_and_nothing_else(
    programs: dict[str, str], program: str
) -> None:
    expected = MAY_READ.get(program, set())
    assert readable(programs[program], TOPICS, expected) == expected


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_changes_no_topic_and_no_account(programs: dict[str, str], program: str) -> None:
    admin = KafkaAdminClient(**client_settings(programs[program]))
    try:
        for act in (
            lambda: admin.create_topics([NewTopic("mine", 1, 1)]),
            lambda: admin.delete_topics([topics.LOG]),
            lambda: admin.delete_records({TopicPartition(topics.EVENTS, 0): 1}),
            lambda: set_program_user(programs[program], "http", "another", "workers"),
        ):
            with pytest.raises((KafkaError, LedgerError)):
                act()
    finally:
        admin.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_workers_group_is_the_workers(programs: dict[str, str], program: str) -> None:
    """Who joined it would take partitions away from them."""

    async def join() -> None:
        client = AIOKafkaConsumer(
            topics.EVENTS, group_id="workers", **client_settings(programs[program])
        )
        try:
            await asyncio.wait_for(client.start(), 20)
        finally:
            await client.stop()

    if program == "worker":
        asyncio.run(join())
    else:
        with pytest.raises((AioKafkaError, TimeoutError)):
            asyncio.run(join())
