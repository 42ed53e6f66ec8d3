"""What is right of a row, from several people's answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from streams.ports.review import HumanAnswer
from streams.quality.settled import differ, settled_rows

AT = datetime(2026, 3, 1, tzinfo=UTC)


def answer(
    row: str,
    label: str | None,
    second: int,
    drawn_by: str | None = "audit",
    probability: float | None = 0.01,
    kind: Literal["label", "not-sure", "no-label"] | None = None,
) -> HumanAnswer:
    return HumanAnswer(
        row,
        AT,
        f"text of {row}",
        None,
        kind or ("label" if label else "no-label"),
        label,
        f"person {second}",
        AT + timedelta(seconds=second),
        drawn_by,
        probability,
    )


def test_the_last_blind_answer_counts_and_a_row_is_drawn_whoever_answered_it() -> None:
    first, second, third, fourth = settled_rows(
        [
            answer("1", "a", 1),
            answer("1", "b", 2, None, None),
            answer("2", None, 1),
            answer("3", "a", 1, "unsure", None),
            answer("4", "a", 1),
            answer("4", "b", 2),
            answer("4", "c", 3, "unsure", None),
        ]
    )
    # A label of a file or of the unsure queue does not replace a blind one.
    assert (first.label, first.probability) == ("a", 0.01)
    assert (fourth.label, fourth.disputed) == ("b", True)
    assert (second.judged, second.label, second.probability) == (True, None, 0.01)
    assert (third.label, third.probability) == ("a", None)


def test_who_settles_has_the_last_word() -> None:
    (row,) = settled_rows([answer("1", "a", 1), answer("1", "c", 2, "disagreements"), answer("1", "b", 3)])
    assert (row.label, row.disputed) == ("c", False)


def test_not_sure_is_no_judgement() -> None:
    sure, unsure = settled_rows(
        [answer("1", "a", 1), answer("1", None, 2, kind="not-sure"), answer("2", None, 1, kind="not-sure")]
    )
    assert (sure.judged, sure.label, sure.disputed) == (True, "a", False)
    assert not unsure.judged


def answers(*told: tuple[str, str | None]) -> list[HumanAnswer]:
    """Answers of (queue, label); without a label: no label fits. `?`: not sure."""
    return [
        answer("1", None, n, by, kind="not-sure") if label == "?" else answer("1", label, n, by)
        for n, (by, label) in enumerate(told)
    ]


def test_rows_differ_until_somebody_who_is_sure_has_settled_them() -> None:
    assert differ(answers(("audit", "x"), ("audit", "y")))
    assert differ(answers(("audit", "x"), ("audit", None)))
    # A correction of an audited row replaces no blind answer; somebody settles it.
    assert differ(answers(("audit", "x"), ("search", "y")))
    assert not differ(answers(("unsure", "x"), ("search", "y")))
    assert not differ(answers(("search", "x"), ("search", "y")))
    assert not differ(answers(("audit", "x"), ("search", "x")))
    assert not differ(answers(("audit", "x"), ("audit", "x")))
    assert not differ(answers(("audit", "x"), ("audit", "?")))
    assert not differ(answers(("audit", "x"), ("unsure", "y")))
    assert not differ(answers(("audit", "x"), ("audit", "y"), ("disagreements", "x")))
    assert not differ(answers(("audit", "x"), ("audit", "y"), ("disagreements", None)))
    disputed = answers(("audit", "x"), ("audit", "y"), ("disagreements", "?"))
    assert differ(disputed)
    # The figures say the same of it as the queue.
    (row,) = settled_rows(disputed)
    assert (row.label, row.disputed) == ("y", True)
