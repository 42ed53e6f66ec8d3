"""The accuracy of audited rows, looked at after every row."""

from __future__ import annotations

import numpy as np

from streams.drift.accuracy import REFERENCE_ROWS, JudgedLabel, watched


def rows(random: np.random.Generator, count: int, wrong: float) -> list[JudgedLabel]:
    return [JudgedLabel(bool(random.random() >= wrong), 0.01) for _ in range(count)]


def test_few_rows_say_nothing() -> None:
    found = watched(rows(np.random.default_rng(1), REFERENCE_ROWS - 1, 0.1))
    assert found.wrong is None
    assert not found.alarm


def test_labels_that_are_wrong_more_often_raise_an_alarm() -> None:
    random = np.random.default_rng(1)
    usual = rows(random, 600, 0.08)
    assert not watched(usual).alarm
    found = watched([*usual, *rows(random, 150, 0.4)])
    assert found.alarm
    assert (found.now or 0) > (found.wrong or 0) > 0


def test_labels_that_are_as_right_as_ever_raise_none_however_often_one_looks() -> None:
    """The alarm is of the largest evidence so far: its end would be looked at for each of 2,000 rows."""
    for seed in range(20):
        found = rows(np.random.default_rng(seed), 2_000, 0.1)
        assert not any(watched(found[:size]).alarm for size in range(300, 2_001, 200))


def test_rows_that_were_likelier_to_be_drawn_count_less() -> None:
    usual = [JudgedLabel(number % 10 != 0, 0.01) for number in range(300)]
    rare = [JudgedLabel(False, 0.5)] * 60
    assert watched([*usual, *(one._replace(probability=0.01) for one in rare)]).alarm
    assert not watched([*usual, *rare]).alarm
