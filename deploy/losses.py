"""`certledger accept-loss`: what Kafka lost, and the operator's logged word to go on without it.

Nothing here makes less of what was signed: a log topic is given up only where every witness and all
receipts know no more than this database.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer import fetcher
from kafka.errors import KafkaError

from consumers.verifier import print_safely
from consumers.words import plain
from deploy.environment import Environment
from deploy.witnesses import policy_path
from ledger import kafka_batches, topics
from ledger.errors import Conflict, LedgerError, Malformed, Refused, Unavailable
from ledger.kafka_address import client_settings
from ledger.loss import (
    Loss,
    LostIntake,
    LostLog,
    LostRecords,
    loss_members,
    loss_text,
)
from ledger.postgres.connection import connect, transaction
from ledger.postgres.rows import read_intake_topic, read_origin, read_registry
from ledger.postgres.sequencing import Sequencing
from ledger.postgres.statements import sql
from ledger.receipt import RECEIPT_FORM, parse_message, parse_receipt
from streams.kafka_topics import describe_topic
from streams.logwriter import read_end
from streams.sequencer import make_witnesses, read_policy

_LAST_RECEIPTS = 200  # of each partition: they are sent in order, a restart repeats some
_SECONDS = 30
kafka_batches.guard(fetcher)


_DESCRIPTION = """\
Where Kafka lost records of the intake or the log topic, worker and sequencer stop. Without LOSS
this shows what is lost, and what was declared lost before. With LOSS, as it was shown, and a
reason, the operator's key signs that it is lost for good: the statement becomes an entry of the
log, which auditors and `certledger fsck` show, and the programs go on at their next start.
Departments send again what has no receipt.

