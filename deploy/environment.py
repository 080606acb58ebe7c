"""What every command gets: where the stack is and who may do what from here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deploy.errors import StackError
from deploy.locating import find_targets
from deploy.registration import Registration
from deploy.stack import Stack, stated_roles
from ledger.errors import LedgerError, Unavailable
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.registry import Registry
from producers.config import PublisherConfig, load_publisher_config
from producers.correcting import Target, Wanted


def default_data() -> Path:
    """CERTLEDGER_DATA, else the user's own data folder."""
    named = os.environ.get("CERTLEDGER_DATA")
    if named:
        return Path(named)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "certledger"


@dataclass(frozen=True)
class Environment:
    """One stack, as a command sees it. Addresses are looked up when first needed."""

    data: Path

    @property
    def trust(self) -> Path:
        """The stack's trust file."""
        return self.data / "trust.json"

    @property
    def kafka(self) -> str:
        """Bootstrap servers: CERTLEDGER_KAFKA, else those of the running stack."""
        return os.environ.get("CERTLEDGER_KAFKA") or self._running.kafka

    @property
    def postgres_url(self) -> str:
        """The ledger's database, to read all but its secrets."""
        return self.postgres_of("reader")

    @property
    def auditor_url(self) -> str:
        """The ledger's database, to read all of it."""
        return self.postgres_of("auditor")

    def postgres_of(self, role: str) -> str:
        """The database's address for a role: CERTLEDGER_POSTGRES_ROLE, else CERTLEDGER_POSTGRES,
        else that of the running stack.
        """
        stated = stated_roles(os.environ).get(role) or os.environ.get("CERTLEDGER_POSTGRES")
        return stated or self._running.postgres_of(role)

    @cached_property
    def _running(self) -> Any:
        try:
            return Stack(self.data).settings()
        except StackError as err:
            raise Unavailable("unreachable", str(err)) from err

    @cached_property
    def _registry(self) -> Registry:
        registration = self.registration()
        try:
            return registration.read()
        finally:
            registration.close()

    @property
    def origin(self) -> str:
        """The ledger's origin."""
        return self._registry.origin

    @property
    def checkpoint_vkey(self) -> str:
        """The key that signed the first checkpoints: it tells ledgers apart and never changes."""
        return str(self._registry.checkpoint_keys[0].key)

    def registration(self) -> Registration:
        """The registry, open for changes."""
        kafka = os.environ.get("CERTLEDGER_KAFKA")
        if not kafka and not os.environ.get("CERTLEDGER_POSTGRES"):
            kafka = self._running.kafka
        return Registration(self.postgres_of("admission"), self.data, kafka or "")

    def register(
        self, departments: Sequence[Mapping[str, Any]], types: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Register what is missing; a line for each addition."""
        registration = self.registration()
        try:
            return registration.register(departments, types)
        finally:
            registration.close()

    def find_targets(self, wanted: Sequence[Wanted]) -> list[Target | LedgerError]:
        """The published events that somebody wants corrected."""
        connection = connect(self.postgres_url, "correct")
        try:
            with Reader(connection).open() as view:
                return find_targets(view, wanted)
        finally:
            connection.close()

    def find_doubtful(self, department: str) -> list[tuple[tuple[str, str, str], str, str]]:
        """(type, issuer and number, event id, kind) of a department's doubtful events."""
        connection = connect(self.postgres_url, "doubtful")
        try:
            with Reader(connection).open() as view:
                return [
                    ((name.type_code, name.issuer, name.number), t.id, t.kind)
                    for name, t in view.doubtful_events(department)
                ]
        finally:
            connection.close()

    def find_rewinds(
        self, department: str
    ) -> list[tuple[tuple[str, str, str], str, str, list[str]]]:
        """Of each certificate with such events (type, issuer and number, id and kind of the first,
        kinds of the events since that are not doubtful).
        """
        connection = connect(self.postgres_url, "doubtful")
        try:
            with Reader(connection).open() as view:
                return [
                    (
                        (name.type_code, name.issuer, name.number),
                        t.id,
                        t.kind,
                        [g.kind for g in good],
                    )
                    for name, t, good in view.rewinds(department)
                ]
        finally:
            connection.close()

    def publisher_config(self, department: str) -> PublisherConfig:
        """The publishing side's folder of a department on this machine."""
        try:
            return load_publisher_config(self.data, department)
        except LedgerError as err:
            raise type(err)(err.code, f"{department}: {err.message}") from err
