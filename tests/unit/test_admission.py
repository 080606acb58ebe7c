"""Admission by table: lanes, take-overs, keys, authority, records that once stopped a worker."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from ledger import canonical, identity, lifecycle, times
from ledger.admission import Accounted, DeadLetter, Opened, Turn, delta_root, open_record
from ledger.bundle import MAX_EVENTS, MAX_SEQUENCE, format_record, parse_header
from ledger.entry import (
    BUNDLE,
    Source,
    blind,
    code_at,
    format_bundle,
    make_blinding,
    parse_entry,
    run_lengths,
)
from ledger.errors import LedgerError, Malformed
from ledger.receipt import format_notice, format_receipt, parse_message, parse_receipt
from tests.memory_view import MemoryView, check_log
from tests.world import (
    CHECKPOINT,
    CHECKPOINT_KEYS,
    OPERATOR,
    ORIGIN,
    START,
    TYPE,
    Book,
    Producer,
    bundle_signer,
    key_change,
    make_event,
    make_header,
    make_note,
    make_record,
    registry_signer,
)

TOPIC = "A" * 22
ALL = ["amended", "corrected", "expired", "issued", "reinstated", "renewed", "revoked", "suspended"]
MOVES = ["transferred-in", "transferred-out"]
NUMBER = "湘J20230403"


def make_book() -> Book:
    book = Book()
    for name in ("a", "b", "court"):
        book.add_department(name)
    book.set_type(
        [
            ("a", [*ALL, *MOVES], "own"),
            ("b", [*ALL, *MOVES], "own"),
            ("court", ["corrected"], "own"),
            ("court", ["revoked"], "any"),
        ]
    )
    return book


class World:
    """One department's lane after another, everything committed at once."""

    def __init__(self, book: Book | None = None) -> None:
        self.book = book or make_book()
        self.view = MemoryView(self.book.registry, self.book.index)
        self.offset = 0
        self.producers = {
            name: Producer(name, 0, bytes(32), f"{n:032x}")
            for n, name in enumerate(self.book.registry.departments())
        }

    def take(self, record: bytes | None, now: int = START) -> tuple[Accounted, Turn]:
        turn = self.view.turn(now)
        opened = open_record(record, self.view.registry)
        done = turn.take(Source(TOPIC, 0, self.offset), opened)
        self.offset += 1
        self.view.commit(turn)
        return done, turn

    def publish(self, department: str, *lines: bytes) -> list[str]:
        """The codes that a bundle's events got."""
        done, turn = self.take(self.producers[department].make(lines, START))
        assert done.outcome == "logged", done
        return list(turn.logged[0].codes)

    def change(self, name: str, change: dict[str, object], *signers: object) -> None:
        """A registry change between two bundles."""
        self.book.index = self.view.next_index
        self.book.change(name, change, *signers)  # type: ignore[arg-type]
        self.view.registry = self.book.registry


def corrects(line: bytes) -> str:
    return str(canonical.parse(line, 65_536)["id"])


