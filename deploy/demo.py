"""`certledger demo`: a generated town's year from first event to an answer checked offline.

Everything a person could type is run as they would type it, and shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consumers.http.settings import LOG_PREFIX
from deploy.embedded import postgres
from deploy.embedded.supervisor import Program
from deploy.environment import Environment
from deploy.errors import StackError
from deploy.stack import Stack, worker_programs
from deploy.stack_commands import say
from deploy.witnesses import remove_outside, set_policy, witness_programs
from ledger import canonical, lifecycle
from ledger.postgres.connection import connect, transaction
from ledger.postgres.history_reading import sample_certificates
from ledger.postgres.reader import Reader

EVENTS = 20_000
SEED = 2026
_FOLDER = ".demo"
_MARKER = "demo"  # in a folder that the demo made, wherever it is
_SAMPLE = 4_000
# What to show, in this order, as far as the town has it.
_WANTED = (
    "in-force",
    "expired",
    "suspended",
    "revoked-penalty",
    "revoked-annulled",
    "transferred",
    "not-yet-valid",
)
_SHOWN = 4
_WITNESSES = 3


def add_commands(commands: Any) -> None:
    """Add the demo to the command line."""
    demo = commands.add_parser(
        "demo",
        help="a generated town's year, from first event to an answer checked offline",
        description="Starts a stack of its own in a folder that it makes anew each time, publishes "
        "a\ngenerated year, shows what it gave, and stops. Needs no network after `make` has set\n"
        "everything up.",
        epilog="examples:\n  certledger demo\n"
        "  certledger demo --events 2000 --keep    a small town, left running",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--events", type=int, default=EVENTS, help=f"how many (default {EVENTS:,})")
    demo.add_argument("--seed", type=int, default=SEED, help="another seed is another town")
    demo.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    demo.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace, env: Environment) -> int:
    """certledger demo"""
    data = env.data if args.data else Path.cwd() / _FOLDER
    env = Environment(data.resolve())
    began = time.monotonic()
    _clear(env.data)

    def beside(data: Path) -> list[Program]:
        set_policy(data, _WITNESSES, (), None)
        return witness_programs(data)

    stack = Stack(
        env.data,
        worker_programs(1),
        progress=lambda text: say(f"  {text}"),
        http=True,
        beside=beside,
    )
    _head("Starting Apache Kafka, PostgreSQL, the ledger and three witnesses")
    stack.up(detach=True)
    (env.data / _MARKER).touch()
    try:
        _show(args, env, began)
    finally:
        if not args.keep:
            _head("Stopping")
            stack.down()
            say("  stopped; nothing is left running")
    return 0


def _show(args: argparse.Namespace, env: Environment, began: float) -> None:
    tool = _Tool(env.data)
    say(f"  ready after {time.monotonic() - began:.0f} s")
    _head(f"Publishing a town's year: {args.events:,} events of its departments, seed {args.seed}")
    tool.run("simulate", "--events", str(args.events), "--seed", str(args.seed))
    _head("Is it valid? Ask the ledger instead of the citizen")
    examples = _examples(env)
    if not examples:
        raise StackError("the town published no certificate: look into the logs folder")
    for example in examples.values():
        tool.run("verify", *_question(example))
    _head("The answer as a file, checked offline with nothing but the trust file")
    example = examples.get("expired") or next(iter(examples.values()))
    evidence = env.data / "answer.evidence.json"
    tool.run("evidence", *_question(example), "-o", str(evidence))
    archive = env.data / "certledger-verify.pyz"
    _run([sys.executable, "-m", "consumers.zipapp", "-o", str(archive)])
    offline = [sys.executable, "-I", str(archive)]
    _run(
        [*offline, str(evidence), "--trust", str(env.trust)],
        shown="python certledger-verify.pyz answer.evidence.json --trust trust.json",
    )
    _head("The same file with its last day moved: forged")
    forged = env.data / "forged.evidence.json"
    forged.write_bytes(_forge(evidence.read_bytes()))
    code = _run(
        [*offline, str(forged), "--trust", str(env.trust)],
        shown="python certledger-verify.pyz forged.evidence.json --trust trust.json",
    )
    if code != 4:
        raise StackError(f"the forged file was not refused (exit code {code})")
    _head("What the ledger holds, and whether any of it was lost, doubled, forged or damaged")
    tool.run("status")
    tool.run("fsck")
    _show_checkpoint(Stack(env.data).status()["url"])
    _head("What to try next")
    for words, what in _next_steps(env, example, kept=args.keep):
        say(f"  {words}\n      {what}")
    say("  README.md: publish from your own department")


def _next_steps(
    env: Environment, example: Mapping[str, str], kept: bool
) -> Iterator[tuple[str, str]]:
    """Commands to copy, and what each is good for."""
    tool, data = _short(Path(sys.executable).parent / "certledger"), f"--data {_short(env.data)}"
    if not kept:
        yield f"{tool} up --detach {data}", "start it again, with this data"
    number = example["number"]
    yield f"{tool} verify {number} --at 2025-07-01 {data}", "was it valid on that day?"
    yield f"{tool} history {number} {data}", "what happened to it, in both times"
    yield f"{tool} import FILE --mapping taiwan-fda {data}", "a real register; `import --explain`"
    yield f"{tool} down {data}", "stop it; the data stays"


def _clear(data: Path) -> None:
    """Remove what an earlier demo made here; StackError for a folder that is not the demo's."""
    if not data.exists():
        return
    ours = data.name == _FOLDER or (data / _MARKER).exists()
    if any(data.iterdir()) and not ours:
        raise StackError(f"{data} holds a ledger that is not the demo's: name another folder")
    Stack(data).down()
    if (data / "postgres").exists():
        postgres.remove(data)
    remove_outside(data)
    if (data / "lock").exists():
        shutil.rmtree(data)


