"""`/operator`: how the ledger stands, for those who run it, as one page that needs no script.

It names codes and places in the log; never what is in an event or in a dead letter.
"""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import cursor as Cursor
from starlette.requests import Request
from starlette.responses import Response

from ledger import times
from ledger.entry import ADMITTED
from ledger.errors import CODES
from ledger.postgres.operating import (
    CERTIFICATES,
    PROGRAMS,
    DeadLetter,
    Example,
    Standing,
    read_dead_letters,
)
from ledger.silence import BY_NATURE, IN_TIME, NEVER, TOO_LONG

from ..operators import Operators
from ..standing import Seen, Watch
from .endpoint import Page
from .texts import load_operator_texts
from .view import Wording

OPERATOR_PATH = "/operator"
DEAD_LETTERS = 20  # of the newest
DEPARTMENTS = 500  # of the longest silent
EXPLAIN = "certledger dead-letter explain"
# As in deploy/prometheus/certledger.rules.yml.
LAG, UNSIGNED_SECONDS, OLD_SECONDS, UNPUBLISHED_SECONDS, DISK_SHARE = 1000, 120, 900, 300, 0.1
_STATES = {
    IN_TIME: "operator.in-time",
    TOO_LONG: "operator.too-long",
    NEVER: "operator.never",
    BY_NATURE: "operator.by-nature",
}

Rows = list[tuple[str, ...]]


class OperatorPage:
    """The page, in the frame of `Page`."""

    def __init__(self, watch: Watch, operators: Operators, page: Page) -> None:
        self._watch = watch
        self._operators = operators
        self._page = page

    async def get(self, request: Request) -> Response:
        """The page; 503 where the database does not answer."""
        refusal = self._operators.refusal(request)
        if refusal is not None:
            return refusal
        asked, texts = self._page.language(request, dict(request.query_params.items()))
        texts = load_operator_texts(texts.language)
        seen, examples, letters = await self._watch.look_closely(_look)
        wording = Wording(texts)
        view = None
        if seen.standing is not None:
            view = operator_view(seen, seen.standing, examples, letters or [], wording)
        body = self._page.render(
            "operator.html",
            OPERATOR_PATH,
            texts,
            {},
            view=view,
            attention=_attention(seen, self._watch.has_kafka, wording),
            count=wording.count,
            explain=EXPLAIN,
        )
        return self._page.respond(request, asked, texts, body, 200 if view else 503)


def _look(cursor: Cursor, standing: Standing) -> list[DeadLetter]:
    return read_dead_letters(cursor, standing.progress.next_outbox, DEAD_LETTERS)


def operator_view(
    seen: Seen,
    standing: Standing,
    examples: dict[str, list[Example]],
    letters: list[DeadLetter],
    wording: Wording,
) -> dict[str, Any]:
    """The tables, each cell in words."""
    outcomes: dict[tuple[str, str], int] = standing.unlogged
    return {
        "moment": wording.moment(times.format_moment(standing.now)),
        "facts": _facts(seen, standing, wording),
        "departments": _departments(standing, wording),
        "lag": None
        if seen.lag is None
        else [(str(partition), f"{n:,}") for partition, n in seen.lag.items()],
        "refused": [
            {
                "code": code,
                "meaning": CODES[code].sentence if code in CODES else "",
                "count": f"{number:,}",
                "examples": [_example(one, wording) for one in examples.get(code, [])],
            }
            for code, number in sorted(standing.refused.items(), key=lambda item: -item[1])
        ],
        "unlogged": [
            (outcome, code, f"{number:,}")
            for (outcome, code), number in sorted(outcomes.items(), key=lambda item: -item[1])
        ],
        "letters": [
            (str(one.number), one.code, f"{one.partition}/{one.offset}") for one in letters
        ],
        "witnesses": [
            (
                wording.foreign(name),
                wording.say("operator.cosigns") if problem is None else wording.foreign(problem),
                _aged(size, seconds and seconds * times.SECOND, standing.now, wording),
            )
            for name, size, seconds, problem in standing.witnesses
        ],
        "programs": [(name, str(standing.sessions.get(name, 0))) for name in PROGRAMS],
        "relays": [(name, f"{n:,}") for name, n in standing.behind.items()],
    }