# --- what a stranger sends


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "malformed-record"),
        (b"", "malformed-record"),
        (b"CLR1", "malformed-record"),
        (b"CLR1\xff\xff\xff\xff", "malformed-record"),
        (b"CLR1\x00\x00\x00\x00", "malformed-record"),
        (b"CLR2" + make_record([])[4:], "malformed-record"),
        (make_record([])[:-1], "malformed-record"),
        (make_record([]) + b"x", "lines-do-not-match-note"),
        (make_record([]) + b"\n", "lines-do-not-match-note"),
        (make_record([b"x"])[:-1], "lines-do-not-match-note"),
        (make_record([b"x", b"y"])[:-2] + b"z\n", "lines-do-not-match-note"),
        (bytes(1024 * 1024 + 1), "too-large"),
        (make_record([], origin="another.example/log"), "foreign-ledger"),
        (make_record([], origin=ORIGIN + "/bundle/a/0/0/0"), "foreign-ledger"),
        (make_record([], department="z"), "unknown-department"),
        (make_record([], lane=1), "unknown-lane"),
        (
            format_record(make_note(make_header([]), bundle_signer("b")), []),
            "unknown-key",
        ),
        (
            format_record(make_note(make_header([]), registry_signer("a")), []),
            "unknown-key",
        ),
        (format_record(make_note(make_header([]), CHECKPOINT), []), "unknown-key"),
    ],
)
def test_dead_letters(value: bytes | None, code: str) -> None:
    world = World()
    done, turn = world.take(value)
    assert (done.outcome, done.code) == ("dead-letter", code)
    assert turn.entries == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: bytes(64),
        lambda s: s[:32] + bytes(32),
        lambda s: s[:-1],
        lambda s: s + b"\x00",
        lambda s: (
            s[:32]
            + (
                int.from_bytes(s[32:], "little") + 2**252 + 27742317777372353535851937790883648493
            ).to_bytes(32, "little")
        ),
    ],
    ids=["zero", "S zero", "short", "long", "S not canonical"],
)
def test_bad_signatures(spoil: object) -> None:
    text = make_header([]).text()
    key = bundle_signer("a")
    bad = spoil(key.sign(text))  # type: ignore[operator]
    line = base64.b64encode(key.key.key_hash + bad).decode()
    record = format_record(text + f"\n\u2014 {key.key.name} {line}\n".encode(), [])
    opened = open_record(record, make_book().registry)
    assert isinstance(opened, DeadLetter)
    assert opened.code == "bad-signature"


def test_a_number_too_large_to_be_said_back_is_no_bundle() -> None:
    """It would be out of sequence, and its notice could not be written as canonical JSON."""
    good = make_header([], sequence=MAX_SEQUENCE)
    world = World()
    done, _ = world.take(format_record(make_note(good), []))
    assert done.outcome == "out-of-sequence"
    format_notice(good, bytes(32), done.outcome, done.outcome, "", (0, 0))
    done, _ = world.take(make_record([], sequence=MAX_SEQUENCE + 1))
    assert (done.outcome, done.code) == ("dead-letter", "malformed-record")


def test_a_notice_can_quote_anybody() -> None:
    for message in ("e\u0301", "\ud800", "\x00", "证照"):
        notice = format_notice(make_header([]), bytes(32), "dead-letter", "unknown-key", message)
        assert parse_message(notice)["message"].isascii()


