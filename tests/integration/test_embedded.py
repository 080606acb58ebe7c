"""The embedded servers and their supervisor, with real processes and real kills."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from deploy.embedded import kafka, postgres
from deploy.embedded.files import free_port
from deploy.embedded.supervisor import Program, Supervisor
from deploy.errors import StackError
from deploy.stack import Stack
from ledger.kafka_address import client_settings
from tests.running_stack import wait_until

# A stack is started from a process of its own, as a person would; the set-up step leaves a file.
SCRIPT = """
import sys
from pathlib import Path
from deploy.embedded.supervisor import Program
from deploy.errors import StackError
from deploy.stack import Stack

data, mode, *argv = sys.argv[1:]
mode, _, port = mode.partition(":")
ports = {"postgres": int(port)} if port else {}
programs = [Program("sleeper", argv or ["sleep", "600"])]
setup = lambda settings: (settings.data_dir / "set-up").write_text(settings.kafka)
try:
    Stack(Path(data), programs, setup, ports=ports).up(detach=mode == "detach")
except StackError as err:
    sys.exit(f"refused: {err}")
"""


def run_up(data: Path, *argv: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(data), "detach", *argv],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout


def processes_of(data: Path) -> list[int]:
    """The pids of all processes whose arguments or working folder name this data folder."""
    folders = [str(data)]
    if home := json.loads((data / "postgres" / "home.json").read_text())["folder"]:
        folders.append(home)
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode("utf-8", "replace")
            if not words:
                continue
            words += str((path / "cwd").readlink())
        except OSError:
            continue
        if int(path.name) != os.getpid() and any(folder in words for folder in folders):
            found.append(int(path.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with a running stack, in a path with a space and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("stack") / "证照 data"
    try:
        code, output = run_up(folder)
        assert code == 0, output
        yield folder
    finally:
        Stack(folder).down()
        postgres.remove(folder)


def pid_of(data: Path, name: str) -> int:
    pid = Stack(data).status()["programs"][name]["pid"]
    assert isinstance(pid, int)
    return pid


def ensure_up(data: Path) -> dict[str, Any]:
    if not Stack(data).status()["running"]:
        code, output = run_up(data)
        assert code == 0, output
    wait_until(lambda: bool(Stack(data).status()["ready"]))
    return Stack(data).status()


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def send(bootstrap: str, topic: str, value: bytes) -> None:
    admin = KafkaAdminClient(**client_settings(bootstrap))
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(**client_settings(bootstrap))
    producer.send(topic, value=value).get(timeout=30)
    producer.close()


def receive(bootstrap: str, topic: str) -> list[bytes]:
    consumer = KafkaConsumer(**client_settings(bootstrap), auto_offset_reset="earliest")
    try:
        consumer.assign([TopicPartition(topic, 0)])
        batches = consumer.poll(timeout_ms=15000)
        return [record.value for batch in batches.values() for record in batch]
    finally:
        consumer.close()


def test_session_servers_answer(kafka_bootstrap: str, database_url: str) -> None:
    send(kafka_bootstrap, "session-servers", "证".encode())
    assert receive(kafka_bootstrap, "session-servers") == ["证".encode()]
    assert query(database_url, "SHOW data_checksums") == [("on",)]
    assert query(database_url, "SELECT upper('é')") == [("É",)]


def test_status_and_settings_while_running(data: Path) -> None:
    status = ensure_up(data)
    assert set(status["programs"]) == {"postgres", "kafka", "sleeper"}
    assert (data / "set-up").read_text() == status["kafka"]
    settings = Stack(data).settings()
    shown = dict(
        query(
            settings.postgres,
            "SELECT name, setting FROM pg_settings WHERE name IN "
            "('fsync', 'synchronous_commit', 'full_page_writes', 'listen_addresses')",
        )
    )
    assert shown == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
    }
    assert "password" not in json.dumps(status)


def test_postgres_keeps_a_share_of_the_memory() -> None:
    assert [postgres.buffers(n * 2**30) for n in (0, 1, 4, 24, 512)] == [128, 128, 512, 2048, 2048]


def test_nobody_gets_in_without_the_password(data: Path) -> None:
    url = Stack(data).settings().postgres if ensure_up(data) else ""
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(url.partition("?")[0] + "?passfile=/dev/null")


def test_private_files_are_private(data: Path) -> None:
    ensure_up(data)
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "postgres" / "passfile").stat().st_mode & 0o777 == 0o600
    assert (data / "stack.json").stat().st_mode & 0o777 == 0o600


def test_second_start_on_one_folder_is_refused(data: Path) -> None:
    holder = ensure_up(data)["pid"]
    code, output = run_up(data)
    assert code == 1
    assert f"process {holder}" in output
    assert "already" in output


def test_killed_servers_come_back_with_their_data(data: Path) -> None:
    status = ensure_up(data)
    send(status["kafka"], "kept", b"through a kill")
    query(status["postgres"], "CREATE TABLE kept AS SELECT 7 AS number")
    for name in ("kafka", "postgres"):
        before = pid_of(data, name)
        os.kill(before, signal.SIGKILL)
        wait_until(partial(is_another, data, name, before))
    assert receive(status["kafka"], "kept") == [b"through a kill"]
    assert query(status["postgres"], "SELECT number FROM kept") == [(7,)]


def is_another(data: Path, name: str, before: int) -> bool:
    program = Stack(data).status()["programs"][name]
    return bool(program["ready"]) and program["pid"] != before


def test_stop_leaves_nothing_and_start_keeps_ports_and_data(data: Path) -> None:
    before = ensure_up(data)
    query(before["postgres"], "CREATE TABLE stopped AS SELECT 8 AS number")
    assert Stack(data).down() is True
    assert processes_of(data) == []
    status = Stack(data).status()
    assert (status["running"], status["ready"], status["pid"]) == (False, False, None)
    assert Stack(data).down() is False
    after = ensure_up(data)
    assert (after["kafka"], after["postgres"]) == (before["kafka"], before["postgres"])
    assert query(after["postgres"], "SELECT number FROM stopped") == [(8,)]


def test_nothing_outlives_a_killed_supervisor_and_its_lock_is_stale(data: Path) -> None:
    status = ensure_up(data)
    pids = [status["pid"], *(program["pid"] for program in status["programs"].values())]
    assert set(processes_of(data)) >= {pid_of(data, "postgres"), pid_of(data, "kafka")}
    os.kill(status["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(runs, pids)) and not processes_of(data))
    assert (data / "lock").read_text().strip() == str(status["pid"])
    assert Stack(data).status()["running"] is False
    assert ensure_up(data)["pid"] != status["pid"]


def test_start_that_fails_says_why_and_leaves_nothing(data: Path) -> None:
    ensure_up(data)
    Stack(data).down()
    code, output = run_up(data, "sh", "-c", "echo the reason is 42; exit 3")
    assert code == 1
    assert "sleeper did not start in 3 attempts: it ended with exit code 3" in output
    assert "the reason is 42" in output
    assert Stack(data).status()["running"] is False
    assert processes_of(data) == []


def test_a_stated_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port}, stated for kafka, is taken"):
            Stack(tmp_path / "data", ports={"kafka": port}).up()


def test_a_stated_port_is_used_from_then_on(data: Path) -> None:
    ensure_up(data)
    Stack(data).down()
    port = free_port()
    script = [sys.executable, "-c", SCRIPT, str(data), f"detach:{port}"]
    subprocess.run(script, timeout=240, check=True)
    assert urlsplit(Stack(data).settings().postgres).port == port
    Stack(data).down()
    assert urlsplit(ensure_up(data)["postgres"]).port == port


def test_an_archive_of_kafkas_classes_serves_where_it_fits(tmp_path: Path) -> None:
    """Elsewhere, or damaged, Kafka starts without."""
    if not kafka.archive().is_file():
        kafka.make_archive()
    argv, env = kafka.command(tmp_path, 1, 2)
    java, place = argv[: argv.index("-cp")], argv[argv.index("-cp") + 1]

    def starts(*arguments: str) -> bool:
        done = subprocess.run(
            [*java, *arguments, "-version"], env=env, capture_output=True, check=False
        )
        return done.returncode == 0

    demanded = "-XX:AOTMode=on"
    assert starts(demanded, "-cp", place)
    assert not starts(demanded, "-cp", str(tmp_path))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(kafka.archive().read_bytes()[:1_000_000])
    assert not starts(demanded, f"-XX:AOTCache={damaged}", "-cp", place)
    assert starts(f"-XX:AOTCache={damaged}", "-cp", place)


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(StackError, match=r"holds other files \(thesis\.odt"):
        Stack(tmp_path).up()


def test_open_folder_is_refused_and_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(StackError, match="mode 755"):
        Stack(folder).up()
    assert folder.stat().st_mode & 0o777 == 0o755


def test_preparing_postgres_changes_no_parents_mode(tmp_path: Path) -> None:
    data = tmp_path / "private" / "data"
    data.mkdir(parents=True)
    for folder in (data, data.parent):
        folder.chmod(0o700)
    watched = [*data.parents, *map(Path, ("/var/lib", "/var/tmp", "/var", "/tmp"))]
    watched += list(Path(sys.prefix).resolve().parents)
    before = {path: path.stat().st_mode for path in watched}
    try:
        home = postgres.prepare(data)
        assert {path: path.stat().st_mode for path in watched} == before
        assert home.data.stat().st_mode & 0o777 == 0o700
        assert (home.uid is None) == (os.geteuid() != 0)
        assert home.data.stat().st_uid == (os.geteuid() if home.uid is None else home.uid)
        assert postgres.prepare(data) == home
    finally:
        postgres.remove(data)


def test_a_database_without_its_password_is_not_waited_for(tmp_path: Path) -> None:
    home = postgres.prepare(tmp_path)
    try:
        kept = home.passfile.rename(tmp_path / "kept")
        with pytest.raises(StackError, match="passfile is missing"):
            postgres.prepare(tmp_path)
        kept.rename(home.passfile)
        assert postgres.prepare(tmp_path) == home
    finally:
        postgres.remove(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps PostgreSQL's data elsewhere")
def test_folder_that_we_did_not_make_is_never_opened(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    home = postgres.prepare(data)
    other = tmp_path / "somebody-elses"
    other.mkdir(mode=0o755)
    (other / "data").mkdir()
    written = json.loads((data / "postgres" / "home.json").read_text())
    try:
        (data / "postgres" / "home.json").write_text(json.dumps({**written, "folder": str(other)}))
        for action in (postgres.prepare, postgres.remove):
            with pytest.raises(StackError, match="not the folder that certledger made"):
                action(data)
        assert (other / "data").is_dir()
    finally:
        (data / "postgres" / "home.json").write_text(json.dumps(written))
        postgres.remove(data)
    assert not home.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")
def test_programs_in_a_private_place_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    monkeypatch.setattr(postgres, "is_public", lambda path: "pgserver" not in str(path))
    try:
        home = postgres.prepare(data)
        argv, env = postgres.command(home, 1)
        assert Path(argv[0]).is_relative_to(home.folder)
        assert home.uid is not None
        version = subprocess.run(
            [argv[0], "--version"],
            env=env,
            cwd="/",
            user=home.uid,
            group=home.uid,
            extra_groups=[],
            capture_output=True,
            check=True,
        )
        assert b" 18." in version.stdout
    finally:
        postgres.remove(data)


def test_supervisor_restarts_with_growing_pauses(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    crash = f"date +%s.%N >> {starts}; sleep 0.2; exit 70"
    program = Program("crasher", ["sh", "-c", crash], ready=lambda: True)
    supervisor = Supervisor([program], tmp_path / "logs")

    def stop_at_four(_: object) -> None:
        if starts.exists() and len(starts.read_text().split()) == 4:
            supervisor.stop()

    supervisor.on_change = stop_at_four
    supervisor.run()
    times = [float(word) for word in starts.read_text().split()]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[2] > 0.8  # the third pause
    (state,) = supervisor.state().values()
    assert state["last_exit"]  # still said when it runs again


def test_what_ignores_sigterm_is_killed_and_order_is_reversed(tmp_path: Path) -> None:
    ended: list[str] = []
    first = Program("first", ["sleep", "600"])
    stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
    second = Program("second", stubborn, after=["first"], stop_seconds=0.5)
    supervisor = Supervisor([first, second], tmp_path / "logs")

    def note(state: dict[str, dict[str, object]]) -> None:
        ended.extend(name for name in state if state[name]["last_exit"] and name not in ended)

    supervisor.on_change = note
    supervisor.on_ready = supervisor.stop
    supervisor.run()
    assert ended == ["second", "first"]
    assert "SIGKILL" in str(supervisor.state()["second"]["last_exit"])
    assert "SIGTERM" in str(supervisor.state()["first"]["last_exit"])
