"""What an operator declares lost, for good: records `loss/1`, `loss/2`, … (FORMATS.md section 9).

Nothing else lets a worker pass over records that Kafka lost, or the sequencer write to another log
topic: without such a record they stop. It never makes less of what was signed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .canonical import MAX_INTEGER
from .errors import Malformed

MAX_REASON = 1024  # characters
MAX_PARTITIONS = 256  # of an intake topic that was made anew
_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{22}")


@dataclass(frozen=True, slots=True)
class LostRecords:
    """Offsets `first` to `last` of a partition that the intake topic no longer holds."""

    topic_id: str
    partition: int
    first: int
    last: int
    reason: str = ""

    def words(self) -> str:
        """The loss as a sentence."""
        return (
            f"partition {self.partition} of the intake topic {self.topic_id} no longer holds "
            f"offsets {self.first} to {self.last}"
        )


@dataclass(frozen=True, slots=True)
class LostIntake:
    """The intake topic `topic_id` is gone: what it held from these next offsets on, by partition.
    Another one, `became`, takes its place.
    """

    topic_id: str
    became: str
    taken: tuple[tuple[int, int], ...]
    reason: str = ""

    def words(self) -> str:
        """The loss as a sentence."""
        taken = ", ".join(f"partition {n} from offset {offset} on" for n, offset in self.taken)
        return (
            f"the intake topic {self.topic_id} is gone, {self.became} is in its place: what was "
            f"not taken is lost ({taken or 'nothing was taken'})"
        )


@dataclass(frozen=True, slots=True)
class LostLog:
    """The log topic `topic_id`, which had acknowledged `offset`, is gone or ends before it;
    `became` (perhaps the same) ends at `end`. `size` leaves are the most that was ever signed.
    """

    topic_id: str
    offset: int
    became: str
    end: int
    size: int
    reason: str = ""

    def words(self) -> str:
        """The loss as a sentence."""
        return (
            f"the log topic {self.topic_id} had acknowledged offset {self.offset}, now it is "
            f"{self.became} and ends at {self.end}; at most {self.size} leaves were ever signed"
        )


Loss = LostRecords | LostIntake | LostLog

_KINDS: dict[str, type[LostRecords | LostIntake | LostLog]] = {
    "records": LostRecords,
    "intake": LostIntake,
    "log": LostLog,
}


def loss_members(loss: Loss) -> dict[str, Any]:
    """A loss as its record's value has it."""
    kind = next(name for name, made in _KINDS.items() if isinstance(loss, made))
    members = {name: getattr(loss, name) for name in loss.__slots__}
    if isinstance(loss, LostIntake):
        members["taken"] = [list(pair) for pair in loss.taken]
    return {"kind": kind, **members}


def loss_text(loss: Loss) -> str:
    """A loss in one word, which the operator repeats: its kind and members, without the reason."""
    members = loss_members(loss)
    del members["reason"]
    if "taken" in members:
        members["taken"] = ",".join(f"{n}={offset}" for n, offset in members["taken"])
    return ":".join(map(str, members.values()))


def parse_loss(value: Mapping[str, Any]) -> Loss:
    """The loss that a record's value declares; Malformed `malformed-note` otherwise."""
    made = _KINDS.get(value["kind"]) if type(value.get("kind")) is str else None
    if made is None or value.keys() != {"kind", *made.__slots__}:
        raise Malformed("malformed-note", "not the members of a loss")
    members = {name: value[name] for name in made.__slots__}
    for name, member in members.items():
        if name == "reason":
            good = type(member) is str and 1 <= len(member) <= MAX_REASON
        elif name in ("topic_id", "became"):
            good = type(member) is str and _TOPIC_ID.fullmatch(member) is not None
        elif name == "taken":
            good = _is_taken(member)
        else:
            good = _is_count(member)
        if not good:
            raise Malformed("malformed-note", f"{name} is not of its form")
    if "taken" in members:
        members["taken"] = tuple(map(tuple, members["taken"]))
    loss: Loss = made(**members)
    if (
        (isinstance(loss, LostRecords) and loss.last < loss.first)
        or (isinstance(loss, LostIntake) and loss.became == loss.topic_id)
        or (isinstance(loss, LostLog) and loss.became == loss.topic_id and loss.end > loss.offset)
    ):
        raise Malformed("malformed-note", "nothing is lost by that")
    return loss


def _is_taken(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) <= MAX_PARTITIONS
        and all(
            type(pair) is list and len(pair) == 2 and all(map(_is_count, pair)) for pair in value
        )
        and all(one[0] < other[0] for one, other in itertools.pairwise(value))
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER
