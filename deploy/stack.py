"""The whole ledger on one machine: one data folder, one supervisor, real servers.

    Stack(Path("~/ledger").expanduser(), worker_programs(2), http=True).up(detach=True)

Where CERTLEDGER_KAFKA or CERTLEDGER_POSTGRES name servers that run elsewhere, those are used and
the embedded ones are not started.
"""

import contextlib
import errno
import fcntl
import http.client
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.embedded import kafka, postgres
from deploy.embedded.files import LOOPBACK, free_port, is_free, read_json, write_json
from deploy.embedded.supervisor import Program, Step, Supervisor, born
from deploy.errors import StackError
from deploy.witnesses import witness_programs
from ledger.kafka_address import credentials_file, with_credentials
from ledger.postgres.roles import MIGRATOR, PROGRAMS
from streams.kafka_users import PROGRAMS as KAFKA_PROGRAMS

_MARKER = "stack.json"
_LOCK = "lock"
_GONE_SECONDS = 120  # the longest that a stop may take: each part has its own, shorter limit
_PORTS = ("kafka", "kafka_controller", "postgres", "http")
_ROLE_PREFIX = "CERTLEDGER_POSTGRES_"
_ROLES = {  # of our programs, by their names before a number; others get no database
    "worker": "admission",
    "sequencer": "sequencer",
    "relay": "relay",
    "follower": "follower",
    "http": "reader",
}
_ANSWER_SECONDS = 5  # for one question to our HTTP program whether it is ready


@dataclass(frozen=True)
class Settings:
    """Where everything is; what the set-up step is called with."""

    kafka: str  # host:port, comma-separated
    postgres: str  # libpq URL of the administrator, used where no role has one of its own
    data_dir: Path
    http: str = ""  # host:port at which our HTTP program listens
    roles: Mapping[str, str] = field(default_factory=dict)  # libpq URLs, see ledger.postgres.roles

    def postgres_of(self, role: str) -> str:
        """Return the database's address for a role."""
        return self.roles.get(role) or self.postgres

    def kafka_of(self, program: str) -> str:
        """Return Kafka's address for a program: with an account of its own, for ours."""
        name = program.partition("-")[0]
        if name not in KAFKA_PROGRAMS or credentials_file(self.kafka) is None:
            return self.kafka
        return with_credentials(self.kafka, self.data_dir / "kafka" / f"{name}.json")

    def environment(self, program: str) -> dict[str, str]:
        """Return the variables by which a program finds the servers; some have no database."""
        role = _ROLES.get(program.partition("-")[0])
        return {
            "CERTLEDGER_KAFKA": self.kafka_of(program),
            "CERTLEDGER_POSTGRES": "" if role is None else self.postgres_of(role),
            "CERTLEDGER_DATA": str(self.data_dir),
            "CERTLEDGER_HTTP_LISTEN": self.http,
        }


def worker_programs(workers: int = 1) -> list[Program]:
    """Return the ledger's own programs: workers, the sequencer, the relay, the follower."""
    names = {f"worker-{number}": "worker" for number in range(1, workers + 1)}
    names |= {name: name for name in ("sequencer", "relay", "follower")}
    return [
        Program(name, [sys.executable, "-m", f"streams.{module}"], env={})
        for name, module in names.items()
    ]


