"""What a turn reads ahead of the database is enough, and no more is believed: random batches, of
which much is refused, over a real PostgreSQL and over a view that keeps everything in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger import admission, identity, lifecycle, staterow, times
from ledger.admission import LOGGED, Turn, open_record
from ledger.entry import Source, parse_entry
from ledger.event import CORRECTIONS
from ledger.note import MemorySigner
from ledger.postgres import relying, turn_writing
from ledger.postgres import store as store_module
from ledger.postgres import view as view_module
from ledger.reliance import parse_reliance
from tests import world
from tests.memory_view import MemoryView
from tests.stored_ledger import TOPIC, StoredLedger, reset, sequence

GRANTS = (
    ("a", world.ALL_ACTS, "own"),
    ("b", ["revoked", "suspended", "reinstated", "corrected", "transferred-in"], "any"),
)
LANES = {"a": 2, "b": 1, "office": 1}
DAYS = ["2026-01-01+08:00", "2026-03-01+08:00", "2027-06-01Z", "unknown"]
VOID, RESTATE, CONFIRM, REWIND = (("corrected", how) for how in CORRECTIONS)
# What departments say, possible or not: what is refused is what this is about.
KINDS: dict[str, list[tuple[str, str | None]]] = {
    "a": [
        *[("issued", None)] * 2, *[("amended", None)] * 4, ("renewed", None), ("suspended", None),
        ("reinstated", None), ("revoked", None), ("transferred-out", None),
        VOID, RESTATE, CONFIRM, CONFIRM, *[REWIND] * 4,
    ],
    "b": [
        *[("suspended", None)] * 2, *[("reinstated", None)] * 2, ("revoked", None),
        ("transferred-in", None), ("issued", None), VOID, VOID, RESTATE, CONFIRM, REWIND, REWIND,
    ],
    "office": [*[("relied", None)] * 6, *[("ended", None)] * 2, ("issued", None)],
}  # fmt: skip
# of those, what asks for rows alone, which are read while other bundles are judged
PLAIN = {name: [one for one in kinds if one[1] is None] for name, kinds in KINDS.items()}


class Said(NamedTuple):
    """A line of a story; numbers point into what there is when it is made."""

    kind: str
    correction: str | None = None
    number: int = 0  # of a certificate; the last one is issued late or never
    issuer: str = "a"
    holder: int | None = None
    day: int = 0
    target: int = 0  # of the events that a correction may name, newest first
    is_own: bool = True  # what was admitted of this certificate, not all that was said
    twin: int = 0  # 1: a line that was there before, 2: its id with other words
    is_astray: bool = False  # in another lane, of an unknown type, under no checkpoint
    others: tuple[int, ...] = ()  # certificates that are relied on as well


Bundles = list[tuple[str, list[Said]]]  # bundles: department and lines
Story = list[Bundles | str]


def make_story(random: Random) -> Story:
    """Turns of bundles, each at least one line; checkpoints, and keys that become doubtful."""
    issued = [Said("issued", number=n, holder=random.choice([None, 0, 1])) for n in range(3)]
    story: Story = [[("a", issued)], "status"]
    for _ in range(random.randint(2, 6)):
        if random.random() < 0.3:
            story.append(random.choice(["status", "status", "doubt"]))
        weights, kinds = ([5, 3, 2], KINDS) if random.random() < 0.5 else ([5, 3, 0], PLAIN)
        departments = random.choices(["a", "b", "office"], weights, k=random.randint(1, 4))
        story.append([(name, make_lines(random, kinds[name])) for name in departments])
    return story


def make_lines(random: Random, kinds: list[tuple[str, str | None]]) -> list[Said]:
    return [
        Said(
            *(("nonsense", None) if random.random() < 0.03 else random.choice(kinds)),
            number=random.choice([0, 0, 0, 1, 1, 2, 3]),
            issuer="b" if random.random() < 0.05 else "a",
            holder=random.choice([None, 0, 1, 2, 3, 4]),
            day=random.randint(0, 9),
            target=random.choice([0, 0, 1, 1, 2, 3, 4, 5, 6]),
            is_own=random.random() < 0.85,
            twin=random.choices([0, 1, 2], [16, 2, 1])[0],
            is_astray=random.random() < 0.05,
            others=tuple(random.choices(range(4), k=random.randint(0, 2))),
        )
        for _ in range(random.randint(1, 8))
    ]


class Twins:
    """One ledger in PostgreSQL, and the same in memory."""

    def __init__(self, url: str) -> None:
        reset(url)
        self.stored = ledger = StoredLedger(url)
        self.producers = dict(ledger.producers)
        for name, lanes in LANES.items():
            if name != "b":
                self._begin_lanes(name, lanes)
        ledger.registrar.set_type(*GRANTS)
        offices = {"names": {"zh": "开办餐饮店"}, "offices": ["office"]}
        ledger.registrar.change(f"service/{world.SERVICE}", offices, world.OPERATOR)
        book = ledger.registrar.book
        self.view = MemoryView(book.registry, book.index)
        self.view.blinding_secret = ledger.rows("SELECT secret FROM blinding_secret")[0][0]
        for (name, number), producer in self.producers.items():
            lane = self.view.lanes[name, number]
            assert lane.previous == bytes(32)
            rows = ledger.rows(
                "SELECT epoch, previous, log_index FROM lane WHERE department = %s AND lane = %s",
                name,
                number,
            )
            ((epoch, previous, index),) = rows
            self.view.lanes[name, number] = admission.Lane(
                epoch, None, 0, previous, lane.signing_time, lane.signed_at, index
            )
            producer.previous, producer.epoch = previous, epoch
        self.keys: list[MemorySigner] = [world.bundle_signer("a")]
        self.plays = 0
        self.lines = 0
        self.status()

    def _begin_lanes(self, name: str, lanes: int) -> None:
        book = self.stored.registrar
        if name == "office":
            book.add_department(name, lanes)
        elif lanes > 1:
            change = world.department_change(name, lanes)
            book.change(f"department/{name}", change, world.registry_signer(name), world.OPERATOR)
        for lane in range(lanes):
            made = f"{ord(name[0]) * 100 + lane:032x}"
            self.producers[name, lane] = world.Producer(name, lane, b"", made)

    def close(self) -> None:
        self.stored.close()

    def _entries(self) -> list[bytes]:
        return [
            data
            for (data,) in self.stored.rows(
                "SELECT data FROM entry WHERE log_index >= %s ORDER BY log_index",
                self.view.next_index,
            )
        ]

    # --- what happens beside the turns ---

    def status(self) -> None:
        """A checkpoint that offices may name, where there is news."""
        sequence(self.stored.sequencing)
        for entry in self._entries():
            moment = times.parse_moment(parse_entry(entry)["time"])
            self.view.status_times[self.view.next_index] = moment
            self.view.entries.append(entry)
            self.view.next_index += 1

    def doubt(self) -> None:
        """The key of a signed some of the last entries in a thief's hand; there is another one."""
        old, new = self.keys[-1], world.bundle_signer("a", f"{len(self.keys)}")
        owner, book = world.registry_signer("a"), self.stored.registrar
        book.change(f"key/{new.key.key_id}", world.key_change(new, "bundle", "a"), owner, new, old)
        known = book.book.registry.value(f"key/{old.key.key_id}") or {}
        since = max(self.view.next_index - 3, known["from"])
        book.change(f"key/{old.key.key_id}", world.key_change(old, "bundle", "a", since), owner)
        self.keys.append(new)
        entries = self._entries()
        self.view.entries += entries
        self.view.next_index += len(entries)
        self.view.registry = book.book.registry
        for (name, _), producer in self.producers.items():
            if name == "a":
                producer.signer = new

    # --- turns ---

    def play(self, story: Story) -> None:
        self.plays += 1
        self.ids: list[tuple[int, bytes]] = []  # certificate, line
        self.acts: list[bytes] = []
        before = dict(self.view.certificates), dict(self.view.holders)
        for step in story:
            if step == "status":
                self.status()
            elif step == "doubt":
                self.doubt()
            else:
                self.turn([r for department, said in step for r in self.records(department, said)])
        self.compare(*before)

    def number(self, number: int) -> str:
        return f"{self.plays}-{number}"

    def records(self, department: str, said: list[Said]) -> list[bytes]:
        """A bundle for each of the lanes that the lines belong to."""
        lanes: dict[int, list[bytes]] = {}
        for each in said:
            line, key = self.make(department, each)
            lane = identity.lane_of(key, LANES[department])
            stray = each.is_astray and each.kind != "issued"
            lanes.setdefault((lane + stray) % LANES[department], []).append(line)
        now = self.stored.now()
        return [self.producers[department, lane].make(lines, now) for lane, lines in lanes.items()]

    def make(self, department: str, said: Said) -> tuple[bytes, bytes]:
        """A line, and the key that its lane follows from."""
        self.lines += 1
        if said.kind == "nonsense":
            return b'{"nonsense":%d}' % self.lines, bytes(32)
        if said.kind in ("relied", "ended"):
            return self.make_reliance(said)
        number = self.number(said.number)
        key = identity.certificate_key(world.TYPE, said.issuer, number)
        same = [line for place, line in self.ids if place == said.number]
        if said.twin == 1 and same:
            return same[-1 - said.target % len(same)], key
        data = self.data(said)
        if said.twin == 2 and same:
            data["event_id"] = json.loads(same[-1 - said.target % len(same)])["id"]
        if said.is_astray and said.kind == "issued":
            data["type_code"] = "never-heard-of"
        change = f"{self.plays}/{self.lines}"
        line = world.make_event(said.kind, number, issuer=said.issuer, change=change, **data)
        self.ids.append((said.number, line))
        return line, key

    def data(self, said: Said) -> dict[str, Any]:
        data: dict[str, Any] = {}
        if said.kind == "corrected":
            data = {"correction": said.correction, "reason_code": "error", "corrects": "0" * 32}
            known = [json.loads(line)["id"] for _, line in self.ids]
            key = identity.certificate_key(world.TYPE, said.issuer, self.number(said.number))
            if said.is_own:
                known = [t.id for t in self.view.histories.get(key, ())]
            if known:
                data["corrects"] = known[-1 - said.target % len(known)]
            if said.correction == "restate":
                data["valid_until"] = "2031-01-01Z"
        elif said.kind == "revoked":
            data["revocation_kind"] = "annulled" if said.day % 2 else "penalty"
        elif said.kind == "transferred-out":
            data["transfer_to"] = "b"
        elif said.kind == "suspended":
            data["reason_code"] = "inspection"
        if said.kind in ("issued", "renewed", "amended"):
            if said.holder is not None:
                data["holder_pseudonym"] = f"1:{self.plays:032x}{said.holder:032x}"
            if said.day < len(DAYS):
                data["valid_from"] = DAYS[said.day]
        return data

    def make_reliance(self, said: Said) -> tuple[bytes, bytes]:
        data: dict[str, Any] = {}
        numbers: list[str] = []
        if said.kind == "relied":
            sizes = [index + 1 for index in self.view.status_times]
            size = sizes[-1 - said.target % len(sizes)] + said.is_astray
            data = {"lasts": ["decision", "entitlement"][said.day % 2], "tree_size": size}
            numbers = [self.number(n) for n in sorted({said.number, *said.others})]
            data["versions"] = [1 + (said.day == 3)] * len(numbers)
        if said.twin and self.acts:
            line = self.acts[-1 - said.target % len(self.acts)]
        else:
            case = f"{self.plays}/{said.day}"
            line = world.make_reliance(said.kind, case, *numbers, change=str(self.lines), **data)
            self.acts.append(line)
        return line, parse_reliance(line, b"").key

    def turn(self, records: list[bytes]) -> None:
        """One turn over both: the same entries and outcomes; the memory follows what is stored."""
        batch = [self.stored.fetched(record) for record in records]
        checked = [self.stored.store.open(each) for each in batch]
        self.stored.store.apply(TOPIC, checked)
        ((now,),) = self.stored.rows("SELECT ledger_time FROM allocation")
        turn = Turn(self.view, self.view.next_index, now)
        for each in batch:
            source = Source(TOPIC, each.partition, each.offset)
            turn.take(source, open_record(each.value, self.view.registry))
        assert self._entries() == [entry for _, entry in turn.entries]
        told = self.stored.rows(
            "SELECT outcome, log_index FROM accounting WHERE partition = 0 AND record_offset >= %s"
            " ORDER BY record_offset",
            batch[0].offset,
        )
        assert told == [(done.outcome, done.index) for done in turn.accounted]
        assert {done.outcome for done in turn.accounted} == {LOGGED}
        self.view.commit(turn)

    # --- what is left of it ---

    def compare(self, certificates: Any, holders: Any) -> None:
        """The rows of what this play touched say what the memory says."""
        view = self.view
        touched = [key for key, one in view.certificates.items() if certificates.get(key) != one]
        rows = {
            key: (state, history)
            for key, state, history in self.stored.rows(
                "SELECT uuid_send(map_key) || uuid_send(rest), state, history FROM certificate"
                " WHERE uuid_send(map_key) || uuid_send(rest) = ANY(%s)",
                touched,
            )
        }
        assert rows.keys() == set(touched)
        for key, (state, history) in rows.items():
            row, known = staterow.open_row(key, state, history), view.certificates[key]
            assert (row.standing, row.link) == (known.standing, known.link)
            kept = staterow.pack_kept(known.kept, known.standing)
            assert row.kept == staterow.unpack_kept(kept, known.standing, history)
            head = known.holder and known.holder[: identity.HEAD]
            assert row.holder == (head or staterow.NO_HOLDER)
            places = [staterow.place(*place) for place in view.places[key]]
            assert staterow.places(history) == places
        touched = [key for key, said in view.holders.items() if holders.get(key) != said]
        found = self.stored.rows(
            "SELECT uuid_send(map_key) || uuid_send(rest), acts, link FROM holder"
            " WHERE uuid_send(map_key) || uuid_send(rest) = ANY(%s)",
            touched,
        )
        assert {key: tuple(said) for key, *said in found} == {k: view.holders[k] for k in touched}
        assert self.stored.rows(
            "SELECT reliance_key, acts, is_ended FROM reliance ORDER BY 1"
        ) == sorted((key, case.acts, case.ended) for key, case in view.cases.items())
        assert self.stored.rows(
            "SELECT reliance_key, certificate, log_index, position, end_index, end_position"
            " FROM reliance_hold ORDER BY 1, 2, 3, 4"
        ) == [(*place, *(end or (None, None))) for place, (_, end) in sorted(view.holds.items())]
        assert self.stored.rows(
            "SELECT log_index, position, certificate, cause_index, cause_position, event,"
            " revocation, reason, reliance_key FROM recall ORDER BY number"
        ) == [tuple(mark) for mark in view.marks]


