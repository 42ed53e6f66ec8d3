"""The gold set has the answer that counts of each row that somebody judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streams.ports.review import HumanAnswer
from streams.quality import gold
from streams.quality.gold import gold_labels

AT = datetime(2026, 3, 1, tzinfo=UTC)


def answer(row: str, answer: Any, label: str | None, second: int, drawn_by: str | None) -> HumanAnswer:
    chance = 0.01 if drawn_by == "audit" else None
    at = AT + timedelta(seconds=second)
    return HumanAnswer(row, AT, "text", None, answer, label, f"p{second}", at, drawn_by, chance)


async def test_each_row_has_the_answer_that_counts_and_its_own_probability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def human_answers(*_: Any) -> Any:
        yield answer("1", "label", "x", 1, "audit")
        yield answer("1", "not-sure", None, 2, "audit")
        yield answer("2", "not-sure", None, 1, "audit")
        yield answer("3", "no-label", None, 1, "unsure")
        yield answer("4", "label", "x", 1, "audit")
        yield answer("4", "label", "y", 2, "audit")
        yield answer("4", "label", "z", 3, "disagreements")

    monkeypatch.setattr(gold, "human_answers", human_answers)
    nobody: Any = None
    found = [one async for one in gold_labels(nobody, nobody)]
    assert [(one.row_id, one.label, one.labeled_by, one.draw_probability) for one in found] == [
        ("1", "x", "p1", 0.01),
        ("3", "no-label", "p1", None),
        ("4", "z", "p3", 0.01),
    ]
