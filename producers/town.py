"""A generated town's year: five departments, nine kinds of certificate, every kind of event.

Seeded: one seed gives the same events in the same order, always. Most are what departments do
every day; some come late, are back-dated or corrected, and a few are impossible, in a way that
stays impossible when it is said again.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from stdnum.cn import ric, uscc

from ledger import times
from ledger.event import FIELDS
from ledger.identity import Identifier

ZONE = "Asia/Shanghai"
YEAR = 2025
_SHANGHAI = ZoneInfo(ZONE)
_EVENTS_PER_CERTIFICATE = 1.72
_IMPOSSIBLE = 0.01
_LATE = 0.06


def _code(body: str) -> str:
    """A unified social credit code (GB 32100) of 17 characters and its check character."""
    return body + str(uscc.calc_check_digit(body))


MARKET, HOUSING, TRANSPORT, HEALTH, APPROVALS = (
    "linjiang-market",
    "linjiang-housing",
    "linjiang-transport",
    "linjiang-health",
    "linjiang-approvals",
)
_DEPARTMENTS = (
    (MARKET, "临江市市场监督管理局", "Linjiang Market Supervision Administration", 1, 2),
    (HOUSING, "临江市住房和城乡建设局", "Linjiang Housing and Construction Bureau", 2, 1),
    (TRANSPORT, "临江市交通运输局", "Linjiang Transport Bureau", 3, 2),
    (HEALTH, "临江市卫生健康委员会", "Linjiang Health Commission", 4, 1),
    (APPROVALS, "临江新区行政审批局", "Linjiang New Area Approvals Bureau", 5, 1),
)
_AUTHORITY = {item[0]: _code(f"11511300MB{item[3]:07d}") for item in _DEPARTMENTS}


@dataclass(frozen=True, slots=True)
class _Type:
    code: str
    zh: str
    en: str
    department: str
    number: int  # the last three characters of its GB/T 36904 type code
    years: int  # of validity, 0: open
    personal: bool = False
    movable: bool = False  # to the approvals bureau

    @property
    def standard_code(self) -> str:
        return f"{_code(f'11100000MB{_LEVEL[self.department]:07d}')}{self.number:03d}"


_LEVEL = {item[0]: 7000 + item[3] for item in _DEPARTMENTS}
_TYPES = (
    _Type("business-licence", "营业执照", "Business licence", MARKET, 1, 0, movable=True),
    _Type(
        "food-business-licence",
        "食品经营许可证",
        "Food business licence",
        MARKET,
        2,
        5,
        movable=True,
    ),
    _Type("construction-permit", "建筑工程施工许可证", "Construction permit", HOUSING, 1, 2),
    _Type("presale-permit", "商品房预售许可证", "Pre-sale permit for housing", HOUSING, 2, 3),
    _Type(
        "road-transport-licence", "道路运输经营许可证", "Road transport licence", TRANSPORT, 1, 4
    ),
    _Type("vehicle-operation-permit", "道路运输证", "Vehicle operation permit", TRANSPORT, 2, 1),
    _Type(
        "driver-qualification",
        "道路运输从业人员从业资格证",
        "Professional driver's qualification",
        TRANSPORT,
        3,
        6,
        personal=True,
    ),
    _Type(
        "hygiene-permit",
        "公共场所卫生许可证",
        "Hygiene permit for public places",
        HEALTH,
        1,
        4,
        movable=True,
    ),
    _Type(
        "practising-doctor",
        "医师执业证书",
        "Practising doctor's certificate",
        HEALTH,
        2,
        0,
        personal=True,
    ),
)
_STREETS = ("滨江路", "解放街", "人民南路", "建设巷", "文庙街", "朝阳大道", "玉带桥街", "东风路")
_TRADES = (
    ("餐饮", "Catering"),
    ("运输", "Transport"),
    ("建筑", "Construction"),
    ("口腔诊所", "Dental"),
    ("茶叶", "Tea"),
    ("五金", "Hardware"),
    ("百货", "Department Store"),
    ("宾馆", "Hotel"),
)
_WORDS = (
    ("锦绣", "Jinxiu"),
    ("长乐", "Changle"),
    ("同心", "Tongxin"),
    ("宏远", "Hongyuan"),
    ("春晖", "Chunhui"),
    ("安泰", "Antai"),
    ("蓉江", "Rongjiang"),
    ("德顺", "Deshun"),
    ("百川", "Baichuan"),
    ("永和", "Yonghe"),
)
_SURNAMES = "王李张刘陈杨赵黄周吴徐孙马朱胡郭何罗"
_GIVEN = "伟芳娜敏静强磊洋艳勇杰娟涛超霞平刚桂英华文玉兰建国明"


def departments() -> list[dict[str, Any]]:
    """What must be registered before the town's events, as the registry's hook takes it."""
    return [
        {
            "id": name,
            "names": {"zh": zh, "en": en},
            "authority_code": _AUTHORITY[name],
            "time_zone": ZONE,
            "contact": f"tel:+86-817-555-{number:04d}",
            "silence_limit_seconds": None,
            "lanes": lanes,
        }
        for name, zh, en, number, lanes in _DEPARTMENTS
    ]


def types() -> list[dict[str, Any]]:
    """The town's certificate types and who may do what."""
    acts = sorted(FIELDS)
    out = []
    for item in _TYPES:
        holders = [item.department] + ([APPROVALS] if item.movable else [])
        out.append(
            {
                "code": item.code,
                "names": {"zh": item.zh, "en": item.en},
                "standard_code": item.standard_code,
                "grants": [{"department": d, "acts": acts, "scope": "own"} for d in holders],
            }
        )
    return out


