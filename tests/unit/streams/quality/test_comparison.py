"""Two versions compared: the four answers, worked out by hand and by simulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from streams.quality.comparison import LabelLoss, Pair, Verdict, compare, rows_planned

MARGIN = 0.03


def pairs(both: int, won: int, lost: int, label: str = "a", weight: float = 1.0) -> list[Pair]:
    """Rows of one label: right under both, only under the candidate, only under the current version."""
    return (
        [Pair(label, label, label, weight)] * both
        + [Pair(label, "x", label, weight)] * won
        + [Pair(label, label, "x", weight)] * lost
    )


def simulated(rows: int, difference: float, times: int, seed: int) -> Counter[str]:
    """The answers for versions that disagree on a tenth of the rows, of eight labels of unlike frequency."""
    drawn = np.random.default_rng(seed)
    apart = np.array([(0.1 + difference) / 2, (0.1 - difference) / 2])
    labels = np.array(list("abcdefgh"))
    frequency = np.arange(8, 0, -1) / 36
    found: Counter[str] = Counter()
    for _ in range(times):
        gold = drawn.choice(labels, rows, p=frequency)
        kind = drawn.choice(3, rows, p=[*apart, 1 - apart.sum()])
        found[
            compare(
                [
                    Pair(one, "x" if what == 0 else one, "x" if what == 1 else one)
                    for one, what in zip(gold, kind, strict=True)
                ],
                MARGIN,
            ).answer
        ] += 1
    return found


def test_better_is_what_mcnemars_test_says() -> None:
    # 15 of 20: P(X >= 15) = 0.0207, P(X = 15) = 0.0148, mid-p of both sides 2 * (0.0207 - 0.0148 / 2).
    found = compare(pairs(480, 15, 5), MARGIN)
    assert found.answer == "better"
    assert found.p == pytest.approx(0.0266, abs=1e-4)
    assert (found.won, found.lost, found.rows, found.difference) == (15, 5, 500, 0.02)
    assert (found.accuracy_current, found.accuracy_candidate) == (0.97, 0.99)
    assert found.low < 0.02 < found.high
    assert compare(pairs(480, 14, 6), MARGIN).answer != "better"


def test_the_interval_without_a_disagreement_is_the_one_by_hand() -> None:
    # As Wilson's for 0 of n: z^2 / (n + z^2).
    found = compare(pairs(200, 0, 0), MARGIN)
    assert (found.low, found.high) == pytest.approx((-3.8415 / 203.8415, 3.8415 / 203.8415), abs=1e-4)


def test_without_a_disagreement_few_rows_prove_nothing() -> None:
    few, many = compare(pairs(100, 0, 0), MARGIN), compare(pairs(230, 0, 0), MARGIN)
    assert (few.answer, many.answer) == ("undecided", "not worse")
    assert compare(pairs(100 + few.more, 0, 0), MARGIN).answer == "not worse"


def test_no_rows_are_undecided_and_say_how_many_are_needed() -> None:
    found = compare([], MARGIN)
    assert (found.answer, found.rows, found.accuracy_current, found.more) == ("undecided", 0, None, 687)


def test_the_planned_numbers_of_rows_are_the_known_ones() -> None:
    assert [round(rows_planned(0.1, margin)) for margin in (0.03, 0.02, 0.01)] == [687, 1546, 6183]


def test_a_small_loss_that_is_proved_is_within_the_margin() -> None:
    found = compare(pairs(19_700, 100, 200), MARGIN)
    assert (found.answer, found.high < 0) == ("not worse", True)
    assert compare(pairs(19_700, 100, 200), 0.004).answer == "worse"


def test_a_label_whose_recall_fell_is_worse_however_good_the_rest_is() -> None:
    rows = pairs(400, 60, 0, "often") + pairs(20, 0, 12, "rare") + pairs(50, 3, 3, "other")
    found = compare(rows, MARGIN)
    assert found.difference > 0
    assert found.answer == "worse"
    # Three labels could have been found. The loss of 12 of 32 is less certain to be more than the margin,
    # 3.27 standard deviations, than to be a loss at all, 0.5 ** 12.
    assert found.labels == [LabelLoss("rare", 32, 0, 12, pytest.approx(3 * 0.00053, rel=0.01))]


def test_a_label_that_may_have_lost_no_more_than_the_margin_is_not_worse() -> None:
    # Of 200 rows 9 are lost, which is no chance, and 4.5 points may be less than 3.
    loss = pairs(191, 0, 9, "often")
    assert compare(loss + pairs(780, 20, 0, "other"), MARGIN).labels == []
    (found,) = compare(loss + pairs(780, 20, 0, "other"), 0.0).labels
    assert found.p == pytest.approx(0.5**9 * 2, rel=0.3)
    assert [one.label for one in compare(pairs(182, 0, 18, "often"), MARGIN).labels] == ["often"]


def test_holm_asks_for_more_where_many_labels_are_tested() -> None:
    loss = pairs(20, 0, 7, "rare")  # 0.0078 alone
    assert compare(loss + pairs(900, 40, 0, "often"), MARGIN).answer == "worse"
    others = [row for label in "bcdefg" for row in pairs(100, 9, 0, label)]
    assert compare(loss + others, MARGIN).labels == []


def test_weights_count_as_the_rows_that_they_stand_for() -> None:
    light, heavy = pairs(900, 40, 10, weight=1.0), pairs(90, 0, 5, weight=10.0)
    found = compare(light + heavy, MARGIN)
    # (40 - 10 - 50) / (950 + 950)
    assert found.difference == pytest.approx(-20 / 1900)
    assert found.answer == "undecided"
    same = compare(pairs(480, 15, 5, weight=100.0), MARGIN)
    once = compare(pairs(480, 15, 5), MARGIN)
    assert (same.p, same.low, same.high, same.answer) == pytest.approx(
        (once.p, once.low, once.high, once.answer)
    )


def test_a_row_that_no_label_fits_tells_nothing_apart() -> None:
    found = compare([Pair(None, "a", "b")] * 10 + pairs(90, 0, 0), MARGIN)
    assert (found.won, found.lost, found.accuracy_current) == (0, 0, 0.9)


def power(rows: int, difference: float, answers: set[str]) -> float:
    found = simulated(rows, difference, 100, seed=rows)
    return sum(found[one] for one in answers) / 100


def test_a_short_simulation_holds_what_the_long_one_shows() -> None:
    assert power(1000, 0.0, {"better"}) <= 0.08
    assert power(1000, 0.0, {"not worse"}) >= 0.78
    assert power(500, -0.05, {"worse"}) >= 0.88
    assert power(500, -0.05, {"better", "not worse"}) == 0
    assert power(1000, 0.03, {"better"}) >= 0.72


def test_the_rows_that_it_asks_for_decide_mostly() -> None:
    found: Verdict = compare(pairs(450, 25, 25), MARGIN)
    assert found.answer == "undecided"
    decided = simulated(500 + found.more, 0.0, 100, seed=3)
    assert decided["not worse"] + decided["better"] >= 70
