"""When a disk is too full to take more in: at 5 % or 2 GB free, whichever comes first."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import Malformed
from ledger.logs import get_log

log = get_log(__name__)

DEFAULT = "5%,2GB"
VARIABLE = "CERTLEDGER_DISK_RESERVE"
LOOK_SECONDS = 1.0
_FORM = re.compile(r"([0-9]{1,2})%,([0-9]{1,6})(MB|GB)")
_UNITS = {"MB": 10**6, "GB": 10**9}


@dataclass(frozen=True, slots=True)
class Reserve:
    """What has to stay free: a share in percent, and bytes."""

    percent: int
    bytes: int

    def is_reached(self, free: int, total: int) -> bool:
        """Whether less is free than has to be."""
        return free * 100 < total * self.percent or free < self.bytes


def parse_reserve(text: str) -> Reserve:
    """The reserve in `5%,2GB`; Malformed `usage` for what is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Malformed("usage", f"{VARIABLE} is {text[:80]!r}: a share and a size, as {DEFAULT}")
    return Reserve(int(found[1]), int(found[2]) * _UNITS[found[3]])


def read_disk(folder: Path) -> tuple[int, int]:
    """(bytes free for us, bytes of all) of the file system that a folder is on; OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def find_full(data: Path, reserve: Reserve) -> str | None:
    """Which disk under a stack's folder has less free than has to be, in words; None = there is
    room. An embedded PostgreSQL may have its folder elsewhere; servers of others are not seen.
    """
    for folder in _folders(data):
        try:
            free, total = read_disk(folder)
        except OSError:
            continue
        if reserve.is_reached(free, total):
            return (
                f"{free / 1e9:.1f} of {total / 1e9:.1f} GB are free at {folder}, needed are "
                f"{reserve.percent} % and {reserve.bytes / 1e9:.1f} GB"
            )
    return None


def _folders(data: Path) -> list[Path]:
    folders = [data, data / "kafka"]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        folders.append(Path(json.loads((data / "postgres" / "home.json").read_text())["folder"]))
    return folders


class DiskWatch:
    """Whether intake has to wait for room, looked up at most once in LOOK_SECONDS; logs changes."""

    def __init__(self, data: Path, reserve: Reserve) -> None:
        self._data, self._reserve = data, reserve
        self._looked = 0.0
        self._full: str | None = None

    def is_full(self) -> bool:
        """Whether nothing more may be taken in now."""
        now = time.monotonic()
        if self._looked and now - self._looked < LOOK_SECONDS:
            return self._full is not None
        self._looked = now
        before, self._full = self._full, find_full(self._data, self._reserve)
        if self._full is not None and before is None:
            log.error("intake-waits", disk_nearly_full=self._full)
        elif self._full is None and before is not None:
            log.warning("intake-goes-on")
        return self._full is not None
