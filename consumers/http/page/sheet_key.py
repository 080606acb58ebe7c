"""The sheet key of this server."""

from __future__ import annotations

from pathlib import Path

from ledger.errors import LedgerError
from ledger.keys import load_key
from ledger.logs import get_log
from ledger.note import MemorySigner

from ..trusting import TrustFile

log = get_log(__name__)


class SheetKey:
    """The key that signs sheets and nothing else, where this server has one."""

    def __init__(self, path: Path | None, trust: TrustFile) -> None:
        self._trust = trust
        self._signer: MemorySigner | None = None
        try:
            if path is not None and path.exists():
                self._signer = load_key(path)
        except LedgerError as err:
            log.warning("no-sheets", file=path, error=err)

    @property
    def signer(self) -> MemorySigner | None:
        """The key, as far as the trust file names it: nobody would believe others."""
        try:
            known = self._trust.load().sheet_keys
        except LedgerError:
            return None
        return self._signer if self._signer is not None and self._signer.key in known else None
