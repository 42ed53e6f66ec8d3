"""Replays as jobs on the real parts: cancelled, resumed, dropped for good, from the table, and backfills."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fork_server import Forked
from tests.integration.pipeline import Pipeline
from tests.integration.replaying import (
    OLD,
    ROLES,
    ROWS,
    begin,
    insert,
    labels,
    lag,
    once,
    told,
    two_taxonomies,
)
from tests.kafka_tools import recreate, reset_offsets
from tests.waiting import PATIENCE

MANY = 1500  # more than a replay publishes ahead of the workers


def again(flow: Pipeline, worker: Forked, **settings: str) -> Forked:
    """Another worker in the place of this one."""
    worker.terminate()
    worker.wait(PATIENCE)
    (other,) = flow.start("agents", **settings)
    return other


@pytest.fixture
def flow(make: Callable[..., Pipeline], tmp_path: Path) -> Pipeline:
    """With version v1 live."""
    return two_taxonomies(make, tmp_path)


async def test_a_cancelled_replay_is_resumed_or_dropped_for_good(flow: Pipeline) -> None:
    insert(flow, 1, MANY, OLD)
    flow.start("poller", "sink")
    (worker,) = flow.start("agents")
    flow.wait(lambda: flow.count("logs_labeled") == MANY, "all rows labelled")
    worker = again(flow, worker, LLM_LABELER_CONCURRENCY="2")
    process = begin(flow, "replay", "--from-topic", "--version", "v2", "--taxonomy", "full.yaml")
    flow.wait(lambda: len(labels(flow, "v2")) > 20, "some rows labelled again")
    (job,) = told(flow, "replay", "list")["jobs"]
    assert told(flow, "replay", "cancel", job["id"])["state"] == "cancelled"
    assert process.wait(PATIENCE) == 0
    stopped = told(flow, "replay", "show", job["id"])
    assert stopped["state"] == "cancelled"
    assert stopped["published"] < MANY

    again(flow, worker)
    assert told(flow, "replay", "resume", job["id"])["state"] == "done"
    every = {str(row) for row in range(1, MANY + 1)}
    assert await once(flow, "labeled.shadow", "v2") == every

    flow.stop()
    flow.start(*ROLES)
    dropped = told(flow, "replay", "drop", job["id"])
    assert dropped["rows"] == MANY
    assert labels(flow, "v2") == {}
    flow.stop()
    await reset_offsets(flow.kafka, f"{flow.prefix}-sink")
    flow.start(*ROLES)
    insert(flow, MANY + 1, 1, datetime.now(UTC))
    flow.wait(lambda: len(labels(flow, "v1")) == MANY + 1, "the live row stored")
    flow.wait(lambda: lag(flow) == 0, "the sink at the end of everything")
    assert labels(flow, "v2") == {}
    refused = flow.command("replay", "resume", job["id"])
    assert refused.returncode == 1
    assert "dropped" in refused.stderr
    assert flow.command("replay", "--from-topic", "--version", "v2").returncode == 1


async def test_the_table_gives_what_the_topic_no_longer_holds(flow: Pipeline) -> None:
    insert(flow, 1, ROWS, datetime.now(UTC) - timedelta(days=20), step=600.0)
    flow.start(*ROLES)
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "all rows labelled")
    flow.stop()
    await recreate(flow.kafka, f"{flow.prefix}.rows")
    flow.start("agents", "sink")
    some = told(
        flow,
        "replay",
        "--from-table",
        "--version",
        "v2",
        "--taxonomy",
        "full.yaml",
        "--where",
        "label=payment",
    )
    first = labels(flow, "v1")
    paying = {row for row, label in first.items() if label == "payment"}
    assert some["published"] == len(paying) > 0
    assert set(labels(flow, "v2")) == paying
    rest = told(flow, "replay", "--from-table", "--version", "v2")
    assert rest["published"] == ROWS - len(paying)
    assert rest["settled"] == len(paying)
    assert set(labels(flow, "v2")) == set(first)
    assert set(labels(flow, "v1")) == set(first)
    sure = told(
        flow,
        "replay",
        "--from-table",
        "--version",
        "v3",
        "--taxonomy",
        "full.yaml",
        "--where",
        "confidence<0.6",
        "--limit",
        "5",
        "--to",
        "labeled",
    )
    assert sure["published"] == 5
    assert len(await once(flow, "labeled", "v3")) == 5
    absent = flow.command("replay", "--from-table", "--version", "v4", "--model", "absent")
    assert absent.returncode == 1
    assert "absent" in absent.stderr


async def test_a_backfill_labels_old_rows_once_however_its_ranges_overlap(flow: Pipeline) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    insert(flow, 1, 400, now - timedelta(days=30), step=60.0)
    refused = flow.command("backfill")
    assert refused.returncode == 1
    assert "POLL_START" in refused.stderr
    flow.start(*ROLES, POLL_START="now")
    flow.wait(lambda: "poller_begins" in flow.log("poller"), "the poller at work")
    insert(flow, 401, 20, datetime.now(UTC) + timedelta(seconds=2))
    flow.wait(lambda: flow.count("logs_labeled") == 20, "live rows labelled")
    middle = (now - timedelta(days=30) + timedelta(seconds=200 * 60)).isoformat()
    later = (now - timedelta(days=30) + timedelta(seconds=280 * 60)).isoformat()
    assert told(flow, "backfill", "--until", later, "--dry-run")["rows"] == 280
    at_once = begin(flow, "backfill", "--until", later)
    second = told(flow, "backfill", "--since", middle)
    assert at_once.wait(PATIENCE) == 0
    assert second["state"] == "done"
    assert told(flow, "backfill")["published"] == 0
    every = {str(row) for row in range(1, 421)}
    assert set(labels(flow, "v1")) == every
    assert await once(flow, "labeled", "v1") == every
