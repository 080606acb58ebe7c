"""The house's rules that a machine can check: who may import whom, where SQL lives, names."""

from __future__ import annotations

import ast
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("ledger", "streams", "producers", "consumers", "deploy")
FORMATS = {  # what producers/ may use of ledger/: formats, no store, no admission
    "bundle",
    "canonical",
    "catalogue",
    "checkpoint",
    "checkpoint_keys",
    "entry",
    "errors",
    "event",
    "fast_json",
    "identity",
    "kafka_address",
    "keys",
    "logs",
    "merkle",
    "note",
    "receipt",
    "registry",
    "reliance",
    "times",
    "topics",
}
MAY_IMPORT = {
    "ledger": set(),
    "streams": {"ledger"},
    "producers": {"ledger"},
    "consumers": {"ledger"},
    "deploy": {"ledger", "streams", "producers", "consumers"},
}
IMPURE = {
    "time",
    "random",
    "secrets",
    "socket",
    "environ",
    "getenv",
    "urllib",
    "http",
    "subprocess",
}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{node.module or ''}.{alias.name}", node.level) for alias in node.names]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_downwards(room: str) -> None:
    for path in modules(room):
        for name, level in imports(path):
            top = name.split(".")[0]
            if level == 0 and top in ROOMS and top != room:
                assert top in MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {name}"


def test_producers_use_formats_only() -> None:
    for path in modules("producers"):
        for name, level in imports(path):
            parts = name.split(".")
            if level == 0 and parts[0] == "ledger":
                assert parts[1] in FORMATS, f"{path.relative_to(ROOT)} imports {name}"


def test_ledger_is_pure_outside_its_store() -> None:
    for path in modules("ledger"):
        if "postgres" in path.parts:
            continue
        names = {part for name, _ in imports(path) for part in name.split(".")}
        names |= {
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        } & {"environ", "getenv"}
        if path.name == "keys.py":
            continue  # reads and makes key files: that is what it is for
        assert not names & IMPURE, f"{path.relative_to(ROOT)}: {names & IMPURE}"


def sql_files() -> list[Path]:
    folders = (ROOT / "ledger" / "postgres" / "sql", ROOT / "producers" / "sql")
    return [path for folder in folders for path in folder.glob("*.sql")]


def test_sql_lives_in_files_with_a_first_line() -> None:
    for path in sql_files():
        text = path.read_text()
        assert text.startswith("-- "), path.name
        if path.name not in ("schema.sql", "outbox.sql"):  # whole schemas
            code = re.sub(r"\$\$.*?\$\$", "", re.sub(r"--.*", "", text), flags=re.DOTALL)
            statements = [s for s in code.split(";") if s.strip()]
            assert len(statements) == 1, f"{path.name} holds {len(statements)} statements"


def test_every_statement_is_called() -> None:
    code = "\n".join(p.read_text() for room in ROOMS for p in modules(room))
    for path in sql_files():
        if path.stem != "schema":
            assert f'"{path.stem}"' in code, f"nothing calls {path.name}"


def test_sql_keywords_stay_out_of_the_other_rooms() -> None:
    pattern = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b .*\b(FROM|VALUES|SET)\b")
    for room in ("streams", "producers", "consumers"):
        for path in modules(room):
            with path.open("rb") as file:
                for token in tokenize.tokenize(file.readline):
                    if token.type == tokenize.STRING:
                        assert not pattern.search(token.string), f"{path}: {token.string[:60]}"


def test_nothing_names_a_machine_or_a_registry_host() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    hosts = re.compile(
        r"pypi\.(org)|pythonhosted\.(org)|registry\.npm(js)|repo1?\.(maven)|proxy\.go(lang)"
        r"|static\.crates\.(io)|deb\.debian\.(org)"
    )
    for name in tracked:
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".pdf"}:
            text = path.read_text(errors="replace")
            assert not hosts.search(text), f"{name} names a package registry's host"
            assert not re.search(r"(^|[^A-Za-z0-9_.])/(wor[k]|far[m])/", text), f"{name}: a path"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "DECISIONS.md", "CHANGELOG.md"])
def test_documents_name_files_that_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    rooms = "|".join((*ROOMS, "tests", "bench"))
    for found in re.findall(rf"`((?:{rooms})/[\w/.-]+\.(?:py|md|json|sql|toml))", text):
        assert (ROOT / found).exists(), f"{name} names {found}"
