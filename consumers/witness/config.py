"""A witness's folder: its keys, the logs that it knows, its state.

FOLDER/witness.key and, where it cosigns with ML-DSA-44 too, FOLDER/witness-ml-dsa.key, both 0600;
FOLDER/logs, a C2SP tlog-policy whose `log` lines name each log's keys, looked at again when it
changes; FOLDER/state.
"""

from __future__ import annotations

import os
from pathlib import Path

from ledger.cosignature import (
    COSIGNATURE_V1,
    ML_DSA_44,
    Cosigner,
    CosignerKey,
    parse_checkpoint_key,
)
from ledger.errors import Malformed
from ledger.keys import create_cosigner, load_cosigner
from ledger.note import VerifierKey
from ledger.policy import NONE, Policy, format_policy, parse_policy

_KEYS = {COSIGNATURE_V1: "witness.key", ML_DSA_44: "witness-ml-dsa.key"}
STATE = "state"


def create(folder: Path, name: str, ml_dsa: bool = False) -> list[Cosigner]:
    """A witness's folder with new keys; what an interrupted creation left there is kept."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind in (COSIGNATURE_V1, ML_DSA_44) if ml_dsa else (COSIGNATURE_V1,):
        if not (folder / _KEYS[kind]).exists():
            create_cosigner(folder / _KEYS[kind], name, kind)
    return load_cosigners(folder)


def load_cosigners(folder: Path) -> list[Cosigner]:
    """The witness's keys; Malformed `usage` where there is no witness."""
    files = [folder / file for file in _KEYS.values() if (folder / file).exists()]
    if not files:
        raise Malformed("usage", f"no witness in {folder}: make one with `certledger witness init`")
    return [load_cosigner(file) for file in files]


def add_log(folder: Path, vkey: str) -> None:
    """Have the witness know one more key of a log, whose origin is the key's name."""
    key = parse_checkpoint_key(vkey)
    logs = read_logs(folder)
    if str(key) not in map(str, logs):
        _write_logs(folder, (*logs, key))


def drop_log(folder: Path, vkey: str) -> None:
    """Have the witness know a key no longer, such as a retired one; one it never knew is fine."""
    key = parse_checkpoint_key(vkey)
    logs = read_logs(folder)
    kept = tuple(known for known in logs if str(known) != str(key))
    if kept != logs:
        _write_logs(folder, kept)


def _write_logs(folder: Path, logs: tuple[VerifierKey | CosignerKey, ...]) -> None:
    path = folder / "logs"
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(format_policy(Policy(logs, (), {}, NONE)))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def read_logs(folder: Path) -> tuple[VerifierKey | CosignerKey, ...]:
    """All keys of all logs that the witness knows."""
    path = folder / "logs"
    return parse_policy(path.read_bytes()).logs if path.exists() else ()


class Logs:
    """The known logs, read again when their file has changed."""

    def __init__(self, folder: Path) -> None:
        """Malformed `malformed-policy` when the file is none."""
        self._folder = folder
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, list[VerifierKey | CosignerKey]] = {}
        self.keys("")

    def keys(self, origin: str) -> list[VerifierKey | CosignerKey]:
        """The keys that sign the checkpoints of a log; none for an unknown one."""
        try:
            found = (self._folder / "logs").stat()
            seen = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            keys: dict[str, list[VerifierKey | CosignerKey]] = {}
            for key in read_logs(self._folder):
                keys.setdefault(key.name, []).append(key)
            self._keys, self._seen = keys, seen
        return self._keys.get(origin, [])
