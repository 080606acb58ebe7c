"""The offline verifier as people run it: alone, as a zipapp, on any bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consumers import offline, words, zipapp
from consumers.verifier import is_file
from ledger import times, verdict
from ledger.evidence import format_evidence
from ledger.trust import format_trust
from tests import world
from tests.ledger_builder import LedgerBuilder

# Runs the zipapp with every module refused that is neither standard, cryptography nor in it.
GUARD = """
import runpy, sys

class Guard:
    allowed = set(sys.stdlib_module_names) | {"cryptography", "_cffi_backend", "cffi", "tzdata",
                                              "ledger", "consumers", "__main__"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed and not name.startswith("_sysconfigdata"):
            raise ImportError(f"the verifier must not import {name}")
        return None

sys.meta_path.insert(0, Guard())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipapp") / "certledger-verify.pyz"
    zipapp.build(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence as of now for several certificates, the trust file beside it."""
    path = tmp_path_factory.mktemp("evidence")
    ledger = LedgerBuilder()
    ledger.now = time.time_ns() // 1000
    soon = times.format_moment(ledger.now - times.SECOND)
    ledger.admit("issued", "good", time=soon)
    ledger.admit("issued", "over", time=soon)
    ledger.admit("revoked", "over", time=soon, revocation_kind="penalty")
    ledger.status()
    for number in ("good", "over"):
        (path / f"{number}.evidence.json").write_bytes(format_evidence(ledger.evidence(number)))
    later = format_evidence(ledger.evidence("good", known_at=ledger.now - times.DAY))
    (path / "later.evidence.json").write_bytes(later)
    good = (path / "good.evidence.json").read_bytes()
    (path / "forged.evidence.json").write_bytes(good.replace(b'"issued"', b'"renewed"'))
    (path / "random.evidence.json").write_bytes(bytes(range(256)))
    (path / "empty.evidence.json").write_bytes(b"")
    (path / "trust.json").write_bytes(format_trust(ledger.trust()))
    return path


def run(archive: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", GUARD, str(archive), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


EXITS = [("good", 0), ("over", 1), ("later", 3), ("forged", 4), ("random", 4), ("empty", 4)]
OPTIONS = {"later": ["--as-asked"]}  # made for an earlier moment


@pytest.mark.parametrize(("name", "code"), EXITS)
def test_zipapp_needs_nothing_else_and_exits_as_fixed(
    archive: Path, folder: Path, name: str, code: int
) -> None:
    done = run(archive, str(folder / f"{name}.evidence.json"), *OPTIONS.get(name, []))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not done.stdout


@pytest.mark.parametrize(("name", "code"), EXITS)
def test_json_is_on_stdout(
    folder: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--json", *OPTIONS.get(name, [])]
    assert offline.main([str(folder / f"{name}.evidence.json"), *options]) == code
    value = json.loads(capsys.readouterr().out)
    assert verdict.EXIT[value["answer"]] == code
    assert [c["name"] for c in value["checks"]] == list(verdict.NAMES)


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.evidence.json"],
        ["good.evidence.json", "--trust", "missing.json"],
        ["good.evidence.json", "--at", "soon"],
        ["good.evidence.json", "--version", "one"],
        ["good.evidence.json", "--trust", "good.evidence.json"],
        ["."],
    ],
    ids=["no file", "no trust", "no moment", "no version", "no trust file", "a folder"],
)
def test_wrong_usage_is_2_and_a_sentence(
    folder: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert offline.main(arguments) == 2
    assert capsys.readouterr().err.startswith("certledger-verify: ")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--number", "good", "--type", world.TYPE, "--issuer", "a"], 0),
        (["--type", "SURGEON-LICENCE"], 4),
        (["--issuer", "ministry-of-health"], 4),
        (["--number", "over"], 4),
    ],
    ids=["the same", "type", "issuer", "number"],
)
def test_what_is_given_beside_a_file_must_be_its_own(
    folder: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert offline.main([str(folder / "good.evidence.json"), *options]) == code
    assert ("the file is about another certificate" in capsys.readouterr().err) == (code == 4)


def test_without_cryptography_it_says_so(archive: Path, folder: Path) -> None:
    guard = GUARD.replace('"cryptography", ', "").replace(
        'raise ImportError(f"the verifier must not import {name}")',
        "raise ModuleNotFoundError(name, name=name)",
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", guard, str(archive), str(folder / "good.evidence.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "needs the cryptography package" in done.stderr
    assert "Traceback" not in done.stderr


def test_zipapp_holds_what_it_imports_and_is_reproducible(archive: Path, tmp_path: Path) -> None:
    names = zipapp.modules()
    assert "ledger.checking" in names
    assert not {n for n in names if "postgres" in n or n.endswith(("commands", "admission"))}
    zipapp.build(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == archive.read_bytes()


def test_packages_stay_free_of_imports() -> None:
    for name in ("ledger", "consumers"):
        assert "import" not in (zipapp.ROOT / name / "__init__.py").read_text()


def test_words_escape_what_steers_a_terminal() -> None:
    assert words.plain("a\x1b[31m\u202eb\u200b") == "a\\u001b[31m\\u202eb\\u200b"


def test_a_number_is_no_file() -> None:
    for number in ("衛部粧廣字10507075", "x/y z", "a" * 5000, "nul\x00byte"):
        assert not is_file(number)
    assert is_file("any.evidence.json")


def test_words_name_verdict_reason_and_moment(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offline.main([str(folder / "over.evidence.json")])
    text = capsys.readouterr().err
    assert text.startswith("NOT VALID 无效  over")
    assert "revoked as a penalty 已吊销, since" in text
    offline.main([str(folder / "forged.evidence.json")])
    assert "This file proves nothing" in capsys.readouterr().err
    assert offline.main([str(folder / "later.evidence.json")]) == 0
    assert "the file was made for another question, which --known-at" in capsys.readouterr().err
