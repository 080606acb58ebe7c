"""Fixtures: the system's Chromium, and one ledger behind one HTTP server for all browser tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, make_dsn, parse_dsn

from tests.http_serving import Served, serving
from tests.page_ledger import SHEET_KEY, make_page_ledger
from tests.stored_ledger import StoredLedger

PICTURES = Path(__file__).parents[2] / ".pytest" / "pictures"
AXE = Path(__file__).parent / "axe"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSECURE_HOST = "ledger.test"  # here; to a browser no host to be trusted without TLS
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu"),
    f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1",
]
PHONE, DESKTOP = 360, 1280


@dataclass(frozen=True)
class Site:
    """A running page."""

    served: Served
    ledger: StoredLedger
    trust: Path

    @property
    def url(self) -> str:
        return self.served.url


@pytest.fixture(scope="session")
def site(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The ledger of `tests.page_ledger` behind the real HTTP server; fsck has the last word."""
    name = f"test_{uuid.uuid4().hex}"
    admin = psycopg2.connect(postgres_url)
    admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    url = make_dsn(**{**parse_dsn(postgres_url), "dbname": name})
    ledger, trust = make_page_ledger(url, tmp_path_factory.mktemp("page"))
    try:
        key = trust.with_name(SHEET_KEY)
        with serving(url, CERTLEDGER_TRUST=str(trust), CERTLEDGER_SHEET_KEY=str(key)) as served:
            yield Site(served, ledger, trust)
        ledger.check()
    finally:
        ledger.close()
        with admin.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


def find_program() -> str:
    """The system's Chromium; the test is skipped where there is none."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(PROGRAMS)})")
    return program


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Browser]]:
    """Start the system's Chromium with further flags. Not for the whole session: while Playwright
    is open, an event loop runs in this thread.
    """
    with sync_playwright() as playwright:

        def start(*flags: str) -> Browser:
            program = find_program()
            return playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags])

        yield start


@pytest.fixture(scope="module")
def chromium(launch: Callable[..., Browser]) -> Iterator[Browser]:
    """The system's Chromium; skipped where there is none."""
    browser = launch()
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's script by the lock file beside this, kept in the virtual environment."""
    target = Path(sys.prefix) / "axe"
    script, lock = target / "node_modules" / "axe-core" / "axe.min.js", "package-lock.json"
    wanted = (AXE / lock).read_bytes()
    if not script.exists() or (target / lock).read_bytes() != wanted:
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed: axe-core cannot be fetched")
        target.mkdir(exist_ok=True)
        for name in ("package.json", lock):
            shutil.copy(AXE / name, target / name)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=target, capture_output=True, text=True)
        if done.returncode:
            (target / lock).unlink()
            pytest.skip(f"npm cannot fetch axe-core: {done.stderr.strip()[-200:]}")
    return script.read_text()


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Callable[..., Any]:
    """`visit(language, width, **options)`: a context manager of a page of its own, in which nothing
    is asked of another host and the browser has nothing to complain of but `complaints`.
    """

    @contextmanager
    def open_page(
        language: str = "zh",
        width: int = PHONE,
        complaints: str = "status of 400",
        **options: Any,
    ) -> Iterator[Page]:
        locale = {"zh": "zh-CN", "en": "en-GB"}[language]
        context = chromium.new_context(
            base_url=site.url, locale=locale, viewport={"width": width, "height": 800}, **options
        )
        said: list[str] = []
        asked: list[str] = []
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        try:
            yield page
        finally:
            context.close()
        assert [text for text in said if complaints not in text] == []
        foreign = [url for url in asked if not url.startswith((site.url, "blob:", "data:"))]
        assert foreign == []

    return open_page


def take_picture(page: Page, name: str) -> None:
    """A picture of the whole page for a person to look at, and no scrolling sideways."""
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width, (
        f"{name} scrolls sideways"
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{width}.png", full_page=True)
