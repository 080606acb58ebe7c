"""Everything a holder has: what a file proves, and every way in which it may lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import canonical, identity, merkle, times
from ledger.errors import Malformed, Refused
from ledger.evidence import CertificateId, Shown
from ledger.holder_checking import HolderAnswer, check_holder, check_holder_file
from ledger.holder_evidence import (
    Act,
    HolderEvidence,
    format_holder_evidence,
    is_holder_evidence,
    parse_holder_evidence,
)
from ledger.proving import prove_holder
from ledger.statusmap import Membership
from ledger.verdict import FAILED
from tests import world
from tests.ledger_builder import LedgerBuilder

ONE, TWO = (tuple(f"{version}:{holder * 64}" for version in (1, 2)) for holder in "ab")
NOBODY = tuple(f"{version}:{'e' * 64}" for version in (1, 2))


def build(others: int = 20) -> LedgerBuilder:
    """Holder ONE has A and B under version 1, D under 2, had C and E; TWO has C."""
    ledger = LedgerBuilder()
    for version in (1, 2):
        change = {"version": version, "check": f"{version:064x}"}
        ledger.change("pseudonyms", change, world.OPERATOR)
    ledger.publish(
        [
            ledger.event("issued", "A", holder_pseudonym=ONE[0]),
            ledger.event("issued", "B", holder_pseudonym=ONE[0]),
            ledger.event("issued", "C", holder_pseudonym=ONE[0]),
            ledger.event("issued", "E", holder_pseudonym=ONE[0]),
            *(
                ledger.event("issued", f"X{n}", holder_pseudonym=f"1:{n:064x}")
                for n in range(others)
            ),
        ]
    )
    ledger.status()
    ledger.admit("amended", "C", holder_pseudonym=TWO[0])
    ledger.admit("issued", "D", holder_pseudonym=ONE[1])
    ledger.admit("amended", "E", holder_pseudonym=TWO[0])
    ledger.admit("amended", "B", holder_pseudonym=TWO[0])
    ledger.admit("amended", "B", change="2", holder_pseudonym=ONE[0])
    return ledger


@cache
def shared() -> LedgerBuilder:
    return build()


def made(pseudonyms: Sequence[str] = ONE, ledger: LedgerBuilder | None = None) -> HolderEvidence:
    ledger = ledger or shared()
    return prove_holder(ledger.source(), pseudonyms, ledger.now)


def judge(evidence: HolderEvidence | bytes, **members: Any) -> HolderAnswer:
    """What a file says, printed and read again."""
    data = evidence if isinstance(evidence, bytes) else format_holder_evidence(evidence)
    ledger = shared()
    return check_holder_file(data, ledger.trust(), members.pop("now", ledger.now), **members)


def numbers(answer: HolderAnswer) -> list[str]:
    return [certificate.number for certificate in answer.certificates]


def failed(answer: HolderAnswer) -> list[str]:
    return [check.name for check in answer.checks if check.result == FAILED]


# --- what is proven


def test_everything_that_is_bound_is_listed() -> None:
    answer = judge(made())
    assert (answer.answer, answer.reason, answer.exit) == ("listed", "all-that-is-bound", 0)
    assert numbers(answer) == ["A", "B", "D"]
    assert answer.formerly == 2
    assert [check.name for check in answer.checks] == [
        "event-signature", "authority", "inclusion", "checkpoint", "status", "freshness",
        "disclosures",
    ]  # fmt: skip
    assert all(check.why for check in answer.checks)
    other = judge(made(TWO))
    assert (numbers(other), other.formerly) == (["C", "E"], 1)


def test_nothing_is_proven_to_be_bound() -> None:
    answer = judge(made(NOBODY))
    assert (answer.answer, answer.exit, numbers(answer)) == ("nothing-bound", 3, [])
    mixed = judge(made((NOBODY[0], ONE[1])))
    assert (mixed.answer, numbers(mixed)) == ("listed", ["D"])


def test_what_is_no_longer_bound_is_shown_by_its_map_key_only() -> None:
    data = format_holder_evidence(made())
    value = json.loads(data)
    shown = {c["number"] for c in value["certificates"] if type(c) is dict}
    assert shown == {"A", "B", "D"}
    assert sum(type(c) is str for c in value["certificates"]) == 2


def test_json_of_the_answer() -> None:
    answer = judge(made()).members()
    assert answer["certificates"][0] == {"type": world.TYPE, "issuer": "a", "number": "A"}
    assert answer["pseudonyms"] == list(ONE)
    assert answer["formerly_bound"] == 2
    assert answer["names"][f"type/{world.TYPE}"] == {"zh": "营业执照"}
    assert answer["tree_size"] == len(shared().entries)
    assert {c["result"] for c in answer["checks"]} == {"passed", "not-checked"}


def test_the_file_is_printed_again_to_the_same_bytes() -> None:
    evidence = made()
    data = format_holder_evidence(evidence)
    assert parse_holder_evidence(data) == evidence
    assert parse_holder_evidence(data + b"\n") == evidence
    assert is_holder_evidence(data)
    value = json.loads(data)
    value["certificates"].reverse()  # the same acts by other numbers
    for act in value["pseudonyms"][0]["acts"] + value["pseudonyms"][1]["acts"]:
        act["certificate"] = len(value["certificates"]) - 1 - act["certificate"]
    for other in (canonical.format(value), data + b"\n\n"):
        with pytest.raises(Malformed):
            parse_holder_evidence(other)
    assert judge(data + b" ").reason == "evidence-refused"


def test_a_pseudonym_for_every_version_is_asked_for() -> None:
    for wrong in (ONE[:1], ONE[1:], (*ONE, "3:" + "a" * 64), (*ONE, TWO[0])):
        with pytest.raises(Malformed, match=r"\[1, 2\]"):
            made(wrong)
    with pytest.raises(Refused, match="names no version"):
        made(ONE, LedgerBuilder())


# --- freshness


def test_an_old_list_goes_stale_and_keeps_its_meaning() -> None:
    data = format_holder_evidence(made())
    ledger = shared()
    late = ledger.now + 40 * 86_400 * times.SECOND
    answer = judge(data, now=late)
    assert (answer.answer, answer.reason, answer.exit) == ("cannot-decide", "checkpoint-stale", 4)
    assert numbers(answer) == ["A", "B", "D"]
    relied = judge(data, now=late, relied_at=times.format_moment(ledger.now))
    assert relied.answer == "listed"
    with pytest.raises(Malformed):
        judge(data, relied_at="yesterday")


# --- what is refused


def refused(evidence: HolderEvidence, *, check: str, why: str) -> None:
    answer = judge(evidence)
    assert (answer.answer, answer.reason, answer.exit) == ("cannot-decide", "evidence-refused", 4)
    assert failed(answer)[0] == check
    assert why in answer.why, answer.why
    assert answer.certificates == ()


def with_acts(evidence: HolderEvidence, change: Callable[[list[Act]], None]) -> HolderEvidence:
    """Other acts of the first pseudonym, and no certificate shown that is not bound by them."""
    first, *rest = evidence.pseudonyms
    acts = list(first.acts)
    change(acts)
    pseudonyms = (replace(first, acts=tuple(acts)), *rest)
    bound = {key for held in pseudonyms for key in held.bound}
    kept = {key: c for key, c in evidence.certificates.items() if key in bound}
    return replace(evidence, pseudonyms=pseudonyms, certificates=kept)


def test_one_certificate_left_out() -> None:
    key = identity.certificate_key(world.TYPE, "a", "A")
    evidence = with_acts(
        made(),
        lambda acts: acts.__setitem__(slice(None), [a for a in acts if a.certificate != key]),
    )
    refused(evidence, check="status", why="not all that is bound")


def test_the_last_certificate_left_out() -> None:
    refused(with_acts(made(), lambda acts: acts.pop()), check="status", why="another record")


def test_all_left_out() -> None:
    evidence = with_acts(made(), lambda acts: acts.clear())
    refused(evidence, check="status", why="the map holds a record of this key")


def test_one_certificate_added() -> None:
    evidence = made()
    added = CertificateId(world.TYPE, "a", "X0")
    changed = replace(evidence, certificates={**evidence.certificates, added.key: added})

    def add(acts: list[Act]) -> None:
        acts.insert(4, Act(acts[3].index, acts[3].position + 1, added.key, True))

    refused(with_acts(changed, add), check="status", why="another record")


def test_a_certificate_added_to_an_empty_list() -> None:
    certificate = made().certificates
    key = next(iter(certificate))
    evidence = made(NOBODY)
    first, second = evidence.pseudonyms
    held = replace(first, acts=(Act(9, 0, key, True),))
    refused(
        replace(evidence, pseudonyms=(held, second), certificates={key: certificate[key]}),
        check="status",
        why="the map holds no record of this key",
    )


def test_two_acts_swapped() -> None:
    def swap(acts: list[Act]) -> None:
        acts[0], acts[1] = acts[1], acts[0]

    refused(with_acts(made(), swap), check="status", why="not in ledger order")


def test_two_certificates_exchanged_between_acts() -> None:
    def exchange(acts: list[Act]) -> None:
        one, other = acts[0].certificate, acts[1].certificate
        acts[0], acts[1] = replace(acts[0], certificate=other), replace(acts[1], certificate=one)

    refused(with_acts(made(), exchange), check="status", why="another record")


def test_an_unbinding_turned_into_a_binding() -> None:
    evidence = made()
    place = next(n for n, act in enumerate(evidence.pseudonyms[0].acts) if not act.bound)
    changed = with_acts(
        evidence, lambda acts: acts.__setitem__(place, replace(acts[place], bound=True))
    )
    refused(changed, check="status", why="binds what is bound")


def test_an_unbinding_left_out_at_the_end() -> None:
    refused(with_acts(made(TWO), lambda acts: acts.pop()), check="status", why="another record")


def test_an_act_behind_the_status_entry() -> None:
    evidence = made()
    (key, certificate), *_ = made(TWO).certificates.items()
    late = Act(evidence.status.index + 1, 0, key, True)
    changed = replace(evidence, certificates={**evidence.certificates, key: certificate})
    refused(
        with_acts(changed, lambda acts: acts.append(late)),
        check="status",
        why="behind the status entry",
    )


def test_another_holders_bucket() -> None:
    ledger = LedgerBuilder()
    ledger.change("pseudonyms", {"version": 1, "check": "0" * 64}, world.OPERATOR)
    holders = [f"1:{n:064x}" for n in range(300)]
    for begin in range(0, 300, 100):
        ledger.publish(
            [
                ledger.event("issued", f"N{n}", holder_pseudonym=holders[n])
                for n in range(begin, begin + 100)
            ]
        )
    source = ledger.source()
    made_ = [prove_holder(source, [h], ledger.now) for h in holders[:20]]
    one = made_[0]
    other = next(
        e for e in made_ if e.pseudonyms[0].membership.bucket != one.pseudonyms[0].membership.bucket
    )
    held = replace(one.pseudonyms[0], membership=other.pseudonyms[0].membership)
    answer = check_holder(replace(one, pseudonyms=(held,)), ledger.trust(), ledger.now)
    assert (answer.reason, failed(answer)) == ("evidence-refused", ["status"])
    assert check_holder(one, ledger.trust(), ledger.now).answer == "listed"


def test_a_bucket_with_one_record_left_out() -> None:
    evidence = made(NOBODY)
    first, second = evidence.pseudonyms
    bucket = first.membership.bucket[64:]
    held = replace(first, membership=Membership(bucket, first.membership.path))
    changed = replace(evidence, pseudonyms=(held, second))
    refused(changed, check="status", why="not all that is bound")


def test_another_k() -> None:
    evidence = made()
    first, second = evidence.pseudonyms
    for path in ((*first.membership.path, bytes(32)), first.membership.path[1:]):
        if path == first.membership.path:
            continue
        held = replace(first, membership=replace(first.membership, path=path))
        refused(
            replace(evidence, pseudonyms=(held, second)), check="status", why="not a path in a map"
        )


def test_an_older_status_entry() -> None:
    ledger = shared()
    source = ledger.source()
    size = max(index for index in ledger.snapshots if index < source.size - 1) + 1
    before = prove_holder(ledger.source(size), ONE, ledger.now)
    path = tuple(merkle.prove_inclusion(size - 1, source.size, source.subtree))
    older = replace(before.status, path=path)
    answer = judge(
        replace(before, status=older, genesis=made().genesis, checkpoint=source.checkpoint)
    )
    assert (answer.reason, failed(answer)[0]) == ("evidence-refused", "authority")
    assert "the last one is" in answer.why


def test_a_version_left_out() -> None:
    evidence = made()
    kept = {key: evidence.certificates[key] for key in evidence.pseudonyms[0].bound}
    changed = replace(evidence, pseudonyms=evidence.pseudonyms[:1], certificates=kept)
    refused(changed, check="authority", why="versions [1, 2]")


def test_a_version_that_the_registry_does_not_name() -> None:
    evidence = made(NOBODY)
    more = replace(evidence.pseudonyms[1], pseudonym="3:" + "e" * 64)
    changed = replace(evidence, pseudonyms=(*evidence.pseudonyms, more))
    refused(changed, check="authority", why="pseudonyms of [1, 2, 3]")


def test_the_record_of_versions_left_out() -> None:
    evidence = made()
    records = tuple(r for r in evidence.records if b'"name":"pseudonyms"' not in r.data)
    assert len(records) == len(evidence.records) - 1
    refused(replace(evidence, records=records), check="authority", why="is not shown")


def test_a_record_of_fewer_versions() -> None:
    evidence = made()

    def shorten(shown: Shown) -> Shown:
        value = json.loads(shown.data)
        if value["name"] != "pseudonyms":
            return shown
        value["value"]["versions"].pop()
        return replace(shown, data=canonical.format(value))

    kept = {key: evidence.certificates[key] for key in evidence.pseudonyms[0].bound}
    changed = replace(
        evidence,
        pseudonyms=evidence.pseudonyms[:1],
        certificates=kept,
        records=tuple(shorten(shown) for shown in evidence.records),
    )
    assert judge(changed).reason == "evidence-refused"
    assert failed(judge(changed)) == ["authority"]


def test_another_number_for_a_certificate() -> None:
    evidence = made()
    data = format_holder_evidence(evidence)
    swapped = data.replace(b'"number":"A"', b'"number":"Z"')
    assert swapped != data
    assert failed(judge(swapped)) == ["status"]


def test_a_bound_certificate_without_its_number() -> None:
    evidence = made()
    first = next(iter(evidence.certificates))
    kept = {key: c for key, c in evidence.certificates.items() if key != first}
    refused(replace(evidence, certificates=kept), check="status", why="shown with its number")


def test_more_shown_than_is_bound() -> None:
    evidence = made()
    more = {**evidence.certificates, **made(TWO).certificates}
    refused(replace(evidence, certificates=more), check="status", why="nothing else is")


def test_another_ledgers_trust_file() -> None:
    ledger = shared()
    thief = world.signer(world.ORIGIN, "thief")
    other = LedgerBuilder(checkpoint=thief)
    answer = check_holder(made(), other.trust(), ledger.now)
    assert (answer.reason, failed(answer)) == ("evidence-refused", ["checkpoint"])


def test_another_beginning_of_the_ledger() -> None:
    evidence = made()
    ledger = shared()
    answer = check_holder(evidence, ledger.trust(genesis=bytes(32)), ledger.now)
    assert (answer.reason, failed(answer)) == ("evidence-refused", ["checkpoint"])
    assert {c.result for c in answer.checks if c.name != "checkpoint"} == {"not-checked"}
    other = replace(evidence, genesis=evidence.status)
    refused(other, check="checkpoint", why="began as the trusted one")


def test_another_origin() -> None:
    refused(replace(made(), origin="ledger.example/other"), check="checkpoint", why="two ledgers")


def test_a_status_entry_without_maps() -> None:
    ledger = shared()
    size = len(ledger.entries)
    source = ledger.source()
    entry = json.loads(source.entry(size - 1))
    del entry["certificates_map"], entry["holders_map"]
    evidence = made()
    changed = replace(evidence, status=replace(evidence.status, data=canonical.format(entry)))
    assert judge(changed).reason == "evidence-refused"


# --- any bytes


FILE = format_holder_evidence(made())


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer(data: bytes) -> None:
    assert judge(data).reason == "evidence-refused"


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_any_flipped_bits_are_noticed(place: int, mask: int) -> None:
    data = bytearray(FILE)
    data[place] ^= mask
    answer = judge(bytes(data))
    if answer.answer == "listed":  # the moment of asking proves nothing
        parsed = parse_holder_evidence(bytes(data))
        assert replace(parsed, asked_at=made().asked_at) == made()
    else:
        assert answer.reason == "evidence-refused"


def paths(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place]
    if type(value) in (dict, list):
        items = value.items() if type(value) is dict else enumerate(value)
        for name, item in items:
            found += paths(item, (*place, name))
    return found


PLACES = paths(json.loads(FILE))[1:]


@example(("genesis", "index"), 2**53 - 1)
@given(st.sampled_from(PLACES), st.sampled_from([None, True, 0, -1, 2**53 - 1, "", "x", [], {}]))
def test_everything_replaced_or_dropped_is_noticed(place: tuple[Any, ...], new: Any) -> None:
    for drop in (False, True):
        value = json.loads(FILE)
        target = value
        for name in place[:-1]:
            target = target[name]
        if drop:
            del target[place[-1]]
        elif type(target[place[-1]]) is type(new) and target[place[-1]] == new:
            continue
        else:
            target[place[-1]] = new
        answer = judge(canonical.format(value))
        assert answer.reason == "evidence-refused", (place, new, drop)


# --- random acts against a slow model


OPERATIONS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), min_size=1, max_size=40
)


@given(OPERATIONS)
def test_random_acts_against_a_slow_model(operations: list[tuple[int, int, bool]]) -> None:
    """Certificates change hands at random; a dictionary says who has what."""
    ledger = LedgerBuilder()
    for version in (1, 2):
        ledger.change("pseudonyms", {"version": version, "check": "0" * 64}, world.OPERATOR)
    owner: dict[str, str] = {}
    order: dict[str, list[str]] = {}
    pending: list[bytes] = []
    for step, (certificate, holder, close) in enumerate(operations):
        number = f"N{certificate}"
        pseudonym = f"{1 + holder % 2}:{holder // 2:064x}"
        kind = "amended" if number in owner else "issued"
        pending.append(ledger.event(kind, number, change=str(step), holder_pseudonym=pseudonym))
        if owner.get(number) != pseudonym:
            if number in owner:
                order[owner[number]].remove(number)
            order.setdefault(pseudonym, []).append(number)
            owner[number] = pseudonym
        if close:
            ledger.publish(pending)
            pending.clear()
    if pending:
        ledger.publish(pending)
    source = ledger.source()
    for person in range(3):
        pseudonyms = [f"{version}:{person:064x}" for version in (1, 2)]
        evidence = prove_holder(source, pseudonyms, ledger.now)
        answer = check_holder(evidence, ledger.trust(), ledger.now)
        expected = [number for p in pseudonyms for number in order.get(p, [])]
        assert numbers(answer) == expected
        assert answer.exit == (0 if expected else 3)
