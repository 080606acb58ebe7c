"""The generated town is repeatable, well formed and as varied as it says."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from stdnum.cn import ric, uscc

from ledger.event import FIELDS
from ledger.identity import parse_identifier
from producers import town
from producers.importing import draft_config
from producers.lines import LineMaker


def test_one_seed_gives_the_same_events() -> None:
    assert list(town.events(7, 500)) == list(town.events(7, 500))
    one = {event["certificate_number"] for event in town.events(7, 500)}
    assert one.isdisjoint(event["certificate_number"] for event in town.events(8, 500))


def test_every_kind_of_event_is_there() -> None:
    kinds = Counter(event["event"] for event in town.events(3, 600))
    assert kinds.keys() == FIELDS.keys()
    assert kinds.total() == 600
    acting = {event["department"] for event in town.events(3, 600)}
    assert acting == {item["id"] for item in town.departments()}


def test_codes_and_identifiers_check() -> None:
    for item in town.departments():
        uscc.validate(item["authority_code"])
    for kind in town.types():
        uscc.validate(kind["standard_code"][:18])
        assert len(kind["standard_code"]) == 21
    for event in town.events(1, 400):
        if "certificate_identifier" in event:
            parse_identifier(event["certificate_identifier"])
        if "holder" in event:
            scheme, number = event["holder"]["scheme"], event["holder"]["number"]
            (ric if scheme == "111" else uscc).validate(number)


def test_every_event_can_be_a_line_and_ids_are_unique() -> None:
    makers = {
        item["id"]: LineMaker(draft_config(item["id"], town._SHANGHAI), lambda: 0)
        for item in town.departments()
    }
    made = [makers[event["department"]].make(event) for event in town.events(5, 2000)]
    assert len({line.id for line in made}) == 2000
    again = [makers[event["department"]].make(event) for event in town.events(5, 2000)]
    assert [line.line for line in made] == [line.line for line in again]


def test_some_events_are_late_and_back_dated() -> None:
    events = list(islice(town.events(2, 1000), 1000))
    late = [event for event in events if "recordedtime" in event]
    assert 20 < len(late) < 150
    assert all(event["time"] < event["recordedtime"] for event in late)
    issued = [event for event in events if event["event"] == "issued" and "valid_from" in event]
    assert any(event["valid_from"] < event["time"][:10] for event in issued)
    assert any(event["valid_from"] == "unknown" for event in issued)
