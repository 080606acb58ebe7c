"""The server's trust file, read again when it changes."""

from __future__ import annotations

from pathlib import Path

from ledger.errors import LedgerError, Unavailable
from ledger.trust import MAX_TRUST, Trust, parse_trust


class TrustFile:
    """The trust file at a path, which the ledger's programs write anew when keys change."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], bytes, Trust] | None = None

    def load(self) -> Trust:
        """What to trust; Unavailable `unreachable` when there is no file."""
        return self._current()[1]

    def data(self) -> bytes:
        """The file's bytes."""
        return self._current()[0]

    def _current(self) -> tuple[bytes, Trust]:
        if self._path is None:
            raise Unavailable("unreachable", "CERTLEDGER_TRUST names no trust file")
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
            if self._read is None or self._read[0] != seen:
                with self._path.open("rb") as file:
                    data = file.read(MAX_TRUST + 1)
                self._read = (seen, data, parse_trust(data))
        except OSError as err:
            raise Unavailable("unreachable", f"no trust file: {err.strerror}") from err
        except LedgerError as err:  # the server's own fault, not the caller's
            raise Unavailable("unreachable", f"the trust file is none: {err.message}") from err
        return self._read[1], self._read[2]
