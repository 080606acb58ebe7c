"""The verifier in a real Chromium: under the page's own policy, and on a page without TLS."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser

from tests import altered_evidence as altered
from tests import page_ledger as town
from tests.browser.conftest import INSECURE_HOST, Site
from tests.browser_verifier import VERIFIER
from tests.ed25519_edges import edge_cases, is_good, published_cases
from tests.unit.test_browser_evidence import answer, task
from tests.unit.test_browser_verifier import signature_task

ROOT = Path(__file__).resolve().parents[2]
PERFORM = """async ([tasks, verifier, performer]) => {
  const { perform } = await import(performer);
  return perform(verifier, tasks);
}"""


class Files(SimpleHTTPRequestHandler):
    """The repository's files, as they are."""

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def files() -> Iterator[int]:
    """The port of a server of the repository's files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(ROOT)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def perform(browser: Browser, url: str, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    page = browser.new_page()
    try:
        page.goto(f"{url}/tests/browser/")
        verifier = f"{url}/{VERIFIER.relative_to(ROOT)}"
        performer = f"{url}/tests/browser/verifier_tasks.js"
        return list(page.evaluate(PERFORM, [tasks, verifier, performer]))
    finally:
        page.close()


def some_cases() -> list[altered.Case]:
    true = list(altered.true_cases(altered.make_town()))
    rng = random.Random("browser")
    return true[::3] + [altered.alter(rng, rng.choice(true)) for _ in range(80)]


@pytest.mark.parametrize("host", ["127.0.0.1", INSECURE_HOST])
def test_signatures_have_one_verdict(chromium: Browser, files: int, host: str) -> None:
    cases = [*(case for case, _ in published_cases()), *edge_cases()]
    found = perform(chromium, f"http://{host}:{files}", [signature_task(*c) for c in cases])
    assert [each.get("result", False) for each in found] == [is_good(*case) for case in cases]


def test_a_browser_says_what_python_says(chromium: Browser, files: int) -> None:
    cases = some_cases()
    tasks = [{"kind": "library"}, *(task(case) for case in cases)]
    library, *said = perform(chromium, f"http://127.0.0.1:{files}", tasks)
    assert library == {"result": "WebCrypto"}
    for case, found in zip(cases, said, strict=True):
        assert json.dumps(found) == json.dumps(answer(case)), (case.data, case.now)


def test_a_page_without_tls_has_no_webcrypto_and_the_same_answers(
    chromium: Browser, files: int
) -> None:
    cases = some_cases()[::4]
    tasks = [{"kind": "library"}, *(task(case) for case in cases)]
    library, *said = perform(chromium, f"http://{INSECURE_HOST}:{files}", tasks)
    assert library == {"result": "@noble/ed25519"}
    for case, found in zip(cases, said, strict=True):
        assert json.dumps(found) == json.dumps(answer(case)), (case.data, case.now)


def test_the_page_checks_the_servers_evidence_under_its_own_policy(
    visit: Callable[..., Any], site: Site
) -> None:
    """Whatever the server answers, the page's own modules find the same in its evidence."""
    with visit("en") as page:
        page.goto("/")
        style = page.get_attribute("link[rel=stylesheet]", "href")
        base = urlsplit(style).path.removesuffix("/assets/page.css")
        told = page.evaluate(
            """async ([base, trust, numbers]) => {
              const { checkEvidence, parseTrust } = await import(`${base}/verifier/index.js`);
              const found = [];
              for (const number of numbers) {
                const response = await fetch(`/v1/evidence?number=${number}`);
                const bytes = new Uint8Array(await response.arrayBuffer());
                const { answer, reason } = await checkEvidence(bytes, parseTrust(trust));
                found.push([answer, reason]);
              }
              return found;
            }""",
            [base, site.trust.read_text(), [quote(n) for n in (town.VALID, town.PENALTY)]],
        )
    assert told == [["valid", "in-force"], ["not-valid", "revoked-penalty"]]
