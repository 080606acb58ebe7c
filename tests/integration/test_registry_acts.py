"""What a department can do about its keys and lanes, over the real store: every way to an answer
tells the same, fsck and the auditor's fold find nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from consumers.asking import Asked, ask
from consumers.audit_fold import PublicFold
from consumers.registry_tree import RegistryTree
from consumers.unproven import answer_unproven
from ledger import identity, times
from ledger.checkpoint_keys import TrustedKey
from ledger.doubt import COMPROMISED
from ledger.errors import LedgerError
from ledger.event import parse_event
from ledger.evidence import format_evidence
from ledger.lifecycle import MAX_CORRECTABLE
from ledger.mapfold import StatusMap
from ledger.note import MemorySigner
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader, View
from ledger.postgres.store import read_genesis
from ledger.postgres.tile_reading import certificate_deltas
from ledger.registry import MIN_DELAY
from ledger.statusmap import CERTIFICATES
from ledger.trust import Trust
from ledger.verdict import Answer
from tests import world
from tests.stored_ledger import TOPIC, StoredLedger

HOLDER, OTHER = f"1:{'a' * 64}", f"1:{'b' * 64}"
OWNER = world.registry_signer("a")
STOLEN, NEW = world.bundle_signer("a"), world.bundle_signer("a", "2")


@pytest.fixture
def ledger(database_url: str) -> Iterator[StoredLedger]:
    made = StoredLedger(database_url)
    yield made
    made.close()


class Asking:
    """Questions to a ledger by all ways."""

    def __init__(self, ledger: StoredLedger) -> None:
        self.ledger = ledger
        self.connection = connect(ledger.url, "test-reader")
        key = TrustedKey(world.CHECKPOINT.key, 0, None)
        genesis = read_genesis(self.connection)[1]
        self.trust = Trust(world.ORIGIN, genesis, (key,), operator=world.OPERATOR.key)

    def view(self) -> Any:
        return Reader(self.connection).open()

    def says(self, number: str, known_at: str | None = None) -> Answer:
        """The answer with evidence; without any it is the same."""
        asked, now = Asked(number, known_at=known_at), self.ledger.now()
        with self.view() as view:
            answer, _ = ask(view, asked, self.trust, now)
            (other,) = answer_unproven(view, [asked], self.trust, now)
        assert isinstance(other, Answer)
        assert (answer.answer, answer.reason, answer.why) == (
            other.answer,
            other.reason,
            other.why,
        )
        return answer

    def size(self, number: str) -> int:
        """Bytes of the evidence."""
        with self.view() as view:
            _, evidence = ask(view, Asked(number), self.trust, self.ledger.now())
            assert evidence is not None
            return len(format_evidence(evidence))

    def held(self, pseudonym: str) -> list[str]:
        with self.view() as view:
            found = view.held([pseudonym], [world.TYPE], self.ledger.now())
        return sorted(finding.reason for _, finding in found)

    def audit(self) -> None:
        """The public fold over the log: nothing is found."""
        with self.view() as view:
            fold = play(view)
        assert [f"{f.place}: {f.message}" for f in fold.found] == []


def play(view: View) -> PublicFold:
    fold = PublicFold(view.entry, None, RegistryTree(), StatusMap(CERTIFICATES))
    deltas = certificate_deltas(view._cursor, 0, view.size)
    for index in range(view.size):
        fold.take(index, view.entry(index), deltas.get(index, b""))
    return fold


@pytest.fixture
def asking(ledger: StoredLedger) -> Iterator[Asking]:
    made = Asking(ledger)
    yield made
    made.connection.close()


def send(ledger: StoredLedger, *lines: bytes, key: MemorySigner | None = None) -> list[str]:
    """One bundle of a, signed by a key; the codes of its events."""
    producer = ledger.producers["a", 0]
    header = producer.header(lines, ledger.now())
    before = ledger.counts()
    note = world.make_note(header, *([] if key is None else [key]))
    assert ledger.send(world.format_record(note, lines)) == {"logged": 1}
    producer.previous = world.note_hash(header.text())
    producer.sequence += 1
    after = ledger.counts()
    return sorted(code for code in after for _ in range(after[code] - before.get(code, 0)))


def correction(ledger: StoredLedger, number: str, corrects: bytes, how: str) -> bytes:
    target = parse_event(corrects, b"").id
    return ledger.event(
        "corrected", number, corrects=target, correction=how, reason_code="key-stolen"
    )


def test_a_key_revoked_from_earlier(ledger: StoredLedger, asking: Asking) -> None:
    (early,) = ledger.issued("early", holder_pseudonym=HOLDER)
    lates = ledger.issued("late", "false", "third", holder_pseudonym=HOLDER)
    assert send(ledger, early) == ["admitted"]
    since = ledger.checkpoint().size
    assert send(ledger, *lates) == ["admitted"] * 3
    ledger.checkpoint()
    assert asking.held(HOLDER) == ["in-force"] * 4
    for key, signers, revoked in ((NEW, (OWNER, NEW, STOLEN), False), (STOLEN, (OWNER,), since)):
        change = world.key_change(key, "bundle", "a", revoked)
        ledger.registrar.change(f"key/{key.key.key_id}", change, *signers)
    ledger.checkpoint()
    assert asking.says("early").reason == "in-force"
    assert {asking.says(n).reason for n in ("late", "false", "third")} == {COMPROMISED}
    assert asking.held(HOLDER) == ["in-force"] + [COMPROMISED] * 3
    with asking.view() as view:
        listed = [(name.number, t.kind) for name, t in view.doubtful_events("a")]
        assert view.doubtful_events("b") == []
    assert listed == [("false", "issued"), ("late", "issued"), ("third", "issued")]
    done = send(
        ledger,
        correction(ledger, "late", lates[0], "confirm"),
        correction(ledger, "late", lates[0], "confirm"),
        correction(ledger, "early", early, "confirm"),
        correction(ledger, "false", lates[1], "void"),
        key=NEW,
    )
    assert done == ["admitted", "admitted", "nothing-to-confirm", "nothing-to-confirm"]
    ledger.checkpoint()
    said = {n: asking.says(n).reason for n in ("early", "late", "false", "third")}
    assert said == {
        "early": "in-force",
        "late": "in-force",
        "false": "voided",
        "third": COMPROMISED,
    }
    with asking.view() as view:
        assert [name.number for name, _ in view.doubtful_events("a")] == ["third"]
    ledger.check()
    asking.audit()


def test_a_certificate_that_a_thief_filled(ledger: StoredLedger, asking: Asking) -> None:
    """256 corrections of his own and another holder; then recovery, then a true correction."""
    (issued,) = ledger.issued("N", holder_pseudonym=HOLDER)
    assert send(ledger, issued) == ["admitted"]
    since = ledger.checkpoint().size
    theft = ledger.event("amended", "N", holder_pseudonym=OTHER)
    lines = [theft]
    for _ in range(MAX_CORRECTABLE - 1):
        lines.append(correction(ledger, "N", lines[-1], "void"))
    for at in range(0, len(lines), 64):
        assert set(send(ledger, *lines[at : at + 64])) == {"admitted"}
    ledger.checkpoint()
    assert (asking.held(HOLDER), len(asking.held(OTHER))) == ([], 1)
    for key, signers, revoked in ((NEW, (OWNER, NEW, STOLEN), False), (STOLEN, (OWNER,), since)):
        change = world.key_change(key, "bundle", "a", revoked)
        ledger.registrar.change(f"key/{key.key.key_id}", change, *signers)
    ledger.checkpoint()
    assert asking.says("N").reason == COMPROMISED
    assert asking.size("N") < 120_000
    void = correction(ledger, "N", theft, "void")
    assert send(ledger, void, key=NEW) == ["history-too-long"]
    with asking.view() as view:
        ((name, first, again),) = view.rewinds("a")
    assert (name.number, first.id, again) == ("N", parse_event(theft, b"").id, [])
    rewind = correction(ledger, "N", theft, "rewind")
    assert send(ledger, rewind, key=NEW) == ["admitted"]
    ledger.checkpoint()
    assert asking.says("N").reason == "in-force"
    assert asking.size("N") < 120_000
    assert (asking.held(HOLDER), asking.held(OTHER)) == (["in-force"], [])
    restated = ledger.event(
        "corrected",
        "N",
        corrects=parse_event(issued, b"").id,
        correction="restate",
        valid_from="2026-02-02+08:00",
        reason_code="typing-error",
    )
    paused = ledger.event("suspended", "N", reason_code="inspection")
    assert send(ledger, restated, paused, key=NEW) == ["admitted"] * 2
    ledger.checkpoint()
    found = asking.says("N")
    assert found.found is not None
    assert (found.reason, found.found.valid_from) == ("suspended", "2026-02-02+08:00")
    with asking.view() as view:
        assert view.rewinds("a") == []
    ledger.check()
    asking.audit()


def test_what_good_keys_said_since_is_to_be_said_again(
    ledger: StoredLedger, asking: Asking
) -> None:
    send(ledger, *ledger.issued("N"))
    since = ledger.checkpoint().size
    theft = ledger.event("suspended", "N", reason_code="theft")
    send(ledger, theft)
    for key, signers, revoked in ((NEW, (OWNER, NEW, STOLEN), False), (STOLEN, (OWNER,), since)):
        send(ledger, ledger.event("reinstated", "N"), key=NEW) if revoked else None
        change = world.key_change(key, "bundle", "a", revoked)
        ledger.registrar.change(f"key/{key.key.key_id}", change, *signers)
    ledger.checkpoint()
    with asking.view() as view:
        ((_, first, again),) = view.rewinds("a")
    assert (first.kind, [t.kind for t in again]) == ("suspended", ["reinstated"])
    assert send(ledger, correction(ledger, "N", theft, "void"), key=NEW) == [
        "correction-breaks-history"
    ]
    assert send(ledger, correction(ledger, "N", theft, "rewind"), key=NEW) == ["admitted"]
    ledger.checkpoint()
    assert asking.says("N").reason == "in-force"
    ledger.check()


def test_a_department_that_lost_its_keys(ledger: StoredLedger, asking: Asking) -> None:
    """The clock is the ledger's: the store is told another time, as a restore tells it."""
    send(ledger, *ledger.issued("before"))
    ledger.checkpoint()
    owner = world.registry_signer("a", "2")
    store, book = ledger.registrar.store, ledger.registrar.book
    now = ledger.now()

    def change(name: str, said: Any, at: int, *signers: MemorySigner) -> int:
        book.index = ledger.rows("SELECT next_index FROM allocation")[0][0]
        book.now = at
        book.change(name, said, *signers)
        index = store.change_registry(book.notes.pop(), at=at)
        assert index is not None
        return index

    announced = []
    for role, key in (("registry", owner), ("bundle", NEW)):
        said = {"role": role, "vkey": str(key.key), "delay_seconds": MIN_DELAY}
        announced.append(change("department/a", {"recover": said}, now, world.OPERATOR, key))
    ledger.checkpoint()
    with asking.view() as view:
        answer, _ = ask(view, Asked("before"), asking.trust, ledger.now())
        (other,) = answer_unproven(view, [Asked("before")], asking.trust, ledger.now())
    assert isinstance(other, Answer)
    assert [note.split(" without")[0] for note in other.notes] == [
        f"entry {announced[1]} announced that a gets a bundle key",
        f"entry {announced[0]} announced that a gets a registry key",
    ]
    roles = [each["role"] for each in answer.checks[1].values["recoveries"]]
    assert roles == ["bundle", "registry"]
    late = now + MIN_DELAY * times.SECOND
    for role, key in (("registry", owner), ("bundle", NEW)):
        registered = world.key_change(key, role, "a")
        with pytest.raises(LedgerError, match="recovery-not-due"):
            store.change_registry(
                book.note(f"key/{key.key.key_id}", registered, world.OPERATOR, key), at=late - 1
            )
    for role, key in (("registry", owner), ("bundle", NEW)):
        registered = world.key_change(key, role, "a")
        change(f"key/{key.key.key_id}", registered, late, world.OPERATOR, key)
    ledger.check()
    with asking.view() as view:
        fold = play(view)
    assert fold.found == []


