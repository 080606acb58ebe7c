"""Who may rely on what at which checkpoint, and which change of it is told to whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from consumers.fsck_lines import Beside
from ledger import canonical, merkle
from ledger.admission import parse_lines
from ledger.bundle import format_record, parse_record
from ledger.entry import parse_entry
from ledger.errors import LedgerError
from ledger.event import Event
from ledger.identity import certificate_key, lane_of
from ledger.postgres.rows import pack_lines
from ledger.registry import apply_note
from ledger.reliance import (
    MAX_CERTIFICATES,
    Reliance,
    format_recall,
    hold_id,
    is_recalled,
    is_reliance,
    parse_reliance,
    recall_id,
)
from tests import world
from tests.ledger_builder import LedgerBuilder
from tests.memory_view import recalls
from tests.world import SERVICE, TYPE, make_reliance

LICENCE, PERMIT = "A-1", "B-2"


class Town(LedgerBuilder):
    """Issuer `a`, offices `office` and `other`; one service, offered by `office` alone."""

    def __init__(self) -> None:
        super().__init__({"a": 1, "office": 2, "other": 1})
        self.book.set_service(SERVICE, "office")
        self.sync_registry()
        for number in (LICENCE, PERMIT):
            self.admit("issued", number, valid_until="2027-12-31+08:00")
        self.advance(86_400)
        self.size = self.status() + 1

    def say(self, *lines: bytes, office: str = "office") -> list[str]:
        """The codes that lines get, in a bundle on the lane of the first one."""
        lanes = self.view.registry.lanes(office)
        lane = lane_of(parse_reliance(lines[0], b"").key, lanes)
        done = self.publish(lines, office, lane)
        assert done.index is not None
        outcome = parse_entry(self.entries[done.index])["outcome"]
        codes = [""] * len(lines)
        for code, runs in outcome.items():
            for start, length in zip(runs[::2], runs[1::2], strict=True):
                codes[start : start + length] = [code] * length
        return codes

    def rely(self, case: str, *numbers: str, office: str = "office", **members: Any) -> str:
        """The code of one `relied` line."""
        members.setdefault("tree_size", self.size)
        return self.say(
            make_reliance("relied", case, *numbers, office=office, **members), office=office
        )[0]

    def end(self, case: str, **members: Any) -> str:
        return self.say(make_reliance("ended", case, **members))[0]

    def told(self) -> list[tuple[str, str]]:
        """(hidden case, kind of event) of all notices so far."""
        return [(r.case, r.kind) for r in recalls(self.view)]


def case_of(case: str) -> str:
    return parse_reliance(make_reliance("ended", case), b"").case


# --- the line


def test_a_line_says_what_it_said() -> None:
    line = make_reliance("relied", "2026-1", LICENCE, PERMIT, tree_size=8)
    item = parse_reliance(line, merkle.leaf_hash(line))
    assert is_reliance(line)
    assert not is_reliance(world.make_event("issued", "1"))
    assert (item.kind, item.office, item.service, item.tree_size) == (
        "relied",
        "office",
        SERVICE,
        8,
    )
    assert {key for key, _, _ in item.certificates} == {
        certificate_key(TYPE, "a", number) for number in (LICENCE, PERMIT)
    }
    assert b"2026-1" not in line
    assert b"ann" not in line


def test_a_line_names_what_is_met() -> None:
    key, other = sorted(certificate_key(TYPE, "a", n) for n in (LICENCE, PERMIT))
    listed = [
        {"map_key": key.hex(), "version": 1, "meets": [["premises", "lease"], ["trade", "deed"]]},
        {"map_key": other.hex(), "version": 2, "meets": [["trade", "licence"]]},
    ]
    line = make_reliance("relied", "1", tree_size=8, certificates=listed, catalogue="ab" * 32)
    assert parse_reliance(line, b"").certificates == (
        (key, 1, (("premises", "lease"), ("trade", "deed"))),
        (other, 2, (("trade", "licence"),)),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"tree_size": 0},
        {"tree_size": True},
        {"lasts": "for-ever"},
        {"use_for": "张三"},
        {"clerk": "ann"},
        {"case": "2026-1"},
        {"service": "a b"},
        {"office": ""},
        {"certificates": []},
        {"certificates": [{"map_key": "00" * 32, "version": 0}]},
        {"certificates": [{"map_key": "00" * 32, "version": 1}] * 2},
        {"certificates": [{"map_key": "00" * 31, "version": 1}]},
        {"certificates": [{"map_key": "00" * 32, "version": 1, "meets": [["a", "b"]]}]},
        {
            "certificates": [
                {"map_key": f"{n:064x}", "version": 1} for n in range(MAX_CERTIFICATES + 1)
            ]
        },
        {"catalogue": "ab" * 32},
        {"holder_name": "张三"},
    ],
    ids=str,
)
def test_nothing_else_is_a_line(change: dict[str, Any]) -> None:
    line = make_reliance("relied", "1", LICENCE, tree_size=8)
    value = canonical.parse(line, 65_536)
    value["data"] |= change
    with pytest.raises(LedgerError) as caught:
        parse_reliance(canonical.format(value), b"")
    assert caught.value.code == "malformed-reliance"


def test_an_ended_line_says_no_more_than_its_case() -> None:
    value = canonical.parse(make_reliance("ended", "1"), 65_536)
    for name, said in (("catalogue", "ab" * 32), ("tree_size", 8)):
        with pytest.raises(LedgerError, match="malformed-reliance"):
            parse_reliance(canonical.format({**value, "data": {**value["data"], name: said}}), b"")


# --- who may


def test_an_office_relies_on_what_was_valid_at_the_checkpoint() -> None:
    town = Town()
    assert town.rely("1", LICENCE, PERMIT) == "admitted"
    assert town.rely("2", LICENCE) == "admitted"
    assert town.end("1") == "admitted"


def test_reliances_stay_out_of_the_public_lists() -> None:
    town = Town()
    town.rely("1", LICENCE)
    entry = parse_entry(town.entries[-1])
    assert entry["certificates"] == merkle.EMPTY_ROOT.hex()
    assert b"2026" not in town.entries[-1] or case_of("1").encode() not in town.entries[-1]


def test_each_wrong_receipt_has_its_own_answer() -> None:
    town = Town()
    town.admit("suspended", PERMIT, reason_code="inspection")
    town.advance(60)
    later = town.status() + 1
    codes = {
        "not-valid-then": town.rely("1", PERMIT, tree_size=later),
        "unknown-checkpoint": town.rely("1", LICENCE, tree_size=town.size - 1),
        "not-issued": town.rely("1", "C-3"),
        "unregistered-service": town.rely("1", LICENCE, service="marry"),
        "service-not-authorised": town.rely("1", LICENCE, office="other"),
        "unknown-case": town.end("1"),
        "unknown-catalogue": town.rely("1", catalogue="ab" * 32, certificates=[
            {"map_key": certificate_key(TYPE, "a", LICENCE).hex(), "version": 1,
             "meets": [["trade", "licence"]]}
        ]),
    }  # fmt: skip
    assert codes == {code: code for code in codes}
    assert town.rely("1", PERMIT) == "admitted", "it was valid at the checkpoint before"
    assert town.rely("2", LICENCE, versions=[2]) == "not-valid-then"
    assert town.rely("1", PERMIT, LICENCE, change="2", tree_size=10**15) == "unknown-checkpoint"


def test_a_case_does_not_go_back_nor_on_after_its_end() -> None:
    town = Town()
    town.advance(60)
    later = town.status() + 1
    assert town.rely("1", LICENCE, tree_size=later) == "admitted"
    assert town.rely("1", LICENCE, change="2") == "reliance-out-of-order"
    assert town.rely("1", PERMIT, change="2") == "admitted", "of another certificate"
    assert town.end("1") == "admitted"
    assert town.end("1") == "repeat"
    assert town.end("1", change="2") == "reliance-ended"
    assert town.rely("1", PERMIT, change="3") == "reliance-ended"


def test_a_line_said_again_is_a_repeat_and_another_one_under_its_id_is_not() -> None:
    town = Town()
    assert town.rely("1", LICENCE) == "admitted"
    assert town.rely("1", LICENCE) == "repeat"
    same = parse_reliance(make_reliance("relied", "1", LICENCE, tree_size=town.size), b"").id
    assert town.rely("1", PERMIT, reliance_id=same) == "event-id-conflict"
    assert town.rely("2", PERMIT, reliance_id=same) == "admitted", "ids are a case's own"


def test_nobody_speaks_for_another_office() -> None:
    town = Town()
    line = make_reliance("relied", "1", LICENCE, tree_size=town.size)
    assert town.rely("1", LICENCE) == "admitted"
    assert town.say(line, office="other") == ["act-not-authorised"], "replayed by a stranger"


def test_a_reliance_has_its_lane() -> None:
    town = Town()
    lines = [make_reliance("relied", str(n), LICENCE, tree_size=town.size) for n in range(8)]
    lanes = [lane_of(parse_reliance(line, b"").key, 2) for line in lines]
    codes = town.say(*lines)
    expected = ["admitted" if lane == lanes[0] else "wrong-lane" for lane in lanes]
    assert codes == expected
    assert len(set(codes)) == 2


def test_who_lost_the_service_may_still_end_what_it_began() -> None:
    town = Town()
    town.rely("1", LICENCE)
    town.book.set_service(SERVICE, "other")
    town.sync_registry()
    assert town.rely("2", LICENCE) == "service-not-authorised"
    assert town.end("1") == "admitted"
    offices = town.book.registry.value(f"service/{SERVICE}")
    assert offices is not None
    assert [o["department"] for o in offices["offices"] if o["until"] is None] == ["other"]


def test_a_bundle_folds_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.admission.MAX_FOLDED", 3)
    town = Town()
    lines = [make_reliance("relied", "1", LICENCE, tree_size=town.size, change=str(n))
             for n in range(5)]  # fmt: skip
    assert town.say(*lines) == ["admitted"] * 3 + ["history-too-long"] * 2


def test_what_a_bundle_folds_does_not_depend_on_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsck and a restore take bundle by bundle what workers took together."""
    monkeypatch.setattr("ledger.admission.MAX_FOLDED", 3)
    codes = []
    for together in (True, False):
        town = Town()
        relied = ["fresh", LICENCE, LICENCE, LICENCE]
        lines = [make_reliance("relied", "1", number, tree_size=town.size, change=f"{n}")
                 for n, number in enumerate(relied)]  # fmt: skip
        lane = lane_of(parse_reliance(lines[0], b"").key, 2)
        issuing = ("a", 0, [town.event("issued", "fresh")])
        relying = ("office", lane, lines)
        for bundles in [[issuing, relying]] if together else [[issuing], [relying]]:
            town.publish_together(bundles)
        codes.append(town.view.logged[-1].codes)
    assert codes == [("not-issued", "admitted", "admitted", "history-too-long")] * 2


