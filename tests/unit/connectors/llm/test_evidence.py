"""Who is to blame: the arithmetic, and a simulation of guilty texts among phases of an endpoint."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.llm.evidence import Evidence

GUILTY = math.log(1e6)


def evidence_of(*calls: tuple[float, bool]) -> Evidence:
    """Calls of different texts, by their end and whether they were answered."""
    found = Evidence()
    for text, (ended, answered) in enumerate(calls, start=1000):
        if answered:
            found.answered(text, ended, first=True)
        else:
            found.failed(text, ended)
    return found


def test_nothing_speaks_against_a_text_if_nobody_else_was_tried() -> None:
    found = Evidence()
    found.failed(1, 5.0)
    assert found.against(1, 5.0) == 0
    assert evidence_of((1.0, True), (2.0, True)).against(1, 5.0) == 0  # nobody since


def test_nothing_speaks_against_a_text_if_all_fail_on_one_side() -> None:
    ok_before = [(float(n), True) for n in range(10)]
    failed_after = [(20.0 + n, False) for n in range(10)]
    assert evidence_of(*ok_before, *failed_after).against(1, 15.0) == 0


def test_a_failure_among_many_answers_speaks_against_the_text() -> None:
    calls = [(n / 10, True) for n in range(200)]
    assert evidence_of(*calls).against(1, 10.0) == pytest.approx(math.log(33))
    assert evidence_of(*calls[98:103]).against(1, 10.0) == pytest.approx(math.log(3))


def test_the_texts_own_calls_do_not_count() -> None:
    found = Evidence()
    for ended in range(20):
        found.answered(7, float(ended), first=True)
    assert found.against(7, 10.0) == 0
    assert found.others_after(7, 5.0) == 0
    assert found.others_after(8, 5.0) == 14


def test_a_third_of_failures_takes_about_a_dozen_tries() -> None:
    chance = random.Random(1)
    tries = []
    for _ in range(50):
        found, against, number = Evidence(), 0.0, 0
        now = 0.0
        while against < GUILTY:
            for _ in range(200):
                now += 0.01
                found.failed(hash(now), now) if chance.random() < 0.3 else found.answered(
                    hash(now), now, first=True
                )
            failed_at = now
            for _ in range(200):
                now += 0.01
                found.failed(hash(now), now) if chance.random() < 0.3 else found.answered(
                    hash(now), now, first=True
                )
            number += 1
            against += found.against(1, failed_at)
        tries.append(number)
    assert 12 <= sum(tries) / len(tries) <= 18


def test_three_texts_in_a_row_are_suspicious_where_nothing_fails_otherwise() -> None:
    found = evidence_of(*((float(n), True) for n in range(50)))
    for text in (1, 2, 2, 2):
        found.failed(text, 60.0)
    assert not found.suspicious
    found.failed(3, 61.0)
    assert found.suspicious
    found.answered(4, 62.0, first=False)
    assert not found.suspicious


def test_more_in_a_row_are_needed_where_many_fail_anyway() -> None:
    found = evidence_of(*((float(n), bool(n % 2)) for n in range(100)))
    found.answered(1, 100.0, first=True)
    for text in range(9):
        found.failed(text, 101.0)
    assert not found.suspicious
    found.failed(9, 101.0)
    found.failed(10, 101.0)
    assert found.suspicious


@dataclass
class Phase:
    """For so many seconds, calls fail with this probability."""

    seconds: float
    failing: float


PHASES = st.lists(
    st.builds(
        Phase,
        seconds=st.floats(0.05, 30.0),
        failing=st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0.0, 1.0)),
    ),
    min_size=1,
    max_size=8,
)


def simulate(
    phases: list[Phase], guilty: set[int], rate: float, seed: int, *, worst: bool = True
) -> tuple[list[float], dict[int, float]]:
    """Texts come at ``rate`` a second, and go on being tried as the client does. The phases come again and
    again. Returns what speaks against each innocent text at its worst, and when the guilty ones were found.
    """
    chance = random.Random(seed)
    length = sum(phase.seconds for phase in phases)

    def fails(now: float) -> bool:
        at = now % length
        for phase in phases:
            if at < phase.seconds:
                return chance.random() < phase.failing
            at -= phase.seconds
        return False

    evidence = Evidence()
    pending: list[tuple[float, int, int, float, float, float]] = []
    against_innocent, found = [], {}
    now, text = 0.0, 0
    next_arrival = 0.0
    while now < 90.0:
        due = pending[0][0] if pending else math.inf
        now = min(due, next_arrival)
        if now == next_arrival:
            text += 1
            next_arrival = now + chance.expovariate(rate)
            tries, against, began, ended, this = 0, 0.0, now, now, text
        else:
            _, this, tries, against, began, ended = heapq.heappop(pending)
            while evidence.others_after(this, ended) < 3:  # harmless texts
                number = -chance.randrange(10**9)
                if fails(now):
                    evidence.failed(number, now)
                else:
                    evidence.answered(number, now, first=True)
            against += evidence.against(this, ended)
            if this not in guilty:
                against_innocent.append(against)
            if tries >= 3 and against >= GUILTY:
                if this in guilty:
                    found[this] = now - began
                continue
        if this in guilty or fails(now):
            tries += 1
            if tries == 1:
                evidence.failed(this, now)
            pause = chance.uniform(0.8, 1.2) * min(0.25 * 2 ** (tries - 1), 2.0)
            heapq.heappush(pending, (now + pause, this, tries, against, began, now + 1e-9))
        else:
            evidence.answered(this, now, first=tries == 0)
    return against_innocent, found


@settings(max_examples=settings().max_examples // 5)  # an example is minutes of calls
@given(phases=PHASES, rate=st.floats(0.2, 20.0), seed=st.integers(0, 10**6))
def test_no_innocent_text_is_found_guilty(phases: list[Phase], rate: float, seed: int) -> None:
    guilty = set(random.Random(seed).sample(range(1, 60), 10))
    against, _ = simulate(phases, guilty, rate, seed)
    assert max(against, default=0.0) < GUILTY


@pytest.mark.parametrize("failing", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("rate", [0.2, 20.0])
def test_each_guilty_text_is_found_within_a_minute(failing: float, rate: float) -> None:
    guilty = {1, 2, 3, 4, 5}
    _, found = simulate([Phase(10.0, failing)], guilty, rate, seed=3)
    assert set(found) == guilty
    assert max(found.values()) < 60


def test_the_chance_to_blame_an_innocent_text_is_as_small_as_promised() -> None:
    """By Ville's inequality: among N texts, at most N / x ever reach a product of x."""
    against = []
    for seed in range(4):
        per_try, _ = simulate([Phase(10.0, 0.5)], set(), 20.0, seed)
        against += per_try
    texts = 4 * 90 * 20
    for bound in (10.0, 100.0):
        assert sum(value >= math.log(bound) for value in against) <= 3 * texts / bound
