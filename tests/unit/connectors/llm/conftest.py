"""What several tests of the LLM connector ask for."""

from __future__ import annotations

import pytest

from connectors.llm import client


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries that a test can wait for."""
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.01)
