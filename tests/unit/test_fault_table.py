"""Every fault leads to tests that are there, and every test of faults belongs to a fault."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.fault.table import FAULTS

ROOT = Path(__file__).parents[2]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_test_named_is_there() -> None:
    for fault, tests in FAULTS.items():
        assert tests, fault
        for test in tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).is_file(), test
            assert not name or name in names_in(ROOT / file), test


def test_every_file_of_faults_is_in_the_table() -> None:
    named = {test.partition("::")[0] for tests in FAULTS.values() for test in tests}
    files = {f"tests/fault/{path.name}" for path in (ROOT / "tests/fault").glob("test_*.py")}
    assert files <= named
