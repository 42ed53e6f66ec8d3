"""Promises 4 and 5: how soon work goes on, and that an outage burns nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.actors import Actor
from tests.faults.outages import AGAIN_SECONDS, PARTS, Running, outage, running
from tests.faults.world import PARTITIONS, World
from tests.waiting import eventually


async def test_the_partitions_of_a_killed_worker_go_on_within_10_s(
    parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    async with running(parts, new_name(), tmp_path) as pipeline:
        for victim in ("agents-1", "agents-2"):
            pipeline.actors[victim].kill()
            ids = await pipeline.insert(200)
            # One of the two owned four of the partitions: all eight have to move.
            took = await pipeline.labeled(ids, within=AGAIN_SECONDS, partitions=PARTITIONS)
            print(f"after kill -9 of {victim}: all partitions move after {took:.1f} s")
            pipeline.actors[victim].start()
            await pipeline.labeled(await pipeline.insert(100))
            await _two_own_partitions(pipeline)


async def _two_own_partitions(pipeline: Running) -> None:
    """Wait until the worker that came back is a member, so that the next kill takes something away."""
    actor = pipeline.actors["agents-1"], pipeline.actors["agents-2"]
    await eventually(
        lambda: all(one.log_lines('"count": 12') for one in actor), "both are members", pause=0.2
    )


async def test_an_outage_costs_nothing_and_work_goes_on_within_10_s_of_the_return(
    parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    async with running(parts, new_name(), tmp_path) as pipeline:
        for part in PARTS:
            # Longer than the group's session of 6 s, and long enough for all attempts there are.
            seen = await outage(pipeline, part, 8)
            print(f"{part}: {seen}")
            assert seen.first <= AGAIN_SECONDS, part
            assert seen.dead_letters == 0, part


# Any moment will do: in the start, in a rebalance, at work.
@pytest.mark.parametrize("moments", [(0.3, 1.5, 3.0, 6.0), (6.0, 3.0, 1.5, 0.3)])
async def test_sigterm_ends_each_role_within_10_s_whenever_it_comes(
    moments: tuple[float, ...], parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    pipeline = Running(parts, new_name(), tmp_path)
    try:
        await pipeline.start()
        await pipeline.insert(300)

        async def leaves(actor: Actor, moment: float) -> float | None:
            await asyncio.sleep(moment)
            return await asyncio.to_thread(actor.leave)

        took = await asyncio.gather(*map(leaves, pipeline.actors.values(), moments))
        late = [name for name, one in zip(pipeline.actors, took, strict=True) if one is None]
        assert not late
    finally:
        await pipeline.stop()
