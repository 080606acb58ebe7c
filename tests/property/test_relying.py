"""Who is told of what, against a slow oracle that reads lines in the log's order and no state."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import canonical, lifecycle
from ledger.entry import ADMITTED, BUNDLE, code_at, parse_entry
from ledger.identity import certificate_key, lane_of
from ledger.reliance import is_reliance, parse_reliance
from tests.ledger_builder import LedgerBuilder
from tests.memory_view import recalls
from tests.world import SERVICE, make_reliance

NUMBERS = ("A-1", "B-2")
CASES = ("1", "2", "3")
OFFICES = ("office", "other")
ACTS: dict[str, dict[str, str]] = {
    "suspended": {"reason_code": "inspection"},
    "reinstated": {},
    "amended": {},
    "renewed": {},
    "revoked": {"revocation_kind": "annulled"},
}

steps = st.one_of(
    st.tuples(
        st.just("relied"),
        st.sampled_from(OFFICES),
        st.sampled_from(CASES),
        st.sets(st.sampled_from(NUMBERS), min_size=1),
        st.sampled_from(["decision", "entitlement"]),
        st.integers(0, 3),
    ),
    st.tuples(st.just("ended"), st.sampled_from(OFFICES), st.sampled_from(CASES)),
    st.tuples(st.sampled_from(sorted(ACTS)), st.sampled_from(NUMBERS)),
    st.tuples(st.just("status")),
    st.tuples(st.just("cut")),
)


class Said(NamedTuple):
    """One admitted line at its place."""

    place: tuple[int, int]
    value: dict[str, Any]


def admitted(ledger: LedgerBuilder) -> list[Said]:
    found = []
    for index, data in enumerate(ledger.entries):
        entry = parse_entry(data)
        if entry["kind"] == BUNDLE:
            for position, line in enumerate(ledger.lines[index]):
                if code_at(entry["outcome"], position) == ADMITTED:
                    found.append(Said((index, position), canonical.parse(line, 65_536)))
    return found


def due(ledger: LedgerBuilder) -> set[tuple[str, str, bytes, tuple[int, int]]]:
    """(office, hidden case, certificate, place of the event) of everything to be told."""
    said = admitted(ledger)
    out = set()
    for n, one in enumerate(said):
        data = one.value["data"]
        if not one.value["type"].startswith("certledger.reliance.relied"):
            continue
        same = [
            other
            for other in said[n + 1 :]
            if "office" in other.value["data"]
            and all(other.value["data"][k] == data[k] for k in ("office", "service", "case"))
        ]
        for item in data["certificates"]:
            key = bytes.fromhex(item["map_key"])
            until = next(
                (
                    other.place
                    for other in same
                    if "certificates" not in other.value["data"]
                    or item["map_key"]
                    in {c["map_key"] for c in other.value["data"]["certificates"]}
                ),
                (1 << 60, 0),
            )
            for other in said:
                event = other.value["data"]
                if "certificate_number" not in event:
                    continue
                name = (event["certificate_type_code"], "a", event["certificate_number"])
                kind = other.value["type"].split(".")[2]
                is_news = kind != "issued" and (
                    data["lasts"] == "entitlement"
                    or kind == "corrected"
                    or event.get("revocation_kind") == "annulled"
                )
                if (
                    certificate_key(*name) == key
                    and is_news
                    and data["tree_size"] <= other.place[0]
                    and other.place < until
                ):
                    out.add((data["office"], data["case"], key, other.place))
    return out


def play(story: list[tuple[Any, ...]]) -> LedgerBuilder:
    ledger = LedgerBuilder({"a": 1, "office": 2, "other": 1})
    ledger.book.set_service(SERVICE, *OFFICES)
    ledger.sync_registry()
    for number in NUMBERS:
        ledger.admit("issued", number)
    sizes = [ledger.status() + 1]
    waiting: list[tuple[str, int, list[bytes]]] = []

    def flush() -> None:
        if waiting:
            ledger.publish_together(waiting)
            waiting.clear()

    for n, step in enumerate(story):
        kind = step[0]
        if kind in ("status", "cut"):
            flush()
            if kind == "status":
                ledger.advance(60)
                sizes.append(ledger.status() + 1)
        elif kind in ("relied", "ended"):
            data: dict[str, Any] = {}
            if kind == "relied":
                data = {"lasts": step[4], "tree_size": sizes[-min(step[5], len(sizes) - 1) - 1]}
            numbers = sorted(step[3]) if kind == "relied" else []
            line = make_reliance(kind, step[2], *numbers, office=step[1], change=str(n), **data)
            lane = lane_of(parse_reliance(line, b"").key, {"office": 2, "other": 1}[step[1]])
            waiting.append((step[1], lane, [line]))
        else:
            line = ledger.event(kind, step[1], change=str(n), **ACTS[kind])
            waiting.append(("a", 0, [line]))
    flush()
    return ledger


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=24))
def test_exactly_those_are_told_who_rely(story: list[tuple[Any, ...]]) -> None:
    ledger = play(story)
    told = recalls(ledger.view)
    found = [(r.office, r.case, r.certificate, (r.log_index, r.position)) for r in told]
    assert set(found) == due(ledger)
    assert len({r.id for r in told}) == len(told)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=24))
def test_nothing_is_relied_on_that_was_not_valid_then(story: list[tuple[Any, ...]]) -> None:
    ledger = play(story)
    for said in admitted(ledger):
        if not is_reliance(canonical.format(said.value)) or "tree_size" not in said.value["data"]:
            continue
        size = said.value["data"]["tree_size"]
        for item in said.value["data"]["certificates"]:
            key = bytes.fromhex(item["map_key"])
            known = [
                t for (index, _), t in zip(
                    ledger.view.places[key], ledger.view.histories[key], strict=True
                )
                if index < size
            ]  # fmt: skip
            then = ledger.view.status_times[size - 1]
            found = lifecycle.answer(known, then)
            assert (found.answer, found.version) == ("valid", item["version"])
