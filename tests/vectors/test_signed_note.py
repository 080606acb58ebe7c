"""The example of C2SP signed-note: its key, its note, and what must break it."""

from __future__ import annotations

import pytest

from ledger.errors import LedgerError, Malformed, ProofError
from ledger.note import VerifierKey, format_note, parse_note, parse_vkey
from tests.vectors.published import VECTORS, needs

pytestmark = needs("signed-note")


def _example() -> tuple[VerifierKey, bytes]:
    folder = VECTORS / "signed-note"
    key = parse_vkey((folder / "example.vkey").read_text().strip())
    return key, (folder / "example.txt").read_bytes()


def test_example_verifies() -> None:
    key, data = _example()
    note = parse_note(data)
    note.check_signed_by(key)
    assert format_note(note.text, note.signatures) == data
    assert parse_vkey(str(key)) == key


def test_every_changed_byte_is_refused() -> None:
    key, data = _example()
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(LedgerError):
            parse_note(changed).check_signed_by(key)


def test_another_name_is_another_key() -> None:
    key, data = _example()
    with pytest.raises(ProofError):
        parse_note(data).check_signed_by(VerifierKey("example.com/other", key.public))
    with pytest.raises(Malformed):
        parse_vkey(str(key).replace("example.com", "example.org"))
