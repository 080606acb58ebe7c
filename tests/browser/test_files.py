"""Evidence files, pictures and everything else that people drop on the page, scripts on: checked in
the browser, never uploaded.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from tests import page_ledger as town
from tests.browser.conftest import Site, take_picture

Visit = Callable[..., Any]
DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(
      new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }),
    );
  }
}"""
PASTE = """(text) => {
  const transfer = new DataTransfer();
  transfer.setData("text", text);
  document.getElementById("number").dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }),
  );
}"""
JSON, NOTHING = "application/json", "This file proves nothing"
DROPPED = (
    ("a.pdf", "application/pdf", b"%PDF-1.7\n", "A PDF cannot be read here"),
    ("empty.json", JSON, b"", "The file is empty"),
    ("big.json", JSON, b"{" + b" " * 8_400_000, "larger than 8 MB"),
    ("a.bin", "application/octet-stream", bytes(range(256)), "neither evidence nor a picture"),
    ("a.png", "image/png", b"\x89PNG\r\n\x1a\nnone", "The picture cannot be read"),
    ("deep.json", JSON, b'{"a":' + b"[" * 100_000, NOTHING),
    ("twice.json", JSON, b'{"format":1,"format":2}', NOTHING),
    ("emoji.json", JSON, '{"😀":"💥"}'.encode(), NOTHING),
    ("sql.json", JSON, b"{'; DROP TABLE", NOTHING),
)
# A picture, as a data address, of a QR code with a text; of a plain surface for null.
PICTURE = """async ([text, type]) => {
  const script = document.querySelector("script[type=module]").src;
  const { default: encodeQR } = await import(script.replace("page.js", "vendor/qr/index.js"));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 480;
  const context = canvas.getContext("2d");
  context.fillStyle = "#eee";
  context.fillRect(0, 0, 480, 480);
  context.fillStyle = "#111";
  if (text === null) context.fillRect(100, 120, 200, 150);
  else {
    const rows = encodeQR(text, "raw", { border: 4 });
    const size = Math.floor(480 / rows.length);
    rows.forEach((row, y) => row.forEach((dark, x) => {
      if (dark) context.fillRect(x * size, y * size, size, size);
    }));
  }
  return canvas.toDataURL(type);
}"""


def evidence(site: Site, number: str, **asked: str) -> bytes:
    """The evidence file for a question."""
    query = "".join(f"&{name}={quote(value)}" for name, value in asked.items())
    return site.served.get(f"/v1/evidence?number={quote(number)}{query}")


def choose(page: Page, name: str, data: bytes, kind: str = "application/json") -> None:
    """Choose a file and wait for the answer or the complaint."""
    page.evaluate(
        "document.querySelectorAll('#answer > *, #problem > *').forEach((e) => e.remove())"
    )
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})
    page.wait_for_selector("#answer h1, #problem p")


def open_start(page: Page) -> None:
    page.goto("/")
    page.wait_for_selector("#trust:not([hidden])")


def picture(page: Page, text: str | None, kind: str = "image/png") -> bytes:
    address: str = page.evaluate(PICTURE, [text, kind])
    return base64.b64decode(address.partition(",")[2])


def test_evidence_is_checked_in_the_browser_and_not_uploaded(visit: Visit, site: Site) -> None:
    data = evidence(site, town.SUSPENDED)
    with visit("zh") as page:
        open_start(page)
        sent: list[Any] = []
        page.on("request", lambda request: sent.append(request))
        choose(page, "taxi.evidence.json", data)
        assert page.inner_text("h1") == "无效"
        assert "暂扣，自2026年2月3日起" in page.inner_text(".reason")
        assert "taxi.evidence.json 已在此浏览器中核对，未上传。" in page.inner_text(".remarks")
        assert page.locator(".timeline strong").all_text_contents() == ["新发", "暂扣"]
        assert page.locator(".checks details").count() == 7
        assert page.evaluate("document.activeElement.id") == "verdict"
        take_picture(page, "file-not-valid-zh")
        assert {request.method for request in sent} == {"GET"}
        assert all(request.post_data is None and "?" not in request.url for request in sent)
        page.go_back()
        page.wait_for_selector("#start")


