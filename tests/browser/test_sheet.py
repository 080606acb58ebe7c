"""A sheet from the command line, seen by a camera: printed, pictured, read again, offline."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from consumers import commands, offline, sheet_commands
from ledger.errors import Malformed
from ledger.keys import create_key
from ledger.sheet import key_name
from ledger.trust import format_trust, parse_trust
from tests import page_ledger as town
from tests.browser.conftest import Site


@dataclass(frozen=True)
class Env:
    data: Path
    postgres_url: str

    @property
    def trust(self) -> Path:
        return self.data / "trust.json"


@pytest.fixture
def env(site: Site, tmp_path: Path) -> Env:
    """The site's ledger with a sheet key of its own."""
    (tmp_path / "keys").mkdir()
    trust = parse_trust(site.trust.read_bytes())
    signer = create_key(tmp_path / "keys" / "sheet.key", key_name(trust.origin))
    (tmp_path / "trust.json").write_bytes(format_trust(replace(trust, sheet_keys=(signer.key,))))
    return Env(tmp_path, site.ledger.url)


def run(env: Env, *words: str) -> int:
    parser = ArgumentParser()
    subparsers = parser.add_subparsers()
    commands.add_commands(subparsers)
    sheet_commands.add_commands(subparsers)
    args = parser.parse_args(words)
    code: int = args.run(args, env)
    return code


def test_a_sheet_is_printed_and_read_by_command_line_and_page(
    env: Env, visit: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, code, answer in ((town.VALID, 0, "valid"), (town.PENALTY, 1, "not-valid")):
        paper = env.data / "paper.html"
        assert run(env, "sheet", number, "-o", str(paper), "--json") == 0
        told = json.loads(capsys.readouterr().out)
        for form, begins in ((".pdf", b"%PDF-"), (".svg", b"<svg ")):
            assert run(env, "sheet", number, "-o", str(env.data / f"paper{form}")) == 0
            assert (env.data / f"paper{form}").read_bytes().startswith(begins)
        picture = env.data / "photo.png"
        with visit("zh", 900) as page:
            page.set_content(paper.read_text())
            page.screenshot(path=picture, full_page=True)
            page.goto("/")
            style = page.get_attribute("link[rel=stylesheet]", "href")
            base = urlsplit(style).path.removesuffix("/assets/page.css")
            seen = page.evaluate(
                """async ([base, trust, text]) => {
                  const { checkStatus, isSheet, parseTrust } =
                    await import(`${base}/verifier/index.js`);
                  return [isSheet(text), await checkStatus(text, parseTrust(trust))];
                }""",
                [base, env.trust.read_text(), told["qr"]],
            )
        assert (seen[0], seen[1]["answer"]) == (True, answer)
        capsys.readouterr()
        assert run(env, "verify", "--qr", str(picture), "--json") == code
        said = json.loads(capsys.readouterr().out)
        assert (said["answer"], said["certificate"]["number"]) == (answer, number)
        assert told["reference"] in said["notes"][0]
        (env.data / "code.txt").write_text(told["qr"] + "\n")
        words = [str(env.data / "code.txt"), "--trust", str(env.trust)]
        assert offline.main([*words, "--number", number]) == code
        assert offline.main([*words, "--number", "another"]) == 4
        with pytest.raises(Malformed, match="speaks of now alone"):
            run(env, "verify", "--qr", str(picture), "--at", "2026-01-01")


def test_what_is_not_printed(env: Env, site: Site) -> None:
    paper = str(env.data / "paper.pdf")
    assert run(env, "sheet", "no-such-number", "-o", paper) == 3
    which = ("--type", town.OTHER_TYPE, "--issuer", "a")
    assert run(env, "sheet", "no-such-number", *which, "-o", paper) == 3
    assert run(env, "sheet", town.TWICE, "-o", paper) == 4
    with pytest.raises(Malformed, match="ends in"):
        run(env, "sheet", town.VALID, "-o", str(env.data / "paper.doc"))
    with pytest.raises(Malformed, match="names no sheet key"):
        run(env, "sheet", town.VALID, "-o", paper, "--trust", str(site.trust))
    assert not Path(paper).exists()
