"""How many people are asked about a row of the audit."""

from __future__ import annotations

import pytest

from streams.review.board import people_asked


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
