"""What a stack needs before its first program starts: tables, topics, keys, entry 0, trust file.

Every step is safe to repeat: a crash in between is mended by the next start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from deploy.embedded.files import write_atomically, write_private
from deploy.errors import StackError
from deploy.stack import Settings
from deploy.witnesses import tell_embedded, write_trust
from ledger import keys, sheet, statuslist, topics
from ledger.cosignature import Cosigner
from ledger.errors import LedgerError, Unavailable
from ledger.kafka_address import SCRAM, client_settings, credentials_file, format_credentials
from ledger.note import MemorySigner
from ledger.postgres.connection import connect, transaction, user_of
from ledger.postgres.migrate import migrate, schema_gap
from ledger.postgres.roles import MIGRATOR, PROGRAMS, grant_privileges
from ledger.postgres.rows import read_registry
from ledger.postgres.store import create_ledger, read_genesis
from ledger.registry import operator_key_name
from streams.kafka_topics import create_topics, describe_topic
from streams.kafka_users import PROGRAMS as KAFKA_PROGRAMS
from streams.kafka_users import program_user, set_program_user
from streams.settings import GROUP

DEFAULT_PARTITIONS = 4


def prepare(settings: Settings) -> None:
    """Migrations, topics, genesis and the trust file; StackError with the reason otherwise."""
    try:
        _prepare(settings)
    except LedgerError as err:
        raise StackError(err.message) from err


def _prepare(settings: Settings) -> None:
    data = settings.data_dir
    connection = connect(settings.postgres_of(MIGRATOR), "setup")
    try:
        migrate(connection)
        if not schema_gap(connection).later:  # else a later version has given them, and more
            grant_privileges(
                connection,
                {
                    role: user_of(settings.postgres_of(role))
                    for role in PROGRAMS
                    if role in settings.roles
                },
            )
        create_topics(
            settings.kafka, int(os.environ.get("CERTLEDGER_PARTITIONS") or DEFAULT_PARTITIONS)
        )
        describe_topic(settings.kafka, topics.LOG)
        _ensure_kafka_users(settings)
        origin = _origin(data)
        _check_begun(data)
        checkpoint = _key(data, "checkpoint", origin)
        cosigner = _cosigner(data, origin)
        lists = _key(data, "statuslist", statuslist.key_name(origin))
        sheets = _key(data, "sheet", sheet.key_name(origin))
        try:
            stored, _ = read_genesis(connection)
        except Unavailable:
            operator = _key(data, "operator", operator_key_name(origin))
            create_ledger(
                connection, origin, str(checkpoint.key), str(operator.key), str(cosigner.key)
            )
            stored = origin
        if stored != origin:
            raise StackError(
                f"the database holds the ledger {stored}, the folder {data} has keys of {origin}: "
                "use the folder that belongs to this database"
            )
        with transaction(connection) as cursor:
            for trusted in read_registry(cursor, origin).checkpoint_keys:
                if trusted.until_size is None:
                    tell_embedded(data, str(trusted.key))
        write_trust(connection, data, (lists.key,), (sheets.key,))
    finally:
        connection.close()


def _ensure_kafka_users(settings: Settings) -> None:
    """Kafka credentials for each program, which may do what it does and nothing else."""
    if credentials_file(settings.kafka) is None:
        return
    ca = client_settings(settings.kafka).get("ssl_cafile")
    for program in KAFKA_PROGRAMS:
        path = credentials_file(settings.kafka_of(program))
        if path is None or path.exists():
            continue
        path.parent.mkdir(mode=0o700, exist_ok=True)
        password = secrets.token_urlsafe(24)
        group = os.environ.get("CERTLEDGER_GROUP") or GROUP
        set_program_user(settings.kafka, program, password, group)
        write_private(path, format_credentials(SCRAM, program_user(program), password, ca))


def _origin(data: Path) -> str:
    """The ledger's name: CERTLEDGER_ORIGIN at the first start, else one drawn for this folder."""
    path = data / "origin"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    if (data / "trust.json").exists():
        raise StackError(
            f"{path} is missing: the ledger of this folder has a name, the `origin` in its "
            "trust.json; put it back"
        )
    origin = os.environ.get("CERTLEDGER_ORIGIN") or f"localhost/certledger-{secrets.token_hex(4)}"
    write_atomically(path, origin.encode() + b"\n")
    return origin


def _check_begun(data: Path) -> None:
    """None unless the ledger of this folder was begun and one of its keys is gone since."""
    for name in ("checkpoint", "cosigner"):
        path = data / "keys" / f"{name}.key"
        if (data / "trust.json").exists() and not path.exists():
            raise StackError(
                f"{path} is missing: the ledger of this folder was begun with it, and nobody would "
                "believe another; put it back"
            )


def _cosigner(data: Path, origin: str) -> Cosigner:
    path = data / "keys" / "cosigner.key"
    if path.exists():
        return keys.load_cosigner(path)
    return keys.create_cosigner(path, origin)


def _key(data: Path, name: str, key_name: str) -> MemorySigner:
    folder = data / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.key"
    if path.exists():
        return keys.load_key(path)
    return keys.create_key(path, key_name)
