"""Departments with folders and keys of their own, enrolled in a test's registry."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ledger import keys
from ledger.registry import BUNDLE_ROLE, REGISTRY_ROLE
from producers.config import PublisherConfig, create_publisher_folder, load_publisher_config
from tests.world import ALL_ACTS, CHECKPOINT, CHECKPOINT_KEYS, OPERATOR, ORIGIN, Book, key_change


def enrol(book: Book, data: Path, **given: Any) -> PublisherConfig:
    """A new department: its folder in `data`, its record and keys in the registry."""
    change = {
        "names": {"zh": "测试局"},
        "authority_code": "",
        "time_zone": "Asia/Shanghai",
        "contact": "",
        "silence_limit_seconds": None,
        "lanes": 1,
        **given,
    }
    name = change.pop("id", None) or f"d{secrets.token_hex(5)}"
    config = create_publisher_folder(
        data,
        origin=ORIGIN,
        department=name,
        checkpoint_keys=CHECKPOINT_KEYS,
        time_zone=change["time_zone"],
        lanes=change["lanes"],
        silence_limit_seconds=change["silence_limit_seconds"],
    )
    own, bundle = keys.load_key(config.folder / "registry.key"), config.signer
    book.change(f"department/{name}", change, OPERATOR)
    book.change(f"key/{own.key.key_id}", key_change(own, REGISTRY_ROLE, name), OPERATOR, own)
    book.change(
        f"key/{bundle.key.key_id}",
        {"vkey": str(bundle.key), "role": BUNDLE_ROLE, "department": name, "revoked": False},
        own,
        keys.load_key(config.folder / "bundle.key"),
    )
    return config


def department_with_type(book: Book, data: Path, lanes: int = 1) -> PublisherConfig:
    """A department that may do everything with the test world's certificate type."""
    config = enrol(book, data, lanes=lanes)
    book.set_type([(config.department, ALL_ACTS, "own")])
    return config


class TestEnvironment:
    """What the composed command line hands to commands, over a registry made beforehand."""

    __test__ = False

    def __init__(self, data: Path, kafka: str) -> None:
        self.data = data
        self.kafka = kafka
        self.origin = ORIGIN
        self.checkpoint_vkey = str(CHECKPOINT.key)
        self.registered: list[str] = []

    def register(
        self, departments: Sequence[Mapping[str, Any]], types: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        self.registered += [str(item["id"]) for item in departments]
        return self.registered

    def publisher_config(self, department: str) -> PublisherConfig:
        return load_publisher_config(self.data, department)


def enrol_all(
    book: Book,
    data: Path,
    departments: Sequence[Mapping[str, Any]],
    types: Sequence[Mapping[str, Any]],
) -> None:
    """Register what a mapping or the town declares, as deploy does."""
    for item in departments:
        enrol(book, data, **item)
    for item in types:
        change = {
            "names": item["names"],
            "code": item.get("standard_code", ""),
            "grants": item["grants"],
        }
        book.change(f"type/{item['code']}", change, OPERATOR)
