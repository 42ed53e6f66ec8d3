"""A backlog that takes about three times as long as its topic keeps it, the short form of the long run."""

from __future__ import annotations

from pathlib import Path

from tests.faults.retention import backlog
from tests.faults.world import world
from tests.short_retention import fast_deletion


async def test_each_row_of_a_backlog_older_than_the_retention_is_labelled_once(tmp_path: Path) -> None:
    """Only the topic of rows keeps so little: how long the others wait depends on the machine's speed."""
    with fast_deletion(), world(tmp_path / "stack") as parts:
        outcome = await backlog(parts, "short", tmp_path, rows=400, seconds=3.0, topics=("rows",))
    print(outcome)
    assert not outcome.wrong, outcome
