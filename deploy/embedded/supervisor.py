"""Keeps a list of programs running, in order, and leaves none behind.

One thread starts and watches everything: on Linux a child's death signal is tied to the thread
that started it. A step (set-up work in our own process) runs in a second thread meanwhile.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from deploy.errors import StackError

_SHIM = Path(__file__).with_name("child.py")
_LOG_BYTES = 16 * 1024 * 1024  # a longer log is put aside when its program starts
_TAIL_BYTES = 3000
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 30.0  # who ran this long starts again at the first pause
SETTLED_SECONDS = 1.0
START_ATTEMPTS = 3  # exits before the first readiness that make the whole start a failure
_TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Program:
    """One process to keep running."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None  # None = the supervisor's own
    ready: Callable[[], bool] | None = None  # answers in seconds; None = SETTLED_SECONDS alive
    after: Sequence[str] = ()  # names of programs and steps that must be ready before
    before_start: Callable[[], None] | None = None  # called before every start
    ready_seconds: float = 60
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15  # then SIGKILL
    death_signal: signal.Signals = signal.SIGKILL  # what it gets if the supervisor dies
    uid: int | None = None  # the account, and group of the same number, to become
    cwd: Path | None = None


@dataclass(frozen=True)
class Step:
    """Work to be done once, in this process, before the programs that name it may start."""

    name: str
    run: Callable[[], None]
    after: Sequence[str] = ()


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    born: str | None = None
    ready: bool = False
    was_ready: bool = False
    starts: int = 0
    failures: int = 0  # exits before it was ever ready
    pause: float = FIRST_PAUSE_SECONDS
    not_before: float = 0.0
    ending: str = ""  # why it is being ended
    last_exit: str = ""


@dataclass
class _Work:
    step: Step
    thread: threading.Thread | None = None
    done: bool = False
    error: BaseException | None = None


