"""How often the gate gives each of its answers: `make soak-gate`, or with FILE=texts.csv over real labels.

Versions that disagree on a tenth of the rows, whose true difference is known. People answered the rows, and
the gate decides from their answers and the versions' labels, as a promotion does.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.quality.gate import decide, judged
from tests.unit.streams.quality.long_runs.estimates import equal_draw
from tests.unit.streams.quality.long_runs.overconfident import Overconfident, parted, read_texts
from tests.unit.streams.quality.long_runs.reviewed_weeks import MONDAY, answers, draw, labelled

MARGIN, APART = 0.03, 0.1
TAUGHT = 2_500
# Rows, the true difference, the answers, the least and the greatest share of them that is accepted.
CASES = (
    (500, 0.0, ("better",), 0.0, 0.075),
    (1000, 0.0, ("better",), 0.0, 0.075),
    (500, -0.05, ("worse",), 0.85, 1.0),
    (500, -0.05, ("better", "not worse"), 0.0, 0.0),
    (1000, 0.03, ("better",), 0.8, 1.0),
    (1000, 0.0, ("not worse",), 0.85, 1.0),
)
# With more of the rare labels, equal rows count less: only that nothing wrong is said.
STRATIFIED = (
    (1000, 0.0, ("better",), 0.0, 0.075),
    (1000, -0.05, ("better", "not worse"), 0.0, 0.01),
)
WEEK_ROWS, PER_LABEL = 20_000, 30


class Labels(NamedTuple):
    """What is right of texts, and what the current version says."""

    gold: NDArray[np.object_]
    current: NDArray[np.object_]


def made_up(random: np.random.Generator) -> Labels:
    """Of eight labels of unlike frequency; the current version is right for 0.85."""
    names = np.array(list("abcdefgh"), dtype=object)
    gold = random.choice(names, WEEK_ROWS, p=np.arange(8, 0, -1) / 36)
    return Labels(gold, np.where(random.random(len(gold)) < 0.15, "x", gold))


def of_texts(path: Path) -> Labels:
    """Of a classifier that was taught a part of them."""
    taught, others = parted(read_texts(path), TAUGHT, 0)
    unseen = labelled(Overconfident(taught), others)
    return Labels(unseen.gold, unseen.label)


def candidate(
    week: Labels, accuracy: float, difference: float, random: np.random.Generator
) -> NDArray[np.object_]:
    """Labels that are right where the current ones are wrong, and the other way round, in a tenth of all
    rows; by ``difference`` more often right. ``accuracy``: of the current version.
    """
    right = week.current == week.gold
    won = random.random(len(right)) < (APART + difference) / 2 / (1 - accuracy)
    lost = random.random(len(right)) < (APART - difference) / 2 / accuracy
    # Another label of the same kind, not always the same.
    others = week.gold[random.permutation(len(right))]
    wrong = np.where(others == week.gold, "y", others)
    return np.where(~right & won, week.gold, np.where(right & lost, wrong, week.current))


def decisions(
    known: Labels, rows: int, difference: float, times: int, random: np.random.Generator, *, stratified: bool
) -> Counter[str]:
    """The answers of the gate with ``rows`` judged rows."""
    found: Counter[str] = Counter()
    accuracy = float((known.current == known.gold).mean())
    for _ in range(times):
        chosen = random.integers(0, len(known.gold), WEEK_ROWS if stratified else rows)
        week = Labels(known.gold[chosen], known.current[chosen])
        then = candidate(week, accuracy, difference, random)
        drawn = equal_draw(len(chosen), rows)
        if stratified:
            drawn = draw(week.current, 0.02, PER_LABEL, random)[:rows]
        gold = judged(answers(drawn, [], week.gold, week.current, random))
        labels = [
            {one.place: _given(some[int(one.place.row_id)]) for one in gold} for some in (week.current, then)
        ]
        passage = decide("v2", "v1", gold, *labels, MARGIN)
        assert passage.verdict is not None
        assert passage.passes == (passage.verdict.answer in ("better", "not worse"))
        found[passage.verdict.answer] += 1
    return found


def _given(label: str) -> GivenLabel:
    return GivenLabel(MONDAY, label, None, None)


def main() -> int:
    """Exit code 1 if a share is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="CSV with the columns text and scenario or label")
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    known = made_up(random) if given.file is None else of_texts(given.file)
    bad = 0
    for stratified, cases in ((False, CASES), (True, STRATIFIED)):
        seen: dict[tuple[int, float], Counter[str]] = {}
        for rows, difference, wanted, least, most in cases:
            if (rows, difference) not in seen:
                seen[rows, difference] = decisions(
                    known, rows, difference, given.times, random, stratified=stratified
                )
            share = sum(seen[rows, difference][one] for one in wanted) / given.times
            fits = least <= share <= most
            bad += not fits
            print(
                f"{rows:5} rows{' by label' if stratified else ''}, true difference {difference:+.2f}: "
                f"{' or '.join(wanted)} in {share:.3f} of {given.times}, accepted {least:g} to {most:g}"
                f"{'' if fits else '  <-- not accepted'}",
                flush=True,
            )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
