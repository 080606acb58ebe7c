"""The keys that sign the ledger's checkpoints, from their files, new and former ones included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from ledger.checkpoint import Checkpoint
from ledger.checkpoint_keys import TrustedKey
from ledger.cosignature import Cosigner, CosignerKey
from ledger.errors import Unavailable
from ledger.keys import load_signer
from ledger.note import CheckingKey, Signature, Signer, VerifierKey, format_note

NEW, FORMER = ".new", ".old"  # ends of the names of key files while a rotation goes on, and after


Prove = Callable[[int], list[bytes]]
"""The consistency proof from a smaller size to the tree that is to be signed."""


class CheckpointSigner(Protocol):
    """What signs a sequencer's checkpoints: keys in files, or a process that holds them."""

    def known_keys(self, registered: Iterable[TrustedKey]) -> list[CheckingKey]:
        """Every key that may have signed a checkpoint of this ledger."""
        ...

    def sign_checkpoint(
        self, checkpoint: Checkpoint, keys: Iterable[VerifierKey | CosignerKey], prove: Prove
    ) -> bytes:
        """The note of a checkpoint, signed by `keys`."""
        ...


class KeyRing:
    """Signs with whatever keys a size asks for."""

    def __init__(self, signers: Iterable[Signer | Cosigner], files: Sequence[Path] = ()) -> None:
        """`files` are looked at again when a key is missing."""
        self._signers = {str(signer.key): signer for signer in signers}
        self._files = files

    @classmethod
    def of_files(cls, checkpoint_key: Path, cosigner_key: Path) -> KeyRing:
        """The keys in two files and in those that a rotation put beside them."""
        files = [
            path.with_name(path.name + end)
            for path in (checkpoint_key, cosigner_key)
            for end in ("", NEW, FORMER)
        ]
        ring = cls((), files)
        ring._load()
        return ring

    def known_keys(self, registered: Iterable[TrustedKey]) -> list[CheckingKey]:
        """Every key that may have signed a checkpoint of this ledger: those of its registry, and
        those at hand, which a database restored from before a rotation does not know.
        """
        found: dict[str, CheckingKey] = {str(k.key): k.key for k in registered}
        found.update({name: signer.key for name, signer in self._signers.items()})
        return list(found.values())

    def sign_checkpoint(
        self, checkpoint: Checkpoint, keys: Iterable[VerifierKey | CosignerKey], prove: Prove
    ) -> bytes:
        """The note of a checkpoint, cosigned now; nothing has to be proven to keys at hand."""
        return self.sign(checkpoint.text(), keys, int(time.time()))

    def sign(self, text: bytes, keys: Iterable[VerifierKey | CosignerKey], seconds: int) -> bytes:
        """The note of a checkpoint's text signed by `keys`, cosigned at `seconds` since 1970.

        Unavailable `key-missing` where one of them is not here.
        """
        return format_note(text, [self._signature(text, key, seconds) for key in keys])

    def _signature(self, text: bytes, key: VerifierKey | CosignerKey, seconds: int) -> Signature:
        if str(key) not in self._signers:
            self._load()
        signer = self._signers.get(str(key))
        if signer is None:
            raise Unavailable("key-missing", f"{key.name} with hash {key.key_hash.hex()} must sign")
        if isinstance(signer, Cosigner):
            return signer.cosign(text, seconds)
        return Signature(signer.key.name, signer.key.key_hash, signer.sign(text))

    def _load(self) -> None:
        for path in self._files:
            if path.exists():
                signer = load_signer(path)
                self._signers[str(signer.key)] = signer
