"""What `labelstream evaluate` tells a person."""

from __future__ import annotations

from typing import Any

from streams.cli.evaluate import _lines
from streams.quality.report import GoldLine, report


def told(lines: list[GoldLine], **more: Any) -> str:
    found = {
        "version": "v1",
        "unlabeled": 0,
        "warnings": [],
        "kappa": None,
        "calibration": None,
        **report(lines, by="week"),
        **more,
    }
    return "\n".join(_lines(found))


def test_drawn_rows_have_an_interval_and_a_number_of_rows_that_are_missing() -> None:
    rows = [GoldLine("a", "a" if number % 20 else "b", 0.9, 0.1) for number in range(200)]
    text = told(
        [*rows, GoldLine("a", "b", 0.1), GoldLine("b", None)], not_sure=3, disagreements=2, kappa=0.612
    )
    assert "v1: 190 of 201 right; 1 of 202 gold rows have no label of it" in text
    assert "accuracy 0.950 (0.910 to 0.973)" in text
    assert "BIASED" not in text
    assert "of 200 rows drawn at random; 2 others are only in the table of confusions" in text
    assert "more drawn rows make it +-0.02" in text
    assert "kappa 0.61" in text
    assert "3 rows were left as not sure" in text
    assert "no confidence is known to reach accuracy 0.95" in text
    assert "confidence as reported: error 0.0" in text
    assert "confidence by calibration 2: error" in told(rows, calibration=2)
    assert "unknown" in text  # the week
    assert "11  a was taken for b" in text


def test_what_was_not_drawn_is_called_biased() -> None:
    text = told([GoldLine("a", "a", None), GoldLine("a", "b", None)])
    assert "BIASED" in text
    assert "more drawn rows" not in text
    assert "confidence" not in text


def test_a_threshold_is_not_rounded_up() -> None:
    rows = [
        GoldLine("a", "a" if number < 150 else "b", 0.98766 if number < 150 else 0.2, 0.1)
        for number in range(200)
    ]
    assert "from confidence 0.9876 on, at least 0.95 are right: accuracy 1.000" in told(rows)
