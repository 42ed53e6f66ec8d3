"""When a certified proxy is no longer trusted, and how many rows are audited for it."""

from __future__ import annotations

import math
import random

import pytest

from streams.cascade.audit_rate import MOST, audit_rate
from streams.cascade.bounds import lower_bound, upper_bound
from streams.cascade.monitor import Monitor
from streams.cascade.shares import FIRST_FIT, fit_at, part_of


def until_alarm(
    monitor: Monitor, shares: dict[str, float], most: int, seed: int
) -> tuple[int, tuple[str, ...]]:
    """How many audits of the first label there are until an alarm, with these shares that differ."""
    drawn, first, count = random.Random(seed), next(iter(shares)), 0
    while count < most and not monitor.alarms:
        label = drawn.choice(list(shares))
        monitor = monitor.observe(label, drawn.random() < shares[label])
        count += label == first
    return count, monitor.alarms


def test_a_label_that_flips_is_found_within_fifty_audits_of_it() -> None:
    monitor = Monitor.new(0.10, {"payment": 0.15, "access": 0.10, "delivery": 0.0})
    for seed in range(10):
        usual = {"payment": 0.92, **dict.fromkeys("abcdefghijklmnop", 0.1)}
        count, alarms = until_alarm(monitor, usual, 1000, seed)
        assert count <= 50
        assert set(alarms) <= {"payment", "*"}


def test_a_quarter_that_goes_wrong_is_found_within_five_hundred_audits() -> None:
    monitor = Monitor.new(0.10, {})
    for seed in range(10):
        count, _ = until_alarm(monitor, {"payment": 0.25}, 5000, seed)
        assert count <= 500


def test_nothing_is_found_where_nothing_changed() -> None:
    monitor = Monitor.new(0.10, {"payment": 0.10})
    assert until_alarm(monitor, {"payment": 0.10, "access": 0.10}, 3000, 1)[1] == ()


def test_survives_a_checkpoint() -> None:
    monitor = Monitor.new(0.1, {"payment": 0.2}).observe("payment", True).observe("access", True)
    assert Monitor.model_validate_json(monitor.model_dump_json()) == monitor


def test_the_audit_rate_finds_a_loss_in_time_or_says_how_long_it_takes() -> None:
    busy = audit_rate(480, 20, 0.5)
    assert busy.rate < 0.01
    assert busy.minutes == pytest.approx(480)
    calm = audit_rate(480, 0.01, 0.5)
    assert calm.rate == MOST
    assert calm.minutes > 480
    assert audit_rate(480, 0.0, 0.5) == (MOST, math.inf)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    # From tables of the exact interval, one-sided.
    assert upper_bound(0, 30, 0.05) == pytest.approx(1 - 0.05 ** (1 / 30), abs=1e-6)
    assert upper_bound(5, 100, 0.05) == pytest.approx(0.10225, abs=1e-4)
    assert lower_bound(5, 100, 0.05) == pytest.approx(0.01991, abs=1e-4)
    assert (lower_bound(0, 10, 0.05), upper_bound(10, 10, 0.05)) == (0.0, 1.0)
    assert (lower_bound(0, 0, 0.05), upper_bound(0, 0, 0.05)) == (0.0, 1.0)


def test_a_tenth_of_the_texts_teaches_nothing_and_equal_queries_are_in_one_part() -> None:
    parts = [part_of("v1", f"вопрос {at}") for at in range(3000)]
    assert 0.08 < parts.count("certify") / 3000 < 0.12
    assert all(part_of("v1", f" ВОПРОС  {at}") == parts[at] for at in range(100))
    assert parts != [part_of("v2", f"вопрос {at}") for at in range(3000)]
    assert [fit_at(generation) for generation in (1, 2, 3)] == [FIRST_FIT, 2 * FIRST_FIT, 4 * FIRST_FIT]
