"""A part that is not there at the start is waited for, said once by its setting's name, and then used."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.pipeline import Door, Pipeline

HOSTILE = Path(__file__).resolve().parents[1] / "data" / "hostile_queries.csv"


@pytest.fixture
def doors(make: Callable[..., Pipeline]) -> Iterator[tuple[Pipeline, dict[str, Door]]]:
    flow = make()
    host, port = flow.llm.removeprefix("http://").removesuffix("/v1").split(":")
    found = {
        "kafka": Door(flow.kafka),
        "clickhouse": Door(f"127.0.0.1:{flow.clickhouse_port}"),
        "llm": Door(f"{host}:{port}"),
    }
    yield flow, found
    for door in found.values():
        door.close()


def fill(flow: Pipeline, rows: int) -> None:
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE IF NOT EXISTS {flow.database}")
    client.command(
        f"CREATE TABLE IF NOT EXISTS {flow.database}.logs (id UInt64, query_text String, "
        "created_at DateTime, user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
    )
    values = [[at, f"не приходит код {at}", datetime.now(UTC), None] for at in range(rows)]
    names = ["id", "query_text", "created_at", "user_id"]
    client.insert("logs", values, column_names=names, database=flow.database)
    client.close()


def test_each_role_waits_and_says_so_once(doors: tuple[Pipeline, dict[str, Door]]) -> None:
    flow, door = doors
    fill(flow, 20)
    assert flow.command("init").returncode == 0
    flow.start(
        "poller",
        "agents",
        "sink",
        KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{door['kafka'].port}",
        CLICKHOUSE_PORT=str(door["clickhouse"].port),
        LLM_LABELER_API_BASE=f"http://127.0.0.1:{door['llm'].port}/v1",
        LLM_AUGMENTER_API_BASE=f"http://127.0.0.1:{door['llm'].port}/v1",
    )
    roles = ("poller", "agents", "sink")

    def said(role: str, setting: str) -> int:
        lines = flow.log(role).splitlines()
        return sum(1 for line in lines if "waiting for" in line and f"setting={setting}" in line)

    flow.wait(lambda: all(said(role, "KAFKA_BOOTSTRAP_SERVERS") for role in roles), "all wait for Kafka")
    door["kafka"].open()
    flow.wait(
        lambda: all(said(role, "CLICKHOUSE_HOST") for role in ("poller", "sink")), "two wait for ClickHouse"
    )
    flow.wait(lambda: bool(said("agents", "LLM_LABELER_API_BASE")), "the agents wait for the model")
    door["clickhouse"].open()
    door["llm"].open()
    flow.wait_for_variants(20, "20 rows stored")
    for role in roles:
        assert said(role, "KAFKA_BOOTSTRAP_SERVERS") == 1, flow.log(role)
    assert said("poller", "CLICKHOUSE_HOST") == said("sink", "CLICKHOUSE_HOST") == 1
    assert said("agents", "LLM_LABELER_API_BASE") == 1


def test_parts_that_go_away_in_the_middle_cost_nothing(doors: tuple[Pipeline, dict[str, Door]]) -> None:
    flow, _ = doors
    fill(flow, 5)
    flow.start("poller", "agents", "sink")
    flow.wait(
        lambda: all("labelstream init" in flow.log(role) for role in ("poller", "agents", "sink")),
        "each role names the command that makes the topics",
    )
    assert flow.command("init").returncode == 0
    flow.wait_for_variants(5, "5 rows stored after init")


async def test_hostile_inputs_go_through_and_no_process_dies(make: Callable[..., Pipeline]) -> None:
    flow = make()
    with HOSTILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, created_at DateTime) "
        "ENGINE = MergeTree ORDER BY id"
    )
    now = datetime.now(UTC)
    values = [[int(row["id"]), row["query_text"], now] for row in rows]
    client.insert("logs", values, column_names=["id", "query_text", "created_at"], database=flow.database)
    client.close()
    assert flow.command("init").returncode == 0
    processes = flow.start("poller", "agents", "sink")
    kept = {
        row["id"]
        for row in rows
        if len(row["query_text"].encode()) > 3 and row["kind"] not in ("empty", "short")
    }
    done = " UNION ALL ".join(
        f"SELECT row_id FROM {flow.database}.{table}" for table in ("logs_augmented", "dead_letters")
    )
    flow.wait(lambda: {row_id for (row_id,) in flow.rows(done)} >= kept, "every row that is kept is done")
    assert all(process.poll() is None for process in processes), flow.explain()
    flow.stop()
    labelled = {row_id for (row_id,) in flow.rows(f"SELECT row_id FROM {flow.database}.logs_labeled")}
    legitimate = ("emoji", "homoglyph", "rtl", "long", "pii", "numeric", "injection", "markup")
    for row in rows:
        if row["kind"] in legitimate and len(row["query_text"].encode()) > 3:
            assert row["id"] in labelled, f"{row}\n{flow.explain()}"
    assert flow.count("dead_letters") == 0, flow.rows(f"SELECT * FROM {flow.database}.dead_letters")
    assert "skipped:" in flow.log("poller")
