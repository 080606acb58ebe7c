"""A table of numbers in, the table with answers and the archive of evidence out."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from ledger.checking import check_file
from ledger.trust import parse_trust
from tests import page_ledger as town
from tests.browser.conftest import Site, take_picture

Visit = Callable[..., Any]
NOW = 4_000_000_000_000_000  # microseconds; the evidence need not be fresh here


def drop(page: Any, name: str, data: bytes) -> None:
    page.goto("/many")
    page.wait_for_selector("#tools:not([hidden])")
    page.set_input_files("#file", {"name": name, "mimeType": "text/csv", "buffer": data})
    page.wait_for_selector("#result:not([hidden]), #problem p")


def download(page: Any, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(button)
    return bytes(waiting.value.path().read_bytes())


def test_a_table_comes_back_with_answers_and_evidence(visit: Visit, site: Site) -> None:
    rows = [
        ["姓名", "证照编号"],
        ['=HYPERLINK("http://x")', town.VALID],
        ["+1", town.EXPIRED],
        ['a, "b"\nc', "none-such"],
        ["@x", town.TWICE],
        ["-", ""],
    ]
    table = io.StringIO()
    csv.writer(table).writerows(rows)
    with visit("zh", accept_downloads=True) as page:
        drop(page, "公司.csv", table.getvalue().encode("gb18030"))
        assert page.locator("#counts strong").all_text_contents() == ["1", "1", "1", "2"]
        take_picture(page, "many-zh")
        back = download(page, "#save-table").decode("utf-8-sig")
        found = list(csv.reader(io.StringIO(back)))
        assert found[0][:4] == ["姓名", "证照编号", "结果", "原因"]
        assert [row[0] for row in found[1:]] == [
            '\'=HYPERLINK("http://x")',
            "'+1",
            'a, "b"\nc',
            "'@x",
            "'-",
        ]
        assert [row[2] for row in found[1:]] == ["有效", "无效", "查无此证", "无法判定", "无法判定"]
        assert found[2][3] == "已过期失效"
        archive = zipfile.ZipFile(io.BytesIO(download(page, "#save-evidence")))
        assert archive.testzip() is None
        named = [row[9] for row in found[1:] if row[9]]
        assert archive.namelist() == named
        trust = parse_trust(site.trust.read_bytes())
        answer = check_file(
            archive.read(named[1]), trust, NOW, at="2026-03-01", relied_at="2026-11-26"
        )
        assert answer.refused is None
        assert answer.number == town.EXPIRED


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "The table has no rows"),
        (b"number\r\n", "The table has no rows"),
        (b"\n" * 1000, "The table has no rows"),
        (b'number\r\n"open', "This is no table"),
        (b"1\n" * 60_001, "The table has 60,001 rows"),
    ],
)
def test_what_is_no_table(visit: Visit, data: bytes, words: str) -> None:
    with visit("en") as page:
        drop(page, "x.csv", data)
        assert words in page.inner_text("#problem")


def test_more_rows_than_one_request_takes(visit: Visit) -> None:
    with visit("en", accept_downloads=True) as page:
        drop(page, "x.txt", ("\n".join([town.VALID, town.PENALTY] * 300)).encode())
        assert page.locator("#counts strong").all_text_contents() == ["300", "300", "0", "0"]
        lines = download(page, "#save-table").decode("utf-8-sig").splitlines()
        assert len(lines) == 600
        assert lines[599].startswith(f"{town.PENALTY},Not valid,Revoked as a penalty")
