"""Agreement beyond chance, against a computation by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams.ports.review import HumanAnswer
from streams.quality.agreement import answered_twice, kappa

AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_kappa_is_the_agreement_beyond_chance() -> None:
    # 7 of 10 agree; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5: (0.7 - 0.5) / 0.5.
    pairs = [("a", "a")] * 4 + [("b", "b")] * 3 + [("b", "a")] * 2 + [("a", "b")]
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([("a", "a"), ("b", "b")]) == 1.0
    assert kappa([("a", "b"), ("b", "a")]) == -1.0
    assert kappa([]) is None
    assert kappa([("a", "a")] * 3) is None


def told(
    row: str, answer: str, label: str | None, who: str, second: int, by: str | None = "audit"
) -> HumanAnswer:
    at = AT + timedelta(seconds=second)
    return HumanAnswer(row, AT, "text", None, answer, label, who, at, by, 0.01)  # type: ignore[arg-type]


def test_pairs_are_the_first_two_judgements_of_the_audit() -> None:
    answers = [
        told("1", "label", "b", "boris", 2),
        told("1", "label", "a", "anna", 1),
        told("1", "label", "b", "anna", 3, "disagreements"),
        told("2", "label", "a", "anna", 1),
        told("2", "no-label", None, "boris", 2),
        told("3", "not-sure", None, "anna", 1),
        told("3", "label", "a", "boris", 2),
        told("4", "label", "a", "anna", 1, "unsure"),
        told("4", "label", "a", "boris", 2),
    ]
    assert answered_twice(answers) == [("a", "b"), ("a", "no-label")]
