"""What is given up is listed with its bytes, and comes through once when it is tried again."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.pipeline import Pipeline, keys
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.waiting import PATIENCE, until


def faults(flow: Pipeline, *given: dict[str, Any]) -> None:
    """Tell the stand-in which faults to have."""
    url = flow.llm.removesuffix("/v1") + "/faults"
    body = json.dumps(list(given)).encode()
    urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=PATIENCE).close()


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def flow(make: Callable[..., Pipeline], collector: OtlpReceiver) -> Iterator[Pipeline]:
    flow = make(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, created_at DateTime) "
        "ENGINE = MergeTree ORDER BY id"
    )
    assert flow.command("init").returncode == 0
    yield flow
    faults(flow)
    client.close()


def insert(flow: Pipeline, *texts: str) -> None:
    client = flow.clickhouse()
    now = datetime.now(UTC)
    client.insert(
        "logs",
        [[at, text, now] for at, text in enumerate(texts, 1)],
        column_names=["id", "query_text", "created_at"],
        database=flow.database,
    )
    client.close()


def listed(flow: Pipeline, *words: str) -> dict[str, Any]:
    done = flow.command("dead-letters", "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def retried(flow: Pipeline, *words: str) -> dict[str, Any]:
    done = flow.command("dead-letters", "retry", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


async def test_each_step_s_dead_letters_come_through_once_when_tried_again(flow: Pipeline) -> None:
    client = flow.clickhouse()
    client.command(
        f"ALTER TABLE {flow.database}.logs_labeled ADD CONSTRAINT no_a CHECK NOT startsWith(text, 'хранение')"
    )
    mark = flow.prefix  # equal texts of other tests must not be in the cache
    faults(
        flow,
        {"kind": "unknown_label", "match": f"метка {mark}", "calls": "label"},
        {"kind": "bad_answer", "match": f"варианты {mark}", "calls": "augment"},
    )
    insert(flow, f"обычный запрос {mark}", f"метка {mark}", f"варианты {mark}", f"хранение {mark}")
    producer = AIOKafkaProducer(bootstrap_servers=flow.kafka)
    await producer.start()
    await producer.send_and_wait(f"{flow.prefix}.rows", b"\xff\x00poison", partition=1)
    await producer.send_and_wait(f"{flow.prefix}.rows", None, key=b"tombstone", partition=2)
    await producer.stop()
    flow.start("poller", "agents", "sink")
    flow.wait(lambda: flow.count("dead_letters") == 5, "five dead letters")
    flow.wait(lambda: flow.count("logs_labeled") == 2, "two labelled rows")
    found = listed(flow)
    reasons = Counter((one["step"], one["reason"]) for one in found["dead_letters"])
    assert reasons == {
        ("label", "invalid-answer"): 1,
        ("augment", "refusal"): 1,
        ("store", "refused-by-table"): 1,
        ("label", "undecodable"): 1,
        ("label", "no-value"): 1,
    }
    assert not any(one["resolved"] for one in found["dead_letters"])
    poison = next(one for one in found["dead_letters"] if one["reason"] == "undecodable")
    assert poison["payload_base64"] == "/wBwb2lzb24="
    assert (poison["topic"], poison["partition"]) == (f"{flow.prefix}.rows", 1)

    # While nothing is mended, trying again gives them up again, and loses nothing.
    assert retried(flow, "--step", "label", "--reason", "invalid-answer")["retried"] == 1
    flow.wait(lambda: flow.count("dead_letters") == 6, "the same row given up again")

    faults(flow)
    client.command(f"ALTER TABLE {flow.database}.logs_labeled DROP CONSTRAINT no_a")
    for _ in range(2):  # asked for twice
        assert retried(flow, "--reason", "invalid-answer")["retried"] <= 1
        assert retried(flow, "--reason", "refusal")["retried"] <= 1
    assert retried(flow, "--step", "store")["stored"] == 1
    flow.wait(lambda: flow.count("logs_labeled") == 4, "all four rows labelled and stored")
    flow.wait_for_variants(4, "all four rows with variants")
    for reason in ("invalid-answer", "refusal"):
        assert retried(flow, "--reason", reason) == {"open": 0, "retried": 0, "stored": 0, "left": {}}
    state = {(one["step"], one["reason"]): one["resolved"] for one in listed(flow)["dead_letters"]}
    assert state[("label", "invalid-answer")]
    assert state[("augment", "refusal")]
    assert state[("store", "refused-by-table")]
    assert not state[("label", "undecodable")]
    flow.stop()
    for topic in ("labeled", "augmented"):
        assert Counter(keys(await flow.topic(topic))) == {"1": 1, "2": 1, "3": 1, "4": 1}
    client.close()


def _traces_are_joined(collector: OtlpReceiver) -> None:
    """Row 2 was labelled, given up in a replay, and tried again: three traces."""
    known = [(span, attributes_of(span)) for span in collector.spans]
    mine = [(span, about) for span, about in known if about.get("labelstream.row_id") == "2"]
    (root,) = [span for span, _ in mine if span.name == "poll"]
    first = [(span, about) for span, about in mine if span.trace_id == root.trace_id]
    (publish,) = [span for span, _ in first if span.name == "publish"]
    assert Counter(span.name for span, _ in first) == Counter(
        ("poll", "publish", "label", "augment", "store", "store")
    )
    tables = {about["db.collection.name"] for span, about in first if span.name == "store"}
    assert tables == {"logs_labeled", "logs_augmented"}
    # From the first to the last each is below another one of the trace.
    whole = {span.span_id: span for span in collector.spans if span.trace_id == root.trace_id}
    assert all(span.parent_span_id in whole for span in whole.values() if span is not root)
    assert not root.parent_span_id
    (call,) = [span for span in whole.values() if span.name.startswith("chat ")]
    assert whole[call.parent_span_id].name == "label"
    assert attributes_of(call)["gen_ai.usage.input_tokens"] > 0
    assert whole[call.parent_span_id].start_time_unix_nano <= call.start_time_unix_nano

    def again(attribute: str, reason: str) -> list[dict[str, Any]]:
        """What was stored in the trace of the label with that attribute, which links to the first one."""
        (label,) = [
            span
            for span, about in mine
            if span.name == "label" and attribute in about and span.status.message == reason
        ]
        assert label.trace_id != root.trace_id
        links = [link for span, _ in mine if span.trace_id == label.trace_id for link in span.links]
        assert (publish.trace_id, publish.span_id) in [(link.trace_id, link.span_id) for link in links]
        return [about for span, about in mine if span.trace_id == label.trace_id and span.name == "store"]

    (letter,) = again("labelstream.replay_job", "invalid-answer")
    assert letter["db.collection.name"] == "dead_letters"
    (stored,) = again("labelstream.retry_of", "")
    assert (stored["db.collection.name"], stored["labelstream.label_version"]) == ("logs_labeled", "second")
    assert {about["service.name"] for about in collector.resources} >= {
        f"labelstream-{role}" for role in ("poller", "agents", "sink")
    }
    said = " ".join(str(value) for _, about in known for value in about.values())
    assert "метка" not in said
    assert "запрос" not in said


async def test_a_dead_letter_of_a_replay_comes_through_under_its_own_version(
    flow: Pipeline, collector: OtlpReceiver
) -> None:
    mark = flow.prefix
    insert(flow, f"обычный запрос {mark}", f"метка {mark}")
    flow.start("poller", "agents", "sink", AUGMENT_VARIANTS="0")
    flow.wait(lambda: flow.count("logs_labeled") == 2, "both rows labelled")
    faults(flow, {"kind": "unknown_label", "match": f"метка {mark}", "calls": "label"})
    done = flow.command("replay", "--from-topic", "--version", "second", "--json")
    assert done.returncode == 0, done.stderr
    flow.wait(lambda: flow.count("dead_letters") == 1, "one dead letter")
    faults(flow)
    for _ in range(2):  # asked for twice
        assert retried(flow, "--step", "label")["retried"] <= 1
    flow.wait(lambda: flow.count("logs_labeled") == 4, "both rows labelled again")
    rows = flow.rows(f"SELECT row_id, toString(label_version) FROM {flow.database}.logs_labeled")
    assert Counter(row_id for row_id, version in rows if version == "second") == {"1": 1, "2": 1}
    flow.stop()
    assert Counter(keys(await flow.topic("labeled.shadow"))) == {"1": 1, "2": 1}
    assert Counter(keys(await flow.topic("labeled"))) == {"1": 1, "2": 1}
    _traces_are_joined(collector)


def test_a_wrong_time_or_step_is_answered_clearly(flow: Pipeline) -> None:
    done = flow.command("dead-letters", "list", "--since", "yesterday")
    assert done.returncode == 1
    assert "yesterday" in done.stderr
    assert "Traceback" not in done.stderr
    assert listed(flow)["total"] == 0


def test_status_shows_lag_members_and_the_roles_health(flow: Pipeline) -> None:
    flow.start("poller", "agents", "sink")
    insert(flow, "сколько стоит тариф", "не могу войти")
    flow.wait_for_variants(2, "two rows stored")

    def told() -> dict[str, Any]:
        done = flow.command("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def nothing_waits() -> bool:
        return all(lag == 0 for topic in told()["topics"].values() for lag in topic["lag"].values())

    until(nothing_waits, flow.explain, pause=2)  # each look is a command
    found = told()
    assert found["groups"] == {f"{flow.prefix}-{role}": 1 for role in ("poller", "agents", "sink")}
    assert found["topics"][f"{flow.prefix}.labeled"]["messages"] == 2
    roles = {role["role"]: role for role in found["roles"]}
    assert set(roles) == {"poller", "agents", "sink"}
    states = {name: (role["health"], role["ready"]) for name, role in roles.items()}
    assert states == dict.fromkeys(states, ("ok", "ok"))
    for role in roles.values():
        with urllib.request.urlopen(f"{role['url']}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        assert "labelstream_lease_age_seconds" in text
    flow.stop()
    assert told()["roles"] == []
