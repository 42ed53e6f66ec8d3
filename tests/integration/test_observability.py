"""What a running pipeline says of itself: metrics, log lines, traces and `status`."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.observability.metrics import METRICS
from tests.integration.pipeline import Pipeline
from tests.waiting import PATIENCE

ROLES = ("poller", "agents", "sink")
# Of another role than those that run here, or told only by some endpoints.
ELSEWHERE = {
    "labelstream_role_restarts_total",
    "labelstream_api_requests_total",
    "labelstream_api_response_seconds",
    # Where masking is on.
    "labelstream_masked_entities_total",
    "labelstream_masked_texts_total",
    # Where traces are exported.
    "labelstream_spans_total",
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def create(flow: Pipeline) -> None:
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE IF NOT EXISTS {flow.database}")
    client.command(
        f"CREATE TABLE IF NOT EXISTS {flow.database}.logs (id UInt64, query_text String, "
        "created_at DateTime64(3), user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
    )
    client.close()


def insert(flow: Pipeline, first: int, count: int, text: str = "не приходит код") -> None:
    client = flow.clickhouse()
    values = [[at, f"{text} {at % 7}", datetime.now(UTC), None] for at in range(first, first + count)]
    names = ["id", "query_text", "created_at", "user_id"]
    client.insert("logs", values, column_names=names, database=flow.database)
    client.close()


def notes(flow: Pipeline) -> dict[str, str]:
    """The health address of each role, by its note."""
    found = [json.loads(note.read_text()) for note in (flow.folder / "data" / "run").glob("*.json")]
    return {one["role"]: one["url"] for one in found}


def families(url: str) -> list[Any]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def samples(url: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(url)
        for sample in family.samples
    }


@pytest.fixture
def running(make: Callable[..., Pipeline]) -> Pipeline:
    flow = make(LOG_FORMAT="json", POLL_INTERVAL_SECONDS="0.2", AUGMENT_VERIFY="0")
    create(flow)
    assert flow.command("init").returncode == 0
    insert(flow, 0, 40)
    flow.start(*ROLES)
    flow.wait_for_variants(40, "40 rows stored")
    return flow


async def test_a_running_pipeline_says_what_it_does(running: Pipeline) -> None:
    flow = running
    urls = notes(flow)
    assert set(urls) == set(ROLES)

    # Every metric that is served is declared, with its kind and labels, and the other way round.
    declared = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    served: set[str] = set()
    for url in urls.values():
        for family in families(url):
            if not family.name.startswith("labelstream_"):
                continue
            served.add(family.name)
            assert family.type == declared[family.name].kind
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(declared[family.name].labels)
    names = set(declared) - {name.removesuffix("_total") for name in ELSEWHERE}
    # Parts that are not at work, or know nothing yet.
    idle = ("canary_", "cascade_", "drift", "model_", "trainer_", "new_group")
    known = {name for name in names if not name.removeprefix("labelstream_").startswith(idle)}
    assert known <= served <= names

    agents = samples(urls["agents"])
    assert agents["labelstream_messages_total", (("outcome", "done"), ("step", "label"))] == 40
    assert agents["labelstream_stage_latency_seconds_count", (("stage", "labeled_to_augmented"),)] == 40
    calls = agents["labelstream_llm_calls_total", (("endpoint", "labeler"),)]
    assert agents["labelstream_answer_cache_requests_total", (("result", "miss"), ("step", "label"))] == 7
    assert agents["labelstream_llm_calls_saved_total", (("step", "label"),)] == 33
    assert agents["labelstream_llm_call_seconds_count", (("endpoint", "labeler"),)] == calls == 7
    assert agents["labelstream_llm_input_tokens_total", (("endpoint", "labeler"),)] > 0
    assert agents["labelstream_rebalances_total", ()] >= 1
    poller, sink = samples(urls["poller"]), samples(urls["sink"])
    assert poller["labelstream_stage_latency_seconds_count", (("stage", "created_to_polled"),)] == 40
    assert poller["labelstream_source_active", ()] == 1
    for stage in ("created_to_stored", "created_to_augmented_stored"):
        assert sink["labelstream_stage_latency_seconds_count", (("stage", stage),)] == 40
        assert 0 < sink["labelstream_stage_latency_seconds_sum", (("stage", stage),)] < 40 * 3600

    # One trace a row, on every topic.
    traces: dict[str, set[bytes]] = {}
    for topic in ("rows", "labeled", "augmented"):
        for message in await flow.topic(topic):
            traces.setdefault(message.key.decode(), set()).add(dict(message.headers)["traceparent"])
    assert len(traces) == 40
    assert all(len(found) == 1 for found in traces.values())
    assert len(set.union(*traces.values())) == 40

    _status_is_one_screen(flow)

    # Every line of a role is JSON.
    for role in ROLES:
        lines = [json.loads(line) for line in flow.log(role).splitlines()]
        assert lines
        for line in lines:
            assert {"timestamp", "level", "event", "role"} <= set(line), line
            assert line["role"] == role


def _status_is_one_screen(flow: Pipeline) -> None:
    found = json.loads(flow.command("status", "--json").stdout.strip().splitlines()[-1])
    assert found["parts"] == {"kafka": "", "clickhouse": ""}
    rows = found["topics"][f"{flow.prefix}.rows"]
    assert (rows["messages"], rows["lag"]) == (40, {f"{flow.prefix}-agents": 0})
    assert rows["lag_seconds"] == {f"{flow.prefix}-agents": 0.0}
    assert rows["rate"] <= 0.67  # of 40 in the last minute, as far as they came in it
    assert [one["current"] for one in found["versions"]] == [True]
    screen = flow.command("status").stdout
    for words in (*ROLES, f"{flow.prefix}.augmented", "labeler", found["versions"][0]["version"]):
        assert words in screen, screen
    # Without Kafka the rest is shown, and the exit code is 0: it did what it is for.
    half = flow.command("status", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert half.returncode == 0, half.stderr
    assert "kafka is down" in half.stdout
    assert found["versions"][0]["version"] in half.stdout
    # In a terminal that stays open, until somebody ends it.
    looking = ("status", "--watch", "--every", "0.5", "--json")
    watching = flow.begin(*looking, log="watch", errors="watch-errors")
    flow.wait(lambda: len(flow.log("watch").splitlines()) >= 2, "two looks")
    watching.send_signal(signal.SIGINT)
    watching.wait(PATIENCE)
    looks = flow.log("watch").splitlines()
    assert all(set(json.loads(look)) == set(found) for look in looks)


def test_lag_grows_with_what_is_not_done_and_goes(running: Pipeline) -> None:
    flow = running
    flow.stop()
    insert(flow, 100, 30)
    flow.start("poller")
    flow.wait(lambda: "poller" in notes(flow), "the poller is up")
    key = (("step", "store"), ("topic", f"{flow.prefix}.labeled"))

    def published() -> bool:
        done = (("outcome", "published"),)
        return samples(notes(flow)["poller"]).get(("labelstream_source_rows_total", done)) == 30

    flow.wait(published, "30 rows published")
    # Labelled, and not stored: the endpoint of the augmenter is away, and so is the sink.
    flow.start("agents", LLM_AUGMENTER_API_BASE="http://127.0.0.1:9/v1", LLM_AUGMENTER_MODEL="none")
    step = (("step", "augment"), ("topic", f"{flow.prefix}.labeled"))

    def lag(role: str, name: str, labels: tuple[tuple[str, str], ...]) -> float:
        url = notes(flow).get(role)
        return samples(url).get((f"labelstream_lag_{name}", labels), -1.0) if url else -1.0

    flow.wait(lambda: lag("agents", "messages", step) == 30, "30 messages wait for their variants")
    assert 0 < lag("agents", "seconds", step) < 3600
    status = json.loads(flow.command("status", "--json").stdout.strip().splitlines()[-1])
    waiting = status["topics"][f"{flow.prefix}.labeled"]
    assert waiting["lag"][f"{flow.prefix}-agents"] == waiting["lag"][f"{flow.prefix}-sink"] == 30
    assert all(0 < age < 3600 for age in waiting["lag_seconds"].values())
    flow.stop()
    flow.start(*ROLES)
    flow.wait(lambda: lag("sink", "messages", key) == 0 and flow.count("logs_augmented") == 70, "all done")
    assert lag("sink", "seconds", key) == 0
