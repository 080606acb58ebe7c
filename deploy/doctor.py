"""`certledger doctor`: what is wrong with a stack, what to do about it, and where that is written.

`ADVICE` is the one table of findings; `examine` decides by what was `Seen`, and touches nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from consumers.verifier import print_safely
from consumers.words import plain
from deploy.dead_letter_commands import prospects_of
from deploy.environment import Environment
from deploy.stack_commands import status
from ledger import topics
from ledger.dead_letter import MEND, READY
from ledger.errors import CODES, LedgerError, Unavailable
from ledger.kafka_address import client_settings, servers
from ledger.postgres.connection import connect
from ledger.postgres.migrate import SchemaGap, schema_gap
from producers.link import check_reachable
from streams.disk import DEFAULT, VARIABLE

STEADY_SECONDS = 60  # a program that ended and has run for this long since is well
OPEN_SECONDS = 60  # the longest that a publisher's transaction may hold up a partition
BEHIND_RECORDS = 10_000
_MOVE_SECONDS = 3.0  # in which a worker that has something to do does some of it
_KAFKA_MS = 3_000
_TAIL_BYTES = 16 * 1024
_SAID = re.compile(r"(?:^|[ :])(" + "|".join(map(re.escape, CODES)) + r"):")
_LEVEL = re.compile(r'(?:"level": "|Z )(WARNING|ERROR|CRITICAL)\b')


@dataclass(frozen=True, slots=True)
class Advice:
    """A finding in words, what to do, and the runbook in deploy/runbooks that has the steps."""

    words: str
    todo: str
    runbook: str | None = None


_SIGNING, _RESTORE = "signing-stops.md", "back-up-and-restore.md"
_LOST = "kafka-lost-records.md"

ADVICE = {
    "stack-down": Advice(
        "Nothing runs on this data folder.",
        "Start it: `certledger up --detach`. If it should run, logs/supervisor.log says why not.",
    ),
    "postgres-away": Advice(
        "PostgreSQL does not answer: nothing is taken in, signed or answered.",
        "Look whether it runs and listens where CERTLEDGER_POSTGRES or `certledger status` says, "
        "then at logs/postgres.log. The programs go on by themselves when it is back.",
    ),
    "kafka-away": Advice(
        "Kafka does not answer: nothing is taken in or signed; answers go on.",
        "Look whether it runs and listens where CERTLEDGER_KAFKA or `certledger status` says, then "
        "at logs/kafka.log. Departments' spools keep everything; all goes on by itself.",
    ),
    "disk-nearly-full": Advice(
        "The disk is nearly full: intake stops and goes on by itself when there is room.",
        f"Free some, or enlarge it. {VARIABLE} says what has to stay free ({DEFAULT}). "
        "Never remove files under postgres or kafka by hand.",
    ),
    "program-ends": Advice(
        "A program ended and was started again, or keeps ending.",
        "Its last words are beside; the whole is in logs/PROGRAM.log. `certledger fsck` says "
        "whether the ledger is sound.",
    ),
    "offset-jump": Advice(
        "The worker stopped: records that it wants next are gone from the intake topic.",
        "Do not move offsets by hand: what is missing would be lost in silence. Find out whether "
        "retention or somebody's delete-records took them; the publishers still have what has no "
        "receipt. `certledger accept-loss` shows what is missing, and goes on without it.",
        _LOST,
    ),
    "topic-changed": Advice(
        "The worker stopped: the intake topic was made anew, or another Kafka answers.",
        "Point CERTLEDGER_KAFKA at the right one. If the topic is gone, nothing that was logged is "
        "lost; `certledger accept-loss` shows from where on records are, and goes on without.",
        _LOST,
    ),
    "going-back": Advice(
        "Signing stopped: somebody knows more than this database, or another history.",
        "Never force it: signing now would make two histories. The runbook tells the cases apart.",
        _SIGNING,
    ),
    "stored-bytes-damaged": Advice(
        "Bytes read back are not those that were hashed: nothing is signed over them.",
        "`certledger fsck` names the place. Look at the disk; then restore a backup.",
        _RESTORE,
    ),
    "clock-behind": Advice(
        "A clock stands behind the ledger's time: signing waits.",
        "Set the clock of the machine of PostgreSQL (chrony, NTP). It goes on when time has caught "
        "up.",
        _SIGNING,
    ),
    "key-missing": Advice(
        "The key that has to sign from this size on is not here.",
        "Put its file back into DIR/keys, or let the signer's process have it.",
        "rotate-ledger-key.md",
    ),
    "quorum-missing": Advice(
        "Witnesses are missing for the quorum: nothing new is published, receipts wait.",
        "Reach those who run the witnesses that are named. Publication goes on by itself.",
        _SIGNING,
    ),
    "witness-away": Advice(
        "A witness does not cosign; the quorum holds without it.",
        "Reach those who run it before a second one goes.",
        _SIGNING,
    ),
    "department-silent": Advice(
        "A department has been silent for longer than its limit: answers on it are stale.",
        "Ask its contact (`certledger department list`) whether its publisher runs and reaches "
        "Kafka. If this silence is usual: `certledger department silence-limit`.",
    ),
    "dead-letters-mended": Advice(
        "Dead letters wait whose cause is mended: they would be logged now.",
        "`certledger dead-letter replay --all --dry-run`, then without --dry-run.",
    ),
    "dead-letters-waiting": Advice(
        "Dead letters wait for their cause to be mended.",
        "`certledger dead-letter list`, then `certledger dead-letter explain NUMBER`.",
    ),
    "intake-behind": Advice(
        "Many records wait to be taken in.",
        "Nothing is lost. When it does not become less: `certledger up --workers N`, and look at "
        "the processor and the disk of PostgreSQL.",
    ),
    "intake-stands": Advice(
        "Records wait to be taken in, and none is taken.",
        "If another finding here stops the worker, mend that. Else look at logs/worker-1.log; a "
        "frozen process is ended with SIGKILL and starts again.",
    ),
    "signing-stands": Advice(
        "Entries wait to be signed, and none is: no receipt is sent meanwhile.",
        "Look at logs/sequencer.log. A frozen process is ended with SIGKILL and starts again. If "
        "it waits for a server process of PostgreSQL that is frozen itself, restart PostgreSQL: "
        "nothing that was committed is lost.",
        _SIGNING,
    ),
    "receipts-stand": Advice(
        "Entries are published, and no receipt is sent for them.",
        "Look at logs/relay.log. A frozen process is ended with SIGKILL and starts again; so does "
        "PostgreSQL where its own server process is frozen.",
    ),
    "open-transaction": Advice(
        "Somebody holds a transaction open on the intake topic: records behind it wait.",
        "Departments must not use transactions there: give it credentials that cannot "
        "(`certledger department credentials`). Kafka's own kafka-transactions.sh names and aborts "
        "it.",
    ),
    "key-files-open": Advice(
        "Files with keys or passwords can be read by others.",
        "`chmod 600` them. If strangers have accounts here, count the keys as stolen.",
        "revoke-department-key.md",
    ),
    "schema-older": Advice(
        "The database's schema is older than this program.",
        "`certledger down`, a backup, then `certledger up`: it migrates.",
        _RESTORE,
    ),
    "schema-newer": Advice(
        "The database's schema is newer than this program.",
        "Run the program's version that migrated it, or a later one: there is no way back.",
    ),
}

_STOPPING = (
    *("offset-jump", "topic-changed", "going-back", "stored-bytes-damaged", "clock-behind"),
    "key-missing",
)


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A partition of the intake topic that is held up at an offset, and how old that record is."""

    partition: int
    offset: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found; what could not be asked is None."""

    report: Mapping[str, Any]  # of `status`
    ages: Mapping[str, float] = field(default_factory=dict)  # seconds that programs have run
    said: Mapping[str, str] = field(default_factory=dict)  # the programs' last words
    postgres: str | None = None  # why it cannot be asked
    kafka: str | None = None
    taken: int | None = None  # records between the two looks
    signed: int | None = None  # entries
    told: int | None = None  # entries for which receipts went out
    prospects: Mapping[str, int] = field(default_factory=dict)  # of dead letters
    transactions: Sequence[OpenTransaction] = ()
    open_files: Sequence[str] = ()
    schema: SchemaGap = field(default_factory=SchemaGap)


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of ADVICE, and what it is about."""

    name: str
    detail: str

    def members(self) -> dict[str, Any]:
        """As JSON has it."""
        advice = ADVICE[self.name]
        return {
            "finding": self.name,
            "detail": self.detail,
            "words": advice.words,
            "todo": advice.todo,
            "runbook": advice.runbook and f"deploy/runbooks/{advice.runbook}",
        }


