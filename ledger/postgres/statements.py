"""SQL statements by name: one file each beside this module, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def sql(name: str) -> str:
    """The statement in sql/NAME.sql; its first line says what it does and what it locks."""
    return (files(__package__) / "sql" / f"{name}.sql").read_text()
