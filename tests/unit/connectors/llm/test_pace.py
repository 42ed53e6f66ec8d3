"""The limit finds its level: simulated endpoints on a virtual clock; `make soak-examples` has more seeds."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import settings

from tests.unit.connectors.llm.pace_endpoint import Endpoint, Run

SEEDS = range(1 + settings().max_examples // 100)
KINDS: dict[str, dict[str, object]] = {
    "queues": {},
    "tells": {"metrics": True},
    "refuses": {"queue": 0},
    "queues, then refuses": {"queue": 8},
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [16, 64])
def test_it_fills_the_slots_and_little_more(kind: str, slots: int, seed: int) -> None:
    run = Run(Endpoint(slots, **KINDS[kind]), 30, seed=seed)  # type: ignore[arg-type]
    assert run.rate(10, 30) > 0.96 * slots / 0.3
    assert run.waiting(10, 30) < slots / 4
    assert run.refusals(10, 30) < 0.01


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_capacity_falls_to_a_quarter_and_returns(kind: str, seed: int) -> None:
    run = Run(
        Endpoint(64, **KINDS[kind]),  # type: ignore[arg-type]
        75,
        seed=seed,
        changes=[
            (20, lambda endpoint: setattr(endpoint, "slots", 16)),
            (45, lambda endpoint: setattr(endpoint, "slots", 64)),
        ],
    )
    assert run.refusals(30, 45) < 0.01
    assert run.waiting(30, 45) < 4
    assert run.rate(30, 45) > 0.95 * 16 / 0.3
    assert run.rate(65, 75) > 0.9 * 64 / 0.3
    assert run.refusals(55, 75) < 0.01


# Seeds with which it fell while the base was looked at, or in the middle of an epoch: the queue of that
# moment was taken for the endpoint's own pace, and stayed.
@pytest.mark.parametrize(
    ("spread", "seed"), [(0.05, 29), (0.05, 58), *((0.2, seed) for seed in (33, 70, 77, 107, 127, 194))]
)
def test_capacity_may_fall_at_any_moment(spread: float, seed: int) -> None:
    at = 20 + 5 * random.Random(seed).random()
    run = Run(
        Endpoint(64, spread=spread),
        at + 25,
        seed=seed,
        changes=[(at, lambda endpoint: setattr(endpoint, "slots", 16))],
    )
    assert run.waiting(at + 10, at + 25) < 4
    assert run.rate(at + 10, at + 25) > 0.95 * 16 / 0.3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["queues", "tells"])
def test_answers_that_take_very_different_times_do_not_lead_it_astray(kind: str, seed: int) -> None:
    run = Run(Endpoint(64, spread=0.3, **KINDS[kind]), 40, seed=seed)  # type: ignore[arg-type]
    assert run.rate(20, 40) > 0.93 * 64 / 0.3
    assert run.waiting(20, 40) < 64 / 3


@pytest.mark.parametrize("seed", SEEDS)
def test_long_answers_are_no_queue(seed: int) -> None:
    """Latency counts by the token: answers of 2 and of 40 tokens in one mix."""
    run = Run(Endpoint(64, tokens=(2, 6, 40)), 60, seed=seed)
    assert run.rate(30, 60) > 0.93 * 64 / (0.3 * 21 / 15)
    assert run.waiting(30, 60) < 16


@pytest.mark.parametrize("seed", SEEDS)
def test_an_endpoint_that_becomes_slower_is_not_taken_for_a_crowded_one(seed: int) -> None:
    run = Run(Endpoint(64), 70, seed=seed, changes=[(20, lambda endpoint: setattr(endpoint, "seconds", 0.9))])
    assert run.rate(45, 70) > 0.9 * 64 / 0.9


def test_an_endpoint_without_slots_is_driven_to_the_most() -> None:
    fast = Run(Endpoint(10**9, seconds=0.005), 3)
    assert fast.paces[0].limit == 256
    slow = Run(Endpoint(10**9), 15, most=64)
    assert slow.paces[0].limit == 64
    assert slow.rate(8, 15) > 0.96 * 64 / 0.3


def test_one_slot_is_enough_to_work_with() -> None:
    run = Run(Endpoint(1), 30)
    assert run.rate(10, 30) > 0.95 / 0.3
    assert run.paces[0].limit <= 3


@pytest.mark.parametrize("kind", ["queues", "tells", "refuses"])
def test_two_workers_share(kind: str) -> None:
    run = Run(Endpoint(64, **KINDS[kind]), 120, workers=2)  # type: ignore[arg-type]
    shares = sorted(run.rate(60, 120, worker) for worker in range(2))
    assert sum(shares) > 0.96 * 64 / 0.3
    assert shares[0] > 0.4 * shares[1]
    assert run.waiting(60, 120) < 16
    assert run.refusals(60, 120) < 0.01


def test_a_late_event_loop_is_no_queue_at_the_endpoint() -> None:
    """With 0.3 s at the endpoint, and our own loop 60 ms late each time, the level stays."""
    run = Run(Endpoint(10**9), 10, most=64)
    pace = run.paces[0]
    pace.lag = 0.06
    now = 100.0
    lowest = pace.limit
    for _ in range(2000):
        pace.answered(now + 0.48, now, 10, True)
        now += 0.05
        lowest = min(lowest, pace.limit)
    assert lowest == 64


def test_time_outs_lower_it_once_at_a_time() -> None:
    pace = Run(Endpoint(10**9), 10, most=64).paces[0]
    for _ in range(64):
        pace.late(100.0)
    assert pace.limit == math.floor(64 * 0.7)
    assert pace.reason == "time-out"


def test_after_an_outage_it_begins_with_half_of_what_was_served() -> None:
    pace = Run(Endpoint(10**9), 10, most=64).paces[0]
    for number in range(200):  # 503 for everybody
        pace.refused(100.0 + number, 0)
    assert pace.limit == 1
    pace.returned(400.0)
    assert pace.limit == 32
    for number in range(200):
        pace.answered(401.0 + number / 10 + 0.3, 401.0 + number / 10, 10, True)
    assert pace.limit == 64