def examine(seen: Seen) -> list[Finding]:
    """All that is wrong, what stops most first."""
    return [Finding(name, detail) for name, detail in _examine(seen)]


def _examine(seen: Seen) -> Iterator[tuple[str, str]]:
    report = seen.report
    if not report["running"]:
        yield "stack-down", str(report["data_dir"])
    else:
        if seen.postgres is not None:
            yield "postgres-away", seen.postgres
        if seen.kafka is not None:
            yield "kafka-away", seen.kafka
    if report["disk_full"]:
        yield "disk-nearly-full", str(report["disk_full"])
    programs = list(_programs(seen)) if report["running"] else []
    yield from programs
    if seen.schema.lacking:
        yield "schema-older", f"it lacks {', '.join(seen.schema.lacking)}"
    if seen.schema.refused:
        yield "schema-newer", f"it has {', '.join(seen.schema.refused)}"
    yield from _witnesses(report)
    yield from _intake(seen)
    yield from _standing(seen, {detail.partition(":")[0] for _, detail in programs})
    for row in report["departments"]:
        if row["state"] == "silent too long":
            silent, limit = row["silent_seconds"], row["silence_limit_seconds"]
            yield "department-silent", f"{row['department']}: {silent} s, its limit is {limit} s"
    if count := seen.prospects.get(READY, 0):
        yield "dead-letters-mended", f"{count} dead letters"
    if count := seen.prospects.get(MEND, 0):
        yield "dead-letters-waiting", f"{count} dead letters"
    if seen.open_files:
        yield "key-files-open", ", ".join(seen.open_files)


