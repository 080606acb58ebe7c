"""A department's own folder: who it is, its keys, its salts, its share of the pseudonym secret.

DIR/departments/<id>/ (0700) holds publisher.json, bundle.key, registry.key, event-id.key,
salt-<n>.key, kafka.json (its Kafka credentials, where the cluster wants any) and what the publisher
writes (spool/, disclosures.ndjson, refused.ndjson);
DIR/pseudonym-<n>.key is shared by the departments of DIR. Every key file is 0600 and refused when
others can read it. event-id.key is never changed: under another one, what was published gets new
ids when it is published again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger import keys
from ledger.bundle import MAX_LANES, bundle_key_name
from ledger.checkpoint_keys import TrustedKey, format_keys, parse_keys
from ledger.errors import Malformed, Refused
from ledger.identity import check_department
from ledger.kafka_address import with_credentials
from ledger.note import Signer
from ledger.registry import registry_key_name

FORM = "certledger publisher v1"
MOST_HEARTBEAT_SECONDS = 300.0
_PSEUDONYM = re.compile(r"pseudonym-([1-9][0-9]{0,5})\.key")
_SECRET = re.compile(r"[0-9a-f]{64}\n")
_MEMBERS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "origin": str,
    "department": str,
    "checkpoint_keys": list,
    "time_zone": str,
    "lanes": int,
    "pseudonym_version": int,
    "salt_key_version": int,
    "silence_limit_seconds": (int, NoneType),
}


@dataclass(frozen=True, slots=True)
class PublisherConfig:
    """What a department needs to publish. `signer` signs bundles; secrets are 32 bytes each."""

    folder: Path
    origin: str
    department: str
    checkpoint_keys: tuple[TrustedKey, ...]  # a receipt's checkpoint is signed by those of its size
    zone: ZoneInfo
    lanes: int
    signer: Signer
    pseudonym_version: int
    pseudonym_key: bytes = field(repr=False)
    salt_key_version: int
    salt_key: bytes = field(repr=False)
    event_id_key: bytes = field(repr=False)
    silence_limit_seconds: int | None = None  # as declared; null: silent by nature

    @property
    def heartbeat_seconds(self) -> float:
        """How long a lane may stay without a bundle: four heartbeats within the declared limit."""
        limit = self.silence_limit_seconds
        return MOST_HEARTBEAT_SECONDS if limit is None else min(limit / 4, MOST_HEARTBEAT_SECONDS)

    def kafka_address(self, kafka: str) -> str:
        """The same Kafka, spoken to as the department where it has credentials of its own."""
        path = kafka_credentials_path(self.folder)
        return with_credentials(kafka, path) if path.exists() else kafka

    @property
    def source(self) -> str:
        """The CloudEvents source of what the department publishes itself."""
        return f"/departments/{self.department}"


def department_folder(data: Path, department: str) -> Path:
    """Where a department's folder is; Malformed when `department` is no department id."""
    check_department(department)
    return data / "departments" / department


def kafka_credentials_path(folder: Path) -> Path:
    """Where a department's folder has its Kafka credentials (`ledger.kafka_address`), if any."""
    return folder / "kafka.json"


def pseudonym_path(data: Path, version: int) -> Path:
    """Where a version of the pseudonym secret is, which the departments of `data` share."""
    return data / f"pseudonym-{version}.key"


def pseudonym_secrets(data: Path) -> dict[int, Path]:
    """The versions of the pseudonym secret that are in `data`, ascending, and their files."""
    found = {int(m[1]): p for p in data.glob("*") if (m := _PSEUDONYM.fullmatch(p.name))}
    return dict(sorted(found.items()))


def use_pseudonym_version(data: Path, version: int) -> list[str]:
    """Let all departments of `data` make pseudonyms under another version; who did not yet.

    Publishers that run go on under the version that they began with.
    """
    load_secret(pseudonym_path(data, version))
    departments = [path.parent.name for path in sorted(data.glob("departments/*/publisher.json"))]
    return [name for name in departments if change_settings(data, name, pseudonym_version=version)]


def change_settings(data: Path, department: str, **changes: Any) -> bool:
    """Change what a department's publisher.json says; whether it said otherwise."""
    path = department_folder(data, department) / "publisher.json"
    value = _read_settings(path)
    changed = {**value, **changes}
    if changed != value:
        _check(changed, path)
        _write_settings(path, changed, os.replace)
    return changed != value


def create_publisher_folder(
    data: Path,
    *,
    origin: str,
    department: str,
    checkpoint_keys: Sequence[TrustedKey],
    time_zone: str,
    lanes: int,
    pseudonym_version: int = 1,
    salt_key_version: int = 1,
    silence_limit_seconds: int | None = None,
) -> PublisherConfig:
    """The department's folder with new keys; what an interrupted creation left there is kept.

    publisher.json is written last: with it the folder is complete. A folder that says otherwise
    than the arguments is refused `usage`.
    """
    folder = department_folder(data, department)
    value = {
        "format": FORM,
        "origin": origin,
        "department": department,
        "checkpoint_keys": format_keys(checkpoint_keys),
        "time_zone": time_zone,
        "lanes": lanes,
        "pseudonym_version": pseudonym_version,
        "salt_key_version": salt_key_version,
        "silence_limit_seconds": silence_limit_seconds,
    }
    _check(value, folder)
    settings = folder / "publisher.json"
    if settings.exists():
        if _read_settings(settings) != value:
            raise Malformed("usage", f"{settings} exists and says otherwise")
        if not (folder / "spool").exists():  # nothing was published: no id depends on another key
            create_secret(folder / "event-id.key")
        return load_publisher_config(data, department)
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)
    os.chmod(folder, 0o700)
    _create_once(folder / "bundle.key", bundle_key_name(origin, department))
    _create_once(folder / "registry.key", registry_key_name(origin, department))
    create_secret(folder / "event-id.key")
    create_secret(folder / f"salt-{salt_key_version}.key")
    create_secret(pseudonym_path(data, pseudonym_version))
    _write_settings(settings, value, os.link)
    return load_publisher_config(data, department)


