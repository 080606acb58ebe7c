"""The page's files: read once, addressed by the hash of all of them, so kept for ever."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

PREFIX = "/page"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
FOLDERS = ("assets", "texts", "verifier")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, plain and as gzip."""

    media_type: str
    data: bytes
    compressed: bytes


class Assets:
    """All files of FOLDERS by their path, such as `assets/page.css`."""

    def __init__(self) -> None:
        found: dict[str, Asset] = {}
        for folder in FOLDERS:
            _read(files(__package__).joinpath(folder), folder, found)
        self.files = found
        digest = sha256()
        for path, asset in sorted(found.items()):
            digest.update(f"{path}\0{len(asset.data)}\0".encode() + asset.data)
        self.version = digest.hexdigest()[:16]


def _read(place: Traversable, path: str, found: dict[str, Asset]) -> None:
    if place.is_dir():
        for child in place.iterdir():
            _read(child, f"{path}/{child.name}", found)
        return
    media_type = MEDIA_TYPES.get(path[path.rfind(".") :])
    if media_type is not None and place.is_file():
        data = place.read_bytes()
        found[path] = Asset(media_type, data, gzip.compress(data, mtime=0))
