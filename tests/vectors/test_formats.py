"""ledger/FORMATS.md: its examples are what the code makes, every form has one."""

from __future__ import annotations

from tests.vectors.generate_formats import FORMATS, make_examples, render


def test_the_examples_are_what_the_code_makes() -> None:
    text = FORMATS.read_text()
    assert render(text) == text, "python tests/vectors/generate_formats.py --write"


def test_every_example_is_shown() -> None:
    text = FORMATS.read_text()
    missing = [name for name in make_examples() if f"<!-- example {name} -->" not in text]
    assert missing == []


def test_sections_keep_their_numbers() -> None:
    text = FORMATS.read_text()
    for heading in (
        "## 1 Canonical JSON",
        "## 4 Notes, keys and roles",
        "## 5 Bundles",
        "## 13 Evidence",
    ):
        assert f"\n{heading}" in text
