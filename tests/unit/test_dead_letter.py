"""What dead letters' codes mean, and whose they seem to be."""

import re
from pathlib import Path

from ledger.dead_letter import HEAD_BYTES, MEANINGS, seen_header
from tests import world

FORMATS = Path(__file__).parents[2] / "ledger" / "FORMATS.md"


def test_every_code_of_a_dead_letter_is_explained() -> None:
    rows = re.findall(r"^\| \d \|.*\| dead letter \| (.*) \|$", FORMATS.read_text(), re.MULTILINE)
    codes = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    assert codes == MEANINGS.keys()
    for meaning in MEANINGS.values():
        assert meaning.means.endswith(".")
        assert meaning.todo.endswith(".")


def test_a_damaged_record_still_says_whose_it_seems() -> None:
    record = world.make_record([world.make_event("issued", "1")], sequence=7)
    header = seen_header((record[:-5] + b"?" * 90_000)[:HEAD_BYTES])
    assert header is not None
    assert (header.department, header.lane, header.sequence) == ("a", 0, 7)
    for data in (b"", b"CLR1", b"CLR1" + bytes(4), record[:40], b"hello", b"CLR1\xff\xff\xff\xff"):
        assert seen_header(data) is None
