"""Relabelling on the real parts: both versions of each row once, beside live rows, whoever is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.pipeline import Pipeline
from tests.integration.replaying import (
    NEW,
    OLD,
    ROLES,
    ROWS,
    begin,
    current,
    insert,
    labels,
    once,
    told,
    two_taxonomies,
    write_prompt,
)


@pytest.fixture
def flow(make: Callable[..., Pipeline], tmp_path: Path) -> Pipeline:
    """With version v1 live."""
    return two_taxonomies(make, tmp_path)


async def test_history_is_relabelled_beside_live_rows_compared_promoted_and_taken_back(
    flow: Pipeline,
) -> None:
    insert(flow, 1, ROWS, OLD)
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
    assert told(flow, "replay", "--from-topic", "--version", "v2", "--offsets", "0-150")["published"] == 0
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
    insert(flow, 1, ROWS, OLD)
    flow.start("poller", "sink")
    (worker,) = flow.start("agents", LLM_LABELER_CONCURRENCY="16")
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "all rows labelled")
    replaying = begin(flow, "replay", "--from-topic", "--version", "v2", "--taxonomy", "full.yaml")
    flow.wait(lambda: len(labels(flow, "v2")) > 50, "some rows labelled again")
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
