"""What is told of a version's quality."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from streams.quality.estimates import Judged, accuracy
from streams.quality.report import By, GoldLine, report

AT = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday


def test_drawn_rows_count_by_their_probability_and_others_only_in_the_confusions() -> None:
    found = report(
        [
            GoldLine("a", "a", 0.9, 0.01),
            GoldLine("a", "b", 0.8, 0.01),
            GoldLine("b", "b", 0.9, 0.5),
            GoldLine("a", "b", 0.1),
            GoldLine("a", "b", 0.1),
            GoldLine("b", None, None, 0.01),
            GoldLine(None, "b", 0.7, 0.01),
        ]
    )
    assert (found["gold"], found["drawn"], found["labeled"], found["right"]) == (7, 5, 6, 2)
    assert found["biased"] is False
    assert found["accuracy"] == pytest.approx((100 + 2) / (300 + 2))
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert found["confusion"] == {"a": {"b": 3, "a": 1}, "b": {"b": 1}, "no-label": {"b": 1}}
    a, b = found["labels"]
    assert (a["label"], a["support"], a["given"], a["right"], a["recall"]) == ("a", 2, 1, 1, 0.5)
    assert b["precision"] == pytest.approx(2 / 202)
    assert found["brier"] == pytest.approx((100 * 0.01 + 100 * 0.64 + 2 * 0.01 + 100 * 0.49) / 302)
    assert found["coverage"][-1]["threshold"] == 0.7
    orjson.dumps(found)


def test_rows_that_were_not_drawn_are_biased() -> None:
    found = report([GoldLine("a", "a"), GoldLine("a", "b"), GoldLine("c", None)])
    assert (found["biased"], found["accuracy"], found["drawn"]) == (True, 0.5, 0)
    assert (found["ece"], found["coverage"], found["least"]) == (None, [], None)


def test_no_rows_say_nothing() -> None:
    found = report([], by="week")
    assert (found["gold"], found["accuracy"], found["biased"], found["groups"]) == (0, None, False, [])
    assert (found["accuracy_low"], found["macro_f1"], found["more"], found["labels"]) == (
        None,
        None,
        None,
        [],
    )
    assert report([GoldLine("a", None, None, 0.1)])["accuracy"] is None


def test_more_rows_are_told_until_the_interval_is_narrow() -> None:
    few = report([GoldLine("a", "a" if number % 10 else "b", None, 0.1) for number in range(100)])
    assert few["more"] == pytest.approx(900 * 0.09 / 0.09 - 100, abs=80)
    many = report([GoldLine("a", "a" if number % 10 else "b", None, 0.1) for number in range(1_000)])
    assert many["more"] == 0


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("week", {"2026-03-02": 3, "2026-03-09": 1, "unknown": 1}),
        ("domain", {"delivery": 2, "payment": 1, "unknown": 2}),
        ("length", {"1-20": 2, "101-200": 1, "201+": 1, "unknown": 1}),
    ],
)
def test_groups(by: By, names: dict[str, int]) -> None:
    found = report(
        [
            GoldLine("a", "a", None, 0.1, AT, "delivery", 201),
            GoldLine("a", "b", None, 0.1, AT.replace(day=2, hour=0), "delivery", 20),
            GoldLine("a", "a", None, None, AT.replace(day=8, hour=23), "payment", 1),
            GoldLine("a", "a", None, 0.1, AT.replace(day=9), None, 101),
            GoldLine("a", "a", None, 0.1),
        ],
        by=by,
    )
    assert found["by"] == by
    assert {one["name"]: one["gold"] for one in found["groups"]} == names
    assert [one["name"] for one in found["groups"]] == list(names)
    first = found["groups"][0]
    if by == "week":
        rows = [Judged("a", "a", 10.0), Judged("a", "b", 10.0)]  # the third was not drawn
        assert (first["drawn"], first["accuracy"]) == (2, 0.5)
        assert first["accuracy_low"] == accuracy(rows).low