def events(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` plain events (`lines.PLAIN`) with their department, in the order of publication."""
    town = _Town(seed)
    spacing = 365 * 86_400 / max(count / _EVENTS_PER_CERTIFICATE, 1)
    begin = datetime(YEAR, 1, 1, 9, 0, tzinfo=_SHANGHAI)
    heap: list[tuple[datetime, int, dict[str, Any]]] = []
    order = 0
    left = count
    certificate = 0
    while left:
        start = begin + timedelta(seconds=int(certificate * spacing))
        while heap and left and heap[0][0] <= start:
            yield heapq.heappop(heap)[2]
            left -= 1
        for at, plain in town.certificate(certificate, start):
            heapq.heappush(heap, (at, order, plain))
            order += 1
        certificate += 1


class _Town:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._mark = sha256(b"town %d" % seed).hexdigest()[:6].upper()
        self._stories = (
            (40, self._plain),
            (11, self._renewed),
            (10, self._amended),
            (7, self._suspended),
            (6, self._revoked),
            (5, self._expired),
            (4, self._moved),
            (4, self._restated),
            (3, self._voided),
            (2, self._issued_again),
            (3, self._back_dated),
            (2, self._unknown_start),
            (2, self._suspended_until),
            (1, self._returned),
        )

    def certificate(self, number: int, start: datetime) -> list[tuple[datetime, dict[str, Any]]]:
        """(published at, event) of the life of certificate `number`, in order."""
        rng = random.Random(f"{self._seed}/{number}")
        if number < len(self._stories) - 1:  # each story once at the very beginning
            story = self._stories[number + 1][1]
        else:
            story = rng.choices(
                [s for _, s in self._stories], [weight for weight, _ in self._stories]
            )[0]
        movable = story == self._moved
        kind = rng.choice([t for t in _TYPES if t.movable or not movable])
        life = _Life(self._seed, self._mark, number, kind, rng, start)
        story(life)
        if rng.random() < _IMPOSSIBLE or number == len(self._stories):
            life.impossible()
        return life.events

    def _plain(self, life: _Life) -> None:
        life.issue()

    def _renewed(self, life: _Life) -> None:
        life.issue()
        life.later(60, 250)
        life.say("renewed", valid_until=life.end(life.today()))

    def _amended(self, life: _Life) -> None:
        life.issue()
        for _ in range(life.rng.choice((1, 1, 2))):
            life.later(10, 120)
            life.change_address()
            life.say("amended", reason_code="change-of-address")

    def _suspended(self, life: _Life) -> None:
        life.issue()
        life.later(20, 150)
        life.say("suspended", reason_code="inspection-failed")
        life.later(5, 60)
        life.say("reinstated", reason_code="put-right")

    def _suspended_until(self, life: _Life) -> None:
        life.issue()
        life.later(20, 150)
        until = life.today() + timedelta(days=30)
        life.say("suspended", reason_code="penalty-points", valid_until=until.isoformat())

    def _revoked(self, life: _Life) -> None:
        life.issue()
        life.later(20, 200)
        kind, reason = life.rng.choice(
            (
                ("annulled", "false-documents"),
                ("penalty", "grave-offence"),
                ("deregistered", "business-closed"),
                ("deregistered", "holder-asked"),
            )
        )
        life.say("revoked", revocation_kind=kind, reason_code=reason)

    def _expired(self, life: _Life) -> None:
        life.issue(days=life.rng.randint(60, 120))
        life.later(125, 160)
        life.say("expired")

    def _returned(self, life: _Life) -> None:
        self._expired(life)
        life.later(10, 60)
        life.say("renewed", valid_until=life.end(life.today()))

    def _moved(self, life: _Life) -> None:
        life.issue()
        life.later(20, 150)
        life.say("transferred-out", transfer_to=APPROVALS, reason_code="moved-to-new-area")
        life.later(1, 10)
        life.department = APPROVALS
        life.say("transferred-in")
        if life.rng.random() < 0.4:
            life.later(10, 60)
            life.change_address()
            life.say("amended", reason_code="change-of-address")

    def _restated(self, life: _Life) -> None:
        first = life.issue()
        life.later(3, 60)
        wrong = date.fromisoformat(str(first["valid_from"]))
        life.say(
            "corrected",
            corrects=life.id_of(first),
            correction="restate",
            reason_code="typing-error",
            valid_from=(wrong - timedelta(days=life.rng.randint(1, 20))).isoformat(),
        )

    def _voided(self, life: _Life) -> None:
        life.issue()
        life.later(10, 90)
        life.change_address()
        amended = life.say("amended", reason_code="change-of-address")
        life.later(1, 20)
        life.say(
            "corrected",
            corrects=life.id_of(amended),
            correction="void",
            reason_code="wrong-certificate",
        )

    def _issued_again(self, life: _Life) -> None:
        first = life.issue()
        life.later(1, 20)
        life.say(
            "corrected", corrects=life.id_of(first), correction="void", reason_code="wrong-holder"
        )
        life.later(1, 10)
        life.issue()

    def _back_dated(self, life: _Life) -> None:
        life.issue(back=life.rng.randint(30, 200))

    def _unknown_start(self, life: _Life) -> None:
        life.issue(unknown=True)


class _Life:
    """One certificate's events while they are made up."""

    def __init__(
        self, seed: int, mark: str, number: int, kind: _Type, rng: random.Random, start: datetime
    ) -> None:
        self.rng = rng
        self.kind = kind
        self.department = kind.department
        self.at = start
        self.events: list[tuple[datetime, dict[str, Any]]] = []
        self._serial = f"{YEAR}{mark}{number:07d}"
        self._source = f"/town/{seed}"
        self._record = f"{kind.code}/{self._serial}"
        self._version = 0
        self._said = 0
        self._holder, self._claims, self._private = self._make_holder()

    def later(self, least: int, most: int) -> None:
        """Let days pass."""
        days, seconds = self.rng.randint(least, most), self.rng.randint(0, 30_000)
        self.at += timedelta(days=days, seconds=seconds)

    def today(self) -> date:
        return self.at.date()

    def end(self, start: date) -> str:
        """The last day of validity of what begins on `start`; open for some types."""
        if not self.kind.years:
            return "open"
        return (start + timedelta(days=365 * self.kind.years - 1)).isoformat()

    def change_address(self) -> None:
        self._claims = {**self._claims, "address": self._address()}

    def issue(self, *, days: int = 0, back: int = 0, unknown: bool = False) -> dict[str, Any]:
        """It begins, for `days` or as long as its type does, maybe `back` days ago."""
        first = self.today() - timedelta(days=back)
        last = (first + timedelta(days=days)).isoformat() if days else self.end(first)
        return self.say(
            "issued",
            valid_from="unknown" if unknown else first.isoformat(),
            **({} if last == "open" else {"valid_until": last}),
        )

    def id_of(self, plain: dict[str, Any]) -> str:
        return str(plain["id"])

    def say(self, kind: str, **members: Any) -> dict[str, Any]:
        """One more event; publication may be late."""
        if kind in ("issued", "renewed", "amended"):
            self._version += 1
            members["claims"] = self._claims
            members["certificate_identifier"] = self._identifier(self._serial, self._version)
            members["private"] = self._private
            if kind == "issued":
                members["holder"] = self._holder
        return self._add(kind, self._serial, self.department, members)

    def impossible(self) -> None:
        """Something that no register should say, and some do."""
        self.later(1, 30)
        which = self.rng.randrange(7)
        other = self._serial.replace(str(YEAR), str(YEAR - 1), 1)
        if which == 0:
            members: dict[str, Any] = {"reason_code": "inspection-failed"}
            self._add("suspended", other, self.department, members)
        elif which == 1:
            self._add("renewed", other, self.department, {"valid_until": f"{YEAR + 3}-12-31"})
        elif which == 2:
            members = {"valid_from": f"{YEAR}-06-01", "valid_until": f"{YEAR}-01-31"}
            self._add("issued", other, self.department, members)
        elif which == 3:
            members = {"certificate_identifier": self._identifier(other, 9)}
            self._add("issued", other, self.department, members)
        elif which == 4:
            stranger = HOUSING if self.kind.department != HOUSING else HEALTH
            members = {"revocation_kind": "penalty", "reason_code": "grave-offence"}
            self._add("revoked", self._serial, stranger, members)
        elif which == 5:
            members = {
                "corrects": "0" * 32,
                "correction": "void",
                "reason_code": "typing-error",
            }
            self._add("corrected", self._serial, self.department, members)
        else:
            self._add("issued", self._serial, self.department, {"valid_from": f"{YEAR}-01-01"})

    def _add(
        self, kind: str, serial: str, department: str, members: dict[str, Any]
    ) -> dict[str, Any]:
        published = self.at
        decided = published
        if self.rng.random() < _LATE:
            decided -= timedelta(days=self.rng.randint(2, 45))
        self._said += 1
        time = times.format_moment(int(decided.timestamp()) * times.SECOND)
        event_id = sha256(f"{self._source}/{self._record}/{self._said}".encode()).hexdigest()[:32]
        plain: dict[str, Any] = {
            "event": kind,
            "department": department,
            "certificate_type_code": self.kind.code,
            "issuing_authority_code": self.kind.department,
            "certificate_number": serial,
            "time": time,
            "source": self._source,
            "id": event_id,
            **members,
        }
        if decided != published:
            plain["recordedtime"] = published.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.events.append((published, plain))
        return plain

    def _identifier(self, serial: str, version: int) -> str:
        authority = _AUTHORITY[self.kind.department]
        return str(Identifier(self.kind.standard_code, authority, serial, version))

    def _make_holder(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        rng = self.rng
        if self.kind.personal:
            born = date(1962, 1, 1) + timedelta(days=rng.randrange(15_000))
            # Nanchong: a city under one region code until 1993, a district under another since
            region = "512901" if born.year < 1993 else "511302"
            body = f"{region}{born:%Y%m%d}{rng.randrange(1000):03d}"
            name = rng.choice(_SURNAMES) + "".join(rng.choices(_GIVEN, k=rng.choice((1, 2))))
            number = body + str(ric.calc_check_digit(body + "0"))
            claims = {"certificate_name": self.kind.zh, "certificate_name_en": self.kind.en}
            return {"scheme": "111", "number": number}, claims, {"holder_name": name}
        (word, word_en), (trade, trade_en) = rng.choice(_WORDS), rng.choice(_TRADES)
        number = _code(f"91511302MA{rng.randrange(10**7):07d}")
        claims = {
            "certificate_name": self.kind.zh,
            "certificate_name_en": self.kind.en,
            "holder_name": f"临江{word}{trade}有限公司",
            "holder_name_en": f"Linjiang {word_en} {trade_en} Co., Ltd.",
            "address": self._address(),
        }
        owner = rng.choice(_SURNAMES) + "".join(rng.choices(_GIVEN, k=2))
        return {"scheme": "001", "number": number}, claims, {"legal_representative": owner}

    def _address(self) -> str:
        return f"临江市{self.rng.choice(_STREETS)}{self.rng.randint(1, 400)}号"
