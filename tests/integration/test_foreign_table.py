"""Rows that somebody else's program inserts into somebody else's table come out once, everywhere."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.integration.pipeline import Pipeline, keys, standin


async def test_shuffled_late_and_crowded_rows_appear_once_on_each_topic_and_table(
    make: Callable[..., Pipeline],
) -> None:
    flow = make(
        CLICKHOUSE_TABLE="events",
        CLICKHOUSE_TEXT_COLUMN="msg",
        CLICKHOUSE_TIMESTAMP_COLUMN="ts",
        CLICKHOUSE_USER_ID_COLUMN="uid",
        CLICKHOUSE_ID_COLUMN="no",
        CLICKHOUSE_SESSION_ID_COLUMN="none",
        CLICKHOUSE_DOMAIN_COLUMN="none",
        POLL_LOOKBACK_SECONDS="120",
        AUGMENT_VERIFY="0",
    )
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.events (no UInt64, msg Nullable(String), "
        "ts DateTime64(3, 'Europe/Moscow'), uid Nullable(UInt32)) ENGINE = MergeTree ORDER BY no"
    )
    chance = random.Random(7)
    now = datetime.now(UTC).replace(microsecond=0)
    usual = [now - timedelta(seconds=chance.uniform(60, 3000)) for _ in range(300)]
    crowded = [now - timedelta(seconds=20)] * 500
    numbers = list(range(1, 1001))
    chance.shuffle(numbers)  # ids that do not grow

    def insert(times: list[datetime], first: int) -> None:
        taken = numbers[first : first + len(times)]
        rows = [
            [no, f"вопрос номер {no % 150}", at, no % 9 or None] for no, at in zip(taken, times, strict=True)
        ]
        chance.shuffle(rows)
        client.insert("events", rows, column_names=["no", "msg", "ts", "uid"], database=flow.database)

    insert(usual + crowded, 0)
    before = standin(flow.llm)["calls"].get("label", 0)
    assert flow.command("init").returncode == 0
    flow.start("poller", "agents", "sink")
    flow.wait(lambda: flow.count("logs_labeled") == 800, "800 rows labelled")
    insert([now - timedelta(seconds=30 + at / 10) for at in range(200)], 800)  # late by half a minute
    flow.wait_for_variants(1000, "1,000 rows with variants")
    flow.stop()

    expected = Counter(str(no) for no in range(1, 1001))
    for isolation in ("read_uncommitted", "read_committed"):
        for topic in ("rows", "labeled", "augmented"):
            assert Counter(keys(await flow.topic(topic, isolation))) == expected, topic
    for table in ("logs_labeled", "logs_augmented", "logs_labeled_current"):
        found = Counter(row_id for (row_id,) in flow.rows(f"SELECT row_id FROM {flow.database}.{table}"))
        assert found == expected, table
    assert await flow.topic("dead-letter") == []
    assert standin(flow.llm)["calls"]["label"] - before == 150

    # A row keeps its time to the millisecond, in UTC, through Kafka and into the table.
    stored = dict(
        flow.rows(f"SELECT row_id, toUnixTimestamp64Milli(created_at) FROM {flow.database}.logs_labeled")
    )
    there = dict(flow.rows(f"SELECT toString(no), toUnixTimestamp64Milli(ts) FROM {flow.database}.events"))
    assert stored == there
    message = json.loads((await flow.topic("labeled"))[0].value)
    assert message["created_at"].endswith("Z")
    client.close()


async def test_without_an_id_equal_rows_are_told_apart(make: Callable[..., Pipeline]) -> None:
    flow = make(CLICKHOUSE_ID_COLUMN="none", CLICKHOUSE_SESSION_ID_COLUMN="none", AUGMENT_VARIANTS="0")
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (query_text String, domain Nullable(String), "
        "created_at DateTime, user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
    )
    now = datetime.now(UTC).replace(microsecond=0)
    rows = [["где мой заказ", "x", now, "u1"]] * 3 + [
        ["где мой заказ", "x", now, None],
        ["другой", "x", now, None],
    ]
    columns = ["query_text", "domain", "created_at", "user_id"]
    client.insert("logs", rows, column_names=columns, database=flow.database)
    assert flow.command("init").returncode == 0
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(5, "5 rows stored")
    # The same again, while the poller is another process: nothing of what is known comes twice.
    flow.stop()
    client.insert("logs", rows[:1], column_names=columns, database=flow.database)
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(6, "6 rows stored")
    flow.stop()
    messages = await flow.topic("labeled")
    assert len(messages) == 6
    assert len(set(keys(messages))) == 6
    client.close()
