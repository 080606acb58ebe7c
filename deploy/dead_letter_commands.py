"""`certledger dead-letter`: records that became no entry, and what to do about them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer import fetcher
from kafka.errors import KafkaError

from consumers.verifier import print_safely
from consumers.words import plain
from deploy.environment import Environment
from ledger import kafka_batches, times, topics
from ledger.dead_letter import (
    MEANINGS,
    READY,
    REPEATED,
    SAME,
    Prospect,
    judge,
)
from ledger.errors import Malformed, Unavailable
from ledger.kafka_address import client_settings, servers
from ledger.postgres.connection import connect, transaction
from ledger.postgres.dead_letters import (
    DeadLetter,
    intake_topic,
    number_of,
    read_accounted,
    read_bytes,
    read_dead_letter,
    read_dead_letters,
)
from ledger.postgres.store import Store
from producers.link import check_reachable
from streams.logwriter import make_producer

_BATCH = 128  # records that are rehearsed, sent and waited for together
_WAIT_SECONDS = 30
_KAFKA_MS = 5_000
_SHOWN_MESSAGE = 60  # characters of it in a list
kafka_batches.guard(fetcher)


def add_commands(commands: Any) -> None:
    """Add `dead-letter` to the command line."""
    parser = commands.add_parser(
        "dead-letter",
        help="records that became no entry: list, show, explain, replay",
        description="What came in on the intake topic and could not become an entry of the log,\n"
        "kept whole in PostgreSQL. A number names each.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser(
        "list",
        help="list them",
        description="List dead letters, the oldest first. What a note says is unproven.",
        epilog="examples:\n  certledger dead-letter list\n"
        "  certledger dead-letter list --code unknown-key --since 2026-03-01T00:00:00Z --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_filters(listing)
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=run_list)
    show = verbs.add_parser(
        "show",
        help="show one, or write its bytes to a file",
        description="What can be shown of a dead letter without anybody's data: never its lines.\n"
        "With -o the original bytes, which may hold personal data, go to a file of mode 0600.",
        epilog="examples:\n  certledger dead-letter show 17\n"
        "  certledger dead-letter show 17 -o record.bin",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("number", type=int, metavar="NUMBER")
    show.add_argument("-o", "--output", metavar="FILE", help="the original bytes, - for stdout")
    show.add_argument("--json", action="store_true", help="as JSON on standard output")
    show.set_defaults(run=run_show)
    explain = verbs.add_parser(
        "explain",
        help="what it means, whose it seems to be, what to do",
        description="What a dead letter's code means, who seems to have sent it, what would become "
        "of it\nnow, and what to do. Without NUMBER: what the codes mean.",
        epilog="examples:\n  certledger dead-letter explain 17\n  certledger dead-letter explain",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("number", type=int, metavar="NUMBER", nargs="?")
    explain.add_argument("--json", action="store_true", help="as JSON on standard output")
    explain.set_defaults(run=run_explain)
    replay = verbs.add_parser(
        "replay",
        help="send them to the intake topic again, after the cause is mended",
        description="Rehearse what admission would make of each now, say it, and send the original "
        "bytes\nof those that would be logged to the intake topic again. Admission decides anew; "
        "nothing is\ndoubled: what was logged meanwhile is a repeat, is said to be one, and is not "
        "sent.",
        epilog="exit: 0 all are in the log, 1 some are not\nexamples:\n"
        "  certledger dead-letter replay --code unknown-key --dry-run\n"
        "  certledger dead-letter replay --code unknown-key --department transport\n"
        "  certledger dead-letter replay --number 17 --number 18\n"
        "  certledger dead-letter replay --all",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("--all", action="store_true", help="every dead letter")
    replay.add_argument(
        "--number", type=int, action="append", default=[], metavar="N", help="this one, repeatable"
    )
    _add_filters(replay)
    replay.add_argument("--dry-run", action="store_true", help="only say what would be done")
    replay.add_argument(
        "--repeats",
        action="store_true",
        help="send repeats too: the department gets their receipts once more",
    )
    replay.add_argument("--json", action="store_true", help="one JSON object a line")
    replay.set_defaults(run=run_replay)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--code", choices=sorted(MEANINGS), metavar="CODE", help="of this code")
    parser.add_argument("--department", metavar="D", help="whose notes name this department")
    parser.add_argument(
        "--since",
        metavar="MOMENT",
        help="that went out on the dead-letter topic at this moment or later (RFC 3339)",
    )


def run_list(args: argparse.Namespace, env: Environment) -> int:
    """certledger dead-letter list"""
    with _reading(env) as cursor:
        for letter in _chosen(cursor, args, env):
            if args.json:
                print(json.dumps(_members(letter), ensure_ascii=False))
            else:
                print_safely(_line(letter), sys.stdout)
    return 0


def run_show(args: argparse.Namespace, env: Environment) -> int:
    """certledger dead-letter show"""
    with _reading(env) as cursor:
        letter = read_dead_letter(cursor, args.number)
        data = read_bytes(cursor, args.number)
    members = _members(letter)
    members["sha256"] = None if data is None else sha256(data).hexdigest()
    if args.output is not None:
        _write_private(args.output, data or b"")
    if args.json:
        print(json.dumps(members, ensure_ascii=False))
    elif args.output != "-":
        for line in _shown(members):
            print_safely(line, sys.stdout)
    return 0


def run_explain(args: argparse.Namespace, env: Environment) -> int:
    """certledger dead-letter explain"""
    if args.number is None:
        table = [
            {"code": code, "means": meaning.means, "todo": meaning.todo}
            for code, meaning in MEANINGS.items()
        ]
        if args.json:
            print(json.dumps(table, ensure_ascii=False))
        else:
            for row in table:
                print(f"{row['code']}\n  {row['means']}\n  {row['todo']}")
        return 0
    with _reading(env) as cursor:
        letter = read_dead_letter(cursor, args.number)
    (prospect,) = _rehearse(env, [letter])[1]
    meaning = MEANINGS[letter.code]
    if args.json:
        value = _members(letter) | {"means": meaning.means, "todo": meaning.todo}
        print(json.dumps(value | _prospect(prospect), ensure_ascii=False))
        return 0
    for line in (
        f"dead letter {letter.number}: {letter.code}",
        f"  means    {meaning.means}",
        f"  said     {plain(letter.message)}",
        f"  sender   {_sender(letter)}",
        f"  now      {plain(prospect.words)}",
        f"  to do    {_todo(letter, prospect)}",
    ):
        print_safely(line, sys.stdout)
    return 0


def run_replay(args: argparse.Namespace, env: Environment) -> int:
    """certledger dead-letter replay"""
    if not (args.all or args.number or args.code or args.department or args.since):
        raise Malformed("usage", "say which: --number N, --code CODE, --department D or --all")
    with _reading(env) as cursor:
        if args.number:
            chosen = [read_dead_letter(cursor, number) for number in sorted(set(args.number))]
        else:
            chosen = list(_chosen(cursor, args, env))
    if not chosen:
        print("no dead letter of these", file=sys.stderr)
        return 0
    chosen.sort(key=_lane_order)
    replay = _Replay(env, args)
    for begin in range(0, len(chosen), _BATCH):
        replay.take(chosen[begin : begin + _BATCH])
        if args.dry_run and begin + _BATCH < len(chosen):
            rest = len(chosen) - begin - _BATCH
            print(f"{rest} more are judged when those before them are in the log", file=sys.stderr)
            break
    replay.conclude()
    return 0 if replay.left == 0 else 1


class _Replay:
    """Rehearses, tells, sends and hears what became of it, batch by batch."""

    def __init__(self, env: Environment, args: argparse.Namespace) -> None:
        self._env, self._args = env, args
        self.counts: dict[str, int] = {}
        self.left = 0  # that are in the log neither before nor after

    def take(self, letters: Sequence[DeadLetter]) -> None:
        """One batch, in the order of the lanes' numbers."""
        values, prospects = _rehearse(self._env, letters)
        wanted = {READY, REPEATED} if self._args.repeats else {READY}
        sending = []
        for letter, value, prospect in zip(letters, values, prospects, strict=True):
            send = prospect.state in wanted and letter.header is not None and value is not None
            self._tell(letter, prospect)
            if send and not self._args.dry_run:
                assert value is not None
                sending.append((letter, value))
            elif prospect.state in (READY, REPEATED, SAME):
                self._count("would be sent" if send else "in the log already or the same")
            else:
                self.left += 1
                self._count(f"not sent: {prospect.state}")
        if sending:
            self._send(sending)

    def conclude(self) -> None:
        """The counts, for people."""
        words = "; ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        print(words, file=sys.stderr)

    def _send(self, records: Sequence[tuple[DeadLetter, bytes]]) -> None:
        check_reachable(servers(self._env.kafka))
        producer = make_producer(self._env.kafka, "dead-letter")
        try:
            sent = [
                producer.send(topics.EVENTS, key=_key(letter), value=value)
                for letter, value in records
            ]
            producer.flush(timeout=_WAIT_SECONDS)
            places = [future.get(timeout=_WAIT_SECONDS) for future in sent]
        except KafkaError as err:
            raise Unavailable("unreachable", f"Kafka: {err}") from err
        finally:
            producer.close(timeout=5)
        end = time.monotonic() + _WAIT_SECONDS
        for (letter, _), place in zip(records, places, strict=True):
            done = self._wait(place.partition, place.offset, end)
            if done is None:
                self.left += 1
                self._say(letter, "sent", "sent and not taken yet: see `certledger status`")
                continue
            outcome, index, code = done
            words = f"{outcome} as entry {index}" if index is not None else outcome
            if outcome not in ("logged", "repeat"):
                self.left += 1
                words += f": {code}"
            self._say(letter, outcome, words)

    def _wait(
        self, partition: int, offset: int, end: float
    ) -> tuple[str, int | None, str | None] | None:
        while True:
            with _reading(self._env) as cursor:
                found = read_accounted(cursor, intake_topic(cursor), partition, offset)
            if found is not None or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def _tell(self, letter: DeadLetter, prospect: Prospect) -> None:
        if self._args.json:
            value = {"number": letter.number, "code": letter.code} | _prospect(prospect)
            print(json.dumps(value, ensure_ascii=False))
        else:
            words = f"{letter.number:>8}  {prospect.state:<7}  {plain(prospect.words)}"
            print_safely(words, sys.stdout)

    def _say(self, letter: DeadLetter, outcome: str, words: str) -> None:
        self._count(outcome)
        if self._args.json:
            print(json.dumps({"number": letter.number, "outcome": outcome, "words": words}))
        else:
            print_safely(f"{letter.number:>8}  {words}", sys.stdout)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def prospects_of(env: Environment) -> dict[str, int]:
    """How many dead letters there are by what would become of them now."""
    with _reading(env) as cursor:
        letters = sorted(read_dead_letters(cursor), key=_lane_order)
    counts: dict[str, int] = {}
    for begin in range(0, len(letters), _BATCH):
        for prospect in _rehearse(env, letters[begin : begin + _BATCH])[1]:
            counts[prospect.state] = counts.get(prospect.state, 0) + 1
    return counts


