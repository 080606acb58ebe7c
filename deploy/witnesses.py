"""The witnesses of a stack: those that run beside it, and those that others run.

DATA/policy (C2SP tlog-policy) says whom the sequencer asks and which quorum is needed. Embedded
witnesses have their folders under DATA/witnesses; the last one's lies beside DATA, so that an older
copy of DATA does not bring back its state.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from consumers.witness.config import add_log, create, drop_log
from deploy.embedded.files import LOOPBACK, free_port, is_free, is_listening, write_atomically
from deploy.embedded.supervisor import Program
from deploy.errors import StackError
from ledger.checkpoint_keys import TrustedKey
from ledger.cosignature import parse_cosigner_key
from ledger.entry import parse_entry
from ledger.errors import LedgerError
from ledger.note import VerifierKey, parse_vkey
from ledger.policy import Policy, Witness, format_policy, parse_policy, simple_policy
from ledger.postgres.connection import transaction
from ledger.postgres.rows import read_origin, read_registry
from ledger.postgres.sequencing import read_published
from ledger.postgres.statements import sql
from ledger.postgres.store import read_genesis
from ledger.times import parse_moment
from ledger.trust import Trust, TrustedQuorum, format_trust, parse_trust

MAX_EMBEDDED = 16
"""How many witnesses a stack runs beside it, at most."""


def policy_path(data: Path) -> Path:
    """Where a stack's policy is."""
    return data / "policy"


def set_policy(data: Path, embedded: int | None, others: Sequence[str], quorum: int | None) -> None:
    """Write DATA/policy: `embedded` witnesses of our own and `others` as VKEY@URL, `quorum` of all.

    Nothing asked for leaves the policy as it is. StackError for what cannot be.
    """
    if embedded is None and not others and quorum is None:
        return
    if not 0 <= (embedded or 0) <= MAX_EMBEDDED:
        raise StackError(f"--witnesses {embedded}: a number up to {MAX_EMBEDDED} is needed")
    try:
        witnesses = [_embedded(data, number, embedded or 0) for number in range(embedded or 0)]
        witnesses += [_other(text) for text in others]
        threshold = len(witnesses) // 2 + 1 if quorum is None else quorum
        if witnesses and not 1 <= threshold <= len(witnesses):
            raise StackError(f"--quorum {threshold}: there are {len(witnesses)} witnesses")
        text = format_policy(simple_policy(witnesses, threshold))
    except LedgerError as err:
        raise StackError(f"the witnesses cannot be asked: {err.message}") from err
    write_atomically(policy_path(data), text)


def embedded_folders(data: Path) -> list[Path]:
    """The folders of the witnesses that run beside the stack."""
    found = data / "witnesses"
    return sorted(found.iterdir(), key=lambda path: path.name) if found.exists() else []


def witness_programs(data: Path) -> list[Program]:
    """The embedded witnesses that the policy names, on their ports, which change where taken."""
    path = policy_path(data)
    if not path.exists():
        return []
    policy = parse_policy(path.read_bytes())
    programs, changed = [], {}
    for folder in embedded_folders(data):
        vkey = str(create(folder, _name(data, folder.name))[0].key)
        witness = next((w for w in policy.witnesses if str(w.key) == vkey), None)
        if witness is None:
            continue
        port = int(witness.url.rpartition(":")[2])
        if not is_free(port):
            port = free_port(taken=set())
        changed[witness.name] = replace(witness, url=_url(port))
        programs.append(_program(folder, port))
    witnesses = tuple(changed.get(w.name, w) for w in policy.witnesses)
    if witnesses != policy.witnesses:
        write_atomically(path, format_policy(replace(policy, witnesses=witnesses)))
    return programs


def remove_outside(data: Path) -> None:
    """Remove the witness's folder that lies beside the data folder."""
    for folder in embedded_folders(data):
        if folder.is_symlink() and folder.resolve() == _outside(data, folder.name).resolve():
            shutil.rmtree(folder.resolve(), ignore_errors=True)


def tell_embedded(data: Path, vkey: str) -> None:
    """Have the embedded witnesses know a key that signs the ledger's checkpoints."""
    for folder in embedded_folders(data):
        add_log(folder, vkey)