def load_publisher_config(data: Path, department: str) -> PublisherConfig:
    """The configuration in a department's folder; its key files must be readable by nobody else.

    Refused `unknown-department` without such a folder, Malformed `malformed-key` or `usage`.
    """
    folder = department_folder(data, department)
    settings = folder / "publisher.json"
    if not settings.exists():
        raise Refused(
            "unknown-department",
            f"no {settings}: this machine does not publish for {department} "
            "(certledger department add makes the folder)",
        )
    value = _read_settings(settings)
    if value["department"] != department:
        raise Malformed("usage", f"{settings} is of department {value['department']!r}")
    signer = keys.load_key(folder / "bundle.key")
    if signer.key.name != bundle_key_name(value["origin"], department):
        raise Malformed("malformed-key", f"{folder / 'bundle.key'} is a key of {signer.key.name}")
    return PublisherConfig(
        folder=folder,
        origin=value["origin"],
        department=department,
        checkpoint_keys=parse_keys(value["checkpoint_keys"]),
        zone=ZoneInfo(value["time_zone"]),
        lanes=value["lanes"],
        signer=signer,
        pseudonym_version=value["pseudonym_version"],
        pseudonym_key=load_secret(pseudonym_path(data, value["pseudonym_version"])),
        salt_key_version=value["salt_key_version"],
        salt_key=load_secret(folder / f"salt-{value['salt_key_version']}.key"),
        event_id_key=load_secret(folder / "event-id.key"),
        silence_limit_seconds=value["silence_limit_seconds"],
    )


def set_checkpoint_keys(data: Path, keys: Sequence[TrustedKey]) -> None:
    """Have all departments of a data folder expect the ledger's present keys on receipts."""
    for path in sorted(data.glob("departments/*/publisher.json")):
        value = {**_read_settings(path), "checkpoint_keys": format_keys(keys)}
        draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        with draft.open("w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise Malformed("usage", f"{path} is not JSON: {err}") from err
    if type(value) is not dict:
        raise Malformed("usage", f"{path} is not a JSON object")
    _check(value, path)
    return value


def _write_settings(path: Path, value: dict[str, Any], place: Callable[[Path, Path], None]) -> None:
    text = json.dumps(value, indent=1) + "\n"
    _write_new(path, lambda new: new.write_text(text, encoding="utf-8"), place)


def _check(value: dict[str, Any], path: Path) -> None:
    if value.keys() != _MEMBERS.keys():
        raise Malformed("usage", f"{path} must have the members {', '.join(_MEMBERS)}")
    for name, kind in _MEMBERS.items():
        if type(value[name]) not in (kind if isinstance(kind, tuple) else (kind,)):
            raise Malformed("usage", f"{path}: {name} is of another type")
    if value["format"] != FORM:
        raise Malformed("usage", f"{path}: format is {FORM!r}")
    if not 1 <= value["lanes"] <= MAX_LANES:
        raise Malformed("usage", f"{path}: lanes is a number from 1 to {MAX_LANES}")
    if min(value["pseudonym_version"], value["salt_key_version"]) < 1:
        raise Malformed("usage", f"{path}: versions are numbers from 1")
    if value["silence_limit_seconds"] is not None and value["silence_limit_seconds"] < 1:
        raise Malformed("usage", f"{path}: silence_limit_seconds is a number from 1, or null")
    parse_keys(value["checkpoint_keys"])
    try:
        ZoneInfo(value["time_zone"])
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise Malformed("usage", f"{path}: no time zone {value['time_zone']!r}") from err


def _create_once(path: Path, name: str) -> None:
    if path.exists():
        keys.load_key(path)
    else:
        _write_new(path, lambda new: keys.create_key(new, name))


def create_secret(path: Path) -> None:
    """32 random bytes in a file that only its owner can read; one that is there stays."""
    if path.exists():
        load_secret(path)
    else:
        _write_new(path, lambda new: new.write_text(os.urandom(32).hex() + "\n", encoding="ascii"))


def _write_new(
    path: Path,
    write: Callable[[Path], object],
    place: Callable[[Path, Path], None] = os.link,
) -> None:
    """Write a file that only its owner can read so that it is there whole or not at all.

    Another process may make the same file at the same time: the first one stays, with
    `os.replace` for `place` the last one.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    before = os.umask(0o077)
    try:
        write(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        try:
            place(new, path)
        except FileExistsError:
            return
    finally:
        os.umask(before)
        new.unlink(missing_ok=True)


def load_secret(path: Path) -> bytes:
    """The 32 bytes in a secret's file; Malformed `malformed-key` when others can read it."""
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(128)
    except FileNotFoundError as err:
        raise Malformed("malformed-key", f"the key file {path} is missing") from err
    except OSError as err:
        raise Malformed("malformed-key", f"{path} cannot be read: {err.strerror}") from err
    except UnicodeDecodeError:
        text = ""  # not `from err`: it would carry the file's bytes
    if mode & 0o077:
        raise Malformed(
            "malformed-key", f"{path} has mode {mode:04o}; a key file must be 0600 (chmod 600)"
        )
    if not _SECRET.fullmatch(text):
        raise Malformed("malformed-key", f"{path} must hold 64 hex digits and a newline")
    return bytes.fromhex(text)
