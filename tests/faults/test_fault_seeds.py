"""Promises 1 to 5 under faults that a seed has chosen; `make soak-seeds` runs fresh ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.faults.driver import Driver
from tests.faults.plan import make_plan
from tests.faults.world import World

SEED = 11


async def test_every_promise_is_kept(parts: World, new_name: Callable[[], str], tmp_path: Path) -> None:
    outcome = await Driver(parts, new_name(), make_plan(SEED, rows=700, seconds=20.0), tmp_path).run()
    assert not outcome.violations, outcome.report()
    # The run was one: rows came, answers were watched, and the faults struck.
    assert outcome.ledger.source.total() > 600
    assert outcome.texts > 200
    assert len(outcome.happened) >= len(outcome.plan.faults)
