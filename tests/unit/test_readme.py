"""What the README shows about mappings is what the program says and does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from producers.mapping import EXPLANATION, parse_mapping

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_explanation_is_the_programs_own() -> None:
    found = re.search(
        r"<!-- explanation: begin -->\n```\n(.*?)```\n<!-- explanation: end -->", README, re.S
    )
    assert found is not None
    assert found[1].strip() == EXPLANATION.strip()


def test_the_example_mapping_is_one() -> None:
    found = re.search(r"<!-- example: mapping -->\n```json\n(.*?)```", README, re.S)
    assert found is not None
    mapping = parse_mapping(found[1])
    assert mapping.name == json.loads(found[1])["name"]
