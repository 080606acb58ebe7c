"""Where a Kafka is and as whom to speak to it: `HOST:PORT,HOST:PORT?credentials=FILE`.

The file holds mechanism, user and password, mode 0600: an address can be shown and logged. Without
`?credentials=` the cluster takes anybody. What stands behind it is the path, to the end.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .errors import Malformed

PLAIN, SCRAM = "PLAIN", "SCRAM-SHA-512"
FORM = "certledger kafka credentials v1"
_MARK = "?credentials="
_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_MEMBERS = {"format", "mechanism", "user", "password", "ca"}


def servers(address: str) -> list[str]:
    """The bootstrap servers, HOST:PORT each; Malformed `usage` for what is none."""
    found = [place.strip() for place in address.partition(_MARK)[0].split(",")]
    for place in found:
        if not _SERVER.fullmatch(place):
            raise Malformed("usage", f"not the address of a Kafka: {place[:80]!r} (HOST:PORT)")
    return found


def credentials_file(address: str) -> Path | None:
    """The file that an address names, None without one."""
    _, mark, path = address.partition(_MARK)
    return Path(path) if mark else None


def with_credentials(address: str, path: Path) -> str:
    """The same servers, spoken to by the credentials in a file."""
    return address.partition(_MARK)[0] + _MARK + str(path)


def format_credentials(mechanism: str, user: str, password: str, ca: str | None = None) -> str:
    """A credentials file's text. `ca`, a file of CA certificates, asks for TLS."""
    value = {"format": FORM, "mechanism": mechanism, "user": user, "password": password, "ca": ca}
    return json.dumps(value, indent=1) + "\n"


def client_settings(address: str) -> dict[str, Any]:
    """kafka-python's settings to connect by an address, its file read now.

    Malformed `malformed-key` for a file that others can read or that holds something else.
    """
    settings: dict[str, Any] = {"bootstrap_servers": servers(address)}
    path = credentials_file(address)
    if path is None:
        return settings
    value = _read(path)
    if value["ca"] is not None:
        settings["ssl_cafile"] = value["ca"]
    return settings | {
        "security_protocol": "SASL_PLAINTEXT" if value["ca"] is None else "SASL_SSL",
        "sasl_mechanism": value["mechanism"],
        "sasl_plain_username": value["user"],
        "sasl_plain_password": value["password"],
    }


def open_admin(client: Any, address: str, **settings: Any) -> Any:
    """kafka-python's KafkaAdminClient, given as `client`, connected by an address. When it cannot
    connect its thread is ended, which the library leaves behind at every attempt.
    """
    settings = client_settings(address) | settings
    made = client.__new__(client)
    made._closed = False  # what `close` asks, and the constructor sets last
    try:
        made.__init__(**settings)
    except BaseException:
        made.close()
        raise
    return made


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(16 * 1024)
    except (OSError, UnicodeDecodeError) as err:
        # not `from err`: a decoding error would carry the file's bytes
        raise Malformed(
            "malformed-key", f"the credentials {path} cannot be read: {type(err).__name__}"
        ) from None
    if mode & 0o077:
        raise Malformed(
            "malformed-key", f"{path} has mode {mode:04o}; credentials must be 0600 (chmod 600)"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if type(value) is not dict or value.keys() != _MEMBERS or value["format"] != FORM:
        raise Malformed("malformed-key", f"{path} does not hold {FORM!r}")
    texts = [value[name] for name in ("mechanism", "user", "password")]
    if not all(type(text) is str and text for text in texts):
        raise Malformed("malformed-key", f"{path}: mechanism, user and password are texts")
    if value["mechanism"] not in (PLAIN, SCRAM):
        raise Malformed("malformed-key", f"{path}: mechanism is {PLAIN} or {SCRAM}")
    if type(value["ca"]) not in (str, type(None)):
        raise Malformed("malformed-key", f"{path}: ca is the path of a file, or null")
    return value
