"""What the page says, one file per language; the server and the browser read the same files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("zh", "en")  # the first is for whom none is known of
# What stands in a named place of a checker's sentence; one word, where nothing is said here.
_PLACES = {
    "moment": r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))",
    "why": r"([^\n]+)",  # another sentence
    "list": r"([^\n]+)",  # sentences
}
_WORD = r"([^ \n]+)"
_NAMED = re.compile(r"\{(\w+)\}")


class Texts:
    """The texts of one language by key."""

    def __init__(self, language: str, texts: Mapping[str, Any]) -> None:
        self.language = language
        self.all = texts
        self.months: list[str] = texts["months"]

    def text(self, key: str) -> str:
        """The text of a key that must be there."""
        value = self.all[key]
        assert isinstance(value, str)
        return value

    def optional(self, key: str) -> str:
        """The text of a key, empty where there is none."""
        return str(self.all.get(key, ""))

    @cached_property
    def sentences(self) -> list[tuple[re.Pattern[str], list[str], str]]:
        """The checkers' sentences in this language, first fit first: pattern, the names of its
        places, and the text.
        """
        found = []
        for given, said in self.all["sentences"].items():
            parts = _NAMED.split(given)
            for n, part in enumerate(parts):
                parts[n] = _PLACES.get(part, _WORD) if n % 2 else re.escape(part)
            found.append((re.compile("".join(parts), re.ASCII), _NAMED.findall(given), said))
        return found

    def forms(self, key: str) -> Mapping[str, str]:
        """The forms of a text with a number: `one`, where the language has it, and `other`."""
        value = self.all[key]
        assert isinstance(value, dict)
        return value


@lru_cache(maxsize=len(LANGUAGES))
def load_texts(language: str) -> Texts:
    """The texts of one of LANGUAGES."""
    data = files(__package__).joinpath("texts", f"{language}.json").read_bytes()
    return Texts(language, json.loads(data))


@lru_cache(maxsize=len(LANGUAGES))
def load_operator_texts(language: str) -> Texts:
    """The same with those of the operator's page, which no browser has to fetch."""
    data = files(__package__).joinpath("operator", f"{language}.json").read_bytes()
    return Texts(language, {**load_texts(language).all, **json.loads(data)})


def choose_language(asked: str | None, remembered: str | None, accepted: str) -> str:
    """The language of an answer: the one asked for, the one chosen before, or the browser's first
    that the page has (Accept-Language, RFC 9110 section 12.5.4).
    """
    for language in (asked, remembered):
        if language in LANGUAGES:
            return str(language)
    ranked = []
    for place, part in enumerate(accepted.lower().split(",")[:20]):
        name, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight or 1)
        except ValueError:
            quality = 0.0
        ranked.append((-quality, place, name.strip().split("-", 1)[0]))
    return next((name for q, _, name in sorted(ranked) if q and name in LANGUAGES), LANGUAGES[0])
