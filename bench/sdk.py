"""The SDK's own rate: typed calls to signed and spooled bundles, with nobody to send them to."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from stdnum.cn import uscc

from ledger.checkpoint_keys import TrustedKey
from ledger.keys import create_key
from producers.config import create_publisher_folder
from producers.publisher import Publisher


class _Nobody:
    """A link that takes every record and gives back no receipt."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self.bundles = 0

    def lanes(self, department: str) -> dict[int, dict[str, Any]]:
        state = {
            "epoch": 0,
            "next_sequence": 0,
            "producer": None,
            "previous": "00" * 32,
            "signed_at": "",
        }
        return {number: state for number in range(self._lanes)}

    def listen(self, department: str, listener: Callable[[bytes], None]) -> None:
        pass

    def forget(self, department: str) -> None:
        pass

    def send(
        self, department: str, lane: int, record: bytes, failed: Callable[[Exception], None]
    ) -> None:
        self.bundles += 1


def run(events: int) -> tuple[float, float]:
    """(events per second, processor microseconds per event) of one publisher."""
    with tempfile.TemporaryDirectory(prefix="certledger-bench-") as folder:
        data = Path(folder)
        key = create_key(data / "checkpoint.key", "localhost/bench")
        config = create_publisher_folder(
            data,
            origin="localhost/bench",
            department="bench",
            checkpoint_keys=[TrustedKey(key.key, 0, None)],
            time_zone="Asia/Shanghai",
            lanes=1,
        )
        link: Any = _Nobody(1)
        publisher = Publisher(config, link=link, window=events + 1)
        bodies = [f"91510100MA61{number:05d}" for number in range(60_000)]
        holders = [body + uscc.calc_check_digit(body) for body in bodies]
        begin, own = time.perf_counter(), time.process_time()
        for number in range(events):
            publisher.issued(
                "food-business-permit",
                f"川青羊2026字第{number:08d}号",
                valid_from=date(2026, 1, 1 + number % 28),
                valid_until=date(2030, 12, 31),
                holder=("001", holders[number % len(holders)]),
                claims={
                    "address": f"青羊区人民南路{number % 900}号",
                    "name_en": "Golden Bamboo Catering Co., Ltd.",
                    "name_zh": "成都青羊餐饮服务有限公司",
                    "scope": "餐饮服务、食品销售",
                },
            )
        while link.bundles < events // 1000:
            time.sleep(0.001)
        spent = time.perf_counter() - begin
        own = time.process_time() - own
        try:
            publisher.close(0.1)
        except Exception as err:  # no receipt comes, as planned
            if getattr(err, "code", "") != "unreachable":
                raise
        return events / spent, own / events * 1e6
