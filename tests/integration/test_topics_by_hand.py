"""Topics deleted, cut or rewound by hand, and workers of two releases: each row is there once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer

from tests.integration.pipeline import ROOT, Pipeline
from tests.kafka_tools import recreate, reset_offsets, truncate
from tests.waiting import eventually

ROWS = 150


@pytest.fixture
def flow(make: Callable[..., Pipeline]) -> Pipeline:
    flow = make(AUGMENT_VARIANTS="0", LABEL_VERSION="v1")
    flow.create()
    return flow


def insert(flow: Pipeline, first: int, count: int) -> None:
    client = flow.clickhouse()
    now = datetime.now(UTC)
    client.insert(
        "logs",
        [[n, f"не могу оплатить заказ {flow.prefix} номер {n}", now] for n in range(first, first + count)],
        column_names=["id", "query_text", "created_at"],
        database=flow.database,
    )
    client.close()


def stored(flow: Pipeline, table: str = "logs_labeled") -> Counter[str]:
    return Counter(row[0] for row in flow.rows(f"SELECT row_id FROM {flow.database}.{table}"))


def every(count: int) -> Counter[str]:
    return Counter({str(n): 1 for n in range(1, count + 1)})


async def test_groups_that_are_rewound_by_hand_store_and_label_nothing_again(flow: Pipeline) -> None:
    insert(flow, 1, ROWS)
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(ROWS, "all stored")
    flow.stop()
    for role in ("agents", "sink"):
        await reset_offsets(flow.kafka, f"{flow.prefix}-{role}")
    insert(flow, ROWS + 1, 10)
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(ROWS + 10, "the new rows stored")
    flow.stop()
    assert stored(flow) == stored(flow, "logs_augmented") == every(ROWS + 10)
    for topic in ("labeled", "augmented"):
        assert Counter(message.key.decode() for message in await flow.topic(topic)) == every(ROWS + 10)


@pytest.mark.parametrize("running", [True, False])
async def test_label_topics_that_are_made_anew_lose_and_double_nothing(flow: Pipeline, running: bool) -> None:
    insert(flow, 1, ROWS)
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(ROWS, "all stored")
    if not running:
        flow.stop()
    await recreate(flow.kafka, f"{flow.prefix}.augmented")
    if not running:
        flow.start("poller", "agents", "sink")
    # A worker that was running ends at a topic that is made anew, and its supervisor starts it again.
    flow.start("agents")
    insert(flow, ROWS + 1, 20)
    flow.wait_for_variants(ROWS + 20, "the new rows stored")
    assert stored(flow) == stored(flow, "logs_augmented") == every(ROWS + 20)


async def test_a_rows_topic_that_is_made_anew_labels_nothing_again(flow: Pipeline) -> None:
    """With the topic Kafka deletes what the group had committed of it, and of it alone."""
    insert(flow, 1, ROWS)
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(ROWS, "all stored")
    flow.stop()
    await recreate(flow.kafka, f"{flow.prefix}.rows")
    insert(flow, ROWS + 1, 20)
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(ROWS + 20, "the new rows stored")
    # The poller cannot know that anybody had read the old topic: its window is on the new one too.
    assert Counter(message.key.decode() for message in await flow.topic("rows")) == every(ROWS + 20)
    for topic in ("labeled", "augmented"):
        assert Counter(message.key.decode() for message in await flow.topic(topic)) == every(ROWS + 20)
    assert stored(flow) == stored(flow, "logs_augmented") == every(ROWS + 20)


async def test_what_retention_took_of_a_topic_is_labelled_and_stored_again(flow: Pipeline) -> None:
    insert(flow, 1, ROWS)
    flow.start("poller", "agents")
    flow.wait(lambda: "partitions_assigned" in flow.log("agents"), "the worker")

    seen: list[Any] = []

    async def labelled() -> bool:
        seen[:] = await flow.topic("augmented")
        return len(seen) >= ROWS

    # Slowly: a look is a consumer that reads all of the topic.
    await eventually(labelled, "all labelled", measure=lambda: len(seen), pause=0.5)
    before = dict.fromkeys(range(4), 5)
    await truncate(flow.kafka, f"{flow.prefix}.labeled", before)
    left = Counter(message.key.decode() for message in await flow.topic("labeled"))
    assert len(left) == ROWS - 20
    flow.start("sink")
    insert(flow, ROWS + 1, 10)
    flow.wait_for_variants(ROWS + 10, "all of it stored")
    assert "messages_lost" in flow.log("sink")
    flow.wait(lambda: "lost_rows_found" in flow.log("poller"), "the loss closed")
    assert stored(flow) == stored(flow, "logs_augmented") == every(ROWS + 10)


async def test_workers_of_two_versions_give_each_row_one_live_label(flow: Pipeline, tmp_path: Path) -> None:
    taxonomy = yaml.safe_load((ROOT / "taxonomy.yaml").read_text("utf-8"))
    taxonomy["domains"][0]["title"] += " (2)"
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(taxonomy, allow_unicode=True), "utf-8")
    insert(flow, 1, ROWS)
    flow.start("poller", "agents", "sink")
    flow.wait(lambda: len(stored(flow)) > 50, "the old worker at work")
    # LABEL_VERSION was left as it is.
    (new,) = flow.start("agents", TAXONOMY_PATH=str(tmp_path / "changed.yaml"))
    insert(flow, ROWS + 1, ROWS)
    flow.wait(lambda: flow.log("agents").count("partitions_assigned") >= 3, "both at work")
    insert(flow, 2 * ROWS + 1, ROWS)
    flow.wait(lambda: len(stored(flow)) == 3 * ROWS, "all stored")
    assert new.poll() is None
    flow.stop()
    assert stored(flow) == every(3 * ROWS)
    versions = Counter(
        row[0] for row in flow.rows(f"SELECT toString(label_version) FROM {flow.database}.logs_labeled")
    )
    assert len(versions) == 2
    assert max(versions).startswith("v1.")
    assert "label_version_renamed" in flow.log("agents")
    current = flow.rows(f"SELECT row_id FROM {flow.database}.logs_labeled_current")
    assert Counter(row[0] for row in current) == every(3 * ROWS)


async def test_an_old_reader_takes_messages_with_fields_that_came_later(flow: Pipeline) -> None:
    flow.start("agents", "sink")
    producer = AIOKafkaProducer(bootstrap_servers=flow.kafka)
    await producer.start()
    await producer.send_and_wait(
        f"{flow.prefix}.rows",
        b'{"row_id": "1", "text": "where is it", "created_at": "2026-01-01T00:00:00Z", '
        b'"polled_at": "2026-01-01T00:00:01Z", "language": "en", "score": {"of": 1}}',
        key=b"1",
        partition=0,
        headers=[("message-type", b"row"), ("schema-version", b"1.9"), ("later", b"yes")],
    )
    await producer.stop()
    flow.wait(lambda: stored(flow, "logs_augmented") == every(1), "the row stored")
    assert flow.count("dead_letters") == 0
