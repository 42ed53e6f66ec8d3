"""How often the gate gives each of its answers; `make soak-gate`.

Versions that disagree on a tenth of the rows, whose true difference is known.
"""

from __future__ import annotations

import argparse
import sys

from tests.unit.streams.quality.test_comparison import simulated

# Rows, the true difference, the answers, the least and the greatest share of them that is accepted.
CASES = (
    (500, 0.0, ("better",), 0.0, 0.075),
    (1000, 0.0, ("better",), 0.0, 0.075),
    (500, -0.05, ("worse",), 0.85, 1.0),
    (500, -0.05, ("better", "not worse"), 0.0, 0.0),
    (1000, 0.03, ("better",), 0.8, 1.0),
    (1000, 0.0, ("not worse",), 0.85, 1.0),
)


def main() -> int:
    """Exit code 1 if a share is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bad = 0
    for rows, difference, answers, least, most in CASES:
        found = simulated(rows, difference, given.times, given.seed)
        share = sum(found[one] for one in answers) / given.times
        fits = least <= share <= most
        bad += not fits
        print(
            f"{rows:5} rows, true difference {difference:+.2f}: {' or '.join(answers)} in {share:.3f} "
            f"of {given.times}, accepted {least:g} to {most:g}{'' if fits else '  <-- not accepted'}",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