def stated_roles(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the roles' addresses that CERTLEDGER_POSTGRES_ROLE variables give."""
    stated = {role: environ.get(_ROLE_PREFIX + role.upper()) for role in (MIGRATOR, *PROGRAMS)}
    return {role: url for role, url in stated.items() if url}


def http_program(settings: Settings) -> Program:
    """Return the program that answers HTTP; ready when it says so itself."""

    def is_ready() -> bool:
        connection = http.client.HTTPConnection(settings.http, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return Program("http", [sys.executable, "-m", "consumers.http"], env={}, ready=is_ready)


def prepare_ledger(settings: Settings) -> None:
    """Migrations, topics, genesis: whatever deploy.setup does before the first program starts."""
    importlib.import_module("deploy.setup").prepare(settings)


class Stack:
    """One data folder and what runs on it.

    `programs` get the settings as environment variables on top of their own `env`, and start when
    the servers answer and `setup` has returned; with `http` the HTTP program is one of them.
    """

    def __init__(
        self,
        data_dir: Path,
        programs: Sequence[Program] = (),
        setup: Callable[[Settings], None] | None = prepare_ledger,
        environ: Mapping[str, str] = os.environ,
        progress: Callable[[str], None] = lambda _: None,
        http: bool = False,
        beside: Callable[[Path], Sequence[Program]] = witness_programs,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """Nothing is touched before `up`.

        `ports` states those of `kafka` and `postgres`; others are free ones, kept from one start to
        the next. `beside` gives the programs of others that run along, by what the data folder
        says; the sequencer compares itself with them, so they start before it.
        """
        self._ports = ports or {}
        self.data_dir = data_dir.absolute()
        self.programs = programs
        self.setup = setup
        self.progress = progress
        self.http = http
        self._beside = beside
        self._environ = environ

    def up(self, detach: bool = False) -> None:
        """Run until a signal comes; with `detach`, return when everything is ready.

        StackError if it does not come up, or if something runs on this data folder already.
        """
        self._make_data_dir()
        lock = self._lock()
        try:
            if detach:
                self._detach(lock)
            else:
                self._supervise(lock, lambda: self.progress("ready"))
        finally:
            os.close(lock)

    def down(self) -> bool:
        """Stop what runs on this data folder and wait until all of it is gone.

        False = nothing ran.
        """
        pid = self._holder()
        state = self._state()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _GONE_SECONDS
        while (pid is not None and self._holder() == pid) or any(map(_runs, _processes(state))):
            if time.monotonic() > end:
                raise StackError(
                    f"process {pid} on {self.data_dir} is still there {_GONE_SECONDS} s after "
                    "SIGTERM: see its logs folder, or kill it"
                )
            time.sleep(0.05)
        return pid is not None

    def status(self) -> dict[str, Any]:
        """Return whether it runs, since when, where, and each program's process."""
        pid = self._holder()
        state = self._state()
        programs: dict[str, dict[str, Any]] = state.get("programs", {})
        for program in programs.values():
            if pid is None:
                program |= {"pid": None, "ready": False}
        return {
            "running": pid is not None,
            "pid": pid,
            "ready": pid is not None
            and bool(state.get("ready"))
            and all(program["ready"] for program in programs.values()),
            "started": state.get("started") if pid is not None else None,
            "kafka": state.get("kafka"),
            "postgres": state.get("postgres"),
            "url": state.get("url") if pid is not None else None,
            "data_dir": str(self.data_dir),
            "programs": programs,
        }

    def settings(self) -> Settings:
        """Return the addresses in use; StackError if nothing runs on this data folder."""
        state = self._state()
        if self._holder() is None or "kafka" not in state:
            raise StackError(
                f"nothing runs on {self.data_dir}: start it with "
                f"`certledger up --detach --data {self.data_dir}`"
            )
        roles = state.get("postgres_roles", {})
        return Settings(state["kafka"], state["postgres"], self.data_dir, roles=roles)

    # The folder and its lock

    def _make_data_dir(self) -> None:
        folder = self.data_dir
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as err:
            raise StackError(f"cannot make the data folder {folder}: {err.strerror}") from err
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise StackError(
                f"the data folder {folder} belongs to uid {found.st_uid} and certledger runs as "
                f"uid {os.geteuid()}: run it as that user, or name another folder"
            )
        if found.st_mode & 0o077:
            raise StackError(
                f"the data folder {folder} is open to others (mode {found.st_mode & 0o777:o}): "
                "run `chmod 700` on it, or name a folder that does not exist yet"
            )
        names = {path.name for path in folder.iterdir()}
        if names and _LOCK not in names:
            raise StackError(
                f"the folder {folder} holds other files ({min(names)} …): name an empty one, or "
                "one that does not exist yet"
            )

    def _lock(self) -> int:
        """Return the held lock's file; it frees itself when its last holder ends, however."""
        lock = os.open(self.data_dir / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        for attempt in range(10):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            # Somebody's `status` holds it for an instant.
            time.sleep(0.01 * attempt)
        else:
            os.close(lock)
            holder = self._holder()
            raise StackError(
                f"certledger runs on {self.data_dir} already (process {holder or 'unknown'}): "
                "use it, or stop it first with `certledger down`"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _holder(self) -> int | None:
        """Return the pid of the process that holds the lock; None if nobody does."""
        try:
            lock = os.open(self.data_dir / _LOCK, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            text = os.pread(lock, 32, 0).strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(lock)
        return None

    def _state(self) -> dict[str, Any]:
        return read_json(self.data_dir / _MARKER) or {}

    # Running

    def _supervise(self, lock: int, on_ready: Callable[[], None]) -> None:
        """Run everything in this process until a signal comes."""
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        before = self._state()
        self._wait_for_leftovers(before)
        ports = self._choose_ports(before.get("ports", {}))
        settings, servers = self._servers(ports)
        state: dict[str, Any] = {
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "ready": False,
            "kafka": settings.kafka,
            "postgres": settings.postgres,
            "postgres_roles": dict(settings.roles),
            "url": f"http://{settings.http}" if self.http else None,
            "ports": ports,
            "programs": {},
        }

        def note_change(programs: dict[str, dict[str, object]]) -> None:
            state["programs"] = programs
            write_json(self.data_dir / _MARKER, state)

        def note_ready() -> None:
            state["ready"] = True
            write_json(self.data_dir / _MARKER, state)
            on_ready()

        Supervisor(
            [*servers, *self._steps(settings, servers), *self._own(settings, servers)],
            self.data_dir / "logs",
            on_change=note_change,
            on_ready=note_ready,
            on_progress=self.progress,
        ).run()

    def _wait_for_leftovers(self, state: dict[str, Any]) -> None:
        """Wait for the children of a supervisor that was killed: they get a signal at its death."""
        end = time.monotonic() + 10
        while left := [process for process in _processes(state) if _runs(process)]:
            if time.monotonic() > end:
                raise StackError(
                    f"processes of an earlier run on {self.data_dir} are still there "
                    f"({', '.join(str(pid) for pid, _ in left)}): end them first"
                )
            time.sleep(0.05)

    def _choose_ports(self, before: dict[str, int]) -> dict[str, int]:
        """The stated ports; the others are those of the last run where they are free."""
        ports: dict[str, int] = {}
        for name in _PORTS:
            if name in self._ports:
                ports[name] = self._ports[name]
                if not is_free(ports[name]):
                    raise StackError(f"port {ports[name]}, stated for {name}, is taken")
                continue
            port = before.get(name)
            if port is None or not is_free(port):
                port = free_port(taken={*ports.values(), *before.values(), *self._ports.values()})
            ports[name] = port
        return ports

    def _servers(self, ports: dict[str, int]) -> tuple[Settings, list[Program]]:
        postgres_url = self._environ.get("CERTLEDGER_POSTGRES")
        bootstrap = self._environ.get("CERTLEDGER_KAFKA")
        addresses = stated_roles(self._environ)
        servers = []
        with ThreadPoolExecutor(1) as beside:  # a new one of either takes a processor for seconds
            if not postgres_url:
                self.progress("preparing PostgreSQL …")
                preparing = beside.submit(postgres_program, self.data_dir, ports["postgres"])
            if not bootstrap:
                self.progress("preparing Kafka …")
                program, bootstrap = kafka_program(
                    self.data_dir, ports["kafka"], ports["kafka_controller"], self.progress
                )
                servers.append(program)
            if not postgres_url:
                program, postgres_url = preparing.result()
                addresses = postgres.role_dsns(postgres.prepare(self.data_dir), ports["postgres"])
                servers.insert(0, program)
        listen = self._environ.get("CERTLEDGER_HTTP_LISTEN") or f"{LOOPBACK}:{ports['http']}"
        return Settings(bootstrap, postgres_url, self.data_dir, listen, addresses), servers

    def _steps(self, settings: Settings, servers: Sequence[Program]) -> list[Step]:
        setup = self.setup
        if setup is None:
            return []
        return [Step("set-up", lambda: setup(settings), after=[part.name for part in servers])]

    def _own(self, settings: Settings, servers: Sequence[Program]) -> list[Program]:
        first = [part.name for part in servers] + (["set-up"] if self.setup else [])
        beside = self._beside(self.data_dir)
        names = [program.name for program in beside]
        programs = [*beside, *self.programs, *([http_program(settings)] if self.http else [])]
        return [
            replace(
                program,
                env={
                    **{k: v for k, v in self._environ.items() if not k.startswith(_ROLE_PREFIX)},
                    **(program.env or {}),
                    **settings.environment(program.name),
                },
                after=[
                    *first,
                    *(names if program.name == "sequencer" else ()),
                    *program.after,
                ],
            )
            for program in programs
        ]

    def _detach(self, lock: int) -> None:
        """Run in a daemon; return when it is ready, or raise what it could not do."""
        logs = self.data_dir / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._daemon(lock, writing, logs / "supervisor.log")  # does not return
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, encoding="utf-8") as answers:
            for line in answers:
                answer = json.loads(line)
                if "error" in answer:
                    self._wait_until_gone()
                    raise StackError(answer["error"])
                if "ready" in answer:
                    return
                self.progress(answer["progress"])
        raise StackError(
            f"the supervisor ended before anything was ready; see {logs / 'supervisor.log'}"
        )

    def _daemon(self, lock: int, writing: int, log: Path) -> None:
        """Become a session of its own with a parent that is gone; never returns."""
        code = 1
        try:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            os.chdir("/")
            _redirect(log)
            self.progress = lambda text: _tell(writing, progress=text)

            def ready() -> None:
                _tell(writing, ready=True)
                os.close(writing)
                self.progress = lambda _: None

            self._supervise(lock, ready)
            code = 0
        except StackError as err:
            print(err, file=sys.stderr)
            _tell(writing, error=str(err))
        except BaseException as err:
            traceback.print_exc()
            _tell(writing, error=f"{type(err).__name__}: {err} (see {log})")
        finally:
            sys.stderr.flush()
            # Not exit(): the handlers belong to the process that called `up`.
            os._exit(code)

    def _wait_until_gone(self) -> None:
        """The daemon reports its failure after all is stopped, a moment before its own end."""
        pid = self._holder()
        while pid is not None and pid != os.getpid() and _runs((pid, None)):
            time.sleep(0.02)


def postgres_program(data_dir: Path, port: int) -> tuple[Program, str]:
    """Return the embedded PostgreSQL, its data made if need be, and the ledger's address in it."""
    home = postgres.prepare(data_dir)
    argv, env = postgres.command(home, port)
    program = Program(
        "postgres",
        argv,
        env,
        ready=lambda: postgres.is_local_ready(home, port),
        before_start=lambda: postgres.clear_stale_pid(home),
        ready_seconds=300,  # recovery after a kill reads up to max_wal_size of log
        stop_signal=postgres.STOP_SIGNAL,
        stop_seconds=60,
        death_signal=postgres.DEATH_SIGNAL,
        uid=home.uid,
        cwd=home.folder,
    )
    return program, postgres.dsn(home, port)


def kafka_program(
    data_dir: Path,
    port: int,
    controller_port: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Program, str]:
    """Return the embedded Kafka, jars fetched and storage made if need be, and its address."""
    folder = data_dir / "kafka"
    kafka.fetch_jars(progress)
    kafka.format_storage(folder, port, controller_port)
    argv, env = kafka.command(folder, port, controller_port)
    program = Program(
        "kafka",
        argv,
        env,
        ready=lambda: kafka.is_local_ready(folder, port),
        ready_seconds=300,
        stop_seconds=30,
        cwd=folder,
    )
    return program, kafka.address(folder, port)


def _redirect(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(nothing)
    os.close(file)


def _tell(writing: int, **answer: object) -> None:
    # The caller may be gone, or have been told that all is ready: then nobody is there to hear.
    try:
        os.write(writing, json.dumps(answer).encode() + b"\n")
    except OSError:
        return


def _processes(state: dict[str, Any]) -> list[tuple[int, str | None]]:
    """Return the pids in a state file, each with the start time that tells it from a later one."""
    return [
        (program["pid"], program.get("born"))
        for program in state.get("programs", {}).values()
        if program.get("pid")
    ]


def _runs(process: tuple[int, str | None]) -> bool:
    pid, expected = process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return expected is None or expected == born(pid)
