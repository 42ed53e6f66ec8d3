"""A shift of the labels, and another model behind the same name, on real tables, topics and stand-ins."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from agents.label import label_spec
from agents.taxonomy import load_taxonomy
from connectors.clickhouse.client.sql import literal
from connectors.clickhouse.queries.label_versions import register_version
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from connectors.llm.client import ChatClient
from connectors.llm.standin.server import Manner, StandIn
from connectors.llm.standin.taught import Taught
from connectors.llm.standin.words import scorer_from
from streams.api.quality import QualityBoard
from streams.core.errors import RefusedError
from streams.core.topics import Topics
from streams.drift.asking import EndpointDrift
from streams.drift.checkpoint import KnownDrift
from streams.drift.endpoint import FIRST_ROUNDS
from streams.drift.traffic import TrafficDrift
from streams.jobs.in_flight_rows import InFlightReader
from streams.operations.status import status
from streams.runtime.result_tables import ResultTables
from streams.versions.registry import read_versions
from tests.integration.connectors.clickhouse.engine import Database
from tests.stack import TAXONOMY, SharedStack, fresh_name
from tests.thread_server import ThreadServer
from tests.unit.connectors.clickhouse.sink.fakes import FakeLease

MONDAY = 1_772_409_600  # 2026-03-02T00:00Z
HOURS = 75  # to Thursday morning
QUERIES = Path(__file__).resolve().parents[4] / "connectors" / "local" / "data" / "queries.csv"


@pytest.fixture
async def database(tables: Database, shared: SharedStack) -> Database:
    client, found = tables
    broker = shared.kafka().address
    assert broker
    kafka = {"kafka_bootstrap_servers": broker, "topic_prefix": fresh_name("drift")}
    settings = found.model_copy(update={**kafka, "topic_partitions": 1})
    await Admin(connection(settings)).create_topics(settings)
    await register_version(client, settings, version="v1", model="m")
    return client, settings


@pytest.fixture
async def sender(database: Database) -> AsyncIterator[LeasedProducer]:
    producer = LeasedProducer(connection(database[1]))
    yield producer
    await producer.stop()


class _Serving(ThreadServer):
    """A stand-in for a model."""

    def __init__(self, standin: StandIn) -> None:
        super().__init__()
        self._standin = standin

    async def make_runner(self) -> web.BaseRunner[Any]:
        return web.ServerRunner(web.Server(self._standin.handle, access_log=None))


def queries() -> list[str]:
    with QUERIES.open(encoding="utf-8") as file:
        return [line["query_text"] for line in csv.DictReader(file)]


async def label(database: Database, begin: int, end: int, cards: float) -> None:
    """A row each four seconds from hour ``begin`` to before ``end``; a share ``cards`` is about cards."""
    client, settings = database
    texts = ", ".join(literal(text) for text in queries())
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled\n"
        "    (row_id, text, created_at, label, label_version, model, labeled_at, confidence)\n"
        f"WITH [{texts}] AS texts SELECT toString(number + {begin * 900}),\n"
        "    texts[cityHash64(number, 1) % length(texts) + 1],\n"
        f"    toDateTime64({MONDAY + begin * 3600} + number * 4, 6, 'UTC'),\n"
        f"    if(cityHash64(number, {begin}) % 1000 < {round(cards * 1000)}, 'cards', 'loans'), 'v1', 'm',\n"
        f"    now64(6), 0.9 FROM numbers({(end - begin) * 900})"
    )


async def judge(database: Database, right: int, wrong: int) -> None:
    """A person agrees with the labels of the first rows, and with none of those after."""
    client, settings = database
    table = f"{settings.result_database}.logs_labeled"
    await client.command(
        f"INSERT INTO {table} (row_id, text, created_at, label, label_version, model, labeled_at, drawn_by,\n"
        f"    draw_probability)\n"
        f"SELECT row_id, text, created_at, if(rowNumberInAllBlocks() < {right}, label, 'other'), 'human',\n"
        f"    'human:anna', now64(6), 'audit', 0.01 FROM (\n"
        f"    SELECT * FROM {table} WHERE label_version = 'v1' ORDER BY created_at LIMIT {right + wrong})"
    )


def watching(database: Database, sender: LeasedProducer) -> TrafficDrift:
    settings = database[1]
    tail, topics = TailReader(connection(settings)), Topics(settings.topic_prefix)
    return TrafficDrift(
        settings,
        topics,
        sender=sender,
        lease=FakeLease(),
        tail=tail,
        in_flight=InFlightReader(connection(settings), topics),
        published=lambda: time.time_ns() // 1000,
        generation=1,
    )


async def test_a_shift_is_on_the_page_in_the_metrics_and_in_the_status(
    database: Database, sender: LeasedProducer, tmp_path: Path
) -> None:
    settings = database[1].model_copy(update={"labelstream_data": tmp_path})
    await label(database, 0, HOURS, 0.1)
    first = watching(database, sender)
    await first.step()
    assert first.state is not None
    assert first.state.alarms == []
    assert first.state.judged >= 2

    # It goes on where another poller has ended, and does not read the days before again.
    await label(database, HOURS, HOURS + 6, 0.2)
    await judge(database, 260, 60)
    next_one = watching(database, sender)
    await next_one.step()
    state = next_one.state
    assert state is not None
    assert state.hours == first.state.hours + 6
    assert {"label:cards", "label:loans"} == {one.series for one in state.alarms}

    told = (await status(settings))["drift"]
    (cards,) = [one for one in told["alarms"] if one["series"] == "label:cards"]
    assert 0.15 < cards["found"] < 0.25
    assert 0.08 < cards["expected"] < 0.12
    board = QualityBoard(ResultTables(settings), {}, (await read_versions(settings)).drift)
    assert board.drift() == told
    shown = await board.drift_rows("label:cards")
    assert {one["label"] for one in shown} == {"cards"}
    assert len({one["text"] for one in shown}) == len(shown) == 10
    assert json.dumps(shown)  # for the page
    with pytest.raises(RefusedError, match="is not in alarm"):
        await board.drift_rows("label:nothing")
    assert told["accuracy"]["alarm"]
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in next_one.measure()
        for sample in metric.samples
    }
    assert values["labelstream_drift", "label", "cards"] == 1.0
    assert values["labelstream_drift", "accuracy", "accuracy"] == 1.0
    assert values["labelstream_drift_compared_timestamp_seconds",] == MONDAY + (HOURS + 6) * 3600 - 900


async def test_another_model_under_the_name_is_found_by_texts_that_are_asked_again(
    database: Database, sender: LeasedProducer, shared: SharedStack, tmp_path: Path
) -> None:
    settings = database[1]
    await label(database, 0, 1, 0.5)
    taxonomy = load_taxonomy(TAXONOMY)
    now, known, tables = [MONDAY + 7200.0], KnownDrift(), ResultTables(settings)

    async def asks(base: str | None, rounds: int) -> EndpointDrift:
        assert base
        found = settings.model_copy(update={"llm_labeler_api_base": base})
        client = ChatClient.from_settings(found, "labeler")
        spec = await label_spec(found, client, taxonomy, version="v1")
        topics = Topics(settings.topic_prefix)
        asker = EndpointDrift(
            topics,
            spec,
            client,
            tables,
            known,
            sender=sender,
            lease=FakeLease(),
            asks=lambda: True,
            clock=lambda: now[0],
        )
        try:
            for _ in range(rounds):
                await asker.step()
                now[0] += 3600
        finally:
            await client.close()
        return asker

    same = shared.standin().address
    first = await asks(same, 2)
    assert first.watch is not None
    assert (first.watch.since, first.watch.first) == (None, 1)
    # As if the rounds of the beginning were over: each asks a hundred texts.
    known.endpoints["v1"] = first.watch.model_copy(update={"first": FIRST_ROUNDS})
    # What stood for one of two domains stands for the other one.
    entries = yaml.safe_load(TAXONOMY.read_text(encoding="utf-8"))
    one, two = entries["domains"][0], entries["domains"][1]
    one["name"], two["name"] = two["name"], one["name"]
    names = {one["name"]: two["name"], two["name"]: one["name"]}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(entries, allow_unicode=True), encoding="utf-8")
    with QUERIES.open(encoding="utf-8") as file:
        taught = [
            (row["query_text"], names.get(row["domain"], row["domain"])) for row in csv.DictReader(file)
        ]
    standin = StandIn(scorer_from(other, Taught(taught)), Manner(prefill_seconds=0.0, token_seconds=0.0))
    with _Serving(standin) as server:
        swapped = await asks(server.url, 1)
    assert swapped.watch is not None
    assert swapped.watch.since is not None
    # Whoever asks next knows what this one knew.
    assert (await read_versions(settings)).drift.endpoints["v1"] == swapped.watch
    await tables.close()
