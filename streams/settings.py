"""Settings of the streams' programs, from the environment; all problems are reported at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import Malformed

from .disk import DEFAULT, VARIABLE, Reserve, parse_reserve

_RESERVE = parse_reserve(DEFAULT)
GROUP = "certledger-admission"


class SettingsError(Exception):
    """One or more settings are missing or wrong; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker, the sequencer, the relay and the follower need to know."""

    kafka: str  # bootstrap servers, HOST:PORT, comma-separated
    postgres: str  # libpq URL
    data: Path  # the stack's folder: keys and trust file
    checkpoint_key: Path
    cosigner_key: Path
    policy: Path  # C2SP tlog-policy: the witnesses to ask; no file, no witnesses
    group: str
    statuslist_key: Path
    passphrase_file: Path | None  # of encrypted keys
    signer: Path | None  # the socket of `certledger signer`; None: the keys are in files here
    status_lists_uri: str  # where new status lists are found; empty: by the ledger's origin
    reserve: Reserve = _RESERVE  # with less free on the disk, intake waits

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """CERTLEDGER_KAFKA, CERTLEDGER_POSTGRES, CERTLEDGER_DATA, CERTLEDGER_CHECKPOINT_KEY
        (default DATA/keys/checkpoint.key), CERTLEDGER_COSIGNER_KEY (DATA/keys/cosigner.key),
        CERTLEDGER_POLICY (DATA/policy), CERTLEDGER_GROUP, CERTLEDGER_STATUSLIST_KEY (default
        DATA/keys/statuslist.key), CERTLEDGER_STATUS_LISTS (a URL, default
        https://ORIGIN/v1/status-lists), CERTLEDGER_PASSPHRASE_FILE (of encrypted keys),
        CERTLEDGER_SIGNER (the socket of `certledger signer`), CERTLEDGER_DISK_RESERVE (what has to
        stay free on the disk, default 5%,2GB).
        """
        needed = {
            "CERTLEDGER_KAFKA": "bootstrap servers as HOST:PORT",
            "CERTLEDGER_POSTGRES": "a libpq URL as postgresql://…",
            "CERTLEDGER_DATA": "the stack's data folder",
        }
        problems = [
            f"{name} is not set: {what}" for name, what in needed.items() if not environ.get(name)
        ]
        uri = environ.get("CERTLEDGER_STATUS_LISTS") or ""
        if uri and not re.fullmatch(r"https?://[!-~]{1,500}[!-.0-~]", uri):
            problems.append(f"CERTLEDGER_STATUS_LISTS is {uri!r}: https://… without / at the end")
        reserve = _RESERVE
        try:
            reserve = parse_reserve(environ.get(VARIABLE) or DEFAULT)
        except Malformed as err:
            problems.append(err.message)
        if problems:
            raise SettingsError("\n".join(problems))
        data = Path(environ["CERTLEDGER_DATA"])
        file = environ.get("CERTLEDGER_PASSPHRASE_FILE")
        socket = environ.get("CERTLEDGER_SIGNER")
        return cls(
            kafka=environ["CERTLEDGER_KAFKA"],
            postgres=environ["CERTLEDGER_POSTGRES"],
            data=data,
            checkpoint_key=Path(
                environ.get("CERTLEDGER_CHECKPOINT_KEY") or data / "keys" / "checkpoint.key"
            ),
            cosigner_key=Path(
                environ.get("CERTLEDGER_COSIGNER_KEY") or data / "keys" / "cosigner.key"
            ),
            policy=Path(environ.get("CERTLEDGER_POLICY") or data / "policy"),
            group=environ.get("CERTLEDGER_GROUP") or GROUP,
            statuslist_key=Path(
                environ.get("CERTLEDGER_STATUSLIST_KEY") or data / "keys" / "statuslist.key"
            ),
            passphrase_file=Path(file) if file else None,
            signer=Path(socket) if socket else None,
            status_lists_uri=uri,
            reserve=reserve,
        )
