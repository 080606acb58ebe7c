"""Which checkpoint witnesses are asked about, and what is published: no thread, no network."""

from __future__ import annotations

import pytest

from ledger.checkpoint import Checkpoint
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner
from ledger.errors import Malformed
from ledger.note import parse_note, sign
from ledger.policy import Policy, Witness, simple_policy
from streams.witnesses import Witnesses
from tests import world

COSIGNERS = [Cosigner(f"w{n}", COSIGNATURE_V1, bytes([n]) * 32) for n in range(3)]


def policy(quorum: int) -> Policy:
    asked = [Witness(c.key.name, c.key, "http://127.0.0.1:1") for c in COSIGNERS]
    return simple_policy(asked, quorum)


def witnesses(quorum: int = 2) -> Witnesses:
    return Witnesses(policy(quorum), lambda old, new: [], lambda size: None)


def offer(asked: Witnesses, size: int, maps: bool = False) -> None:
    text = Checkpoint(world.ORIGIN, size, bytes(32)).text()
    asked.offer(size, sign(text, [world.CHECKPOINT]), maps)


def cosign(asked: Witnesses, *numbers: int) -> None:
    """What the witnesses' threads do with good answers."""
    target = asked._target
    assert target is not None
    for number in numbers:
        line = COSIGNERS[number].cosign(target.text, 1_772_323_200)
        with asked._condition:
            target.signatures[line.name] = line
            asked._decide(target)


def taken(asked: Witnesses) -> int | None:
    ready = asked.take()
    return None if ready is None else ready[0]


def test_the_newest_follows_when_the_target_has_its_quorum() -> None:
    asked = witnesses()
    for size in (1, 2, 3):
        offer(asked, size)
    cosign(asked, 2)
    assert taken(asked) is None
    cosign(asked, 0)
    ready = asked.take()
    assert ready is not None
    assert ready[0] == 1
    names = [line.name for line in parse_note(ready[1]).signatures]
    assert names == [world.ORIGIN, "w0", "w2"]
    assert taken(asked) is None
    cosign(asked, 0, 1)
    assert taken(asked) == 3


def test_a_checkpoint_with_maps_is_not_passed_over() -> None:
    asked = witnesses()
    offer(asked, 1)
    offer(asked, 2, maps=True)
    offer(asked, 3)
    published = []
    for _ in range(3):
        cosign(asked, 0, 1)
        published.append(taken(asked))
    assert published == [1, 2, 3]


def test_without_a_quorum_to_wait_for_everything_is_published_at_once() -> None:
    asked = Witnesses(simple_policy([], 0), lambda old, new: [], lambda size: None)
    for size in (1, 2):
        offer(asked, size)
        assert taken(asked) == size


def test_what_would_not_go_into_one_note_or_cannot_be_asked_is_refused() -> None:
    many = [Cosigner(f"w{n}", ML_DSA_44, bytes([n]) * 32).key for n in range(20)]
    asked = [Witness(key.name, key, "http://127.0.0.1:1") for key in many]
    with pytest.raises(Malformed, match="too many"):
        Witnesses(simple_policy(asked, 1), lambda old, new: [], lambda size: None)
    for url in ("", "ftp://w.example", "http://", "http://u@w.example", "http://w:x", "http://w?q"):
        other = simple_policy([Witness("w", many[0], url)], 1)
        with pytest.raises(Malformed):
            Witnesses(other, lambda old, new: [], lambda size: None)
