"""Check characters against python-stdnum; map keys that no two certificates share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.iso7064 import mod_37_36

from ledger import identity
from ledger.errors import Malformed

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(st.text(ALPHABET, min_size=1, max_size=80))
def test_check_character(payload: str) -> None:
    expected = mod_37_36.calc_check_digit(payload)
    assert identity.check_character(payload) == expected
    assert mod_37_36.is_valid(payload + expected)


@given(
    st.text(ALPHABET, min_size=21, max_size=21),
    st.text(ALPHABET, min_size=6, max_size=21),
    st.text(ALPHABET, min_size=1, max_size=64),
    st.integers(1, 999),
)
def test_identifiers_print_back_and_one_wrong_character_shows(
    type_code: str, issuer: str, serial: str, version: int
) -> None:
    made = identity.Identifier(type_code, issuer, serial, version)
    assert identity.parse_identifier(str(made)) == made
    wrong = ALPHABET[(ALPHABET.index(str(made)[-1]) + 1) % 36]
    with pytest.raises(Malformed, match=f"{str(made)[-1]} expected"):
        identity.parse_identifier(str(made)[:-1] + wrong)


@pytest.mark.parametrize(
    "text",
    [
        "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
        "1.2.156.3005.2.11100000000013338W032.11220000013544541J.2430599.001.F",
        "1.2.156.3005.2.11100000MB03271699022.340100.000000016.001.9",
    ],
)
def test_published_identifiers(text: str) -> None:
    assert str(identity.parse_identifier(text)) == text


def test_published_damaged_identifier() -> None:
    with pytest.raises(Malformed, match="M found, D expected"):
        identity.parse_identifier(
            "1.2.156.3005.2.11100000000013661B006.113700000045046442"
            ".209FA4E88F9E4C878F3E9BED2CE7EA49.001.M"
        )


def test_version_zero_is_none() -> None:
    with pytest.raises(Malformed, match="001 or more"):
        identity.parse_identifier(
            "1.2.156.3005.2.11100000000013338W009.11330105002500287C.2025052201.000."
            + identity.check_character("11100000000013338W00911330105002500287C2025052201000")
        )


@given(st.lists(texts, min_size=3, max_size=3), st.lists(texts, min_size=3, max_size=3))
def test_parts_do_not_run_into_each_other(one: list[str], other: list[str]) -> None:
    same = identity.certificate_key(*one) == identity.certificate_key(*other)
    assert same == (one == other)


@given(texts)
def test_normal_form_is_final(text: str) -> None:
    once = identity.normalise_number(text)
    assert identity.normalise_number(once) == once
    if once:
        identity.check_number(once)


def test_widths_fold_and_inner_spaces_stay() -> None:
    assert identity.normalise_number("\u3000Ｊ１２　３／４ ") == "J12 3/4"
    for bad in ("", " a", "a\x00", "a\nb", "\ud800", "Ａ", "a" * 1025, "e\u0301"):
        with pytest.raises(Malformed):
            identity.check_number(bad)


def test_pseudonyms_are_keyed_and_versioned() -> None:
    one = identity.make_pseudonym(b"k" * 32, 1, "111", "11010119900307 ")
    assert one == identity.make_pseudonym(b"k" * 32, 1, "111", "11010119900307")
    assert one != identity.make_pseudonym(b"j" * 32, 1, "111", "11010119900307")
    assert identity.holder_key(one) != identity.holder_key("2:" + one[2:])
    for bad in ("01:" + one[2:], "0:" + one[2:], one.upper(), one + " ", one[2:]):
        with pytest.raises(Malformed):
            identity.holder_key(bad)