@pytest.mark.parametrize(
    ("offices", "code"),
    [(["b", "a"], "malformed-note"), (["a", "a"], "malformed-note"), ("a", "malformed-note"),
     (["stranger"], "unknown-department")],
)  # fmt: skip
def test_a_service_names_offices_that_there_are(offices: object, code: str) -> None:
    book = world.Book()
    book.add_department("a")
    change = {"names": {"zh": "开办餐饮店"}, "offices": offices}
    with pytest.raises(LedgerError, match=code):
        apply_note(
            book.registry, book.note(f"service/{SERVICE}", change, book.operator), book.index, 0
        )
    signer = world.registry_signer("a")
    note = book.note(f"service/{SERVICE}", {**change, "offices": ["a"]}, signer)
    with pytest.raises(LedgerError, match="registry-signature"):
        apply_note(book.registry, note, book.index, 0)


# --- what is recalled


@pytest.mark.parametrize(
    ("kind", "revocation", "decision", "entitlement"),
    [
        ("revoked", "annulled", True, True),
        ("revoked", "penalty", False, True),
        ("revoked", "deregistered", False, True),
        ("corrected", None, True, True),
        ("suspended", None, False, True),
        ("reinstated", None, False, True),
        ("amended", None, False, True),
        ("renewed", None, False, True),
        ("expired", None, False, True),
        ("transferred-out", None, False, True),
        ("transferred-in", None, False, True),
        ("issued", None, False, False),
    ],
)
def test_how_long_a_reliance_lasts_says_what_is_news(
    kind: str, revocation: str | None, decision: bool, entitlement: bool
) -> None:
    assert is_recalled("decision", kind, revocation) is decision
    assert is_recalled("entitlement", kind, revocation) is entitlement