def begin(ledger: StoredLedger, lanes: int) -> None:
    """Another number of lanes for a, and producers that go on on them."""
    change = world.department_change("a", lanes)
    ledger.registrar.change("department/a", change, OWNER, world.OPERATOR)
    rows = ledger.rows("SELECT lane, epoch, previous FROM lane WHERE department = 'a'")
    for lane, epoch, previous in rows:
        producer = f"{len(rows):016x}{epoch * 100 + lane:016x}"
        ledger.producers["a", lane] = world.Producer("a", lane, previous, producer, epoch=epoch)


def publish(ledger: StoredLedger, lanes: int, *lines: bytes) -> None:
    """Each line on its lane, in order."""
    for line in lines:
        lane = identity.lane_of(parse_event(line, b"").key, lanes)
        assert ledger.send(ledger.producers["a", lane].make([line], ledger.now())) == {"logged": 1}


def test_more_and_fewer_lanes(ledger: StoredLedger, asking: Asking) -> None:
    numbers = [f"N{n}" for n in range(12)]
    under_way: list[bytes] = []
    publish(ledger, 1, *ledger.issued(*numbers))
    ledger.checkpoint()
    for lanes in (4, 2, 5):
        lost = [ledger.event("amended", number, reason_code="x") for number in numbers[:4]]
        fenced = [ledger.producers["a", 0].make([line], ledger.now()) for line in lost]
        opened = [ledger.store.open(ledger.fetched(record)) for record in fenced]
        begin(ledger, lanes)
        # opened by the registry before, taken by the one after
        assert ledger.store.apply(TOPIC, opened).outcomes == {"fenced": 4}
        publish(ledger, lanes, *lost)
        under_way += fenced
        for lane in range(lanes):
            assert ledger.send(ledger.producers["a", lane].make([], ledger.now())) == {"logged": 1}
        assert ledger.send(*under_way) == {"fenced": len(under_way)}
        ledger.checkpoint()
        for number in numbers:
            assert asking.says(number).answer == "valid"
        ledger.check()
    assert ledger.counts() == {"admitted": 12 + 3 * 4}
    with asking.view() as view:
        (found,) = view.find("N0").matches
        kinds = [step.transition.kind for step in view.history(found.key)]
    assert kinds == ["issued", "amended", "amended", "amended"]
    closed = ledger.rows("SELECT signed_at FROM lane WHERE department = 'a' ORDER BY lane")
    assert len(closed) == 5
    begin(ledger, 1)
    for lane in (1, 4):
        assert ledger.send(ledger.producers["a", lane].make([], ledger.now())) == {"fenced": 1}
    publish(ledger, 1, ledger.event("amended", "N0", reason_code="x"))
    ledger.checkpoint()
    ledger.check()
    asking.audit()


def test_a_rewind_finds_the_holder_of_then_whatever_is_refused_beside_it(
    ledger: StoredLedger, asking: Asking
) -> None:
    """Corrections refused before they fold anything count for what the turn reads ahead."""
    first, (long,) = ledger.issued("N", holder_pseudonym=HOLDER), ledger.issued("long")
    theft = ledger.event("amended", "N", holder_pseudonym=OTHER)
    paused = [
        ledger.event(kind, "long", reason_code="inspection")
        for _ in range(8)
        for kind in ("suspended", "reinstated")
    ]
    assert set(send(ledger, *first, theft, long, *paused)) == {"admitted"}
    void = correction(ledger, "long", paused[-1], "void")
    assert send(ledger, void) == ["admitted"]
    rewind = correction(ledger, "N", theft, "rewind")
    done = send(ledger, *[void] * 2000, rewind)
    assert done == ["admitted", *["repeat"] * 2000]
    ledger.checkpoint()
    assert (asking.held(HOLDER), asking.held(OTHER)) == (["in-force"], [])
    ledger.check()
