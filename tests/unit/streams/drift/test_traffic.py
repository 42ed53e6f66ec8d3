"""What is counted of a time."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connectors.clickhouse.queries.watching.drift_counts import LabelCount
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.drift import traffic
from streams.drift.traffic import TrafficDrift


@pytest.mark.parametrize(("by_proxy", "means"), [(0, {"confidence": (10.0, 9.0, 8.1)}), (1, {})])
async def test_confidence_is_counted_where_the_model_alone_labels(
    monkeypatch: pytest.MonkeyPatch, by_proxy: int, means: dict[str, Any]
) -> None:
    nothing = cast(Any, None)
    drift = TrafficDrift(Settings(), Topics("esk"), sender=nothing, lease=nothing, tail=nothing, generation=1)

    async def labels(*_: Any) -> list[LabelCount]:
        return [LabelCount("cards", 10, 10, 9.0, 8.1, by_proxy), LabelCount("loans", 5, 0, 0.0, 0.0)]

    async def texts(*_: Any) -> list[tuple[str, int]]:
        return []

    async def send(*_: Any) -> None:
        pass

    monkeypatch.setattr(traffic, "count_labels", labels)
    monkeypatch.setattr(traffic, "sample_texts", texts)
    monkeypatch.setattr(drift, "_send", send)
    counts = await drift._counts(nothing, Settings(), "v1", 1_772_409_600, 3600)
    assert (counts.labels, counts.means) == ({"cards": 10, "loans": 5}, means)