def test_those_who_rely_are_told_and_nobody_else() -> None:
    town = Town()
    town.rely("1", LICENCE)
    town.rely("2", LICENCE, lasts="entitlement")
    town.rely("3", PERMIT, lasts="entitlement")
    town.rely("4", LICENCE, lasts="entitlement")
    town.end("4")
    town.admit("suspended", LICENCE, reason_code="inspection")
    assert town.told() == [(case_of("2"), "suspended")]
    town.admit("revoked", LICENCE, revocation_kind="annulled")
    assert sorted(town.told()[1:]) == sorted([(case_of("1"), "revoked"), (case_of("2"), "revoked")])


def test_a_reliance_that_comes_after_the_revocation_is_recalled_at_once() -> None:
    """The answer was given before; what was decided by it stands on something that fell."""
    town = Town()
    town.admit("revoked", LICENCE, revocation_kind="annulled")
    assert town.told() == []
    assert town.rely("1", LICENCE) == "admitted"
    assert town.told() == [(case_of("1"), "revoked")]
    town.advance(60)
    assert town.rely("2", LICENCE, tree_size=town.status() + 1) == "not-valid-then"
    assert len(town.told()) == 1


def test_both_in_one_turn_are_recalled_in_either_order() -> None:
    for relied_first in (True, False):
        town = Town()
        line = make_reliance("relied", "1", LICENCE, tree_size=town.size)
        fall = town.event("revoked", LICENCE, revocation_kind="annulled")
        for lines, who in [((line,), "office"), ((fall,), "a")][:: 1 if relied_first else -1]:
            lane = lane_of(parse_reliance(line, b"").key, 2) if who == "office" else 0
            town.publish(lines, who, lane)
        assert town.told() == [(case_of("1"), "revoked")]


