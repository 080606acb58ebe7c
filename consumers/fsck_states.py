"""fsck, what the log says of certificates and holders: millions of them are in memory at once, so
each is one string of bytes.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from ledger.identity import HEAD
from ledger.lifecycle import Standing

_FORM = 2  # of marshal: nothing in it refers to anything else in it
_HOLDER = struct.Struct(">32sQ32s32s")

State = TypeVar("State")


class States(Generic[State]):
    """By the first half of the map key, which is nobody else's."""

    def __init__(self, pack: Callable[[State], bytes], unpack: Callable[[bytes], State]) -> None:
        self._pack, self._unpack = pack, unpack
        self._packed: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[State]:
        return map(self._unpack, self._packed.values())

    def get(self, key: bytes) -> State | None:
        """The one with this half; its whole key may be another."""
        packed = self._packed.get(key[:HEAD])
        return None if packed is None else self._unpack(packed)

    def put(self, key: bytes, state: State) -> None:
        """Keep it in place of what was kept of it."""
        self._packed[key[:HEAD]] = self._pack(state)

    def drop(self, key: bytes) -> None:
        """Forget the one with this half, if there is one."""
        self._packed.pop(key[:HEAD], None)


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


class Holder(NamedTuple):
    """A holder as the log gives it."""

    key: bytes
    acts: int
    link: bytes
    digest: bytes  # SHA-256 over all acts as they are stored


def certificate_states() -> States[Kept]:
    """For certificates; none is known yet."""
    return States(_pack_certificate, _unpack_certificate)


def holder_states() -> States[Holder]:
    """For holders; none is known yet."""
    return States(lambda holder: _HOLDER.pack(*holder), lambda data: Holder(*_HOLDER.unpack(data)))


def _pack_certificate(kept: Kept) -> bytes:
    return marshal.dumps((kept.key, tuple(kept.standing), *kept[2:]), _FORM)


def _unpack_certificate(packed: bytes) -> Kept:
    key, standing, *rest = marshal.loads(packed)
    return Kept(key, Standing._make(standing), *rest)
