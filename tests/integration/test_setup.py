"""Set-up on servers that run elsewhere, and what `status` says when one of them is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.environment import Environment
from deploy.errors import StackError
from deploy.setup import prepare
from deploy.stack import Settings
from deploy.stack_commands import ledger_status, shown_address
from tests.fix_servers import free_port


@pytest.fixture(autouse=True)
def _partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTLEDGER_PARTITIONS", "2")  # as `tests.mini_ledger` on the same Kafka


def test_a_begun_ledger_gets_no_second_key(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    settings = Settings(kafka_bootstrap, database_url, tmp_path)
    prepare(settings)
    trust = (tmp_path / "trust.json").read_bytes()
    (tmp_path / "keys" / "operator.key").unlink()
    prepare(settings)  # the operator's key may be kept elsewhere
    assert not (tmp_path / "keys" / "operator.key").exists()
    kept = (tmp_path / "keys" / "checkpoint.key").rename(tmp_path / "kept")
    with pytest.raises(StackError, match=r"checkpoint\.key is missing"):
        prepare(settings)
    kept.rename(tmp_path / "keys" / "checkpoint.key")
    kept = (tmp_path / "origin").rename(tmp_path / "kept")
    with pytest.raises(StackError, match="origin is missing"):
        prepare(settings)
    assert not (tmp_path / "origin").exists()
    kept.rename(tmp_path / "origin")
    prepare(settings)
    assert (tmp_path / "trust.json").read_bytes() == trust


def test_a_ledger_without_its_kafka_still_says_what_it_holds(
    kafka_bootstrap: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(Settings(kafka_bootstrap, database_url, tmp_path))
    monkeypatch.setenv("CERTLEDGER_POSTGRES", database_url)
    monkeypatch.setenv("CERTLEDGER_KAFKA", f"127.0.0.1:{free_port()}")
    said = ledger_status(Environment(tmp_path))
    assert said["vkey"]
    assert said["certificates"] == 0
    assert said["lag"] is None
    assert "Kafka" in said["problem"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("127.0.0.1:1", "nonsense", Path()), "not the address of a PostgreSQL"),
        (Settings("127.0.0.1:1", "postgresql://127.0.0.1:1/x", Path()), "^PostgreSQL: "),
    ],
)
def test_a_wrong_address_is_said_so(settings: Settings, message: str) -> None:
    with pytest.raises(StackError, match=message):
        prepare(settings)


def test_an_address_is_shown_without_its_password() -> None:
    assert shown_address("postgresql://u:secret@db.example:5433/x") == "db.example:5433"
    assert shown_address("postgresql:///x") == "its default place:5432"
