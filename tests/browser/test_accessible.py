"""WCAG 2.2 AA by axe-core, the keyboard, the weight of the page of everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from consumers.http.page.assets import Assets
from tests import page_ledger as town
from tests.browser.conftest import DESKTOP, PHONE, Site

Visit = Callable[..., Any]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PATHS = (
    "/",
    f"/?number={quote(town.VALID)}",
    f"/?number={quote(town.PENALTY)}",
    f"/?number={quote(town.VALID[:-1])}8",
    f"/?number={quote(town.TWICE)}",
    "/?number=&at=x",
)
FOCUSED = "document.activeElement.innerText?.trim() || document.activeElement.id"
MAX_BYTES = 150_000  # of everything that the page may ever load, as sent


@pytest.mark.parametrize(("language", "width"), [("zh", PHONE), ("en", DESKTOP)])
def test_axe_has_nothing_to_say(visit: Visit, axe: str, language: str, width: int) -> None:
    with visit(language, width, bypass_csp=True) as page:
        for path in PATHS:
            page.goto(path)
            page.wait_for_selector("#tools:not([hidden])")
            page.locator("details").evaluate_all("all => all.forEach((d) => (d.open = true))")
            page.evaluate(axe)
            found = page.evaluate(f"axe.run({{ runOnly: {json.dumps(RULES)} }})")
            said = [
                (item["id"], [node["html"][:120] for node in item["nodes"]])
                for item in found["violations"]
            ]
            assert said == [], path


@pytest.mark.parametrize(("language", "width"), [("zh", PHONE), ("en", DESKTOP)])
def test_axe_has_nothing_to_say_of_the_other_pages(
    visit: Visit, axe: str, language: str, width: int
) -> None:
    with visit(language, width, bypass_csp=True) as page:
        sheet = f"/sheet?number={quote(town.VALID)}"
        for path in ("/many", sheet, "/service", "/savings", "/operator"):
            page.goto(path)
            page.wait_for_selector("h1")
            page.evaluate(axe)
            found = page.evaluate(f"axe.run({{ runOnly: {json.dumps(RULES)} }})")
            assert [item["id"] for item in found["violations"]] == [], path
        page.goto("/service")
        page.fill("#holder", "x")
        page.click("main form button")
        page.wait_for_selector(".errors a[href='#holder']")
        assert "x" not in page.url.partition("/service")[2]


def test_everything_is_reached_by_the_keyboard(visit: Visit) -> None:
    with visit("en", is_mobile=True, has_touch=True) as page:
        page.goto("/")
        page.wait_for_selector("#tools:not([hidden])")
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(
                    "document.activeElement.innerText?.trim() || document.activeElement.id"
                )
            )
        assert reached[0] == "Skip to the content"
        for name in ("中文", "number", "Check", "Choose a file or picture"):
            assert name in reached, reached
    with visit("en", DESKTOP) as page:
        page.goto(f"/?number={quote(town.VALID)}")
        page.wait_for_selector("#number:focus")
        page.keyboard.type(town.PENALTY)  # over what stood there
        page.keyboard.press("Enter")
        page.wait_for_selector("section.verdict.not-valid")
        page.focus(".checks summary")
        page.keyboard.press("Enter")
        assert page.locator(".checks details[open]").count() == 1


def test_what_can_be_pressed_is_large_enough(visit: Visit) -> None:
    with visit("zh") as page:
        page.goto(f"/?number={quote(town.VALID)}")
        page.wait_for_selector("#tools:not([hidden])")
        for element in page.locator("button:visible, summary:visible, input:visible, nav a").all():
            assert element.bounding_box()["height"] >= 43, element.inner_text()


def test_the_page_is_light(site: Site) -> None:
    path = f"/?number={quote(town.LONG_LIFE)}"
    answer = site.served.ask(path, accept_encoding="gzip")
    assert len(answer.body) < len(site.served.get(path)) / 3
    assets = Assets()
    weight = sum(len(asset.compressed) for asset in assets.files.values())
    assert weight + len(answer.body) < MAX_BYTES
    path = f"/page/{assets.version}/assets"
    packed = site.served.ask(f"{path}/page.css", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert len(packed.body) < len(site.served.get(f"{path}/page.css"))
    assert site.served.ask("/page/0000000000000000/assets/page.css").status == 404
    assert site.served.ask(f"/page/{assets.version}/../settings.py").status == 404
