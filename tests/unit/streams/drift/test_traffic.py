"""What is counted of a time."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest

from connectors.clickhouse.queries.watching.drift_counts import LabelCount
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.drift import traffic
from streams.drift.checkpoint import TrafficState
from streams.drift.counts import Counts
from streams.drift.traffic import TrafficDrift


def watching(published: int | None = None) -> TrafficDrift:
    nothing = cast(Any, None)
    return TrafficDrift(
        Settings(),
        Topics("esk"),
        sender=nothing,
        lease=nothing,
        tail=nothing,
        in_flight=nothing,
        published=lambda: published,
        generation=1,
    )


@pytest.mark.parametrize(("by_proxy", "means"), [(0, {"confidence": (10.0, 9.0, 8.1)}), (1, {})])
async def test_confidence_is_counted_where_the_model_alone_labels(
    monkeypatch: pytest.MonkeyPatch, by_proxy: int, means: dict[str, Any]
) -> None:
    drift = watching()

    async def labels(*_: Any) -> list[LabelCount]:
        return [LabelCount("cards", 10, 10, 9.0, 8.1, by_proxy), LabelCount("loans", 5, 0, 0.0, 0.0)]

    async def texts(*_: Any) -> list[tuple[str, int]]:
        return []

    async def send(*_: Any) -> None:
        pass

    monkeypatch.setattr(traffic, "count_labels", labels)
    monkeypatch.setattr(traffic, "sample_texts", texts)
    monkeypatch.setattr(drift, "_send", send)
    counts = await drift._counts(cast(Any, None), Settings(), "v1", 1_772_409_600, 3600)
    assert (counts.labels, counts.means) == ({"cards": 10, "loans": 5}, means)


NOON = 1_772_409_600 + 12 * 3600
QUARTER = NOON // 900


class _Client:
    @classmethod
    def from_settings(cls, _: Settings) -> _Client:
        return cls()

    async def __aenter__(self) -> _Client:
        return self

    async def __aexit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("stored", "late", "lacking", "counted"),
    [
        (959, 0.0, 0, []),
        (960, 0.0, 0, [0]),
        (960, 300.0, 0, []),  # of some rows the clock is five minutes slow
        (1200, 300.0, 0, [0]),
        (2760, 0.0, 0, [0, 1, 2]),
        (2760, 0.0, 1800, [2]),  # rows of the first two are lacking
        (2760, 0.0, 1000, [2]),  # of the second one, those of its beginning
        (99_999, 0.0, 0, [0, 1, 2]),  # there are no labels from then on
    ],
)
async def test_a_quarter_is_counted_when_all_of_it_is_stored(
    monkeypatch: pytest.MonkeyPatch, stored: int, late: float, lacking: int, counted: list[int]
) -> None:
    """``stored``, ``lacking``: seconds after noon. ``counted``: quarters after noon."""
    drift, found = watching(published=1), []
    drift._loaded = True
    drift.state = TrafficState(version="v1", quarter=QUARTER - 1)

    async def look(published: int) -> None:
        drift._stored.until = (NOON + stored) * 1_000_000
        drift._stored.lacking = (NOON + lacking) * 1_000_000

    async def span(*_: Any) -> tuple[int, int]:
        return NOON * 1_000_000, (NOON + 2800) * 1_000_000

    async def counts(client: Any, settings: Settings, version: str, begin: int, seconds: int) -> Counts:
        found.append((begin - NOON) // 900)
        return Counts()

    async def answer(value: Any, *_: Any) -> Any:
        return value

    monkeypatch.setattr(drift._stored, "look", look)
    monkeypatch.setattr(traffic, "ClickHouseClient", _Client)
    monkeypatch.setattr(traffic, "labelled_span", span)
    monkeypatch.setattr(traffic, "lateness", partial(answer, late))
    monkeypatch.setattr(drift, "_version", partial(answer, "v1"))
    monkeypatch.setattr(drift, "_look_at_accuracy", partial(answer, None))
    monkeypatch.setattr(drift, "_counts", counts)
    monkeypatch.setattr(drift, "_send", partial(answer, None))
    await drift.step(NOON + 99_999.0)
    assert found == counted
    assert drift.state.quarter == QUARTER - 1 + (max(counted) + 1 if counted else 0)


async def test_nothing_is_compared_before_the_poller_has_read_anything() -> None:
    drift = watching()
    drift._loaded = True
    await drift.step()
    assert drift.state is None
