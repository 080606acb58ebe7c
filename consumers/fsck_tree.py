"""fsck, the tree: leaf hashes to tiles, head and every checkpoint; which of two copies is damaged.

Works block by block: 256 entries beside their tile. Where an entry and its stored leaf hash
differ, the hash above or a signed root says which of them changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import product

from ledger import merkle
from ledger.checkpoint import parse_checkpoint
from ledger.checkpoint_keys import TrustedKey, check_signed
from ledger.errors import LedgerError
from ledger.postgres.scan import Scan

from .fsck_report import Merge, Report

WIDTH = 256
_MAX_DOUBTS = 8  # differing leaves of a block for which every combination is tried


class Tree:
    """The tree below the head, recomputed."""

    def __init__(
        self, scan: Scan, report: Report, origin: str, keys: tuple[TrustedKey, ...], allocated: int
    ) -> None:
        self._report = report
        self._origin, self._keys = origin, keys
        head = scan.row("scan_head")
        if head is None:
            report.add("head", "head", "there is no tree head")
        self.size: int = 0 if head is None else head[0]
        self.root: bytes = merkle.EMPTY_ROOT if head is None else head[1]
        if self.size > allocated:
            report.add("head", "head", f"{self.size} leaves, {allocated} entries are allocated")
        self._tiles = Merge(
            scan.stream("scan_tiles"),
            lambda row: report.add("tile", f"tile 0/{row[0]}", "lies outside the tree"),
        )
        self._upper: dict[tuple[int, int], bytes] = {
            (level, index): data for level, index, data in scan.rows("scan_upper_tiles")
        }
        self._checkpoints = Merge(
            scan.stream("scan_checkpoints"),
            lambda row: report.add(
                "checkpoint", f"checkpoint {row[0]}", f"no size of the tree, which has {self.size}"
            ),
        )
        self._peaks: list[tuple[int, bytes]] = []  # (leaves, hash) of complete subtrees
        self._done = 0
        self._broken = False
        self._level1: list[bytes] = []
        self.largest = 0  # size of the largest checkpoint that was checked
        self.status_due: list[int] = []  # sizes of all checkpoints so far

    def block(self, number: int, entries: Sequence[bytes | None]) -> list[bytes | None]:
        """The true leaf hashes of a block's entries, as far as they are known.

        A hash that is not its entry's means that the entry is damaged, which is reported.
        """
        begin = number * WIDTH
        own = [None if e is None else merkle.leaf_hash(e) for e in entries]
        inside = max(0, min(self.size - begin, WIDTH))
        own += [None] * (inside - len(own))
        rows = self._tiles.take(number) if inside else []
        data = rows[0][1] if rows else b""
        if inside and not rows:
            self._report.add("tile", f"tile 0/{number}", "is missing")
        elif len(data) != 32 * inside:
            self._report.add(
                "tile", f"tile 0/{number}", f"holds {len(data) // 32} hashes, {inside} leaves"
            )
        stored: list[bytes | None] = [
            data[32 * i : 32 * i + 32] if 32 * i + 32 <= len(data) else None for i in range(inside)
        ]
        signed = self._read_checkpoints(begin + 1, begin + inside)
        true = self._resolve(number, own[:inside], stored, signed)
        for position, (mine, kept, right) in enumerate(zip(own, stored, true, strict=False)):
            index = begin + position
            if mine is None:
                continue
            if mine != right:
                self._report.add("entry", f"entry {index}", "its bytes are not what was hashed")
            elif kept is not None and kept != right:
                self._report.add(
                    "tile", f"tile 0/{number}", f"hash {position} is not that of entry {index}"
                )
        self._append(true, signed)
        self._report.count("leaves", inside)
        return [*true, *own[inside:]]

    def _read_checkpoints(self, first: int, last: int) -> dict[int, bytes]:
        """Size to signed root of the checkpoints that end in a block; bad ones are reported."""
        found: dict[int, bytes] = {}
        for size in range(first, last + 1):
            for _, data, _ in self._checkpoints.take(size):
                place = f"checkpoint {size}"
                try:
                    checkpoint, note = parse_checkpoint(data)
                    if self._keys:
                        check_signed(self._keys, checkpoint, note)
                except LedgerError as err:
                    self._report.add("checkpoint", place, err.message)
                    continue
                if checkpoint.origin != self._origin or checkpoint.size != size:
                    self._report.add(
                        "checkpoint", place, f"is of {checkpoint.origin} and size {checkpoint.size}"
                    )
                    continue
                found[size] = checkpoint.root
                self.status_due.append(size)
                self.largest = size
                self._report.count("checkpoints")
        return found

    def _resolve(
        self,
        number: int,
        own: Sequence[bytes | None],
        stored: Sequence[bytes | None],
        signed: dict[int, bytes],
    ) -> list[bytes | None]:
        true = [kept if mine is None else mine for mine, kept in zip(own, stored, strict=True)]
        doubts = [
            i
            for i, (mine, kept) in enumerate(zip(own, stored, strict=True))
            if mine is not None and kept is not None and mine != kept
        ]
        if not doubts or None in true:
            return true
        best, score = list(true), 0
        choices = (
            product((False, True), repeat=len(doubts))
            if len(doubts) <= _MAX_DOUBTS
            else [(False,) * len(doubts), (True,) * len(doubts)]
        )
        for choice in choices:
            tried = list(true)
            for position, kept in zip(doubts, choice, strict=True):
                if kept:
                    tried[position] = stored[position]
            agreeing = self._agreeing(number, [h for h in tried if h is not None], signed)
            if agreeing > score:
                best, score = tried, agreeing
        return best

    def _agreeing(self, number: int, hashes: list[bytes], signed: dict[int, bytes]) -> int:
        """How many of the hashes above a block agree with these leaves."""
        begin, agreeing = number * WIDTH, 0
        if len(hashes) == WIDTH:
            above = self._upper.get((1, number // WIDTH), b"")
            at = number % WIDTH * 32
            agreeing += merkle.root(hashes) == above[at : at + 32]
        expected = [(size, signed[size]) for size in [*signed][-3:]]
        if begin + len(hashes) == self.size:
            expected.append((self.size, self.root))
        if not self._broken:
            for size, root in expected:
                peaks = list(self._peaks)
                for leaf in hashes[: size - begin]:
                    _push(peaks, leaf)
                agreeing += _root(peaks) == root
        return agreeing

    def _append(self, hashes: Sequence[bytes | None], signed: dict[int, bytes]) -> None:
        if self._broken:
            return
        for leaf in hashes:
            if leaf is None:
                self._broken = True
                self._report.add(
                    "incomplete",
                    f"tree from entry {self._done}",
                    "neither the entry nor its stored hash is there: no root was checked after it",
                )
                return
            _push(self._peaks, leaf)
            self._done += 1
            expected = signed.get(self._done)
            if expected is not None and _root(self._peaks) != expected:
                self._report.add(
                    "checkpoint",
                    f"checkpoint {self._done}",
                    "its root is not the tree's: the log was another when it was signed",
                )
        if len(hashes) == WIDTH:
            self._level1.append(merkle.root([h for h in hashes if h is not None]))

    def finish(self) -> None:
        """Head, tiles above the lowest, checkpoints beyond the head."""
        self._tiles.rest()
        if not self._broken and self._done == self.size and _root(self._peaks) != self.root:
            self._report.add("head", "head", f"its root is not that of its {self.size} leaves")
        self._checkpoints.rest()
        if not self._broken:
            self._check_upper()

    def _check_upper(self) -> None:
        level, hashes = 1, self._level1
        while hashes:
            for index in range((len(hashes) + WIDTH - 1) // WIDTH):
                expected = b"".join(hashes[index * WIDTH : (index + 1) * WIDTH])
                data = self._upper.pop((level, index), None)
                place = f"tile {level}/{index}"
                if data is None:
                    self._report.add("tile", place, "is missing")
                elif data != expected:
                    wrong = [
                        i // 32
                        for i in range(0, max(len(data), len(expected)), 32)
                        if data[i : i + 32] != expected[i : i + 32]
                    ]
                    self._report.add("tile", place, f"hash {wrong[0]} is not the tree's")
                self._report.count("tiles")
            hashes = [
                merkle.root(hashes[i : i + WIDTH]) for i in range(0, len(hashes) - WIDTH + 1, WIDTH)
            ]
            level += 1
        for level, index in self._upper:
            self._report.add("tile", f"tile {level}/{index}", "lies outside the tree")


def _push(peaks: list[tuple[int, bytes]], leaf: bytes) -> None:
    """Append a leaf to the complete subtrees of a growing tree."""
    size, value = 1, leaf
    while peaks and peaks[-1][0] == size:
        value = sha256(b"\x01" + peaks.pop()[1] + value).digest()
        size *= 2
    peaks.append((size, value))


def _root(peaks: Sequence[tuple[int, bytes]]) -> bytes:
    """The root over complete subtrees."""
    if not peaks:
        return merkle.EMPTY_ROOT
    value = peaks[-1][1]
    for _, left in reversed(peaks[:-1]):
        value = sha256(b"\x01" + left + value).digest()
    return value
