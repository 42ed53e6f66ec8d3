"""Evidence that is looked at after every row: how often it errs, and how soon it is enough."""

from __future__ import annotations

import random

from streams.quality.evidence import (
    FEWEST_FAILURES,
    LIMIT,
    fails_too_often,
    failure_evidence,
    loss_evidence,
)

SEEDS, ROWS = 200, 1_500


def stopped_after(seed: int, *, loss: float, differ: float) -> int | None:
    """After how many rows a canary is stopped that loses so much; None if never."""
    rng = random.Random(seed)
    won = lost = 0
    for row in range(1, ROWS + 1):
        drawn = rng.random()
        if drawn >= differ:
            continue  # both are right or both wrong, which is no evidence
        lost, won = (lost + 1, won) if drawn < (differ + loss) / 2 else (lost, won + 1)
        if evidence(won, lost) >= LIMIT:
            return row
    return None


KNOWN: dict[tuple[int, int], float] = {}


def evidence(won: int, lost: int) -> float:
    if (won, lost) not in KNOWN:
        KNOWN[won, lost] = loss_evidence([(1, 1.0)] * won + [(-1, 1.0)] * lost)
    return KNOWN[won, lost]


def test_an_equal_version_is_stopped_at_most_once_in_twenty() -> None:
    stopped = [stopped_after(seed, loss=0.0, differ=0.2) for seed in range(SEEDS)]
    assert sum(one is not None for one in stopped) <= SEEDS / 20


def test_a_loss_of_five_points_stops_within_1500_rows() -> None:
    stopped = [stopped_after(seed, loss=0.05, differ=0.1) for seed in range(SEEDS)]
    found = sorted(one for one in stopped if one is not None)
    assert len(found) >= 0.99 * SEEDS
    assert found[SEEDS // 2] < 400
    hard = [stopped_after(seed, loss=0.05, differ=0.2) for seed in range(SEEDS)]
    assert sum(one is not None for one in hard) >= 0.9 * SEEDS


def test_only_the_proportion_of_weights_counts() -> None:
    rows = [(-1, 1.0)] * 12 + [(1, 1.0)] * 3 + [(0, 1.0)] * 85
    assert loss_evidence(rows) == loss_evidence([(won, 50.0) for won, _ in reversed(rows)])
    assert loss_evidence([]) == 1.0
    assert loss_evidence([(0, 1.0)] * 1000) == 1.0
    # A rare label that was drawn ten times as often counts a tenth.
    rare = [(-1, 1.0)] * 12 + [(1, 10.0)] * 12
    assert loss_evidence(rare) < 1.0 < loss_evidence(rows)


def test_failures_stop_when_they_are_more_than_a_few() -> None:
    assert not fails_too_often(FEWEST_FAILURES - 1, 0)
    assert fails_too_often(FEWEST_FAILURES, 0)
    assert fails_too_often(30, 200)
    assert not fails_too_often(20, 1_000)
    assert not fails_too_often(200, 10_000)
    assert failure_evidence(0, 100_000) < 1.0


def test_evidence_stays_a_number() -> None:
    assert 0.0 <= loss_evidence([(1, 1.0)] * 100_000) < 1.0
    assert LIMIT < loss_evidence([(-1, 1.0)] * 100_000) < float("inf")