class Held:
    """The twins of a test; new ones after a failure, which may have left them different."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.twins: Twins | None = None

    def play(self, seed: int) -> None:
        twins = self.twins = self.twins or Twins(self.url)
        try:
            twins.play(make_story(Random(seed)))
        except BaseException as err:
            err.add_note(f"seed {seed}")
            self.close()
            raise

    def close(self) -> None:
        if self.twins is not None:
            self.twins.close()
        self.twins = None


@pytest.fixture(params=["as they are", "narrow"])
def held(
    request: pytest.FixtureRequest, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Held]:
    """With limits that short stories do not reach, and with such as they pass often."""
    if request.param == "narrow":
        monkeypatch.setattr(lifecycle, "MAX_HISTORY", 5)
        monkeypatch.setattr(lifecycle, "MAX_CORRECTABLE", 7)
        monkeypatch.setattr(lifecycle, "MAX_TRANSITIONS", 12)
        monkeypatch.setattr(lifecycle, "MAX_LATE", 3)
        monkeypatch.setattr(admission, "MAX_FOLDED", 9)
        monkeypatch.setattr(relying, "MAX_FOLDED", 9)
        monkeypatch.setattr(view_module, "CHUNKS_IN_TURN", 1)
        monkeypatch.setattr(store_module, "WARY", 1)
        monkeypatch.setattr(store_module, "PART", 1)
        monkeypatch.setattr(turn_writing, "PIECE", 1)
    made = Held(module_database_url)
    yield made
    made.close()


def test_a_turn_says_what_it_says_with_all_in_memory(held: Held) -> None:
    # Each smaller story that fails would want a new ledger: the seed of what failed is printed.
    @settings(max_examples=25, phases=[Phase.generate])
    @given(st.integers(0, 2**32))
    def play(seed: int) -> None:
        held.play(seed)

    play()
    assert held.twins is not None
    held.twins.stored.check()
