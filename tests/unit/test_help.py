"""`--help` of every command teaches: what it does, with an example to copy."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.cli import BUG, MODULES, build_parser
from ledger.errors import CODES


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that do something."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from commands(child)
            return
    yield parser


@pytest.mark.parametrize("command", list(commands(build_parser())), ids=lambda parser: parser.prog)
def test_every_command_shows_an_example(
    command: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = command.format_help()
    assert "example" in (command.epilog or "")
    assert f"\n  {command.prog}" in shown, "an example on a line of its own"
    assert command.description or command.epilog
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.parametrize("module", MODULES)
def test_a_command_alone_is_the_same_as_among_all(module: str) -> None:
    whole = {parser.prog: parser.format_help() for parser in commands(build_parser())}
    for name in MODULES[module]:
        alone = {parser.prog: parser.format_help() for parser in commands(build_parser(name))}
        assert alone.keys() == {prog for prog in whole if prog.split()[1] in MODULES[module]}, (
            "the module has other commands than the table says"
        )
        assert all(whole[prog] == text for prog, text in alone.items())


def test_a_bug_exits_with_a_code_that_says_nothing_else() -> None:
    """Python's own 1 would be *not valid* of a question, *refused* of a publication."""
    broken = (
        "from deploy import cli; from producers import outbox_commands;"
        " outbox_commands.run_ddl = lambda args, env: {}['a bug']; cli.main(['outbox', 'ddl'])"
    )
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (BUG, "")
    assert "KeyError: 'a bug'" in done.stderr
    assert BUG not in {0, 1, 130} | {row.exit for row in CODES.values()}
