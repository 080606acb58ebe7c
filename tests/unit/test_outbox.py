"""The outbox without a database: which rows become lines, which can be none, which wait."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Malformed
from producers.lines import PLAIN, Line
from producers.outbox_table import _MOST_ROW, _judge, _Row, sql

_HOLDER = {"holder_scheme", "holder_number"}


def row(number: int, certificate: str, *, issuer: str | None = None, **said: Any) -> _Row:
    text = json.dumps({"event": "issued", "valid_from": None, **said})
    return _Row(number, f"change {number}", "taxi", issuer, certificate, text)


def make(plain: Mapping[str, Any]) -> Line:
    if plain.get("valid_from") == "bad":
        raise Malformed("malformed-time", "'bad' is no day like 2016-12-01")
    return Line(b"", b"", json.dumps(dict(plain), sort_keys=True))


def judge(*rows: _Row, held: dict[bytes, int] | None = None) -> Any:
    return _judge([(one, one.key("dept")) for one in rows], held or {}, make)


def test_a_row_that_can_be_no_event_holds_back_its_own_certificate_alone() -> None:
    done = judge(
        row(1, "A-1"),
        row(2, "A-2", valid_from="bad"),
        row(3, "A-2"),
        row(4, " Ａ－２ ", issuer="dept"),
        row(5, "A-2", issuer="other"),
        row(6, "A-1"),
    )
    assert [number for number, _ in done.made] == [1, 5, 6]
    assert [(bad.id, bad.change_id, bad.code) for bad in done.bad] == [
        (2, "change 2", "malformed-time")
    ]
    assert done.waiting == [(3, 2), (4, 2)]


def test_what_was_held_before_is_still_waited_for() -> None:
    done = judge(row(8, "A-2"), row(9, "A-3"), held={row(1, "A-2").key("dept"): 1})
    assert (done.waiting, [number for number, _ in done.made]) == ([(8, 1)], [9])


def test_a_row_says_its_plain_event() -> None:
    said = row(1, "A-1", holder_scheme="001", holder_number="9", claims={"a": "b"}).plain()
    assert said == {
        "event": "issued",
        "holder": {"scheme": "001", "number": "9"},
        "claims": {"a": "b"},
    }


def test_half_a_holder_and_a_row_too_large_are_named() -> None:
    half, large = row(1, "A-1", holder_number="9"), row(2, "A-2", claims={"a": "x" * _MOST_ROW})
    reasons = [(bad.code, bad.reason) for bad in judge(half, large).bad]
    assert reasons == [
        ("malformed-event", "holder_scheme and holder_number are needed, here is only number"),
        ("line-too-large", "the row has over 262,144 characters"),
    ]


@given(st.text(), st.none() | st.text(), st.text(), st.text(max_size=80))
def test_any_row_becomes_a_line_or_is_held(kind: str, issuer: str, number: str, text: str) -> None:
    done = judge(_Row(1, "c", kind, issuer, number, text))
    assert len(done.made) + len(done.bad) == 1


def test_the_columns_are_what_a_plain_event_may_say() -> None:
    """An application finds the names of `certledger publish --help`."""
    head = sql("outbox").split("-- What became of it")[0]
    columns = set(re.findall(r"^    (\w+) (?:text|jsonb|timestamptz)", head, re.M))
    assert columns - _HOLDER == PLAIN.keys() - {
        *("department", "source", "record_key", "id", "holder"),
        *("commitments", "salt_key_version"),
    }
    read = re.search(r"LATERAL \(\s+SELECT (.*?)\) AS said", sql("read_untaken"), re.S)
    assert read is not None
    assert set(re.findall(r"\w+", read[1])) - {"o"} == columns