def _programs(seen: Seen) -> Iterator[tuple[str, str]]:
    for name, program in seen.report["programs"].items():
        if not program["last_exit"]:
            continue
        if program["pid"] and seen.ages.get(name, 0.0) >= STEADY_SECONDS:
            continue
        said = seen.said.get(name, "")
        found = _SAID.search(said)
        reason = found[1] if found is not None else None
        by_itself = "exit code" in program["last_exit"]
        if reason == "unreachable" and by_itself and (seen.postgres or seen.kafka):
            continue  # it follows from what is found already, and goes on with that
        code = reason if reason in _STOPPING else "program-ends"
        words = f"; last words: {said}" if said else ""
        yield code, f"{name}: {program['last_exit']}, {program['starts']} starts{words}"


def _witnesses(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    away = [f"{row['name']}: {row['problem']}" for row in report["witnesses"] if row["problem"]]
    if report["quorum"] is False:
        yield "quorum-missing", "; ".join(away)
    elif away:
        yield "witness-away", "; ".join(away)


def _intake(seen: Seen) -> Iterator[tuple[str, str]]:
    for each in seen.transactions:
        if each.seconds >= OPEN_SECONDS:
            yield (
                "open-transaction",
                f"partition {each.partition} from offset {each.offset} on, {each.seconds} s",
            )
    lag = seen.report["lag"] or 0
    if lag and seen.taken == 0:
        yield "intake-stands", f"{lag} records, none taken in {_MOVE_SECONDS:g} s"
    elif lag >= BEHIND_RECORDS:
        yield "intake-behind", f"{lag} records"


def _standing(seen: Seen, ended: set[str]) -> Iterator[tuple[str, str]]:
    """What waits for a program that runs and does nothing; `ended` have findings of their own."""
    report = seen.report
    waiting = (report["entries"] or 0) - (report["signed_size"] or 0)
    if waiting > 0 and seen.signed == 0 and "sequencer" not in ended:
        yield "signing-stands", f"{waiting} entries, none signed in {_MOVE_SECONDS:g} s"
    waiting = (report["tree_size"] or 0) - (report["receipts_sent"] or 0)
    if waiting > 0 and seen.told == 0 and "relay" not in ended:
        yield "receipts-stand", f"{waiting} entries, none told of in {_MOVE_SECONDS:g} s"


def _has_waiting(report: Mapping[str, Any]) -> bool:
    """Whether there is something to do for a program."""
    return bool(
        report["lag"]
        or report["entries"] != report["signed_size"]
        or report["tree_size"] != report["receipts_sent"]
    )


def look(env: Environment) -> Seen:
    """Ask every part; a part that is away leaves its questions open."""
    report = status(env, ledger=False)
    seen: dict[str, Any] = {"open_files": open_files(env.data)}
    try:
        seen["schema"] = _schema(env)
        if not seen["schema"].lacking:
            report = status(env)
    except LedgerError as err:
        seen["postgres"] = err.message
    seen["report"] = report
    if not report["running"]:
        return Seen(**seen)
    programs = report["programs"]
    seen["ages"] = {name: _age(program["pid"]) for name, program in programs.items()}
    seen["said"] = {
        name: _last_words(env.data / "logs" / f"{name}.log")
        for name, program in programs.items()
        if program["last_exit"]
    }
    try:
        seen["transactions"] = _transactions(env.kafka)
    except LedgerError as err:
        seen["kafka"] = err.message
    if report["origin"] is None:
        return Seen(**seen)
    try:
        seen["prospects"] = prospects_of(env)
    except LedgerError as err:
        seen["postgres"] = err.message
    if _has_waiting(report):
        time.sleep(_MOVE_SECONDS)
        later = status(env)
        if later["lag"] is not None and later["taken"] is not None:
            seen["taken"] = later["taken"] - report["taken"]
            seen["signed"] = later["signed_size"] - report["signed_size"]
            seen["told"] = later["receipts_sent"] - report["receipts_sent"]
            seen["report"] = later
    return Seen(**seen)


def _schema(env: Environment) -> SchemaGap:
    connection = connect(env.postgres_url, "doctor")
    try:
        return schema_gap(connection)
    finally:
        connection.close()


def _transactions(kafka: str) -> list[OpenTransaction]:
    """Partitions of the intake topic whose last stable offset lies behind their end."""
    check_reachable(servers(kafka))
    ends: dict[str, Any] = {}
    held = []
    try:
        for level in ("read_committed", "read_uncommitted"):
            consumer = KafkaConsumer(
                **client_settings(kafka),
                enable_auto_commit=False,
                isolation_level=level,
                bootstrap_timeout_ms=_KAFKA_MS,
                request_timeout_ms=_KAFKA_MS,
                max_partition_fetch_bytes=2 * 1024 * 1024,
            )
            try:
                numbers = consumer.partitions_for_topic(topics.EVENTS) or set()
                ends[level] = consumer.end_offsets([_place(n) for n in numbers])
                for place, end in ends[level].items():
                    stable = ends["read_committed"].get(place, end)
                    if stable < end:
                        held.append(_held(consumer, place, stable))
            finally:
                consumer.close()
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka: {err}") from err
    return held


def _held(consumer: Any, place: TopicPartition, offset: int) -> OpenTransaction:
    consumer.assign([place])
    consumer.seek(place, offset)
    for records in consumer.poll(timeout_ms=_KAFKA_MS, max_records=1).values():
        seconds = max(int(time.time() - records[0].timestamp / 1000), 0)
        return OpenTransaction(place.partition, offset, seconds)
    return OpenTransaction(place.partition, offset, 0)


def _place(number: int) -> TopicPartition:
    return TopicPartition(topics.EVENTS, number)


def _age(pid: int | None) -> float:
    """For how long a process has run, in seconds; 0 when it does not."""
    if pid is None:
        return 0.0
    try:
        begun = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(uptime - begun / os.sysconf("SC_CLK_TCK"), 0.0)


def _last_words(path: Path) -> str:
    """What a log says of its program's end: its last error, reason or traceback's end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    words = ""
    for line in lines:
        found = _said(line)
        if found is not None:
            words = " ".join(found.split())  # reasons of PostgreSQL have lines
    return words[-500:]


def _said(line: str) -> str | None:
    """What a line of a log says of a program's end, None for others: JSON, text, or a server's."""
    level = _LEVEL.search(line)
    if level is None:
        return None
    words = line
    with contextlib.suppress(ValueError):
        value = json.loads(line)
        fields = {n: v for n, v in value.items() if n not in ("time", "level", "program")}
        words = ": ".join(map(str, fields.values()))
    return None if level[1] == "WARNING" and not _SAID.search(words) else words


def open_files(data: Path) -> list[str]:
    """Files of keys and passwords under a data folder that others can read, relative to it."""
    found = []
    for pattern in ("**/*.key", "**/kafka.json", "kafka/*.json", "postgres/*.passfile"):
        for path in data.glob(pattern):
            if path.is_file() and path.stat().st_mode & 0o077:
                found.append(str(path.relative_to(data)))
    return sorted(set(found))


def add_commands(commands: Any) -> None:
    """Add `doctor` to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="what is wrong, and what to do about it",
        description="Ask every part how it is, and say what is wrong, what that means and what to "
        "do.\nReads only; whether what is stored is sound is for `certledger fsck`.",
        epilog="exit: 0 healthy, 1 with findings\nexamples:\n  certledger doctor\n"
        "  certledger doctor --json\n  certledger doctor --table   all that it knows of",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="as JSON on standard output")
    parser.add_argument("--table", action="store_true", help="list what can be found, then end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    """certledger doctor"""
    found = [Finding(name, "") for name in ADVICE] if args.table else examine(look(env))
    if args.json:
        rows = [finding.members() for finding in found]
        print(json.dumps({"healthy": not found, "findings": rows}, ensure_ascii=False))
    else:
        for finding in found:
            for line in _lines(finding):
                print_safely(line, sys.stdout)
        if not found:
            print("healthy")
    return 1 if found and not args.table else 0


def _lines(finding: Finding) -> Iterator[str]:
    advice = ADVICE[finding.name]
    yield f"{finding.name}: {advice.words}"
    if finding.detail:
        yield f"  found   {plain(finding.detail)}"
    yield f"  to do   {advice.todo}"
    if advice.runbook is not None:
        yield f"  steps   deploy/runbooks/{advice.runbook}"
