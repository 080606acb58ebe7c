"""What a stack needs before its first program starts: tables, topics, keys, entry 0, trust file.

Every step is safe to repeat: a crash in between is mended by the next start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from deploy.errors import StackError
from deploy.stack import Settings
from ledger import keys, statuslist, topics
from ledger.errors import LedgerError, Unavailable
from ledger.note import MemorySigner
from ledger.postgres.connection import connect
from ledger.postgres.migrate import migrate
from ledger.postgres.store import create_ledger, read_genesis
from ledger.registry import operator_key_name
from ledger.trust import Trust, TrustedKey, format_trust
from streams.kafka_topics import create_topics, describe_topic

DEFAULT_PARTITIONS = 4


def prepare(settings: Settings) -> None:
    """Migrations, topics, genesis and the trust file; StackError with the reason otherwise."""
    try:
        _prepare(settings)
    except LedgerError as err:
        raise StackError(f"set-up failed: {err.message}") from err


def _prepare(settings: Settings) -> None:
    data = settings.data_dir
    connection = connect(settings.postgres, "setup")
    try:
        migrate(connection)
        create_topics(
            settings.kafka, int(os.environ.get("CERTLEDGER_PARTITIONS") or DEFAULT_PARTITIONS)
        )
        describe_topic(settings.kafka, topics.LOG)
        origin = _origin(data)
        checkpoint = _key(data, "checkpoint", origin)
        operator = _key(data, "operator", operator_key_name(origin))
        lists = _key(data, "statuslist", statuslist.key_name(origin))
        try:
            stored, genesis = read_genesis(connection)
        except Unavailable:
            genesis = create_ledger(connection, origin, str(checkpoint.key), str(operator.key))
            stored = origin
        if stored != origin:
            raise StackError(
                f"the database holds the ledger {stored}, the folder {data} has keys of {origin}: "
                "use the folder that belongs to this database"
            )
        trust = Trust(
            origin=origin,
            genesis=genesis,
            keys=(TrustedKey(checkpoint.key, 0, None),),
            status_list_keys=(lists.key,),
        )
        write_atomically(data / "trust.json", format_trust(trust))
    finally:
        connection.close()


def _origin(data: Path) -> str:
    """The ledger's name: CERTLEDGER_ORIGIN at the first start, else one drawn for this folder."""
    path = data / "origin"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    origin = os.environ.get("CERTLEDGER_ORIGIN") or f"localhost/certledger-{secrets.token_hex(4)}"
    write_atomically(path, origin.encode() + b"\n")
    return origin


def _key(data: Path, name: str, key_name: str) -> MemorySigner:
    folder = data / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.key"
    with contextlib.suppress(FileNotFoundError):
        return keys.load_key(path)
    return keys.create_key(path, key_name)


def write_atomically(path: Path, data: bytes) -> None:
    """A whole file or none, on disk before this returns."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
