"""Gold labels that are likeliest wrong."""

from __future__ import annotations

import pytest

from streams.core.errors import RefusedError
from streams.quality.suspects import suspects

BEGIN = {"delivery": "когда привезут", "payment": "не прошла оплата", "refund": "верните деньги"}
ROWS = [
    (f"{begin} {what} {end}", label)
    for label, begin in BEGIN.items()
    for what in ("заказ", "карту", "телефон", "посылку", "за услугу")
    for end in ("сегодня", "пожалуйста", "")
]


def test_a_wrong_label_comes_first_with_the_likelier_one() -> None:
    texts, labels = [text for text, _ in ROWS], [label for _, label in ROWS]
    assert [one.likelier for one in suspects(texts, labels)] == []
    labels[4], labels[20] = "refund", "delivery"
    found = suspects(texts, labels)
    assert {(one.at, one.likelier) for one in found[:2]} == {(4, "delivery"), (20, "payment")}
    assert all(one.likelier_probability > one.given_probability for one in found)


def test_a_row_is_not_judged_by_its_own_text() -> None:
    """The same text with the same wrong label, many times, does not vouch for itself."""
    texts, labels = [text for text, _ in ROWS], [label for _, label in ROWS]
    texts += ["Когда  привезут заказ завтра", "когда привезут заказ завтра"] * 3
    labels += ["refund"] * 6
    assert {one.at for one in suspects(texts, labels)[:6]} == set(range(len(ROWS), len(ROWS) + 6))


def test_too_few_rows_are_refused_and_rare_labels_are_left_out() -> None:
    with pytest.raises(RefusedError, match="too few gold rows"):
        suspects(["a", "b", "c"], ["x", "x", "y"])
    texts, labels = [text for text, _ in ROWS], [label for _, label in ROWS]
    assert suspects([*texts, "когда привезут заказ вечером"], [*labels, "rare"]) == []
