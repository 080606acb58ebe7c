"""The page as everybody gets it, scripts off: questions, answers, both languages, hostile texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests import page_ledger as town
from tests.browser.conftest import DESKTOP, PHONE, Site, take_picture

# number: (colour and icon, verdict and reason in Chinese, the same in English)
STATES = {
    town.VALID: ("valid", ("有效", "在有效期内"), ("Valid", "In force, since 1 July 2025")),
    town.EXPIRED: ("not-valid", ("无效", "已过期失效"), ("Not valid", "Expired, since 1 Feb")),
    town.SUSPENDED: ("not-valid", ("无效", "暂扣"), ("Not valid", "Suspended, since 3 Feb")),
    town.FUTURE: (
        "not-valid",
        ("无效", "尚未生效"),
        ("Not valid", "Not valid yet, from 1 Jan"),
    ),
    town.PENALTY: ("not-valid", ("无效", "已吊销"), ("Not valid", "Revoked as a penalty")),
    town.ANNULLED: ("not-valid", ("无效", "已撤销"), ("Not valid", "Revoked: annulled")),
    town.DEREGISTERED: ("not-valid", ("无效", "已注销"), ("Not valid", "Revoked: deregistered")),
    town.TRANSFERRED: ("not-valid", ("无效", "已转出"), ("Not valid", "Transferred out")),
    town.RENEWED: ("valid", ("有效", "在有效期内"), ("Valid", "In force")),
    town.VOIDED: ("not-valid", ("无效", "更正作废"), ("Not valid", "corrected away")),
    town.OPEN: ("valid", ("有效", "在有效期内"), ("Valid", "In force")),
    town.IDENTIFIER: ("valid", ("有效", "在有效期内"), ("Valid", "In force")),
    town.TWICE: ("cannot-decide", ("无法判定", "同号证照"), ("Cannot decide", "Several")),
    "no-such-number": ("not-found", ("查无此证", "没有此证"), ("Not found", "no such certificate")),
}
PUBLIC = (
    "😀👩‍👩‍👧",
    "'; DROP TABLE entry; --",
    "<script>alert(1)</script>",
    "％３Ｃscript％３Ｅ",
    "\x07bell",
    "\u202e\u200b",
    "%",
    "../../etc/passwd",
    "x" * 800,
)
Visit = Callable[..., Any]


@pytest.mark.parametrize(("language", "width"), [("zh", PHONE), ("en", DESKTOP)])
def test_every_state_in_words_colour_and_icon(visit: Visit, language: str, width: int) -> None:
    with visit(language, width, java_script_enabled=False) as page:
        page.goto("/")
        take_picture(page, f"start-{language}")
        seen: set[str] = set()
        for number, (tone, *words) in STATES.items():
            page.fill("#number", number)
            page.press("#number", "Enter")
            verdict, reason = words[language == "en"]
            assert page.inner_text("h1") == verdict, number
            assert reason in page.inner_text(".reason"), number
            assert f"verdict {tone}" in page.get_attribute("section.verdict", "class"), number
            assert page.get_attribute(".verdict-icon use", "href") == f"#icon-{tone}"
            assert page.title().startswith(verdict)
            if tone not in seen:  # one picture of each look
                take_picture(page, f"{tone}-{language}")
                seen.add(tone)


def test_seven_checks_open_and_say_what_they_mean(visit: Visit) -> None:
    with visit("en", java_script_enabled=False) as page:
        page.goto(f"/?number={quote(town.VALID)}")
        checks = page.locator(".checks details")
        assert checks.count() == 7
        checks.nth(3).locator("summary").click()
        assert "cosigned by as many witnesses" in checks.nth(3).inner_text()
        assert '"origin": "ledger.example/certificates"' in checks.nth(3).inner_text()
        assert "6 passed, 0 failed, 1 not checked" in page.inner_text("main")
        names = page.locator(".checks code").all_text_contents()
        assert names[0] == "event-signature"
        assert names[-1] == "disclosures"


def test_on_that_day_and_as_it_was_known(visit: Visit) -> None:
    with visit("en", java_script_enabled=False) as page:
        page.goto("/")
        page.fill("#number", town.VALID)
        page.click(".ask summary")
        page.fill("#at", "2025-06-15")
        page.click("button")
        assert page.inner_text("h1") == "Not valid"
        assert page.inner_text(".moment") == "On 15 June 2025"
        assert "Suspended, since 1 June 2025" in page.inner_text(".reason")
        assert page.input_value("#at") == "2025-06-15"
        take_picture(page, "on-that-day-en")
        assert page.inner_text(".ask summary .mark") == "On 15 June 2025"
        page.click(".ask summary")
        page.fill("#at", "2029-01-01")
        page.click("button")
        assert page.inner_text("h1") == "Valid"
        assert "This moment is after the state of the ledger" in page.inner_text(".next")
        page.click(".ask summary")
        page.fill("#known_at", "2026-01-01")
        page.click("button")
        assert page.inner_text("h1") == "Not found"
        assert page.inner_text(".reason") == "The ledger did not know it then"


def test_the_timeline_tells_the_whole_history_in_both_times(visit: Visit) -> None:
    with visit("zh", java_script_enabled=False) as page:
        page.goto(f"/?number={quote(town.VALID)}")
        titles = page.locator(".timeline strong").all_text_contents()
        assert titles == ["新发", "暂扣", "暂扣发还"]
        assert "insurance-lapsed" in page.inner_text(".timeline")
        assert page.locator(".timeline").get_by_text("账本于").count() == 3
        page.goto(f"/?number={quote(town.VOIDED)}")
        assert page.inner_text(".timeline li:first-child .mark") == "后已更正作废"
        page.goto(f"/?number={quote(town.RESTATED)}")
        assert page.inner_text(".timeline li:first-child .mark") == "后经更正"
        assert "2031年12月31日" in page.inner_text(".facts")


def test_near_misses_and_namesakes_are_one_click_away(visit: Visit) -> None:
    with visit("en", java_script_enabled=False) as page:
        page.goto(f"/?number={quote(town.VALID[:-1] + '8')}")
        assert page.inner_text("h1") == "Not found"
        said = page.inner_text(".next")
        assert "to be sure that there is none: Department quiet (quiet)" in said
        assert "name the type and the issuer above" in said
        page.get_by_role("link", name=town.VALID).click()
        assert page.inner_text("h1") == "Valid"
        page.goto(f"/?number={town.IDENTIFIER[:-1]}X")
        assert "the check character must be U, not X" in page.inner_text(".choices")
        page.click(".choices a")
        assert page.inner_text("h1") == "Valid"
        page.goto(f"/?number={quote(town.TWICE)}")
        page.get_by_role("link", name="Food business licence").click()
        assert page.inner_text("h1") == "Valid"
        assert "Food business licence" in page.inner_text(".facts")


def test_the_language_follows_the_browser_until_somebody_chooses(visit: Visit) -> None:
    with visit("en", java_script_enabled=False) as page:
        page.goto(f"/?number={quote(town.VALID)}")
        page.get_by_role("link", name="中文").click()
        assert page.inner_text("h1") == "有效"
        assert page.get_attribute("html", "lang") == "zh-Hans"
        page.goto("/")
        assert page.inner_text("h1") == "这份证照有效吗？"


def test_hostile_texts_are_only_texts(visit: Visit) -> None:
    with visit("en") as page:
        for n, number in enumerate(town.HOSTILE):
            page.goto(f"/?number={quote(number[:800])}")
            assert "owned" not in page.title() or "<script>" in page.title()
            assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
            shown = page.content()
            assert town.BIDI not in shown.replace(f'value="{number}"', "")
            if number in (town.MARKUP, town.HOSTILE[1]):
                text = page.inner_text("main")
                assert "\\u202e" in text
                assert page.locator("a[href^='javascript']").count() == 0
            take_picture(page, f"hostile-{n}-en")


def test_what_a_public_box_gets(visit: Visit) -> None:
    with visit("en", java_script_enabled=False) as page:
        for number in PUBLIC:
            page.goto("/")
            page.fill("#number", number)
            page.press("#number", "Enter")
            page.wait_for_url("**/?number=*")
            if page.inner_text("h1") != "Not found":
                assert page.inner_text(".errors h2") == "There is a problem", number


def test_what_is_wrong_is_said_beside_the_field(visit: Visit) -> None:
    with visit("en", java_script_enabled=False) as page:
        page.goto("/?number=")
        assert page.inner_text("#number-error") == "Enter a certificate number or identifier"
        assert page.get_attribute("#number", "aria-invalid") == "true"
        assert page.title().startswith("Error: ")
        page.goto("/?number=1&at=31-12-2020&type=%00&issuer=%3Cb%3E")
        assert "31-12-2020 is no day like" in page.inner_text("#at-error")
        assert page.locator(".errors li").count() == 3
        take_picture(page, "errors-en")
        page.goto("/?number=123-456")
        assert "looks like a range" in page.inner_text("#number-error")
        page.goto('/?number={"format":"certledger')
        assert "only a browser with scripts on" in page.inner_text("#number-error")
        page.goto("/?number=1&number=2")
        assert "cannot be understood" in page.inner_text("#number-error")


def test_what_the_browser_is_told_to_refuse(site: Site) -> None:
    answer = site.served.ask("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    body = answer.body.decode()
    assert "<style" not in body
    assert " style=" not in body
    assert " onclick" not in body
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert site.served.ask("/?number=1", "POST").status == 405
