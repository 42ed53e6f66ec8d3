"""How many different texts a replay has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streams.core.settings import Settings
from streams.jobs import estimate as module
from streams.jobs.estimate import DistinctTexts, estimate
from streams.jobs.job import Job
from streams.jobs.sources import Item, Page


def test_few_texts_are_counted_exactly() -> None:
    texts = DistinctTexts()
    for number in range(3_000):
        texts.add(f"text {number % 1_000:04}", 9)
    assert (texts.count, texts.characters) == (1_000, 9)
    assert DistinctTexts().count == DistinctTexts().among(0) == DistinctTexts().characters == 0


def test_many_texts_are_counted_about_and_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 1_000)
    texts = DistinctTexts()
    for number in range(60_000):
        texts.add(f"text {number % 30_000:05}", 10)
    assert texts.count == pytest.approx(30_000, rel=0.1)
    assert texts.characters == 10
    assert len(texts._kept) == len(texts._largest) == 1_000


@pytest.mark.parametrize(("draw", "off"), [("zipf", 0.25), ("each another", 0.001), ("few", 0.05)])
def test_the_texts_of_all_rows_are_estimated_by_those_of_the_first(draw: str, off: float) -> None:
    chance, numbers = Random(1), count()
    texts, every = DistinctTexts(), set()
    for row in range(200_000):
        kinds = {"zipf": lambda: int(chance.paretovariate(0.8)), "each another": lambda: next(numbers)}
        text = str(kinds.get(draw, lambda: chance.randrange(50))())
        every.add(text)
        if row < 20_000:
            texts.add(text, len(text))
    assert texts.among(200_000) == pytest.approx(len(every), rel=off)
    assert texts.among(20_000) == texts.count


class Rows:
    """A source of ``there`` rows, of which every second is settled."""

    def __init__(self, there: int) -> None:
        self.there, self.given = there, 0

    async def count(self) -> int:
        return self.there

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        for first in range(0, self.there, 1_000):
            items = [Item(f"r{n}", b"", n, f"text {n}", 0, b"") for n in range(first, first + 500)]
            self.given += 1_000
            yield Page(items, None, settled=500)


async def estimated(
    monkeypatch: pytest.MonkeyPatch, rows: Rows, seconds: float, **wanted: Any
) -> dict[str, Any]:
    async def source(context: Any, job: Job) -> Rows:
        assert job.passes == 1
        return rows

    async def none(*_: Any) -> None: ...

    monkeypatch.setattr(module, "open_row_source", source)
    monkeypatch.setattr(module, "busiest_minute", none)
    context = cast(Any, SimpleNamespace(client=None, settings=Settings()))
    times = count()
    job = Job(source="table", passes=16, **wanted)
    return await estimate(context, job, None, clock=lambda: next(times) * seconds)


async def test_a_long_history_is_estimated_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(2_000_000)
    found = await estimated(monkeypatch, rows, 3.0)
    assert rows.given == found["looked_at"] == 10_000
    assert (found["rows"], found["settled"]) == (1_000_000, 1_000_000)
    assert found["distinct_texts"] == found["calls"] == pytest.approx(1_000_000, rel=0.01)


async def test_a_limit_bounds_what_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await estimated(monkeypatch, Rows(2_000_000), 3.0, limit=50_000)
    assert (found["rows"], found["settled"]) == (50_000, 50_000)


@pytest.mark.parametrize(("there", "seconds"), [(10_000, 3.0), (8_000, 3.0), (60_000, 0.0)])
async def test_what_is_short_or_quickly_read_is_counted(
    monkeypatch: pytest.MonkeyPatch, there: int, seconds: float
) -> None:
    found = await estimated(monkeypatch, Rows(there), seconds)
    assert (found["looked_at"], found["rows"], found["settled"]) == (there, there // 2, there // 2)
