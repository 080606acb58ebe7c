"""A ledger for looking at the web page: a certificate in every state, and hostile texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ledger import merkle
from ledger.keys import create_key
from ledger.registry import operator_key_name
from ledger.sheet import key_name
from ledger.trust import Trust, TrustedKey, format_trust
from tests import world
from tests.stored_ledger import StoredLedger

SHEET_KEY = "sheet.key"
OTHER_TYPE = "11100000000013338W032"
BIDI, ZERO_WIDTH = "\u202e", "\u200b"
MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
# Numbers by what the tests want of them.
VALID, EXPIRED, SUSPENDED, FUTURE = "川A-000123", "川A-000124", "川A-000205", "川A-000306"
PENALTY, ANNULLED, DEREGISTERED = "川A-000407", "川A-000417", "川A-000427"
TRANSFERRED, RENEWED, VOIDED, RESTATED = "川A-000508", "川A-000609", "川A-000710", "川A-000811"
OPEN, UNKNOWN_START, TWICE, LONG_LIFE = "川A-000912", "川A-001013", "川A-001114", "川A-001215"
SERIAL = "20230000403"
IDENTIFIER = f"1.2.156.3005.2.{world.TYPE}.11430000006122244L.{SERIAL}.001.U"
HOSTILE = (MARKUP, f"川A{BIDI}321000-A{ZERO_WIDTH}1", "长" * 300, "x" * 1000)
HOSTILE_NAMES = {"zh": f"{MARKUP}{BIDI}局{ZERO_WIDTH}"[:256], "en": f"{BIDI}{MARKUP}"[:256]}
ISSUED = "2025-01-15T09:30:00+08:00"


def make_page_ledger(url: str, folder: Path) -> tuple[StoredLedger, Path]:
    """The ledger, published, and its trust file."""
    ledger = StoredLedger(url)
    registrar = ledger.registrar
    for name, lane in registrar.add_department("hostile").items():
        ledger.producers["hostile", name] = lane
    owner = world.registry_signer("hostile")
    registrar.change(
        "department/hostile",
        {
            **world.department_change("hostile"),
            "names": HOSTILE_NAMES,
            "contact": f"javascript:alert(1) {MARKUP}{BIDI}",
            "silence_limit_seconds": None,
        },
        owner,
    )
    registrar.change(
        "department/a",
        {
            **world.department_change("a"),
            "names": {"zh": "成都市交通运输局", "en": "Chengdu Transport Bureau"},
            "contact": "028-8600 0000",
        },
        world.registry_signer("a"),
    )
    registrar.add_department("quiet")  # may issue, and never signs anything
    grants = (
        ("a", world.ALL_ACTS, "own"),
        ("quiet", ["issued"], "own"),
        ("b", ["revoked", "transferred-in"], "any"),
        ("hostile", world.ALL_ACTS, "own"),
    )
    for name, names in (
        (world.TYPE, {"zh": "道路运输证", "en": "Road transport permit"}),
        (OTHER_TYPE, {"zh": "食品经营许可证", "en": "Food business licence"}),
        ("hostile", HOSTILE_NAMES),
    ):
        change = world.type_change(grants)
        code = name if name != "hostile" else MARKUP[:64]
        registrar.change(f"type/{name}", {**change, "names": names, "code": code}, world.OPERATOR)
    assert ledger.send(ledger.make(_ordinary(ledger))) == {"logged": 1}
    hostile = [
        ledger.event(
            "issued", number, issuer="hostile", type_code="hostile", valid_from="2025-01-01+08:00"
        )
        for number in HOSTILE
    ]
    hostile.append(
        ledger.event(
            "revoked",
            MARKUP,
            issuer="hostile",
            type_code="hostile",
            revocation_kind="penalty",
            reason_code="x" * 64,
            time="2025-06-01T00:00:00+08:00",
        )
    )
    assert ledger.send(ledger.make(hostile, "hostile")) == {"logged": 1}
    assert set(ledger.counts()) == {"admitted"}, ledger.counts()
    ledger.checkpoint()
    sheet_key = create_key(folder / SHEET_KEY, key_name(ledger.origin)).key
    path = folder / "trust.json"
    path.write_bytes(format_trust(replace(trust_of(ledger), sheet_keys=(sheet_key,))))
    return ledger, path


def trust_of(ledger: StoredLedger) -> Trust:
    """What to trust of this ledger; it asks for no witnesses."""
    genesis = merkle.leaf_hash(ledger.rows("SELECT data FROM entry WHERE log_index = 0")[0][0])
    signs = TrustedKey(world.signer(ledger.origin).key, 0, None)
    operator = world.signer(operator_key_name(ledger.origin)).key
    return Trust(ledger.origin, genesis, (signs,), operator=operator)


def _ordinary(ledger: StoredLedger) -> list[bytes]:
    def issued(number: str, **members: Any) -> bytes:
        dates = {"valid_from": "2025-01-15+08:00", "valid_until": "2030-12-31+08:00"}
        return ledger.event("issued", number, **{"time": ISSUED, **dates, **members})

    def later(kind: str, number: str, **members: Any) -> bytes:
        return ledger.event(kind, number, **{"time": "2026-02-03T00:00:00+08:00", **members})

    lines = [
        issued(VALID),
        # as registers write it: in UTC, of a day that began in Chengdu
        later("suspended", VALID, reason_code="insurance-lapsed", time="2025-05-31T16:00:00Z"),
        later("reinstated", VALID, time="2025-07-01T10:00:00+08:00"),
        issued(EXPIRED, valid_until="2026-01-31+08:00"),
        issued(SUSPENDED),
        later("suspended", SUSPENDED, reason_code="inspection-overdue"),
        issued(FUTURE, valid_from="2027-01-01+08:00"),
        issued(TRANSFERRED),
        later("transferred-out", TRANSFERRED, transfer_to="b", reason_code="moved"),
        issued(RENEWED, valid_until="2025-12-31+08:00"),
        later(
            "renewed",
            RENEWED,
            time="2025-12-20T11:00:00+08:00",
            valid_from="2026-01-01+08:00",
            valid_until="2028-12-31+08:00",
        ),
        issued(VOIDED, event_id="d" * 32),
        later(
            "corrected", VOIDED, corrects="d" * 32, correction="void", reason_code="wrong-person"
        ),
        issued(RESTATED, event_id="e" * 32),
        later(
            "corrected",
            RESTATED,
            corrects="e" * 32,
            correction="restate",
            reason_code="typing-error",
            valid_until="2031-12-31+08:00",
        ),
        ledger.event("issued", OPEN, time=ISSUED, valid_from="2025-01-15+08:00"),
        ledger.event("issued", UNKNOWN_START, time=ISSUED, valid_from="unknown"),
        issued(TWICE),
        issued(TWICE, type_code=OTHER_TYPE),
        issued(SERIAL),
        issued(LONG_LIFE),
    ]
    for year in range(2, 8):
        lines.append(
            later("suspended", LONG_LIFE, reason_code="x", time=f"2025-{year:02}-02T08:00:00+08:00")
        )
        lines.append(later("reinstated", LONG_LIFE, time=f"2025-{year:02}-09T08:00:00+08:00"))
    for number, kind in (
        (PENALTY, "penalty"),
        (ANNULLED, "annulled"),
        (DEREGISTERED, "deregistered"),
    ):
        lines.append(issued(number))
        lines.append(later("revoked", number, revocation_kind=kind, reason_code="false-documents"))
    return lines
