"""The plans of faults that seeds give."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.plan import make_plan

SEEDS = (2, 11, 29)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    plan = make_plan(seed)
    assert plan == make_plan(seed)
    assert plan != make_plan(seed + 1)
    assert plan.rows == 2000
    kinds = Counter((fault.kind, fault.target.partition("-")[0]) for fault in plan.faults)
    assert kinds.total() >= 8
    for role in ("poller", "agents", "sink"):
        assert kinds["kill", role]
        assert kinds["pause", role]
    assert kinds["clickhouse", "clickhouse"]
    assert kinds["join", "agents"]
    assert kinds["llm", "llm"] >= 3
    rows = [row for batch in plan.batches for row in batch.rows]
    assert any(row.skip for row in rows)
    assert any(row.age > 5 for row in rows)
    assert max(Counter(row.id for row in rows).values()) > 1
    assert max(len(batch.rows) for batch in plan.batches) > 200
    assert make_plan(seed, broker=True) != plan
