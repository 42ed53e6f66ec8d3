"""How many different texts a replay has."""

from __future__ import annotations

import pytest

from streams.jobs import estimate as module
from streams.jobs.estimate import DistinctTexts


def test_few_texts_are_counted_exactly() -> None:
    texts = DistinctTexts()
    for number in range(3_000):
        texts.add(f"text {number % 1_000:04}", 9)
    assert (texts.count, texts.characters) == (1_000, 9_000)
    assert DistinctTexts().count == DistinctTexts().characters == 0


def test_many_texts_are_counted_about_and_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 1_000)
    texts = DistinctTexts()
    for number in range(60_000):
        texts.add(f"text {number % 30_000:05}", 10)
    assert texts.count == pytest.approx(30_000, rel=0.1)
    assert texts.characters == pytest.approx(300_000, rel=0.1)
    assert len(texts._kept) == len(texts._largest) == 1_000