def test_the_longest_possible_outcome_fits_an_entry() -> None:
    codes = ["correction-breaks-history", "act-not-authorised"] * (MAX_EVENTS // 2)
    note = make_note(make_header([])) + b'\xe2\x80\x94 """""""""" AAAAAAA=\n'
    entry = format_bundle(
        note.ljust(4096, b'"'),
        run_lengths(codes),
        Source(TOPIC, 2**31 - 1, 2**53 - 1),
        times.format_moment(START + 1),
        bytes(32),
        bytes(32),
    )
    assert code_at(parse_entry(entry)["outcome"], MAX_EVENTS - 1) == codes[-1]


def test_a_turn_thrown_away_leaves_the_view_as_it_was() -> None:
    """A cached certificate that remembered the lost event would refuse it as a repeat for ever."""
    world = World()
    issued = make_event("issued", NUMBER)
    assert world.publish("a", issued) == ["admitted"]
    key = identity.certificate_key(TYPE, "a", NUMBER)
    before = dict(world.view.certificates[key].event_ids)
    record = world.producers["a"].make([make_event("renewed", NUMBER)], START)
    lost = world.view.turn(START)
    assert (
        lost.take(Source(TOPIC, 0, 9), open_record(record, world.view.registry)).outcome == "logged"
    )
    assert world.view.certificates[key].event_ids == before
    _, turn = world.take(record)
    assert turn.logged[0].codes == ("admitted",)


# --- keys


def test_what_was_logged_stays_a_repeat_when_its_key_is_revoked() -> None:
    world = World()
    producer = world.producers["a"]
    record = producer.make([make_event("issued", NUMBER)], START)
    first, _ = world.take(record)
    key = bundle_signer("a")
    change = key_change(key, "bundle", "a", True)
    world.change(f"key/{key.key.key_id}", change, registry_signer("a"))
    again, _ = world.take(record)
    assert (again.outcome, again.index) == ("repeat", first.index)
    refused, _ = world.take(producer.make([], START))
    assert (refused.outcome, refused.code) == ("dead-letter", "key-revoked")
    told = dataclasses.replace(
        make_header([]), previous=bytes(32), producer=producer.producer, sequence=0
    )
    lie, turn = world.take(format_record(make_note(told), []))
    assert (lie.outcome, lie.code) == ("dead-letter", "key-revoked"), "a thief raises no alarm"
    assert turn.entries == []


def test_the_first_signature_line_by_a_known_key_counts() -> None:
    """Whatever the order in which the registry was read, the transition names the same key."""
    book = make_book()
    old, new = bundle_signer("a"), bundle_signer("a", "second")
    book.change(
        f"key/{new.key.key_id}", key_change(new, "bundle", "a"), registry_signer("a"), old, new
    )
    header = make_header([])
    for signers in ([old, new], [new, old]):
        opened = open_record(format_record(make_note(header, *signers), []), book.registry)
        assert isinstance(opened, Opened)
        assert opened.key == signers[0].key
    bad = format_record(
        make_note(header, old, new).replace(base64.b64encode(old.key.key_hash)[:4], b"AAAA"), []
    )
    opened = open_record(bad, book.registry)
    assert isinstance(opened, Opened)
    assert opened.key == new.key


def test_a_note_for_the_log_has_signatures_of_its_department_only() -> None:
    """What somebody adds to a captured record would stand in the log for ever."""
    own, stranger = bundle_signer("a"), bundle_signer("b")
    for signers in ([own, stranger], [stranger, own]):
        opened = open_record(
            format_record(make_note(make_header([]), *signers), []), make_book().registry
        )
        assert isinstance(opened, DeadLetter)
        assert opened.code == "unknown-key"


def test_a_key_signs_a_note_once() -> None:
    """Dozens of lines by one key, the last of them false, cost a thousand verifications."""
    own = bundle_signer("a")
    opened = open_record(
        format_record(make_note(make_header([]), own, own), []), make_book().registry
    )
    assert isinstance(opened, DeadLetter)
    assert opened.code == "malformed-record"


def test_only_a_revocation_goes_beyond_the_longest_history() -> None:
    acts = [make_event("amended", "1", change=str(n)) for n in range(lifecycle.MAX_HISTORY + 1)]
    last = make_event("revoked", "1", revocation_kind="annulled")
    codes = World().publish("a", make_event("issued", "1"), *acts, last)
    admitted = lifecycle.MAX_HISTORY
    assert codes == ["admitted"] * admitted + ["history-too-long"] * 2 + ["admitted"]


# --- lanes


def test_lanes() -> None:
    world = World()
    one = world.producers["a"]
    records = [one.make([], START) for _ in range(3)]
    assert world.take(records[1])[0].outcome == "out-of-sequence"
    assert world.take(records[0])[0].outcome == "logged"
    assert world.take(records[0])[0].outcome == "repeat"
    assert world.take(records[2])[0].want_sequence == 1
    assert world.take(records[1])[0].outcome == "logged"
    # another producer of the same epoch, at an old, the next and a later number
    for number in range(4):
        other = make_header([], sequence=number, producer="f" * 32, previous=one.previous)
        assert world.take(format_record(make_note(other), []))[0].outcome == "fenced"
    # a take-over names any note of the epoch; what came after it stands
    two = Producer("a", 0, one.note_hashes[0], "e" * 32, epoch=1)
    assert world.take(two.make([], START))[0].outcome == "logged"
    assert world.take(records[2])[0].outcome == "fenced"
    assert world.take(records[1])[0].outcome == "repeat"
    # two at once: one is fenced, and nobody has lied
    three = Producer("a", 0, one.note_hashes[1], "d" * 32, epoch=1)
    assert world.take(three.make([], START))[0].outcome == "fenced"
    # not from an epoch before the last, nor over two epochs
    for epoch, previous in ((2, one.note_hashes[0]), (3, two.previous), (2, bytes(32))):
        far = Producer("a", 0, previous, "c" * 32, epoch=epoch)
        assert world.take(far.make([], START))[0].outcome == "out-of-sequence"
    assert world.take(two.make([], START))[0].outcome == "logged"
    check_log(world.view)


def test_equivocation_is_kept_once_with_both_notes() -> None:
    world = World()
    producer = world.producers["a"]
    first, _ = world.take(producer.make([], START))
    told = make_header([], producer=producer.producer, previous=b"\x01" * 32)
    lie = format_record(make_note(told), [])
    done, turn = world.take(lie)
    assert done.outcome == "equivocation"
    entry = parse_entry(turn.entries[0][1])
    assert entry["conflicts_with"] == first.index
    assert parse_header(told.text()) == told
    again, turn = world.take(lie)
    assert (again.outcome, again.index, turn.entries) == ("equivocation", None, [])
    assert world.take(producer.make([], START))[0].outcome == "logged", "the lane goes on"


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"previous": b"\x07" * 32}, "wrong-previous"),
        ({"signed_at": times.format_moment(START + 61 * times.SECOND)}, "signing-time"),
        ({"signed_at": times.format_moment(START - 1)}, "signing-time"),
    ],
)
def test_a_bundle_refused_as_a_whole_uses_its_number_up(
    members: dict[str, object], code: str
) -> None:
    world = World()
    producer = world.producers["a"]
    world.take(producer.make([], START))
    lines = [make_event("issued", NUMBER)]
    header = dataclasses.replace(producer.header(lines, START), **members)  # type: ignore[arg-type]
    before = world.view.lanes["a", 0]
    _, turn = world.take(format_record(make_note(header), lines))
    assert turn.logged[0].codes == (code,)
    after = world.view.lanes["a", 0]
    assert after.next_sequence == before.next_sequence + 1
    if code == "signing-time":
        assert after.signing_time == before.signing_time