def test_relying_again_tells_nothing_twice() -> None:
    town = Town()
    town.rely("1", LICENCE)
    town.admit("revoked", LICENCE, revocation_kind="annulled")
    assert town.rely("1", LICENCE, change="2") == "admitted", "at the same checkpoint"
    found = recalls(town.view)
    assert len(found) == len({r.id for r in found}) == 1


def test_what_lasts_longer_hears_what_was_no_news_before() -> None:
    town = Town()
    town.rely("1", LICENCE)
    town.admit("suspended", LICENCE, reason_code="inspection")
    assert town.told() == []
    town.rely("1", LICENCE, change="2", lasts="entitlement")
    assert town.told() == [(case_of("1"), "suspended")]


def test_a_notice_names_neither_certificate_nor_service() -> None:
    town = Town()
    town.rely("1", PERMIT, LICENCE)
    town.admit("revoked", LICENCE, revocation_kind="annulled", reason_code="forged")
    (recall,) = recalls(town.view)
    notice = format_recall(world.ORIGIN, recall)
    key = certificate_key(TYPE, "a", LICENCE)
    for hidden in (key.hex(), LICENCE, SERVICE, TYPE):
        assert hidden.encode() not in notice
    item = parse_reliance(make_reliance("relied", "1", LICENCE, PERMIT, tree_size=town.size), b"")
    assert canonical.parse(notice, 4096)["data"] == {
        "change": {"event": "revoked", "reason": "forged", "revocation_kind": "annulled"},
        "hold": hold_id(item.case, key),
        "log_index": len(town.entries) - 1,
        "office": "office",
        "position": 0,
    }
    number = [k for k, _, _ in item.certificates].index(key)
    assert recall.id == recall_id(item.case, item.id, number, len(town.entries) - 1, 0)