def _rehearse(
    env: Environment, letters: Sequence[DeadLetter]
) -> tuple[list[bytes | None], list[Prospect]]:
    """The letters' bytes, and what would become of each if the good ones were sent in this order.

    One that would not be logged must not make room for those after it: they are judged again
    without it.
    """
    connection = connect(env.postgres_of("admission"), "dead-letter")
    try:
        store = Store(connection)
        with transaction(connection) as cursor:
            values = [read_bytes(cursor, letter.number) for letter in letters]
        judged: dict[int, Prospect] = {}
        left = list(range(len(letters)))
        while left:
            rehearsed, next_index = store.rehearse([values[n] for n in left])
            found = {n: judge(each, next_index) for n, each in zip(left, rehearsed, strict=True)}
            # only what was logged in the rehearsal changed what the others met
            spoilt = [
                n
                for n, each in zip(left, rehearsed, strict=True)
                if each.accounted.outcome == "logged" and found[n].state != READY
            ][:1]
            if not spoilt:
                judged |= found
                break
            judged[spoilt[0]] = found[spoilt[0]]
            left.remove(spoilt[0])
        return values, [judged[n] for n in range(len(letters))]
    finally:
        connection.close()


def _chosen(cursor: Any, args: argparse.Namespace, env: Environment) -> Iterator[DeadLetter]:
    begin = 0
    if args.since is not None:
        found = _first_since(cursor, env.kafka, args.since)
        if found is None:
            return
        begin = found
    yield from read_dead_letters(cursor, begin, args.code, args.department)


