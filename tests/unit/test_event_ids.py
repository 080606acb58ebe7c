"""Event ids: the same change has the same id, and nobody without the key can try what it was."""

import json
from dataclasses import replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ledger.checkpoint_keys import TrustedKey
from ledger.errors import Malformed
from ledger.event import make_event_id
from producers.config import create_publisher_folder, load_publisher_config
from producers.importing import Row, Sheet, draft_config
from producers.lines import LineMaker
from tests.world import CHECKPOINT, ORIGIN, TYPE

CONFIG = replace(draft_config("a", None), event_id_key=b"k" * 32)
ROW = Row(2, ["N", "110105194912310021"], 0)
PLAIN = {
    "event": "issued", "certificate_type_code": TYPE, "certificate_number": "N",
    "time": "2026-03-01T00:00:00Z", "change_id": ROW.change,
}  # fmt: skip


def made_id(change: str = ROW.change, key: bytes = CONFIG.event_id_key) -> str:
    maker = LineMaker(replace(CONFIG, event_id_key=key), lambda: 0)
    line = maker.make({**PLAIN, "change_id": change})
    assert json.loads(line.line)["id"] == line.id
    return line.id


def test_the_same_row_read_twice_is_the_same_event() -> None:
    assert made_id() == made_id(Row(7, list(ROW.cells), 0).change)
    assert len({made_id(), made_id(Row(2, ROW.cells, 1).change), made_id("A-17")}) == 3


def test_a_mended_row_keeps_its_id(tmp_path: Path) -> None:
    refused = tmp_path / "r.refused.csv"
    refused.write_text(f"line,occurrence,reason,no,holder\n2,0,why,{','.join(ROW.cells)}\n")
    sheet = Sheet(refused)
    sheet.scan()
    assert [made_id(row.change) for row in sheet.rows()] == [made_id()]


def test_an_id_does_not_let_anybody_try_private_columns() -> None:
    """A register's row without its key: whoever guesses every column right cannot tell."""
    parts = ("a", CONFIG.source, f"{TYPE}/a/N", "issued")
    assert made_id() != make_event_id(*parts, ROW.change)
    assert made_id() != made_id(key=b"l" * 32)


class Odd(StrEnum):
    """Text to some printers, an object to others."""

    ID = "zz"

    def __str__(self) -> str:
        return "0" * 32

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    "said",
    [
        {"id": Odd.ID},
        {"id": UUID(int=1)},
        {"id": "0" * 31},
        {"event": "revoked", "revocation_kind": Odd.ID},
        {"event": "revoked", "revocation_kind": 1},
        {"certificate_number": Odd.ID},
        {"source": Odd.ID},
        {"claims": {"name": Odd.ID}},
        {"claims": {"name": UUID(int=1)}},
        {"certificate_identifier": date(2026, 1, 1)},
    ],
    ids=str,
)
def test_what_is_no_text_is_refused_before_it_is_signed(said: dict[str, Any]) -> None:
    plain = {name: value for name, value in PLAIN.items() if name != "change_id"}
    with pytest.raises(Malformed):
        LineMaker(CONFIG, lambda: 0).make({**plain, **said})


# --- the key ---


def create(data: Path) -> bytes:
    return create_publisher_folder(
        data, origin=ORIGIN, department="a", checkpoint_keys=[TrustedKey(CHECKPOINT.key, 0, None)],
        time_zone="Asia/Shanghai", lanes=1,
    ).event_id_key  # fmt: skip


def test_the_key_comes_with_the_folder_and_stays(tmp_path: Path) -> None:
    key = create(tmp_path)
    path = tmp_path / "departments/a/event-id.key"
    assert (len(key), path.stat().st_mode & 0o777) == (32, 0o600)
    assert create(tmp_path) == load_publisher_config(tmp_path, "a").event_id_key == key


def test_a_missing_key_is_made_only_while_nothing_was_published(tmp_path: Path) -> None:
    create(tmp_path)
    path = tmp_path / "departments/a/event-id.key"
    path.unlink()
    with pytest.raises(Malformed, match=r"event-id\.key is missing"):
        load_publisher_config(tmp_path, "a")
    assert not path.exists()
    create(tmp_path)
    path.unlink()
    (tmp_path / "departments/a/spool").mkdir()
    with pytest.raises(Malformed, match=r"event-id\.key is missing"):
        create(tmp_path)
    assert not path.exists()
