"""The estimates on labels of a real classifier: `make soak-quality FILE=texts.csv`.

Each week has many rows of texts that the classifier has not seen. Some are drawn and answered by people, the
unsure ones besides, and from the answers on the figures are made as `labelstream evaluate` makes them. What
is right is known, so that each estimate can be compared with the truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streams.quality.audit import DrawnRow
from streams.quality.evaluate import GoldOfTables
from streams.quality.report import WANTED, GoldLine, report, summary
from streams.quality.settled import settled_rows
from tests.unit.streams.quality.long_runs.overconfident import Overconfident, parted, read_texts
from tests.unit.streams.quality.long_runs.reviewed_weeks import Unseen, answers, draw, labelled, place

TAUGHT = 2_500
WEEK_ROWS, UNSURE_ROWS, ANSWERED = 20_000, 200, 0.8
CHECKED_EACH = 200


def week_lines(
    unseen: Unseen, rows: Sequence[int], drawn: Sequence[DrawnRow], random: np.random.Generator
) -> list[GoldLine]:
    """The judged lines of a week whose rows are the texts ``rows``, as `evaluate` has them."""
    chosen = np.asarray(rows)
    gold, label = unseen.gold[chosen], unseen.label[chosen]
    unsure = np.argsort(unseen.confidence[chosen], kind="stable")[:UNSURE_ROWS]
    told = settled_rows(answers(drawn, unsure.tolist(), gold, label, random))
    judged = [one for one in told if one.judged]
    given = {one.place: unseen.given[chosen[int(one.place.row_id)]] for one in judged}
    return GoldOfTables(judged, len(told) - len(judged), 0, None).lines(given)


def weeks(
    unseen: Unseen, count: int, share_drawn: float, per_label: int, random: np.random.Generator
) -> dict[str, Any]:
    """In how many of ``count`` weeks the interval holds the week's true accuracy.

    ``share_drawn`` of the rows are drawn, and the ``per_label`` lowest of each given label. People answer the
    first of them, and the least sure rows besides. ``held_if_biased``: the same of all reviewed rows without
    weights.
    """
    held = biased = 0
    drawn_rows = width = 0.0
    for number in range(count):
        rows = random.integers(0, len(unseen), WEEK_ROWS)
        drawn = draw(unseen.label[rows], share_drawn, per_label, random)
        lines = week_lines(unseen, rows, drawn[: round(ANSWERED * len(drawn))], random)
        found = summary(lines, False)
        if number % CHECKED_EACH == 0:  # all of it takes long
            whole = report(lines)
            assert [whole[name] for name in found] == list(found.values())
        true = float(unseen.right[rows].mean())
        held += found["accuracy_low"] <= true <= found["accuracy_high"]
        width += (found["accuracy_high"] - found["accuracy_low"]) / 2
        drawn_rows += found["drawn"]
        naive = summary([replace(one, probability=None) for one in lines], True)
        biased += naive["accuracy_low"] <= true <= naive["accuracy_high"]
    return {
        "weeks": count,
        "drawn_per_week": drawn_rows / count,
        "held": held / count,
        "held_if_biased": biased / count,
        "half_width": width / count,
    }


def equal_draw(rows: int, number: int) -> list[DrawnRow]:
    """The first ``number`` of ``rows``, which are in random order, as an audit of a share draws them."""
    return [DrawnRow(place(row), number / rows, row / rows) for row in range(number)]


def thresholds(
    unseen: Unseen, count: int, rows: int, wanted: float, random: np.random.Generator
) -> dict[str, Any]:
    """How often a least confidence is found in ``rows`` drawn rows, and keeps its promise on all of them."""
    order = np.argsort(-unseen.confidence, kind="stable")
    running = unseen.right[order].cumsum() / np.arange(1, len(unseen) + 1)
    reaching = np.flatnonzero(running >= wanted)
    best = (int(reaching.max()) + 1) / len(unseen) if len(reaching) else 0.0
    covers: list[float] = []
    kept = 0
    for _ in range(count):
        chosen = random.permutation(len(unseen))
        found = report(week_lines(unseen, chosen, equal_draw(len(chosen), rows), random), wanted=wanted)
        if (least := found["least"]) is not None:
            above = unseen.confidence >= least["threshold"]
            kept += bool(unseen.right[above].mean() >= wanted)
            covers.append(float(above.mean()) / best if best else 0.0)
    return {
        "repetitions": count,
        "rows": rows,
        "found": len(covers) / count,
        "kept_of_found": kept / max(1, len(covers)),
        "best_coverage": best,
        "coverage_of_best": float(np.mean(covers)) if covers else 0.0,
        "coverage_of_best_at_5_percent": float(np.quantile(covers, 0.05)) if covers else 0.0,
    }


def intervals(unseen: Unseen, count: int, rows: int, random: np.random.Generator) -> dict[str, Any]:
    """How often the intervals of macro F1 and ECE from ``rows`` drawn rows hold those of all rows."""
    everything = [
        GoldLine(gold, one.label, one.confidence, 1.0)
        for gold, one in zip(unseen.gold.tolist(), unseen.given, strict=True)
    ]
    whole = report(everything)
    held = {"macro_f1": 0, "ece": 0}
    for _ in range(count):
        chosen = random.integers(0, len(unseen), len(unseen))
        found = report(week_lines(unseen, chosen.tolist(), equal_draw(len(chosen), rows), random))
        for name in held:
            held[name] += found[f"{name}_low"] <= whole[name] <= found[f"{name}_high"]
    return {"repetitions": count, "rows": rows, "ece": whole["ece"], "macro_f1": whole["macro_f1"]} | {
        f"{name}_held": one / count for name, one in held.items()
    }


def main() -> None:
    """Prints a JSON object for each question; exit code 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a CSV file with texts and labels")
    parser.add_argument("--column", help="its column of labels [scenario, else label]")
    parser.add_argument("--taught", type=int, default=TAUGHT)
    parser.add_argument("--weeks", type=int, default=2_000)
    parser.add_argument("--repetitions", type=int, default=200)
    asked = parser.parse_args()
    taught, others = parted(read_texts(asked.data, asked.column), asked.taught, 0)
    unseen = labelled(Overconfident(taught), others)
    random = np.random.default_rng(2_026)

    def tell(name: str, found: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps({name: found}), flush=True)
        return found

    tell("texts", {"unseen": len(unseen), "accuracy": float(unseen.right.mean())})
    uniform = tell("uniform", weeks(unseen, asked.weeks, 0.02, 0, random))
    least = tell("least_confidence", thresholds(unseen, asked.repetitions, 500, WANTED, random))
    by_label = tell("more_of_rare_labels", weeks(unseen, asked.weeks, 0.01, 20, random))
    tell("intervals", intervals(unseen, asked.repetitions, 500, random))
    kept = {
        "interval_holds": 0.935 <= uniform["held"] <= 0.965,
        "interval_holds_with_more_of_rare_labels": 0.935 <= by_label["held"] <= 0.965,
        "least_confidence_kept": least["kept_of_found"] >= 0.92,
        "least_confidence_found": least["found"] >= 0.85,
        "least_confidence_covers": least["coverage_of_best"] >= 0.6,
    }
    tell("kept", kept)
    raise SystemExit(0 if all(kept.values()) else 1)


if __name__ == "__main__":
    main()
