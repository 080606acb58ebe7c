"""`GET /v1/certificates`, `/v1/history`, `/v1/evidence`: what is asked in the query of a URL.

Parameters, each at most once: `number` or `identifier`, `type`, `issuer`, `at`, `known_at`. Numbers
hold slashes and spaces, so they are never part of a path. An answer without evidence is this
server's word; evidence needs no trust in it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response

from consumers.asking import Asked, ambiguous, attempt, find, find_all, normalised, read_numbers
from consumers.unproven import answer_unproven, print_unproven
from ledger import identity
from ledger.errors import LedgerError, Malformed, Refused
from ledger.evidence import print_evidence
from ledger.lifecycle import effective
from ledger.postgres.reader import Looked, View
from ledger.verdict import Answer

from .database import Database
from .trusting import TrustFile

NAMES = ("number", "identifier", "type", "issuer", "at", "known_at")
MAX_TOGETHER = 64  # questions answered in one transaction
MOST_EVIDENCE = 16  # files made in one transaction
LONGEST_WAIT = 0.02  # seconds, for others to ask again
JSON = "application/json"
T = TypeVar("T")
FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Together(Generic[T]):
    """Works on questions that wait at the same time together, `most` at a time.

    Who just got an answer often asks again: after some were answered, as many are waited for, but
    no longer than those took. Whoever asks alone waits for nobody.
    """

    def __init__(
        self, work: Callable[[list[Asked]], Awaitable[list[T | LedgerError]]], most: int
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[Asked, asyncio.Future[T]]] = []
        self._task: asyncio.Task[None] | None = None
        self._expected = 0  # questions, until `_until`
        self._until = 0.0  # by the loop's clock
        self._enough = asyncio.Event()

    async def ask(self, asked: Asked) -> T:
        """What the work gives for a question; LedgerError where it gives that."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if len(self._waiting) >= self._expected:
            self._enough.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_waiting())
        return await future

    async def _answer_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if len(self._waiting) < self._expected and loop.time() < self._until:
                self._enough.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._until):
                        await self._enough.wait()
            taken = self._waiting[: self._most]
            del self._waiting[: self._most]
            begin = loop.time()
            try:
                answers = await self._work([asked for asked, _ in taken])
            except Exception as err:  # it is every asker's
                for _, future in taken:
                    if not future.done():
                        future.set_exception(err)
                continue
            end = loop.time()
            together = len(taken) + len(self._waiting)
            self._expected = min(max(together, self._expected // 2), self._most)
            self._until = end + min(end - begin, LONGEST_WAIT)
            for (_, future), answer in zip(taken, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, LedgerError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


class Answering:
    """Answers, and evidence, as of now: in one transaction for those that wait together."""

    def __init__(self, database: Database, trust: TrustFile) -> None:
        self._database = database
        self._trust = trust
        self._asking = Together(partial(self.print_all, with_checks=True), MAX_TOGETHER)
        self._proving = Together(self.prove_all, MOST_EVIDENCE)

    async def ask(self, asked: Asked) -> bytes:
        """The answer without evidence as JSON; LedgerError where there is none."""
        return await self._asking.ask(asked)

    async def prove(self, asked: Asked) -> bytes:
        """The evidence file; LedgerError where there is none."""
        return await self._proving.ask(asked)

    async def ask_all(self, questions: list[Asked]) -> list[Answer | LedgerError]:
        """The answers to many questions, or why there is none, in one transaction."""
        trust = self._trust.load()
        now = time.time_ns() // 1000
        return await self._database.view(lambda view: answer_unproven(view, questions, trust, now))

    async def print_all(
        self, questions: list[Asked], with_checks: bool = False
    ) -> list[bytes | LedgerError]:
        """The answers to many questions as JSON."""
        trust = self._trust.load()
        now = time.time_ns() // 1000
        return await self._database.view(
            lambda view: print_unproven(view, questions, trust, now, with_checks)
        )

    async def prove_all(self, questions: list[Asked]) -> list[bytes | LedgerError]:
        """The evidence files for some questions, or why there is none."""
        now = time.time_ns() // 1000
        return await self._database.view(lambda view: make_evidence(view, questions, now))


class Questions:
    """The endpoints."""

    def __init__(self, database: Database, answering: Answering) -> None:
        self._database = database
        self._answering = answering

    async def certificates(self, request: Request) -> Response:
        """The answer to a question, without evidence."""
        answer = await self._answering.ask(parse_query(request.scope["query_string"]))
        return Response(answer, 200, FRESH, JSON)

    async def history(self, request: Request) -> Response:
        """All published events of a certificate."""
        asked = parse_query(request.scope["query_string"])
        body = orjson.dumps(await self._database.view(lambda view: tell_history(view, asked)))
        tag = f'"{sha256(body).hexdigest()[:32]}"'
        headers = {**FRESH, "Cache-Control": "no-cache", "ETag": tag}
        if is_held(request, tag):
            return Response(status_code=304, headers=headers)
        return Response(body, 200, headers, JSON)

    async def evidence(self, request: Request) -> Response:
        """The evidence file for a question, as `certledger evidence` writes it."""
        asked = parse_query(request.scope["query_string"])
        data = await self._answering.prove(asked)
        return Response(data, 200, FRESH, JSON)


def is_held(request: Request, tag: str) -> bool:
    """Whether the caller says that it has this version already (RFC 9110 section 13.1.2)."""
    held = [
        each.strip().removeprefix("W/")
        for each in request.headers.get("if-none-match", "").split(",")
    ]
    return tag in held or held == ["*"]


def parse_query(query: bytes) -> Asked:
    """What a query asks; Malformed `usage` for any other or repeated parameter."""
    return parse_asked(parameters(query, NAMES))


def parameters(query: bytes, names: tuple[str, ...]) -> dict[str, str]:
    """The parameters of a query by name, each of `names` at most once; Malformed otherwise."""
    try:
        pairs = parse_qsl(query.decode("ascii"), True, True, errors="strict", max_num_fields=32)
    except ValueError as err:
        raise Malformed("usage", "the query is not NAME=VALUE&…, percent-encoded UTF-8") from err
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= set(names):
        raise Malformed("usage", f"the parameters are, each at most once: {', '.join(names)}")
    return found


def parse_asked(found: Mapping[str, Any]) -> Asked:
    """The question in members of a query or a line."""
    if any(type(value) is not str for value in found.values()):
        raise Malformed("usage", "the members of a question are strings")
    if ("number" in found) == ("identifier" in found):
        raise Malformed("usage", "one of number and identifier is needed")
    if "identifier" in found:
        text = "".join(identity.normalise_number(found["identifier"]).split()).upper()
        number = str(identity.parse_identifier(text))
    else:
        number = found["number"]
    asked = Asked(
        number, found.get("type"), found.get("issuer"), found.get("at"), found.get("known_at")
    )
    asked.check()
    return asked


def tell_history(view: View, asked: Asked) -> dict[str, Any]:
    """A certificate's events in ledger order, each with both its times."""
    looked = find(view, asked)
    if len(looked.matches) > 1:
        raise Refused("ambiguous", ambiguous(looked).why)
    if not looked.matches:
        raise Refused("not-found", f"the ledger holds no certificate {looked.number[:200]!r}")
    told = view.told_history(looked.matches[0])
    standing = {t.id: t for t in effective([item.step.transition for item in told])}
    return {
        "certificate": looked.matches[0].members(),
        "tree_size": view.size,
        "events": [
            {
                **item.step.transition.members(),
                "index": item.step.index,
                "position": item.step.position,
                "learned_at": item.learned_at,
                "recordedtime": item.recordedtime,
                "stands": item.step.transition.id in standing
                or item.step.transition.corrects is not None,
            }
            for item in told
        ],
    }


def make_evidence(view: View, questions: Sequence[Asked], now: int) -> list[bytes | LedgerError]:
    """The bytes of the evidence file for each question, or why there is none: Refused `ambiguous`
    where several certificates can be meant.
    """
    looked = find_all(view, questions, read_numbers(view, normalised(questions)))
    meant = [
        (one.matches or one.absent)[0]
        for one in looked
        if isinstance(one, Looked) and len(one.matches or one.absent) == 1
    ]
    if len(meant) > 1:
        attempt(view.read_ahead, meant)  # what is damaged is told whom it is about
    return [
        one if isinstance(one, LedgerError) else attempt(_make_evidence, view, asked, one, now)
        for asked, one in zip(questions, looked, strict=True)
    ]


def _make_evidence(view: View, asked: Asked, looked: Looked, now: int) -> bytes:
    meant = looked.matches or looked.absent
    if len(meant) != 1:
        raise Refused("ambiguous", f"{len(meant)} certificates can be meant: give type and issuer")
    question, _ = asked.question(now, view.zone(meant[0].issuer), looked.version)
    return print_evidence(view.evidence(meant[0], question)) + b"\n"
