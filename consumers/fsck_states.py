"""fsck, what the log says of certificates and holders: millions of them are in memory at once, so
each is one string of bytes.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ledger.identity import HEAD
from ledger.lifecycle import Standing

_FORM = 2  # of marshal: nothing in it refers to anything else in it
_HOLDER = struct.Struct(">16sQ32s32s")


class Kept(NamedTuple):
    """A certificate as the log gives it."""

    key: bytes
    standing: Standing
    link: bytes
    holder: bytes | None
    events: bytes
    record: bytes  # its hash
    names: tuple[str, str]  # type and issuer
    number_hash: int
    deciders: bytes  # as its row has them


class Certificates:
    """By the first half of the map key, which is nobody else's."""

    def __init__(self) -> None:
        self._packed: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[Kept]:
        return map(_unpack, self._packed.values())

    def get(self, key: bytes) -> Kept | None:
        """The one with this half; its whole key may be another."""
        packed = self._packed.get(key[:HEAD])
        return None if packed is None else _unpack(packed)

    def put(self, kept: Kept) -> None:
        """Keep it in place of what was kept of it."""
        packed = marshal.dumps((kept.key, tuple(kept.standing), *kept[2:]), _FORM)
        self._packed[kept.key[:HEAD]] = packed

    def drop(self, key: bytes) -> None:
        """Forget the one with this half, if there is one."""
        self._packed.pop(key[:HEAD], None)


def _unpack(packed: bytes) -> Kept:
    key, standing, *rest = marshal.loads(packed)
    return Kept(key, Standing._make(standing), *rest)


class Holder(NamedTuple):
    """A holder as the log gives it."""

    key: bytes
    acts: int
    link: bytes
    digest: bytes  # SHA-256 over all acts as they are stored


class Holders:
    """By the first half of the map key, which is nobody else's."""

    def __init__(self) -> None:
        self._packed: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Holder]:
        return (_unpack_holder(*each) for each in self._packed.items())

    def get(self, key: bytes) -> Holder | None:
        """The one with this half; its whole key may be another."""
        packed = self._packed.get(key[:HEAD])
        return None if packed is None else _unpack_holder(key[:HEAD], packed)

    def put(self, holder: Holder) -> None:
        """Keep it in place of what was kept of it."""
        key, *rest = holder
        self._packed[key[:HEAD]] = _HOLDER.pack(key[HEAD:], *rest)

    def drop(self, key: bytes) -> None:
        """Forget the one with this half, if there is one."""
        self._packed.pop(key[:HEAD], None)


def _unpack_holder(head: bytes, packed: bytes) -> Holder:
    tail, *rest = _HOLDER.unpack(packed)
    return Holder(head + tail, *rest)