# --- authority


def test_a_department_cannot_undo_anothers_annulment() -> None:
    world = World()
    issue = make_event("issued", NUMBER)
    annul = make_event("revoked", NUMBER, change="court", revocation_kind="annulled")
    assert world.publish("a", issue) == ["admitted"]
    assert world.publish("b", annul) == ["not-responsible"]
    assert world.publish("court", annul) == ["admitted"]
    void = {"corrects": corrects(annul), "correction": "void", "reason_code": "error"}
    assert world.publish("a", make_event("corrected", NUMBER, change="1", **void)) == [
        "not-responsible"
    ]
    assert world.publish("court", make_event("corrected", NUMBER, change="2", **void)) == [
        "admitted"
    ]
    other = {**void, "corrects": corrects(issue)}
    assert world.publish("court", make_event("corrected", NUMBER, change="3", **other)) == [
        "not-responsible"
    ]
    assert world.publish("a", make_event("corrected", NUMBER, change="4", **other)) == ["admitted"]
    check_log(world.view)


def test_after_a_transfer_the_new_department_corrects() -> None:
    world = World()
    issue = make_event("issued", NUMBER, valid_until="2026-12-31+08:00")
    assert world.publish("a", issue) == ["admitted"]
    out = make_event("transferred-out", NUMBER, transfer_to="b")
    in_ = make_event("transferred-in", NUMBER)
    assert world.publish("b", in_) == ["invalid-transition"]
    assert world.publish("a", out, in_) == ["admitted", "transfer-mismatch"]
    assert world.publish("b", in_) == ["admitted"]
    longer = {
        "corrects": corrects(issue),
        "correction": "restate",
        "reason_code": "error",
        "valid_until": "2027-12-31+08:00",
    }
    assert world.publish("a", make_event("corrected", NUMBER, change="1", **longer)) == [
        "not-responsible"
    ]
    assert world.publish("b", make_event("corrected", NUMBER, change="2", **longer)) == ["admitted"]
    check_log(world.view)