def _facts(seen: Seen, standing: Standing, wording: Wording) -> Rows:
    at = standing.progress
    rows: Rows = [
        (wording.say("operator.entries"), f"{at.next_index:,}"),
        (
            wording.say("operator.signed"),
            _aged(at.signed_size, at.signed_time, standing.now, wording),
        ),
        (
            wording.say("operator.published"),
            _aged(at.published_size, at.published_at, standing.now, wording),
        ),
        (wording.say("operator.certificates"), f"{standing.tally.get(CERTIFICATES, 0):,}"),
        (wording.say("operator.admitted"), f"{standing.tally.get(ADMITTED, 0):,}"),
        (wording.say("operator.refused-events"), f"{sum(standing.refused.values()):,}"),
    ]
    if seen.disk is not None:
        size, free = seen.disk
        said = wording.say(
            "operator.share-of", share=f"{free / max(size, 1):.0%}", size=f"{size / 1e9:,.0f}"
        )
        rows.append((wording.say("operator.disk"), said))
    return rows


def _departments(standing: Standing, wording: Wording) -> Rows:
    rows: Rows = []
    for row in standing.departments[:DEPARTMENTS]:
        silent, limit = row["silent_seconds"], row["silence_limit_seconds"]
        rows.append(
            (
                wording.name(row["names"], row["department"]),
                wording.say(_STATES[row["state"]]),
                "–" if silent is None else wording.duration(silent),
                "–" if limit is None else wording.duration(limit),
                str(row["lane"]),
            )
        )
    return rows


def _attention(seen: Seen, has_kafka: bool, wording: Wording) -> list[str]:
    """What somebody should look at, in sentences; by the thresholds of the alert rules."""
    found = []
    if has_kafka and seen.ends is None:
        found.append(wording.say("operator.no-kafka"))
    if seen.disk is not None and seen.disk[1] < DISK_SHARE * seen.disk[0]:
        share = f"{seen.disk[1] / seen.disk[0]:.0%}"
        found.append(wording.say("operator.disk-low", share=share))
    standing = seen.standing
    if standing is None:
        return [wording.say("operator.no-database"), *found]
    found += [
        wording.say("operator.no-program", program=name)
        for name in PROGRAMS
        if not standing.sessions.get(name)
    ]
    lag = sum((seen.lag or {}).values())
    if lag > LAG:
        found.append(wording.say("operator.lagging", n=f"{lag:,}"))
    at = standing.progress
    age = _seconds_since(at.signed_time, standing.now)
    unsigned = at.next_index - (at.signed_size or 0)
    if age is not None and age > OLD_SECONDS:
        found.append(wording.say("operator.old-checkpoint", age=wording.duration(age)))
    if unsigned and (age is None or age > UNSIGNED_SECONDS):
        found.append(wording.say("operator.unsigned", n=f"{unsigned:,}"))
    unpublished = (at.signed_size or 0) - (at.published_size or 0)
    waited = _seconds_since(at.published_at, standing.now)
    if unpublished and (waited is None or waited > UNPUBLISHED_SECONDS):
        found.append(wording.say("operator.unpublished", n=f"{unpublished:,}"))
    found += [
        wording.say("operator.no-witness", name=wording.foreign(name))
        for name, _, _, problem in standing.witnesses
        if problem is not None
    ]
    found += [
        wording.say("operator.silent", name=wording.name(row["names"], row["department"]))
        for row in standing.departments[:DEPARTMENTS]
        if row["state"] == TOO_LONG
    ]
    return found


def _example(one: Example, wording: Wording) -> str:
    return wording.say(
        "operator.example",
        index=str(one.log_index),
        line=str(one.position),
        lane=f"{one.department}/{one.lane}",
    )


def _aged(size: int | None, at: int | None, now: int, wording: Wording) -> str:
    if size is None:
        return wording.say("operator.nothing")
    age = _seconds_since(at, now)
    said = "?" if age is None else wording.duration(age)
    return wording.say("operator.of-age", n=f"{size:,}", age=said)


def _seconds_since(at: int | None, now: int) -> int | None:
    return None if at is None else max(now - at, 0) // times.SECOND
