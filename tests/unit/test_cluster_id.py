"""The embedded Kafka's cluster id."""

from __future__ import annotations

import uuid

import pytest

from deploy.embedded.kafka import draw_cluster_id


def test_an_id_is_never_taken_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 64 ids began with a hyphen, and that Kafka did not start."""
    drawn = [uuid.UUID(bytes=bytes([first]) + bytes(15)) for first in (0xF8, 0xFB, 0x10)]
    monkeypatch.setattr(uuid, "uuid4", iter(drawn).__next__)
    assert draw_cluster_id() == "EA" + "A" * 20