def test_event_codes() -> None:
    world = World()
    issue = make_event("issued", NUMBER)
    assert world.publish(
        "a",
        make_event("renewed", NUMBER),
        make_event("corrected", NUMBER, corrects="0" * 32, correction="void", reason_code="x"),
        issue,
        issue,
        make_event("issued", NUMBER, time="2026-03-01T09:00:00+08:00"),
        make_event("issued", NUMBER, change="2"),
        make_event("issued", "other", issuer="b"),
        make_event("issued", "other", type_code="X"),
        make_event("corrected", NUMBER, corrects="0" * 32, correction="void", reason_code="x"),
        b"{}",
        b"not json",
        issue + b" ",
        b"x" * 65_537,
        b"",
    ) == [
        "not-issued",
        "not-issued",
        "admitted",
        "repeat",
        "event-id-conflict",
        "already-issued",
        "act-not-authorised",
        "unknown-type",
        "unknown-event",
        "malformed-event",
        "not-canonical",
        "not-canonical",
        "line-too-large",
        "not-canonical",
    ]
    assert world.publish("court", make_event("issued", "c1", issuer="court")) == [
        "act-not-authorised"
    ]
    check_log(world.view)


def test_identifiers_must_say_what_the_registry_says() -> None:
    world = World()
    code = "11430000006122244L"  # every department of the test world has this one

    def named(serial: str, version: int, type_code: str = TYPE) -> str:
        return str(identity.Identifier(type_code, code, serial, version))

    for wrong in (named("S2", 1), named("S1", 2), named("S1", 1, "11100000000013338W032")):
        line = make_event("issued", "S1", change=wrong, certificate_identifier=wrong)
        assert world.publish("a", line) == ["identifier-mismatch"]
    good = make_event("issued", "S1", certificate_identifier=named("S1", 1))
    assert world.publish("a", good) == ["admitted"]
    renewed = make_event("renewed", "S1", certificate_identifier=named("S1", 2))
    assert world.publish("a", renewed) == ["admitted"]


# --- holders


def test_a_holder_is_bound_and_unbound() -> None:
    world = World()
    one, two = "1:" + "1" * 64, "1:" + "2" * 64
    world.publish(
        "a",
        make_event("issued", NUMBER, holder_pseudonym=one),
        make_event("amended", NUMBER, holder_pseudonym=one),
        make_event("renewed", NUMBER, holder_pseudonym=two),
    )
    counts = {p: world.view.holder(identity.holder_key(p))[0] for p in (one, two)}
    assert counts == {one: 2, two: 1}
    assert len(world.view.logged[0].holders) == 2
    check_log(world.view)


def test_only_pseudonyms_of_announced_versions_are_bound() -> None:
    world = World()
    one, two = "1:" + "1" * 64, "2:" + "2" * 64
    early = make_event("issued", "N0", holder_pseudonym=two)
    assert world.publish("a", early) == ["admitted"]  # nothing was announced yet
    world.book.change("pseudonyms", {"version": 1, "check": "0" * 64}, OPERATOR)
    world.view.registry = world.book.registry
    issued = make_event("issued", NUMBER, holder_pseudonym=one)
    assert world.publish("a", issued) == ["admitted"]
    lines = [
        make_event("issued", "N2", holder_pseudonym=two),
        make_event("amended", NUMBER, holder_pseudonym=two),
        make_event("amended", NUMBER, change="2"),
    ]
    assert world.publish("a", *lines) == [
        "unknown-pseudonym-version", "unknown-pseudonym-version", "admitted"
    ]  # fmt: skip
    world.book.change("pseudonyms", {"version": 2, "check": "1" * 64}, OPERATOR)
    world.view.registry = world.book.registry
    assert world.publish("a", *lines[:2]) == ["admitted", "admitted"]
    check_log(world.view)


def test_entries_do_not_tell_whose_certificates_they_changed() -> None:
    """A bundle that binds one holder, all about it public but the ledger's secret: whoever knows
    the pseudonym cannot test the entry, nor see whether a bundle binds anybody.
    """
    world = World()
    holder = "1:" + "1" * 64
    world.publish("a", make_event("issued", NUMBER, holder_pseudonym=holder))
    world.publish("a", make_event("issued", "another"))
    key = identity.holder_key(holder)
    first = world.view.logged[0]
    certificate = first.acts[0].certificate
    link = lifecycle.holder_link(key, True, certificate, first.index, 0)
    guess = delta_root([(key, lifecycle.holder_record_hash(1, link))])
    assert guess == delta_root(first.holders)
    said = [parse_entry(logged.entry)["holders"] for logged in world.view.logged]
    assert guess.hex() != said[0]
    assert delta_root(()).hex() != said[1]
    world.view.blinding_secret = bytes(32)
    world.publish("a", make_event("issued", "a third"))
    logged = world.view.logged[2]
    blinding = make_blinding(bytes(32), logged.opened.bundle.note_hash)
    assert parse_entry(logged.entry)["holders"] == blind(blinding, delta_root(())).hex()


