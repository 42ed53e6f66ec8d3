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

from tests.faults.driver import Driver, Outcome
from tests.faults.plan import Plan, make_plan
from tests.faults.world import World, as_program, world


def main() -> None:
    """Parse the arguments and soak."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no new seed after so long")
    parser.add_argument("--rows", type=int, default=2000, help="rows of each seed")
    parser.add_argument("--seed", type=int, action="append", help="this seed; may be repeated")
    parser.add_argument("--feed", type=float, default=32.0, help="seconds over which rows and faults come")
    parser.add_argument("--no-broker", action="store_true", help="do not kill Kafka")
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
    with world(folder / "stack") as parts:
        while seeds or (not given.seed and time.monotonic() - began < given.seconds):
            seed = seeds.pop(0) if seeds else random.SystemRandom().randrange(1_000_000)
            plan = make_plan(seed, given.rows, given.feed, broker=not given.no_broker)
            (folder / f"seed-{seed}").mkdir(parents=True, exist_ok=True)
            outcome = asyncio.run(run_one(parts, plan, folder / f"seed-{seed}"))
            done += 1
            print(verdict(outcome), flush=True)
            if outcome.violations:
                failed.append(seed)
                print(outcome.report(), flush=True)
            for line in memory(outcome):
                print(line, flush=True)
    print(f"{done} seeds, {len(failed)} failed: {failed}", flush=True)
    return not failed


async def run_one(parts: World, plan: Plan, folder: Path) -> Outcome:
    """One seed in topics and a database of its own."""
    name = f"soak_{plan.seed}_{int(time.time())}"
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
