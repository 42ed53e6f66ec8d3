"""The rows that are shown for an alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from connectors.clickhouse.queries.watching.newest_rows import LabelledText
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.drift import examples
from streams.drift.examples import example_rows
from streams.drift.watch import DriftFinding

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def row(
    number: int, text: str, label: str = "cards", sure: float | None = 0.9, days: float = 0.1
) -> LabelledText:
    return LabelledText(str(number), AT - timedelta(days=days), text, label, sure)


def alarm(series: str, found: float = 2.0, expected: float = 1.0) -> DriftFinding:
    return DriftFinding(
        series=series, window="1 h", found=found, expected=expected, chance=1e-9, since=AT, at=AT
    )


async def shown(
    monkeypatch: pytest.MonkeyPatch, finding: DriftFinding, rows: list[LabelledText]
) -> list[str]:
    async def newest(
        client: Any,
        settings: Settings,
        version: str,
        begin: int,
        end: int,
        most: int,
        *,
        label: str | None = None,
    ) -> list[LabelledText]:
        return [
            one for one in rows if begin <= micros_of(one.created_at) < end and label in (None, one.label)
        ][:most]

    monkeypatch.setattr(examples, "newest_rows", newest)
    found = await example_rows(cast(Any, None), Settings(), "v1", finding)
    return [one.row_id for one in found]


@pytest.mark.parametrize(
    ("series", "found", "expected", "first"),
    [
        ("label:loans", 2.0, 1.0, ["3"]),
        ("label:gone", 0.0, 1.0, []),
        ("script:latin", 0.5, 0.1, ["2"]),
        ("confidence", 0.5, 0.9, ["2", "1", "3"]),  # the least sure; one without confidence says nothing
        ("confidence", 0.9, 0.5, ["3", "1", "2"]),
        ("length", 2.0, 1.0, ["4", "3", "1", "2"]),
        ("length", 1.0, 2.0, ["2", "1", "3", "4"]),
        ("unknown", 0.5, 0.1, ["2", "4"]),
    ],
)
async def test_they_are_those_that_show_it_best(
    series: str, found: float, expected: float, first: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        row(1, "где моя карта", sure=0.5),
        row(2, "hello", sure=0.1),
        row(3, "когда платить по кредиту", "loans", sure=0.99),
        row(4, "верните деньги за сломанный телефон", "other", sure=None),
        row(5, "где моя карта", days=3),
        row(6, "когда платить по кредиту", "loans", days=4),
        row(7, "hello", days=40),  # too long ago to be usual
    ]
    assert (await shown(monkeypatch, alarm(series, found, expected), rows))[: len(first)] == first


async def test_equal_texts_are_shown_once_and_ten_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(number, f"текст {number // 3}") for number in range(90)]
    assert await shown(monkeypatch, alarm("label:cards"), rows) == [str(3 * one) for one in range(10)]
