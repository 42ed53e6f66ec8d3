"""The overview's figures of the roles, from their metrics."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from streams.api.overview_probes import RoleProbe
from streams.observability.collectors import waits_metric
from streams.ports.kafka import WaitsFor


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