What was signed is never given up: a database that knows less than the witnesses, the receipts or
what is left of the log topic goes on by `certledger restore` alone."""


def add_commands(commands: Any) -> None:
    """Add `accept-loss` to the command line."""
    parser = commands.add_parser(
        "accept-loss",
        help="show what Kafka lost, and go on without it by the operator's logged word",
        description=_DESCRIPTION,
        epilog="examples:\n  certledger accept-loss\n"
        "  certledger accept-loss records:xfd5jGnYRKqHH6ZQXv3ELw:1:41:52 --reason 'retention of a "
        "week'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("loss", metavar="LOSS", nargs="?", help="what is lost, as it is shown")
    parser.add_argument("--reason", metavar="TEXT", help="public, for ever: no personal data")
    parser.add_argument("--json", action="store_true", help="as JSON on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    """certledger accept-loss; 1 where something is lost and nothing was declared."""
    registration = env.registration()
    try:
        declared = registration.read().losses
        if args.loss is not None and not args.reason:
            raise Malformed("usage", "--reason TEXT is needed: everybody will read it")
        found = find_losses(env.postgres_url, env.kafka, [loss for _, loss in declared])
        if args.loss is None:
            _show(args, declared, found)
            return int(bool(found))
        missing = next((loss for loss in found if loss_text(loss) == args.loss), None)
        if missing is None:
            raise Refused("no-such-loss", f"{args.loss[:200]!r} is not what is missing now")
        if isinstance(missing, LostLog):
            _check_signed(env, missing)
        chosen = replace(missing, reason=args.reason)
        index = registration.declare_loss(chosen)
    finally:
        registration.close()
    if args.json:
        print(json.dumps({"log_index": index, **loss_members(chosen)}))
    else:
        print(f"declared lost by entry {index}: the programs go on at their next start")
    return 0


def _show(
    args: argparse.Namespace, declared: tuple[tuple[int, Loss], ...], found: list[Loss]
) -> None:
    if args.json:
        rows = [{"log_index": index, **loss_members(loss)} for index, loss in declared]
        lost = [{"loss": loss_text(loss), **loss_members(loss)} for loss in found]
        print(json.dumps({"lost": lost, "declared": rows}, ensure_ascii=False))
        return
    for index, loss in declared:
        print_safely(plain(f"entry {index} declares lost: {loss.words()} ({loss.reason})"))
    for loss in found:
        print(f"LOST {loss.words()}\n  certledger accept-loss {loss_text(loss)} --reason …")
    if not found:
        print("nothing else is missing")


def find_losses(postgres: str, kafka: str, declared: list[Loss]) -> list[Loss]:
    """What the topics lack of what comes next, beside what was declared already.

    Conflict `offset-jump` where the intake topic ends before what was taken: it would give the
    same offsets again, and has to be made anew.
    """
    with closing(connect(postgres, "losses")) as connection:
        with transaction(connection) as cursor:
            topic_id = read_intake_topic(cursor, read_registry(cursor, read_origin(cursor)))
            cursor.execute(sql("read_intake"), {"topic_id": topic_id})
            taken = {partition: offset for partition, offset, _ in cursor.fetchall()}
        store = Sequencing(connection)
        log, size = store.log_topic(), store.head().size
    found: list[Loss] = []
    now, partitions = describe_topic(kafka, topics.EVENTS)
    if topic_id is not None and now != topic_id:
        found.append(LostIntake(topic_id, now, tuple(sorted(taken.items()))))
    elif topic_id is not None:
        found += _lost_records(kafka, topic_id, {n: taken[n] for n in partitions if n in taken})
    became, _ = describe_topic(kafka, topics.LOG)
    end = read_end(kafka)
    if log is not None and log.last_offset >= (0 if log.topic_id != became else end):
        found.append(LostLog(log.topic_id, log.last_offset, became, end, size))
    known = {loss_text(loss) for loss in declared}
    return [loss for loss in found if loss_text(loss) not in known]


def _lost_records(kafka: str, topic_id: str, taken: dict[int, int]) -> Iterator[LostRecords]:
    places = {TopicPartition(topics.EVENTS, n): offset for n, offset in sorted(taken.items())}
    with closing(_consumer(kafka)) as consumer:
        begins, ends = consumer.beginning_offsets([*places]), consumer.end_offsets([*places])
    for place, offset in places.items():
        if ends[place] < offset:
            raise Conflict(
                "offset-jump",
                f"partition {place.partition} ends at {ends[place]}, {offset} is next: the intake "
                "topic lost what was taken, and has to be made anew",
            )
        if begins[place] > offset:
            yield LostRecords(topic_id, place.partition, offset, begins[place] - 1)


def _check_signed(env: Environment, lost: LostLog) -> None:
    """None when nobody knows of more than was signed here: Refused `going-back`, or Unavailable
    where a witness cannot be asked.
    """
    with closing(connect(env.postgres_url, "losses")) as connection:
        store = Sequencing(connection)
        kept, trusted = store.largest_checkpoint(), store.checkpoint_keys()
    witnesses = make_witnesses(read_policy(policy_path(env.data)), env.postgres_url)
    try:
        missing = witnesses.compare(lost.size, kept, [each.key for each in trusted])
    finally:
        witnesses.close()
    if missing:
        raise Unavailable(
            "quorum-missing", f"every witness must be asked first: {', '.join(missing)}"
        )
    for value in _last_receipts(env.kafka):
        try:
            if parse_message(value)["format"] != RECEIPT_FORM:
                continue
            size = parse_receipt(value, trusted).size
        except LedgerError:
            continue  # anybody's noise
        if size > lost.size:
            raise Refused(
                "going-back",
                f"a receipt stands under a checkpoint of {size} leaves, this database has "
                f"{lost.size}",
            )


def _last_receipts(kafka: str) -> Iterator[bytes]:
    with closing(_consumer(kafka)) as consumer:
        numbers = consumer.partitions_for_topic(topics.RECEIPTS) or set()
        places = [TopicPartition(topics.RECEIPTS, number) for number in numbers]
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        for place in places:
            consumer.assign([place])
            consumer.seek(place, max(begins[place], ends[place] - _LAST_RECEIPTS))
            while consumer.position(place) < ends[place]:
                found = consumer.poll(timeout_ms=_SECONDS * 1000)
                if not found:
                    raise Unavailable("unreachable", "Kafka gives no receipts")
                for record in found[place]:
                    yield record.value or b""


def _consumer(kafka: str) -> Any:
    try:
        return KafkaConsumer(
            **client_settings(kafka),
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
    except KafkaError as err:
        raise Unavailable("unreachable", f"Kafka: {err}") from err
