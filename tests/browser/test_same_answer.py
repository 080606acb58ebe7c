"""What the server sets and what the browser sets of one answer is the same, to the letter."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from consumers.asking import Asked
from consumers.http.page.endpoint import tell
from consumers.http.page.texts import load_texts
from consumers.http.page.view import answer_view
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from tests import page_ledger as town
from tests.browser.conftest import Site
from tests.browser.test_answers import STATES

ONCE_MORE = ((town.VALID, "2025-06-15", None), (town.VALID, "2027-01-01", "2026-01-01T00:00:00Z"))
QUESTIONS = [*((number, None, None) for number in (*STATES, *town.HOSTILE)), *ONCE_MORE]

# The view that the browser's code makes of an answer.
MAKE_VIEW = """async ([base, language, answer, given]) => {
  const { answerView } = await import(`${base}/assets/view.js`);
  const texts = await (await fetch(`${base}/texts/${language}.json`)).json();
  return answerView(answer, texts, language, given);
}"""
# The page's answer without what only the server's has, and a view set into the template.
SHAPES = """async ([base, view]) => {
  const { fillTemplate } = await import(`${base}/assets/fill.js`);
  const shape = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data.trim() || [];
    if (node.nodeType !== Node.ELEMENT_NODE) return [];
    const attributes = [...node.attributes].filter(({ name }) => !name.startsWith("data-"));
    return [[
      node.localName,
      Object.fromEntries(attributes.map(({ name, value }) => [name, value.trim()])),
      [...node.childNodes].flatMap(shape),
    ]];
  };
  const ours = document.createElement("div");
  ours.append(fillTemplate(document.getElementById("answer-template"), view));
  const theirs = document.getElementById("answer").cloneNode(true);
  const only = ".remarks, .keep, [aria-labelledby=near], [aria-labelledby=matches]";
  for (const root of [ours, theirs]) root.querySelectorAll(only).forEach((e) => e.remove());
  return [ours, theirs].map((root) => JSON.stringify([...root.childNodes].flatMap(shape)));
}"""


def answers(site: Site) -> list[tuple[str, str | None, str | None, dict[str, Any], dict[str, Any]]]:
    """(number, at, known_at, the answer's JSON, what else the page is given)."""
    made = []
    connection = connect(site.ledger.url, "test")
    trust = town.trust_of(site.ledger)
    reader = Reader(connection)
    for number, at, known_at in QUESTIONS:
        asked = Asked(number, at=at, known_at=known_at)
        with reader.open() as view:
            told = tell(view, asked, trust, time.time_ns() // 1000)
        members = json.loads(json.dumps(told.answer.members()))
        moments = {"at": at, "known_at": known_at}
        given = {
            "asked": {name: members[name] for name in moments if moments[name]},
            "names": told.names,
            "events": told.events,
            "trust": "T",
        }
        made.append((number, at, known_at, members, given))
    connection.close()
    return made


@pytest.mark.parametrize("language", ["zh", "en"])
def test_server_and_browser_say_the_same(
    visit: Callable[..., Any], site: Site, language: str
) -> None:
    texts = load_texts(language)
    with visit(language) as page:
        seen = None
        for number, at, known_at, members, given in answers(site):
            if language == "en" and members["reason"] == seen:
                continue  # one of each will do where the words alone differ
            seen = members["reason"]
            path = f"/?number={quote(number)}"
            for name, value in (("at", at), ("known_at", known_at)):
                path += f"&{name}={quote(value)}" if value else ""
            page.goto(path)
            script = page.get_attribute("script[type=module]", "src")
            base = script.removesuffix("/assets/page.js")
            ours = answer_view(members, texts, **given)
            theirs = page.evaluate(MAKE_VIEW, [base, language, members, given])
            assert theirs == {k: v for k, v in ours.items() if k not in ("near", "matches")}, number
            if ours["grounds"]:
                ours["grounds"][-1]["text"] = page.locator(".facts dd").last.inner_text()
            shapes = page.evaluate(SHAPES, [base, ours])
            filled, served = map(without_now, shapes)
            assert filled == served, number


def without_now(shape: str) -> str:
    """Without ages, and without the moments of the last hour: the page was asked for later."""
    now = time.time()
    minutes = {time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now - 60 * n)) for n in range(60)}
    return re.sub(rf"\d+ s old|\d+ 秒|({'|'.join(minutes)})?:\d\d\.\d+Z", "", shape)
