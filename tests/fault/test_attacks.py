"""Admission attacked while it runs at full speed: by a registered department that lies, and by
somebody who may write to the topic. What the others publish is admitted whole, of theirs only what
the rules let them do, and fsck finds nothing.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.end_to_end import check_fsck, published
from bench.ledgers import Ledger, Signed, fresh_ledger
from bench.loading import Load
from bench.town import ACTS, TYPES, Town
from deploy.stack import worker_programs
from ledger import bundle, canonical, event, identity, merkle
from ledger.admission import (
    DEAD_LETTER,
    EQUIVOCATION,
    LOGGED,
    OUT_OF_SEQUENCE,
    REPEAT,
)
from ledger.bundle import Header
from ledger.note import sign
from ledger.postgres.connection import transaction

HONEST, LIAR = ["honest-01", "honest-02", "honest-03"], "liar"
BUNDLES, SIZE = 64, 500  # of the honest ones
LANES = 2
SAID = tuple(kind for kind in ACTS if kind not in (event.ISSUED, event.CORRECTED))


class Attack:
    """Makes what is sent before and after each honest bundle; `outcomes` is what must become of it,
    `lines` how many are logged, `issued` how many certificates of its own the liar may issue.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.outcomes: Counter[str] = Counter()
        self.lines = self.issued = 0
        self._ledger, self._draw, self._numbers = ledger, random.Random(7), 0

    def before(self, honest: Signed) -> Iterator[Signed]:
        """Where the topic has not got the honest bundle yet."""
        found = bundle.parse_record(honest.value)
        lines = list(found.lines)
        end = lines[3].rindex(b'"')
        altered = [*lines[:3], lines[3][: end - 1] + b"x" + lines[3][end:], *lines[4:]]
        note = found.note_bytes
        yield self._sent(honest, bundle.format_record(note, altered), DEAD_LETTER)
        forged = sign(found.header.text(), [self._ledger.signers[LIAR]])
        yield self._sent(honest, bundle.format_record(forged, lines), DEAD_LETTER)
        yield self._sent(honest, honest.value[: self._draw.randrange(len(note))], DEAD_LETTER)
        yield self._sent(honest, self._draw.randbytes(self._draw.randrange(2000)), DEAD_LETTER)
        # the liar's own, in sequence: all refused but one certificate of its own
        yield from self._lies(lines)

    def after(self, honest: Signed) -> Iterator[Signed]:
        """Where it has."""
        yield self._sent(honest, honest.value, REPEAT)

    def _lies(self, lines: list[bytes]) -> Iterator[Signed]:
        lane = self._draw.randrange(LANES)
        about = [json.loads(line) for line in self._draw.sample(lines, 40)]
        said: list[bytes] = []
        for value in about:
            data = {
                name: value["data"][name]
                for name in (
                    "certificate_type_code",
                    "certificate_number",
                    "issuing_authority_code",
                )
            }
            kind = self._draw.choice(SAID)
            said.append(_line(value, event.TYPE_PREFIX + kind + event.TYPE_SUFFIX, data))
            # the same id and number, as its own issue and in the other's name
            said.append(_line(value, value["type"], value["data"]))
        said += [b"", b"{}", self._draw.randbytes(50).replace(b"\n", b" ")]
        own = self._own(lane)
        said += [own, own, own.replace(b'"1.0"', b'"1.1"')]
        self.issued += 1
        self.lines += len(said)
        (record,) = self._ledger.sign([(LIAR, lane, said)])
        yield self._sent(record, record.value, LOGGED)
        found = bundle.parse_record(record.value)
        header = found.header
        yield self._sent(record, self._signed(header, said[:5]), EQUIVOCATION)
        ahead = replace(header, sequence=header.sequence + 5, previous=bytes(32))
        yield self._sent(record, self._signed(ahead, said[5:9]), OUT_OF_SEQUENCE)
        elsewhere = replace(header, origin="another.example/ledger")
        yield self._sent(record, self._signed(elsewhere, said), DEAD_LETTER)
        nowhere = replace(header, lane=LANES + 5)
        yield self._sent(record, self._signed(nowhere, said), DEAD_LETTER)

    def _own(self, lane: int) -> bytes:
        code = next(iter(TYPES))
        while True:
            self._numbers += 1
            number = f"LIE{self._numbers:08d}"
            if identity.lane_of(identity.certificate_key(code, LIAR, number), LANES) == lane:
                break
        data = {
            "certificate_type_code": code,
            "certificate_number": number,
            "issuing_authority_code": LIAR,
            "valid_from": "2026-01-01+08:00",
            "valid_until": "2030-12-31+08:00",
        }
        value = {
            "id": f"{self._numbers:032x}",
            "source": f"urn:register:{LIAR}",
            "specversion": "1.0",
            "time": "2026-01-01T09:00:00+08:00",
        }
        return _line(value, event.TYPE_PREFIX + event.ISSUED + event.TYPE_SUFFIX, data)

    def _signed(self, header: Header, lines: list[bytes]) -> bytes:
        root = merkle.root([merkle.leaf_hash(line) for line in lines])
        text = replace(header, count=len(lines), root=root).text()
        return bundle.format_record(sign(text, [self._ledger.signers[LIAR]]), lines)

    def _sent(self, like: Signed, value: bytes, outcome: str) -> Signed:
        self.outcomes[outcome] += 1
        return replace(like, value=value)


def _line(value: dict[str, object], kind: str, data: object) -> bytes:
    return canonical.encode({**value, "type": kind, "data": data})


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with fresh_ledger([*HONEST, LIAR], LANES, worker_programs()) as made:
        yield made


def test_honest_bundles_are_admitted_whole_and_lies_are_not(ledger: Ledger) -> None:
    load = Load(ledger, Town(HONEST, LANES, people=5000), SIZE)
    attack = Attack(ledger)
    honest: list[tuple[Signed, int]] = []
    try:
        while len(honest) < BUNDLES:
            honest += load.take(16)
        sent: list[tuple[Signed, int]] = []
        for record, begins in honest:
            sent += [(each, 0) for each in attack.before(record)]
            sent.append((record, begins))
            sent += [(each, 0) for each in attack.after(record)]
        load.send(sent)
    finally:
        load.close()
    published(ledger, len(sent))
    attack.outcomes[LOGGED] += len(honest)
    events = sum(record.events for record, _ in honest)
    certificates = sum(begins for _, begins in honest)
    with transaction(ledger.connection) as cursor:
        cursor.execute("SELECT outcome, count(*) FROM accounting GROUP BY outcome")
        assert dict(cursor.fetchall()) == attack.outcomes
        cursor.execute("SELECT name, count FROM tally")
        tally = dict(cursor.fetchall())
        assert tally.pop("admitted") == events + attack.issued
        assert tally.pop("certificates") == certificates + attack.issued
        assert sum(tally.values()) == attack.lines - attack.issued, tally
        assert {"act-not-authorised", "event-id-conflict", "malformed-event"} <= tally.keys()
        cursor.execute(
            "SELECT count(*) FROM certificate JOIN certificate_kind AS of ON of.number = kind"
            " WHERE issuer = %s",
            (LIAR,),
        )
        assert cursor.fetchall() == [(attack.issued,)]


def test_fsck_finds_nothing(ledger: Ledger) -> None:
    check_fsck(ledger)
