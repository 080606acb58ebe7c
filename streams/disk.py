"""When a disk is too full to take more in: at 5 % or 2 GB free, whichever comes first."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .settings import SettingsError

DEFAULT = "5%,2GB"
VARIABLE = "CERTLEDGER_DISK_RESERVE"
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
    """The reserve in `5%,2GB`; SettingsError for what is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise SettingsError(f"{VARIABLE} is {text[:80]!r}: a share and a size, as {DEFAULT}")
    return Reserve(int(found[1]), int(found[2]) * _UNITS[found[3]])


def read_disk(folder: Path) -> tuple[int, int]:
    """(bytes free for us, bytes of all) of the file system that a folder is on; OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
