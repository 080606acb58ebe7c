"""How large evidence is at ten million certificates, and how fast it is checked offline.

A ledger in memory with a registry of a hundred departments and a log of 131,000 entries: its files
are real. What a map of ten million records adds is arithmetic: 42.67 bytes of base64 for each level
more, 85.33 for each pair that a bucket has more or less than the mean of 4.8.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ledger import statusmap, times
from ledger.checking import check_file
from ledger.cosignature import ML_DSA_44, Cosigner
from ledger.evidence import Evidence, format_evidence
from ledger.note import parse_note
from ledger.trust import TrustedKey
from ledger.witnessing import add_signatures
from tests import world
from tests.ledger_builder import LedgerBuilder

CERTIFICATES = 10_000_000
DEPARTMENTS, LANES = 100, 8
BUNDLE = 1000
_HASH, _PAIR = 32 * 4 / 3, 64 * 4 / 3  # bytes in base64
_RENEWED: dict[str, Any] = {"valid_from": "2026-02-01+08:00", "valid_until": "2028-01-31+08:00"}
_CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "issued": [("issued", _RENEWED)],
    "four events, one decides": [
        ("issued", {"valid_from": "2026-02-01+08:00", "valid_until": "2027-01-31+08:00"}),
        ("suspended", {"reason_code": "inspection"}),
        ("reinstated", {}),
        ("renewed", _RENEWED),
    ],
    "four events, two decide": [
        ("issued", {"valid_from": "2026-02-01+08:00", "valid_until": "2027-01-31+08:00"}),
        ("suspended", {"reason_code": "inspection"}),
        ("reinstated", {}),
        ("renewed", {"valid_until": "2028-01-31+08:00"}),
    ],
}


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of one file at ten million certificates."""

    case: str
    shown: int  # events in full
    ed25519: int
    with_ml_dsa: int


def _ledger() -> LedgerBuilder:
    departments = {"a": LANES, **{f"d{n:02d}": LANES for n in range(DEPARTMENTS - 1)}}
    return LedgerBuilder(departments, (("a", world.ALL_ACTS, "own"),))


def _at_scale(ledger: LedgerBuilder, evidence: Evidence, data: bytes) -> int:
    k = statusmap.next_k(0, CERTIFICATES)
    levels = k - ledger.k[statusmap.CERTIFICATES]
    pairs = CERTIFICATES / 2**k - len(evidence.bucket.bucket) / statusmap.PAIR
    return round(len(data) + levels * _HASH + pairs * _PAIR)


def sizes(say: Callable[[str], None]) -> list[Size]:
    """The sizes of what `_CASES` names; every file is checked."""
    found = []
    for case, acts in _CASES.items():
        ledger = _ledger()
        lane = world.lane_of("a", "N", ledger.view.registry)
        for kind, members in acts:
            ledger.fill(131_072 // len(acts))
            ledger.advance(60)
            moment = times.format_moment(ledger.now)
            numbers = (f"{kind} {n}" for n in range(20 * BUNDLE))
            others = [
                ledger.event("issued", number)
                for number in numbers
                if world.lane_of("a", number, ledger.view.registry) == lane
            ][: BUNDLE - 1]
            own = ledger.event(kind, "N", time=moment, **members)
            ledger.publish([*others[:400], own, *others[400:]], "a", lane)
        evidence = ledger.evidence("N")
        data = format_evidence(evidence)
        signer = Cosigner(world.ORIGIN, ML_DSA_44, bytes(32))
        text = parse_note(evidence.checkpoint).text
        line = signer.cosign(text, ledger.now // times.SECOND)
        both = replace(evidence, checkpoint=add_signatures(evidence.checkpoint, [line]))
        keys = (TrustedKey(world.CHECKPOINT.key, 0, None), TrustedKey(signer.key, 0, None))
        cosigned = format_evidence(both)
        for each, trust in ((data, ledger.trust()), (cosigned, ledger.trust(keys=keys))):
            answer = check_file(each, trust, ledger.now)
            assert answer.answer == "valid", answer
        found.append(
            Size(
                case,
                len(evidence.events),
                _at_scale(ledger, evidence, data),
                _at_scale(ledger, both, cosigned),
            )
        )
        say(f"evidence: {case}: {found[-1].ed25519} and {found[-1].with_ml_dsa} bytes")
    return found


def checking(files: int) -> tuple[float, float]:
    """Files checked in a second of processor time: under one checkpoint, and with a different one
    each.
    """
    ledger = _ledger()
    lane = world.lane_of("a", "0", ledger.view.registry)
    numbers = [
        number
        for number in map(str, range(64 * files))
        if world.lane_of("a", number, ledger.view.registry) == lane
    ][:files]
    for n in range(0, files, 100):
        events = [ledger.event("issued", number, **_RENEWED) for number in numbers[n : n + 100]]
        ledger.publish(events, "a", lane)
    ledger.status()
    one = [format_evidence(ledger.evidence(number)) for number in numbers]
    each = []
    for number in numbers[: max(1, files // 10)]:
        ledger.advance(1)
        ledger.publish([], "a", lane)
        each.append(format_evidence(ledger.evidence(number)))
    trust = ledger.trust()
    return _rate(one, trust, ledger.now), _rate(each, trust, ledger.now)


def _rate(files: list[bytes], trust: Any, now: int) -> float:
    begin = time.process_time()
    for data in files:
        assert check_file(data, trust, now).answer == "valid"
    return len(files) / (time.process_time() - begin)
