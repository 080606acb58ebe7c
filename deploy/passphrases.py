"""Where commands get the passphrases of key files: a file, or the person at the terminal."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from ledger.errors import Malformed, Unavailable
from ledger.keys import passphrase_in, unlock_with


def unlock(file: str | None) -> None:
    """Have this process open encrypted keys by the passphrase in `file`, and write new ones under
    it; without a file, by what the person at the terminal says.
    """
    if file:
        unlock_with(passphrase_in(Path(file)), passphrase_in(Path(file)))
        return
    known: dict[Path, bytes] = {}

    def ask(path: Path) -> bytes:
        if path not in known:
            known[path] = _ask(f"passphrase of {path}: ")
        return known[path]

    unlock_with(ask)


def new_passphrase(file: Path | None) -> bytes:
    """The passphrase for keys that are to be encrypted: from a file, or asked for twice."""
    if file is not None:
        return passphrase_in(file)(file)
    first = _ask("new passphrase: ")
    if _ask("the same again: ") != first:
        raise Malformed("usage", "the two passphrases differ: nothing was changed")
    return first


def _ask(prompt: str) -> bytes:
    if not sys.stdin.isatty():
        raise Unavailable(
            "key-missing",
            f"{prompt.rstrip(': ')} is needed and there is no terminal to ask at: name its file in "
            "CERTLEDGER_PASSPHRASE_FILE",
        )
    answer = getpass.getpass(prompt, stream=sys.stderr).encode()
    if not answer:
        raise Malformed("usage", "an empty passphrase")
    return answer
