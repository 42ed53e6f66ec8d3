"""Another model behind the same name is told from an endpoint that differs from itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from streams.drift.endpoint import FIRST_ROUNDS, TEXTS, AskedText, EndpointWatch, Round

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
ALL = np.arange(TEXTS)


def new_watch() -> EndpointWatch:
    texts = [AskedText(row_id=str(number), created_at=BEGIN, label="a") for number in range(TEXTS)]
    return EndpointWatch(version="v1", texts=texts)


def after(watch: EndpointWatch, rounds: list[list[int]], hour: int = 0) -> EndpointWatch:
    for number, differed in enumerate(rounds):
        watch = watch.add(Round(at=BEGIN + timedelta(hours=hour + number), differed=differed))
    return watch


def noisy(random: np.random.Generator, shares: np.ndarray) -> list[int]:
    return [int(number) for number in np.flatnonzero(random.random(TEXTS) < shares)]


def test_a_model_that_answers_a_tenth_otherwise_is_found_in_the_first_round() -> None:
    quiet = after(new_watch(), [[]] * (FIRST_ROUNDS + 3))
    assert quiet.since is None
    assert not quiet.learning
    swapped = after(quiet, [list(range(10))], hour=20)
    assert swapped.since == BEGIN + timedelta(hours=20)
    # The alarm stays for as long as the answers are others, and keeps its beginning.
    later = after(swapped, [list(range(10))] * 40, hour=21)
    assert later.since == swapped.since
    # The former model is back.
    assert after(later, [[]], hour=90).since is None


@pytest.mark.parametrize("shares", [np.where(ALL < 10, 0.5, 0.0), np.full(TEXTS, 0.05)], ids=["some", "all"])
def test_noise_is_no_other_model_and_hides_none(shares: np.ndarray) -> None:
    random = np.random.default_rng(1)
    watch = new_watch()
    for hour in range(300):
        watch = after(watch, [noisy(random, shares)], hour)
        assert watch.since is None
    moved = set(range(40, 50))
    watch = after(watch, [sorted(moved | set(noisy(random, shares))) for _ in range(2)], 300)
    assert watch.since is not None


def test_texts_that_are_gone_count_for_nothing_and_a_round_of_few_is_none() -> None:
    watch = after(new_watch(), [[]] * (FIRST_ROUNDS + 1))
    few = watch.add(Round(at=BEGIN, differed=[1, 2, 3], missing=list(range(10, TEXTS))))
    assert few == watch
    gone = watch.add(Round(at=BEGIN, differed=[], missing=list(range(50))))
    assert gone.since is None
    assert len(gone.rounds) == 2


def test_it_is_read_as_it_was_written_and_stays_small() -> None:
    watch = after(new_watch(), [[1]] * 500)
    assert EndpointWatch.model_validate_json(watch.model_dump_json()) == watch
    assert len(watch.model_dump_json()) < 20_000
