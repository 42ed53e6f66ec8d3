"""The local broker, as far as no broker is needed."""

from __future__ import annotations

import uuid

import pytest

from connectors.local import processes
from connectors.local.kafka import _cluster_id, kafka_answers


def test_nobody_there_does_not_answer() -> None:
    assert not kafka_answers(f"127.0.0.1:{processes.free_port()}", 0.5)


def test_an_id_that_looks_like_an_option_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [uuid.UUID(bytes=first + b"\0" * 15) for first in (b"\xf8", b"\xfb", b"\x01")]
    monkeypatch.setattr("connectors.local.kafka.uuid.uuid4", lambda: made.pop(0))
    assert _cluster_id() == "AQAAAAAAAAAAAAAAAAAAAA"
