"""A sheet of paper from the page and back: printed, photographed, read in the browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests import page_ledger as town
from tests.browser.conftest import Site, take_picture
from tests.browser.test_files import choose, open_start

Visit = Callable[..., Any]


def test_a_printed_sheet_is_read_again(visit: Visit, site: Site) -> None:
    with visit("zh", 900) as page:
        for number, tone in ((town.VALID, "valid"), (town.PENALTY, "not-valid")):
            page.goto(f"/?number={quote(number)}")
            page.click("a[href^='/sheet?']")
            assert page.inner_text("h1") == "可出示的状态单"
            assert number in page.locator(".paper svg").text_content()
            take_picture(page, f"sheet-{tone}-zh")
            assert page.pdf().count(b"/Type /Page\n") == 1
            page.emulate_media(media="print")
            photo = page.screenshot()
            page.emulate_media(media="null")
            open_start(page)
            choose(page, "photo.png", photo, "image/png")
            assert page.locator(f"section.verdict.{tone}").count() == 1
            assert "这是状态单上经签名的声明" in page.inner_text(".remarks")
            assert page.locator(".check-result.failed").count() == 0
            assert page.locator(".check-label").nth(4).inner_text() == "状态有账本签名"
        take_picture(page, "file-sheet-zh")
    answer = site.served.ask(f"/sheet?number={quote(town.VALID)}&form=pdf")
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.body.startswith(b"%PDF-")


def test_no_sheet_says_what_is_not_known_now(visit: Visit, site: Site) -> None:
    with visit("en") as page:
        for question in ("number=none-such", f"number={quote(town.VALID)}&at=2025-06-15"):
            page.goto(f"/?{question}")
            assert page.locator("a[href^='/sheet']").count() == 0
        for question in ("", "number=none-such", f"number={quote(town.TWICE)}", "number=%07"):
            answer = site.served.ask(f"/sheet?{question}")
            assert answer.status == 303
            assert answer.headers["location"].startswith("/?")


def test_an_altered_code_proves_nothing(visit: Visit) -> None:
    with visit("en") as page:
        open_start(page)
        choose(page, "code.txt", b"CERTLEDGER1:AB CD", "text/plain")
        assert page.inner_text(".reason") == "This file proves nothing"
