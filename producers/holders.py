"""Holders' numbers as schemes write them, and the pseudonyms in whose place they are published."""

from __future__ import annotations

import re
from operator import mul

from stdnum.cn import uscc
from stdnum.exceptions import ValidationError
from stdnum.iso7064 import mod_11_2

from ledger import identity
from ledger.errors import Malformed

CITIZEN, CREDIT_CODE = "111", "001"  # 公民身份号码 GB 11643, 统一社会信用代码 GB 32100
_DIGITS = frozenset("0123456789")
# GB 32100: 31 characters, and the weights of 17 and the check character itself
_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CODE = re.compile(f"[0-9]{{8}}[{_ALPHABET}]{{10}}")
_VALUES = {each: value for value, each in enumerate(_ALPHABET)}
_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28, 1)


def check_number(scheme: str, number: str) -> str:
    """The number as its scheme writes it, so that every department makes the same pseudonym.

    Numbers of the schemes 111 and 001 lose spaces and hyphens, are in capitals, and must have the
    right check character; others are normalised as certificate numbers are. Malformed
    `malformed-number` says what is wrong, and of the number only its length.
    """
    number = identity.normalise_number(number)
    if scheme == CITIZEN:
        return _citizen(number)
    if scheme == CREDIT_CODE:
        if _is_code(number):  # as the library would say, sooner
            return number
        try:
            return uscc.validate(number)
        except ValidationError as err:
            raise Malformed(
                "malformed-number",
                f"scheme {scheme}: no unified social credit code (GB 32100: 18 characters, the "
                f"last one a check character): {err} ({len(number)} characters are given)",
            ) from None  # its trace holds the number
    return number


def _is_code(number: str) -> bool:
    """Whether this is a credit code as it is written without spaces or hyphens."""
    return (
        _CODE.fullmatch(number) is not None
        and sum(map(mul, map(_VALUES.__getitem__, number), _WEIGHTS)) % 31 == 0
    )


def _citizen(number: str) -> str:
    # The check character alone: region codes of the past are in force in numbers of today.
    number = "".join(number.split()).replace("-", "").upper()
    if len(number) != 18 or not _DIGITS.issuperset(number[:17]):
        raise Malformed(
            "malformed-number",
            f"scheme {CITIZEN}: no citizen's number (GB 11643: 17 digits and a check character); "
            f"{len(number)} characters are given",
        )
    if mod_11_2.calc_check_digit(number[:17]) != number[17]:
        raise Malformed(
            "malformed-number",
            f"scheme {CITIZEN}: the check character of this number is wrong: a digit is mistaken",
        )
    return number


def make_pseudonym(secret: bytes, version: int, scheme: str, number: str) -> str:
    """The pseudonym of the holder with this number; Malformed when its scheme knows no such one."""
    return identity.make_pseudonym(secret, version, scheme, check_number(scheme, number))