def test_pasted_and_dropped_evidence_is_detected(visit: Visit, site: Site) -> None:
    data = evidence(site, town.VALID)
    with visit("en") as page:
        open_start(page)
        page.evaluate(PASTE, data.decode())
        page.wait_for_selector("#answer h1")
        assert page.inner_text("h1") == "Valid"
        assert "The evidence was checked in this browser" in page.inner_text(".remarks")
        open_start(page)
        page.evaluate(DROP, ["x.txt", "text/plain", base64.b64encode(data).decode()])
        page.wait_for_selector("#answer h1")
        assert page.inner_text("h1") == "Valid"
        open_start(page)
        page.evaluate(PASTE, "x" * 1_000_000)
        page.wait_for_selector("#problem p")
        assert "at most 1,024 bytes" in page.inner_text("#problem")
        page.fill("#number", "")
        page.evaluate(PASTE, '{"' + "x" * 1_000_000)
        page.wait_for_selector("#answer h1")
        assert page.inner_text(".reason") == "This file proves nothing"


def test_a_file_is_asked_about_that_day(visit: Visit, site: Site) -> None:
    data = evidence(site, town.VALID, at="2025-06-15")
    with visit("en") as page:
        open_start(page)
        choose(page, "then.evidence.json", data)
        assert page.inner_text(".moment") == "Now"
        assert "made for a question about another moment" in page.inner_text(".remarks")
        page.click(".remarks button")
        page.wait_for_selector(".moment:text-is('On 15 June 2025')")
        assert page.inner_text("h1") == "Not valid"
        page.click(".ask summary")
        page.fill("#at", "2025-02-01")
        page.click(".ask button[type=submit]")
        page.wait_for_selector(".moment:text-is('On 1 February 2025')")


def test_altered_evidence_proves_nothing(visit: Visit, site: Site) -> None:
    data = evidence(site, town.SUSPENDED)
    parts = list(json.loads(data))
    with visit("zh") as page:
        open_start(page)
        for name in parts:
            value = json.loads(data)
            text = json.dumps(value[name], ensure_ascii=False)
            changed = re.sub(r"[0-9](?!.*[0-9])", lambda m: "7" if m[0] != "7" else "3", text)
            if changed == text:
                changed = text[:-2] + ("B" if text[-2] != "B" else "C") + text[-1]
            value[name] = json.loads(changed)
            altered = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=False)
            choose(page, f"{name}.json", altered.encode() + b"\n")
            if name == "question":  # a file does not choose what is asked
                continue
            assert page.inner_text("h1") == "无法判定", name
            assert page.locator("section.verdict.refused").count() == 1, name
        take_picture(page, "file-refused-zh")


def test_what_else_people_drop(visit: Visit) -> None:
    with visit("en") as page:
        open_start(page)
        for name, kind, data, words in DROPPED:
            choose(page, name, data, kind)
            assert words in page.inner_text("main"), name


def test_hostile_evidence_is_only_text(visit: Visit, site: Site) -> None:
    data = evidence(site, town.MARKUP)
    with visit("zh") as page:
        open_start(page)
        choose(page, f"{town.BIDI}{town.MARKUP}.json", data)
        assert page.inner_text("h1") == "无效"
        assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
        text = page.inner_text("main")
        assert town.BIDI not in text
        assert "\\u202e" in text
        take_picture(page, "file-hostile-zh")


def test_a_wrong_clock_is_said_and_not_guessed_at(visit: Visit, site: Site) -> None:
    data = evidence(site, town.VALID)
    with visit("en") as page:
        page.clock.set_fixed_time("2020-01-01T12:00:00Z")
        open_start(page)
        choose(page, "taxi.evidence.json", data)
        assert page.inner_text("h1") == "Cannot decide"
        assert "This device's clock says 1 January 2020" in page.inner_text(".remarks")
        take_picture(page, "file-wrong-clock-en")


