"""The published vectors of both status list forms, read and made by our code."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ledger import statuslist
from tests.vectors.published import VECTORS, needs

TOKEN = VECTORS / "token-status-list" / "vectors.json"
BITSTRING = VECTORS / "bitstring-status-list" / "example.json"


def token_lists() -> list[Any]:
    if not TOKEN.exists():
        return []
    lists: list[Any] = json.loads(TOKEN.read_text())["lists"]
    return lists


@needs("token-status-list")
def test_all_widths_are_there() -> None:
    assert [one["bits"] for one in token_lists()] == [1, 2, 4, 8]


@pytest.mark.parametrize("one", token_lists(), ids=lambda one: f"{one['bits']} bits")
def test_token_status_list(one: dict[str, Any]) -> None:
    bits, size = one["bits"], one["size"]
    values = {int(index): value for index, value in one["nonzero"].items() if value}
    packed = base64.urlsafe_b64decode(one["lst"] + "=" * (-len(one["lst"]) % 4))
    array = statuslist.decompress(packed, size * bits // 8)
    assert statuslist.unpack(array, bits) == values
    assert statuslist.pack(statuslist.lay_out(values, size), bits) == array
    assert statuslist.decompress(statuslist.compress(array), len(array)) == array


@needs("bitstring-status-list")
def test_bitstring_status_list() -> None:
    encoded = json.loads(BITSTRING.read_text())["encodedList"]
    bitstring = statuslist.decode_bitstring(encoded, 131_072 // 8)
    assert statuslist.unpack_bitstring(bitstring) == set()
    assert statuslist.pack_bitstring(bytes(131_072)) == bitstring
    again = statuslist.encode_bitstring(bitstring)
    assert statuslist.decode_bitstring(again, 131_072 // 8) == bitstring


def test_the_bit_orders_are_opposite() -> None:
    """The draft's twelve two-bit statuses, and the same places in a W3C list."""
    values = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]
    array = statuslist.pack(bytes(values))
    assert array.hex() == "c944f9"
    assert statuslist.compress(array).hex() == "78da3be9f2130003df0207"
    bits = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    assert statuslist.pack(bytes(bits), 1).hex() == "b9a3"
    assert statuslist.pack_bitstring(bytes(bits)).hex() == "9dc5"
