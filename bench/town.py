"""A town's events as departments would write them: seeded, about 600 bytes, all admissible."""

from __future__ import annotations

import contextlib
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any

import orjson

from ledger import event as events
from ledger import identity

TYPES = {
    "business-licence": ("营业执照", "Business licence"),
    "food-business-permit": ("食品经营许可证", "Food business permit"),
    "road-transport-permit": ("道路运输经营许可证", "Road transport permit"),
    "physician-licence": ("医师执业证书", "Physician's licence"),
    "hygiene-permit": ("公共场所卫生许可证", "Public hygiene permit"),
    "construction-permit": ("建筑工程施工许可证", "Construction permit"),
}
_CODES = tuple(TYPES)
_BEGIN = date(2026, 1, 1)
ACTS = sorted(events.FIELDS)
UPDATES = 0.3  # share of events about certificates that exist already
_CHANGES = (  # act, weight
    (events.RENEWED, 10),
    (events.AMENDED, 8),
    (events.SUSPENDED, 6),
    (events.REVOKED, 3),
    (events.EXPIRED, 3),
)
_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗"
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉建国志远晓东文博"
_PLACES = "青羊锦江金牛武侯成华龙泉新都温江双流郫都都江堰崇州"
_STREETS = ("人民南路", "建设北路", "蜀都大道", "中山西街", "解放路", "滨江东路", "学府街")
_TRADES = ("餐饮服务", "道路货物运输", "内科", "美容美发", "房屋建筑", "食品销售", "软件开发")
_ENGLISH = ("Golden", "River", "Evergreen", "Harbour", "Sunrise", "Bamboo", "Jade", "Northern")
_KINDS = ("Catering", "Logistics", "Medical", "Trading", "Construction", "Foods", "Software")


