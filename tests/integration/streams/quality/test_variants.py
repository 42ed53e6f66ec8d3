"""Variants are labelled by the labelling model, and those that change their row's label are rejected."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.watching.verified_variants import verified_variants
from connectors.llm.standin.words import reword, scorer_from
from streams.core.settings import Settings
from streams.quality.kept_labels import kept_labels
from tests.integration.conftest import make, stack
from tests.integration.pipeline import ROOT, Pipeline

__all__ = ["make", "stack"]

# The stand-in labels the second variant of each otherwise, for how it begins.
TEXTS = ("позовите живого человека", "мастер пришел пьяный", "инет лагает жесть")


@pytest.fixture
def running(make: Callable[..., Pipeline]) -> Pipeline:
    flow = make(AUGMENT_VERIFY="1.0", POLL_INTERVAL_SECONDS="0.2")
    flow.create()
    client = flow.clickhouse()
    client.command(
        f"INSERT INTO {flow.database}.logs "
        f"SELECT number, {list(TEXTS)!r}[number % 3 + 1], now() FROM numbers(30)"
    )
    client.close()
    flow.start("poller", "agents", "sink")
    flow.wait_for_variants(30, "30 rows stored")
    return flow


async def test_only_variants_with_the_label_of_their_row_are_published(running: Pipeline) -> None:
    scorer = scorer_from(ROOT / "taxonomy.yaml")

    def label(text: str) -> str:
        found = scorer.probabilities(text)
        return max(found, key=lambda name: found[name])

    calls = 0
    for message in map(json.loads, [one.value for one in await running.topic("augmented")]):
        changed = {one["text"] for one in message["rejected"] if one["reason"] == "label-changed"}
        right = {text for text in reword(message["text"], 3) if label(text) == message["label"]}
        assert set(message["variants"]) == right - {one["text"] for one in message["rejected"]}
        assert changed
        assert all(label(text) != message["label"] for text in changed)
        calls += message["verify_calls"]
    assert calls <= 9  # three texts, whose answers are remembered
    assert len(await running.topic("labeled")) == 30
    verified = (
        f"SELECT count(verify_calls), countIf(has(rejected.reason, 'label-changed')) FROM {running.database}"
    )
    assert running.rows(f"{verified}.logs_augmented") == [(30, 30)]
    settings = Settings(
        clickhouse_host="127.0.0.1",
        clickhouse_port=running.clickhouse_port,
        clickhouse_database=running.database,
    )
    async with ClickHouseClient.from_settings(settings) as client:
        told = kept_labels(*await verified_variants(client, settings))
    assert (told["rows"], told["verified"], told["calls"]) == (30, 30, calls)
    assert told["rejected"] >= 30
