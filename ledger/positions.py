"""On which line of a JSON text a value stands: errors and findings point at the writer's file."""

from __future__ import annotations

import json
import re
from bisect import bisect_right

Path = tuple[str | int, ...]
_SPACE = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder(parse_int=str, parse_float=str)  # no limit on digits


class Positions:
    """Lines by path in a JSON text that `json` reads. What was walked through is remembered, so
    that many paths together cost about one reading of the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._children: dict[int, dict[str | int, int]] = {}

    def line(self, path: Path) -> int:
        """The line, counted from 1, of the value at `path`; of the last value on the way to it
        where the text has none. Of equal member names the last counts.
        """
        at = self._skip(0)
        for step in path:
            found = self._walk(at).get(step)
            if found is None:
                break
            at = found
        return bisect_right(self._breaks, at) + 1

    def _walk(self, at: int) -> dict[str | int, int]:
        known = self._children.get(at)
        if known is None:
            known = self._children[at] = self._read(at)
        return known

    def _read(self, at: int) -> dict[str | int, int]:
        found: dict[str | int, int] = {}
        opening = self._text[at]
        if opening not in "{[":
            return found
        at = self._skip(at + 1)
        while self._text[at] not in "}]":
            key: str | int = len(found)
            if opening == "{":
                key, at = _decoder.raw_decode(self._text, at)
                at = self._skip(self._skip(at) + 1)
            found[key] = at
            _, at = _decoder.raw_decode(self._text, at)
            at = self._skip(at)
            if self._text[at] == ",":
                at = self._skip(at + 1)
        return found

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return at if match is None else match.end()
