"""Relabelling on the real parts: both versions of each row once, whoever is killed, and dropped for good."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline import ROOT, Pipeline

from tests.kafka_tools import recreate, reset_offsets

ROWS = 2000
V1 = {"LABEL_VERSION": "v1", "LLM_LABELER_CONCURRENCY": "64", "AUGMENT_VARIANTS": "0"}
ROLES = ("poller", "agents", "sink")


def texts(count: int, mark: str) -> list[str]:
    """Queries, each another one, so that each needs a call."""
    with (ROOT / "connectors/local/data/queries.csv").open(encoding="utf-8") as file:
        known = [row[1] for row in csv.reader(file)][1:]
    return [f"{known[n % len(known)]} {mark}{n}" for n in range(count)]


def insert(flow: Pipeline, first: int, count: int, at: datetime, step: float = 0.0) -> None:
    """Rows ``first`` and on, ``step`` seconds apart."""
    client = flow.clickhouse()
    client.insert(
        "logs",
        [
            [first + n, text, at + timedelta(seconds=n * step)]
            for n, text in enumerate(texts(count, f"{flow.prefix}x{first}n"))
        ],
        column_names=["id", "query_text", "created_at"],
        database=flow.database,
    )
    client.close()


@pytest.fixture
def flow(make: Callable[..., Pipeline], tmp_path: Path) -> Pipeline:
    """Live version v1 knows nothing of deliveries; `full.yaml` is the taxonomy that does."""
    whole = yaml.safe_load((ROOT / "taxonomy.yaml").read_text("utf-8"))
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    whole["domains"] = [one for one in whole["domains"] if one["name"] != "delivery"]
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    flow = make(TAXONOMY_PATH=str(tmp_path / "less.yaml"), **V1)
    flow.create()
    return flow


def told(flow: Pipeline, *words: str) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    done = flow.command(*words, "--json")
    assert done.returncode == 0, f"{done.stderr}\n{flow.explain()}"
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def begin(flow: Pipeline, *words: str) -> subprocess.Popen[bytes]:
    """A replay in the background."""
    log = (flow.folder / "replay.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", *words],
        env=flow.environment,
        cwd=flow.folder,
        stdout=log,
        stderr=log,
    )
    log.close()
    flow._running.append(process)
    return process


def labels(flow: Pipeline, version: str) -> dict[str, str]:
    """Row id and label; each row of that version is stored once."""
    rows = flow.rows(
        f"SELECT row_id, toString(label) FROM {flow.database}.logs_labeled WHERE label_version = '{version}'"
    )
    assert max(Counter(row_id for row_id, _ in rows).values(), default=0) <= 1
    return dict(rows)


def current(flow: Pipeline) -> dict[str, tuple[str, str]]:
    rows = flow.rows(
        f"SELECT row_id, toString(label_version), toString(label) FROM {flow.database}.logs_labeled_current"
    )
    assert len({row[0] for row in rows}) == len(rows)
    return {row_id: (version, label) for row_id, version, label in rows}


async def once(flow: Pipeline, topic: str, version: str) -> set[str]:
    """The rows of that version on a topic, where each stands once."""
    found = Counter(
        message.key.decode()
        for message in await flow.topic(topic)
        if dict(message.headers)["label-version"] == version.encode()
    )
    assert max(found.values(), default=0) <= 1
    return set(found)


NEW = ("--version", "v2", "--taxonomy", "full.yaml", "--prompt", "prompt.txt")


def write_prompt(flow: Pipeline) -> None:
    text = (ROOT / "agents/prompts/label.txt").read_text("utf-8")
    (flow.folder / "prompt.txt").write_text(f"Внимательно.\n{text}", "utf-8")


async def test_history_is_relabelled_beside_live_rows_compared_promoted_and_taken_back(
    flow: Pipeline,
) -> None:
    insert(flow, 1, ROWS, datetime.now(UTC))
    flow.start(*ROLES)
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "all rows labelled")
    write_prompt(flow)

    foreseen = told(flow, "replay", "--from-topic", *NEW, "--dry-run")
    assert foreseen["rows"] == foreseen["calls"] == foreseen["distinct_texts"] == ROWS
    assert foreseen["settled"] == 0
    assert foreseen["seconds"] > 0
    assert [one["version"] for one in told(flow, "versions", "list")["versions"]] == ["v1"]

    insert(flow, ROWS + 1, 50, datetime.now(UTC))  # live rows go on
    done = told(flow, "replay", "--from-topic", *NEW, "--offsets", "0-")
    assert done["state"] == "done"
    assert done["published"] >= ROWS
    first, second = labels(flow, "v1"), labels(flow, "v2")
    assert set(range(1, ROWS + 1)) <= {int(row) for row in second}
    assert "delivery" not in first.values()
    assert "delivery" in second.values()
    assert {version for version, _ in current(flow).values()} == {"v1"}
    assert await once(flow, "labeled.shadow", "v2") == set(second)
    assert await once(flow, "labeled", "v2") == set()

    # Again: nothing is left to do.
    assert told(flow, "replay", "--from-topic", "--version", "v2", "--offsets", "0-400")["published"] == 0
    clash = flow.command("replay", "--from-topic", "--version", "v2", "--taxonomy", "less.yaml")
    assert clash.returncode == 1
    assert "another prompts, taxonomy" in clash.stderr

    found = told(flow, "versions", "diff", "v1", "v2")
    common = set(first) & set(second)
    assert {one["row_id"] for one in found["changed"]} == {row for row in common if first[row] != second[row]}
    assert found["rows"] == len(common)
    assert found["agree"] == len(common) - len(found["changed"])
    assert sum(sum(row.values()) for row in found["matrix"].values()) == len(common)
    assert len(found["examples"]) == 20

    told(flow, "versions", "promote", "v2")
    assert {row: shown for row, (_, shown) in current(flow).items() if row in second} == second
    told(flow, "versions", "promote", "v1")
    assert {version for version, _ in current(flow).values()} == {"v1"}
    shown = told(flow, "versions", "show", "v2")
    assert shown["spec"]["prompts"]["label"].startswith("Внимательно.")
    assert any(domain["name"] == "delivery" for domain in shown["spec"]["taxonomy"]["domains"])


async def test_killed_on_both_sides_it_goes_on_where_it_was(flow: Pipeline) -> None:
    insert(flow, 1, ROWS, datetime.now(UTC))
    flow.start("poller", "sink")
    (worker,) = flow.start("agents")
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "all rows labelled")
    replaying = begin(flow, "replay", "--from-topic", "--version", "v2", "--taxonomy", "full.yaml")
    flow.wait(lambda: len(labels(flow, "v2")) > 200, "some rows labelled again")
    replaying.kill()
    worker.kill()
    replaying.wait()
    worker.wait()
    assert len(labels(flow, "v2")) < ROWS
    flow.start("agents")
    (job,) = told(flow, "replay", "list")["jobs"]
    assert job["published"] <= ROWS
    assert told(flow, "replay", "resume", job["id"])["state"] == "done"
    every = {str(row) for row in range(1, ROWS + 1)}
    assert set(labels(flow, "v2")) == every
    assert await once(flow, "labeled.shadow", "v2") == every
    assert set(labels(flow, "v1")) == every
    # The workers would have passed a second copy over; there is none.
    assert Counter(message.key.decode() for message in await flow.topic("replay")) == dict.fromkeys(every, 1)


async def test_a_cancelled_replay_is_resumed_or_dropped_for_good(flow: Pipeline) -> None:
    insert(flow, 1, ROWS, datetime.now(UTC))
    flow.start(*ROLES)
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "all rows labelled")
    flow.stop()
    flow.start(*ROLES, LLM_LABELER_CONCURRENCY="2")
    process = begin(flow, "replay", "--from-topic", "--version", "v2", "--taxonomy", "full.yaml")
    flow.wait(lambda: len(labels(flow, "v2")) > 20, "some rows labelled again")
    (job,) = told(flow, "replay", "list")["jobs"]
    assert told(flow, "replay", "cancel", job["id"])["state"] == "cancelled"
    assert process.wait(30) == 0
    stopped = told(flow, "replay", "show", job["id"])
    assert stopped["state"] == "cancelled"
    assert stopped["published"] < ROWS

    flow.stop()
    flow.start(*ROLES)
    assert told(flow, "replay", "resume", job["id"])["state"] == "done"
    every = {str(row) for row in range(1, ROWS + 1)}
    assert await once(flow, "labeled.shadow", "v2") == every

    flow.stop()
    flow.start(*ROLES)
    dropped = told(flow, "replay", "drop", job["id"])
    assert dropped["rows"] == ROWS
    assert labels(flow, "v2") == {}
    flow.stop()
    await reset_offsets(flow.kafka, f"{flow.prefix}-sink")
    flow.start(*ROLES)
    insert(flow, ROWS + 1, 1, datetime.now(UTC))
    flow.wait(lambda: len(labels(flow, "v1")) == ROWS + 1, "the live row stored")
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
    insert(flow, 1, 1000, now - timedelta(days=30), step=60.0)
    refused = flow.command("backfill")
    assert refused.returncode == 1
    assert "POLL_START" in refused.stderr
    flow.start(*ROLES, POLL_START="now")
    flow.wait(lambda: "poller_begins" in flow.log("poller"), "the poller at work")
    insert(flow, 1001, 20, datetime.now(UTC) + timedelta(seconds=2))
    flow.wait(lambda: flow.count("logs_labeled") == 20, "live rows labelled")
    middle = (now - timedelta(days=30) + timedelta(seconds=500 * 60)).isoformat()
    later = (now - timedelta(days=30) + timedelta(seconds=700 * 60)).isoformat()
    assert told(flow, "backfill", "--until", later, "--dry-run")["rows"] == 700
    at_once = begin(flow, "backfill", "--until", later)
    second = told(flow, "backfill", "--since", middle)
    assert at_once.wait(60) == 0
    assert second["state"] == "done"
    assert told(flow, "backfill")["published"] == 0
    every = {str(row) for row in range(1, 1021)}
    assert set(labels(flow, "v1")) == every
    assert await once(flow, "labeled", "v1") == every


def lag(flow: Pipeline) -> int:
    found = told(flow, "status")["topics"]
    return sum(sum(topic["lag"].values()) for topic in found.values())
