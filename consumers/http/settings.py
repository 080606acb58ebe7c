"""Settings of the HTTP server, from the environment; all problems are reported at once."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_LISTEN = "127.0.0.1:8480"
DEFAULT_RATE = 200
LOG_PREFIX = "/log"  # of the tile API
_TOKEN = re.compile(rb"[!-~]{32,256}")


class SettingsError(Exception):
    """One or more settings are missing or wrong; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the HTTP server needs to know."""

    postgres: str  # libpq URL
    host: str = "127.0.0.1"
    port: int = 8480
    connections: int = 4  # to PostgreSQL, at most; as many questions are worked on at once
    trust: Path | None = None  # the trust file that answers are checked against
    kafka: str | None = None  # bootstrap servers, for bundles that come over HTTP
    rate: int = 0  # requests of one address in a second; 0 for no limit
    sheet_key: Path | None = None  # signs sheets of paper, and nothing else
    data: Path | None = None  # the folder whose disk is watched
    operator_token: bytes | None = field(default=None, repr=False)  # opens what is the operator's

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """CERTLEDGER_POSTGRES, CERTLEDGER_HTTP_LISTEN (HOST:PORT), CERTLEDGER_HTTP_CONNECTIONS,
        CERTLEDGER_TRUST (default: trust.json in CERTLEDGER_DATA), CERTLEDGER_KAFKA (without it no
        bundles come over HTTP), CERTLEDGER_HTTP_RATE (requests of one address in a second; 0: no
        limit), CERTLEDGER_SHEET_KEY (default: keys/sheet.key in CERTLEDGER_DATA; without it no
        sheets), CERTLEDGER_OPERATOR_TOKEN_FILE (whoever sends what stands in it sees /metrics and
        /operator; without it only callers on this machine do).
        """
        problems = []
        postgres = environ.get("CERTLEDGER_POSTGRES", "")
        if not postgres:
            problems.append("CERTLEDGER_POSTGRES is not set: a libpq URL as postgresql://…")
        listen = environ.get("CERTLEDGER_HTTP_LISTEN") or DEFAULT_LISTEN
        host, _, port = listen.rpartition(":")
        if not host or not _is_number(port, 65_535):
            problems.append(f"CERTLEDGER_HTTP_LISTEN is {listen!r}: HOST:PORT is needed")
        connections = environ.get("CERTLEDGER_HTTP_CONNECTIONS") or "4"
        if not _is_number(connections, 64):
            problems.append(f"CERTLEDGER_HTTP_CONNECTIONS is {connections!r}: 1 to 64 is needed")
        rate = environ.get("CERTLEDGER_HTTP_RATE") or str(DEFAULT_RATE)
        if rate != "0" and not _is_number(rate, 99_999):
            problems.append(f"CERTLEDGER_HTTP_RATE is {rate!r}: 0 to 99999 is needed")
        data = environ.get("CERTLEDGER_DATA")
        trust = environ.get("CERTLEDGER_TRUST") or (f"{data}/trust.json" if data else None)
        sheet = environ.get("CERTLEDGER_SHEET_KEY") or (f"{data}/keys/sheet.key" if data else None)
        token = None
        if token_file := environ.get("CERTLEDGER_OPERATOR_TOKEN_FILE"):
            try:
                token = _read_token(Path(token_file))
            except (OSError, SettingsError) as err:
                problems.append(f"CERTLEDGER_OPERATOR_TOKEN_FILE is {token_file!r}: {err}")
        if problems:
            raise SettingsError("\n".join(problems))
        return cls(
            postgres,
            host.strip("[]"),
            int(port),
            int(connections),
            Path(trust) if trust else None,
            environ.get("CERTLEDGER_KAFKA") or None,
            int(rate),
            Path(sheet) if sheet else None,
            Path(data) if data else None,
            token,
        )


def _read_token(path: Path) -> bytes:
    """The token in a file that only its owner may read."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise SettingsError(f"others may read it (mode {mode:o}): 600 is needed")
        token = file.read(1024).removesuffix(b"\n")
    if not _TOKEN.fullmatch(token):
        raise SettingsError("32 to 256 printable characters of ASCII on one line are needed")
    return token


def _is_number(text: str, limit: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= limit
