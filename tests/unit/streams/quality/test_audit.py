"""The draw of the audit: uniform, the same everywhere, with the right probabilities."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from connectors.clickhouse.queries.draw import Candidate
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.quality.audit import asks_second, combine, draw_number, salt_of, week_of

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
LAST_WEEK = MONDAY - timedelta(days=3)


def test_a_row_s_number_is_of_its_identity_and_the_deployment() -> None:
    here, there = salt_of(Settings()), salt_of(Settings(topic_prefix="other"))
    place = Place(datetime(2026, 1, 1, tzinfo=UTC), "42")
    # Changed only with the draw itself: rows that were asked about would be drawn anew.
    assert draw_number(here, place) == 0.25167497669220285
    assert draw_number(here, place) != draw_number(there, place)
    assert draw_number(here, place) != draw_number(here, place._replace(row_id="43"))
    assert draw_number(here, place) != draw_number(here, place._replace(created_at=MONDAY))
    numbers = [draw_number(here, Place(MONDAY, str(n))) for n in range(4000)]
    tenths = [sum(n / 10 <= one < (n + 1) / 10 for one in numbers) for n in range(10)]
    assert all(330 < count < 470 for count in tenths), tenths


def test_the_overlap_is_a_draw_of_its_own() -> None:
    settings = Settings(review_overlap=0.1)
    low = [
        place for n in range(20_000) if draw_number(salt_of(settings), place := Place(MONDAY, str(n))) < 0.1
    ]
    assert 0.08 < sum(asks_second(settings, place) for place in low) / len(low) < 0.12
    assert not asks_second(Settings(review_overlap=0.0), low[0])
    assert asks_second(Settings(review_overlap=1.0), low[0])


def test_weeks_begin_on_monday_in_utc() -> None:
    assert week_of(datetime(2026, 3, 8, 23, 59, tzinfo=UTC)) == MONDAY
    assert week_of(datetime.fromisoformat("2026-03-09T01:00:00+03:00")) == MONDAY


def row(number: int, draw: float, label: str = "a", at: datetime = LAST_WEEK) -> Candidate:
    return Candidate(Place(at, str(number)), draw, label)


def test_a_rare_label_s_rows_are_drawn_with_the_number_above_theirs() -> None:
    common = [row(1, 0.001), row(2, 0.004), row(3, 0.008)]
    rare = [row(4, 0.002, "b"), row(5, 0.3, "b")]
    found = combine(
        [*common, rare[0]],
        {"a": (common[:2], 0.008), "b": (rare, 0.6), "c": ([row(6, 0.9, "c")], 1.0)},
        share=0.01,
        each=2,
        monday=MONDAY,
    )
    # In the order in which people are asked, which is uniform for each drawn row.
    assert [(one.place.row_id, one.probability) for one in found] == [
        *[("4", 0.6), ("1", 0.01), ("2", 0.01), ("5", 0.6), ("3", 0.01), ("6", 1.0)]
    ]
    assert [round(one.order, 4) for one in found] == [0.0033, 0.1, 0.4, 0.5, 0.8, 0.9]


def test_in_the_present_week_only_rows_of_a_certain_probability_are_offered() -> None:
    drawn = [row(n, n / 1000, "a", MONDAY) for n in range(1, 4)] + [row(4, 0.004, "b", MONDAY)]

    def offered(share: float, each: int) -> list[str]:
        return [one.place.row_id for one in combine(drawn, {}, share=share, each=each, monday=MONDAY)]

    assert offered(0.01, 0) == ["1", "2", "3", "4"]
    # Of `a` there are more than two drawn rows: the third lowest number is below the share, and stays so.
    assert offered(0.01, 2) == ["1", "2", "3"]
    assert offered(0.01, 3) == []
    assert offered(1.0, 3) == ["1", "2", "3", "4"]


def test_weighted_by_probability_every_label_counts_as_often_as_it_is() -> None:
    chance = random.Random(7)
    counts, share, each = {"a": 600, "b": 60, "c": 12, "d": 3}, 0.05, 5
    sums: dict[str, float] = defaultdict(float)
    weeks = 200
    for _ in range(weeks):
        rows = [
            row(n, chance.random(), label)
            for n, label in enumerate(label for label, count in counts.items() for _ in range(count))
        ]
        rows.sort(key=lambda one: one.draw)
        by_label = {}
        for label in counts:
            some = [one for one in rows if one.label == label]
            by_label[label] = (some[:each], some[each].draw if len(some) > each else 1.0)
        drawn = [one for one in rows if one.draw < share]
        labels = {one.place: one.label for one in rows}
        for one in combine(drawn, by_label, share=share, each=each, monday=MONDAY):
            sums[labels[one.place]] += 1 / one.probability
    estimates = {label: sums[label] / weeks for label in counts}
    assert estimates == {
        "a": pytest.approx(600, rel=0.04),
        "b": pytest.approx(60, rel=0.08),
        "c": pytest.approx(12, rel=0.08),
        "d": 3,
    }
