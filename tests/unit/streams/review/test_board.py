"""Who is asked about a row of the audit, and when its answers are to be settled."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streams.ports.review import HumanAnswer
from streams.review.board import differ, people_asked

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "second", "asked"),
    [
        ({}, False, 1),
        ({}, True, 2),
        ({"anna": "refund"}, False, 1),
        ({"anna": "no-label"}, False, 1),
        ({"anna": "not-sure"}, False, 2),
        ({"anna": "not-sure", "boris": "not-sure"}, False, 1),
    ],
)
def test_who_is_not_sure_leaves_the_row_to_one_more(given: dict[str, str], second: bool, asked: int) -> None:
    assert people_asked(given, second) == asked


def answers(*told: tuple[str, str | None]) -> list[HumanAnswer]:
    """Answers of (queue, label); without a label: no label fits."""
    return [
        HumanAnswer("1", AT, "text", None, "no-label" if label is None else "label", label, who, AT, by, 0.01)
        for who, (by, label) in zip("abc", told, strict=False)
    ]


def test_rows_differ_until_they_are_settled() -> None:
    assert differ(answers(("audit", "x"), ("audit", "y")))
    assert differ(answers(("audit", "x"), ("audit", None)))
    assert not differ(answers(("audit", "x"), ("audit", "x")))
    assert not differ(answers(("audit", "x"), ("unsure", "y")))
    assert not differ(answers(("audit", "x"), ("audit", "y"), ("disagreements", "x")))
    assert not differ(answers(("audit", "x"), ("audit", "y"), ("disagreements", None)))