def test_notices_do_not_tell_which_certificates_are_one_cases() -> None:
    """All offices read them: who could join two would know that they are one person's."""
    town = Town()
    town.rely("1", LICENCE, PERMIT)
    for number in (LICENCE, PERMIT):
        town.admit("revoked", number, revocation_kind="annulled")
    one, other = (canonical.parse(format_recall(world.ORIGIN, r), 4096) for r in recalls(town.view))
    words = [
        {v for v in (*n.values(), *n["data"].values()) if isinstance(v, str) and v}
        for n in (one, other)
    ]
    assert {w for w in words[0] & words[1] if re.search(r"[0-9a-f]{16}", w)} == set()
    assert case_of("1").encode() not in canonical.format(one)


def test_a_case_has_only_so_many_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn reads all of them: without a limit one office could make it as slow as it likes."""
    monkeypatch.setattr("ledger.relying.MAX_ACTS", 2)
    town = Town()
    codes = [town.rely("1", LICENCE, change=str(n)) for n in range(3)]
    assert codes == ["admitted", "admitted", "history-too-long"]
    assert town.end("1") == "admitted"


def test_the_same_lines_in_another_cut_say_the_same() -> None:
    """One bundle after the other or all in one turn: what is told follows from the log alone."""
    first, second = Town(), Town()
    story: Sequence[tuple[str, bytes]] = [
        ("office", make_reliance("relied", "1", LICENCE, tree_size=first.size)),
        ("a", first.event("suspended", LICENCE, reason_code="inspection")),
        ("office", make_reliance("relied", "2", LICENCE, tree_size=first.size)),
        ("a", first.event("revoked", LICENCE, revocation_kind="annulled")),
    ]
    for who, line in story:
        lane = lane_of(parse_reliance(line, b"").key, 2) if who == "office" else 0
        first.publish([line], who, lane)
    second.publish_together(
        [(who, lane_of(parse_reliance(line, b"").key, 2) if who == "office" else 0, [line])
         for who, line in story]
    )  # fmt: skip
    assert first.entries == second.entries
    assert recalls(first.view) == recalls(second.view) != []


@pytest.mark.parametrize("parse", ["slow", "fast"])
def test_lines_come_through_the_pipe_as_they_are(parse: str) -> None:
    town = Town()
    lines = [
        town.event("amended", LICENCE),
        make_reliance("relied", "1", LICENCE, tree_size=town.size),
        b"no line",
        make_reliance("ended", "1"),
    ]
    done = town.publish(lines)
    assert done.index is not None
    note = parse_entry(town.entries[done.index])["note"].encode()
    beside = Beside(parse)
    try:
        packed = pack_lines(parse_record(format_record(note, lines)))
        chunks = [(number, data) for number, (data, _) in enumerate(packed)]
        beside.send([(town.entries[done.index], chunks)])
        (opened,) = beside.receive()
    finally:
        beside.close()
    assert opened == parse_lines(parse_record(format_record(note, lines)))
    assert [type(one) for one in opened] == [Event, Reliance, str, Reliance]
