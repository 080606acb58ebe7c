"""Holders' numbers, the secret's files and `certledger pseudonym`."""

from __future__ import annotations

import io
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from ledger import identity
from ledger.checkpoint_keys import TrustedKey
from ledger.errors import Malformed
from producers import commands
from producers.config import (
    create_publisher_folder,
    create_secret,
    load_publisher_config,
    load_secret,
    pseudonym_path,
    pseudonym_secrets,
    use_pseudonym_version,
)
from producers.holders import check_number, make_pseudonym
from producers.importing import draft_config
from producers.lines import LineMaker
from tests.world import CHECKPOINT, ORIGIN

CITIZEN = "11010519491231002X"
COMPANY = "91110000600037341L"
SECRET = bytes(range(32))

SAME: list[tuple[str, str, str]] = [
    ("111", CITIZEN, CITIZEN),
    ("111", " 110105 19491231 002x ", CITIZEN),
    ("111", "１１０１０５１９４９１２３１００２Ｘ", CITIZEN),
    ("001", "9 1 110000-600037341l", COMPANY),
    ("414", " E 12 ", "E 12"),
]


@pytest.mark.parametrize(("scheme", "written", "number"), SAME)
def test_one_number_has_one_pseudonym(scheme: str, written: str, number: str) -> None:
    assert check_number(scheme, written) == number
    assert make_pseudonym(SECRET, 3, scheme, written) == identity.make_pseudonym(
        SECRET, 3, scheme, number
    )


WRONG: dict[str, tuple[str, str]] = {
    "a digit mistaken": ("111", "11010519491231003X"),
    "fifteen digits": ("111", "110105491231002"),
    "a letter inside": ("111", "1101051949123100AX"),
    "digits of another script": ("111", "١١٠١٠٥١٩٤٩١٢٣١٠٠٢X"),
    "a credit code's letter mistaken": ("001", "91110000600037341M"),
    "half a credit code": ("001", "91110000"),
    "a citizen for a company": ("001", CITIZEN),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_number_is_refused_without_being_repeated(name: str) -> None:
    scheme, number = WRONG[name]
    with pytest.raises(Malformed) as refused:
        check_number(scheme, number)
    assert refused.value.code == "malformed-number"
    assert f"scheme {scheme}" in refused.value.message
    assert number not in refused.value.message
    assert refused.value.__cause__ is None


def test_the_sdk_says_which_number_cannot_be_right() -> None:
    maker = LineMaker(draft_config("a", None), lambda: 0)
    plain = {"event": "issued", "certificate_type_code": "t", "certificate_number": "1"}
    good = maker.make({**plain, "holder": {"scheme": "111", "number": CITIZEN.lower()}})
    expected = make_pseudonym(bytes(32), 1, "111", CITIZEN)
    assert json.loads(good.line)["data"]["holder_pseudonym"] == expected
    with pytest.raises(Malformed, match="check character"):
        maker.make({**plain, "holder": ("111", "11010519491231003X")})


def test_the_check_value_tells_secrets_apart() -> None:
    assert identity.pseudonym_check(SECRET) == identity.pseudonym_check(SECRET)
    assert identity.pseudonym_check(SECRET) != identity.pseudonym_check(bytes(32))


# --- files and the command


class Data:
    def __init__(self, data: Path) -> None:
        self.data = data


def run(data: Path, number: str | None = None, secret: Path | None = None) -> int:
    args = Namespace(number=number, scheme="111", secret=secret)
    env: Any = Data(data)
    return commands.run_pseudonym(args, env)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for version in (10, 2):
        create_secret(pseudonym_path(tmp_path, version))
    (tmp_path / "pseudonym-x.key").write_text("no version")
    return tmp_path


def test_a_pseudonym_for_each_version_that_is_here(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [
        make_pseudonym(load_secret(pseudonym_path(data, version)), version, "111", CITIZEN)
        for version in (2, 10)
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CITIZEN}\n"))
    assert run(data) == 0
    assert capsys.readouterr().out.splitlines() == expected
    assert run(data, CITIZEN.lower()) == 0
    assert capsys.readouterr().out.splitlines() == expected
    assert run(data / "elsewhere", CITIZEN, data / "pseudonym-10.key") == 0
    assert capsys.readouterr().out.splitlines() == expected[1:]


def test_no_secret_and_no_number(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (data / "none.key", data / "pseudonym-3.key", data / "no" / "pseudonym-2.key"):
        with pytest.raises(Malformed, match="no file pseudonym-VERSION"):
            run(data, CITIZEN, path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(Malformed, match="are needed"):
        run(data)


def test_a_secret_that_others_can_read_is_refused(data: Path) -> None:
    pseudonym_path(data, 2).chmod(0o640)
    with pytest.raises(Malformed, match="mode 0640; a key file must be 0600"):
        run(data, CITIZEN)


@pytest.mark.parametrize("content", [b"", b"ab\n", b"A" * 64 + b"\n", b"\xff" * 65, b"0" * 64])
def test_a_file_that_is_no_secret_is_refused_and_not_repeated(data: Path, content: bytes) -> None:
    pseudonym_path(data, 2).write_bytes(content)
    with pytest.raises(Malformed, match="64 hex digits") as refused:
        load_secret(pseudonym_path(data, 2))
    assert content.decode("latin-1") not in refused.value.message or not content


def test_departments_change_to_another_version(data: Path) -> None:
    for name in ("a", "b"):
        create_publisher_folder(
            data,
            origin=ORIGIN,
            department=name,
            checkpoint_keys=[TrustedKey(CHECKPOINT.key, 0, None)],
            time_zone="Asia/Shanghai",
            lanes=1,
        )
    assert list(pseudonym_secrets(data)) == [1, 2, 10]
    assert use_pseudonym_version(data, 2) == ["a", "b"]
    assert use_pseudonym_version(data, 2) == []
    config = load_publisher_config(data, "b")
    assert config.pseudonym_version == 2
    assert config.pseudonym_key == load_secret(pseudonym_path(data, 2))
    assert (config.folder / "publisher.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Malformed, match="missing"):
        use_pseudonym_version(data, 3)
    assert load_publisher_config(data, "a").pseudonym_version == 2