def _first_since(cursor: Any, kafka: str, since: str) -> int | None:
    """The number of the first dead letter that went out at a moment or later, None without one."""
    moment = times.parse_moment(since)
    check_reachable(servers(kafka))
    place = TopicPartition(topics.DEAD_LETTERS, 0)
    try:
        consumer = KafkaConsumer(
            **client_settings(kafka),
            enable_auto_commit=False,
            bootstrap_timeout_ms=_KAFKA_MS,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        try:
            at = consumer.offsets_for_times({place: moment // 1000})[place]
            if at is None:
                return None
            consumer.assign([place])
            consumer.seek(place, at.offset)
            end = time.monotonic() + _KAFKA_MS / 1000
            while time.monotonic() < end:
                for record in consumer.poll(timeout_ms=500, max_records=1).get(place, ()):
                    topic, partition, offset = record.key.decode().rsplit("/", 2)
                    return number_of(cursor, topic, int(partition), int(offset))
        finally:
            consumer.close()
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka: {err}") from err
    raise Unavailable("unreachable", "Kafka does not give the dead letters' topic")


@contextmanager
def _reading(env: Environment) -> Iterator[Any]:
    connection = connect(env.postgres_url, "dead-letter")
    try:
        with transaction(connection) as cursor:
            yield cursor
    finally:
        connection.close()


def _lane_order(letter: DeadLetter) -> tuple[Any, ...]:
    header = letter.header
    if header is None:
        return ("", 0, 0, 0, letter.number)
    return (header.department, header.lane, header.epoch, header.sequence, letter.number)


def _key(letter: DeadLetter) -> bytes:
    assert letter.header is not None
    return topics.lane_key(letter.header.department, letter.header.lane)


def _members(letter: DeadLetter) -> dict[str, Any]:
    header = letter.header
    return {
        "number": letter.number,
        "code": letter.code,
        "message": letter.message,
        "source": f"{letter.topic_id}/{letter.partition}/{letter.offset}",
        "bytes": letter.length,
        "note": None
        if header is None
        else {
            "origin": header.origin,
            "department": header.department,
            "lane": header.lane,
            "epoch": header.epoch,
            "sequence": header.sequence,
            "events": header.count,
            "signed_at": header.signed_at,
        },
    }


def _prospect(prospect: Prospect) -> dict[str, Any]:
    return {"state": prospect.state, "words": prospect.words, "entry": prospect.index}


def _line(letter: DeadLetter) -> str:
    header = letter.header
    seen = "-" if header is None else f"{header.department}/{header.lane}"
    number = "" if header is None else f"{header.epoch}.{header.sequence}"
    message = plain(letter.message[:_SHOWN_MESSAGE])
    return f"{letter.number:>8}  {letter.code:<24} {seen:<20} {number:<10} {message}"


def _shown(members: dict[str, Any]) -> Iterator[str]:
    for name in ("number", "code", "message", "source", "bytes", "sha256"):
        yield f"{name:<12}{plain(members[name])}"
    note = members["note"]
    if note is None:
        yield "note        none that can be read"
        return
    yield "note, which anybody may have written:"
    for name, value in note.items():
        yield f"  {name:<12}{plain(value)}"


def _sender(letter: DeadLetter) -> str:
    header = letter.header
    if header is None:
        return (
            "nobody is named in it; ask who may write to the intake topic (partition "
            f"{letter.partition}, offset {letter.offset})"
        )
    return plain(
        f"{header.department}, lane {header.lane}, epoch {header.epoch}, number "
        f"{header.sequence}, {header.count} events, signed at {header.signed_at}: by what its note "
        "says, which is not proven"
    )


def _todo(letter: DeadLetter, prospect: Prospect) -> str:
    if prospect.state == READY:
        return f"certledger dead-letter replay --number {letter.number}"
    if prospect.state == REPEATED:
        return "nothing: it is in the log"
    return MEANINGS[letter.code].todo


def _write_private(output: str, data: bytes) -> None:
    if output == "-":
        sys.stdout.buffer.write(data)
        return
    path = Path(output)
    try:
        path.unlink(missing_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "wb") as opened:
            opened.write(data)
    except OSError as err:
        raise Malformed("usage", f"{output} cannot be written: {err.strerror}") from err