@dataclass(frozen=True, slots=True)
class Written:
    """One event line, on which lane it travels, and whether it begins a certificate."""

    department: str
    lane: int
    line: bytes
    begins: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate is found by, and the lane of its events."""

    department: str
    type_code: str
    number: str
    lane: int


@dataclass
class Town:
    """`departments` ids, each with `lanes`; `write` gives events for ever, the same per seed.

    Of a certificate it keeps the number of the event that begins it, 4 bytes: the rest follows.
    """

    departments: list[str]
    lanes: int
    seed: int = 1
    people: int = 60_000
    updates: float = UPDATES  # share of events about certificates that exist already
    per_day: int = 3000  # events
    written: int = 0
    _changeable: array[int] = field(default_factory=lambda: array("I"))
    _suspended: set[int] = field(default_factory=set)

    def write(self) -> Iterator[Written]:
        """Events in the order in which they happen."""
        draw = random.Random(self.seed)
        while True:
            self.written += 1
            if self._changeable and draw.random() < self.updates:
                yield self._change(draw)
            else:
                yield self._issue(draw)

    def bundles(self, size: int) -> Iterator[tuple[str, int, list[bytes], int]]:
        """For ever (department, lane, exactly `size` lines, how many of them begin one)."""
        opened: dict[tuple[str, int], list[Written]] = {}
        for written in self.write():
            lines = opened.setdefault((written.department, written.lane), [])
            lines.append(written)
            if len(lines) == size:
                del opened[written.department, written.lane]
                begins = sum(w.begins for w in lines)
                yield written.department, written.lane, [w.line for w in lines], begins

    def certificate(self, at: int) -> Certificate:
        """The certificate that the event of this number begins, if it begins one."""
        drawn = sha256(b"%d %d" % (self.seed, at)).digest()
        department = self.departments[drawn[0] % len(self.departments)]
        type_code = _CODES[drawn[1] % len(_CODES)]
        if drawn[2] % 2:
            text = f"JY{int.from_bytes(drawn[3:10], 'big') % 10**13:013d}{at % 10}"
        else:
            place = _PLACES[drawn[3] % len(_PLACES)]
            text = f"川{place}{self._day(at).year}字第{at:08d}号"
        key = identity.certificate_key(type_code, department, text)
        return Certificate(department, type_code, text, identity.lane_of(key, self.lanes))

    def choose(self, draw: random.Random, before: int) -> Certificate:
        """A certificate that lives and was begun by an event with a number below `before`."""
        while True:
            with contextlib.suppress(IndexError):  # one may be taken away meanwhile
                at = self._changeable[draw.randrange(len(self._changeable))]
                if at < before:
                    return self.certificate(at)

    def _day(self, at: int) -> date:
        return _BEGIN + timedelta(days=at // self.per_day)

    def _issue(self, draw: random.Random) -> Written:
        self._changeable.append(self.written)
        day = self._day(self.written)
        first = day + timedelta(days=draw.randrange(5))
        return self._line(
            draw,
            self.certificate(self.written),
            events.ISSUED,
            day,
            {
                "valid_from": f"{first}+08:00",
                "valid_until": f"{_years_on(first, draw.choice((3, 4, 5)))}+08:00",
                "holder_pseudonym": f"1:{_pseudonym(draw.randrange(self.people))}",
                "claims": self._claims(draw),
            },
        )

    def _change(self, draw: random.Random) -> Written:
        place = draw.randrange(len(self._changeable))
        at, day = self._changeable[place], self._day(self.written)
        kind = draw.choices([k for k, _ in _CHANGES], [w for _, w in _CHANGES])[0]
        data: dict[str, Any] = {"claims": self._claims(draw)}
        if at in self._suspended:
            kind = events.REINSTATED
            self._suspended.remove(at)
            data["reason_code"] = "put-right"
        elif kind == events.RENEWED:
            data["valid_until"] = f"{_years_on(day, 6)}+08:00"
        elif kind == events.AMENDED:
            data["reason_code"] = "address-changed"
        elif kind == events.SUSPENDED:
            self._suspended.add(at)
            data |= {"valid_from": f"{day}+08:00", "reason_code": "inspection-failed"}
        else:
            self._changeable[place] = self._changeable[-1]
            self._changeable.pop()
            data["reason_code"] = "closed"
            if kind == events.REVOKED:
                data["revocation_kind"] = draw.choice(events.REVOCATION_KINDS)
        return self._line(draw, self.certificate(at), kind, day, data)

    def _claims(self, draw: random.Random) -> dict[str, str]:
        place = draw.choice(_PLACES) + draw.choice(_PLACES)
        name = draw.choice(_SURNAMES) + "".join(draw.sample(_GIVEN, 2))
        english = f"{draw.choice(_ENGLISH)} {draw.choice(_ENGLISH)} {draw.choice(_KINDS)} Co., Ltd."
        return {
            "address": f"{place}区{draw.choice(_STREETS)}{draw.randrange(1, 900)}号",
            "name_en": english,
            "name_zh": f"成都{place}{draw.choice(_TRADES)}有限公司",
            "responsible_person": name,
            "scope": draw.choice(_TRADES) + "、" + draw.choice(_TRADES),
        }

    def _line(
        self, draw: random.Random, of: Certificate, kind: str, day: date, data: dict[str, Any]
    ) -> Written:
        second = draw.randrange(8 * 3600, 18 * 3600)
        clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        value = {
            "data": {
                "certificate_type_code": of.type_code,
                "issuing_authority_code": of.department,
                "certificate_number": of.number,
                **data,
            },
            "id": f"{draw.getrandbits(128):032x}",
            "source": f"urn:register:{of.department}",
            "specversion": "1.0",
            "time": f"{day}T{clock}+08:00",
            "type": events.TYPE_PREFIX + kind + events.TYPE_SUFFIX,
        }
        line = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return Written(of.department, of.lane, line, kind == events.ISSUED)


def _years_on(day: date, years: int) -> date:
    """The day before, where a leap day has no such day."""
    return (day - timedelta(days=(day.month, day.day) == (2, 29))).replace(year=day.year + years)


@lru_cache(65_536)
def _pseudonym(person: int) -> str:
    return sha256(b"%d" % person).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """Unsigned bundles of one size, in the order in which they are sent."""

    size: int
    departments: list[str]
    lanes: int
    bundles: list[tuple[str, int, list[bytes]]]  # department, lane, lines
    certificates: int

    @property
    def events(self) -> int:
        return sum(len(lines) for _, _, lines in self.bundles)

    @property
    def mean_line(self) -> float:
        """Bytes of a line in the mean."""
        return sum(len(n) for _, _, lines in self.bundles for n in lines) / self.events


def plan(
    size: int,
    count: int,
    departments: int,
    lanes: int,
    seed: int = 1,
    updates: float = UPDATES,
) -> Plan:
    """`count` bundles of exactly `size` events from that many departments and lanes, of which a
    share of `updates` is about certificates that exist already.
    """
    names = [f"bench-{number:02d}" for number in range(1, departments + 1)]
    made = list(islice(Town(names, lanes, seed, updates=updates).bundles(size), count))
    begun = sum(begins for *_, begins in made)
    return Plan(size, names, lanes, [(d, lane, lines) for d, lane, lines, _ in made], begun)
