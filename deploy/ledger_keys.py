"""Rotating the ledger's own keys: new ones in files, a registry change, then the files in place.

A crash anywhere is mended by the same command again: what was done is not done twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from deploy.errors import StackError
from deploy.registration import Registration
from ledger.cosignature import Cosigner
from ledger.keys import create_cosigner, create_key, load_cosigner, load_key, load_signer
from ledger.note import MemorySigner
from streams.signing import FORMER, NEW


class NewKeys(NamedTuple):
    """The keys that sign and cosign checkpoints next."""

    checkpoint: MemorySigner
    cosigner: Cosigner


def prepare_keys(folder: Path, origin: str) -> NewKeys:
    """The new keys, made where they are not yet there: nothing signs with them so far."""
    checkpoint, cosigner = folder / f"checkpoint.key{NEW}", folder / f"cosigner.key{NEW}"
    return NewKeys(
        load_key(checkpoint) if checkpoint.exists() else create_key(checkpoint, origin),
        load_cosigner(cosigner) if cosigner.exists() else create_cosigner(cosigner, origin),
    )


def register_keys(registration: Registration, folder: Path, new: NewKeys) -> int:
    """Have the new keys sign every checkpoint of a size on, the old ones no more; that size."""
    now = _signing(registration)
    if str(new.checkpoint.key) in now:
        return now[str(new.checkpoint.key)]
    old = load_key(folder / "checkpoint.key")
    return registration.change_ledger_keys(old, new.checkpoint, str(new.cosigner.key)) + 1


def settle_files(registration: Registration, folder: Path) -> None:
    """The files of registered new keys in the place of the old ones, which stay beside them as
    `.old`: a checkpoint from before may still be unsigned.
    """
    now = _signing(registration)
    for name in ("checkpoint.key", "cosigner.key"):
        path, draft = folder / name, folder / f"{name}{NEW}"
        if draft.exists() and str(load_signer(draft).key) in now:
            former = folder / f"{name}{FORMER}"
            if path.exists():
                former.unlink(missing_ok=True)
                os.link(path, former)  # a crash here or next: the name is never without a key
            draft.replace(path)


def finish_rotation(registration: Registration, folder: Path) -> list[str]:
    """Remove the former keys' files, once nothing can need them: all retired keys of the registry.

    StackError while no checkpoint is published under the keys that sign now.
    """
    keys = registration.read().checkpoint_keys
    begin = max(k.from_size for k in keys)
    if registration.published_size() < begin:
        raise StackError(f"no checkpoint of {begin} leaves or more is published yet: try again")
    for name in ("checkpoint.key", "cosigner.key"):
        (folder / f"{name}{FORMER}").unlink(missing_ok=True)
    return [str(k.key) for k in keys if k.until_size is not None]


def _signing(registration: Registration) -> dict[str, int]:
    """The keys that sign now, with the size that each began at."""
    keys = registration.read().checkpoint_keys
    return {str(k.key): k.from_size for k in keys if k.until_size is None}