# --- entries and receipts


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        ({}, True),
        ({"admitted": [0, 2]}, True),
        ({"admitted": [0, 1, 2, 1], "repeat": [1, 1]}, True),
        ({"a-code-of-tomorrow": [0, 1]}, True),
        ({"admitted": [0, 1, 1, 1]}, False),  # two spellings of one outcome
        ({"admitted": [2, 1, 0, 1], "repeat": [1, 1]}, False),
        ({"admitted": [0, 2], "repeat": [1, 1]}, False),
        ({"admitted": [1, 1]}, False),
        ({"admitted": [0, 0]}, False),
        ({"admitted": []}, False),
        ({"admitted": [0]}, False),
        ({"admitted": [0, True]}, False),
        ({"admitted": [0, -1]}, False),
        ({"admitted": [0, 4097]}, False),
        ({"Admitted": [0, 1]}, False),
        ({"": [0, 1]}, False),
        ([], False),
    ],
    ids=str,
)
def test_outcomes_have_one_spelling(outcome: object, good: bool) -> None:
    note = make_note(make_header([])).decode()
    entry = canonical.format(
        {
            "format": "certledger entry v1",
            "kind": BUNDLE,
            "time": "2026-03-01T00:00:00Z",
            "note": note,
            "outcome": outcome,
            "source": Source(TOPIC, 0, 0).members(),
            "certificates": "0" * 64,
            "holders": "0" * 64,
        }
    )
    if good:
        assert parse_entry(entry)["outcome"] == outcome
    else:
        with pytest.raises(Malformed):
            parse_entry(entry)


def test_a_receipt_leaves_no_event_unmentioned() -> None:
    from ledger import merkle
    from ledger.checkpoint import Checkpoint, format_proof
    from ledger.note import sign

    def receipt(outcome: dict[str, list[int]], origin: str = ORIGIN) -> bytes:
        note = make_note(make_header([b"x", b"y"]))
        source = Source(TOPIC, 0, 0)
        entry = format_bundle(note, outcome, source, "2026-03-01T00:00:00Z", bytes(32), bytes(32))
        root = merkle.leaf_hash(entry)
        signed = sign(Checkpoint(origin, 1, root).text(), [CHECKPOINT])
        return format_receipt(entry, format_proof(0, [], signed))

    assert parse_receipt(receipt({"admitted": [0, 2]}), CHECKPOINT_KEYS).index == 0
    for bad in (
        receipt({"admitted": [0, 1]}),
        receipt({"admitted": [0, 3]}),
        receipt({"admitted": [0, 2]}, origin="another.example"),
    ):
        with pytest.raises(LedgerError):
            parse_receipt(bad, CHECKPOINT_KEYS)


def test_corrections_are_bounded() -> None:
    """Folding a long history for each of 4,096 corrections would outlast the turn's time limit."""
    world = World()
    world.publish("a", make_event("issued", NUMBER))
    lines = [
        make_event(kind, NUMBER, change=str(n), **extra)
        for n in range(lifecycle.MAX_CORRECTABLE // 2 + 1)
        for kind, extra in (("suspended", {"reason_code": "r"}), ("reinstated", {}))
    ]
    assert set(world.publish("a", *lines)) == {"admitted"}
    void = {"corrects": corrects(lines[-1]), "correction": "void", "reason_code": "e"}
    assert world.publish("a", make_event("corrected", NUMBER, **void)) == ["history-too-long"]
    revoke = make_event("revoked", NUMBER, revocation_kind="deregistered")
    assert world.publish("a", revoke) == ["admitted"], "it can still be revoked"
