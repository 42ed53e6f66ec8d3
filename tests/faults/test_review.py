"""What people decided last stands, and the same rows are drawn, whatever happens to the API, the sinks and
the tables meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.faults.review.run import ReviewRun
from tests.faults.world import World


async def test_each_row_s_last_decision_stands(
    parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    run = ReviewRun(parts, new_name(), tmp_path, rows=45, seed=16, seconds=15, upgrade=False, broker=False)
    report = await run.run()
    print(report.line())
    assert not report.wrong
    assert report.done["taken back"]
    assert report.done["settled"]
    kinds = {"kills", "pauses", "rewinds", "merges", "kills of ClickHouse", "kills of the API", "replays"}
    assert kinds <= report.faults.keys()
