"""A short run of what `make fuzz` runs for long: the same inputs each time."""

from __future__ import annotations

from tests.fuzz import NAMES, mutated, one_input, seeds


def test_good_and_mutated_inputs_give_a_value_or_a_ledger_error() -> None:
    assert len(NAMES) < 256
    for data in (*seeds(), *mutated(7, 5_000)):
        try:
            one_input(data)
        except Exception as err:
            raise AssertionError(f"{NAMES[data[0]]}: {data[1:]!r}") from err