class _Tool:
    """The command line, run as a person would."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def run(self, *words: str) -> int:
        """Show and run one command; its exit code is part of its answer."""
        shown = " ".join(["certledger", *(f"'{w}'" if " " in w else w for w in words)])
        command = [sys.executable, "-m", "deploy.cli", *words, "--data", str(self._data)]
        code = _run(command, shown=shown)
        if words[0] in ("simulate", "evidence", "fsck") and code:
            raise StackError(f"`{shown}` ended with exit code {code}")
        return code


def _run(command: Sequence[str], shown: str = "") -> int:
    if shown:
        say(f"\n$ {shown}")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, env=environ, check=False).returncode


def _examples(env: Environment) -> dict[str, dict[str, str]]:
    """One certificate per reason, as far as a sample of the ledger has them."""
    connection = connect(env.postgres_url, "demo")
    found: dict[str, dict[str, str]] = {}
    now = time.time_ns() // 1000
    try:
        with transaction(connection) as cursor:
            sample = sample_certificates(cursor, _SAMPLE)
        reader = Reader(connection)
        with reader.open() as view:
            for certificate in sample:
                steps = view.history(certificate.key)
                if not steps:
                    continue
                reason = lifecycle.answer([s.transition for s in steps], now).reason
                found.setdefault(reason, certificate.members())
    finally:
        connection.close()
    shown = [reason for reason in _WANTED if reason in found][:_SHOWN]
    return {reason: found[reason] for reason in shown}


def _question(example: Mapping[str, str]) -> list[str]:
    return [example["number"], "--type", example["type"], "--issuer", example["issuer"]]


def _forge(evidence: bytes) -> bytes:
    """The evidence with every stated last day moved to the end of 2099."""
    value = json.loads(evidence)
    for step in value["history"]:
        said = step["line"]["data"] if "line" in step else step
        said["valid_until"] = "2099-12-31+08:00"
    return canonical.format(value)


def _show_checkpoint(url: str) -> None:
    _head("The log for anybody's programs, as C2SP tlog-tiles: its checkpoint")
    place = f"{url}{LOG_PREFIX}/checkpoint"
    say(f"\n$ curl {place}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(place, timeout=20) as answer:
        for line in answer.read().decode().splitlines():
            say(f"  {line if len(line) < 160 else line[:140] + '…'}")


def _head(text: str) -> None:
    say(f"\n── {text} " + "─" * max(2, 96 - len(text)))


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
