"""The page's texts and dates: complete and alike in both languages, whatever a ledger says."""

from __future__ import annotations

import configparser
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.http.page.texts import LANGUAGES, choose_language, load_operator_texts, load_texts
from consumers.http.page.view import MAX_SHOWN, Wording
from consumers.words import REASONS, VERDICTS
from ledger.event import FIELDS, REVOCATION_KINDS
from ledger.verdict import NAMES

ROOT = Path(__file__).parents[2]
# What only a holder's list can say.
TERMS = r"certledger verify|\.evidence\.json|POST /v1/batch|JSON|PDF"
SENTENCES = "sentences"  # of the checkers, which are English: test_sentences.py
OF_HOLDERS = {"all-that-is-bound", "nothing-bound", "listed"}


def places(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(places, value.values()))
    return set(re.findall(r"\{(\w+)\}", value)) if isinstance(value, str) else set()


def test_both_languages_say_the_same() -> None:
    zh, en = (load_operator_texts(name).all for name in ("zh", "en"))
    assert zh.keys() == en.keys()
    for key in zh.keys() - {SENTENCES}:
        assert places(zh[key]) == places(en[key]), key
        assert zh[key], key
    assert len(zh["months"]) == len(en["months"]) == 12
    for texts, forms in ((en, {"one", "other"}), (zh, {"other"})):
        counted = [v for k, v in texts.items() if isinstance(v, dict) and k != SENTENCES]
        assert all(set(v) == forms for v in counted)


def test_chinese_is_chinese() -> None:
    for key, text in load_operator_texts("zh").all.items():
        words = " ".join(text.values()) if isinstance(text, dict) else str(text)
        said = re.sub(
            r"\{\w+\}|certledger verify|\.evidence\.json|POST /v1/batch|JSON|PDF", "", words
        )
        if re.search(r"[A-Za-z]{4,}", said):
            pytest.fail(f"{key} is not translated: {text}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_can_be_answered_has_a_text(language: str) -> None:
    texts = load_texts(language)
    for reason in REASONS.keys() - OF_HOLDERS:
        assert texts.text(f"reason.{reason}")
    for verdict in VERDICTS.keys() - OF_HOLDERS:
        assert texts.text(f"verdict.{verdict}")
    for name in NAMES:
        assert texts.text(f"check.{name}")
        assert texts.text(f"check.{name}.meaning")
    for kind in FIELDS:
        assert texts.text(f"event.{kind}")
    for kind in REVOCATION_KINDS:
        assert texts.text(f"event.revoked-{kind}")


def test_the_templates_and_the_code_use_every_text() -> None:
    folder = files("consumers.http.page")
    used = "".join(
        path.read_text()
        for part in (folder, folder.joinpath("templates"), folder.joinpath("assets"))
        for path in part.iterdir()
        if path.is_file()
    )
    computed = re.compile(r"(reason|verdict|next|event|fact|check|duration|error|many|evidence)\.")
    for key in load_operator_texts("en").all:
        if not computed.match(key):
            assert f'"{key}"' in used or f"'{key}'" in used, key


@pytest.mark.parametrize(
    ("language", "moment", "offset", "text"),
    [
        ("en", "2026-02-03T16:00:00Z", 480, "4 February 2026"),
        ("zh", "2026-02-03T16:00:00Z", 480, "2026年2月4日"),
        ("en", "2026-02-03T16:05:09.5Z", 0, "3 February 2026, 16:05 (UTC)"),
        ("zh", "2026-02-03T23:59:00+05:30", 330, "2026年2月3日 23:59（UTC+5:30）"),
        ("en", "2026-01-01T00:00:00-03:00", -180, "1 January 2026"),
        ("en", "9999-12-31T23:59:59Z", 480, "31 December 9999, 23:59 (UTC)"),
        ("en", "0001-01-01T00:00:01Z", -60, "1 January 1, 00:00 (UTC)"),
        ("en", "2026-02-03T00:00:01Z", 0, "3 February 2026, 00:00 (UTC)"),
    ],
)
def test_moments(language: str, moment: str, offset: int, text: str) -> None:
    assert Wording(load_texts(language), offset).moment(moment) == text


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "0 seconds", "0秒"),
        (1, "1 second", "1秒"),
        (119, "1 minute", "1分钟"),
        (7_200, "2 hours", "2小时"),
        (86_400, "1 day", "1天"),
        (8_640_000_000, "100,000 days", "100,000天"),
    ],
)
def test_lengths_of_time(seconds: int, english: str, chinese: str) -> None:
    assert Wording(load_texts("en")).duration(seconds) == english
    assert Wording(load_texts("zh")).duration(seconds) == chinese


@given(st.text(max_size=10_000))
def test_strangers_words_hide_nothing_and_end(text: str) -> None:
    shown = Wording(load_texts("en")).foreign(text)
    assert len(shown) <= MAX_SHOWN * 10 + 40
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\x00-\x1f]", shown)


@pytest.mark.parametrize(
    ("asked", "remembered", "accepted", "language"),
    [
        ("en", "zh", "zh", "en"),
        (None, "en", "zh-CN", "en"),
        ("xx", None, "en-GB,en;q=0.9", "en"),
        (None, None, "de, en;q=0.5, zh;q=0.4", "en"),
        (None, None, "en;q=0, zh;q=x", "zh"),
        (None, None, "", "zh"),
        (None, "<b>", "fr" * 5000, "zh"),
    ],
)
def test_whose_language(
    asked: str | None, remembered: str | None, accepted: str, language: str
) -> None:
    assert choose_language(asked, remembered, accepted) == language


def test_the_package_holds_every_file_of_the_page() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folder = ROOT / "consumers" / "http" / "page"
    patterns = config["options.package_data"]["consumers.http.page"].split(",")
    packed = {path for pattern in patterns for path in folder.glob(pattern.strip())}
    tracked = subprocess.run(
        ["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        assert name.endswith(".py") or folder / name in packed, name
