"""The promises under faults on three brokers; `make soak-cluster` runs long seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.faults.cluster.runs import (
    ClusterDriver,
    cluster_world,
    make_cluster_plan,
    make_short_cluster_plan,
)

SEED = 4


async def test_every_promise_is_kept_on_three_brokers(
    cluster: Cluster, new_name: Callable[[], str], tmp_path: Path
) -> None:
    plan = make_short_cluster_plan(SEED)
    with cluster_world(tmp_path / "stack", cluster) as world:
        outcome = await ClusterDriver(world, new_name(), plan, tmp_path).run()
    assert not outcome.violations, outcome.report()
    assert outcome.ledger.source.total() > 500
    assert len(outcome.happened) >= len(plan.faults)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_gives_the_same_plan_again_with_each_kind_of_fault(seed: int) -> None:
    plan = make_cluster_plan(seed)
    assert plan == make_cluster_plan(seed)
    assert plan != make_cluster_plan(seed + 1)
    assert plan.rows == 5000
    kinds = {fault.kind for fault in plan.faults}
    assert kinds >= {"leader_kill", "leader_pause", "follower_cut", "rolling_restart", "reassign"}
    assert kinds >= {"kill", "pause", "clickhouse", "llm", "join"}
