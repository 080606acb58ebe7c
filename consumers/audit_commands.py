"""`certledger audit`: anybody checks a whole ledger, from outside or with its event lines."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ledger.checkpoint_keys import TrustedKey
from ledger.errors import Malformed, Unavailable
from ledger.loss import Loss, loss_members
from ledger.misbehaviour import format_misbehaviour
from ledger.note import parse_vkey
from ledger.postgres.connection import connect
from ledger.trust import Trust

from .audit import Result, audit, audit_lines, strange_keys
from .audit_state import State, load_state, save_state
from .fsck_lines import Beside, rare_garbage
from .log_client import HttpLog
from .progress import Progress
from .stored_log import StoredLog
from .verifier import MISBEHAVIOUR_SUFFIX, load_trust, print_safely
from .words import plain

EMBEDDED = "embedded"
STRANGE = 1  # exit code: nothing wrong with the log, but keys that the department does not know
GUILTY = 5
_EPILOG = f"""\
examples:
  certledger audit http://127.0.0.1:8480/log --vkey "$VKEY" --state ledger.audit
  certledger audit embedded                       also runs admission again over the event lines
  certledger audit URL --trust trust.json --state F --department transport --known-keys keys.txt

exit: 0 clean, 1 a key that the department did not add, 2 usage, 4 the log cannot be read or is not
the trusted ledger's, 5 misbehaviour: a file F{MISBEHAVIOUR_SUFFIX} is written, which
`certledger verify` checks for anybody. The state file is replaced only when all is clean."""


class Environment(Protocol):
    """What the command line knows."""

    @property
    def data(self) -> Path: ...
    @property
    def trust(self) -> Path: ...
    @property
    def auditor_url(self) -> str: ...


@dataclass(frozen=True)
class _Task:
    """What to audit, and by what."""

    trust: Trust
    state: Path | None
    misbehaviour: Path
    department: str | None
    known: set[str]


def add_commands(subparsers: Any) -> None:
    """Add `audit` to the command line's parsers."""
    parser = subparsers.add_parser(
        "audit",
        help="check a whole ledger from outside: one history, every part by the rules",
        description="Follows a ledger's checkpoints and checks everything under them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", metavar="URL|embedded", help="the log's prefix, or the stack's own")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--vkey", metavar="V", help="the key that must have signed checkpoints")
    who.add_argument("--trust", type=Path, metavar="F", help="a trust file instead")
    parser.add_argument("--state", type=Path, metavar="F", help="what was seen, for the next time")
    parser.add_argument(
        "--misbehaviour", type=Path, metavar="F", help="where to write evidence against the ledger"
    )
    parser.add_argument("--department", metavar="D", help="watch the keys of this department")
    parser.add_argument(
        "--known-keys", type=Path, metavar="F", help="its keys: a vkey or key id a line"
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="SECONDS",
        help="again and again, until something is found; a log that is away is asked again",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object an audit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    """certledger audit"""
    task = _task(args, env)
    while True:
        try:
            code = _once(args, env, task)
        except Unavailable as err:
            if args.every is None:
                raise
            print_safely(f"not now: {plain(err.message)}")
            code = 0
        if code or args.every is None:
            return code
        time.sleep(args.every)


def _task(args: argparse.Namespace, env: Environment) -> _Task:
    if args.vkey is not None:
        key = parse_vkey(args.vkey)
        trust = Trust(key.name, b"", (TrustedKey(key, 0, None),))
    elif args.trust is not None or args.log == EMBEDDED:
        trust = load_trust(args.trust or env.trust)
    else:
        raise Malformed("usage", "say whom to trust: --vkey V or --trust F")
    state = args.state or (env.data / "audit.state" if args.log == EMBEDDED else None)
    name = f"{state.name if state else 'audit'}{MISBEHAVIOUR_SUFFIX}"
    return _Task(
        trust,
        state,
        args.misbehaviour or (state.with_name(name) if state else Path(name)),
        args.department,
        _known_keys(args.known_keys) if args.department else set(),
    )


def _known_keys(path: Path | None) -> set[str]:
    if path is None:
        raise Malformed("usage", "--department needs --known-keys")
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as err:
        raise Malformed("usage", f"{path} cannot be read: {err}") from err
    return {parse_vkey(line).key_id if "+" in line else line for line in lines}


def _once(args: argparse.Namespace, env: Environment, task: _Task) -> int:
    begun = time.monotonic()
    progress = Progress() if sys.stderr.isatty() and not args.json else None
    try:
        state = State() if task.state is None else load_state(task.state)
        result = _audit(args, env, task, state, progress or (lambda what, done, total: None))
    finally:
        if progress is not None:
            progress.clear()
    if result.misbehaviour is not None:
        task.misbehaviour.write_bytes(format_misbehaviour(result.misbehaviour) + b"\n")
    elif task.state is not None and result.state is not state:
        save_state(task.state, result.state)
    strange: list[str] = []
    if task.department is not None and not result.findings:
        strange = strange_keys(result.state, task.department, task.known)
    _show(args, task, result, strange, time.monotonic() - begun)
    return GUILTY if result.findings else STRANGE if strange else 0


def _audit(
    args: argparse.Namespace, env: Environment, task: _Task, state: State, progress: Any
) -> Result:
    if args.log != EMBEDDED:
        log = HttpLog(args.log)
        try:
            return audit(log, task.trust, state, progress)
        except Malformed as err:  # the log's doing, not the caller's
            raise Unavailable("unreachable", f"{args.log} serves no log: {err.message}") from err
        finally:
            log.close()
    with (
        closing(Beside("fast")) as beside,
        closing(connect(env.auditor_url, "audit")) as connection,
        rare_garbage(),
    ):
        result = audit(StoredLog(connection), task.trust, state, progress)
        if not result.findings:
            audit_lines(connection, result, task.trust, progress, beside)
        return result


def _losses(result: Result) -> tuple[tuple[int, Loss], ...]:
    return result.state.tree.registry.losses


def _show(
    args: argparse.Namespace, task: _Task, result: Result, strange: list[str], seconds: float
) -> None:
    judgement = result.judgement
    if args.json:
        value = {
            "clean": not result.findings,
            "origin": result.checkpoint.origin,
            "tree_size": result.checkpoint.size,
            "root": result.checkpoint.root.hex(),
            "since": result.since,
            "findings": [
                {"kind": f.kind, "place": f.place, "message": f.message} for f in result.findings
            ],
            "misbehaviour": str(task.misbehaviour) if result.misbehaviour else None,
            "proven": judgement.proven if judgement else None,
            "strange_keys": strange,
            "losses": [
                {"log_index": index, **loss_members(loss)} for index, loss in _losses(result)
            ],
            "checked": result.counts,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(value, ensure_ascii=False), flush=True)
        return
    for finding in result.findings:
        print_safely(plain(f"{finding.place}: {finding.message} [{finding.kind}]"), sys.stdout)
    for line in strange:
        print_safely(plain(f"{task.department} did not add this: {line}"), sys.stdout)
    for index, loss in _losses(result):
        line = f"entry {index} declares lost: {loss.words()} ({loss.reason})"
        print_safely(plain(line), sys.stdout)
    if judgement is not None:
        word = "proves it to others" if judgement.proven else "reports it"
        print_safely(f"{task.misbehaviour} {word}: {plain(judgement.why)}", sys.stdout)
    counts = ", ".join(f"{number:,} {name}" for name, number in result.counts.items())
    said = f"{len(result.findings)} findings" if result.findings else "clean"
    print_safely(
        f"audit: {said}; {result.checkpoint.origin} at size {result.checkpoint.size:,}, "
        f"{result.since:,} seen before; checked {counts or 'nothing new'} in {seconds:.1f} s",
        sys.stdout,
    )
