"""Builds the offline verifier as one file: `python -m consumers.zipapp -o certledger-verify.pyz`.

It holds exactly the modules that `consumers.offline` imports, found in their syntax trees, and
needs nothing beside it but Python and `cryptography`. The same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("consumers", "ledger")
ENTRY = "consumers.offline"
_MAIN = """\
import sys

try:
    from consumers.offline import main
except ModuleNotFoundError as err:
    if (err.name or "").partition(".")[0] != "cryptography":
        raise
    print("certledger-verify needs the cryptography package: pip install cryptography",
          file=sys.stderr)
    sys.exit(4)
sys.exit(main())
"""


def modules(entry: str = ENTRY) -> dict[str, Path]:
    """The modules of ours that `entry` imports, itself and their packages included, by name."""
    found: dict[str, Path] = {}
    todo = [entry]
    while todo:
        name = todo.pop()
        path = _path(name)
        if path is None or name in found:
            continue
        found[name] = path
        parent = name.rpartition(".")[0]
        if parent:
            todo.append(parent)
        package = name if path.name == "__init__.py" else parent
        todo += _imported(path, package)
    return dict(sorted(found.items()))


def build(target: Path) -> list[str]:
    """Write the zipapp to `target`; the names of its modules."""
    found = modules()
    with target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, "__main__.py", _MAIN.encode())
            for path in found.values():
                _add(archive, path.relative_to(ROOT).as_posix(), path.read_bytes())
    target.chmod(0o755)
    return list(found)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m consumers.zipapp", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    names = build(args.output)
    print(f"{args.output}: {len(names)} modules, {args.output.stat().st_size} bytes")
    return 0


def _path(name: str) -> Path | None:
    if name.partition(".")[0] not in ROOMS:
        return None
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imported(path: Path, package: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            outer = package.split(".")
            start = outer[: len(outer) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)


if __name__ == "__main__":
    sys.exit(main())
