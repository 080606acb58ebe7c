"""What an operator declares lost: its forms, and who may declare it."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.errors import LedgerError, Malformed
from ledger.loss import (
    MAX_PARTITIONS,
    LostIntake,
    LostLog,
    LostRecords,
    loss_members,
    loss_text,
    parse_loss,
)
from ledger.registry import apply_note
from tests.world import OPERATOR, Book, registry_signer

ONE, OTHER = "1" * 22, "2" * 22
LOSSES = (
    LostRecords(ONE, 1, 41, 52, "why"),
    LostRecords(ONE, 0, 0, 0, "x" * 1024),
    LostIntake(ONE, OTHER, ((0, 41), (1, 17)), "why"),
    LostIntake(ONE, OTHER, (), "why"),
    LostLog(ONE, 900, OTHER, 2, 812, "why"),
    LostLog(ONE, 900, ONE, 900, 812, "why"),
)


@pytest.mark.parametrize("loss", LOSSES, ids=loss_text)
def test_a_loss_is_read_as_it_was_written(loss: Any) -> None:
    assert parse_loss(loss_members(loss)) == loss
    assert loss.words()


def test_a_loss_in_one_word() -> None:
    assert [loss_text(LOSSES[n]) for n in (0, 2, 4)] == [
        f"records:{ONE}:1:41:52",
        f"intake:{ONE}:{OTHER}:0=41,1=17",
        f"log:{ONE}:900:{OTHER}:2:812",
    ]


RECORDS, INTAKE, LOG = (loss_members(LOSSES[n]) for n in (0, 2, 4))
BAD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no kind": {**RECORDS, "kind": "receipts"},
    "a kind that is no text": {**RECORDS, "kind": []},
    "a member of another kind": {**RECORDS, "size": 1},
    "a member too few": {n: v for n, v in RECORDS.items() if n != "last"},
    "no reason": {**RECORDS, "reason": ""},
    "a long reason": {**RECORDS, "reason": "x" * 1025},
    "a short topic id": {**RECORDS, "topic_id": "x"},
    "before the first": {**RECORDS, "first": -1},
    "no number": {**RECORDS, "partition": True},
    "backwards": {**RECORDS, "last": 40},
    "the same topic": {**INTAKE, "became": ONE},
    "a partition twice": {**INTAKE, "taken": [[0, 1], [0, 2]]},
    "partitions that descend": {**INTAKE, "taken": [[1, 1], [0, 2]]},
    "partitions without offsets": {**INTAKE, "taken": [[0]]},
    "too many partitions": {**INTAKE, "taken": [[n, 0] for n in range(MAX_PARTITIONS + 1)]},
    "a log topic that is whole": {**LOG, "became": ONE, "end": 901},
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_loss(name: str) -> None:
    with pytest.raises(Malformed):
        parse_loss(BAD[name])


def test_losses_are_declared_by_the_operator_one_after_the_other_and_stay() -> None:
    book = Book()
    book.add_department("a")

    def refused(name: str, *signers: Any) -> str:
        with pytest.raises(LedgerError) as caught:
            apply_note(book.registry, book.note(name, RECORDS, *signers), book.index, 0)
        return caught.value.code

    assert refused("loss/1", registry_signer("a")) == "registry-signature"
    for name in ("loss", "loss/", "loss/0", "loss/01", "loss/2"):
        assert refused(name, OPERATOR) == "registry-refused", name
    first = book.index
    book.change("loss/1", RECORDS, OPERATOR)
    assert refused("loss/1", OPERATOR) == "registry-refused"
    book.change("loss/2", INTAKE, OPERATOR)
    assert book.registry.losses == ((first, LOSSES[0]), (first + 1, LOSSES[2]))
    assert book.registry.lost_intakes == {ONE: LOSSES[2]}
