"""The workers' turn decides as the one that goes the long way: each step is held against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import identity
from ledger.admission import Certificate, open_record
from ledger.entry import ADMITTED, Source
from ledger.errors import Refused
from tests.memory_view import MemoryView, TwinTurn, check_log
from tests.world import (
    ALL_ACTS,
    OPERATOR,
    START,
    TYPE,
    Book,
    Producer,
    make_event,
)

LANES = 2
OTHER, UNKNOWN = "permit", "never-heard-of"


def _book(versions: int) -> Book:
    book = Book()
    for name in ("a", "b"):
        book.add_department(name, LANES)
    book.set_type([("a", ALL_ACTS, "own"), ("b", ["revoked"], "any")])
    book.set_type([("a", ["renewed", "amended", "suspended"], "own")], OTHER)
    for version in range(1, versions + 1):
        check = f"{version}" * 64
        book.change("pseudonyms", {"version": version, "check": check}, OPERATOR)
    return book


BOOKS = [_book(0), _book(2)]
_LENGTHS = st.integers(0, 12)


class StrictView(MemoryView):
    """As the store's view: no two keys share the half that rows are found by."""

    def certificate(self, key: bytes) -> Certificate | None:
        self._check(key, self.certificates)
        return super().certificate(key)

    def holder(self, key: bytes) -> tuple[int, bytes]:
        self._check(key, self.holders)
        return super().holder(key)

    def _check(self, key: bytes, known: Any) -> None:
        if any(k != key and k[: identity.HEAD] == key[: identity.HEAD] for k in known):
            raise Refused("key-taken")


def _numbers() -> list[str]:
    """Numbers on both lanes, some of whose keys begin with the same byte."""
    found: dict[int, list[str]] = {}
    for number in map(str, range(2000)):
        key = identity.certificate_key(TYPE, "a", number)
        found.setdefault(key[0], []).append(number)
    return [number for byte in sorted(found)[:3] for number in found[byte][:4]]


def _holders() -> list[str]:
    found: dict[int, list[str]] = {}
    for n in range(600):
        pseudonym = f"{n % 3 + 1}:{n:064x}"
        found.setdefault(identity.holder_key(pseudonym)[0], []).append(pseudonym)
    return [pseudonym for byte in sorted(found)[:3] for pseudonym in found[byte][:3]]


NUMBERS, HOLDERS = _numbers(), _holders()
DAYS = ["2026-01-01+08:00", "2026-03-01+08:00", "2026-06-01Z", "unknown"]
MOMENTS = ["2026-03-01T08:00:00+08:00", "2026-06-02T08:00:00.5Z"]


@st.composite
def lines(draw: st.DrawFn, number: int) -> bytes:
    """Mostly first issues, some of them wrong; now and then another act."""
    data: dict[str, Any] = {}
    kind = draw(st.sampled_from(["issued"] * 6 + ["renewed", "amended", "revoked"]))
    serial = draw(st.sampled_from(NUMBERS))
    if kind == "revoked":
        data["revocation_kind"] = "penalty"
    else:
        data |= draw(st.fixed_dictionaries({}, optional={"valid_from": st.sampled_from(DAYS)}))
        ends = st.sampled_from([*DAYS, "open", "2030-01-01Z"])
        data |= draw(st.fixed_dictionaries({}, optional={"valid_until": ends}))
        data |= draw(
            st.fixed_dictionaries({}, optional={"holder_pseudonym": st.sampled_from(HOLDERS)})
        )
    if draw(st.integers(0, 8)) == 0:
        said = identity.Identifier(TYPE, "11430000006122244L", "A123456", 1)
        data["certificate_identifier"] = str(said)
    return make_event(
        kind,
        serial,
        issuer=draw(st.sampled_from(["a"] * 7 + ["b"])),
        type_code=draw(st.sampled_from([TYPE] * 7 + [OTHER, UNKNOWN])),
        time=draw(st.sampled_from(MOMENTS)),
        change=str(draw(st.integers(number, number + 1))),
        **data,
    )


@st.composite
def ledgers(draw: st.DrawFn) -> list[list[tuple[int, list[bytes]]]]:
    """Turns of bundles, each with its lane and its lines, most of which belong there."""
    turns = []
    for turn in range(draw(st.integers(1, 2))):
        bundles = []
        for bundle in range(draw(st.integers(1, 3))):
            said = [draw(lines(100 * turn + 10 * bundle + n)) for n in range(draw(_LENGTHS))]
            bundles.append((draw(st.integers(0, LANES - 1)), said))
        turns.append(bundles)
    return turns


def _run(book: Book, turns: Sequence[Sequence[tuple[int, list[bytes]]]]) -> StrictView:
    view = StrictView(book.registry, book.index)
    producers = [Producer("a", lane, bytes(32), f"{lane:032x}") for lane in range(LANES)]
    offset = 0
    for bundles in turns:
        turn = TwinTurn(view, view.next_index, START)
        for lane, said in bundles:
            record = producers[lane].make(said, START)
            turn.take(Source("A" * 22, 0, offset), open_record(record, book.registry))
            offset += 1
        view.commit(turn)
    return view


@pytest.mark.parametrize("head", [1, 16])
@given(turns=ledgers(), book=st.sampled_from(BOOKS))
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_it_decides_as_the_long_way(
    head: int,
    turns: list[list[tuple[int, list[bytes]]]],
    book: Book,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "HEAD", head)
    check_log(_run(book, turns))


def test_most_issues_go_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests above would show nothing."""
    slow = []
    admit = TwinTurn._admit

    def counted(self: TwinTurn, *said: Any) -> Any:
        slow.append(said)
        return admit(self, *said)

    monkeypatch.setattr(TwinTurn, "_admit", counted)
    numbers = [n for n in map(str, range(100)) if _lane(n) == 0]
    days = {"valid_from": DAYS[0], "valid_until": DAYS[1], "holder_pseudonym": HOLDERS[0]}
    said = [make_event("issued", number, **days) for number in numbers]
    view = _run(BOOKS[0], [[(0, said)]])
    assert view.logged[0].codes == (ADMITTED,) * len(numbers)
    assert len(slow) == 1  # the first one, which looks its grant up


def _lane(number: str) -> int:
    return identity.lane_of(identity.certificate_key(TYPE, "a", number), LANES)
