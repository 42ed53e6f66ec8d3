"""Fresh seeds for as long as asked: ``make soak SECONDS=600``. Kafka is killed, too.

Prints each seed with its verdict, and the memory of each role over time; exit code 1 if a promise broke.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cluster.runs import ClusterDriver, ClusterWorld, cluster_world_in, make_cluster_plan
from tests.faults.driver import Driver, Outcome
from tests.faults.plan import make_plan
from tests.faults.world import World, as_program, world


def main() -> None:
    """Parse the arguments and soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no new seed after so long")
    parser.add_argument("--count", type=int, help="so many seeds, however long they take")
    parser.add_argument("--rows", type=int, default=2000, help="rows of each seed")
    parser.add_argument("--seed", type=int, action="append", help="this seed; may be repeated")
    parser.add_argument("--feed", type=float, default=32.0, help="seconds over which rows and faults come")
    parser.add_argument("--no-broker", action="store_true", help="do not kill Kafka")
    parser.add_argument("--cluster", action="store_true", help="three brokers, and faults of theirs")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    given = parser.parse_args()
    as_program()
    with tempfile.TemporaryDirectory(prefix="labelstream-soak-") as scratch:
        sys.exit(0 if soak(given, given.keep or Path(scratch)) else 1)


def soak(given: argparse.Namespace, folder: Path) -> bool:
    """Whether every seed kept every promise."""
    began = time.monotonic()
    seeds = list(given.seed or [])
    failed: list[int] = []
    done = 0

    def more() -> bool:
        if given.seed or given.count:
            return bool(seeds)
        return time.monotonic() - began < given.seconds

    if given.count and not seeds:
        seeds = random.SystemRandom().sample(range(1_000_000), given.count)
    with (cluster_world_in if given.cluster else world)(folder / "stack") as parts:
        while more():
            seed = seeds.pop(0) if seeds else random.SystemRandom().randrange(1_000_000)
            (folder / f"seed-{seed}").mkdir(parents=True, exist_ok=True)
            outcome = asyncio.run(run_one(parts, seed, given, folder / f"seed-{seed}"))
            done += 1
            print(verdict(outcome), flush=True)
            if outcome.violations:
                failed.append(seed)
                print(outcome.report(), flush=True)
            for line in memory(outcome):
                print(line, flush=True)
    print(f"{done} seeds, {len(failed)} failed: {failed}", flush=True)
    return not failed


async def run_one(parts: World, seed: int, given: argparse.Namespace, folder: Path) -> Outcome:
    """One seed in topics and a database of its own."""
    name = f"soak_{seed}_{int(time.time())}"
    if isinstance(parts, ClusterWorld):
        outcome = await ClusterDriver(parts, name, make_cluster_plan(seed, given.rows), folder).run()
        await asyncio.to_thread(parts.cluster.repair)
        return outcome
    plan = make_plan(seed, given.rows, given.feed, broker=not given.no_broker)
    return await Driver(parts, name, plan, folder).run()


def verdict(outcome: Outcome) -> str:
    """One line."""
    letters = len(outcome.ledger.letters)
    return (
        f"seed {outcome.plan.seed}: {'BROKEN' if outcome.violations else 'kept'}; "
        f"{outcome.ledger.source.total()} rows, {len(outcome.plan.faults)} faults, {letters} dead letters, "
        f"{outcome.texts} answers watched, {outcome.seconds:.0f} s, "
        f"all stored {outcome.settled_after:.1f} s after the last fault, "
        f"longest standstill {outcome.longest_standstill:.0f} s"
    )


def memory(outcome: Outcome) -> list[str]:
    """Each process's resident size in MB: some moments of the run, evenly spread."""
    lines = []
    for name, sizes in sorted(outcome.memory.items()):
        step = max(1, len(sizes) // 10)
        shown = " ".join(f"{size // 2**20:4d}" for size in sizes[::step])
        lines.append(f"    {name:<10} MB {shown}")
    return lines


if __name__ == "__main__":
    main()
