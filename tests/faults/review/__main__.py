"""People audit, label, correct, undo and settle while the API and sinks are killed and paused, answers are
cut, the group is rewound, tables are merged, and ClickHouse is killed: each row's last decision stands, and
the same rows are drawn as before. ``make soak-review``.

With ``--upgrade`` the tables are those of 0.1.0 at first, and `labelstream init` is killed on its way.
Prints what was done to the rows and by the faults; exit code 1 if a decision was lost or stored twice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.review.run import ReviewRun
from tests.faults.world import as_program, world


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.review", description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=180.0, help="about how long people take")
    parser.add_argument("--seed", type=int, help="this one only; otherwise two fresh ones")
    parser.add_argument("--upgrade", action="store_true", help="only with tables of 0.1.0 at first")
    given = parser.parse_args()
    as_program()
    chance = random.SystemRandom()
    seeds = [given.seed] if given.seed is not None else [chance.randrange(1_000_000) for _ in range(2)]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="labelstream-review-") as scratch:
        folder = Path(scratch)
        with world(folder / "stack") as parts:
            for number, seed in enumerate(seeds):
                upgrade = given.upgrade or number % 2 == 1
                runs = folder / f"run-{number}"
                runs.mkdir()
                run = ReviewRun(
                    parts,
                    f"review{number}",
                    runs,
                    rows=given.rows,
                    seed=seed,
                    seconds=given.seconds,
                    upgrade=upgrade,
                    broker=True,
                )
                report = asyncio.run(run.run())
                print(f"seed {seed}{', upgraded from 0.1.0' if upgrade else ''}: {report.line()}", flush=True)
                print("".join(f"    {one}\n" for one in report.wrong[:40]), end="", flush=True)
                wrong += len(report.wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
