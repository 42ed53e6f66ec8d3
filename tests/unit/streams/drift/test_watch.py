"""Hours against the reference: what changed is found, what is usual is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from streams.drift.counts import CONFIDENCE, QUARTER_SECONDS, QUARTERS, Counts
from streams.drift.watch import DriftFinding, TrafficWatch

MONDAY = 1_772_409_600 // QUARTER_SECONDS  # 2026-03-02T00:00Z
DAY = 24 * QUARTERS
SHARES = {"cards": 0.4, "loans": 0.3, "transfers": 0.17, "insurance": 0.1, "cheques": 0.03}
Shares = Callable[[int], Mapping[str, float]]


def usual(quarter: int) -> dict[str, float]:
    """More cards by day, more loans at night."""
    swing = 0.2 * math.sin(2 * math.pi * (quarter % DAY) / DAY)
    return {**SHARES, "cards": 0.4 * (1 + swing), "loans": 0.3 - 0.4 * swing}


def halved(label: str) -> Shares:
    def shares(quarter: int) -> dict[str, float]:
        found = usual(quarter)
        return {**found, label: found[label] / 2}

    return shares


class Rows:
    """Rows at ``rate`` a second, each ``burst`` times."""

    def __init__(self, rate: float = 1.0, seed: int = 1, burst: int = 1) -> None:
        self.watch = TrafficWatch()
        self.rate, self.burst = rate, burst
        self.random = np.random.default_rng(seed)
        self.quarter = MONDAY

    def run(self, quarters: int, shares: Shares = usual, confidence: float = 0.9) -> list[DriftFinding]:
        found: list[DriftFinding] = []
        for _ in range(quarters):
            counts = {
                label: self.burst * int(self.random.poisson(self.rate * 900 * share / self.burst))
                for label, share in shares(self.quarter).items()
            }
            rows = sum(counts.values())
            values = self.random.normal(confidence, 0.1, rows)
            means = {CONFIDENCE: (float(rows), float(values.sum()), float((values**2).sum()))}
            found += self.watch.add(self.quarter, Counts(labels=counts, means=means))
            self.quarter += 1
        return found


def test_two_weeks_with_days_nights_and_weekends_are_quiet() -> None:
    def weekly(quarter: int) -> dict[str, float]:
        found = usual(quarter)
        weekend = (quarter - MONDAY) // DAY % 7 >= 5
        return {**found, "insurance": 0.05 if weekend else 0.1}

    assert Rows().run(14 * DAY, weekly) == []


def test_a_label_of_three_percent_that_halves_is_found_within_two_hours() -> None:
    rows = Rows()
    assert rows.run(4 * DAY + 37) == []
    found = rows.run(2 * QUARTERS, halved("cheques"))
    assert [one.series for one in found] == ["label:cheques"]
    assert found[0].found < 0.022
    assert abs(found[0].expected - 0.03) < 0.002
    assert rows.watch.alarms.keys() == {"label:cheques"}


def test_a_label_that_grows_and_one_that_is_new_are_found() -> None:
    rows = Rows()
    rows.run(4 * DAY)
    found = rows.run(2 * QUARTERS, lambda quarter: {**usual(quarter), "cheques": 0.06, "novel": 0.01})
    assert {"label:cheques", "label:novel"} <= {one.series for one in found}


def test_confidence_that_falls_is_found() -> None:
    rows = Rows()
    rows.run(4 * DAY)
    assert [one.series for one in rows.run(2 * QUARTERS, confidence=0.88)] == ["confidence"]


def test_texts_that_come_in_bursts_make_counts_unsteady_and_raise_no_alarm() -> None:
    """Each row comes forty times: the counts spread by six times as much as those of independent rows."""
    rows = Rows(burst=40)
    assert rows.run(7 * DAY) == []
    assert rows.run(DAY, halved("loans")) != []


def test_at_low_rates_windows_are_counted_in_rows() -> None:
    rows = Rows(rate=0.1)
    assert rows.run(16 * DAY) == []
    found = rows.run(DAY, halved("transfers"))
    assert "label:transfers" in {one.series for one in found}
    assert {one.window for one in found} == {"7200 rows"}


def test_a_first_weekend_is_not_judged_by_weekdays() -> None:
    def other_weekend(quarter: int) -> dict[str, float]:
        weekend = (quarter - MONDAY) // DAY % 7 >= 5
        return {**usual(quarter), "cheques": 0.1 if weekend else 0.03}

    assert Rows().run(7 * DAY, other_weekend) == []


def test_what_lasts_two_days_is_how_things_are_now() -> None:
    rows = Rows()
    rows.run(7 * DAY)
    new = {"cheques": 0.06}
    changed = lambda quarter: {**usual(quarter), **new}  # noqa: E731
    assert "label:cheques" in {one.series for one in rows.run(QUARTERS * 2, changed)}
    rows.run(2 * DAY, changed)
    assert "label:cheques" not in rows.watch.alarms
    # From then on the new share is the reference, and the former one a change.
    assert rows.run(5 * DAY, changed) == []
    assert "label:cheques" in {one.series for one in rows.run(QUARTERS * 2)}


def test_an_alarm_that_passes_ends_and_leaves_the_reference_as_it_was() -> None:
    rows = Rows()
    rows.run(4 * DAY)
    assert rows.run(3 * QUARTERS, halved("cheques"))
    rows.run(6 * QUARTERS)
    assert rows.watch.alarms == {}
    assert rows.run(2 * DAY) == []