@dataclass
class Supervisor:
    """Runs programs and steps until it is told to stop.

    `run` must be called from the main thread: it takes SIGTERM, SIGINT and SIGHUP. `on_change`
    is called whenever a process starts or ends, or one becomes ready; `on_ready` once, when all
    are ready for the first time.
    """

    parts: Sequence[Program | Step]
    logs: Path
    on_change: Callable[[dict[str, dict[str, object]]], None] = lambda _: None
    on_ready: Callable[[], None] = lambda: None
    on_progress: Callable[[str], None] = lambda _: None
    _children: dict[str, _Child] = field(default_factory=dict, init=False)
    _work: dict[str, _Work] = field(default_factory=dict, init=False)
    _stopping: bool = field(default=False, init=False)
    _all_ready: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse a list whose order cannot be kept."""
        seen: set[str] = set()
        for part in self.parts:
            if part.name in seen or not seen.issuperset(part.after):
                raise ValueError(f"{part.name}: named twice, or listed before what it comes after")
            seen.add(part.name)
            if isinstance(part, Program):
                self._children[part.name] = _Child(part)
            else:
                self._work[part.name] = _Work(part)

    def run(self) -> None:
        """Return after a signal, with everything stopped; StackError if the start fails."""
        previous = {
            number: signal.signal(number, self._take_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            while not self._stopping:
                self._turn()
                time.sleep(_TICK_SECONDS)
        finally:
            self._stop_all()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping = True

    def state(self) -> dict[str, dict[str, object]]:
        """Return, by program name, what can be said about it now."""
        return {
            name: {
                "pid": child.process.pid if child.process else None,
                "born": child.born if child.process else None,
                "ready": child.ready,
                "starts": child.starts,
                "last_exit": child.last_exit,
            }
            for name, child in self._children.items()
        }

    def _take_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _turn(self) -> None:
        for child in self._children.values():
            self._reap(child)
        for work in self._work.values():
            self._advance(work)
        for child in self._children.values():
            if self._stopping:
                return
            self._bring_up(child)
        if not self._all_ready and all(map(self._is_ready, self._names())):
            self._all_ready = True
            self.on_ready()

    def _names(self) -> list[str]:
        return [part.name for part in self.parts]

    def _is_ready(self, name: str) -> bool:
        work = self._work.get(name)
        return work.done if work else self._children[name].ready

    def _advance(self, work: _Work) -> None:
        step = work.step
        if work.done or (work.thread is None and not all(map(self._is_ready, step.after))):
            return
        if work.thread is None:
            self.on_progress(f"{step.name} …")
            work.thread = threading.Thread(target=_run_step, args=(work,), daemon=True)
            work.thread.start()
        elif not work.thread.is_alive():
            if work.error is not None:
                reason = str(work.error) or type(work.error).__name__
                raise StackError(f"the step '{step.name}' failed: {reason}") from work.error
            work.done = True

    def _bring_up(self, child: _Child) -> None:
        program = child.program
        now = time.monotonic()
        if child.process is None:
            if now >= child.not_before and all(map(self._is_ready, program.after)):
                self._start(child)
            return
        if not child.ready:
            if program.ready() if program.ready else now - child.started >= SETTLED_SECONDS:
                child.ready = child.was_ready = True
                self.on_change(self.state())
            elif time.monotonic() - child.started > program.ready_seconds:
                self._signal(child, signal.SIGKILL)
                child.ending = f"was not ready after {program.ready_seconds:g} s"
        if child.ready and now - child.started > STEADY_SECONDS:
            child.pause = FIRST_PAUSE_SECONDS

    def _start(self, child: _Child) -> None:
        program = child.program
        if child.starts == 0:
            self.on_progress(f"{program.name} …")
        if program.before_start is not None:
            program.before_start()
        uid = -1 if program.uid is None else program.uid
        shim = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid())]
        account = [str(int(program.death_signal)), str(uid), str(uid)]
        with open(self._log(program.name), "ab", opener=_open_private) as log:
            child.process = subprocess.Popen(
                [*shim, *account, *program.argv],
                env=program.env,
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C in the terminal reaches the supervisor only.
                start_new_session=True,
            )
        child.started = time.monotonic()
        child.born = born(child.process.pid)
        child.starts += 1
        self.on_change(self.state())

    def _log(self, name: str) -> Path:
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _reap(self, child: _Child) -> None:
        """Notice an exit, end what is left of the process group, plan the next start."""
        if child.process is None:
            return
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, child.process.pid, options) is None:
            return
        # Not waited for yet, so the number of the group cannot belong to anybody else.
        self._signal(child, signal.SIGKILL)
        code = child.process.wait()
        child.process = None
        child.ready = False
        child.last_exit, child.ending = child.ending or _exit_words(code), ""
        child.not_before = time.monotonic() + child.pause
        child.pause = min(child.pause * 2, LONGEST_PAUSE_SECONDS)
        if not child.was_ready:
            child.failures += 1
        self.on_change(self.state())
        if child.failures >= START_ATTEMPTS and not self._stopping:
            name = child.program.name
            raise StackError(
                f"{name} did not start in {START_ATTEMPTS} attempts: {child.last_exit}. "
                f"The end of {self.logs / name}.log:\n{self._tail(name)}"
            )

    def _tail(self, name: str) -> str:
        with open(self.logs / f"{name}.log", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()

    def _signal(self, child: _Child, number: signal.Signals) -> None:
        if child.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(child.process.pid, number)
            else:
                child.process.send_signal(number)

    def _stop_all(self) -> None:
        """Stop in reverse order: nobody is stopped while somebody that comes after it runs."""
        self._stopping = True
        told: dict[str, float] = {}
        while any(child.process for child in self._children.values()):
            needed = self._needed()
            for name, child in self._children.items():
                self._reap(child)
                if child.process is None or name in needed:
                    continue
                if name not in told:
                    told[name] = time.monotonic()
                    self._signal(child, child.program.stop_signal)
                elif time.monotonic() - told[name] > child.program.stop_seconds:
                    self._signal(child, signal.SIGKILL)
            time.sleep(_TICK_SECONDS)

    def _needed(self) -> set[str]:
        """Return the names of all that something still running comes after, over steps too."""
        after = {part.name: part.after for part in self.parts}
        needed: set[str] = set()
        todo = [
            name
            for child in self._children.values()
            if child.process
            for name in child.program.after
        ]
        while todo:
            name = todo.pop()
            if name not in needed:
                needed.add(name)
                todo.extend(after[name])
        return needed


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def born(pid: int) -> str | None:
    """Return what tells this process from a later one of the same number; None = unknown."""
    try:
        # The name in the second field may hold anything, parentheses included.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _run_step(work: _Work) -> None:
    try:
        work.step.run()
    except BaseException as err:  # handed to the supervisor's thread
        work.error = err


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    return f"it was ended by {signal.Signals(-code).name}"