def untell_embedded(data: Path, vkey: str) -> None:
    """Have the embedded witnesses know a retired key no longer."""
    for folder in embedded_folders(data):
        drop_log(folder, vkey)


def write_trust(
    connection: Connection,
    data: Path,
    status_list_keys: Sequence[VerifierKey] = (),
    sheet_keys: Sequence[VerifierKey] = (),
) -> None:
    """DATA/trust.json as the registry and DATA/policy now say; a changed policy counts from the
    next size to be published. Keys of status lists and sheets that are not given stay as they are.
    """
    origin, genesis = read_genesis(connection)
    with transaction(connection) as cursor:
        registry = read_registry(cursor, read_origin(cursor))
        keys = registry.checkpoint_keys
        keys = tuple(replace(key, until_time=_end(cursor, key)) for key in keys)
        operator = registry.value("operator")
        published = read_published(cursor)
    path = data / "trust.json"
    before = parse_trust(path.read_bytes()) if path.exists() else None
    quorums = () if before is None or before.origin != origin else before.quorums
    size = 0 if published is None else published[0] + 1
    policy = policy_path(data)
    wanted = parse_policy(policy.read_bytes()) if policy.exists() else None
    trust = Trust(
        origin,
        genesis,
        keys,
        status_list_keys=tuple(status_list_keys)
        or (() if before is None else before.status_list_keys),
        quorums=_with_policy(quorums, wanted, size),
        sheet_keys=tuple(sheet_keys) or (() if before is None else before.sheet_keys),
        operator=None if operator is None else parse_vkey(operator["vkey"]),
    )
    write_atomically(path, format_trust(trust))


def _end(cursor: Cursor, key: TrustedKey) -> int | None:
    """The first ledger time that a retired key has not signed, after its successor's entry."""
    if key.until_size is None:
        return None
    cursor.execute(sql("read_entries"), {"begin": key.until_size - 1, "end": key.until_size})
    entry = parse_entry(bytes(cursor.fetchall()[0][1]))
    return parse_moment(entry["time"]) + 1


def _with_policy(
    quorums: tuple[TrustedQuorum, ...], wanted: Policy | None, size: int
) -> tuple[TrustedQuorum, ...]:
    last = quorums[-1] if quorums and quorums[-1].until_size is None else None
    if last is not None and wanted is not None and _same(last.policy, wanted):
        return quorums
    if last is not None:
        ended = () if last.from_size >= size else (replace(last, until_size=size),)
        quorums = (*quorums[:-1], *ended)
    if wanted is not None and wanted.witnesses:
        quorums = (*quorums, TrustedQuorum(wanted, size, None))
    return quorums


def _same(one: Policy, other: Policy) -> bool:
    return format_policy(one, urls=False) == format_policy(other, urls=False)


def _embedded(data: Path, number: int, count: int) -> Witness:
    """Witness `number` of `count`, made where it is not yet there."""
    name = f"{number + 1}"
    folder = data / "witnesses" / name
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if count > 1 and number == count - 1 and not folder.exists():
        outside = _outside(data, name)
        outside.mkdir(mode=0o700, exist_ok=True)
        folder.symlink_to(outside, target_is_directory=True)
    key = create(folder, _name(data, name))[0].key
    before = policy_path(data)
    known = parse_policy(before.read_bytes()).witnesses if before.exists() else ()
    url = next((w.url for w in known if str(w.key) == str(key)), _url(free_port(taken=set())))
    return Witness(key.name, key, url)


def _other(text: str) -> Witness:
    vkey, found, url = text.rpartition("@")
    if not found:
        raise StackError(f"--witness {text[:80]!r}: VKEY@URL is needed")
    key = parse_cosigner_key(vkey)
    return Witness(key.name, key, url)


def _outside(data: Path, number: str) -> Path:
    return data.with_name(f"{data.name}-witness-{number}")


def _name(data: Path, number: str) -> str:
    return f"localhost/{data.name}/witness/{number}".replace(" ", "-").replace("+", "-")


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _program(folder: Path, port: int) -> Program:
    return Program(
        f"witness-{folder.name}",
        [
            *(sys.executable, "-m", "deploy.cli", "witness", "run"),
            *("--folder", str(folder), "--listen", f"{LOOPBACK}:{port}"),
        ],
        env={},
        ready=lambda: is_listening(port),
    )
