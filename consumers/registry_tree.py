"""The registry as the log gives it, with its tree: what fsck and the auditor fold entries into."""

from __future__ import annotations

from typing import Any

from ledger import merkle, registry
from ledger.admission import Lane, begin_lanes
from ledger.registry import Registry


class RegistryTree:
    """The records after each entry; `lanes` stand where their last logged bundle left them."""

    def __init__(self) -> None:
        self.registry = Registry("", {})
        self.lanes: dict[tuple[str, int], Lane] = {}
        self._leaves: dict[bytes, bytes] = {}  # place in the tree's order to leaf hash
        self._sorted: list[bytes] = []
        self._moved: set[tuple[str, int]] = set()

    def found(
        self, origin: str, checkpoint: str, operator: str, cosigner: str | None = None
    ) -> None:
        """Take the records of entry 0, made of these vkeys; Refused where it may not make them."""
        records = registry.genesis_records(origin, checkpoint, operator, cosigner)
        self.registry = Registry(origin, {})
        for record in records.values():
            self.put(record)

    def put(self, record: dict[str, Any]) -> None:
        """Take a new or changed record."""
        name = record["name"]
        self.registry = Registry(self.registry.origin, {**self.registry.records, name: record})
        self._put_leaf(record)

    def begin_lanes(self, department: str, was: int, count: int, index: int, leaf: bytes) -> None:
        """Have a department's lanes, `count` after `was`, begin anew by entry `index` with this
        leaf hash.
        """
        before = {number: lane for (name, number), lane in self.lanes.items() if name == department}
        for number, lane in begin_lanes(before, was, count, leaf, index).items():
            self.move_lane((department, number), lane)

    def move_lane(self, place: tuple[str, int], lane: Lane) -> None:
        """Have a lane stand elsewhere."""
        self.lanes[place] = lane
        self._moved.add(place)

    def root(self) -> bytes:
        """The root that a status entry now carries."""
        for department, number in self._moved:
            lane = self.lanes[department, number]
            record = registry.lane_record(department, number, lane.index, lane.value())
            self._put_leaf(record)
        self._moved.clear()
        if not self._sorted:
            self._sorted = sorted(self._leaves)
        return merkle.root([self._leaves[place] for place in self._sorted])

    def _put_leaf(self, record: dict[str, Any]) -> None:
        place = registry.tree_place(record)
        if place not in self._leaves:
            self._sorted = []
        self._leaves[place] = registry.record_hash(record)
