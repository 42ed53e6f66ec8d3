"""The parts of a replay without Kafka: versions, jobs, samples, conditions, ways, and what is settled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connectors.clickhouse.poller.backfill import Settled, poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.queries.relabel_rows import Condition
from streams.core.codec import LABEL_VERSION, MESSAGE_TYPE, REPLAY_JOB, TO
from streams.core.environment import load
from streams.core.errors import ConfigurationError
from streams.core.label_version import LabelSpec, checked_prompt
from streams.core.messages import Row
from streams.core.outcomes import Retry
from streams.core.records import Outgoing, Record
from streams.core.times import micros_of
from streams.core.topics import Topics
from streams.delivery.replay_throttle import Leftover
from streams.jobs.job import Job, Jobs, Wish, wish_message
from streams.jobs.requests import _offsets
from streams.jobs.sources import Item, in_sample
from streams.pipeline.topology import agents_flow
from streams.versions.topic import KnownVersions, dropped_message

TOPICS = Topics("esk")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def received(message: Outgoing, offset: int = 0) -> Record:
    return Record(message.topic, 0, offset, 0, message.key, message.value, tuple(message.headers))


def spec(version: str = "v1", model: str = "m", prompt: str = "{domains}") -> LabelSpec:
    return LabelSpec(
        version=version, model=model, mode="json", prompts={"label": prompt}, taxonomy={"domains": []}
    )


def test_versions_travel_whole_and_what_others_wrote_is_left_out() -> None:
    known = KnownVersions()
    known.learn(Record("esk.versions", 0, 0, 0, b"v9", b"nonsense"))
    known.learn(received(spec("v2").message(TOPICS)))
    known.learn(Record("esk.versions", 0, 2, 0, b"other-key", spec("v3").message(TOPICS).value))
    assert list(known.specs) == ["v2"]
    assert known.specs["v2"].same_as(spec("v2"))
    assert known.specs["v2"].difference(spec("v2", model="n", prompt="x {domains}")) == "model, prompts"


def test_what_was_dropped_is_unwanted_and_its_name_used_up() -> None:
    known = KnownVersions()
    record = Record("esk.replay", 0, 0, 0, b"1", b"", ((REPLAY_JOB, b"job-1"),))
    assert not known.unwanted(record)
    known.learn(received(dropped_message(TOPICS, "job-1", "v2")))
    assert known.unwanted(record)
    assert not known.unwanted(Record("esk.replay", 0, 0, 0, b"1", b"", ((REPLAY_JOB, b"job-2"),)))
    assert not known.unwanted(Record("esk.rows", 0, 0, 0, b"1", b""))
    known.usable("v1")
    with pytest.raises(ConfigurationError, match="v2"):
        known.usable("v2")


@pytest.mark.parametrize("text", ["no place", "{domains} {", "{domains} {other}", '{domains} {"label": 1}'])
def test_a_prompt_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        checked_prompt(text, "p.txt")


def test_a_prompt_keeps_its_doubled_braces() -> None:
    assert checked_prompt('{domains} {{"label": 1}}', "p.txt") == '{domains} {{"label": 1}}'


def test_a_job_and_a_wish_do_not_overwrite_each_other() -> None:
    jobs = Jobs()
    job = Job(source="topic", version="v2", position={"0": 5}, starts={0: 1}, ends={0: 9})
    jobs.learn(received(job.message(TOPICS)))
    assert jobs.state(jobs.named(job.id)) == "publishing"
    jobs.learn(received(wish_message(TOPICS, job.id, Wish.PAUSE)))
    jobs.learn(received(job.model_copy(update={"published": 4}).message(TOPICS)))
    assert jobs.named(job.id).published == 4
    assert jobs.named(job.id).ends == {0: 9}
    assert jobs.state(jobs.named(job.id)) == "paused"
    jobs.learn(received(wish_message(TOPICS, job.id, Wish.RUN)))
    late = job.model_copy(update={"updated_at": datetime.now(UTC) - timedelta(minutes=1)})
    jobs.learn(received(late.message(TOPICS)))
    assert jobs.state(jobs.named(job.id)) == "interrupted"
    jobs.learn(received(job.model_copy(update={"complete": True, "done": True}).message(TOPICS)))
    assert jobs.state(jobs.named(job.id)) == "done"
    jobs.learn(Record("esk.cursor", 0, 0, 0, b"esk.logs", b"{}"))
    assert list(jobs.jobs) == [job.id]
    with pytest.raises(ConfigurationError):
        jobs.named("none")


def test_a_sample_is_about_its_share_and_the_same_each_time() -> None:
    items = [Item(str(n), b"t", 0, "x", 0, b"") for n in range(5000)]
    chosen = [item for item in items if in_sample(0.2)(item)]
    assert 850 < len(chosen) < 1150
    assert chosen == [item for item in items if in_sample(0.2)(item)]
    assert set(chosen) < {item for item in items if in_sample(0.5)(item)}
    assert all(map(in_sample(None), items))


def test_conditions_are_read_and_nonsense_is_refused() -> None:
    assert Condition.parse("confidence<0.6") == Condition("confidence", "Float64", "<", 0.6)
    assert Condition.parse("label = payment") == Condition("label", "String", "=", "payment")
    assert Condition.parse("domain!=a<b").value == "a<b"
    for text in ("label<payment", "confidence<much", "text=x", "payment", "1=1; DROP TABLE x"):
        with pytest.raises(ConfigurationError):
            Condition.parse(text)


def test_offsets_for_all_or_some_partitions() -> None:
    assert _offsets("5-10", [0, 1]) == {0: (5, 10), 1: (5, 10)}
    assert _offsets("1/5-", [0, 1]) == {1: (5, None)}
    for text in ("7/0-5", "5", "a-b"):
        with pytest.raises(ConfigurationError):
            _offsets(text, [0, 1])


async def test_a_replayed_row_goes_where_its_headers_say() -> None:
    async def step(_: object) -> Retry:
        return Retry(1.0, "live")

    async def as_v2(_: object) -> Retry:
        return Retry(1.0, "v2")

    flow = agents_flow(TOPICS, label=step, label_version="v1", augment=step, label_as=lambda version: as_v2)

    def way(topic: str, **headers: bytes) -> tuple[str, str, str | None]:
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        route = flow.route(Record(topic, 0, 0, 0, b"1", b"", named))
        return route.name, route.output, route.version

    assert (LABEL_VERSION, MESSAGE_TYPE, TO) == ("label-version", "message-type", "to")
    assert way("esk.rows") == ("label", "esk.labeled", "v1")
    assert way("esk.rows", label_version=b"v2") == ("label", "esk.labeled", "v1")
    assert way("esk.replay") == ("label", "esk.labeled", "v1")
    assert way("esk.replay", label_version=b"v2") == ("label", "esk.labeled.shadow", "v2")
    assert way("esk.replay", label_version=b"v2", to=b"labeled") == ("label", "esk.labeled", "v2")
    assert way("esk.replay", message_type=b"labeled")[:2] == ("augment", "esk.augmented")
    other = flow.route(Record("esk.replay", 0, 0, 0, b"1", b"", (("label-version", b"v2"),)))
    own = flow.route(Record("esk.replay", 0, 0, 0, b"1", b"", (("label-version", b"v1"),)))
    assert (await other.step(None)).reason == "v2"
    assert (await own.step(None)).reason == "live"
    assert "esk.labeled.shadow" in flow.outputs


def row(row_id: str, text: str = "text", second: int = 0) -> Row:
    return Row(row_id=row_id, text=text, created_at=NOW + timedelta(seconds=second), polled_at=NOW)


def test_a_row_is_settled_by_id_time_and_text_and_twins_are_counted() -> None:
    at = micros_of(NOW)
    settled = Settled()
    for row_id in ("1", "2~abcd", "d" * 32 + ":1"):
        settled.add(row_id, at, "text")
    assert settled.has(row("1"))
    assert not settled.has(row("1", text="another"))
    assert not settled.has(row("1", second=1))
    assert settled.has(row("2"))  # the same row, named when another had its id
    assert not settled.has(row("2~ffff"))  # a twin of it, which is not labelled yet
    assert settled.has(row("d" * 32 + ":1"))
    assert not settled.has(row("d" * 32 + ":2"))


def test_a_backfill_ends_where_the_poller_s_window_may_begin() -> None:
    settings = load({"POLL_LOOKBACK_SECONDS": "100"}, None)
    assert poller_begins(Cursor(watermark=1_000_000_000), settings) == 1_000_000_000 - 106_000_000
    assert poller_begins(Cursor(watermark=1_000_000_000, floor=999_000_000), settings) == 999_000_000


async def test_replays_give_way_when_the_loop_is_late() -> None:
    leftover = Leftover()
    assert leftover.allowed(1) == 1
    assert leftover.allowed(64) == 8
    for _ in range(200):
        leftover.noticed(0.0)
    assert leftover.allowed(64) == 64
    for _ in range(50):
        leftover.noticed(0.2)
    assert leftover.allowed(64) == 2


async def test_replays_leave_the_process_some_time_while_live_messages_come() -> None:
    now, cpu = 100.0, 5.0
    leftover = Leftover(lambda: now, lambda: cpu)

    def pass_time(ticks: int, busy: float) -> int:
        nonlocal now, cpu
        for _ in range(ticks):
            now, cpu = now + 0.05, cpu + 0.05 * busy
            leftover.noticed(0.0)
        return leftover.allowed(64)

    leftover.allowed(64)
    assert pass_time(100, 0.95) == 64  # nobody else is there
    leftover.live_came()
    assert pass_time(50, 0.6) == 64  # there is time enough
    leftover.live_came()
    assert pass_time(50, 0.95) < 20
    assert pass_time(100, 0.95) == 64  # no live message for seconds
