"""The overview's figures of the roles, from their metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from streams.api.overview_probes import LabelTicker, RoleProbe
from streams.observability.collectors import waits_metric
from streams.ports.kafka import WaitsFor
from streams.ports.label_feed import LiveLabel, LiveSlice


def metrics(*waits: WaitsFor) -> str:
    class Collector:
        def collect(self) -> list[object]:
            return [waits_metric(waits, {"esk.rows": "poll", "esk.labeled": "label"})]

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    return generate_latest(registry).decode()


def test_who_waits_for_which_reader_is_told_once(tmp_path: Path) -> None:
    rows = WaitsFor("esk.rows", "esk-agents", 5, "age")
    labels = WaitsFor("esk.labeled", "esk-sink", 7, "messages")
    probe = RoleProbe(tmp_path)
    found = probe._told([("poller", metrics(rows)), ("agents", metrics(labels)), ("agents", metrics(labels))])
    assert found["waits_for"] == [
        {"step": "label", "topic": "esk.labeled", "group": "esk-sink"},
        {"step": "poll", "topic": "esk.rows", "group": "esk-agents"},
    ]
    assert probe._told([("poller", metrics())])["waits_for"] == []


async def test_the_newest_labels_are_forgotten_when_something_is_erased() -> None:
    class Feed:
        async def follow(self, *_: Any) -> AsyncGenerator[LiveSlice]:
            yield LiveSlice((0,), [LiveLabel(0, 0, b'{"row_id":"1","text":"hers"}')])
            await asyncio.Event().wait()

    lists = [object(), object()]
    ticker = LabelTicker(Feed(), lambda: lists[0])
    running = asyncio.create_task(ticker.run())
    while not ticker.take():
        await asyncio.sleep(0)
    assert [one["text"] for one in ticker.kept] == ["hers"]
    del lists[0]
    assert ticker.take() == []
    assert not ticker.kept
    running.cancel()