def test_a_broken_connection_is_said(visit: Visit, site: Site) -> None:
    data = evidence(site, town.VALID)
    with visit("en", complaints="ERR_INTERNET_DISCONNECTED") as page:
        open_start(page)
        page.context.set_offline(True)
        choose(page, "taxi.evidence.json", data)
        assert "The connection was lost" in page.inner_text("#problem")
        page.context.set_offline(False)
        open_start(page)
        choose(page, "taxi.evidence.json", data)
        assert page.inner_text("h1") == "Valid"
        value = json.loads(data) | {"extra": 1}
        choose(page, "extra.json", json.dumps(value, separators=(",", ":")).encode())
        assert page.locator("section.verdict.refused").count() == 1


def test_the_visitors_own_trust_file_counts(visit: Visit, site: Site) -> None:
    data = evidence(site, town.VALID)
    trust = json.loads(site.trust.read_text())
    other = json.dumps({**trust, "origin": f"other.example/{town.BIDI}"}, separators=(",", ":"))
    with visit("en") as page:
        open_start(page)
        choose(page, "trust.json", site.trust.read_bytes())
        assert "This is a trust file, not evidence" in page.inner_text("#problem")
        page.click("#trust summary")
        page.set_input_files(
            "#trust-file",
            {"name": "t.json", "mimeType": "application/json", "buffer": b"{}"},
        )
        page.wait_for_selector("#problem p:has-text('This is no trust file')")
        page.set_input_files(
            "#trust-file",
            {"name": "t.json", "mimeType": "application/json", "buffer": site.trust.read_bytes()},
        )
        page.wait_for_selector("#trust-state:has-text('Your own trust file')")
        choose(page, "taxi.evidence.json", data)
        assert page.inner_text("h1") == "Valid"
        assert "your own trust file (ledger.example" in page.inner_text("#answer")
        # kept in this browser, and another ledger's evidence is refused
        page.evaluate("(text) => localStorage.setItem('certledger trust file', text)", other)
        open_start(page)
        choose(page, "taxi.evidence.json", data)
        assert page.locator("section.verdict.refused").count() == 1
        page.click("#trust summary")
        page.click("#trust-forget")
        choose(page, "taxi.evidence.json", data)
        assert page.inner_text("h1") == "Valid"


def test_an_answer_is_checked_again_in_the_browser(visit: Visit) -> None:
    with visit("en") as page:
        page.goto(f"/?number={quote(town.PENALTY)}")
        page.click("#recheck")
        page.wait_for_selector(".remarks p")
        assert page.inner_text("h1") == "Not valid"
        assert "Revoked as a penalty" in page.inner_text(".reason")


def test_qr_pictures(visit: Visit, site: Site) -> None:
    with visit("zh") as page:
        open_start(page)
        choose(page, "wall.png", picture(page, None), "image/png")
        assert "没有找到二维码" in page.inner_text("#problem")
        for text in (town.VALID, f"https://ledger.example/?lang=en&number={quote(town.VALID)}"):
            open_start(page)
            data = picture(page, text)
            page.set_input_files(
                "#file", {"name": "q.png", "mimeType": "image/png", "buffer": data}
            )
            page.wait_for_selector("section.verdict.valid")
            assert page.url.startswith(site.url)


@pytest.fixture
def camera_page(
    site: Site, visit: Visit, launch: Callable[..., Browser], tmp_path: Path
) -> Iterator[Page]:
    """A page before whose camera a QR code is held."""
    with visit("en") as page:
        open_start(page)
        frame = picture(page, town.EXPIRED, "image/jpeg")
    film = tmp_path / "film.mjpeg"
    film.write_bytes(frame * 4)
    browser = launch(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )
    yield browser.new_page(base_url=site.url, locale="en-GB")
    browser.close()


def test_the_camera_reads_a_code(camera_page: Page) -> None:
    open_start(camera_page)
    camera_page.click("#camera")
    camera_page.wait_for_selector("section.verdict.not-valid")
    assert "Expired" in camera_page.inner_text(".reason")


def test_without_a_camera_the_page_says_so(visit: Visit) -> None:
    with visit("en") as page:
        open_start(page)
        page.click("#camera")
        page.wait_for_selector("#problem p")
        assert "The camera cannot be used" in page.inner_text("#problem")
